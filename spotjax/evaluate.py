"""`python -m spotjax.evaluate --workdir RUN`: score held-out subjects from a run's checkpoints.

Every video is scored by the fold that never saw its subject.  Writes `metrics.json`,
`intervals.csv`, `truths.csv`, `videos.csv`, `curves.npz` and `report.html` into the run directory.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spotjax import emotions, evaluation, export, files, protocol, report, rundir
from spotjax.baselines import BASELINES
from spotjax.cli import override, parse, parser
from spotjax.config import EXPRESSION_TYPES, Config
from spotjax.curves import Curves, chosen_curves, decode_video, write_curves
from spotjax.data import plans, schema, shards
from spotjax.errors import UserError, command
from spotjax.matching import RULES
from spotjax.recognition import class_of
from spotjax.systems import build
from spotjax.tracks import Spotted, Track, Truth, VideoReport
from spotjax.types import Dataset, Detection, System, Video

ORACLE = " (chosen on the test subjects: not a result, only for comparison with such papers)"


def evaluate_run(
    workdir: Path, config: Config, dataset: Dataset, folder: Path, command_line: str
) -> Any:
    """Score, decode, count and write all results; returns the content of metrics.json.

    `folder` holds the shards of `dataset`; those of the baselines lie beside it.
    """
    system = build(config.system, dict(dataset.k))
    sources = baseline_sets(workdir, config, dataset, system, folder)
    curves, epochs = chosen_curves(workdir, config, dataset, system)
    subjects = plans.chosen_subjects(dataset, config.train.folds)
    videos = [video for video in dataset.videos if video.subject in subjects]
    options = config.evaluation

    found, drawn = {}, {}
    for video in videos:
        found[video.id], drawn[video.id] = decode_video(system, dataset, video, curves)
    free = {
        name: spot_baseline(name, source, config, videos, system.types)
        for name, source in sources.items()
    }
    per_subject = evaluation.by_subject(videos, found, options)
    metrics = {
        "protocol": protocol.describe(config, dataset, system, videos, command_line)
        | ({"chosen_epochs": epochs} if epochs else {}),
        "results": evaluation.table(videos, found, options),
        "baselines": {
            name: evaluation.table(videos, detections, options) for name, detections in free.items()
        },
        "chance": evaluation.chance(videos, found, options, config.train.seed),
        "bootstrap": evaluation.bootstrap(per_subject, options.bootstrap, config.train.seed),
        "variants": variants(config, system, dataset, videos, curves, free),
        **_recognition(config, system, videos, found, curves),
        "subjects": evaluation.as_json(per_subject),
        "warnings": protocol.warnings(config, dataset, system, videos, found),
    }
    in_classes = _in_classes(videos, system)
    files.write_json(workdir / "metrics.json", metrics)
    files.write_text(
        workdir / "intervals.csv", export.intervals_csv(videos, found, bool(system.classes))
    )
    files.write_text(workdir / "truths.csv", export.truths_csv(in_classes))
    files.write_text(workdir / "videos.csv", export.videos_csv(videos))
    write_curves(workdir / "curves.npz", curves)
    taken = evaluation.matches(videos, found, options)
    pages = [video_report(dataset, v, found[v.id], drawn[v.id], taken) for v in in_classes]
    page = report.render(metrics, pages, rundir.Log(workdir).read(), f"spotjax: {config.name}")
    files.write_text(workdir / "report.html", page)
    return metrics


def _recognition(
    config: Config,
    system: System,
    videos: Sequence[Video],
    found: dict[str, list[Detection]],
    curves: Curves,
) -> dict[str, Any]:
    """`recognition` of metrics.json, for a system that recognises emotions."""
    if not system.classes:
        return {}
    events = {k: v for problem in system.problems for k, v in curves[f"{problem}_events"].items()}
    table = emotions.results(videos, found, events, system.classes, config.evaluation)
    return {"recognition": table}


def _in_classes(videos: Sequence[Video], system: System) -> list[Video]:
    """`videos` with their emotions as the classes that the system recognises."""
    if not system.classes:
        return list(videos)
    names = system.classes[:-1]
    own = (*names, "")
    return [
        video._replace(
            intervals=tuple(
                i._replace(emotion=own[class_of(i.emotion, names)]) if i.type == "micro" else i
                for i in video.intervals
            )
        )
        for video in videos
    ]


def baseline_sets(
    workdir: Path, config: Config, dataset: Dataset, system: System, folder: Path
) -> dict[str, Dataset]:
    """The data set that each baseline of the config reads: the system's or its own shards.

    Raises UserError if features are missing, or were made of other videos or labels.
    """
    sets: dict[str, Dataset] = {}
    for name in config.baselines.names:
        source, place = dataset, folder
        if schema.has_own_shards(config, name):
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
    name: str,
    source: Dataset,
    config: Config,
    videos: Sequence[Video],
    types: Sequence[str],
) -> dict[str, list[Detection]]:
    """A training-free method's detections by video id."""
    spot = BASELINES[name]
    return {video.id: spot(source, video, types, config) for video in videos}


def variants(
    config: Config,
    system: System,
    dataset: Dataset,
    videos: Sequence[Video],
    curves: Curves,
    free: dict[str, dict[str, list[Detection]]],
) -> list[dict[str, Any]]:
    """The same scores under each matching rule and each way of decoding of `system.variants`."""
    rows = []
    for options in system.variants:
        found = {v.id: decode_video(system, dataset, v, curves, **options)[0] for v in videos}
        current = all(system.about[key] == value for key, value in options.items())
        for rule in RULES:
            rows.append(
                {
                    "rule": rule,
                    "decoding": ", ".join(f"{key} {value}" for key, value in options.items()),
                    "headline": current and rule == config.evaluation.rule,
                    "results": evaluation.counts(videos, found, config.evaluation, rule),
                    "baselines": {
                        name: evaluation.counts(videos, detections, config.evaluation, rule)
                        for name, detections in free.items()
                    },
                }
            )
    return rows


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
            Spotted(d.onset, d.apex, d.offset, d.score, truth >= 0, d.emotion)
            for d, truth in zip(mine, truth_of, strict=True)
        ]
        annotated = [
            Truth(i.onset, i.apex, i.offset, number in truth_of, i.emotion)
            for number, i in enumerate(truths)
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
        f"epoch {about['epoch_choice']}{ORACLE if about['epoch_choice'] == 'oracle' else ''}"
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
    if recognised := metrics.get("recognition"):
        print_recognition(about["system"], recognised)
    print(f"report: {workdir / 'report.html'}")


def print_recognition(system: str, recognised: Any) -> None:
    """UF1, UAR and STRS on the terminal."""
    print(f"{'emotions of micro':<26}{'UF1':>7}{'UAR':>8}{'n':>6}")
    for name, key in ((system, "ground_truth"), ("majority class", "majority")):
        row = recognised[key]
        label = f"annotated, {name}"
        print(f"{label:<26}{row['uf1']:>7.4f}{row['uar']:>8.4f}{recognised['samples']:>6}")
    row = recognised["analysis"][recognised["rule"]]
    label = f"spotted, {system}"
    print(
        f"{label:<26}{row['uf1']:>7.4f}{row['uar']:>8.4f}{row['analysed']:>6}   analysis F1 "
        f"{row['analysis_f1']:.4f}, STRS {row['strs']:.4f} (rule {recognised['rule']})"
    )


if __name__ == "__main__":
    sys.exit(main())
