"""Scores of rows by a fold that never trained on their subject; nothing is printed here."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from spotjax.data import plans
from spotjax.data.rows import Rows, take
from spotjax.types import Dataset, System, Video

CHUNK = 256
NONE = np.zeros(0, np.int64)

Score = Callable[[Any, Rows], np.ndarray]
"""(variables of one fold, rows) -> f32[N] or f32[N, C] of all of them."""


def make_score(system: System, problem: str, streams: Mapping[str, np.ndarray]) -> Score:
    """The function that scores any number of rows, of frames or of events.

    256 at a time in one compiled program: no more than those are on the device.
    """

    @partial(jax.jit, static_argnames="events")
    def scores(variables: Any, arrays: Any, events: bool) -> jax.Array:
        key = jax.random.key(0)  # inputs draw nothing: samples carry no augmentation
        samples = {"row": jax.numpy.arange(CHUNK)}
        if events:
            samples["event"] = jax.numpy.ones(CHUNK, np.uint8)
        inputs = system.inputs(arrays, samples, key, problem)
        weight = jax.numpy.ones(CHUNK, jax.numpy.float32)
        outputs, _ = system.apply(variables, inputs, weight, False, key)
        return system.scores(outputs)

    def score(variables: Any, rows: Rows) -> np.ndarray:
        events, count = len(rows.events) > 0, max(len(rows.frames), len(rows.events))
        taken = take(streams, system.streams(problem), rows)
        found = []
        for start in range(0, max(count, 1), CHUNK):  # without a row one chunk tells the width
            part = {name: array[start : start + CHUNK] for name, array in taken.items()}
            filled = {
                name: np.concatenate([a, np.zeros((CHUNK - len(a), *a.shape[1:]), a.dtype)])
                for name, a in part.items()
            }
            left = min(count - start, CHUNK)
            found.append(np.asarray(scores(variables, filled, events))[:left])
        return np.concatenate(found)

    return score


def score_problem(
    system: System,
    problem: str,
    dataset: Dataset,
    videos_of: Sequence[Sequence[Video]],
    variables: Any,
    progress: Callable[[int], None] = lambda rows: None,
) -> list[dict[str, np.ndarray]]:
    """Per fold the score curves of its videos by video id: f32[T] or f32[T, C], as the system has.

    `variables` has leaves `[F, ...]`; fold f scores the videos `videos_of[f]`.  A row that is not
    valid is NaN.
    """
    score = make_score(system, problem, dataset.streams)
    valid = dataset.streams[system.valid(problem)]

    def curve(fold: Any, video: Video) -> np.ndarray:
        rows = np.flatnonzero(valid[video.rows])
        progress(video.num_frames)
        scores = score(fold, Rows(video.first_row + rows, NONE))
        return _placed(scores, rows, video.num_frames)

    return _by_fold(videos_of, variables, curve)


def curve_names(system: System) -> tuple[str, ...]:
    """Names of all score curves: the problems and, where a system recognises, their events."""
    events = tuple(f"{problem}_events" for problem in system.problems) if system.classes else ()
    return (*system.problems, *events)


def score_all(
    system: System,
    problem: str,
    dataset: Dataset,
    videos_of: Sequence[Sequence[Video]],
    variables: Any,
    progress: Callable[[int], None] = lambda rows: None,
) -> dict[str, list[dict[str, np.ndarray]]]:
    """Everything that an evaluation needs of `problem`, by `curve_names`; see `score_problem`."""
    given = (system, problem, dataset, videos_of, variables)
    found = {problem: score_problem(*given, progress)}
    if system.classes:
        found[f"{problem}_events"] = score_events(*given)
    return found


def score_events(
    system: System,
    problem: str,
    dataset: Dataset,
    videos_of: Sequence[Sequence[Video]],
    variables: Any,
) -> list[dict[str, np.ndarray]]:
    """As `score_problem`, of the annotated intervals: f32[m, C] by video id.

    Only onset and apex of the held-out subject are looked at, no emotion; NaN for an interval
    without features.
    """
    score = make_score(system, problem, dataset.streams)
    valid = dataset.streams[plans.event_stream(system.valid(problem))]

    def events(fold: Any, video: Video) -> np.ndarray:
        rows = np.flatnonzero(valid[video.events])
        scores = score(fold, Rows(NONE, video.first_event + rows))
        return _placed(scores, rows, len(video.intervals))

    return _by_fold(videos_of, variables, events)


def _placed(scores: np.ndarray, rows: np.ndarray, length: int) -> np.ndarray:
    """`scores` f32[n, ...] at `rows` of f32[length, ...], NaN elsewhere."""
    curve = np.full((length, *scores.shape[1:]), np.nan, np.float32)
    curve[rows] = scores
    return curve


def _by_fold(
    videos_of: Sequence[Sequence[Video]], variables: Any, work: Callable[[Any, Video], np.ndarray]
) -> list[dict[str, np.ndarray]]:
    """`work(variables of the fold, video)` for every video of every fold."""
    found = []
    for position, videos in enumerate(videos_of):
        fold = jax.tree.map(lambda leaf, f=position: leaf[f], variables)
        found.append({video.id: work(fold, video) for video in videos})
    return found


def held_out_videos(dataset: Dataset, subjects: Sequence[str]) -> list[list[Video]]:
    """The videos of each of `subjects`, one list per fold."""
    return [[v for v in dataset.videos if v.subject == subject] for subject in subjects]
