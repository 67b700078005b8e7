"""Displacement fields of the synthetic face: facial actions and eyelids.

An action field says where every pixel of the face goes, in px, when the action has strength 1; it
is smooth, anchored at the landmarks and has a largest displacement of exactly 1 px.
"""

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from scipy.interpolate import RBFInterpolator

Floats = npt.NDArray[np.float32]
Image = TypeVar("Image", Floats, npt.NDArray[np.uint8])
Moves = dict[int, tuple[float, float]]

# Actions of both sides; "_R" is the subject's right, which a camera sees on the image's left.
SIDED = ("au1+2", "au4", "au12", "au14", "au15")
ACTIONS = tuple(f"{name}_{side}" for name in SIDED for side in "RL") + (
    "au25",  # lips part
    "pucker",  # the rest are distractors without a label
    "sniff",
    "swallow",
)
GRID = 4  # px between the points at which a spline is evaluated
LID_LEVELS = 9  # eyelid positions from open (0) to closed (LID_LEVELS - 1)

# Landmark: (dx, dy) of the image-left half, relative strengths.  Nodes from 68 on are the extra
# nodes of `spline_nodes`: 68 forehead over the outer brow, 69 over the inner brow, 70 the cheek.
LEFT_MOVES: dict[str, Moves] = {
    "au1+2": {
        17: (0, -0.75), 18: (0, -1), 19: (0, -1), 20: (0, -1), 21: (0, -0.9),
        37: (0, -0.15), 38: (0, -0.15), 68: (0, -0.5), 69: (0, -0.5),
    },
    "au4": {
        17: (0, 0.1), 18: (0.1, 0.35), 19: (0.3, 0.65), 20: (0.45, 0.9), 21: (0.55, 1),
        27: (0, 0.2), 37: (0, 0.1), 38: (0, 0.15), 69: (0.2, 0.35),
    },
    "au12": {
        48: (-0.65, -0.8), 49: (-0.3, -0.4), 50: (-0.1, -0.12), 59: (-0.4, -0.45),
        58: (-0.1, -0.12), 31: (-0.15, -0.15), 70: (-0.15, -0.5), 40: (0, -0.1),
        41: (0, -0.15), 4: (-0.1, -0.1), 5: (-0.1, -0.15),
    },
    "au14": {
        48: (-1, -0.1), 49: (-0.45, 0), 50: (-0.1, 0), 59: (-0.5, -0.05), 58: (-0.15, 0),
        70: (-0.2, 0.05), 4: (-0.15, 0),
    },
    "au15": {
        48: (-0.1, 1), 49: (0, 0.35), 59: (-0.05, 0.6), 58: (0, 0.25), 70: (0, 0.15),
        5: (0, 0.1), 6: (0, 0.1),
    },
}  # fmt: skip
BOTH_MOVES: dict[str, Moves] = {
    "pucker": {
        48: (1, 0), 49: (0.5, -0.1), 50: (0.2, -0.25), 51: (0, -0.25), 52: (-0.2, -0.25),
        53: (-0.5, -0.1), 54: (-1, 0), 55: (-0.5, 0.15), 56: (-0.2, 0.3), 57: (0, 0.3),
        58: (0.2, 0.3), 59: (0.5, 0.15),
    },
    "sniff": {
        30: (0, -0.4), 31: (-0.15, -0.9), 32: (0, -0.7), 33: (0, -0.6), 34: (0, -0.7),
        35: (0.15, -0.9), 50: (0, -0.35), 51: (0, -0.3), 52: (0, -0.35),
    },
    "swallow": {
        6: (0, -0.8), 7: (0, -1), 8: (0, -1), 9: (0, -1), 10: (0, -0.8),
        56: (0, -0.3), 57: (0, -0.3), 58: (0, -0.3), 5: (0, -0.4), 11: (0, -0.4),
    },
}  # fmt: skip
MIRROR = {17 + i: 26 - i for i in range(5)} | {27: 27, 31: 35, 68: 71, 69: 72, 70: 73}
MIRROR |= {37: 44, 38: 43, 40: 47, 41: 46, 48: 54, 49: 53, 50: 52, 58: 56, 59: 55}
MIRROR |= {4: 12, 5: 11, 6: 10}


@dataclass(frozen=True)
class FaceRegion:
    """The box x0 <= x < x1, y0 <= y < y1 (frame px) that holds every facial movement."""

    x0: int
    y0: int
    x1: int
    y1: int

    @classmethod
    def around(cls, landmarks: Floats, width: int, height: int) -> "FaceRegion":
        """`landmarks` f32[68, 2] px plus forehead, clipped to the frame of `width`, `height` px."""
        low, high = landmarks.min(axis=0), landmarks.max(axis=0)
        size = float(np.ptp(landmarks[:17, 0]))
        x0, x1 = max(0, int(low[0] - 0.08 * size)), min(width, int(high[0] + 0.08 * size))
        y0, y1 = max(0, int(low[1] - 0.28 * size)), min(height, int(high[1] + 0.12 * size))
        return cls(x0, y0, x1, y1)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) px, the order cv2 wants."""
        return self.x1 - self.x0, self.y1 - self.y0


def sample(image: Image, source: Floats) -> Image:
    """`image` read at the positions `source` f32[h, w, 2], x and y in px, bilinearly.

    `image` f32 or u8[H, W] or [H, W, c] becomes the same of h and w; beyond its edge it goes on.
    """
    linear, border = cv2.INTER_LINEAR, cv2.BORDER_REPLICATE
    # The stubs do not know that a map of x and y goes with None.
    return cv2.remap(image, source, None, linear, borderMode=border)  # type: ignore[call-overload]


def action_fields(landmarks: Floats, region: FaceRegion, scale: float) -> Floats:
    """f32[len(ACTIONS), h, w, 2] px: how far every pixel of `region` moves at strength 1.

    `landmarks` f32[68, 2] px are those of the neutral face; `scale` is px per px of a 300 px face.
    """
    nodes, used = spline_nodes(landmarks)
    moves = np.zeros((len(ACTIONS), 74, 2))
    for name in SIDED:
        for node, (dx, dy) in LEFT_MOVES[name].items():
            moves[ACTIONS.index(f"{name}_R"), node] = (dx, dy)
            moves[ACTIONS.index(f"{name}_L"), MIRROR[node]] = (-dx, dy)
    for name, both in BOTH_MOVES.items():
        for node, vector in both.items():
            moves[ACTIONS.index(name), node] = vector
    width, height = region.size
    values = moves[:, used].transpose(1, 0, 2).reshape(len(used), -1)
    coarse = spline_on_grid(nodes, values, region)
    coarse = coarse.reshape(*coarse.shape[:2], len(ACTIONS), 2)
    inside = inside_weight(region)
    fields = np.empty((len(ACTIONS), height, width, 2), np.float32)
    for index, name in enumerate(ACTIONS):
        if name == "au25":
            field = _lips_part(region, landmarks, scale)
        else:
            field = enlarged(coarse[:, :, index], region)
        field *= inside[..., None]
        fields[index] = field / np.sqrt((field**2).sum(axis=-1)).max()
    return fields


def spline_on_grid(
    nodes: Floats, values: npt.NDArray[np.float64], region: FaceRegion
) -> npt.NDArray[np.float64]:
    """f64[gh, gw, c]: a thin-plate spline at every GRID-th px of `region`.

    It takes the `values` f64[m, c] at the first m of `nodes` f32[n, 2] px and 0 at the others.
    """
    grid = np.stack(
        np.meshgrid(
            np.arange(region.x0, region.x1 + GRID, GRID),
            np.arange(region.y0, region.y1 + GRID, GRID),
        ),
        axis=-1,
    )
    values = np.concatenate([values, np.zeros((len(nodes) - len(values), values.shape[1]))])
    spline = RBFInterpolator(nodes / 100.0, values, kernel="thin_plate_spline", smoothing=1e-4)
    return np.asarray(spline(grid.reshape(-1, 2) / 100.0)).reshape(*grid.shape[:2], -1)


def enlarged(coarse: npt.NDArray[np.float64], region: FaceRegion) -> Floats:
    """f32[h, w] or f32[h, w, c] of `region`, linear between the values at every GRID-th px.

    `coarse` f64[gh, gw] or f64[gh, gw, c] is of `spline_on_grid`; an axis c = 1 goes.
    """
    small = np.ascontiguousarray(coarse, np.float32)
    move = np.array([[1 / GRID, 0, 0], [0, 1 / GRID, 0]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(small, move, region.size, flags=flags).astype(np.float32)


def spline_nodes(landmarks: Floats) -> tuple[Floats, list[int]]:
    """Spline nodes f32[n, 2] px around `landmarks` f32[68, 2] px, and the numbers of the first.

    The numbers are 0 to 73 as in `LEFT_MOVES`; the nodes after those stay at rest.
    """
    eyes = float(np.linalg.norm(landmarks[45] - landmarks[36]))
    up = np.array([0.0, -0.28 * eyes])
    extra = np.stack(
        [
            landmarks[18] + up,
            landmarks[20] + up,
            0.5 * landmarks[48] + 0.5 * landmarks[36],
            landmarks[25] + up,
            landmarks[23] + up,
            0.5 * landmarks[54] + 0.5 * landmarks[45],
        ]
    )
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    margin = 0.35 * eyes
    frame_x = np.linspace(low[0] - margin, high[0] + margin, 6)
    frame_y = np.linspace(low[1] - 2.0 * margin, high[1] + margin, 6)
    border = [(x, y) for x in frame_x[[0, -1]] for y in frame_y]
    border += [(x, y) for x in frame_x[1:-1] for y in frame_y[[0, -1]]]
    # Without the inner lips: upper and lower touch, and the outer lips already carry the motion.
    used = [*range(60), *range(68, 74)]
    nodes = np.concatenate([landmarks[:60], extra, np.array(border)])
    return nodes.astype(np.float32), used


def inside_weight(region: FaceRegion) -> Floats:
    """f32[h, w]: 1 on the face, smoothly 0 at the border of the region."""
    width, height = region.size
    edge_x = np.minimum(np.arange(width), np.arange(width)[::-1]) / 18.0
    edge_y = np.minimum(np.arange(height), np.arange(height)[::-1]) / 18.0
    ramp = np.clip(edge_y[:, None], 0, 1) * np.clip(edge_x[None, :], 0, 1)
    return (ramp * ramp * (3.0 - 2.0 * ramp)).astype(np.float32)


def _lips_part(region: FaceRegion, landmarks: Floats, scale: float) -> Floats:
    """(h, w, 2) AU25: the lower lip and chin go down, the upper lip a little up."""
    width, height = region.size
    x = np.arange(region.x0, region.x1)
    y = np.arange(region.y0, region.y1)[:, None]
    upper, lower = landmarks[[60, 61, 62, 63, 64]], landmarks[[60, 67, 66, 65, 64]]
    seam = np.interp(x, 0.5 * (upper + lower)[:, 0], 0.5 * (upper + lower)[:, 1])
    seam = cv2.GaussianBlur(seam[None].astype(np.float32), (0, 0), 5.0 * scale)
    half = 0.5 * float(landmarks[54, 0] - landmarks[48, 0])
    across = np.clip(1.0 - ((x - landmarks[[48, 54], 0].mean()) / (1.15 * half)) ** 2, 0.0, 1.0)
    distance = (y - seam) / scale
    # A ramp of 7 px between the lips keeps the map one-to-one up to strengths of about 5 px.
    opening = 1.0 / (1.0 + np.exp(-distance / 1.6))
    down = opening * np.exp(-np.maximum(distance, 0.0) / 45.0)
    rise = 0.3 * (1.0 - opening) * np.exp(np.minimum(distance, 0.0) / 14.0)
    field = np.zeros((height, width, 2), np.float32)
    field[..., 1] = across[None] * (down - rise)
    return field


def eyelid_fields(landmarks: Floats, region: FaceRegion) -> Floats:
    """f32[LID_LEVELS, h, w] px downward: the upper lids from open to closed, both eyes.

    `landmarks` are f32[68, 2] in px of the frame, h and w those of `region`.
    Between the fold and the lid's edge the skin stretches; below the edge nothing moves, so the
    edge covers the eye like a lid does.
    """
    width, height = region.size
    fields = np.zeros((LID_LEVELS, height, width), np.float32)
    y = np.arange(region.y0, region.y1, dtype=np.float64)[:, None]
    x = np.arange(region.x0, region.x1, dtype=np.float64)
    for corners, brow in ((range(36, 42), (17, 22)), (range(42, 48), (22, 27))):
        eye = landmarks[list(corners)].astype(np.float64)
        upper, lower = eye[[0, 1, 2, 3]], eye[[0, 5, 4, 3]]
        # The lashes sit on the landmark row: lift the edge a little so that they come along.
        edge = _curve(x, upper)
        gap = np.maximum(_curve(x, lower) - edge, 0.0)
        edge -= 0.08 * gap
        fold = edge - 0.4 * float(eye[:, 1].mean() - landmarks[brow[0] : brow[1], 1].mean())
        inside = (x > eye[0, 0]) & (x < eye[3, 0])
        for level in range(1, LID_LEVELS):
            drop = np.where(inside, 1.15 * gap * level / (LID_LEVELS - 1), 0.0)
            down = drop * (y - fold) / np.maximum(edge + drop - fold, 1.0)
            fields[level] += np.where((y > fold) & (y < edge + drop), down, 0.0)
    return fields


def _curve(x: npt.NDArray[np.float64], points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Cubic through four points (4, 2), evaluated at x and held constant outside them."""
    inside = np.clip(x, points[0, 0], points[-1, 0])
    return np.asarray(np.polyval(np.polyfit(points[:, 0], points[:, 1], 3), inside), np.float64)
