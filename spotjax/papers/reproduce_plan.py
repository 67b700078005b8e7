"""What a table of a paper needs: recipes, the places where they run, trainings, rows of the table.

Nothing is run here.  The recipes themselves are data (`recipes`), the values stand in
`paper_tables.json`.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from spotjax.cli import load_config
from spotjax.errors import UserError
from spotjax.papers import published
from spotjax.papers.published import Record
from spotjax.sweeps import sweep_plan
from spotjax.sweeps.sweep_plan import PLAIN, Run

LAYOUTS = ("casme2", "samm_lv", "casme3")
SEVEN = "7-class "
"""Metrics of SFAMNet's second stage begin so."""
OWN_TYPES = ("macro", "micro", "overall")


class How(NamedTuple):
    """Where the own value of a printed row comes from."""

    preset: str = ""
    """Of the config that is trained."""
    settings: Mapping[str, str] = {}
    """Other keys of the training; they become part of its run directory's name."""
    decoding: tuple[str, ...] = ()
    """`key=value` of decoding, counting or baselines, read from the saved scores."""
    baseline: str = ""
    """Instead of the system: `strain_sum`, `mdmd` or `lbp_chi2` on the same videos."""
    p: str = ""
    """Threshold parameter of the baseline; `best`: the best one on the test videos (an oracle)."""
    unseen: bool = False
    """Scores the recipe's other data set, which the run has not seen."""
    keys: Mapping[str, str] = {}
    """Instead of a result: the key of the config by metric, `{type}` put in."""
    note: str = ""
    """What a reader must know."""
    why_not: str = ""
    """Nothing is run: the reason."""

    @property
    def oracle(self) -> bool:
        """Whether this row is chosen on the test videos, whatever the protocol."""
        return self.p == "best" or any(text.endswith("=oracle") for text in self.decoding)


class Unseen(NamedTuple):
    """The data set of `How.unseen`, and the rendered one in its place."""

    data_set: str
    config: str
    demo: str
    demo_settings: Mapping[str, str]


class Recipe(NamedTuple):
    """What a table needs."""

    sets: Mapping[str, str]
    """Config by data set as printed."""
    demo: str
    """Config of the rendered set."""
    rows: Mapping[str, How]
    """By printed row, `system` or `system: variant`; `*` stands for any value of a variant."""
    protocol: tuple[str, ...] = ()
    """How the paper decodes and counts, where it differs from the configs."""
    always: tuple[str, ...] = ()
    """Overrides of every training."""
    own: Mapping[str, How] = {}
    """Rows beside the printed ones, which no paper has: F1 and counts of each type."""
    unseen: Unseen | None = None
    notes: tuple[str, ...] = ()


def how_of(recipe: Recipe, record: Record) -> How:
    """How the row of `record` comes about, values of its variant put in.

    Raises KeyError if the recipe has no such row.

    >>> recipe = Recipe({}, "", {"SOFTNet: p=*": How(decoding=("system.p={p}",))})
    >>> record = Record("softnet", "4", "casme2", "SOFTNet", "p=0.55", *[None] * 7)
    >>> how_of(recipe, record).decoding
    ('system.p=0.55',)
    """
    system, variant = record.system, record.variant or ""
    values = dict(part.split("=", 1) for part in variant.split(",") if "=" in part)
    values = {name.strip(): "none" if v == "N/A" else v for name, v in values.items()}
    pattern = re.sub(r"=[^,]*", "=*", variant)
    for key in (f"{system}: {variant}", f"{system}: {pattern}", system, "*"):
        if key in recipe.rows:
            how = recipe.rows[key]
            filled = tuple(text.format(**values) for text in how.decoding)
            return how._replace(decoding=filled, p=how.p.format(**values))
    raise KeyError(f"{record.paper}, table {record.table}: no recipe for {system}: {variant}")


# --- places ---------------------------------------------------------------------------------------


class Place(NamedTuple):
    """Where rows are computed: a data set, or the rendered one in the place of all."""

    name: str
    """As printed; `synthetic` for the rendered one; of printed sets without a config their own."""
    file: str
    """Its config; empty where nothing is run."""
    overrides: tuple[str, ...]
    printed: tuple[str, ...]
    """The data sets whose printed values stand beside its own."""


def data_roots(texts: Sequence[str]) -> dict[str, str]:
    """`--data` by layout: `casme2=PATH`, or one folder that holds the sets, under ``.

    Raises UserError: an unknown set, one given twice, a folder that is not there.
    """
    roots: dict[str, str] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals:
            name, path = "", text
        if name and name not in LAYOUTS:
            raise UserError(f"--data {text}: write one of {', '.join(LAYOUTS)} before the =")
        if name in roots:
            raise UserError(f"--data {text}: is given twice: leave out one of both")
        if not path:
            raise UserError("--data: is empty: give the folder of the data sets")
        if not Path(path).is_dir():
            raise UserError(f"--data {text}: {path} is no folder")
        roots[name] = path
    return roots


def root_of(file: str, roots: Mapping[str, str]) -> str:
    """The folder of a config's data set in `data_roots`, empty if it is not there.

    Below the one folder of all sets it has the name that the config gives it (`CASME_SQ`).
    """
    data = load_config(file).data
    if data.layout in roots:
        return roots[data.layout]
    below = Path(roots[""]) / Path(data.root).name if "" in roots else None
    return str(below) if below and below.is_dir() else ""


def places(
    paper: str, table: str, recipe: Recipe, roots: Mapping[str, str]
) -> tuple[list[Place], list[str]]:
    """The places of a table, and notes on those that lack their data.

    Without roots it is the rendered set.  Raises UserError if there are roots, but none of the
    table's sets is found there.
    """
    records = published.find(paper=paper, table=table)
    printed = list(dict.fromkeys(record.data_set for record in records))
    if not roots:
        return [Place("synthetic", recipe.demo, (), tuple(printed))], []
    found, notes = [], list[str]()
    sets = {s: file for s, file in recipe.sets.items() if s in printed or recipe.own}
    for name, file in sets.items():
        root, data = root_of(file, roots), load_config(file).data
        if root:
            found.append(Place(name, file, (f"data.root={root}",), (name,)))
        else:
            known = f" ({roots['']}/{Path(data.root).name} is not there)" if "" in roots else ""
            notes.append(f"{name}: no data{known}: give --data {data.layout}=FOLDER")
    if not found:
        raise UserError(f"--data: {paper}, table {table}: {'; '.join(notes)}")
    others = [name for name in printed if name not in sets]
    return [*found, *(Place(name, "", (), (name,)) for name in others)], notes


# --- trainings ------------------------------------------------------------------------------------


def trainings(
    recipe: Recipe,
    place: Place,
    how: How,
    seeds: Sequence[int],
    overrides: Sequence[str],
) -> list[Run]:
    """The trainings of a row, one for each seed.

    The same config has the same name, whatever the table.  Raises UserError for an override that a
    row sets itself.
    """
    preset, grid = how.preset or PLAIN, {key: [value] for key, value in how.settings.items()}
    return sweep_plan.plan(
        [place.file], [preset], grid, seeds, [*recipe.always, *place.overrides, *overrides]
    )


def second_stage(first: Sequence[Run], how: How, out: Path) -> list[Run]:
    """SFAMNet's fine-tuning for seven emotions, of each run from its own folder in `out`."""
    runs = []
    for run in first:
        grid = {
            **{key: [value] for key, value in how.settings.items()},
            "system.classes": ["seven"],
        }
        common = [word for word in run.overrides if word.partition("=")[0] not in grid]
        common = [word for word in common if not word.startswith("train.seed=")]
        more = ["system.fine_tune=true", f"train.start={out / run.name}"]
        file = run.file.partition(":")[0]
        runs += sweep_plan.plan(
            [file], [run.preset], grid, [run.config.train.seed], [*common, *more]
        )
    return runs


# --- rows -----------------------------------------------------------------------------------------


class Line(NamedTuple):
    """One line of a table: what is printed in it, and how the own value comes about."""

    system: str
    variant: str
    type: str
    metric: str
    printed: Mapping[str, Record]
    """By data set."""
    how: How

    @property
    def seven(self) -> bool:
        """Whether it is of SFAMNet's second stage."""
        return self.metric.startswith(SEVEN)

    @property
    def record(self) -> Record:
        """The printed record, or of an own line one without a value."""
        for record in self.printed.values():
            return record
        type = self.type or None
        empty = (0, None, None, None, None)
        return Record("", "", "", self.system, self.variant, type, self.metric, *empty)

    @property
    def runs_nothing(self) -> bool:
        """Whether its value needs no run."""
        return bool(self.how.why_not or self.how.keys)


def lines(paper: str, table: str, recipe: Recipe, place: Place) -> list[Line]:
    """The lines of a table at one place, printed ones in their order, then the recipe's own.

    Raises KeyError for a printed row without a recipe.
    """
    records = published.find(paper=paper, table=table)
    found: dict[tuple[str, str, str, str], dict[str, Record]] = {}
    for record in records:
        if record.data_set in place.printed:
            key = (record.system, record.variant or "", record.type or "", record.metric)
            found.setdefault(key, {})[record.data_set] = record
    listed = []
    for key, printed in found.items():
        how = how_of(recipe, next(iter(printed.values())))
        listed.append(Line(*key, printed, how))
    if place.file:
        for label, how in recipe.own.items():
            listed += [Line(label, "", type, "F1", {}, how) for type in OWN_TYPES]
    return listed


class Wanted(NamedTuple):
    """A line of a table at a place, and what it needs."""

    place: Place
    line: Line
    runs: tuple[Run, ...] = ()
    """Its trainings, one for each seed."""
    before: tuple[Run, ...] = ()
    """What they start from."""


class Asked(NamedTuple):
    """A table that is to be reproduced."""

    paper: str
    table: str
    recipe: Recipe
    lines: tuple[Wanted, ...]
    notes: tuple[str, ...]


def ask(
    paper: str,
    table: str,
    recipe: Recipe,
    roots: Mapping[str, str],
    seeds: Sequence[int],
    overrides: Sequence[str],
    out: Path,
) -> Asked:
    """A table's lines with their trainings.  Raises UserError if its data are not there."""
    where, notes = places(paper, table, recipe, roots)
    first: dict[str, tuple[Run, ...]] = {}
    second: dict[str, tuple[Run, ...]] = {}
    wanted = []
    for place in where:
        for line in lines(paper, table, recipe, place):
            if not place.file or line.runs_nothing:
                wanted.append(Wanted(place, line))
                continue
            how = line.how
            key = f"{place.name} {how.preset} {how.settings}"
            if key not in first:
                first[key] = tuple(trainings(recipe, place, how, seeds, overrides))
            if line.seven and key not in second:
                second[key] = tuple(second_stage(first[key], how, out))
            if line.seven:
                wanted.append(Wanted(place, line, second[key], first[key]))
            else:
                wanted.append(Wanted(place, line, first[key]))
    return Asked(paper, table, recipe, tuple(wanted), (*recipe.notes, *notes))


def all_runs(asked: Sequence[Asked]) -> list[Run]:
    """Every training once, those that others start from before them."""
    each = [run for one in asked for wanted in one.lines for run in (*wanted.before, *wanted.runs)]
    found = {run.name: run for run in each}
    return sorted(found.values(), key=lambda run: bool(run.config.train.start))
