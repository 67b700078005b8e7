"""Arithmetic of intervals: arrays i64[n, 2] of onset and offset, inclusive (NumPy only)."""

from collections.abc import Iterable
from typing import Any

import numpy as np


def as_array(intervals: Iterable[Any]) -> np.ndarray:
    """i64[n, 2] onset, offset of anything with those attributes, or of pairs."""
    rows = [(i.onset, i.offset) if hasattr(i, "onset") else (i[0], i[1]) for i in intervals]
    return np.asarray(rows, np.int64).reshape(-1, 2)


def iou_matrix(predictions: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Intersection over union in inclusive frames, f64[n, m], of i64[n, 2] and i64[m, 2].

    MEGC 2020 and later: [10, 20] and [10, 20] share 11 frames.  An interval that ends before it
    begins overlaps nothing (readers refuse such annotations; others' tables may hold them).
    Raises ValueError for a wrong shape.
    """
    for name, array in (("prediction", predictions), ("truth", truths)):
        if array.ndim != 2 or array.shape[1] != 2:
            raise ValueError(f"{name}s must have shape [n, 2], got {array.shape}")
    low = np.maximum(predictions[:, None, 0], truths[None, :, 0])
    high = np.minimum(predictions[:, None, 1], truths[None, :, 1])
    overlap = np.maximum(high - low + 1, 0)
    length_p = predictions[:, 1] - predictions[:, 0] + 1
    length_t = truths[:, 1] - truths[:, 0] + 1
    union = length_p[:, None] + length_t[None, :] - overlap
    return np.where(overlap > 0, overlap / np.maximum(union, 1), 0.0)
