"""What an evaluation did and what its reader must know: printed beside every table."""

from collections.abc import Sequence
from typing import Any

from spotjax import rundir
from spotjax.config import EXPRESSION_TYPES, Config, to_dict
from spotjax.data import plans
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
        "data_set": dataset.name,
        "held_out": "one subject at a time; its labels are never seen by its fold",
        "subjects": len(subjects),
        "videos": config.evaluation.videos,
        "num_videos": len(videos),
        "annotations": {
            type: sum(i.type == type for v in videos for i in v.intervals)
            for type in EXPRESSION_TYPES
        },
        "epoch_choice": config.evaluation.epoch_choice,
        "rule": config.evaluation.rule,
        "iou": config.evaluation.iou,
        **system.about,
        "k": dict(dataset.k),
        "k_source": dataset.manifest["k_source"],
        "flow": flow.method if (flow := getattr(config.features, "flow", None)) else "farneback",
        "sample_every": config.data.sample_every,
        "baselines": list(config.baselines.names),
        "epochs": config.train.epochs,
        "seed": config.train.seed,
        "skipped_videos": len(dataset.manifest["skipped"]),
        "data_hash": dataset.manifest["hash"],
        "versions": rundir.versions() | dataset.manifest["versions"],
        "command": command_line,
        "config": to_dict(config),
    }


def warnings(
    config: Config, dataset: Dataset, system: System, found: dict[str, list[Detection]]
) -> list[str]:
    """What a reader of the numbers must know, in sentences."""
    notes = [f"{quirk}" for quirk in dataset.manifest["quirks"]]
    notes += [
        f"left out: {item['video']}: {item['reason']}" for item in dataset.manifest["skipped"]
    ]
    if config.train.folds:
        notes.append(f"only the folds {', '.join(config.train.folds)} were trained and scored")
    for type in system.types:
        if not any(d.type == type for detections in found.values() for d in detections):
            notes.append(f"no {type}-expression was spotted in any video")
    without = int(sum((dataset.streams["face"][v.rows] == 0).sum() for v in dataset.videos))
    if without:
        notes.append(f"{without} frames have no face; they are not scored")
    return notes
