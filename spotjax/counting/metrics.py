"""Counts, AP and intervals of confidence under a matching rule (NumPy only).

Counts add over videos, types and folds and are divided once.  The rules stand in
`counting.matching`; the default is the one-to-one matching of MEGC.  Each result carries the
rule's name.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from spotjax.counting.matching import RULES, Counts, VideoResult, rank, take_best_free
from spotjax.decoding.intervals import iou_matrix

AP_THRESHOLDS = tuple(np.round(np.arange(0.5, 1.0, 0.05), 2).tolist())
AP_RULES = ("one_to_one", "mean", "sfamnet")
"""The rules that define an AP."""


def count(results: Iterable[VideoResult], rule: str = "one_to_one", iou: float = 0.5) -> Counts:
    """Counts of all `results` (videos of one type) added up.  Raises KeyError: unknown rule."""
    chosen = RULES[rule]
    return sum((chosen.tally(chosen.hits(result, iou)) for result in results), Counts())


def matched(result: VideoResult, rule: str = "one_to_one", iou: float = 0.5) -> np.ndarray:
    """i64[n]: the first truth that each prediction hits, -1 for none.  KeyError: unknown rule."""
    hits = RULES[rule].hits(result, iou)
    if hits.size == 0:
        return np.full(len(hits), -1)
    return np.where(hits.any(axis=1), hits.argmax(axis=1), -1)


def average_precision(
    results: Sequence[VideoResult],
    thresholds: Sequence[float] = AP_THRESHOLDS,
    rule: str = "one_to_one",
) -> float:
    """AP@[.5:.05:.95]: mean over IoU thresholds of the area under the precision-recall curve.

    `one_to_one`: each prediction takes its best free truth; all predictions are ranked together
    by score (ties: order of the videos, then onset: deterministic, unlike the releases' unstable
    sort), all-point interpolation (SOFTNet section 4.2).  0 without truths or predictions.

    Two releases never sort, so that their curve follows the file: `mean` is the same in file
    order (MEAN); `sfamnet` counts a prediction once per truth that it reaches, and a video
    without truths as one truth (SFAMNet), which can give more than 1.  Raises ValueError for
    another rule.
    """
    if rule not in AP_RULES:
        raise ValueError(f"rule {rule!r} has no AP: one of {', '.join(AP_RULES)}")
    by_score = rule == "one_to_one"
    scores, overlaps, num_truths = [np.zeros(0)], [], 0
    for result in results:
        order = rank(result) if by_score else np.arange(len(result.predictions))
        columns = np.lexsort((result.truths[:, 1], result.truths[:, 0]))
        overlaps.append(iou_matrix(result.predictions[order], result.truths[columns]))
        scores.append(result.scores[order])
        num_truths += max(len(columns), int(rule == "sfamnet"))
    joined = np.concatenate(scores)
    if num_truths == 0 or joined.size == 0:
        return 0.0
    order = np.argsort(-joined, kind="stable") if by_score else np.arange(joined.size)
    areas = []
    for iou in thresholds:
        hits = [o >= iou if rule == "sfamnet" else take_best_free(o, iou) for o in overlaps]
        gains = np.concatenate([h.sum(axis=1) for h in hits])[order]
        areas.append(_area(gains, num_truths))
    return float(np.mean(areas))


def _area(gains: np.ndarray, num_truths: int) -> float:
    """Area under the interpolated curve of ranked predictions; `gains` i64[n]: truths of each."""
    tp = np.cumsum(gains)
    recall = np.concatenate([[0.0], tp / num_truths, [1.0]])
    precision = np.concatenate([[0.0], tp / (tp + np.cumsum(gains == 0)), [0.0]])
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * precision[1:]))


def bootstrap_f1(
    per_subject: Sequence[Counts], draws: int, rng: np.random.Generator
) -> tuple[float, float]:
    """95 % interval of the pooled F1 when subjects are drawn again with replacement."""
    if draws < 1 or len(per_subject) == 0:
        return float("nan"), float("nan")
    table = np.asarray(per_subject, np.int64)
    chosen = rng.integers(0, len(table), (draws, len(table)))
    tp, fp, fn, surplus = np.moveaxis(table[chosen].sum(axis=1), -1, 0)
    found = tp + surplus
    total = found * (tp + fp) + tp * (found + fn)
    f1 = np.where(total > 0, 2 * tp * found / np.maximum(total, 1), 0.0)
    low, high = np.quantile(f1, [0.025, 0.975])
    return float(low), float(high)
