"""What an evaluation did and what its reader must know: printed beside every table."""

from collections.abc import Iterator, Sequence
from typing import Any

from spotjax.baselines import strain_settings
from spotjax.config import EXPRESSION_TYPES, Config, to_dict
from spotjax.data import plans
from spotjax.loso import rundir
from spotjax.types import Dataset, Detection, System, Video


def describe(
    config: Config,
    dataset: Dataset,
    system: System,
    videos: Sequence[Video],
    command_line: str,
) -> dict[str, Any]:
    """What was done, in the words that every table repeats."""
    subjects = plans.chosen_subjects(dataset, config.train.folds)
    return {
        "name": config.name,
        "system": config.system.name,
        "types": list(system.types),
        "data_set": dataset.name,
        "held_out": "one subject at a time; its labels are never seen by its fold",
        "subjects": len(subjects),
        "videos": config.evaluation.videos,
        "num_videos": len(videos),
        "annotations": {
            type: sum(i.type == type for v in videos for i in v.intervals)
            for type in EXPRESSION_TYPES
        },
        "epoch_choice": _epoch_choice(config),
        "threshold_choice": config.evaluation.threshold_choice,
        "rule": config.evaluation.rule,
        "iou": config.evaluation.iou,
        **system.about,
        "k": dict(dataset.k),
        "k_source": dataset.manifest["k_source"],
        **_flow(config),
        "sample_every": config.data.sample_every,
        "baselines": list(config.baselines.names),
        **_control(config),
        "epochs": config.train.epochs,
        **({"updates": config.train.updates} if config.train.updates else {}),
        **({"start": config.train.start} if config.train.start else {}),
        **({"pretraining": _pretraining(config)} if system.before is not None else {}),
        **_kept_aside(config),
        "seed": config.train.seed,
        "skipped_videos": len(dataset.manifest["skipped"]),
        "data_hash": dataset.manifest["hash"],
        "versions": rundir.versions() | dataset.manifest["versions"],
        "command": command_line,
        "config": to_dict(config),
    }


def _flow(config: Config) -> dict[str, str]:
    """How the optical flow was computed, where there is any."""
    flow = getattr(config.features, "flow", None)
    method = flow.method if flow else getattr(config.features, "flow_method", "")
    return {"flow": method} if method else {}


def _control(config: Config) -> dict[str, str]:
    """How summed strain was decoded, where it is a baseline."""
    if "strain_sum" not in config.baselines.names:
        return {}
    settings = strain_settings(config)
    return {"strain_sum": f"interval {settings.interval}, smoothing {settings.smoothing}"}


def _epoch_choice(config: Config) -> str:
    """Which epoch's parameters are scored; a fold that is judged in training keeps the best."""
    choice = config.evaluation.epoch_choice
    return "validation" if choice == "last" and config.train.validate_every else choice


def _pretraining(config: Config) -> str:
    """How the stage before was trained, in words."""
    train = config.pretrain
    if train is None:
        return "none"
    text = f"at most {train.epochs} epochs"
    if not train.validate_every:
        return text + ", the last parameters"
    tried = f" and of {train.initialisations} initialisations" if train.initialisations > 1 else ""
    return text + f", the best of validation{tried}"


def _kept_aside(config: Config) -> dict[str, Any]:
    """What each fold does not train on beside its subject."""
    train = config.train
    if not train.validation:
        return {}
    count = f"{train.validation:.0%}" if train.validation < 1 else f"{train.validation}"
    return {"validation": f"{count} of the other {train.validation_of}, not trained on"}


def _without_features(dataset: Dataset, system: System, videos: Sequence[Video]) -> Iterator[str]:
    """Rows and events whose features are lacking although the face is there."""
    streams = dataset.streams
    if system.valid(system.problems[0]) == "valid_scene":
        flat = (streams["valid_optical"] > 0) & (streams["valid_scene"] == 0)
        rows = sum(int(flat[video.rows].sum()) for video in videos)
        if rows:
            yield f"{rows} pairs of frames have no depth; they are not scored"
    if not system.classes:
        return
    there = streams[plans.event_stream(system.valid(system.problems[0]))] > 0
    lacking = [
        f"{video.id} {video.frame_ids[i.onset]}"
        for video in videos
        for i, known in zip(video.intervals, there[video.events], strict=True)
        if i.type == "micro" and not known
    ]
    if lacking:
        yield (
            f"{len(lacking)} micro-expressions have no features from onset to apex (no apex after "
            f"the onset, no face or no depth): their emotion is neither learnt nor recognised: "
            f"{', '.join(lacking[:5])}{', ...' if len(lacking) > 5 else ''}"
        )
    if not any(i.emotion for v in videos for i in v.intervals if i.type == "micro"):
        yield "no micro-expression has an emotion: nothing is recognised"


def warnings(
    config: Config,
    dataset: Dataset,
    system: System,
    videos: Sequence[Video],
    found: dict[str, list[Detection]],
) -> list[str]:
    """What a reader of the numbers must know, in sentences."""
    notes = [f"{quirk}" for quirk in dataset.manifest["quirks"]]
    notes += [
        f"left out: {item['video']}: {item['reason']}" for item in dataset.manifest["skipped"]
    ]
    if config.data.sample_every > 1:
        notes.append(
            f"scored on the frames taken, one in {config.data.sample_every:g}: spotjax.score "
            "counts all frames of the same intervals, so that its IoU may differ a little"
        )
    if config.train.folds:
        notes.append(f"only the folds {', '.join(config.train.folds)} were trained and scored")
    for type in system.types:
        if not any(d.type == type for detections in found.values() for d in detections):
            notes.append(f"no {type}-expression was spotted in any video")
    notes += _without_features(dataset, system, videos)
    without = int(sum((dataset.streams["face"][v.rows] == 0).sum() for v in dataset.videos))
    if without:
        notes.append(f"{without} frames have no face; they are not scored")
    return notes
