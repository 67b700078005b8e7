"""Where the training of a run begins: one initialisation, a checkpoint, or an earlier run.

Each fold may start only from the fold that held out the same subject, so that no fold has ever
learnt from its subject (`train.start`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from spotjax.config import Config, Train
from spotjax.data import plans, schema
from spotjax.errors import UserError
from spotjax.files import flat
from spotjax.loso import checkpoints, folds, rundir, training
from spotjax.types import Dataset, System

SAME_KEYS = ("flow", "streams", "joint", "cbam")
"""Keys of a system that decide what its inputs mean and which parameters it has."""


def check(config: Config, system: System) -> None:
    """Raise UserError, before any work, if the training of this config cannot begin.

    `train.start` must be a run of the same system on the same inputs: features, frames, flow and
    streams.  Validation needs a system or stage that can judge, and something kept aside.
    """
    _check_validation("train", config.train, system)
    _check_choices(config, system)
    if config.pretrain is not None:
        if system.before is None:
            raise UserError(f"pretrain: {system.name} has no stage before; set it to none")
        assert config.pretraining is not None
        _check_validation("pretrain", config.pretraining, system.before)
        if config.train.start:
            raise UserError(
                f"--config.train.start={config.train.start}: each fold starts from the "
                "pre-training of its own; leave it out, or set --config.pretrain=none"
            )
    if not config.train.start:
        return
    start = Path(config.train.start)
    saved, _, _ = rundir.load_run(start)
    if saved.system.name != system.name or system.transfer is None:
        raise UserError(
            f"--config.train.start={start}: {system.name} cannot start from a run of "
            f"{saved.system.name}"
        )
    old, new = _inputs(saved), _inputs(config)
    for key in dict.fromkeys([*old, *new]):
        if old.get(key) != new.get(key):
            raise UserError(
                f"--config.train.start={start}: was trained with {key}={old.get(key)!r}, not "
                f"{new.get(key)!r}: start from a run with the same inputs"
            )
    for problem in system.problems:
        checkpoints.read_finished(start, problem)


def _check_choices(config: Config, system: System) -> None:
    """Raise UserError if the evaluation could not choose what it is asked to."""
    options, train = config.evaluation, config.train
    if not config.evaluate:
        return
    if options.threshold_choice != "fixed" and system.tune is None:
        raise UserError(
            f"evaluation.threshold_choice={options.threshold_choice}: {system.name} has no "
            "thresholds to choose; set it to fixed"
        )
    if "validation" in (options.threshold_choice, options.epoch_choice) and not train.validation:
        raise UserError(
            "evaluation.threshold_choice or epoch_choice is validation, but train.validation=0 "
            "keeps nothing aside: set for example --config.train.validation=0.2"
        )
    if options.epoch_choice != "last" and not train.score_every:
        raise UserError(
            f"evaluation.epoch_choice={options.epoch_choice}: no curves of single epochs are kept: "
            "set --config.train.score_every=1"
        )


def _check_validation(section: str, train: Train, system: System) -> None:
    if train.validate_every and (system.judge is None or not train.validation):
        what = "needs train.validation, for example 0.2"
        if system.judge is None:
            what = "cannot be judged in training"
            what += "; its pre-training can: pretrain.validate_every" if system.before else ""
        raise UserError(f"{section}.validate_every={train.validate_every}: {system.name} {what}")
    for key in ("patience", "initialisations"):
        if getattr(train, key) > (key == "initialisations") and not train.validate_every:
            raise UserError(
                f"{section}.{key}={getattr(train, key)} needs {section}.validate_every=N, which "
                "says when folds are judged"
            )


def _inputs(config: Config) -> dict[str, Any]:
    """Everything that the values of a network's inputs depend on."""
    data = schema.read_settings(config)
    data.pop("annotation")
    features = schema.feature_settings(config)
    system = {key: getattr(config.system, key) for key in SAME_KEYS if hasattr(config.system, key)}
    return flat({"data": data, "features": features, "system": system})


def states(
    config: Config,
    train: Train,
    system: System,
    problem: str,
    dataset: Dataset,
    members: Sequence[plans.Fold],
    store: checkpoints.Checkpoints | None,
    before: checkpoints.Finished | None = None,
) -> tuple[folds.State, training.Best | None]:
    """Where the training of `members` goes on, and what validation has chosen so far.

    The newest checkpoint of `store`, if there is one, else what the stage `before` ended with, else
    `train.start`, else fresh initialisations; with what the system measures on each fold's
    training rows.  Raises UserError if the earlier run has no fold for one of the subjects.
    """
    optimizer = folds.make_optimizer(train)
    which = [fold.initialisation for fold in members]
    fresh = folds.init_state(system, optimizer, train.seed, which)
    fresh = fresh._replace(variables=_measured(system, problem, dataset, members, fresh.variables))
    if store is not None and store.latest:
        best = training.first_best(system, fresh, len(members))
        found = store.restore(fresh, best)
        return found.state, found.best
    place = "the stage before"
    if before is None and train.start:
        place = f"--config.train.start={train.start}"
        before = checkpoints.read_finished(Path(train.start), problem)
    if before is None or system.transfer is None:
        return fresh, None
    lacking = [fold.subject for fold in members if fold.subject not in before.subjects]
    if lacking:
        raise UserError(
            f"{place}: has no fold that held out {lacking[0]}; it has "
            f"{', '.join(before.subjects)}: a fold may start only from one that never saw its "
            "subject"
        )
    order = [before.subjects.index(fold.subject) for fold in members]
    earlier = jax.tree.map(lambda leaf: np.asarray(leaf)[order], before.variables)
    return fresh._replace(variables=system.transfer(fresh.variables, earlier)), None


def _measured(
    system: System,
    problem: str,
    dataset: Dataset,
    members: Sequence[plans.Fold],
    variables: Any,
) -> Any:
    """`variables` with the constants that the system measures on each fold's training rows."""
    if system.constants is None:
        return variables
    valid = dataset.streams[system.valid(problem)] > 0
    found: dict[str, Any] = {}
    for fold in members:
        if fold.subject not in found:
            rows = valid.copy()
            for video in dataset.videos:
                if video.subject == fold.subject or video.id in fold.validation:
                    rows[video.rows] = False
            found[fold.subject] = system.constants(dataset.streams, rows)
    each = [found[fold.subject] for fold in members]
    return variables | {"constants": jax.tree.map(lambda *leaves: np.stack(leaves), *each)}
