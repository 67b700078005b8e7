"""What the 3D-CNN's network does with statistics, padding and dropout, and what it refuses."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from test_cnn3d_net import (
    FORMULATIONS,
    KEY,
    SMALL,
    assert_trees_close,
    forward,
    gradients,
    in_double,
    new,
    pairs,
)

from spotjax.errors import UserError
from spotjax.systems import cnn3d_net as net
from spotjax.systems import losses

# --- batch norm, dropout, padding -----------------------------------------------------------------


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_running_statistics_of_the_first_block_by_hand(formulation):
    """99 % of what was there, 1 % of the batch, the unbiased variance."""
    shape = SMALL._replace(formulation=formulation, lcn=False)
    variables, images = new(shape), pairs(3)
    _, after = forward(variables, images, jnp.ones(3), True, KEY, shape)
    block = variables["params"]["block1"]
    x = net.conv(images.reshape(6, 2, 32, 32, 1), block["depthwise"]["kernel"][..., None])
    y = np.asarray(x, np.float64).reshape(-1, 1) * np.asarray(block["pointwise"]["kernel"])
    before, found = (v["batch_stats"]["block1"]["norm"] for v in (variables, after))
    expected = 0.99 * before["mean"] + 0.01 * y.mean(0)
    np.testing.assert_allclose(found["mean"], expected, rtol=1e-5)
    expected = 0.99 * before["variance"] + 0.01 * y.var(0, ddof=1)
    np.testing.assert_allclose(found["variance"], expected, rtol=1e-5)


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_in_use_the_running_statistics_count_and_stay(formulation):
    shape = SMALL._replace(formulation=formulation)
    variables, images = new(shape), pairs(4)
    together, after = forward(variables, images, jnp.ones(4), False, KEY, shape)
    assert_trees_close(after, variables, 0)
    alone, _ = forward(variables, images[:1], jnp.ones(1), False, jax.random.key(7), shape)
    np.testing.assert_allclose(alone[0], together[0], atol=1e-5)
    trained, after = forward(variables, images, jnp.ones(4), True, KEY, shape)
    assert np.abs(trained - together).max() > 1e-3
    assert np.abs(after["batch_stats"]["block2"]["norm"]["mean"] - 0.2).max() > 1e-3


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_padding_reaches_neither_statistics_nor_gradients(formulation):
    variables = new(SMALL._replace(first_init="random"))
    images, strange = pairs(3), 5 * pairs(2, seed=9)
    one = partial(gradients, shape=SMALL._replace(formulation=formulation))
    (loss, (_, stats)), change = in_double(one, variables, images)
    padded, weight = jnp.concatenate([images, strange]), jnp.asarray([1.0, 1, 1, 0, 0])
    (found, (_, found_stats)), found_change = in_double(one, variables, padded, weight=weight)
    assert_trees_close((found, found_stats, found_change), (loss, stats, change), 1e-5)


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_a_batch_of_padding_only_changes_nothing(formulation):
    shape = SMALL._replace(formulation=formulation)
    (value, (_, stats)), change = gradients(new(shape), pairs(3), shape, jnp.zeros(3))
    assert value == 0
    assert_trees_close(stats, new(shape)["batch_stats"], 0)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(change))


@pytest.mark.parametrize("chunk", [1, 64])
def test_chunks_do_not_matter(chunk):
    images = pairs(5)
    found, expected = (
        in_double(partial(gradients, shape=shape), new(SMALL), images)
        for shape in (SMALL._replace(chunk=chunk), SMALL)
    )
    assert_trees_close(found, expected, 1e-5)


def test_dropout_drops_a_share_of_each_sample_by_its_key():
    images, weight = jnp.tile(pairs(1), (2, 1, 1, 1)), jnp.ones(2)
    first, second = (
        forward(new(SMALL), images, weight, True, jax.random.key(seed), SMALL)[0] for seed in (0, 1)
    )
    assert np.abs(first - second).max() > 1e-4 < np.abs(first[0] - first[1]).max()
    silent = SMALL._replace(dropout=0.0)
    a, b = (
        forward(new(SMALL), images, weight, True, jax.random.key(seed), silent)[0]
        for seed in (0, 1)
    )
    np.testing.assert_array_equal(a, b)
    blocks = net._Blocks(new(SMALL), True, SMALL)
    keys = jax.random.split(KEY, 3)
    y = blocks.activated(2, (jnp.ones(8), jnp.zeros(8)), jnp.ones((3, 2, 2, 16, 16, 8)), keys)
    kept = np.asarray(y > 0)
    np.testing.assert_allclose(np.asarray(y)[kept], 1.25)
    assert abs(kept.mean() - 0.8) < 5 * (0.16 / kept.size) ** 0.5
    assert not np.array_equal(kept[0], kept[1])
    other = np.asarray(blocks.activated(1, (jnp.ones(8), jnp.zeros(8)), jnp.ones(y.shape), keys))
    assert not np.array_equal(other > 0, kept)


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_images_without_contrast_leave_gradients_finite(formulation):
    shape = SMALL._replace(formulation=formulation)
    images = jnp.full((3, 4, 32, 32), 0.7).at[1].set(0).at[2].set(pairs(1)[0])
    for weight in (jnp.ones(3), jnp.asarray([1.0, 1, 0])):  # without the one that has contrast
        found = gradients(new(shape), images, shape, weight)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


# --- learning -------------------------------------------------------------------------------------


def test_sixteen_pairs_are_learnt_by_heart():
    """Images that move (by 2 px, near or far reference) or not, from noise."""
    shape = net.Shape(size=16, channels=(8, 16), dropout=0.0, momentum=0.9)
    still = np.asarray(pairs(16, 1, 24, seed=5))[:, 0]
    labels = np.stack([np.arange(16) % 2, np.arange(16) // 2 % 2], 1).astype(np.float32)
    images = np.stack([
        [np.roll(image, 2 * int(move), 1)[4:-4, 4:-4] for move in (0, near, 0, far)]
        for image, (near, far) in zip(still, labels, strict=True)
    ])  # fmt: skip
    images, labels = jnp.asarray(images), jnp.asarray(labels)
    optimizer = optax.adam(1e-2)
    variables = net.init(KEY, shape)

    def loss(params, stats):
        given_ = {"params": params, "batch_stats": stats}
        logits, after = net.apply(given_, images, jnp.ones(16), True, KEY, shape)
        return losses.weighted_binary(logits, labels, jnp.ones(16), (1, 1)), after["batch_stats"]

    def step(_, carry):
        params, stats, state, _ = carry
        (value, stats), change = jax.value_and_grad(loss, has_aux=True)(params, stats)
        update, state = optimizer.update(change, state)
        return optax.apply_updates(params, update), stats, state, value

    params, stats = variables["params"], variables["batch_stats"]
    first, _ = loss(params, stats)
    start = (params, stats, optimizer.init(params), first)
    params, stats, _, last = jax.jit(partial(lax.fori_loop, 0, 150, step))(start)
    assert first > 1 and last < 0.1
    logits, _ = net.apply(
        {"params": params, "batch_stats": stats}, images, jnp.ones(16), False, KEY, shape
    )
    np.testing.assert_array_equal(logits > 0, labels > 0.5)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [(2, 4, 32, 31), (2, 4, 40, 40), (4, 32, 32), (2, 32, 32, 4)])
def test_wrong_images_are_refused(images):
    with pytest.raises(AssertionError, match=r"shape|rank"):
        net.apply(new(SMALL), jnp.zeros(images), jnp.ones(2), True, KEY, SMALL)


@pytest.mark.parametrize(("streams", "n"), [(2, 2), (2, 5), (1, 3)])
def test_a_wrong_number_of_images_is_refused(streams, n):
    shape = SMALL._replace(streams=streams)
    with pytest.raises(ValueError, match=f"{n} images for {streams} streams"):
        net.apply(new(shape), jnp.zeros((2, n, 32, 32)), jnp.ones(2), True, KEY, shape)


def test_a_wrong_weight_is_refused():
    with pytest.raises(AssertionError, match="shape"):
        net.apply(new(SMALL), pairs(2), jnp.ones(3), True, KEY, SMALL)


@pytest.mark.parametrize("change", [{"size": 100}, {"size": 8}, {"streams": 3}])
def test_networks_that_cannot_be_are_refused(change):
    name, value = next(iter(change.items()))
    with pytest.raises(UserError, match=f"system.{name}={value}"):
        net.init(KEY, net.Shape(**change))
