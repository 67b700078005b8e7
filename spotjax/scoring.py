"""Scores of every frame by a fold that never trained on its subject; nothing is printed here."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from spotjax.types import Dataset, System, Video

CHUNK = 256


def score_problem(
    system: System,
    problem: str,
    dataset: Dataset,
    videos_of: Sequence[Sequence[Video]],
    variables: Any,
    arrays: Any,
    progress: Callable[[int], None] = lambda rows: None,
) -> list[dict[str, np.ndarray]]:
    """Per fold the score curves of its videos by video id: f32[T] or f32[T, C], as the system has.

    `variables` has leaves `[F, ...]`; fold f scores the videos `videos_of[f]`.  A row that is not
    valid is NaN.  `arrays` are the problem's streams on the device.
    """

    @jax.jit
    def score(fold_variables: Any, rows: jax.Array, arrays: Any) -> jax.Array:
        key = jax.random.key(0)  # inputs draw nothing: samples carry no augmentation
        inputs = system.inputs(arrays, {"row": rows}, key, problem)
        weight = jax.numpy.ones(rows.shape, jax.numpy.float32)
        outputs, _ = system.apply(fold_variables, inputs, weight, False, key)
        return system.scores(outputs)

    valid = dataset.streams[f"valid_{problem}"]
    rows_shape = jax.ShapeDtypeStruct((CHUNK,), np.int32)
    found: list[dict[str, np.ndarray]] = []
    for position, videos in enumerate(videos_of):
        fold = jax.tree.map(lambda leaf, f=position: leaf[f], variables)
        width = jax.eval_shape(score, fold, rows_shape, arrays).shape[1:]
        curves = {}
        for video in videos:
            rows = video.first_row + np.flatnonzero(valid[video.rows])
            curve = np.full((video.num_frames, *width), np.nan, np.float32)
            for start in range(0, len(rows), CHUNK):
                part = rows[start : start + CHUNK]
                padded = np.concatenate([part, np.repeat(part[:1], CHUNK - len(part))])
                scores = np.asarray(score(fold, padded.astype(np.int32), arrays))[: len(part)]
                curve[part - video.first_row] = scores
            curves[video.id] = curve
            progress(video.num_frames)
        found.append(curves)
    return found


def held_out_videos(dataset: Dataset, subjects: Sequence[str]) -> list[list[Video]]:
    """The videos of each of `subjects`, one list per fold."""
    return [[v for v in dataset.videos if v.subject == subject] for subject in subjects]
