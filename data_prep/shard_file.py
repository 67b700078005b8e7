"""The shard of one video: written at once, described by reading it back.

Reading back verifies both checksums of every record, so a shard that a resumed run finds is
trusted only if all its bytes are right; and the manifest says what really stands in the file.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from spotjax.config import EXPRESSION_TYPES
from spotjax.data import schema
from spotjax.data.tfrecord import read_records, write_records
from spotjax.errors import UserError

from .features import Extracted, FeatureSpec
from .readers import RawVideo


class Task(NamedTuple):
    """One video to extract and the file that it becomes."""

    path: Path
    dataset: str
    video: RawVideo
    emotions: tuple[str, ...]
    spec: FeatureSpec


def write_shard(task: Task, extracted: Extracted) -> None:
    """Write the records of a video; the file appears complete or not at all.  Raises OSError."""
    try:
        write_records(task.path, _records(task, extracted))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(task.path)) from None


def relabel(task: Task) -> Literal["same", "rewritten", "other frames"]:
    """Give a shard the labels that its video has now, if it holds the video's frames.

    Features of frames do not depend on labels, so nothing is computed anew; those of events do,
    so that a shard with event streams is "other frames" if an onset or apex has moved.  Raises
    UserError if a byte of the shard is wrong, OSError if it cannot be written.
    """
    features = schema.features_dict(task.spec.streams, task.spec.events)
    chunks = [features.deserialize_example_np(payload) for payload in read_records(task.path)]
    ids = [number for chunk in chunks for number in chunk["frame_ids"].tolist()]
    if not np.array_equal(ids, task.video.frame_ids):
        return "other frames"
    intervals = _interval_table(task)
    if all(np.array_equal(chunk["intervals"], intervals) for chunk in chunks):
        return "same"
    if task.spec.events and not np.array_equal(chunks[0]["intervals"][:, :2], intervals[:, :2]):
        return "other frames"
    relabelled = (features.serialize_example(chunk | {"intervals": intervals}) for chunk in chunks)
    write_records(task.path, relabelled)
    return "rewritten"


def describe(task: Task) -> dict[str, Any]:
    """What the manifest says about a shard: counts of rows and records, bytes, crop box.

    Raises UserError if a byte is wrong or the file does not hold the video's frames and labels.
    """
    features = schema.features_dict(task.spec.streams, task.spec.events)
    valid = [name for name in task.spec.streams if name.startswith("valid_")]
    counts = dict.fromkeys(["face", *valid], 0)
    crop: list[int] = []
    frame_ids: list[int] = []
    intervals = _interval_table(task)
    records, same = 0, True
    for payload in read_records(task.path):
        chunk = features.deserialize_example_np(payload)
        same &= chunk["start"] == len(frame_ids) and np.array_equal(chunk["intervals"], intervals)
        frame_ids += chunk["frame_ids"].tolist()
        for name in counts:
            counts[name] += int(chunk[name].sum())
        crop = chunk["crop"].tolist()
        records += 1
    if not same or not np.array_equal(frame_ids, task.video.frame_ids):
        raise UserError(
            f"{task.path}: holds other frames or labels than {task.video.id} has now: delete it "
            "and run data_prep again"
        )
    return {
        "face_frames": counts["face"],
        "valid_rows": {name.removeprefix("valid_"): counts[name] for name in valid},
        "crop": crop,
        "shard": task.path.name,
        "records": records,
        "bytes": task.path.stat().st_size,
    }


def _records(task: Task, extracted: Extracted) -> Iterator[bytes]:
    """Serialised chunks of at most 256 frames."""
    features = schema.features_dict(task.spec.streams, task.spec.events)
    video, intervals = task.video, _interval_table(task)
    for start in range(0, video.num_frames, schema.RECORD_FRAMES):
        chunk = slice(start, start + schema.RECORD_FRAMES)
        yield features.serialize_example(
            {
                "dataset": task.dataset,
                "subject": video.subject,
                "video": video.name,
                "fps": np.float32(video.fps),
                "start": start,
                "num_frames": video.num_frames,
                "frame_ids": video.frame_ids[chunk],
                "face": extracted.face[chunk],
                "crop": np.array(extracted.crop, np.int32),
                "intervals": intervals,
                **{name: rows[chunk] for name, rows in extracted.rows.items()},
                **{
                    name: rows if start == 0 else rows[:0]
                    for name, rows in extracted.events.items()
                },
            }
        )


def _interval_table(task: Task) -> np.ndarray:
    """i32[m, 5]: onset, apex, offset, type, emotion (the last two as indices)."""
    rows = [
        (
            interval.onset,
            interval.apex,
            interval.offset,
            EXPRESSION_TYPES.index(interval.type),
            task.emotions.index(interval.emotion) if interval.emotion else -1,
        )
        for interval in task.video.intervals
    ]
    return np.array(rows, np.int32).reshape(-1, 5)
