"""The reproduced tables: printed and own values side by side, for a terminal, as CSV and as a page.

An own value is the mean over its seeds.  What was chosen on the test subjects is marked as an
oracle wherever it stands.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from spotjax import tables
from spotjax.counting.matching import Counts
from spotjax.pages import plots
from spotjax.pages.report_page import HEAD, STYLE
from spotjax.papers import published
from spotjax.papers.published import Record
from spotjax.papers.reproduce_plan import Line, Place
from spotjax.sweeps.sweep_table import ORACLE, spread

RENDERED = (
    "on RENDERED faces (the demonstration set): shows that all of it runs, compares with nothing "
    "printed"
)
OURS = "ours"
"""The way that the configs evaluate in."""


WORDS = ("row", "variant", "type", "metric", "remark")
"""Titles of the columns that hold words."""


class Own(NamedTuple):
    """The own values of a line in one way of evaluating it, one for each seed."""

    values: tuple[Any, ...]
    """Numbers, or a pair for a range."""
    counts: tuple[Counts, ...] = ()

    @property
    def mean(self) -> float | None:
        """Of numbers; None for ranges."""
        numbers = [v for v in self.values if isinstance(v, int | float)]
        return spread(numbers).mean if numbers else None


class Filled(NamedTuple):
    """A line with its own values by way of evaluating, or why it has none."""

    line: Line
    own: Mapping[str, Own]
    why: str = ""


class Block(NamedTuple):
    """The lines of one place."""

    place: Place
    lines: Sequence[Filled]


class Ways(NamedTuple):
    """How values are evaluated, in words, by name; and which of it is an oracle."""

    words: Mapping[str, str]
    oracles: frozenset[str]


class Table(NamedTuple):
    """A table of a paper with the own values."""

    paper: str
    table: str
    ways: Ways
    blocks: Sequence[Block]
    notes: Sequence[str]

    @property
    def rendered(self) -> bool:
        """Whether the own values are of the demonstration set."""
        return any(block.place.name == "synthetic" for block in self.blocks)

    @property
    def title(self) -> str:
        """What the paper's table holds."""
        about = published.papers()[self.paper].tables[self.table]
        return f"{self.paper}, table {self.table}: {about}"


# --- cells ----------------------------------------------------------------------------------------


def heading(table: Table, block: Block) -> str:
    """The title of a block: the data set that its own values are of."""
    if block.place.name == "synthetic":
        return f"{table.title}; own values {RENDERED}"
    name = published.papers()[table.paper].data_sets.get(block.place.name, block.place.name)
    return f"{table.title}; {name} ({block.place.name})"


def columns(table: Table, block: Block) -> list[str]:
    """The titles of the columns that `cells` fills."""
    several = len(block.place.printed) > 1
    printed = [f"printed, {name}" if several else "printed" for name in block.place.printed]
    own = [
        title
        for way in table.ways.words
        for title in (f"{way} (oracle)" if way in table.ways.oracles else way, "TP/FP/FN")
    ]
    titles = [title for name in printed for title in (name, "TP/FP/FN")]
    return [*WORDS[:-1], *titles, *own, WORDS[-1]]


def cells(table: Table, block: Block, filled: Filled) -> list[str]:
    """One line of a block, without what its printed row is silent about."""
    line = filled.line
    row = [line.system, line.variant, line.type, line.metric]
    for name in block.place.printed:
        record = line.printed.get(name)
        row += [_printed(record), _printed_counts(record)] if record else ["", ""]
    for way in table.ways.words:
        own = filled.own.get(way)
        row += [shown(own), _counted(own)] if own else ["-", ""]
    numbers = {remark: f"[{number}]" for number, remark in enumerate(footnotes(block), start=1)}
    marks = [("oracle " if r == ORACLE else "") + numbers[r] for r in _remarks(filled)]
    return [*row, ", ".join(marks)]


def footnotes(block: Block) -> list[str]:
    """What is to be said of single lines, each once; the lines have their numbers, from 1 on."""
    return list(dict.fromkeys(remark for line in block.lines for remark in _remarks(line)))


def _remarks(filled: Filled) -> list[str]:
    """Why there is no value, what to know of it, that it is an oracle."""
    oracle = ORACLE if filled.line.how.oracle and filled.own else ""
    return [remark for remark in (filled.why, filled.line.how.note, oracle) if remark]


def grid(table: Table, block: Block) -> list[list[str]]:
    """The titles and the lines of a block, without columns that nothing stands in."""
    titles, rows = columns(table, block), [cells(table, block, line) for line in block.lines]
    kept = [i for i in range(len(titles)) if any(row[i] for row in rows)]
    return [[row[i] for i in kept] for row in (titles, *rows)]


def shown(own: Own) -> str:
    """The own value: four decimals, mean ± standard deviation of several seeds."""
    first = own.values[0]
    if isinstance(first, list | tuple):
        return f"{first[0]}..{first[1]}"
    if all(isinstance(value, int) for value in own.values) and len(set(own.values)) == 1:
        return str(first)
    found = spread(own.values)
    return f"{found.mean:.4f}" + (f" ± {found.std:.4f}" if len(own.values) > 1 else "")


def _printed(record: Record) -> str:
    value, digits = record.value, published.decimals(record.paper, record.metric)
    text = f"{value[0]}..{value[1]}" if isinstance(value, tuple) else f"{value:.{digits}f}"
    if record.erratum:
        better = "" if record.corrected is None else f" (rather {record.corrected:.{digits}f})"
        text += f"!{better}"
    return text


def _printed_counts(record: Record) -> str:
    counts = record.counts
    if counts is None:
        return ""
    found = f" ({counts.found} found)" if counts.found != counts.tp else ""
    return f"{counts.tp}/{'?' if counts.fp is None else counts.fp}/{counts.fn}{found}"


def _counted(own: Own) -> str:
    """Counts, of several seeds their means."""
    if not own.counts:
        return ""
    means = [sum(values) / len(own.counts) for values in zip(*own.counts, strict=True)]
    tp, fp, fn, surplus = (f"{mean:.1f}".removesuffix(".0") for mean in means)
    return f"{tp}/{fp}/{fn}" + (f" ({means[0] + means[3]:g} found)" if surplus != "0" else "")


# --- terminal -------------------------------------------------------------------------------------


def text(table: Table) -> str:
    """The table for a terminal."""
    parts: list[str] = []
    for block in table.blocks:
        rows = grid(table, block)
        words = sum(title in WORDS[:-1] for title in rows[0])
        parts += [*textwrap.wrap(heading(table, block), tables.WIDTH), *_ways(table)]
        parts += tables.aligned(zip(*rows, strict=True), left=words)
        parts += [*(f"[{n}] {remark}" for n, remark in enumerate(footnotes(block), start=1)), ""]
    notes = [*tables.errata(_records(table)), *tables.bullets(table.notes, "-")]
    return "\n".join([*parts, *notes]).rstrip()


def _ways(table: Table) -> list[str]:
    listed = [f"{way}: {words}" for way, words in table.ways.words.items()]
    return [
        line
        for words in listed
        for line in textwrap.wrap(
            words, tables.WIDTH, initial_indent="  ", subsequent_indent="    "
        )
    ]


def _records(table: Table) -> list[Record]:
    every = [r for b in table.blocks for f in b.lines for r in f.line.printed.values()]
    return list(dict.fromkeys(every))


# --- CSV ------------------------------------------------------------------------------------------


def to_csv(several: Sequence[Table]) -> str:
    """A row for every printed value, or own line, and way."""
    return tables.csv_of([row for table in several for row in _flat(table)])


def _flat(table: Table) -> list[dict[str, Any]]:
    rows = []
    for block in table.blocks:
        for filled in block.lines:
            line = filled.line
            keys = {"paper": table.paper, "table": table.table}
            records = [r.as_dict() for r in line.printed.values()]
            if not records:
                keys |= {"system": line.system, "type": line.type, "metric": line.metric}
                records = [{name: None for name in Record._fields[2:3]}]
            for record in records:
                for way, words in table.ways.words.items():
                    rows.append(
                        {**record, **keys, "own_data_set": block.place.name, "way": way}
                        | _own_cells(filled.own.get(way))
                        | {
                            "oracle": bool(filled.own)
                            and (line.how.oracle or way in table.ways.oracles),
                            "comparable": block.place.name != "synthetic",
                            "protocol": words,
                            "remark": "; ".join(filter(None, (filled.why, line.how.note))),
                        }
                    )
    return rows


def _own_cells(own: Own | None) -> dict[str, Any]:
    names = ("own_tp", "own_fp", "own_fn", "own_found")
    row: dict[str, Any] = dict.fromkeys(("own_value", "own_std", "own_runs", *names))
    if own is None:
        return row
    row |= {"own_value": own.mean if own.mean is not None else shown(own)}
    row |= {"own_runs": len(own.values)}
    if own.mean is not None and len(own.values) > 1:
        row["own_std"] = spread(own.values).std
    if own.counts:
        each = [(c.tp, c.fp, c.fn, c.found) for c in own.counts]
        row |= {n: sum(v) / len(each) for n, v in zip(names, zip(*each, strict=True), strict=True)}
    return row


# --- page -----------------------------------------------------------------------------------------

PAGE = (
    HEAD
    + """<header>
<h1>{{ title }}</h1>
{% if rendered %}<p class="warn"><b>Not comparable</b>: own values are {{ rendered }}.</p>
{% endif %}
</header>
<main>
{% for block in blocks %}
<h2>{{ block.heading }}</h2>
<ul>{% for way, words in block.ways.items() %}<li><b>{{ way }}</b>: {{ words }}</li>
{% endfor %}</ul>
<div class="wide"><table class="small">
<thead><tr>{% for title in block.columns %}<th{% if title in words %} class="text"{% endif %}>
{{- title }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in block.rows %}
<tr>{% for cell in row %}
<td{% if block.columns[loop.index0] in words %} class="text"{% endif %}>{{ cell }}</td>
{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% for remark in block.footnotes %}<p class="dim">[{{ loop.index }}] {{ remark }}</p>
{% endfor %}
{% endfor %}
{% if notes %}<h2>Notes</h2><ul>{% for note in notes %}<li>{{ note }}</li>
{% endfor %}</ul>{% endif %}
</main>
</body>
</html>
"""
)


def page(several: Sequence[Table], title: str) -> str:
    """The tables as one HTML file."""
    notes = []
    for table in several:
        misprints = dict.fromkeys(r.erratum for r in _records(table) if r.erratum)
        notes += [f"table {table.table}: {note}" for note in (*misprints, *table.notes)]
    return _ENVIRONMENT.from_string(PAGE).render(
        title=title,
        words=WORDS,
        style=Markup(plots.CSS + STYLE),
        rendered=RENDERED if any(table.rendered for table in several) else "",
        notes=list(dict.fromkeys(notes)),
        blocks=[
            {
                "heading": heading(table, block),
                "ways": table.ways.words,
                "columns": grid(table, block)[0],
                "rows": grid(table, block)[1:],
                "footnotes": footnotes(block),
            }
            for table in several
            for block in table.blocks
        ],
    )


_ENVIRONMENT = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
