"""Any video that a person has, one frame after the other with its time: file, folder, pipe, camera.

A file is decoded in order and never sought in, so that memory stays bounded and every frame is met
once.  Times are the container's own, from the first frame on, so that a variable frame rate is
kept; where they stand still, run backwards or leap, as some writers and damaged files leave them,
the nominal rate goes on from the last.  A turned picture (rotation flag of a telephone) is set
upright by OpenCV.
"""

import math
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from spotjax.errors import UserError

from .video import read_colour

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
PIPE, CAMERA = "-", re.compile(r"camera:(\d+)")
FALLBACK_FPS = 30.0
LONGEST_GAP = 10.0
"""Seconds from one frame to the next; a longer one is taken for a damaged time."""
FFMPEG_LOG = "OPENCV_FFMPEG_LOGLEVEL"
_SAVE_AGAIN = "save it again, for example as .mp4 (H.264), or copy it anew"


class Shot(NamedTuple):
    """One frame."""

    number: int
    """Counted from 0 over everything that could be decoded."""
    time: float
    """Seconds since the first frame."""
    image: np.ndarray
    """Colour u8[H, W, 3] in OpenCV's order (BGR)."""


class Source:
    """An opened video; iterate over it once (`again` opens it anew).

    What has to be said about it is collected in `notes` until the last frame is read.
    """

    def __init__(self, name: str, media: Path | None, fps: float, expected: int) -> None:
        """`media` is its file or folder, None for a camera; `expected` frames, 0 if unknown."""
        self.name = name
        self.media = media
        self.fps = fps
        self.expected = expected
        self.notes: list[str] = []

    @property
    def repeatable(self) -> bool:
        """Whether it can be read a second time."""
        return self.media is not None

    def again(self) -> "Source":
        """The same video from its start.  Raises UserError if it is a camera or a pipe."""
        raise UserError(f"{self.name}: can be read only once")

    def skip(self, count: int) -> Iterator[Shot]:
        """The frames from number `count` on; those before are passed over as cheaply as can be.

        Raises UserError if a frame cannot be decoded and nothing can be done about it.
        """
        raise NotImplementedError

    def __iter__(self) -> Iterator[Shot]:
        """All frames, in order."""
        return self.skip(0)


def open_source(text: str, fps: float = 0.0) -> Source:
    """The video that `text` names: a file, a folder of images, `-` (a pipe) or `camera:0`.

    `fps` is the frame rate of a folder of images, and of a file whose header lacks it; of any
    other file it is not used, since the container's own times count.  Raises UserError naming what
    is wrong with it and what can be done.
    """
    quiet()
    if text == PIPE:
        return _Captured("stdin", None, "pipe:0", fps)
    if found := CAMERA.fullmatch(text):
        return _Captured(text, None, int(found[1]), fps)
    path = Path(text)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror or error}: name a video file, a folder of images, - for a "
            "pipe or camera:0"
        ) from None
    if stat.S_ISDIR(mode):
        return _Folder(path, fps)
    if stat.S_ISREG(mode) and path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty: copy it anew")
    if not os.access(path, os.R_OK):
        raise UserError(f"{path}: may not be read: change its permissions")
    return _Captured(path.name, path, str(path), fps)


def quiet() -> None:
    """Keep the decoder's own messages from the terminal: what matters is said in `notes`."""
    os.environ.setdefault(FFMPEG_LOG, "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


class _Captured(Source):
    """What OpenCV's VideoCapture opens."""

    def __init__(self, name: str, media: Path | None, what: str | int, fps: float) -> None:
        self._what, self._wanted_fps = what, fps
        self._capture = self._opened(name)
        header = self._capture.get(cv2.CAP_PROP_FPS)
        known = math.isfinite(header) and 0 < header <= 1000
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        expected = int(count) if media is not None and 0 < count < 1e9 else 0
        super().__init__(name, media, header if known else fps or FALLBACK_FPS, expected)
        self._from_header = known
        if not known and not fps:
            self.notes.append(
                f"the frame rate is unknown: {FALLBACK_FPS:g} fps are assumed, --fps sets it"
            )

    def _opened(self, name: str) -> cv2.VideoCapture:
        if isinstance(self._what, int):
            capture = cv2.VideoCapture(self._what)
            remedy = "see that it is plugged in and that no other program uses it"
        else:
            capture = cv2.VideoCapture(self._what, cv2.CAP_FFMPEG)
            remedy = _SAVE_AGAIN
            if self._what.startswith("pipe:"):
                remedy = "send a format that needs no seeking (Matroska, AVI, MPEG-TS; not MP4)"
        if not capture.isOpened():
            raise UserError(f"{name}: cannot be opened as a video: {remedy}")
        return capture

    def again(self) -> Source:
        if self.media is None:
            return super().again()
        return _Captured(self.name, self.media, self._what, self._wanted_fps)

    def skip(self, count: int) -> Iterator[Shot]:
        number, time, last, leaps, size = 0, 0.0, 0.0, 0, None
        while self._capture.grab():
            stamp = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if number:
                step = stamp - last
                if not self._from_header or not 0 < step <= LONGEST_GAP:
                    leaps += step > LONGEST_GAP
                    step = 1 / self.fps
                time += step
            last = stamp
            if number >= count:
                ok, image = self._capture.retrieve()
                if not ok:
                    break
                size = size or image.shape[:2]
                yield Shot(number, time, _same_size(image, size))
            number += 1
        self._capture.release()
        if number == 0:
            raise UserError(f"{self.name}: no frame of it can be decoded: {_SAVE_AGAIN}")
        if leaps:
            self.notes.append(
                f"{leaps} of its times leap by more than {LONGEST_GAP:g} s, as in a damaged file: "
                "the nominal frame rate was taken there"
            )
        if self.expected - number > max(2, 0.02 * self.expected):
            self.notes.append(
                f"the header promises {self.expected} frames, {number} can be decoded: the file "
                "may be cut short"
            )


class _Folder(Source):
    """Numbered images."""

    def __init__(self, path: Path, fps: float) -> None:
        files = [p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES]
        self._files = sorted(files, key=lambda p: _natural(p.name))
        if not self._files:
            raise UserError(f"{path}: holds no images ({', '.join(IMAGE_SUFFIXES)})")
        name = path.resolve().name
        super().__init__(name, path, fps or FALLBACK_FPS, len(self._files))
        if not fps:
            self.notes.append(
                f"a folder of images has no frame rate: {FALLBACK_FPS:g} fps are assumed, --fps "
                "sets it"
            )

    def again(self) -> Source:
        assert self.media is not None
        return _Folder(self.media, self.fps)

    def skip(self, count: int) -> Iterator[Shot]:
        size = None
        for number in range(count, len(self._files)):
            try:
                image = read_colour(self._files[number])
            except UserError:
                raise UserError(
                    f"{self._files[number]}: cannot be decoded as an image: repair or remove it"
                ) from None
            size = size or image.shape[:2]
            if image.shape[:2] != size:
                raise UserError(
                    f"{self._files[number]}: is {image.shape[1]}x{image.shape[0]} px, the images "
                    f"before it {size[1]}x{size[0]} px: bring them to one size"
                )
            yield Shot(number, number / self.fps, image)


def _same_size(image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """`image` in colour and of `size` (height, width); some streams change theirs midway."""
    if image.ndim == 2:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    if image.shape[:2] != tuple(size):
        image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    return image


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Sort key that puts img2 before img10."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts]


def from_frames(frames: Iterable[np.ndarray], fps: float, name: str = "frames") -> Source:
    """Frames that a program has, one after the other: grey u8[H, W] or RGB u8[H, W, 3].

    An array can be read again, a generator only once.  Raises UserError, when it comes to it, for a
    frame of another shape or type.
    """
    return _Given(frames, fps, name)


class _Given(Source):
    """Frames from a program."""

    def __init__(self, frames: Iterable[np.ndarray], fps: float, name: str) -> None:
        expected = len(frames) if isinstance(frames, Sized) else 0
        super().__init__(name, None, fps, expected)
        self._frames = frames

    def skip(self, count: int) -> Iterator[Shot]:
        size = None
        number = -1
        for number, frame in enumerate(self._frames):
            image = np.asarray(frame)
            if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in (
                (), (3,)
            ):  # fmt: skip
                raise UserError(
                    f"frame {number} is {image.dtype}{list(image.shape)}: frames are grey u8[H, W] "
                    "or RGB u8[H, W, 3]"
                )
            size = size or image.shape[:2]
            if image.shape[:2] != size:
                raise UserError(f"frame {number} is {image.shape[:2]} px, the first is {size}")
            if number >= count:
                colour = np.ascontiguousarray(image[..., ::-1]) if image.ndim == 3 else image
                yield Shot(number, number / self.fps, _same_size(colour, size))
        if number < 0:
            raise UserError("there are no frames")
