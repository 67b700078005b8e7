"""The two-stream 3D-CNN's streams of a video: grey crops of the aligned face.

The paper takes the aligned faces of 112x112 px that OpenFace writes; its network pairs the frames
itself.  `alignment=ready` reads such crops, in place of the data set's frames.  `landmarks` makes
them as OpenFace does: the similarity transform (rotation, one scale, shift) that moves 24 points
which expressions hardly move (sides of the face, nose, corners and lower lids of the eyes) onto
those of a reference face, bilinear.  Deviations, each with its reason:

- OpenFace aligns every frame by its own landmarks; here one transform serves the whole video, that
  of the first frame with a face, as everywhere in data_prep: landmarks tremble from frame to frame,
  which would look like motion of the face;
- the reference face is the portrait of `synthetic_face`, made symmetric, where and as large as
  OpenFace's mean face is in its crops: the licence of that one forbids commercial use.  In four
  photographs of other people the landmarks lie 0.2 to 0.6 px of 112 (on average) from where the
  mean face would put them;
- OpenFace moves the centre of its fitted 3D face to (56, 56), here that of the 24 points goes to
  the reference's;
- no mask outside the face, and pixels outside the image repeat its edge: local contrast
  normalisation would see the black that OpenFace puts there;
- crops are grey, which SAMM-LV is anyway;
- a crop smaller than 112 px is one of 112 px averaged down: bilinear reduction skips pixels, which
  doubles the noise (at 56 px).
"""

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np

from spotjax.config import EXPRESSION_TYPES, Cnn3dFeatures
from spotjax.data.schema import Stream
from spotjax.errors import UserError

from . import faces
from .features import Extracted, FeatureSpec, empty_rows, frames_of
from .readers import RawVideo
from .workers import Report

OPENFACE = 112  # px, side of OpenFace's aligned crops
STABLE = np.array(
    [1, 2, 3, 4, 12, 13, 14, 15, 27, 28, 29, 31, 32, 33, 34, 35, 36, 39, 40, 41, 42, 45, 46, 47]
)
"""The landmarks that OpenFace aligns by."""
# fmt: off
REFERENCE = np.array([
    (5.95, 45.56), (7.78, 58.20), (10.14, 70.92), (14.41, 83.30),
    (97.59, 83.30), (101.86, 70.92), (104.22, 58.20), (106.05, 45.56),
    (56.00, 28.26), (56.00, 37.43), (56.00, 46.30),
    (44.69, 60.53), (50.07, 62.01), (56.00, 63.72), (61.93, 62.01), (67.31, 60.53),
    (22.73, 28.41), (42.13, 30.85), (35.11, 31.40), (28.11, 31.24),
    (69.87, 30.85), (89.27, 28.41), (83.89, 31.24), (76.89, 31.40),
])
# fmt: on
"""Where they go: x, y in px of a crop of 112 px.  The centres of this face's eyes (means of
landmarks 36-41 and 42-47) lie at (32.06, 28.58) and (79.94, 28.58)."""

Box = tuple[int, int, int, int]
Cut = Callable[[np.ndarray], np.ndarray]
"""From a frame u8[H, W] to its crop u8[size, size]."""


def spec(features: Cnn3dFeatures) -> FeatureSpec:
    """The spec of the crops.

    k is 1 for both types, as nothing here depends on it: a row is one frame, and how far apart the
    frames of a pair are is drawn in training and a constant of `config.system` in testing.
    """
    return FeatureSpec(
        streams=streams(features.size),
        k=dict.fromkeys(EXPRESSION_TYPES, 1),
        k_source="single frames: config.system pairs them",
        extract=partial(extract, features),
        check=partial(_check, features),
    )


def streams(size: int) -> dict[str, Stream]:
    """`crops` u8[T, size, size], grey, and `valid_both` u8[T], 1 where there is a face."""
    return {"crops": Stream((size, size), "uint8"), "valid_both": Stream((), "uint8")}


def extract(features: Cnn3dFeatures, video: RawVideo, report: Report) -> Extracted:
    """The crops; a row is zero with valid 0 where there is no face.

    Every frame is decoded once (besides the few that the face search looks at) and kept no longer
    than its crop takes.  Raises UserError if the video has no face, if its landmarks are none of a
    face in the image, or if a frame cannot be read.
    """
    frames = frames_of(video)
    face = present = None
    if features.alignment != "ready":
        face, present = faces.find_face(faces.backend(features.face, video), frames)
    frame = frames[0]
    found = _cut(features, face, frame.shape)
    if found is None:
        raise UserError(f"{video.place}: the landmarks are none of a face in the image: check them")
    box, cut = found
    rows = empty_rows(streams(features.size), video.num_frames)
    for row in range(video.num_frames):
        if row:
            frame = frames[row]
        if frame.any() if present is None else present[row]:
            rows["crops"][row] = cut(frame)
            rows["valid_both"][row] = 1
        report(1)
    if not rows["valid_both"].any():
        raise UserError(
            f"{video.place}: every image is black, which OpenFace writes where it finds no face: "
            "leave the video out with --config.data.skip_bad_videos=true"
        )
    return Extracted(rows["valid_both"].copy(), box, rows)


def _cut(
    features: Cnn3dFeatures, face: faces.Face | None, shape: tuple[int, ...]
) -> tuple[Box, Cut] | None:
    """The box in px of a frame `shape` (height, width) that the crops show, and how they are cut.

    Without `face` the frames are aligned crops.  None if its landmarks lie outside the image.
    """
    size = features.size
    if face is None:
        return (0, 0, shape[1], shape[0]), partial(resized, size=size)
    if features.alignment == "box":
        box, side = face.box, max(size, OPENFACE)
        return box, lambda frame: resized(faces.crop(frame, box, side), size)
    matrix = alignment(face.landmarks)
    if matrix is None or (where := outline(matrix, shape)) is None:
        return None
    return where, partial(aligned, matrix=matrix, size=size)


def alignment(landmarks: np.ndarray) -> np.ndarray | None:
    """f64[2, 3], from px of the frame to px of a crop of 112 px, for landmarks f32[68, 2].

    The rotation is the best in least squares (Kabsch), the scale is the ratio of the points'
    spreads, as OpenFace computes them.  None if the landmarks all lie on one point.
    """
    source, target = (p[:, 0] + 1j * p[:, 1] for p in (landmarks[STABLE].astype(float), REFERENCE))
    centred, goal = source - source.mean(), target - target.mean()
    turn = np.vdot(centred, goal)
    if abs(turn) < 1e-6:
        return None
    factor = turn / abs(turn) * goal.std() / centred.std()
    shift = target.mean() - factor * source.mean()
    a, b = factor.real, factor.imag
    return np.array([(a, -b, shift.real), (b, a, shift.imag)])


def aligned(frame: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """The crop u8[size, size] of `frame` u8[H, W] that `alignment` describes."""
    side = max(size, OPENFACE)
    zoom = side / OPENFACE
    scaled = matrix * zoom
    scaled[:, 2] += (zoom - 1) / 2  # pixel centres, as cv2.resize
    image = cv2.warpAffine(
        frame, scaled, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return resized(image, size)


def resized(image: np.ndarray, size: int) -> np.ndarray:
    """`image` u8[H, W] as u8[size, size]: averaged if it is larger, bilinear if smaller."""
    if image.shape == (size, size):
        return image
    way = cv2.INTER_AREA if min(image.shape) >= size else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=way)


def outline(matrix: np.ndarray, shape: tuple[int, ...]) -> Box | None:
    """The upright box around the crop in an image `shape` (height, width), cut at its edges.

    `matrix` f64[2, 3] maps px of the image to the crop's.  None if the middle of the crop lies
    outside the image.
    """
    height, width = shape
    back = cv2.invertAffineTransform(matrix)
    low, high = -0.5, OPENFACE - 0.5
    corners = [(low, low), (high, low), (high, high), (low, high)]
    edges = np.array(corners) @ back[:, :2].T + back[:, 2] + 0.5
    x, y = edges.mean(axis=0)
    if not (0 <= x < width and 0 <= y < height):
        return None
    ends = np.clip([edges.min(axis=0), edges.max(axis=0)], 0, (width, height))
    left, top, right, bottom = np.rint(ends).astype(int).ravel().tolist()
    return left, top, right, bottom


def _check(features: Cnn3dFeatures) -> None:
    if features.alignment != "ready":
        faces.check_backend(features.face)
