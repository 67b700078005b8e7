"""LOSO folds and the order of their samples (NumPy only).

The leakage wall: a fold's sample table is made from the videos of the other subjects alone, so
the held-out subject's labels are not even in memory of the program that trains the fold.  All
randomness comes from (seed, problem, fold, epoch), so a fold's plan does not depend on which other
folds are trained beside it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from spotjax.errors import UserError
from spotjax.types import Dataset, Samples, System

_SELECT, _ORDER, _VALIDATION = 0, 1, 2


class Fold(NamedTuple):
    """One held-out subject of one problem."""

    number: int
    """Position of the subject among all subjects of the data set."""
    subject: str
    samples: Samples
    """The samples this fold trains on, none of them from `subject` or `validation`."""
    validation: tuple[str, ...] = ()
    """Training subjects kept out of training, to choose an epoch by."""

    @property
    def size(self) -> int:
        """Number of samples."""
        return len(next(iter(self.samples.values())))


def _rng(seed: int, problem: int, fold: int, purpose: int, epoch: int = 0) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, problem, fold, purpose, epoch]))


def chosen_subjects(dataset: Dataset, wanted: Sequence[str]) -> tuple[str, ...]:
    """The subjects to hold out: all, or those `wanted`.  Raises UserError for an unknown one."""
    unknown = [subject for subject in wanted if subject not in dataset.subjects]
    if unknown:
        raise UserError(
            f"train.folds: no subject {unknown[0]!r} in {dataset.name}; "
            f"there are {', '.join(dataset.subjects)}"
        )
    return tuple(s for s in dataset.subjects if not wanted or s in wanted)


def loso(
    system: System,
    dataset: Dataset,
    problem: str,
    seed: int,
    wanted: Sequence[str] = (),
    validation: int = 0,
) -> list[Fold]:
    """Leave-one-subject-out folds of `problem`, in the order of the data set.

    `validation` subjects of each fold, drawn from (seed, fold), are kept out of its training too.
    Raises UserError if there are too few subjects, or if a fold has nothing to learn from.
    """
    subjects = dataset.subjects
    if len(subjects) < 2:
        raise UserError(
            f"{dataset.name}: leave-one-subject-out needs at least 2 subjects, "
            f"there is {len(subjects)}"
        )
    if len(subjects) < 2 + validation:
        raise UserError(
            f"{dataset.name}: train.validation={validation} leaves nothing to train on: there are "
            f"{len(subjects)} subjects, one of them held out"
        )
    number = system.problems.index(problem)
    valid = dataset.streams[system.valid(problem)]
    tables = {
        video.id: _present(
            system.targets(video, valid[video.rows] > 0, problem), dataset, system.valid(problem)
        )
        for video in dataset.videos
    }
    folds = []
    for subject in chosen_subjects(dataset, wanted):
        position = subjects.index(subject)
        aside = validation_subjects(subjects, subject, seed, validation)
        kept = [
            tables[v.id] for v in dataset.videos if v.subject != subject and v.subject not in aside
        ]
        joined = {name: np.concatenate([table[name] for table in kept]) for name in kept[0]}
        samples = system.select(joined, _rng(seed, number, position, _SELECT), problem)
        fold = Fold(position, subject, samples, aside)
        if fold.size == 0:
            raise UserError(
                f"{dataset.name}: fold {subject} has nothing to learn {problem}-expressions "
                "from: no other subject has one; leave out the fold with --config.train.folds=..., "
                "or, where a system learns the types apart, the type with --config.system.types=..."
            )
        folds.append(fold)
    return folds


def _present(table: Samples, dataset: Dataset, valid: str) -> Samples:
    """`table` without samples of events that have no features."""
    if "event" not in table:
        return table
    there = dataset.streams[event_stream(valid)] > 0
    row, event = table["row"], table["event"] > 0
    keep = ~event | there[np.where(event, row, 0)] if len(there) else ~event
    return {name: array[keep] for name, array in table.items()}


def event_stream(name: str) -> str:
    """`valid_event_x` of `valid_x`: the stream of events that belongs to one of frames."""
    return name.replace("valid_", "valid_event_", 1)


def validation_subjects(
    subjects: Sequence[str], held_out: str, seed: int, count: int
) -> tuple[str, ...]:
    """`count` of the other subjects, the same for every problem; in the order of `subjects`."""
    others = [subject for subject in subjects if subject != held_out]
    rng = _rng(seed, 0, subjects.index(held_out), _VALIDATION)
    return tuple(others[i] for i in sorted(rng.choice(len(others), count, replace=False)))


def stack(folds: Sequence[Fold]) -> Samples:
    """The folds' sample tables padded with zeros to one length: `[F, N, ...]`."""
    longest = max(fold.size for fold in folds)
    return {
        name: np.stack(
            [
                np.concatenate(
                    [
                        fold.samples[name],
                        np.zeros((longest - fold.size, *array.shape[1:]), array.dtype),
                    ]
                )
                for fold in folds
            ]
        )
        for name, array in folds[0].samples.items()
    }


def num_epochs(folds: Sequence[Fold], batch: int, epochs: int, updates: int = 0) -> int:
    """Epochs until every fold has made its `updates` (0: no limit), at most `epochs`."""
    if not updates:
        return epochs
    fewest = min(-(-fold.size // batch) for fold in folds)
    return min(epochs, -(-updates // fewest))


def epoch_order(
    folds: Sequence[Fold],
    problem: int,
    seed: int,
    epoch: int,
    batch: int,
    reshuffle: bool = True,
    updates: int = 0,
) -> np.ndarray:
    """Which samples each step of an epoch uses: i32[F, S, B], -1 for padding.

    Each fold's own shuffled order cut into batches; the last one may be partial, and folds with
    fewer samples end with steps of padding only.  A fold that has made `updates` updates (0: no
    limit) has padding from there on.
    """
    steps = max(-(-fold.size // batch) for fold in folds)
    order = np.full((len(folds), steps * batch), -1, np.int32)
    for row, fold in enumerate(folds):
        rng = _rng(seed, problem, fold.number, _ORDER, epoch if reshuffle else 0)
        order[row, : fold.size] = rng.permutation(fold.size)
        if updates:
            done = epoch * -(-fold.size // batch)
            order[row, max(updates - done, 0) * batch :] = -1
    return order.reshape(len(folds), steps, batch)
