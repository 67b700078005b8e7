"""What the report shows of a video: score tracks with their true and spotted intervals."""

from typing import NamedTuple

import numpy as np

from spotjax.decoding.decode import NO_PROPOSALS


class Truth(NamedTuple):
    """An annotated expression; frames 0-based inclusive, apex -1 where unknown."""

    onset: int
    apex: int
    offset: int
    found: bool
    emotion: str = ""


class Spotted(NamedTuple):
    """A spotted expression; frames 0-based inclusive, `hit` if it matched an annotation."""

    onset: int
    apex: int
    offset: int
    score: float
    hit: bool
    emotion: str = ""


class Track(NamedTuple):
    """One video and one expression type."""

    type: str
    """macro or micro."""
    score: np.ndarray
    """f32[T]: smoothed score, NaN where there is none."""
    threshold: float
    """Least score of a peak; may be NaN."""
    peaks: np.ndarray
    """i64[P]: frames of the peaks."""
    truths: tuple[Truth, ...]
    spotted: tuple[Spotted, ...]
    proposals: np.ndarray = NO_PROPOSALS
    """f64[P, 3] onset, offset (frames, 0-based inclusive) and score of the intervals that were
    looked at closer; none for most systems."""


class VideoReport(NamedTuple):
    """One video of T frames with its tracks."""

    subject: str
    name: str
    fps: float
    frame_ids: np.ndarray
    """i32[T]: the data set's own frame numbers."""
    tracks: tuple[Track, ...]
    missing_face: np.ndarray
    """bool[T]: frames without a face."""
