"""Intervals as text in the data set's own frame numbers, inclusive: where they leave the program.

Anything with the attributes of `types.Video` or of `data_prep`'s raw videos will do as a video.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from spotjax.types import Detection, Interval


class Numbered(Protocol):
    """A video whose frames have numbers of their own."""

    @property
    def subject(self) -> str:
        """Subject."""

    @property
    def name(self) -> str:
        """Name inside the subject."""

    @property
    def id(self) -> str:
        """`subject/name`."""

    @property
    def frame_ids(self) -> np.ndarray:
        """i32[T]: the number of each frame."""

    @property
    def intervals(self) -> tuple[Interval, ...]:
        """Annotated expressions, 0-based."""


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Rows as CSV."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def intervals_csv(
    videos: Sequence[Numbered], found: Mapping[str, Sequence[Detection]], emotions: bool = False
) -> str:
    """`subject,video,type,onset,apex,offset,score` of the detections by video id.

    With `emotions`, or where any has one, `emotion` is the last column.
    """
    rows: list[list[Any]] = [["subject", "video", "type", "onset", "apex", "offset", "score"]]
    emotions |= any(d.emotion for detections in found.values() for d in detections)
    rows[0] += ["emotion"] if emotions else []
    for video in videos:
        for d in sorted(found[video.id]):
            ids = [int(video.frame_ids[frame]) for frame in (d.onset, d.apex, d.offset)]
            row = [video.subject, video.name, d.type, *ids, f"{d.score:.6f}"]
            rows.append([*row, d.emotion] if emotions else row)
    return csv_text(rows)


def truths_csv(videos: Sequence[Numbered]) -> str:
    """`subject,video,type,onset,apex,offset,emotion` ; an unknown apex is empty."""
    rows: list[list[Any]] = [["subject", "video", "type", "onset", "apex", "offset", "emotion"]]
    for video in videos:
        for i in sorted(video.intervals):
            onset, offset = (int(video.frame_ids[frame]) for frame in (i.onset, i.offset))
            apex = int(video.frame_ids[i.apex]) if i.apex >= 0 else ""
            rows.append([video.subject, video.name, i.type, onset, apex, offset, i.emotion])
    return csv_text(rows)


def videos_csv(videos: Sequence[Numbered]) -> str:
    """`subject,video,frames`: the number of each video's last frame."""
    rows: list[list[Any]] = [["subject", "video", "frames"]]
    rows += [[video.subject, video.name, int(video.frame_ids[-1])] for video in videos]
    return csv_text(rows)
