from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import swmro, swmro_reduce
from data_prep.swmro_reduce import REDUCTIONS

Shared = Callable[[str], Path]


@pytest.fixture
def golden(shared: Shared) -> dict[str, np.ndarray]:
    return dict(np.load(shared("goldens/roi_reductions.npz")))


def patch(golden: dict[str, np.ndarray], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    (x0, y0), (x1, y1) = low, high
    return golden["flow_hw2_xy"][y0:y1, x0:x1].reshape(-1, 2)


def test_topk_golden(golden: dict[str, np.ndarray]) -> None:
    assert golden["node_order_landmarks"].tolist() == list(swmro.LANDMARKS)
    points = golden["landmarks68_xy"][list(swmro.LANDMARKS)]
    expected = golden["zhao/get_roi_10nodes_pm10_top0.2"]
    for point, vector in zip(points, expected, strict=True):
        found = swmro_reduce.topk(patch(golden, point - 10, point + 10), "mouth")
        np.testing.assert_allclose(found, vector, atol=1e-5)


def test_abpn_golden(golden: dict[str, np.ndarray]) -> None:
    """Twelve 11x11 boxes and the nose of the release, whose order of the points is its own."""
    points = golden["landmarks68_xy"]
    grow = int((points[42, 0] - points[39, 0]) / 2 * 0.35)
    nose_box = points[29:31].min(axis=0) - grow, points[29:31].max(axis=0) + grow + 1
    nose = swmro_reduce.abpn(patch(golden, *nose_box), "nose")
    np.testing.assert_allclose(nose, golden["auw/global_nose_vector"], atol=1e-5)
    numbers = (18, 19, 20, 23, 24, 25, 28, 30, 48, 51, 54, 57)
    for number, vector in zip(numbers, golden["auw/roi_features_12x2_radius5"], strict=True):
        vectors = patch(golden, points[number] - 5, points[number] + 6) - nose
        np.testing.assert_allclose(swmro_reduce.abpn(vectors, "mouth"), vector, atol=1e-5)


def test_mean_and_mdmo_by_hand() -> None:
    vectors = np.array([(3, 1), (5, 1), (0, 2), (-4, -1), (4, -1)], np.float32)
    np.testing.assert_allclose(swmro_reduce.mean(vectors, "nose"), (1.6, 0.4), rtol=1e-6)
    np.testing.assert_allclose(swmro_reduce.mdmo8(vectors, "nose"), (4, 1), rtol=1e-6)


@pytest.mark.parametrize("direction", range(8))
def test_mdmo_directions_begin_at_multiples_of_45_degrees(direction: int) -> None:
    angle = np.pi / 4 * (direction + np.array([0.01, 0.5, 0.99]))
    inside = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    outside = np.stack([np.cos(angle[:2] + np.pi), np.sin(angle[:2] + np.pi)], axis=1)
    vectors = np.concatenate([outside, inside]).astype(np.float32)
    np.testing.assert_allclose(swmro_reduce.mdmo8(vectors, "nose"), inside.mean(0), rtol=1e-5)


def test_mdmo_ties_and_zeros() -> None:
    vectors = np.array([(0, 1), (2, 1), (0, 3), (4, 1)], np.float32)  # two of 0, two of 90 degrees
    np.testing.assert_array_equal(swmro_reduce.mdmo8(vectors, "nose"), (3, 1))
    left = np.array([(-1, 0.0), (-3, -0.0)], np.float32)  # 180 and -180 degrees are one direction
    np.testing.assert_array_equal(swmro_reduce.mdmo8(left, "nose"), (-2, 0))
    for reduce in REDUCTIONS.values():
        np.testing.assert_array_equal(reduce(np.zeros((9, 2), np.float32), "nose"), (0, 0))


@pytest.mark.parametrize(("part", "kept"), [("left_brow", 2), ("right_brow", 3), ("nose", 7)])
def test_topk_keeps_the_share_of_its_part(part: str, kept: int) -> None:
    vectors = np.stack([np.arange(10), np.zeros(10)], axis=1).astype(np.float32)
    assert swmro_reduce.topk(vectors, part)[0] == np.arange(10 - kept, 10).mean()


def test_abpn_by_hand() -> None:
    down = [(0, 1), (0, 2), (0, 3), (1, 4), (-1, 4)]  # 60 % of five: the three longest
    found = swmro_reduce.abpn(np.array([*down, (7, 0), (-7, 0)], np.float32), "mouth")
    length = (3 + 2 * np.sqrt(17)) / 3
    np.testing.assert_allclose(found, (0, length), atol=1e-5)


def test_abpn_keeps_at_least_one() -> None:
    """The release rounds 60 % of one vector down to none, and gives nan."""
    found = swmro_reduce.abpn(np.array([(3, 0), (0, 2), (-1, 0)], np.float32), "mouth")
    np.testing.assert_allclose(found, (0, 2), atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 40), name=st.sampled_from([*REDUCTIONS]))
def test_one_finite_vector_in_any_order(seed: int, size: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(0, 3, (size, 2)).astype(np.float32)
    for part in ("left_brow", "right_brow", "mouth", "nose"):
        found = REDUCTIONS[name](vectors, part)
        assert found.shape == (2,) and found.dtype == np.float32 and np.isfinite(found).all()
        assert np.linalg.norm(found) <= np.linalg.norm(vectors, axis=1).max() * (1 + 1e-5)
        again = REDUCTIONS[name](rng.permutation(vectors), part)
        np.testing.assert_allclose(again, found, atol=1e-5)
