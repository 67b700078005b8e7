"""`python -m spotjax.evaluate --workdir RUN`: score held-out subjects from a run's checkpoints.

Every video is scored by the fold that never saw its subject.  Writes `metrics.json`,
`intervals.csv`, `truths.csv`, `videos.csv`, `curves.npz` and `report.html` into the run directory.
"""

import io
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from spotjax import (
    checkpoints,
    evaluation,
    export,
    files,
    folds,
    protocol,
    report,
    rundir,
    scoring,
    training,
)
from spotjax.baselines import BASELINES
from spotjax.cli import override, parse, parser
from spotjax.config import EXPRESSION_TYPES, Config
from spotjax.data import plans, schema, shards
from spotjax.errors import UserError, command
from spotjax.matching import RULES
from spotjax.systems import build
from spotjax.tracks import Spotted, Track, Truth, VideoReport
from spotjax.types import Dataset, Detection, System, Video

Curves = dict[str, dict[str, np.ndarray]]
"""Score curves f32[T] by problem and video id."""


def score_run(workdir: Path, config: Config, dataset: Dataset, system: System) -> Curves:
    """Score curves of all held-out subjects from the newest checkpoints of the run."""
    subjects = plans.chosen_subjects(dataset, config.train.folds)
    frames = sum(v.num_frames for v in dataset.videos if v.subject in subjects)
    mesh = folds.make_mesh(1)
    curves = {}
    for problem in system.problems:
        with checkpoints.Checkpoints(workdir, problem, read_only=True) as store:
            tree, meta = store.restore()
        if meta["epochs"] < config.train.epochs:
            raise UserError(
                f"{workdir}: {problem} is trained for {meta['epochs']} of {config.train.epochs} "
                "epochs: run spotjax.train again, it goes on from there"
            )
        streams = training.put_streams(system, problem, dataset.streams, mesh)
        with tqdm(total=frames, desc=f"score {problem}", unit="frame", disable=None) as bar:
            curves[problem] = scoring.score_problem(
                system, problem, dataset, subjects, tree["variables"], streams, bar.update
            )
    return curves


def evaluate_run(
    workdir: Path, config: Config, dataset: Dataset, folder: Path, command_line: str
) -> Any:
    """Score, decode, count and write all results; returns the content of metrics.json.

    `folder` holds the shards of `dataset`; those of the baselines lie beside it.
    """
    system = build(config.system, dict(dataset.k))
    sources = baseline_sets(workdir, config, dataset, folder)
    curves = score_run(workdir, config, dataset, system)
    subjects = plans.chosen_subjects(dataset, config.train.folds)
    videos = [video for video in dataset.videos if video.subject in subjects]
    options = config.evaluation

    found, drawn = {}, {}
    for video in videos:
        found[video.id], drawn[video.id] = decode_video(system, dataset, video, curves)
    per_subject = evaluation.by_subject(videos, found, options)
    metrics = {
        "protocol": protocol.describe(config, dataset, videos, command_line),
        "results": evaluation.table(videos, found, options),
        "baselines": {
            name: evaluation.table(videos, spot_baseline(name, source, config, videos), options)
            for name, source in sources.items()
        },
        "chance": evaluation.chance(videos, found, options, config.train.seed),
        "bootstrap": evaluation.bootstrap(per_subject, options.bootstrap, config.train.seed),
        "variants": variants(config, system, dataset, videos, curves, sources),
        "subjects": evaluation.as_json(per_subject),
        "warnings": protocol.warnings(config, dataset, found),
    }
    files.write_json(workdir / "metrics.json", metrics)
    files.write_text(workdir / "intervals.csv", export.intervals_csv(videos, found))
    files.write_text(workdir / "truths.csv", export.truths_csv(videos))
    files.write_text(workdir / "videos.csv", export.videos_csv(videos))
    write_curves(workdir / "curves.npz", curves)
    taken = evaluation.matches(videos, found, options)
    pages = [video_report(dataset, v, found[v.id], drawn[v.id], taken) for v in videos]
    page = report.render(metrics, pages, rundir.Log(workdir).read(), f"spotjax: {config.name}")
    files.write_text(workdir / "report.html", page)
    return metrics


def decode_video(
    system: System, dataset: Dataset, video: Video, curves: Curves, **overrides: Any
) -> tuple[list[Detection], Any]:
    """Detections and drawn curves of one video; `overrides` replace decoding options."""
    scores = {problem: curves[problem][video.id] for problem in system.problems}
    valid = {p: dataset.streams[f"valid_{p}"][video.rows] > 0 for p in system.problems}
    return system.decode(scores, valid, **overrides)


def baseline_sets(
    workdir: Path, config: Config, dataset: Dataset, folder: Path
) -> dict[str, Dataset]:
    """The data set that each baseline of the config reads: the system's or its own shards.

    Raises UserError if features are missing, or were made of other videos or labels.
    """
    sets: dict[str, Dataset] = {}
    for name in config.baselines.names:
        source, place = dataset, folder
        if name in schema.BASELINE_FEATURES:
            place = schema.shards_folder(config, name)
            if not place.is_absolute() and not place.exists():
                place = folder.parent / place.name
            if not shards.complete(place):
                raise UserError(
                    f"{place}: the features of the baseline {name} are not there: make them with "
                    f"python -m data_prep --config {workdir / 'config.json'} "
                    f"--config.baselines.names={name}, or leave it out of baselines.names"
                )
            source = shards.load(place, config, name)
        wanted = [f"{s}{type}" for s in BASELINES[name].streams for type in config.system.types]
        if missing := [stream for stream in wanted if stream not in source.streams]:
            raise UserError(
                f"{place}: has no stream {missing[0]}, which the baseline {name} reads: leave it "
                "out of --config.baselines.names"
            )
        if _labels(source) != _labels(dataset):
            raise UserError(
                f"{place}: was made of other videos or labels than {folder}: delete it and run "
                "data_prep again"
            )
        sets[name] = source
    return sets


def _labels(dataset: Dataset) -> list[Any]:
    return [(video.id, video.num_frames, video.intervals) for video in dataset.videos]


def spot_baseline(
    name: str, source: Dataset, config: Config, videos: Sequence[Video]
) -> dict[str, list[Detection]]:
    """A training-free method's detections by video id."""
    spot = BASELINES[name].spot
    return {video.id: spot(source, video, config.system.types, config) for video in videos}


def variants(
    config: Config,
    system: System,
    dataset: Dataset,
    videos: Sequence[Video],
    curves: Curves,
    sources: dict[str, Dataset],
) -> list[dict[str, Any]]:
    """The same scores under each matching rule and each placement of the interval."""
    rows = []
    for interval in ("published", "centred"):
        found = {
            v.id: decode_video(system, dataset, v, curves, interval=interval)[0] for v in videos
        }
        moved = override(config, [f"system.interval={interval}"])
        free = {n: spot_baseline(n, source, moved, videos) for n, source in sources.items()}
        for rule in RULES:
            chosen = (config.system.interval, config.evaluation.rule)
            rows.append(
                {
                    "rule": rule,
                    "interval": interval,
                    "headline": (interval, rule) == chosen,
                    "results": evaluation.counts(videos, found, config.evaluation, rule),
                    "baselines": {
                        name: evaluation.counts(videos, detections, config.evaluation, rule)
                        for name, detections in free.items()
                    },
                }
            )
    return rows


def write_curves(path: Path, curves: Curves) -> None:
    """Raw score curves as `<type>/<subject>/<video>` f32[T], NaN where a row has no score."""
    arrays = {
        f"{p}/{video}": curve for p, group in curves.items() for video, curve in group.items()
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    files.write_bytes(path, buffer.getvalue())


def video_report(
    dataset: Dataset, video: Video, found: list[Detection], drawn: Any, taken: Any
) -> VideoReport:
    """One video for the report: curves, truths and detections with their outcome."""
    tracks = []
    for type, curve in drawn.items():
        truths = [i for i in video.intervals if i.type == type]
        mine = [d for d in found if d.type == type]
        truth_of = taken[video.id, type].tolist()
        spotted = [
            Spotted(d.onset, d.apex, d.offset, d.score, truth >= 0)
            for d, truth in zip(mine, truth_of, strict=True)
        ]
        annotated = [
            Truth(i.onset, i.apex, i.offset, number in truth_of) for number, i in enumerate(truths)
        ]
        tracks.append(
            Track(type, curve.score, curve.threshold, curve.peaks, tuple(annotated), tuple(spotted))
        )
    face = dataset.streams["face"][video.rows] > 0
    return VideoReport(video.subject, video.name, video.fps, video.frame_ids, tuple(tracks), ~face)


@command
def main(argv: list[str]) -> int:
    """Command line."""
    arguments = parser(
        "python -m spotjax.evaluate",
        "Evaluate a trained run from its checkpoints.  Decoding and evaluation keys may be\n"
        "overridden, for example --config.system.p=0.6 --config.evaluation.videos=annotated_only",
    )
    arguments.add_argument("--workdir", required=True, help="run directory of spotjax.train")
    options, overrides = parse(arguments, argv)
    workdir = Path(options.workdir)
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax tells what we say in one line
    saved, data_hash, folder = rundir.load_run(workdir)
    config = override(saved, overrides)
    difference = rundir.first_difference(saved, config)
    if difference:
        key, old, new = difference
        raise UserError(
            f"{key}={new!r} would need training again (the run has {old!r}): train it with "
            "spotjax.train in another --workdir"
        )
    if config.data.shards != saved.data.shards:
        folder = schema.shards_folder(config)
    with files.locked(workdir, "wait for it"):
        dataset = shards.load(folder, config)
        if dataset.manifest["hash"] != data_hash:
            raise UserError(
                f"{workdir}: was trained on other features or labels than {folder} holds now: "
                "train again with spotjax.train in another --workdir"
            )
        line = " ".join(["python -m spotjax.evaluate", *argv])
        metrics = evaluate_run(workdir, config, dataset, folder, line)
    print_results(workdir, metrics)
    return 0


def print_results(workdir: Path, metrics: Any) -> None:
    """The headline on the terminal."""
    about = metrics["protocol"]
    print(
        f"\n{about['system']} on {about['data_set']}: {about['subjects']} LOSO folds, "
        f"{about['num_videos']} videos, rule {about['rule']}, IoU >= {about['iou']}, "
        f"interval {about['interval']}, epoch {about['epoch_choice']}"
    )
    print(f"{'':<20}{'F1':>7}{'prec.':>8}{'recall':>8}{'AP':>8}{'TP':>8}{'FP':>8}{'FN':>8}")
    for type in (*EXPRESSION_TYPES, "overall"):
        rows = {about["system"]: metrics["results"], **metrics["baselines"]}
        for name, results in (rows | {"chance": metrics["chance"]}).items():
            row = results[type]
            label = f"{type} {name}"
            digits = 1 if name == "chance" else 0
            print(
                f"{label:<20}{row['f1']:>7.4f}{row['precision']:>8.4f}{row['recall']:>8.4f}"
                f"{row['ap']:>8.4f}" + "".join(f"{row[n]:>8.{digits}f}" for n in ("tp", "fp", "fn"))
            )
    print(f"report: {workdir / 'report.html'}")


if __name__ == "__main__":
    sys.exit(main())
