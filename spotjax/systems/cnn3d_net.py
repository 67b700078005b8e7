"""The network of the two-stream 3D-CNN of Yap et al. (pure JAX): two pairs of images, two scores.

A sample is a frame with two reference frames, one at the distance of micro-, one at that of
macro-expressions (section 3.1).  Each pair is a clip of T = 2 images and passes the same layers:

  local contrast normalisation (`cnn3d_images`), not trained;
  three blocks: a depthwise 3x3x3 convolution of stride (1, 2, 2), zeros outside, a pointwise one,
  batch normalisation, ReLU, dropout;
  the mean over time and pixels, then two dense layers with a shortcut around them.

A last layer turns the features of both pairs into the logits of (micro, macro).

The paper gives none of the numbers; ours are 16, 32 and 64 channels (12,701 parameters) and
dropout .2.  Batch norm keeps 99 % of its running statistics at a step; unlike Keras' its running
variance is the unbiased one, and 1e-5 (not 1e-3) is added below the root.  "About 10 % less
parameters" can only mean about 10 % *of* those of regular convolutions.  With one grey channel the
first depthwise layer is a single filter; `first_conv="regular"` has one for each of 16 channels.
Drawn at random it shows the face, of which a motion changes little, and faces are learnt by heart;
here it begins as the difference of the two images (`first_init`).

`formulation` chooses between two forms, equal to 1e-5 in outputs and gradients:
  conv    `lax.conv` and batch norm over the whole batch, as in the paper;
  shift   a depthwise convolution is a sum of shifted slices: XLA's grouped convolutions are slow
          on CPUs, and under vmap over folds they get as many groups more.  Of T = 2 images each
          meets two of the three taps in time.  Samples pass in chunks that stay in a core's cache;
          the moments of a block are joined from those of the chunks, and the backward pass
          computes a chunk again.  After its first convolution the first block is an affine
          function of one channel: batch norm needs the moments of that channel alone, and the 16
          are never kept (`benchmarks/cnn3d_step.py`).
"""

from functools import partial
from typing import Any, Literal, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from spotjax.errors import UserError
from spotjax.systems import cnn3d_images
from spotjax.systems.layers import BatchNorm, Moments, at_a_time, dropped, joined, moments, product

TIMES, TAPS, STRIDE = 2, 3, 2
"""Images of a clip; taps of a kernel along each axis; step in both directions of an image."""
OUTPUTS = 2
"""Micro, macro."""
GLOROT = nn.initializers.glorot_uniform()


class Shape(NamedTuple):
    """Everything that is fixed when the network is built."""

    size: int = 112
    """Side of an image in px, a multiple of 8."""
    channels: tuple[int, ...] = (16, 32, 64)
    """Of the blocks."""
    lcn: bool = True
    """Local contrast normalisation (without it: an ablation)."""
    streams: int = 2
    """Pairs of a sample: 2, or 1 (an ablation)."""
    first_conv: Literal["separable", "regular"] = "separable"
    first_init: Literal["difference", "random"] = "difference"
    dropout: float = 0.2
    momentum: float = 0.99
    """Share of the running statistics that batch norm keeps at a step (Keras' sense)."""
    formulation: Literal["shift", "conv"] = "shift"
    chunk: int = 0
    """Samples that `shift` computes at a time; 0: 2 on a CPU, all on an accelerator."""


# --- convolutions ---------------------------------------------------------------------------------


def conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Depthwise 3x3x3, stride (1, 2, 2), zeros outside: `[N, 2, H, W, C]` to `[N, 2, H/2, W/2, D]`.

    `kernel` f32[3, 3, 3, C, D / C]; H and W are even, so that zeros are only met at their far end.
    """
    kernel = kernel.reshape(*kernel.shape[:3], 1, -1)
    return lax.conv_general_dilated(
        x, kernel, (1, STRIDE, STRIDE), "SAME",
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"), feature_group_count=x.shape[-1],
    )  # fmt: skip


@jax.custom_vjp
def shifted(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same by slices: `[N, 2, H, W, C]` to `[N, 2, H/2, W/2, C]`, `kernel` f32[3, 3, 3, C]."""
    return _tap_sum(_padded(x), *_frame_taps(kernel), STRIDE)


def _padded(x: jax.Array) -> jax.Array:
    """A line of zeros after the last row and column."""
    return jnp.pad(x, ((0, 0), (0, 0), (0, 1), (0, 1), (0, 0)))


def _slices(x: jax.Array, step: int) -> list[jax.Array]:
    """The pixels that each of the 3x3 taps meets."""
    rows, columns = ((n - TAPS) // step * step + 1 for n in x.shape[2:4])
    return [
        x[:, :, a : a + rows : step, b : b + columns : step]
        for a in range(TAPS) for b in range(TAPS)
    ]  # fmt: skip


def _frame_taps(kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What an output takes of its own image, f32[3, 3, 1, C], and of the other, f32[3, 3, 2, C].

    The first output sees the second image through the last tap in time, the second the first
    image through the first.
    """
    return kernel[1][:, :, None], jnp.stack([kernel[2], kernel[0]], 2)


def _tap_sum(x: jax.Array, own: jax.Array, other: jax.Array, step: int) -> jax.Array:
    """Sum of the slices of `x` times their taps, of `x` with both images exchanged `other`."""
    own, other = (taps.reshape(TAPS**2, 1, -1, 1, 1, taps.shape[-1]) for taps in (own, other))
    terms = [
        part * own[tap] + part[:, ::-1] * other[tap]
        for tap, part in enumerate(_slices(x, step))
    ]  # fmt: skip
    return sum(terms[1:], terms[0])


def _shifted_forward(x: jax.Array, kernel: jax.Array) -> Any:
    return shifted(x, kernel), (x, kernel)


def _shifted_backward(kept: Any, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """To the images: the taps in reverse over `dy` with zeros between.  To the kernel: 27 sums."""
    x, kernel = kept
    spread = lax.pad(dy, jnp.zeros((), dy.dtype), [(0, 0, 0)] * 2 + [(2, 1, 1)] * 2 + [(0, 0, 0)])
    own, other = _frame_taps(kernel)
    dx = _tap_sum(spread, own[::-1, ::-1], other[::-1, ::-1, ::-1], 1)
    width = dy.shape[3]
    sums = []
    for part in _slices(_padded(x), STRIDE):
        # taps in time: of the image before, of the same, of the image after
        for u, v in ((part[:, :1], dy[:, 1:]), (part, dy), (part[:, 1:], dy[:, :1])):
            sums.append((u * v).reshape(-1, width * x.shape[-1]).sum(0))  # long lines: fast
    dk = jnp.stack(sums).reshape(TAPS, TAPS, TAPS, width, -1).sum(3)
    return dx, dk.transpose(2, 0, 1, 3)


shifted.defvjp(_shifted_forward, _shifted_backward)


def filters(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Several filters of one channel: `[N, 2, H, W, 1]` to `[N, 2, H/2, W/2, D]`.

    `kernel` f32[3, 3, 3, 1, D].  One product gives every image's part of each output.
    """
    patches = jnp.concatenate(_slices(_padded(x), STRIDE), -1)
    joint = kernel.reshape(TAPS, TAPS * TAPS, -1).swapaxes(0, 1).reshape(TAPS * TAPS, -1)
    y = product(patches, joint)
    before, own, after = jnp.split(y, TAPS, -1)  # parts in the outputs after, at and before
    return own + jnp.stack([after[:, 1], before[:, 0]], 1)


# --- the network (section 3.3) --------------------------------------------------------------------


def init(key: jax.Array, shape: Shape) -> Any:
    """Variables `{"params", "batch_stats"}`: 12,701 parameters, 13,090 with a regular first layer.

    Glorot's uniform weights, a depthwise filter's by its own 27 inputs and outputs; the first begin
    as w, -w over both images if `first_init="difference"`.  Raises UserError for a wrong `shape`.
    """
    _check_shape(shape)
    keys = iter(jax.random.split(key, 2 * len(shape.channels) + 3))
    params: Any = {}
    stats: Any = {}
    before, last = 1, shape.channels[-1]
    for number, width in enumerate(shape.channels, start=1):
        block: Any = {"norm": {"scale": jnp.ones(width), "bias": jnp.zeros(width)}}
        if number == 1 and shape.first_conv == "regular":
            block["conv"] = {"kernel": GLOROT(next(keys), (*[TAPS] * 3, before, width))}
        else:
            bound = (3 / TAPS**3) ** 0.5
            filters = jax.random.uniform(next(keys), (*[TAPS] * 3, before), float, -bound, bound)
            block["depthwise"] = {"kernel": filters}
            block["pointwise"] = {"kernel": GLOROT(next(keys), (before, width))}
        if number == 1 and shape.first_init == "difference":
            first = block["conv" if "conv" in block else "depthwise"]
            own = first["kernel"][1]
            first["kernel"] = jnp.stack([-own, own, -own])
        params[f"block{number}"] = block
        stats[f"block{number}"] = {"norm": {"mean": jnp.zeros(width), "variance": jnp.ones(width)}}
        before = width
    sizes = {
        "dense1": (last, last),
        "dense2": (last, last),
        "logits": (shape.streams * last, OUTPUTS),
    }
    for name, size in sizes.items():
        params[name] = {"kernel": GLOROT(next(keys), size), "bias": jnp.zeros(size[1])}
    return {"params": params, "batch_stats": stats}


def apply(
    variables: Any, images: jax.Array, weight: jax.Array, train: bool, key: jax.Array, shape: Shape
) -> tuple[jax.Array, Any]:
    """Logits f32[B, 2] of (micro, macro), and `variables` with new running statistics.

    `images` f32[B, 2 streams, S, S] in [0, 1]: the pair of each stream, micro first.  Or
    f32[B, 1 + streams, S, S]: the first image is that of every pair, and is normalised once.
    `weight` f32[B] 0 is padding; `key` draws what each sample drops.  Raises UserError, ValueError.
    """
    _check_shape(shape)
    chex.assert_shape(images, (None, None, shape.size, shape.size))
    if images.shape[1] not in (TIMES * shape.streams, 1 + shape.streams):
        raise ValueError(f"{images.shape[1]} images for {shape.streams} streams")
    chex.assert_shape(weight, (len(images),))
    found, stats = features(variables, images, weight, train, key, shape)
    logits = _dense(variables["params"]["logits"], found.reshape(len(images), -1))
    return logits, {**variables, "batch_stats": stats}


def features(
    variables: Any, images: jax.Array, weight: jax.Array, train: bool, key: jax.Array, shape: Shape
) -> tuple[jax.Array, Any]:
    """Features f32[B, streams, 64] of every pair, and the new `batch_stats`; see `apply`."""
    count = len(images)
    chunk = at_a_time(shape.chunk, 2, count) if shape.formulation == "shift" else count
    filled = -count % chunk
    images = jnp.pad(images, [(0, filled), *[(0, 0)] * 3])
    weight = jnp.pad(weight, (0, filled))
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(images)))
    parts = jax.tree.map(lambda x: x.reshape(-1, chunk, *x.shape[1:]), (images, weight, keys))
    found, stats = _Blocks(variables, train, shape)(*parts)
    params = variables["params"]
    found = found.reshape(-1, *found.shape[2:])[:count]
    hidden = jax.nn.relu(_dense(params["dense1"], found))
    return jax.nn.relu(found + _dense(params["dense2"], hidden)), stats


class _Blocks:
    """The blocks, one after the other over all chunks: each needs the moments of the one before.

    P chunks of n samples.  A block's convolutions begin with the batch norm, ReLU and dropout of
    the block before.
    """

    def __init__(self, variables: Any, train: bool, shape: Shape):
        self.variables, self.train, self.shape = variables, train, shape

    def __call__(
        self, images: jax.Array, weight: jax.Array, keys: jax.Array
    ) -> tuple[jax.Array, Any]:
        """Means f32[P, n, streams, D] of `images` f32[P, n, m, S, S], and the new statistics."""
        stats = {}
        affine = None
        last = len(self.shape.channels)
        x = lax.map(self.pairs, images)
        for number in range(1, last + 1):
            block = jax.checkpoint(partial(self.block, number, affine), prevent_cse=False)
            x, found = lax.map(lambda chunk, block=block: block(*chunk), (x, weight, keys))
            affine, stats[f"block{number}"] = self.norm(number, joined(found))
        means = jax.checkpoint(partial(self.means, last, affine), prevent_cse=False)
        return lax.map(lambda chunk: means(*chunk), (x, keys)), stats

    def pairs(self, images: jax.Array) -> jax.Array:
        """f32[n, streams, 2, S, S, 1] of normalised images."""
        if self.shape.lcn:
            images = cnn3d_images.local_contrast(images)
        n, _, size, _ = images.shape
        if images.shape[1] < TIMES * self.shape.streams:
            first = jnp.broadcast_to(images[:, :1], images[:, 1:].shape)
            images = jnp.stack([first, images[:, 1:]], 2)
        return images.reshape(n, self.shape.streams, TIMES, size, size, 1)

    def block(self, number: int, affine: Any, x: jax.Array, weight: jax.Array, keys: Any) -> Any:
        """The convolutions of block `number` on what came out of those of the one before."""
        params = self.variables["params"][f"block{number}"]
        if affine is not None:
            x = self.activated(number - 1, affine, x, keys)
        y = self.convolved(number, x.reshape(-1, *x.shape[2:]))
        y = y.reshape(*x.shape[:2], *y.shape[1:])
        return y, self.spread(params, y, weight) if self.thin(number) else moments(y, weight)

    def spread(self, params: Any, y: jax.Array, weight: jax.Array) -> Moments:
        """Moments f32[D] behind the pointwise kernel f32[1, D] of one channel `[n, ..., W, 1]`.

        First column by column, as XLA is slow to sum over all of a single channel.
        """
        columns = moments(y[..., 0], weight)
        sizes = jnp.broadcast_to(columns.size, columns.mean.shape)
        found = joined(Moments(columns.mean[:, None], columns.variance[:, None], sizes))
        pointwise = params["pointwise"]["kernel"][0]
        return Moments(found.mean * pointwise, found.variance * pointwise**2, found.size)

    def thin(self, number: int) -> bool:
        """Whether only the one channel before the pointwise convolution is kept."""
        shape = self.shape
        return number == 1 and shape.first_conv == "separable" and shape.formulation == "shift"

    def convolved(self, number: int, x: jax.Array) -> jax.Array:
        """`[N, 2, H, W, C]` to `[N, 2, H/2, W/2, D]`; D = 1 in a thin block."""
        params = self.variables["params"][f"block{number}"]
        plain = self.shape.formulation == "conv"
        if "conv" in params:
            kernel = params["conv"]["kernel"]
            return conv(x, kernel) if plain else filters(x, kernel)
        kernel = params["depthwise"]["kernel"]
        if plain:
            return product(conv(x, kernel[..., None]), params["pointwise"]["kernel"])
        y = shifted(x, kernel)
        return y if self.thin(number) else product(y, params["pointwise"]["kernel"])

    def norm(self, number: int, found: Moments) -> Any:
        """(factor, offset) f32[D] of batch norm and activation, and its new statistics."""
        name = f"block{number}"
        params, stats = (self.variables[kind][name]["norm"] for kind in ("params", "batch_stats"))
        layer = BatchNorm(self.train, 1 - self.shape.momentum)
        (mean, factor, bias), new = layer.apply(
            {"params": params, "batch_stats": stats},
            len(params["scale"]), found, method="affine", mutable=["batch_stats"],
        )  # fmt: skip
        offset = bias - mean * factor
        if self.thin(number):
            factor = factor * self.variables["params"][name]["pointwise"]["kernel"][0]
        return (factor, offset), {"norm": new["batch_stats"]}

    def activated(self, number: int, affine: Any, x: jax.Array, keys: jax.Array) -> jax.Array:
        """Batch norm, ReLU and dropout of `[n, streams, 2, H, W, C]`."""
        factor, offset = (value.reshape(*[1] * (x.ndim - 1), -1) for value in affine)
        x = jax.nn.relu(x * factor + offset)
        if not self.train or self.shape.dropout == 0:
            return x
        mine = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
        return jax.vmap(dropped, (0, 0, None))(x, mine, self.shape.dropout)

    def means(self, number: int, affine: Any, x: jax.Array, keys: jax.Array) -> jax.Array:
        """f32[n, streams, D]: the mean over time and pixels after the last block."""
        return self.activated(number, affine, x, keys).mean((2, 3, 4))


def _dense(layer: Any, x: jax.Array) -> jax.Array:
    """`[..., C]` to `[..., D]`."""
    return product(x, layer["kernel"]) + layer["bias"].reshape(*[1] * (x.ndim - 1), -1)


def _check_shape(shape: Shape) -> None:
    """Raise UserError for what no network can be built of."""
    if shape.size % STRIDE ** len(shape.channels) or shape.size <= cnn3d_images.RADIUS:
        raise UserError(f"--config.system.size={shape.size}: a multiple of 8, 16 px or more")
    if shape.streams not in (1, 2):
        raise UserError(f"--config.system.streams={shape.streams}: 1 or 2")
