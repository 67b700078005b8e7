"""From a data set's folder to TFRecord shards and their manifest.

One shard per video.  `manifest.json` is written last, atomically: a folder that has it is
complete.  Until then `extraction.json` says what the folder was begun with, so that a run with
another configuration, k, annotation or set of videos is refused instead of mixed in.  A run can be
killed at any moment and started again: finished shards are kept, half ones are never visible.
"""

import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

import spotjax
from spotjax import config as config_lib
from spotjax.config import EXPRESSION_TYPES, Config
from spotjax.data import schema
from spotjax.errors import UserError, one_line, require_free_space

from . import features, readers, workers
from .features import FeatureSpec, Report
from .readers import RawDataset
from .shard_file import Task, describe, write_shard

try:
    import fcntl
except ImportError:  # Windows has no flock: there, two writers at a time are not noticed
    fcntl = None  # type: ignore[assignment]

EXTRACTION = "extraction.json"
_LOCK = ".lock"


def prepare(config: Config) -> Path:
    """Make the shards of `config`, or as many as are missing; returns their folder.

    Raises UserError in one line for bad input.  A bad video stops nothing: the others are
    computed first, then the error names it (or, with `data.skip_bad_videos`, the manifest does).
    """
    folder = schema.shards_folder(config)
    root = Path(config.data.root)
    if not root.exists() and _matches(folder, config):
        print(f"{folder}: complete, nothing to do ({root} is not needed for it any more)")
        return folder
    _render_synthetic(config)
    dataset = readers.read(config.data.layout, root)
    spec = features.build(config.features, dataset)
    identity = _identity(config, dataset, spec)
    _refuse_other(folder, identity)
    emotions = tuple(
        sorted({i.emotion for video in dataset.videos for i in video.intervals if i.emotion})
    )
    tasks = [
        Task(
            folder / schema.shard_name(dataset.name, index, len(dataset.videos)),
            dataset.name, video, emotions, spec,
        )
        for index, video in enumerate(dataset.videos)
    ]  # fmt: skip
    if _complete(folder, config, tasks):
        return folder
    if not config.data.skip_bad_videos:
        for video in dataset.videos:
            if not video.frames:
                raise UserError(video.problem)
    spec.check()
    folder.mkdir(parents=True, exist_ok=True)
    with _only_writer(folder):
        _write_json(folder / EXTRACTION, identity)
        (folder / schema.MANIFEST).unlink(missing_ok=True)
        described, problems = _make_shards(config, folder, tasks)
        if problems and not config.data.skip_bad_videos:
            raise UserError(_bad_videos(problems))
        if not described:
            raise UserError(f"{root}: no video can be used; the first: {_bad_videos(problems)}")
        _write_metadata(folder, dataset.name, tasks, described)
        manifest = _manifest(config, dataset, identity, tasks, described, problems)
        _write_json(folder / schema.MANIFEST, manifest)
    print(f"{folder}: {len(described)} videos complete, {len(problems)} left out")
    return folder


def _render_synthetic(config: Config) -> None:
    """Render the stand-in of `config.data.synthetic` if the root lacks it or holds another one.

    (The last case ends in the renderer's own refusal, which names what differs.)
    """
    root, wanted = Path(config.data.root), config.data.synthetic
    if wanted is None:
        return
    if root.exists():
        begun = _read_json(root / "synthetic.json")
        if begun is None:
            return
        numbers = config_lib.to_dict(config)["data"]["synthetic"]
        same = all(begun.get(key) == value for key, value in numbers.items())
        if same and any(root.glob("*.xlsx")):
            return
    from .synthetic import generate

    generate(
        root,
        layout=config.data.layout,
        subjects=wanted.subjects,
        videos=wanted.videos,
        seconds=wanted.seconds,
        seed=wanted.seed,
        jobs=config.data.jobs,
    )


def _identity(config: Config, dataset: RawDataset, spec: FeatureSpec) -> dict[str, Any]:
    """What decides the bytes of every shard, as extraction.json keeps it."""
    videos = [
        (video.id, video.frame_ids.tolist()[:1], len(video.frames), video.intervals,
         video.action_units)
        for video in dataset.videos
    ]  # fmt: skip
    return {
        "schema": schema.SCHEMA_VERSION,
        "layout": config.data.layout,
        "k": spec.k,
        "features": config_lib.to_dict(config)["features"],
        "hash": schema.extraction_digest(config, spec.k),
        "videos": config_lib.digest(videos),
    }


def _refuse_other(folder: Path, identity: dict[str, Any]) -> None:
    """Raise UserError if `folder` holds something else than what `identity` describes."""
    begun = _read_json(folder / EXTRACTION)
    remedy = "choose another --config.data.shards or delete the folder"
    if begun is None:
        if folder.is_dir() and any(path.name != _LOCK for path in folder.iterdir()):
            raise UserError(f"{folder}: is not empty and has no {EXTRACTION}: {remedy}")
        return
    if begun == identity:
        return
    old, new = _flat(begun), _flat(identity)
    for key in (key for key in old | new if key not in ("hash", "videos")):
        if old.get(key) != new.get(key):
            name = key.replace("k.", "k_") if key.startswith("k.") else key
            raise UserError(
                f"{folder}: has {name}={old.get(key)}, config wants {new.get(key)}: {remedy}"
            )
    raise UserError(
        f"{folder}: was begun with other videos or annotations than config.data.root has now: "
        f"{remedy}"
    )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        inner = isinstance(value, dict)
        flat |= _flat(value, f"{prefix}{key}.") if inner else {prefix + key: value}
    return flat


def _matches(folder: Path, config: Config) -> bool:
    """Whether `folder` is complete for this configuration, as far as it can tell by itself."""
    manifest = _read_json(folder / schema.MANIFEST)
    return (
        manifest is not None
        and manifest.get("features") == config_lib.to_dict(config)["features"]
        and manifest.get("layout") == config.data.layout
    )


def _complete(folder: Path, config: Config, tasks: list[Task]) -> bool:
    """Whether nothing is left to do; says so in one line."""
    manifest = _read_json(folder / schema.MANIFEST)
    if manifest is None or (manifest["skipped"] and not config.data.skip_bad_videos):
        return False
    for video in manifest["videos"]:
        path = folder / video["shard"]
        if not path.is_file() or path.stat().st_size != video["bytes"]:
            return False
    skipped = len(manifest["skipped"])
    again = f", {skipped} left out (delete {schema.MANIFEST} to try them again)" if skipped else ""
    print(f"{folder}: {len(tasks) - skipped} videos complete{again}: nothing to do")
    return True


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Hold the folder's lock.  Raises UserError at once if another process has it."""
    with open(folder / _LOCK, "w") as lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"{folder}: another data_prep is writing here: wait until it has ended, or "
                    "choose another --config.data.shards"
                ) from None
        yield


def _make_shards(
    config: Config, folder: Path, tasks: list[Task]
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Extract what is missing; returns the descriptions and the problems, by video id."""
    for leftover in folder.glob("*.tmp*"):
        leftover.unlink()
    described: dict[str, dict[str, Any]] = {}
    problems: dict[str, str] = {}

    def finished(task: Task, result: dict[str, Any] | str) -> None:
        if isinstance(result, str):
            problems[task.video.id] = result
            tqdm.write(f"cannot use {task.video.id}: {result}", file=sys.stderr)
        else:
            described[task.video.id] = result

    missing = []
    for task in tasks:
        if task.video.problem:
            finished(task, task.video.problem)
        elif (found := _kept(task)) is not None:
            described[task.video.id] = found
        else:
            missing.append(task)
    frames = sum(len(task.video.frames) for task in missing)
    if missing:
        row = sum(
            int(np.prod(stream.shape)) * np.dtype(stream.dtype).itemsize
            for stream in missing[0].spec.streams.values()
        )
        require_free_space(folder, frames * (row + 16), f"the features of {frames} frames")
        if described:
            print(f"{len(described)} videos are there already", file=sys.stderr)
        # The longest first: the last process to finish then has the least left to do.
        missing.sort(key=lambda task: -len(task.video.frames))
        workers.run(make_shard, missing, jobs=config.data.jobs, frames=frames, finished=finished)
    order = [task.video.id for task in tasks]
    return (
        {name: described[name] for name in order if name in described},
        {name: problems[name] for name in order if name in problems},
    )


def make_shard(task: Task, report: Report) -> dict[str, Any] | str:
    """Extract one video and write its shard (in a worker process).

    Returns its description, or why the video cannot be used.  Raises OSError (disk full).
    """
    try:
        extracted = task.spec.extract(task.video, report)
    except UserError as error:
        return one_line(error)
    write_shard(task, extracted)
    return describe(task)


def _kept(task: Task) -> dict[str, Any] | None:
    """The description of a finished shard, None if there is none or a byte of it is wrong."""
    if not task.path.is_file() or task.path.stat().st_size == 0:
        return None
    try:
        return describe(task)
    except UserError as error:
        print(f"computing {task.video.id} anew: {one_line(error)}", file=sys.stderr)
        return None


def _bad_videos(problems: dict[str, str]) -> str:
    """One line that names the first bad video and counts the others."""
    name, reason = next(iter(problems.items()))
    others = f" ({len(problems) - 1} more bad videos are listed above)" if len(problems) > 1 else ""
    return (
        f"{name}: {reason}{others}; then run the same command again (the finished videos are "
        "kept), or leave bad videos out with --config.data.skip_bad_videos=true"
    )


def _write_metadata(
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
        features=schema.features_dict(tasks[0].spec.streams),
        split_infos=[split],
        filename_template=template,
        check_data=False,
    )


def _manifest(
    config: Config,
    dataset: RawDataset,
    identity: dict[str, Any],
    tasks: list[Task],
    described: dict[str, dict[str, Any]],
    problems: dict[str, str],
) -> dict[str, Any]:
    """The contents of manifest.json."""
    videos = [
        {
            "subject": task.video.subject,
            "name": task.video.name,
            "fps": task.video.fps,
            "intervals": [
                interval._asdict() | {"au": units}
                for interval, units in zip(
                    task.video.intervals, task.video.action_units, strict=True
                )
            ],
        }
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
        "layout": config.data.layout,
        "types": list(EXPRESSION_TYPES),
        "emotions": list(tasks[0].emotions),
        "streams": {
            name: {"shape": list(stream.shape), "dtype": stream.dtype}
            for name, stream in tasks[0].spec.streams.items()
        },
        "k": identity["k"],
        "k_source": _k_source(identity["features"]),
        "features": identity["features"],
        "features_hash": config_lib.digest(identity["features"]),
        "hash": identity["hash"],
        "versions": _versions(config),
        "quirks": list(dataset.quirks),
        "skipped": skipped,
        "annotation_sha256": hashlib.sha256(dataset.annotation_file.read_bytes()).hexdigest(),
        "videos": videos,
    }


def _k_source(wanted: dict[str, Any]) -> str:
    """Where every k comes from."""
    return ", ".join(
        f"{kind}: {'annotation' if wanted[f'k_{kind}'] is None else 'config'}"
        for kind in EXPRESSION_TYPES
    )


def _versions(config: Config) -> dict[str, str]:
    """Versions of everything that the values of the streams depend on."""
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cv2": cv2.__version__,
        "spotjax": spotjax.__version__,
    }
    if config.features.face.backend == "dlib":
        import dlib

        versions["dlib"] = dlib.__version__
    return versions


def _read_json(path: Path) -> dict[str, Any] | None:
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


def _write_json(path: Path, values: dict[str, Any]) -> None:
    """Write `values` so that the file appears complete or not at all."""
    temporary = path.with_name(f"{path.name}.tmp{os.getpid()}")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(values, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
