"""What there is to reproduce, what it needs and about what it costs: for a terminal."""

import ast
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from spotjax import sweep, tables
from spotjax.papers import published
from spotjax.papers.recipes import NOT_HERE, RECIPES
from spotjax.papers.reproduce_fill import UnseenRun
from spotjax.papers.reproduce_plan import Recipe, all_runs, ask
from spotjax.sweeps.sweep_plan import Run


def overview() -> str:
    """All tables with the trainings that each needs, and what one training costs."""
    parts = []
    for paper, recipes in RECIPES.items():
        about = published.papers()[paper]
        rows = [["  table", "", "data sets", "trainings", "rendered"]]
        for table, recipe in recipes.items():
            printed = dict.fromkeys(r.data_set for r in published.find(paper=paper, table=table))
            sets = [name for name in recipe.sets if name in printed or recipe.own]
            licensed = len(sets) * _trainings(paper, table, recipe)
            rows.append(
                [
                    f"  {table}",
                    about.tables[table],
                    ", ".join(sets),
                    str(licensed),
                    str(_trainings(paper, table, recipe)),
                ]
            )
        parts += [f"{paper}: {about.title}", *tables.aligned(zip(*rows, strict=True), left=3)]
        parts += [f"  all tables together: {_together(paper)} on rendered faces"]
        for table, why in NOT_HERE.get(paper, {}).items():
            parts.append(f"  {table}: not reproduced: {why}")
        files = [file for r in recipes.values() for file in (r.demo, *r.sets.values())]
        for file in dict.fromkeys(files):
            text = f"cost of a training of {file}: {cost(file)}"
            parts += textwrap.wrap(
                text, tables.WIDTH, initial_indent="  ", subsequent_indent="    "
            )
        parts.append("")
    parts += [
        "trainings: with one seed, on all data sets of the table; features are made once for each "
        "data set.",
        "Tables share their runs.  Go on with",
        "  python -m spotjax.reproduce --paper softnet --table 4 --dry-run",
        "  python -m spotjax.reproduce --paper softnet --table 4",
        "  python -m spotjax.reproduce --paper softnet --table 4 --data /path/to/sets",
    ]
    return "\n".join(parts)


def _trainings(paper: str, table: str, recipe: Recipe) -> int:
    """Trainings of a table on one data set."""
    return len(all_runs([ask(paper, table, recipe, {}, [0], [], Path())]))


def _together(paper: str) -> str:
    asked = [ask(paper, table, r, {}, [0], [], Path()) for table, r in RECIPES[paper].items()]
    count = len(all_runs(asked))
    return f"{count} training{'s' if count > 1 else ''}"


def cost(file: str) -> str:
    """What the docstring of a config says of its cost."""
    text = ast.get_docstring(ast.parse(Path(file).read_text())) or ""
    found = re.search(r"^Cost: (.*?)^\S", text, re.DOTALL | re.MULTILINE)
    return " ".join(found[1].split()) if found else "not stated"


def told(runs: Sequence[Run], unseen: Sequence[UnseenRun], out: Path) -> str:
    """The runs of some tables, and which of them are finished."""
    rows = [["run", "config", "", ""]]
    for run in runs:
        state = "finished" if sweep.finished(out / run.name, run.config) else "to do"
        starts = f"starts from {run.config.train.start}" if run.config.train.start else ""
        rows.append([str(out / run.name), run.file, state, starts])
    for one in unseen:
        state = "finished" if one.finished else "to do"
        rows.append([str(one.folder), one.file, state, f"scored by {one.run.name}"])
    left = sum(row[2] == "to do" for row in rows)
    lines = tables.aligned(zip(*rows, strict=True), left=4)
    files = dict.fromkeys(run.file.partition(":")[0] for run in runs)
    for file in files:
        lines += textwrap.wrap(f"cost of a training of {file}: {cost(file)}", tables.WIDTH)
    return "\n".join([*lines, f"{len(rows) - 1} runs, {left} to do"])
