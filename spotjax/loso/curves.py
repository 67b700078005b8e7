"""The score curves of a run: of its last epoch, or of the epochs that a choice falls on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from spotjax import files
from spotjax.config import Config
from spotjax.counting import evaluation
from spotjax.counting.matching import Counts
from spotjax.data import plans, splits
from spotjax.errors import UserError
from spotjax.loso import checkpoints, epoch_scores, scoring
from spotjax.types import Dataset, Detection, System, Video

Curves = dict[str, dict[str, np.ndarray]]
"""By problem and video id f32[T] or f32[T, C]; MESNet's f32[n, 470, 4] are of n clips."""


def score_run(workdir: Path, config: Config, dataset: Dataset, system: System) -> Curves:
    """Score curves of all held-out subjects from the newest checkpoints of the run.

    Raises UserError if the training of a problem is not done.
    """
    subjects = plans.chosen_subjects(dataset, config.train.folds)
    videos_of = scoring.held_out_videos(dataset, subjects)
    frames = sum(video.num_frames for videos in videos_of for video in videos)
    curves = {}
    for problem in system.problems:
        trained = checkpoints.read_finished(workdir, problem)
        with tqdm(total=frames, desc=f"score {problem}", unit="frame", disable=None) as bar:
            found = scoring.score_all(
                system, problem, dataset, videos_of, trained.variables, bar.update
            )
        for name, groups in found.items():
            curves[name] = {video: curve for group in groups for video, curve in group.items()}
    return curves


def chosen_curves(
    workdir: Path, config: Config, dataset: Dataset, system: System
) -> tuple[Curves, dict[str, int]]:
    """The curves of `evaluation.epoch_choice`, and the epoch of each fold.

    `last` scores the newest checkpoints; the others choose among the curves kept in training.
    Raises UserError if the run has no validation videos or kept no curves to choose among.
    """
    subjects = plans.chosen_subjects(dataset, config.train.folds)
    choice = config.evaluation.epoch_choice
    if choice == "last":
        return score_run(workdir, config, dataset, system), {}
    if choice == "validation" and not config.train.validation:
        raise UserError(
            f"{workdir}: its folds have no validation videos: train with "
            "--config.train.validation=1 (in another --workdir)"
        )
    held_out = dict(zip(subjects, scoring.held_out_videos(dataset, subjects), strict=True))
    judged = held_out
    if choice == "validation":
        judged = validation_videos(config, dataset, system)

    def count(videos: Sequence[Video], curves: epoch_scores.Curves) -> Counts:
        found = {v.id: decode_video(system, dataset, v, curves)[0] for v in videos}
        return evaluation.overall(videos, found, config.evaluation)

    chosen = epoch_scores.choose(workdir, system.problems, judged, count)
    names = scoring.curve_names(system)
    curves: Curves = {name: {} for name in names}
    for epoch in sorted(set(chosen.values())):
        kept = epoch_scores.load(workdir, names, epoch)
        for subject in (name for name, best in chosen.items() if best == epoch):
            for name, mine in epoch_scores.of_fold(kept, subject, held_out[subject]).items():
                curves[name].update(mine)
    return curves, chosen


def validation_videos(config: Config, dataset: Dataset, system: System) -> dict[str, list[Video]]:
    """The videos that each fold kept out of its training, by held-out subject."""
    found = {}
    for subject in plans.chosen_subjects(dataset, config.train.folds):
        aside = splits.validation_videos(system, dataset, subject, config.train)
        found[subject] = [video for video in dataset.videos if video.id in aside]
    return found


def chosen_options(
    workdir: Path, config: Config, dataset: Dataset, system: System, curves: Curves
) -> dict[str, dict[str, Any]]:
    """Decoding options by held-out subject that `evaluation.threshold_choice` falls on.

    `validation` scores each fold's validation videos by its last checkpoint and chooses by them;
    `oracle` chooses once, by all held-out videos.  Raises UserError if there is nothing to choose
    or to choose by.
    """
    subjects = plans.chosen_subjects(dataset, config.train.folds)
    choice = config.evaluation.threshold_choice
    if choice == "fixed":
        return {subject: {} for subject in subjects}
    if system.tune is None:
        raise UserError(
            f"evaluation.threshold_choice={choice}: {system.name} has no thresholds to choose; "
            "set it to fixed"
        )
    if choice == "oracle":
        videos = [v for group in scoring.held_out_videos(dataset, subjects) for v in group]
        return dict.fromkeys(subjects, tuned(dataset, system, videos, curves))
    if not config.train.validation:
        raise UserError(
            f"{workdir}: its folds have no validation videos: train with "
            "--config.train.validation=1 (in another --workdir)"
        )
    judged = validation_videos(config, dataset, system)
    frames = sum(video.num_frames for group in judged.values() for video in group)
    kept: dict[str, Curves] = {subject: {} for subject in subjects}
    with tqdm(total=frames, desc="score validation", unit="frame", disable=None) as bar:
        for problem in system.problems:
            trained = checkpoints.read_finished(workdir, problem)
            groups = scoring.score_problem(
                system, problem, dataset, list(judged.values()), trained.variables, bar.update
            )
            for subject, group in zip(subjects, groups, strict=True):
                kept[subject][problem] = group
    return {subject: tuned(dataset, system, judged[subject], kept[subject]) for subject in subjects}


def tuned(
    dataset: Dataset,
    system: System,
    videos: Sequence[Video],
    curves: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, Any]:
    """The decoding options that suit `videos` best, of a system that has such.

    `curves` f32[N, ...] are as `Curves`, by problem and video id.
    """
    assert system.tune is not None
    scores = [{p: curves[p][v.id] for p in system.problems} for v in videos]
    return dict(system.tune(scores, [_valid(system, dataset, v) for v in videos], videos))


def _valid(system: System, dataset: Dataset, video: Video) -> dict[str, np.ndarray]:
    """bool[T] by problem: the rows that have features."""
    return {p: dataset.streams[system.valid(p)][video.rows] > 0 for p in system.problems}


def decode_video(
    system: System,
    dataset: Dataset,
    video: Video,
    curves: Mapping[str, Mapping[str, np.ndarray]],
    **overrides: Any,
) -> tuple[list[Detection], Any]:
    """Detections and drawn curves of one video; `overrides` replace decoding options.

    `curves` f32[N, ...] are as `Curves`, by problem and video id.
    """
    scores = {problem: curves[problem][video.id] for problem in system.problems}
    return system.decode(scores, _valid(system, dataset, video), **overrides)


def write_curves(path: Path, curves: Curves) -> None:
    """Score curves as `<problem>/<subject>/<video>` f32[T] or f32[T, C], NaN without a score."""
    arrays = {
        f"{p}/{video}": curve for p, group in curves.items() for video, curve in group.items()
    }
    files.write_npz(path, arrays)
