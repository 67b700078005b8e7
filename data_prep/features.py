"""What is computed per video: the contract of a feature kind, and SOFTNet's.

A `FeatureSpec` names the streams of a video (`dtype[T, *shape]`, row i belongs to frame i), the k
of each expression type, and the function that computes them.  Windows of 17 frames (SpotFormer),
scene flow (SFAMNet), consecutive flow (MESNet) or grey crops (cnn3d) are further entries of
`_KINDS` with streams of their own; readers, faces, flow and shards serve them unchanged.
"""

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np

from spotjax.config import SoftnetFeatures
from spotjax.data.schema import Stream
from spotjax.errors import UserError
from spotjax.labels import half_mean_length

from . import faces, softnet
from .flow import make_flow
from .readers import RawDataset, RawVideo
from .video import Frames
from .workers import Report


class Extracted(NamedTuple):
    """The features of one video of T frames."""

    face: np.ndarray
    """u8[T], 1 where a face was found."""
    crop: tuple[int, int, int, int]
    """left, top, right, bottom of the face crop in px."""
    rows: Mapping[str, np.ndarray]
    """Every stream, `dtype[T, *shape]`."""


class FeatureSpec(NamedTuple):
    """A feature kind bound to its configuration and k."""

    streams: dict[str, Stream]
    k: dict[str, int]
    extract: Callable[[RawVideo, Report], Extracted]
    """Raises UserError if the video cannot be used."""
    check: Callable[[], object]
    """Raises UserError, before any work, if something that `extract` needs is not installed."""


def build(features: SoftnetFeatures, dataset: RawDataset) -> FeatureSpec:
    """The spec of `config.features` for `dataset`, k resolved.  Raises UserError (no k)."""
    return _KINDS[features.name](features, dataset)


def half_length(dataset: RawDataset, kind: str, wanted: int | None) -> int:
    """k in frames of expression type `kind`: `wanted`, else int((mean(offset - onset) + 1) / 2).

    SOFTNet section 3.1; over all kept intervals, the held-out subject's among them, as released.
    Raises UserError if there is no interval to take the mean of.
    """
    if wanted is not None:
        return wanted
    spans = [
        (interval.onset, interval.offset)
        for video in dataset.videos
        for interval in video.intervals
        if interval.type == kind
    ]
    if not spans:
        raise UserError(
            f"config.features.k_{kind}: {dataset.annotation_file} has no {kind}-expression to "
            f"derive it from: set --config.features.k_{kind}=N (frames)"
        )
    return half_mean_length(spans)


def softnet_streams(kinds: tuple[str, ...]) -> dict[str, Stream]:
    """`flow_<t>` f16[T, 42, 42, 3], `strain_<t>` f32[T] and `valid_<t>` u8[T] per type t."""
    streams: dict[str, Stream] = {}
    for kind in kinds:
        streams[f"flow_{kind}"] = Stream((softnet.SIZE, softnet.SIZE, 3), "float16")
        streams[f"strain_{kind}"] = Stream((), "float32")
        streams[f"valid_{kind}"] = Stream((), "uint8")
    return streams


def _softnet(features: SoftnetFeatures, dataset: RawDataset) -> FeatureSpec:
    k = {
        "macro": half_length(dataset, "macro", features.k_macro),
        "micro": half_length(dataset, "micro", features.k_micro),
    }
    return FeatureSpec(
        streams=softnet_streams(tuple(k)),
        k=k,
        extract=partial(extract_softnet, features, k),
        check=partial(_check_softnet, features),
    )


def _check_softnet(features: SoftnetFeatures) -> None:
    faces.check_backend(features.face)
    make_flow(features.flow)


def extract_softnet(
    features: SoftnetFeatures, k: Mapping[str, int], video: RawVideo, report: Report
) -> Extracted:
    """SOFTNet's streams; row i is the pair (i, i+k), zero with valid 0 where there is none.

    Every frame is decoded once for all k (besides the few that the face search looks at), and
    only the last max(k) + 1 face crops are kept.  Raises UserError if the video is too short, has
    no face, or a frame cannot be read.
    """
    length, longest = len(video.frames), max(k.values())
    if length <= 2 * longest:
        kind = max(k, key=lambda name: k[name])
        raise UserError(
            f"{video.frames[0].parent}: {length} frames are too few: k_{kind}={longest} needs "
            f"more than {2 * longest}; lower --config.features.k_{kind}"
        )
    frames = Frames(video.frames)
    face, present = faces.find_face(faces.backend(features.face, video), frames)
    try:
        where = softnet.geometry(faces.landmarks_in_crop(face), features.roi)
    except UserError as error:
        raise UserError(f"{video.frames[0].parent}: {error}") from None
    flow = make_flow(features.flow)
    rows = {
        name: np.zeros((length, *stream.shape), stream.dtype)
        for name, stream in softnet_streams(tuple(k)).items()
    }
    crops: deque[np.ndarray] = deque(maxlen=longest + 1)
    for second in range(length):
        crops.append(faces.crop(frames[second], face.box))
        for kind, step in k.items():
            first = second - step
            if first < 0 or not (present[first] and present[second]):
                continue
            try:
                image = softnet.masked(flow(crops[-1 - step], crops[-1]), where)
            except UserError as error:
                raise UserError(f"{video.frames[first]}: {error}") from None
            rows[f"flow_{kind}"][first] = softnet.composite(image, where)
            rows[f"strain_{kind}"][first] = softnet.strain_sum(image, where)
            rows[f"valid_{kind}"][first] = 1
        report(1)
    return Extracted(present, face.box, rows)


_KINDS: dict[str, Callable[[SoftnetFeatures, RawDataset], FeatureSpec]] = {"softnet": _softnet}
