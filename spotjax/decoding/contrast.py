"""From per-frame features to intervals without training: MDMD and LBP-chi2 (NumPy only).

Contrast each frame's feature with those on both sides, take the frames above
mean + p (max - mean) as movement, make intervals of them, drop too short and too long ones.
Features come from `data_prep.mdmd` and `data_prep.lbp`; k is their half-window in frames.

**Published parameters** (data sets at 30 and 200 fps):

- MDMD, MEGC 2020's baseline: k = 0.4 s (micro) and 1.3 s (macro), p = 0.01, runs of consecutive
  frames, lengths by `limits`.
- LBP-chi2 in MESNet's comparison (table X, micro alone): the same k and lengths; p = 0.02 for
  CAS(ME)^2 and 0.01 for SAMM, and 0.31 for CAS(ME)^2's highest F1.
- LBP-chi2, MEGC 2019: CAS(ME)^2 k = 5, p = 0.15, `Bins(15, 6)`; SAMM k = 30, p = 0.05,
  `Bins(100, 20)`; no limits of length.

Deviations and decisions:

- limits and half-windows are seconds times the frame rate, a half rounded up, which gives the
  published frames of both data sets;
- a detection's apex is the first frame of highest contrast, its score the contrast there less the
  threshold; the public codes score every interval alike;
- the threshold is of the whole video, as the papers say; the MEGC 2019 code can also cut the
  video into clips of 1 s, each with its own;
- a frame without a face has no contrast and ends a run.
"""

from typing import NamedTuple

import numpy as np

from spotjax.decoding import decode
from spotjax.types import Detection

SHORTEST_MICRO = 0.235  # s: 7 frames at 30 fps, 47 at 200 fps
LONGEST_MICRO = 0.525  # s: 16 and 105 frames; a macro-expression is longer
HALF_WINDOW = {"micro": 0.4, "macro": 1.3}  # s: 12 and 39 frames at 30 fps, 80 and 260 at 200 fps


class Bins(NamedTuple):
    """MEGC 2019's way to make intervals, see `bins`; both in frames."""

    frames: int
    hits: int


def limits(fps: float) -> dict[str, tuple[int, int | None]]:
    """Shortest and longest interval of each type in frames, both allowed; None: no longest.

    >>> limits(30), limits(200)["micro"]
    ({'micro': (7, 16), 'macro': (17, None)}, (47, 105))
    """
    longest = _frames(LONGEST_MICRO, fps)
    return {"micro": (_frames(SHORTEST_MICRO, fps), longest), "macro": (longest + 1, None)}


def half_window(type: str, fps: float) -> int:
    """k in frames for expressions of `type`.  Raises KeyError for an unknown type.

    >>> half_window("micro", 30), half_window("macro", 30), half_window("macro", 200)
    (12, 39, 260)
    """
    return _frames(HALF_WINDOW[type], fps)


def halved_mdmd(k: int, num_frames: int) -> int:
    """k halved until the video has at least 6 k frames (a half rounded up), at least 1.

    With k = 1 a frame is contrasted with itself: nothing is found.  The public code never returns
    to the full k, so that one short video shortens k in all that follow it; its SAMM-LV
    macro-intervals have k = 65 from the second video on, not 260.  Passing each video's result on
    as the next one's `k`, in its order of videos, does the same.

    >>> halved_mdmd(260, 1560), halved_mdmd(260, 1559), halved_mdmd(39, 100)
    (260, 130, 10)
    """
    while num_frames < 6 * k and k > 1:
        k = (k + 1) // 2
    return k


def halved_lbp(k: int, num_frames: int) -> int:
    """k halved until the video has at least 2 k + 1 frames (a half rounded up), at least 1.

    >>> halved_lbp(5, 11), halved_lbp(5, 10)
    (5, 3)
    """
    while num_frames < 2 * k + 1 and k > 1:
        k = (k + 1) // 2
    return k


def contrast_mdmd(
    feature: np.ndarray, valid: np.ndarray, k: int, matlab_compat: bool = False
) -> np.ndarray:
    """C_i = f_i - (f_{i-(k-1)} + f_{i+(k-1)}) / 2: f32[T], NaN where one of the three is missing.

    `feature` f32[T] and `valid` bool[T], true where the feature is known (frames i - k, i and
    i + k are in the video and have a face).  `matlab_compat` leaves out the last 2k of these rows,
    as the public code does: it ends at i = T - 4k (counted from 0), not T - 2k.  Raises
    ValueError if the shapes differ or k < 1.
    """
    values = _known(feature, valid, k)
    length, step = len(values), k - 1
    result = np.full(length, np.nan, np.float32)
    centre = np.arange(step, length - 4 * k + 1 if matlab_compat else length - step)
    result[centre] = values[centre] - (values[centre - step] + values[centre + step]) / 2
    return result


def contrast_lbp(feature: np.ndarray, valid: np.ndarray, k: int) -> np.ndarray:
    """C_i = max(0, F_i - (F_{i-k} + F_{i+k}) / 2): f32[T], NaN where one of the three is missing.

    `feature` f32[T] and `valid` bool[T] as for `contrast_mdmd`.  Beyond the first and the last
    valid row F goes on with their values; the k rows beyond each have C = 0 and count in the
    threshold's mean, as in the MEGC 2019 code.  With a face in all frames these are the first and
    last k of the video.  Raises ValueError if the shapes differ or k < 1.
    """
    values = _known(feature, valid, k)
    result = np.full(len(values), np.nan, np.float32)
    where = np.flatnonzero(valid)
    if where.size == 0:
        return result
    first, last = int(where[0]), int(where[-1])
    row = np.arange(first, last + 1)
    sides = values[np.maximum(row - k, first)] + values[np.minimum(row + k, last)]
    result[max(0, first - k) : last + k + 1] = 0
    result[row] = np.maximum(values[row] - sides / 2, 0)
    return result


def runs(hits: np.ndarray) -> np.ndarray:
    """First and last row i64[n, 2] of each run of true rows of `hits` bool[T]."""
    edges = np.diff(np.concatenate([[False], hits, [False]]).astype(np.int8))
    return np.stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1], axis=1)


def bins(hits: np.ndarray, rule: Bins) -> np.ndarray:
    """First and last hit i64[n, 2] of each bin of `rule.frames` rows with >= `rule.hits` hits.

    `hits` bool[T].  Bins do not overlap and begin at row 0; the last may be shorter.  Intervals of
    neighbouring bins stay apart, and rows between two hits of a bin belong to its interval.
    """
    parts = (
        np.flatnonzero(hits[s : s + rule.frames]) + s for s in range(0, len(hits), rule.frames)
    )
    found = [(part[0], part[-1]) for part in parts if len(part) >= max(1, rule.hits)]
    return np.asarray(found, np.int64).reshape(-1, 2)


def spot(
    curve: np.ndarray,
    p: float,
    shortest: int,
    longest: int | None,
    type: str,
    *,
    merge: Bins | None = None,
) -> tuple[list[Detection], decode.Curve]:
    """Intervals of one video and type from its contrast `curve` f32[T], NaN where there is none.

    Frames strictly above mean + p (max - mean) are movement, so p = 1 gives nothing.  Intervals
    are their `runs`, or their `bins` by `merge`, of `shortest` to `longest` frames (both allowed;
    None: any).  The returned curve's peaks are the apexes.
    """
    height = decode.threshold(curve, p)
    hits = curve > np.float32(height)
    found = runs(hits) if merge is None else bins(hits, merge)
    length = found[:, 1] - found[:, 0] + 1
    kept = found[(length >= shortest) & (length <= (len(curve) if longest is None else longest))]
    apexes = [int(onset + np.nanargmax(curve[onset : offset + 1])) for onset, offset in kept]
    detections = [
        Detection(int(onset), apex, int(offset), type, float(curve[apex]) - height)
        for (onset, offset), apex in zip(kept, apexes, strict=True)
    ]
    return detections, decode.Curve(curve, height, np.asarray(apexes, np.int64))


def _frames(seconds: float, fps: float) -> int:
    return max(1, int(seconds * fps + 0.5))


def _known(feature: np.ndarray, valid: np.ndarray, k: int) -> np.ndarray:
    """`feature` as f64[T], NaN where it is not valid; checks the arguments."""
    if feature.shape != valid.shape or feature.ndim != 1:
        raise ValueError(f"feature {feature.shape} and valid {valid.shape} must be equal, rank 1")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    return np.where(valid, feature, np.nan).astype(np.float64)
