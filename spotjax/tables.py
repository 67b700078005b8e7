"""`python -m spotjax.tables`: what the papers print, by itself or beside your runs.

Without arguments it lists the papers and their tables.  Words such as `--paper` and `--table`
choose; `--run` sets the results of run directories beside the chosen rows of the same system,
data set, type and metric, with the protocol that they were obtained by.
"""

import argparse
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from spotjax import export, files
from spotjax.config import EXPRESSION_TYPES
from spotjax.errors import UserError, command
from spotjax.papers import published
from spotjax.papers.published import Counts, Record
from spotjax.papers.run_tables import Compared, compare_all

WIDTH = 100
TYPES = (*EXPRESSION_TYPES, "overall", None)
WORDS = ("paper", "table", "data_set", "system", "metric", "type", "variant")
WORDS_SHOWN = ("paper", "table", "system", "variant", "type", "metric")
PROTOCOL = (
    *(
        "rule",
        "videos",
        "epoch_choice",
        "threshold_choice",
        "interval",
        "flow",
        "seed",
        "k",
        "p",
        "iou",
        "epochs",
    ),
    "sample_every",
)
"""Entries of a run's protocol that decide whether two numbers compare."""

HELP = """\
What the papers print: 1,207 values of SOFTNet, SFAMNet, MESNet, the two-stream 3D-CNN,
SpotFormer and the baselines of MEGC 2020 and 2025.  A value that contradicts itself or another
table is marked ! and explained below; it is shown as printed."""
EXAMPLES = """\
examples:
  python -m spotjax.tables
      the papers and their tables
  python -m spotjax.tables --paper softnet --table 2
      one table
  python -m spotjax.tables --system SOFTNet --metric F1 --data-set casme2
      a system wherever it is printed; 2 and II name the same table, case does not matter
  python -m spotjax.tables --run runs/softnet_casme2 runs/other --metric F1
      your runs beside the paper of their system
  python -m spotjax.tables --run runs/softnet_casme2 --paper spotformer
      the same beside another paper's comparison
  python -m spotjax.tables --paper softnet --table 2 --csv table2.csv --json table2.json
      the same values as files

Printed rows that a run's system and its baselines are set beside: """


def overview() -> str:
    """All papers with their tables: what they hold, data sets, number of values."""
    lines = []
    for name, paper in published.papers().items():
        rows = []
        for table, about in paper.tables.items():
            found = published.find(paper=name, table=table)
            sets = ", ".join(dict.fromkeys(record.data_set for record in found))
            doubtful = sum(record.erratum is not None for record in found)
            rows.append(
                [f"  {table}", about, sets, str(len(found)), f"{doubtful} !" * bool(doubtful)]
            )
        lines += [f"{name}: {paper.title}", *aligned(zip(*rows, strict=True), left=3), ""]
    lines += [
        f"{len(published.records())} values.  Last columns: values of a table; marked !, because "
        "arithmetic or another table contradicts them.",
        "",
        "Go on with",
        "  python -m spotjax.tables --paper softnet --table 2",
        "  python -m spotjax.tables --run RUN_DIR      your results beside the paper's",
        "  python -m spotjax.tables --help",
    ]
    return "\n".join(lines)


def show(records: Sequence[Record]) -> str:
    """The tables of `records`, misprints explained below each and remarks below each paper."""
    blocks = []
    for name, in_paper in groupby(records, key=lambda record: record.paper):
        paper = published.papers()[name]
        for table, in_table in groupby(in_paper, key=lambda record: record.table):
            found = list(in_table)
            for key in dict.fromkeys(record.data_set for record in found):
                part = [record for record in found if record.data_set == key]
                about = f"{paper.tables[table]}; {paper.data_sets[key]} ({key})"
                blocks += [f"{name}, table {table}: {about}", *grid(part), ""]
            notes = errata(found)
            blocks += [*notes, ""] if notes else []
        if paper.remarks:
            blocks += [f"{name}:", *bullets(paper.remarks, "-"), ""]
    return "\n".join(blocks[:-1])


def grid(records: Sequence[Record]) -> list[str]:
    """Rows system and variant, columns metric and type, then the counts; wrapped at 100 columns."""
    cells: dict[tuple[str, str | None], dict[str, str]] = {}
    for record in records:
        row = cells.setdefault((record.metric, record.type), {})
        row[_row(record)] = _cell(record)
        if record.counts:
            cells.setdefault(("TP/FP/FN", record.type), {})[_row(record)] = _counts(record.counts)
    rows = list(dict.fromkeys(_row(record) for record in records))
    metrics = dict.fromkeys(record.metric for record in records)
    lines: list[str] = []
    packed = [["", "", *rows]]
    for metric in (*metrics, "TP/FP/FN"):
        group = [
            [metric, type or "", *(cells[metric, type].get(row, "") for row in rows)]
            for type in TYPES
            if (metric, type) in cells
        ]
        if len(packed) > 1 and sum(2 + _width(c) for c in packed + group) > WIDTH + 2:
            lines += [*filter(None, aligned(packed, left=1)), ""]
            del packed[1:]
        packed += group
    return [*lines, *filter(None, aligned(packed, left=1))]


def errata(records: Iterable[Record]) -> list[str]:
    """What is wrong with the marked values and what to use instead."""
    instead: dict[str, list[str]] = {}
    for record in records:
        if record.erratum:
            values = instead.setdefault(record.erratum, [])
            if record.corrected is not None:
                words = (_row(record), record.type, record.metric)
                value = _number(record, record.corrected)
                values.append(" ".join([*(word for word in words if word), value]))
    return bullets(
        [
            text + (f" Instead: {'; '.join(values)}." if values else "")
            for text, values in instead.items()
        ],
        "!",
    )


def show_compared(compared: Compared) -> str:
    """One run: its protocol, its values beside the printed ones, misprints."""
    about = compared.protocol
    sort = " (rendered data: not comparable)" if published.rendered(about) else ""
    lines = [f"{compared.folder}: {about['system']} on {about['data_set']}{sort}"]
    run = f"run: {', '.join(_protocol(about))}"
    lines += textwrap.wrap(run, WIDTH, initial_indent="  ", subsequent_indent="  ")
    rows = [[*WORDS_SHOWN, "run by", "printed ", "run ", "printed TP/FP/FN ", "run TP/FP/FN"]]
    for pair in compared.pairs:
        r = pair.record
        words = [getattr(r, word) or "" for word in WORDS_SHOWN]
        ours = [_number(r, pair.value) + " ", "/".join(map(str, pair.counts or ()))]
        rows.append([*words, pair.by, _cell(r), ours[0], _counts(r.counts), ours[1]])
    lines += ["", *aligned(zip(*rows, strict=True), left=7)]
    notes = errata(pair.record for pair in compared.pairs)
    return "\n".join([*lines, *([""] if notes else []), *notes])


def flat_compared(compared: Compared) -> list[dict[str, Any]]:
    """The pairs as rows of the CSV and JSON files: record, the run's value, counts, protocol."""
    about = compared.protocol
    run = {"run": str(compared.folder), "run_data_set": about["data_set"]}
    run["comparable"] = not published.rendered(about)
    for key in PROTOCOL:
        value = about.get(key)
        run |= files.flat({key: value}) if isinstance(value, Mapping) else {key: value}
    rows = []
    for pair in compared.pairs:
        counts = dict.fromkeys(("run_tp", "run_fp", "run_fn"))
        if pair.counts:
            counts = dict(zip(counts, pair.counts, strict=True))
        row = pair.record.as_dict() | {"run_value": pair.value, "run_by": pair.by} | counts | run
        rows.append(row)
    return rows


def csv_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV, a column for every key of any row."""
    header = list(dict.fromkeys(key for row in rows for key in row))
    return export.csv_text([header, *([row.get(key) for key in header] for row in rows)])


def aligned(columns: Iterable[Sequence[str]], left: int) -> list[str]:
    """Lines of the columns that are not empty, the first `left` of them flush left."""
    padded = []
    for number, column in enumerate(columns):
        sides = [f"{cell:{'<' if number < left else '>'}{_width(column)}}" for cell in column]
        padded += [sides] if any(column) else []
    return ["  ".join(line).rstrip() for line in zip(*padded, strict=True)]


def bullets(texts: Iterable[str], mark: str) -> list[str]:
    """Wrapped paragraphs that begin with `mark`."""
    wrapped = [textwrap.wrap(f"{mark} {text}", WIDTH, subsequent_indent="  ") for text in texts]
    return [line for lines in wrapped for line in lines]


def _width(column: Sequence[str]) -> int:
    return max(len(cell) for cell in column)


def _row(record: Record) -> str:
    return ", ".join(word for word in (record.system, record.variant) if word)


def _number(record: Record, value: published.Value) -> str:
    """A value with as many decimals as its paper prints for the metric."""
    if isinstance(value, tuple):
        return f"{value[0]}..{value[1]}"
    return f"{value:.{published.decimals(record.paper, record.metric)}f}"


def _cell(record: Record) -> str:
    note = f" ({record.note})" if record.note else ""
    return _number(record, record.value) + note + ("!" if record.erratum else " ")


def _counts(counts: Counts | None) -> str:
    """TP/FP/FN, and how many are found where that is not TP."""
    if counts is None:
        return ""
    fp = "?" if counts.fp is None else counts.fp
    found = f" ({counts.found} found)" if counts.found != counts.tp else ""
    return f"{counts.tp}/{fp}/{counts.fn}{found} "


def _protocol(about: Mapping[str, Any]) -> list[str]:
    words = []
    for key in PROTOCOL:
        value = about.get(key)
        if isinstance(value, Mapping):
            value = " ".join(f"{name} {item}" for name, item in value.items())
        if value == "oracle":
            value = "oracle (chosen on the test subjects, no result)"
        if value is not None:
            words.append(f"{key.replace('_', ' ')} {value}")
    return words


def arguments(argv: list[str]) -> argparse.Namespace:
    """The options.  Raises UserError for an unknown one."""
    names = {name: printed.rows for name, printed in published.SYSTEMS.items()}
    names |= published.BASELINES
    rows = "; ".join(f"{name}: {' or '.join(printed)}" for name, printed in names.items())
    parser = argparse.ArgumentParser(
        prog="python -m spotjax.tables",
        description=HELP,
        epilog="\n".join([EXAMPLES.rstrip(), *textwrap.wrap(rows, WIDTH)]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--paper", metavar="NAME", help=", ".join(published.papers()))
    parser.add_argument("--table", metavar="NAME", help='its number, or words such as "text 4.1"')
    parser.add_argument("--data-set", metavar="NAME", help="casme2, samm_lv, casme3, ...")
    parser.add_argument("--system", metavar="NAME", help="as printed, for example SOFTNet")
    parser.add_argument("--metric", metavar="NAME", help="F1, precision, recall, AP, k_frames, ...")
    parser.add_argument("--type", metavar="NAME", help="macro, micro or overall")
    parser.add_argument("--variant", metavar="NAME", help="as printed, for example p=0.55")
    parser.add_argument(
        "--run", metavar="RUN_DIR", nargs="+", action="extend", type=Path, help="evaluated runs"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the chosen values here")
    parser.add_argument("--csv", metavar="FILE", type=Path, help="the same as CSV")
    options, rest = parser.parse_known_args(argv)
    if rest:
        raise UserError(f"unknown argument {rest[0]!r}: see --help")
    return options


@command
def main(argv: list[str]) -> int:
    """Command line.  Raises UserError for a wrong option."""
    options = arguments(argv)
    words = {word: getattr(options, word) for word in WORDS}
    notes: list[str] = []
    if options.run:
        runs, notes = compare_all(options.run, words)
        text = "\n\n".join(show_compared(run) for run in runs)
        rows = [row for run in runs for row in flat_compared(run)]
    else:
        records = published.find(**words)
        text = show(records) if any(words.values()) else overview()
        rows = [record.as_dict() for record in records]
    if options.json:
        files.write_json(options.json, rows)
    if options.csv:
        files.write_text(options.csv, csv_of(rows))
    print("\n".join([text, *notes]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
