"""Two curves: SFAMNet's intervals and emotions from one score per row (NumPy and SciPy only).

One network scores micro-expressions.  Its score, smoothed with a short window, is the micro curve
and, with a longer one, the macro curve; peaks of each become intervals, and the emotion of an
interval is the commonest prediction over its onset phase.  The constants are the release's, in
rows of 1/15 second (every second frame of 30 fps).

Deviations:
  * windows, height of the peaks and tests of the intervals are the release's.  The paper smooths
    over 15 and 20 frames, takes peaks above .58 and names 15 / 32 and 50 / 50 frames around a
    peak, within which the release looks for onset and offset;
  * the paper keeps a micro peak only where the micro curve is .02 above the macro curve.  This is
    `micro_test="mae_difference"`; the release never does it and tests the prominence instead;
  * the release places a micro peak one row early (`peak_shift=-1`), which is off by default;
  * the release drops everything in a video with a high mean score, the paper does not say so
    (`video_gate=float("inf")` turns it off);
  * rows without a score: the release has none.  Here they are left out of the means, and no
    interval starts, peaks or ends there.
"""

from collections import Counter
from typing import Literal, NamedTuple

import numpy as np

from spotjax.counting.recognition import NEUTRAL
from spotjax.decoding import decode
from spotjax.decoding.decode import Curve
from spotjax.types import Detection


class Limits(NamedTuple):
    """What one type asks of a curve, its peaks and its intervals; lengths in rows."""

    window: int
    """Rows that a value of the curve is averaged over."""
    distance: int
    """Least rows between two peaks."""
    before: int
    """Greatest rows from the onset to the peak."""
    after: int
    """Greatest rows from the peak to the offset."""
    shortest: int
    """Least offset - onset."""
    longest: int
    """Greatest offset - onset."""
    widen: int = 0
    """Rows put before and after an interval that is too short."""
    highest_mean: float = float("inf")
    """The curve's mean over the interval must be below it."""
    prominence: float = 0.0
    """The curve must fall by more than this from the peak to the onset and to the offset."""


class Options(NamedTuple):
    """How `spot` decodes; the release's constants without its off-by-one."""

    threshold: float = 0.576
    """Least height of a peak; onset and offset lie above it."""
    micro: Limits = Limits(14, 11, 7, 16, 7, 16, highest_mean=0.725, prominence=0.017)
    macro: Limits = Limits(20, 25, 25, 25, 12, 45, widen=8)
    video_gate: float = 0.41
    """A video whose micro curve has at least this mean gives nothing, of either type."""
    peak_shift: Literal[0, -1] = 0
    """Rows added to a micro peak; -1 is the release's slip."""
    micro_test: Literal["prominence", "mae_difference"] = "prominence"
    """Test of a micro interval: its prominence (release) or the two curves at its peak (paper)."""
    difference: float = 0.02
    """Of `mae_difference`: how far the micro curve must be above the macro curve."""


def smooth(scores: np.ndarray, window: int) -> np.ndarray:
    """Moving average of f32[T] `scores` over `window` rows, f32[T], NaN where there is no score.

    Row i is averaged over the rows i - window // 2 to i + (window - 1) // 2: with an even window
    one more before than after, as `numpy.convolve(..., "same")` does.  What lies before the first
    or after the last score counts as 0, so the curve falls towards both ends (as released).  Rows
    in between without a score (NaN) are left out of the mean and stay NaN.  A video shorter than
    the window is averaged in the same way.  Raises ValueError for window < 1 or another rank.

    >>> smooth(np.array([1, 1, 1, np.nan, 1, 1], np.float32), 2).tolist()
    [0.5, 1.0, 1.0, nan, 1.0, 1.0]
    """
    if window < 1 or scores.ndim != 1:
        raise ValueError(f"window {window} must be at least 1, scores {scores.shape} rank 1")
    result = np.full(scores.shape, np.nan, np.float32)
    known = np.isfinite(scores)
    where = np.flatnonzero(known)
    if where.size:
        inside = slice(where[0], where[-1] + 1)
        known = known[inside]
        total = _window_sum(np.where(known, scores[inside], 0), window)
        missing = _window_sum(~known, window)
        mean = total / np.maximum(window - missing, 1)
        result[inside] = np.where(known, mean, np.nan)
    return result


def _window_sum(values: np.ndarray, window: int) -> np.ndarray:
    """f64[T]: sum of f32[T] `values` over the window of `smooth`, 0 outside."""
    full = np.convolve(values.astype(np.float64), np.ones(window))
    return full[(window - 1) // 2 :][: len(values)]


def find_peaks(curve: np.ndarray, height: float, distance: int, margin: int) -> np.ndarray:
    """Rows of the peaks of at least `height`, at least `distance` rows apart; i64[P], rising.

    As `decode.peaks`, but not among the first and last `margin` rows between the first and the
    last value of `curve` f[T], and the distance holds across rows without a value too.
    """
    known = np.flatnonzero(np.isfinite(curve))
    if known.size <= 2 * margin:
        return np.zeros(0, np.int64)
    searched = np.full(curve.shape, np.nan)
    inside = slice(known[0] + margin, known[-1] + 1 - margin)
    searched[inside] = curve[inside]
    kept: list[int] = []
    peaks = decode.peaks(searched, height, distance)
    for peak in peaks[np.argsort(-curve[peaks], kind="stable")].tolist():
        if all(abs(peak - other) >= distance for other in kept):
            kept.append(peak)
    return np.array(sorted(kept), np.int64)


def detect_interval(
    curve: np.ndarray, peak: int, before: int, after: int, threshold: float
) -> tuple[int, int]:
    """Onset and offset row around `peak` of `curve` f[T].

    The onset is, among the `before` rows before the peak where the curve is above `threshold`,
    the one that differs most from the peak, in either direction; of equals the first row.  The
    offset likewise among the `after` rows after it.  Where no row qualifies, or none differs,
    it is the peak itself.  Rows without a value (NaN) never qualify.
    """

    def farthest(rows: np.ndarray) -> int:
        values = curve[rows]
        apart = np.where(values > threshold, np.abs(values - curve[peak]), 0)
        best = int(np.argmax(apart))
        return int(rows[best]) if apart[best] > 0 else peak

    onset = farthest(np.arange(max(peak - before, 0), peak + 1))
    return onset, farthest(np.arange(peak, min(peak + after + 1, len(curve))))


def intervals(
    curve: np.ndarray, limits: Limits, threshold: float, shift: int = 0
) -> list[tuple[int, int, int]]:
    """Onset, apex and offset row of every peak of `curve` f64[T] whose interval has its limits.

    Peaks are moved by `shift` rows first.  An interval that is shorter than `limits.shortest` is
    widened by `limits.widen` rows on both sides, but not beyond the first and last row with a
    value, nor into rows without one.  Its length and its mean must then be within the limits.
    """
    known = np.flatnonzero(np.isfinite(curve))
    found = []
    for peak in find_peaks(curve, threshold, limits.distance, limits.window // 2) + shift:
        onset, offset = detect_interval(curve, int(peak), limits.before, limits.after, threshold)
        if offset - onset < limits.shortest:
            onset = int(known[np.searchsorted(known, onset - limits.widen)])
            offset = int(known[np.searchsorted(known, offset + limits.widen, side="right") - 1])
        low = np.nanmean(curve[onset : offset + 1]) < limits.highest_mean
        if low and limits.shortest <= offset - onset <= limits.longest:
            found.append((onset, int(peak), offset))
    return found


def is_prominent(curve: np.ndarray, onset: int, apex: int, offset: int, by: float) -> bool:
    """Whether `curve` f[T] falls by more than `by` from the apex to the onset and the offset."""
    return bool(curve[apex] - curve[onset] > by and curve[apex] - curve[offset] > by)


def rises_above(micro: np.ndarray, macro: np.ndarray, apex: int, by: float) -> bool:
    """Whether `micro` f[T] is over `by` above `macro` f[T] at `apex`: the paper's step (iv)."""
    return bool(micro[apex] - macro[apex] > by)


def spot(
    scores: np.ndarray, valid: np.ndarray, options: Options, classes: tuple[str, ...]
) -> tuple[list[Detection], dict[str, Curve]]:
    """The intervals of one video, macro- before micro-expressions, and the curves to draw.

    `scores` f32[T, 1 + C + 1]: the spotting score, then logits or probabilities of the C emotions
    `classes` and of neutral; `valid` bool[T].  Rows without a face (not valid, or with a NaN) take
    no part.  The emotion of a detection is the commonest of the most likely emotions of the rows
    from its onset to its apex, of equals the first seen; it may be `neutral`.  Its score is the
    curve at its apex (the release gives all the same).  The peaks of a curve are the apexes of
    the intervals found.  Raises ValueError for a wrong shape, step or shift.
    """
    if scores.ndim != 2 or scores.shape[1] != len(classes) + 2 or valid.shape != scores.shape[:1]:
        raise ValueError(
            f"scores {scores.shape} must be [T, {len(classes) + 2}] for {len(classes)} emotions, "
            f"valid {valid.shape} [T]"
        )
    if options.micro_test not in ("prominence", "mae_difference") or options.peak_shift not in (
        0,
        -1,
    ):
        raise ValueError(f"unknown micro_test {options.micro_test!r} or shift {options.peak_shift}")
    known = valid & np.isfinite(scores).all(axis=1)
    score = np.where(known, scores[:, 0], np.nan)
    limits = {"macro": options.macro, "micro": options.micro}
    drawn = {type: smooth(score, limit.window) for type, limit in limits.items()}
    curves = {type: curve.astype(np.float64) for type, curve in drawn.items()}
    spans = {
        "macro": intervals(curves["macro"], options.macro, options.threshold),
        "micro": intervals(curves["micro"], options.micro, options.threshold, options.peak_shift),
    }
    if not known.any() or np.nanmean(curves["micro"]) >= options.video_gate:
        spans = {"macro": [], "micro": []}
    found: list[Detection] = []
    for type, curve in curves.items():
        for onset, apex, offset in spans[type]:
            if type == "micro" and options.micro_test == "mae_difference":
                stays = rises_above(curve, curves["macro"], apex, options.difference)
            else:
                stays = is_prominent(curve, onset, apex, offset, limits[type].prominence)
            if stays:
                rows = onset + np.flatnonzero(known[onset : apex + 1])
                emotion = _commonest(scores[rows, 1:], classes)
                found.append(Detection(onset, apex, offset, type, float(curve[apex]), emotion))
    height = options.threshold if known.any() else float("nan")
    apexes = {type: [d.apex for d in found if d.type == type] for type in limits}
    return found, {
        type: Curve(drawn[type], height, np.array(apexes[type], np.int64)) for type in limits
    }


def _commonest(emotions: np.ndarray, classes: tuple[str, ...]) -> str:
    """The most frequent emotion of f32[n, C + 1] `emotions`, the first seen of equals."""
    predicted = Counter(np.argmax(emotions, axis=1).tolist())
    return (*classes, NEUTRAL)[predicted.most_common(1)[0][0]]
