"""From score curves to metrics.json, CSV files and the report of an evaluation.

Nothing is printed and no network is run here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spotjax import export, files, protocol
from spotjax.config import Config
from spotjax.counting import emotions, evaluation
from spotjax.counting.matching import RULES
from spotjax.counting.recognition import class_of
from spotjax.loso.curves import Curves, decode_video, write_curves
from spotjax.pages import report
from spotjax.pages.tracks import Spotted, Track, Truth, VideoReport
from spotjax.types import Dataset, Detection, System, Video


def write_results(
    folder: Path,
    config: Config,
    dataset: Dataset,
    system: System,
    videos: Sequence[Video],
    curves: Curves,
    decoding: Mapping[str, Mapping[str, Any]],
    free: dict[str, dict[str, list[Detection]]],
    about: dict[str, Any],
    log: Sequence[Mapping[str, Any]],
) -> Any:
    """Decode, count and write all results into `folder`; returns the content of metrics.json.

    `decoding` gives the options of each subject that differ from the config's, `free` what the
    training-free methods found, `about` the protocol, `log` the lines of the training.
    """
    options = config.evaluation
    found, drawn = {}, {}
    for video in videos:
        chosen = decoding[video.subject]
        found[video.id], drawn[video.id] = decode_video(system, dataset, video, curves, **chosen)
    per_subject = evaluation.by_subject(videos, found, options)
    metrics = {
        "protocol": about
        | ({"chosen_thresholds": dict(decoding)} if any(decoding.values()) else {}),
        "results": evaluation.table(videos, found, options),
        "baselines": {
            name: evaluation.table(videos, detections, options) for name, detections in free.items()
        },
        "chance": evaluation.chance(videos, found, options, config.train.seed),
        "bootstrap": evaluation.bootstrap(per_subject, options.bootstrap, config.train.seed),
        "variants": variants(config, system, dataset, videos, curves, decoding, free),
        **_recognition(config, system, videos, found, curves),
        "subjects": evaluation.as_json(per_subject),
        "warnings": protocol.warnings(config, dataset, system, videos, found),
    }
    in_classes = _in_classes(videos, system)
    files.write_json(folder / "metrics.json", metrics)
    files.write_text(
        folder / "intervals.csv", export.intervals_csv(videos, found, bool(system.classes))
    )
    files.write_text(folder / "truths.csv", export.truths_csv(in_classes))
    files.write_text(folder / "videos.csv", export.videos_csv(videos))
    write_curves(folder / "curves.npz", curves)
    taken = evaluation.matches(videos, found, options)
    pages = [video_report(dataset, v, found[v.id], drawn[v.id], taken) for v in in_classes]
    page = report.render(metrics, pages, log, f"spotjax: {config.name}")
    files.write_text(folder / "report.html", page)
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


def variants(
    config: Config,
    system: System,
    dataset: Dataset,
    videos: Sequence[Video],
    curves: Curves,
    decoding: Mapping[str, Mapping[str, Any]],
    free: dict[str, dict[str, list[Detection]]],
) -> list[dict[str, Any]]:
    """The same scores under each matching rule and each way of decoding of `system.variants`."""
    rows = []
    for options in system.variants:
        found = {
            v.id: decode_video(system, dataset, v, curves, **{**decoding[v.subject], **options})[0]
            for v in videos
        }
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
            Track(
                type,
                curve.score,
                curve.threshold,
                curve.peaks,
                tuple(annotated),
                tuple(spotted),
                curve.proposals,
            )
        )
    face = dataset.streams["face"][video.rows] > 0
    return VideoReport(video.subject, video.name, video.fps, video.frame_ids, tuple(tracks), ~face)
