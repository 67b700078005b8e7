"""Scores of every frame by the fold that never saw its subject; nothing is printed here."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from spotjax.types import Dataset, System

CHUNK = 256


def score_problem(
    system: System,
    problem: str,
    dataset: Dataset,
    subjects: Sequence[str],
    variables: Any,
    arrays: Any,
    progress: Callable[[int], None] = lambda rows: None,
) -> dict[str, np.ndarray]:
    """Score curves f32[T] of all videos of `subjects`, by video id; NaN where a row is not valid.

    `variables` has leaves `[F, ...]` in the order of `subjects`: fold f held out subject f and
    scores that subject's videos only.  `arrays` are the problem's streams on the device.
    """

    @jax.jit
    def score(fold_variables: Any, rows: jax.Array, arrays: Any) -> jax.Array:
        key = jax.random.key(0)  # inputs draw nothing: samples carry no augmentation
        inputs = system.inputs(arrays, {"row": rows}, key, problem)
        weight = jax.numpy.ones(rows.shape, jax.numpy.float32)
        outputs, _ = system.apply(fold_variables, inputs, weight, False, key)
        return system.scores(outputs)

    valid = dataset.streams[f"valid_{problem}"]
    curves = {}
    for position, subject in enumerate(subjects):
        fold = jax.tree.map(lambda leaf, f=position: leaf[f], variables)
        for video in dataset.videos:
            if video.subject != subject:
                continue
            rows = video.first_row + np.flatnonzero(valid[video.rows])
            curve = np.full(video.num_frames, np.nan, np.float32)
            for start in range(0, len(rows), CHUNK):
                part = rows[start : start + CHUNK]
                padded = np.concatenate([part, np.repeat(part[:1], CHUNK - len(part))])
                found = np.asarray(score(fold, padded.astype(np.int32), arrays))[: len(part)]
                curve[part - video.first_row] = found
            curves[video.id] = curve
            progress(video.num_frames)
    return curves
