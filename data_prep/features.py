"""What is computed per video: the contract of a feature kind, and what the kinds share.

A `FeatureSpec` names the streams of a video (`dtype[T, *shape]`, row i belongs to frame i), the k
of each expression type, and the function that computes them.  SOFTNet's stands in
`extract_softnet`, the training-free baselines' in `extract_baselines`; `kinds` lists them.  Windows
of 17 frames (SpotFormer), scene flow (SFAMNet), consecutive flow (MESNet) or grey crops (cnn3d)
are further kinds with streams of their own; readers, faces, flow and shards serve them unchanged.
Event streams have a row per annotated interval instead (SFAMNet's flow from onset to apex).
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from spotjax.config import EXPRESSION_TYPES
from spotjax.data.schema import Stream, sampled_k
from spotjax.decoding.labels import half_mean_length
from spotjax.errors import UserError

from .readers import RawDataset, RawVideo
from .video import FileFrames, Frames, ImageFrames
from .workers import Report


class Extracted(NamedTuple):
    """The features of one video of T frames."""

    face: np.ndarray
    """u8[T], 1 where a face was found."""
    crop: tuple[int, int, int, int]
    """left, top, right, bottom of the face crop in px."""
    rows: Mapping[str, np.ndarray]
    """Every stream, `dtype[T, *shape]`."""
    events: Mapping[str, np.ndarray] = {}
    """Every event stream, `dtype[m, *shape]`: a row per annotated interval of the video."""


class FeatureSpec(NamedTuple):
    """A feature kind bound to its configuration and k."""

    streams: dict[str, Stream]
    k: dict[str, int]
    k_source: str
    """Where every k comes from, in words for the protocol."""
    extract: Callable[[RawVideo, Report], Extracted]
    """Raises UserError if the video cannot be used."""
    check: Callable[[], object]
    """Raises UserError, before any work, if something that `extract` needs is not installed."""
    events: dict[str, Stream] = {}
    """Streams of the annotated intervals: these features do depend on the annotation."""
    depth: bool = False
    """Whether depth images are read."""

    @property
    def bytes_per_frame(self) -> int:
        """Size of a frame's streams in a shard."""
        sizes = (
            int(np.prod(stream.shape)) * np.dtype(stream.dtype).itemsize
            for stream in self.streams.values()
        )
        return sum(sizes) + 16


def k_sources(k_macro: int | None, k_micro: int | None, default: str) -> str:
    """`k_source` where each type has a setting: the config, or `default` for none."""
    return ", ".join(
        f"{kind}: {default if wanted is None else 'config'}"
        for kind, wanted in zip(EXPRESSION_TYPES, (k_macro, k_micro), strict=True)
    )


def empty_rows(streams: Mapping[str, Stream], length: int) -> dict[str, np.ndarray]:
    """All streams of a video of `length` frames, `dtype[length, *shape]` each, zero."""
    return {
        name: np.zeros((length, *stream.shape), stream.dtype) for name, stream in streams.items()
    }


def frames_of(video: RawVideo) -> Frames:
    """The frames of a video, whatever it is stored as."""
    if video.live is not None:
        return video.live[0]
    if video.file is not None:
        return FileFrames(video.file, video.num_frames, video.step)
    return ImageFrames(video.frames)


def half_length(dataset: RawDataset, kind: str, wanted: int | None) -> int:
    """k in frames of expression type `kind`: `wanted`, else int((mean(offset - onset) + 1) / 2).

    `wanted` counts the data set's own frames, the result those that are taken of them.  SOFTNet
    section 3.1; over all kept intervals, the held-out subject's among them, as released.
    Raises UserError if there is no interval to take the mean of.
    """
    if wanted is not None:
        return sampled_k(wanted, dataset.videos[0].step)
    spans = [
        (interval.onset, interval.offset)
        for video in dataset.videos
        for interval in video.intervals
        if interval.type == kind
    ]
    if not spans:
        raise UserError(
            f"config.features.k_{kind}: {dataset.annotation_files[0]} has no {kind}-expression to "
            f"derive it from: set --config.features.k_{kind}=N (frames)"
        )
    return half_mean_length(spans)
