"""SFAMNet's input of one pair of frames (Liong et al. 2024, sections 3.1 and 3.2).

Optical flow and RGB-D scene flow of a 128x128 face crop; the nose's motion subtracted from every
channel; the whole face resampled to 42x42.  Optical: u, v in px and strain.  Scene: u, v in px and
w, the motion in depth.  Values are neither made absolute nor scaled to [0, 1]: the network's trunk
has no bias, so their scale matters.

The release has no feature code at all, so that all of this follows the paper's sentences:

- the nose is an 11x11 px patch around its tip (landmark 30; the paper's MTCNN has one nose point);
- w in millimetres would be a hundred times larger than u and v move, in metres a thousand times
  smaller; by default it is the same motion in px, w times focal length over depth (`w_unit`);
- resampling averages over the pixels that a pixel of the 42x42 image covers (the paper: resized);
- depth is averaged likewise when the face is cropped, over the pixels that were measured.
"""

from typing import NamedTuple

import cv2
import numpy as np

from spotjax.errors import UserError

from . import faces
from .flow import FlowMethod
from .scene_flow import Rgbd, Settings, fill_holes, scene_flow
from .softnet import NOSE_RADIUS, strain

SIZE = 42  # px, side of the image
NOSE_TIP = 30

Box = tuple[int, int, int, int]


class Crop(NamedTuple):
    """The face in one frame."""

    grey: np.ndarray
    """u8[128, 128]."""
    rgbd: Rgbd | None
    """Colour and depth; None where the frame has no depth."""


def nose_patch(landmarks: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns around the tip of the nose; `landmarks` f32[68, 2] in px of the crop.

    Raises UserError if it lies outside the crop.
    """
    x, y = np.rint(landmarks[NOSE_TIP]).astype(int).tolist()
    reach = np.array([-NOSE_RADIUS, NOSE_RADIUS + 1])
    rows, columns = (slice(*np.clip(c + reach, 0, faces.CROP).tolist()) for c in (y, x))
    if rows.stop <= rows.start or columns.stop <= columns.start:
        raise UserError(
            "the landmarks lie outside the face crop: leave the video out with "
            "--config.data.skip_bad_videos=true, or bring landmarks with features.face.backend=csv"
        )
    return rows, columns


def crop_depth(depth: np.ndarray, box: Box) -> np.ndarray:
    """f32[128, 128] mm at `box` of `depth` u16[H, W]: the mean of what was measured, else 0."""
    left, top, right, bottom = box
    part = depth[top:bottom, left:right].astype(np.float32)
    size = (faces.CROP, faces.CROP)
    known = cv2.resize((part > 0).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    total = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    return np.where(known > 0.5, total / np.maximum(known, 1e-6), 0).astype(np.float32)


def focal_in_crop(focal: float, box: Box) -> float:
    """Focal length in px of the crop, of `focal` px in the frame."""
    left, top, right, bottom = box
    return focal * 2 * faces.CROP / (right - left + bottom - top)


def optical(first: Crop, second: Crop, flow: FlowMethod, nose: tuple[slice, slice]) -> np.ndarray:
    """f32[42, 42, 3]: u, v in px of the 128x128 crop and strain.  Raises UserError: not finite."""
    moved = flow(first.grey, second.grey)
    return _small(cv2.merge([moved, strain(moved)]), nose)


def scene(
    first: Rgbd, second: Rgbd, settings: Settings, nose: tuple[slice, slice], in_px: bool
) -> np.ndarray:
    """f32[42, 42, 3]: u, v in px of the 128x128 crop and w, in px or mm.

    Raises UserError where nothing was measured.
    """
    moved = scene_flow(first, second, settings)
    if in_px:
        moved[..., 2] *= settings.focal / fill_holes(first.depth)
    return _small(moved, nose)


def _small(image: np.ndarray, nose: tuple[slice, slice]) -> np.ndarray:
    """`image` f32[128, 128, 3] less its mean over the nose, as f32[42, 42, 3]."""
    still = cv2.subtract(image, cv2.mean(image[nose]))  # type: ignore[call-overload]
    return cv2.resize(still, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
