"""Figures of a run's results: precision and recall, overlaps, subjects, emotions (NumPy only)."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from spotjax.counting import metrics
from spotjax.counting.matching import VideoResult, rank, take_best_free
from spotjax.decoding.intervals import iou_matrix
from spotjax.pages import plot_matrix
from spotjax.pages.figure_data import Figure, Source, epochs_of
from spotjax.pages.svg import path, svg, text, ticks_of

STYLES = {"macro": "s0", "micro": "s3"}
BINS = 20
"""Of the histogram of overlaps."""


def figures(source: Source) -> Iterator[Figure]:
    """All that the files of the run give."""
    types, results = source.scored.types, source.scored.results
    iou, rule = source.config.evaluation.iou, source.config.evaluation.rule
    scores = f"Scores of {epochs_of(source)}; all held-out subjects together."
    curves = {t: precision_recall(list(results[t].values()), iou) for t in types}
    yield Figure(
        "precision_recall",
        "Precision and recall",
        f"The spotted intervals by falling score, one-to-one at IoU ≥ {iou:g}; the dot is the "
        f"result with all of them. What lies below the threshold was not spotted, so the curves "
        f"end there. Grey: equal F1. {scores}",
        precision_recall_chart(curves),
    )
    overlaps = {t: best_overlaps(list(results[t].values()), rule, iou) for t in types}
    yield Figure(
        "iou",
        "Overlap of the spotted intervals",
        f"IoU of each spotted interval with the annotated one of its type that it fits best; in "
        f"colour what is a true positive under the rule {rule}; the line is the least IoU "
        f"({iou:g}). {scores}",
        overlap_chart(overlaps, iou),
    )
    subjects = source.metrics.get("subjects", {})
    if subjects:
        yield Figure(
            "subjects",
            "F1 of each subject",
            f"Each by the fold that never saw the subject; rule {rule}; scores of "
            f"{epochs_of(source)}.",
            subjects_chart(subjects, types),
        )
    if recognised := source.metrics.get("recognition"):
        yield from confusions(recognised, epochs_of(source))


def confusions(recognised: Mapping[str, Any], epochs: str) -> Iterator[Figure]:
    """The two confusion matrices of the emotions."""
    rule = recognised["rule"]
    spotted = recognised["analysis"][rule]
    for name, title, values, count in (
        ("confusion_annotated", "annotated", recognised["ground_truth"], recognised["samples"]),
        ("confusion_spotted", f"spotted (rule {rule})", spotted, spotted["analysed"]),
    ):
        label = f"Emotions of {title} micro-expressions"
        chart = plot_matrix.confusion_matrix(
            np.asarray(values["confusion"]), recognised["classes"], label
        )
        words = f"{count} of them, each by the fold that never saw the subject; scores of {epochs}."
        yield Figure(name, label, words, chart)


# --- precision and recall -------------------------------------------------------------------------


def precision_recall(results: Sequence[VideoResult], iou: float) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision f64[n] after each of n predictions by falling score, one to one.

    Equal scores: in the order of the videos.
    """
    gains, scores, truths = [np.zeros(0, bool)], [np.zeros(0)], 0
    for result in results:
        order = rank(result)
        columns = np.lexsort((result.truths[:, 1], result.truths[:, 0]))
        overlaps = iou_matrix(result.predictions[order], result.truths[columns])
        gains.append(np.asarray(take_best_free(overlaps, iou).any(axis=1)))
        scores.append(result.scores[order])
        truths += len(columns)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    hits = np.cumsum(np.concatenate(gains)[order])
    return hits / max(truths, 1), hits / np.arange(1, len(hits) + 1)


def precision_recall_chart(curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """Precision over recall, a line per type; `curves` has both, recall first, f64[n] each."""
    side, left, top = 340, 46, 14

    def x_of(recall: np.ndarray | float) -> np.ndarray:
        return np.asarray(left + np.asarray(recall) * side)

    def y_of(precision: np.ndarray | float) -> np.ndarray:
        return np.asarray(top + (1 - np.asarray(precision)) * side)

    out = []
    for tick in ticks_of(0, 1, 5):
        x, y = float(x_of(tick)), float(y_of(tick))
        out.append(f'<path class="grid" d="M{left} {y:.1f}h{side}M{x:.1f} {top}v{side}"/>')
        out.append(text(left - 6, y + 4, f"{tick:g}", "end"))
        out.append(text(x, top + side + 15, f"{tick:g}", "mid"))
    for level in (0.2, 0.4, 0.6, 0.8):
        recall = np.linspace(level / (2 - level), 1, 60)
        lines = path(x_of(recall), y_of(level * recall / (2 * recall - level)))
        out.append(f'<path class="fold" d="{lines}"/>')
        out.append(text(left + side + 4, float(y_of(level / (2 - level))) + 4, f"F1 {level:g}"))
    for number, (type, (recall, precision)) in enumerate(curves.items()):
        if len(recall):
            line = path(x_of(recall), y_of(precision))
            out.append(f'<path class="line {STYLES[type]}" d="{line}"/>')
            end = float(recall[-1]), float(precision[-1])
            tip = f"{type}: recall {end[0]:.3f}, precision {end[1]:.3f}"
            out.append(
                f'<circle class="{STYLES[type]}" cx="{float(x_of(end[0])):.1f}" '
                f'cy="{float(y_of(end[1])):.1f}" r="4.5"><title>{tip}</title></circle>'
            )
        y = top + side + 46
        out.append(f'<rect class="{STYLES[type]}" x="{left + 90 * number}" y="{y - 9}" '
                   'width="10" height="10"/>')  # fmt: skip
        out.append(text(left + 15 + 90 * number, y, type))
    out.append(text(left + side / 2, top + side + 30, "recall", "mid"))
    out.append(text(2, top - 3, "precision"))
    return svg(left + side + 50, top + side + 54, "Precision over recall", out)


# --- overlaps -------------------------------------------------------------------------------------


def best_overlaps(
    results: Sequence[VideoResult], rule: str, iou: float
) -> tuple[np.ndarray, np.ndarray]:
    """Best IoU f64[n] of each prediction with a truth of its video, and bool[n]: it counts."""
    best, counts = [np.zeros(0)], [np.zeros(0, bool)]
    for result in results:
        overlaps = iou_matrix(result.predictions, result.truths)
        best.append(overlaps.max(axis=1, initial=0.0))
        counts.append(metrics.matched(result, rule, iou) >= 0)
    return np.concatenate(best), np.concatenate(counts)


def overlap_chart(overlaps: Mapping[str, tuple[np.ndarray, np.ndarray]], iou: float) -> str:
    """A histogram per type, what counts in colour on what does not.

    `overlaps` has by type the IoU f64[n] of each interval and whether it counts, bool[n].
    """
    width, height, left, gap = 330, 150, 40, 60
    out = []
    for number, (type, (values, counted)) in enumerate(overlaps.items()):
        x0 = left + number * (width + gap)
        bins = np.minimum((values * BINS + 1e-9).astype(int), BINS - 1)
        hits = np.bincount(bins[counted], minlength=BINS)
        rest = np.bincount(bins[~counted], minlength=BINS)
        most = max(1, int((hits + rest).max(initial=0)))
        out.append(text(x0, 12, f"{type}: {len(values)} spotted, {int(counted.sum())} count",
                        "strong"))  # fmt: skip
        for tick in ticks_of(0, most, 4):
            y = 24 + height * (1 - tick / most)
            out.append(f'<path class="grid" d="M{x0} {y:.1f}h{width}"/>')
            out.append(text(x0 - 6, y + 4, f"{tick:g}", "end"))
        for place in range(BINS):
            y = 24.0 + height
            span = f"IoU {place / BINS:.2f} to {(place + 1) / BINS:.2f}"
            for style, count, what in (
                (STYLES[type], hits[place], "true positives"),
                ("s2", rest[place], "not counted"),
            ):
                tall = height * int(count) / most
                y -= tall
                if count:
                    out.append(
                        f'<rect class="{style}" x="{x0 + place * width / BINS + 1:.1f}" '
                        f'y="{y:.1f}" width="{width / BINS - 2:.1f}" height="{tall:.1f}">'
                        f"<title>{span}: {int(count)} {what}</title></rect>"
                    )
        x = x0 + iou * width
        out.append(f'<path class="level" d="M{x:.1f} 24v{height}"/>')
        for tick in ticks_of(0, 1, 5):
            out.append(text(x0 + tick * width, height + 39, f"{tick:g}", "mid"))
        out.append(f'<path class="axis" d="M{x0} {24 + height}h{width}"/>')
        out.append(text(x0 + width / 2, height + 54, "IoU", "mid"))
    size = left + len(overlaps) * (width + gap) - gap + 10
    return svg(size, height + 62, "Overlap of spotted intervals", out)


# --- subjects -------------------------------------------------------------------------------------


def subjects_chart(
    subjects: Mapping[str, Mapping[str, Mapping[str, float]]], types: Sequence[str]
) -> str:
    """A bar per subject and type; a subject without truths and findings of it has none."""
    width, left, lane = 460, 90, 11
    block = lane * len(types) + 8
    bottom = 26 + block * len(subjects)
    out = []
    for tick in ticks_of(0, 1, 5):
        x = left + tick * width
        out.append(f'<path class="grid" d="M{x:.1f} 22V{bottom}"/>')
        out.append(text(x, 16, f"{tick:g}", "mid"))
    for place, (subject, rows) in enumerate(subjects.items()):
        top = 26 + place * block
        out.append(text(left - 8, top + block / 2, subject, "end"))
        for number, type in enumerate(types):
            row = rows[type]
            if not row["tp"] + row["fp"] + row["fn"]:
                continue
            counts = " / ".join(f"{row[key]:g}" for key in ("tp", "fp", "fn"))
            tip = escape(f"{subject}, {type}: F1 {row['f1']:.3f}, TP / FP / FN {counts}")
            y = top + number * lane
            out.append(
                f'<rect class="{STYLES[type]}" x="{left}" y="{y:.1f}" '
                f'width="{max(row["f1"] * width, 1):.1f}" height="{lane - 2}">'
                f"<title>{tip}</title></rect>"
            )
            out.append(text(left + max(row["f1"], 0) * width + 6, y + 9, counts))
    for number, type in enumerate(types):
        x = left + 90 * number
        out.append(f'<rect class="{STYLES[type]}" x="{x}" y="{bottom + 10}" width="10" '
                   'height="10"/>')  # fmt: skip
        out.append(text(x + 15, bottom + 19, type))
    out.append(text(left + 90 * len(types), bottom + 19, "numbers: TP / FP / FN"))
    return svg(left + width + 90, bottom + 28, "F1 of each subject", out)
