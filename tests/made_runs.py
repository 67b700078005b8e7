"""Run directories that need no training: invented intervals with the files of an evaluation."""

import json
from pathlib import Path
from typing import Any

from spotjax import config as config_lib
from spotjax import files
from spotjax.cli import load_config
from spotjax.counting import run_counts
from spotjax.export import csv_text

TRUTHS = (
    ("s1", "a", "macro", 10, 30), ("s1", "a", "micro", 50, 58), ("s2", "a", "macro", 10, 30),
    ("s2", "b", "micro", 40, 49), ("s3", "a", "macro", 60, 80), ("s3", "a", "micro", 20, 28),
)  # fmt: skip
VIDEOS = (("s1", "a", 100), ("s2", "a", 100), ("s2", "b", 90), ("s3", "a", 100))


def write_run(
    folder: Path,
    found: Any = TRUTHS,
    file: str = "configs/demo.py",
    overrides: tuple[str, ...] = (),
    truths: Any = TRUTHS,
    videos: Any = VIDEOS,
    log: Any = (),
    **protocol: Any,
) -> Path:
    """A run of `file` that spotted `found`: (subject, video, type, onset, offset) each."""
    folder.mkdir(parents=True)
    config = load_config(file, overrides)
    heads = ["subject", "video", "type", "onset", "apex", "offset"]
    rows = [(s, v, t, a, (a + b) // 2, b) for s, v, t, a, b in found]
    scored = [[*heads, "score"], *([*row, f"{0.9 - n / 100:.6f}"] for n, row in enumerate(rows))]
    true = [[*heads, "emotion"], *([s, v, t, a, "", b, ""] for s, v, t, a, b in truths)]
    files.write_text(folder / "intervals.csv", csv_text(scored))
    files.write_text(folder / "truths.csv", csv_text(true))
    files.write_text(folder / "videos.csv", csv_text([["subject", "video", "frames"], *videos]))
    saved = {"config": config_lib.to_dict(config), "data_hash": "x", "shards": "s"}
    files.write_json(folder / "config.json", saved)
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    about = {
        "name": config.name, "system": config.system.name, "data_set": "invented",
        "types": list(getattr(config.system, "types", ("macro", "micro"))), "rule": "one_to_one",
        "iou": config.evaluation.iou, "videos": "all", "epoch_choice": "last",
        "threshold_choice": config.evaluation.threshold_choice, "seed": config.train.seed,
        "config": config_lib.to_dict(config),
    }  # fmt: skip
    if config.system.name == "mesnet":
        about["types"] = ["micro"]
    about |= protocol
    empty = {"protocol": about, "results": {"overall": {"f1": 0.0}}}
    files.write_json(folder / "metrics.json", empty)
    scored_run = run_counts.read(folder)
    by_type = run_counts.counts(scored_run, about["rule"], about["iou"])
    sums = {t: sum(row.values(), start=run_counts.Counts()) for t, row in by_type.items()}
    results = {type: {**value.as_dict(), "ap": 0.25} for type, value in sums.items()}
    results.setdefault("overall", {"f1": 0.0})
    chance = {type: {"f1": 0.05} for type in results}
    subjects = {
        s: {type: row[s].as_dict() for type, row in by_type.items()}
        for s in dict.fromkeys(scored_run.subjects.values())
    }
    metrics = {"protocol": about, "results": results, "chance": chance, "subjects": subjects}
    files.write_json(folder / "metrics.json", metrics)
    return folder
