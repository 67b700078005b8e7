"""`data_prep.scene_flow_solver.refine` in plain NumPy: the reference of its tests and benchmark.

Whole-image arithmetic in float32; a sweep takes the four classes of pixels (row and column even or
odd) by strides, those of one colour of the chess board after the other.
"""

from typing import Any

import numpy as np

TAPS = np.array([1, -8, 0, 8, -1], np.float32) / 12
Floats = np.ndarray


def refine(level: Any, flow: Floats, settings: Any, coarsest: bool) -> int:
    """As the compiled one: improves `flow` f32[3, h, w] in place, returns the number of sweeps."""
    one = np.float32
    focal, zoom = one(settings.focal), one(level.focal / settings.focal)
    settled = 0 if coarsest else settings.settled
    depth, total = level.first[-1], 0
    for _ in range(settings.rounds):
        edges = smoothness(flow, level.smoothness, one(settings.alpha))
        blocks, sides = linearise(level, flow, edges, focal, one(settings.gamma))
        step, sweeps = solve(inverse(blocks), sides, edges, settings, focal)
        flow += step
        total += sweeps
        du, dv, dw = step
        if np.mean(du**2 + dv**2 + zoom / depth * dw**2) / 3 < settled:
            break
    return total


def warped(image: Floats, first: Floats, flow: Floats) -> Floats:
    """`image` f32[C, h, w] sampled at x + u, y + v, and `first` where that is outside; less w."""
    _, height, width = image.shape
    rows, columns = np.indices((height, width), np.float32)
    columns, rows = columns + flow[0], rows + flow[1]
    inside = (columns >= 0) & (rows >= 0) & (columns <= width - 1) & (rows <= height - 1)
    columns, rows = np.clip(columns, 0, width - 1), np.clip(rows, 0, height - 1)
    x, y = np.minimum(columns.astype(int), width - 2), np.minimum(rows.astype(int), height - 2)
    across, along = columns - x.astype(np.float32), rows - y.astype(np.float32)
    upper = image[:, y, x] + across * (image[:, y, x + 1] - image[:, y, x])
    lower = image[:, y + 1, x] + across * (image[:, y + 1, x + 1] - image[:, y + 1, x])
    found = np.where(inside, upper + along * (lower - upper), first)
    found[-1] -= flow[2]
    return found


def derivatives(image: Floats) -> tuple[Floats, Floats]:
    """Of `image` f32[C, h, w] by x and y, five taps, the border repeated."""
    _, height, width = image.shape
    wide = np.pad(image, ((0, 0), (2, 2), (2, 2)), mode="edge")
    dx = sum(tap * wide[:, 2:-2, i : i + width] for i, tap in enumerate(TAPS))
    dy = sum(tap * wide[:, i : i + height, 2:-2] for i, tap in enumerate(TAPS))
    return np.asarray(dx), np.asarray(dy)


def smoothness(flow: Floats, boundary: Floats, alpha: np.float32) -> Floats:
    """f32[4, h, w]: alpha phi g to the left, right, upper and lower neighbour, 0 outside."""
    dx = np.diff(flow, axis=2, append=flow[:, :, -1:])
    dy = np.diff(flow, axis=1, append=flow[:, -1:])
    phi = alpha * np.float32(0.5) / np.sqrt((dx**2 + dy**2).sum(axis=0) + np.float32(1e-6))
    right, below = phi * boundary
    right[:, -1] = below[-1] = 0
    left, above = np.zeros_like(right), np.zeros_like(below)
    left[:, 1:], above[1:] = right[:, :-1], below[:-1]
    return np.stack([left, right, above, below])


def linearise(
    level: Any, flow: Floats, edges: Floats, focal: np.float32, gamma: np.float32
) -> tuple[Floats, Floats]:
    """The blocks f32[3, 3, h, w] and right-hand sides f32[3, h, w]."""
    first = level.first
    change = warped(level.second, first, flow) - first
    dx, dy = derivatives(first + np.float32(0.6) * change)
    margin = np.float32(0.02) / focal * first[-1] ** 2
    q = np.where(-change[-1] < margin, np.float32(1), np.float32(1e-4))
    psi = np.float32(0.5) / np.sqrt(q * change[:-1] ** 2 + np.float32(1e-6))

    def mean(product: Floats) -> Floats:
        return (psi * product).mean(axis=0)

    limit = np.float32(0.04) * focal
    zx, zy, zt = (np.clip(part[-1], -limit, limit) for part in (dx, dy, change))
    pi = np.float32(0.5) * level.trust / focal / np.sqrt(zt**2 + np.float32(1e-10) * focal**2)
    dx, dy, dt = dx[:-1], dy[:-1], change[:-1]
    shrink = np.stack([np.full_like(pi, gamma)] * 2 + [gamma * (focal / first[-1]) ** 2])
    uv, uw, vw = mean(dx * dy) + pi * zx * zy, -pi * zx, -pi * zy
    uu, vv = mean(dx * dx) + pi * zx * zx, mean(dy * dy) + pi * zy * zy
    blocks = np.stack([uu, uv, uw, uv, vv, vw, uw, vw, pi]).reshape(3, 3, *pi.shape)
    for k in range(3):
        blocks[k, k] += edges.sum(axis=0) + shrink[k]
    around = np.pad(flow, ((0, 0), (1, 1), (1, 1)))
    sides = pulled(around, edges) - edges.sum(axis=0) * flow - shrink * flow
    sides[0] -= mean(q * dx * dt) + pi * zx * zt
    sides[1] -= mean(q * dy * dt) + pi * zy * zt
    sides[2] += pi * zt
    return blocks, sides


def pulled(around: Floats, edges: Floats) -> Floats:
    """Sum over the neighbours of edge times value; `around` has one more px on each side."""
    left, right, above, below = edges
    return (
        left * around[:, 1:-1, :-2]
        + right * around[:, 1:-1, 2:]
        + above * around[:, :-2, 1:-1]
        + below * around[:, 2:, 1:-1]
    )


def inverse(blocks: Floats) -> Floats:
    """Of symmetric 3x3 blocks f32[3, 3, h, w]."""
    (uu, uv, uw), (_, vv, vw), (_, _, ww) = blocks
    i, j, k = vv * ww - vw * vw, uw * vw - uv * ww, uv * vw - uw * vv
    second, third, last = uu * ww - uw * uw, uv * uw - uu * vw, uu * vv - uv * uv
    adjoint = np.stack([i, j, k, j, second, third, k, third, last])
    return (adjoint / (uu * i + uv * j + uw * k)).reshape(blocks.shape)


def solve(
    inverses: Floats, sides: Floats, edges: Floats, settings: Any, focal: np.float32
) -> tuple[Floats, int]:
    """The step f32[3, h, w] after red-black over-relaxation from 0, and the sweeps it took."""
    _, height, width = sides.shape
    step = np.zeros((3, height + 2, width + 2), np.float32)
    limit = np.array([0.3, 0.3, np.inf], np.float32)[:, None, None]
    unit = np.array([1, 1, 1 / focal], np.float32)[:, None, None]
    omega = np.float32(settings.relaxation)
    number = 0
    for number in range(1, settings.sweeps + 1):
        tested = settings.tolerance > 0 and number % 25 == 0
        before = step.copy() if tested else step
        for row, column in ((0, 0), (1, 1), (0, 1), (1, 0)):
            here = np.s_[row::2, column::2]
            left, right, above, below = edges[(slice(None), *here)]
            rows, columns = left.shape
            if not rows or not columns:
                continue

            def at(y: int, x: int, rows: int = rows, columns: int = columns) -> Any:
                return np.s_[:, y : y + 2 * rows - 1 : 2, x : x + 2 * columns - 1 : 2]

            own = at(row + 1, column + 1)
            side = (
                sides[(slice(None), *here)]
                + left * step[at(row + 1, column)]
                + right * step[at(row + 1, column + 2)]
                + above * step[at(row, column + 1)]
                + below * step[at(row + 2, column + 1)]
            )
            solved = (inverses[(slice(None), slice(None), *here)] * side).sum(axis=1)
            step[own] += np.clip(omega * (solved - step[own]), -limit, limit)
        if tested:
            change = np.abs(unit * (step - before)).max()
            if change < settings.tolerance or change >= 0.3:
                break
    return step[:, 1:-1, 1:-1], number
