"""Which videos a fold keeps out of its training, to choose by (NumPy only).

Drawn from (seed, held-out subject) and the same for every stage of a system.  The held-out
subject's videos, let alone its labels, take no part in the drawing.
"""

from collections.abc import Sequence

import numpy as np

from spotjax.config import Train
from spotjax.errors import UserError
from spotjax.types import Dataset, System, Video

SELECT, ORDER, VALIDATION = 0, 1, 2
"""What random numbers are for."""
DRAWS = 1000
"""Splits that are tried before a fold is given up."""


def rng(seed: int, problem: int, fold: int, purpose: int, epoch: int = 0) -> np.random.Generator:
    """The host's random numbers of a fold."""
    return np.random.default_rng(np.random.SeedSequence([seed, problem, fold, purpose, epoch]))


def validation_videos(
    system: System, dataset: Dataset, held_out: str, train: Train
) -> tuple[str, ...]:
    """Ids of the videos that the fold of `held_out` keeps aside, in the order of the data set.

    `train.validation` of the other subjects, or of their videos (`train.validation_of`): a number,
    or a share, which is rounded down to whole ones for training (MESNet's 7:3).  A split that the
    system does not accept is drawn again.  Raises UserError if too few are left, or no split is
    accepted.
    """
    if not train.validation:
        return ()
    subjects = dataset.subjects
    draw = rng(train.seed, 0, subjects.index(held_out), VALIDATION)
    others = [video for video in dataset.videos if video.subject != held_out]
    units: list[list[Video]] = [[video] for video in others]
    if train.validation_of == "subjects":
        units = [[v for v in others if v.subject == s] for s in subjects if s != held_out]
    count = int(train.validation)
    if train.validation < 1:
        count = len(units) - int(len(units) * (1 - train.validation) + 1e-9)
    if count >= len(units):
        raise UserError(
            f"{dataset.name}: train.validation={train.validation} leaves nothing to train on: "
            f"fold {held_out} has {len(units)} other {train.validation_of}"
        )
    reason = ""
    for _ in range(DRAWS if system.accepts else 1):
        aside = {v.id for i in draw.choice(len(units), count, replace=False) for v in units[i]}
        if system.accepts is None or not (reason := _refused(system, others, aside)):
            return tuple(video.id for video in others if video.id in aside)
    raise UserError(
        f"{dataset.name}: fold {held_out}: none of {DRAWS} splits of its {len(units)} other "
        f"{train.validation_of} into training and validation will do: {reason}; leave out the "
        "fold with --config.train.folds=..., or lower what is asked for"
    )


def _refused(system: System, others: Sequence[Video], aside: set[str]) -> str:
    """Why the system does not accept a split, empty if it does."""
    assert system.accepts is not None
    training = [video for video in others if video.id not in aside]
    return system.accepts(training, [video for video in others if video.id in aside])
