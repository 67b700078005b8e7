"""Where the training of a run begins: one initialisation, a checkpoint, or an earlier run.

Each fold may start only from the fold that held out the same subject, so that no fold has ever
learnt from its subject (`train.start`).
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from spotjax import checkpoints, folds, rundir
from spotjax.config import Config
from spotjax.data import plans, schema
from spotjax.errors import UserError
from spotjax.files import flat
from spotjax.types import System

SAME_KEYS = ("flow", "streams", "joint", "cbam")
"""Keys of a system that decide what its inputs mean and which parameters it has."""


def check(config: Config, system: System) -> None:
    """Raise UserError, before any work, if `train.start` cannot be the start of this config.

    It must be a run of the same system on the same inputs: features, frames, flow and streams.
    """
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


def _inputs(config: Config) -> dict[str, Any]:
    """Everything that the values of a network's inputs depend on."""
    data = schema.read_settings(config)
    data.pop("annotation")
    features = schema.feature_settings(config)
    system = {key: getattr(config.system, key) for key in SAME_KEYS if hasattr(config.system, key)}
    return flat({"data": data, "features": features, "system": system})


def states(
    config: Config,
    system: System,
    problem: str,
    members: list[plans.Fold],
    store: checkpoints.Checkpoints,
) -> folds.State:
    """The newest checkpoint of `store`, else `train.start`, else one initialisation.

    Raises UserError if the earlier run has no fold for one of the subjects.
    """
    optimizer = folds.make_optimizer(config.train)
    fresh = folds.init_state(system, optimizer, config.train.seed, len(members))
    if store.latest:
        return store.restore(jax.tree.map(np.asarray, fresh))[0]
    if not config.train.start or system.transfer is None:
        return fresh
    start = Path(config.train.start)
    tree, meta = checkpoints.read_finished(start, problem)
    lacking = [fold.subject for fold in members if fold.subject not in meta["subjects"]]
    if lacking:
        raise UserError(
            f"--config.train.start={start}: has no fold that held out {lacking[0]}; it has "
            f"{', '.join(meta['subjects'])}: a fold may start only from one that never saw its "
            "subject"
        )
    order = [meta["subjects"].index(fold.subject) for fold in members]
    earlier = jax.tree.map(lambda leaf: np.asarray(leaf)[order], tree["variables"])
    return fresh._replace(variables=system.transfer(fresh.variables, earlier))
