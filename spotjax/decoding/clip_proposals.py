"""From the probabilities of MESNet's windows to intervals (NumPy only).

Sections III-C and III-D: windows that the clip proposal network (CPN) finds likely go to the clip
regression network (CRN), which classifies them again and moves their ends.  Section IV-C: what is
left of all clips of a video is thinned out by non-maximum suppression, for either network.

Where the paper is silent or cannot be followed:
  * the printed way back from regression targets needs the length of the true expression, which is
    not known; the targets are linear in it, so `regress` solves for it (`proposal_length` takes
    the window's instead);
  * identical intervals are merged before the suppression, which runs over the whole video: table
    VIII gives the same 10,144 intervals for T_nms = 0.95 and for none, although clips overlap;
  * suppression is greedy; `suppress` is the other one, as in the public evaluation code of the
    same group;
  * windows that stick out of their clip count only at the ends of the video, since the next clip
    sees them whole; windows with a row without a face do not count;
  * MESNet predicts no apex: the middle of an interval stands for it.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from spotjax.counting.matching import RULES, Counts, VideoResult
from spotjax.decoding.clip_windows import CLIP, overlaps, starts, whole_windows
from spotjax.decoding.decode import Curve
from spotjax.decoding.intervals import as_array
from spotjax.types import Detection

Decode = Literal["inverse", "proposal_length"]

SHORTEST, LONGEST = 0.7, 1 / 0.7
"""Least and greatest length of a window by that of its expression where their IoU is above 0.7."""
STICKS_OUT = 2
"""Rows that a window may reach beyond the end of its video."""
CPN_GRID = (0.48, 0.5, 0.52, 0.56, 0.6, 0.64, 0.68, 0.72, 0.76, 0.8)
CRN_GRID = (0.4, 0.44, 0.48, 0.5, 0.52, 0.56, 0.6, 0.64, 0.68, 0.72, 0.76, 0.8)
"""The thresholds of table VII."""


class Options(NamedTuple):
    """How `spot` decodes; the paper's "general" thresholds."""

    t_cpn: float = 0.5
    """Least probability of CPN."""
    t_crn: float = 0.5
    """Least probability of CRN."""
    t_nms: float | None = 0.5
    """IoU at which the less likely of two intervals is dropped; None: never."""
    nms: Literal["greedy", "simultaneous"] = "greedy"
    module: Literal["crn", "cpn"] = "crn"
    """Whose intervals are reported."""
    decode: Decode = "inverse"


class Windows(NamedTuple):
    """The usable windows of a video, in the order of clips and towers."""

    spans: np.ndarray
    """i64[W, 2]: first and last row, cut at the ends of the video."""
    moved: np.ndarray
    """i64[W, 2]: the same after regression, rounded; its end may lie before its beginning."""
    cpn: np.ndarray
    """f64[W]: probability of CPN."""
    crn: np.ndarray
    """f64[W]: probability of CRN."""


# --- regression (section III-D) -------------------------------------------------------------------


def encode(spans: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """f64[n, 2]: how far expressions lie from windows, divided by the length of the expression.

    `spans` f64[n, 2] are a', b' and `truths` f64[n, 2] a, b: (a - a') / (b - a) and
    (b - b') / (b - a), as printed; the length is b - a, not the number of frames.  Raises
    ValueError unless b > a.
    """
    length = truths[:, 1:] - truths[:, :1]
    if (length <= 0).any():
        raise ValueError("an expression must end after it begins")
    return (truths - spans) / length


def regress(spans: np.ndarray, r: np.ndarray, decode: Decode = "inverse") -> np.ndarray:
    """f64[n, 2]: the expressions that regression `r` f64[n, 2] says of windows `spans` f64[n, 2].

    `inverse` undoes `encode`: 1 + r1 - r2 is the window's length by that of the expression.  It
    is held between 0.7 and 1 / 0.7, which windows with an IoU above 0.7 keep to (but for the
    frame by which b - a is short).  `proposal_length` multiplies by the window's length.

    >>> regress(np.array([[40.0, 52.0]]), np.array([[0.1, -0.05]])).round(2).tolist()
    [[41.04, 51.48]]
    """
    length = (spans[:, 1:] - spans[:, :1]).astype(np.float64)
    if decode == "inverse":
        length = length / np.clip(1 + r[:, :1] - r[:, 1:], SHORTEST, LONGEST)
    return spans + r * length


# --- suppression (section IV-C) -------------------------------------------------------------------


def nms(spans: np.ndarray, scores: np.ndarray, iou: float) -> np.ndarray:
    """Greedy suppression: indices i64[K] of what is kept of `spans` i64[n, 2], by falling score.

    Each interval kept drops those of a lower score f64[n] that overlap it by `iou` or more
    (inclusive frames); a dropped one drops no other.  Of equal scores the earlier onset is kept,
    then the earlier offset, then the earlier index.
    """
    by_onset = np.lexsort((spans[:, 1], spans[:, 0]))
    ordered = spans[by_onset]
    longest = int((ordered[:, 1] - ordered[:, 0]).max(initial=0))
    low = np.searchsorted(ordered[:, 0], ordered[:, 0] - longest).tolist()
    high = np.searchsorted(ordered[:, 0], ordered[:, 1], side="right").tolist()
    alive = np.ones(len(spans), bool)
    kept = []
    for at in np.argsort(-scores[by_onset], kind="stable").tolist():
        if alive[at]:
            kept.append(at)
            near = slice(low[at], high[at])  # no other interval can overlap this one
            alive[near] &= overlaps(ordered[near], ordered[at : at + 1])[:, 0] < iou
    return by_onset[np.array(kept, np.int64)]


def suppress(spans: np.ndarray, scores: np.ndarray, iou: float) -> np.ndarray:
    """Simultaneous suppression: indices i64[K] of what is kept, by falling score.

    An interval is dropped if any other one that overlaps it by `iou` or more has a strictly
    higher score, even one that is dropped itself.  Ties of score stay together, ordered as in
    `nms`, which has the same arguments.
    """
    by_onset = np.lexsort((spans[:, 1], spans[:, 0]))
    ordered, score = spans[by_onset], scores[by_onset]
    alive = np.ones(len(spans), bool)
    length = ordered[:, 1] - ordered[:, 0] + 1
    for apart in range(1, len(spans)):
        first, second = slice(None, -apart), slice(apart, None)
        end, begin = np.minimum(ordered[first, 1], ordered[second, 1]), ordered[second, 0]
        shared = np.maximum(end - begin + 1, 0)
        if not shared.any():
            break  # what lies further apart shares nothing either
        close = shared / (length[first] + length[second] - shared) >= iou
        alive[first] &= ~(close & (score[second] > score[first]))
        alive[second] &= ~(close & (score[first] > score[second]))
    kept = np.flatnonzero(alive)
    return by_onset[kept[np.argsort(-score[kept], kind="stable")]]


# --- a video --------------------------------------------------------------------------------------


def usable(scores: np.ndarray, valid: np.ndarray, decode: Decode = "inverse") -> Windows:
    """The windows of a video that count, with their intervals.

    `scores` f32[n, 470, 4] and `valid` bool[T] are as in `spot`.  A window counts if all its rows
    are valid and its scores finite.  One that sticks out of its clip counts at the ends of the
    video only and is cut there.  In a video shorter than a clip, which is filled up behind its last
    row, windows that reach more than 2 rows into the filling do not count.  The regression starts
    from the window as the network saw it, cut at its clip, and ends at the ends of clip and video;
    halves are rounded up.  Raises ValueError for a wrong shape.
    """
    clips, whole, last = starts(len(valid)), whole_windows(), len(valid) - 1
    if scores.shape != (len(clips), len(whole), 4) or valid.ndim != 1:
        raise ValueError(
            f"scores {scores.shape} must be {(len(clips), len(whole), 4)} for valid {valid.shape}"
        )
    inside = np.ones((len(clips), len(whole)), bool)
    inside[1:] &= whole[:, 0] >= 0
    inside[:-1] &= whole[:, 1] < CLIP
    inside &= clips[:, None] + whole[:, 1] <= last + STICKS_OUT
    clip, window = np.nonzero(inside & np.isfinite(scores).all(axis=2))
    begin, p = clips[clip], scores[clip, window].astype(np.float64)
    seen = begin[:, None] + np.clip(whole[window], 0, CLIP - 1)
    moved = np.clip(regress(seen, p[:, 2:], decode), begin[:, None], begin[:, None] + CLIP - 1)
    moved = np.floor(np.minimum(moved, last) + 0.5).astype(np.int64)
    spans = np.minimum(seen, last)
    without = np.concatenate([[0], np.cumsum(~valid.astype(bool))])
    good = without[spans[:, 1] + 1] == without[spans[:, 0]]
    return Windows(spans[good], moved[good], p[good, 0], p[good, 1])


def proposed(windows: Windows, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """What CPN proposes: i64[K, 2] and its probabilities f64[K], merged, after suppression."""
    likely = windows.cpn >= options.t_cpn
    return _thinned(windows.spans[likely], windows.cpn[likely], options)


def reported(windows: Windows, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """What `options.module` finds: i64[K, 2] and f64[K], as `proposed`.

    CRN sees all windows that CPN finds likely.
    """
    if options.module == "cpn":
        return proposed(windows, options)
    likely = (windows.cpn >= options.t_cpn) & (windows.crn >= options.t_crn)
    likely &= windows.moved[:, 1] > windows.moved[:, 0]
    return _thinned(windows.moved[likely], windows.crn[likely], options)


def _thinned(
    spans: np.ndarray, scores: np.ndarray, options: Options
) -> tuple[np.ndarray, np.ndarray]:
    """Identical intervals merged, the highest score stays, then suppressed; in order of onset."""
    order = np.lexsort((-scores, spans[:, 1], spans[:, 0]))
    spans, scores = spans[order], scores[order]
    first = np.ones(len(spans), bool)
    first[1:] = (spans[1:] != spans[:-1]).any(axis=1)
    spans, scores = spans[first], scores[first]
    if options.t_nms is not None:
        thin = nms if options.nms == "greedy" else suppress
        kept = np.sort(thin(spans, scores, options.t_nms))
        spans, scores = spans[kept], scores[kept]
    return spans, scores


def spot(
    scores: np.ndarray, valid: np.ndarray, options: Options | None = None
) -> tuple[list[Detection], dict[str, Curve]]:
    """The micro-expressions of one video in the order of onset, and the curve to draw.

    `scores` f32[n, 470, 4] belong to the n clips of `clip_windows.starts` and their windows:
    probability of CPN, of CRN, r1, r2.  `valid` bool[T] says which rows have a face.  A score is
    the probability of the reported module, an apex the middle frame (MESNet predicts none).

    The curve has at each row the highest probability of the usable windows whose middle is there,
    before any threshold, NaN where there is none; its peaks are the middles of the intervals, its
    proposals those of CPN.  `options` default to the paper's.  Raises ValueError for a wrong shape.
    """
    options = options or Options()
    windows = usable(scores, valid, options.decode)
    found, likely = reported(windows, options)
    middle = found.sum(axis=1) // 2
    columns = zip(*found.T.tolist(), middle.tolist(), likely.tolist(), strict=True)
    detections = [Detection(a, m, b, "micro", score) for a, b, m, score in columns]
    best = np.full(len(valid), np.nan)
    probability = windows.cpn if options.module == "cpn" else windows.crn
    np.fmax.at(best, windows.spans.sum(axis=1) // 2, probability)
    height = options.t_cpn if options.module == "cpn" else options.t_crn
    curve = Curve(
        best.astype(np.float32),
        height if len(probability) else float("nan"),
        np.unique(middle),
        np.column_stack(proposed(windows, options)).astype(np.float64),
    )
    return detections, {"micro": curve}


# --- thresholds from validation videos (table VII) ------------------------------------------------


def choose_thresholds(
    videos: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    options: Options | None = None,
    cpn: Sequence[float] = CPN_GRID,
    crn: Sequence[float] = CRN_GRID,
    iou: float = 0.5,
) -> Options:
    """`options` with the thresholds of the grids that give the best F1 on `videos`.

    Each video is scores f32[n, 470, 4] and valid bool[T] as in `spot`, and its true
    micro-expressions i64[m, 2].  F1 is that of MESNet's own rule over all videos, of the reported
    module; for CPN alone t_crn stays as it is.  Of equals, the higher t_cpn, then the higher t_crn;
    where no pair hits anything there is nothing to choose by and `options` stay.  Raises ValueError
    for a wrong shape.
    """
    options = options or Options()
    usable_of = [usable(scores, valid, options.decode) for scores, valid, _ in videos]
    truths = [as_array(video[2]) for video in videos]
    lone = options.module == "cpn"
    # suppression never looks at a lower score, so the last threshold only cuts off its tail
    best, chosen = 0.0, options
    for t_cpn in (min(cpn),) if lone else sorted(cpn):
        lowest = options._replace(t_cpn=t_cpn, t_crn=min(crn))
        found = [reported(windows, lowest) for windows in usable_of]
        hits = [
            RULES["mesnet"].hits(VideoResult(*one, true), iou)
            for one, true in zip(found, truths, strict=True)
        ]
        for last in sorted(cpn if lone else crn):
            tallies = (
                RULES["mesnet"].tally(hit[score >= last])
                for hit, (_, score) in zip(hits, found, strict=True)
            )
            f1 = sum(tallies, Counts()).f1
            if f1 > 0 and f1 >= best:
                best = f1
                pair = (last, options.t_crn) if lone else (t_cpn, last)
                chosen = options._replace(t_cpn=pair[0], t_crn=pair[1])
    return chosen
