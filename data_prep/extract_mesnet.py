"""MESNet's streams of a video: flow of the face between neighbouring frames.

The paper says neither how flow is computed nor between which frames.  Here row i is Farneback's
flow from frame i to frame i + 1 of those that are taken (`data.sample_every`; at 200 fps the paper
takes every 6.7th), and the last row repeats its predecessor, so that there is a row per frame.
Values are px of the crop, neither normalised nor clipped.

The face lies in one box per video, around the landmarks of the first frame with a face, as in the
MEGC 2020 baseline of the paper's authors: from the smallest to the largest landmark, the forehead
added above.  Deviations, each with its reason:

- the baseline detects the face again inside the crop, which may draw the bottom edge up; the chin's
  landmarks end the box already, and a detector often finds nothing in so tight a crop;
- the baseline leaves out the image's last row and column where the face reaches them;
- `flow_size` computes flow on a larger crop and averages it down, for a small `size`: motion of a
  fraction of a px is measured better where it is larger, and the network stays cheap.
"""

from functools import partial

import cv2
import numpy as np

from spotjax.config import EXPRESSION_TYPES, MesnetFeatures
from spotjax.data.schema import Stream
from spotjax.errors import UserError

from . import faces
from .features import Extracted, FeatureSpec, empty_rows, frames_of
from .flow import FlowMethod, make_flow
from .readers import RawVideo
from .workers import Report

Box = tuple[int, int, int, int]
"""left, top, right, bottom in px; right and bottom exclusive."""
_BROW, _EYE = 18, 36  # left brow, outer corner of the left eye: their distance is the forehead's


def spec(features: MesnetFeatures) -> FeatureSpec:
    """The spec of MESNet's features.

    k is 1 for both types: the frames between the images of a pair.
    """
    return FeatureSpec(
        streams=streams(features.size),
        k=dict.fromkeys(EXPRESSION_TYPES, 1),
        k_source="neighbouring frames",
        extract=partial(extract, features),
        check=partial(_check, features),
    )


def streams(size: int) -> dict[str, Stream]:
    """`flow` f16[T, size, size, 2] in px, `energy` f32[T] in px^2 and `valid_both` u8[T].

    `energy` is the mean square of a row's flow over pixels and both directions: its mean over rows
    is the variance of all their values about 0, whatever rows a fold trains on.
    """
    return {
        "flow": Stream((size, size, 2), "float16"),
        "energy": Stream((), "float32"),
        "valid_both": Stream((), "uint8"),
    }


def extract(features: MesnetFeatures, video: RawVideo, report: Report) -> Extracted:
    """MESNet's streams; a row is zero with valid 0 unless both of its frames have a face.

    Every frame is decoded once (besides the few that the face search looks at), and two crops are
    kept.  Raises UserError if the video has one frame only or no face, if its landmarks lie outside
    the image, or if a frame cannot be read.
    """
    length = video.num_frames
    if length < 2:
        raise UserError(
            f"{video.place}: {length} frame is too few: flow needs two; leave the video out with "
            "--config.data.skip_bad_videos=true"
        )
    frames = frames_of(video)
    face, present = faces.find_face(faces.backend(features.face, video), frames)
    flow = make_flow(features.flow)
    side = features.flow_size or features.size
    image = frames[0]
    box = face.box if features.box == "detector" else landmark_box(face.landmarks, image.shape)
    if box is None:
        raise UserError(f"{video.place}: the landmarks lie outside the image: check them")
    rows = empty_rows(streams(features.size), length)
    first = faces.crop(image, box, side)
    report(1)
    for row in range(length - 1):
        second = faces.crop(frames[row + 1], box, side)
        if present[row] and present[row + 1]:
            try:
                rows["flow"][row] = reduced(flow, first, second, features.size)
            except UserError as error:
                raise UserError(f"{frames.where(row)}: {error}") from None
            rows["energy"][row] = energy(rows["flow"][row])
            rows["valid_both"][row] = 1
        first = second
        report(1)
    for values in rows.values():
        values[-1] = values[-2]
    return Extracted(present, box, rows)


def landmark_box(landmarks: np.ndarray, shape: tuple[int, ...]) -> Box | None:
    """The box of the landmarks f32[68, 2] and the forehead in an image `shape` (height, width).

    The forehead is as high as the outer corner of the left eye lies below its brow (landmarks 36,
    18).  The box is cut at the image's edges; None if less than 2 px of it are inside.
    """
    height, width = shape
    (left, top), (right, bottom) = landmarks.min(axis=0), landmarks.max(axis=0)
    top -= landmarks[_EYE, 1] - landmarks[_BROW, 1]
    edges = np.rint(np.clip((left, top, right, bottom), 0, (width, height) * 2))
    left, top, right, bottom = edges.astype(int).tolist()
    return (left, top, right, bottom) if min(right - left, bottom - top) >= 2 else None


def reduced(flow: FlowMethod, first: np.ndarray, second: np.ndarray, size: int) -> np.ndarray:
    """`flow` of two crops u8[side, side], averaged down to f32[size, size, 2] in px of `size`.

    Raises UserError if it is not finite.
    """
    whole = flow(first, second)
    side = len(whole)
    if side == size:
        return whole
    return cv2.resize(whole, (size, size), interpolation=cv2.INTER_AREA) * np.float32(size / side)


def energy(flow: np.ndarray) -> float:
    """Mean square of the flow f16[size, size, 2] as it is stored, in px^2.

    >>> energy(np.full((2, 2, 2), (3, 4), np.float16))
    12.5
    """
    return float(np.square(flow, dtype=np.float64).mean())


def _check(features: MesnetFeatures) -> None:
    faces.check_backend(features.face)
    make_flow(features.flow)
