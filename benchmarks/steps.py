"""The one place where benchmarks call the fold training: an epoch as `spotjax.train` runs it."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks.common import Run
from spotjax.config import Train
from spotjax.data import plans
from spotjax.loso import folds as folds_lib
from spotjax.loso import training
from spotjax.types import System


def training_epoch(*arguments: Any, **options: Any) -> tuple[Run, int]:
    """The epoch of `lowered_epoch`, compiled, and its temporary memory in bytes.

    Every run goes on from where the last one ended.
    """
    lowered, state, given = lowered_epoch(*arguments, **options)
    compiled = lowered.compile()
    box = [state]

    def run() -> None:
        box[0], losses = compiled(box[0], *given)
        jax.block_until_ready((box[0], losses))

    return run, compiled.memory_analysis().temp_size_in_bytes


def lowered_epoch(
    system: System,
    problem: str,
    train: Train,
    arrays: Mapping[str, np.ndarray],
    members: Sequence[plans.Fold],
    order: np.ndarray,
    devices: int = 1,
    fold_exec: str = "auto",
) -> tuple[Any, Any, tuple[Any, ...]]:
    """One epoch of all folds, traced; the folds' states and its other arguments, on the devices.

    `arrays` are the streams' rows by name, `order` i32[F, S, B] as `plans.epoch_order` makes it.
    """
    mesh = folds_lib.make_mesh(devices)
    optimizer = folds_lib.make_optimizer(train)
    epoch = folds_lib.make_epoch(system, problem, optimizer, mesh, fold_exec)
    number = system.problems.index(problem)
    count = folds_lib.padded_count(len(members), mesh)
    made = (
        folds_lib.init_state(
            system, optimizer, train.seed, [fold.initialisation for fold in members]
        ),
        folds_lib.fold_keys(train.seed, number, [(f.number, f.initialisation) for f in members]),
        plans.stack([fold.samples for fold in members]),
    )
    idle = np.full((count - len(members), *order.shape[1:]), -1, np.int32)
    sizes = folds_lib.pad_folds(training.step_sizes(members, train, 0), count)
    folded = (*folds_lib.pad_folds(made, count), np.concatenate([order, idle]), sizes)
    state, *given = folds_lib.put(folded, mesh, folds_lib.FOLD)
    placed = folds_lib.put(dict(arrays), mesh, folds_lib.COMMON)
    return epoch.lower(state, *given, placed), state, (*given, placed)
