"""`python -m spotjax.benchmark`: all systems on the same rendered videos, one table, one picture.

The five systems and the training-free methods on the videos of configs/demo.py (8 subjects, two
videos each, with blinks, talking and nods), under one protocol: leave one subject out, one-to-one
matching at IoU 0.5, all videos, no epoch or threshold chosen on a test subject.  Features and
trainings that are missing are made first, as `spotjax.sweep` does; the same command again repeats
nothing that is finished.  Writes OUT/benchmark.csv, .md and .svg.

The faces are rendered: the table says that every pipeline works and learns, not which system is
the best on people.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spotjax import config as config_lib
from spotjax import files, sweep
from spotjax.baselines import BASELINES
from spotjax.cli import load_config, parse, parser
from spotjax.config import EXPRESSION_TYPES, Config, cores
from spotjax.config.systems import TITLES
from spotjax.counting import headline, run_counts
from spotjax.counting.run_counts import Scored
from spotjax.data import schema
from spotjax.errors import UserError, command
from spotjax.loso import rundir
from spotjax.pages import benchmark_picture
from spotjax.pages.report import BASELINE_NAMES
from spotjax.sweeps import benchmark_table
from spotjax.sweeps.benchmark_table import Row
from spotjax.sweeps.sweep_plan import PLAIN, Run, parse_seeds, plan

SYSTEMS = {
    "softnet": "configs/demo.py",
    "spotformer": "configs/spotformer_demo.py",
    "mesnet": "configs/mesnet_demo.py",
    "sfamnet": "configs/benchmark/sfamnet.py",
    "cnn3d": "configs/benchmark/cnn3d.py",
}
"""The config of each system of the table."""
DECIDING = ("evaluation", "system", "data.layout", "data.root", "data.synthetic", "data.annotation",
            "data.sample_every", "data.sample_rule")  # fmt: skip
"""Keys beside those of training that must be alike where a run is given instead of trained."""


@command
def main(argv: list[str]) -> int:
    """Command line.  Raises UserError for a wrong option."""
    options, overrides = parse(_arguments(), argv)
    if options.jobs < 1:
        raise UserError(f"--jobs {options.jobs}: give a number from 1 on")
    methods = chosen(options.baselines, tuple(BASELINES), "--baselines")
    systems = chosen(options.systems, tuple(SYSTEMS), "--systems")
    if not systems:
        raise UserError(f"--systems: name at least one of {', '.join(SYSTEMS)}")
    runs = planned(systems, options.seeds, overrides)
    out = Path(options.out)
    places = given([Path(folder) for folder in options.run], runs)
    failed: dict[str, str] = {}
    if options.only != "table":
        failed = train([run for run in runs if run.name not in places], out, options)
        if methods and (status := make_features(runs[0], methods)):
            return status  # data_prep has said why
    places |= {
        run.name: out / run.name
        for run in runs
        if run.name not in places and sweep.finished(out / run.name, run.config)
    }
    lacking = {
        run.name: failed.get(run.name, why_not(out / run.name, run))
        for run in runs
        if run.name not in places
    }
    for name, why in lacking.items():
        print(f"error: {name}: {why}", file=sys.stderr)
    done = {name: [places[run.name] for run in runs if is_of(run, name) and run.name in places]
            for name in systems}  # fmt: skip
    if any(done.values()):
        rows, about = table({k: v for k, v in done.items() if v}, runs[0], methods)
        write(out, rows, about, argv)
    return 2 if lacking else 0


def _arguments() -> ArgumentParser:
    arguments = parser(
        "python -m spotjax.benchmark",
        "All systems and training-free methods on the same rendered videos, one table.\n\n"
        "  python -m spotjax.benchmark\n"
        "  python -m spotjax.benchmark --run runs/demo --run runs/mesnet_demo --out runs/bench\n"
        "  python -m spotjax.benchmark --systems softnet,sfamnet --seeds 3\n\n"
        "Runs go to OUT/<name of the config>[_seed=N]; finished ones are not repeated. "
        "--config.KEY=VALUE\nis given to every system (for example data.synthetic.root).",
    )
    add = arguments.add_argument
    add("--out", default="runs", help="folder for runs and table (default: runs)")
    add("--seeds", default="", help="number of seeds, or a list such as 0,3,7 (default: one run)")
    add("--systems", default=",".join(SYSTEMS), help=f"of {', '.join(SYSTEMS)} (default: all)")
    add("--baselines", default=",".join(BASELINES), help=f"of {', '.join(BASELINES)}; '' for none")
    add(
        "--run",
        default=[],
        action="append",
        metavar="DIR",
        help="a finished run that takes the place of the one of its system and seed, if it was "
        "trained and evaluated in the same way",
    )
    add("--runner", choices=("local", "ray"), default="local", help="as spotjax.sweep")
    add("--jobs", type=int, default=1, help="local: programs at a time (default: 1)")
    add("--only", choices=("table",), default="", help="train nothing, write the table")
    return arguments


def chosen(text: str, known: Sequence[str], option: str) -> list[str]:
    """The names of a list, in the order of `known`.  Raises UserError for another one."""
    names = [word.strip() for word in text.split(",") if word.strip()]
    for name in names:
        if name not in known:
            raise UserError(f"{option} {name}: is none of {', '.join(known)}")
    return [name for name in known if name in names]


def is_of(run: Run, system: str) -> bool:
    """Whether `run` trains this system."""
    return run.config.system.name == system


def planned(systems: Sequence[str], seeds: str, overrides: Sequence[str]) -> list[Run]:
    """The runs of the systems, in their order, checked for one honest protocol.

    Raises UserError: a wrong override, an oracle choice, or another way of counting for some.
    """
    runs = plan(list(SYSTEMS.values()), [PLAIN], {}, parse_seeds(seeds), overrides)
    runs = [run for name in systems for run in runs if is_of(run, name)]
    for run in runs:
        for key in headline.CHOICES:
            if getattr(run.config.evaluation, key) == "oracle":
                raise UserError(f"--config.evaluation.{key}=oracle: is no result: leave it out")
        for key in ("rule", "iou", "videos"):
            mine, first = (getattr(r.config.evaluation, key) for r in (run, runs[0]))
            if mine != first:
                raise UserError(
                    f"{run.file}: evaluation.{key} is {mine}, in {runs[0].file} {first}: give "
                    f"--config.evaluation.{key}"
                )
    return runs


# --- runs that are there --------------------------------------------------------------------------


def given(folders: Sequence[Path], runs: Sequence[Run]) -> dict[str, Path]:
    """Which run each of `folders` stands for, by the run's name.

    Raises UserError: it has no results, stands for none, or was trained or evaluated differently.
    """
    places: dict[str, Path] = {}
    for folder in folders:
        saved, _, _ = rundir.load_run(folder)
        evaluated = run_counts.evaluated(run_counts.read(folder))
        for run in runs:
            if is_of(run, saved.system.name) and run.config.train.seed == saved.train.seed:
                break
        else:
            raise UserError(
                f"--run {folder}: {saved.system.name} with seed {saved.train.seed} is not in this "
                "benchmark: see --systems and --seeds"
            )
        if key := difference(saved, evaluated, run.config):
            raise UserError(
                f"--run {folder}: differs from {run.file} in {key}: leave it out, and the system "
                "is trained anew"
            )
        if run.name in places:
            raise UserError(f"--run {folder}: {places[run.name]} stands for {run.name} already")
        places[run.name] = folder
    return places


def difference(saved: Config, evaluated: Config, wanted: Config) -> str:
    """The first key, with its values, in which a run is not what is wanted; empty: none."""
    if found := rundir.first_difference(saved, wanted):
        return f"{found[0]} ({found[1]}, not {found[2]})"
    have, want = (files.flat(config_lib.to_dict(config)) for config in (evaluated, wanted))
    for key in dict.fromkeys([*want, *have]):
        if key.startswith(DECIDING) and have.get(key) != want.get(key):
            return f"{key} ({have.get(key)}, not {want.get(key)})"
    return ""


# --- work -----------------------------------------------------------------------------------------


def why_not(folder: Path, run: Run) -> str:
    """Why `folder` is no run of the table, and the remedy."""
    why = sweep.why_not(folder, run.config)
    if why == "not trained yet":
        return f"{why}: run the command without --only, or leave it out with --systems"
    return f"{why}: give --run {folder}, if it was trained in the same way, or another --out"


def train(runs: Sequence[Run], out: Path, options: Namespace) -> dict[str, str]:
    """Make features, train and evaluate what is not finished; the failed runs, and why.

    Each run is a program of its own, so that its log holds its own seconds.
    """
    waiting = sweep.unfinished([[run] for run in runs], out)
    print(f"{len(runs)} runs, {len(runs) - len(waiting)} finished; logs: {out}/<run>/train.log")
    sys.stdout.flush()
    failed = sweep.prepare([run for unit in waiting for run in unit])
    waiting = [unit for unit in waiting if unit[0].name not in failed]
    how = Namespace(runner=options.runner, jobs=options.jobs, ray_cpus=None, ray_gpus=None)
    return failed | sweep.train(waiting, out, how)


def make_features(run: Run, methods: Sequence[str]) -> int:
    """Make the features that training-free methods lack; data_prep's exit status."""
    from spotjax.train import make_shards  # imports JAX

    return make_shards(run.file, [*run.overrides, f"baselines.names={','.join(methods)}"])


def table(
    done: Mapping[str, Sequence[Path]], first: Run, methods: Sequence[str]
) -> tuple[list[Row], list[str]]:
    """The rows of systems (by name, with their finished runs) and methods, and the protocol.

    Raises UserError where two were not scored on the same videos and truths.
    """
    systems = {name: [run_counts.read(folder) for folder in found] for name, found in done.items()}
    every = [one for members in systems.values() for one in members]
    run_counts.refuse_different(every, "the rows of a table need the same videos: train it anew")
    base, options = every[0], first.config.evaluation
    draws, seed = max(options.bootstrap, 1), first.config.train.seed
    rows = [
        benchmark_table.row_of(
            titled(name, members[0]), members, [seconds(m.folder) for m in members], draws, seed
        )
        for name, members in systems.items()
    ]
    for name, method in spotted(first, base, methods).items():
        rows.append(benchmark_table.row_of(BASELINE_NAMES[name], [method], [], draws, seed))
    annotated = {
        type: sum(len(result.truths) for result in base.results[type].values())
        for type in EXPRESSION_TYPES
    }
    sides = {"subjects": len(set(base.subjects.values())), "videos": len(base.frames)} | annotated
    title = str(base.protocol["data_set"]) if first.config.data.root else "Rendered videos"
    return rows, benchmark_table.about_rows(base, rows, title, cores(), sides)


def titled(name: str, run: Scored) -> str:
    """A system's name in print, with the kind of flow where it may have several."""
    kind = run.protocol.get("flow_kind")
    return f"{TITLES[name]} ({kind})" if kind else TITLES[name]


def spotted(first: Run, base: Scored, methods: Sequence[str]) -> dict[str, Scored]:
    """What the training-free methods find, by name."""
    if not methods:
        return {}
    from spotjax import run_baselines  # imports JAX

    names = [f"baselines.names={','.join(methods)}"]
    config = load_config(first.file, [*first.overrides, *names])
    return run_baselines.make(config, base, schema.shards_folder(config))


def seconds(folder: Path) -> float:
    """Seconds of training of a run, all stages, as its log says."""
    return float(sum(record.get("seconds", 0.0) for record in rundir.Log(folder).read()))


def write(out: Path, rows: Sequence[Row], about: Sequence[str], argv: Sequence[Any]) -> None:
    """The table on the terminal, as CSV and Markdown, and the picture."""
    line = " ".join(["python -m spotjax.benchmark", *argv])
    picture = benchmark_picture.picture(rows, about[0], about[1])
    out.mkdir(parents=True, exist_ok=True)
    files.write_text(out / "benchmark.csv", benchmark_table.to_csv(rows))
    files.write_text(out / "benchmark.svg", picture)
    text = benchmark_table.markdown(rows, about, "benchmark.svg", line)
    files.write_text(out / "benchmark.md", text)
    print()
    for text in benchmark_table.lines(rows, about):
        print(text)
    print(f"\ntable: {out / 'benchmark.csv'}, {out / 'benchmark.md'}")
    print(f"picture: {out / 'benchmark.svg'}")


if __name__ == "__main__":
    sys.exit(main())
