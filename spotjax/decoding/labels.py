"""Pseudo-labels: from annotated intervals to a score per row (NumPy only).

SOFTNet section 3.2: the pair (i, i+k) covers the window of frames [i, i+k-1]; its score says
how well the window agrees with an expression.  Frames are 0-based inclusive.
"""

from collections.abc import Iterable

import numpy as np


def window_iou(num_rows: int, k: int, onset: int, offset: int) -> np.ndarray:
    """IoU of every window [i, i+k-1] with [onset, offset], in inclusive frames: f32[num_rows]."""
    start = np.arange(num_rows)
    overlap = np.minimum(start + k - 1, offset) - np.maximum(start, onset) + 1
    overlap = np.maximum(overlap, 0)
    return (overlap / (k + (offset - onset + 1) - overlap)).astype(np.float32)


def pseudo_labels(
    rule: str, num_rows: int, k: int, intervals: Iterable[tuple[int, int]]
) -> np.ndarray:
    """Score of each row, f32[num_rows] in [0, 1]; several expressions: the highest one counts.

    `rule` (SOFTNet section 3.2 and table 7):
      unit: 1 where the window meets the expression.
      linear: the IoU itself.
      step4: 0, .25, .5, .75, 1 for an IoU of 0, < .25, < .5, < .75, >= .75.
      unit_release: unit with the release's off-by-one, which takes the expression as
        [onset+1, offset] and so gives an expression of one frame no positive row.
    Raises ValueError for an unknown rule or k < 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    labels = np.zeros(num_rows, np.float32)
    for onset, offset in intervals:
        if rule == "unit_release":
            if offset <= onset:
                continue
            onset += 1
        iou = window_iou(num_rows, k, onset, offset)
        if rule in ("unit", "unit_release"):
            score = (iou > 0).astype(np.float32)
        elif rule == "linear":
            score = iou
        elif rule == "step4":
            score = np.where(iou > 0, np.minimum(np.floor(iou * 4 + 1), 4) / 4, 0)
        else:
            raise ValueError(f"unknown pseudo-label rule {rule!r}")
        labels = np.maximum(labels, score).astype(np.float32)
    return labels


def half_mean_length(intervals: Iterable[tuple[int, int]]) -> int:
    """k = int((N + 1) / 2), N the mean of offset - onset in frames (SOFTNet section 3.1).

    Raises ValueError without any interval.
    """
    lengths = [offset - onset for onset, offset in intervals]
    if not lengths:
        raise ValueError("k cannot be computed: there is no interval of this type")
    return max(1, int((np.mean(lengths) + 1) / 2))
