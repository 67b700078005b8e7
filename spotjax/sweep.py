"""`python -m spotjax.sweep --config C`: many trainings of one command, and one table of them.

Presets of configs, grids of values, seeds: each combination is a run directory of its own, with the
results that `spotjax.train` would have.  The same command again goes on where it stopped, repeats
nothing that is finished, and tries again what has failed.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydantic

from spotjax import config as config_lib
from spotjax import files
from spotjax.cli import load_config, parse, parser
from spotjax.config import Config
from spotjax.errors import UserError, command
from spotjax.loso import rundir
from spotjax.pages import sweep_page
from spotjax.papers import run_tables
from spotjax.sweeps import runners, sweep_plan, sweep_table
from spotjax.sweeps.runners import Unit
from spotjax.sweeps.sweep_plan import PLAIN, Run

PROGRAM_RUNS = 8
"""Trainings that share a program unless told otherwise."""


@command
def main(argv: list[str]) -> int:
    """Command line.  Raises UserError for a wrong option."""
    options, overrides = parse(_arguments(), argv)
    for name in ("jobs", "together"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} {getattr(options, name)}: give a number from 1 on")
    if options.task and options.only not in ("", "train"):
        raise UserError(f"--task only trains: leave out --only {options.only}")
    part, parts = sweep_plan.parse_task(options.task or "1/1")
    runs = sweep_plan.plan(
        [file for several in options.config for file in several],
        [word for word in options.presets.split(",") if word],
        sweep_plan.parse_grid(options.grid),
        sweep_plan.parse_seeds(options.seeds),
        overrides,
    )
    if options.runner == "ray":
        runners.require_ray("--runner ray")
    out = Path(options.out)
    step = "train" if options.task else options.only
    failed: dict[str, str] = {}
    if step != "table":
        if options.runner == "ray" or options.jobs > 1 or options.task:
            sweep_plan.refuse_shared_shards(runs)
        # cut before the finished ones are left out: every task of an array must see the same units
        units = sweep_plan.units(runs, options.together, _groups)[part - 1 :: parts]
        waiting = unfinished(units, out)
        print(_what_there_is_to_do(units, waiting, out), flush=True)
        if step != "train":
            failed = prepare([run for unit in waiting for run in unit])
            waiting = [unit for unit in waiting if unit[0].name not in failed]
        if step != "prepare":
            failed |= train(waiting, out, options)
    if step in ("prepare", "train"):
        return _told(failed)
    return write_tables(out, runs, failed)


def _arguments() -> ArgumentParser:
    arguments = parser(
        "python -m spotjax.sweep",
        "Train and evaluate configs with presets, grids of values and seeds; one table of all.\n\n"
        "  python -m spotjax.sweep --config configs/sfamnet_demo.py\n"
        "  python -m spotjax.sweep --config configs/sfamnet_demo.py --presets plain,scene\n"
        "  python -m spotjax.sweep --config configs/demo.py --seeds 3 \\\n"
        "      --grid train.learning_rate=1e-3,3e-4 --grid system.p=0.5,0.55\n"
        "  python -m spotjax.sweep --config configs/*_casme2.py --seeds 5 --runner ray\n\n"
        "Runs go to OUT/<name of the config>[_key=value...][_seed=N], each unit's output to "
        "train.log\nthere, the table to OUT/sweep_<name>.csv and .html; finished runs are not "
        "repeated.",
    )
    add = arguments.add_argument
    add("--config", required=True, nargs="+", action="append", metavar="FILE", help="config files")
    add(
        "--presets",
        default="",
        help=f"of the files' PRESETS, {PLAIN} for none (default: {PLAIN} and all; with --grid or "
        f"--seeds {PLAIN})",
    )
    add(
        "--grid",
        default=[],
        action="append",
        metavar="KEY=V1,V2",
        help="values of a config key; several keys: every combination",
    )
    add("--seeds", default="", help="number of seeds, 3 for 0,1,2, or a list such as 0,3,7")
    add("--out", default="runs", help="folder for the runs (default: runs)")
    add(
        "--together",
        type=int,
        default=PROGRAM_RUNS,
        metavar="N",
        help=f"train at most so many runs in one program where they differ in nothing but seed and "
        f"step size (default: {PROGRAM_RUNS}; 1: none)",
    )
    add("--runner", choices=("local", "ray"), default="local", help="processes here, or Ray tasks")
    add("--jobs", type=int, default=1, help="local: programs at a time (default: 1, it has all)")
    add("--ray-cpus", type=float, metavar="N", help="CPUs of a task (default: the smallest node's)")
    add(
        "--ray-gpus",
        type=float,
        metavar="N",
        help="GPUs of a task (default: 1, and 1 CPU, where the cluster has GPUs)",
    )
    add("--task", default="", metavar="I/N", help="train only every Nth unit from the Ith on")
    add(
        "--only",
        choices=("prepare", "train", "table"),
        default="",
        help="one step: make the features, train, or write the table (default: all three)",
    )
    return arguments


def table_name(runs: Sequence[Run]) -> str:
    """`<name of the config>`, of several files joined by +, cut where it is too long."""
    names = [load_config(file).name for file in dict.fromkeys(_plain(run.file) for run in runs)]
    name = "+".join(dict.fromkeys(names))
    longest = sweep_plan.LONGEST_NAME
    return name if len(name) <= longest else f"{name[:longest]}-{config_lib.digest(name)[:8]}"


def _plain(file: str) -> str:
    return file.partition(":")[0]


def _groups(configs: Sequence[Config]) -> list[list[int]]:
    from spotjax import together  # imports JAX

    return together.groups(configs)


def finished(run: Path, config: Config) -> bool:
    """Whether `run` holds the evaluated results of exactly this config."""
    return not why_not(run, config)


def why_not(run: Path, config: Config) -> str:
    """Why a run is not `finished`; empty if it is."""
    if not (run / "metrics.json").exists() or not (run / "config.json").exists():
        return "not trained yet"
    wanted = config_lib.to_dict(config)
    for made in (config_lib.to_dict(rundir.load_run(run)[0]), _evaluated(run)):
        have, want = files.flat(made), files.flat(wanted)
        for key in dict.fromkeys([*want, *have]):
            if have.get(key) != want.get(key):
                return f"its results are of another config ({key} {have.get(key)})"
    return ""


def _evaluated(run: Path) -> Any:
    """The config of a run's results, keys newer than it at their defaults."""
    saved = run_tables.read_results(run)["protocol"]["config"]
    try:
        return config_lib.to_dict(config_lib.from_dict(saved))
    except pydantic.ValidationError:  # of another version of the program
        return saved


def unfinished(units: Sequence[Sequence[Run]], out: Path) -> list[list[Run]]:
    """What is to do of the units: without the finished runs, and without empty units."""
    left = [[run for run in unit if not finished(out / run.name, run.config)] for unit in units]
    return [unit for unit in left if unit]


def _what_there_is_to_do(units: list[list[Run]], waiting: list[list[Run]], out: Path) -> str:
    runs, left = (sum(map(len, several)) for several in (units, waiting))
    line = f"{runs} run{'s' if runs > 1 else ''}, {runs - left} finished"
    if left:
        several = "s" if len(waiting) > 1 else ""
        line += f", {left} to do in {len(waiting)} program{several}; logs: {out}/<run>/train.log"
    return line


# --- the steps ------------------------------------------------------------------------------------


def prepare(runs: Sequence[Run]) -> dict[str, str]:
    """Make the features that runs lack, one data set after another; the failed runs, and why.

    Raises KeyboardInterrupt if data_prep was interrupted.
    """
    from spotjax.train import make_shards  # imports JAX

    failed: dict[str, str] = {}
    for same in sweep_plan.data_sets(runs):
        if status := make_shards(same[0].file, list(same[0].overrides)):
            why = f"its features could not be made (data_prep ended with status {status})"
            failed |= {run.name: why for run in same}
    return failed


def train(units: Sequence[Sequence[Run]], out: Path, options: Namespace) -> dict[str, str]:
    """Train and evaluate the units; the runs that have no results then, and why."""
    todo = {unit_of(unit, out): unit for unit in units}
    if not todo:
        return {}
    if options.runner == "ray":
        failed = runners.run_ray(list(todo), options.ray_cpus, options.ray_gpus)
    else:
        failed = runners.run_local(list(todo), options.jobs)
    return {
        run.name: failed[unit.name]
        for unit, runs in todo.items()
        for run in runs
        if unit.name in failed and not finished(out / run.name, run.config)
    }


def unit_of(runs: Sequence[Run], out: Path) -> Unit:
    """The program that trains `runs`: spotjax.train, or for several spotjax.together."""
    first = runs[0]
    folder = out / first.name
    log = folder / "train.log"
    if len(runs) == 1:
        words = [f"--config.{override}" for override in first.overrides]
        line = ("spotjax.train", "--config", first.file, "--workdir", str(folder), *words)
        return Unit(first.name, line, log)
    plan = folder / "together.json"
    folder.mkdir(parents=True, exist_ok=True)
    listed = [
        {"config": run.file, "overrides": list(run.overrides), "workdir": str(out / run.name)}
        for run in runs
    ]
    files.write_json(plan, {"runs": listed})
    name = f"{first.name} and {len(runs) - 1} more"
    return Unit(name, ("spotjax.together", str(plan)), log, len(runs))


def write_tables(out: Path, runs: Sequence[Run], failed: dict[str, str]) -> int:
    """The table on the terminal, as CSV and as a page; the exit status."""
    found, lacking = configurations_of(out, runs, failed)
    if found:
        name = table_name(runs)
        table, page = out / f"sweep_{name}.csv", out / f"sweep_{name}.html"
        every = [*found, *sweep_table.earlier(table, found)]
        files.write_text(table, sweep_table.to_csv(every))
        files.write_text(page, sweep_page.render(every, lacking, f"Sweep {name}", out))
        print()
        for line in sweep_table.lines(found):
            print(line)
        print(f"table: {table}\npage: {page}")
    return _told(lacking)


def configurations_of(
    out: Path, runs: Sequence[Run], failed: dict[str, str]
) -> tuple[list[sweep_table.Configuration], dict[str, str]]:
    """The rows of the runs that have results of now, and why the others have none."""
    found: dict[str, sweep_table.Configuration] = {}
    lacking = {}
    presets = len({_plain(run.file) for run in runs}) == 1 and not any(r.settings for r in runs)
    for run in runs:
        folder = out / run.name
        if not finished(folder, run.config):
            why = f"{why_not(folder, run.config)}: run the sweep without --only"
            lacking[run.name] = failed.get(run.name, why)
            continue
        label = run.preset if presets else run.configuration
        empty = sweep_table.Configuration(run.configuration, label, [])
        row = sweep_table.row_of(run.preset, folder) | run.settings
        found.setdefault(run.configuration, empty).rows.append(row)
    return list(found.values()), lacking


def _told(failed: dict[str, str]) -> int:
    """Tell what has failed, runs of one program in one line; the exit status."""
    reasons: dict[str, list[str]] = {}
    for name, why in failed.items():
        reasons.setdefault(why, []).append(name)
    for why, names in reasons.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        print(f"error: {', '.join(names[:3])}{more}: {why}", file=sys.stderr)
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
