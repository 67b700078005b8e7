"""What was found in one's own video, frame by frame and as intervals (NumPy only).

Frames are the video's own, 0-based and inclusive.  Seconds are those of the video's clock, which
need not tick evenly: the start of a frame is `times[frame]`, its end is the start of the next.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spotjax.config import EXPRESSION_TYPES
from spotjax.types import Detection

JITTER_S = 0.001001
"""Seconds by which a start may leave the even clock: containers round starts to milliseconds."""


class Spotting(NamedTuple):
    """The result of one video of T frames.  `check` says what it must fulfil."""

    video: str
    """Name as given: `interview.mp4`, or the name of the folder of images."""
    media: Path | None
    """Absolute path of the media file; None for images, a camera or a pipe."""
    fps: float
    """Nominal frames per second."""
    times: np.ndarray
    """f64[T]: start of each frame in seconds, strictly ascending from 0 or later."""
    face: np.ndarray
    """u8[T]: 1 where the face was found."""
    scores: Mapping[str, np.ndarray]
    """f32[T] by type (`macro`, `micro`), NaN where a frame has no score."""
    thresholds: Mapping[str, float]
    """Least score of a peak, by type."""
    detections: tuple[Detection, ...]
    """Sorted by onset; those of one type may overlap."""
    system: str
    """`softnet`, `sfamnet`, ..."""
    provenance: Mapping[str, Any]
    """JSON-like: `date` (ISO 8601), `version`, weights, hashes, config, versions of libraries."""
    warnings: tuple[str, ...]
    """Sentences that must be said with the result."""

    def start_s(self, frame: int) -> float:
        """Start of a frame in seconds."""
        return float(self.times[frame])

    def end_s(self, frame: int) -> float:
        """End of a frame in seconds: the next frame's start; the last frame lasts 1 / fps."""
        if frame + 1 < len(self.times):
            return float(self.times[frame + 1])
        return float(self.times[frame]) + 1 / self.fps

    def onset_s(self, detection: Detection) -> float:
        """Start of the onset frame in seconds."""
        return self.start_s(detection.onset)

    def apex_s(self, detection: Detection) -> float:
        """Start of the apex frame in seconds."""
        return self.start_s(detection.apex)

    def offset_s(self, detection: Detection) -> float:
        """End of the offset frame in seconds, so that `offset_s - onset_s` is the duration."""
        return self.end_s(detection.offset)

    @property
    def length_s(self) -> float:
        """End of the last frame on the video's clock in seconds; 0 without frames."""
        return self.end_s(len(self.times) - 1) if len(self.times) else 0.0

    @property
    def variable_rate(self) -> bool:
        """Whether some frame starts more than a millisecond off an even clock.

        The even clock runs from the first to the last start.  A frame that was left out counts.
        """
        even = np.linspace(self.times[0], self.times[-1], len(self.times)) if len(self.times) else 0
        return bool(np.any(np.abs(self.times - even) > JITTER_S))

    @property
    def date(self) -> datetime:
        """When it was spotted (`provenance["date"]`)."""
        return datetime.fromisoformat(self.provenance["date"])


def check(spotting: Spotting) -> None:
    """Raise ValueError, naming the field, if the arrays and detections do not fit together."""
    times, length = spotting.times, len(spotting.times)
    _require(spotting.fps > 0 and np.isfinite(spotting.fps), "fps must be positive")
    ascending = times.ndim == 1 and np.isfinite(times).all() and (np.diff(times) > 0).all()
    _require(
        ascending and (times >= 0).all(),
        "times must be seconds that ascend strictly from 0 or later",
    )
    _require(spotting.face.shape == times.shape, "face must have one value for each of times")
    _require(spotting.media is None or spotting.media.is_absolute(), "media must be absolute")
    unknown = {*spotting.scores, *spotting.thresholds, *(d.type for d in spotting.detections)}
    unknown -= set(EXPRESSION_TYPES)
    _require(not unknown, f"unknown types {sorted(unknown)}: only macro and micro are written")
    for type, scores in spotting.scores.items():
        _require(scores.shape == times.shape, f"scores[{type!r}] must be as long as times")
        _require(not np.isinf(scores).any(), f"scores[{type!r}] must be finite or NaN")
    for d in spotting.detections:
        inside = 0 <= d.onset <= d.offset < length and 0 <= d.apex < length
        _require(inside, f"detections: {d} lies outside {length} frames")
        _require(np.isfinite(d.score), f"detections: the score of {d} must be finite")
    onsets = [d.onset for d in spotting.detections]
    _require(onsets == sorted(onsets), "detections must be sorted by onset")
    try:
        _ = spotting.date
    except (KeyError, TypeError, ValueError):
        raise ValueError("spotting: provenance['date'] must be a date in ISO 8601") from None


def _require(holds: bool | np.bool_, rule: str) -> None:
    if not holds:
        raise ValueError(f"spotting: {rule}")
