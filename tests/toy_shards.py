"""A toy data set as shards on disk."""

import json
from pathlib import Path

import numpy as np

from spotjax.data import schema
from spotjax.data.schema import Stream
from spotjax.data.tfrecord import write_records
from spotjax.types import Dataset


def write_shards(folder: Path, data: Dataset, names: list[str], record: int = 50) -> None:
    """Shards of the frame streams `names`, `record` frames in each of their records."""
    streams = {n: Stream(data.streams[n].shape[1:], str(data.streams[n].dtype)) for n in names}
    features, entries = schema.features_dict(streams), []
    for number, video in enumerate(data.videos):
        path = folder / schema.shard_name(data.name, number, len(data.videos))
        payloads = []
        for start in range(0, video.num_frames, record):
            end = min(start + record, video.num_frames)
            rows = slice(video.first_row + start, video.first_row + end)
            payloads.append(
                features.serialize_example(
                    {
                        "dataset": data.name,
                        "subject": video.subject,
                        "video": video.name,
                        "fps": np.float32(video.fps),
                        "start": start,
                        "num_frames": video.num_frames,
                        "frame_ids": video.frame_ids[start:end],
                        "face": np.ones(end - start, np.uint8),
                        "crop": np.zeros(4, np.int32),
                        "intervals": np.zeros((0, 5), np.int32),
                        **{name: data.streams[name][rows] for name in names},
                    }
                )
            )
        write_records(path, payloads)
        spans = [span._asdict() for span in video.intervals]
        entries.append(
            {
                "subject": video.subject,
                "name": video.name,
                "fps": video.fps,
                "num_frames": video.num_frames,
                "intervals": spans,
                "shard": path.name,
                "bytes": path.stat().st_size,
            }
        )
    manifest = {
        "schema": schema.SCHEMA_VERSION,
        "dataset": data.name,
        "streams": {n: {"shape": s.shape, "dtype": s.dtype} for n, s in streams.items()},
        "k": dict(data.k),
        "hash": "toy",
        "videos": entries,
    }
    (folder / schema.MANIFEST).write_text(json.dumps(manifest))
