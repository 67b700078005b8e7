"""Pictures of what was found, from a second pass over the video in bounded memory.

Of each detection: the face at onset, apex and offset in colour, and what the network looked at
(`looked`).  The video is read once more from its start, in the stretches that it was scored in.
Nothing is kept of it but the small pictures.  OpenCV is imported when it comes to it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from spotjax.config import Softnet
from spotjax.own import looked
from spotjax.own.run import Result
from spotjax.own.scorer import Fitted
from spotjax.pages import overlay
from spotjax.types import Detection

MOST = 200
"""Detections that get pictures."""
THUMB = 128
"""px of a picture's longer side."""
WIDEN = 0.2
"""Of the box's sides, all around together, that a picture shows more than the box."""
QUALITY = 85


class Pictures(NamedTuple):
    """JPEG files of one detection; empty where there is no face."""

    onset: bytes = b""
    apex: bytes = b""
    offset: bytes = b""
    heat: bytes = b""
    """Grad-CAM of SOFTNet and SFAMNet over the grey face in the apex's frame."""
    shares: looked.Shares | None = None
    """Attention of SpotFormer."""


def of(source: Any, result: Result, thumb: int = THUMB) -> dict[Detection, Pictures]:
    """The pictures of the `MOST` best detections of `result`, none of a camera or a pipe.

    `source` (of `data_prep.source`) is what was spotted in; `thumb` px the longer side of the
    colour pictures.  Raises UserError if it cannot be read a second time.
    """
    chosen = best(result.spotting.detections, MOST)
    if not (source.repeatable and chosen):
        return {}
    frames = _Faces(result, chosen, thumb)
    again = _Watched(source.again(), frames.see)
    looks: dict[Detection, looked.Look] = {}
    if looked.can_explain(result.fitted):
        looks = _looks(again, result, chosen, frames)
    else:
        for _ in again.skip(0):
            if frames.done:
                break
    drawn = looked.explained(result.fitted, looks)
    found = {}
    for d in chosen:
        seen = drawn.get(d)
        onset, apex, offset = (frames.taken.get(n, b"") for n in (d.onset, d.apex, d.offset))
        found[d] = Pictures(
            onset,
            apex,
            offset,
            heat=_jpeg(seen[..., ::-1]) if isinstance(seen, np.ndarray) else b"",
            shares=seen if isinstance(seen, looked.Shares) else None,
        )
    return found


def best(detections: Sequence[Detection], most: int) -> list[Detection]:
    """The `most` detections that rank highest among those of their type, by onset.

    >>> some = [Detection(i, i, i, "macro", i / 9) for i in (1, 2, 3)]
    >>> some.append(Detection(9, 9, 9, "micro", 0.1))
    >>> [d.onset for d in best(some, 2)]
    [3, 9]
    """
    ranked: list[tuple[int, Detection]] = []
    for type in dict.fromkeys(d.type for d in detections):
        mine = sorted((d for d in detections if d.type == type), key=lambda d: -d.score)
        ranked += enumerate(mine)
    kept = sorted(ranked, key=lambda pair: pair[0])[:most]
    return sorted((d for _, d in kept), key=lambda d: (d.onset, d.offset))


def row_frames(times: np.ndarray, rate: float, fps: float) -> np.ndarray:
    """i64[R]: the frame of each row of features, as `data_prep.own_video` reads them.

    `times` f64[T] seconds; row r is the frame that is seen at r / `rate` seconds, at `fps` frames
    per second.

    >>> row_frames(np.arange(6) / 60, 30, 60), row_frames(np.array([0, 0.1, 0.4]), 10, 10)
    (array([0, 2, 4]), array([0, 1, 1, 1, 2]))
    """
    half = 0.5 / max(rate, fps)
    ends = times[1:] - half - 1e-9
    count = int((times[-1] + half) * rate + 1e-9) + 1
    return np.searchsorted(ends, np.arange(count) / rate, "right")


# --- the face at three moments --------------------------------------------------------------------


class _Watched:
    """A source whose frames are shown to `see` as they go by."""

    def __init__(self, source: Any, see: Callable[[Any], object]) -> None:
        self._source, self._see = source, see
        self.name, self.fps = source.name, source.fps

    def skip(self, count: int) -> Iterator[Any]:
        for shot in self._source.skip(count):
            self._see(shot)
            yield shot


class _Faces:
    """JPEG files of the face in the frames that matter, by frame."""

    def __init__(self, result: Result, chosen: Sequence[Detection], thumb: int) -> None:
        self.taken: dict[int, bytes] = {}
        self._boxes, self._thumb = result.boxes, thumb
        self._wanted = {frame for d in chosen for frame in (d.onset, d.apex, d.offset)}
        self.done = False
        """Whether no frame that matters is to come."""

    def see(self, shot: Any) -> None:
        """Take the face out of a frame if it matters."""
        if shot.number in self._wanted and shot.number < len(self._boxes):
            box = self._boxes[shot.number]
            if box[2] > box[0]:
                self.taken[shot.number] = _jpeg(_shrunk(_cut(shot.image, box), self._thumb))
        self.done = shot.number >= max(self._wanted)


def _cut(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The face of `image` u8[H, W, 3] with `WIDEN` more around it, as far as the frame goes."""
    left, top, right, bottom = (int(edge) for edge in box)
    more = round(WIDEN / 2 * (right - left)), round(WIDEN / 2 * (bottom - top))
    return image[max(top - more[1], 0) : bottom + more[1], max(left - more[0], 0) : right + more[0]]


def _shrunk(image: np.ndarray, side: int) -> np.ndarray:
    import cv2

    scale = side / max(image.shape[:2])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _jpeg(image: np.ndarray) -> bytes:
    import cv2

    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


# --- what the network looked at -------------------------------------------------------------------


class _Known:
    """A `faces.LandmarkBackend` that knows the face, and shows it only in the rows that count."""

    check_every = 1

    def __init__(self, face: Any, rows: Sequence[int]) -> None:
        self._face, self._rows = face, rows

    def find(self, frame: np.ndarray, row: int) -> Any:
        return self._face

    def present(self, frame: np.ndarray, row: int, box: Any) -> bool:
        return row in self._rows


def _looks(
    source: _Watched, result: Result, chosen: Sequence[Detection], faces: _Faces
) -> dict[Detection, looked.Look]:
    """The features behind the score of each detection's apex; none where the face is not found."""
    from spotjax.data_prep import own_video

    fitted, rate = result.fitted, result.rate
    spec = own_video.make_spec(fitted.config, rate)
    around = own_video.context(fitted.config, fitted.k, rate)
    numbers = row_frames(result.spotting.times, rate, result.spotting.fps)
    rows = {
        d: around.held_before
        + int(np.searchsorted(numbers, d.apex))
        - looked.row_before_apex(fitted, d)
        for d in chosen
    }
    found = {}
    for stretch in own_video.stretches(source, rate, around, own_video.Reading()):
        end = stretch.first + stretch.own
        mine = {d: row for d, row in rows.items() if stretch.first <= row < end}
        box = next((b for d in mine if (b := result.boxes[d.apex])[2] > b[0]), None)
        face = None if box is None else _face(stretch, box)
        for d, row in mine.items():
            if face is not None:
                at = row - stretch.first + stretch.before
                found[d] = _look(stretch.live, spec, face, fitted, d, at, around, rate)
        if end > max(rows.values()) and faces.done:
            break
    return found


def _face(stretch: Any, box: np.ndarray) -> Any:
    """The face of a stretch as its features were made with; `box` is the one found then."""
    from spotjax.data_prep import faces, own_face

    tracker = own_face.Tracker()
    tracker.resume(tuple(round(float(edge) * stretch.scale) for edge in box))
    try:
        return faces.find_face(tracker, stretch.live)[0]
    except faces.NoFace:
        return None


def _look(
    live: Any, spec: Any, face: Any, fitted: Fitted, d: Detection, at: int, around: Any, rate: float
) -> looked.Look:
    """The features of row `at` of the frames `live`, extracted from as many as that takes."""
    from spotjax.data_prep import faces, own_video
    from spotjax.data_prep.readers import RawVideo

    least = around.before + 2 * around.after + 17  # what no extraction finds too short
    first = max(0, min(at - around.before, len(live) - least))
    cut = slice(first, first + least)
    some = own_video.Live(live.name, live.images[cut], live.numbers[cut])
    rows = [at - first + row for row in looked.rows_of(fitted, d, around.before, around.after)]
    video = RawVideo(
        "", live.name, (), np.arange(len(some), dtype=np.int32), rate, (), (),
        file=some.place, live=(some, _Known(face, rows)),
    )  # fmt: skip
    found = spec.extract(video, lambda frames: None)
    problem = looked.problem_of(fitted, d)
    wanted = set(fitted.system.streams(problem)) & set(found.rows)
    return looked.Look(
        problem,
        {name: found.rows[name][at - first].copy() for name in wanted},
        faces.crop(live[at], face.box),
        _parts(fitted, face),
    )


def _parts(fitted: Fitted, face: Any) -> overlay.Parts:
    """Where the network's image lies on the face crop."""
    from spotjax.data_prep import faces, softnet

    features: Any = fitted.config.features
    if isinstance(fitted.config.system, Softnet):
        return softnet.geometry(faces.landmarks_in_crop(face), features.roi).parts
    return overlay.WHOLE_FACE
