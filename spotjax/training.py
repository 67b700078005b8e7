"""The host side of fold training: groups of folds, epochs, results.  Prints and writes nothing."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from spotjax import folds as folds_lib
from spotjax.config import Train
from spotjax.data import plans
from spotjax.errors import UserError
from spotjax.types import System


class Epoch(NamedTuple):
    """What one epoch of all folds gave."""

    number: int
    states: folds_lib.State
    """Host arrays `[F, ...]` after the epoch, in the order of the folds."""
    losses: list[np.ndarray]
    """Per fold f32[steps of this fold]."""


class _Group(NamedTuple):
    """Folds trained at a time: positions in the list, and what lies on the devices."""

    members: slice
    keys: jax.Array
    samples: Any


def put_streams(system: System, problem: str, streams: Mapping[str, np.ndarray], mesh: Mesh) -> Any:
    """The streams that `problem` needs, copied once to every device of the mesh."""
    return {
        name: folds_lib.put(streams[name], mesh, folds_lib.COMMON)
        for name in system.streams(problem)
    }


def train_folds(
    system: System,
    problem: str,
    folds: Sequence[plans.Fold],
    arrays: Any,
    train: Train,
    mesh: Mesh,
    states: folds_lib.State | None = None,
    first_epoch: int = 0,
) -> Iterator[Epoch]:
    """Train all folds of a problem together and yield after every epoch.

    `states` and `first_epoch` continue an earlier run: the result is bit-identical to one that
    was never interrupted, because everything random is drawn from (seed, fold, step or epoch).
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

    for epoch in range(first_epoch, train.epochs):
        rate = np.float32(train.decay**epoch)
        order = plans.epoch_order(folds, number, train.seed, epoch, train.batch, train.reshuffle)
        losses: list[np.ndarray] = []
        for position, group in enumerate(groups):
            mine = order[group.members]
            padding = np.full((count - len(mine), *order.shape[1:]), -1, np.int32)
            placed_order = folds_lib.put(np.concatenate([mine, padding]), mesh, folds_lib.FOLD)
            try:
                on_device[position], loss = epoch_of(
                    on_device[position], group.keys, group.samples, placed_order, arrays, rate
                )
                rows = np.asarray(loss)
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                raise UserError(
                    f"{problem}: the devices' memory is too small for {count} folds at a time: "
                    "run the same command again with a smaller --config.train.fold_chunk"
                ) from None
            steps = (mine >= 0).any(axis=2).sum(axis=1)
            losses += [row[:n] for row, n in zip(rows, steps, strict=False)]
        _refuse_non_finite(problem, folds, epoch, losses)
        yield Epoch(epoch, _gather(on_device, groups), losses)


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
