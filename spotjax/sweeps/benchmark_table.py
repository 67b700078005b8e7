"""The benchmark's table: a row per system and training-free method, as text, Markdown and CSV.

Every number comes from the counts of each subject under one rule, but for AP and chance, which the
evaluations have computed.  The picture is `benchmark_picture`.
"""

import csv
import io
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from spotjax.config import EXPRESSION_TYPES
from spotjax.counting import paired, run_counts
from spotjax.counting.run_counts import Scored

COLUMNS = (
    "name", "kind", "type", "runs", "f1", "f1_std", "f1_low", "f1_high", "precision", "recall",
    "ap", "chance_f1", "tp", "fp", "fn", "epoch_choice", "threshold_choice", "train_seconds",
    "folders",
)  # fmt: skip


class Score(NamedTuple):
    """Of one method and expression type, the mean over its runs."""

    f1: float
    std: float
    """Sample standard deviation over the runs, 0 for one."""
    low: float
    """Ends of the 95 % interval over subjects."""
    high: float
    counts: tuple[float, float, float]
    """tp, fp, fn, sums over the subjects."""
    precision: float
    recall: float
    ap: float
    chance: float
    """F1 of as many random intervals of the same lengths."""


class Row(NamedTuple):
    """A system or a training-free method."""

    name: str
    trained: bool
    runs: int
    scores: dict[str, Score]
    """By type; only those that it spots."""
    choices: tuple[str, str]
    """Of epoch and thresholds."""
    seconds: float | None
    """Training of one run; None without training."""
    folders: tuple[str, ...]


def row_of(
    name: str, members: Sequence[Scored], seconds: Sequence[float], draws: int, seed: int
) -> Row:
    """The row of one method from its runs; `seconds` of training of each, none for a method."""
    about = members[0].protocol
    scores = {}
    for type in run_counts.types_of(members):
        counts = run_counts.table(members, type, about["rule"], about["iou"], about["videos"])
        scores[type] = _score(counts, type, members, draws, seed)
    choices = (about["epoch_choice"], about.get("threshold_choice", "fixed"))
    return Row(
        name,
        bool(seconds),
        len(members),
        scores,
        choices if seconds else ("", ""),
        statistics.fmean(seconds) if seconds else None,
        tuple(dict.fromkeys(str(one.folder) for one in members)) if seconds else (),
    )


def _score(
    counts: np.ndarray, type: str, members: Sequence[Scored], draws: int, seed: int
) -> Score:
    each = paired.f1(counts.sum(axis=1))
    tp, fp, fn, _ = counts.sum(axis=1).mean(axis=0).tolist()
    low, high = paired.bootstrap(counts, draws, seed)

    def mean(table: str, key: str) -> float:
        return statistics.fmean(one.metrics[table][type][key] for one in members)

    return Score(
        f1=float(each.mean()),
        std=float(each.std(ddof=1)) if len(each) > 1 else 0.0,
        low=low,
        high=high,
        counts=(tp, fp, fn),
        precision=mean("results", "precision"),
        recall=mean("results", "recall"),
        ap=mean("results", "ap"),
        chance=mean("chance", "f1"),
    )


# --- as text --------------------------------------------------------------------------------------


def lines(rows: Sequence[Row], about: Sequence[str]) -> Iterator[str]:
    """The protocol, and the table on a terminal."""
    yield from about
    wide = max(len(row.name) for row in rows) + 2
    head = f"{'':<{wide}}"
    for type in EXPRESSION_TYPES:
        head += f"{f'{type} F1':>14}{'95 %':>13}{'TP/FP/FN':>16}{'chance':>8}"
    yield ""
    yield f"{head}{'overall':>14}{'train s':>9}"
    for row in rows:
        line = f"{row.name:<{wide}}"
        for type in EXPRESSION_TYPES:
            score = row.scores.get(type)
            line += f"{_mean(score):>14}{_span(score):>13}{_counts(score):>16}"
            line += f"{_ratio(score, 'chance'):>8}"
        line += f"{_mean(row.scores.get('overall')):>14}"
        yield f"{line}{'-' if row.seconds is None else f'{row.seconds:.0f}':>9}"


def markdown(rows: Sequence[Row], about: Sequence[str], picture: str, command: str) -> str:
    """The protocol, the table and the picture for a README."""
    heads = ["", *(f"{t} F1 | 95 % interval | TP / FP / FN | chance" for t in EXPRESSION_TYPES)]
    heads += ["overall F1", "training, s"]
    cells = " | ".join(heads).split(" | ")
    out = [f"![F1 of every system]({picture})", ""]
    out += ["|" + " | ".join(["", *cells[1:]]) + " |", "|" + "---|" * len(cells)]
    for row in rows:
        line = [row.name]
        for type in EXPRESSION_TYPES:
            score = row.scores.get(type)
            line += [f"**{_mean(score)}**" if score else "-", _span(score)]
            line += [_counts(score, " / "), _ratio(score, "chance")]
        seconds = "-" if row.seconds is None else f"{row.seconds:.0f}"
        out.append("| " + " | ".join([*line, _mean(row.scores.get("overall")), seconds]) + " |")
    return "\n".join([*out, "", f"`{command}`:", *about, ""])


def _mean(score: Score | None) -> str:
    if score is None:
        return "-"
    return f"{score.f1:.3f}" + (f" ±{score.std:.3f}" if score.std else "")


def _span(score: Score | None) -> str:
    return f"{score.low:.3f}-{score.high:.3f}" if score else "-"


def _counts(score: Score | None, joint: str = "/") -> str:
    return run_counts.joined(score.counts, joint) if score else "-"


def _ratio(score: Score | None, key: str) -> str:
    return f"{getattr(score, key):.3f}" if score else "-"


def about_rows(
    base: Scored, rows: Sequence[Row], title: str, cores: int, sides: Mapping[str, int]
) -> list[str]:
    """The protocol in lines; `sides` are the numbers of subjects, videos and annotations."""
    about = base.protocol
    expressions = " and ".join(f"{sides[type]} {type}-" for type in EXPRESSION_TYPES)
    videos = "every video counts" if about["videos"] == "all" else "only videos with the type count"
    seeds = max(row.runs for row in rows)
    return [
        f"{title}: {sides['subjects']} subjects (leave one out), {sides['videos']} videos, "
        f"{expressions}expressions.",
        f"Rule {about['rule']}, IoU >= {about['iou']:g}; {videos}; each is scored by the fold that "
        "never saw its subject.",
        *_choices(rows),
        "Intervals: 95 %, bootstrap over subjects. Chance: as many random intervals of the same "
        "lengths.",
        *(
            [f"Mean of {seeds} seeds, ± their standard deviation; counts are means."]
            if seeds > 1
            else []
        ),
        f"Training seconds are those of log.jsonl, one run, on what trained it ({cores} cores "
        "here).",
    ]


def _choices(rows: Sequence[Row]) -> Iterator[str]:
    """Which epoch and thresholds, systems with the same choices in one line."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.trained:
            found.setdefault(row.choices, []).append(row.name)
    words = {"last": "the last epoch", "validation": "the epoch best on validation subjects"}
    for (epoch, threshold), names in found.items():
        limits = "as configured" if threshold == "fixed" else "best on validation videos"
        yield f"{', '.join(names)}: {words.get(epoch, epoch)}, thresholds {limits}."


def to_csv(rows: Sequence[Row]) -> str:
    """A line per method and type."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        for type, score in row.scores.items():
            writer.writerow(_line(row, type, score))
    return buffer.getvalue()


def _line(row: Row, type: str, score: Score) -> dict[str, Any]:
    tp, fp, fn = score.counts
    return {
        "name": row.name,
        "kind": "system" if row.trained else "training-free",
        "type": type,
        "runs": row.runs,
        "f1": score.f1,
        "f1_std": score.std,
        "f1_low": score.low,
        "f1_high": score.high,
        "precision": score.precision,
        "recall": score.recall,
        "ap": score.ap,
        "chance_f1": score.chance,
        "tp": tp,
        "fp": fp,
        "fn": fn,
        "epoch_choice": row.choices[0],
        "threshold_choice": row.choices[1],
        "train_seconds": "" if row.seconds is None else round(row.seconds, 1),
        "folders": " ".join(row.folders),
    }
