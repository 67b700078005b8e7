import json
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import optimised
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from reference import shared_file
from scipy import ndimage

from spotjax.systems import cnn3d_net as net

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
