"""What the 3D-CNN of Yap et al. does to images: augmentation and contrast (pure JAX).

Augmentation (section 3.2; training only) in this order: rotation, flip, contrast, gamma with gain.
The paper gives the ranges; that all images of a sample change alike is ours, as anything else
would look like movement.  So contrast is about the mean of all of them, and is cut to [0, 1]
before the power, which has no value below 0.

Local contrast normalisation is the paper's equation 1: f minus its local mean over its local
spread, both Gaussian.  The width of the Gaussians is not given (ours: 4 px).  The text calls
sigma_f a variance; only the standard deviation makes contrast drop out.  The mean of an image is
taken off first, which changes nothing but rounding: an image without contrast so becomes 0.
"""

from functools import lru_cache
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from spotjax.systems.layers import product

SIGMA, RADIUS = 4.0, 12
"""px: of both Gaussians of the contrast normalisation, and where they are cut (3 sigma)."""
SMALLEST = 1e-6
"""Least divisor of the contrast normalisation."""
DEGREES = 10.0
LEAST, MOST = 0.5, 1.5
"""Of contrast, gamma and gain."""


# --- local contrast (equation 1) ------------------------------------------------------------------


@lru_cache
def gaussian(size: int) -> np.ndarray:
    """f32[size, size]: Gaussian smoothing along a line as a matrix; rows sum to 1.

    Beyond its ends the line is mirrored (reflect-101, c b | a b c).
    """
    weights = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)
    weights /= weights.sum()
    places = np.pad(np.arange(size), RADIUS, mode="reflect")
    matrix = np.zeros((size, size))
    for row in range(size):
        np.add.at(matrix[row], places[row : row + len(weights)], weights)
    return matrix.astype(np.float32)


def local_contrast(images: jax.Array) -> jax.Array:
    """f32[..., S, S]: v / max(sigma, c) with v an image less its local mean; S > 12.

    sigma is the root of the local mean of v^2, c its mean over the image.  The result for a f + b
    is that for f, for any a > 0 and b.  Not made for gradients with respect to the images.
    """
    blur = jnp.asarray(gaussian(images.shape[-1]))

    def smooth(x: jax.Array) -> jax.Array:
        return blur @ product(x, blur.T)

    images = images - images.mean((-2, -1), keepdims=True)
    v = images - smooth(images)
    sigma = jnp.sqrt(smooth(v * v))
    return v / jnp.maximum(jnp.maximum(sigma, sigma.mean((-2, -1), keepdims=True)), SMALLEST)


# --- augmentation ---------------------------------------------------------------------------------


class Change(NamedTuple):
    """How each sample is changed."""

    angle: jax.Array
    """f32[B]: degrees, counter-clockwise."""
    flip: jax.Array
    """bool[B]: left becomes right."""
    contrast: jax.Array
    """f32[B]: factor on the distance from the mean."""
    gamma: jax.Array
    """f32[B]: power."""
    gain: jax.Array
    """f32[B]: factor after the power."""


def draw(key: jax.Array, count: int) -> Change:
    """Changes of `count` samples: angles in +-10 degrees, half flipped, the others in .5 to 1.5."""
    angle, flip, factors = jax.random.split(key, 3)
    contrast, gamma, gain = jax.random.uniform(factors, (3, count), minval=LEAST, maxval=MOST)
    angles = jax.random.uniform(angle, (count,), minval=-DEGREES, maxval=DEGREES)
    return Change(angles, jax.random.bernoulli(flip, 0.5, (count,)), contrast, gamma, gain)


def augment(images: jax.Array, key: jax.Array) -> jax.Array:
    """`images` f32[B, n, S, S] in [0, 1], the n of a sample changed alike."""
    return changed(images, draw(key, len(images)))


def changed(images: jax.Array, change: Change) -> jax.Array:
    """`images` f32[B, n, S, S] in [0, 1] with the changes of their samples, cut to [0, 1]."""
    chex.assert_rank(images, 4)
    chex.assert_equal(*images.shape[2:])
    chex.assert_shape(change, (len(images),))
    images = jax.vmap(turned)(images, change.angle, change.flip)
    contrast, gamma, gain = (value.reshape(-1, 1, 1, 1) for value in change[2:])
    mean = images.mean((1, 2, 3), keepdims=True)
    images = jnp.clip((images - mean) * contrast + mean, 0, 1)
    return jnp.clip(gain * images**gamma, 0, 1)


def turned(images: jax.Array, angle: jax.Array, flip: jax.Array) -> jax.Array:
    """`images` f32[n, S, S] turned about their centre by `angle` degrees f32[], then flipped.

    Bilinear between pixels, mirrored beyond the border (reflect-101).
    """
    size = images.shape[-1]
    line = jnp.arange(size, dtype=jnp.float32) - (size - 1) / 2
    x, y = jnp.where(flip, -line, line)[None], line[:, None]
    cosine, sine = jnp.cos(jnp.deg2rad(angle)), jnp.sin(jnp.deg2rad(angle))
    (top, below), (left, right) = (
        _mirrored(place + (size - 1) / 2, size)
        for place in (cosine * y + sine * x, cosine * x - sine * y)
    )
    pixels = images.reshape(len(images), -1).T
    corners = [
        (row[0] * size + column[0], (row[1] * column[1]).reshape(-1, 1))
        for row in (top, below) for column in (left, right)
    ]  # fmt: skip
    parts = [pixels[place.reshape(-1)] * share for place, share in corners]
    return sum(parts[1:], parts[0]).T.reshape(images.shape)


def _mirrored(place: jax.Array, size: int) -> list[tuple[jax.Array, jax.Array]]:
    """The pixels before and after `place`, at most `size` - 1 px outside, with their shares."""
    place = (size - 1) - jnp.abs((size - 1) - jnp.abs(place))
    before = jnp.clip(jnp.floor(place).astype(jnp.int32), 0, size - 2)
    share = place - before
    return [(before, 1 - share), (before + 1, share)]
