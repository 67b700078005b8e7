"""From the probabilities of the two-stream 3D-CNN to intervals (NumPy and SciPy only).

Yap et al., "3D-CNN for Facial Micro- and Macro-expression Spotting on Long Video Sequences using
Temporal Oriented Reference Frame": the probabilities of each video and type are normalised,
smoothed by a Butterworth filter and cut at a threshold that comes from an ROC curve; what lies
above it is an interval.  `micro` is the paper's ME, `macro` its MaE.

Where the paper is silent:
  * order and cut-off of the filter: order 2, cut-off 1 / k cycles per row, forward and backward so
    that nothing is delayed.  Half of that cut-off flattens pulses of k rows, twice of it leaves
    the noise in;
  * normalised means from 0 to 1 over the video, before the filter and again after it.  A constant
    curve becomes 0 everywhere and gives no interval, whatever the threshold;
  * which threshold the ROC curve gives: the one of the highest TPR - FPR (Youden's J), or the one
    nearest to the corner (0, 1), frame by frame.  With few positive frames both are low and
    intervals long, so there is a third way, not of the paper: the best F1 of the intervals;
  * whose frames: the caller's choice; on the spotted video itself it is an oracle;
  * rows without a face: they have no score and end an interval, and the filter sees the rows on
    either side of them as two signals.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from spotjax.counting.matching import RULES, Counts, VideoResult
from spotjax.decoding.contrast import runs
from spotjax.decoding.decode import Curve
from spotjax.types import Detection, Video

COLUMNS = {"micro": 0, "macro": 1}
"""Columns of the types in scores and labels."""
LEVELS = tuple(level / 50 for level in range(50, 0, -1))
"""Thresholds among which `choose_thresholds` looks for the best F1."""
ROUNDING = 1e-9
"""Relative range of a curve that is constant but for rounding."""

EQUAL = 1e-12
"""Two rates that differ by less differ by rounding only."""

Kind = Literal["youden", "corner", "f1"]
Pairs = Sequence[tuple[np.ndarray, np.ndarray]]
"""Smoothed scores f64[T] and labels bool[T] of each video."""


class Options(NamedTuple):
    """How `spot` decodes."""

    k_micro: int
    """Rows between the two images of a pair of the micro stream, as in testing."""
    k_macro: int
    """The same for the macro stream."""
    threshold_micro: float = 0.5
    """Least normalised score of a micro-expression."""
    threshold_macro: float = 0.5
    order: int = 2
    """Order of the Butterworth filter, which is applied twice."""
    cutoff: float = 1.0
    """Its cut-off in cycles per k rows; from k / 2 on nothing is filtered."""
    min_rows: int = 1
    """Rows of the shortest interval."""


# --- curves ---------------------------------------------------------------------------------------


def normalise(scores: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """f64[T]: `scores` f[T] from 0 to 1 over the rows `valid` bool[T], NaN in the others.

    Rows with a score that is not finite count as not valid.  Where all scores are equal (but for
    rounding in f64) all become 0.  Raises ValueError if the shapes differ.

    >>> normalise(np.array([1, 3, 9, 2]), np.array([True, True, False, True])).tolist()
    [0.0, 1.0, nan, 0.5]
    """
    values = _known(scores, valid)
    known = np.isfinite(values)
    if known.any():
        low, high = values[known].min(), values[known].max()
        flat = high - low <= ROUNDING * max(abs(low), abs(high))
        values[known] = 0.0 if flat else (values[known] - low) / (high - low)
    return values


def smooth(
    scores: np.ndarray, valid: np.ndarray, k: int, order: int = 2, cutoff: float = 1.0
) -> np.ndarray:
    """f64[T]: `scores` f[T] without what changes faster than `cutoff` / `k` cycles per row.

    A Butterworth low-pass of `order`, forward and backward: no delay, half of the amplitude at the
    cut-off.  Each run of valid rows is filtered by itself, continued at both ends by its own
    reflection through the end point, 6 k rows or as many as it has.  No run is too short, but its
    ends stay near their scores, and one row keeps its score.  From 0.5 cycles per row on there is
    nothing to filter.  The result is normalised as in `normalise`.  Raises ValueError if the shapes
    differ, for k or order < 1 and for a cut-off that is not positive.
    """
    from scipy.signal import butter, sosfiltfilt  # takes most of a second to import

    if k < 1 or order < 1 or not cutoff > 0:
        raise ValueError(f"k {k} and order {order} must be at least 1, cutoff {cutoff} positive")
    values = _known(scores, valid)
    frequency = cutoff / k
    if frequency < 0.5:
        sections = butter(order, 2 * frequency, output="sos")
        for first, last in runs(np.isfinite(values)):
            run = slice(first, last + 1)
            values[run] = sosfiltfilt(sections, values[run], padlen=min(last - first, 6 * k))
    return normalise(values, valid)


def _known(scores: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """A copy of `scores` as f64[T], NaN where they are not valid or not finite."""
    if scores.shape != valid.shape or scores.ndim != 1:
        raise ValueError(f"scores {scores.shape} and valid {valid.shape} must be equal, rank 1")
    values = scores.astype(np.float64)
    values[~(valid.astype(bool) & np.isfinite(values))] = np.nan
    return values


def curves(scores: np.ndarray, valid: np.ndarray, options: Options) -> dict[str, np.ndarray]:
    """f64[T] by type: the normalised and smoothed `scores` f32[T, 2], NaN where there is none.

    `valid` bool[T]; a row without one of the two scores has neither.  Raises ValueError for a
    wrong shape.
    """
    if scores.ndim != 2 or scores.shape[1] != 2 or valid.shape != scores.shape[:1]:
        raise ValueError(f"scores {scores.shape} must be [T, 2], valid {valid.shape} [T]")
    known = valid.astype(bool) & np.isfinite(scores).all(axis=1)
    k = {"micro": options.k_micro, "macro": options.k_macro}
    return {
        type: smooth(
            normalise(scores[:, column], known), known, k[type], options.order, options.cutoff
        )
        for type, column in COLUMNS.items()
    }


# --- intervals ------------------------------------------------------------------------------------


def intervals(curve: np.ndarray, threshold: float, min_rows: int = 1) -> np.ndarray:
    """i64[n, 2]: first and last row of the runs of at least `min_rows` rows >= `threshold`.

    `curve` f64[T] is normalised; rows with NaN end a run.  A curve that is 0 everywhere (it was
    constant) has none, even with a threshold of 0.

    >>> intervals(np.array([0.5, 1.0, 0.2, np.nan, 0.7]), 0.5).tolist()
    [[0, 1], [4, 4]]
    """
    if not (curve > 0).any():
        return np.zeros((0, 2), np.int64)
    found = runs(curve >= threshold)
    return found[found[:, 1] - found[:, 0] + 1 >= min_rows]


def _apexes(curve: np.ndarray, found: np.ndarray) -> np.ndarray:
    """i64[n]: the row of the highest value of each of i64[n, 2] `found`, the first of equals."""
    return np.array([a + np.argmax(curve[a : b + 1]) for a, b in found], np.int64)


def spot(
    scores: np.ndarray, valid: np.ndarray, options: Options
) -> tuple[list[Detection], dict[str, Curve]]:
    """The intervals of one video, macro- before micro-expressions, and the curves to draw.

    `scores` f32[T, 2] are the probabilities of ME and MaE, `valid` bool[T] says which rows have a
    face.  An apex is the row of the highest smoothed score of its interval, of equals the first,
    and that score is the detection's.  The peaks of a curve are the apexes.  Raises ValueError for
    a wrong shape or option.
    """
    smoothed = curves(scores, valid, options)
    detections: list[Detection] = []
    drawn = {}
    for type, height in (("macro", options.threshold_macro), ("micro", options.threshold_micro)):
        curve = smoothed[type]
        found = intervals(curve, height, options.min_rows)
        apexes = _apexes(curve, found)
        columns = zip(*found.T.tolist(), apexes.tolist(), curve[apexes].tolist(), strict=True)
        detections += [Detection(a, apex, b, type, score) for a, b, apex, score in columns]
        seen = np.isfinite(curve).any()
        drawn[type] = Curve(curve.astype(np.float32), height if seen else float("nan"), apexes)
    return detections, drawn


# --- thresholds from an ROC curve -----------------------------------------------------------------


def roc(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds, true and false positive rates, each f64[n], of `scores` f[N], `labels` bool[N].

    The thresholds are the different scores, falling; a frame at its threshold is positive, so the
    last point is (1, 1), and the point (0, 0) above all scores is not among them.  Raises
    ValueError for wrong shapes, a score that is not finite, or labels of one kind only.
    """
    if scores.shape != labels.shape or scores.ndim != 1:
        raise ValueError(f"scores {scores.shape} and labels {labels.shape} must be equal, rank 1")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
    positive = labels.astype(bool)
    if positive.all() or not positive.any():
        raise ValueError("an ROC curve needs positive and negative labels")
    values = scores.astype(np.float64)
    order = np.argsort(-values, kind="stable")
    falling = values[order]
    last = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)  # of each score
    found = np.cumsum(positive[order])[last]
    false = last + 1 - found
    return falling[last], found / found[-1], false / false[-1]


def youden(scores: np.ndarray, labels: np.ndarray) -> float:
    """The threshold of the highest TPR - FPR, of equals the highest.

    `scores` f[N] and `labels` bool[N], and errors, as for `roc`.

    >>> youden(np.array([0.9, 0.8, 0.4, 0.3]), np.array([1, 1, 0, 0]))
    0.8
    """
    return _best_frames(scores, labels, "youden")[0]


def corner(scores: np.ndarray, labels: np.ndarray) -> float:
    """The threshold of the lowest FPR^2 + (1 - TPR)^2, of equals the highest.

    `scores` f[N] and `labels` bool[N], and errors, as for `roc`.
    """
    return _best_frames(scores, labels, "corner")[0]


def _best_frames(scores: np.ndarray, labels: np.ndarray, kind: Kind) -> tuple[float, float]:
    """The threshold, and by how much it is better than to find nothing."""
    thresholds, tpr, fpr = roc(scores, labels)
    gain = tpr - fpr if kind == "youden" else 1 - (fpr**2 + (1 - tpr) ** 2)
    best = int(np.flatnonzero(gain >= gain.max() - EQUAL)[0])
    return float(thresholds[best]), float(gain[best])


# --- thresholds from other videos -----------------------------------------------------------------


def frame_labels(video: Video) -> np.ndarray:
    """bool[T, 2]: whether each frame lies in a micro- and in a macro-expression, ends included."""
    labels = np.zeros((video.num_frames, len(COLUMNS)), bool)
    for interval in video.intervals:
        if interval.type in COLUMNS:
            first, end = max(interval.onset, 0), max(interval.offset + 1, 0)
            labels[first:end, COLUMNS[interval.type]] = True
    return labels


def choose_thresholds(
    videos: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    options: Options,
    kind: Kind = "youden",
) -> tuple[dict[str, float], tuple[str, ...]]:
    """`threshold_micro` and `threshold_macro` that are best on `videos`, and the types left alone.

    Each video is scores f32[T, 2] and valid bool[T] as in `spot`, and bool[T, 2] `frame_labels`.
    `youden` and `corner` take all valid frames of the videos together, after smoothing; `f1` takes
    the intervals that `spot` would find, matched one to one at IoU 0.5 to the runs of the labels
    (expressions that touch are one), and chooses among `LEVELS`.  Of equals, the higher threshold.

    A type stays at its threshold in `options` and is named in the result if no threshold is better
    than to find nothing, or if its labels say nothing: all valid frames positive or all negative
    (`f1`: no expression).  Raises ValueError for a wrong shape or an unknown kind.
    """
    if kind not in ("youden", "corner", "f1"):
        raise ValueError(f"unknown kind {kind!r}")
    for scores, _, labels in videos:
        if labels.shape != scores.shape:
            raise ValueError(f"labels {labels.shape} must be like scores {scores.shape}")
    smoothed = [curves(scores, valid, options) for scores, valid, _ in videos]
    chosen, left = {}, []
    for type, column in COLUMNS.items():
        name = f"threshold_{type}"
        pairs = [
            (mine[type], labels[:, column].astype(bool))
            for mine, (_, _, labels) in zip(smoothed, videos, strict=True)
        ]
        if kind == "f1":
            best, gain = _best_intervals(pairs, options.min_rows)
        else:
            best, gain = _best_pooled(pairs, kind)
        if gain <= EQUAL:
            best = getattr(options, name)
            left.append(type)
        chosen[name] = best
    return chosen, tuple(left)


def _best_pooled(pairs: Pairs, kind: Kind) -> tuple[float, float]:
    """`_best_frames` of the valid frames of all videos; a gain of 0 if they are of one kind."""
    seen = [np.isfinite(curve) for curve, _ in pairs]
    values = [curve[there] for (curve, _), there in zip(pairs, seen, strict=True)]
    labels = [label[there] for (_, label), there in zip(pairs, seen, strict=True)]
    positive = np.concatenate([*labels, np.zeros(0, bool)])
    if positive.all() or not positive.any():
        return 0.0, 0.0
    return _best_frames(np.concatenate(values), positive, kind)


def _best_intervals(pairs: Pairs, min_rows: int) -> tuple[float, float]:
    """The threshold of `LEVELS` with the highest F1, and that F1."""
    best, highest = 0.0, 0.0
    truths = [runs(label) for _, label in pairs]
    for level in LEVELS:
        total = Counts()
        for (curve, _), true in zip(pairs, truths, strict=True):
            found = intervals(curve, level, min_rows)
            result = VideoResult(found, curve[_apexes(curve, found)], true)
            total += RULES["one_to_one"].tally(RULES["one_to_one"].hits(result, 0.5))
        if total.f1 > highest:
            best, highest = level, total.f1
    return best, highest
