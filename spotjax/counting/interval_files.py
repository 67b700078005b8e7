"""Reading others' tables of intervals; every malformed row is named by its line.

The header decides what a file is: any order of columns, comma, semicolon or tab, UTF-8 with or
without byte order mark, spaces around the fields.  Frame numbers are kept as written.
"""

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from spotjax.config import EXPRESSION_TYPES
from spotjax.counting.recognition import CLASSES, NEUTRAL
from spotjax.errors import UserError


class Format(NamedTuple):
    """What a kind of file looks like."""

    columns: dict[str, tuple[str, ...]]
    """The names that each of our columns may have."""
    required: tuple[str, ...]
    headers: tuple[str, ...]
    """Headers as a user would write them."""


NAMES = {"subject": ("subject",), "video": ("video", "vid")}
INTERVALS = Format(
    NAMES
    | {
        "type": ("type",),
        "onset": ("onset", "pred_onset"),
        "offset": ("offset", "pred_offset"),
        "score": ("score",),
        "emotion": ("emotion",),
    },
    ("video", "type", "onset", "offset"),
    (
        "subject,video,type,onset,apex,offset,score",
        "video,type,onset,offset[,score][,emotion]",
        "vid,pred_onset,pred_offset,type",
    ),
)
VIDEOS = Format(
    NAMES | {"frames": ("frames",)},
    ("video", "frames"),
    ("video,frames", "subject,video,frames"),
)
KNOWN_UNREAD = ("apex",)
TYPE_NAMES: dict[str, str] = {
    **{name: name for name in EXPRESSION_TYPES},
    **{f"{name}-expression": name for name in EXPRESSION_TYPES},
    "mae": "macro",
    "me": "micro",
}
EMOTIONS = tuple(dict.fromkeys([*CLASSES[4], *CLASSES[7], NEUTRAL]))
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
LARGEST_FRAME = 2**31 - 1
BINARY_STARTS = {
    b"PK\x03\x04": "is a workbook (.xlsx): save it as CSV",
    b"\xd0\xcf\x11\xe0": "is a workbook (.xls): save it as CSV",
    b"\xff\xfe": "is UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "is UTF-16 text: save it as UTF-8",
}


class VideoName(NamedTuple):
    """How a file names a video."""

    subject: str
    """Empty if the file has no such column."""
    video: str

    @property
    def id(self) -> str:
        """`subject/video`, or the video alone."""
        return f"{self.subject}/{self.video}" if self.subject else self.video


class IntervalRow(NamedTuple):
    """One interval; onset and offset as written, inclusive."""

    line: int
    name: VideoName
    type: str
    onset: int
    offset: int
    score: float
    """0 without a column of scores."""
    emotion: str
    """Empty where not given."""


class IntervalTable(NamedTuple):
    """A file of predictions or truths."""

    path: Path
    rows: tuple[IntervalRow, ...]
    has_scores: bool
    has_emotions: bool
    """Micro-expressions have an emotion."""
    notes: tuple[str, ...]
    """What a reader of the numbers must know, one sentence each."""


class VideoRow(NamedTuple):
    """One video of the list of all videos."""

    line: int
    name: VideoName
    frames: int


class _Table(NamedTuple):
    """Fields of each row by our column name, with the row's line."""

    columns: frozenset[str]
    rows: list[tuple[int, dict[str, str]]]
    notes: tuple[str, ...]


def read_intervals(path: Path, truths: bool) -> IntervalTable:
    """Read predictions, or `truths`.  Raises UserError naming file, line and remedy.

    In truths an offset of 0 after a later onset is the known mark of a missing offset (public
    CAS(ME)^2 tables of ABPN and AUW-GCN): the row stays, and nothing can match it.
    """
    table = _read_table(path, INTERVALS)
    has_scores = any(row.get("score") for _, row in table.rows)
    rows = tuple(
        _interval(f"{path}, line {line}", line, row, has_scores, truths) for line, row in table.rows
    )
    micro = [row for row in rows if row.type == "micro"]
    has_emotions = "emotion" in table.columns and (not micro or any(row.emotion for row in micro))
    notes = [*table.notes, *_repeated(path, rows, truths)]
    missing = [row.line for row in rows if row.onset > row.offset]
    if missing:
        notes.append(
            f"{path}: truths without an offset (it is 0): {len(missing)} (first: line "
            f"{missing[0]}); they stay, and nothing can match them"
        )
    return IntervalTable(path, rows, has_scores, has_emotions, tuple(notes))


def read_videos(path: Path) -> tuple[VideoRow, ...]:
    """Read the list of all videos of a set, `video,frames`.  Raises UserError."""
    table = _read_table(path, VIDEOS)
    lines: dict[VideoName, int] = {}
    rows = []
    for line, row in table.rows:
        where = f"{path}, line {line}"
        name = _name(where, row)
        if name in lines:
            raise UserError(
                f"{where}: video {name.id!r} stands in line {lines[name]} already: remove one"
            )
        lines[name] = line
        frames = _frame(where, "frames", row["frames"])
        if frames == 0:
            raise UserError(f"{where}: frames is 0: write the number of frames of the video")
        rows.append(VideoRow(line, name, frames))
    if not rows:
        raise UserError(f"{path}: lists no video: add one line per video, {VIDEOS.headers[0]}")
    return tuple(rows)


def check_emotions(table: IntervalTable) -> None:
    """Raise UserError unless every micro-expression of `table` has a known emotion."""
    for row in table.rows:
        if row.type == "micro" and row.emotion not in EMOTIONS:
            what = f"emotion {row.emotion!r} is not known" if row.emotion else "emotion is missing"
            raise UserError(
                f"{table.path}, line {row.line}: {what}: write one of {', '.join(EMOTIONS)}"
            )


def _read_table(path: Path, format: Format) -> _Table:
    """All rows below the header; blank lines are skipped."""
    text = _read_text(path, format)
    ours = {name: column for column, names in format.columns.items() for name in names}
    first = text.lstrip().splitlines()[0]
    delimiter = max(",;\t", key=lambda d: sum(f in ours for f in _plain(first.split(d))))
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True
    )
    header: list[str] = []
    rows = []
    try:
        for fields in reader:
            where = f"{path}, line {reader.line_num}"
            if not any(field.strip() for field in fields):
                continue
            if not header:
                header = _plain(fields)
                _check_header(where, header, [ours.get(name, "") for name in header], format)
                continue
            if len(fields) != len(header):
                raise UserError(
                    f"{where}: the row has {len(fields)} fields, the header {len(header)}: write "
                    f"one for each column of {','.join(header)}"
                )
            named = zip(header, fields, strict=True)
            row = {ours[name]: field.strip() for name, field in named if name in ours}
            rows.append((reader.line_num, row))
    except csv.Error as error:
        where = f"{path}, line {reader.line_num}"
        raise UserError(f"{where}: {error}: check the quotation marks") from None
    unread = [name for name in header if name not in ours and name not in KNOWN_UNREAD]
    notes = (f"{path}: columns that are not read: {', '.join(unread)}",) if unread else ()
    return _Table(frozenset(ours[name] for name in header if name in ours), rows, notes)


def _check_header(where: str, header: list[str], found: list[str], format: Format) -> None:
    """Raise UserError if one of our columns (`found`, by position) is missing or there twice."""
    for column in format.required:
        if column not in found:
            raise UserError(
                f"{where}: the header {','.join(header)[:80]} has no column {column}: write "
                f"{' or '.join(format.headers)}"
            )
    for column in format.columns:
        if found.count(column) > 1:
            raise UserError(f"{where}: the header has two columns for {column}: remove one")


def _plain(fields: Iterable[str]) -> list[str]:
    """Column names without quotation marks, spaces and capitals."""
    return [field.strip().strip('"').strip().lower() for field in fields]


def _read_text(path: Path, format: Format) -> str:
    """The file as text that is not blank.  Raises UserError for anything else."""
    data = path.read_bytes()
    for start, what in BINARY_STARTS.items():
        if data.startswith(start):
            raise UserError(f"{path}: {what}")
    if b"\0" in data:
        raise UserError(f"{path}: is a binary file: give a text table with commas (CSV)")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: is not UTF-8: save the file as UTF-8") from None
    if not text.strip():
        raise UserError(f"{path}: the file is empty: begin it with a header, {format.headers[0]}")
    return text


def _interval(
    where: str, line: int, row: Mapping[str, str], has_scores: bool, truths: bool
) -> IntervalRow:
    """One row as an interval."""
    word = re.sub(r"[ _]", "-", row["type"].lower())
    if word not in TYPE_NAMES:
        raise UserError(
            f"{where}: type {row['type']!r} is not known: write macro (mae) or micro (me)"
        )
    onset, offset = (_frame(where, name, row[name]) for name in ("onset", "offset"))
    if onset > offset and not (truths and offset == 0):
        raise UserError(f"{where}: onset {onset} comes after offset {offset}: correct the row")
    score = _score(where, row["score"]) if has_scores else 0.0
    emotion = row.get("emotion", "").lower()
    return IntervalRow(line, _name(where, row), TYPE_NAMES[word], onset, offset, score, emotion)


def _name(where: str, row: Mapping[str, str]) -> VideoName:
    """The row's video; no part of it may be empty."""
    for column in ("subject", "video"):
        if row.get(column) == "":
            raise UserError(f"{where}: {column} is empty: fill it in or remove the row")
    return VideoName(row.get("subject", ""), row["video"])


def _frame(where: str, column: str, text: str) -> int:
    """A whole number of at least 0; `12.0` is 12."""
    if not NUMBER.fullmatch(text):
        raise UserError(f"{where}: {column} {text!r} is not a number: write a frame number")
    value = float(text)
    if value < 0:
        raise UserError(f"{where}: {column} {text} is negative: frame numbers begin at 0 or 1")
    if value > LARGEST_FRAME:
        raise UserError(f"{where}: {column} {text} is too large for a frame number: correct it")
    if value != int(value):
        raise UserError(f"{where}: {column} {text} is not a whole number: round it yourself")
    return int(value)


def _score(where: str, text: str) -> float:
    """A finite number."""
    if not text:
        raise UserError(f"{where}: score is missing: give every row one, or remove the column")
    value = float(text) if NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        hint = "write a decimal point" if "," in text else "correct the row"
        raise UserError(f"{where}: score {text!r} is not a finite number: {hint}")
    return value


def _repeated(path: Path, rows: Sequence[IntervalRow], truths: bool) -> list[str]:
    """A sentence about rows that repeat an earlier one exactly."""
    seen = set()
    again = []
    for row in rows:
        key = row._replace(line=0)
        if key in seen:
            again.append(row.line)
        seen.add(key)
    if not again:
        return []
    effect = (
        "each stays a truth of its own"
        if truths
        else "each stays a prediction, which most rules call a false positive"
    )
    return [
        f"{path}: rows that repeat an earlier one: {len(again)} (first: line {again[0]}); {effect}"
    ]
