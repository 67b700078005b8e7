import json
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compiling import optimised
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from reference import shared_file
from scipy import ndimage

from spotjax.errors import UserError
from spotjax.systems import cnn3d_net as net
from spotjax.systems import losses

KEY = jax.random.key(0)
SMALL = net.Shape(size=32, channels=(4, 6))
FORMULATIONS = ("shift", "conv")
forward = jax.jit(net.apply, static_argnums=(3, 5))
features = jax.jit(net.features, static_argnums=(3, 5))


@cache
def new(shape, seed=0):
    """Variables with norms and biases that matter."""
    variables = net.init(jax.random.key(seed), shape)
    leaves, tree = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(seed + 100), len(leaves))
    shaken = [
        leaf + jax.random.uniform(key, leaf.shape, minval=-0.2, maxval=0.2) * (leaf.ndim == 1)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, shaken)


def pairs(count, n=4, size=32, seed=1):
    noise = np.random.default_rng(seed).random((count, n, size, size))
    return jnp.asarray(ndimage.gaussian_filter(noise, [0, 0, 1, 1]), jnp.float32)


def objective(params, stats, images, weight, shape, train=True):
    """A number that depends on both logits, each sample in its own way; logits, new statistics."""
    variables = {"params": params, "batch_stats": stats}
    logits, variables = net.apply(variables, images, weight, train, KEY, shape)
    share = weight * (1 + jnp.arange(len(images)) / 4)
    value = jnp.sum(share[:, None] * jnp.square(logits - 0.3))
    return value, (logits, variables["batch_stats"])


slope = jax.jit(jax.value_and_grad(objective, has_aux=True), static_argnums=(4, 5))


def gradients(variables, images, shape, weight=None, train=True):
    """(value, (logits, new statistics)), gradient.  One program per shape and number of images."""
    weight = jnp.ones(len(images)) if weight is None else weight
    return slope(variables["params"], variables["batch_stats"], images, weight, shape, train)


def in_double(function, *given, **options):
    """What `function` gives in double precision (moments of a batch norm stay single).

    Single rounding moves some values across a ReLU's corner, and a batch norm takes away the size
    of the weights before it: the gradient of a separable first block's pointwise kernel is a sum of
    large terms that is almost 0.
    """
    single = jax.tree.map(np.asarray, given)
    with jax.enable_x64(True):
        double = jax.tree.map(
            lambda x: jnp.asarray(x, jnp.float64) if x.dtype == np.float32 else x, single
        )
        return jax.tree.map(np.asarray, function(*double, **options))


def assert_trees_close(found, expected, relative):
    """Leaves equal within a share of the largest value of the leaf."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for (path, a), b in zip(
        jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True
    ):
        tolerance = relative * float(np.abs(b).max()) + 1e-7
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance, err_msg=jax.tree_util.keystr(path))


# --- parameters -----------------------------------------------------------------------------------


def count(shape):
    shapes = jax.eval_shape(lambda key: net.init(key, shape)["params"], KEY)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (net.Shape(), 12_701),
        (net.Shape(first_conv="regular"), 13_090),
        (net.Shape(channels=(8, 16, 32)), 3_677),
        (net.Shape(channels=(32, 64, 128)), 46_877),
        (net.Shape(streams=1), 12_701 - 128),
    ],
)
def test_parameter_counts(shape, expected):
    assert count(shape) == expected == count(shape._replace(formulation="conv"))


def test_parameter_counts_of_the_reference():
    expected = json.loads(shared_file("goldens/mesnet_cnn3d.json").read_text())["params"]
    assert count(net.Shape()) == expected["cnn3d_16_32_64"]
    assert count(net.Shape(first_conv="regular")) == expected["cnn3d_first_regular"]


def test_new_variables():
    variables = net.init(KEY, net.Shape())
    block = variables["params"]["block2"]
    for leaf, bound in (
        (block["depthwise"]["kernel"], 1 / 3),
        (block["pointwise"]["kernel"], (6 / 48) ** 0.5),
        (variables["params"]["dense2"]["kernel"], (6 / 128) ** 0.5),
        (variables["params"]["logits"]["kernel"], (6 / 130) ** 0.5),
    ):
        assert 0.9 * bound < np.abs(leaf).max() <= bound
    np.testing.assert_array_equal(block["norm"]["scale"], 1)
    np.testing.assert_array_equal(variables["batch_stats"]["block3"]["norm"]["variance"], 1)
    other = net.init(jax.random.key(1), net.Shape())["params"]
    assert not np.array_equal(other["logits"]["kernel"], variables["params"]["logits"]["kernel"])


@pytest.mark.parametrize("first_conv", ["separable", "regular"])
def test_the_first_filters_begin_as_the_difference_of_both_images(first_conv):
    shape = SMALL._replace(first_conv=first_conv, lcn=False)
    variables = net.init(KEY, shape)
    still = np.random.default_rng(0).random((3, 1, *[shape.size] * 2), np.float32)
    images = np.tile(still, (1, 4, 1, 1))
    found, _ = features(variables, images, np.ones(3), False, KEY, shape)
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)  # any face, as long as it is still
    images[0, 1] = 0
    found, _ = features(variables, images, np.ones(3), False, KEY, shape)
    assert np.abs(found[0, 0] - found[0, 1]).max() > 1e-3
    other = net.init(KEY, shape._replace(first_init="random"))
    found, _ = features(other, np.tile(still, (1, 4, 1, 1)), np.ones(3), False, KEY, shape)
    assert np.abs(found[0] - found[1]).max() > 1e-3


# --- both formulations ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "n", "train"),
    [
        (SMALL, 4, True),
        (SMALL, 4, False),
        (SMALL._replace(first_conv="regular"), 4, True),
        (SMALL._replace(first_conv="regular"), 3, False),
        (SMALL._replace(dropout=0.0, chunk=3, size=48), 3, True),
        (SMALL._replace(streams=1, lcn=False), 2, True),
    ],
    ids=["separable", "in use", "regular", "regular in use", "first image once", "one stream"],
)
def test_both_formulations_agree(shape, n, train):
    variables, images = new(shape), pairs(5, n, shape.size)
    weight = jnp.asarray([1.0, 1, 0, 1, 1])
    found, expected = (
        in_double(partial(gradients, shape=s, train=train), variables, images, weight=weight)
        for s in (shape, shape._replace(formulation="conv"))
    )
    assert found[0][1][0].shape == (5, 2)
    assert_trees_close(found, expected, 1e-5)
    for path, leaf in jax.tree.leaves_with_path(found[1]):
        assert np.abs(leaf).max() > 0, jax.tree_util.keystr(path)


def test_both_formulations_agree_in_single_precision():
    images, weight = pairs(3), jnp.ones(3)
    found, expected = (
        forward(new(SMALL), images, weight, True, KEY, SMALL._replace(formulation=f))
        for f in FORMULATIONS
    )
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
    assert_trees_close(found[1]["batch_stats"], expected[1]["batch_stats"], 1e-5)


def test_both_formulations_agree_at_full_size():
    shape, images = net.Shape(), pairs(1, size=112)
    found = in_double(partial(gradients, shape=shape), new(shape), images)
    with optimised():  # lax.conv takes its time
        plain = shape._replace(formulation="conv")
        expected = in_double(partial(gradients, shape=plain), new(shape), images)
    assert_trees_close(found, expected, 1e-5)


@settings(max_examples=5, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.data())
def test_slices_are_the_depthwise_convolution(n, rows, columns, channels, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    x = jnp.asarray(rng.normal(size=(n, 2, 2 * rows, 2 * columns, channels)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 3, channels)), jnp.float32)
    dy = jnp.asarray(rng.normal(size=(n, 2, rows, columns, channels)), jnp.float32)

    @jax.jit
    def both(x, kernel, dy):
        found, backward = jax.vjp(net.shifted, x, kernel)
        expected, reference = jax.vjp(lambda x, k: net.conv(x, k[..., None]), x, kernel)
        return (found, *backward(dy)), (expected, *reference(dy))

    for a, b, atol in zip(*both(x, kernel, dy), (1e-5, 1e-4, 1e-4), strict=True):
        np.testing.assert_allclose(a, b, atol=atol)


def test_a_depthwise_convolution_by_hand():
    """One bright pixel; zeros after the last row and column, and before and after both images."""
    kernel = jnp.arange(27.0).reshape(3, 3, 3, 1)
    for place, taps in (
        ((0, 0, 0), {(0, 0, 0): 9, (1, 0, 0): 0}),  # a corner: the first tap of the first output
        ((1, 2, 1), {(1, 0, 0): 9 + 7, (1, 1, 0): 9 + 1, (0, 0, 0): 18 + 7, (0, 1, 0): 18 + 1}),
        ((0, 3, 3), {(0, 1, 1): 9 + 4, (1, 1, 1): 4}),
    ):
        x = jnp.zeros((1, 2, 4, 4, 1)).at[(0, *place, 0)].set(1)
        expected = np.zeros((2, 2, 2))
        for at, value in taps.items():
            expected[at] = value
        np.testing.assert_array_equal(net.shifted(x, kernel)[0, ..., 0], expected)
        np.testing.assert_array_equal(net.conv(x, kernel[..., None])[0, ..., 0], expected)


def test_several_filters_of_one_channel():
    x = jax.random.normal(KEY, (3, 2, 8, 6, 1))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 1, 5))
    found, backward = jax.vjp(partial(net.filters, x), kernel)
    expected, reference = jax.vjp(partial(net.conv, x), kernel)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(backward(expected)[0], reference(expected)[0], rtol=1e-4, atol=1e-3)


def test_both_formulations_learn_the_same_in_a_loop_over_folds():
    """As training runs them: steps in a loop, folds in turn, one program."""
    folds = [new(SMALL, seed) for seed in (0, 1)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *folds)
    images = jnp.stack([pairs(4, seed=seed) for seed in (3, 4)])

    def train(shape):
        def fold(one):
            def step(_, variables):
                (_, (_, stats)), change = jax.value_and_grad(objective, has_aux=True)(
                    variables["params"], variables["batch_stats"], one[1], jnp.ones(4), shape
                )
                params = jax.tree.map(lambda p, g: p - 0.01 * g, variables["params"], change)
                return {"params": params, "batch_stats": stats}

            return lax.fori_loop(0, 3, step, one[0])

        return in_double(jax.jit(partial(lax.map, fold)), (stacked, images))

    found, expected = train(SMALL), train(SMALL._replace(formulation="conv"))
    moved = jax.tree.map(lambda a, b: a - b, found, stacked)
    assert_trees_close(moved, jax.tree.map(lambda a, b: a - b, expected, stacked), 1e-5)
    assert min(np.abs(leaf).max() for leaf in jax.tree.leaves(moved["params"]["logits"])) > 1e-3


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_folds_side_by_side_equal_one_after_another(formulation):
    shape = SMALL._replace(formulation=formulation)
    folds = [new(shape, seed) for seed in (0, 1)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *folds)
    images = jnp.stack([pairs(3, seed=seed) for seed in (3, 4)])
    one = partial(gradients, shape=shape)
    together = in_double(jax.jit(jax.vmap(one)), stacked, images)
    for i, variables in enumerate(folds):
        mine = jax.tree.map(lambda leaf, i=i: leaf[i], together)
        assert_trees_close(mine, in_double(one, variables, images[i]), 1e-5)


# --- streams --------------------------------------------------------------------------------------


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_streams_share_their_weights(formulation):
    """Exchanging the pairs exchanges their features."""
    shape = SMALL._replace(formulation=formulation)
    images, weight = pairs(3), jnp.ones(3)
    found, _ = features(new(shape), images, weight, False, KEY, shape)
    assert found.shape == (3, 2, 6)
    other, _ = features(new(shape), images[:, [2, 3, 0, 1]], weight, False, KEY, shape)
    np.testing.assert_allclose(other, found[:, ::-1], atol=1e-6)
    assert np.abs(found[:, 0] - found[:, 1]).max() > 1e-3


def test_a_stream_sees_its_own_pair():
    images, weight = pairs(2), jnp.ones(2)
    before, _ = features(new(SMALL), images, weight, False, KEY, SMALL)
    for image in range(4):
        changed = images.at[:, image].set(images[:, image, ::-1])
        after, _ = features(new(SMALL), changed, weight, False, KEY, SMALL)
        np.testing.assert_array_equal(after[:, 1 - image // 2], before[:, 1 - image // 2])
        assert np.abs(after[:, image // 2] - before[:, image // 2]).max() > 1e-4


def test_the_order_of_a_pair_matters():
    images, weight = pairs(2), jnp.ones(2)
    there, _ = features(new(SMALL), images, weight, False, KEY, SMALL)
    back, _ = features(new(SMALL), images[:, [1, 0, 3, 2]], weight, False, KEY, SMALL)
    assert np.abs(there - back).max() > 1e-4


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_an_image_of_both_pairs_can_be_given_once(formulation):
    shape, images = SMALL._replace(formulation=formulation), pairs(3, 3)
    found, _ = forward(new(shape), images, jnp.ones(3), True, KEY, shape)
    expected, _ = forward(new(shape), images[:, [0, 1, 0, 2]], jnp.ones(3), True, KEY, shape)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_one_stream_is_that_of_two():
    images = pairs(2)
    shape = SMALL._replace(streams=1)
    params = {**new(SMALL)["params"], "logits": new(shape)["params"]["logits"]}
    found, _ = features(
        {**new(SMALL), "params": params}, images[:, 2:], jnp.ones(2), False, KEY, shape
    )
    expected, _ = features(new(SMALL), images, jnp.ones(2), False, KEY, SMALL)
    np.testing.assert_allclose(found[:, 0], expected[:, 1], atol=1e-5)
    assert forward(new(shape), images[:, 2:], jnp.ones(2), False, KEY, shape)[0].shape == (2, 2)


def test_contrast_and_brightness_do_not_matter():
    images = pairs(2)
    lighter = 0.4 * images + 0.3
    found, expected = (
        forward(new(SMALL), x, jnp.ones(2), False, KEY, SMALL)[0] for x in (lighter, images)
    )
    np.testing.assert_allclose(found, expected, atol=2e-5)
    plain = SMALL._replace(lcn=False)
    found, expected = (
        forward(new(plain), x, jnp.ones(2), False, KEY, plain)[0] for x in (lighter, images)
    )
    assert np.abs(found - expected).max() > 2e-4


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
