"""Shards and their manifest to arrays; refuses what does not fit the config (no TensorFlow)."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from spotjax import config as config_lib
from spotjax.config import Config
from spotjax.data import schema
from spotjax.data.schema import MANIFEST, Stream
from spotjax.data.tfrecord import read_records
from spotjax.errors import UserError
from spotjax.types import Dataset, Interval, Video

_AGAIN = "delete the folder and run data_prep again, or choose another --config.data.shards"


def load(folder: Path, config: Config | None = None) -> Dataset:
    """Read all shards of `folder` into one array per stream, rows in the order of the videos.

    With a `config`, the manifest must have been made with its features and layout.  Raises
    UserError naming the file and the field: no or damaged manifest, another extraction, a missing,
    cut or changed shard, a value that is not finite.
    """
    manifest = read_manifest(folder)
    if config is not None:
        _refuse_other_extraction(folder, manifest, config)
    streams = {
        name: Stream(tuple(entry["shape"]), entry["dtype"])
        for name, entry in manifest["streams"].items()
    }
    rows = sum(entry["num_frames"] for entry in manifest["videos"])
    arrays = {
        name: np.zeros((rows, *stream.shape), stream.dtype) for name, stream in streams.items()
    }
    arrays["face"] = np.zeros(rows, np.uint8)
    videos, first_row = [], 0
    for entry in manifest["videos"]:
        frame_ids = _read_video(folder / entry["shard"], entry, streams, arrays, first_row)
        spans = tuple(
            Interval(i["onset"], i["apex"], i["offset"], i["type"], i["emotion"])
            for i in entry["intervals"]
        )
        videos.append(
            Video(
                entry["subject"],
                entry["name"],
                entry["fps"],
                first_row,
                entry["num_frames"],
                frame_ids,
                spans,
            )
        )
        first_row += entry["num_frames"]
    if not videos:
        raise UserError(f"{folder / MANIFEST}: lists no video: see its field 'skipped'")
    manifest["hash"] = content_hash(manifest)
    return Dataset(manifest["dataset"], tuple(videos), arrays, manifest["k"], manifest)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a shards folder.  Raises UserError if there is none that can be used."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text())
        version = manifest["schema"]
    except FileNotFoundError:
        raise UserError(
            f"{path}: not there; run python -m data_prep first (it goes on where it stopped)"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: damaged; delete it and run data_prep again") from None
    if version != schema.SCHEMA_VERSION:
        raise UserError(
            f"{path}: field schema is {version}, this program reads {schema.SCHEMA_VERSION}: "
            + _AGAIN
        )
    return manifest


def content_hash(manifest: dict[str, Any]) -> str:
    """Hash of what a run depends on: how the features were made, and of which videos and labels."""
    videos = [
        [entry["subject"], entry["name"], entry["num_frames"], entry["intervals"]]
        for entry in manifest["videos"]
    ]
    return config_lib.digest([manifest["hash"], videos])


def _refuse_other_extraction(folder: Path, manifest: dict[str, Any], config: Config) -> None:
    wanted = config_lib.to_dict(config)["features"]
    made = manifest["features"]
    pairs = [("layout", manifest["layout"], config.data.layout)]
    pairs += [
        (f"features.k_{type}", k, wanted.get(f"k_{type}") or k) for type, k in manifest["k"].items()
    ]
    pairs += [
        (f"features.{key}", made.get(key), wanted[key])
        for key in wanted
        if not key.startswith("k_")
    ]
    for key, old, new in pairs:
        if old != new:
            raise UserError(
                f"{folder / MANIFEST}: was made with {key}={old!r}, the config wants {new!r}: "
                + _AGAIN
            )


def _read_video(
    path: Path,
    entry: dict[str, Any],
    streams: dict[str, Stream],
    arrays: dict[str, np.ndarray],
    first_row: int,
) -> np.ndarray:
    """Fill the rows of one video; returns its frame_ids i32[T]."""
    if not path.exists():
        raise UserError(f"{path}: this shard is missing: run data_prep again to make it anew")
    features = schema.features_dict(streams)
    frame_ids, done = [], 0
    for payload in read_records(path):
        record = features.deserialize_example_np(payload)
        if record["start"] != done or record["num_frames"] != entry["num_frames"]:
            raise UserError(f"{path}: a record is missing or of another video: {_AGAIN}")
        count = len(record["frame_ids"])
        place = slice(first_row + done, first_row + done + count)
        arrays["face"][place] = record["face"]
        for name in streams:
            values = record[name]
            if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
                raise UserError(f"{path}: field {name} has values that are not finite: {_AGAIN}")
            arrays[name][place] = values
        frame_ids.append(record["frame_ids"])
        done += count
    if done != entry["num_frames"]:
        raise UserError(
            f"{path}: holds {done} of {entry['num_frames']} frames: delete it and run data_prep "
            "again"
        )
    return np.concatenate(frame_ids)
