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
    training,
)
from spotjax.cli import load_config, parse, parser
from spotjax.config import Config, cores
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
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax tells what we say in one line

    with files.locked(workdir, "wait for it, or choose another --workdir"):
        if status := make_shards(options.config, overrides):
            return status  # data_prep has said why
        dataset = shards.load(schema.shards_folder(config), config)
        system = build(config.system, dict(dataset.k))
        members = {problem: folds_of(config, dataset, system, problem) for problem in
                   system.problems}  # fmt: skip
        rundir.open_run(workdir, config, dataset.manifest["hash"], schema.shards_folder(config))
        train_run(workdir, config, dataset, system, members)
        if config.evaluate:
            line = " ".join(["python -m spotjax.train", *argv])
            results = evaluate.evaluate_run(
                workdir, config, dataset, schema.shards_folder(config), line
            )
            evaluate.print_results(workdir, results)
    return 0


def folds_of(config: Config, dataset: Dataset, system: System, problem: str) -> list[plans.Fold]:
    """The LOSO folds of a problem."""
    chosen = config.train
    return plans.loso(system, dataset, problem, chosen.seed, chosen.folds, chosen.validation)


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
    """Train every problem's folds that are not finished yet; checkpoints and log go to disk."""
    mesh = folds.make_mesh(config.train.devices)
    log = rundir.Log(workdir)
    for problem in system.problems:
        with checkpoints.Checkpoints(workdir, problem) as store:
            done = store.latest
            log.restart(problem, done)
            if done >= config.train.epochs:
                continue
            members = folds_by_problem[problem]
            optimizer = folds.make_optimizer(config.train)
            states = None
            if done:
                like = folds.init_state(system, optimizer, config.train.seed, len(members))
                states, _ = store.restore(jax.tree.map(np.asarray, like))
            arrays = training.put_streams(system, problem, dataset.streams, mesh)
            print(memory_plan(problem, members, arrays, mesh.size), file=sys.stderr)
            epochs = training.train_folds(
                system, problem, members, arrays, config.train, mesh, states, done
            )
            total = config.train.epochs
            with tqdm(total=total, initial=done, desc=f"train {problem}", unit="epoch") as bar:
                begin = time.perf_counter()
                for epoch in epochs:
                    losses = [float(loss.mean(dtype=np.float64)) for loss in epoch.losses]
                    record = {
                        "problem": problem,
                        "epoch": epoch.number + 1,
                        "seconds": round(time.perf_counter() - begin, 3),
                        "loss": {f.subject: x for f, x in zip(members, losses, strict=True)},
                    }
                    log.append(record)  # first: a line without a checkpoint is dropped on resuming
                    meta = {"epochs": epoch.number + 1, "subjects": [f.subject for f in members]}
                    if config.train.score_every and (
                        (epoch.number + 1) % config.train.score_every == 0
                    ):  # before the checkpoint: an epoch that is kept has its curves
                        keep_scores(workdir, system, problem, dataset, members, epoch, arrays)
                    store.save(epoch.number + 1, epoch.states, meta)
                    bar.set_postfix(loss=f"{np.mean(losses):.4f}", folds=len(members))
                    bar.update()
                    begin = time.perf_counter()
            store.wait()


def keep_scores(
    workdir: Path,
    system: System,
    problem: str,
    dataset: Dataset,
    members: list[plans.Fold],
    epoch: training.Epoch,
    arrays: Any,
) -> None:
    """Score the held-out and the validation subjects of every fold and keep the curves."""
    here = {name: array.addressable_shards[0].data for name, array in arrays.items()}
    videos_of = [
        [v for v in dataset.videos if v.subject in (fold.subject, *fold.validation)]
        for fold in members
    ]
    curves = scoring.score_problem(
        system, problem, dataset, videos_of, epoch.states.variables, here
    )
    subjects = [fold.subject for fold in members]
    epoch_scores.save(workdir, problem, epoch.number + 1, subjects, curves)


def memory_plan(problem: str, members: Any, arrays: Any, devices: int) -> str:
    """What lies on each device, in one line."""
    data = sum(array.nbytes for array in arrays.values())
    samples = [fold.size for fold in members]
    return (
        f"{problem}: {len(members)} folds over {devices} device(s), {min(samples)}-{max(samples)} "
        f"samples a fold, features {data / 1e9:.2f} GB on each device"
    )


if __name__ == "__main__":
    sys.exit(main())
