"""Holes, trust and boundaries of a depth image, by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from data_prep.scene_flow import fill_holes
from data_prep.scene_flow_depth import smoothness_weights, trust
from spotjax.errors import UserError


def test_a_hole_gets_the_median_of_its_neighbours() -> None:
    depth = np.array([[1, 2, 3], [8, 0, 4], [7, 6, 5]], np.uint16)
    filled = fill_holes(depth)
    assert filled.dtype == np.float32 and filled[1, 1] == 5  # the upper one of 4 and 5
    np.testing.assert_array_equal(np.delete(filled, 4), np.delete(depth, 4))
    np.testing.assert_array_equal(depth[1], (8, 0, 4))  # the input stays


def test_what_has_most_known_neighbours_is_filled_first() -> None:
    depth = np.array([[10, 20, 30, 0, 0]], np.uint16)
    np.testing.assert_array_equal(fill_holes(depth), [[10, 20, 30, 30, 30]])
    depth = np.array(
        [
            [9, 9, 9, 9, 1],
            [9, 0, 0, 0, 1],  # the left pixel has 5 known neighbours, so has the right one;
            [9, 0, 0, 0, 1],  # the middle one has 3 and comes after them
            [9, 9, 9, 9, 1],
        ],
        np.uint16,
    )
    filled = fill_holes(depth)
    np.testing.assert_array_equal(filled[:, 1], 9)
    assert filled[1, 3] == 1  # of 9, 9, 1, 1, 1: the third
    np.testing.assert_array_equal(filled[1:3, 2], 9)


def test_large_holes_and_odd_values_are_filled() -> None:
    depth = np.zeros((200, 200), np.float32)
    depth[:, 0], depth[3, 3], depth[4, 4] = 600, np.nan, -1
    np.testing.assert_array_equal(fill_holes(depth), 600)
    depth[:, -1] = 900
    filled = fill_holes(depth)
    assert set(np.unique(filled)) == {600, 900}
    np.testing.assert_array_equal(filled[:, :90], 600)
    np.testing.assert_array_equal(filled[:, -90:], 900)


@given(
    arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 4))
)
@settings(deadline=None, max_examples=60)
def test_filling_keeps_what_is_known_and_invents_nothing(depth: np.ndarray) -> None:
    if not depth.any():
        with pytest.raises(UserError, match="nothing in it was measured"):
            fill_holes(depth)
        return
    filled = fill_holes(depth)
    np.testing.assert_array_equal(filled[depth > 0], depth[depth > 0])
    assert set(np.unique(filled)) <= set(depth[depth > 0].tolist())


def test_wrong_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="must be u16 or f32"):
        fill_holes(np.ones((4, 4), np.uint8))
    with pytest.raises(ValueError, match="must be u16 or f32"):
        fill_holes(np.ones((4, 4, 1), np.float32))


def test_trust_falls_with_the_distance_from_the_camera() -> None:
    far = 1 / 0.00285
    for metres in (0.5, 1.0, 2.0):
        expected = (far + metres) / (far + 1) / metres**2
        found = trust(np.full((6, 6), metres, np.float32))
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(trust(np.ones((3, 3), np.float32)), 1)


def test_trust_is_low_in_holes_and_near_steps() -> None:
    depth = np.ones((1, 12), np.float32)
    depth[0, 6:] = 1.03  # more than 2 cm
    found = trust(depth)[0]
    distance = np.array([5, 4, 3, 2, 1, 0, 1, 2, 3, 4, 5, 6])
    expected = 10.0 ** -np.clip(1 - distance / 4, 0, 1) * np.where(depth[0] > 1, 1 / 1.03**2, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    depth[0, 6:] = 1.019
    np.testing.assert_allclose(trust(depth)[0, :6], 1)
    hole = np.ones((1, 12), np.float32)
    hole[0, 3] = 0
    found = trust(hole)[0]
    at_1_m = 1 / (1 / 0.00285 + 1)
    np.testing.assert_allclose(found[3], at_1_m / 10, rtol=1e-5)
    np.testing.assert_allclose(found[[4, 6, 7]], [10**-0.75, 10**-0.25, 1], rtol=1e-5)


def test_a_step_in_depth_parts_the_flow() -> None:
    depth = np.ones((20, 20), np.float32)
    depth[:, 10:] = 1.02
    right, below = smoothness_weights(depth, 100.0)
    chance = 1 - np.exp(-1)
    np.testing.assert_allclose(right[:, 9], 1 - 0.99 * chance, rtol=1e-4)
    right[:, 9] = 1
    np.testing.assert_array_equal(right, 1)
    np.testing.assert_array_equal(below, 1)
    right, below = smoothness_weights(depth.T.copy(), 100.0)
    np.testing.assert_allclose(below[9], 1 - 0.99 * chance, rtol=1e-4)
    np.testing.assert_array_equal(right, 1)


def test_only_the_strongest_step_within_reach_parts() -> None:
    depth = np.ones((4, 30), np.float32)
    depth[:, 10:] += 0.02
    depth[:, 12:] += 0.04  # the strongest of three
    depth[:, 14:] += 0.02
    depth[:, 25:] += 0.02  # alone
    near = np.flatnonzero(smoothness_weights(depth, 100.0)[0][0] < 1)  # reach: 2 px
    np.testing.assert_array_equal(near, [11, 24])
    near = np.flatnonzero(smoothness_weights(depth, 50.0)[0][0] < 1)  # 1 px
    np.testing.assert_array_equal(near, [9, 11, 13, 24])


def test_the_outermost_pixels_are_not_cut_off() -> None:
    depth = np.ones((9, 9), np.float32)
    depth[0], depth[-1], depth[:, 0], depth[:, -1] = 2, 2, 2, 2
    np.testing.assert_array_equal(smoothness_weights(depth, 50.0), 1)
