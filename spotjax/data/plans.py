"""LOSO folds and the order of their samples (NumPy only).

The leakage wall: a fold's sample table is made from the videos of the other subjects alone, so
the held-out subject's labels are not even in memory of the program that trains the fold.  All
randomness comes from (seed, problem, fold, epoch), so a fold's plan does not depend on which other
folds are trained beside it.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from spotjax.config import Train
from spotjax.data import splits
from spotjax.errors import UserError
from spotjax.types import Dataset, Samples, System


class Fold(NamedTuple):
    """One held-out subject of one problem."""

    number: int
    """Position of the subject among all subjects of the data set."""
    subject: str
    samples: Samples
    """The samples this fold trains on, none of them from `subject` or `validation`."""
    validation: tuple[str, ...] = ()
    """Videos of other subjects kept out of training, to choose by."""
    judged: Samples | None = None
    """Samples of the validation videos, where a system judges by them."""
    initialisation: int = 0
    """Which of the initialisations that are tried."""
    own: Train | None = None
    """Its run's settings, where runs that differ in seed or step size are trained together."""

    @property
    def size(self) -> int:
        """Number of samples."""
        return size(self.samples)

    @property
    def name(self) -> str:
        """The subject, with the number of the initialisation but for the first: `s15#1`."""
        return f"{self.subject}#{self.initialisation}" if self.initialisation else self.subject


def size(samples: Samples) -> int:
    """Number of samples of a table."""
    return len(next(iter(samples.values())))


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
    system: System, dataset: Dataset, problem: str, train: Train, wanted: Sequence[str] = ()
) -> list[Fold]:
    """Leave-one-subject-out folds of `problem`, in the order of the data set.

    `train.validation` of each fold's other subjects or videos, drawn from (seed, fold), are kept
    out of its training too.  Raises UserError if there are too few, or if a fold has nothing to
    learn from.
    """
    subjects = dataset.subjects
    if len(subjects) < 2:
        raise UserError(
            f"{dataset.name}: leave-one-subject-out needs at least 2 subjects, "
            f"there is {len(subjects)}"
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
    for subject in chosen_subjects(dataset, wanted or train.folds):
        position = subjects.index(subject)
        aside = splits.validation_videos(system, dataset, subject, train)
        others = [v.id for v in dataset.videos if v.subject != subject]
        rng = splits.rng(train.seed, number, position, splits.SELECT)
        samples = system.select(joined(tables, others, aside), rng, problem)
        judged = None
        if system.judge is not None and train.validate_every:
            judged = system.select(joined(tables, aside), rng, problem)
        fold = Fold(position, subject, samples, aside, judged)
        if fold.size == 0:
            raise UserError(
                f"{dataset.name}: fold {subject} has nothing to learn {problem}-expressions "
                "from: no other subject has one; leave out the fold with --config.train.folds=..., "
                "or, where a system learns the types apart, the type with --config.system.types=..."
            )
        if judged is not None and size(judged) == 0:
            raise UserError(
                f"{dataset.name}: fold {subject}: its validation videos have nothing to be judged "
                f"by ({', '.join(aside)}): try another --config.train.seed, or leave out the fold "
                "with --config.train.folds=..."
            )
        folds.append(fold)
    return folds


def joined(
    tables: Mapping[str, Samples], videos: Sequence[str], without: Sequence[str] = ()
) -> Samples:
    """One table of the samples of `videos`, but for those `without`."""
    kept = [tables[name] for name in videos if name not in without]
    return {name: np.concatenate([table[name] for table in kept]) for name in kept[0]}


def initialised(folds: Sequence[Fold], count: int) -> list[Fold]:
    """Each fold `count` times, once for each initialisation."""
    return [fold._replace(initialisation=i) for fold in folds for i in range(count)]


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


def stack(tables: Sequence[Samples]) -> Samples:
    """The folds' sample tables padded with zeros to one length: `[F, N, ...]`."""
    longest = max(size(table) for table in tables)

    def padded(array: np.ndarray) -> np.ndarray:
        rest = np.zeros((longest - len(array), *array.shape[1:]), array.dtype)
        return np.concatenate([array, rest])

    return {name: np.stack([padded(table[name]) for table in tables]) for name in tables[0]}


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
        own_seed = seed if fold.own is None else fold.own.seed
        rng = splits.rng(own_seed, problem, fold.number, splits.ORDER, epoch if reshuffle else 0)
        order[row, : fold.size] = rng.permutation(fold.size)
        if updates:
            done = epoch * -(-fold.size // batch)
            order[row, max(updates - done, 0) * batch :] = -1
    return order.reshape(len(folds), steps, batch)


def batches(tables: Sequence[Samples], batch: int) -> np.ndarray:
    """All samples of each fold in their order, cut into batches: i32[F, S, B], -1 for padding."""
    steps = max(-(-size(table) // batch) for table in tables)
    order = np.full((len(tables), steps * batch), -1, np.int32)
    for row, table in enumerate(tables):
        order[row, : size(table)] = np.arange(size(table))
    return order.reshape(len(tables), steps, batch)
