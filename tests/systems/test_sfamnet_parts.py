"""The parts of SFAMNet's network, and what it does with chunks, folds and wrong input."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import AS_IN_USE
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from scipy import ndimage, signal
from test_sfamnet_net import FORMULATIONS, KEY, SMALL, forward, new, random_images

from spotjax.errors import UserError
from spotjax.systems import sfamnet_net as net

# --- parts ----------------------------------------------------------------------------------------


def whole(x):
    """`[n, n, C, H, W, B]` back to images `[B, C, nH, nW]`."""
    n, _, c, h, w, b = x.shape
    return np.asarray(x).transpose(5, 2, 3, 0, 4, 1).reshape(b, c, n * h, n * w)


def blocks(images, n):
    """Images `[B, C, H, W]` in blocks."""
    return net.in_blocks(jnp.asarray(images).transpose(1, 2, 3, 0), n)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_blocks_hold_neighbours(n):
    images = np.arange(2 * 3 * 12 * 6).reshape(2, 3, 12, 6)
    x = blocks(images, n)
    assert x.shape == (n, n, 3, 12 // n, 6 // n, 2)
    np.testing.assert_array_equal(x[n - 1, 0, 2, 1, 1], images[:, 2, 2 * n - 1, n])
    np.testing.assert_array_equal(whole(x), images)


@jax.jit
def convolved(x, kernel, weight):
    """The convolution, and the gradients of its sum with `weight`."""
    found, backward = jax.vjp(net.convolve, x, kernel)
    return found, *backward(weight)


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from([(1, 5), (2, 5), (3, 1), (3, 5), (3, 7)]),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 2**31),
)
def test_convolution_and_its_gradients(sizes, channels, features, seed):
    n, k = sizes
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(2, channels, 2 * n, 3 * n)).astype(np.float32)
    kernel = rng.normal(size=(k, k, channels, features)).astype(np.float32)
    weight = rng.normal(size=(2, features, 2 * n, 3 * n)).astype(np.float32)
    found, x_gradient, kernel_gradient = convolved(
        blocks(images, n), jnp.asarray(kernel), blocks(weight, n)
    )
    expected = np.zeros_like(weight)
    to_images, to_kernel = np.zeros_like(images), np.zeros_like(kernel)
    same = partial(signal.correlate2d, mode="same")
    for b, c, d in np.ndindex(2, channels, features):
        expected[b, d] += same(images[b, c], kernel[:, :, c, d])
        to_images[b, c] += same(weight[b, d], kernel[::-1, ::-1, c, d])
        padded = np.pad(images[b, c], k // 2)
        to_kernel[:, :, c, d] += signal.correlate2d(padded, weight[b, d], mode="valid")
    np.testing.assert_allclose(whole(found), expected, atol=1e-4)
    np.testing.assert_allclose(whole(x_gradient), to_images, atol=1e-4)
    np.testing.assert_allclose(kernel_gradient, to_kernel, atol=1e-4)


@pytest.mark.parametrize("n", [1, 3])
def test_pooling_by_three(n):
    images = np.random.default_rng(0).normal(size=(2, 3, 42, 42)).astype(np.float32)
    expected = images.reshape(2, 3, 14, 3, 14, 3).max(axis=(3, 5))
    np.testing.assert_array_equal(net.pool(blocks(images, n)).transpose(3, 0, 1, 2), expected)


@pytest.mark.parametrize("n", [1, 2])
def test_overlapping_pooling(n):
    """Windows of 3 around each second pixel; outside is less than any value."""
    images = np.random.default_rng(0).normal(size=(2, 3, 14, 14)).astype(np.float32) - 5
    size = (1, 1, 3, 3)
    around = ndimage.maximum_filter(images, size, mode="constant", cval=-np.inf)
    found = net.pool_overlapping(blocks(images, n)).transpose(3, 0, 1, 2)
    np.testing.assert_array_equal(found, around[:, :, ::2, ::2])


@pytest.mark.parametrize("n", [1, 3])
def test_the_largest_pixel(n):
    images = np.random.default_rng(0).normal(size=(2, 3, 42, 42)).astype(np.float32)
    found, backward = jax.vjp(net.largest_pixel, blocks(images, n))
    np.testing.assert_array_equal(found.T, images.max(axis=(2, 3)))
    (slope,) = backward(jnp.asarray([[1.0, 2], [3, 4], [5, 6]]))
    expected = np.where(images == images.max(axis=(2, 3), keepdims=True), 1, 0)
    expected = expected * np.asarray([[1, 3, 5], [2, 4, 6]])[:, :, None, None]
    np.testing.assert_array_equal(whole(slope), expected)


def test_the_first_of_equal_values_gets_the_gradient():
    x = jnp.asarray([[3.0, 7, 0], [7, 7, 0], [7, 1, 0]])
    found, backward = jax.vjp(net.largest, x)
    np.testing.assert_array_equal(found, [7, 7, 0])
    (slope,) = backward(jnp.asarray([1.0, 2, 3]))
    np.testing.assert_array_equal(slope, [[0, 2, 3], [1, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize("n", [1, 2])
def test_equal_values_in_overlapping_windows(n):
    """PyTorch's choice: the upper row, in it the left column, of those in the window."""
    image = np.zeros((1, 1, 14, 14), np.float32)
    image[0, 0, 3, 4] = image[0, 0, 4, 3] = 1  # of the window of output (2, 2)
    _, backward = jax.vjp(net.pool_overlapping, blocks(image, n))
    (slope,) = backward(jnp.zeros((1, 7, 7, 1)).at[0, 2, 2, 0].set(1))
    np.testing.assert_array_equal(np.argwhere(whole(slope)[0, 0]), [[3, 4]])


def computed(scale, x):
    """Values that XLA would rather compute again than keep."""
    return x * scale * jax.nn.sigmoid(x * 0.7 + scale) + jnp.sin(x) * 0.3


@pytest.mark.parametrize("loop", ["jit", "map", "fori_loop"])
@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**31))
def test_no_gradient_of_a_computed_maximum_is_lost(loop, seed):
    x = jax.random.normal(jax.random.key(seed), (9, 40, 16))
    one_more = jax.grad(lambda more, x: net.largest(computed(1.3, x) + more).sum())
    compiled = partial(jax.jit, compiler_options=AS_IN_USE)
    if loop == "jit":
        found = compiled(one_more)(0.0, x)
    elif loop == "map":
        found = compiled(partial(lax.map, partial(one_more, 0.0)))(x[None])[0]
    else:
        step = compiled(lambda x: lax.fori_loop(0, 1, lambda _, v: v * 0 + one_more(v, x), 0.0))
        found = step(x)
    np.testing.assert_allclose(found, 40 * 16)


# --- behaviour ------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 3, 4, 64])
def test_chunks_do_not_matter(chunk):
    variables, images = new(SMALL), random_images(4)
    found = forward(variables, images, SMALL._replace(chunk=chunk))
    expected = forward(variables, images, SMALL)
    np.testing.assert_allclose(found.score, expected.score, atol=1e-6)
    np.testing.assert_allclose(found.logits, expected.logits, atol=1e-6)


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_an_image_is_judged_on_its_own(formulation):
    shape = SMALL._replace(formulation=formulation)
    images = random_images(4)
    together = forward(new(shape), images, shape)
    others = forward(new(shape), images.at[1:].multiply(7), shape)
    np.testing.assert_allclose(others.score[0], together.score[0], atol=1e-6)
    np.testing.assert_allclose(others.logits[0], together.logits[0], atol=1e-6)
    assert np.abs(others.logits[1:] - together.logits[1:]).max() > 1e-3


def test_every_stream_sees_its_own_channel():
    images = random_images(2)
    whole = forward(new(SMALL), images, SMALL)
    for channel in range(3):
        changed = forward(new(SMALL), images.at[..., channel].multiply(2), SMALL)
        assert np.abs(changed.score - whole.score).max() > 1e-4
    shape = SMALL._replace(streams=("v",))
    trunk = {"v": new(SMALL)["params"]["trunk"]["v"]}
    params = {**new(shape)["params"], "trunk": trunk}
    alone = net.Stream(True).apply({"params": trunk["v"]}, blocks(images[..., 1][:, None], 3))
    both = net._trunk(params["trunk"], net._by_stream(images[..., 1:2], 3, shape), shape)
    np.testing.assert_allclose(both, alone, atol=1e-6)


@pytest.mark.parametrize("images", [(2, 42, 42, 2), (2, 42, 41, 3), (2, 3, 42, 42), (42, 42, 3)])
@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_wrong_images_are_refused(images, formulation):
    shape = SMALL._replace(formulation=formulation)
    with pytest.raises(AssertionError, match="shape"):
        net.apply(new(SMALL), jnp.zeros(images), shape)


@pytest.mark.parametrize("streams", [(), ("v", "u"), ("u", "u"), ("depth",)])
def test_unknown_streams_are_refused(streams):
    with pytest.raises(UserError, match=r"system.streams=.*: some of u, v, w"):
        net.init(KEY, net.Shape(streams=streams))
