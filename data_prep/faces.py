"""Where the face is: one box and 68 landmarks per video, and in which frames it is there.

As in SOFTNet's released crops, one box serves the whole video: that of the
first frame in which a face is found.  Deviations from the release, each with its reason:

- box and landmarks come from one detection in the full frame; the release detects again inside
  the 128x128 crop, which finds nothing in some videos, and saves the crops as JPEG (lossy);
- the box is clamped to the frame; a negative edge gives the release an empty or wrong slice;
- of several faces the largest is taken, the release takes the last;
- frames without a face are marked; the release computes flow on whatever lies in the box.

Backends: `dlib` (HOG detector, upsampled once, and the 68-point model of the package
face-recognition-models, which is trained on iBUG 300-W: not for commercial products), and `csv`,
landmarks that you already have: `<folder>/<subject>/<video>.csv` with the columns `frame` (the
data set's frame numbers) and `x0..x67,y0..y67` in px.  OpenFace's own files fit as they are: its
` x_0` columns, and rows with `success` 0 or `confidence` below 0.5 count as no face.
"""

import csv
import functools
import importlib.util
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np

from spotjax import config as config_lib
from spotjax.errors import UserError

from .readers import RawVideo
from .video import Frames

CROP = 128  # px, side of the square face crop
_OVERLAP = 0.25  # IoU with the video's box from which a detection is the same face
_LENIENT = -0.5  # dlib score threshold of presence checks (0 is the detector's own)
_CHECK_WIDTH = 120  # px, to which the box is scaled for a check: dlib finds faces from 80 px
_WIDEN = np.array([-0.03, -0.12, 0.0, -0.10])
"""dlib's box around landmarks: left, top, right, bottom edge moved by these parts of their width
and height (mean over five faces)."""


class NoFace(UserError):
    """No frame of a video shows a face."""


class Face(NamedTuple):
    """A face in a frame."""

    box: tuple[int, int, int, int]
    """left, top, right, bottom in px; right and bottom exclusive."""
    landmarks: np.ndarray
    """f32[68, 2]: x, y in px of the full frame, iBUG order."""


class LandmarkBackend(Protocol):
    """Finds the face in the frames of one video."""

    check_every: int
    """Frames between two presence checks."""

    def find(self, frame: np.ndarray, row: int) -> Face | None:
        """The largest face of `frame` u8[H, W], which is row `row` of the video."""

    def present(self, frame: np.ndarray, row: int, box: tuple[int, int, int, int]) -> bool:
        """Whether there is a face at `box` (px, as in `Face`) of `frame` u8[H, W]."""


class Dlib68:
    """dlib's HOG detector and 68-point predictor."""

    def __init__(self, check_every: int) -> None:
        """Load the models (1 s, once per process).  Raises UserError if they are missing."""
        self.check_every = check_every
        self._detector, self._predictor = _dlib_models()

    def find(self, frame: np.ndarray, row: int) -> Face | None:
        """The largest face of `frame` u8[H, W] (15-100 ms)."""
        found = self._detector(frame, 1)
        if not found:
            return None
        return self._face(frame, max(found, key=lambda rectangle: rectangle.area()))

    def find_all(self, frame: np.ndarray, width: int) -> list[Face]:
        """All faces of `frame` u8[H, W], the largest first, looked for in `width` px at most."""
        scale = min(1.0, width / frame.shape[1])
        small = frame
        if scale < 1:
            small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        found = sorted(self._detector(small, 1), key=lambda rectangle: -rectangle.area())
        if scale < 1:
            found = [_grown(rectangle, 1 / scale) for rectangle in found]
        return [self._face(frame, rectangle) for rectangle in found]

    def _face(self, frame: np.ndarray, rectangle: Any) -> Face:
        points = self._predictor(frame, rectangle).parts()
        landmarks = np.array([(point.x, point.y) for point in points], np.float32)
        return Face(_clamped(_edges(rectangle), frame), landmarks)

    def present(self, frame: np.ndarray, row: int, box: tuple[int, int, int, int]) -> bool:
        """Whether the detector, made lenient, fires at `box` (px) of `frame` u8[H, W].

        Only the surroundings of the box are looked at: 3-5 ms.
        """
        left, top, right, bottom = box
        width, height = right - left, bottom - top
        region = _clamped(
            (left - width // 2, top - height // 2, right + width // 2, bottom + height // 2), frame
        )
        scale = _CHECK_WIDTH / width
        part = frame[region[1] : region[3], region[0] : region[2]]
        small = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        found, _, _ = self._detector.run(np.ascontiguousarray(small), 0, _LENIENT)
        origin = np.array((region[0], region[1]) * 2)
        return any(
            iou(np.array(_edges(rectangle)) / scale + origin, box) >= _OVERLAP
            for rectangle in found
        )


class CsvLandmarks:
    """Landmarks that the user brings, one file per video."""

    check_every = 1

    def __init__(self, file: Path, frame_ids: np.ndarray) -> None:
        """Read `file`; row i is frame number i of `frame_ids` i32[T].

        Raises UserError naming its column or line.
        """
        by_number = _read_landmarks(file)
        self._rows = [by_number.get(int(number)) for number in frame_ids]

    def find(self, frame: np.ndarray, row: int) -> Face | None:
        """The file's landmarks of this row, with a box as dlib draws it in `frame` u8[H, W]."""
        landmarks = self._rows[row]
        if landmarks is None:
            return None
        low, high = landmarks.min(axis=0), landmarks.max(axis=0)
        edges = np.concatenate([low, high]) + _WIDEN * np.tile(high - low, 2)
        return Face(_clamped(tuple(np.rint(edges).astype(int).tolist()), frame), landmarks)

    def present(self, frame: np.ndarray, row: int, box: tuple[int, int, int, int]) -> bool:
        """Whether the file has a face at `box` (px of `frame` u8[H, W]) in this row."""
        face = self.find(frame, row)
        return face is not None and iou(np.array(face.box), box) >= _OVERLAP


def backend(face: config_lib.Face, video: RawVideo) -> LandmarkBackend:
    """The backend of `config.features.face` for `video`.  Raises UserError if it cannot run."""
    if video.live is not None:
        return video.live[1]
    if face.backend == "dlib":
        return Dlib68(face.check_every)
    file = Path(face.csv) / video.subject / f"{video.name}.csv"
    return CsvLandmarks(file, video.frame_ids)


def check_backend(face: config_lib.Face) -> None:
    """Raise UserError, before any work, if the backend cannot run at all."""
    if face.backend == "dlib":
        _model_file()
    elif not face.csv or not Path(face.csv).is_dir():
        raise UserError(
            f"config.features.face.csv: {face.csv or '(empty)'} is not a folder: set it to the "
            "folder that holds <subject>/<video>.csv"
        )


def find_face(finder: LandmarkBackend, frames: Frames) -> tuple[Face, np.ndarray]:
    """The video's face and u8[T], 1 where it is there; frames are decoded only as needed.

    It is looked for in each of the first `check_every` frames, then in every `check_every`-th.
    Presence is checked every `check_every` frames; a frame takes the answer of the nearest check
    (of the later one when two are equally near).  Raises NoFace if no frame has a face.
    """
    face = None
    every = finder.check_every
    first = [*range(min(every, len(frames))), *range(every, len(frames), every)]
    for row in first:
        if (face := finder.find(frames[row], row)) is not None:
            break
    if face is None:
        raise NoFace(
            f"{frames.place}: no face found in {len(first)} frames looked at, of "
            f"{len(frames)}: check the images, or bring landmarks with "
            "--config.features.face.backend=csv"
        )
    checks = [finder.present(frames[row], row, face.box) for row in range(0, len(frames), every)]
    nearest = (np.arange(len(frames)) + every // 2) // every
    return face, np.array(checks, np.uint8)[np.minimum(nearest, len(checks) - 1)]


def crop(frame: np.ndarray, box: tuple[int, int, int, int], size: int = CROP) -> np.ndarray:
    """The face u8[size, size] at `box` of `frame` u8[H, W], bilinear."""
    left, top, right, bottom = box
    return cv2.resize(frame[top:bottom, left:right], (size, size), interpolation=cv2.INTER_LINEAR)


def landmarks_in_crop(face: Face) -> np.ndarray:
    """The landmarks f32[68, 2] in px of the 128x128 crop (pixel centres, as cv2.resize)."""
    left, top, right, bottom = face.box
    scale = CROP / np.array([right - left, bottom - top], np.float32)
    return ((face.landmarks - (left, top) + 0.5) * scale - 0.5).astype(np.float32)


@functools.cache
def _dlib_models() -> tuple[Any, Any]:
    import dlib

    return dlib.get_frontal_face_detector(), dlib.shape_predictor(str(_model_file()))


def _model_file() -> Path:
    """The 68-point model, without importing its package (which needs the lost pkg_resources)."""
    remedy = "pip install 'spotjax[landmarks]', or use --config.features.face.backend=csv"
    if importlib.util.find_spec("dlib") is None:
        raise UserError(f"config.features.face.backend: dlib is not installed: {remedy}")
    package = importlib.util.find_spec("face_recognition_models")
    for folder in (package.submodule_search_locations or []) if package else []:
        file = Path(folder) / "models" / "shape_predictor_68_face_landmarks.dat"
        if file.is_file():
            return file
    raise UserError(
        f"config.features.face.backend: the landmark model of dlib is not installed: {remedy}"
    )


def _edges(rectangle: Any) -> tuple[int, int, int, int]:
    """left, top, right, bottom (exclusive) of a dlib rectangle, whose edges are inclusive."""
    return rectangle.left(), rectangle.top(), rectangle.right() + 1, rectangle.bottom() + 1


def _grown(rectangle: Any, scale: float) -> Any:
    """A dlib rectangle of an image that is `scale` times as large."""
    import dlib

    return dlib.rectangle(*(round(edge * scale) for edge in (
        rectangle.left(), rectangle.top(), rectangle.right(), rectangle.bottom()
    )))  # fmt: skip


def _clamped(edges: tuple[int, ...], frame: np.ndarray) -> tuple[int, int, int, int]:
    """`edges` moved inside the frame, at least one px wide and high."""
    height, width = frame.shape
    left, top = min(max(edges[0], 0), width - 1), min(max(edges[1], 0), height - 1)
    return left, top, max(min(edges[2], width), left + 1), max(min(edges[3], height), top + 1)


def iou(a: np.ndarray, b: tuple[int, int, int, int]) -> float:
    """Intersection over union of two boxes in px: `a` i64[4] or f64[4], `b`; edges as in `Face`."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    inter = float(np.prod(np.maximum(sides, 0)))
    return inter / (float((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])) - inter)


def _read_landmarks(file: Path) -> dict[int, np.ndarray]:
    """Frame number -> f32[68, 2], only rows with a face."""
    try:
        with open(file, newline="", encoding="utf-8-sig") as handle:
            table = [[cell.strip() for cell in line] for line in csv.reader(handle) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"{file}: {reason}: put the video's 68 landmarks there, or set "
            "config.features.face.backend to dlib"
        ) from None
    header = [name.replace("_", "") for name in table[0]] if table else []
    wanted = ["frame"] + [f"{axis}{point}" for axis in "xy" for point in range(68)]
    if missing := [name for name in wanted if name not in header]:
        raise UserError(f"{file}: no column {missing[0]}: expected frame, x0..x67, y0..y67")
    columns = [header.index(name) for name in wanted]
    quality = [(header.index(n), limit) for n, limit in (("success", 0.5), ("confidence", 0.5))
               if n in header]  # fmt: skip
    found: dict[int, np.ndarray] = {}
    for line, cells in enumerate(table[1:], start=2):
        try:
            values = np.array([float(cells[column]) for column in columns])
            sure = all(float(cells[column]) >= limit for column, limit in quality)
        except (ValueError, IndexError):
            raise UserError(
                f"{file}, line {line}: needs a number in each of frame, x0..x67, y0..y67: "
                "correct it, or remove the line (a frame without a line has no face)"
            ) from None
        if sure and np.isfinite(values).all():
            found[int(values[0])] = values[1:].reshape(2, 68).T.astype(np.float32)
    return found
