"""The HTML report of an evaluation: one file that needs nothing else, not even a script.

`render` turns metrics.json, the videos' curves and intervals and the training log into a page.
Charts come from `pages.plots`, `plot_timeline` and `plot_matrix`; here are the tables, words and
style of the page.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
import numpy as np
from markupsafe import Markup

from spotjax.config.systems import TITLES
from spotjax.counting import headline
from spotjax.pages import plot_matrix, plot_timeline, plots
from spotjax.pages.report_page import PAGE, STYLE, meaning
from spotjax.pages.tracks import VideoReport

BASELINE_NAMES = {"strain_sum": "strain sum", "mdmd": "MDMD", "lbp_chi2": "LBP-χ²"}


def render(
    metrics: Mapping[str, Any],
    videos: Sequence[VideoReport],
    training: Sequence[Mapping[str, Any]],
    title: str,
) -> str:
    """The page as a string.  `training` has `{problem, epoch (from 1), loss {subject: mean}}`."""
    protocol = metrics.get("protocol", {})
    system = TITLES.get(protocol.get("system", ""), str(protocol.get("system", "network")))
    compared = _compared(metrics)
    methods = ({system: metrics["results"]} if metrics.get("results") else {}) | compared
    shown_types = headline.types_of(protocol)
    types = [type for type in shown_types if any(type in rows for rows in methods.values())]
    bootstrap = {type: _interval(metrics, type) for type in types}
    bars = plots.bars_with_intervals(
        types,
        {name: [_get(rows, type, "f1") for type in types] for name, rows in methods.items()},
        [bootstrap[type] for type in types],
    )
    subjects = metrics.get("subjects", {})
    order = list(dict.fromkeys([*subjects, *(video.subject for video in videos)]))
    shown = [
        {"name": name, "anchor": f"subject-{i}", "rows": subjects.get(name, {}),
         "videos": [_Figure.of(video) for video in videos if video.subject == name]}
        for i, name in enumerate(order)
    ]  # fmt: skip
    return _ENVIRONMENT.from_string(PAGE).render(
        title=title,
        style=Markup(plots.CSS + STYLE),
        swatch=lambda kind: Markup(plots.swatch(kind)),
        lead=_lead(protocol, system, len(videos)),
        oracles=headline.oracles(protocol),
        oracle=headline.ORACLE,
        system=system,
        types=types,
        methods=methods,
        bootstrap=bootstrap,
        bars=Markup(bars),
        reading=_reading(metrics, types, system),
        only=shown_types[0] if len(shown_types) == 1 else "",
        recognition=_recognition(metrics.get("recognition")),
        warnings=metrics.get("warnings", []),
        protocol=[
            _explain(protocol.get("system", ""), key, value)
            for key, value in protocol.items()
            if not _deep(value)
        ],
        configs={key: json.dumps(v, indent=2) for key, v in protocol.items() if _deep(v)},
        variants=metrics.get("variants", []),
        paper_rule=protocol.get("paper_rule"),
        decodings=headline.DECODINGS,
        beside=next(iter(metrics.get("baselines", {})), ""),
        baseline_names=BASELINE_NAMES,
        losses={name: Markup(chart) for name, chart in _losses(training).items()},
        subjects=shown,
        proposals=any(len(track.proposals) for video in videos for track in video.tracks),
    )


def _recognition(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The section on emotions: its numbers and two confusion matrices."""
    if values is None:
        return None
    rule = values["rule"]

    def chart(table: Sequence[Sequence[int]], label: str) -> Markup:
        return Markup(plot_matrix.confusion_matrix(np.asarray(table), values["classes"], label))

    return {
        **values,
        "spotted": values["analysis"][rule],
        "charts": {
            f"annotated micro-expressions ({values['samples']})": chart(
                values["ground_truth"]["confusion"], "confusion of annotated micro-expressions"
            ),
            f"spotted ones ({values['analysis'][rule]['analysed']}, rule {rule})": chart(
                values["analysis"][rule]["confusion"], "confusion of spotted micro-expressions"
            ),
        },
    }


def _compared(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The tables beside the system's: training-free methods and chance, by the names printed."""
    baselines = metrics.get("baselines", {})
    chance = {"chance": metrics["chance"]} if metrics.get("chance") else {}
    return {BASELINE_NAMES[name]: rows for name, rows in baselines.items()} | chance


class _Figure(NamedTuple):
    name: str
    caption: str
    chart: Markup

    @classmethod
    def of(cls, video: VideoReport) -> "_Figure":
        """The timeline of one video and a line that sums it up."""
        frames, missing = len(video.frame_ids), int(np.sum(video.missing_face))
        words = [f"{frames} frames, {video.fps:g} frames/s, {frames / video.fps:.1f} s"]
        for track in video.tracks:
            found = sum(truth.found for truth in track.truths)
            wrong = sum(not spotted.hit for spotted in track.spotted)
            words.append(f"{track.type} {found} of {len(track.truths)} found, {wrong} false")
        if missing:
            words.append(f"no face in {missing} frames ({missing / frames:.1%})")
        return cls(video.name, " · ".join(words), Markup(plot_timeline.timeline(video)))


def _lead(protocol: Mapping[str, Any], system: str, shown: int) -> str:
    parts = [system]
    if "data_set" in protocol:
        parts.append(f"on {protocol['data_set']}")
    subjects = protocol.get("subjects")
    if subjects is not None:
        count = subjects if isinstance(subjects, int | str) else len(subjects)
        how = "none seen in training" if "trained_on" in protocol else "each held out once"
        parts.append(f"· {count} subjects, {how}")
    parts.append(f"· {protocol.get('num_videos', shown)} videos")
    return " ".join(parts)


def _reading(metrics: Mapping[str, Any], types: Sequence[str], system: str) -> list[str]:
    """How to read the numbers, in sentences that follow from them."""
    sentences, unsure = [], []
    for type in types:
        tp, fp, fn = (_get(metrics.get("results", {}), type, key) for key in ("tp", "fp", "fn"))
        if type != "overall" and fn >= 1:
            gain = 2 * (tp + 1) / (2 * tp + fp + fn + 1) - _get(metrics["results"], type, "f1")
            sentences.append(
                f"{type}: {tp + fn:g} annotated expressions; finding one more of them would have "
                f"moved F1 by {gain:+.3f}."
            )
        pair = _interval(metrics, type)
        for name, rows in _compared(metrics).items():
            if pair is not None and _get(rows, type, "f1") >= pair[0]:
                unsure.append(f"{type} ({name})")
    if unsure:
        sentences.append(
            f"Not separated: the 95 % interval of {system} does not lie above the comparison for "
            f"{', '.join(unsure)}."
        )
    return sentences


def _losses(training: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """A chart per problem."""
    charts = {}
    losses = [record for record in training if record.get("loss")]
    for problem in dict.fromkeys(record["problem"] for record in losses):
        records = [record for record in losses if record["problem"] == problem]
        epochs = max(int(record["epoch"]) for record in records)
        folds: dict[str, np.ndarray] = {}
        for record in records:
            for subject, loss in record["loss"].items():
                curve = folds.setdefault(str(subject), np.full(epochs, np.nan))
                curve[int(record["epoch"]) - 1] = math.nan if loss is None else loss
        charts[str(problem)] = plots.loss_curves(folds, f"Training loss, {problem}")
    return charts


def _get(rows: Mapping[str, Any], type: str, key: str) -> float:
    value = rows.get(type, {}).get(key)
    return math.nan if value is None else float(value)


def _interval(metrics: Mapping[str, Any], type: str) -> tuple[float, float] | None:
    """The bootstrap interval of F1, None where it is missing or holds a null."""
    pair = metrics.get("bootstrap", {}).get(type) or (None, None)
    low, high = (math.nan if value is None else float(value) for value in pair)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def _deep(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(v, Mapping) for v in value.values())


def _explain(system: str, key: str, value: Any) -> tuple[str, str, str]:
    """Label, value and meaning of one entry of the protocol."""
    if isinstance(value, Mapping):
        text = ", ".join(f"{name} {item}" for name, item in value.items())
    elif isinstance(value, list | tuple):
        text = ", ".join(str(item) for item in value)
    else:
        text = "none" if value is None else str(value)
    return key.replace("_", " "), text, meaning(system, key, text)


def _ratio(value: Any, digits: int = 3) -> str:
    known = isinstance(value, int | float) and math.isfinite(value)
    return f"{value:.{digits}f}" if known else "–"


def _count(value: Any) -> str:
    return _ratio(value, 1 if isinstance(value, float) and not value.is_integer() else 0)


_ENVIRONMENT = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
_ENVIRONMENT.filters.update(ratio=_ratio, count=_count)
