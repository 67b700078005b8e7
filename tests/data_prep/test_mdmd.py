"""MDMD's feature: hand-worked blocks, a loop as reference, moving texture."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data_prep import mdmd
from data_prep.flow import farneback
from spotjax.decoding import contrast


def flow_of(u: object, v: object) -> np.ndarray:
    return np.stack(np.broadcast_arrays(u, v), axis=-1).astype(np.float32)


def reference(
    before: np.ndarray, after: np.ndarray, blocks: int, matlab_compat: bool = False
) -> list[float]:
    """Block values pixel by pixel, with angles in degrees."""
    height, width = before.shape[0] // blocks, before.shape[1] // blocks
    values = []
    for top in range(0, blocks * height, height):
        for left in range(0, blocks * width, width):
            bins: list[list[float]] = [[], [], [], []]
            for y in range(top, top + height):
                for x in range(left, left + width):
                    u, v = (float(value) for value in before[y, x])
                    difference = float(np.hypot(u, v) - np.hypot(*after[y, x].astype(float)))
                    if matlab_compat:
                        angle = np.degrees(np.arctan(u / v)) if v else {-1: -90.0}.get(np.sign(u))
                        if angle is not None:
                            bins[0 if angle >= 0 else 3].append(difference)
                    else:
                        angle = np.degrees(np.arctan2(v + 0.0, u + 0.0)) % 360
                        bins[int(angle // 90)].append(difference)
            main = max(bins, key=len)  # the first of equals
            top_third = sorted(main, reverse=True)[: max(1, int(len(main) / 3 + 0.5))]
            values.append(sum(top_third) / len(top_third) if main else 0.0)
    return values


def test_a_block_by_hand() -> None:
    """Nine pixels: six to the upper right, of which the best two count; three elsewhere."""
    before = flow_of([[3, 1, 2], [4, 5, 6], [-9, -9, 9]], [[0, 0, 0], [0, 0, 0], [0, 0, -1]])
    after = flow_of([[1, 0, 0], [0, 1, 0], [0, 0, 0]], 0)  # d = 2, 1, 2, 4, 4, 6 and others
    assert mdmd.block_values(before, after, 1).tolist() == [5]
    assert mdmd.feature(before, after, 1) == 5


def test_the_feature_is_the_mean_of_the_twelve_largest_of_36_blocks() -> None:
    size = np.arange(36, dtype=np.float32)
    u = np.kron(size.reshape(6, 6), np.ones((37, 37), np.float32))
    before = np.zeros((227, 227, 2), np.float32)
    before[:222, :222, 0] = u
    before[222:] = before[:, 222:] = 1000  # unused
    after = np.zeros_like(before)
    np.testing.assert_allclose(mdmd.block_values(before, after), size, rtol=1e-6)
    assert mdmd.feature(before, after) == pytest.approx(size[-12:].mean())


@pytest.mark.parametrize(
    ("u", "v", "quadrant"),
    [(1, 0, 0), (1, 1, 0), (0, 1, 1), (-1, 1, 1), (-1, 0, 2), (-1, -1, 2), (0, -1, 3), (1, -1, 3),
     (0, 0, 0), (-0.0, -0.0, 0), (1, -0.0, 0), (-1, -0.0, 2)],
)  # fmt: skip
def test_main_direction_is_a_half_open_quadrant(u: float, v: float, quadrant: int) -> None:
    """Of 3 + 2 pixels the three win; the two join them only if (u, v) is in their quadrant."""
    inside = [(2, 1), (-1, 2), (-2, -1), (1, -2)][quadrant]
    for other, joins in enumerate([(2, 1), (-1, 2), (-2, -1), (1, -2)]):
        before = np.array([[joins] * 3 + [(u, v)] * 2], np.float32)
        after = np.zeros_like(before)
        after[0, :3] = 100  # d is below -100 for the three, at least 0 for the two
        value = mdmd.block_values(before, after, 1)[0]
        assert (value > -100) == (joins == inside), other


def test_the_public_code_merges_opposite_directions() -> None:
    """Two pixels in the first quadrant, two opposite, one long one in the second."""
    before = flow_of([[1, 1, -3, -1, -10]], [[2, 2, -6, -2, 20]])
    after = np.zeros_like(before)
    assert mdmd.block_values(before, after, 1)[0] == pytest.approx(np.sqrt(5))
    compat = mdmd.block_values(before, after, 1, matlab_compat=True)[0]
    assert compat == pytest.approx(3 * np.sqrt(5))


def test_a_block_without_direction_is_zero_in_the_public_codes_directions() -> None:
    before, after = flow_of(np.ones((6, 6)), 0), flow_of(np.zeros((6, 6)), 0)
    assert mdmd.feature(before, after, 2, matlab_compat=True) == 0
    assert mdmd.feature(before, after, 2) == 1


coarse = hnp.arrays(np.float32, (2, 11, 13, 2), elements=st.sampled_from([-2, -1, -0.0, 0, 1, 3]))


@given(coarse, st.integers(1, 4), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_loop_gives_the_same_with_ties_and_zeros(
    flows: np.ndarray, blocks: int, compat: bool
) -> None:
    found = mdmd.block_values(flows[0], flows[1], blocks, compat)
    np.testing.assert_allclose(found, reference(flows[0], flows[1], blocks, compat), atol=1e-5)


@pytest.mark.parametrize("compat", [False, True])
def test_the_loop_gives_the_same_on_a_whole_crop(compat: bool) -> None:
    rng = np.random.default_rng(0)
    before, after = rng.normal(0.2, 1, (2, 227, 227, 2)).astype(np.float32)
    expected = reference(before, after, 6, compat)
    found = mdmd.block_values(before, after, matlab_compat=compat)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    top = np.sort(expected)[-12:].mean()
    assert mdmd.feature(before, after, matlab_compat=compat) == pytest.approx(top, rel=1e-5)


def test_wrong_shapes_are_refused() -> None:
    flow = np.zeros((12, 12, 2), np.float32)
    with pytest.raises(ValueError, match="must be equal"):
        mdmd.feature(flow, flow[:6])
    with pytest.raises(ValueError, match="must be equal"):
        mdmd.feature(flow[..., 0], flow[..., 0])
    with pytest.raises(ValueError, match="no 6x6 blocks"):
        mdmd.feature(flow[:5], flow[:5])


K, LENGTH, APEX = 5, 44, 21
ROW, COLUMN = 2, 3


@pytest.fixture(scope="module")
def texture() -> np.ndarray:
    noise = np.random.default_rng(3).uniform(0, 255, (180, 180)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    return (smooth - smooth.min()) / np.ptp(smooth) * 255


def frame(texture: np.ndarray, shift: float, bump: float) -> np.ndarray:
    """120x120: everything `shift` px to the right, block (2, 3) another `bump` px downwards."""
    y, x = np.mgrid[30:150, 30:150].astype(np.float32)
    centre_y, centre_x = 40 + 20 * ROW, 40 + 20 * COLUMN
    patch = np.exp(-((y - centre_y) ** 2 + (x - centre_x) ** 2) / (2 * 7.0**2))
    moved = cv2.remap(texture, x - shift, y - np.float32(bump) * patch, cv2.INTER_CUBIC)
    return moved.clip(0, 255).astype(np.uint8)


def features(images: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """f32[T] and validity of the features with half-window K."""
    flow, values = farneback(), np.zeros(len(images), np.float32)
    rows = range(K, len(images) - K)
    for i in rows:
        first = images[i - K]
        values[i] = mdmd.feature(flow(first, images[i]), flow(first, images[i + K]))
    valid = np.zeros(len(images), bool)
    valid[rows] = True
    return values, valid


def test_a_global_shift_has_no_contrast(texture: np.ndarray) -> None:
    values, valid = features([frame(texture, 0.2 * i, 0) for i in range(LENGTH)])
    curve = contrast.contrast_mdmd(values, valid, K)
    assert np.isfinite(curve).sum() == LENGTH - 4 * K + 2
    assert values[valid].mean() == pytest.approx(-0.2 * K, abs=0.3)  # |A| - |B|: it goes on
    assert np.nanmax(np.abs(curve)) < 0.15


def test_a_local_movement_out_and_back_peaks_at_its_apex(texture: np.ndarray) -> None:
    size = 2.5 * np.exp(-((np.arange(LENGTH) - APEX) ** 2) / (2 * 1.5**2))
    images = [frame(texture, 0, bump) for bump in size]
    values, valid = features(images)
    curve = contrast.contrast_mdmd(values, valid, K)
    assert np.nanargmax(curve) == APEX
    assert curve[APEX] > 0.15
    flow = farneback()
    blocks = mdmd.block_values(
        flow(images[APEX - K], images[APEX]), flow(images[APEX - K], images[APEX + K])
    )
    assert blocks.argmax() == 6 * ROW + COLUMN
    (found,), drawn = contrast.spot(curve, 0.5, 1, None, "micro")
    assert found.apex == APEX and found.onset <= APEX <= found.offset
    assert found.score == pytest.approx(float(curve[APEX]) - drawn.threshold)
