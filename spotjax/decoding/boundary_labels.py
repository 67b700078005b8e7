"""Boundary labels: from annotated intervals to targets per frame, in blocks (NumPy only).

SpotFormer learns from every frame of a video whether it is an onset, an offset or neither, how
near it is to an apex, and whether it lies in an expression, for both types at once.  The paper
does not say how the annotated frames are spread; what stands here is the authors' release.  It
trains on blocks of 16 consecutive frames.  Frames are 0-based inclusive.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np

from spotjax.types import Interval, Samples

TYPES = ("micro", "macro")
ONSET, OFFSET, NEITHER = 0, 1, 2
"""Classes of an edge target."""
NEUTRAL, MACRO, MICRO = 0, 1, 2
"""Classes of the contrastive loss."""

Borders = Literal["release", "free"]


class Spread(NamedTuple):
    """How far an annotated frame reaches, in frames; the release's values, meant for 30 fps."""

    micro: int = 1
    """Frames on either side of a micro-expression's onset, apex and offset."""
    macro: int = 3
    """The same of a macro-expression."""
    sigma: float = 4.0
    """Standard deviation of the apex target."""


class Marks(NamedTuple):
    """The annotated frames of one type, bool[T] each (or bool[N, size] in blocks)."""

    onset: np.ndarray
    apex: np.ndarray
    offset: np.ndarray
    expression: np.ndarray
    """All frames from an onset to its offset."""


def marks(num_frames: int, intervals: Iterable[Interval], type: str) -> Marks:
    """The annotated frames of `type` in a video of `num_frames` frames.

    The middle frame (onset + offset) // 2 stands for an unknown apex (-1), as the release does
    for its 0; an apex of 0 is a frame like any other here.  An apex outside its interval is
    marked where it stands.  Raises ValueError for an interval that does not fit in the video.
    """
    found = Marks(*(np.zeros(num_frames, bool) for _ in Marks._fields))
    for interval in intervals:
        onset, apex, offset = interval[:3]
        if not (0 <= onset <= offset < num_frames and -1 <= apex < num_frames):
            raise ValueError(f"{interval} does not fit in a video of {num_frames} frames")
        if interval.type == type:
            found.onset[onset] = True
            found.apex[apex if apex >= 0 else (onset + offset) // 2] = True
            found.offset[offset] = True
            found.expression[onset : offset + 1] = True
    return found


def _around(marked: np.ndarray, spread: int) -> np.ndarray:
    """bool[..., n, 2 * spread + 1]: `marked` bool[..., n] around each frame, False outside."""
    margin = [(0, 0)] * (marked.ndim - 1) + [(spread, spread)]
    return np.lib.stride_tricks.sliding_window_view(np.pad(marked, margin), 2 * spread + 1, axis=-1)


def edge_targets(onset: np.ndarray, offset: np.ndarray, spread: int) -> np.ndarray:
    """Class of each frame, i8[..., n], from marked onsets and offsets, bool[..., n].

    ONSET or OFFSET up to `spread` frames from a marked one, else NEITHER; OFFSET where both are.
    """
    near_onset = _around(onset, spread).any(axis=-1)
    near_offset = _around(offset, spread).any(axis=-1)
    return np.select([near_offset, near_onset], [OFFSET, ONSET], NEITHER).astype(np.int8)


def apex_targets(
    apex: np.ndarray, spread: int, sigma: float = 4.0, skip_first: bool = False
) -> np.ndarray:
    """exp(-d^2 / (2 sigma^2)), f32[..., n], at distance d <= `spread` of an apex, bool[..., n].

    Of several apexes within reach the latest counts, so that an apex just before another has less
    than 1.  `skip_first` is the release's slip: an apex does not reach left to position 0.
    """
    near = _around(apex, spread)
    distance = spread - np.argmax(near[..., ::-1], axis=-1)
    weight = np.exp(-np.square(distance) / (2 * sigma**2))
    target = np.where(near.any(axis=-1), weight, 0).astype(np.float32)
    if skip_first:
        target[..., 0] = apex[..., 0]
    return target


def targets(micro: Marks, macro: Marks, spread: Spread, skip_first: bool = False) -> Samples:
    """All targets of the marked frames, `[..., n]`, the shape of the marks.

    `<type>_edge` i8 (ONSET, OFFSET, NEITHER), `<type>_apex` f32 in [0, 1] and `<type>_expression`
    f32 (0 or 1) of both types, and `class` i8 (NEUTRAL, MACRO, MICRO; MACRO where both are).
    `skip_first` as in `apex_targets`.
    """
    table: Samples = {}
    for type, marked in zip(TYPES, (micro, macro), strict=True):
        reach: int = getattr(spread, type)
        table[f"{type}_edge"] = edge_targets(marked.onset, marked.offset, reach)
        table[f"{type}_apex"] = apex_targets(marked.apex, reach, spread.sigma, skip_first)
        table[f"{type}_expression"] = marked.expression.astype(np.float32)
    classes = np.select([macro.expression, micro.expression], [MACRO, MICRO], NEUTRAL)
    table["class"] = classes.astype(np.int8)
    return table


def _cut(frames: np.ndarray, size: int, filler: int = 0) -> np.ndarray:
    """Pieces [N, size] of `frames` [T], N = ceil(T / size), the last one filled up."""
    missing = -len(frames) % size
    return np.pad(frames, (0, missing), constant_values=filler).reshape(-1, size)


def blocks(
    num_frames: int,
    intervals: Iterable[Interval],
    size: int = 16,
    only_with_expression: bool = True,
    borders: Borders = "release",
    spread: Spread | None = None,
) -> Samples:
    """Table of the video's consecutive blocks of `size` frames with their targets.

    `start` i32[N] first frame, `length` i32[N] frames that exist (the last block may have fewer
    than `size`), and the columns of `targets`, [N, size].  Frames past the video's end are no
    expression.  `only_with_expression` leaves out blocks without a frame of an expression, as the
    release does; a label spread alone keeps no block.

    `borders`: `release` spreads inside each block, so that nothing reaches over a border (also
    not from a block next door) and no apex reaches left to position 0, while a label near the
    video's end reaches into the missing frames; `free` spreads over the whole video, then cuts.
    `spread` defaults to the release's, `Spread()`.

    Raises ValueError for `num_frames` or `size` below 1, unknown borders, an unknown type or an
    interval outside the video.
    """
    intervals, spread = list(intervals), spread or Spread()
    if num_frames < 1 or size < 1:
        raise ValueError(f"{num_frames} frames in blocks of {size}: both must be at least 1")
    if unknown := {interval.type for interval in intervals} - set(TYPES):
        raise ValueError(f"unknown types {sorted(unknown)}: only {' and '.join(TYPES)} are learnt")
    micro, macro = (marks(num_frames, intervals, type) for type in TYPES)
    if borders == "release":
        micro, macro = (Marks(*(_cut(row, size) for row in rows)) for rows in (micro, macro))
        table = targets(micro, macro, spread, skip_first=True)
    elif borders == "free":
        whole = targets(micro, macro, spread)
        table = {
            name: _cut(row, size, NEITHER if name.endswith("_edge") else 0)
            for name, row in whole.items()
        }
    else:
        raise ValueError(f"unknown borders {borders!r}: release or free")
    start = np.arange(0, num_frames, size, dtype=np.int32)
    length = np.minimum(size, num_frames - start).astype(np.int32)
    table = {"start": start, "length": length, **table}
    if only_with_expression:
        kept = (table["class"] != NEUTRAL).any(axis=1)
        table = {name: column[kept] for name, column in table.items()}
    return table
