"""Which clips MESNet is trained on, and what they hold (NumPy only).

Main stage (section IV-B): windows of 100 rows over a video.  For each of the n micro-expressions
of a fold's training videos ten windows that hold it whole, at random places; 4 n windows with the
onset of a macro-expression and no micro-expression, 2 n without any expression.  An expression
that the border of its window cuts keeps its ends outside of it.

Pre-training (section III-B): every micro-expression from onset to offset, n clips of 16 rows
without any expression and n / 2 macro-expressions from onset to a little after the apex.  Each is
brought to 16 steps by taking the nearest rows.

Decisions where the paper is silent: windows and clips are drawn once a fold; a place is drawn
twice only if there are too few; one with a row without a face is left out, and so is a
macro-expression without an apex.  "A little after" is 1/6 s (5 frames at 30 fps).
"""

import numpy as np

from spotjax.decoding.clip_windows import CLIP, POSITIVE_IOU, overlaps, windows
from spotjax.types import Samples, Video

MICRO, MACRO, NONE = 0, 1, 2
"""Kinds of a clip."""
MOST = 16
"""Micro-expressions that a clip of 100 rows may touch."""
NOWHERE = -1e6
AFTER_APEX = 1 / 6  # s


def spans(video: Video, type: str) -> np.ndarray:
    """i64[m, 2] onset and offset of the expressions of a type."""
    found = [(i.onset, i.offset) for i in video.intervals if i.type == type]
    return np.asarray(found, np.int64).reshape(-1, 2)


def truths(starts: np.ndarray, micro: np.ndarray, clip: int = CLIP) -> np.ndarray:
    """f32[n, 16, 2]: the micro-expressions i64[m, 2] that each clip touches, counted from it.

    `starts` i64[n] are the first rows of the clips.  Expressions keep their length; the rest of the
    table lies far away from any window.  Raises ValueError for a clip that touches more than 16.
    """
    touch = (micro[None, :, 0] < starts[:, None] + clip) & (micro[None, :, 1] >= starts[:, None])
    if touch.sum(axis=1).max(initial=0) > MOST:
        raise ValueError(f"a clip of {clip} rows touches more than {MOST} micro-expressions")
    table = np.full((len(starts), MOST, 2), NOWHERE, np.float32)
    row, which = np.nonzero(touch)
    table[row, np.cumsum(touch, axis=1)[row, which] - 1] = micro[which] - starts[row, None]
    return table


def clips(video: Video, valid: np.ndarray) -> Samples:
    """Every clip that a video offers the main stage: `row`, `length`, `truth`, `kind`, `group`.

    `valid` bool[T].  `row` i32[n] counts in the concatenated streams; `length` i32[n] rows from
    there on are of the video; `truth` f32[n, 16, 2] as in `truths`; a clip of `kind` u8[n] MICRO
    stands once for each micro-expression that it holds, whose number is its `group` i32[n].
    Raises ValueError as `truths`.
    """
    micro, macro = spans(video, "micro"), spans(video, "macro")
    start = np.arange(max(video.num_frames - CLIP, 0) + 1)
    last = np.minimum(start + CLIP, video.num_frames) - 1
    gone = np.concatenate([[0], np.cumsum(~valid)])
    start, last = (ends[gone[last + 1] == gone[start]] for ends in (start, last))

    def inside(of: np.ndarray, ends: np.ndarray) -> np.ndarray:
        return (of[None] >= start[:, None]) & (ends[None] <= last[:, None])

    def touched(expressions: np.ndarray) -> np.ndarray:
        first, end = expressions.T
        return ((first[None] <= last[:, None]) & (end[None] >= start[:, None])).any(axis=1)

    holds, which = np.nonzero(inside(micro[:, 0], micro[:, 1]))
    begins = inside(macro[:, 0], macro[:, 0]).any(axis=1)
    only_macro = np.flatnonzero(begins & ~touched(micro))
    empty = np.flatnonzero(~touched(micro) & ~touched(macro))
    index = np.concatenate([holds, only_macro, empty])
    kinds = (len(holds), len(only_macro), len(empty))
    others = np.full(len(only_macro) + len(empty), -1)
    return {
        "row": (video.first_row + start[index]).astype(np.int32),
        "length": (last - start + 1)[index].astype(np.int32),
        "truth": truths(start, micro)[index],
        "kind": np.repeat((MICRO, MACRO, NONE), kinds).astype(np.uint8),
        "group": np.concatenate([video.first_row + micro[which, 0], others]).astype(np.int32),
    }


def draw(samples: Samples, rng: np.random.Generator, micro: int, macro: int, none: int) -> Samples:
    """The clips that a fold trains on: `micro` of each micro-expression, and of the others so many
    times the number of micro-expressions; `samples` as of `clips`, `rho` f32[n] is positive windows
    over all others.
    """
    kind, group = samples["kind"], samples["group"]
    groups = np.unique(group[kind == MICRO])
    chosen = [_some(np.flatnonzero(group == name), micro, rng) for name in groups]
    chosen.append(_some(np.flatnonzero(kind == MACRO), macro * len(groups), rng))
    chosen.append(_some(np.flatnonzero(kind == NONE), none * len(groups), rng))
    index = np.concatenate(chosen)
    kept = {name: samples[name][index] for name in ("row", "length", "truth")}
    positive = sum(int(positives(truth).sum()) for truth in kept["truth"])
    rho = positive / max(len(index) * len(windows()) - positive, 1)
    return kept | {"rho": np.full(len(index), rho, np.float32)}


def positives(truth: np.ndarray) -> np.ndarray:
    """bool[470]: the windows of a clip that are a micro-expression, of `truth` f32[M, 2]."""
    return overlaps(windows(), truth).max(axis=1, initial=0) > POSITIVE_IOU


def pretraining_clips(video: Video, valid: np.ndarray, steps: int, none_rows: int) -> Samples:
    """Every clip that a video offers the pre-training: `row` i32[n, steps], `length`, `kind`.

    `valid` bool[T]; `length` i32[n] is `steps`, `kind` u8[n] as in `clips`.
    """
    micro, macro = spans(video, "micro"), spans(video, "macro")
    after = round(AFTER_APEX * video.fps)
    begun = [
        (i.onset, min(i.apex + after, video.num_frames - 1))
        for i in video.intervals
        if i.type == "macro" and i.apex > i.onset
    ]
    start = np.arange(max(video.num_frames - none_rows + 1, 0))
    every = np.concatenate([micro, macro])
    touch = (every[None, :, 0] < start[:, None] + none_rows) & (every[None, :, 1] >= start[:, None])
    free = start[~touch.any(axis=1)]
    parts = [micro, np.asarray(begun, np.int64).reshape(-1, 2),
             np.stack([free, free + none_rows - 1], axis=1)]  # fmt: skip
    ends = np.concatenate(parts)
    kind = np.repeat((MICRO, MACRO, NONE), [len(part) for part in parts]).astype(np.uint8)
    rows = np.rint(np.linspace(ends[:, 0], ends[:, 1], steps, axis=1)).astype(np.int64)
    kept = valid[rows].all(axis=1)
    return {
        "row": (video.first_row + rows[kept]).astype(np.int32),
        "length": np.full(int(kept.sum()), steps, np.int32),
        "kind": kind[kept],
    }


def draw_pretraining(
    samples: Samples, rng: np.random.Generator, macro: float, none: float
) -> Samples:
    """All micro-expressions, and of the other kinds so many times their number, none twice.

    `samples` are those of `pretraining_clips`.  `label` i32[n] is 0 for a micro-expression, 1 for
    others.
    """
    kind = samples["kind"]
    micro = np.flatnonzero(kind == MICRO)
    chosen = [micro]
    for which, ratio in ((MACRO, macro), (NONE, none)):
        there = np.flatnonzero(kind == which)
        chosen.append(_some(there, min(round(ratio * len(micro)), len(there)), rng))
    index = np.concatenate(chosen)
    label = (kind[index] != MICRO).astype(np.int32)
    return {"row": samples["row"][index], "length": samples["length"][index], "label": label}


def _some(of: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` of `of`, in ascending order; some twice only if there are too few, none of none."""
    if not len(of):
        return of
    return np.sort(rng.choice(of, count, replace=count > len(of)))
