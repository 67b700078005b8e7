"""TV-L1 optical flow (Zach, Pock and Bischof 2007) as a pure JAX function.

The procedure is that of OpenCV-contrib's `DualTVL1OpticalFlow`, without gamma and initial flow: a
pyramid; on each scale several warps of the second image; per warp a primal-dual iteration that
ends once the flow hardly moves, begun with a median filter and interrupted by others.  What is the
same up to rounding is written differently, for speed: the layout of the pixels (`_Grid`), the
threshold step (`_iterate`), the bicubic warp (`_sampled`), the median (`spotjax.median`).

With one scale, or one warp on each, the mean difference from OpenCV 5 is below 1e-4 px.  With all
of both the threshold step makes rounding errors grow, as between two versions of OpenCV: on average
0.01 to 0.02 px (0.03 where an image is mostly noise), 2 px at single pixels.
"""

from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from spotjax.median import median, stored

_LEAST = 16
"""A scale with fewer px in a row or a column is left out (OpenCV)."""
_EDGE = 2
"""px that the median filter looks at on each side of a pixel."""
_OUTSIDE = 4
"""px of 0 around an image that is sampled: a window of 4 px that misses it lies in them."""
_CUBIC = -0.75
"""OpenCV's parameter of the bicubic kernel."""
_VAST = 1e9
"""More than any sum of grey values."""


@dataclass(frozen=True)
class Tvl1:
    """Parameters, by default OpenCV-contrib's.  Raises ValueError for impossible ones.

    `lambda_` weighs the brightness difference (smaller is smoother), `theta` is the coupling of the
    two parts of the energy, `tau` the time step of the dual.  There are at most `scales`, each
    `step` times the finer one, with `warps` of the second image.  A warp ends once an iteration
    moves the flow by less than `epsilon` px (root mean square), or after `outer` times a median
    filter of `median` px (5; 1: none) and `inner` iterations.
    """

    tau: float = 0.25
    lambda_: float = 0.15
    theta: float = 0.3
    scales: int = 5
    warps: int = 5
    epsilon: float = 0.01
    inner: int = 30
    outer: int = 10
    step: float = 0.8
    median: int = 5

    def __post_init__(self) -> None:
        """Raise ValueError for impossible values."""
        counts = (self.scales, self.warps, self.inner, self.outer)
        if min(counts) < 1 or not 0 < self.step < 1 or self.median not in (1, 5):
            raise ValueError(f"counts from 1, step between 0 and 1, median 1 or 5: {self}")
        if min(self.tau, self.lambda_, self.theta) <= 0 or self.epsilon < 0:
            raise ValueError(f"tau, lambda_ and theta above 0, epsilon not below: {self}")


DEFAULT = Tvl1()


def tvl1(first: ArrayLike, second: ArrayLike, parameters: Tvl1 = DEFAULT) -> Array:
    """Flow f32[H, W, 2]: x, y displacement in px that takes `first` to `second`.

    The images are grey: u8[H, W], or f32[H, W] from 0 to 1.  A pure function: `jax.jit` it, with
    `parameters` bound or static.  Raises ValueError for other shapes and types.
    """
    one, two = _grey(first), _grey(second)
    if one.shape != two.shape or one.ndim != 2 or min(one.shape) < 3:
        raise ValueError(
            f"two grey images [H, W] of one size, 3 px at least, not {one.shape} and {two.shape}"
        )
    pyramid = [jnp.stack([one, two])]
    while len(pyramid) < parameters.scales:
        shape = tuple(round(length * parameters.step) for length in pyramid[-1].shape[1:])
        if min(shape) < _LEAST:
            break
        # as OpenCV: down by `step` itself, up by the ratio of the rounded sizes
        pyramid.append(_resized(pyramid[-1], shape, (1 / parameters.step,) * 2))
    flow = jnp.zeros(pyramid[-1].shape, jnp.float32)
    for pair in reversed(pyramid):
        if flow.shape != pair.shape:
            ratios = tuple(a / b for a, b in zip(flow.shape[1:], pair.shape[1:], strict=True))
            flow = _resized(flow, pair.shape[1:], ratios) / parameters.step
        flow = _one_scale(pair[0], pair[1], flow, parameters)
    return jnp.moveaxis(flow, 0, -1)


def tvl1_pairs(
    first: ArrayLike,
    second: ArrayLike,
    parameters: Tvl1 = DEFAULT,
    how: Literal["auto", "map", "vmap"] = "auto",
) -> Array:
    """`tvl1` of N pairs u8 or f32[N, H, W]: f32[N, H, W, 2].

    `how`: map, one pair after another (for a CPU, whose cache holds one pair), or vmap, all at
    once, until the slowest is done (for an accelerator); auto goes by JAX's default backend.
    Raises ValueError for other shapes and types.
    """
    one, two = jnp.asarray(first), jnp.asarray(second)
    if one.shape != two.shape or one.ndim != 3:
        raise ValueError(f"two stacks [N, H, W] of one shape, not {one.shape} and {two.shape}")
    if how == "auto":
        how = "map" if jax.default_backend() == "cpu" else "vmap"
    if how == "map":
        return lax.map(lambda pair: tvl1(pair[0], pair[1], parameters), (one, two))
    return jax.vmap(lambda a, b: tvl1(a, b, parameters))(one, two)


def _grey(image: ArrayLike) -> Array:
    """f32 from 0 to 255."""
    known = jnp.asarray(image)
    if known.dtype == jnp.uint8:
        return known.astype(jnp.float32)
    if known.dtype == jnp.float32:
        return known * 255
    raise ValueError(f"an image is u8, or f32 from 0 to 1, not {known.dtype}")


def _resized(images: Array, shape: tuple[int, ...], ratios: tuple[float, ...]) -> Array:
    """f32[N, H, W] as f32[N, *shape], linear, `ratios` px apart; beyond the edge, the edge."""
    for axis, (size, ratio) in enumerate(zip(shape, ratios, strict=True), 1):
        last = images.shape[axis] - 1
        place = ((np.arange(size) + 0.5) * ratio - 0.5).clip(0, last)
        before = np.floor(place).astype(np.int32)
        share = (
            (place - before)
            .astype(np.float32)
            .reshape([size if d == axis else 1 for d in range(3)])
        )
        low, high = (jnp.take(images, n, axis) for n in (before, np.minimum(before + 1, last)))
        images = low * (1 - share) + high * share
    return images


class _Grid(NamedTuple):
    """Pixels in one row: row after row, with twice `_EDGE` px between them.

    A step in x or y is then one offset for all pixels, and loops run over one long axis, whatever
    the width.  Arrays of `size` begin at the first pixel; framed ones have the edge before it too.
    """

    height: int
    width: int

    @property
    def stride(self) -> int:
        """px from a pixel to the one below."""
        return self.width + 2 * _EDGE

    @property
    def size(self) -> int:
        """px of all rows."""
        return self.height * self.stride

    def row(self, image: Array) -> Array:
        """f32[H, W] as f32[size], 0 between the rows."""
        return jnp.pad(image, ((0, 0), (0, 2 * _EDGE))).reshape(-1)

    def image(self, row: Array) -> Array:
        """f32[2, size] as f32[2, H, W]."""
        return row.reshape(2, self.height, self.stride)[..., : self.width]

    def framed(self, image: Array) -> Array:
        """f32[2, H, W] with its edge repeated, two rows more below: f32[2, (H + 6) stride]."""
        beside = ((0, 0), (_EDGE, _EDGE + 2), (_EDGE, _EDGE))
        return jnp.pad(image, beside, mode="edge").reshape(2, -1)

    def inner(self, framed: Array) -> Array:
        """The pixels of a framed array and a row more, f32[2, size + stride]."""
        first = _EDGE * self.stride + _EDGE
        return framed[:, first : first + self.size + self.stride]


class _State(NamedTuple):
    """What passes from warp to warp; the duals are theta times the paper's."""

    framed: Array  # the flow in px, framed
    dual_x: Array  # f32[2, 1 + size]: one 0, then the dual of the differences in x
    dual_y: Array  # f32[2, stride + size]: one row of 0, then that of the differences in y


class _Problem(NamedTuple):
    """What the iterations of a warp work on: `rest + slope . flow` is the grey difference."""

    slope: Array  # f32[2, size]: gradient of the warped second image, 0 between the rows
    rest: Array  # f32[size]
    inverse: Array  # f32[size]: 1 / |slope|^2, 0 where that is 0
    steps: tuple[Array, Array]  # f32[1, size] each: tau, but 0 in the last column or row
    limit: np.float32  # px^2: a warp ends at this sum of squared changes


def _one_scale(one: Array, two: Array, flow: Array, parameters: Tvl1) -> Array:
    """The flow f32[2, H, W] of a pair f32[H, W], begun at `flow`."""
    grid = _Grid(*one.shape)
    source, target = _with_gradient(two), grid.row(one)
    inside = jnp.ones(one.shape)
    within = grid.row(inside)
    steps = (
        grid.row(inside.at[:, -1].set(0))[None] * parameters.tau,
        grid.row(inside.at[-1].set(0))[None] * parameters.tau,
    )
    limit = np.float32(parameters.epsilon**2 * one.size)

    def warp(turn: Array, state: _State) -> _State:
        flow = grid.inner(state.framed)[:, : grid.size]
        sampled, slope_x, slope_y = (part * within for part in _sampled(source, flow, grid, turn))
        square = slope_x**2 + slope_y**2
        inverse = jnp.where(square > np.finfo(np.float32).eps, 1 / square, 0)
        rest = sampled - slope_x * flow[0] - slope_y * flow[1] - target
        problem = _Problem(jnp.stack([slope_x, slope_y]), rest, inverse, steps, limit)
        return _solved(problem, state, grid, parameters)

    duals = (jnp.zeros((2, 1 + grid.size)), jnp.zeros((2, grid.stride + grid.size)))
    state = lax.fori_loop(0, parameters.warps, warp, _State(grid.framed(flow), *duals))
    return grid.image(grid.inner(state.framed)[:, : grid.size])


def _solved(problem: _Problem, state: _State, grid: _Grid, parameters: Tvl1) -> _State:
    """`state` once an iteration changes no more than the limit, or no iteration is left."""
    unknown = jnp.float32(np.inf)

    def going(most: int, loop: tuple[_State, Any, Any]) -> Array:
        _, change, count = loop
        return (change > problem.limit) & (count < most)

    def inner(loop: tuple[_State, Any, Any]) -> tuple[_State, Any, Any]:
        moving, _, count = loop
        return *_iterate(problem, moving, grid, parameters), count + 1

    def outer(loop: tuple[_State, Any, Any]) -> tuple[_State, Any, Any]:
        state, _, count = loop
        begin = grid.inner(state.framed)
        if parameters.median > 1:
            begin = median(state.framed, grid.stride, begin.shape[1], count)
        loop = (state._replace(framed=begin), unknown, 0)
        moving, change, _ = lax.while_loop(partial(going, parameters.inner), inner, loop)
        flow = grid.image(moving.framed[:, : grid.size])
        return moving._replace(framed=grid.framed(flow)), change, count + 1

    return lax.while_loop(partial(going, parameters.outer), outer, (state, unknown, 0))[0]


def _iterate(
    problem: _Problem, state: _State, grid: _Grid, parameters: Tvl1
) -> tuple[_State, Array]:
    """One primal-dual iteration, and the sum of the squared changes of the flow in px^2.

    The flow is f32[2, size + stride] here.  The three cases of the threshold step (eq. 15) are
    `-clip(difference / |slope|^2, -lambda theta, lambda theta) * slope`.
    """
    ahead, dual_x, dual_y = state
    stride, size = grid.stride, grid.size
    reach = parameters.lambda_ * parameters.theta
    slope, flow = problem.slope, ahead[:, :size]
    difference = problem.rest + slope[0] * flow[0] + slope[1] * flow[1]
    step = jnp.clip(difference * problem.inverse, -reach, reach)
    divergence = (dual_x[:, 1:] - dual_x[:, :-1]) + (dual_y[:, stride:] - dual_y[:, :-stride])
    moved = divergence - step[None] * slope
    change = jnp.sum(moved * moved)

    ahead = lax.dynamic_update_slice(ahead, flow + moved, (0, 0))
    flow = ahead[:, :size]
    right = (ahead[:, 1 : 1 + size] - flow) * problem.steps[0]
    below = (ahead[:, stride:] - flow) * problem.steps[1]
    scale = 1 / (1 + jnp.sqrt(right * right + below * below) * (1 / parameters.theta))
    dual_x = lax.dynamic_update_slice(dual_x, (dual_x[:, 1:] + right) * scale, (0, 1))
    dual_y = lax.dynamic_update_slice(dual_y, (dual_y[:, stride:] + below) * scale, (0, stride))
    return _State(ahead, dual_x, dual_y), change


def _with_gradient(image: Array) -> Array:
    """f32[H, W, 3]: the image and its central differences along x and y, halved at the edge."""
    wide = jnp.pad(image, 1, mode="edge")
    along_x = (wide[1:-1, 2:] - wide[1:-1, :-2]) * 0.5
    along_y = (wide[2:, 1:-1] - wide[:-2, 1:-1]) * 0.5
    return jnp.stack([image, along_x, along_y], axis=-1)


def _sampled(source: Array, flow: Array, grid: _Grid, turn: Array) -> list[Array]:
    """f32[H, W, 3] at the pixels of `grid` moved by `flow` f32[2, size], bicubic: f32[size] each.

    Outside it is 0.  A row of the 4x4 window is read at once, all three images together.  `turn`
    is the number of the warp.
    """
    height, width, images = source.shape
    beyond = ((_OUTSIDE, _OUTSIDE), (_OUTSIDE, _OUTSIDE), (0, 0))
    values = jnp.pad(source, beyond).reshape(-1)
    stride = (width + 2 * _OUTSIDE) * images
    y, x = np.divmod(np.arange(grid.size, dtype=np.int32), grid.stride)
    places = [flow[0] + x.astype(np.float32), flow[1] + y.astype(np.float32)]
    whole = [jnp.floor(place) for place in places]
    weights = [_weights(place - low) for place, low in zip(places, whole, strict=True)]
    left, top = (
        (low - 1).clip(-_OUTSIDE, length).astype(jnp.int32) + _OUTSIDE
        for low, length in zip(whole, (width, height), strict=True)
    )
    corner, (across, down) = stored((top * stride + left * images, weights), turn)
    numbers = lax.GatherDimensionNumbers((1,), (), (0,))
    window = jnp.zeros((grid.size, 4 * images))
    for n in range(4):
        row = lax.gather(
            values, (corner + n * stride)[:, None], numbers, (4 * images,),
            mode="promise_in_bounds",
        )  # fmt: skip
        # the limit changes nothing; with it the loop over the 12 values is long enough for LLVM
        # to use vectors instead of writing it out value by value: 1.6 times as fast
        window = jnp.clip(window + down[n][:, None] * row, -_VAST, _VAST)
    window = stored(window, turn)
    return [
        reduce(jnp.add, [across[n] * window[:, n * images + image] for n in range(4)])
        for image in range(images)
    ]


def _weights(part: Array) -> Array:
    """f32[4, ...]: bicubic weights of the 4 px around a place, `part` px after the second."""
    rest = 1 - part
    outer = ((_CUBIC * (part + 1) - 5 * _CUBIC) * (part + 1) + 8 * _CUBIC) * (part + 1) - 4 * _CUBIC
    near = ((_CUBIC + 2) * part - (_CUBIC + 3)) * part * part + 1
    far = ((_CUBIC + 2) * rest - (_CUBIC + 3)) * rest * rest + 1
    return jnp.stack([outer, near, far, 1 - outer - near - far])
