"""LBP-chi2: the u2 table, patterns against a loop, distances by hand."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data_prep import lbp

small = hnp.arrays(np.uint8, (14, 17), elements=st.integers(0, 12))
normalised = hnp.arrays(np.float64, (4, 59), elements=st.floats(0, 1)).map(
    lambda h: ((h + 1e-3) / (h + 1e-3).sum(axis=1, keepdims=True)).astype(np.float32)
)


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """u8[227, 227]: a texture."""
    noise = np.random.default_rng(0).uniform(0, 255, (227, 227)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    return ((smooth - smooth.min()) / np.ptp(smooth) * 110).astype(np.uint8)


def one_bin(*which: int) -> np.ndarray:
    """f32[n, 59]: normalised histograms of a single bin each."""
    return np.eye(lbp.BINS, dtype=np.float32)[list(which)]


def test_u2_has_58_uniform_bins_and_one_for_the_rest() -> None:
    table = lbp.UNIFORM_BINS
    assert table.shape == (256,)
    changes = [f"{code:08b}" for code in range(256)]
    uniform = [sum(a != b for a, b in zip(c, c[1:] + c[0], strict=True)) <= 2 for c in changes]
    assert sum(uniform) == 58
    assert table[uniform].tolist() == list(range(58))
    assert set(table[~np.array(uniform)].tolist()) == {58}
    assert table[[0b0, 0b1, 0b10, 0b11, 0b100, 0b101, 0b11111111]].tolist() == [
        0, 1, 2, 3, 4, 58, 57,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "column", "bit"),
    [(3, 6, 0), (1, 5, 1), (0, 3, 2), (1, 1, 3), (3, 0, 4), (5, 1, 5), (6, 3, 6), (5, 5, 7)],
)
def test_bits_go_round_from_the_right(row: int, column: int, bit: int) -> None:
    image = np.full((7, 7), 10, np.uint8)
    image[3, 3] = 20
    image[row, column] = 250
    assert lbp.patterns(image).tolist() == [[1 << bit]]


@given(small)
@settings(max_examples=60, deadline=None)
def test_the_loop_gives_the_same_patterns(image: np.ndarray) -> None:
    """Against bilinear interpolation in float64, where it is not a tie to 0.001 of a grey."""
    found = lbp.patterns(image)
    assert found.shape == (8, 11) and found.dtype == np.uint8
    grey = image.astype(float)
    for (y, x), code in np.ndenumerate(found):
        for bit in range(8):
            angle = bit * np.pi / 4
            at_y, at_x = 3 + y - 3 * np.sin(angle), 3 + x + 3 * np.cos(angle)
            top, left = int(np.floor(at_y + 1e-9)), int(np.floor(at_x + 1e-9))
            down, right = at_y - top, at_x - left
            corners = grey[top : top + 2, left : left + 2]
            corners = np.pad(corners, ((0, 2 - corners.shape[0]), (0, 2 - corners.shape[1])))
            neighbour = np.array([1 - down, down]) @ corners @ np.array([1 - right, right])
            difference = neighbour - grey[3 + y, 3 + x]
            if abs(difference) > 1e-3:
                assert bool(code >> bit & 1) == (difference > 0)


@given(small, st.integers(1, 20), st.integers(0, 15))
@settings(max_examples=60, deadline=None)
def test_patterns_survive_gain_and_offset(image: np.ndarray, gain: int, offset: int) -> None:
    brighter = (gain * image.astype(int) + offset).astype(np.uint8)  # at most 20 * 12 + 15
    np.testing.assert_array_equal(lbp.patterns(brighter), lbp.patterns(image))


@pytest.mark.parametrize("grey", [0, 1, 77, 255])
def test_a_flat_image_is_one_pattern(grey: int) -> None:
    image = np.full((60, 60), grey, np.uint8)
    assert (lbp.patterns(image) == 255).all()
    found = lbp.histograms(image)
    assert found.shape == (36, 59) and found.dtype == np.float32
    np.testing.assert_array_equal(found, one_bin(*[57] * 36))


def test_histograms_of_the_crop(face: np.ndarray) -> None:
    found = lbp.histograms(face)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    bins = lbp.UNIFORM_BINS[lbp.patterns(face)]
    blocks = {0: (slice(0, 34), slice(0, 34)), 8: (slice(34, 71), slice(71, 108)),
              35: (slice(182, 219), slice(182, 219))}  # fmt: skip
    for block, part in blocks.items():
        counts = np.bincount(bins[part].ravel(), minlength=59)
        np.testing.assert_allclose(found[block], counts / counts.sum(), rtol=1e-6)


def test_the_rest_beside_the_blocks_is_unused(face: np.ndarray) -> None:
    changed = face.copy()
    changed[225:] = changed[:, 225:] = 0  # px 222 to 226 lie in no block, 224 is the last neighbour
    np.testing.assert_array_equal(lbp.histograms(changed), lbp.histograms(face))
    changed[100, 100] = 255 - changed[100, 100]
    different = (lbp.histograms(changed) != lbp.histograms(face)).any(axis=1)
    assert np.flatnonzero(different).tolist() == [14]


def test_blocks_without_a_remainder() -> None:
    image = np.random.default_rng(1).integers(0, 256, (24, 30)).astype(np.uint8)
    bins = lbp.UNIFORM_BINS[lbp.patterns(image)]  # blocks of 4x5 px, 1x2 patterns in the corners
    expected = np.bincount(bins[-1:, -2:].ravel(), minlength=59) / 2
    np.testing.assert_array_equal(lbp.histograms(image)[35], expected)


@given(normalised, normalised)
@settings(max_examples=50, deadline=None)
def test_distance_is_symmetric_and_within_0_and_1(a: np.ndarray, b: np.ndarray) -> None:
    found = lbp.distance(a, b)
    assert found.shape == (4,) and found.dtype == np.float64
    np.testing.assert_array_equal(found, lbp.distance(b, a))
    assert (found >= 0).all() and (found <= 1 + 1e-6).all()
    assert (lbp.distance(a, a) == 0).all()


def test_distance_by_hand() -> None:
    assert lbp.distance(one_bin(3, 7), one_bin(5, 7)).tolist() == [1, 0]
    half = (one_bin(0) + one_bin(1)) / 2
    assert lbp.distance(half, one_bin(0))[0] == pytest.approx(0.5 * (0.25 / 1.5 + 0.25 / 0.5))


def test_feature_is_the_mean_of_the_twelve_largest_distances() -> None:
    rest = one_bin(*[0] * 36)
    now = rest.copy()
    now[:6] = one_bin(*[9] * 6)  # distance 1
    assert lbp.feature(rest, now, rest) == 0.5
    away = one_bin(*[4] * 36)
    away[12:] = rest[12:]  # FF of 12 blocks lies half way: distance 1/3
    now = rest.copy()
    assert lbp.feature(rest, now, away) == pytest.approx(1 / 3)
    assert lbp.feature(away, now, rest) == lbp.feature(rest, now, away)


def test_a_passing_change_beats_a_lasting_one(face: np.ndarray) -> None:
    rest = lbp.histograms(face)
    changed = lbp.histograms(cv2.GaussianBlur(face, (0, 0), 3))
    assert lbp.feature(rest, rest, rest) == 0
    assert lbp.feature(rest, changed, rest) > 2 * lbp.feature(rest, changed, changed) > 0


def test_wrong_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"u8\[H, W\]"):
        lbp.histograms(np.zeros((60, 60), np.float32))
    with pytest.raises(ValueError, match=r"u8\[H, W\]"):
        lbp.histograms(np.zeros((60, 60, 3), np.uint8))
    with pytest.raises(ValueError, match="more than 6x6 px"):
        lbp.patterns(np.zeros((6, 60), np.uint8))
    with pytest.raises(ValueError, match="too small for 6x6 blocks"):
        lbp.histograms(np.zeros((23, 60), np.uint8))
