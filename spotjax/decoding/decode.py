"""From score curves to intervals (NumPy and SciPy only).

SOFTNet section 3.4: smooth, threshold at mean + p (max - mean), peaks at least k apart, an
interval of k frames on both sides of each peak.
"""

from typing import NamedTuple

import numpy as np

from spotjax.types import Detection

NO_PROPOSALS = np.zeros((0, 3))
"""f64[0, 3]; the proposals of a system that makes none."""


class Curve(NamedTuple):
    """A decoded score curve of one video and type; what the report draws."""

    score: np.ndarray
    """f32[T] smoothed score, NaN where there is none."""
    threshold: float
    """NaN if the whole curve is NaN."""
    peaks: np.ndarray
    """i64[P] rows of the peaks."""
    proposals: np.ndarray = NO_PROPOSALS
    """f64[P, 3] onset, offset (frames, 0-based inclusive) and score of the intervals that were
    looked at closer, to draw; none for most systems."""


def smooth(scores: np.ndarray, valid: np.ndarray, k: int, rule: str = "paper") -> np.ndarray:
    """Moving average over the valid rows around each row; f32[T], NaN where undefined.

    `scores` f32[T], `valid` bool[T].  The window is [i-k, i+k] (`paper`) or the release's
    asymmetric [i-k, i+k-1] (`release`).  A row has a value if it is valid itself and the window
    [i-k, i+k) lies inside the first to last valid row (both ends of the video are cut off by k
    rows, as in the release); rows without a face inside the window are left out of the mean.
    Raises ValueError if the shapes differ.
    """
    if scores.shape != valid.shape or scores.ndim != 1:
        raise ValueError(f"scores {scores.shape} and valid {valid.shape} must be equal, rank 1")
    result = np.full(scores.shape, np.nan, np.float32)
    where = np.flatnonzero(valid)
    if where.size == 0:
        return result
    first, last = int(where[0]), int(where[-1])
    centre = np.arange(first + k, last - k + 1)
    centre = centre[valid[centre]] if centre.size else centre
    if centre.size == 0:
        return result
    total = np.concatenate([[0.0], np.cumsum(np.where(valid, scores, 0), dtype=np.float64)])
    count = np.concatenate([[0], np.cumsum(valid)])
    low, high = centre - k, centre + k + (1 if rule == "paper" else 0)
    result[centre] = (total[high] - total[low]) / (count[high] - count[low])
    return result


def threshold(curve: np.ndarray, p: float) -> float:
    """mean + p (max - mean) of the finite values of `curve` f32[T]; NaN if there are none."""
    values = curve[np.isfinite(curve)]
    if values.size == 0:
        return float("nan")
    mean = float(np.mean(values, dtype=np.float64))
    return mean + p * (float(values.max()) - mean)


def peaks(curve: np.ndarray, height: float, distance: int) -> np.ndarray:
    """Rows of the local maxima of at least `height`, at least `distance` rows apart; i64[P].

    `curve` is f32[T], NaN where it has no value.  Strict maxima; the middle of a plateau; ends of a
    run are never peaks; of two near peaks the higher one stays.  Runs of finite values are searched
    one by one.
    """
    from scipy.signal import find_peaks  # takes most of a second to import

    finite = np.isfinite(curve)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], finite, [False]]).astype(np.int8)))
    found = [
        start + find_peaks(curve[start:end], height=height, distance=max(1, distance))[0]
        for start, end in zip(edges[::2], edges[1::2], strict=True)
    ]
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def spot(
    scores: np.ndarray,
    valid: np.ndarray,
    k: int,
    type: str,
    *,
    p: float,
    smoothing: str = "paper",
    interval: str = "published",
    silent_proposal: bool = False,
) -> tuple[list[Detection], Curve]:
    """SOFTNet's spotting of one video and type; see the module for the steps.

    `scores` f32[T] and `valid` bool[T] are rows of pairs of frames; ValueError if they differ.
    `interval`: `published` is [peak-k, peak+k] on the pairs' first frames, about k/2 early;
    `centred` is moved by k//2 to the pairs' centres.  Since a peak has k rows on both sides and
    k frames after its pair's first, no interval leaves the video.  A video too short for one
    smoothed value gives none.  `silent_proposal` adds the release's placeholder [k, k] (its
    [0, 0] in trimmed frames) to a video without a peak.
    """
    smoothed = smooth(scores, valid, k, smoothing)
    height = threshold(smoothed, p)
    found = peaks(smoothed, height, k) if np.isfinite(height) else np.zeros(0, np.int64)
    shift = k // 2 if interval == "centred" else 0
    detections = [
        Detection(
            int(peak) - k + shift,
            int(peak) + shift,
            int(peak) + k + shift,
            type,
            float(smoothed[peak]),
        )
        for peak in found
    ]
    if silent_proposal and not detections:
        detections = [Detection(k, k, k, type, 0.0)]
    return detections, Curve(smoothed, height, found)
