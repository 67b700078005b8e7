"""A still face for the synthetic videos, and the displacement fields that move it.

The texture is one real portrait, `skimage.data.astronaut()` (public domain, NASA).  A subject is a
smooth morph of it: shape (a thin-plate spline over the landmarks), tone, hair, skin and background.
On top come the basis fields: for each facial action unit (AU) one smooth displacement field with a
largest displacement of exactly 1 px, so that a video is a sum of a few scaled fields.

Coordinates are pixels (x right, y down).  Landmarks follow the 68-point scheme; "left" in array
names is the left of the image, while the letters of one-sided AUs name the subject's own side.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.interpolate import RBFInterpolator
from skimage import data as skimage_data

from .synthetic_fields import FaceRegion, action_fields, eyelid_fields, sample

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

WIDTH, HEIGHT = 640, 480  # px, the frame
FACE_SCALE = 2.6  # frame px per portrait px at which ear to ear is about 300 px
OVERSAMPLE = 3  # the portrait is enlarged once so that small features are cut cleanly

# The 68 landmarks of the portrait in its own pixels (dlib's predictor on a 3x enlargement).
# fmt: off
PORTRAIT_LANDMARKS: Floats = np.array([
    (180.0, 104.7), (180.0, 116.3), (181.0, 127.7), (182.3, 139.0), (185.3, 150.3), (191.7, 160.7),
    (200.3, 169.0), (209.3, 176.0), (220.3, 178.7), (232.0, 177.3), (243.0, 171.7), (253.0, 164.0),
    (260.3, 154.3), (265.0, 143.3), (268.0, 131.7), (270.3, 120.3), (272.0, 108.0), (186.3, 94.3),
    (192.3, 88.7), (200.7, 87.3), (209.0, 89.0), (217.0, 92.7), (236.0, 94.0), (244.0, 91.0),
    (252.3, 90.7), (260.3, 92.7), (265.3, 99.0), (226.0, 102.7), (226.0, 111.0), (225.7, 119.0),
    (225.3, 127.7), (214.3, 131.3), (219.3, 133.0), (224.7, 134.7), (230.0, 133.3), (234.7, 132.3),
    (195.3, 101.3), (200.7, 98.0), (207.0, 98.7), (212.7, 104.3), (206.3, 104.7), (200.0, 104.0),
    (237.7, 105.7), (243.7, 100.7), (250.0, 100.7), (255.3, 104.3), (250.3, 106.7), (244.0, 106.3),
    (200.7, 139.3), (209.3, 139.3), (218.0, 139.7), (223.7, 141.0), (230.0, 140.3), (237.7, 140.7),
    (246.0, 141.3), (237.7, 151.3), (229.3, 155.3), (222.3, 156.0), (216.3, 155.0), (208.0, 150.0),
    (203.3, 140.7), (217.7, 143.0), (223.3, 144.3), (229.7, 143.7), (242.7, 142.3), (229.3, 150.0),
    (223.0, 150.7), (217.0, 149.7),
], dtype=np.float32)

# Head, neck and shoulders against the portrait's background (portrait pixels).
PERSON_OUTLINE: Floats = np.array([
    (282, 36), (274, 30), (251, 19), (227, 16), (214, 21), (205, 21), (201, 23), (186, 37),
    (173, 44), (157, 57), (153, 68), (155, 98), (158, 105), (170, 118), (172, 125), (180, 133),
    (183, 146), (180, 149), (161, 149), (153, 151), (139, 159), (124, 177), (116, 200), (86, 232),
    (62, 256), (40, 299), (352, 299), (336, 256), (314, 238), (304, 222), (288, 200), (255, 171),
    (271, 137), (290, 117), (299, 97), (299, 72), (296, 65), (296, 59), (288, 43),
], dtype=np.float32)
# fmt: on

NECK_Y = 152.0  # portrait px: below this row and outside the jaw is clothing
MIRRORED = np.array(
    (*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31)
    + (45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40)
    + (54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65)
)


@dataclass(frozen=True)
class Face:
    """One subject in one video at rest, and everything that can move."""

    still: Bytes
    """u8[HEIGHT, WIDTH, 3] BGR: the neutral frame."""
    person: Floats
    """f32[HEIGHT, WIDTH]: 1 on head, neck and shoulders, softly 0 on the background."""
    landmarks: Floats
    """f32[68, 2]: x, y in px of `still`."""
    scale: float
    """Frame px per px of a 300 px face."""
    head_box: tuple[int, int, int, int]
    """x0, y0, x1, y1 in px: where `head_weight` is not zero."""
    head_weight: Floats
    """f32[h, w] of `head_box`: 1 on the head, smoothly 0 towards its border."""
    region: FaceRegion
    """The part of the frame that action and eyelid fields cover."""
    actions: Floats
    """f32[len(ACTIONS), h, w, 2] of `region`: x, y in px, each with largest length 1 px."""
    eyelids: Floats
    """f32[LID_LEVELS, h, w] of `region`: px downward, from open to closed."""


def build_face(subject_rng: np.random.Generator, video_rng: np.random.Generator) -> Face:
    """The face of one subject as it sits in one video.

    `subject_rng` decides the identity (always the same draws), `video_rng` how the person sits
    that day.
    """
    portrait, skin, hair, person, points = _portrait_layers()
    outline = PERSON_OUTLINE
    if subject_rng.random() < 0.5:
        width = portrait.shape[1] / OVERSAMPLE
        portrait, skin, hair, person = (
            np.ascontiguousarray(layer[:, ::-1]) for layer in (portrait, skin, hair, person)
        )
        points = (points * (-1, 1) + (width - 1, 0)).astype(np.float32)[MIRRORED]
        outline = (outline * (-1, 1) + (width - 1, 0)).astype(np.float32)
    shaped = _morph_shape(points, subject_rng)
    scale = FACE_SCALE * subject_rng.uniform(0.9, 1.04) * video_rng.uniform(0.985, 1.015)
    roll = np.deg2rad(subject_rng.normal(0.0, 1.5) + video_rng.normal(0.0, 0.7))
    centre = np.array([WIDTH / 2, HEIGHT * 0.55])
    centre += subject_rng.uniform((-35, -12), (35, 12)) + video_rng.uniform((-10, -5), (10, 5))
    placed = scale * np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    nose = shaped[30]
    landmarks = ((shaped - nose) @ placed.T + centre).astype(np.float32)

    source = _source_map(landmarks, points, outline, shaped, placed, centre)
    layers = [sample(layer, source) for layer in (portrait, skin, hair, person)]
    still = _paint(layers, landmarks, scale, subject_rng, video_rng)
    head_box, head_weight = _head_weight(landmarks)
    region = FaceRegion.around(landmarks, WIDTH, HEIGHT)
    return Face(
        still=still,
        person=layers[3],
        landmarks=landmarks,
        scale=scale / FACE_SCALE,
        head_box=head_box,
        head_weight=head_weight,
        region=region,
        actions=action_fields(landmarks, region, scale / FACE_SCALE),
        eyelids=eyelid_fields(landmarks, region),
    )


def _portrait_layers() -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Portrait (h, w, 3) BGR 0..255 with a closed mouth, masks 0..1 (h, w) of skin, hair and
    person, all enlarged OVERSAMPLE times, and the landmarks (68, 2) in portrait pixels."""
    image = skimage_data.astronaut()[:320, :, ::-1]
    size = (image.shape[1] * OVERSAMPLE, image.shape[0] * OVERSAMPLE)
    enlarged = cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_CUBIC)
    portrait = enlarged.astype(np.float32)
    # The teeth would flash like a signal lamp whenever the lips part: darken them first.
    gap = _filled(PORTRAIT_LANDMARKS[60:68], portrait.shape[:2], blur=1.0, grow=5)
    portrait *= 1.0 - 0.72 * gap[..., None]
    portrait, points = _close_mouth(portrait)

    jaw = points[:17]
    top = jaw[[16, 0]] + np.array([(-9, -27), (9, -27)], np.float32)
    skin = _filled(np.concatenate([jaw, top]), portrait.shape[:2], blur=8.0)
    person = _filled(PERSON_OUTLINE, portrait.shape[:2], blur=2.5)
    rows = np.arange(portrait.shape[0], dtype=np.float32)[:, None] / OVERSAMPLE
    hair = person * (1.0 - skin) * np.clip((NECK_Y - 22.0 - rows) / 8.0, 0.0, 1.0)
    return portrait, skin, hair.astype(np.float32), person, points


def _filled(polygon: Floats, shape: tuple[int, ...], blur: float, grow: int = 0) -> Floats:
    """Soft mask 0..1 of a polygon in portrait pixels; blur and grow in enlarged pixels."""
    mask: Floats = np.zeros(shape[:2], np.float32)
    corners = np.round((polygon + 0.5) * OVERSAMPLE - 0.5).astype(np.int32)
    cv2.fillPoly(mask, [corners], 1.0)
    if grow:
        mask = cv2.dilate(mask, np.ones((grow, grow), np.uint8)).astype(np.float32)
    return cv2.GaussianBlur(mask, (0, 0), blur).astype(np.float32)


def _close_mouth(portrait: Floats) -> tuple[Floats, Floats]:
    """Press the parted lips of the portrait together, column by column.

    Returns the portrait and its landmarks.  The band between the lips shrinks to a dark line that
    AU25 stretches open again; the lips take its place.
    """
    enlarged = (PORTRAIT_LANDMARKS + 0.5) * OVERSAMPLE - 0.5
    upper, lower = enlarged[[60, 61, 62, 63, 64]], enlarged[[60, 67, 66, 65, 64]]
    columns = np.arange(portrait.shape[1], dtype=np.float64)
    top = np.interp(columns, upper[:, 0], upper[:, 1] - 2.0)
    bottom = np.interp(columns, lower[:, 0], lower[:, 1] + 2.0)
    inside = (columns > upper[0, 0]) & (columns < upper[-1, 0])
    gap = cv2.GaussianBlur(np.where(inside, bottom - top, 0.0)[None], (0, 0), 4.0)[0]
    middle = 0.5 * (top + bottom)
    top, bottom, seam = middle - gap / 2, middle + gap / 2, middle - gap * 0.05
    above, below, line = 14.0 * OVERSAMPLE, 22.0 * OVERSAMPLE, 0.15 * gap / 2
    rows = np.arange(portrait.shape[0], dtype=np.float64)
    map_y = np.empty(portrait.shape[:2], np.float32)
    points = enlarged.copy()
    for x in range(portrait.shape[1]):
        opened = (0.0, top[x] - above, top[x], bottom[x], bottom[x] + below, rows[-1])
        closed = (0.0, opened[1], seam[x] - line[x], seam[x] + line[x], opened[4], rows[-1])
        map_y[:, x] = np.interp(rows, closed, opened)
        near = np.round(enlarged[:, 0]) == x
        points[near, 1] = np.interp(enlarged[near, 1], opened, closed)
    map_x = np.broadcast_to(columns.astype(np.float32), map_y.shape).copy()
    pressed = cv2.remap(portrait, map_x, map_y, cv2.INTER_LINEAR)
    return pressed.astype(np.float32), ((points + 0.5) / OVERSAMPLE - 0.5).astype(np.float32)


def _morph_shape(points: Floats, rng: np.random.Generator) -> Floats:
    """Another person's landmarks (68, 2), still in portrait pixels."""
    shaped = points.astype(np.float64).copy()
    middle = points[27:31, 0].mean()
    side = np.sign(points[:, 0] - middle)
    jaw, brows, nose, mouth = slice(0, 17), slice(17, 27), slice(27, 36), slice(48, 68)
    shaped[jaw, 0] += (points[jaw, 0] - middle) * rng.uniform(-0.08, 0.08)
    shaped[3:14, 0] += (points[3:14, 0] - middle) * rng.uniform(-0.08, 0.06)
    shaped[4:13, 1] += rng.uniform(-4.0, 5.0) * np.sin(np.linspace(0.2, np.pi - 0.2, 9))
    shaped[brows, 1] += rng.uniform(-3.5, 1.5)
    from_centre = np.abs(points[brows, 0] - middle - side[brows] * 24)
    shaped[brows, 1] += rng.uniform(-0.08, 0.08) * from_centre
    apart = rng.uniform(-2.0, 2.0)
    for eye in (slice(36, 42), slice(42, 48)):
        centre = points[eye].mean(axis=0)
        shaped[eye] = centre + (points[eye] - centre) * rng.uniform((0.92, 0.85), (1.1, 1.12))
        shaped[eye, 0] += side[eye] * apart
    shaped[brows, 0] += side[brows] * apart
    shaped[31:36, 0] += (points[31:36, 0] - middle) * rng.uniform(-0.14, 0.18)
    shaped[nose, 1] += rng.uniform(-2.5, 2.5) * np.linspace(0.0, 1.0, 9) ** 0.5
    shaped[mouth, 0] += (points[mouth, 0] - middle) * rng.uniform(-0.16, 0.02)
    shaped[mouth, 1] += rng.uniform(-2.0, 2.0)
    # The portrait smiles; most people at rest do not.
    reach = np.abs(points[mouth, 0] - middle) / np.abs(points[mouth, 0] - middle).max()
    shaped[mouth, 1] += rng.uniform(2.0, 4.5) * (reach**1.5 - 0.4)
    shaped += rng.normal(0.0, 0.25, shaped.shape)
    return shaped.astype(np.float32)


def _source_map(
    landmarks: Floats,
    points: Floats,
    outline: Floats,
    shaped: Floats,
    placed: npt.NDArray[np.float64],
    centre: npt.NDArray[np.float64],
) -> Floats:
    """(HEIGHT, WIDTH, 2) map from frame pixels to enlarged portrait pixels."""
    # The hair follows the width of the face, the shoulders stay.
    half = np.ptp(shaped[:17, 0]) / np.ptp(points[:17, 0])
    fade = np.clip((NECK_Y - outline[:, 1]) / 30.0, 0.0, 1.0)
    moved = outline.copy()
    moved[:, 0] += (half - 1.0) * (outline[:, 0] - points[27, 0]) * fade
    # The inner lips touch: as spline nodes they would fight each other.
    known = np.concatenate([points[:60], outline])
    target = np.concatenate([landmarks[:60], (moved - shaped[30]) @ placed.T + centre])
    back = np.linalg.inv(placed)
    step = 8
    grid = np.stack(
        np.meshgrid(np.arange(0, WIDTH + step, step), np.arange(0, HEIGHT + step, step)), axis=-1
    ).astype(np.float64)
    affine = (grid - centre) @ back.T + points[30]
    rest = known - ((target - centre) @ back.T + points[30])
    spline = RBFInterpolator(target / 100.0, rest, kernel="thin_plate_spline", smoothing=1e-4)
    field = affine + spline(grid.reshape(-1, 2) / 100.0).reshape(grid.shape)
    # Upsample by an affine sampling of the coarse grid: pixel (x, y) reads grid node (x, y) / step.
    enlarge = np.array([[1 / step, 0, 0], [0, 1 / step, 0]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    full = cv2.warpAffine(field.astype(np.float32), enlarge, (WIDTH, HEIGHT), flags=flags)
    return ((full + 0.5) * OVERSAMPLE - 0.5).astype(np.float32)


def _paint(
    layers: list[Floats],
    landmarks: Floats,
    scale: float,
    rng: np.random.Generator,
    video_rng: np.random.Generator,
) -> Bytes:
    """Tone, hair, skin, clothing and background: the finished neutral frame (BGR)."""
    portrait, skin, hair, person = layers
    face = portrait / 255.0
    gamma = rng.uniform(0.8, 1.5)
    gains = rng.uniform(0.85, 1.03) * rng.uniform((0.9, 0.95, 0.97), (1.07, 1.03, 1.03))
    contrast = rng.uniform(0.9, 1.15)
    tone = np.clip(face, 0.0, 1.2) ** gamma * gains
    tone = (tone - 0.45) * contrast + 0.45
    dark = rng.uniform(0.18, 1.0)
    hair_gains = dark * rng.uniform((0.8, 0.93, 0.95), (1.1, 1.03, 1.05))
    tone *= 1.0 - hair[..., None] * (1.0 - hair_gains)
    # Clothing: everything of the person below the neck that is neither skin nor hair.
    rows = np.arange(HEIGHT, dtype=np.float32)[:, None]
    chin = float(landmarks[8, 1])
    cloth = person * (1.0 - skin) * np.clip((rows - chin - 9 * scale) / (8 * scale), 0.0, 1.0)
    grey = tone.mean(axis=2, keepdims=True)
    colour = rng.uniform(0.3, 1.1) * rng.uniform(0.8, 1.2, 3)
    tone += cloth[..., None] * (0.8 * (grey * colour + 0.08) + 0.2 * tone - tone)
    # Skin: pores, spots and shading that a three-fold enlargement cannot have.
    spots = sum(
        level * _smooth_noise(rng, sigma * scale / FACE_SCALE)
        for level, sigma in ((0.012, 0.8), (0.018, 2.2), (0.025, 9.0), (0.04, 40.0))
    )
    beard = rng.choice([0.0, 0.0, rng.uniform(0.05, 0.2)])
    mouth_y = float(landmarks[62, 1])
    lower = np.clip((rows - mouth_y + 14 * scale / FACE_SCALE) / (25 * scale / FACE_SCALE), 0, 1)
    shade = 1.0 + spots * rng.uniform(0.7, 1.4) - beard * skin * lower
    tone *= 1.0 + (shade - 1.0)[..., None] * np.maximum(skin, 0.25)[..., None]

    wall = rng.uniform(0.25, 0.8) * rng.uniform(0.85, 1.15, 3)
    paint = 1.0 + 0.1 * _smooth_noise(rng, 70.0) + 0.02 * _smooth_noise(rng, 3.0)
    backdrop = wall * paint[..., None]
    for _ in range(int(rng.integers(0, 4))):  # door frames, shelves: upright edges
        left = int(rng.integers(0, WIDTH))
        backdrop[:, left : left + int(rng.integers(8, 90))] *= rng.uniform(0.75, 1.2)
    behind = cv2.GaussianBlur(backdrop.astype(np.float32), (0, 0), 2.0)
    frame = behind + person[..., None] * (tone - behind)
    columns = np.linspace(-0.5, 0.5, WIDTH)
    light = 1.0 + video_rng.uniform(-0.15, 0.15) * columns[None, :, None]
    frame *= light * video_rng.uniform(0.93, 1.05)
    return np.clip(frame * 255.0, 0, 255).astype(np.uint8)


def _smooth_noise(rng: np.random.Generator, sigma: float) -> Floats:
    """(HEIGHT, WIDTH) random surface of unit variance, smooth over `sigma` px."""
    shrink = max(1.0, sigma / 2.0)
    size = (int(np.ceil(HEIGHT / shrink)) + 2, int(np.ceil(WIDTH / shrink)) + 2)
    field = cv2.GaussianBlur(rng.standard_normal(size, dtype=np.float32), (0, 0), sigma / shrink)
    field = cv2.resize(field, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return ((field - field.mean()) / field.std()).astype(np.float32)


def _head_weight(landmarks: Floats) -> tuple[tuple[int, int, int, int], Floats]:
    """Where the head moves as one piece: 1 inside, smoothly 0 at the border of the returned box."""
    jaw = landmarks[:17]
    width = float(np.ptp(jaw[:, 0]))
    centre = np.array([jaw[:, 0].mean(), landmarks[27:31, 1].mean() - 0.2 * width])
    radii = np.array([0.95 * width, 1.2 * width])
    low = np.floor(np.maximum(centre - radii, 0)).astype(int)
    high = np.ceil(np.minimum(centre + radii, (WIDTH, HEIGHT))).astype(int)
    x = (np.arange(low[0], high[0]) - centre[0]) / radii[0]
    y = (np.arange(low[1], high[1]) - centre[1]) / radii[1]
    radius = np.sqrt(x[None, :] ** 2 + y[:, None] ** 2)
    ramp = np.clip((1.0 - radius) / 0.25, 0.0, 1.0)
    weight = (ramp * ramp * (3.0 - 2.0 * ramp)).astype(np.float32)
    return (int(low[0]), int(low[1]), int(high[0]), int(high[1])), weight
