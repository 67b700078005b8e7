"""Annotated frame numbers become rows of a video, here and only here: 0-based and inclusive.

Annotation number n is the frame whose own number is n, found by name, never by position.  Where
images are missing inside a video, an onset is the first frame there is from n on, an offset the
last one up to n, an apex the nearest.  With `sample_every` N, a video keeps its frames 0, N, 2N and
so on (rounded: MESNet's N is 6.7), and a number becomes the nearest kept frame (SpotFormer:
round((x - 1) / 7)) or the last one up to it (ABPN: (round(x) - 1) // 8); the last frame at most.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spotjax.config import Annotation, Data
from spotjax.errors import UserError
from spotjax.types import Interval

from ..video import positions
from .base import Images, Quirks, RawDataset, RawVideo, list_images, natural_key
from .rules import Row


class Annotations(NamedTuple):
    """An annotation, read and mended apart from the frames."""

    files: tuple[Path, ...]
    rows: tuple[Row, ...]
    quirks: tuple[str, ...]


class Found(NamedTuple):
    """The frames of one video on disk."""

    subject: str
    name: str
    images: Images
    place: Path
    """The folder or the video file."""
    file: Path | None = None
    fps: float = 0.0
    """0: the layout's."""
    depth: Path | None = None
    """Folder of depth images."""


def whole(value: float, rule: str) -> int:
    """A whole frame number: `truncate` is SOFTNet's int(x - 1) counted from 0, `round` half up.

    >>> whole(566.6, "truncate"), whole(0.4, "truncate"), whole(566.6, "round")
    (566, 1, 567)
    """
    return int(value - 1) + 1 if rule == "truncate" else math.floor(value + 0.5)


def assemble(
    annotations: Annotations,
    found: Iterable[Found],
    data: Data,
    rules: Annotation,
    *,
    name: str,
    fps: float,
) -> RawDataset:
    """Join the annotation with the videos that were found; `fps` is that of the layout.

    Raises UserError if a video is there twice.
    """
    quirks = Quirks()
    by_video: dict[tuple[str, str], list[Row]] = {}
    for row in annotations.rows:
        by_video.setdefault((row.subject, row.video), []).append(row)
    there: dict[tuple[str, str], Found] = {}
    for item in found:
        key = (item.subject, item.name)
        if key in there:
            raise UserError(
                f"{item.place}: second folder of video {item.name} of subject {item.subject} "
                f"beside {there[key].place.name}: remove one"
            )
        there[key] = item
    keys = sorted(
        there.keys() | by_video.keys(), key=lambda key: (natural_key(key[0]), natural_key(key[1]))
    )
    videos = tuple(
        _video(there[key], by_video.get(key, []), data, rules, quirks, fps)
        if key in there
        else _without_frames(key, by_video[key], rules, fps)
        for key in keys
    )
    return RawDataset(name, videos, annotations.quirks + quirks.lines(), annotations.files)


def _without_frames(
    key: tuple[str, str], rows: list[Row], rules: Annotation, fps: float
) -> RawVideo:
    """A video that is only in the annotation; its numbers are taken to start at 1."""
    subject, name = key
    intervals = tuple(
        Interval(
            whole(row.onset, rules.fractions) - 1,
            whole(row.apex, rules.fractions) - 1 if row.apex > 0 else -1,
            whole(row.offset, rules.fractions) - 1,
            row.type,
            row.emotion,
        )
        for row in rows
    )
    problem = (
        f"{rows[0].where}: names video {name} of subject {subject}, which has no frames: add "
        "them, remove the row from your copy, or leave the video out with "
        "--config.data.skip_bad_videos=true"
    )
    units = tuple(row.action_units for row in rows)
    return RawVideo(subject, name, (), np.zeros(0, np.int32), fps, intervals, units, problem)


def _video(
    found: Found, rows: list[Row], data: Data, rules: Annotation, quirks: Quirks, fps: float
) -> RawVideo:
    paths, ids, problem = found.images
    video = f"{found.subject}/{found.name}"
    if len(ids) and not found.file and ids[0] > 1:
        quirks.add("video begins after frame 1", f"{video}: {ids[0]}")
    missing = int(ids[-1] - ids[0]) + 1 - len(ids) if len(ids) else 0
    if missing and not problem:
        gap = int(ids[np.flatnonzero(np.diff(ids) > 1)[0]]) + 1
        if rules.missing_frames == "error":
            problem = (
                f"{found.place}: frame {gap} is missing ({missing} in all between {ids[0]} and "
                f"{ids[-1]}): copy the missing images there, or close up with "
                "--config.data.annotation.missing_frames=allow"
            )
        else:
            quirks.add("frames missing inside a video (annotation.missing_frames)",
                       f"{video}: {missing}")  # fmt: skip
    depth: tuple[Path | None, ...] = ()
    if found.depth is not None and not problem:
        depth, lack = _depth_of(found.depth, ids)
        if lack:
            what = "frames without a depth image" if depth else "video without usable depth images"
            quirks.add(what, f"{video}: {lack}")
    kept = [pair for row in rows if (pair := _place(row, ids, data, rules, quirks)) is not None]
    step = data.sample_every
    taken = positions(len(ids), step)
    return RawVideo(
        subject=found.subject,
        name=found.name,
        frames=tuple(paths[n] for n in taken) if paths else (),
        frame_ids=ids[taken],
        fps=(found.fps or fps) / step,
        intervals=tuple(interval for interval, _ in kept),
        action_units=tuple(units for _, units in kept),
        problem=problem,
        file=found.file,
        step=step,
        depth=tuple(depth[n] for n in taken) if depth else (),
    )


def _depth_of(folder: Path, ids: np.ndarray) -> tuple[tuple[Path | None, ...], str]:
    """The depth image of every frame, None where it is missing, and what is wrong with them.

    Empty if there is no usable one.
    """
    paths, numbers, problem = list_images(folder)
    by_number = dict(zip(numbers.tolist(), paths, strict=True))
    lacking = [number for number in ids.tolist() if number not in by_number]
    if len(lacking) == len(ids) or problem and not lacking:
        return (), problem or f"no image in {folder.name} has the number of a frame"
    words = f"{folder.name}/{lacking[0]} is missing, {len(lacking)} in all" if lacking else ""
    return tuple(by_number.get(number) for number in ids.tolist()), words


def _place(
    row: Row, ids: np.ndarray, data: Data, rules: Annotation, quirks: Quirks
) -> tuple[Interval, str] | None:
    """The interval in rows of the video `ids` i32[T]; None if none of its frames is there."""
    numbers = [whole(value, rules.fractions) for value in (row.onset, row.apex, row.offset)]
    first, last = (int(ids[0]), int(ids[-1])) if len(ids) else (1, 2**31 - 1)
    place = f"{row.place}: {numbers[0]}-{numbers[2]} of {first}-{last}"
    if numbers[2] < first or numbers[0] > last:
        quirks.add("interval wholly outside its video, dropped", place)
        return None
    if numbers[0] < first or numbers[2] > last:
        if rules.outside == "drop":
            quirks.add("interval that leaves its video dropped (annotation.outside)", place)
            return None
        quirks.add("interval clipped to its video (annotation.outside)", place)
    known = first <= numbers[1] <= last and row.apex >= first
    if not len(ids):
        onset, apex, offset = (number - first for number in numbers)
    else:
        onset = int(np.searchsorted(ids, numbers[0], "left"))
        offset = int(np.searchsorted(ids, numbers[2], "right")) - 1
        apex = int(np.argmin(np.abs(ids - numbers[1])))
    if onset > offset:
        quirks.add("interval of which no frame is there, dropped", place)
        return None
    if data.sample_every > 1:
        # only a video without gaps keeps the fraction of the number
        whole_video = len(ids) == last - first + 1
        exact = [row.onset - first, row.apex - first, row.offset - first]
        position = exact if whole_video else [onset, apex, offset]
        if data.sample_rule == "floor":
            position = [onset, apex, offset]
        taken = positions(len(ids), data.sample_every)
        onset, apex, offset = (_sampled(value, taken, data) for value in position)
    return Interval(onset, apex if known else -1, offset, row.type, row.emotion), row.action_units


def _sampled(position: float, taken: np.ndarray, data: Data) -> int:
    """The kept frame of a position counted from 0; `taken` i64[n] are the kept ones' positions."""
    if data.sample_rule == "floor":
        row = int(np.searchsorted(taken, position, "right")) - 1
    else:
        row = round(position / data.sample_every)
    return min(max(row, 0), len(taken) - 1)
