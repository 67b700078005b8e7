"""`python -m spotjax.train --config C`: all LOSO folds, from raw videos to a scored run.

Straight from top to bottom: what is missing (synthetic data, shards) is made first by data_prep in
a process of its own, then each problem's folds are trained together, then the run is evaluated.
The same command again continues where it stopped.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from spotjax import evaluate, files
from spotjax.cli import load_config, parse, parser
from spotjax.config import EXPRESSION_TYPES, Config, Train, cores
from spotjax.data import plans, schema, shards
from spotjax.errors import UserError, command
from spotjax.loso import feeding, folds, hosts, rundir, runs, start, training
from spotjax.systems import build
from spotjax.types import Dataset, System


@command
def main(argv: list[str]) -> int:
    """Command line.  Raises UserError for a wrong option."""
    arguments = parser(
        "python -m spotjax.train",
        "Train a system on all leave-one-subject-out folds and evaluate it.\n\n"
        "  python -m spotjax.train --config configs/demo.py\n"
        "  python -m spotjax.train --config configs/softnet_casme2.py \\\n"
        "      --config.data.root=/data/CASME_SQ --workdir runs/casme2\n\n"
        "What is missing is made first; the same command again goes on after an interruption.",
    )
    arguments.add_argument("--config", required=True, help="config file, FILE.py or FILE.py:PRESET")
    arguments.add_argument("--workdir", help="run directory (default: runs/<name of the config>)")
    options, overrides = parse(arguments, argv)
    config = load_config(options.config, overrides)
    workdir = Path(options.workdir or Path("runs") / config.name)
    set_up_jax(config.train.devices, config.train.distributed)
    # before any work: what does not fit is refused
    start.check(config, build(config.system, dict.fromkeys(EXPRESSION_TYPES, 1)))
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax tells what we say in one line

    with owned([workdir]):
        if status := hosts.by_first(lambda: make_shards(options.config, overrides)):
            return status  # data_prep has said why
        dataset = shards.load(schema.shards_folder(config), config)
        system = build(config.system, dict(dataset.k))
        run = runs.Run(workdir, config, folds_of(config, dataset, system))
        open_runs([run], dataset)
        train_runs([run], dataset, system)
        if config.evaluate and hosts.first():
            line = " ".join(["python -m spotjax.train", *argv])
            results = evaluate.evaluate_run(
                workdir, config, dataset, schema.shards_folder(config), line
            )
            evaluate.print_results(workdir, results)
        hosts.wait()
    return 0


@contextmanager
def owned(workdirs: Sequence[Path]) -> Iterator[None]:
    """Hold run directories; of several processes the first one does.

    Raises UserError if one is held, or if another process of this training is lost.
    """
    with ExitStack() as stack:
        stack.enter_context(hosts.watched())
        if hosts.first():
            for workdir in workdirs:
                stack.enter_context(
                    files.locked(workdir, "wait for it, or choose another --workdir")
                )
        yield


def open_runs(members: Sequence[runs.Run], dataset: Dataset) -> None:
    """Write each run's config.json; UserError if one was begun with another config or data."""

    def opened() -> None:
        for run in members:
            folder = schema.shards_folder(run.config)
            rundir.open_run(run.workdir, run.config, dataset.manifest["hash"], folder)

    hosts.by_first(opened)


def folds_of(config: Config, dataset: Dataset, system: System) -> dict[str, list[plans.Fold]]:
    """The LOSO folds of every problem, those of the stage before first."""
    stages = [(system, config.train)]
    if system.before is not None and config.pretraining is not None:
        stages.insert(0, (system.before, config.pretraining))
    return {
        problem: plans.loso(stage, dataset, problem, train)
        for stage, train in stages
        for problem in stage.problems
    }


def set_up_jax(devices: int, distributed: str = "off") -> None:
    """The other processes, one CPU device per core unless told otherwise, and a cache on disk.

    Raises UserError if there are fewer `devices`, or the other processes are not found.
    """
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", devices or cores())
    keep_programs()
    if hosts.expected(distributed):
        print("waiting for the other processes of this training (5 minutes)", file=sys.stderr)
    hosts.join(distributed)
    if not hosts.first():
        me = f"process {jax.process_index() + 1} of {hosts.count()}"
        print(f"{me}: the first one writes, and tells how far it is", file=sys.stderr)
    if devices > len(jax.local_devices()):
        raise UserError(f"train.devices={devices}: there are only {len(jax.local_devices())}")


def keep_programs() -> None:
    """Keep compiled programs on disk, for the next start."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spotjax"
        jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def make_shards(config_file: str, overrides: list[str]) -> int:
    """Run data_prep in its own process; its exit status.

    Also where all shards are there: only data_prep sees that the annotation or the videos have
    changed since.  Raises KeyboardInterrupt if it was interrupted.
    """
    words = [f"--config.{override}" for override in overrides]
    command_line = [sys.executable, "-m", "spotjax.data_prep", "--config", config_file, *words]
    environment = {**os.environ, "SPOTJAX_PARENT": str(os.getpid())}
    with subprocess.Popen(command_line, env=environment) as process:
        while (status := process.poll()) is None:
            try:
                process.wait()
            except KeyboardInterrupt:  # a terminal sends Ctrl-C to both, a kill only to us
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGINT)
    if status == 130:
        raise KeyboardInterrupt
    return status


def train_runs(members: Sequence[runs.Run], dataset: Dataset, system: System) -> None:
    """Train what is not finished yet: the stage before, then every problem's folds.

    The runs share data set, system and all that their common program depends on.
    """
    before = ""
    if system.before is not None and members[0].config.pretraining is not None:
        (before,) = system.before.problems
        train_folds(members, dataset, system.before, before, pretraining=True)
    for problem in system.problems:
        train_folds(members, dataset, system, problem, before)


def train_folds(
    members: Sequence[runs.Run],
    dataset: Dataset,
    system: System,
    problem: str,
    before: str = "",
    pretraining: bool = False,
) -> None:
    """Train a problem's folds of all runs, or go on with them; checkpoints and logs go to disk."""
    mesh = folds.make_mesh(members[0].config.train.devices)
    with ExitStack() as stack:
        keepers = [
            stack.enter_context(runs.Keeper(run, system, problem, dataset, pretraining))
            for run in members
        ]
        for group in runs.at_one_point(keepers):
            train_group(group, dataset, system, problem, mesh, before)


def train_group(
    keepers: Sequence[runs.Keeper],
    dataset: Dataset,
    system: System,
    problem: str,
    mesh: Mesh,
    before: str,
) -> None:
    """Train the folds of runs at one point together, to their end."""
    chosen, joined = keepers[0].train, runs.joined(keepers)
    states, best = runs.stacked([keeper.begin(before) for keeper in keepers])
    placed, arrays = give_rows(system, problem, dataset, joined, mesh, chosen)

    def planned(memory: training.Memory) -> None:
        if hosts.first():
            pieces = isinstance(arrays, feeding.Streamed)
            print(memory_plan(problem, joined, memory, mesh.size, pieces), file=sys.stderr)

    epochs = training.train_folds(
        system, problem, placed, arrays, chosen, mesh, states, keepers[0].done, planned, best
    )
    first = {"initial": keepers[0].done, "disable": not hosts.first()}
    with tqdm(total=keepers[0].total, desc=f"train {problem}", unit="epoch", **first) as bar:
        begin = time.perf_counter()
        for epoch in epochs:
            seconds, known = time.perf_counter() - begin, []
            for keeper, own in zip(keepers, runs.parts(epoch, keepers), strict=True):
                if not keeper.finished:
                    record = keeper.keep(own, seconds)
                    known += [loss for loss in record["loss"].values() if loss is not None]
            bar.set_postfix(loss=f"{np.mean(known):.4f}", folds=len(known))
            bar.update()
            begin = time.perf_counter()
    for keeper in keepers:
        keeper.wait()


def give_rows(
    system: System,
    problem: str,
    dataset: Dataset,
    members: Sequence[plans.Fold],
    mesh: Mesh,
    chosen: Train,
) -> tuple[Sequence[plans.Fold], Any]:
    """The folds, and the rows that they read: on the devices, or to be read piece by piece."""
    how = chosen.residency
    if how == "auto":
        fit = feeding.fits(system, problem, dataset.streams, members, mesh)
        how = hosts.by_first(lambda: "resident" if fit else "streamed")
    if how == "streamed":
        return members, feeding.Streamed(system, problem, dataset.streams, mesh, chosen.piece)
    return training.place(system, problem, dataset.streams, members, mesh)


def memory_plan(
    problem: str,
    members: Sequence[plans.Fold],
    memory: training.Memory,
    devices: int,
    pieces: bool = False,
) -> str:
    """What training needs of each device, in one line; `pieces`: its features are streamed."""
    samples = [fold.size for fold in members]
    need = memory.features + memory.folds + memory.temporary
    of = f" of {memory.device / 1e9:.1f}" if memory.device else ""
    line = (
        f"{problem}: {len(members)} folds, {memory.folds_at_a_time} at a time over {devices} "
        f"device(s), {min(samples)}-{max(samples)} samples a fold; memory of a device: features "
        f"{'streamed, a piece ' if pieces else ''}{memory.features / 1e9:.2f} GB, "
        f"folds {memory.folds / 1e9:.2f}, temporary {memory.temporary / 1e9:.2f}, "
        f"together {need / 1e9:.2f}{of} GB"
    )
    if memory.device and need > memory.device:
        line += ": more than there is; use a smaller --config.train.fold_chunk"
    return line


if __name__ == "__main__":
    sys.exit(main())
