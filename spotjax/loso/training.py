"""The host side of fold training: groups of folds, epochs, results.  Prints and writes nothing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from spotjax.config import Train
from spotjax.data import plans, rows
from spotjax.errors import UserError
from spotjax.loso import feeding
from spotjax.loso import folds as folds_lib
from spotjax.types import System


class Best(NamedTuple):
    """What validation likes best so far; host arrays `[F, ...]`."""

    variables: Any
    merits: np.ndarray
    """f32[F, K], -inf before the first validation."""
    epoch: np.ndarray
    """i32[F]: epochs done when they were reached."""
    waited: np.ndarray
    """i32[F]: validations since then that tried the patience."""


class Epoch(NamedTuple):
    """What one epoch of all folds gave."""

    number: int
    states: folds_lib.State
    """Host arrays `[F, ...]` in the order of the folds, as they were at the last checkpoint,
    validation or scoring that was due."""
    losses: list[np.ndarray]
    """Per fold f32[steps of this fold]."""
    best: Best | None = None
    """Where folds are judged by validation."""
    merits: np.ndarray | None = None
    """f32[F, K] of this epoch, if it was judged."""
    last: bool = False
    """Whether every fold has stopped, or made all its epochs."""

    @property
    def variables(self) -> Any:
        """The parameters that the training would end with now."""
        return self.states.variables if self.best is None else self.best.variables


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
    """Folds trained at a time: positions in the list, and what is kept of them for all epochs."""

    members: slice
    keys: jax.Array
    samples: Any
    judged: Any
    """Validation samples and the order of their batches, None where there are none."""


def place(
    system: System,
    problem: str,
    streams: Mapping[str, np.ndarray],
    folds: Sequence[plans.Fold],
    mesh: Mesh,
) -> tuple[list[plans.Fold], Any]:
    """The folds and the streams that they read, copied once to every device of the mesh.

    `streams` are `[R, ...]` by name.  Only the rows that a sample reads are copied, `[r, ...]`; the
    samples of the returned folds count them.
    """
    used = rows.used(folds, system.reach, len(streams[system.valid(problem)]))
    taken = rows.take(streams, system.streams(problem), used)
    arrays = {name: folds_lib.put(array, mesh, folds_lib.COMMON) for name, array in taken.items()}
    return rows.renumbered(folds, used), arrays


def train_folds(
    system: System,
    problem: str,
    folds: Sequence[plans.Fold],
    arrays: Mapping[str, jax.Array] | feeding.Streamed,
    train: Train,
    mesh: Mesh,
    states: folds_lib.State | None = None,
    first_epoch: int = 0,
    planned: Callable[[Memory], object] = lambda memory: None,
    best: Best | None = None,
) -> Iterator[Epoch]:
    """Train all folds of a problem together and yield after every epoch.

    `folds` and `arrays` (`[r, ...]`) are those of `place`, or folds as planned and
    `feeding.Streamed`.
    `states`, `best` and `first_epoch` continue an earlier run: the result is bit-identical to one
    that was never interrupted, because everything random is drawn from (seed, fold, step or
    epoch).  `planned` is told the need of memory once the program is compiled, before it runs.
    Raises UserError naming the fold if a loss is not finite.
    """
    feed = arrays if isinstance(arrays, feeding.Streamed) else feeding.Resident(arrays, mesh)
    number = system.problems.index(problem)
    optimizer = folds_lib.make_optimizer(train)
    epoch_of = folds_lib.make_epoch(system, problem, optimizer, mesh, train.fold_exec, feed.spec)
    if states is None:
        which = [fold.initialisation for fold in folds]
        states = folds_lib.init_state(system, optimizer, train.seed, which)
    states = jax.tree.map(np.asarray, states)
    judging = bool(train.validate_every and folds[0].judged is not None)
    validate = None
    if judging:
        validate = folds_lib.make_validate(system, problem, mesh, train.fold_exec, feed.spec)
        best = best or first_best(system, states, len(folds))
    count = folds_lib.padded_count(len(folds), mesh, train.fold_chunk)
    groups, on_device = _groups(folds, states, train, number, mesh, count, feed)

    total = plans.num_epochs(folds, train.batch, train.epochs, train.updates)
    program = None
    for epoch in range(first_epoch, total):
        stopped = np.zeros(len(folds), bool)
        if best is not None and train.patience:
            stopped = best.waited >= train.patience
            if stopped.all():
                return
        order = plans.epoch_order(
            folds, number, train.seed, epoch, train.batch, train.reshuffle, train.updates
        )
        order[stopped] = -1
        all_sizes = step_sizes(folds, train, epoch)
        losses: list[np.ndarray] = []
        found = []
        judge = judging and (epoch + 1 == total or (epoch + 1) % train.validate_every == 0)
        for position, group in enumerate(groups):
            mine = order[group.members]
            padding = np.full((count - len(mine), *order.shape[1:]), -1, np.int32)
            padded = np.concatenate([mine, padding])
            sizes = folds_lib.put(
                folds_lib.pad_folds(all_sizes[group.members], count), mesh, folds_lib.FOLD
            )
            of_pieces: list[Any] = []
            try:
                for piece in feed.pieces(group.samples, padded):
                    given = (group.keys, piece.samples, piece.order, sizes, piece.arrays)
                    if program is None:
                        program = epoch_of.lower(on_device[position], *given).compile()
                        fold_bytes = _nbytes((on_device[position], *given[:4])) // mesh.size
                        planned(_memory(program, feed.row_bytes, fold_bytes, count))
                    on_device[position], loss = program(on_device[position], *given)
                    if of_pieces:  # the devices are at most one piece ahead of the reader
                        jax.block_until_ready(of_pieces[-1])
                    of_pieces.append(loss)
                if judge and validate is not None:
                    variables = on_device[position].variables
                    found.append(_merits(validate, variables, group, feed, mesh, system.merits))
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                raise UserError(
                    f"{problem}: the devices' memory is too small for {count} folds at a time: "
                    "run the same command again with a smaller --config.train.fold_chunk "
                    "(--config.pretrain.fold_chunk in pre-training)"
                ) from None
            of_folds = np.concatenate(folds_lib.fetch(of_pieces), axis=1)
            steps = (mine >= 0).any(axis=2).sum(axis=1)
            losses += [row[:n] for row, n in zip(of_folds, steps, strict=False)]
        _refuse_non_finite(problem, folds, epoch, losses)
        merits, done = None, epoch + 1
        last = done == total
        kept = last or done % train.checkpoint_every == 0
        if judge or kept or (train.score_every and done % train.score_every == 0):
            states = _gather(on_device, groups)
        if judge and best is not None:
            of_groups = [group.members.stop - group.members.start for group in groups]
            merits = np.concatenate([rows[:n] for rows, n in zip(found, of_groups, strict=True)])
            best = _better(best, states, merits, done, stopped, train.patience_after)
            last = last or bool(train.patience and (best.waited >= train.patience).all())
        yield Epoch(epoch, states, losses, best, merits, last)


def step_sizes(folds: Sequence[plans.Fold], train: Train, epoch: int) -> np.ndarray:
    """f32[F, 2]: each fold's step size of the first epoch, and the factor on it in this one."""
    settings = [train if fold.own is None else fold.own for fold in folds]
    return np.array([(own.learning_rate, own.decay**epoch) for own in settings], np.float32)


def part(epoch: Epoch, members: slice) -> Epoch:
    """What an epoch gave the folds `members`."""

    def cut(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf[members], tree)

    return epoch._replace(
        states=cut(epoch.states),
        losses=epoch.losses[members],
        best=cut(epoch.best),
        merits=cut(epoch.merits),
    )


def first_best(system: System, states: folds_lib.State, folds: int) -> Best:
    """Before any validation: the parameters that training begins with."""
    none = np.zeros(folds, np.int32)
    merits = np.full((folds, system.merits), -np.inf, np.float32)
    return Best(states.variables, merits, none, none)


def _better(
    best: Best,
    states: folds_lib.State,
    merits: np.ndarray,
    epochs: int,
    stopped: np.ndarray,
    patience_after: int,
) -> Best:
    """`best` after a validation: merits are compared in their order, of equals the earlier stay."""
    better = np.array([tuple(a) > tuple(b) for a, b in zip(merits, best.merits, strict=True)])
    better &= ~stopped
    tried = ~better & ~stopped & (np.asarray(states.step) > patience_after)

    def chosen(new: np.ndarray, old: np.ndarray) -> np.ndarray:
        return np.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return Best(
        jax.tree.map(chosen, states.variables, best.variables),
        chosen(merits, best.merits),
        np.where(better, epochs, best.epoch).astype(np.int32),
        np.where(better, 0, best.waited + tried).astype(np.int32),
    )


def _groups(
    folds: Sequence[plans.Fold],
    states: folds_lib.State,
    train: Train,
    number: int,
    mesh: Mesh,
    count: int,
    feed: feeding.Resident | feeding.Streamed,
) -> tuple[list[_Group], list[folds_lib.State]]:
    """Groups of `count` folds, the last one padded, and their states on the devices."""
    keys = np.concatenate(
        [
            folds_lib.fold_keys(
                train.seed if f.own is None else f.own.seed, number, [(f.number, f.initialisation)]
            )
            for f in folds
        ]
    )
    samples = plans.stack([fold.samples for fold in folds])
    tables = [fold.judged for fold in folds if fold.judged is not None]
    judged = (plans.stack(tables), plans.batches(tables, train.batch)) if tables else None
    groups, on_device = [], []
    for start in range(0, len(folds), count):
        members = slice(start, min(start + count, len(folds)))
        cut = jax.tree.map(lambda leaf, m=members: leaf[m], (states, keys, samples, judged))
        state, key, table, aside = folds_lib.pad_folds(cut, count)
        held = None if aside is None else (feed.hold(aside[0]), aside[1])
        state, key = folds_lib.put((state, key), mesh, folds_lib.FOLD)
        groups.append(_Group(members, key, feed.hold(table), held))
        on_device.append(state)
    return groups, on_device


def _merits(
    validate: Any,
    variables: Any,
    group: _Group,
    feed: feeding.Resident | feeding.Streamed,
    mesh: Mesh,
    merits: int,
) -> np.ndarray:
    """f32[F, K]: mean merits of each fold's validation samples, 0 without any."""
    held, order = group.judged
    sums: Any = folds_lib.put(np.zeros((len(order), merits + 1), np.float32), mesh, folds_lib.FOLD)
    for piece in feed.pieces(held, order):
        first = np.int32(piece.first)
        sums = validate(
            variables, group.keys, piece.samples, piece.order, sums, piece.arrays, first
        )
    found = folds_lib.fetch(sums)
    return found[:, :-1] / np.maximum(found[:, -1:], 1)


def _nbytes(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def _memory(program: Any, features: int, folds: int, count: int) -> Memory:
    """The need of a compiled epoch, `features` and `folds` in bytes on each device."""
    stats = jax.local_devices()[0].memory_stats() or {}
    temporary = int(program.memory_analysis().temp_size_in_bytes)
    return Memory(features, folds, temporary, int(stats.get("bytes_limit", 0)), count)


def _gather(on_device: list[folds_lib.State], groups: list[_Group]) -> folds_lib.State:
    """Host arrays `[F, ...]` of all groups, without their padding."""
    parts = [
        jax.tree.map(
            lambda leaf, n=g.members.stop - g.members.start: leaf[:n], folds_lib.fetch(state)
        )
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
                f"{problem}, fold {fold.name}: the loss is {loss[bad[0]]} at step {bad[0]} of "
                f"epoch {epoch + 1}; the epochs before are kept. Check the shards' values or "
                "lower train.learning_rate (in another --workdir)"
            )
