"""One page on one's own video: what was found, to look at; a file that needs nothing else.

No script, no network: pictures and charts are part of the file, and its Content-Security-Policy
forbids to load anything.  The words stand in `page_text`, the charts in `charts`.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jinja2
from markupsafe import Markup

from spotjax import files
from spotjax.config import Cnn3d, SfamnetFeatures, Softnet, Spotformer
from spotjax.config.systems import TITLES
from spotjax.own import charts, movie, pictures
from spotjax.own.charts import clock
from spotjax.own.page_text import FLOWS, LOOKED, PAGE, STYLE
from spotjax.own.run import Result
from spotjax.pages import plots, report_page
from spotjax.papers import published
from spotjax.spotting import Spotting
from spotjax.types import Detection
from spotjax.writers import clean

OPTICAL = "features O"
"""SFAMNet's rows by optical flow alone, which is what a plain video gives."""
ORIGINS = 3
"""Files that weights were made of that are named; the others are counted."""


def write(out: Path, stem: str, source: Any, result: Result, video: bool = False) -> list[Path]:
    """Write `<stem>.html` and, with `video`, `<stem>.spot.mp4` or `.avi`; return the paths.

    `source` (of `data_prep.source`) is what was spotted in; it is read once more for the pictures
    and once for the video.  Raises UserError if it cannot be, OSError if the disk refuses.
    """
    page = out / f"{stem}.html"
    files.write_text(page, render(result, pictures.of(source, result), source.repeatable))
    paths = [page]
    if video:
        paths.append(movie.write(out / f"{stem}.spot.mp4", source, result))
    return paths


def render(
    result: Result, taken: Mapping[Detection, pictures.Pictures], repeatable: bool = True
) -> str:
    """The page as a string.  `taken` has the pictures; without `repeatable` there are none."""
    spotting = result.spotting
    system = TITLES.get(spotting.system, spotting.system)
    rows = [
        _row(spotting, number, d, taken.get(d)) for number, d in enumerate(spotting.detections, 1)
    ]
    shown = _published(spotting)
    single = len(charts.spans(spotting.length_s)) == 1
    notes = list(_notes(spotting, taken, repeatable, result.fitted.system.classes))
    text = _ENVIRONMENT.from_string(PAGE).render(
        title=f"Facial expressions in {spotting.video}",
        style=Markup(plots.CSS + report_page.STYLE + charts.CSS + STYLE),
        swatch=lambda kind: Markup(plots.swatch(kind)),
        counts=_counts(spotting),
        lead=_lead(spotting),
        warnings=list(dict.fromkeys(spotting.warnings)),
        system=f"{system} (spotjax {spotting.provenance.get('version', '')})",
        has_pictures=bool(taken),
        types=list(spotting.scores),
        overview="" if single else Markup(charts.overview(spotting)),
        charts=[Markup(chart) for chart in charts.rows(spotting)],
        rows=rows,
        notes=notes,
        emotions=any(d.emotion for d in spotting.detections),
        looked=any(picture.heat or picture.shares for picture in taken.values()),
        nothing=_nothing(spotting),
        trust=_trust(spotting, system, bool(shown)),
        published=shown,
        counted=any(item["right"] for item in shown),
        paper=_title(spotting.system),
        settings=[*_about_video(spotting, result), *_about_weights(spotting, result),
                  *_about_method(spotting, result)],
        provenance=json.dumps(spotting.provenance, indent=2, ensure_ascii=False, default=str),
    )  # fmt: skip
    return clean(text)


# --- what was found -------------------------------------------------------------------------------


def _counts(spotting: Spotting) -> str:
    """`2 macro-expressions and 1 micro-expression are suggested.`"""
    words = []
    for type in spotting.scores:
        count = sum(d.type == type for d in spotting.detections)
        words.append(f"{count or 'no'} {type}-expression{'' if count == 1 else 's'}")
    return f"Suggested: {' and '.join(words)}."


def _lead(spotting: Spotting) -> str:
    rate = f"{spotting.fps:.4g} frames/s"
    if spotting.variable_rate:
        rate += " on average, unevenly"
    return f"{clock(spotting.length_s)} · {len(spotting.times)} frames · {rate}"


def _row(
    spotting: Spotting, number: int, d: Detection, taken: pictures.Pictures | None
) -> dict[str, Any]:
    times = {
        "onset": (spotting.onset_s(d), d.onset),
        "apex": (spotting.apex_s(d), d.apex),
        "offset": (spotting.offset_s(d), d.offset),
    }
    found: dict[str, Any] = {
        name: {"time": clock(seconds), "frame": frame} for name, (seconds, frame) in times.items()
    }
    found |= {
        "number": number,
        "type": d.type,
        "duration": f"{spotting.offset_s(d) - spotting.onset_s(d):.2f} s",
        "score": f"{d.score:.3f}",
        "emotion": d.emotion,
    }
    if taken is not None:
        found["pictures"] = {
            name: _data(data) for name, data in taken._asdict().items() if isinstance(data, bytes)
        }
        if taken.shares is not None:
            found["chart"] = Markup(charts.attention(*taken.shares))
    return found


def _data(jpeg: bytes) -> str:
    """A picture as a link that holds it; empty if there is none."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode() if jpeg else ""


def _notes(
    spotting: Spotting,
    taken: Mapping[Detection, pictures.Pictures],
    repeatable: bool,
    classes: tuple[str, ...],
) -> Iterator[str]:
    """What the table is, in sentences."""
    yield "Times are minutes and seconds; an offset is the end of its frame, frames count from 0."
    if classes:
        yield (
            "The emotion is the class that the network was taught for such a motion, which need "
            "not be what the person feels."
        )
    if not repeatable:
        yield "There are no pictures: a camera or a pipe can be read only once."
    elif spotting.system in LOOKED:
        yield f"Looked at: {LOOKED[spotting.system]}"
    if repeatable and len(taken) < len(set(spotting.detections)):
        yield f"Only the {len(taken)} that rank highest have pictures."


def _nothing(spotting: Spotting) -> str:
    """Why the table is empty."""
    if not spotting.face.any():
        return "there is no face in this video"
    if not any((score == score).any() for score in spotting.scores.values()):
        return "no frame has a score"
    return "no course of the score was that of an expression"


# --- how far to trust it --------------------------------------------------------------------------


def _trust(spotting: Spotting, system: str, shown: bool) -> str:
    rendered = any("rendered" in warning for warning in spotting.warnings)
    first = (
        "These weights were trained on rendered faces, to show how the program works: what they "
        "find in a video of a person may be anything. "
        if rendered
        else ""
    )
    if not shown:
        return f"{first}No figures are published for {system} on videos like these."
    return (
        f"{first}Nobody knows how much of this list is right: this video has no annotation. For "
        f"comparison, what the paper on {system} reports for its own weights on videos from a "
        "laboratory, of people whom the network had not seen:"
    )


def _published(spotting: Spotting) -> list[dict[str, str]]:
    """Printed figures of the system by data set and type, with their place in the paper."""
    printed = published.SYSTEMS.get(spotting.system)
    if printed is None:
        return []
    found = []
    for record in published.records():
        fits = (
            record.paper == printed.paper
            and record.system in printed.rows
            and record.table in printed.found
            and record.metric == "F1"
            and record.type in spotting.scores
        )
        if fits and (spotting.system != "sfamnet" or record.variant == OPTICAL):
            value = record.value if record.corrected is None else record.corrected
            counts = record.counts
            right = hit = ""
            if counts is not None and counts.fp is not None:
                right = f"{counts.tp} of {counts.tp + counts.fp}"
                hit = f"{counts.found} of {counts.found + counts.fn}"
            data_sets = published.papers()[record.paper].data_sets
            found.append(
                {
                    "data_set": data_sets[record.data_set],
                    "type": str(record.type),
                    "f1": f"{value:.3f}",
                    "right": right,
                    "hit": hit,
                    "source": f"table {record.table}"
                    + (f", {record.variant}" if record.variant else ""),
                }
            )
    return found


def _title(system: str) -> str:
    printed = published.SYSTEMS.get(system)
    return published.papers()[printed.paper].title if printed else ""


# --- settings -------------------------------------------------------------------------------------


def _about_video(spotting: Spotting, result: Result) -> Iterator[tuple[str, str]]:
    yield "video", f"{spotting.video}, {_lead(spotting)}"
    missing = int((spotting.face == 0).sum())
    number = spotting.provenance.get("face", 1)
    which = "the largest one" if number == 1 else f"number {number} by size"
    gone = f"; not there in {missing} frames" if missing else ""
    yield "face", f"{which} when it was first seen{gone}"
    yield (
        "rows",
        f"{result.rate:.4g} times a second the features were computed, from "
        + ("every frame" if result.rate == spotting.fps else "the frame that was seen then"),
    )


def _about_weights(spotting: Spotting, result: Result) -> Iterator[tuple[str, str]]:
    made = spotting.provenance
    yield "weights", str(made.get("weights", "unknown"))
    yield "SHA-256", f"{str(made.get('sha256', ''))[:12]}…"
    folds = {p: len(jax.tree.leaves(tree)[0]) for p, tree in result.fitted.variables.items()}
    if max(folds.values(), default=1) > 1:
        each = ", ".join(f"{count} ({problem})" for problem, count in folds.items())
        yield "averaged over", f"trained folds: {each}"
    names = [str(name) for name, _ in made.get("origins", ())]
    if names:
        more = f" and {len(names) - ORIGINS} more" if len(names) > ORIGINS else ""
        yield "made of", ", ".join(names[:ORIGINS]) + more


def _about_method(spotting: Spotting, result: Result) -> Iterator[tuple[str, str]]:
    made = spotting.provenance
    name, title = TITLES.get(spotting.system, spotting.system), _title(spotting.system)
    yield "system", title if title.startswith(name) else f"{name}: {title}"
    if made.get("flow", "none") != "none":
        yield "optical flow", FLOWS.get(made["flow"], made["flow"])
    yield from _looks_at(result).items()
    limits = {t: f"{t} {value:.3f}" for t, value in spotting.thresholds.items() if value == value}
    if limits:
        yield "thresholds", ", ".join(limits.values()) + ": least score of a peak"
    for key, value in made.get("decoding", {}).items():
        meaning = report_page.meaning(spotting.system, key, value)
        yield key.replace("_", " "), f"{value}" + (f": {meaning}" if meaning else "")
    libraries = ", ".join(f"{name} {number}" for name, number in made.get("libraries", {}).items())
    yield "program", f"spotjax {made.get('version', '')}" + (f"; {libraries}" if libraries else "")
    yield "made on", f"{spotting.date:%Y-%m-%d %H:%M} {spotting.date.tzname() or ''}".rstrip()


def _looks_at(result: Result) -> dict[str, str]:
    """How far apart the frames are that are compared, in rows and in seconds."""
    fitted, features = result.fitted, result.fitted.config.features
    system: Any = fitted.config.system

    def span(rows: int) -> str:
        return f"{rows} row{'' if rows == 1 else 's'} ({rows / result.rate:.2f} s)"

    if isinstance(system, Softnet):
        each = ", ".join(f"{type} {span(fitted.k[type])}" for type in system.types)
        return {"k": f"{each} between the two frames that are compared"}
    if isinstance(features, SfamnetFeatures):
        rows = max(1, round(features.seconds * result.rate))
        return {"k": f"{span(rows)} between the two frames that are compared"}
    if isinstance(system, Spotformer):
        return {"clip": f"{span(system.window)}, the motion in which is judged at its middle"}
    if isinstance(system, Cnn3d):
        each = f"near {span(system.k_micro)}, far {span(system.k_macro)}"
        return {"k": f"{each} from the frame to those it is compared with"}
    return {}


_ENVIRONMENT = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
