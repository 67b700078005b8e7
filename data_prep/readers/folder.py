"""One's own recordings: video files or folders of numbered images, and one CSV.

    <root>/annotations.csv        video,onset,apex,offset,type[,emotion][,subject][,action_units]
    <root>/anna/interview.mp4     a video file; its name in the CSV is anna/interview(.mp4)
    <root>/anna/reading/0001.jpg  a folder of images; its name in the CSV is anna/reading

The subject of a video is the CSV's column, else the first folder of its name, else the video
itself (its fold then leaves one video out).  Videos without a row are read too: they count in the
score.  Frames of a video file are numbered from `data.first_frame` (0, as players and OpenCV
do, or 1), images by their names.  Type is macro or micro (MaE and ME do as well); apex and emotion
may be empty.  Frame rates come from the video files, `data.fps` gives that of image folders.
"""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from spotjax.config import Annotation, Data
from spotjax.errors import UserError

from ..video import VIDEO_SUFFIXES, count_frames, header_fps, header_frames
from . import rules
from .base import (
    IMAGE_SUFFIXES,
    Images,
    Quirks,
    RawDataset,
    folders_in,
    list_images,
    natural_key,
    require_root,
)
from .placing import Annotations, Found, assemble
from .sheets import Line, columns_of, csv_lines

ANNOTATION = "annotations.csv"
HOLDS = f"{ANNOTATION} and videos (.mp4, .avi, ...) or folders of numbered images"
_COLUMNS = ("video", "onset", "apex", "offset", "type")
_HEADER = "the columns video,onset,apex,offset,type[,emotion][,subject][,action_units]"


def read(data: Data, root: Path) -> RawDataset:
    """All videos below `root`.  Raises UserError for a wrong folder, CSV or video file."""
    require_root(root, HOLDS)
    options = rules.resolved(data.annotation, "folder")
    places: dict[str, Path] = {}
    for path in _videos(root):
        first = places.setdefault(_name(path, root), path)
        if first != path:
            raise UserError(f"{path}: has the name of {first.name} beside it: rename one of them")
    if not places:
        raise UserError(f"{root}: no video in it: expected {HOLDS}")
    file = root / ANNOTATION
    if not file.is_file():
        raise UserError(
            f"{file}: no such file: write there {_HEADER}, one line per expression (or set "
            "--config.data.layout to the data set's own layout)"
        )
    subjects = {name: _subject_of(name) for name in places}
    annotations = read_annotations(file, subjects, data, options)
    files = [path for path in places.values() if path.is_file()]
    counts = dict(zip(files, count_frames(files), strict=True))
    found = [_found(subjects[name], name, path, counts, data) for name, path in places.items()]
    rates = sorted({item.fps for item in found if item.fps})
    notes = list(annotations.quirks)
    for path in files:
        promised = header_frames(path)
        if counts[path] and promised - counts[path] > max(10, promised // 50):
            notes.append(
                f"{path.name}: only {counts[path]} of the {promised} frames that its header names "
                "can be decoded: copy or save it again"
            )
    if len(rates) > 1:
        shown = ", ".join(f"{rate:g}" for rate in rates)
        notes.append(f"videos of different frame rates: {shown} fps (k is counted in frames)")
    annotations = annotations._replace(quirks=tuple(notes))
    return assemble(annotations, found, data, options, name="folder", fps=data.fps)


def read_annotations(
    file: Path, subjects: dict[str, str], data: Data, options: Annotation
) -> Annotations:
    """The rows of the CSV `file`; its subject column, if any, replaces values of `subjects`.

    Raises UserError naming the line: an unknown video, two subjects for one video, no number.
    """
    lines = csv_lines(file)
    header = next(lines, None)
    if header is None:
        raise UserError(f"{file}: is empty: write a header with {_HEADER}")
    columns = columns_of(header, _COLUMNS, _HEADER)
    names = [str(cell).strip().lower() for cell in header.cells]
    optional = ("emotion", "subject", "action_units")
    more = {name: names.index(name) for name in optional if name in names}
    known = {_key(name): name for name in subjects}
    given: dict[str, str] = {}
    quirks = Quirks()
    rows = []
    for line in lines:
        row = _row(line, columns, more, known)
        if row.subject:
            if given.setdefault(row.video, row.subject) != row.subject:
                raise UserError(
                    f"{line.where}: video {row.video} has subject {row.subject} here and "
                    f"{given[row.video]} above: write the same"
                )
            subjects[row.video] = row.subject
        rows.append(row)
    kept = rules.apply(rows, options, quirks, from_zero=data.first_frame == 0)
    placed = tuple(
        row._replace(subject=subjects[row.video], video=_video_name(row.video)) for row in kept
    )
    return Annotations((file,), placed, quirks.lines())


def _row(
    line: Line, columns: dict[str, int], more: dict[str, int], known: dict[str, str]
) -> rules.Row:
    """One CSV line; `video` is still the whole name, `subject` empty if there is no column."""
    given = line.text(columns["video"], "video")
    name = known.get(_key(given))
    if name is None:
        shown = ", ".join(sorted(known.values(), key=natural_key)[:4])
        raise UserError(
            f"{line.where}: no video {given!r} below {Path(line.where).parent}: it holds {shown}"
            f"{', ...' if len(known) > 4 else ''}"
        )
    apex = line.optional_text(columns["apex"])
    optional = {key: line.optional_text(column) for key, column in more.items()}
    return rules.Row(
        subject=optional.get("subject", ""),
        video=name,
        onset=line.number_at(columns["onset"], "onset"),
        apex=line.number_at(columns["apex"], "apex") if apex else -1.0,
        offset=line.number_at(columns["offset"], "offset"),
        type=rules.expression_type(line.text(columns["type"], "type"), line.where),
        emotion=optional.get("emotion", "").lower(),
        action_units=optional.get("action_units", ""),
        where=line.where,
    )


def _videos(root: Path) -> Iterator[Path]:
    """Video files and folders of numbered images below `root`, in natural order."""
    for path in sorted(root.iterdir(), key=lambda path: natural_key(path.name)):
        visible = path.is_file() and not path.name.startswith(".")
        if visible and path.suffix.lower() in VIDEO_SUFFIXES:
            yield path
    for folder in folders_in(root):
        if _has_images(folder):
            yield folder
        else:
            yield from _videos(folder)


def _has_images(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(
            Path(entry.name).suffix.lower() in IMAGE_SUFFIXES
            and any(letter.isdigit() for letter in entry.name)
            for entry in entries
        )


def _name(path: Path, root: Path) -> str:
    """`anna/interview`: the path below `root`; a video file loses its suffix."""
    below = path.relative_to(root)
    text = (below.with_suffix("") if path.is_file() else below).as_posix()
    return unicodedata.normalize("NFC", text)  # macOS decomposes letters with accents


def _key(name: str) -> str:
    """The name that two spellings of a video share."""
    plain = (
        unicodedata.normalize("NFC", name).strip().replace("\\", "/").strip("/").removeprefix("./")
    )
    path = Path(plain)
    return (path.with_suffix("") if path.suffix.lower() in VIDEO_SUFFIXES else path).as_posix()


def _subject_of(name: str) -> str:
    return name.split("/")[0]


def _video_name(name: str) -> str:
    """The video's name inside its subject: `interview` of `anna/interview`."""
    return name.split("/", 1)[1].replace("/", "_") if "/" in name else name


def _found(subject: str, name: str, path: Path, counts: dict[Path, int], data: Data) -> Found:
    """The frames of a video.  Raises UserError where its frame rate is not known."""
    is_file = path in counts
    if is_file:
        fps = header_fps(path) or data.fps
        ids = np.arange(data.first_frame, data.first_frame + counts[path], dtype=np.int32)
        problem = (
            ""
            if len(ids)
            else f"{path}: no frame can be decoded: save the video again, for example as .mp4"
        )
        images = Images((), ids, problem)
    else:
        fps, images = data.fps, list_images(path)
    if not fps and not images.problem:
        raise UserError(
            f"{path}: its frame rate is not known: set --config.data.fps to the frames per second"
        )
    return Found(subject, _video_name(name), images, path, path if is_file else None, fps)
