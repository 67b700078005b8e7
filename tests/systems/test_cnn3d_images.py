import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from spotjax.systems import cnn3d_images

KEY = jax.random.key(0)
contrast = jax.jit(cnn3d_images.local_contrast)
changed = jax.jit(cnn3d_images.changed)


def textures(*shape, seed=0):
    """Smooth random images in [0, 1]."""
    noise = np.random.default_rng(seed).random(shape)
    smooth = ndimage.gaussian_filter(noise, [0] * (len(shape) - 2) + [1.5, 1.5])
    smooth -= smooth.min()
    return jnp.asarray(smooth / smooth.max(), jnp.float32)


def smoothed(image):
    """Gaussian smoothing with mirrored borders, by SciPy in double precision."""
    return ndimage.gaussian_filter(np.asarray(image, np.float64), 4, radius=12, mode="mirror")


# --- local contrast -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [16, 32, 112])
def test_the_matrix_is_a_convolution_with_mirrored_borders(size):
    image = np.random.default_rng(size).random((size, size))
    blur = cnn3d_images.gaussian(size)
    np.testing.assert_allclose(blur @ image @ blur.T, smoothed(image), atol=2e-6)
    np.testing.assert_allclose(blur.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("size", [16, 112])
def test_local_contrast_is_equation_1(size):
    image = np.asarray(textures(size, size), np.float64)
    v = image - smoothed(image)
    sigma = np.sqrt(smoothed(v * v))
    expected = v / np.maximum(sigma, sigma.mean())
    np.testing.assert_allclose(contrast(jnp.asarray(image, jnp.float32)), expected, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.2, 4), st.floats(-1, 1), st.integers(0, 2**31))
def test_brightness_and_contrast_drop_out(gain, offset, seed):
    """Also at the border, where zeros outside would show."""
    image = textures(32, 32, seed=seed)
    np.testing.assert_allclose(contrast(gain * image + offset), contrast(image), atol=1e-5)


def test_brightness_and_contrast_drop_out_of_a_whole_image():
    image = textures(112, 112)
    np.testing.assert_allclose(contrast(0.3 * image + 0.5), contrast(image), atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.3, 0.7, 1.0])
def test_an_image_without_contrast_becomes_zero(value):
    np.testing.assert_allclose(contrast(jnp.full((2, 112, 112), value)), 0, atol=1e-5)


def test_images_are_normalised_one_by_one():
    images = textures(2, 3, 32, 32)
    found = contrast(images.at[0, 1].multiply(0.1))
    np.testing.assert_allclose(found, contrast(images), atol=1e-5)
    np.testing.assert_allclose(found[1, 2], contrast(images[1, 2]), atol=1e-6)


# --- augmentation ---------------------------------------------------------------------------------


def change(count=1, **values):
    """Neutral changes but for `values`."""
    neutral = {"angle": 0.0, "flip": False, "contrast": 1.0, "gamma": 1.0, "gain": 1.0}
    return cnn3d_images.Change(*(jnp.full(count, v) for v in (neutral | values).values()))


def test_neutral_changes_change_nothing():
    images = textures(2, 4, 32, 32)
    np.testing.assert_allclose(changed(images, change(2)), images, atol=1e-6)


@pytest.mark.parametrize("size", [32, 112])
@pytest.mark.parametrize("angle", [10.0, -10.0, 3.3])
def test_rotation_is_scipys(size, angle):
    images = textures(1, 2, size, size)
    found = changed(images, change(angle=angle))[0]
    for image, turned in zip(images[0], found, strict=True):
        expected = ndimage.rotate(image, angle, reshape=False, order=1, mode="mirror")
        np.testing.assert_allclose(turned, expected, atol=3e-5)


def test_the_flip_comes_after_the_rotation():
    images = textures(1, 2, 32, 32)
    turned = changed(images, change(angle=7.0))
    found = changed(images, change(angle=7.0, flip=True))
    np.testing.assert_allclose(found, turned[..., ::-1], atol=1e-5)
    np.testing.assert_allclose(changed(images, change(flip=True)), images[..., ::-1], atol=1e-6)


def test_contrast_gamma_and_gain_by_hand():
    """Contrast is about the mean of all images of the sample, .5 here."""
    images = jnp.stack([jnp.full((16, 16), v) for v in (0.3, 0.7)])[None]

    def values(**given):
        return changed(images, change(**given))[0, :, 3, 5]

    np.testing.assert_allclose(values(contrast=1.5), [0.2, 0.8], rtol=1e-5)
    np.testing.assert_allclose(values(contrast=0.5), [0.4, 0.6], rtol=1e-5)
    np.testing.assert_allclose(values(gamma=1.5), [0.3**1.5, 0.7**1.5], rtol=1e-5)
    np.testing.assert_allclose(values(gain=1.5), [0.45, 1], rtol=1e-5)
    found = values(contrast=1.5, gamma=0.5, gain=1.1)
    np.testing.assert_allclose(found, [1.1 * 0.2**0.5, 1.1 * 0.8**0.5], rtol=1e-5)


def test_what_contrast_drives_below_zero_has_no_power():
    images = jnp.zeros((1, 2, 16, 16)).at[..., :1].set(1)
    found = changed(images, change(contrast=1.5, gamma=0.5))
    assert np.isfinite(found).all() and found.min() == 0 and found.max() == 1


def test_the_images_of_a_sample_change_alike_and_samples_differently():
    one = textures(1, 1, 32, 32)
    found = cnn3d_images.augment(jnp.broadcast_to(one, (3, 4, 32, 32)), KEY)
    for sample in found:
        np.testing.assert_array_equal(sample, jnp.broadcast_to(sample[:1], sample.shape))
    assert np.abs(found[0] - found[1]).max() > 0.05 < np.abs(found[1] - found[2]).max()
    assert found.min() >= 0 and found.max() <= 1 and found.dtype == jnp.float32


def test_ranges_of_the_changes():
    drawn = cnn3d_images.draw(KEY, 4000)
    for values, low, high in (
        (drawn.angle, -10, 10), (drawn.contrast, 0.5, 1.5), (drawn.gamma, 0.5, 1.5),
        (drawn.gain, 0.5, 1.5),
    ):  # fmt: skip
        spread = high - low
        assert low <= values.min() < low + 0.01 * spread
        assert high - 0.01 * spread < values.max() <= high
        assert abs(values.mean() - (low + high) / 2) < 5 * spread / 12**0.5 / 4000**0.5
    assert abs(drawn.flip.mean() - 0.5) < 5 * 0.5 / 4000**0.5
    numbers = np.corrcoef(np.stack([np.asarray(values, float) for values in drawn]))
    assert np.abs(numbers - np.eye(5)).max() < 5 / 4000**0.5


def test_folds_side_by_side_equal_one_after_another():
    images = textures(2, 3, 4, 16, 16)
    keys = jax.random.split(KEY, 2)
    together = jax.vmap(cnn3d_images.augment)(images, keys)
    for fold in range(2):
        alone = cnn3d_images.augment(images[fold], keys[fold])
        np.testing.assert_allclose(together[fold], alone, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 16, 16), (2, 4, 16, 18)])
def test_other_images_are_refused(shape):
    with pytest.raises(AssertionError):
        cnn3d_images.augment(jnp.zeros(shape), KEY)
    with pytest.raises(AssertionError):
        cnn3d_images.changed(jnp.zeros((2, 4, 16, 16)), change(3))
