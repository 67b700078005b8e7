"""Losses over a batch with padding: terms that several systems share (pure JAX).

Every loss is the mean of one value per sample over the samples with weight 1; samples with
weight 0 are padding and reach neither the value nor the gradient.  Without any sample the loss
and its gradient are 0.  The constants inside logarithms are those of SpotFormer's release.
"""

from collections.abc import Sequence
from typing import Literal

import chex
import jax
import jax.numpy as jnp

SIGMOID_FLOOR = 1e-5
CONTRAST_FLOOR = 1e-6
NONE = 2
"""The class `none` of onset, offset, none."""


def weighted_mean(values: jax.Array, weight: jax.Array) -> jax.Array:
    """f32[]: mean of `values` f32[N] where `weight` f32[N] is 1; 0 if it is 0 everywhere."""
    chex.assert_equal_shape([values, weight])
    return jnp.sum(weight * values) / jnp.maximum(jnp.sum(weight), 1)


def smooth_l1(x: jax.Array) -> jax.Array:
    """x^2 / 2 within +-1, |x| - 1/2 beyond, of `x` f32[...] (MESNet's equation 9)."""
    size = jnp.abs(x)
    return jnp.where(size < 1, 0.5 * x * x, size - 0.5)


def sigmoid_focal(
    logits: jax.Array,
    targets: jax.Array,
    weight: jax.Array,
    alpha: float,
    gamma: float = 1.0,
    smoothing: float = 0.0,
) -> jax.Array:
    """Focal loss of soft binary targets: f32[] of `logits`, `targets`, `weight` f32[N].

    With p = sigmoid(logit) a sample counts -alpha |y - p|^gamma log p where y > 0 and
    -(1 - alpha) |y + smoothing - p|^gamma log(1 - p) where y = 0.  `gamma` is 1 or more.
    SpotFormer's apex and expression terms, as in its release; its paper's equation 3 has neither
    the negatives nor soft targets.
    """
    chex.assert_rank(logits, 1)
    chex.assert_equal_shape([logits, targets, weight])
    p = jax.nn.sigmoid(logits.astype(jnp.float32))
    positive = -alpha * jnp.abs(targets - p) ** gamma * jnp.log(p + SIGMOID_FLOOR)
    modulation = jnp.abs(targets + smoothing - p) ** gamma
    negative = -(1 - alpha) * modulation * jnp.log(1 - p + SIGMOID_FLOOR)
    return weighted_mean(jnp.where(targets > 0, positive, negative), weight)


def weighted_binary(
    logits: jax.Array,
    targets: jax.Array,
    weight: jax.Array,
    importance: Sequence[float],
    positive: float = 1.0,
) -> jax.Array:
    """Cross-entropy of C binary targets: f32[] of `logits`, `targets` f32[N, C], `weight` f32[N].

    With s = sigmoid(logit) a sample counts -sum_c M[c] (W t log s + (1 - t) log(1 - s)), M =
    `importance`, one for each of the C, W = `positive`.  The loss of the 3D-CNN of Yap et al.,
    which prints a minus before the second term: confident false positives would be rewarded.
    Raises ValueError unless `importance` has C values.
    """
    chex.assert_rank(logits, 2)
    chex.assert_equal_shape([logits, targets])
    chex.assert_equal_shape_prefix([logits, weight], 1)
    chex.assert_shape(weight, (None,))
    if len(importance) != logits.shape[1]:
        raise ValueError(f"{len(importance)} importances for {logits.shape[1]} targets")
    logits = logits.astype(jnp.float32)
    right = positive * targets * jax.nn.log_sigmoid(logits)
    wrong = (1 - targets) * jax.nn.log_sigmoid(-logits)
    return weighted_mean(-(right + wrong) @ jnp.asarray(importance, jnp.float32), weight)


def three_class(
    logits: jax.Array,
    targets: jax.Array,
    weight: jax.Array,
    kind: Literal["ce", "focal"] = "ce",
    alpha: tuple[float, float, float] = (0.45, 0.45, 0.1),
    gamma: float = 1.0,
    smoothing: float = 0.0,
) -> jax.Array:
    """Loss of the classes onset, offset, none: f32[] of `logits` f32[N, 3], `targets` i32[N].

    `ce` is the cross-entropy of SpotFormer's release; `focal` is ABPN's, which SpotFormer's paper
    names (equation 3): -alpha[y] m^gamma log p[y] with m = 1 - p[y], for the class none
    m = max(1 - smoothing - p[y], 0).  `weight` f32[N], `gamma` is 1 or more.  Raises ValueError
    for another `kind`.
    """
    chex.assert_shape(logits, (None, 3))
    chex.assert_equal_shape([targets, weight])
    chex.assert_equal_shape_prefix([logits, targets], 1)
    every_class = jax.nn.log_softmax(logits.astype(jnp.float32))
    log_p = jnp.take_along_axis(every_class, targets[:, None], axis=1)[:, 0]
    if kind == "ce":
        return weighted_mean(-log_p, weight)
    if kind != "focal":
        raise ValueError(f"kind {kind!r} is neither 'ce' nor 'focal'")
    margin = 1 - jnp.exp(log_p)
    margin = jnp.where(targets == NONE, jnp.maximum(margin - smoothing, 0), margin)
    return weighted_mean(-jnp.asarray(alpha)[targets] * margin**gamma * log_p, weight)


def class_weighted(
    logits: jax.Array, targets: jax.Array, class_weight: jax.Array, weight: jax.Array
) -> jax.Array:
    """Cross-entropy as a mean weighted by class: f32[] of `logits` f32[N, C], `targets` i32[N].

    sum(w nll) / sum(w) with w = `class_weight` f32[N], that of each sample's own class; SFAMNet's
    recognition loss.  Where every w is 0 (a batch of neutral samples) the loss and its gradient are
    0; the release divides 0 by 0 there, which made 4 of its 100 folds NaN.  `weight` f32[N].
    """
    chex.assert_rank(logits, 2)
    chex.assert_equal_shape([targets, class_weight, weight])
    chex.assert_equal_shape_prefix([logits, targets], 1)
    every_class = jax.nn.log_softmax(logits.astype(jnp.float32))
    log_p = jnp.take_along_axis(every_class, targets[:, None], axis=1)[:, 0]
    share = class_weight * weight
    total = jnp.sum(share)
    return -jnp.sum(share * log_p) / jnp.where(total > 0, total, 1)


def supervised_contrastive(
    features: jax.Array,
    classes: jax.Array,
    weight: jax.Array,
    temperature: float = 0.5,
    base_temperature: float = 0.07,
    normalise: bool = False,
) -> jax.Array:
    """Pull samples of a class together: f32[] of `features` f32[N, D], `classes` i32[N].

    Each sample's mean log-probability of its positives (other samples of its class) under a
    softmax over all others of z_i.z_j / `temperature`, times temperature / base_temperature;
    a sample without positives counts 0.  `weight` f32[N].

    As in SpotFormer's release the features are not normalised (`normalise` makes them unit
    vectors) and the sum over the others has a floor of 1e-6 after the row's largest product,
    the one with itself included, is taken off: long features lose their repulsion there.
    """
    chex.assert_rank(features, 2)
    chex.assert_equal_shape([classes, weight])
    chex.assert_equal_shape_prefix([features, classes], 1)
    z = features.astype(jnp.float32)
    if normalise:
        z = z * jax.lax.rsqrt(jnp.maximum(jnp.sum(z * z, axis=1, keepdims=True), 1e-12))
    product = jnp.matmul(z, z.T, precision="highest") / temperature
    real = weight[None] > 0
    largest = jnp.max(jnp.where(real, product, -jnp.inf), axis=1, keepdims=True)
    largest = jax.lax.stop_gradient(jnp.where(jnp.isfinite(largest), largest, 0))
    logits = jnp.where(real, product - largest, 0)
    other = real & ~jnp.eye(len(z), dtype=bool)
    total = jnp.sum(jnp.where(other, jnp.exp(logits), 0), axis=1, keepdims=True)
    log_p = logits - jnp.log(total + CONTRAST_FLOOR)
    positive = (other & (classes[:, None] == classes[None])).astype(jnp.float32)
    mean = jnp.sum(positive * log_p, axis=1) / (jnp.sum(positive, axis=1) + CONTRAST_FLOOR)
    return -temperature / base_temperature * weighted_mean(mean, weight)
