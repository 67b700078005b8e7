import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import softnet
from spotjax.pages import overlay

WHOLE = slice(0, 42)
STRIP = (
    ((slice(20, 62), slice(22, 106)), (slice(0, 21), WHOLE)),
    ((slice(85, 106), slice(43, 85)), (slice(21, 42), WHOLE)),
)
"""Two regions, the first twice as large as its part of the composite, the second the same."""


def landmarks():
    """68 points of a face of 128x128 px, roughly."""
    points = np.full((68, 2), 64.0, np.float32)
    points[17:22] = [(30, 42), (35, 38), (41, 37), (48, 38), (54, 41)]
    points[22:27] = [(72, 41), (78, 38), (85, 37), (92, 38), (97, 42)]
    points[36:42] = [(38, 50), (42, 47), (48, 47), (52, 51), (48, 53), (42, 53)]
    points[42:48] = [(75, 51), (79, 47), (85, 47), (89, 50), (85, 53), (79, 53)]
    points[48:68] = [(64, 98)] * 20
    points[[50, 57, 60, 64]] = [(60, 92), (64, 106), (50, 98), (78, 98)]
    return points


def random_map(seed=0):
    return np.random.default_rng(seed).random((42, 42), np.float32)


# --- resampling -----------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(*[st.integers(1, 60)] * 4, st.integers(0, 2**31))
def test_resampling_is_opencvs(h, w, height, width, seed):
    image = np.random.default_rng(seed).random((h, w), np.float32)
    expected = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    found = overlay.resized(image, height, width)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.reshape(height, width), atol=1e-5)


def test_resampling_by_hand():
    np.testing.assert_allclose(
        overlay.resized(np.array([[0.0, 4.0]]), 2, 4), [[0, 1, 3, 4]] * 2, atol=1e-6
    )


# --- face and composite ---------------------------------------------------------------------------


@pytest.mark.parametrize("roi", ["strip", "two_eyes"])
def test_the_face_goes_where_its_flow_went(roi):
    where = softnet.geometry(landmarks(), roi)
    face = np.random.default_rng(0).random((128, 128), np.float32)
    expected = softnet.composite(np.repeat(face[..., None], 3, 2), where)[..., 1]
    np.testing.assert_allclose(overlay.on_composite(face, where.parts), expected, atol=1e-5)
    grey = np.rint(face * 255).astype(np.uint8)
    found = overlay.on_composite(grey, where.parts)
    assert found.dtype == np.uint8 and found.shape == (42, 42)
    assert np.abs(found / 255 - expected).max() < 1 / 255


@pytest.mark.parametrize("roi", ["strip", "two_eyes"])
def test_a_map_comes_back_to_its_place(roi):
    """Twice resampled, a smooth map is nearly itself (two_eyes overlap on the nose bridge)."""
    where = softnet.geometry(landmarks(), roi)
    rows, columns = np.mgrid[:42, :42] / 41
    heat = (0.5 + 0.5 * np.sin(3 * columns) * (rows - 0.5)).astype(np.float32)
    face = overlay.on_face(heat, where.parts)
    inside = np.zeros((128, 128), bool)
    for region, _ in where.parts:
        inside[region] = True
    np.testing.assert_array_equal(np.isfinite(face), inside)
    if roi == "strip":
        np.testing.assert_allclose(overlay.on_composite(face, where.parts), heat, atol=0.02)


def test_a_peak_lands_in_its_region():
    heat = np.zeros((42, 42), np.float32)
    heat[10, 30], heat[31, 7] = 1, 0.5
    face = overlay.on_face(heat, STRIP)
    # brows: twice as large, a pixel's centre lies between four
    assert face[20 + 20 : 20 + 22, 22 + 60 : 22 + 62] == pytest.approx(np.full((2, 2), 0.5625))
    assert face[85 + 10, 43 + 7] == 0.5  # mouth: the same size
    assert np.nanmax(face) == pytest.approx(0.5625)
    assert np.isnan(face[:20]).all() and np.isnan(face[62:85]).all()


def test_where_regions_overlap_the_larger_value_counts():
    parts = (
        ((slice(0, 42), slice(0, 21)), (WHOLE, slice(0, 21))),
        ((slice(0, 42), slice(15, 36)), (WHOLE, slice(21, 42))),
    )
    heat = np.zeros((42, 42), np.float32)
    heat[:, :21], heat[5, 21:] = 0.3, 0.8
    face = overlay.on_face(heat, parts, 42)
    np.testing.assert_allclose(face[5, [0, 14, 15, 20, 35]], [0.3, 0.3, 0.8, 0.8, 0.8])
    np.testing.assert_allclose(face[6, [0, 14, 15, 20, 35]], [0.3, 0.3, 0.3, 0.3, 0])
    assert np.isnan(face[:, 36:]).all()


def test_the_whole_face_of_sfamnet():
    heat = random_map()
    expected = cv2.resize(heat, (128, 128), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(overlay.on_face(heat, overlay.WHOLE_FACE), expected, atol=1e-5)


@pytest.mark.parametrize(
    "heat", [np.zeros((21, 42)), np.full((42, 42), 1.1), np.full((42, 42), -1)]
)
def test_no_map_is_refused(heat):
    with pytest.raises(ValueError, match=r"a map is \[42, 42\] with values from 0 to 1, not float"):
        overlay.on_face(heat, STRIP)


def test_a_map_of_a_dead_network_is_refused():
    with pytest.raises(ValueError, match="from nan to nan"):
        overlay.on_face(np.full((42, 42), np.nan), STRIP)


@pytest.mark.parametrize("rows", [slice(-1, 9), slice(100, 129), slice(9, 9), slice(0, 9, 2)])
def test_a_box_outside_the_face_is_refused(rows):
    parts = (((rows, slice(0, 9)), (WHOLE, WHOLE)),)
    with pytest.raises(ValueError, match="is not a part of an image of 128 x 128 px"):
        overlay.on_face(random_map(), parts)
    with pytest.raises(ValueError, match="is not a part of an image of 128 x 128 px"):
        overlay.on_composite(np.zeros((128, 128)), parts)


def test_an_unfilled_composite_is_refused():
    with pytest.raises(ValueError, match="leave 882 px of the composite empty"):
        overlay.on_composite(np.zeros((128, 128)), STRIP[:1])
    with pytest.raises(ValueError, match="square and grey"):
        overlay.on_composite(np.zeros((128, 128, 3)), STRIP)


# --- colours --------------------------------------------------------------------------------------


def test_colours_are_plasmas():
    ramp = np.arange(256, dtype=np.uint8)[None]
    expected = cv2.applyColorMap(ramp, cv2.COLORMAP_PLASMA)[..., ::-1].astype(int)
    found = overlay.overlay(np.zeros((1, 256), np.uint8), ramp / 255, opacity=1)
    # on black, full opacity times the map: divide the map out again
    found = found[:, 32:] / (ramp[0, 32:, None] / 255)
    assert np.abs(found - expected[:, 32:]).max() < 10
    lightness = overlay.PLASMA @ [0.2126, 0.7152, 0.0722]
    assert np.all(np.diff(lightness) > 0)


def test_blending_by_hand():
    grey = np.array([[100, 100, 100, 100]], np.uint8)
    heat = np.array([[0, np.nan, 1, 0.5]])
    found = overlay.overlay(grey, heat, opacity=0.5)
    assert found.dtype == np.uint8 and found.shape == (1, 4, 3)
    np.testing.assert_array_equal(found[0, :2], [[100] * 3] * 2)  # as it was
    np.testing.assert_array_equal(found[0, 2], [170, 174, 66])  # half 240, 249, 33
    # a quarter of 204, 71, 120, and .75 of 100
    np.testing.assert_array_equal(found[0, 3], [126, 93, 105])


def test_no_opacity_leaves_the_face():
    grey = np.random.default_rng(0).integers(0, 256, (42, 42), np.uint8)
    found = overlay.overlay(grey, random_map(), opacity=0)
    np.testing.assert_array_equal(found, np.repeat(grey[..., None], 3, 2))


def test_wrong_pictures_are_refused():
    grey, heat = np.zeros((4, 4), np.uint8), np.zeros((4, 4))
    for bad in (grey[:3], grey.astype(np.float32), np.zeros((4, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match="a map as large"):
            overlay.overlay(bad, heat)
    for bad_heat, opacity in ((heat + 1.01, 0.5), (heat - 0.01, 0.5), (heat, 1.2), (heat, -0.1)):
        with pytest.raises(ValueError, match="are from 0 to 1"):
            overlay.overlay(grey, bad_heat, opacity)
