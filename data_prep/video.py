"""Frames of a video as grey images, every defect named: numbered image files, or a video file.

`cv2.imdecode` fills the rest of a truncated JPEG with grey and says nothing that a program could
catch, so the end marker of the file is looked for first.  The header of a video file may promise
more frames than can be decoded, so they are counted by decoding, once per file.
"""

import json
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from tqdm import tqdm

from spotjax.config import cores
from spotjax.errors import UserError
from spotjax.files import write_json

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".wmv", ".mpg", ".mpeg")
COUNTS = Path("shards") / "frame_counts.json"
"""Frames of the video files counted so far, by path, size and time of change."""
_REMEDY = "copy this frame again from the data set"


class Frames(Protocol):
    """The frames u8[H, W] of one video, decoded when asked for; all have one size."""

    def __len__(self) -> int:
        """Number of frames."""

    def __getitem__(self, row: int) -> np.ndarray:
        """Frame `row`.  Raises UserError if it cannot be decoded or its size differs."""

    @property
    def place(self) -> Path:
        """The folder or the file, for messages."""

    def where(self, row: int) -> str:
        """What names frame `row` in messages."""


def position(row: int, step: int | float) -> int:
    """Position in the whole video of the `row`-th frame taken, one in `step` (half to even).

    >>> [position(row, 7) for row in range(4)], [position(row, 6.7) for row in range(6)]
    ([0, 7, 14, 21], [0, 7, 13, 20, 27, 34])
    """
    return round(row * step)


def positions(length: int, step: int | float) -> np.ndarray:
    """i64[n], ascending: the positions of all frames taken of a video of `length` frames."""
    found = np.rint(np.arange(int(length / step) + 2) * step).astype(np.int64)
    return found[found < length]


def read_grey(path: Path) -> np.ndarray:
    """Decode an image to grey u8[H, W].

    Raises UserError if the file is missing, empty, truncated or not an image.
    """
    return _decode(path, cv2.IMREAD_GRAYSCALE)


def read_colour(path: Path) -> np.ndarray:
    """Decode an image to colour u8[H, W, 3] in OpenCV's order (BGR).  Raises as `read_grey`."""
    return _decode(path, cv2.IMREAD_COLOR)


def read_depth(path: Path) -> np.ndarray:
    """Decode a depth image to u16[H, W] in mm, 0 where nothing was measured.

    Raises UserError as `read_grey`, and if the image has not 16 bits and one channel.
    """
    image = _decode(path, cv2.IMREAD_UNCHANGED)
    if image.dtype != np.uint16 or image.ndim != 2:
        raise UserError(f"{path}: is no 16-bit depth image of one channel: {_REMEDY}")
    return image


def _decode(path: Path, flags: int) -> np.ndarray:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}: {_REMEDY}") from None
    if not data:
        raise UserError(f"{path}: the file is empty: {_REMEDY}")
    if _truncated(data):
        raise UserError(f"{path}: the image is cut short: {_REMEDY}")
    try:
        frame = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        frame = None
    if frame is None:
        raise UserError(f"{path}: cannot be decoded as an image: {_REMEDY}")
    return frame


class ImageFrames:
    """Frames from image files."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Frames in the order of `paths`."""
        self.paths = paths
        self._size: tuple[int, ...] = ()

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.paths)

    def __getitem__(self, row: int) -> np.ndarray:
        """Decode frame `row`."""
        frame = read_grey(self.paths[row])
        self._size = self._size or frame.shape
        if frame.shape != self._size:
            raise UserError(
                f"{self.paths[row]}: is {frame.shape[1]}x{frame.shape[0]} px, the video's other "
                f"frames {self._size[1]}x{self._size[0]} px: {_REMEDY}"
            )
        return frame

    @property
    def place(self) -> Path:
        """The folder of the first image."""
        return self.paths[0].parent

    def where(self, row: int) -> str:
        """The image file."""
        return str(self.paths[row])


class FileFrames:
    """One in `step` frames of a video file; cheapest when asked for in ascending order.

    A video is decoded from its start to the frame in question, since seeking is not exact in
    many formats; memory stays bounded whatever the length.
    """

    def __init__(self, path: Path, count: int, step: int | float = 1) -> None:
        """`count` frames are offered: 0, step, 2 step, ... of the file, rounded."""
        self.place = path
        self._count = count
        self._step = step
        self._next = 0  # position in the file of the frame that is grabbed next
        self._capture: cv2.VideoCapture | None = None
        self._last: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        """Number of frames."""
        return self._count

    def __getitem__(self, row: int) -> np.ndarray:
        """Decode up to frame `row`."""
        if not 0 <= row < self._count:
            raise IndexError(row)
        if self._last is not None and self._last[0] == row:
            return self._last[1]
        wanted = position(row, self._step)
        if self._capture is None or wanted < self._next:
            self._capture, self._next = _opened(self.place), 0
        while self._next <= wanted:
            if not self._capture.grab():
                raise UserError(
                    f"{self.where(row)}: cannot be decoded: save the video again, or copy it anew"
                )
            self._next += 1
        ok, frame = self._capture.retrieve()
        if not ok:
            raise UserError(f"{self.where(row)}: cannot be decoded: save the video again")
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) if frame.ndim == 3 else frame
        self._last = row, grey
        return grey

    def where(self, row: int) -> str:
        """`file, frame N` counted from 0."""
        return f"{self.place}, frame {position(row, self._step)}"


def header_fps(path: Path) -> float:
    """Frames per second of a video file as its header says, 0 if it does not."""
    try:
        fps = float(_opened(path).get(cv2.CAP_PROP_FPS))
    except UserError:
        return 0.0
    return fps if math.isfinite(fps) and 0 < fps <= 1000 else 0.0


def header_frames(path: Path) -> int:
    """Frames of a video file as its header says, 0 if it does not."""
    try:
        return max(0, int(_opened(path).get(cv2.CAP_PROP_FRAME_COUNT)))
    except UserError:
        return 0


def count_frames(paths: Sequence[Path]) -> list[int]:
    """Frames of each video file that can be decoded, 0 for one that cannot be opened.

    Counted on all cores with a progress bar, and remembered in `shards/frame_counts.json`.
    """
    known = _known_counts()
    keys = [_stamp(path) for path in paths]
    missing = [n for n, key in enumerate(keys) if key not in known]
    if missing:
        with ThreadPoolExecutor(cores()) as pool:
            counts = pool.map(lambda n: _count(paths[n]), missing)
            bar = tqdm(counts, total=len(missing), desc="counting frames", unit="video", delay=2)
            for n, count in zip(missing, bar, strict=True):
                known[keys[n]] = count
        COUNTS.parent.mkdir(exist_ok=True)
        write_json(COUNTS, known)
    return [known[key] for key in keys]


def _known_counts() -> dict[str, int]:
    try:
        values = json.loads(COUNTS.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}  # counted anew
    return values if isinstance(values, dict) else {}


def _stamp(path: Path) -> str:
    stat = path.stat()
    return f"{os.path.abspath(path)} {stat.st_size} {stat.st_mtime_ns}"


def _count(path: Path) -> int:
    try:
        capture = _opened(path)
    except UserError:
        return 0
    count = 0
    while capture.grab():
        count += 1
    return count


def _opened(path: Path) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise UserError(f"{path}: cannot be opened as a video: save it again, for example as .mp4")
    return capture


def _truncated(data: bytes) -> bool:
    """Whether a JPEG lacks its end marker after the last scan, or a PNG its last chunk.

    Inside a scan 0xFF is always followed by a stuffed 0, so the markers cannot occur by chance;
    a thumbnail in the header has markers of its own, hence the *last* scan.
    """
    if data.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in data[max(data.rfind(b"\xff\xda"), 0) :]
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data[-64:]
    return False
