"""MDMD, the main directional maximal difference: one number per frame from two flows.

The feature of MEGC 2020's baseline.  Of frame i and half-window k: how much larger is the motion
F_{i-k} -> F_i than the motion F_{i-k} -> F_{i+k}, in the main direction of each block of the face?
A movement that is out and back within the window gives a large value, one that goes on a negative
one.  `spotjax.decoding.contrast` turns the features of a video into intervals.

Deviations and decisions:

- the directions are the four quadrants of the text; `matlab_compat` takes the public code's
  instead, whose atan(u / v) merges opposite directions, so that two of its four bins stay empty;
- a quadrant holds its first axis, not its last ([0, 90) degrees, ...), and no motion counts as
  the first quadrant; of equally full quadrants the first is the main one;
- a block in which no pixel has a direction (`matlab_compat` alone: v = 0 and u >= 0 everywhere)
  has the value 0, and a main direction of one pixel that pixel's; the public code yields nan;
- the flow may be any (the public code tracks every pixel by sparse RLOF).
"""

import numpy as np

SIZE = 227
"""Side of the square grey face crop in px (the public code's)."""
BLOCKS = 6
"""Blocks along each side: 36 of 37x37 px, the last 5 rows and columns unused."""


def feature(
    before: np.ndarray, after: np.ndarray, blocks: int = BLOCKS, matlab_compat: bool = False
) -> float:
    """The feature of frame i in px: mean of the largest third (12 of 36) of the block values.

    `before` f32[H, W, 2] is the flow F_{i-k} -> F_i, `after` f32[H, W, 2] F_{i-k} -> F_{i+k}, both
    x, y in px.  0.6 ms for 227x227.  Raises ValueError as `block_values` does.
    """
    values = np.sort(block_values(before, after, blocks, matlab_compat))
    return float(values[-max(1, round(len(values) / 3)) :].mean())


def block_values(
    before: np.ndarray, after: np.ndarray, blocks: int = BLOCKS, matlab_compat: bool = False
) -> np.ndarray:
    """f64[blocks * blocks] in px, row by row: how far `before` exceeds `after` in each block.

    Both are flows f32[H, W, 2], x, y in px.  The main direction is the one in which most pixels of
    `before` move.  For its pixels d = |before| - |after|; the block's value is the mean of the
    largest third of them.  Raises ValueError if the flows differ in shape or are smaller than the
    blocks.
    """
    if before.shape != after.shape or before.ndim != 3 or before.shape[2] != 2:
        raise ValueError(f"flows {before.shape} and {after.shape} must be equal, [H, W, 2]")
    if min(before.shape[:2]) < blocks or blocks < 1:
        raise ValueError(f"a flow of {before.shape[:2]} px has no {blocks}x{blocks} blocks")
    difference = _tiles(_length(before) - _length(after), blocks)
    u, v = _tiles(before[..., 0], blocks), _tiles(before[..., 1], blocks)
    directions = _signs_merged(u, v) if matlab_compat else _quadrants(u, v)
    counts = np.count_nonzero(directions, axis=2)
    row = np.arange(len(difference))
    main = counts.argmax(axis=0)
    falling = np.sort(np.where(directions[main, row], -difference, np.float32(np.inf)), axis=1)
    pixels = counts[main, row]
    wanted = np.maximum(np.rint(pixels / 3).astype(np.int64), 1)
    totals = -np.cumsum(falling, axis=1, dtype=np.float64)[row, wanted - 1]
    return np.where(pixels > 0, totals, 0.0) / wanted


def _length(flow: np.ndarray) -> np.ndarray:
    return np.sqrt(flow[..., 0] ** 2 + flow[..., 1] ** 2)


def _tiles(plane: np.ndarray, blocks: int) -> np.ndarray:
    """`plane` [H, W] as [blocks * blocks, pixels of a block]."""
    height, width = plane.shape[0] // blocks, plane.shape[1] // blocks
    used = plane[: blocks * height, : blocks * width]
    tiles = used.reshape(blocks, height, blocks, width).swapaxes(1, 2)
    return tiles.reshape(blocks * blocks, height * width)


def _quadrants(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """bool[4, ...]: is the angle of (u, v) in [0, 90), [90, 180), [180, 270), [270, 360)?"""
    upper = (v > 0) | ((v == 0) & (u >= 0))
    right = (u > 0) | ((u == 0) & (v <= 0))
    return np.stack([upper & right, upper & ~right, ~upper & ~right, ~upper & right])


def _signs_merged(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """bool[2, ...]: is atan(u / v) in [0, 90), in [-90, 0) degrees?  Neither if v = 0, u >= 0."""
    same = np.sign(u) * np.sign(v)
    return np.stack([(same >= 0) & (v != 0), (same < 0) | ((v == 0) & (u < 0))])
