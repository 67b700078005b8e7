"""Two tables of intervals about the same videos: predictions beside truths (NumPy only)."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spotjax.config import EXPRESSION_TYPES
from spotjax.counting import interval_files
from spotjax.counting.interval_files import IntervalRow, IntervalTable, VideoName
from spotjax.counting.matching import VideoResult
from spotjax.decoding.intervals import as_array
from spotjax.errors import UserError


class Inputs(NamedTuple):
    """Both tables and the videos that they are about."""

    predictions: IntervalTable
    truths: IntervalTable
    videos: dict[str, int | None]
    """Number of frames by video id, None without a list of videos."""
    ids: dict[VideoName, str]
    """Video id of every name in the two tables."""
    notes: tuple[str, ...]


class Case(NamedTuple):
    """One video and type, rows in file order."""

    predictions: tuple[IntervalRow, ...]
    truths: tuple[IntervalRow, ...]
    result: VideoResult
    """The same rows as arrays."""


Cases = dict[str, dict[str, Case]]
"""By type and video id."""


LIST_THEM = "list all videos of the set with --videos"


def load(pred: Path, gt: Path, videos: Path | None, remedy: str = LIST_THEM) -> Inputs:
    """Read the files and find every row's video.  Raises UserError."""
    given = [path for path in (pred, gt, videos) if path is not None]
    for number, path in enumerate(given):
        if path.resolve() in [other.resolve() for other in given[:number]]:
            raise UserError(f"{path}: is given twice: --pred, --gt and --videos are three files")
    predictions = interval_files.read_intervals(pred, truths=False)
    truths = interval_files.read_intervals(gt, truths=True)
    in_files = [row.name for table in (predictions, truths) for row in table.rows]
    if videos is None:
        if not truths.rows:
            raise UserError(f"{gt}: holds no row: {LIST_THEM}")
        known: dict[VideoName, int | None] = {row.name: None for row in truths.rows}
    else:
        known = {row.name: row.frames for row in interval_files.read_videos(videos)}
    everywhere = [*known, *in_files]
    ids = place(in_files, list(known), everywhere)
    for table in (truths, predictions):
        for row in table.rows:
            if row.name not in ids:
                raise _unknown(table.path, row, videos or gt, list(known), everywhere, remedy)
    frames = {name.id: number for name, number in known.items()}
    notes = [*predictions.notes, *truths.notes]
    for table in (predictions, truths):
        last = [(row, frames[ids[row.name]]) for row in table.rows]
        late = [row.line for row, number in last if number is not None and row.offset > number]
        if late:
            notes.append(
                f"{table.path}: intervals that end after the last frame of their video: "
                f"{len(late)} (first: line {late[0]}); they are scored as they are"
            )
    return Inputs(predictions, truths, frames, ids, tuple(notes))


def place(
    names: Iterable[VideoName], known: Sequence[VideoName], all_names: Iterable[VideoName]
) -> dict[VideoName, str]:
    """The id among `known` of each of `names`; a name that has none is left out.

    Equal strings are equal videos (`subject/video` may stand in a single column, also written
    `subject_video` as in submissions to MEGC).  A name without subject also stands for
    `subject/video`, and the other way round, if only one of the two files has subjects and no two
    subjects in `all_names` share the plain name.
    """
    subjects: dict[str, set[str]] = {}
    for name in all_names:
        if name.subject:
            subjects.setdefault(name.video, set()).add(name.subject)
    ids = {name.id for name in known}
    plain = {name.video: name for name in known if len(subjects.get(name.video, ())) <= 1}
    joined = {name.id.replace("/", "_"): name.id for name in known}
    clear = len(joined) == len(ids)
    placed = {}
    for name in names:
        other = plain.get(name.video)
        if name.id in ids:
            placed[name] = name.id
        elif other is not None and bool(other.subject) != bool(name.subject):
            placed[name] = other.id
        elif clear and name.id.replace("/", "_") in joined:
            placed[name] = joined[name.id.replace("/", "_")]
    return placed


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?` for the known name nearest to `name`; empty if none is near."""
    listed = list(known)
    found = [other for other in listed if other.lower() == name.lower()]
    found = found or get_close_matches(name, listed, n=1, cutoff=0.7)
    return f"did you mean {found[0]!r}?" if found else ""


def _unknown(
    path: Path,
    row: IntervalRow,
    source: Path,
    known: Sequence[VideoName],
    everywhere: Sequence[VideoName],
    remedy: str,
) -> UserError:
    """The complaint about a row whose video is not among the `known` ones of `source`."""
    where = f"{path}, line {row.line}: video {row.name.id!r}"
    subjects = {name.subject for name in everywhere if name.video == row.name.video} - {""}
    if len(subjects) > 1:
        return UserError(
            f"{where}: subjects {', '.join(sorted(subjects))} have a video of this name: write "
            "subject,video in all files"
        )
    hint = nearest(row.name.id, [name.id for name in known])
    return UserError(f"{where} is not in {source}: {hint + ' ' if hint else ''}{remedy}")


def cases_of(inputs: Inputs, video_set: str) -> Cases:
    """The rows of each type by video; `annotated_only` keeps videos with a truth of the type."""
    cases: Cases = {}
    for type in EXPRESSION_TYPES:
        rows: dict[str, tuple[list[IntervalRow], list[IntervalRow]]] = {
            video: ([], []) for video in inputs.videos
        }
        for side, table in enumerate((inputs.predictions, inputs.truths)):
            for row in table.rows:
                if row.type == type:
                    rows[inputs.ids[row.name]][side].append(row)
        cases[type] = {
            video: Case(
                tuple(predictions),
                tuple(truths),
                VideoResult(
                    as_array(predictions),
                    np.asarray([row.score for row in predictions], np.float64),
                    as_array(truths),
                ),
            )
            for video, (predictions, truths) in rows.items()
            if truths or video_set == "all"
        }
    return cases
