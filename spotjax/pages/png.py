"""PNG files from arrays, with the standard library alone."""

import struct
import zlib

import numpy as np


def encode(image: np.ndarray) -> bytes:
    """A PNG file of RGB u8[H, W, 3].  Raises ValueError for another type or shape.

    PNG specification (W3C, third edition): an IHDR, one zlib stream of rows, each after its filter
    byte 0 (none), an IEND; every chunk ends with its CRC-32.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"an image is u8[H, W, 3], not {image.dtype}{list(image.shape)}")
    height, width, _ = image.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)
    rows[:, 1:] = image.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, *zip(*parts, strict=True)))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
