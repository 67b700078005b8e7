"""From a data set's folder to TFRecord shards and their manifest.

One shard per video.  `manifest.json` is written last, atomically: a folder that has it is
complete.  Until then `extraction.json` says what the folder was begun with, so that a run with
another configuration, k, annotation or set of videos is refused instead of mixed in.  A run can be
killed at any moment and started again: finished shards are kept, half ones are never visible.
"""

import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from spotjax import config as config_lib
from spotjax.config import Config
from spotjax.data import schema
from spotjax.errors import UserError, one_line, require_free_space
from spotjax.files import LEFTOVER, locked, write_json

from . import kinds, readers, workers
from .features import FeatureSpec
from .manifest import (
    EXTRACTION,
    annotation_sha256,
    depth_of,
    facts_of,
    identity_of,
    manifest_of,
    read_json,
    refuse_other,
    write_metadata,
)
from .readers import SYNTHETIC_MARK, RawDataset
from .shard_file import Task, describe, relabel, write_shard
from .synthetic import generate
from .synthetic_layouts import LAYOUTS
from .workers import Report


def prepare(config: Config) -> Path:
    """Make the shards of `config`, or as many as are missing; returns the system's folder.

    Baselines with features of their own get a folder each beside it.  Raises UserError in one line
    for bad input.  A bad video stops nothing: the others are computed first, then the error names
    it (or, with `data.skip_bad_videos`, the manifest does).
    """
    root = schema.data_root(config)
    folders = {kind: schema.shards_folder(config, kind) for kind in schema.kinds(config)}
    if not root.exists() and all(
        _matches(folder, config, kind) and _complete(folder, config)
        for kind, folder in folders.items()
    ):
        return folders[""]  # the data set is not needed any more
    _render_synthetic(config)
    dataset = readers.read(config.data, root)
    specs = {kind: kinds.build(config, dataset, kind) for kind in folders}  # before any work
    for kind, folder in folders.items():
        _prepare(config, dataset, kind, specs[kind], folder)
    for quirk in dataset.quirks:
        print(f"note: {quirk}", file=sys.stderr)
    return folders[""]


def _prepare(
    config: Config, dataset: RawDataset, kind: str, spec: FeatureSpec, folder: Path
) -> None:
    """Make the shards of one feature kind in `folder`."""
    identity = identity_of(config, dataset, spec, kind)
    refuse_other(folder, identity)
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
    _drop_other_depth(folder, tasks)
    if _complete(folder, config, dataset):
        return
    if not config.data.skip_bad_videos:
        for video in dataset.videos:
            if not video.num_frames:
                raise UserError(video.problem)
    spec.check()
    with locked(folder, "wait for it, or choose another --config.data.shards"):
        refuse_other(folder, identity)  # again: now nobody else can have begun it since
        write_json(folder / EXTRACTION, identity)
        (folder / schema.MANIFEST).unlink(missing_ok=True)
        described, problems = _make_shards(config, folder, tasks, kind or "features")
        if problems and not config.data.skip_bad_videos:
            raise UserError(_bad_videos(problems))
        if not described:
            raise UserError(
                f"{schema.data_root(config)}: no video can be used; the first: "
                f"{_bad_videos(problems)}"
            )
        write_metadata(folder, dataset.name, tasks, described)
        manifest = manifest_of(config, dataset, identity, tasks, described, problems)
        write_json(folder / schema.MANIFEST, manifest)
    k = ", ".join(f"{name} {frames}" for name, frames in spec.k.items())
    print(f"{folder}: {len(described)} videos complete, {len(problems)} left out; k: {k} frames")


def _drop_other_depth(folder: Path, tasks: list[Task]) -> None:
    """Delete the shards of videos whose depth images have come or gone since they were made."""
    manifest = read_json(folder / schema.MANIFEST) or {"videos": []}
    made = {f"{v['subject']}/{v['name']}": v.get("depth") for v in manifest["videos"]}
    for task in tasks:
        before = made.get(task.video.id)
        if before is not None and before != depth_of(task.video) and task.path.exists():
            print(f"computing {task.video.id} anew: it has other depth images now", file=sys.stderr)
            task.path.unlink()


def _render_synthetic(config: Config) -> None:
    """Render the stand-in if no data set is given.  Raises UserError if another one is there."""
    wanted = config.data.synthetic
    if config.data.root or wanted is None:
        return
    if config.data.layout not in LAYOUTS:
        raise UserError(
            "--config.data.root is not given: set it to the folder of your videos (only "
            f"{', '.join(LAYOUTS)} can be rendered)"
        )
    root = Path(wanted.root)
    parameters = {"calm": False} | (read_json(root / SYNTHETIC_MARK) or {})
    numbers = config_lib.to_dict(config)["data"]["synthetic"] | {"root": None}
    numbers["layout"] = config.data.layout
    same = all(parameters.get(key) == value for key, value in numbers.items())
    if same and all((root / name).exists() for name in LAYOUTS[config.data.layout].workbooks):
        return
    generate(
        root,
        layout=config.data.layout,
        subjects=wanted.subjects,
        videos=wanted.videos,
        seconds=wanted.seconds,
        seed=wanted.seed,
        calm=wanted.calm,
        jobs=config.data.jobs,
    )


def _matches(folder: Path, config: Config, kind: str) -> bool:
    """Whether `folder` is complete for this configuration, as far as it can tell by itself."""
    manifest = read_json(folder / schema.MANIFEST)
    return (
        manifest is not None
        and manifest.get("features") == schema.feature_settings(config, kind)
        and manifest.get("data") == schema.read_settings(config)
    )


def _complete(folder: Path, config: Config, dataset: RawDataset | None = None) -> bool:
    """Whether nothing is left to do (for `dataset` as it is now); says so in one line."""
    manifest = read_json(folder / schema.MANIFEST)
    if manifest is None or (manifest["skipped"] and not config.data.skip_bad_videos):
        return False
    if dataset is not None and (
        manifest["data"] != schema.read_settings(config)
        or manifest["annotation_sha256"] != annotation_sha256(dataset)
    ):
        return False
    facts = {v.id: facts_of(v) for v in dataset.videos} if dataset else {}
    for video in manifest["videos"]:
        path = folder / video["shard"]
        if not path.is_file() or path.stat().st_size != video["bytes"]:
            return False
        now = facts.get(f"{video['subject']}/{video['name']}", {})
        if any(video[key] != value for key, value in now.items()):
            return False
    skipped = len(manifest["skipped"])
    again = f", {skipped} left out (delete {schema.MANIFEST} to try them again)" if skipped else ""
    print(f"{folder}: {len(manifest['videos'])} videos complete{again}: nothing to do")
    return True


def _make_shards(
    config: Config, folder: Path, tasks: list[Task], label: str
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Extract what is missing; returns the descriptions and the problems, by video id."""
    for path in folder.iterdir():
        if LEFTOVER.search(path.name):
            path.unlink()
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
    frames = sum(task.video.num_frames for task in missing)
    if missing:
        needed = frames * missing[0].spec.bytes_per_frame
        require_free_space(folder, needed, f"the features of {frames} frames")
        if described:
            print(f"{len(described)} videos are there already", file=sys.stderr)
        # The longest first: the last process to finish then has the least left to do.
        missing.sort(key=lambda task: -task.video.num_frames)
        workers.run(
            make_shard,
            missing,
            jobs=config.data.jobs,
            frames=frames,
            finished=finished,
            label=label,
            runner=config.data.runner,
        )
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
    """The description of a finished shard, with the labels of now.

    None if there is none, it is of other frames, or a byte of it is wrong.
    """
    if not task.path.is_file() or task.path.stat().st_size == 0:
        return None
    try:
        what = relabel(task)
        if what == "rewritten":
            print(f"{task.video.id}: labels rewritten", file=sys.stderr)
        if what != "other frames":
            return describe(task)
        reason = "it has other frames or events now"
    except UserError as error:
        reason = one_line(error)
    print(f"computing {task.video.id} anew: {reason}", file=sys.stderr)
    return None


def _bad_videos(problems: dict[str, str]) -> str:
    """One line that names the first bad video and counts the others."""
    name, reason = next(iter(problems.items()))
    others = f" ({len(problems) - 1} more bad videos are listed above)" if len(problems) > 1 else ""
    return (
        f"{name}: {reason}{others}; then run the same command again (the finished videos are "
        "kept), or leave bad videos out with --config.data.skip_bad_videos=true"
    )
