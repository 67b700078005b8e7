"""`python -m spotjax.together PLAN.json`: runs that one compiled program trains side by side.

Runs of the same data and system that differ only in seed, step size or what is chosen after
training have folds of the same shapes: they are stacked along the fold axis, so ten seeds cost one
compilation, one copy of the features and, on an accelerator, little more time than one.  Each run
ends as it would have ended alone.  `spotjax.sweep` makes the plans:

    {"runs": [{"config": "configs/demo.py", "overrides": ["train.seed=1"], "workdir": "runs/a"}]}
"""

import json
import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from spotjax import config as config_lib
from spotjax import evaluate, train
from spotjax.cli import load_config, parse, parser
from spotjax.config import EXPRESSION_TYPES, Config
from spotjax.data import schema, shards
from spotjax.errors import UserError, command
from spotjax.files import flat, is_one_of
from spotjax.loso import hosts, rundir, runs, start
from spotjax.systems import build

OWN = (
    "name", "train.seed", "train.learning_rate", "train.decay", "pretrain.learning_rate",
    "pretrain.decay",
)  # fmt: skip
"""Keys that each fold may have a value of its own for."""
SHARED = (
    "data", "train.devices", "train.distributed", "train.fold_exec", "train.fold_chunk",
    "train.residency", "train.piece", "train.checkpoint_every", "pretrain.fold_exec",
    "pretrain.fold_chunk", "pretrain.checkpoint_every",
)  # fmt: skip
"""Of the keys that change no parameter, those that the program or its input depends on."""


class Member(NamedTuple):
    """A run of a plan, as its own command line would name it."""

    config: str
    overrides: tuple[str, ...]
    workdir: Path

    @property
    def line(self) -> str:
        """The command that trains this run alone."""
        words = " ".join(f"--config.{override}" for override in self.overrides)
        line = f"python -m spotjax.train --config {self.config} {words}".rstrip()
        return f"{line} --workdir {self.workdir}"


def groups(configs: Sequence[Config]) -> list[list[int]]:
    """Which of the runs may share one program, by position, in the order of their first ones."""
    found: dict[str, list[int]] = {}
    for position, config in enumerate(configs):
        found.setdefault(_program(config), []).append(position)
    return list(found.values())


def _program(config: Config) -> str:
    """Equal for configs whose runs may share one program."""
    own = set(rundir.free_keys(config)) - set(SHARED) | set(OWN)
    values = {
        key: value
        for key, value in flat(config_lib.to_dict(config)).items()
        if not is_one_of(key, own)
    }
    return config_lib.digest(values)


@command
def main(argv: list[str]) -> int:
    """Command line.  Raises UserError for a wrong option or plan."""
    arguments = parser(
        "python -m spotjax.together",
        "Train the runs of a plan in one program and evaluate each; spotjax.sweep calls it.\n\n"
        "  python -m spotjax.together plan.json\n\n"
        'plan.json: {"runs": [{"config": FILE, "overrides": ["train.seed=1"], "workdir": DIR}]}\n'
        "The same command again goes on after an interruption.",
    )
    arguments.add_argument("plan", help="JSON file that lists the runs")
    options, overrides = parse(arguments, argv)
    if overrides:
        raise UserError("--config.KEY belongs into the plan: overrides of each run")
    plan = read_plan(Path(options.plan))
    configs = [load_config(member.config, member.overrides) for member in plan]
    shared = configs[0].train
    train.set_up_jax(shared.devices, shared.distributed)
    for config in configs:
        start.check(config, build(config.system, dict.fromkeys(EXPRESSION_TYPES, 1)))
    if len(groups(configs)) > 1:
        other = groups(configs)[1][0]
        raise UserError(
            f"{options.plan}: {plan[0].workdir} and {plan[other].workdir} cannot share a program: "
            f"they may differ in {', '.join(OWN[1:4])} and in what is done after training"
        )
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax tells what we say in one line

    with train.owned([member.workdir for member in plan]):
        for position in _different_features(configs):
            member = plan[position]
            make = partial(train.make_shards, member.config, list(member.overrides))
            if status := hosts.by_first(make):
                return status
        folder = schema.shards_folder(configs[0])
        dataset = shards.load(folder, configs[0])
        system = build(configs[0].system, dict(dataset.k))
        members = [
            runs.Run(member.workdir, config, train.folds_of(config, dataset, system))
            for member, config in zip(plan, configs, strict=True)
        ]
        train.open_runs(members, dataset)
        train.train_runs(members, dataset, system)
        if hosts.first():
            for member, config in zip(plan, configs, strict=True):
                if config.evaluate:
                    results = evaluate.evaluate_run(
                        member.workdir, config, dataset, folder, member.line
                    )
                    evaluate.print_results(member.workdir, results)
        hosts.wait()
    return 0


def read_plan(path: Path) -> list[Member]:
    """The runs of a plan.  Raises UserError naming the file and what is wrong with it."""
    try:
        listed = json.loads(path.read_text())["runs"]
        members = [
            Member(str(run["config"]), tuple(run["overrides"]), Path(run["workdir"]))
            for run in listed
        ]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is no plan of runs ({type(error).__name__}: {error})") from None
    if not members:
        raise UserError(f"{path}: lists no run")
    if len({member.workdir for member in members}) < len(members):
        raise UserError(f"{path}: two runs have the same workdir")
    return members


def _different_features(configs: Sequence[Config]) -> list[int]:
    """The first run of each set of baselines: the system's features are the same for all."""
    found: dict[Any, int] = {}
    for position, config in enumerate(configs):
        found.setdefault(config_lib.digest(config_lib.to_dict(config)["baselines"]), position)
    return list(found.values())


if __name__ == "__main__":
    sys.exit(main())
