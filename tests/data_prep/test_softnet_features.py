from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_sets import landmarks

from data_prep import faces, softnet
from spotjax.errors import UserError

Shared = Callable[[str], Path]
SETS = ("A_interior", "B_near_border", "C_low_right")


@pytest.fixture
def points() -> np.ndarray:
    """f32[68, 2]: the tiny sets' landmarks in their crop."""
    return faces.landmarks_in_crop(faces.Face((76, 86, 176, 186), landmarks()))


@pytest.mark.parametrize(
    ("a", "b", "c", "d"), [(0.01, 0, 0, 0), (0, 0.02, 0, 0), (0, 0, 0.03, -0.01), (1, 2, -3, 1.5)]
)
def test_strain_of_linear_flow(a: float, b: float, c: float, d: float) -> None:
    y, x = np.mgrid[:20, :30].astype(np.float32)
    flow = np.dstack([a * x + b * y, c * x + d * y])
    exact = np.sqrt(a**2 + d**2 + (b + c) ** 2 / 2)
    found = softnet.strain(flow)
    assert found.dtype == np.float32 and found.shape == (20, 30)
    np.testing.assert_allclose(found, exact, rtol=1e-4)  # borders included


def test_strain_by_hand() -> None:
    flow = np.zeros((3, 3, 2), np.float32)
    flow[0, 1, 0] = 2  # u_x = 2 at (0, 0); u_x = -2 and u_y = -2 at (0, 1)
    expected = [[2, np.sqrt(6), np.sqrt(6)], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(softnet.strain(flow), expected, rtol=1e-6)


def test_strain_golden(shared: Shared) -> None:
    golden = np.load(shared("goldens/softnet_preprocess.npz"))
    flow = np.dstack([golden["strain/u"], golden["strain/v"]])
    np.testing.assert_allclose(softnet.strain(flow), golden["strain/release"], atol=1e-6)


def test_nose_motion_by_hand() -> None:
    image = np.zeros((12, 12, 3), np.float32)
    image[4:7, 4:7] = (1, -2, 0.5)
    image[0, 0] = (3, -5, 0.25)
    found = softnet.remove_nose_motion(image, (slice(4, 7), slice(4, 7)))
    np.testing.assert_allclose(found[5, 5], (0, 0, 0), atol=1e-7)
    np.testing.assert_allclose(found[0, 0], (2, 3, -0.25), atol=1e-7)  # strain keeps its sign
    np.testing.assert_allclose(found[11, 11], (1, 2, -0.5), atol=1e-7)


@pytest.mark.parametrize("name", SETS)
def test_composite_golden(shared: Shared, name: str) -> None:
    """Against the release, whose polar round trip of u and v we leave out (2e-4 px)."""
    golden = np.load(shared("goldens/softnet_preprocess.npz"))
    where = softnet.geometry(golden[f"resample/{name}/landmarks"], "strip")
    blank = np.unpackbits(golden[f"resample/{name}/mask_zero"]).reshape(128, 128).astype(bool)
    np.testing.assert_array_equal(where.keep[..., 0] == 0, blank)
    for flow, final in zip(golden["flow"], golden[f"resample/{name}/final42"], strict=True):
        found = softnet.composite(softnet.masked(flow, where), where)
        np.testing.assert_allclose(found, final, atol=5e-4)
        magnitude, angle = cv2.cartToPolar(flow[..., 0], flow[..., 1])
        same = np.dstack([magnitude * np.cos(angle), magnitude * np.sin(angle)])
        found = softnet.composite(softnet.masked(same, where), where)
        np.testing.assert_allclose(found, final, atol=2e-6)


def test_composite_of_tvl1_golden(shared: Shared) -> None:
    golden = np.load(shared("goldens/softnet_preprocess.npz"))
    where = softnet.geometry(golden["resample/A_interior/landmarks"], "strip")
    flow = golden["tvl1/flow"].astype(np.float32)
    found = softnet.composite(softnet.masked(flow, where), where)
    np.testing.assert_allclose(found, golden["tvl1/final42"][0], atol=2e-3)  # stored as float16


def test_regions_by_hand() -> None:
    points = np.full((68, 2), 64)
    points[[17, 21, 22, 26], 0] = (30, 58, 70, 98)
    points[[19, 24], 1] = (40, 38)
    points[[41, 46], 1] = (55, 57)
    points[[60, 64], 0] = (50, 120)
    points[[50, 57], 1] = (85, 125)
    boxes = softnet.roi_boxes(points)
    assert boxes["strip"] == (slice(26, 69), slice(18, 110))
    assert boxes["left"] == (slice(28, 67), slice(18, 70))
    assert boxes["right"] == (slice(26, 69), slice(58, 110))
    assert boxes["mouth"] == (slice(73, 128), slice(38, 128))  # clipped to the crop


def test_two_eyes_stand_side_by_side(points: np.ndarray) -> None:
    where = softnet.geometry(points, "two_eyes")
    image = np.zeros((128, 128, 3), np.float32)
    boxes = softnet.roi_boxes(np.rint(points).astype(int))
    image[boxes["left"]] = 1
    found = softnet.composite(image, where)
    assert found.shape == (42, 42, 3) and found.dtype == np.float32
    assert (found[:21, :21] == 1).all() and not found[21:].any()
    np.testing.assert_array_equal(
        found[21:], softnet.composite(image, softnet.geometry(points, "strip"))[21:]
    )


def test_strain_sum_counts_each_pixel_once(points: np.ndarray) -> None:
    where = softnet.geometry(points, "strip")
    boxes = softnet.roi_boxes(np.rint(points).astype(int))
    pixels = set()
    for name in ("left", "right", "mouth"):
        rows, columns = boxes[name]
        pixels |= {(y, x) for y in range(128)[rows] for x in range(128)[columns]}
    image = np.ones((128, 128, 3), np.float32)
    assert softnet.strain_sum(image, where) == len(pixels)
    image[..., 2] *= where.keep[..., 2]
    assert softnet.strain_sum(image, where) < len(pixels)


def test_landmarks_outside_the_crop_are_refused(points: np.ndarray) -> None:
    with pytest.raises(UserError, match="landmarks lie outside the face crop"):
        softnet.geometry(points + 500, "strip")
