"""From boundary probabilities to intervals (NumPy only).

SpotFormer's post-processing: every frame whose apex probability exceeds a threshold proposes one
interval, from the likeliest onset before it to the likeliest offset after it; of proposals that
overlap, the one of the highest score stays (non-maximum suppression).  Numbers are those of the
authors' release; where the paper differs, `ranges` says so.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np

from spotjax.decoding.decode import Curve
from spotjax.decoding.intervals import as_array, iou_matrix
from spotjax.types import Detection

COLUMNS = {"macro": (2, 3, 5), "micro": (0, 1, 4)}
"""Columns of onset, offset and apex in the scores of `spot`."""

HALF_LENGTHS = {
    "release": {"macro": (16 // 2, 59 // 2), "micro": (5 // 2, 16 // 2)},
    "paper": {"macro": (16 // 2, 60 // 2), "micro": (4 // 2, 16 // 2)},
}
"""Half of the shortest (the paper's j) and of the usual length (k) in frames at 30 fps."""


class Range(NamedTuple):
    """Least and greatest distance in frames from an apex to its onset and to its offset."""

    low: int
    high: int


class Options(NamedTuple):
    """How `spot` decodes; the release's values."""

    threshold: float = 0.5
    """An apex probability above it makes a proposal."""
    iou: float = 0.5
    """Proposals that overlap a better one by more than this are dropped."""
    keep: int = 5
    """Intervals kept per video and type (the release's top 5; the paper names no limit); 0: all."""
    kind: Literal["difference", "inclusive"] = "difference"
    """How the overlap of two proposals is measured; see `intervals.iou_matrix`."""
    macro: Range = Range(*HALF_LENGTHS["release"]["macro"])
    micro: Range = Range(*HALF_LENGTHS["release"]["micro"])


def ranges(rule: Literal["release", "paper"] = "release", fps: float = 30.0) -> dict[str, Range]:
    """Where onset and offset are looked for around an apex, by type; goes into `Options`.

    `release`: 2 to 8 frames of a micro- and 8 to 29 (59 // 2) of a macro-expression; `paper`: 8 to
    30 of a macro-expression (k = 60), the rest alike.  The published numbers are for 30 fps, and
    the release also applies them to SAMM-LV's 28.6 fps: leave `fps` alone to repeat that.  Another
    `fps` scales the distances to the same time, rounded to whole frames.  Raises KeyError for an
    unknown rule and ValueError unless `fps` is positive.

    >>> Options(**ranges("paper", fps=60)).macro
    Range(low=16, high=60)
    """
    if not fps > 0:
        raise ValueError(f"fps must be positive, got {fps}")
    return {
        type: Range(*(round(frames * fps / 30) for frames in span))
        for type, span in HALF_LENGTHS[rule].items()
    }


def propose(
    onset: np.ndarray,
    offset: np.ndarray,
    apex: np.ndarray,
    type: str,
    *,
    threshold: float = 0.5,
    low: int,
    high: int,
    valid: np.ndarray,
) -> list[Detection]:
    """One interval per frame of f32[T] `apex` above `threshold`, in the order of the frames.

    The onset is the frame of the highest f32[T] `onset` at a distance of `low` to `high` before
    the apex, the offset that of the highest f32[T] `offset` after it; of equals the nearest.
    Distances that leave the video end at its first or last frame.  An interval stays only if its
    onset frame is rather an onset than an offset and its offset frame the opposite.  The score is
    the product of the three probabilities.

    Frames that are not `valid` bool[T], or where one of the three is NaN, are neither apex nor
    boundary.  Raises ValueError unless the shapes agree and 0 <= low <= high.
    """
    if not onset.shape == offset.shape == apex.shape == valid.shape or apex.ndim != 1:
        shapes = [array.shape for array in (onset, offset, apex, valid)]
        raise ValueError(f"onset, offset, apex and valid must be equal, rank 1; got {shapes}")
    if not 0 <= low <= high:
        raise ValueError(f"0 <= low <= high is needed, got {low} and {high}")
    known = valid & np.isfinite(onset) & np.isfinite(offset) & np.isfinite(apex)
    peaks = np.flatnonzero(known & (apex > threshold))
    distance = np.arange(low, high + 1)
    before = np.maximum(peaks[:, None] - distance, 0)
    after = np.minimum(peaks[:, None] + distance, len(apex) - 1)
    first = _likeliest(before, np.where(known, onset, -np.inf))
    last = _likeliest(after, np.where(known, offset, -np.inf))
    stays = known[first] & (onset[first] > offset[first])
    stays &= known[last] & (offset[last] > onset[last])
    first, peaks, last = first[stays], peaks[stays], last[stays]
    score = onset[first].astype(np.float64) * offset[last] * apex[peaks]
    columns = zip(first.tolist(), peaks.tolist(), last.tolist(), score.tolist(), strict=True)
    return [Detection(start, at, end, type, value) for start, at, end, value in columns]


def _likeliest(frames: np.ndarray, score: np.ndarray) -> np.ndarray:
    """i64[P]: per row of `frames` i64[P, D] the one of highest `score` f32[T], first of equals."""
    return frames[np.arange(len(frames)), np.argmax(score[frames], axis=1)]


def nms(
    detections: Iterable[Detection],
    iou: float = 0.5,
    keep: int = 5,
    kind: Literal["difference", "inclusive"] = "difference",
) -> list[Detection]:
    """The best of the `detections` of one video and type, by falling score.

    Each one kept drops those that overlap it by more than `iou`, measured as `kind` of
    `intervals.iou_matrix`, until `keep` are found (0: no limit).  Of equal scores the earlier apex
    comes first, then the earlier onset and offset: the order of the input does not matter.
    Raises ValueError for a negative `keep`.
    """
    if keep < 0:
        raise ValueError(f"keep must not be negative, got {keep}")
    ranked = sorted(detections, key=lambda d: (-d.score, d.apex, d.onset, d.offset))
    spans, rest = as_array(ranked), np.arange(len(ranked))
    kept: list[Detection] = []
    while rest.size and (keep == 0 or len(kept) < keep):
        best, rest = rest[:1], rest[1:]
        kept.append(ranked[best[0]])
        rest = rest[iou_matrix(spans[best], spans[rest], kind)[0] <= iou]
    return kept


def spot(
    scores: np.ndarray, valid: np.ndarray, options: Options | None = None
) -> tuple[list[Detection], dict[str, Curve]]:
    """The intervals of one video, macro- before micro-expressions, and the curves to draw.

    `scores` f32[T, 6] are probabilities in the order of `COLUMNS`: micro onset, micro offset,
    macro onset, macro offset, micro apex, macro apex; `valid` bool[T].  Rows without a face (not
    valid, or NaN) take no part.  A type's curve is its apex probability, NaN in those rows; its
    peaks are the apexes of the intervals found.  `options` default to the release's, `Options()`.
    Raises ValueError for a wrong shape.
    """
    options = options or Options()
    if scores.ndim != 2 or scores.shape[1] != 6 or valid.shape != scores.shape[:1]:
        raise ValueError(f"scores {scores.shape} must be [T, 6], valid {valid.shape} [T]")
    known = valid & np.isfinite(scores).all(axis=1)
    found: list[Detection] = []
    curves = {}
    for type, columns in COLUMNS.items():
        onset, offset, apex = (scores[:, column] for column in columns)
        reach: Range = getattr(options, type)
        proposals = propose(
            onset,
            offset,
            apex,
            type,
            threshold=options.threshold,
            low=reach.low,
            high=reach.high,
            valid=known,
        )
        kept = nms(proposals, options.iou, options.keep, options.kind)
        found += kept
        peaks = np.array(sorted(detection.apex for detection in kept), np.int64)
        curve = np.where(known, apex, np.nan).astype(np.float32)
        curves[type] = Curve(curve, options.threshold if known.any() else float("nan"), peaks)
    return found, curves
