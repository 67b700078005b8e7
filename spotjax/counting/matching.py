"""What counts as a true positive: every rule of the field in one table (NumPy only).

A rule has two halves.  `hits` says which (prediction, truth) pairs of one video and type count;
`tally` turns them into counts.  The published evaluators disagree in both, so a number means
something only together with the name of its rule.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from spotjax.decoding.intervals import iou_matrix


class Counts(NamedTuple):
    """True positives, false positives, false negatives; `+` adds the counts of two videos.

    Precision counts predictions and recall counts truths.  Only MESNet's rule lets the two
    numerators differ: there `tp` is the number of predictions that hit, and `tp + surplus` the
    number of truths that are found.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    surplus: int = 0
    """Found truths beyond `tp`."""

    def __add__(self, other: object) -> "Counts":
        """Sum of the counts."""
        if not isinstance(other, Counts):
            return NotImplemented
        return Counts(*(mine + yours for mine, yours in zip(self, other, strict=True)))

    @property
    def found(self) -> int:
        """Truths that are found: the numerator of recall."""
        return self.tp + self.surplus

    @property
    def precision(self) -> float:
        """tp / (tp + fp), 0 without predictions."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else 0.0

    @property
    def recall(self) -> float:
        """found / (found + fn), 0 without truths."""
        return self.found / (self.found + self.fn) if self.found + self.fn else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall from whole numbers; 0 without a true positive.

        2 tp / (2 tp + fp + fn) where found = tp; MESNet's 2ab / (an + bm) in general.
        """
        total = self.found * (self.tp + self.fp) + self.tp * (self.found + self.fn)
        return 2 * self.tp * self.found / total if total else 0.0

    def as_dict(self) -> dict[str, float]:
        """`tp`, `fp`, `fn`, `precision`, `recall`, `f1`."""
        return {
            "tp": self.tp,
            "fp": self.fp,
            "fn": self.fn,
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
        }


class VideoResult(NamedTuple):
    """Predictions and truths of one video and type: i64[n, 2], f64[n], i64[m, 2].

    Both are in file order: some rules depend on it.
    """

    predictions: np.ndarray
    scores: np.ndarray
    truths: np.ndarray


class Rule(NamedTuple):
    """How true positives are found and counted."""

    hits: Callable[[VideoResult, float], np.ndarray]
    """(result, IoU threshold) -> bool[n, m]: the pairs that count."""
    tally: Callable[[np.ndarray], Counts]
    """These pairs bool[n, m] -> counts."""
    text: str
    """What counts, in one sentence."""
    source: str


def rank(result: VideoResult) -> np.ndarray:
    """Order of the predictions: score falling, then onset, then offset; i64[n]."""
    return np.lexsort((result.predictions[:, 1], result.predictions[:, 0], -result.scores))


def take_best_free(overlaps: np.ndarray, iou: float) -> np.ndarray:
    """bool[n, m]: row by row, each takes its best still free column of at least `iou`.

    `overlaps` f64[n, m]; of equally good columns the first is taken.  This is also the "soft"
    matching of the mAP library that the releases of SOFTNet and MEAN use.
    """
    hits = np.zeros(overlaps.shape, bool)
    reached = overlaps >= iou
    open_to = np.where(reached, overlaps, -1.0)
    for row in np.flatnonzero(reached.any(axis=1)):
        best = int(np.argmax(open_to[row]))
        if open_to[row, best] >= 0:
            hits[row, best] = True
            open_to[:, best] = -1.0
    return hits


def one_to_one(result: VideoResult, iou: float) -> np.ndarray:
    """bool[n, m]: in rank order, each prediction takes its best free truth.

    Equally good truths: the earlier onset, then the earlier offset.  Neither the order of the
    predictions nor that of the truths changes the counts.
    """
    rows = rank(result)
    columns = np.lexsort((result.truths[:, 1], result.truths[:, 0]))
    ordered = iou_matrix(result.predictions[rows], result.truths[columns])
    hits = np.zeros(ordered.shape, bool)
    hits[np.ix_(rows, columns)] = take_best_free(ordered, iou)
    return hits


def _first_to_its_best(result: VideoResult, order: np.ndarray, iou: float) -> np.ndarray:
    """bool[n, m]: each prediction looks only at its best truth, which the first in `order` gets.

    Of equally good truths a prediction looks at the later one.
    """
    overlaps = iou_matrix(result.predictions, result.truths)
    hits = np.zeros(overlaps.shape, bool)
    if overlaps.size:
        best = overlaps.shape[1] - 1 - np.argmax(overlaps[:, ::-1], axis=1)
        order = order[overlaps.max(axis=1)[order] >= iou]
        taken, first = np.unique(best[order], return_index=True)
        hits[order[first], taken] = True
    return hits


def softnet(result: VideoResult, iou: float) -> np.ndarray:
    """bool[n, m] by SOFTNet's release: in rank order, each prediction has one truth to win.

    If its best truth is taken it is a false positive, even where it overlaps another.  The
    release also adds a false positive [0, 0] for a video without a peak: it is the decoder's
    option `silent_proposal`, not part of the rule.
    """
    return _first_to_its_best(result, rank(result), iou)


def mean(result: VideoResult, iou: float) -> np.ndarray:
    """bool[n, m] by MEAN's release: SOFTNet's rule, predictions in file order."""
    return _first_to_its_best(result, np.arange(len(result.predictions)), iou)


def every_pair(result: VideoResult, iou: float) -> np.ndarray:
    """bool[n, m]: all pairs that share at least `iou` in inclusive frames (SFAMNet, MESNet)."""
    return iou_matrix(result.predictions, result.truths) >= iou


def megc2020(result: VideoResult, iou: float) -> np.ndarray:
    """bool[n, m]: all pairs, by the overlap of the MEGC 2020 baseline."""
    return iou_matrix(result.predictions, result.truths, "megc2020") >= iou


def abpn(result: VideoResult, iou: float) -> np.ndarray:
    """bool[n, m]: each truth flags its best prediction if that is above `iou` (not at it).

    Of equally good predictions the first in the file is flagged; one may be flagged twice.
    """
    overlaps = iou_matrix(result.predictions, result.truths, "difference")
    hits = np.zeros(overlaps.shape, bool)
    if overlaps.size:
        hits[np.argmax(overlaps, axis=0), np.arange(overlaps.shape[1])] = True
    return hits & (overlaps > iou)


def spotformer(result: VideoResult, iou: float) -> np.ndarray:
    """bool[n, m]: truths in file order, each takes its best prediction that is still free."""
    overlaps = iou_matrix(result.predictions, result.truths, "difference")
    return take_best_free(overlaps.T, iou).T


def strs_tool(result: VideoResult, iou: float) -> np.ndarray:
    """bool[n, m]: predictions in file order, each takes every truth that is still free."""
    reached = iou_matrix(result.predictions, result.truths) >= iou
    return reached & (np.cumsum(reached, axis=0) == 1)


def count_pairs(hits: np.ndarray) -> Counts:
    """Counts where no prediction and no truth is in two pairs of `hits` bool[n, m]."""
    tp = int(hits.sum())
    return Counts(tp, hits.shape[0] - tp, hits.shape[1] - tp)


def count_all_pairs(hits: np.ndarray) -> Counts:
    """Every pair is a true positive: `fn` may be negative and F1 above 1 (SFAMNet).

    `hits` bool[n, m].
    """
    tp = int(hits.sum())
    return Counts(tp, int((~hits.any(axis=1)).sum()), hits.shape[1] - tp)


def count_truths(hits: np.ndarray) -> Counts:
    """Truths found in `hits` bool[n, m] over all predictions: `fp` may be negative (MEGC 2020)."""
    found = int(hits.any(axis=0).sum())
    return Counts(found, hits.shape[0] - found, hits.shape[1] - found)


def count_both_sides(hits: np.ndarray) -> Counts:
    """Predictions that hit for precision, truths that are found for recall (MESNet).

    `hits` bool[n, m].
    """
    right, found = int(hits.any(axis=1).sum()), int(hits.any(axis=0).sum())
    return Counts(right, hits.shape[0] - right, hits.shape[1] - found, found - right)


def count_predictions(hits: np.ndarray) -> Counts:
    """Flagged predictions of `hits` bool[n, m], each once (ABPN, AUW-GCN, SpotFormer)."""
    find = int(hits.any(axis=1).sum())
    return Counts(find, hits.shape[0] - find, hits.shape[1] - find)


def count_if_annotated(hits: np.ndarray) -> Counts:
    """Truths taken and predictions that take none; nothing in a video without a truth.

    `hits` bool[n, m].
    """
    if hits.shape[1] == 0:
        return Counts()
    tp = int(hits.sum())
    return Counts(tp, int((~hits.any(axis=1)).sum()), hits.shape[1] - tp)


RULES: dict[str, Rule] = {
    "one_to_one": Rule(
        one_to_one,
        count_pairs,
        "predictions by falling score, each takes the free truth it overlaps best; "
        "a truth and a prediction count once",
        "MEGC 2021 and 2022: at most one true positive per truth",
    ),
    "softnet": Rule(
        softnet,
        count_pairs,
        "predictions by falling score, each looks only at the truth it overlaps best and is "
        "a false positive if that one is taken",
        "release of SOFTNet (Liong et al. 2021)",
    ),
    "mean": Rule(
        mean,
        count_pairs,
        "SOFTNet's rule with the predictions in file order",
        "release of MEAN",
    ),
    "sfamnet": Rule(
        every_pair,
        count_all_pairs,
        "every pair of a prediction and a truth that overlap enough is a true positive, so "
        "FN may be negative and F1 above 1",
        "release of SFAMNet",
    ),
    "megc2020": Rule(
        megc2020,
        count_truths,
        "a truth that any prediction reaches is a true positive, all other predictions are "
        "false positives; one prediction may find two",
        "baseline of MEGC 2020, the published (small) precision",
    ),
    "mesnet": Rule(
        every_pair,
        count_both_sides,
        "precision counts the predictions that reach a truth, recall the truths that are "
        "reached; TP and FP are predictions, FN are truths",
        "text of MESNet's paper (no public code)",
    ),
    "abpn": Rule(
        abpn,
        count_predictions,
        "each truth flags the prediction it overlaps best if the IoU, without the +1 of "
        "inclusive frames, is above the threshold; a prediction counts once",
        "releases of ABPN and AUW-GCN",
    ),
    "spotformer": Rule(
        spotformer,
        count_predictions,
        "truths in file order, each takes the free prediction it overlaps best, IoU without "
        "the +1 of inclusive frames",
        "release of SpotFormer",
    ),
    "strs_tool": Rule(
        strs_tool,
        count_if_annotated,
        "predictions in file order, each takes every free truth it overlaps enough; videos "
        "without a truth of the type are left out",
        "public STRS tool of MEAN's author; the tool also leaves out subjects without any "
        "prediction, which is not repeated here",
    ),
}
"""Every rule, by the name that results carry."""
