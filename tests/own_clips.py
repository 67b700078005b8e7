"""Clips of one's own: a photograph whose mouth moves as it is told, as frames or as a file."""

import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import skimage.data

MOUTH = (123, 148)
"""px, x and y in the frame."""


def images(shifts: Sequence[float]) -> list[np.ndarray]:
    """Colour u8[240, 320, 3] (BGR): in each frame the mouth lies so many px lower."""
    photograph = cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2BGR)[:240, 100:420]
    y, x = np.mgrid[:240, :320].astype(np.float32)
    weight = np.exp(-((x - MOUTH[0]) ** 2 + (y - MOUTH[1]) ** 2) / 300)
    return [cv2.remap(photograph, x, y - np.float32(shift) * weight, cv2.INTER_LINEAR)
            for shift in shifts]  # fmt: skip


def bump(length: int, onset: int, offset: int, height: float) -> np.ndarray:
    """f64[length]: 0, but between two frames a smooth rise to `height` and back."""
    frames = np.arange(length)
    phase = np.clip((frames - onset) / (offset - onset), 0, 1)
    return height * (1 - np.cos(2 * np.pi * phase)) / 2


def swing(length: int) -> np.ndarray:
    """f64[length]: down by 2 px and up again every 20 frames."""
    return 1 - np.cos(2 * np.pi * np.arange(length) / 20)


def write_clip(path: Path, frames: Sequence[np.ndarray], fps: float = 30.0) -> Path:
    """A video file; .avi holds one JPEG a frame, .mp4 and .mkv MPEG-4."""
    code = "MJPG" if path.suffix == ".avi" else "mp4v"
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), fps, (width, height))
    assert writer.isOpened()
    for image in frames:
        writer.write(image)
    writer.release()
    return path


def turn_by_flag(path: Path) -> Path:
    """Set the flag of an MP4 that a telephone sets when it is held upright."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    quarter = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    data[matrix : matrix + 36] = quarter
    path.write_bytes(data)
    return path
