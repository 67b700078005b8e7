"""Arithmetic of intervals: arrays i64[n, 2] of onset and offset, inclusive (NumPy only)."""

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

IouKind = Literal["inclusive", "difference", "megc2020"]


def as_array(intervals: Iterable[Any]) -> np.ndarray:
    """i64[n, 2] onset, offset of anything with those attributes, or of pairs."""
    rows = [(i.onset, i.offset) if hasattr(i, "onset") else (i[0], i[1]) for i in intervals]
    return np.asarray(rows, np.int64).reshape(-1, 2)


def iou_matrix(
    predictions: np.ndarray, truths: np.ndarray, kind: IouKind = "inclusive"
) -> np.ndarray:
    """Intersection over union, f64[n, m], of the intervals i64[n, 2] and i64[m, 2].

    `inclusive`: counts frames, [10, 20] has 11 of them (MEGC 2021 and later, SOFTNet, MEAN,
    SFAMNet).  `difference`: lengths are offset - onset, so that single frames overlap nothing
    (ABPN, AUW-GCN, SpotFormer).  `megc2020`: the baseline of MEGC 2020 gives even disjoint
    intervals one shared frame, and 0 to an interval without offset > onset.

    An interval that ends before it begins overlaps nothing (readers refuse such annotations;
    others' tables may hold them).  Raises ValueError for a wrong shape.
    """
    for name, array in (("prediction", predictions), ("truth", truths)):
        if array.ndim != 2 or array.shape[1] != 2:
            raise ValueError(f"{name}s must have shape [n, 2], got {array.shape}")
    one = 0 if kind == "difference" else 1
    low = np.maximum(predictions[:, None, 0], truths[None, :, 0])
    high = np.minimum(predictions[:, None, 1], truths[None, :, 1])
    length_p = predictions[:, 1] - predictions[:, 0]
    length_t = truths[:, 1] - truths[:, 0]
    if kind == "megc2020":
        lasting = (length_p > 0)[:, None] & (length_t > 0)[None, :]
        overlap = np.where(lasting, np.maximum(high - low, 0) + 1, 0)
    else:
        overlap = np.maximum(high - low + one, 0)
    union = (length_p + one)[:, None] + (length_t + one)[None, :] - overlap
    return np.where(overlap > 0, overlap / np.maximum(union, 1), 0.0)
