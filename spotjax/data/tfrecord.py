"""TFRecord framing without TensorFlow: length, masked CRC, payload, masked CRC.

The payloads are tf.Example messages made by `spotjax.data.schema`.  Both checksums are verified
on reading, which no TensorFlow-free reader that we know of does.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import google_crc32c

from spotjax.errors import UserError

_MASK_DELTA = 0xA282EAD8


def _masked_crc(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def write_records(path: Path, payloads: Iterable[bytes]) -> int:
    """Write `payloads` to `path` so that either the whole file appears or none of it.

    Returns the number of records.  Raises OSError (for example when the disk is full); a half
    written temporary file is removed.
    """
    temporary = path.with_name(f"{path.name}.tmp{os.getpid()}")
    count = 0
    try:
        with open(temporary, "wb") as file:
            for payload in payloads:
                length = struct.pack("<Q", len(payload))
                file.write(length + struct.pack("<I", _masked_crc(length)))
                file.write(payload)
                file.write(struct.pack("<I", _masked_crc(payload)))
                count += 1
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return count


def read_records(path: Path) -> Iterator[bytes]:
    """Yield the payloads of `path`.  Raises UserError naming the file if a byte is wrong."""
    return (payload for _, payload in located_records(path))


def located_records(path: Path) -> Iterator[tuple[int, bytes]]:
    """As `read_records`, each payload with the place of its first byte in the file.

    Raises UserError naming the file if a byte is wrong.
    """
    remedy = "delete it and run data_prep again, which makes this video anew"
    with open(path, "rb") as file:
        index = offset = 0
        while header := file.read(12):
            if len(header) < 12:
                raise UserError(f"{path}: cut short inside the header of record {index}: {remedy}")
            (length,), (crc,) = struct.unpack("<Q", header[:8]), struct.unpack("<I", header[8:])
            if crc != _masked_crc(header[:8]):
                raise UserError(f"{path}: wrong checksum of record {index}'s length: {remedy}")
            payload, footer = file.read(length), file.read(4)
            if len(payload) < length or len(footer) < 4:
                raise UserError(f"{path}: cut short inside record {index}: {remedy}")
            if struct.unpack("<I", footer)[0] != _masked_crc(payload):
                raise UserError(f"{path}: wrong checksum of record {index}: {remedy}")
            yield offset + len(header), payload
            index += 1
            offset += len(header) + length + len(footer)
