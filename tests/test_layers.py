import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spotjax.layers import BatchNorm, Dense, Dropout

KEY = jax.random.key(0)


def normalise(x, weight, stats=None, train=True):
    layer = BatchNorm(train)
    variables = layer.init(KEY, x, weight)
    variables = {
        **variables,
        "batch_stats": stats or BatchNorm(False).init(KEY, x, weight)["batch_stats"],
    }
    return layer.apply(variables, x, weight, mutable=["batch_stats"])


def test_batch_norm_by_hand():
    x = jnp.asarray([[[1.0, 10]], [[3.0, 10]], [[5.0, 10]], [[100.0, -7]]])
    y, state = normalise(x, jnp.asarray([1.0, 1, 1, 0]))
    spread = np.sqrt(8 / 3 + 1e-5)
    np.testing.assert_allclose(y[:3, 0], [[-2 / spread, 0], [0, 0], [2 / spread, 0]], atol=1e-6)
    stats = state["batch_stats"]
    np.testing.assert_allclose(stats["mean"], [0.3, 1], rtol=1e-6)
    np.testing.assert_allclose(stats["variance"], [0.9 + 0.1 * 4, 0.9], rtol=1e-6)


def test_batch_norm_of_large_values_keeps_their_spread():
    x = 1000 + jax.random.normal(KEY, (64, 10, 3))
    y, _ = normalise(x, jnp.ones(64))
    np.testing.assert_allclose(y.std(axis=(0, 1)), 1, rtol=1e-3)


def test_batch_norm_without_a_sample_uses_and_keeps_the_running_statistics():
    x = jax.random.normal(KEY, (3, 4, 2))
    stats = {"mean": jnp.asarray([1.0, -1]), "variance": jnp.asarray([4.0, 0.25])}
    y, state = normalise(x, jnp.zeros(3), stats)
    expected = (x - stats["mean"].reshape(1, 1, 2)) / jnp.sqrt(stats["variance"]).reshape(1, 1, 2)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    for name, value in stats.items():
        np.testing.assert_array_equal(state["batch_stats"][name], value)
    evaluated, _ = normalise(x, jnp.ones(3), stats, train=False)
    np.testing.assert_array_equal(y, evaluated)


def test_batch_norm_refuses_a_weight_of_another_length():
    with pytest.raises(AssertionError, match="shape"):
        normalise(jnp.zeros((3, 2)), jnp.ones(2))


@pytest.mark.parametrize("shape", [(101, 33), (7,), (2, 3, 4, 5)])
def test_dropout_sets_a_share_to_zero(shape):
    x = jnp.ones(shape)
    y = np.asarray(Dropout(0.25, True).apply({}, x, rngs={"dropout": KEY}))
    assert set(np.unique(y)) <= {0, np.float32(1 / 0.75)}
    if x.size > 1000:
        assert abs(y.mean() - 1) < 0.03 and abs((y == 0).mean() - 0.25) < 0.03
    np.testing.assert_array_equal(Dropout(0.25, False).apply({}, x), x)
    np.testing.assert_array_equal(Dropout(0.0, True).apply({}, x), x)


@pytest.mark.parametrize("bias", [True, False])
def test_dense_keeps_the_type_of_its_input(bias):
    x = jnp.ones((2, 3, 4), jnp.bfloat16)
    y, variables = Dense(5, bias).init_with_output(KEY, x)
    assert y.shape == (2, 3, 5) and y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert set(variables["params"]) == {"kernel", "bias"} - ({"bias"} if not bias else set())
