"""`python -m spotjax.reproduce --paper P --table T`: a paper's table with our values beside it.

Runs what the table needs and is not there yet (features, trainings, scoring) and prints printed and
own values, counts and protocol side by side.  With `--data` the data are the licensed sets; without
it, the rendered demonstration sets, whose numbers compare with nothing printed.  Without arguments:
which tables there are and what they need.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from spotjax import files, sweep
from spotjax.cli import parse, parser
from spotjax.errors import UserError, command
from spotjax.papers import published, reproduce_fill, reproduce_needs, reproduce_table
from spotjax.papers.recipes import NOT_HERE, RECIPES
from spotjax.papers.reproduce_plan import all_runs, ask, data_roots
from spotjax.papers.reproduce_table import Table
from spotjax.sweeps import runners, sweep_plan
from spotjax.sweeps.runners import Unit
from spotjax.sweeps.sweep_plan import Run

TIMED = "inference_time_s"
"""The metric of a table that is measured when the table is filled."""


@command
def main(argv: list[str]) -> int:
    """Command line.  Raises UserError for a wrong option."""
    options, overrides = parse(_arguments(), argv)
    if not options.paper:
        if options.table or options.data:
            raise UserError("--paper is missing: give it, or nothing for a list")
        print(reproduce_needs.overview())
        return 0
    for name in ("jobs", "together"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} {getattr(options, name)}: give a number from 1 on")
    out, roots = Path(options.out), data_roots(options.data)
    seeds = sweep_plan.parse_seeds(options.seeds)
    if not seeds:
        raise UserError("--seeds: give at least one, such as 1")
    asked = [
        ask(paper, table, RECIPES[paper][table], roots, seeds, overrides, out)
        for paper, table in chosen(options)
    ]
    runs = all_runs(asked)
    unseen = reproduce_fill.unseen_runs(asked, roots, overrides, out)
    if options.dry_run:
        print(reproduce_needs.told(runs, unseen, out))
        return 0
    failed: dict[str, str] = {}
    if options.only != "table":
        if options.runner == "ray" or options.jobs > 1:
            sweep_plan.refuse_shared_shards(runs)
        failed = carry_out(runs, out, options)
        failed |= look_at_unseen(unseen, out, options)
        failed |= prepare_baselines(reproduce_fill.baselines_of(asked), out)
    if any(wanted.line.metric == TIMED for one in asked for wanted in one.lines):
        from spotjax.train import keep_programs  # imports JAX

        print("reading the runs, timing their networks (to half a minute each)", file=sys.stderr)
        keep_programs()
    tables = reproduce_fill.fill(asked, unseen, out, failed)
    write(tables, options, out)
    for name, why in failed.items():
        print(f"error: {name}: {why}", file=sys.stderr)
    return 2 if failed else 0


def _arguments() -> ArgumentParser:
    arguments = parser(
        "python -m spotjax.reproduce",
        "Reproduce tables of the papers: features, trainings and scores that are missing, then\n"
        "printed and own values side by side.\n\n"
        "  python -m spotjax.reproduce                              what there is, and its cost\n"
        "  python -m spotjax.reproduce --paper softnet --table 4    on rendered faces\n"
        "  python -m spotjax.reproduce --paper softnet --table 4 --data /path/to/sets\n"
        "  python -m spotjax.reproduce --paper mesnet --data casme2=/path/to/CASME_SQ --seeds 3\n\n"
        "Runs go to OUT/<name of the config>..._seed=N and are shared between tables; what is "
        "there is\nnot run again.  Start it where configs/ is.",
    )
    add = arguments.add_argument
    add("--paper", help=", ".join(RECIPES))
    add("--table", action="append", default=[], help="one, again for more (default: all)")
    add(
        "--data",
        action="append",
        default=[],
        metavar="[SET=]FOLDER",
        help="the folder that holds CASME_SQ, SAMMLV, CASME3, or one set alone as "
        "casme2=, samm_lv=, casme3=FOLDER (default: rendered sets)",
    )
    add("--out", default="runs/reproduce", help="folder for the runs (default: runs/reproduce)")
    add("--seeds", default="1", help="number of seeds, or a list such as 0,3,7 (default: 1)")
    add("--dry-run", action="store_true", help="only tell which runs there would be")
    add("--only", choices=("table",), default="", help="table: print it from the runs there are")
    add("--together", type=int, default=sweep.PROGRAM_RUNS, metavar="N", help="as spotjax.sweep's")
    add("--runner", choices=("local", "ray"), default="local", help="as spotjax.sweep's")
    add("--jobs", type=int, default=1, help="as spotjax.sweep's")
    add("--ray-cpus", type=float, metavar="N", help="as spotjax.sweep's")
    add("--ray-gpus", type=float, metavar="N", help="as spotjax.sweep's")
    return arguments


# --- what is asked for ----------------------------------------------------------------------------


def chosen(options: Namespace) -> list[tuple[str, str]]:
    """The papers' tables; 3 and III are the same.  Raises UserError for one that is not here."""
    paper = options.paper.lower()
    if paper not in RECIPES and paper not in NOT_HERE:
        raise UserError(f"--paper {options.paper}: there is {', '.join(RECIPES)}")
    if not options.table:
        if paper not in RECIPES:
            [why] = NOT_HERE[paper].values()
            raise UserError(f"--paper {options.paper}: is not reproduced here: {why}")
        return [(paper, table) for table in RECIPES[paper]]
    found = []
    for word in options.table:
        table = published.find(paper=paper, table=word)[0].table
        if table not in RECIPES.get(paper, {}):
            why = NOT_HERE[paper][table]
            raise UserError(f"--table {word}: is not reproduced here: {why}")
        found.append((paper, table))
    return list(dict.fromkeys(found))


# --- what is run ----------------------------------------------------------------------------------


def carry_out(runs: Sequence[Run], out: Path, options: Namespace) -> dict[str, str]:
    """Make features, train and evaluate what is not finished; the runs that failed, and why."""
    from spotjax import together  # imports JAX

    failed: dict[str, str] = {}
    starting = [run for run in runs if run.config.train.start]
    for wave in ([run for run in runs if not run.config.train.start], starting):
        units = sweep_plan.units(wave, options.together, together.groups) if wave else []
        waiting = sweep.unfinished(units, out)
        failed |= sweep.prepare([run for unit in waiting for run in unit])
        waiting = [unit for unit in waiting if unit[0].name not in failed]
        failed |= sweep.train(waiting, out, options)
    return failed


def look_at_unseen(
    unseen: Sequence[reproduce_fill.UnseenRun], out: Path, options: Namespace
) -> dict[str, str]:
    """Score the other data sets by the finished runs; those that failed, and why."""
    units = {}
    for one in unseen:
        if sweep.finished(out / one.run.name, one.run.config) and not one.finished:
            words = [f"--config.{override}" for override in one.overrides]
            line = ("--workdir", str(out / one.run.name), "--config", one.file, "--out")
            name = f"{one.run.name} on unseen {one.name}"
            log = one.folder.with_suffix(".log")
            units[Unit(name, ("spotjax.unseen", *line, str(one.folder), *words), log)] = one
    if not units:
        return {}
    if options.runner == "ray":
        return runners.run_ray(list(units), options.ray_cpus, options.ray_gpus)
    return runners.run_local(list(units), options.jobs)


def prepare_baselines(wanted: Sequence[tuple[Run, str]], out: Path) -> dict[str, str]:
    """Make the features of the baselines beside finished runs; the failed ones, and why.

    Raises KeyboardInterrupt if data_prep was interrupted.
    """
    from spotjax.train import make_shards  # imports JAX

    failed: dict[str, str] = {}
    for run, name in wanted:
        if not sweep.finished(out / run.name, run.config):
            continue
        if status := make_shards(run.file, [*run.overrides, f"baselines.names={name}"]):
            failed[f"{run.name} {name}"] = (
                f"its features could not be made (data_prep ended with status {status})"
            )
    return failed


def write(tables: Sequence[Table], options: Namespace, out: Path) -> None:
    """The tables on the terminal, as CSV and as a page."""
    for table in tables:
        print(f"{reproduce_table.text(table)}\n")
    paper = tables[0].paper
    numbers = [table.table.replace(" ", "_") for table in tables] if options.table else []
    kind = "synthetic" if any(table.rendered for table in tables) else "data"
    name = "_".join([paper, *numbers, kind])
    out.mkdir(parents=True, exist_ok=True)
    files.write_text(out / f"{name}.csv", reproduce_table.to_csv(tables))
    title = f"{published.papers()[paper].title}: printed and own values"
    files.write_text(out / f"{name}.html", reproduce_table.page(tables, title))
    print(f"table: {out / f'{name}.csv'}\npage: {out / f'{name}.html'}")


if __name__ == "__main__":
    sys.exit(main())
