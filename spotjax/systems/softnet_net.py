"""SOFTNet's network: three pooled convolutions, one for each channel, and two dense layers.

`formulation` says how a convolution and its pooling are computed; both give the same outputs and
gradients (to 1e-5):

  plain     `lax.conv` and a maximum, as the layers stand in the paper.
  blocked   one matrix product of the kernel with the 6x6 pixels around every 2x2 outputs.  Of the
            36 outputs of a pooling cell it keeps the largest and its place, and the backward pass
            reads the 5x5 pixels there: the kernel's gradient costs next to nothing.  XLA's CPU
            convolution is slow inside loops, and under vmap over folds it becomes a grouped one;
            matrix products are neither (`benchmarks/fold_training.py`).

Inside `blocked` samples come last: rows of a dozen samples are copied whole where rows of 7 pixels
are not.  What else is meant for a core's cache (`CHUNK`, `largest_and_place`) only CPUs do; on an
accelerator a convolution is one product, for all folds, and nothing is a loop.
"""

from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

FILTERS = {"u": 3, "v": 5, "strain": 8}
"""Channels of an image and the filters of their streams."""
SIZE, KERNEL, POOL = 42, 5, 6
"""Pixels of an image's side, of a filter's and of a pooling cell's."""
CELLS = SIZE // POOL
CHUNK = 16
"""Samples that `blocked` convolves at a time on CPUs: more of them leave a core's cache."""

OUT = 2
"""Outputs on a side of what one column of the matrix product gives."""
WINDOW = OUT + KERNEL - 1
"""Pixels on a side of what it reads."""


class Network(nn.Module):
    """Three pooled streams, joined (7x7x16), dense 400 ReLU, dense 1: 314,817 parameters."""

    formulation: str = "blocked"

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Scores f32[B] of f32[B, 42, 42, 3]."""
        chex.assert_shape(images, (None, SIZE, SIZE, len(FILTERS)))
        streams = [
            PooledConv(features, self.formulation, name=f"conv_{name}")(images[..., channel])
            for channel, (name, features) in enumerate(FILTERS.items())
        ]
        joined = jnp.concatenate(streams, axis=-1).reshape(len(images), -1)
        hidden = nn.relu(
            nn.Dense(400, name="dense1", kernel_init=nn.initializers.glorot_uniform())(joined)
        )
        score = nn.Dense(1, name="dense2", kernel_init=nn.initializers.glorot_uniform())(hidden)
        return score[:, 0]


class PooledConv(nn.Module):
    """5x5 convolution, ReLU, max-pool 3x3 and 2x2 of one channel: f32[B, 42, 42] -> [B, 7, 7, C].

    Pooling by 3 and then by 2 is pooling by 6, and ReLU commutes with it.
    """

    features: int
    formulation: str

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Apply the stream to f32[B, 42, 42]."""
        kernel = self.param(
            "kernel", nn.initializers.glorot_uniform(), (KERNEL, KERNEL, 1, self.features)
        )
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        conv = conv_blocked if self.formulation == "blocked" else conv_plain
        return nn.relu(conv(image, kernel) + bias.reshape(1, 1, 1, -1))


def conv_plain(image: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve f32[B, 42, 42] with f32[5, 5, 1, C] and pool by 6: f32[B, 7, 7, C]."""
    y = lax.conv_general_dilated(
        image[..., None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return y.reshape(len(image), CELLS, POOL, CELLS, POOL, -1).max(axis=(2, 4))


def conv_blocked(image: jax.Array, kernel: jax.Array) -> jax.Array:
    """f32[B, 7, 7, C], the same as `conv_plain`; on CPUs `CHUNK` samples at a time."""
    flat = kernel.reshape(KERNEL * KERNEL, -1)
    if len(image) <= CHUNK:
        return _convolved(image, flat)
    return lax.platform_dependent(image, flat, cpu=_in_chunks, default=_convolved)


def _in_chunks(image: jax.Array, kernel: jax.Array) -> jax.Array:
    """`_convolved`, chunk by chunk; the last one is filled with zeros."""
    padded = jnp.pad(image, [(0, -len(image) % CHUNK), (0, 0), (0, 0)])
    chunks = padded.reshape(-1, CHUNK, SIZE, SIZE)
    pooled = lax.map(lambda chunk: _convolved(chunk, kernel), chunks)
    return pooled.reshape(-1, *pooled.shape[2:])[: len(image)]


def _convolved(image: jax.Array, kernel: jax.Array) -> jax.Array:
    """f32[B, 42, 42] and kernel f32[25, C] to f32[B, 7, 7, C]."""
    pooled = _pooled(image.transpose(1, 2, 0), kernel)
    return pooled.reshape(-1, CELLS, CELLS, len(image)).transpose(3, 1, 2, 0)


# --- samples last: f32[42, 42, B], kernel f32[25, C], to f32[C, 49 B] ----------------------------


@jax.custom_vjp
def _pooled(image: jax.Array, kernel: jax.Array) -> jax.Array:
    """Largest output of each pooling cell."""
    return _outputs(_framed(image), kernel).max(axis=(0, 2))


def _forward(image: jax.Array, kernel: jax.Array) -> tuple[jax.Array, Any]:
    framed = _framed(image)
    largest, place = largest_and_place(_outputs(framed, kernel))
    return largest, (framed, place, kernel)


def _backward(kept: Any, slope: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Only the pixels under each cell's largest output count."""
    framed, place, kernel = kept
    pixels, back = jax.vjp(partial(_pixels_at, place=place), framed)
    of_kernel = (pixels * slope[..., None]).sum(axis=1).T
    (of_framed,) = back(slope[..., None] * kernel.T[:, None])
    margin = KERNEL // 2
    return of_framed[margin:-margin, margin:-margin], of_kernel


_pooled.defvjp(_forward, _backward)


def _framed(image: jax.Array) -> jax.Array:
    """Zeros around the image, f32[46, 46, B]; on CPUs much quicker than `jnp.pad`."""
    margin, count = KERNEL // 2, image.shape[-1]
    side = jnp.zeros((SIZE, margin, count), image.dtype)
    image = jnp.concatenate([side, image, side], axis=1)
    edge = jnp.zeros((margin, *image.shape[1:]), image.dtype)
    return jnp.concatenate([edge, image, edge])


def _outputs(framed: jax.Array, kernel: jax.Array) -> jax.Array:
    """All outputs f32[4, C, 9, 49 B]: in a block of 2x2, filter, block in a cell, cell and sample.

    One product of each filter, shifted to the 4 outputs of a block, with the 36 pixels around it.
    """
    starts, last = range(0, POOL, OUT), POOL * (CELLS - 1) + 1
    rows = jnp.stack(
        [jnp.stack([framed[a + r : a + r + last : POOL] for r in starts]) for a in range(WINDOW)]
    )  # [6, 3, 7, 46, B]
    windows = jnp.stack(
        [
            jnp.stack([rows[..., b + s : b + s + last : POOL, :] for s in starts], axis=2)
            for b in range(WINDOW)
        ],
        axis=1,
    )  # [6, 6, 3, 3, 7, 7, B]
    weights = jnp.einsum("kc,kpo->ocp", kernel, _links())
    product = weights.reshape(-1, WINDOW * WINDOW) @ windows.reshape(WINDOW * WINDOW, -1)
    return product.reshape(OUT * OUT, kernel.shape[1], len(starts) ** 2, -1)


def _links() -> np.ndarray:
    """f32[25, 36, 4]: which weight links a pixel of a window to each of its outputs."""
    table = np.zeros((KERNEL, KERNEL, WINDOW, WINDOW, OUT, OUT), np.float32)
    for a, b, i, j in np.ndindex(KERNEL, KERNEL, OUT, OUT):
        table[a, b, a + i, b + j, i, j] = 1
    return table.reshape(KERNEL * KERNEL, WINDOW * WINDOW, OUT * OUT)


def largest_and_place(outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of f32[4, C, 9, N] the largest of each cell, f32[C, N], and its place i32[C, N].

    A place is 6 row + column within the pooling cell; the first of equal values counts.  On CPUs
    one filter after the other: a loop's results are kept, whereas XLA would compute the search
    again, slowly, inside each of their later uses.
    """

    def one_after_another(outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        return lax.map(
            lambda c: knockout(lax.dynamic_index_in_dim(outputs, c, axis=1, keepdims=False)),
            jnp.arange(outputs.shape[1]),
        )

    return lax.platform_dependent(outputs, cpu=one_after_another, default=knockout)


def knockout(outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`largest_and_place` of f32[4, ..., 9, N] by pairs, then pairs of their winners."""
    blocks = POOL // OUT
    left = [
        (
            outputs[OUT * (row % OUT) + col % OUT, ..., blocks * (row // OUT) + col // OUT, :],
            jnp.int32(POOL * row + col),
        )
        for row, col in np.ndindex(POOL, POOL)
    ]
    while len(left) > 1:
        won = []
        for (a, place_a), (b, place_b) in zip(left[::2], left[1::2], strict=False):
            won.append((jnp.maximum(a, b), jnp.where(b > a, place_b, place_a)))
        left = won + left[2 * len(won) :]
    return left[0]


def _pixels_at(framed: jax.Array, place: jax.Array) -> jax.Array:
    """The 5x5 pixels f32[C, 49 B, 25] under the output `place` i32[C, 49 B] of each cell."""
    cells = (CELLS, CELLS, framed.shape[-1])
    row, column, sample = np.indices(cells, np.int32).reshape(3, 1, -1)
    start = jnp.stack(
        [
            jnp.broadcast_to(sample, place.shape),
            POOL * row + place // POOL,
            POOL * column + place % POOL,
        ],
        axis=-1,
    )
    found = lax.gather(
        framed.transpose(2, 0, 1),
        start.reshape(-1, 3),
        lax.GatherDimensionNumbers(
            offset_dims=(1, 2), collapsed_slice_dims=(0,), start_index_map=(0, 1, 2)
        ),
        (1, KERNEL, KERNEL),
        mode="promise_in_bounds",
    )
    return found.reshape(*place.shape, KERNEL * KERNEL)
