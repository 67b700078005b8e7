import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spotjax.systems.layers import BatchNorm, Dense, Dropout, at_a_time, noise, product

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


@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 5, 4, 3), (0, 5, 3)])
def test_product_joins_leading_axes_only_inside(shape):
    x, kernel = jax.random.normal(KEY, shape), jax.random.normal(jax.random.key(1), (3, 6))
    found, backward = jax.vjp(product, x, kernel)
    expected, reference = jax.vjp(lambda x, kernel: x @ kernel, x, kernel)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    for a, b in zip(backward(expected), reference(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_products_gradient_copies_nothing():
    def text(multiply):
        def loss(x, kernel):
            return jnp.sum(jnp.sin(multiply(x.swapaxes(1, 2), kernel)))

        gradient = jax.jit(jax.grad(loss, (0, 1)))
        return gradient.lower(jnp.ones((4, 6, 5, 8)), jnp.ones((8, 8))).compile().as_text()

    transposed = f"f32[8,{4 * 6 * 5}]"
    assert transposed not in text(product)
    assert transposed in text(jnp.matmul)  # an XLA that does better has no need of `product`


def hashed(place, words):
    """The hash of one place in Python's integers."""
    for word in words:
        place ^= word
        place = (place ^ (place >> 16)) * 0x7FEB352D % 2**32
        place = (place ^ (place >> 15)) * 0x846CA68B % 2**32
        place ^= place >> 16
    return place


def test_noise_is_the_hash_of_its_place():
    words = [int(word) for word in jax.random.bits(KEY, (2,))]
    found = np.asarray(noise(KEY, (2, 3, 4))).ravel()
    assert found.tolist() == [hashed(place, words) for place in range(24)]


def test_noise_has_even_bits_that_know_nothing_of_each_other():
    """Every bit, pair of bits, lag and pair of keys: within five standard deviations."""
    count = 2**16
    drawn = np.asarray(jax.vmap(lambda key: noise(key, (count,)))(jax.random.split(KEY, 4)))
    # -1 and 1, whose sums are exact
    bits = (drawn[..., None] >> np.arange(32, dtype=np.uint32) & 1) * np.float32(2) - 1
    bound = 5 / np.sqrt(count)
    assert np.abs(bits.mean(axis=1)).max() < bound
    for one in bits:
        pairs = one.T @ one / count
        assert np.abs(pairs - np.eye(32)).max() < bound
        for lag in (1, 2, 10, 17, 64, 256, 4096):
            assert np.abs(one[:-lag].T @ one[lag:] / (count - lag)).max() < 1.1 * bound
    for i in range(4):
        for j in range(i):
            assert np.abs(bits[i].T @ bits[j] / count).max() < bound


@pytest.mark.parametrize("rate", [0.1, 0.9])
def test_dropout_drops_each_place_as_often(rate):
    keys = jax.random.split(KEY, 2000)
    draw = jax.vmap(lambda key: Dropout(rate, True).apply({}, jnp.ones(64), rngs={"dropout": key}))
    kept = np.asarray(draw(keys) > 0).mean(axis=0)
    assert np.abs(kept - (1 - rate)).max() < 5 * np.sqrt(rate * (1 - rate) / 2000)


def test_dropout_of_two_layers_and_folds_differs():
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Dropout(0.5, True)(x), Dropout(0.5, True)(x)

    keys = jax.random.split(KEY, 2)
    run = jax.vmap(lambda key: Two().apply({}, jnp.ones(4096), rngs={"dropout": key}))
    masks = np.asarray(run(keys)).reshape(4, 4096) - 1
    correlation = masks @ masks.T / 4096
    assert np.abs(correlation - np.eye(4)).max() < 5 / np.sqrt(4096)
    alone = Two().apply({}, jnp.ones(4096), rngs={"dropout": keys[1]})
    np.testing.assert_array_equal(alone[1] - 1, masks[3])


@pytest.mark.parametrize(
    ("backend", "chunk", "expected"), [("cpu", 0, 2), ("gpu", 0, 7), ("gpu", 3, 3), ("cpu", 99, 7)]
)
def test_how_many_samples_are_computed_at_a_time(backend, chunk, expected, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert at_a_time(chunk, on_cpu=2, samples=7) == expected
    assert at_a_time(0, on_cpu=2, samples=1) == 1
