"""Where the rows of each stream lie in the shards, and reading any of them (NumPy only).

A record is a tf.Example whose tensors are raw little-endian bytes, so a row can be read from its
place in the file without decoding the others: features larger than memory are read as they are
needed.  Rows are read by position, not mapped: a shard that is cut or goes away in the middle of
a run then ends in one clear line, where a mapped file would kill the process.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spotjax.data.schema import Stream
from spotjax.errors import UserError

Spans = dict[str, tuple[int, int]]
"""By field name: first byte and end of its value in the payload."""


class Stamp(NamedTuple):
    """What tells that a file is still the one that was checked."""

    size: int
    changed: int
    """Nanoseconds."""


class Block(NamedTuple):
    """Consecutive rows of one stream in one record."""

    path: Path
    stamp: Stamp
    offset: int
    """Bytes before its first row."""
    first: int
    """Number of its first row among all rows of the stream."""
    rows: int


def stamp_of(path: Path) -> Stamp:
    """The stamp of a file as it is now.  Raises OSError."""
    stat = path.stat()
    return Stamp(stat.st_size, stat.st_mtime_ns)


def spans(payload: bytes) -> Spans:
    """Where the value of each field of a tf.Example lies: its bytes, or its packed numbers.

    Raises ValueError if `payload` is no such message.
    """
    found: Spans = {}
    for begin, end in _parts(payload, 0, len(payload), 1):
        for entry in _parts(payload, begin, end, 1):
            ((key_begin, key_end),) = _parts(payload, *entry, 1)
            ((feature_begin, feature_end),) = _parts(payload, *entry, 2)
            for _, list_begin, list_end in _fields(payload, feature_begin, feature_end):
                values = list(_parts(payload, list_begin, list_end, 1))
                if len(values) == 1:
                    found[payload[key_begin:key_end].decode()] = values[0]
    return found


def integer(payload: bytes, span: tuple[int, int]) -> int:
    """The single int64 of a field.  Raises ValueError for anything else."""
    value, end = _varint(payload, span[0])
    if end != span[1]:
        raise ValueError("not one number")
    return value


def array(payload: bytes, span: tuple[int, int], stream: Stream) -> np.ndarray:
    """The tensor `[n, *stream.shape]` of a field, a view of the payload."""
    flat = np.frombuffer(
        memoryview(payload)[span[0] : span[1]], np.dtype(stream.dtype).newbyteorder("<")
    )
    return flat.reshape(-1, *stream.shape)


def _fields(data: bytes, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(number, first byte, end) of the length-delimited fields of a protobuf message."""
    while begin < end:
        tag, begin = _varint(data, begin)
        length, begin = _varint(data, begin)
        if tag & 7 != 2 or begin + length > end:
            raise ValueError("no tf.Example with tensors of bytes")
        yield tag >> 3, begin, begin + length
        begin += length


def _parts(data: bytes, begin: int, end: int, number: int) -> Iterator[tuple[int, int]]:
    return ((first, last) for n, first, last in _fields(data, begin, end) if n == number)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data):
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, position
    raise ValueError("a number is cut short")


def aligned(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """An empty array `dtype[*shape]` that begins at a multiple of 64 bytes.

    JAX's CPU devices share such an array with the host and each other; others they copy.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    room = np.empty(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size].view(dtype).reshape(shape)


class Places:
    """The blocks of one stream, in the order of its rows."""

    def __init__(self, stream: Stream) -> None:
        """Without any block yet."""
        self.stream = stream
        self.rows = 0
        self._blocks: list[Block] = []

    def add(self, path: Path, stamp: Stamp, offset: int, count: int) -> None:
        """The next `count` rows lie from byte `offset` of `path` on."""
        if count:
            self._blocks.append(Block(path, stamp, offset, self.rows, count))
            self.rows += count

    def read(self, rows: np.ndarray) -> np.ndarray:
        """`[len(rows), *shape]`: the rows i64, sorted and different.

        Raises UserError naming a shard that has gone, was cut or has changed since it was checked.
        """
        found = aligned((len(rows), *self.stream.shape), self.stream.dtype)
        edges = np.searchsorted(rows, [b.first for b in self._blocks] + [self.rows])
        for block, begin, end in zip(self._blocks, edges[:-1], edges[1:], strict=True):
            if begin < end:
                _read_block(block, rows[begin:end] - block.first, found[begin:end])
        return found


def _read_block(block: Block, rows: np.ndarray, target: np.ndarray) -> None:
    """Rows of a block, counted from its first, to `target`; neighbours in one piece."""
    again = "the same command goes on from the last checkpoint once it is back"
    remedy = f"do not change shards while a run reads them; {again}"
    size = target[:1].nbytes
    starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
    try:
        with open(block.path, "rb", buffering=0) as file:
            if stamp_of(block.path) != block.stamp:
                raise UserError(f"{block.path}: has changed since this run checked it: {remedy}")
            for begin, end in zip(starts, [*starts[1:], len(rows)], strict=True):
                file.seek(block.offset + int(rows[begin]) * size)
                wanted = memoryview(target[begin:end].reshape(-1).view(np.uint8))  # type: ignore[arg-type]
                while len(wanted):
                    read = file.readinto(wanted)
                    if not read:
                        raise UserError(f"{block.path}: was cut short: {remedy}")
                    wanted = wanted[read:]
    except FileNotFoundError:
        raise UserError(
            f"{block.path}: this shard has gone since the run began: run data_prep again; {again}"
        ) from None
