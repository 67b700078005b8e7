"""What a depth camera sees of the synthetic face: mm along the optical axis, aligned to colour.

The face is a smooth surface over its landmarks, in front of a tilted wall.  It moves with the
colour image: the depth at a pixel is that of the surface point which the pixel shows (the
renderer's `source_map`), changed by

- the head's motion along the axis: an image that grows by g comes nearer, by g of its distance;
- the actions, each with a smooth field in mm per px of strength: a smile lifts the cheeks towards
  the camera, parting the lips takes the chin away, and so on.

Then come a sensor's faults: noise, whole millimetres, and 0 where nothing was measured, namely
along the outline, in the shadow that the person throws on the wall, and in random specks.
"""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from .synthetic_face import HEIGHT, WIDTH, Face
from .synthetic_fields import (
    ACTIONS,
    MIRROR,
    SIDED,
    FaceRegion,
    enlarged,
    inside_weight,
    sample,
    spline_nodes,
    spline_on_grid,
)
from .synthetic_motion import Motion

Floats = npt.NDArray[np.float32]

FOCAL_PX = 920.0
"""Focal length: CAS(ME)^3's camera, a RealSense D415 at 1280 x 720, of which a frame is a crop.

With it a face as broad as a human one fills about 235 px from ear to ear at FACE_MM * 920 / 235 =
590 mm, and 1 px on it is about 0.6 mm.
"""
FACE_MM = 150.0  # from ear to ear
NOISE_MARGIN = 96  # px: the noise tile is this much larger than a frame and shifted at random

# How far the landmarks 0..59 and the nodes 68..73 of `spline_nodes` lie in front of the ears, mm.
# fmt: off
_JAW = (0, 6, 12, 22, 38, 56, 74, 88, 93)
_BROW = (62, 80, 92, 99, 102)
_NOSE = (98, 108, 119, 128, 100, 107, 112, 107, 100)
_EYES = (72, 84, 88, 84, 86, 82, 84, 88, 84, 72, 82, 86)
_LIPS = (88, 100, 108, 109, 108, 100, 88, 98, 104, 105, 104, 98)
_FOREHEAD_AND_CHEEK = (86, 100, 88)
# fmt: on
RELIEF = np.array(
    _JAW + _JAW[-2::-1] + _BROW + _BROW[::-1] + _NOSE + _EYES + _LIPS + 2 * _FOREHEAD_AND_CHEEK,
    np.float64,
)
SKULL_MM = 95.0  # how far the middle of the head without features lies in front of the ears

# Node: mm towards the camera for 1 px of strength, as the moves of `synthetic_fields`.
LEFT_DEPTHS: dict[str, dict[int, float]] = {
    "au1+2": {18: 0.15, 19: 0.15, 20: 0.15, 68: 0.1, 69: 0.1},
    "au4": {20: 0.35, 21: 0.5, 27: 0.15, 69: 0.2},
    "au12": {70: 0.7, 41: 0.3, 40: 0.15, 48: -0.5, 49: -0.2, 59: -0.2},
    "au14": {48: -0.7, 49: -0.2, 59: -0.3, 70: 0.1},
    "au15": {48: -0.3, 59: -0.1, 6: 0.2},
}
BOTH_DEPTHS: dict[str, dict[int, float]] = {
    "au25": {7: -0.5, 8: -0.6, 9: -0.5, 56: -0.35, 57: -0.5, 58: -0.35, 51: 0.1},
    "pucker": {
        48: 0.3, 49: 0.5, 50: 0.8, 51: 0.9, 52: 0.8, 53: 0.5, 54: 0.3, 55: 0.5, 56: 0.8, 57: 0.9,
        58: 0.8, 59: 0.5,
    },
    "sniff": {30: 0.2, 31: 0.2, 33: 0.2, 35: 0.2},
    "swallow": {7: -0.2, 8: -0.3, 9: -0.2},
}  # fmt: skip


class DepthCamera:
    """Draws the depth images of one video in any order."""

    def __init__(self, face: Face, motion: Motion, rng: np.random.Generator) -> None:
        """`rng` decides where person and wall are, and the sensor's faults."""
        self.face = face
        self.motion = motion
        self.rest = _surface(face, rng)
        """f32[HEIGHT, WIDTH] mm: the depth of the neutral frame."""
        self.actions = depth_fields(face.landmarks, face.region)
        """f32[len(ACTIONS), h, w] of the face region: mm towards the camera at 1 px of strength."""
        x0, y0, x1, y1 = face.head_box
        on_head = face.head_weight * (face.person[y0:y1, x0:x1] > 0.5)
        self.per_growth = (on_head * self.rest[y0:y1, x0:x1]).astype(np.float32)
        """f32[h, w] of the head box: mm towards the camera when the image grows by 1."""
        self._holes = _outline_holes(face.person, int(rng.integers(8, 17)))
        self._faults = _faults(rng, sigma=float(rng.uniform(0.5, 1.0)))
        self._offsets = rng.integers(0, NOISE_MARGIN, (len(motion.gain), 2))

    def surface(self, index: int, source: Floats) -> Floats:
        """f32[HEIGHT, WIDTH] mm of frame `index` (from 0) without the sensor's faults.

        `source` is the renderer's `source_map` of that frame.
        """
        x0, y0, x1, y1 = self.face.head_box
        region = self.face.region
        points = self.rest.copy()
        points[y0:y1, x0:x1] -= self.motion.head[index, 3] * self.per_growth
        strengths = self.motion.actions[index]
        for action in np.flatnonzero(strengths):
            points[region.y0 : region.y1, region.x0 : region.x1] -= (
                strengths[action] * self.actions[action]
            )
        seen = points.copy()
        seen[y0:y1, x0:x1] = sample(points, source)
        return seen

    def draw(self, index: int, source: Floats) -> npt.NDArray[np.uint16]:
        """u16[HEIGHT, WIDTH] mm, 0 without a measurement; `source` as in `surface`."""
        x0, y0, x1, y1 = self.face.head_box
        dx, dy = self._offsets[index]
        faults = self._faults[dy : dy + HEIGHT, dx : dx + WIDTH]
        depth = np.maximum(np.rint(self.surface(index, source) + faults), 0.0)
        holes = self._holes.copy()
        holes[y0:y1, x0:x1] = sample(self._holes, source)
        depth[holes > 0] = 0.0
        return depth.astype(np.uint16)


def depth_fields(landmarks: Floats, region: FaceRegion) -> Floats:
    """f32[len(ACTIONS), h, w]: mm towards the camera of the pixels of `region` at 1 px of strength.

    `landmarks` f32[68, 2] px are those of the neutral face.
    """
    nodes, used = spline_nodes(landmarks)
    values = np.zeros((74, len(ACTIONS)))
    for name in SIDED:
        for node, depth in LEFT_DEPTHS[name].items():
            values[node, ACTIONS.index(f"{name}_R")] = depth
            values[MIRROR[node], ACTIONS.index(f"{name}_L")] = depth
    for name, both in BOTH_DEPTHS.items():
        for node, depth in both.items():
            values[node, ACTIONS.index(name)] = depth
    coarse = spline_on_grid(nodes, values[used], region)
    inside = inside_weight(region)
    fields = [inside * enlarged(coarse[..., action], region) for action in range(len(ACTIONS))]
    return np.stack(fields).astype(np.float32)


def _surface(face: Face, rng: np.random.Generator) -> Floats:
    """(HEIGHT, WIDTH) mm: the person before a tilted wall."""
    landmarks, everywhere = face.landmarks, FaceRegion(0, 0, WIDTH, HEIGHT)
    breadth = float(np.ptp(landmarks[:17, 0]))
    ears = FOCAL_PX * FACE_MM / breadth * rng.uniform(0.97, 1.03)
    columns, rows = np.arange(WIDTH)[None], np.arange(HEIGHT)[:, None]
    nodes, used = spline_nodes(landmarks)
    at_nodes = RELIEF - _skull(nodes[: len(used), 0], nodes[: len(used), 1], landmarks, breadth)
    features = enlarged(spline_on_grid(nodes, at_nodes[:, None], everywhere)[..., 0], everywhere)
    # Beyond the outermost nodes a spline runs away: let it fade.
    from_face = _radius(columns, rows, landmarks, (0.85 * breadth, 1.1 * breadth))
    fade = np.clip((1.0 - from_face) / 0.35, 0.0, 1.0)
    relief = _skull(columns, rows, landmarks, breadth)
    relief += fade * fade * (3.0 - 2.0 * fade) * features
    body = ears - rng.uniform(0.93, 1.07) * relief
    slope = rng.uniform(-0.15, 0.15, 2)  # mm per px
    wall = ears + rng.uniform(500.0, 1200.0) + slope[0] * columns + slope[1] * rows
    return np.where(face.person > 0.5, body, wall).astype(np.float32)


def _skull(
    x: npt.NDArray[np.generic], y: npt.NDArray[np.generic], landmarks: Floats, breadth: float
) -> npt.NDArray[np.float64]:
    """Mm in front of the ears at (x, y) px of a head without features: a cap, 0 outside it."""
    radius = _radius(x, y, landmarks, (0.62 * breadth, 0.9 * breadth))
    return SKULL_MM * np.clip(1.0 - radius**2, 0.0, None)


def _radius(
    x: npt.NDArray[Any],
    y: npt.NDArray[Any],
    landmarks: Floats,
    half_axes: tuple[float, float],
) -> npt.NDArray[np.float64]:
    """Distance from the bridge of the nose at (x, y) px, 1 on an ellipse of these half axes."""
    across = (x - landmarks[:17, 0].mean()) / half_axes[0]
    along = (y - landmarks[28, 1]) / half_axes[1]
    return np.hypot(across, along).astype(np.float64)


def _outline_holes(person: Floats, shadow: int) -> npt.NDArray[np.uint8]:
    """(HEIGHT, WIDTH) 1 along the person's outline and `shadow` px of wall on its left."""
    body = (person > 0.5).astype(np.uint8)
    around = np.ones((5, 5), np.uint8)
    outline = cv2.dilate(body, around) - cv2.erode(body, around)
    # A pixel looks `shadow` px to its right: there it is the left end of the kernel.
    reach = np.ones((1, shadow + 1), np.uint8)
    shaded = cv2.dilate(body, reach, anchor=(0, 0)) - body
    return np.maximum(outline, shaded).astype(np.uint8)


def _faults(rng: np.random.Generator, sigma: float) -> Floats:
    """Noise in mm, -inf in specks of about 2 in 1000 pixels; a tile to be shifted at random."""
    shape = (HEIGHT + NOISE_MARGIN, WIDTH + NOISE_MARGIN)
    noise = sigma * rng.standard_normal(shape, dtype=np.float32)
    specks = (rng.random(shape, dtype=np.float32) < 5e-4).astype(np.uint8)
    noise[cv2.dilate(specks, np.ones((2, 2), np.uint8)) > 0] = -np.inf
    return noise
