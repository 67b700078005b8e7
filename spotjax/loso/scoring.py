"""Scores of rows by a fold that never trained on their subject; nothing is printed here."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from spotjax.data import plans
from spotjax.data.rows import Rows, filled, take
from spotjax.types import Dataset, Samples, System, Video

CHUNK = 256
NONE = np.zeros(0, np.int64)

Score = Callable[[Any, Samples], np.ndarray]
"""(variables of one fold, samples) -> f32[N] or f32[N, ...] of all of them."""


def make_score(system: System, problem: str, streams: Mapping[str, np.ndarray]) -> Score:
    """The function that scores any number of samples, of frames or of events.

    `streams` are `[R, ...]` by name.  So many samples at a time in one compiled program that about
    256 rows lie on the device.
    """
    look = system.look

    @jax.jit
    def scores(variables: Any, arrays: Any, samples: Any) -> jax.Array:
        key = jax.random.key(0)  # inputs draw nothing: samples carry no augmentation
        inputs = system.inputs(arrays, samples, key, problem)
        weight = jax.numpy.ones(len(samples["row"]), jax.numpy.float32)
        outputs, _ = system.apply(variables, inputs, weight, False, key)
        return system.scores(outputs)

    def score(variables: Any, samples: Samples) -> np.ndarray:
        events, count = "event" in samples, len(samples["row"])
        each = look * math.prod(samples["row"].shape[1:])  # rows that a sample reads
        chunk = max(1, CHUNK // each)
        seen = _looked_at(samples["row"], look, len(streams[system.valid(problem)]))
        unique, places = np.unique(seen, return_inverse=True)
        wanted = Rows(NONE, unique) if events else Rows(unique, NONE)
        taken = take(streams, system.streams(problem), wanted)
        found = []
        for start in range(0, max(count, 1), chunk):  # without a row one chunk tells the width
            mine = slice(start, start + chunk)
            arrays = {
                name: filled(array[places.reshape(-1, each)[mine].reshape(-1)], chunk * each)
                if name.startswith("event_") == events
                else filled(array, chunk * each)
                for name, array in taken.items()
            }
            batch = {name: filled(array[mine], chunk) for name, array in samples.items()}
            first = np.arange(0, chunk * each, look, dtype=np.int32)
            batch["row"] = first.reshape(chunk, *samples["row"].shape[1:])
            found.append(np.asarray(scores(variables, arrays, batch))[: min(count - start, chunk)])
        return np.concatenate(found)

    return score


def _looked_at(rows: np.ndarray, look: int, length: int) -> np.ndarray:
    """i64[N * look]: each row and those after it, the last one of all repeated."""
    seen = rows.astype(np.int64)[..., None] + np.arange(look)
    return np.minimum(seen, length - 1).reshape(-1)


def score_problem(
    system: System,
    problem: str,
    dataset: Dataset,
    videos_of: Sequence[Sequence[Video]],
    variables: Any,
    progress: Callable[[int], None] = lambda rows: None,
) -> list[dict[str, np.ndarray]]:
    """Per fold the scores of its videos by video id, f32[T] or f32[T, C], as the system has.

    `variables` has leaves `[F, ...]`; fold f scores the videos `videos_of[f]`.  A row that is not
    valid is NaN.  A system that does not score rows gives what it has of `scored`, `[N, ...]`.
    """
    score = make_score(system, problem, dataset.streams)
    valid = dataset.streams[system.valid(problem)]

    def curve(fold: Any, video: Video) -> np.ndarray:
        there = valid[video.rows] > 0
        if system.scored is not None:
            scores = score(fold, system.scored(video, there, problem))
            progress(video.num_frames)
            return scores
        rows = np.flatnonzero(there)
        scores = score(fold, {"row": (video.first_row + rows).astype(np.int32)})
        progress(video.num_frames)
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
    """Everything that an evaluation needs of `problem`, by `curve_names`; see `score_problem`.

    Per fold f32[N, ...] by video id, as `score_problem`; of events f32[m, C], as `score_events`.
    """
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
        event = np.ones(len(rows), np.uint8)
        samples: Samples = {"row": (video.first_event + rows).astype(np.int32), "event": event}
        scores = score(fold, samples)
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
