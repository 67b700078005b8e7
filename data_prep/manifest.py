"""The files beside the shards: what a folder was begun with, and what it holds when complete.

`extraction.json` stands from the start; `dataset_info.json` and `features.json` are those of
tensorflow-datasets; `manifest.json` is ours and written last (`spotjax.data.shards` reads it).
"""

import hashlib
import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds

import spotjax
from spotjax import config as config_lib
from spotjax.config import EXPRESSION_TYPES, Config
from spotjax.data import schema
from spotjax.errors import UserError
from spotjax.files import LEFTOVER, LOCK, flat

from .features import FeatureSpec
from .readers import RawDataset, RawVideo
from .shard_file import Task

EXTRACTION = "extraction.json"
UNSAID = {"features.flow.backend": "opencv"}
"""What a key that is not there stands for."""


def identity_of(
    config: Config, dataset: RawDataset, spec: FeatureSpec, kind: str = ""
) -> dict[str, Any]:
    """What all shards of a folder have in common, as extraction.json keeps it.

    What concerns one video only (its frames, its labels) is compared shard by shard.  `kind` is
    "" for the system's features, or a baseline.
    """
    return {
        "schema": schema.SCHEMA_VERSION,
        "data": schema.read_settings(config),
        "k": spec.k,
        "features": schema.feature_settings(config, kind),
        "hash": schema.extraction_digest(config, spec.k, kind),
        "videos": config_lib.digest([video.id for video in dataset.videos]),
    }


def refuse_other(folder: Path, identity: dict[str, Any]) -> None:
    """Raise UserError if `folder` holds something else than what `identity` describes."""
    begun = read_json(folder / EXTRACTION)
    remedy = "choose another --config.data.shards or delete the folder"
    if begun is None:
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        if any(name != LOCK and not LEFTOVER.search(name) for name in names):
            raise UserError(f"{folder}: is not empty and has no {EXTRACTION}: {remedy}")
        return
    if begun == identity:
        return
    old, new = flat(begun), flat(identity)
    # labels are rewritten (`shard_file.relabel`), and k is compared as it came out
    free = ("hash", "videos", "features.k_", "data.annotation.")
    for key in (key for key in old | new if not key.startswith(free)):
        if old.get(key) != new.get(key):
            follows = key.startswith("k.") and not new.get(f"features.{key.replace('.', '_')}")
            why = " (it follows from the annotation, now another)" if follows else ""
            name = key.replace("k.", "k_") if key.startswith("k.") else key
            has, wants = (values.get(key, UNSAID.get(key)) for values in (old, new))
            raise UserError(f"{folder}: has {name}={has}, config wants {wants}{why}: {remedy}")
    if old.get("videos") == new.get("videos"):
        return
    raise UserError(
        f"{folder}: was begun with another list of videos than config.data.root has now: {remedy}"
    )


def write_metadata(
    folder: Path, name: str, tasks: list[Task], described: dict[str, dict[str, Any]]
) -> None:
    """tfds' dataset_info.json and features.json; a left-out video becomes an empty shard."""
    for task in tasks:
        if task.video.id not in described:
            task.path.write_bytes(b"")
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=name, split=schema.SPLIT, filetype_suffix="tfrecord"
    )
    facts = [described.get(task.video.id, {"records": 0, "bytes": 0}) for task in tasks]
    split = tfds.core.SplitInfo(
        name=schema.SPLIT,
        shard_lengths=[fact["records"] for fact in facts],
        num_bytes=sum(fact["bytes"] for fact in facts),
        filename_template=template,
    )
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=schema.features_dict(tasks[0].spec.streams, tasks[0].spec.events),
        split_infos=[split],
        filename_template=template,
        check_data=False,
    )


def manifest_of(
    config: Config,
    dataset: RawDataset,
    identity: dict[str, Any],
    tasks: list[Task],
    described: dict[str, dict[str, Any]],
    problems: dict[str, str],
) -> dict[str, Any]:
    """The contents of manifest.json."""
    videos = [
        facts_of(task.video)
        | ({"depth": depth_of(task.video)} if task.spec.depth else {})
        | described[task.video.id]
        for task in tasks
        if task.video.id in described
    ]
    skipped = [
        {"video": task.video.id, "reason": problems[task.video.id]}
        for task in tasks
        if task.video.id in problems
    ]
    return {
        "schema": schema.SCHEMA_VERSION,
        "dataset": dataset.name,
        "data": identity["data"],
        "types": list(EXPRESSION_TYPES),
        "emotions": list(tasks[0].emotions),
        "streams": _shapes(tasks[0].spec.streams),
        "events": _shapes(tasks[0].spec.events),
        "k": identity["k"],
        "k_source": tasks[0].spec.k_source,
        "features": identity["features"],
        "features_hash": config_lib.digest(identity["features"]),
        "hash": identity["hash"],
        "versions": _versions(config, identity["features"]),
        "quirks": list(dataset.quirks),
        "skipped": skipped,
        "annotation_sha256": annotation_sha256(dataset),
        "videos": videos,
    }


def _shapes(streams: dict[str, schema.Stream]) -> dict[str, Any]:
    return {n: {"shape": list(s.shape), "dtype": s.dtype} for n, s in streams.items()}


def annotation_sha256(dataset: RawDataset) -> dict[str, str]:
    """Hash of every annotation file by its name."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in dataset.annotation_files
    }


def facts_of(video: RawVideo) -> dict[str, Any]:
    """What the manifest says about a video as the reader found it."""
    pairs = zip(video.intervals, video.action_units, strict=True)
    return {
        "subject": video.subject,
        "name": video.name,
        "fps": video.fps,
        "num_frames": video.num_frames,
        "intervals": [interval._asdict() | {"au": units} for interval, units in pairs],
    }


def depth_of(video: RawVideo) -> str:
    """Hash of which frames have a depth image."""
    return config_lib.digest([path is not None for path in video.depth])


def _versions(config: Config, made: dict[str, Any]) -> dict[str, str]:
    """Versions of everything that the values of the streams, `made` so, depend on."""
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cv2": cv2.__version__,
        "spotjax": spotjax.__version__,
    }
    aligned = getattr(config.features, "alignment", "") == "ready"
    if config.features.face.backend == "dlib" and not aligned:
        import dlib

        versions["dlib"] = dlib.__version__
    if getattr(config.features, "scene", False):
        versions["numba"] = metadata.version("numba")
    if made.get("flow", {}).get("backend") == "jax":
        versions |= {name: metadata.version(name) for name in ("jax", "jaxlib")}
    return versions


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, None if the file is not there.  Raises UserError if it is damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise UserError(f"{path}: is damaged: delete the file and run data_prep again")
    return values
