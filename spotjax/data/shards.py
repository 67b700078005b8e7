"""Shards and their manifest to arrays; refuses what does not fit the config (no TensorFlow)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spotjax import config as config_lib
from spotjax.config import Config
from spotjax.data import records, schema
from spotjax.data.records import Places
from spotjax.data.schema import MANIFEST, Stream
from spotjax.data.tfrecord import located_records
from spotjax.errors import UserError
from spotjax.files import flat
from spotjax.types import Dataset, Interval, Video

_REPAIR = "delete it and run data_prep again, which makes this video anew"
_RELABEL = (
    "run python -m data_prep with this config (RUN/config.json for a run): it rewrites the labels "
    "and keeps the features"
)
_AGAIN = "delete the folder and run data_prep again, or choose another --config.data.shards"


class Streams(Mapping[str, np.ndarray]):
    """Streams by name, `[R, ...]` over all videos.

    One number per row (validity, strain, face) is kept; anything larger is read from its place in
    the shards each time it is asked for, so that features need not fit into memory.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        """Read and check every byte of every shard once.  Raises UserError naming the shard."""
        self._events = _specs(manifest.get("events", {}))
        always = {"face": Stream((), "uint8"), "frame_ids": Stream((), "int32")}
        specs = _specs(manifest["streams"]) | self._events | always
        self._places = {name: Places(spec) for name, spec in specs.items()}
        kept: dict[str, list[np.ndarray]] = {n: [] for n, spec in specs.items() if not spec.shape}
        for video in manifest["videos"]:
            self._locate(folder / video["shard"], video["num_frames"], kept)
        self._kept = {
            name: np.concatenate([np.zeros(0, specs[name].dtype), *parts])
            for name, parts in kept.items()
        }

    def __getitem__(self, name: str) -> np.ndarray:
        """The whole stream, from memory or from the shards."""
        if name in self._kept:
            return self._kept[name]
        return self._places[name].read(np.arange(self._places[name].rows))

    def __iter__(self) -> Iterator[str]:
        """Names of the streams."""
        return iter(self._places)

    def __len__(self) -> int:
        """Number of streams."""
        return len(self._places)

    def take(self, names: Sequence[str], rows: np.ndarray) -> dict[str, np.ndarray]:
        """Rows `rows` i64[n], sorted and different, of streams by name: `dtype[n, *shape]` each.

        Raises UserError naming a shard that has gone or has changed since it was checked.
        """
        return {
            name: self._kept[name][rows] if name in self._kept else self._places[name].read(rows)
            for name in names
        }

    def row_bytes(self, name: str) -> int:
        """Bytes of one row of a stream."""
        spec = self._places[name].stream
        return int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize

    def _locate(self, path: Path, num_frames: int, kept: dict[str, list[np.ndarray]]) -> None:
        """Check a shard, whose frames must be complete and in order; note where its rows lie."""
        if not path.exists():
            raise UserError(
                f"{path}: this shard is missing: run data_prep again, which makes this video anew"
            )
        stamp, done = records.stamp_of(path), 0
        for offset, payload in located_records(path):
            try:
                spans = records.spans(payload)
                start = records.integer(payload, spans["start"])
                frames = records.integer(payload, spans["num_frames"])
                values = {
                    name: records.array(payload, spans[name], places.stream)
                    for name, places in self._places.items()
                }
            except (ValueError, KeyError):
                raise UserError(f"{path}: not a record of this program: {_REPAIR}") from None
            if start != done or frames != num_frames:
                raise UserError(f"{path}: a record is missing or of another video: {_REPAIR}")
            _refuse_non_finite(path, values)
            here = len(values["frame_ids"])
            for name, array in values.items():
                if name not in self._events and len(array) != here:
                    raise UserError(f"{path}: field {name} is not of {here} frames: {_REPAIR}")
                if name in kept:
                    kept[name].append(array.copy())  # not the whole record with it
                self._places[name].add(path, stamp, offset + spans[name][0], len(array))
            done += here
        if done != num_frames:
            raise UserError(f"{path}: holds {done} of {num_frames} frames: {_REPAIR}")


def load(folder: Path, config: Config | None = None, kind: str = "") -> Dataset:
    """The data set of a shards folder, rows in the order of the videos.

    With a `config`, the manifest must have been made with its features (of `kind`: "" for the
    system's, or a baseline) and its way of reading the data set.  Raises
    UserError naming the file and the field: no or damaged manifest, another extraction, a missing,
    cut or changed shard, a value that is not finite.
    """
    manifest = read_manifest(folder)
    if config is not None:
        _refuse_other_extraction(folder, manifest, config, kind)
    if not manifest["videos"]:
        raise UserError(f"{folder / MANIFEST}: lists no video: see its field 'skipped'")
    streams = Streams(folder, manifest)
    frame_ids = streams["frame_ids"]
    videos, first_row, first_event = [], 0, 0
    for entry in manifest["videos"]:
        spans = tuple(
            Interval(i["onset"], i["apex"], i["offset"], i["type"], i["emotion"])
            for i in entry["intervals"]
        )
        count = entry["num_frames"]
        own_ids = frame_ids[first_row : first_row + count]
        facts = (entry["subject"], entry["name"], entry["fps"], first_row, count)
        videos.append(Video(*facts, own_ids, spans, first_event))
        first_row += count
        first_event += len(spans)
    manifest["hash"] = content_hash(manifest)
    return Dataset(manifest["dataset"], tuple(videos), streams, manifest["k"], manifest)


def _specs(entries: dict[str, Any]) -> dict[str, Stream]:
    return {n: Stream(tuple(entry["shape"]), entry["dtype"]) for n, entry in entries.items()}


def complete(folder: Path) -> bool:
    """Whether the manifest and every shard that it lists are there, at their full size.

    Raises UserError if there is a manifest that cannot be used.
    """
    if not (folder / MANIFEST).exists():
        return False
    listed = [
        (folder / entry["shard"], entry["bytes"]) for entry in read_manifest(folder)["videos"]
    ]
    return all(path.is_file() and path.stat().st_size == size for path, size in listed)


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


def _refuse_other_extraction(
    folder: Path, manifest: dict[str, Any], config: Config, kind: str
) -> None:
    wanted = schema.feature_settings(config, kind)
    made = manifest["features"]
    read, reading = flat(manifest["data"]), flat(schema.read_settings(config))
    pairs = [(f"data.{key}", read.get(key), value) for key, value in reading.items()]
    pairs += [
        (f"features.k_{type}", k, schema.sampled_k(w, config.data.sample_every) if w else k)
        for type, k in manifest["k"].items()
        for w in [wanted.get(f"k_{type}")]
    ]
    pairs += [
        (f"features.{key}", made.get(key), wanted.get(key))
        for key in dict.fromkeys([*wanted, *made])
        if not key.startswith("k_")
    ]
    for key, old, new in pairs:
        if old != new:
            labels = key.startswith("data.annotation.")
            raise UserError(
                f"{folder / MANIFEST}: was made with {key}={old!r}, the config wants {new!r}: "
                + (_RELABEL if labels else _AGAIN)
            )


def _refuse_non_finite(path: Path, record: dict[str, np.ndarray]) -> None:
    for name, values in record.items():
        if not _finite(values):
            raise UserError(f"{path}: field {name} has values that are not finite: {_AGAIN}")


def _finite(values: np.ndarray) -> bool:
    if values.dtype == np.float16 and values.size:  # by its exponent: 7 times as fast
        return bool((values.view(np.uint16) & 0x7FFF).max() < 0x7C00)
    return not np.issubdtype(values.dtype, np.floating) or bool(np.isfinite(values).all())
