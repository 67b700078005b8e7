"""One's own video again with its findings drawn on it: face box, scores, running expression.

The picture stays as it is but for the box; the scores stand on a strip below it.  OpenCV's writer
has no sound and an even frame rate: sound is not copied, and a video of uneven rate runs at its
nominal one, so that it may be longer or shorter than the original; the clock on the strip is the
original's.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from spotjax.errors import UserError
from spotjax.own.charts import clock
from spotjax.own.run import Result
from spotjax.spotting import Spotting

CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
"""FourCC by suffix, the preferred one first (MPEG-4 part 2, Motion JPEG)."""
COLOURS = {"macro": (178, 114, 0), "micro": (0, 94, 213)}
"""BGR, those of the page."""
INK, DIM, PAPER = (235, 235, 235), (150, 150, 150), (28, 24, 21)
WIDEST = 960
"""px; a strip is drawn for pictures up to this width and enlarged for wider ones."""


def write(path: Path, source: Any, result: Result) -> Path:
    """Write the video to `path`, or beside it as .avi if there is no MPEG-4; returns where.

    `source` (of `data_prep.source`) is read once more.  Either all of the video appears or
    nothing.  Raises UserError if the source is a camera or a pipe, is `path` itself, or if no
    video can be written here; OSError if the disk refuses.
    """
    again = source.again()
    if source.media is not None and path.resolve() == source.media.resolve():
        raise UserError(f"{path}: is the video itself: choose another --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    written = _Written(path, source.fps)
    try:
        for shot in again:
            if shot.number >= len(result.spotting.times):
                break
            written.add(drawn(shot.image, shot.number, result))
        return written.finish()
    finally:
        written.discard()


def drawn(image: np.ndarray, frame: int, result: Result) -> np.ndarray:
    """`image` u8[H, W, 3] (BGR) with its box and the strip below: u8[H + S, W, 3], even sides.

    `frame` is its number.
    """
    import cv2

    height, width = image.shape[:2]
    left, top, right, bottom = (int(edge) for edge in result.boxes[frame])
    picture = image.copy()
    running = [d for d in result.spotting.detections if d.onset <= frame <= d.offset]
    if right > left:
        colour = COLOURS[running[0].type] if running else INK
        thick = max(1, round(width / 400))
        cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), colour, thick)
    below = _strip(result.spotting, frame, width)
    whole = np.concatenate([picture, below])
    more = whole.shape[0] % 2, width % 2
    return cv2.copyMakeBorder(whole, 0, more[0], 0, more[1], cv2.BORDER_REPLICATE)


def _strip(spotting: Spotting, frame: int, width: int) -> np.ndarray:
    """Clock, and a line for each type: score with threshold, and what is running."""
    import cv2

    zoom = max(1.0, width / WIDEST)
    wide = round(width / zoom)
    line = 24
    strip = np.full((line * (1 + len(spotting.scores)) + 6, wide, 3), PAPER, np.uint8)

    def write_text(words: str, x: int, y: int, colour: tuple[int, int, int]) -> None:
        cv2.putText(strip, words, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)

    write_text(f"{clock(spotting.start_s(frame))}  frame {frame}", 8, 18, INK)
    if not spotting.face[frame]:
        write_text("no face", wide - 80, 18, DIM)
    start, stop = 60, max(61, wide - 170)
    for number, type in enumerate(spotting.scores, 1):
        y = number * line
        colour = COLOURS[type]
        write_text(type, 8, y + 17, INK)
        cv2.rectangle(strip, (start, y + 6), (stop, y + 18), (60, 56, 52), -1)
        low, high = scale_of(spotting, type)

        def along(value: float, low: float = low, high: float = high) -> int:
            share = min(max((value - low) / (high - low), 0.0), 1.0)
            return round(start + share * (stop - start))

        score = float(spotting.scores[type][frame])
        if np.isfinite(score):
            cv2.rectangle(strip, (start, y + 6), (along(score), y + 18), colour, -1)
        threshold = spotting.thresholds.get(type, float("nan"))
        if np.isfinite(threshold):
            cv2.line(strip, (along(threshold), y + 3), (along(threshold), y + 21), INK, 1)
        now = [d for d in spotting.detections if d.type == type and d.onset <= frame <= d.offset]
        if now:
            best = max(now, key=lambda d: d.score)
            place = 1 + spotting.detections.index(best)
            write_text(f"{place}: {best.emotion or best.type}", stop + 10, y + 17, INK)
    if zoom == 1:
        return strip
    size = width, round(strip.shape[0] * zoom)
    return cv2.resize(strip, size, interpolation=cv2.INTER_LINEAR)


def scale_of(spotting: Spotting, type: str) -> tuple[float, float]:
    """Least and greatest value of a type's bar: 0 or less, and the largest score or threshold."""
    score = spotting.scores[type]
    known = np.append(score[np.isfinite(score)], [spotting.thresholds.get(type, 0.0)])
    known = known[np.isfinite(known)]
    low = float(known.min(initial=0.0))
    high = float(known.max(initial=low))
    return low, high if high > low else low + 1.0


class _Written:
    """A video file in the making, under a name of its own until it is whole."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._writer: Any = None
        self._temporary: Path | None = None
        self._count = 0

    def add(self, image: np.ndarray) -> None:
        """Append a frame; the first one opens the file."""
        if self._writer is None:
            self._open(image.shape[1], image.shape[0])
        self._writer.write(image)
        self._count += 1

    def _open(self, width: int, height: int) -> None:
        import cv2

        for suffix in dict.fromkeys([self._path.suffix, *CODECS]):
            if suffix not in CODECS:
                continue
            name = f".{self._path.stem}.tmp{os.getpid()}{suffix}"
            self._temporary = self._path.with_name(name)
            code = cv2.VideoWriter.fourcc(*CODECS[suffix])
            size = (width, height)
            writer = cv2.VideoWriter(str(self._temporary), cv2.CAP_FFMPEG, code, self._fps, size)
            if writer.isOpened():
                self._writer, self._path = writer, self._path.with_suffix(suffix)
                return
            self._temporary.unlink(missing_ok=True)
        raise UserError(
            f"{self._path}: no video can be written here ({', '.join(CODECS.values())} tried): "
            "choose a folder that can be written to, or leave --video out"
        )

    def finish(self) -> Path:
        """Put the file in place if all of it was written."""
        import cv2

        if self._writer is None or self._temporary is None:
            raise UserError(f"{self._path}: there are no frames to write")
        self._writer.release()
        self._writer = None
        capture = cv2.VideoCapture(str(self._temporary), cv2.CAP_FFMPEG)
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        if count != self._count:  # the writer does not say when the disk is full
            raise UserError(
                f"{self._path}: {count} of {self._count} frames could be written: free some space "
                "and run the same command again"
            )
        os.replace(self._temporary, self._path)
        return self._path

    def discard(self) -> None:
        """Remove what is not in place."""
        if self._writer is not None:
            self._writer.release()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
