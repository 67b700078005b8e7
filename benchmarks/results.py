"""What `python -m benchmarks` writes: a page of tables and a picture of the ratios."""

import statistics
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from benchmarks import common
from benchmarks.stages import Line, Stage
from spotjax.pages import svg

STYLE = """text { font: 13px sans-serif; fill: #222 } .end { text-anchor: end }
.mid { text-anchor: middle; fill: #666 } .bar { fill: #4878a8 } .short { fill: #c8843c }
.grid { stroke: #ddd } .goal { stroke: #222; stroke-width: 2 }"""
SHORT = "A short run: it shows that all works, its figures say little."
LEFT, BARS, ROW, TOP = 430, 420, 26, 40


class Ratio(NamedTuple):
    """One line of the summary."""

    stage: str
    label: str
    ours: float
    """Median of the benchmark's unit."""
    other: float
    unit: str
    ratio: float
    goal: float | None


def command(stage: Stage, figures: Mapping[str, Any], quick: bool) -> str:
    """The line that repeats one benchmark."""
    pinned = "taskset -c 0 " if stage.cores == 1 and not figures["accelerator"] else ""
    words = (stage.arguments, stage.quick if quick else "", "--rounds 1" if quick else "")
    return " ".join([f"{pinned}python -m benchmarks.{stage.module}", *filter(None, words)])


def ratios_of(stage: Stage, found: Mapping[str, Any]) -> tuple[list[Ratio], list[str]]:
    """The ratios of a benchmark's figures, and the lines whose variants it lacks."""
    lines = stage.lines
    if lines is None:
        names = [name for name in found["variants"] if name != found["reference"]]
        lines = tuple(Line(f"{stage.name}, {name}", found["reference"], name) for name in names)
    ratios, missing = [], []
    for line in lines:
        clock = "wall" if found["accelerator"] else line.clock  # a device's work is no CPU time
        values = found["variants"] if clock == "cpu" else found["wall"]
        if line.ours not in values or line.other not in values:
            missing.append(
                f"{line.label}: not measured" + f", needs {stage.needs}" * bool(stage.needs)
            )
            continue
        ours, other = values[line.ours], values[line.other]
        unit = found["unit"].replace("CPU", "wall", 1) if clock == "wall" else found["unit"]
        middle = (statistics.median(ours), statistics.median(other))
        ratios.append(
            Ratio(stage.name, line.label, *middle, unit, common.ratio(other, ours), line.goal)
        )
    return ratios, missing


def page(
    stages: Sequence[Stage],
    found: Mapping[str, Any],
    failed: Mapping[str, str],
    quick: bool,
    lines: Sequence[str],
) -> str:
    """Markdown: all ratios, then every benchmark with its variants, notes and command."""
    machine: str = next(iter(found.values()))["machine"] if found else common.machine()
    versions: dict[str, str] = {}
    for figures in found.values():
        versions |= figures["versions"]
    out = [
        "# Benchmarks",
        "",
        "Made by " + ", then ".join(f"`{given}`" for given in lines) + "." + f" {SHORT}" * quick,
        "",
        f"{machine.split(' of ')[-1]}; one core where a command begins with taskset; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ".",
        "",
        "Every round runs all variants in turn. Times are medians of the rounds, CPU time of the "
        "process unless the unit says wall; the ratio is the median of the ratios within a round, "
        "how many times as long the other takes.",
        "",
        "![ratios](benchmarks.svg)",
        "",
        "| compared with | ours | theirs | unit | ratio | goal | command |",
        "|---|---|---|---|---|---|---|",
    ]
    absent: list[str] = []
    for stage in stages:
        if stage.name not in found:
            continue
        ratios, missing = ratios_of(stage, found[stage.name])
        absent += missing
        line = command(stage, found[stage.name], quick)
        for r in ratios:
            goal = "" if r.goal is None else f"{r.goal:g}"
            out.append(
                f"| {r.label} | {common.significant(r.ours)} | {common.significant(r.other)} "
                f"| {r.unit} | **{r.ratio:.2f}** | {goal} | `{line}` |"
            )
    out += ["", *(f"* {what}" for what in absent)]
    out += [f"* {name}: {why}" for name, why in failed.items()]
    for stage in stages:
        if stage.name in found:
            out += ["", *section(stage, found[stage.name], quick)]
    return "\n".join(out) + "\n"


def section(stage: Stage, figures: Mapping[str, Any], quick: bool) -> list[str]:
    """One benchmark: command, formulations, all variants, notes."""
    columns = figures["columns"]
    heads = [figures["unit"], "min", "max", "wall", f"x of {figures['reference']}", *columns]
    out = [f"## {stage.name}", "", f"`{command(stage, figures, quick)}`", ""]
    out += [stage.about, ""] if stage.about else []
    out += ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name, values in figures["variants"].items():
        cells = [
            *(common.significant(f(values)) for f in (statistics.median, min, max)),
            common.significant(statistics.median(figures["wall"][name])),
            f"{figures['ratios'][name]:.2f}",
            *(cells.get(name, "") for cells in columns.values()),
        ]
        out.append(f"| {name} | " + " | ".join(cells) + " |")
    notes = figures["notes"]
    return out + (["", "```", *notes, "```"] if notes else [])


def picture(ratios: Sequence[Ratio]) -> str:
    """An SVG file with a bar for each ratio and a mark at its goal.

    A bar that ends before its goal has another colour.
    """
    most = max([1.0, *(max(r.ratio, r.goal or 0) for r in ratios)])
    scale, height = BARS / most, TOP + ROW * len(ratios)
    parts = [f"<style>{STYLE}</style>", svg.text(LEFT, 14, "times as fast; | the goal")]
    for tick in svg.ticks_of(0, most, 8):
        x = LEFT + scale * tick
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP - 6}V{height}"/>')
        parts.append(svg.text(x, TOP - 10, f"{tick:g}", "mid"))
    for number, r in enumerate(ratios):
        y = TOP + ROW * number
        short = r.goal is not None and r.ratio < r.goal
        parts += [
            svg.text(LEFT - 8, y + 16, r.label, "end"),
            f'<rect class="{"short" if short else "bar"}" x="{LEFT}" y="{y + 4}" '
            f'width="{scale * r.ratio:.1f}" height="{ROW - 8}">'
            f"<title>{escape(r.label)}</title></rect>",
            svg.text(LEFT + scale * max(r.ratio, r.goal or 0) + 6, y + 16, f"{r.ratio:.2f}"),
        ]
        if r.goal is not None:
            x = LEFT + scale * r.goal
            parts.append(f'<path class="goal" d="M{x:.1f} {y + 1}v{ROW - 2}"/>')
    drawn = svg.svg(
        LEFT + BARS + 60, height + 6, "times as fast as what it is compared with", parts
    )
    return drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"
