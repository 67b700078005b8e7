"""`python -m spotjax.score --pred P.csv --gt G.csv`: score anybody's intervals by every rule.

Needs two tables and no run, no data set, no JAX: published predictions, challenge submissions
and the `intervals.csv` of a run are compared under the rules of the field.
"""

import argparse
import platform
import sys
import textwrap
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spotjax import files
from spotjax.config import EXPRESSION_TYPES
from spotjax.counting import interval_files, metrics, recognition
from spotjax.counting.interval_files import IntervalRow
from spotjax.counting.matching import RULES, Counts
from spotjax.counting.recognition import (
    CLASSES,
    NEUTRAL,
    RECOGNITION_RULES,
    Analysis,
    EmotionResult,
)
from spotjax.counting.score_inputs import Case, Cases, Inputs, cases_of, load, nearest
from spotjax.errors import UserError, command


class Scored(NamedTuple):
    """All numbers."""

    counts: dict[str, dict[str, Counts]]
    """By rule and type, "overall" last."""
    areas: dict[str, float]
    """One-to-one AP by type; empty without scores or without that rule."""
    classes: tuple[str, ...]
    """Emotions; empty without them."""
    analyses: dict[str, Analysis]
    """Recognition of micro-expressions by rule."""


def score(inputs: Inputs, cases: Cases, rules: Sequence[str], iou: float) -> Scored:
    """Counts, AP and recognition under `rules`.  Raises UserError for a wrong emotion."""
    results = {type: [case.result for case in videos.values()] for type, videos in cases.items()}
    counts: dict[str, dict[str, Counts]] = {}
    for rule in rules:
        row = {type: metrics.count(found, rule, iou) for type, found in results.items()}
        counts[rule] = {**row, "overall": sum(row.values(), Counts())}
    areas = {}
    if inputs.predictions.has_scores and "one_to_one" in rules:
        areas = {type: metrics.average_precision(found) for type, found in results.items()}
        areas["overall"] = float(np.mean(list(areas.values())))
    classes: tuple[str, ...] = ()
    analyses = {}
    recognised = [rule for rule in rules if rule in RECOGNITION_RULES]
    if recognised and inputs.predictions.has_emotions and inputs.truths.has_emotions:
        classes = emotion_classes(inputs)
        labelled = emotion_results(cases["micro"], classes)
        for rule in recognised:
            analyses[rule] = recognition.spot_then_recognise(labelled, rule, len(classes), iou)
    return Scored(counts, areas, classes, analyses)


def emotion_classes(inputs: Inputs) -> tuple[str, ...]:
    """The classes that both files use.  Raises UserError for a missing or unknown emotion."""
    tables = (inputs.predictions, inputs.truths)
    for table in tables:
        interval_files.check_emotions(table)
    micro = [row for table in tables for row in table.rows if row.type == "micro"]
    for row in inputs.truths.rows:
        if row.type == "micro" and row.emotion == NEUTRAL:
            raise UserError(
                f"{inputs.truths.path}, line {row.line}: a truth is {NEUTRAL}, which only a "
                "prediction may be: correct the row"
            )
    try:
        return recognition.classes_of(row.emotion for row in micro)
    except ValueError as error:
        raise UserError(
            f"{tables[0].path} and {tables[1].path}: {error}: use the classes of one set (--help)"
        ) from None


def emotion_results(videos: dict[str, Case], classes: tuple[str, ...]) -> list[EmotionResult]:
    """The micro-expressions of each video with their emotions as indices."""
    index = {name: number for number, name in enumerate((*classes, NEUTRAL))}

    def labels(rows: Sequence[IntervalRow]) -> np.ndarray:
        return np.asarray([index[row.emotion] for row in rows], np.int64)

    return [
        EmotionResult(case.result, labels(case.predictions), labels(case.truths))
        for case in videos.values()
    ]


def as_table(counts: dict[str, dict[str, Counts]]) -> dict[str, dict[str, dict[str, float]]]:
    """`{rule: {type: {"tp", "fp", "fn", "precision", "recall", "f1"}}}`."""
    return {
        rule: {type: row.as_dict() for type, row in types.items()} for rule, types in counts.items()
    }


def protocol(inputs: Inputs, cases: Cases, options: argparse.Namespace) -> dict[str, Any]:
    """What was scored, in the words that every table repeats."""
    tables = {"predictions": inputs.predictions, "truths": inputs.truths}
    return {
        **{
            name: {
                "file": str(table.path),
                **{t: sum(row.type == t for row in table.rows) for t in EXPRESSION_TYPES},
            }
            for name, table in tables.items()
        },
        "videos": str(options.videos or options.gt),
        "num_videos": len(inputs.videos),
        "video_set": options.video_set,
        "scored_videos": {type: len(videos) for type, videos in cases.items()},
        "iou": options.iou,
        "epoch_choice": "unknown (external predictions)",
        "order": "by score" if inputs.predictions.has_scores else "by onset, as there is no score",
    }


def details(about: dict[str, Any], inputs: Inputs, cases: Cases, scored: Scored) -> dict[str, Any]:
    """Everything that stands behind the printed numbers, as JSON types."""
    packages = ("spotjax", "numpy")
    return {
        "protocol": about,
        "versions": {name: metadata.version(name) for name in packages}
        | {"python": platform.python_version()},
        "notes": list(inputs.notes),
        "rules": {rule: RULES[rule].text for rule in scored.counts},
        "results": as_table(scored.counts),
        "ap": scored.areas,
        "videos": {rule: by_video(cases, rule, about["iou"]) for rule in scored.counts},
        "matches": {rule: match_lines(cases, rule, about["iou"]) for rule in scored.counts},
        "recognition": {
            rule: recognition.as_dict(analysis, scored.classes)
            for rule, analysis in scored.analyses.items()
        },
    }


def by_video(cases: Cases, rule: str, iou: float) -> dict[str, dict[str, dict[str, int]]]:
    """`{video: {type: {"tp", "fp", "fn"}}}` of all videos that are scored."""
    videos: dict[str, dict[str, dict[str, int]]] = {}
    for type, of_type in cases.items():
        for video, case in of_type.items():
            counts = metrics.count([case.result], rule, iou)
            numbers = {"tp": counts.tp, "fp": counts.fp, "fn": counts.fn}
            videos.setdefault(video, {})[type] = numbers
    return videos


def match_lines(cases: Cases, rule: str, iou: float) -> list[dict[str, Any]]:
    """The lines of the truths that each prediction hits; predictions without a hit are left out."""
    rows = []
    for type, of_type in cases.items():
        for video, case in of_type.items():
            hits = RULES[rule].hits(case.result, iou)
            for number in np.flatnonzero(hits.any(axis=1)):
                rows.append(
                    {
                        "video": video,
                        "type": type,
                        "prediction_line": case.predictions[number].line,
                        "truth_lines": [case.truths[t].line for t in np.flatnonzero(hits[number])],
                    }
                )
    return rows


def print_results(about: dict[str, Any], scored: Scored) -> None:
    """The protocol and one table per rule."""
    for name in ("predictions", "truths"):
        row = about[name]
        split = ", ".join(f"{row[type]} {type}" for type in EXPRESSION_TYPES)
        print(f"{name:<13}{row['file']}: {sum(row[t] for t in EXPRESSION_TYPES)} ({split})")
    set_sizes = ", ".join(f"{number} {type}" for type, number in about["scored_videos"].items())
    print(
        f"{'videos':<13}{about['videos']}: {about['num_videos']}, set {about['video_set']} "
        f"({set_sizes})\n{'protocol':<13}IoU threshold {about['iou']:g}, predictions ranked "
        f"{about['order']}, epoch choice {about['epoch_choice']}"
    )
    for rule, types in scored.counts.items():
        areas = scored.areas if rule == "one_to_one" else {}
        print("\n" + textwrap.fill(f"{rule}: {RULES[rule].text} ({RULES[rule].source})", 98))
        heads = ("F1", "precision", "recall", *(["AP"] if areas else []), "TP", "FP", "FN")
        print(f"{'':<8}" + "".join(f"{head:>10}" for head in heads))
        for type, row in types.items():
            ratios = [row.f1, row.precision, row.recall, *([areas[type]] if areas else [])]
            print(
                f"{type:<8}"
                + "".join(f"{ratio:>10.4f}" for ratio in ratios)
                + "".join(f"{number:>10}" for number in row[:3])
            )
    for rule, analysis in scored.analyses.items():
        print_recognition(rule, analysis, scored.classes)


def print_recognition(rule: str, analysis: Analysis, classes: tuple[str, ...]) -> None:
    """Averages and confusion matrix of the spotted micro-expressions."""
    print(
        f"\nrecognition of {len(analysis.true)} spotted micro-expressions under {rule}: "
        f"UF1 {analysis.uf1:.4f}, UAR {analysis.uar:.4f},\nanalysis F1 {analysis.f1:.4f} x "
        f"spotting F1 {analysis.spotting.f1:.4f} = STRS {analysis.strs:.4f}"
    )
    print(f"{'true':<10}" + "".join(f"{name:>10}" for name in (*classes, NEUTRAL)))
    for name, row in zip(classes, analysis.table.tolist(), strict=True):
        print(f"{name:<10}" + "".join(f"{number:>10}" for number in row))


def help_text() -> str:
    """What the files look like and what each rule counts."""
    rules = "\n".join(
        textwrap.fill(
            f"{name}: {rule.text} ({rule.source})",
            96,
            initial_indent="  ",
            subsequent_indent="      ",
        )
        for name, rule in RULES.items()
    )
    return f"""predictions and ground truth: the header decides, columns in any order, comma,
semicolon or tab; onset and offset in frames, inclusive, numbered alike in both files.
  subject,video,type,onset,apex,offset,score     intervals.csv of spotjax.evaluate
  s15,s15_0101,macro,557,570,608,0.71
  video,type,onset,offset,score,emotion          score and emotion may be left out
  s15_0101,micro-expression,557,608,0.71,negative
  vid,pred_onset,pred_offset,type                submission to MEGC
  s15_0101,557,608,me
types: {", ".join(interval_files.TYPE_NAMES)}, in any case.
emotions: {", ".join(CLASSES[4])}; or
  {", ".join(CLASSES[7])}; {NEUTRAL} may be predicted.
  If both files have them, micro-expressions are recognised under {", ".join(RECOGNITION_RULES)}.
videos: all videos of the set, without which the false positives in videos without expressions
are lost.  Left out, the videos are those of the ground truth, which then may not be empty.
  video,frames
  s15_0101,2557
names of videos are compared as written; subject,video is the name subject/video.  Where only one
of two files has subjects, the plain name suffices if no two subjects share it.
odd rows that stay, with a note: rows that repeat an earlier one; truths with an onset and the
offset 0, the known mark of a missing offset, which nothing can match; intervals after the last
frame.  An empty table of predictions (only a header) is valid.

rules:
{rules}

--json writes {{rule: {{macro, micro, overall: {{tp, fp, fn, precision, recall, f1}}}}}}; --details
writes the protocol, versions, AP, counts per video, matches by line and recognition.
"""


def arguments(argv: list[str]) -> argparse.Namespace:
    """The options, checked.  Raises UserError."""
    parser = argparse.ArgumentParser(
        prog="python -m spotjax.score",
        description="Score predicted intervals against the ground truth by the rules of the field.",
        epilog=help_text(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--pred", type=Path, required=True, help="table of predictions")
    parser.add_argument("--gt", type=Path, required=True, help="table of the ground truth")
    parser.add_argument("--videos", type=Path, help="table of all videos of the set")
    parser.add_argument("--rule", default="one_to_one", help="rule, several a,b or all")
    parser.add_argument("--iou", type=float, default=0.5, help="IoU threshold (0.5)")
    parser.add_argument(
        "--video-set",
        choices=("all", "annotated_only"),
        default="all",
        help="annotated_only: per type, only videos with a truth (SOFTNet); default all (MEGC)",
    )
    parser.add_argument("--json", type=Path, help="write the counts and ratios there")
    parser.add_argument("--details", type=Path, help="write everything there")
    options = parser.parse_args(argv)
    if not 0 < options.iou <= 1:
        raise UserError(f"--iou {options.iou:g}: give a number above 0, at most 1")
    read = [path.resolve() for path in (options.pred, options.gt, options.videos) if path]
    for name in ("json", "details"):
        path = getattr(options, name)
        if path is not None and path.resolve() in read:
            raise UserError(f"--{name} {path}: would overwrite a table that is read: name another")
    if options.json and options.details and options.json.resolve() == options.details.resolve():
        raise UserError(f"--details {options.details}: is the file of --json: name another")
    return options


def chosen_rules(text: str) -> list[str]:
    """`all`, or names joined by commas, in the order of `RULES`.  Raises UserError."""
    names = list(RULES) if text == "all" else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in RULES:
            hint = nearest(name, [*RULES, "all"])
            raise UserError(f"--rule {text}: {name!r} is no rule: {hint} See --help")
    return [rule for rule in RULES if rule in names]


@command
def main(argv: list[str]) -> int:
    """Command line.  Raises UserError for a wrong option."""
    options = arguments(argv)
    rules = chosen_rules(options.rule)
    inputs = load(options.pred, options.gt, options.videos)
    for note in inputs.notes:
        print(f"note: {note}", file=sys.stderr)
    cases = cases_of(inputs, options.video_set)
    scored = score(inputs, cases, rules, options.iou)
    about = protocol(inputs, cases, options)
    if options.json:
        files.write_json(options.json, as_table(scored.counts))
    if options.details:
        files.write_json(options.details, details(about, inputs, cases, scored))
    print_results(about, scored)
    return 0


if __name__ == "__main__":
    sys.exit(main())
