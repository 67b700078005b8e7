"""SOFTNet's streams of a video: flow and strain of the pairs (i, i+k), for each k."""

from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from spotjax.config import EXPRESSION_TYPES, SoftnetFeatures
from spotjax.data.schema import Stream
from spotjax.errors import UserError

from . import faces, softnet
from .features import Extracted, FeatureSpec, empty_rows, frames_of, half_length, k_sources
from .flow import make_flow, make_pairs
from .readers import RawDataset, RawVideo
from .workers import Report


def spec(
    features: SoftnetFeatures, dataset: RawDataset, types: Sequence[str] = EXPRESSION_TYPES
) -> FeatureSpec:
    """The spec of SOFTNet's features for `dataset`, k resolved.

    A type that is not among the wanted `types`, has no k and is never annotated is left out.
    Raises UserError if a wanted type has no k.
    """
    wanted = {"macro": features.k_macro, "micro": features.k_micro}
    annotated = {interval.type for video in dataset.videos for interval in video.intervals}
    k = {
        kind: half_length(dataset, kind, frames)
        for kind, frames in wanted.items()
        if kind in types or kind in annotated or frames is not None
    }
    return FeatureSpec(
        streams=streams(tuple(k)),
        k=k,
        k_source=k_sources(features.k_macro, features.k_micro, "annotation"),
        extract=partial(extract, features, k),
        check=partial(_check, features),
    )


def streams(kinds: tuple[str, ...]) -> dict[str, Stream]:
    """`flow_<t>` f16[T, 42, 42, 3], `strain_<t>` f32[T] and `valid_<t>` u8[T] per type t."""
    found: dict[str, Stream] = {}
    for kind in kinds:
        found[f"flow_{kind}"] = Stream((softnet.SIZE, softnet.SIZE, 3), "float16")
        found[f"strain_{kind}"] = Stream((), "float32")
        found[f"valid_{kind}"] = Stream((), "uint8")
    return found


def extract(
    features: SoftnetFeatures, k: Mapping[str, int], video: RawVideo, report: Report
) -> Extracted:
    """SOFTNet's streams; row i is the pair (i, i+k), zero with valid 0 where there is none.

    Every frame is decoded once for all k (besides the few that the face search looks at), and
    only the last max(k) + 1 face crops are kept (and those of the pairs that an accelerator
    computes at once).  Raises UserError if the video is too short, has
    no face, or a frame cannot be read.
    """
    length, longest = video.num_frames, max(k.values())
    if length <= 2 * longest and video.live is None:
        kind = max(k, key=lambda name: k[name])
        raise UserError(
            f"{video.place}: {length} frames are too few: k_{kind}={longest} needs "
            f"more than {2 * longest}; lower --config.features.k_{kind}"
        )
    frames = frames_of(video)
    face, present = faces.find_face(faces.backend(features.face, video), frames)
    try:
        where = softnet.geometry(faces.landmarks_in_crop(face), features.roi)
    except UserError as error:
        raise UserError(f"{video.place}: {error}") from None
    flows, at_a_time = make_pairs(features.flow)
    rows = empty_rows(streams(tuple(k)), length)
    crops: deque[np.ndarray] = deque(maxlen=longest + 1)
    waiting: list[_Pair] = []

    def compute() -> None:
        try:
            found = flows([pair.images[0] for pair in waiting], [p.images[1] for p in waiting])
        except UserError as error:
            raise UserError(f"{frames.where(waiting[0].first)}: {error}") from None
        for (kind, first, _), flow in zip(waiting, found, strict=True):
            image = softnet.masked(flow, where)
            rows[f"flow_{kind}"][first] = softnet.composite(image, where)
            rows[f"strain_{kind}"][first] = softnet.strain_sum(image, where)
            rows[f"valid_{kind}"][first] = 1
        waiting.clear()

    for second in range(length):
        crops.append(faces.crop(frames[second], face.box))
        for kind, step in k.items():
            first = second - step
            if first >= 0 and present[first] and present[second]:
                waiting.append(_Pair(kind, first, (crops[-1 - step], crops[-1])))
            if len(waiting) >= at_a_time:
                compute()
        report(1)
    if waiting:
        compute()
    return Extracted(present, face.box, rows)


class _Pair(NamedTuple):
    """A pair whose flow is to be computed: type, first frame, both crops u8[128, 128]."""

    kind: str
    first: int
    images: tuple[np.ndarray, np.ndarray]


def _check(features: SoftnetFeatures) -> None:
    faces.check_backend(features.face)
    make_flow(features.flow)
