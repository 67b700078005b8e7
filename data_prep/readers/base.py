"""What a reader returns, and the steps that the layouts share.

A reader turns a data set's folder into videos with frame files and annotated intervals.  Here,
and only here, the data set's own frame numbers become rows: annotation number n is the row whose
`frame_id` is n.  Four rules of SOFTNet's release are the default, and each that fires leaves one
line for the manifest (`quirks`):

- a fractional number is truncated, `int(x - 1)` in 0-based frames (SAMM-LV: 143 onsets);
- an offset of 0 is replaced by the apex (CAS(ME)^2: 44 macro-expressions);
- a macro-expression with onset 0 is dropped (SAMM-LV: 10);
- an apex of 0 or -1 is unknown.

Deviation: the release keeps intervals that leave the video, which nothing can match.  Here an
interval is clipped to the video, and dropped where it lies wholly outside (SAMM-LV: 2 and 1).
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spotjax.config import EXPRESSION_TYPES
from spotjax.errors import UserError
from spotjax.types import Interval

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


class Annotation(NamedTuple):
    """One row of the annotation sheet, in the data set's own frame numbers."""

    subject: str
    video: str
    onset: int
    apex: int
    """-1 where unknown."""
    offset: int
    type: str
    emotion: str
    action_units: str
    where: str
    """`file, sheet S, row N`, for messages."""


class Annotations(NamedTuple):
    """An annotation workbook, read apart from the frames."""

    file: Path
    rows: tuple[Annotation, ...]
    quirks: tuple[str, ...]


class RawVideo(NamedTuple):
    """One long video as image files."""

    subject: str
    name: str
    frames: tuple[Path, ...]
    frame_ids: np.ndarray
    """i32[T]: the data set's own number of each frame, ascending."""
    fps: float
    intervals: tuple[Interval, ...]
    action_units: tuple[str, ...]
    """One per interval, as written in the sheet."""
    problem: str = ""
    """Why the video cannot be used (one line), empty if it can as far as the folder shows."""

    @property
    def id(self) -> str:
        """`subject/name`."""
        return f"{self.subject}/{self.name}"


class RawDataset(NamedTuple):
    """All videos of a data set, annotated or not, in natural order."""

    name: str
    videos: tuple[RawVideo, ...]
    quirks: tuple[str, ...]
    annotation_file: Path


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


def require_folder(root: Path, wanted: str, holds: str) -> Path:
    """The folder `root/wanted`; raises UserError saying what was expected and what was found."""
    if not root.exists():
        raise UserError(f"{root}: no such folder: set --config.data.root to the data set's folder")
    if not root.is_dir():
        raise UserError(f"{root}: is a file: set --config.data.root to the data set's folder")
    found = sorted((path.name for path in root.iterdir()), key=natural_key)
    if not found:
        raise UserError(f"{root}: the folder is empty: copy the data set there ({holds})")
    folder = root / wanted
    if not folder.is_dir():
        shown = ", ".join(found[:4]) + (", ..." if len(found) > 4 else "")
        raise UserError(
            f"{root}: expected {holds}, found {shown}: set --config.data.root to the folder that "
            f"holds {wanted}, or --config.data.layout to the right layout"
        )
    return folder


def find_workbook(root: Path, names: tuple[str, ...]) -> Path:
    """The annotation workbook in `root`: one of `names`, else the only .xlsx there."""
    for name in names:
        if (root / name).is_file():
            return root / name
    others = sorted(path for path in root.glob("*.xlsx") if not path.name.startswith(("~", ".")))
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


def frame_number(value: float) -> int:
    """Truncate a frame number as SOFTNet does: `int(x - 1)` counted from 0, so +1 counted from 1.

    >>> frame_number(566.6), frame_number(0.4), frame_number(12.0)
    (566, 1, 12)
    """
    return int(value - 1) + 1


def video_of(
    subject: str,
    name: str,
    folder: Path | None,
    fps: float,
    rows: Iterable[Annotation],
    quirks: Quirks,
) -> RawVideo:
    """List the frames of `folder` (None: there is none) and turn annotation numbers into rows."""
    rows = tuple(rows)
    if folder is None:
        first = rows[0]
        problem = (
            f"{first.where}: names video {name} of subject {subject}, which has no folder of "
            "frames: add it, remove the row from your copy, or leave the video out with "
            "--config.data.skip_bad_videos=true"
        )
        frames: tuple[Path, ...] = ()
        ids = np.zeros(0, np.int32)
    else:
        frames, ids, problem = _list_frames(folder)
        if len(ids) and ids[0] > 1:
            quirks.add("video begins after frame 1", f"{subject}/{name}: {ids[0]}")
    kept = [pair for row in rows if (pair := _to_rows(row, ids, quirks)) is not None]
    return RawVideo(
        subject, name, frames, ids, fps,
        intervals=tuple(interval for interval, _ in kept),
        action_units=tuple(units for _, units in kept),
        problem=problem,
    )  # fmt: skip


def _list_frames(folder: Path) -> tuple[tuple[Path, ...], np.ndarray, str]:
    """Image files by ascending number, their numbers i32[T], and what is wrong with them."""
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
    elif not problem and (gaps := np.flatnonzero(np.diff(ids) > 1)).size:
        missing = int((np.diff(ids) - 1).sum())
        problem = (
            f"{folder}: frame {ids[gaps[0]] + 1} is missing ({missing} in all between {ids[0]} "
            f"and {ids[-1]}): copy the missing images there"
        )
    return tuple(numbered[int(number)] for number in ids), ids, problem


def _to_rows(row: Annotation, ids: np.ndarray, quirks: Quirks) -> tuple[Interval, str] | None:
    """The interval in rows, clipped to the video; None if it lies wholly outside.

    Rows follow numbers one to one, as a video with a gap is never used.  Of a video without
    frames the numbers are taken to start at 1.
    """
    first = int(ids[0]) if len(ids) else 1
    onset, offset = row.onset - first, row.offset - first
    if len(ids):
        last = int(ids[-1]) - first
        place = f"{row.where.rpartition(', ')[2]}: {row.onset}-{row.offset} of {ids[0]}-{ids[-1]}"
        if offset < 0 or onset > last:
            quirks.add("interval wholly outside its video, dropped", place)
            return None
        if onset < 0 or offset > last:
            quirks.add("interval clipped to its video", place)
            onset, offset = max(onset, 0), min(offset, last)
    apex = row.apex - first if first <= row.apex and row.apex <= ids.max(initial=row.apex) else -1
    return Interval(onset, apex, offset, row.type, row.emotion), row.action_units


def assemble(
    annotations: Annotations, found: list[tuple[str, str, Path]], fps: float, name: str
) -> RawDataset:
    """Join the annotation with the folders `(subject, video, folder)` that were found."""
    quirks = Quirks()
    by_video: dict[tuple[str, str], list[Annotation]] = {}
    for row in annotations.rows:
        by_video.setdefault((row.subject, row.video), []).append(row)
    folders: dict[tuple[str, str], Path] = {}
    for subject, video, folder in found:
        if (subject, video) in folders:
            raise UserError(
                f"{folder}: second folder of video {video} of subject {subject} beside "
                f"{folders[subject, video].name}: remove one"
            )
        folders[subject, video] = folder
    keys = sorted(
        folders.keys() | by_video.keys(), key=lambda key: (natural_key(key[0]), natural_key(key[1]))
    )
    videos = tuple(
        video_of(*key, folders.get(key), fps, by_video.get(key, ()), quirks) for key in keys
    )
    return RawDataset(name, videos, annotations.quirks + quirks.lines(), annotations.file)


def annotation(
    *,
    subject: str,
    video: str,
    onset: float,
    apex: float,
    offset: float,
    kind: str,
    emotion: str,
    action_units: str,
    where: str,
    quirks: Quirks,
) -> Annotation | None:
    """Check one sheet row and apply SOFTNet's rules to it; None where it is dropped."""
    place = where.rpartition(", ")[2]
    word = kind.strip().lower()
    types = [name for name in EXPRESSION_TYPES if word.startswith(name)]
    if not types:
        raise UserError(
            f"{where}: expression type {kind!r} is not known: write macro-expression or "
            "micro-expression"
        )
    if min(onset, offset) < 0:
        raise UserError(
            f"{where}: onset {onset:g}, offset {offset:g}: a frame number is negative: correct "
            "the row in your copy of the workbook"
        )
    if types[0] == "macro" and onset == 0:
        quirks.add("macro-expression with onset 0 dropped (SOFTNet)", place)
        return None
    if offset == 0 and apex > 0:
        quirks.add("offset 0 replaced by the apex (SOFTNet)", place)
        offset = apex
    if apex <= 0:
        quirks.add("apex not annotated", place)
    if offset < onset:
        raise UserError(
            f"{where}: offset {offset:g} comes before onset {onset:g}: correct the row in your "
            "copy of the workbook"
        )
    if any(value != int(value) for value in (onset, apex, offset)):
        quirks.add("fractional frame numbers truncated (SOFTNet)", place)
    return Annotation(
        subject, video, frame_number(onset), frame_number(apex) if apex > 0 else -1,
        frame_number(offset), types[0], emotion, action_units, where,
    )  # fmt: skip
