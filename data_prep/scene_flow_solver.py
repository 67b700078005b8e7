"""The loops of scene flow, compiled: the relinearisations of one level of the pyramid.

`refine` minimises the energy of Herbst, Ren, Fox 2013 (`scene_flow` states it) at one level of the
pyramid.  Each round warps the second image with the flow found so far, linearises, and solves for
the step (du, dv, dw): a symmetric positive definite system, a 3x3 block per pixel coupled to its
four neighbours by the smoothness.  It is solved by successive over-relaxation: pixels are coloured
like a chess board, and each colour is stored apart, so that a sweep runs over adjacent memory.

All three components are in px: w stands for mm * focal / 1000, so that the smoothness weighs them
alike (their beta = focal^2) and 32-bit floats suffice.

Importing this module takes half a second and compiles nothing; the first call does, in about 10 s.
"""

import math

import numpy as np

from .compiled import compiled, part

SMALL_COLOUR, SMALL_DEPTH, SMALL_SMOOTH = 1e-6, 1e-10, 1e-6
"""Squared epsilons of the penalties sqrt(s^2 + e^2); depth's in m^2."""
STEEPEST = 0.04  # m per px (and per frame): depth derivatives are clamped to it
LONGEST = 0.3  # px: the change of u or v in one sweep is clamped to it
OCCLUDED = 0.01  # factor q of the colour term where the second surface lies in front
BEHIND = 0.02  # q is 1 up to this part of the squared depth (m) in front
SWEEPS_PER_TEST = 25
_HALF = np.float32(0.5)
_ONE = np.float32(1)
_ZERO = np.float32(0)


@compiled
def refine(
    first: np.ndarray,
    second: np.ndarray,
    weight: np.ndarray,
    boundary: np.ndarray,
    flow: np.ndarray,
    focal: np.float32,
    level_focal: np.float32,
    alpha: np.float32,
    gamma: np.float32,
    rounds: int,
    sweeps: int,
    relaxation: np.float32,
    tolerance: np.float32,
    settled: np.float32,
) -> int:
    """Improve `flow` f32[3, h, w] (u, v, w in px) in place; returns the number of sweeps.

    `first`, `second` f32[C + 1, h, w]: colour channels, then depth in px (m * focal, none missing).
    `weight` f32[h, w] of the depth term, `boundary` f32[2, h, w] of the smoothness between a pixel
    and its right and lower neighbour.  At most `rounds` relinearisations, none after a step whose
    mean square is below `settled`, of at most `sweeps` sweeps, none after a change below
    `tolerance` (px, and m for w; 0: not tested).
    """
    channels, height, width = first.shape
    columns = (width + 1) // 2
    mixed = np.empty((channels, height + 4, width + 4), np.float32)
    change = np.empty_like(first)
    edges = np.zeros((2, height + 1, width + 1), np.float32)
    system = np.zeros((2, 13, height, columns), np.float32)
    step = np.zeros((2, 3, height + 2, columns + 2), np.float32)
    before = np.zeros_like(step)
    total = 0
    for _ in range(rounds):
        _warp(first, second, flow, mixed, change)
        _smoothness(flow, boundary, alpha, edges)
        _linearise(first, mixed, change, flow, edges, weight, focal, gamma, system)
        step[:] = 0
        for number in range(1, sweeps + 1):
            tested = tolerance > 0 and number % SWEEPS_PER_TEST == 0
            if tested:
                before[:] = step
            _sweep(system[0], step[1], step[0], relaxation, 0)
            _sweep(system[1], step[0], step[1], relaxation, 1)
            total += 1
            if tested:
                changed = _largest_change(step, before, focal)
                if changed < tolerance or changed >= LONGEST:
                    break
        if _add(first[channels - 1], step, level_focal / focal, flow) < settled:
            break
    return total


@part
def _warp(
    first: np.ndarray, second: np.ndarray, flow: np.ndarray, mixed: np.ndarray, change: np.ndarray
) -> None:
    """`change`: the warped second image less the first; `mixed`: 0.4 first + 0.6 warped.

    Bilinear; where the flow leaves the image nothing changes (depth: by -w).  `mixed` has two more
    px on each side, copies of its border.
    """
    channels, height, width = first.shape
    flat = second.reshape(channels, height * width)
    right, bottom = np.float32(width - 1), np.float32(height - 1)
    corner = np.empty(width, np.uint32)
    across, along, inside = np.empty((3, width), np.float32)
    for y in range(height):
        for x in range(width):
            column, row = np.float32(x) + flow[0, y, x], np.float32(y) + flow[1, y, x]
            seen = (column >= 0) & (row >= 0) & (column <= right) & (row <= bottom)
            inside[x] = _ONE if seen else _ZERO
            column = min(max(column, _ZERO), right)
            row = min(max(row, _ZERO), bottom)
            left, top = min(int(column), width - 2), min(int(row), height - 2)
            across[x], along[x] = column - np.float32(left), row - np.float32(top)
            corner[x] = top * width + left
        for c in range(channels):
            plane = flat[c]
            for x in range(width):
                i = corner[x]
                j = i + np.uint32(width)
                upper = plane[i] + across[x] * (plane[i + 1] - plane[i])
                lower = plane[j] + across[x] * (plane[j + 1] - plane[j])
                change[c, y, x] = inside[x] * (upper + along[x] * (lower - upper) - first[c, y, x])
        for x in range(width):
            change[channels - 1, y, x] -= flow[2, y, x]
        for c in range(channels):
            for x in range(width):
                mixed[c, y + 2, x + 2] = first[c, y, x] + np.float32(0.6) * change[c, y, x]
    for c in range(channels):
        for y in range(2, height + 2):
            for x in range(2):
                mixed[c, y, x] = mixed[c, y, 2]
                mixed[c, y, width + 2 + x] = mixed[c, y, width + 1]
        for y in range(2):
            mixed[c, y] = mixed[c, 2]
            mixed[c, height + 2 + y] = mixed[c, height + 1]


@part
def _smoothness(
    flow: np.ndarray, boundary: np.ndarray, alpha: np.float32, edges: np.ndarray
) -> None:
    """`edges` f32[2, h + 1, w + 1]: alpha phi g between a pixel and its neighbours.

    `edges[0, y, x]` is the one on the left of pixel (y, x), `edges[1, y, x]` the one above it.
    phi = .5 / sqrt(|grad u|^2 + |grad v|^2 + |grad w|^2 + e^2) with forward differences; an edge
    has the phi of its left or upper pixel.
    """
    _, height, width = flow.shape
    half, small = _HALF * alpha, np.float32(SMALL_SMOOTH)
    for y in range(height):
        below = min(y + 1, height - 1)
        for x in range(width - 1):
            total = small
            for k in range(3):
                total += (flow[k, y, x + 1] - flow[k, y, x]) ** 2
                total += (flow[k, below, x] - flow[k, y, x]) ** 2
            phi = half / math.sqrt(total)
            edges[0, y, x + 1] = phi * boundary[0, y, x]
            edges[1, y + 1, x] = phi * boundary[1, y, x]
        total = small
        for k in range(3):
            total += (flow[k, below, width - 1] - flow[k, y, width - 1]) ** 2
        edges[1, y + 1, width - 1] = half / math.sqrt(total) * boundary[1, y, width - 1]
    edges[1, height] = 0  # there is nothing below


@part
def _linearise(
    first: np.ndarray,
    mixed: np.ndarray,
    change: np.ndarray,
    flow: np.ndarray,
    edges: np.ndarray,
    weight: np.ndarray,
    focal: np.float32,
    gamma: np.float32,
    system: np.ndarray,
) -> None:
    """`system` f32[2, 13, h, ceil(w / 2)] of the pixels of each colour, (x + y) % 2.

    Per pixel: the inverse of its 3x3 block (uu, uv, uw, vv, vw, ww), the right-hand side (u, v, w),
    and the edges to the left, right, upper and lower neighbour.
    """
    channels, height, width = first.shape
    depth = channels - 1
    small, small_depth = np.float32(SMALL_COLOUR), np.float32(SMALL_DEPTH) * focal * focal
    steepest = np.float32(STEEPEST) * focal
    share = _HALF / np.float32(depth)
    behind, per_focal = np.float32(BEHIND) / focal, _ONE / focal
    squared = np.float32(OCCLUDED * OCCLUDED)
    colour = np.empty((6, width), np.float32)
    rows = np.empty((13, width), np.float32)
    for y in range(height):
        # the colour term: xx, xy, yy, xt, yt and q^2
        colour[:5] = 0
        for x in range(width):
            margin = behind * first[depth, y, x] ** 2
            colour[5, x] = _ONE if -change[depth, y, x] < margin else squared
        for c in range(depth):
            for x in range(width):
                dx, dy = _slopes(mixed, c, y, x)
                dt, q = change[c, y, x], colour[5, x]
                psi = share / math.sqrt(q * dt * dt + small)
                colour[0, x] += psi * dx * dx
                colour[1, x] += psi * dx * dy
                colour[2, x] += psi * dy * dy
                colour[3, x] += psi * q * dx * dt
                colour[4, x] += psi * q * dy * dt
        # the depth term, the smoothness and the magnitude
        for x in range(width):
            dx, dy = _slopes(mixed, depth, y, x)
            dx = min(max(dx, -steepest), steepest)
            dy = min(max(dy, -steepest), steepest)
            dt = min(max(change[depth, y, x], -steepest), steepest)
            pi = _HALF * weight[y, x] * per_focal / math.sqrt(dt * dt + small_depth)
            shrink = gamma * (focal / first[depth, y, x]) ** 2
            left, right = edges[0, y, x], edges[0, y, x + 1]
            above, below = edges[1, y, x], edges[1, y + 1, x]
            total = left + right + above + below
            x0, x1 = max(x - 1, 0), min(x + 1, width - 1)
            y0, y1 = max(y - 1, 0), min(y + 1, height - 1)
            for k in range(3):
                rows[6 + k, x] = (
                    left * flow[k, y, x0] + right * flow[k, y, x1]
                    + above * flow[k, y0, x] + below * flow[k, y1, x]
                    - total * flow[k, y, x]
                )  # fmt: skip
            rows[6, x] -= colour[3, x] + pi * dx * dt + gamma * flow[0, y, x]
            rows[7, x] -= colour[4, x] + pi * dy * dt + gamma * flow[1, y, x]
            rows[8, x] -= shrink * flow[2, y, x] - pi * dt
            uu = colour[0, x] + pi * dx * dx + total + gamma
            uv = colour[1, x] + pi * dx * dy
            vv = colour[2, x] + pi * dy * dy + total + gamma
            uw, vw, ww = -pi * dx, -pi * dy, pi + total + shrink
            i, j, k = vv * ww - vw * vw, uw * vw - uv * ww, uv * vw - uw * vv
            scale = _ONE / (uu * i + uv * j + uw * k)
            rows[0, x], rows[1, x], rows[2, x] = scale * i, scale * j, scale * k
            rows[3, x] = scale * (uu * ww - uw * uw)
            rows[4, x] = scale * (uv * uw - uu * vw)
            rows[5, x] = scale * (uu * vv - uv * uv)
            rows[9, x], rows[10, x], rows[11, x], rows[12, x] = left, right, above, below
        for k in range(13):
            for shade in range(2):
                start = (shade + y) % 2
                for i in range((width - start + 1) // 2):
                    system[shade, k, y, i] = rows[k, 2 * i + start]


@part
def _slopes(mixed: np.ndarray, c: int, y: int, x: int) -> tuple[np.float32, np.float32]:
    """The derivatives by x and y of channel `c` at (y, x), taps 1 -8 0 8 -1 over 12."""
    row, column = y + 2, x + 2
    dx = mixed[c, row, x] - mixed[c, row, x + 4]
    dx += np.float32(8) * (mixed[c, row, x + 3] - mixed[c, row, x + 1])
    dy = mixed[c, y, column] - mixed[c, y + 4, column]
    dy += np.float32(8) * (mixed[c, y + 3, column] - mixed[c, y + 1, column])
    return np.float32(1 / 12) * dx, np.float32(1 / 12) * dy


@part
def _side(system: np.ndarray, others: np.ndarray, k: int, y: int, i: int, shift: int) -> np.float32:
    """The right-hand side of component `k` with the neighbours' steps on it."""
    return (
        system[6 + k, y, i]
        + system[9, y, i] * others[k, y + 1, i + shift]
        + system[10, y, i] * others[k, y + 1, i + shift + 1]
        + system[11, y, i] * others[k, y, i + 1]
        + system[12, y, i] * others[k, y + 2, i + 1]
    )


@part
def _sweep(
    system: np.ndarray, others: np.ndarray, step: np.ndarray, relaxation: np.float32, shade: int
) -> None:
    """Solve each pixel of one colour for its step, the four neighbours' (`others`) being given.

    `step`, `others` f32[3, h + 2, ceil(w / 2) + 2], a border of zeros around them.
    """
    _, height, columns = system.shape
    longest = np.float32(LONGEST)
    for y in range(height):
        shift = (y + shade) % 2
        for i in range(columns):
            u = _side(system, others, 0, y, i, shift)
            v = _side(system, others, 1, y, i, shift)
            w = _side(system, others, 2, y, i, shift)
            du = system[0, y, i] * u + system[1, y, i] * v + system[2, y, i] * w
            dv = system[1, y, i] * u + system[3, y, i] * v + system[4, y, i] * w
            dw = system[2, y, i] * u + system[4, y, i] * v + system[5, y, i] * w
            du = relaxation * (du - step[0, y + 1, i + 1])
            dv = relaxation * (dv - step[1, y + 1, i + 1])
            dw = relaxation * (dw - step[2, y + 1, i + 1])
            step[0, y + 1, i + 1] += min(max(du, -longest), longest)
            step[1, y + 1, i + 1] += min(max(dv, -longest), longest)
            step[2, y + 1, i + 1] += dw


@part
def _largest_change(step: np.ndarray, before: np.ndarray, focal: np.float32) -> np.float32:
    """Of u and v in px, of w in m."""
    largest = _ZERO
    _, _, height, columns = step.shape
    for shade in range(2):
        for k in range(3):
            unit = _ONE if k < 2 else _ONE / focal
            for y in range(height):
                for i in range(columns):
                    change = unit * abs(step[shade, k, y, i] - before[shade, k, y, i])
                    largest = max(largest, change)
    return largest


@part
def _add(depth: np.ndarray, step: np.ndarray, zoom: np.float32, flow: np.ndarray) -> np.float32:
    """Add the step to `flow`; returns its mean square, w^2 (m^2) multiplied by f / Z of the level.

    `depth` f32[h, w] in px of the full size, `zoom` the level's focal length over that one.
    """
    _, height, width = flow.shape
    total = _ZERO
    for y in range(height):
        for x in range(width):
            shade, i = (x + y) % 2, x // 2 + 1
            du, dv, dw = (
                step[shade, 0, y + 1, i],
                step[shade, 1, y + 1, i],
                step[shade, 2, y + 1, i],
            )
            flow[0, y, x] += du
            flow[1, y, x] += dv
            flow[2, y, x] += dw
            total += du * du + dv * dv + zoom / depth[y, x] * dw * dw
    return total / np.float32(3 * height * width)
