"""Files that appear complete or not at all, folders with one owner (NumPy only)."""

import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from spotjax.errors import UserError

try:
    import fcntl
except ImportError:  # Windows has no flock: there, two owners at a time are not noticed
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
LEFTOVER = re.compile(r"\.tmp\d+$")
"""Ends the name of a file that a killed process was writing."""


def write_bytes(path: Path, data: bytes) -> None:
    """Write `path` so that either all of it appears or nothing changes.  Raises OSError."""
    temporary = path.with_name(f".{path.name}.tmp{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text as `write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: Path, values: Any) -> None:
    """Write JSON as `write_bytes`."""
    write_text(path, json.dumps(values, indent=1) + "\n")


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays, `dtype[...]` of any shape, compressed, as `write_bytes`."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots.

    >>> flat({"a": {"b": 1}, "c": 2})
    {'a.b': 1, 'c': 2}
    """
    result: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{name}.")
        else:
            result[prefix + name] = value
    return result


def is_one_of(key: str, keys: Iterable[str]) -> bool:
    """Whether a key of `flat` is one of `keys`, or below one that is a section.

    >>> is_one_of("data.root", ["data"]), is_one_of("database", ["data"])
    (True, False)
    """
    return any(key == name or key.startswith(f"{name}.") for name in keys)


def folder(path: Path | str, option: str) -> Path:
    """The folder `path`, made if it is not there.  Raises UserError naming `option` for a file."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{option} {path}: is a file: give a folder") from None
    return Path(path)


@contextmanager
def locked(folder: Path, remedy: str) -> Iterator[None]:
    """Hold `<folder>/.lock` (the folder is made); UserError at once if another process does.

    The kernel gives the lock back when the process ends, however it ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "a") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"{folder}: another process is working here: {remedy}") from None
        yield
