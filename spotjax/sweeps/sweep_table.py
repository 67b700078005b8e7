"""The table of a sweep: a row per configuration with its spread over seeds, its runs below.

A configuration of one run is that run's row.  Terminal and CSV; the page is `sweep_page`.
"""

import csv
import io
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from spotjax.counting import headline
from spotjax.papers import run_tables

COUNTS = ("tp", "fp", "fn")
COLUMNS = (
    "preset", "macro_f1", "macro_tp", "macro_fp", "macro_fn", "micro_f1", "micro_tp", "micro_fp",
    "micro_fn", "overall_f1", "uf1", "uar", "strs", "rule", "epoch_choice", "seed", "run",
)  # fmt: skip
"""Of a run."""
MEASURES = {
    "macro_f1": "macro F1", "micro_f1": "micro F1", "overall_f1": "overall", "uf1": "UF1",
    "uar": "UAR", "strs": "STRS",
}  # fmt: skip
"""Columns that are averaged over seeds, and their titles."""
SPREADS = tuple(f"{key}_{what}" for key in MEASURES for what in ("std", "min", "max"))
MORE = ("configuration", "runs", *SPREADS)
"""Columns behind those of a run: `runs` is how many a row is the mean of."""
_WHOLE = {f"{type}_{count}" for type in ("macro", "micro") for count in COUNTS} | {"seed"}
ORACLE = "oracle: chosen on the test subjects, no result"


class Spread(NamedTuple):
    """A measure over seeds; `std` is the sample standard deviation (n - 1), 0 for one seed."""

    mean: float
    std: float
    low: float
    high: float


class Configuration(NamedTuple):
    """What some runs, one per seed, have in common."""

    name: str
    label: str
    """As it stands in the table."""
    rows: list[dict[str, Any]]
    """`row_of` of every run, and the grid's keys."""

    @property
    def oracle(self) -> bool:
        """Whether something was chosen on the test subjects."""
        return any("oracle" in row["epoch_choice"] for row in self.rows)

    def spread(self, measure: str) -> Spread | None:
        """Of a measure over the runs; None unless all of them have it."""
        values = [row[measure] for row in self.rows]
        return spread(values) if values and "" not in values else None


def spread(values: Sequence[float]) -> Spread:
    """Mean, sample standard deviation, least and greatest.

    >>> spread([0.25, 0.5, 0.75])
    Spread(mean=0.5, std=0.25, low=0.25, high=0.75)
    """
    std = statistics.stdev(values) if len(values) > 1 else 0.0
    return Spread(statistics.fmean(values), std, min(values), max(values))


def row_of(preset: str, run: Path) -> dict[str, Any]:
    """One run's row, "" where it has no such value.  Raises UserError if it has no results."""
    metrics = run_tables.read_results(run)
    about, results = metrics["protocol"], metrics["results"]
    row: dict[str, Any] = dict.fromkeys(COLUMNS, "") | {"preset": preset, "run": str(run)}
    for type in headline.types_of(about):
        keys = ("f1",) if type == "overall" else ("f1", *COUNTS)
        row |= {f"{type}_{key}": results[type][key] for key in keys}
    if recognised := metrics.get("recognition"):
        row |= {key: recognised["ground_truth"][key] for key in ("uf1", "uar")}
        row["strs"] = recognised["analysis"][recognised["rule"]]["strs"]
    row |= {key: about[key] for key in ("rule", "epoch_choice", "seed")}
    if (thresholds := about.get("threshold_choice", "fixed")) != "fixed":
        row["epoch_choice"] += f", thresholds {thresholds}"
    return row


def types_of(configurations: Sequence[Configuration]) -> list[str]:
    """The expression types that any run has a result for."""
    rows = [row for one in configurations for row in one.rows]
    return [t for t in ("macro", "micro") if any(row[f"{t}_f1"] != "" for row in rows)]


def others_of(configurations: Sequence[Configuration]) -> list[str]:
    """The other measures that any run has."""
    rows = [row for one in configurations for row in one.rows]
    return [m for m in ("overall_f1", "uf1", "uar", "strs") if any(row[m] != "" for row in rows)]


# --- on the terminal ------------------------------------------------------------------------------


def lines(configurations: Sequence[Configuration]) -> Iterator[str]:
    """The table on a terminal."""
    several = any(len(one.rows) > 1 for one in configurations)
    types, others = types_of(configurations), others_of(configurations)
    wide = max([18, *(len(one.label) + 2 for one in configurations)])
    left, right, other = (17, 15, 17) if several else (9, 14, 9)
    presets = all(row["preset"] == one.label for one in configurations for row in one.rows)
    head = f"{'preset' if presets else 'configuration':<{wide}}"
    for type in types:
        head += f"{f'{type} F1':>{left}}{'TP/FP/FN':>{right}}"
    yield head + "".join(f"{MEASURES[key]:>{other}}" for key in others)
    for one in configurations:
        mark = f"  {ORACLE}" if one.oracle else ""
        if len(one.rows) > 1:
            yield _spread_line(one, types, others, wide) + mark
        for row in one.rows:
            label = one.label if len(one.rows) == 1 else f"  seed {row['seed']}"
            cells = f"{label:<{wide}}"
            for type in types:
                counts = "/".join(str(row[f"{type}_{key}"]) for key in COUNTS)
                value = row[f"{type}_f1"]
                cells += f"{_number(value):>{left}}{counts if value != '' else '-':>{right}}"
            cells += "".join(f"{_number(row[key]):>{other}}" for key in others)
            yield cells + mark
    if several:
        yield "mean ± standard deviation over the seeds, least-greatest"


def _spread_line(one: Configuration, types: list[str], others: list[str], wide: int) -> str:
    cells = f"{one.label:<{wide}}"
    for type in types:
        found = one.spread(f"{type}_f1")
        span = f"{found.low:.3f}-{found.high:.3f}" if found else "-"
        cells += f"{_mean(found):>17}{span:>15}"
    return cells + "".join(f"{_mean(one.spread(key)):>17}" for key in others)


def _mean(found: Spread | None) -> str:
    return f"{found.mean:.4f} ± {found.std:.4f}" if found else "-"


def _number(value: Any) -> str:
    return f"{value:.4f}" if value != "" else "-"


# --- CSV ------------------------------------------------------------------------------------------


def to_csv(configurations: Sequence[Configuration]) -> str:
    """All columns; before the runs of several seeds a row with their means and spreads."""
    rows = []
    for one in configurations:
        if len(one.rows) > 1:
            rows.append(_summary(one))
        common = {"configuration": one.name, "runs": 1}
        rows += [row | common for row in one.rows]
    columns = list(dict.fromkeys([*COLUMNS, *MORE, *(key for row in rows for key in row)]))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _summary(one: Configuration) -> dict[str, Any]:
    """The means and spreads of a configuration, and what all its runs agree in."""
    first = one.rows[0]
    row = {key: v for key, v in first.items() if all(other[key] == v for other in one.rows)}
    row = {key: v for key, v in row.items() if key not in MEASURES and key not in _WHOLE}
    row |= {"configuration": one.name, "runs": len(one.rows)}
    for measure in MEASURES:
        if found := one.spread(measure):
            row[measure] = found.mean
            row |= {f"{measure}_std": found.std, f"{measure}_min": found.low}
            row[f"{measure}_max"] = found.high
    return row


def earlier(table: Path, now: Sequence[Configuration]) -> list[Configuration]:
    """The configurations of an earlier table that are not in this one."""
    if not table.exists():
        return []
    with open(table, newline="") as file:
        lines = [row for row in csv.DictReader(file) if {*COLUMNS, *MORE} <= set(row)]
    presets = all(one.label == one.rows[0]["preset"] for one in now)
    found: dict[str, Configuration] = {}
    for line in lines:
        name = line["configuration"]
        if line["runs"] != "1" or any(one.name == name for one in now):
            continue
        row = _parsed({key: text for key, text in line.items() if key not in MORE})
        label = row["preset"] if presets else name
        found.setdefault(name, Configuration(name, label, [])).rows.append(row)
    return list(found.values())


def _parsed(row: Mapping[str, str]) -> dict[str, Any]:
    """Numbers instead of their texts."""
    parsed: dict[str, Any] = dict(row)
    for key, text in row.items():
        if text and key in MEASURES:
            parsed[key] = float(text)
        elif text and key in _WHOLE:
            parsed[key] = float(text) if "." in text else int(text)
    return parsed
