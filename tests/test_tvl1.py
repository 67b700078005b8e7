"""`spotjax.flow` and `spotjax.median`: TV-L1 beside OpenCV's, its parts beside their plain form."""

import itertools
from functools import cache, partial
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from spotjax.data_prep.synthetic_layouts import NOISE, VideoTask
from spotjax.data_prep.synthetic_render import Renderer

from spotjax import flow
from spotjax.flow import Tvl1, tvl1, tvl1_pairs
from spotjax.median import _sorted, median

Pair = tuple[np.ndarray, np.ndarray]
NEAR = 1e-4  # px, mean: rounding only
CHAOS = 0.02  # px, mean: rounding that the threshold step has made grow


@cache
def compiled(parameters: Tvl1):  # type: ignore[no-untyped-def]
    return jax.jit(partial(tvl1, parameters=parameters))


def by_opencv(pair: Pair, p: Tvl1) -> np.ndarray:
    method = cv2.optflow.DualTVL1OpticalFlow.create(
        p.tau, p.lambda_, p.theta, p.scales, p.warps, p.epsilon, p.inner, p.outer, p.step,
        0.0, p.median, False,
    )  # fmt: skip
    return method.calc(*pair, None)


def gap(pair: Pair, parameters: Tvl1) -> float:
    """Mean distance in px from OpenCV's flow."""
    found = np.asarray(compiled(parameters)(*pair))
    assert found.dtype == np.float32 and found.shape == (*pair[0].shape, 2)
    return float(np.hypot(*np.moveaxis(found - by_opencv(pair, parameters), -1, 0)).mean())


def moved(image: np.ndarray, x: float, y: float, noise: float = 2.0, seed: int = 0) -> Pair:
    """`image` and itself moved by more in the middle than outside, both with noise."""
    rng = np.random.default_rng(seed)
    height, width = image.shape
    row, column = np.mgrid[:height, :width].astype(np.float32)
    bump = np.exp(-((row / height - 0.5) ** 2 + (column / width - 0.5) ** 2) / 0.08)
    other = cv2.remap(image, column - x * bump, row - y * bump, cv2.INTER_CUBIC)
    one, two = (i + rng.normal(0, noise, i.shape) for i in (image.astype(np.float32), other))
    return one.round().clip(0, 255).astype(np.uint8), two.round().clip(0, 255).astype(np.uint8)


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(0, 255, (height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    return ((smooth - smooth.min()) / np.ptp(smooth) * 255).astype(np.uint8)


def half_flat(height: int, width: int) -> np.ndarray:
    image = texture(height, width)
    image[:, width // 2 :] = 90
    return image


def rendered() -> Pair:
    """The face of a rendered video at rest and at its strongest expression, 128 px."""
    task = VideoTask("casme3", Path(), 0, 0, 4.0, 0)
    face, motion = task.face(), task.motion()
    drawn = Renderer(face, motion, task.generator(NOISE))
    apex = max(motion.expressions, key=lambda e: e.profile.max()).apex - 1
    x0, y0, x1, y1 = face.head_box
    frames = [drawn.draw(i, drawn.source_map(i))[y0:y1, x0:x1] for i in (0, apex)]
    one, two = (
        cv2.resize(cv2.cvtColor(f, cv2.COLOR_BGR2GRAY), (128, 128), interpolation=cv2.INTER_AREA)
        for f in frames
    )
    return one, two


def astronaut() -> np.ndarray:
    data = pytest.importorskip("skimage.data")
    grey = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey[:200, 130:330], (128, 128), interpolation=cv2.INTER_AREA)


PAIRS = {
    "rendered": rendered,
    "astronaut": lambda: moved(astronaut(), 1.5, -1.0),
    "half flat": lambda: moved(half_flat(128, 128), -2.0, 0.5),
}


@pytest.mark.parametrize("name", PAIRS)
def test_default_is_as_near_as_two_versions_of_opencv(name: str) -> None:
    assert gap(PAIRS[name](), Tvl1()) <= CHAOS


ONE_SCALE = Tvl1(scales=1)
ONE_WARP = Tvl1(warps=1)


@pytest.mark.parametrize("parameters", [ONE_SCALE, ONE_WARP], ids=["one scale", "one warp"])
@pytest.mark.parametrize("seed", range(3))
def test_one_scale_or_one_warp_is_opencv_s(parameters: Tvl1, seed: int) -> None:
    """60x44 px: the third scale has 28 columns, the fifth 18."""
    image = half_flat(60, 44) if seed == 2 else texture(60, 44, seed)
    assert gap(moved(image, 1.5 - seed, 1.0, seed=seed), parameters) <= NEAR


@pytest.mark.parametrize("shape", [(30, 19), (17, 40), (5, 9)])
def test_small_images_have_fewer_scales(shape: tuple[int, int]) -> None:
    """Only one here, since 19 and 17 px become 15 and 14: all five warps, so all is tested."""
    assert gap(moved(texture(*shape), 0.7, -0.5), Tvl1()) <= NEAR


def test_other_parameters_are_used() -> None:
    other = Tvl1(0.2, 0.1, 0.25, 2, 2, 0.02, 7, 3, 0.6, median=1)
    pair = moved(texture(48, 40), 1.0, 1.0)
    assert gap(pair, other) <= NEAR
    assert np.abs(by_opencv(pair, other) - by_opencv(pair, Tvl1())).mean() > 100 * NEAR


def test_identical_and_constant_images_do_not_move() -> None:
    image = texture(30, 19)
    for pair in ((image, image), (np.full_like(image, 7), np.full_like(image, 7))):
        np.testing.assert_array_equal(compiled(Tvl1())(*pair), 0)
    brighter = compiled(Tvl1())(np.full_like(image, 7), np.full_like(image, 200))
    assert np.isfinite(brighter).all()


def test_f32_images_go_from_0_to_1() -> None:
    pair = moved(texture(30, 19), 0.7, -0.5)
    scaled = tuple((image / 255).astype(np.float32) for image in pair)
    np.testing.assert_allclose(compiled(Tvl1())(*scaled), compiled(Tvl1())(*pair), atol=1e-3)


def test_pairs_are_computed_as_one_by_one() -> None:
    parameters = Tvl1(scales=2, warps=2)
    pairs = [moved(texture(24, 21, seed), seed, 0.5, seed=seed) for seed in range(3)]
    first, second = (np.stack(images) for images in zip(*pairs, strict=True))
    single = np.stack([compiled(parameters)(*pair) for pair in pairs])
    assert np.abs(single[1] - single[2]).max() > 0.1
    for how in ("auto", "vmap"):
        batch = jax.jit(partial(tvl1_pairs, parameters=parameters, how=how))(first, second)
        np.testing.assert_allclose(batch, single, atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 1), (8, 13)])
def test_the_median_is_that_of_sorting(shape: tuple[int, int]) -> None:
    height, width = shape
    images = np.random.default_rng(0).normal(size=(3, height + 4, width + 4)).astype(np.float32)
    images[1] = images[1].round()  # ties
    size = (height - 1) * (width + 4) + width
    found = jax.jit(partial(median, stride=width + 4, size=size))(
        images.reshape(3, -1), turn=jnp.int32(0)
    )
    windows = np.lib.stride_tricks.sliding_window_view(images, (5, 5), axis=(1, 2))
    plain = np.sort(windows.reshape(3, height, width, 25))[..., 12]
    rows = np.pad(np.asarray(found), ((0, 0), (0, 4))).reshape(3, height, width + 4)
    np.testing.assert_array_equal(rows[..., :width], plain)


def test_the_median_takes_any_order() -> None:
    """Comparisons that are right for all windows of 0 and 1 are right for all values.

    First every column of 5, then every choice of a column with 0 to 5 ones at each of 5 places.
    """
    columns = np.array(list(itertools.product((0, 1), repeat=5)), np.float32).T
    np.testing.assert_array_equal(_sorted(list(jnp.asarray(columns))), np.sort(columns, axis=0))
    ones = np.array(list(itertools.product(range(6), repeat=5)))
    windows = (np.arange(5)[:, None] < ones[:, None]).astype(np.float32)  # [7776, row, column]
    find = jax.jit(partial(median, stride=5, size=1))
    found = find(windows.reshape(-1, 25), turn=jnp.int32(0))
    np.testing.assert_array_equal(found[:, 0], ones.sum(axis=1) > 12)


def test_the_warp_is_opencv_s_bicubic() -> None:
    rng = np.random.default_rng(0)
    source = rng.uniform(0, 255, (20, 17, 3)).astype(np.float32)
    grid = flow._Grid(20, 17)
    field = rng.normal(0, 6, (2, 20, 17)).astype(np.float32)
    field[:, 3] = [[1e6], [-1e6]]  # far outside
    row = jnp.stack([grid.row(part) for part in field])
    found = jax.jit(partial(flow._sampled, grid=grid))(source, row, turn=jnp.int32(0))
    y, x = np.mgrid[:20, :17].astype(np.float32)
    for image, part in enumerate(found):
        expected = cv2.remap(source[..., image], x + field[0], y + field[1], cv2.INTER_CUBIC)
        got = np.asarray(part).reshape(20, grid.stride)[:, :17]
        np.testing.assert_allclose(got, expected, atol=2e-3)


def test_scales_are_opencv_s() -> None:
    image = texture(33, 47).astype(np.float32)
    smaller = flow._resized(jnp.asarray(image)[None], (26, 38), (1.25, 1.25))[0]
    plain = cv2.resize(image, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(smaller, plain, atol=1e-3)
    larger = flow._resized(jnp.asarray(plain)[None], (33, 47), (26 / 33, 38 / 47))[0]
    back = cv2.resize(plain, (47, 33), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(larger, back, atol=1e-3)


def test_wrong_images_are_refused() -> None:
    grey = np.zeros((20, 20), np.uint8)
    with pytest.raises(ValueError, match=r"of one size, 3 px at least, not \(20, 20\) and \(20, 1"):
        tvl1(grey, grey[:, :19])
    for wrong in (grey[0], grey[:2], grey[:0], np.zeros((20, 20, 3), np.uint8), np.uint8(1)):
        with pytest.raises(ValueError, match="two grey images"):
            tvl1(wrong, wrong)
    with pytest.raises(ValueError, match="an image is u8, or f32 from 0 to 1, not int32"):
        tvl1(grey.astype(np.int32), grey.astype(np.int32))
    with pytest.raises(ValueError, match="two stacks"):
        tvl1_pairs(grey, grey)
    with pytest.raises(ValueError, match="two stacks"):
        tvl1_pairs(grey[None], grey[None, :10])


@pytest.mark.parametrize(
    "wrong", [{"scales": 0}, {"inner": 0}, {"step": 1.0}, {"median": 3}, {"theta": 0.0}]
)
def test_impossible_parameters_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="median 1 or 5|above 0"):
        Tvl1(**wrong)  # type: ignore[arg-type]
