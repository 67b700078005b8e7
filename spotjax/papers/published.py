"""The numbers that the papers print, each with its table, counts and known misprints.

`paper_tables.json` beside this module holds 1,207 values of five papers (SOFTNet, SFAMNet, MESNet,
the two-stream 3D-CNN, SpotFormer) and two challenge baselines (MEGC 2020, MEGC 2025) as printed.
Where an arithmetic check or a second table contradicts a value, the value stays and `erratum`
says what is wrong.  Plain Python: `find` picks records, `beside` pairs them with a run's results.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from spotjax.errors import UserError


class Counts(NamedTuple):
    """True and false positives, false negatives, annotated expressions found.

    One-to-one rules have `found` = `tp`.  MESNet's has not: `tp` are predictions that hit,
    recall = found / (found + fn).  `fp` is None where the paper states no number of predictions.
    """

    tp: int
    fp: int | None
    fn: int
    found: int


Value = int | float | tuple[int, int]
"""A number as printed, or a range (`random_skip_range`)."""


class Record(NamedTuple):
    """One printed value.

    `type` is "macro", "micro" or "overall", None for a setting of both.  `corrected` is the value
    to use instead, None where `erratum` is None, cannot be mended or lets the value stand.
    """

    paper: str
    table: str
    data_set: str
    system: str
    variant: str | None
    type: str | None
    metric: str
    value: Value
    counts: Counts | None
    note: str | None
    erratum: str | None
    corrected: float | None

    def as_dict(self) -> dict[str, Any]:
        """All fields, the counts as fields of their own: a row of a CSV or JSON file."""
        values = self._asdict()
        counts = values.pop("counts")
        return values | (counts._asdict() if counts else dict.fromkeys(Counts._fields))


class Paper(NamedTuple):
    """A source: `data_sets` printed by key, `tables` described by name, remarks on its protocol."""

    name: str
    title: str
    data_sets: Mapping[str, str]
    tables: Mapping[str, str]
    remarks: tuple[str, ...]


class Printed(NamedTuple):
    """Where a system of ours is printed: its own paper and its names, there and elsewhere."""

    paper: str
    rows: tuple[str, ...]
    found: tuple[str, ...] = ()
    """Tables of its own paper that say what it finds on videos of people not seen before."""


SYSTEMS: dict[str, Printed] = {
    "softnet": Printed("softnet", ("SOFTNet",), ("2",)),
    "sfamnet": Printed("sfamnet", ("SFAMNet",), ("1", "4")),
    "mesnet": Printed("mesnet", ("MESNet-CRN", "MESNet")),
    "cnn3d": Printed("cnn3d", ("3D-CNN",), ("2",)),
    "spotformer": Printed("spotformer", ("SpotFormer",), ("I", "II")),
}
"""Printed rows by the name of the system in a config."""

BASELINES: dict[str, tuple[str, ...]] = {
    "strain_sum": ("Ours w/o SOFTNet", "w/o SOFTNet"),
    "mdmd": ("MDMD", "Baseline MDMD [20]"),
    "lbp_chi2": ("LBP-chi2",),
}
"""Printed rows by the name of the training-free baseline in a config."""

STRAIN_P = 0.5
"""p of the baseline strain_sum, whatever the run's (SOFTNet table 1)."""

RUN_METRICS = {"F1": "f1", "precision": "precision", "recall": "recall", "AP": "ap"}
"""Key of a printed metric in the result tables of metrics.json; `k_frames` is in its protocol."""

FLOW_KINDS = {"O": "optical", "S": "scene", "H": "hybrid"}
"""SFAMNet's rows by the run's `system.flow`."""

LISTED = 12
"""An error lists the known words where they are no more than these."""

ROMAN = {"I": 1, "II": 2, "III": 3, "IV": 4, "V": 5, "VI": 6, "VII": 7, "VIII": 8, "IX": 9, "X": 10}


@cache
def papers() -> dict[str, Paper]:
    """All sources by name, in order of the file."""
    found = {}
    for entry in _file()["papers"]:
        found[entry["name"]] = Paper(**{**entry, "remarks": tuple(entry["remarks"])})
    return found


@cache
def records() -> tuple[Record, ...]:
    """All printed values, in order of paper, table and row."""
    file = _file()
    return tuple(_record(entry, file["errata"]) for entry in file["records"])


def find(
    *,
    paper: str | None = None,
    table: str | None = None,
    data_set: str | None = None,
    system: str | None = None,
    metric: str | None = None,
    type: str | None = None,
    variant: str | None = None,
) -> tuple[Record, ...]:
    """The records that agree with every word given; case is ignored and table 2 is table II.

    Raises UserError naming the first word that nothing agrees with, and the nearest known one.

    >>> [record] = find(paper="softnet", table="2", data_set="casme2", type="macro", metric="f1")
    >>> record.value, record.counts
    (0.241, Counts(tp=90, fp=357, fn=210, found=90))
    """
    wanted = {
        "paper": paper,
        "table": table,
        "data_set": data_set,
        "system": system,
        "metric": metric,
        "type": type,
        "variant": variant,
    }
    left, chosen = records(), list[str]()
    for field, word in wanted.items():
        if word is None:
            continue
        known = dict.fromkeys(value for r in left if (value := getattr(r, field)) is not None)
        left = tuple(r for r in left if _folded(getattr(r, field)) == _folded(word))
        name = field.replace("_", " ")
        if not left:
            where = f" in {', '.join(chosen)}" if chosen else ""
            raise UserError(f"no {name} {word!r}{where}: {_nearest(word, list(known))}")
        chosen.append(f"{name} {word}")
    return left


@cache
def decimals(paper: str, metric: str) -> int:
    """Decimals that the paper prints for the metric: the most that any value of it needs."""
    values = [r.value for r in records() if (r.paper, r.metric) == (paper, metric)]
    return max(len(str(v).partition(".")[2]) if isinstance(v, float) else 0 for v in values)


class Beside(NamedTuple):
    """A printed value and a run's, by its system or one of its baselines.

    `counts` is the run's (TP, FP, FN), None for k.
    """

    record: Record
    by: str
    value: float
    counts: tuple[int, int, int] | None


def rendered(protocol: Mapping[str, Any]) -> bool:
    """True for a run on rendered faces: its numbers do not compare with printed ones.

    The data set's name says so; runs older than that name say it by an empty `data.root`.
    """
    root = protocol.get("config", {}).get("data", {}).get("root")
    return protocol["data_set"].startswith("synthetic_") or root == ""


def beside(metrics: Mapping[str, Any], chosen: Iterable[Record]) -> list[Beside]:
    """The records of `chosen` that a run has a value for, with that value.

    `metrics` is the run's metrics.json.  A record agrees in system or baseline (`SYSTEMS`,
    `BASELINES`), data set (that of the layout for rendered data), type and metric.  Of a sweep
    over p only the p of the run is kept, where it is printed.
    """
    protocol = metrics["protocol"]
    data_set = protocol["data_set"].removeprefix("synthetic_")
    tables = {**metrics.get("baselines", {}), protocol["system"]: metrics["results"]}
    names = BASELINES | {name: printed.rows for name, printed in SYSTEMS.items()}
    by = {row: name for name in tables for row in names.get(name, ())}
    found = []
    for record in chosen:
        name = by.get(record.system)
        if name and record.data_set == data_set:
            ours = _ours(record, metrics, tables[name], name == protocol["system"])
            found += [Beside(record, name, *ours)] if ours else []
    return _own_p(found, protocol.get("p"))


def _file() -> Any:
    tables = resources.files("spotjax.papers").joinpath("paper_tables.json")
    return json.loads(tables.read_text("utf-8"))


def _record(entry: Mapping[str, Any], errata: Mapping[str, str]) -> Record:
    value, counts = entry["value"], None
    if "tp" in entry:
        tp = entry["tp"]
        counts = Counts(tp, entry.get("fp"), entry["fn"], entry.get("found", tp))
    return Record(
        paper=entry["paper"],
        table=entry["table"],
        data_set=entry["data_set"],
        system=entry["system"],
        variant=entry.get("variant"),
        type=entry.get("type"),
        metric=entry["metric"],
        value=(value[0], value[1]) if isinstance(value, list) else value,
        counts=counts,
        note=entry.get("note"),
        erratum=errata[entry["erratum"]] if "erratum" in entry else None,
        corrected=entry.get("corrected"),
    )


def _folded(word: str | None) -> str:
    """A word without case, a Roman number as an Arabic one."""
    return str(ROMAN.get((word or "").upper(), (word or "").lower()))


def _nearest(word: str, known: Sequence[str]) -> str:
    """The nearest known word, and all of them where they fit into a line."""
    if not known:
        return "leave it out"
    names = {name.lower(): name for name in known}
    short = len(known) <= LISTED
    near = get_close_matches(word.lower(), names, n=1, cutoff=0.6 if short else 0.0)
    hints = [f"did you mean {names[near[0]]!r}?"] if near else []
    return " ".join(hints + [f"there is {', '.join(known)}"] * short)


def _ours(
    record: Record, metrics: Mapping[str, Any], table: Mapping[str, Any], by_system: bool
) -> tuple[float, tuple[int, int, int] | None] | None:
    """The run's value for `record` and its counts; None where it has none."""
    protocol = metrics["protocol"]
    features = (record.variant or "").removeprefix("features ")
    if by_system and features in FLOW_KINDS and protocol.get("flow_kind") != FLOW_KINDS[features]:
        return None
    if by_system and "-class " in record.metric:
        value = _recognised(record.metric, metrics.get("recognition"))
        return None if value is None else (value, None)
    if record.metric == "k_frames":
        k = protocol.get("k", {}).get(record.type)
        return None if k is None else (k, None)
    row, key = table.get(record.type or ""), RUN_METRICS.get(record.metric)
    return (row[key], (row["tp"], row["fp"], row["fn"])) if row and key in row else None


def _recognised(metric: str, values: Mapping[str, Any] | None) -> float | None:
    """The run's value of `4-class UF1` and the like; None with other classes."""
    number, _, name = metric.partition("-class ")
    if values is None or len(values["classes"]) != int(number) + 1:
        return None
    part = values["ground_truth"] | {
        key: values["analysis"][values["rule"]][key] for key in ("analysis_f1", "strs")
    }
    return {"UF1": part["uf1"], "UAR": part["uar"], "analysis F1": part["analysis_f1"],
            "STRS": part["strs"]}.get(name)  # fmt: skip


def _own_p(found: list[Beside], p: float | None) -> list[Beside]:
    """`found` without the rows of another p, wherever the same table has the run's p."""

    def row(record: Record) -> tuple[str | None, ...]:
        return (*record[:4], record.type, record.metric)

    used = [STRAIN_P if item.by == "strain_sum" else p for item in found]
    pairs = [(item, _stated_p(item.record), own) for item, own in zip(found, used, strict=True)]
    printed = {row(item.record) for item, stated, own in pairs if stated in {own} - {None}}
    return [
        item
        for item, stated, own in pairs
        if stated in (own, None) or row(item.record) not in printed
    ]


def _stated_p(record: Record) -> float | None:
    name, _, value = (record.variant or "").partition("=")
    return float(value) if name == "p" else None
