"""What a reader returns, and what the layouts share in looking at folders.

A reader turns a data set's folder into videos with frames and annotated intervals, in three steps:
its own sheets become rows (`Row` of `rules`), the rules of `config.data.annotation` are applied
to them (`rules`), and the rows are joined with the frames found on disk (`placing`).
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spotjax.errors import UserError
from spotjax.types import Interval

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
WORKBOOK_SUFFIXES = (".xlsx", ".xls")


class RawVideo(NamedTuple):
    """One long video: numbered image files, or one video file."""

    subject: str
    name: str
    frames: tuple[Path, ...]
    """Image files in the order of `frame_ids`; empty for a video file."""
    frame_ids: np.ndarray
    """i32[T]: the data set's own number of each frame, ascending."""
    fps: float
    intervals: tuple[Interval, ...]
    action_units: tuple[str, ...]
    """One per interval, as written in the sheet."""
    problem: str = ""
    """Why the video cannot be used (one line), empty if it can as far as the folder shows."""
    file: Path | None = None
    """The video file, if it is one; frame_ids[0] then names its first frame."""
    step: int | float = 1
    """One in `step` frames of the video file is taken: frame round(step row)."""
    depth: tuple[Path | None, ...] = ()
    """16-bit depth images in mm beside `frames`, None where one is missing; empty without any."""
    live: tuple[Any, Any] | None = None
    """Frames and face finder of a stretch of one's own video that lies in memory (`own_video`)."""

    @property
    def id(self) -> str:
        """`subject/name`."""
        return f"{self.subject}/{self.name}"

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.frame_ids)

    @property
    def place(self) -> Path:
        """The video file or the folder of images, for messages."""
        return self.file or self.frames[0].parent


class RawDataset(NamedTuple):
    """All videos of a data set, annotated or not, in natural order."""

    name: str
    """The layout; `synthetic_<layout>` for rendered videos."""
    videos: tuple[RawVideo, ...]
    quirks: tuple[str, ...]
    annotation_files: tuple[Path, ...]


class Quirks:
    """Collects where each quirk fired; `lines()` has one line per kind of quirk."""

    def __init__(self) -> None:
        """Start without any."""
        self._places: dict[str, list[str]] = {}

    def add(self, kind: str, place: str) -> None:
        """Note that the quirk `kind` fired at `place` (a sheet row)."""
        self._places.setdefault(kind, []).append(place)

    def lines(self) -> tuple[str, ...]:
        """`kind: count (first places)`."""
        return tuple(
            f"{kind}: {len(places)} ({', '.join(places[:5])}{', ...' if len(places) > 5 else ''})"
            for kind, places in self._places.items()
        )


def natural_key(text: str) -> tuple[tuple[bool, int, str], ...]:
    """Sort key under which `s9` comes before `s10`.

    >>> sorted(["s10", "s9"], key=natural_key)
    ['s9', 's10']
    """
    parts = re.findall(r"\d+|\D+", text)
    return tuple((False, int(p), "") if p.isdecimal() else (True, 0, p) for p in parts)


def require_root(root: Path, holds: str) -> list[str]:
    """Names in `root`.  Raises UserError if it is missing, a file, or empty (`holds`: expected)."""
    if not root.exists():
        raise UserError(f"{root}: no such folder: set --config.data.root to the data set's folder")
    if not root.is_dir():
        raise UserError(f"{root}: is a file: set --config.data.root to the data set's folder")
    found = sorted((path.name for path in root.iterdir()), key=natural_key)
    if not found:
        raise UserError(f"{root}: the folder is empty: copy the data set there ({holds})")
    return found


def require_folder(root: Path, wanted: str, holds: str) -> Path:
    """The folder `root/wanted`; raises UserError saying what was expected and what was found."""
    found = require_root(root, holds)
    folder = root / wanted
    if not folder.is_dir():
        shown = ", ".join(found[:4]) + (", ..." if len(found) > 4 else "")
        raise UserError(
            f"{root}: expected {holds}, found {shown}: set --config.data.root to the folder that "
            f"holds {wanted}, or --config.data.layout to the right layout"
        )
    return folder


def find_workbook(root: Path, names: tuple[str, ...]) -> Path:
    """The annotation workbook in `root`: one of `names`, else the only .xlsx or .xls there.

    Raises UserError if there is none, or several of which none is one of `names`.
    """
    for name in names:
        if (root / name).is_file():
            return root / name
    others = sorted(
        path
        for path in root.iterdir()
        if path.suffix.lower() in WORKBOOK_SUFFIXES and not path.name.startswith(("~", "."))
    )
    if len(others) == 1:
        return others[0]
    if others:
        shown = ", ".join(path.name for path in others)
        raise UserError(
            f"{root}: several workbooks ({shown}): name the annotation {names[0]}, or remove "
            "the others"
        )
    raise UserError(f"{root}: no annotation workbook: put {' or '.join(names)} there")


def folders_in(folder: Path) -> list[Path]:
    """The visible folders in `folder`, in natural order."""
    found = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return sorted(found, key=lambda path: natural_key(path.name))


class Images(NamedTuple):
    """The numbered images of a folder."""

    paths: tuple[Path, ...]
    """In ascending order of number."""
    ids: np.ndarray
    """i32[T], the numbers."""
    problem: str
    """What is wrong with them (one line), empty if nothing."""


def list_images(folder: Path) -> Images:
    """Image files of `folder` by the last number in their names; gaps are looked for elsewhere."""
    numbered: dict[int, Path] = {}
    problem = ""
    for path in folder.iterdir():
        digits = re.findall(r"\d+", path.stem)
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith(".") or not digits:
            continue
        number = int(digits[-1])
        if number > np.iinfo(np.int32).max:
            problem = f"{path}: frame number {number} is too large: rename or remove the file"
            continue
        if number in numbered:
            pair = " and ".join(sorted((path.name, numbered[number].name)))
            problem = f"{folder}: two images of frame {number} ({pair}): remove one"
        numbered[number] = path
    ids = np.array(sorted(numbered), np.int32)
    if not len(ids):
        problem = f"{folder}: no numbered .jpg or .png image in it: copy the video's frames there"
    return Images(tuple(numbered[int(number)] for number in ids), ids, problem)
