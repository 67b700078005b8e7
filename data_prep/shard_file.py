"""The shard of one video: written at once, described by reading it back.

Reading back verifies both checksums of every record, so a shard that a resumed run finds is
trusted only if all its bytes are right; and the manifest says what really stands in the file.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

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


def describe(task: Task) -> dict[str, Any]:
    """What the manifest says about a shard: counts of rows and records, bytes, crop box.

    Raises UserError if a byte is wrong or the file does not hold the whole video.
    """
    features = schema.features_dict(task.spec.streams)
    valid = [name for name in task.spec.streams if name.startswith("valid_")]
    counts = dict.fromkeys(["face", *valid], 0)
    crop: list[int] = []
    records = frames = 0
    for payload in read_records(task.path):
        chunk = features.deserialize_example_np(payload)
        if chunk["start"] != frames:
            raise UserError(f"{task.path}: a record is missing: delete it and run data_prep again")
        frames += len(chunk["frame_ids"])
        for name in counts:
            counts[name] += int(chunk[name].sum())
        crop = chunk["crop"].tolist()
        records += 1
    if frames != len(task.video.frames):
        raise UserError(
            f"{task.path}: holds {frames} of {len(task.video.frames)} frames: delete it and run "
            "data_prep again"
        )
    return {
        "num_frames": frames,
        "face_frames": counts["face"],
        "valid_rows": {name.removeprefix("valid_"): counts[name] for name in valid},
        "crop": crop,
        "shard": task.path.name,
        "records": records,
        "bytes": task.path.stat().st_size,
    }


def _records(task: Task, extracted: Extracted) -> Iterator[bytes]:
    """Serialised chunks of at most 256 frames."""
    features = schema.features_dict(task.spec.streams)
    video, emotions = task.video, task.emotions
    intervals = np.array(
        [
            (
                interval.onset,
                interval.apex,
                interval.offset,
                EXPRESSION_TYPES.index(interval.type),
                emotions.index(interval.emotion) if interval.emotion else -1,
            )
            for interval in video.intervals
        ],
        np.int32,
    ).reshape(-1, 5)
    for start in range(0, len(video.frames), schema.RECORD_FRAMES):
        chunk = slice(start, start + schema.RECORD_FRAMES)
        yield features.serialize_example(
            {
                "dataset": task.dataset,
                "subject": video.subject,
                "video": video.name,
                "fps": np.float32(video.fps),
                "start": start,
                "num_frames": len(video.frames),
                "frame_ids": video.frame_ids[chunk],
                "face": extracted.face[chunk],
                "crop": np.array(extracted.crop, np.int32),
                "intervals": intervals,
                **{name: rows[chunk] for name, rows in extracted.rows.items()},
            }
        )
