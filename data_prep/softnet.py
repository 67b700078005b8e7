"""SOFTNet's input of one pair of frames (Liong et al. 2021, section 3.1).

Flow and strain of a 128x128 face crop; the nose's motion subtracted; the eyes blanked; eye region
and mouth resampled to 42x42x3 (|u|, |v|, strain).  Values stay unnormalised: min-max belongs to
the trainer's input pipeline.  As in the release where the paper is silent or differs:

- u and v are made absolute after the nose's motion is subtracted; strain is not, so it may be
  negative;
- one strip over both eyes and the nose bridge (`strip`); the paper's two 21x21 eye squares are
  `two_eyes`: brow p17..p21 (p22..p26) and down to the eye, with the strip's margin of 12 px.

Deviations: float32 instead of float64 (2e-6 px); no polar round trip of u, v (1.5e-4 px); patch
and ROIs are clipped to the crop, where the release would index from the other end.
"""

from typing import NamedTuple

import cv2
import numpy as np

from spotjax.errors import UserError

EYE_MARGIN = 15  # px, around the eye corners
ROI_MARGIN = 12  # px
NOSE_RADIUS = 5  # px: an 11x11 patch
NOSE_POINT = 28
SIZE = 42  # px, side of the composite

Box = tuple[slice, slice]
"""Rows and columns of a region of the crop."""


class Geometry(NamedTuple):
    """Where things are in the crop; fixed for a video, as its landmarks are."""

    nose: Box
    keep: np.ndarray
    """f32[128, 128, 3], 0 where the eyes are blanked, else 1."""
    parts: tuple[tuple[Box, Box], ...]
    """(region of the crop, region of the 42x42 composite)."""
    rois: np.ndarray
    """bool[128, 128], union of left brow and eye, right brow and eye, and mouth."""


def geometry(landmarks: np.ndarray, roi: str, size: int = 128) -> Geometry:
    """Regions for `landmarks` f32[68, 2] (px in the crop), `roi` strip or two_eyes.

    Raises UserError if a region is empty, that is, if the landmarks lie outside the crop.
    """
    points = np.rint(landmarks).astype(int)
    x, y = points[NOSE_POINT]
    nose = _box(x - NOSE_RADIUS, x + NOSE_RADIUS + 1, y - NOSE_RADIUS, y + NOSE_RADIUS + 1, size)
    boxes = roi_boxes(points, size)
    if any(_empty(box) for box in (nose, *boxes.values())):
        raise UserError(
            "the landmarks lie outside the face crop: leave the video out with "
            "--config.data.skip_bad_videos=true, or bring landmarks with features.face.backend=csv"
        )
    half = SIZE // 2
    upper, lower, whole = slice(0, half), slice(half, SIZE), slice(0, SIZE)
    parts: tuple[tuple[Box, Box], ...]
    if roi == "strip":
        parts = ((boxes["strip"], (upper, whole)), (boxes["mouth"], (lower, whole)))
    else:
        parts = (
            (boxes["left"], (upper, slice(0, half))),
            (boxes["right"], (upper, slice(half, SIZE))),
            (boxes["mouth"], (lower, whole)),
        )
    rois = np.zeros((size, size), bool)
    for name in ("left", "right", "mouth"):
        rois[boxes[name]] = True
    keep = np.repeat(~eye_mask(points, size)[..., None], 3, axis=2).astype(np.float32)
    return Geometry(nose, keep, parts, rois)


def strain(flow: np.ndarray) -> np.ndarray:
    """Optical strain f32[H, W] of `flow` f32[H, W, 2].

    sqrt(u_x^2 + v_y^2 + (u_y + v_x)^2 / 2), forward differences; then the last column copies the
    one before it and the last row the one above (the paper's equation 2 has a misprint in one
    shear term).
    """
    u, v = cv2.split(flow)  # planes of their own: strided views take twice the time
    u_x, u_y = u[:-1, 1:] - u[:-1, :-1], u[1:, :-1] - u[:-1, :-1]
    v_x, v_y = v[:-1, 1:] - v[:-1, :-1], v[1:, :-1] - v[:-1, :-1]
    shear = u_y + v_x
    result = np.empty(u.shape, np.float32)
    np.sqrt(u_x * u_x + v_y * v_y + np.float32(0.5) * shear * shear, out=result[:-1, :-1])
    result[:-1, -1] = result[:-1, -2]
    result[-1] = result[-2]
    return result


def remove_nose_motion(image: np.ndarray, nose: Box) -> np.ndarray:
    """`image` f32[H, W, 3] (u, v, strain) less its mean over `nose`; then |u|, |v|."""
    # cv2 takes a value per channel, which its stubs do not know, 10 times faster than NumPy;
    # |u| = max(u, -u), and max(strain, strain) leaves strain as it is.
    moved = cv2.subtract(image, cv2.mean(image[nose]))  # type: ignore[call-overload]
    flipped = cv2.multiply(moved, (-1, -1, 1, 0))  # type: ignore[call-overload]
    return cv2.max(moved, flipped, dst=moved)


def eye_mask(points: np.ndarray, size: int = 128) -> np.ndarray:
    """bool[size, size], true on both eye polygons (border included); `points` i64[68, 2].

    Every corner is moved outwards by 15 px, in x or in y, and held inside the crop in that
    coordinate.
    """
    mask = np.zeros((size, size), np.uint8)
    shifts = EYE_MARGIN * np.array([(-1, 0), (0, -1), (0, -1), (1, 0), (0, 1), (0, 1)])
    for first in (36, 42):
        eye = points[first : first + 6]
        polygon = np.where(shifts != 0, np.clip(eye + shifts, 0, size), eye)
        cv2.fillPoly(mask, [polygon.astype(np.int32)], (1,))
    return mask.astype(bool)


def roi_boxes(points: np.ndarray, size: int = 128) -> dict[str, Box]:
    """Regions strip, mouth, left and right (brow and eye), 12 px wider than the landmarks.

    `points` i64[68, 2]; the boxes are clipped to the crop, their ends exclusive.
    """
    (x, y), m = points.T, ROI_MARGIN
    return {
        "strip": _box(x[17] - m, x[26] + m, min(y[19], y[24]) - m, max(y[41], y[46]) + m, size),
        "left": _box(x[17] - m, x[21] + m, y[19] - m, y[41] + m, size),
        "right": _box(x[22] - m, x[26] + m, y[24] - m, y[46] + m, size),
        "mouth": _box(x[60] - m, x[64] + m, y[50] - m, y[57] + m, size),
    }


def masked(flow: np.ndarray, where: Geometry) -> np.ndarray:
    """f32[128, 128, 3] of `flow` f32[128, 128, 2]: |u|, |v|, strain, nose removed, eyes blank."""
    image = cv2.merge([flow, strain(flow)])
    still = remove_nose_motion(image, where.nose)
    return np.multiply(still, where.keep, out=still)


def composite(image: np.ndarray, where: Geometry) -> np.ndarray:
    """Resample the regions of `image` f32[128, 128, 3] into f32[42, 42, 3], bilinear."""
    result = np.empty((SIZE, SIZE, 3), np.float32)
    for source, (rows, columns) in where.parts:
        target = (columns.stop - columns.start, rows.stop - rows.start)
        result[rows, columns] = cv2.resize(image[source], target, interpolation=cv2.INTER_LINEAR)
    return result


def strain_sum(image: np.ndarray, where: Geometry) -> np.float32:
    """Strain summed over the three regions, each pixel once: the score without a network.

    `image` f32[128, 128, 3] from `masked`.  The paper's "sum of the feature map" does not say
    whether u and v belong to it; strain alone, as in the method it cites (Shreve 2011).
    """
    return image[..., 2].sum(where=where.rois, dtype=np.float32)


def _box(left: int, right: int, top: int, bottom: int, size: int) -> Box:
    x0, x1, y0, y1 = (int(min(max(value, 0), size)) for value in (left, right, top, bottom))
    return slice(y0, y1), slice(x0, x1)


def _empty(box: Box) -> bool:
    return any(side.stop <= side.start for side in box)
