"""SFAMNet's network: a stream for each component of the flow, two heads (pure JAX, flax.linen).

An image is f32[42, 42, 3]: flow u, v, w from one frame to another.  Each component has a stream
of its own: two 5x5 convolutions, attention over channels and over pixels (CBAM), a shortcut,
max-pool by 3.  Their nine maps of 14 x 14 go to two heads, spotting and recognition.

Hidden values are `[n, n, C, H, W, B]`: an image cut into H x W blocks of n x n pixels, which come
first (row, column), then C channels; samples come last.  `formulation` chooses n:

  plain     n = 1: `lax.conv` and `lax.reduce_window` over the whole batch, as in the paper.
  blocked   n is the stride of the next max-pool, which so becomes a maximum over the first axes,
            and a convolution a matrix product of one kernel with the pixels around each block.
            XLA's CPU convolution is slow with few channels, and under vmap over folds it becomes
            a grouped one; a matrix product is neither (`benchmarks/sfamnet_step.py`).  Samples
            pass in chunks that stay in a core's cache, one stream after the other, and the
            backward pass computes a stream again instead of keeping its values.

Both give the same outputs and gradients (to 1e-5).  Deviations from the paper, all as released:
  * two convolutions and a 1x1 shortcut in each stream; the paper's text has one and none;
  * the pixel attention sees the maximum over the channels before the mean; no bias in a stream;
  * 7,207 parameters for four emotions and neutral, 8,386 for seven.  The release's batch norms
    are never called and left out; the paper's 7,237 counts the channel attention's MLP twice.
Fewer streams, one for all channels (`joint`, table 8) and no attention (`cbam`) are ablations.
"""

from typing import Any, Literal, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from spotjax.errors import UserError
from spotjax.systems.layers import Dense, at_a_time, uniform

COMPONENTS = ("u", "v", "w")
SIZE, POOL, STRIDE = 42, 3, 2
"""Pixels of an image's side, of a pooling window's, and the step of the heads' windows."""
FILTERS, HEAD_FILTERS = 3, 8

Variables = Any
"""`{"params": {"trunk": {"u": ...}, "spotting": ..., "recognition": ...}}` of f32 arrays."""


class Shape(NamedTuple):
    """Everything that is fixed when the network is built; the defaults are the paper's."""

    streams: tuple[str, ...] = COMPONENTS
    """Components of the flow, the channels of an image; any of the three in their order."""
    joint: bool = False
    """One stream for all channels instead of one each."""
    classes: int = 4
    """Emotions: 4 or 7; neutral comes on top, as the last logit."""
    cbam: bool = True
    """Attention over channels and pixels."""
    formulation: Literal["blocked", "plain"] = "blocked"
    chunk: int = 0
    """Samples that `blocked` computes at a time; 0: 16 on a CPU, all on an accelerator."""

    @property
    def trunk(self) -> tuple[str, ...]:
        """Names of the streams in the parameters."""
        return ("joint",) if self.joint else self.streams


class Outputs(NamedTuple):
    """What the network says about each image."""

    score: jax.Array
    """f32[B] in (0, 1): how expressive."""
    logits: jax.Array
    """f32[B, classes + 1]: emotions, neutral last."""


# --- images in blocks -----------------------------------------------------------------------------


def in_blocks(x: jax.Array, n: int) -> jax.Array:
    """`[..., C, nH, nW, B]` to `[..., n, n, C, H, W, B]`."""
    *others, c, h, w, b = x.shape
    return jnp.moveaxis(x.reshape(*others, c, h // n, n, w // n, n, b), (-4, -2), (-6, -5))


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`[n, n, C, H, W, B]` to `[n, n, D, H, W, B]`, `kernel` f32[k, k, C, D], zeros outside."""
    if kernel.shape[:3] == (1, 1, 1):
        return x * kernel.reshape(1, 1, -1, 1, 1, 1)
    if len(x) > 1:
        return _convolve_blocks(x, kernel)
    layout = ("CHWN", "HWIO", "CHWN")
    y = lax.conv_general_dilated(x[0, 0], kernel, (1, 1), "SAME", dimension_numbers=layout)
    return y[None, None]


def _patches(x: jax.Array, k: int) -> jax.Array:
    """The m x m pixels around each block, m = n + k - 1: `[m m C, H W B]`; k < 2n + 2."""
    n, _, c, h, w, b = x.shape
    window = [(row % n, row // n + 1) for row in range(-(k // 2), n + k // 2)]  # (pixel, block)
    x = jnp.pad(x, [(0, 0)] * 3 + [(1, 1)] * 2 + [(0, 0)])
    x = jnp.stack([x[:, pixel, :, :, block : block + w] for pixel, block in window])
    x = jnp.stack([x[:, pixel, :, block : block + h] for pixel, block in window])
    return x.reshape(len(window) ** 2 * c, h * w * b)


def _links(n: int, k: int) -> np.ndarray:
    """f32[k k, m m n n]: which weight links a pixel around a block to each pixel of the block."""
    m = n + k - 1
    table = np.zeros((k, k, m, m, n, n), np.float32)
    for a, b, i, j in np.ndindex(k, k, n, n):
        table[a, b, a + i, b + j, i, j] = 1
    return table.reshape(k * k, -1)


def _product(kernel: jax.Array, patches: jax.Array, x: jax.Array) -> jax.Array:
    """The convolution of `x` as a product with its patches."""
    n, (k, _, c, d) = len(x), kernel.shape
    weights = (kernel.reshape(k * k, -1).T @ _links(n, k)).reshape(c, d, n + k - 1, -1, n, n)
    weights = weights.transpose(4, 5, 1, 2, 3, 0)
    return (weights.reshape(n * n * d, -1) @ patches).reshape(n, n, d, *x.shape[3:])


def _kernel_gradient(x: jax.Array, patches: jax.Array, k: int) -> jax.Array:
    """Of a convolution of `[n, n, D, ...]` from patches of C channels: f32[k, k, C, D]."""
    n, d, m = len(x), x.shape[2], len(x) + k - 1
    product = x.reshape(n * n * d, -1) @ patches.T
    product = product.reshape(n, n, d, m, m, -1).transpose(5, 2, 3, 4, 0, 1)
    product = product.reshape(-1, m * m * n * n) @ _links(n, k).T
    return product.T.reshape(k, k, -1, d)


@jax.custom_vjp
def _convolve_blocks(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution as one matrix product."""
    return _product(kernel, _patches(x, len(kernel)), x)


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, Any]:
    return _convolve_blocks(x, kernel), (x, kernel)


def _backward(kept: Any, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Patches of `dy` serve both gradients; where `x` has fewer channels its own are smaller."""
    x, kernel = kept
    k, _, c, d = kernel.shape
    patches = _patches(dy, k)
    dx = _product(kernel[::-1, ::-1].swapaxes(2, 3), patches, dy)
    if c < d:
        return dx, _kernel_gradient(dy, _patches(x, k), k)
    return dx, _kernel_gradient(x, patches, k)[::-1, ::-1].swapaxes(2, 3)


_convolve_blocks.defvjp(_forward, _backward)


# --- maxima ---------------------------------------------------------------------------------------


@jax.custom_jvp
def largest(x: jax.Array) -> jax.Array:
    """`[n, ...]` to `[...]`: maximum; the first of equals gets the gradient, as in PyTorch.

    The gradient of `jnp.max` compares values with their maximum and is lost where XLA computes
    one of the two again with other rounding.
    """
    return x.max(0)


@largest.defjvp
def _largest_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    index = jnp.arange(len(x)).reshape(-1, *[1] * (x.ndim - 1))
    return x.max(0), jnp.where(index == x.argmax(0, keepdims=True), dx, 0).sum(0)


def largest_pixel(x: jax.Array) -> jax.Array:
    """`[n, n, C, H, W, B]` to `[C, B]`; in two steps, as arg-max over a few values is fast."""
    n, _, c, _, _, b = x.shape
    x = largest(x.reshape(n * n, *x.shape[2:]))
    return largest(x.reshape(c, -1, b).swapaxes(0, 1))


def pool(x: jax.Array) -> jax.Array:
    """Max-pool by 3: `[n, n, C, H, W, B]`, n = 1 or 3, to `[C, nH/3, nW/3, B]`."""
    if len(x) > 1:
        return largest(x.reshape(POOL * POOL, *x.shape[2:]))
    window = (1, POOL, POOL, 1)
    return lax.reduce_window(x[0, 0], -jnp.inf, lax.max, window, window, "VALID")


def pool_overlapping(x: jax.Array) -> jax.Array:
    """Max-pool by 3, stride 2, padding 1: `[n, n, C, H, W, B]`, n = 1 or 2, to `[C, 7, 7, B]`."""
    if len(x) > 1:
        return _largest_with_one_before(_largest_with_one_before(x.swapaxes(0, 1), 3), 1)
    window, strides = (1, POOL, POOL, 1), (1, STRIDE, STRIDE, 1)
    padding = [(0, 0), (1, 1), (1, 1), (0, 0)]
    return lax.reduce_window(x[0, 0], -jnp.inf, lax.max, window, strides, padding)


def _largest_with_one_before(x: jax.Array, axis: int) -> jax.Array:
    """`largest` of a block's rows and the last row of the block before it along `axis` of one."""
    shift = [(1, -1, 0) if i == axis else (0, 0, 0) for i in range(x.ndim - 1)]
    before = lax.pad(x[-1], jnp.asarray(-jnp.inf, x.dtype), shift)
    return largest(jnp.concatenate([before[None], x]))


# --- layers ---------------------------------------------------------------------------------------


class Conv(nn.Module):
    """Convolution that keeps the image's size."""

    features: int
    size: int
    bias: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[n, n, C, H, W, B]` to `[n, n, features, H, W, B]`."""
        channels = x.shape[2]
        init = uniform(self.size * self.size * channels)
        kernel = self.param("kernel", init, (self.size, self.size, channels, self.features))
        y = convolve(x, kernel)
        if self.bias:
            bias = self.param("bias", init, (self.features,))
            y += bias.reshape(1, 1, -1, 1, 1, 1)
        return y


class ChannelGate(nn.Module):
    """Attention over channels: an MLP of one hidden value judges their mean and maximum."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Weigh `[n, n, C, H, W, B]`."""
        pooled = jnp.stack([x.mean((0, 1, 3, 4)), largest_pixel(x)])
        hidden = nn.relu(Dense(1, name="first")(pooled.swapaxes(1, 2)))
        gate = nn.sigmoid(Dense(x.shape[2], name="second")(hidden).sum(0))
        return x * gate.T[None, None, :, None, None]


class SpatialGate(nn.Module):
    """Attention over pixels: a 7x7 convolution of their channels' maximum and mean."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Weigh `[n, n, C, H, W, B]`."""
        pooled = jnp.stack([largest(jnp.moveaxis(x, 2, 0)), x.mean(2)], axis=2)
        return x * nn.sigmoid(Conv(1, 7, name="conv")(pooled))


class Stream(nn.Module):
    """From one component of the flow, or from all, to three maps."""

    cbam: bool

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[n, n, C, H, W, B]` to `[3, 14, 14, B]`; ReLU commutes with the pooling."""
        return nn.relu(pool(self.before_pool(x)))

    @nn.compact
    def before_pool(self, x: jax.Array) -> jax.Array:
        """What is rectified and pooled: `[n, n, 3, H, W, B]`."""
        y = nn.relu(Conv(FILTERS, 5, name="conv1")(x))
        y = Conv(FILTERS, 5, name="conv2")(y)
        if self.cbam:
            y = SpatialGate(name="spatial_gate")(ChannelGate(name="channel_gate")(y))
        return y + Conv(FILTERS, 1, name="shortcut")(x)


class Head(nn.Module):
    """Spotting or recognition: convolution without activation, max-pool, linear layer."""

    outputs: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[n, n, 3S, H, W, B]` to `[B, outputs]`."""
        y = pool_overlapping(Conv(HEAD_FILTERS, 5, bias=True, name="conv")(x))
        return Dense(self.outputs, name="linear")(y.reshape(-1, y.shape[-1]).T)


# --- the network ----------------------------------------------------------------------------------


def init(key: jax.Array, shape: Shape) -> Variables:
    """New variables: PyTorch's defaults, uniform in +-1/sqrt(fan_in); UserError as `apply`."""
    _check(shape)
    keys = iter(jax.random.split(key, len(shape.trunk) + 2))
    images = _by_stream(jnp.zeros((1, SIZE, SIZE, len(shape.streams))), 1, shape)
    maps = jnp.zeros((1, 1, FILTERS * len(images), SIZE // POOL, SIZE // POOL, 1))
    stream = Stream(shape.cbam)
    trunk = {name: stream.init(next(keys), images[0])["params"] for name in shape.trunk}
    heads = {name: head.init(next(keys), maps)["params"] for name, head in _heads(shape).items()}
    return {"params": {"trunk": trunk, **heads}}


def apply(variables: Variables, images: jax.Array, shape: Shape) -> Outputs:
    """Outputs of `images` f32[B, 42, 42, S], one channel for each of the S streams.

    Raises UserError for streams that are not some of u, v, w in this order.
    """
    _check(shape)
    chex.assert_shape(images, (None, SIZE, SIZE, len(shape.streams)))
    params, plain = variables["params"], shape.formulation == "plain"

    def outputs(images: jax.Array) -> Outputs:
        maps = in_blocks(_trunk(params["trunk"], images, shape), 1 if plain else STRIDE)
        score, logits = (
            head.apply({"params": params[name]}, maps) for name, head in _heads(shape).items()
        )
        return Outputs(nn.sigmoid(score[:, 0]), logits)

    if plain:
        return outputs(_by_stream(images, 1, shape))
    count, size = len(images), at_a_time(shape.chunk, 16, len(images))
    padded = jnp.pad(images, [(0, -count % size), *[(0, 0)] * 3])
    images = padded.reshape(-1, size, *images.shape[1:])
    chunks = lax.map(outputs, lax.map(lambda chunk: _by_stream(chunk, POOL, shape), images))
    return jax.tree.map(lambda y: y.reshape(-1, *y.shape[2:])[:count], chunks)


def _by_stream(images: jax.Array, n: int, shape: Shape) -> jax.Array:
    """f32[B, 42, 42, S] to `[S, n, n, 1, 42/n, 42/n, B]`; `joint`: `[1, n, n, S, ...]`."""
    images = images.transpose(3, 1, 2, 0)
    return in_blocks(images[None] if shape.joint else images[:, None], n)


def _trunk(params: Any, images: jax.Array, shape: Shape) -> jax.Array:
    """The streams' maps `[3S, 14, 14, B]`."""
    stream: Any = Stream(shape.cbam).apply
    each = [{"params": params[name]} for name in shape.trunk]
    if shape.formulation == "plain":
        return jnp.concatenate([stream(*one) for one in zip(each, images, strict=True)])
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    again = jax.checkpoint(stream, prevent_cse=False)
    maps = lax.map(lambda one: again(*one), (stacked, images))
    return maps.reshape(-1, *maps.shape[2:])


def _heads(shape: Shape) -> dict[str, Any]:
    """The two heads, in the order of `Outputs`."""
    return {"spotting": Head(1), "recognition": Head(shape.classes + 1)}


def _check(shape: Shape) -> None:
    """Raise UserError unless the streams are some of u, v, w in this order."""
    if not shape.streams or shape.streams != tuple(c for c in COMPONENTS if c in shape.streams):
        raise UserError(f"--config.system.streams={shape.streams}: some of u, v, w, in this order")
