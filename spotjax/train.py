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
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from spotjax import (
    checkpoints,
    epoch_scores,
    evaluate,
    files,
    folds,
    rundir,
    scoring,
    start,
    training,
)
from spotjax.cli import load_config, parse, parser
from spotjax.config import EXPRESSION_TYPES, Config, Train, cores
from spotjax.data import plans, schema, shards
from spotjax.errors import UserError, command
from spotjax.systems import build
from spotjax.types import Dataset, System


@command
def main(argv: list[str]) -> int:
    """Command line."""
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
    set_up_jax(config.train.devices)
    # before any work: what does not fit is refused
    start.check(config, build(config.system, dict.fromkeys(EXPRESSION_TYPES, 1)))
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax tells what we say in one line

    with files.locked(workdir, "wait for it, or choose another --workdir"):
        if status := make_shards(options.config, overrides):
            return status  # data_prep has said why
        dataset = shards.load(schema.shards_folder(config), config)
        system = build(config.system, dict(dataset.k))
        members = folds_of(config, dataset, system)
        rundir.open_run(workdir, config, dataset.manifest["hash"], schema.shards_folder(config))
        train_run(workdir, config, dataset, system, members)
        if config.evaluate:
            line = " ".join(["python -m spotjax.train", *argv])
            results = evaluate.evaluate_run(
                workdir, config, dataset, schema.shards_folder(config), line
            )
            evaluate.print_results(workdir, results)
    return 0


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


def set_up_jax(devices: int) -> None:
    """One CPU device per core unless told otherwise, and a compilation cache on disk."""
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", devices or cores())
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spotjax"
        jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    if devices > len(jax.devices()):
        raise UserError(f"train.devices={devices}, but there are {len(jax.devices())} devices")


def make_shards(config_file: str, overrides: list[str]) -> int:
    """Run data_prep in its own process; its exit status.

    Also where all shards are there: only data_prep sees that the annotation or the videos have
    changed since.
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
    return status


def train_run(
    workdir: Path,
    config: Config,
    dataset: Dataset,
    system: System,
    folds_by_problem: dict[str, list[plans.Fold]],
) -> None:
    """Train what is not finished yet: the stage before, then every problem's folds."""
    before = None
    if system.before is not None and config.pretraining is not None:
        stage = system.before
        (problem,) = stage.problems
        train_folds(workdir, config, config.pretraining, dataset, stage, problem,
                    folds_by_problem[problem])  # fmt: skip
        before = checkpoints.read_finished(workdir, problem)
    for problem in system.problems:
        train_folds(workdir, config, config.train, dataset, system, problem,
                    folds_by_problem[problem], before)  # fmt: skip


def train_folds(
    workdir: Path,
    config: Config,
    chosen: Train,
    dataset: Dataset,
    system: System,
    problem: str,
    members: list[plans.Fold],
    before: checkpoints.Finished | None = None,
) -> None:
    """Train a problem's folds, or go on with it; checkpoints and log go to disk."""
    mesh, log = folds.make_mesh(chosen.devices), rundir.Log(workdir)
    members = plans.initialised(members, chosen.initialisations)
    subjects = [fold.subject for fold in members]
    total = plans.num_epochs(members, chosen.batch, chosen.epochs, chosen.updates)
    with checkpoints.Checkpoints(workdir, problem) as store:
        done = store.latest
        log.restart(problem, done)
        if store.finished:
            return
        states, best = start.states(
            config, chosen, system, problem, dataset, members, store, before
        )
        placed, arrays = training.place(system, problem, dataset.streams, members, mesh)

        def planned(memory: training.Memory) -> None:
            print(memory_plan(problem, members, memory, mesh.size), file=sys.stderr)

        epochs = training.train_folds(
            system, problem, placed, arrays, chosen, mesh, states, done, planned, best
        )
        with tqdm(total=total, initial=done, desc=f"train {problem}", unit="epoch") as bar:
            begin = time.perf_counter()
            for epoch in epochs:
                record = epoch_record(problem, members, epoch)
                record["seconds"] = round(time.perf_counter() - begin, 3)
                log.append(record)  # first: a line without a checkpoint is dropped on resuming
                number = epoch.number + 1
                if chosen.score_every and number % chosen.score_every == 0:
                    # before the checkpoint: an epoch that is kept has its curves
                    keep_scores(workdir, system, problem, dataset, members, epoch)
                if epoch.last or number % chosen.checkpoint_every == 0:
                    of = number if epoch.last else total
                    meta = {"epochs": number, "of": of, "subjects": subjects}
                    store.save(number, epoch.states, meta, epoch.best)
                known = [loss for loss in record["loss"].values() if loss is not None]
                bar.set_postfix(loss=f"{np.mean(known):.4f}", folds=len(known))
                bar.update()
                begin = time.perf_counter()
        store.wait()


def epoch_record(problem: str, members: list[plans.Fold], epoch: training.Epoch) -> dict[str, Any]:
    """The line of an epoch in log.jsonl; a loss is None for a fold that has stopped."""
    names = [fold.name for fold in members]
    losses = [float(loss.mean(dtype=np.float64)) if loss.size else None for loss in epoch.losses]
    record: dict[str, Any] = {"problem": problem, "epoch": epoch.number + 1}
    record["loss"] = dict(zip(names, losses, strict=True))
    if epoch.merits is not None:
        merits = [[round(float(x), 6) for x in row] for row in epoch.merits]
        record["validation"] = dict(zip(names, merits, strict=True))
    return record


def keep_scores(
    workdir: Path,
    system: System,
    problem: str,
    dataset: Dataset,
    members: list[plans.Fold],
    epoch: training.Epoch,
) -> None:
    """Score the held-out and the validation videos of every fold and keep the curves.

    Of several initialisations of a fold the one that validation likes best at the moment is taken.
    """
    subjects = [fold.subject for fold in members]
    merits = np.zeros((len(members), 0)) if epoch.best is None else epoch.best.merits
    rows = checkpoints.best_rows(subjects, merits)
    videos_of = [
        [v for v in dataset.videos if v.subject == fold.subject or v.id in fold.validation]
        for fold in (members[row] for row in rows.values())
    ]
    variables = jax.tree.map(lambda leaf: leaf[list(rows.values())], epoch.states.variables)
    found = scoring.score_all(system, problem, dataset, videos_of, variables)
    for name, curves in found.items():
        epoch_scores.save(workdir, name, epoch.number + 1, list(rows), curves)


def memory_plan(
    problem: str, members: list[plans.Fold], memory: training.Memory, devices: int
) -> str:
    """What training needs of each device, in one line."""
    samples = [fold.size for fold in members]
    need = memory.features + memory.folds + memory.temporary
    of = f" of {memory.device / 1e9:.1f}" if memory.device else ""
    line = (
        f"{problem}: {len(members)} folds, {memory.folds_at_a_time} at a time over {devices} "
        f"device(s), {min(samples)}-{max(samples)} samples a fold; memory of a device: features "
        f"{memory.features / 1e9:.2f} GB, folds {memory.folds / 1e9:.2f}, temporary "
        f"{memory.temporary / 1e9:.2f}, together {need / 1e9:.2f}{of} GB"
    )
    if memory.device and need > memory.device:
        line += ": more than there is; use a smaller --config.train.fold_chunk"
    return line


if __name__ == "__main__":
    sys.exit(main())
