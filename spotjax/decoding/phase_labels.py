"""Phase labels: the rows of a micro-expression's onset phase with its emotion (NumPy only).

SFAMNet learns a spotting score and an emotion for every row of a video: rows in a part of the
onset phase of a micro-expression are positive and carry its emotion, all others are neutral.
Rows are the sampled frames, so onset and apex are counted in rows too (the release computes every
second frame, and halves the frame numbers, rounded down).

Deviations:
  * which half: the paper takes the first half of the onset phase; the release, with whose rule
    the published numbers of samples agree, the second half up to the apex.  Both are here.
  * soft labels (an ablation) are (row - onset) / (apex - onset).  The printed formula has no
    "- onset" above the line, so that its labels would grow with the position in the video.
  * emotion of negative rows: neutral, as in the paper.  The released code writes its last real
    class there, which the released weights were not trained with.
"""

from collections.abc import Iterable
from typing import Literal

import numpy as np

Rule = Literal["release", "paper"]


def labels(
    rule: Rule,
    soft: bool,
    num_rows: int,
    intervals: Iterable[tuple[int, int, int]],
    neutral: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Score f32[T] in [0, 1] and emotion i32[T] of the T = `num_rows` rows of a video.

    `intervals` are the (onset, apex, emotion) of the micro-expressions alone: SFAMNet learns no
    macro-expression.  The positive rows are, both ends included,

      release: (onset + apex) // 2 to apex, the second half of the onset phase;
      paper: onset to (onset + apex) // 2, the first half.

    They have the score 1 or, if `soft`, (row - onset) / (apex - onset), which is 0 at an onset
    (rule `paper`): what tells a positive row is its emotion.  Of two expressions in one row the
    later in `intervals` counts.  Rows past the end of the video are left out.

    An apex on the onset row makes this one row positive, with score 1, as in the release.  An
    apex before the onset, also the -1 of an unknown one, leaves no onset phase and no positive
    row.  Raises ValueError for an unknown rule, a negative onset or a negative emotion.

    >>> labels("release", False, 8, [(2, 5, 1)], neutral=4)[0].tolist()
    [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    """
    if rule not in ("release", "paper"):
        raise ValueError(f"unknown rule of phase labels {rule!r}: release or paper")
    score = np.zeros(num_rows, np.float32)
    emotion = np.full(num_rows, neutral, np.int32)
    for onset, apex, felt in intervals:
        if onset < 0 or felt < 0:
            raise ValueError(f"onset and emotion must not be negative, got {onset} and {felt}")
        if apex < onset:
            continue
        middle = (onset + apex) // 2
        first, last = (middle, apex) if rule == "release" else (onset, middle)
        rows = np.arange(first, min(last + 1, num_rows))
        grows = soft and apex > onset
        score[rows] = (rows - onset) / (apex - onset) if grows else 1
        emotion[rows] = felt
    return score, emotion


def balance(
    positives: int, clips: int, negatives: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """i64[n]: the negative rows to train on, drawn without replacement from `negatives`, sorted.

    `negatives` i64[N] are the rows to choose from.  One is drawn per positive row and per
    annotated clip (onset-apex sample), so that both kinds are even (as released); never more
    than there are.  Raises ValueError for negative counts.
    """
    if positives < 0 or clips < 0:
        raise ValueError(f"counts must not be negative, got {positives} and {clips}")
    wanted = min(positives + clips, len(negatives))
    return np.sort(rng.choice(negatives, wanted, replace=False))


def class_weights(emotions: np.ndarray, classes: int) -> np.ndarray:
    """Weight of each emotion in the loss, f32[classes + 1]: n / (present * count).

    `emotions` i32[N] are the labels of all training samples: 0 to classes - 1, or `classes` for
    neutral.  n are the samples that are not neutral, `present` the classes that occur among them
    and `count` those of the class (scikit-learn's "balanced", as released).  Neutral, and a class
    that does not occur (the release stops there), weigh 0.  Raises ValueError for other labels.
    """
    emotions = np.asarray(emotions, np.int64)
    if emotions.size and not 0 <= emotions.min() <= emotions.max() <= classes:
        raise ValueError(f"emotions must be in 0..{classes}, got {np.unique(emotions).tolist()}")
    count = np.bincount(emotions[emotions < classes], minlength=classes + 1)
    present = np.count_nonzero(count)
    weight = np.where(count > 0, count.sum() / np.maximum(present * count, 1), 0)
    return weight.astype(np.float32)
