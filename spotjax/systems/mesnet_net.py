"""MESNet's networks: a 2+1D backbone and three heads on it (pure JAX, flax.linen).

A clip is f32[N, S, S, 2], flow u and v of N = 100 frames.  `Spatial` (four 3x3 convolutions, each
pooled by 2) makes features F f32[N, L] of every flow, `Temporal` (two convolutions along time)
S f32[N, 128] of them.  On these stand

  the pre-training head   a dense network that tells clips of 16 flows with a micro-expression from
                          others; thrown away afterwards (section III-B);
  CPN                     clip proposals: five towers of two unpadded convolutions on S give each of
                          the 470 windows (`decoding.clip_windows`) a probability (III-C, table II);
  CRN                     classification and regression: F at seven times of each window says again
                          whether it is one, and how far its ends are off (III-D).

"Padding 2" of table I is two in all, one on either side: only then do the paper's own sizes
(H/16, N columns of S, receptive fields of 7 to 15) come out.

Formulations, equal to 1e-5 in outputs and gradients:
  * a pooled 3x3 convolution as one matrix product per 2x2 block (`blocked`), or `lax.conv`
    (`plain`), which is slow inside XLA's CPU loops and a grouped one under vmap over folds;
  * a convolution along time is one product of every flow with all three taps, then shifted sums;
  * the first convolution of the CRN is linear and works flow by flow, so it commutes with the
    interpolation between flows: it is computed once a clip, and its taps are then mixed for all
    windows by one constant matrix.  `interpolated` is the plain form, for the tests.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from spotjax.decoding.clip_windows import TOWERS, windows
from spotjax.systems.layers import dropped, product

CHANNELS = (8, 16, 32, 64)
WIDTH = 128
STEPS = 7
"""Times at which the CRN sees a window (N_CR)."""
HIDDEN, DROPOUT = 300, 0.5
PRETRAIN_STEPS = 16
LIMIT = 8.0
"""Standardised flow is clipped to +-8."""
GLOROT = nn.initializers.glorot_uniform()


class Shape(NamedTuple):
    """Everything that is fixed when the networks are built."""

    size: int = 112
    """Side of a flow in px."""
    share: bool = False
    """The CRN uses the backbone's temporal convolutions (table VI's ablation)."""
    formulation: Literal["blocked", "plain"] = "blocked"


class Outputs(NamedTuple):
    """What MESNet says about the windows of each clip; logits of (micro-expression, other)."""

    proposal: jax.Array
    """f32[B, 470, 2]: CPN's logits."""
    logits: jax.Array
    """f32[B, 470, 2]: CRN's."""
    offsets: jax.Array
    """f32[B, 470, 2]: r1', r2', how far the ends are off, in lengths of the expression."""
    penalty: jax.Array
    """f32[]: sum of the squared weights that are decayed."""


# --- layers ---------------------------------------------------------------------------------------


def pooled_conv(layer: Any, x: jax.Array, formulation: str) -> jax.Array:
    """3x3 convolution, padding 1, ReLU, max-pool by 2: `[N, H, W, C]` to `[N, H // 2, W // 2, D]`.

    An odd last row or column is dropped.  Bias and ReLU come after the maximum, with which they
    commute.
    """
    conv = _conv_blocked if formulation == "blocked" else _conv_plain
    return jax.nn.relu(conv(x, layer["kernel"]) + layer["bias"].reshape(1, 1, 1, -1))


def _conv_plain(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Reference form: `lax.conv`, then the largest of four."""
    layout = ("NHWC", "HWIO", "NHWC")
    y = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)
    n, h, w, d = y.shape
    y = y[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, d)
    return _largest(y[:, :, 0, :, 0], y[:, :, 0, :, 1], y[:, :, 1, :, 0], y[:, :, 1, :, 1])


def _conv_blocked(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same as one product: the 4x4 pixels around each 2x2 block with all its four outputs."""
    n, height, width, c = x.shape
    h, w = height // 2, width // 2
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))[:, : 2 * h + 2, : 2 * w + 2]
    pixels = padded.reshape(n, h + 1, 2, w + 1, 2 * c).transpose(0, 1, 3, 2, 4)
    pixels = pixels.reshape(n, h + 1, w + 1, 4 * c)
    corners = [pixels[:, i : i + h, j : j + w] for i in (0, 1) for j in (0, 1)]
    patches = jnp.concatenate(corners, axis=-1)  # [n, h, w, (i, j, row, column, c)]
    y = product(patches, _block_kernel(kernel)).reshape(n, h, w, 4, -1)
    return _largest(y[..., 0, :], y[..., 1, :], y[..., 2, :], y[..., 3, :])


def _links() -> np.ndarray:
    """f32[3, 3, 4, 4, 2, 2]: which tap links a pixel of a 4x4 patch to each of its 2x2 outputs."""
    table = np.zeros((3, 3, 4, 4, 2, 2), np.float32)
    for a, b, i, j in np.ndindex(3, 3, 2, 2):
        table[a, b, a + i, b + j, i, j] = 1
    return table


def _block_kernel(kernel: jax.Array) -> jax.Array:
    """f32[16 C, 4 D] of f32[3, 3, C, D], rows in the order of `_conv_blocked`'s patches."""
    c, d = kernel.shape[2:]
    weights = jnp.einsum("abcd,abpqij->pqcijd", kernel, _links())
    weights = weights.reshape(2, 2, 2, 2, c, 4, d).transpose(0, 2, 1, 3, 4, 5, 6)
    return weights.reshape(16 * c, 4 * d)


def _largest(*values: jax.Array) -> jax.Array:
    """The largest of four, by comparisons: the gradient of `jnp.max` compares values computed
    twice and may be lost."""
    return jnp.maximum(jnp.maximum(values[0], values[1]), jnp.maximum(values[2], values[3]))


def time_conv(layer: Any, x: jax.Array, dilation: int = 1, padding: int = 0) -> jax.Array:
    """Convolution along time: `[B, N, C]` to `[B, N', D]`, `kernel` f32[k, C, D]."""
    x = jnp.pad(every_tap(layer, x), ((0, 0), (padding, padding), (0, 0), (0, 0)))
    taps = x.shape[2]
    length = x.shape[1] - (taps - 1) * dilation
    shifted = [x[:, k * dilation : k * dilation + length, k] for k in range(taps)]
    return sum(shifted[1:], shifted[0]) + layer["bias"].reshape(1, 1, -1)


def every_tap(layer: Any, x: jax.Array) -> jax.Array:
    """Each flow with each tap of a convolution along time: `[B, N, C]` to `[B, N, k, D]`."""
    taps, _, d = layer["kernel"].shape
    joined = layer["kernel"].transpose(1, 0, 2).reshape(-1, taps * d)
    return product(x, joined).reshape(*x.shape[:-1], taps, d)


def dense(layer: Any, x: jax.Array) -> jax.Array:
    """`[..., C]` to `[..., D]`."""
    bias = layer["bias"].reshape(*[1] * (x.ndim - 1), -1)
    return product(x, layer["kernel"]) + bias


# --- the backbone (section III-B) -----------------------------------------------------------------


def standardised(flow: jax.Array, scale: jax.Array, length: jax.Array) -> jax.Array:
    """Flow f32[B, N, S, S, 2] of either sign over `scale` f32[], clipped to +-8.

    It is 0 from flow `length` i32[B] on: what goes beyond the end of a video does not move.
    """
    there = jnp.arange(flow.shape[1])[None] < length[:, None]
    flow = jnp.clip(flow.astype(jnp.float32) / scale, -LIMIT, LIMIT)
    return flow * there[:, :, None, None, None]


def spatial(params: Any, clips: jax.Array, formulation: str = "blocked") -> jax.Array:
    """F: f32[B, N, S, S, 2] to f32[B, N, L], L = 64 (S // 16)^2."""
    x = clips.reshape(-1, *clips.shape[2:])
    for number in range(len(CHANNELS)):
        x = pooled_conv(params[f"conv{number + 1}"], x, formulation)
    return x.reshape(*clips.shape[:2], -1)


def temporal(params: Any, features: jax.Array) -> jax.Array:
    """S: f32[B, N, L] to f32[B, N, 128]; two convolutions, padding 1."""
    x = jax.nn.relu(time_conv(params["conv1"], features, padding=1))
    return jax.nn.relu(time_conv(params["conv2"], x, padding=1))


# --- heads (sections III-B to III-D) --------------------------------------------------------------


def classifier(params: Any, s: jax.Array, train: bool, key: jax.Array) -> jax.Array:
    """Logits f32[B, 2] of (micro-expression, other) of S f32[B, 16, 128]; pre-training only."""
    x = jax.nn.relu(dense(params["dense1"], s.reshape(len(s), -1)))
    x = jax.nn.relu(dense(params["dense2"], x))
    return dense(params["logits"], dropped(x, key, DROPOUT) if train else x)


def proposals(params: Any, s: jax.Array) -> jax.Array:
    """CPN: logits f32[B, W, 2] of all windows, from S f32[B, N, 128]."""
    first = {
        "A": jax.nn.relu(time_conv(params["first_a"], s)),
        "B": jax.nn.relu(time_conv(params["first_b"], s, dilation=2)),
    }
    towers = [
        time_conv(params[f"tower{number}"], first[tower.first], tower.dilation)
        for number, tower in enumerate(TOWERS, start=1)
    ]
    return jnp.concatenate(towers, axis=1)


def regressions(
    params: Any, features: jax.Array, train: bool, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """CRN: logits and offsets, f32[B, W, 2] each, of all windows, from F f32[B, N, L]."""
    clips, length = features.shape[:2]
    taps = every_tap(params["conv1"], features)
    mixed = jnp.asarray(_mixing(length)) @ taps.reshape(clips, length * 3, -1)
    x = jax.nn.relu(mixed + params["conv1"]["bias"].reshape(1, 1, -1))
    return window_heads(params, x.reshape(-1, STEPS - 2, WIDTH), clips, train, key)


def window_heads(
    params: Any, x: jax.Array, clips: int, train: bool, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The CRN after its first convolution, x f32[B W, 5, 128]: as `regressions` f32[B, W, 2]."""
    x = jax.nn.relu(time_conv(params["conv2"], x)).reshape(clips, -1, (STEPS - 4) * WIDTH)
    x = jax.nn.relu(dense(params["dense1"], x))
    x = jax.nn.relu(dense(params["dense2"], x))
    x = dropped(x, key, DROPOUT) if train else x
    return dense(params["logits"], x), dense(params["offsets"], x)


def interpolated(features: jax.Array) -> jax.Array:
    """F at the seven times of every window: f32[B, N, L] to f32[B, W, 7, L] (plain form)."""
    return jnp.einsum("wtn,bnl->bwtl", _interpolation(features.shape[1]), features)


@lru_cache
def _interpolation(length: int) -> np.ndarray:
    """f32[W, 7, N]: shares of the flows at each of a window's equally spaced times."""
    spans = windows(length)
    times = np.linspace(spans[:, 0], spans[:, 1], STEPS, axis=1)
    before = np.minimum(times.astype(int), length - 2)
    table = np.zeros((len(spans), STEPS, length), np.float32)
    window, step = np.indices(times.shape)
    table[window, step, before] = 1 - (times - before)
    table[window, step, before + 1] = times - before
    return table


@lru_cache
def _mixing(length: int) -> np.ndarray:
    """f32[W 5, N 3]: shares of every flow with every tap in the first convolution's outputs."""
    table = _interpolation(length)
    outputs = STEPS - 2
    mixing = np.stack([table[:, k : k + outputs] for k in range(3)], axis=-1)
    return mixing.reshape(len(table) * outputs, length * 3)


# --- parameters and whole networks ----------------------------------------------------------------


def _layer(key: jax.Array, *shape: int) -> Any:
    """Glorot uniform weights and zero bias."""
    return {"kernel": GLOROT(key, shape, jnp.float32), "bias": jnp.zeros(shape[-1])}


Shapes = dict[str, tuple[int, ...]]
"""Shapes of the weights by layer."""


def _layers(key: jax.Array, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    return {
        name: _layer(jax.random.fold_in(key, number), *shape)
        for number, (name, shape) in enumerate(shapes.items())
    }


def _backbone(key: jax.Array, shape: Shape) -> Any:
    inputs = (2, *CHANNELS)
    convs = {f"conv{i + 1}": (3, 3, inputs[i], d) for i, d in enumerate(CHANNELS)}
    along = {"conv1": (3, width(shape.size), WIDTH), "conv2": (3, WIDTH, WIDTH)}
    first, second = jax.random.split(key)
    return {"spatial": _layers(first, convs), "temporal": _layers(second, along)}


def width(size: int) -> int:
    """L: features of a flow of `size` px.

    >>> width(112), width(227)
    (3136, 12544)
    """
    return CHANNELS[-1] * (size // 16) ** 2


def init(key: jax.Array, shape: Shape) -> Any:
    """Variables of MESNet: 2,840,622 parameters at 112 px, 10,065,966 at 227 px."""
    cpn: Shapes = {"first_a": (3, WIDTH, WIDTH), "first_b": (3, WIDTH, WIDTH)}
    cpn |= {f"tower{i}": (t.kernel, WIDTH, 2) for i, t in enumerate(TOWERS, start=1)}
    crn: Shapes = {"dense1": ((STEPS - 4) * WIDTH, HIDDEN), "dense2": (HIDDEN, HIDDEN)}
    crn |= {"logits": (HIDDEN, 2), "offsets": (HIDDEN, 2)}
    if not shape.share:
        crn |= {"conv1": (3, width(shape.size), WIDTH), "conv2": (3, WIDTH, WIDTH)}
    keys = jax.random.split(key, 3)
    params = _backbone(keys[0], shape)
    params["cpn"], params["crn"] = _layers(keys[1], cpn), _layers(keys[2], crn)
    return {"params": params, "constants": {"scale": jnp.ones(())}}


def init_pretraining(key: jax.Array, shape: Shape) -> Any:
    """Variables of the backbone with the pre-training head: 1,983,690 parameters at 112 px."""
    first, second = jax.random.split(key)
    params = _backbone(first, shape)
    inputs = PRETRAIN_STEPS * WIDTH
    head = {"dense1": (inputs, HIDDEN), "dense2": (HIDDEN, HIDDEN), "logits": (HIDDEN, 2)}
    params["head"] = _layers(second, head)
    return {"params": params, "constants": {"scale": jnp.ones(())}}


def apply(variables: Any, given: Any, train: bool, key: jax.Array, shape: Shape) -> Outputs:
    """MESNet on `given` clips: `flow` [B, N, S, S, 2] in px, `length` i32[B] of it there."""
    params = variables["params"]
    _check(given, shape)
    flow = standardised(given["flow"], variables["constants"]["scale"], given["length"])
    features = spatial(params["spatial"], flow, shape.formulation)
    proposal = proposals(params["cpn"], temporal(params["temporal"], features))
    crn = params["crn"] | (params["temporal"] if shape.share else {})
    logits, offsets = regressions(crn, features, train, key)
    return Outputs(proposal, logits, offsets, penalty(params))


def apply_pretraining(
    variables: Any, given: Any, train: bool, key: jax.Array, shape: Shape
) -> tuple[jax.Array, jax.Array]:
    """Logits f32[B, 2] of `given` clips of 16 flows, as in `apply`, and the penalty."""
    params = variables["params"]
    _check(given, shape)
    flow = standardised(given["flow"], variables["constants"]["scale"], given["length"])
    features = spatial(params["spatial"], flow, shape.formulation)
    logits = classifier(params["head"], temporal(params["temporal"], features), train, key)
    return logits, penalty(params)


def _check(given: Any, shape: Shape) -> None:
    chex.assert_shape(given["flow"], (None, None, shape.size, shape.size, 2))
    chex.assert_shape(given["length"], given["flow"].shape[:1])


def penalty(params: Any) -> jax.Array:
    """f32[]: sum of the squared weights, each once; not of biases and of the last dense layers."""
    kept = [
        layer["kernel"]
        for part in params.values()
        for name, layer in part.items()
        if name not in ("logits", "offsets")
    ]
    return sum((jnp.sum(jnp.square(kernel)) for kernel in kept), jnp.zeros(()))
