"""Which emotion: confusion matrix, UF1, UAR, and spotting followed by recognition (NumPy only).

Emotions are indices into `CLASSES[4]` or `CLASSES[7]`.  `neutral` is the index after the last
class: it can be predicted, which is a miss of the true class, and is never averaged.

The evaluators disagree on undefined ratios, so `quirks` names whose averages are taken:

- `none` (default): UF1 is the mean F1 of the classes that occur, be it as truth or as
  prediction; UAR the mean recall of the classes that have a truth, as only they have a recall.
- `sfamnet`: a class that is predicted but never true has no recall, and UAR becomes 0; where
  truth and prediction hold one and the same class only, everything is 0 although it is right.
- `strs_tool`: all classes are averaged, also those that do not occur (0), and the value that is
  called UAR is the mean precision.
"""

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import numpy as np

from spotjax.counting.matching import RULES, Counts, VideoResult
from spotjax.errors import UserError

Quirks = Literal["none", "sfamnet", "strs_tool"]

CLASSES: dict[int, tuple[str, ...]] = {
    4: ("negative", "positive", "surprise", "others"),
    7: ("disgust", "surprise", "others", "fear", "anger", "sad", "happy"),
}
"""Emotion classes in the order of SFAMNet's release."""
FOUR_OF_SEVEN = {
    "disgust": "negative", "fear": "negative", "anger": "negative", "sad": "negative",
    "happy": "positive", "surprise": "surprise", "others": "others",
}  # fmt: skip
"""CAS(ME)^3's seven emotions as SFAMNet's four classes."""
NEUTRAL = "neutral"
RECOGNITION_RULES: dict[str, Quirks] = {
    "one_to_one": "none",
    "sfamnet": "sfamnet",
    "strs_tool": "strs_tool",
}
"""Matching rules under which spotted intervals get a true emotion, and their averages."""


class EmotionResult(NamedTuple):
    """One video: intervals, and an emotion of each as index."""

    spotting: VideoResult
    predicted: np.ndarray
    """i64[n], 0 to C (neutral)."""
    true: np.ndarray
    """i64[m], 0 to C - 1, or C where an interval has no emotion."""


class Analysis(NamedTuple):
    """Spotting followed by recognition."""

    spotting: Counts
    predicted: np.ndarray
    """i64[a]: predicted emotions of the spotted intervals that enter the analysis."""
    true: np.ndarray
    """i64[a]: the emotions of their truths."""
    table: np.ndarray
    """i64[C, C + 1]: confusion matrix of the two."""
    uf1: float
    uar: float
    f1: float
    """Analysis F1, see `analysis_f1`."""
    strs: float
    """Spotting F1 times analysis F1."""


def classes_of(emotions: Iterable[str]) -> tuple[str, ...]:
    """The smallest of `CLASSES` that holds all `emotions`; ValueError if none does."""
    wanted = set(emotions) - {NEUTRAL}
    for classes in CLASSES.values():
        if wanted <= set(classes):
            return classes
    raise ValueError(f"no set of emotion classes holds {', '.join(sorted(wanted))}")


def class_of(emotion: str, classes: tuple[str, ...]) -> int:
    """Index of `emotion` in `classes`; `len(classes)` (neutral) for an empty one.

    One of the seven emotions also counts as its class of the four.  Raises UserError for another.

    >>> class_of("fear", CLASSES[4]), class_of("fear", CLASSES[7]), class_of("", CLASSES[4])
    (0, 3, 4)
    """
    if not emotion:
        return len(classes)
    name = emotion if emotion in classes else FOUR_OF_SEVEN.get(emotion, "")
    if name not in classes:
        raise UserError(
            f"emotion {emotion!r} is none of {', '.join(classes)}: rename it in the annotation, or "
            "choose --config.system.classes and --config.data.annotation.emotions to fit"
        )
    return classes.index(name)


def confusion(true: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """i64[C, C + 1]: how often true class (row) was predicted as class (column, last: neutral).

    `true` i64[N] in 0..C-1, `predicted` i64[N] in 0..C.  Raises ValueError for other indices.
    """
    true, predicted = np.asarray(true, np.int64), np.asarray(predicted, np.int64)
    for name, labels, last in (("true", true, classes - 1), ("predicted", predicted, classes)):
        if labels.size and not 0 <= labels.min() <= labels.max() <= last:
            raise ValueError(f"{name} emotions must be in 0..{last}, got {sorted(set(labels))}")
    table = np.zeros((classes, classes + 1), np.int64)
    np.add.at(table, (true, predicted), 1)
    return table


def per_class(table: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 of each class, f64[C]; NaN where undefined (0/0).

    One class against the rest; `table` as of `confusion`.
    """
    right = np.diagonal(table).astype(np.float64)
    predicted, annotated = table[:, : len(table)].sum(axis=0), table.sum(axis=1)

    def ratio(over: np.ndarray, below: np.ndarray) -> np.ndarray:
        return np.where(below > 0, over / np.maximum(below, 1), np.nan)

    return (
        ratio(right, predicted),
        ratio(right, annotated),
        ratio(2 * right, predicted + annotated),
    )


def _averaged(table: np.ndarray, quirks: Quirks) -> np.ndarray:
    """bool[C]: the classes that enter the means."""
    if quirks == "strs_tool":
        return np.ones(len(table), bool)
    occurs = (table[:, : len(table)].sum(axis=0) + table.sum(axis=1)) > 0
    if quirks == "sfamnet":
        occurs &= np.diagonal(table) < table.sum()
    return occurs


def _mean(values: np.ndarray) -> float:
    """Mean with 0 for undefined ratios, 0 of nothing."""
    return float(np.nan_to_num(values).mean()) if values.size else 0.0


def uf1(table: np.ndarray, quirks: Quirks = "none") -> float:
    """Unweighted F1: mean F1 over the classes that occur; 0 without any.  See the module.

    `table` i64[C, C + 1] is a `confusion`.
    """
    return _mean(per_class(table)[2][_averaged(table, quirks)])


def uar(table: np.ndarray, quirks: Quirks = "none") -> float:
    """Unweighted average recall: mean recall over the classes with a truth.  See the module.

    `table` i64[C, C + 1] is a `confusion`.
    """
    precision, recall, _ = per_class(table)
    if quirks == "strs_tool":
        return _mean(precision)
    recall = recall[_averaged(table, quirks)]
    if quirks == "sfamnet":
        return 0.0 if np.isnan(recall).any() else _mean(recall)
    return _mean(recall[~np.isnan(recall)])


def analysis_f1(table: np.ndarray, quirks: Quirks = "none") -> float:
    """Harmonic mean of mean precision and mean recall of the classes that occur (0/0 is 0).

    `table` i64[C, C + 1] is a `confusion`.  The "F1" of SFAMNet's analysis, which is not UF1.
    """
    chosen = _averaged(table, quirks)
    precision, recall = (_mean(ratio[chosen]) for ratio in per_class(table)[:2])
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def spot_then_recognise(
    results: Iterable[EmotionResult], rule: str, classes: int, iou: float = 0.5
) -> Analysis:
    """Spotting under `rule`, then recognition of what was spotted (SFAMNet, MEGC 2023 to 2025).

    Every pair of a prediction and a truth that counts enters with both emotions; under
    `sfamnet` only predictions that reach exactly one truth do.  The averages are those of
    `RECOGNITION_RULES[rule]`.  Truths without an emotion count in the spotting alone.  Raises
    KeyError for a rule that is not there.
    """
    quirks = RECOGNITION_RULES[rule]
    total, predicted, true = Counts(), [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for result in results:
        hits = RULES[rule].hits(result.spotting, iou)
        total += RULES[rule].tally(hits)
        if rule == "sfamnet":
            hits = hits & (hits.sum(axis=1) == 1)[:, None]
        rows, columns = np.nonzero(hits & (result.true < classes))
        predicted.append(result.predicted[rows])
        true.append(result.true[columns])
    labels, truths = np.concatenate(predicted), np.concatenate(true)
    table = confusion(truths, labels, classes)
    f1 = analysis_f1(table, quirks)
    return Analysis(
        total, labels, truths, table, uf1(table, quirks), uar(table, quirks), f1, total.f1 * f1
    )


def as_dict(analysis: Analysis, classes: tuple[str, ...]) -> dict[str, Any]:
    """Numbers, per-class ratios (None where undefined) and confusion matrix as JSON types."""
    return {
        "classes": [*classes, NEUTRAL],
        "analysed": int(analysis.table.sum()),
        "spotting_f1": analysis.spotting.f1,
        "uf1": analysis.uf1,
        "uar": analysis.uar,
        "analysis_f1": analysis.f1,
        "strs": analysis.strs,
        "confusion": analysis.table.tolist(),
        "per_class": ratios_as_dict(analysis.table, classes),
    }


def ratios_as_dict(table: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    """Precision, recall and F1 of each class as JSON types, None where undefined.

    `table` i64[C, C + 1] is a `confusion` of the C `classes`; ValueError if there are more or
    fewer.
    """
    ratios = zip(*per_class(table), strict=True)
    return {
        name: {
            key: None if np.isnan(value) else float(value)
            for key, value in zip(("precision", "recall", "f1"), values, strict=True)
        }
        for name, values in zip(classes, ratios, strict=True)
    }
