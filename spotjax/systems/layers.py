"""Layers that several networks share, initialised and counted as PyTorch does (flax.linen).

All take values of any floating type and return the same type; their parameters and statistics are
float32.  Linear layers and convolutions call their weights `kernel`, nothing else does: that is
what weight decay applies to.
"""

import math
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

MOMENTUM, EPSILON = 0.1, 1e-5


def uniform(fan_in: int) -> nn.initializers.Initializer:
    """PyTorch's default for linear layers and convolutions: uniform in +-1/sqrt(fan_in)."""

    def draw(key: jax.Array, shape: Any, dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -(fan_in**-0.5), fan_in**-0.5)

    return draw


class Dense(nn.Module):
    """Linear layer of the last axis."""

    features: int
    bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[..., C]` to `[..., features]`."""
        init = uniform(x.shape[-1])
        kernel = self.param("kernel", init, (x.shape[-1], self.features))
        y = product(x, kernel.astype(x.dtype))
        if self.bias:
            bias = self.param("bias", init, (self.features,))
            y += _on_last_axis(bias, y).astype(x.dtype)
        return y


def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`x` `[..., C]` times `kernel` `[C, D]`: `[..., D]`.

    Leading axes are joined for the product.  Apart, they make XLA on a CPU write a transposed copy
    of every gradient that enters a kernel's: a seventh of SpotFormer's training step.
    """
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])


def at_a_time(chunk: int, on_cpu: int, samples: int) -> int:
    """How many of a batch's `samples` a network computes at a time: `chunk`, if it is not 0.

    For 0 `on_cpu` of them on a CPU, where they stay in a core's cache, and all on an accelerator,
    which a few do not fill.
    """
    if not chunk:
        chunk = on_cpu if jax.default_backend() == "cpu" else samples
    return min(chunk, samples)


class Moments(NamedTuple):
    """Of the values of each channel in the samples of weight 1."""

    mean: jax.Array
    """f32[..., D]"""
    variance: jax.Array
    """f32[..., D]: the biased one."""
    size: jax.Array
    """f32[...]: how many values a channel has."""


def moments(x: jax.Array, weight: jax.Array) -> Moments:
    """Moments f32[D] of `x` `[N, ..., D]` with `weight` f32[N] of 0 or 1."""
    count = math.prod(x.shape[1:-1]) * jnp.sum(weight)
    x = x.astype(jnp.float32)
    weight = weight.reshape(-1, *[1] * (x.ndim - 1))
    others = tuple(range(x.ndim - 1))
    divisor = jnp.maximum(count, 1)
    mean = jnp.sum(weight * x, others) / divisor
    centred = x - _on_last_axis(mean, x)
    return Moments(mean, jnp.sum(weight * centred * centred, others) / divisor, count)


def joined(parts: Moments) -> Moments:
    """Moments f32[D] of all samples from those of P parts: leaves f32[P, D], sizes f32[P]."""
    total = jnp.sum(parts.size)
    share = (parts.size / jnp.maximum(total, 1)).reshape(-1, 1)
    mean = jnp.sum(share * parts.mean, 0)
    off = parts.mean - mean.reshape(1, -1)
    return Moments(mean, jnp.sum(share * (parts.variance + off * off), 0), total)


class BatchNorm(nn.Module):
    """Batch normalisation of the last axis over everything else in the samples of weight 1.

    Samples of weight 0 (padding) reach neither the statistics nor, through them, a gradient.  The
    running variance is the unbiased one (PyTorch's; flax and Keras keep the biased one), and
    `momentum` is what a batch counts in the running statistics (PyTorch's sense; Keras and flax
    say 1 - momentum).  A batch of padding only is normalised by the running statistics and leaves
    them as they are.
    """

    train: bool
    momentum: float = MOMENTUM

    def __call__(self, x: jax.Array, weight: jax.Array) -> jax.Array:
        """Normalise `x` `[N, ..., D]` with `weight` f32[N] of 0 or 1."""
        chex.assert_shape(weight, (len(x),))
        batch = moments(x, weight) if self.train else None
        mean, factor, bias = self.affine(x.shape[-1], batch)
        centred = x - _on_last_axis(mean, x)
        y = centred * _on_last_axis(factor, x) + _on_last_axis(bias, x)
        return y.astype(x.dtype)

    @nn.compact
    def affine(self, width: int, batch: Moments | None) -> tuple[jax.Array, jax.Array, jax.Array]:
        """`mean`, `factor` and `bias` f32[D] of the normalised (x - mean) factor + bias.

        For networks that compute a batch in parts.  While training `batch` are its moments, which
        enter the running statistics; else it is not looked at.
        """
        scale = self.param("scale", nn.initializers.ones, (width,))
        bias = self.param("bias", nn.initializers.zeros, (width,))
        mean = self.variable("batch_stats", "mean", jnp.zeros, (width,))
        variance = self.variable("batch_stats", "variance", jnp.ones, (width,))
        used_mean, used_variance = mean.value, variance.value
        if self.train and batch is not None:
            count = batch.size
            used_mean = jnp.where(count > 0, batch.mean, used_mean)
            used_variance = jnp.where(count > 0, batch.variance, used_variance)
            unbiased = used_variance * count / jnp.maximum(count - 1, 1)
            rate = jnp.where(count > 0, self.momentum, 0)
            mean.value += rate * (used_mean - mean.value)
            variance.value += rate * (unbiased - variance.value)
        return used_mean, scale * jax.lax.rsqrt(used_variance + EPSILON), bias


def _on_last_axis(vector: jax.Array, x: jax.Array) -> jax.Array:
    """`vector` `[D]` in a shape that broadcasts against `x` `[..., D]`."""
    return vector.reshape(*[1] * (x.ndim - 1), -1)


class Dropout(nn.Module):
    """While training, set each value to 0 with probability `rate` and enlarge the others.

    The key is the collection `dropout`.
    """

    rate: float
    train: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Apply to `x` of any shape."""
        if not self.train or self.rate == 0:
            return x
        return dropped(x, self.make_rng("dropout"), self.rate)


def dropped(x: jax.Array, key: jax.Array, rate: float) -> jax.Array:
    """`x` f[...] with each value 0 with probability `rate`, the others times 1 / (1 - rate)."""
    limit = min(round(rate * 2**32), 2**32 - 1)
    keep = noise(key, x.shape) >= np.uint32(limit)
    return jnp.where(keep, x / (1 - rate), 0)


def noise(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Random numbers u32[*shape]: each value's place, hashed twice with words of the key.

    The hash is Wellons' `lowbias32`.  XLA computes it where the numbers are used; the passes of
    `jax.random.bits` over memory took a fifth of a small network's step on a CPU.  Good enough to
    choose what is dropped; for one key no number comes twice.
    """
    value = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    for word in jax.random.bits(key, (2,), jnp.uint32):
        value ^= word
        value = (value ^ (value >> 16)) * np.uint32(0x7FEB352D)
        value = (value ^ (value >> 15)) * np.uint32(0x846CA68B)
        value ^= value >> 16
    return value
