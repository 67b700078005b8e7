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

    MEGC 2020 and later: [10, 20] and [10, 20] share 11 frames.  Raises ValueError for an offset
    before its onset.
    """
    for name, array in (("prediction", predictions), ("truth", truths)):
        if array.ndim != 2 or array.shape[1] != 2:
            raise ValueError(f"{name}s must have shape [n, 2], got {array.shape}")
        if (array[:, 1] < array[:, 0]).any():
            raise ValueError(f"a {name} ends before it begins")
    low = np.maximum(predictions[:, None, 0], truths[None, :, 0])
    high = np.minimum(predictions[:, None, 1], truths[None, :, 1])
    overlap = np.maximum(high - low + 1, 0)
    length_p = predictions[:, 1] - predictions[:, 0] + 1
    length_t = truths[:, 1] - truths[:, 0] + 1
    return overlap / (length_p[:, None] + length_t[None, :] - overlap)
