"""Matching, counts, F1, AP (NumPy only); counts add over videos, types and folds.

The default rule is one-to-one matching of MEGC; `softnet` is the rule of SOFTNet's release, in
which a prediction only ever looks at its best truth.  Each result carries the rule's name.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from spotjax.intervals import iou_matrix

AP_THRESHOLDS = tuple(np.round(np.arange(0.5, 1.0, 0.05), 2).tolist())


class Counts(NamedTuple):
    """True positives, false positives and false negatives; `+` adds two of them up."""

    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __add__(self, other: object) -> "Counts":
        """Sum of the counts."""
        if not isinstance(other, Counts):
            return NotImplemented
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def precision(self) -> float:
        """tp / (tp + fp), 0 without predictions."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else 0.0

    @property
    def recall(self) -> float:
        """tp / (tp + fn), 0 without truths."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else 0.0

    @property
    def f1(self) -> float:
        """2 tp / (2 tp + fp + fn), 0 without predictions and truths."""
        total = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / total if total else 0.0

    def as_dict(self) -> dict[str, float]:
        """Counts and the three ratios."""
        return {
            **self._asdict(),
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
        }


class VideoResult(NamedTuple):
    """Predictions and truths of one video and type: i64[n, 2], f64[n], i64[m, 2]."""

    predictions: np.ndarray
    scores: np.ndarray
    truths: np.ndarray


def rank(result: VideoResult) -> np.ndarray:
    """Order of the predictions: score falling, then onset, then offset; i64[n]."""
    return np.lexsort((result.predictions[:, 1], result.predictions[:, 0], -result.scores))


def match_one_to_one(result: VideoResult, iou: float) -> np.ndarray:
    """i64[n]: the truth each prediction takes, -1 for none.  In rank order, the best free truth.

    A truth is taken at most once and a prediction takes at most one (MEGC 2021 and later).
    """
    taken = np.full(len(result.predictions), -1)
    overlaps = iou_matrix(result.predictions, result.truths)
    if overlaps.size == 0:
        return taken
    free = np.ones(len(result.truths), bool)
    for prediction in rank(result):
        candidates = np.where(free, overlaps[prediction], -1.0)
        best = int(np.argmax(candidates))
        if candidates[best] >= iou:
            taken[prediction], free[best] = best, False
    return taken


def match_softnet(result: VideoResult, iou: float) -> np.ndarray:
    """i64[n] by SOFTNet's release: each prediction looks only at its best truth (ties: the later).

    If that one is taken, the prediction is a false positive even where it overlaps another.
    """
    taken = np.full(len(result.predictions), -1)
    overlaps = iou_matrix(result.predictions, result.truths)
    if overlaps.size == 0:
        return taken
    free = np.ones(len(result.truths), bool)
    for prediction in rank(result):
        row = overlaps[prediction]
        best = len(row) - 1 - int(np.argmax(row[::-1]))
        if row[best] >= iou and free[best]:
            taken[prediction], free[best] = best, False
    return taken


RULES: dict[str, Callable[[VideoResult, float], np.ndarray]] = {
    "one_to_one": match_one_to_one,
    "softnet": match_softnet,
}


def count(results: Iterable[VideoResult], rule: str = "one_to_one", iou: float = 0.5) -> Counts:
    """Counts of all `results` (videos of one type) added up.  Raises KeyError: unknown rule."""
    total = Counts()
    for result in results:
        tp = int((RULES[rule](result, iou) >= 0).sum())
        total += Counts(tp, len(result.predictions) - tp, len(result.truths) - tp)
    return total


def average_precision(
    results: Sequence[VideoResult], thresholds: Sequence[float] = AP_THRESHOLDS
) -> float:
    """AP@[.5:.05:.95]: mean over IoU thresholds of the area under the precision-recall curve.

    One-to-one matching per video, all predictions ranked together by score (ties: order of the
    videos, then onset: deterministic, unlike the releases' unstable sort), all-point
    interpolation (SOFTNet section 4.2).  0 without truths or without predictions.
    """
    num_truths = sum(len(result.truths) for result in results)
    scores = np.concatenate([np.zeros(0)] + [result.scores[rank(result)] for result in results])
    if num_truths == 0 or scores.size == 0:
        return 0.0
    order = np.argsort(-scores, kind="stable")
    areas = []
    for iou in thresholds:
        hits = [match_one_to_one(result, iou)[rank(result)] >= 0 for result in results]
        tp = np.cumsum(np.concatenate(hits)[order])
        recall = np.concatenate([[0.0], tp / num_truths, [1.0]])
        precision = np.concatenate([[0.0], tp / np.arange(1, len(order) + 1), [0.0]])
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        areas.append(float(np.sum(np.diff(recall) * precision[1:])))
    return float(np.mean(areas))


def bootstrap_f1(
    per_subject: Sequence[Counts], draws: int, rng: np.random.Generator
) -> tuple[float, float]:
    """95 % interval of the pooled F1 when subjects are drawn again with replacement."""
    table = np.asarray([tuple(counts) for counts in per_subject], np.int64).reshape(-1, 3)
    if draws < 1 or len(table) == 0:
        return float("nan"), float("nan")
    chosen = rng.integers(0, len(table), (draws, len(table)))
    tp, fp, fn = np.moveaxis(table[chosen].sum(axis=1), -1, 0)
    total = 2 * tp + fp + fn
    f1 = np.where(total > 0, 2 * tp / np.maximum(total, 1), 0.0)
    low, high = np.quantile(f1, [0.025, 0.975])
    return float(low), float(high)
