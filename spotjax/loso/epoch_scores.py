"""Score curves kept during training, and the choice of an epoch by them.

`scores/<problem>-<epoch>.npz` in the run directory holds, for every fold, the curves of its
held-out subject and of its validation subjects: `<fold's subject>/<video id>` f32[T] or f32[T, C].
The last epoch is the honest default; `validation` looks at training subjects that the fold did not
train on; `oracle` looks at the held-out subject itself and exists only to compare with papers that
did so.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from spotjax import files
from spotjax.counting.metrics import Counts
from spotjax.errors import UserError
from spotjax.types import Video

Curves = Mapping[str, Mapping[str, np.ndarray]]
"""By problem and video id f32[T] or f32[T, C]; MESNet's f32[n, 470, 4] are of n clips."""


def save(
    workdir: Path,
    problem: str,
    epoch: int,
    subjects: Sequence[str],
    curves: Sequence[Mapping[str, np.ndarray]],
) -> None:
    """Write the curves after `epoch` (from 1) of the folds that hold out `subjects`.

    `curves` f32[N, ...] are by video id for each of them, as in `Curves`.  Raises OSError.
    """
    arrays = {
        f"{subject}/{video}": curve
        for subject, group in zip(subjects, curves, strict=True)
        for video, curve in group.items()
    }
    (workdir / "scores").mkdir(exist_ok=True)
    files.write_npz(_path(workdir, problem, epoch), arrays)


def epochs(workdir: Path, problems: Sequence[str]) -> list[int]:
    """The epochs whose curves are there for every problem, ascending."""
    found = [
        {int(path.stem.rpartition("-")[2]) for path in (workdir / "scores").glob(f"{name}-*.npz")}
        for name in problems
    ]
    return sorted(set.intersection(*found)) if found else []


def load(workdir: Path, problems: Sequence[str], epoch: int) -> dict[str, dict[str, np.ndarray]]:
    """All curves f32[N, ...] after `epoch` by problem and `<fold's subject>/<video id>`."""
    loaded = {}
    for problem in problems:
        with np.load(_path(workdir, problem, epoch)) as archive:
            loaded[problem] = {name: archive[name] for name in archive.files}
    return loaded


def choose(
    workdir: Path,
    problems: Sequence[str],
    judged: Mapping[str, Sequence[Video]],
    count: Callable[[Sequence[Video], Curves], Counts],
) -> dict[str, int]:
    """The epoch of each fold with the best overall F1 on its `judged` videos; ties: the earlier.

    `judged` gives the videos of each fold's held-out subject; `count` scores them by their curves
    (by problem and video id).  Raises UserError if no curves were kept.
    """
    there = epochs(workdir, problems)
    if not there:
        raise UserError(
            f"{workdir}: has no curves of single epochs: train with --config.train.score_every=1 "
            "(in another --workdir), or use --config.evaluation.epoch_choice=last"
        )
    best: dict[str, tuple[float, int]] = {}
    for epoch in there:
        curves = load(workdir, problems, epoch)
        for subject, videos in judged.items():
            f1 = count(videos, of_fold(curves, subject, videos)).f1
            if subject not in best or f1 > best[subject][0]:
                best[subject] = f1, epoch
    return {subject: epoch for subject, (_, epoch) in best.items()}


def of_fold(
    curves: Mapping[str, Mapping[str, np.ndarray]], subject: str, videos: Sequence[Video]
) -> dict[str, dict[str, np.ndarray]]:
    """The curves that the fold of `subject` gave for `videos`, by problem and video id.

    `curves` f32[N, ...] are what `load` returns.
    """
    return {
        problem: {video.id: group[f"{subject}/{video.id}"] for video in videos}
        for problem, group in curves.items()
    }


def _path(workdir: Path, problem: str, epoch: int) -> Path:
    return workdir / "scores" / f"{problem}-{epoch:04d}.npz"
