"""The host side of fold training: groups of folds, epochs, results.  Prints and writes nothing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from spotjax import folds as folds_lib
from spotjax.config import Train
from spotjax.data import plans, rows
from spotjax.errors import UserError
from spotjax.types import System


class Epoch(NamedTuple):
    """What one epoch of all folds gave."""

    number: int
    states: folds_lib.State
    """Host arrays `[F, ...]` after the epoch, in the order of the folds."""
    losses: list[np.ndarray]
    """Per fold f32[steps of this fold]."""


class Memory(NamedTuple):
    """What training needs of each device, in bytes, and what it has."""

    features: int
    folds: int
    """Parameters, optimiser state and samples of the folds trained at a time."""
    temporary: int
    """What the compiled epoch sets aside beside its arguments."""
    device: int
    """Memory of the device, 0 if it does not say."""
    folds_at_a_time: int
    """On all devices together."""


class _Group(NamedTuple):
    """Folds trained at a time: positions in the list, and what lies on the devices."""

    members: slice
    keys: jax.Array
    samples: Any


def place(
    system: System,
    problem: str,
    streams: Mapping[str, np.ndarray],
    folds: Sequence[plans.Fold],
    mesh: Mesh,
) -> tuple[list[plans.Fold], Any]:
    """The folds and the streams that they read, copied once to every device of the mesh.

    Only the rows that a sample reads are copied; the samples of the returned folds count them.
    """
    used = rows.used(folds, system.reach, len(streams[system.valid(problem)]))
    taken = rows.take(streams, system.streams(problem), used)
    arrays = {name: folds_lib.put(array, mesh, folds_lib.COMMON) for name, array in taken.items()}
    return rows.renumbered(folds, used), arrays


def train_folds(
    system: System,
    problem: str,
    folds: Sequence[plans.Fold],
    arrays: Any,
    train: Train,
    mesh: Mesh,
    states: folds_lib.State | None = None,
    first_epoch: int = 0,
    planned: Callable[[Memory], object] = lambda memory: None,
) -> Iterator[Epoch]:
    """Train all folds of a problem together and yield after every epoch.

    `states` and `first_epoch` continue an earlier run: the result is bit-identical to one that
    was never interrupted, because everything random is drawn from (seed, fold, step or epoch).
    `planned` is told the need of memory once the program is compiled, before it runs.
    Raises UserError naming the fold if a loss is not finite.
    """
    number = system.problems.index(problem)
    optimizer = folds_lib.make_optimizer(train)
    epoch_of = folds_lib.make_epoch(system, problem, optimizer, mesh, train.fold_exec)
    if states is None:
        states = folds_lib.init_state(system, optimizer, train.seed, len(folds))
    states = jax.tree.map(np.asarray, states)
    keys = folds_lib.fold_keys(train.seed, number, [fold.number for fold in folds])
    samples = plans.stack(folds)
    count = folds_lib.padded_count(len(folds), mesh, train.fold_chunk)
    groups, on_device = [], []
    for start in range(0, len(folds), count):
        members = slice(start, min(start + count, len(folds)))
        cut = jax.tree.map(lambda leaf, m=members: leaf[m], (states, keys, samples))
        placed = folds_lib.put(folds_lib.pad_folds(cut, count), mesh, folds_lib.FOLD)
        groups.append(_Group(members, placed[1], placed[2]))
        on_device.append(placed[0])

    program = None
    for epoch in range(
        first_epoch, plans.num_epochs(folds, train.batch, train.epochs, train.updates)
    ):
        rate = np.float32(train.decay**epoch)
        order = plans.epoch_order(
            folds, number, train.seed, epoch, train.batch, train.reshuffle, train.updates
        )
        losses: list[np.ndarray] = []
        for position, group in enumerate(groups):
            mine = order[group.members]
            padding = np.full((count - len(mine), *order.shape[1:]), -1, np.int32)
            placed_order = folds_lib.put(np.concatenate([mine, padding]), mesh, folds_lib.FOLD)
            given = (group.keys, group.samples, placed_order, arrays, rate)
            try:
                if program is None:
                    program = epoch_of.lower(on_device[position], *given).compile()
                    fold_bytes = _nbytes((on_device[position], *given[:3])) // mesh.size
                    planned(_memory(program, _nbytes(arrays), fold_bytes, mesh, count))
                on_device[position], loss = program(on_device[position], *given)
                of_folds = np.asarray(loss)
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                raise UserError(
                    f"{problem}: the devices' memory is too small for {count} folds at a time: "
                    "run the same command again with a smaller --config.train.fold_chunk"
                ) from None
            steps = (mine >= 0).any(axis=2).sum(axis=1)
            losses += [row[:n] for row, n in zip(of_folds, steps, strict=False)]
        _refuse_non_finite(problem, folds, epoch, losses)
        yield Epoch(epoch, _gather(on_device, groups), losses)


def _nbytes(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def _memory(program: Any, features: int, folds: int, mesh: Mesh, count: int) -> Memory:
    """The need of a compiled epoch, `features` and `folds` in bytes on each device."""
    stats = mesh.devices.flat[0].memory_stats() or {}
    temporary = int(program.memory_analysis().temp_size_in_bytes)
    return Memory(features, folds, temporary, int(stats.get("bytes_limit", 0)), count)


def _gather(on_device: list[folds_lib.State], groups: list[_Group]) -> folds_lib.State:
    """Host arrays `[F, ...]` of all groups, without their padding."""
    parts = [
        jax.tree.map(lambda leaf, n=g.members.stop - g.members.start: np.asarray(leaf)[:n], state)
        for state, g in zip(on_device, groups, strict=True)
    ]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _refuse_non_finite(
    problem: str, folds: Sequence[plans.Fold], epoch: int, losses: list[np.ndarray]
) -> None:
    for fold, loss in zip(folds, losses, strict=True):
        bad = np.flatnonzero(~np.isfinite(loss))
        if bad.size:
            raise UserError(
                f"{problem}, fold {fold.subject}: the loss is {loss[bad[0]]} at step {bad[0]} of "
                f"epoch {epoch + 1}; the epochs before are kept. Check the shards' values or "
                "lower train.learning_rate (in another --workdir)"
            )
