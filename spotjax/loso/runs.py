"""What each run keeps on disk of a training, alone or together with others; prints nothing.

Runs that differ in seed or step size only can share one program: their folds are trained side by
side.  Each run has its own directory with checkpoints and log, as if it had been trained alone, and
its parameters are the same bit by bit.  With several processes only the first one writes.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from spotjax.config import Config, Train
from spotjax.data import plans
from spotjax.loso import checkpoints, epoch_scores, folds, hosts, rundir, scoring, start, training
from spotjax.types import Dataset, System


class Run(NamedTuple):
    """A run directory and what is trained in it."""

    workdir: Path
    config: Config
    folds: dict[str, list[plans.Fold]]
    """By problem, those of the stage before too."""

    def settings(self, pretraining: bool) -> Train:
        """Of the training, or of the stage before."""
        found = self.config.pretraining if pretraining else self.config.train
        assert found is not None
        return found


class Keeper:
    """One run's part of the training of one problem."""

    def __init__(
        self, run: Run, system: System, problem: str, dataset: Dataset, pretraining: bool
    ) -> None:
        """Of the stage before if `pretraining`; use as a context."""
        self.run, self.train = run, run.settings(pretraining)
        self.members = plans.initialised(run.folds[problem], self.train.initialisations)
        self.total = plans.num_epochs(
            self.members, self.train.batch, self.train.epochs, self.train.updates
        )
        self.done = 0
        """Epochs of the newest checkpoint."""
        self.finished = False
        self._system, self._problem, self._dataset = system, problem, dataset
        self._log = rundir.Log(run.workdir)
        self._store: checkpoints.Checkpoints | None = None

    def __enter__(self) -> "Keeper":
        """Look at what is there."""
        if hosts.first():
            self._store = checkpoints.Checkpoints(self.run.workdir, self._problem)
        self.done, self.finished = hosts.by_first(self._state)
        return self

    def __exit__(self, *error: object) -> None:
        """Wait for the last save."""
        if self._store is not None:
            self._store.__exit__(*error)

    def _state(self) -> list[Any]:
        assert self._store is not None
        self._log.restart(self._problem, self._store.latest)
        return [self._store.latest, self._store.finished]

    def begin(self, before: str) -> tuple[folds.State, training.Best | None]:
        """Where the training of this run's folds goes on; `before` names the stage before."""
        earlier, train = None, self.train
        if hosts.first() and before:
            earlier = checkpoints.read_finished(self.run.workdir, before)
        if not hosts.first():  # the first process tells
            train = replace(train, start="")
        states, best = start.states(
            self.run.config, train, self._system, self._problem, self._dataset, self.members,
            self._store, earlier,
        )  # fmt: skip
        judged = self.train.validate_every and self.members[0].judged is not None
        if not hosts.first() and self.done and judged:
            best = training.first_best(self._system, states, len(self.members))
        return hosts.same((states, best))

    def keep(self, epoch: training.Epoch, seconds: float) -> dict[str, Any]:
        """Write an epoch's line, curves and checkpoint as they are due; returns the line."""
        number, train = epoch.number + 1, self.train
        record = epoch_record(self._problem, self.members, epoch) | {"seconds": round(seconds, 3)}
        if epoch.last:
            self.finished = True
        if self._store is None:
            return record
        self._log.append(record)  # first: a line without a checkpoint is dropped on resuming
        if train.score_every and number % train.score_every == 0:
            # before the checkpoint: an epoch that is kept has its curves
            self._keep_scores(epoch)
        if epoch.last or number % train.checkpoint_every == 0:
            of = number if epoch.last else self.total
            subjects = [fold.subject for fold in self.members]
            meta = {"epochs": number, "of": of, "subjects": subjects}
            self._store.save(number, epoch.states, meta, epoch.best)
        return record

    def wait(self) -> None:
        """Until the last save is on the disk; raises what went wrong with it."""
        if self._store is not None:
            self._store.wait()

    def _keep_scores(self, epoch: training.Epoch) -> None:
        """Score the held-out and the validation videos of every fold and keep the curves.

        Of several initialisations the one that validation likes best at the moment is taken.
        """
        subjects = [fold.subject for fold in self.members]
        merits = np.zeros((len(subjects), 0)) if epoch.best is None else epoch.best.merits
        rows = checkpoints.best_rows(subjects, merits)
        videos_of = [
            [
                video
                for video in self._dataset.videos
                if video.subject == fold.subject or video.id in fold.validation
            ]
            for fold in (self.members[row] for row in rows.values())
        ]
        variables = jax.tree.map(lambda leaf: leaf[list(rows.values())], epoch.states.variables)
        found = scoring.score_all(self._system, self._problem, self._dataset, videos_of, variables)
        for name, curves in found.items():
            epoch_scores.save(self.run.workdir, name, epoch.number + 1, list(rows), curves)


def epoch_record(
    problem: str, members: Sequence[plans.Fold], epoch: training.Epoch
) -> dict[str, Any]:
    """The line of an epoch in log.jsonl; a loss is None for a fold that has stopped."""
    names = [fold.name for fold in members]
    losses = [float(loss.mean(dtype=np.float64)) if loss.size else None for loss in epoch.losses]
    record: dict[str, Any] = {"problem": problem, "epoch": epoch.number + 1}
    record["loss"] = dict(zip(names, losses, strict=True))
    if epoch.merits is not None:
        merits = [[round(float(x), 6) for x in row] for row in epoch.merits]
        record["validation"] = dict(zip(names, merits, strict=True))
    return record


def at_one_point(keepers: Sequence[Keeper]) -> list[list[Keeper]]:
    """Unfinished runs that can go on together: as many epochs done, as many to do."""
    groups: dict[tuple[int, int], list[Keeper]] = {}
    for keeper in keepers:
        if not keeper.finished:
            groups.setdefault((keeper.done, keeper.total), []).append(keeper)
    return list(groups.values())


def joined(keepers: Sequence[Keeper]) -> list[plans.Fold]:
    """The folds of all runs in turn, each with its run's settings if there are several."""
    if len(keepers) == 1:
        return keepers[0].members
    return [fold._replace(own=keeper.train) for keeper in keepers for fold in keeper.members]


def stacked(
    begun: Sequence[tuple[folds.State, training.Best | None]],
) -> tuple[folds.State, training.Best | None]:
    """States and choices of all runs with one fold axis; runs at one point all have a choice or
    none."""
    states = jax.tree.map(lambda *leaves: np.concatenate(leaves), *(state for state, _ in begun))
    bests = [best for _, best in begun if best is not None]
    if not bests:
        return states, None
    return states, jax.tree.map(lambda *leaves: np.concatenate(leaves), *bests)


def parts(epoch: training.Epoch, keepers: Sequence[Keeper]) -> list[training.Epoch]:
    """Each run's part of an epoch of all; `last` where its own folds have ended."""
    if len(keepers) == 1:
        return [epoch]
    found, position = [], 0
    for keeper in keepers:
        own = training.part(epoch, slice(position, position + len(keeper.members)))
        ended = own.number + 1 == keeper.total
        if own.best is not None and keeper.train.patience:
            ended |= bool((own.best.waited >= keeper.train.patience).all())
        found.append(own._replace(last=ended))
        position += len(keeper.members)
    return found
