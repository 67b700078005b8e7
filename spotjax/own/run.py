"""From an opened video to what was found in it: features, scores, decoding, in bounded memory."""

import datetime
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import spotjax
from spotjax.config import to_dict
from spotjax.decoding import decode
from spotjax.own.scorer import LEAST_MICRO_FPS, Fitted, Scorer, fit
from spotjax.own.store import Store
from spotjax.parameters.weights import Weights
from spotjax.spotting import Spotting
from spotjax.types import Detection

LIBRARIES = ("jax", "numpy", "opencv-contrib-python-headless", "dlib-bin")
AHEAD = 2
"""Stretches that may wait for their scores."""


class Result(NamedTuple):
    """What was found, and what drawing it needs besides."""

    spotting: Spotting
    boxes: np.ndarray
    """i64[T, 4]: left, top, right, bottom in px of the face box of each frame, -1 without one."""
    fitted: Fitted
    rate: float
    """Rows of features per second."""


class Progress(NamedTuple):
    """Called while a video is read; each may do nothing."""

    frames: Callable[[int], object] = lambda frames: None
    """So many more frames are done."""
    so_far: Callable[[Spotting], object] | None = None
    """What is found up to here, after every stretch; what comes may still change it."""


class _Stretch(NamedTuple):
    """A scored stretch, as it is kept."""

    arrays: dict[str, np.ndarray]

    @property
    def rows(self) -> int:
        return len(self.arrays["numbers"])


def spot_source(
    source: Any,
    weights: Weights,
    *,
    face: int = 1,
    flow: str = "",
    store: Callable[[Mapping[str, Any]], Store] | None = None,
    progress: Progress | None = None,
) -> Result:
    """Spot expressions in `source` (of `data_prep.source`) with `weights`.

    `face` n follows the n-th largest face of the first frame that has so many; `flow` replaces the
    optical flow that the weights were trained on.  `store` opens the place where what is done is
    kept, given the identity of this run.  Ctrl-C ends a camera or pipe as its end would.  Raises
    UserError if the video cannot be read or is too short.
    """
    from spotjax.data_prep import own_face, own_video

    progress = progress or Progress()
    rate = own_video.clock(source.fps, weights.fps)
    fitted = fit(weights, rate, flow)
    spec = own_video.make_spec(fitted.config, rate)
    around = own_video.context(fitted.config, fitted.k, rate)
    identity = _identity(source, weights, fitted, rate, face)
    kept = store(identity) if store is not None else None
    done = [_Stretch(arrays) for arrays in kept.read()] if kept is not None else []
    tracker = own_face.Tracker(face)
    reading = own_video.Reading(
        rows=sum(stretch.rows for stretch in done),
        numbers=[int(n) for stretch in done for n in stretch.arrays["numbers"]],
        times=[float(t) for stretch in done for t in stretch.arrays["times"]],
        box=_last_box(done),
    )
    progress.frames(len(reading.times))
    scorer = Scorer(fitted)

    def result(finished: bool) -> Result:
        held = around.held_after if finished else 0
        return _result(
            source, weights, fitted, scorer, done, rate, identity, tracker, around.held_before, held
        )

    parts = own_video.parts(source, spec, rate, around, tracker, reading, progress.frames)
    try:
        for stretch in _scored(parts, scorer):
            if kept is not None:
                kept.add(stretch.arrays)
            done.append(stretch)
            if progress.so_far is not None:
                progress.so_far(result(finished=False).spotting)
    except KeyboardInterrupt:
        if source.repeatable or not done:
            raise
    finally:
        parts.close()
    return result(finished=True)


def _scored(parts: Iterator[Any], scorer: Scorer) -> Iterator[_Stretch]:
    """The scores of `parts`, computed in a thread of their own while the next ones are made."""
    waiting: deque[Future[_Stretch]] = deque()
    with ThreadPoolExecutor(1) as pool:
        try:
            for part in parts:
                waiting.append(pool.submit(_score, part, scorer))
                while waiting and (waiting[0].done() or len(waiting) > AHEAD):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # after an error or Ctrl-C nobody waits for the others
            for future in waiting:
                future.cancel()


def _score(part: Any, scorer: Scorer) -> _Stretch:
    scores = scorer(part.rows, part.before, len(part.numbers))
    return _Stretch(
        {
            "numbers": part.numbers,
            "face": part.face,
            "box": np.asarray(part.box or (-1, -1, -1, -1), np.int64),
            "times": part.times,
        }
        | {f"score_{name}": array for name, array in scores.items()}
    )


def _last_box(done: Sequence[_Stretch]) -> tuple[int, int, int, int] | None:
    for stretch in reversed(done):
        left, top, right, bottom = (int(edge) for edge in stretch.arrays["box"])
        if right > left:
            return left, top, right, bottom
    return None


def _result(
    source: Any,
    weights: Weights,
    fitted: Fitted,
    scorer: Scorer,
    done: Sequence[_Stretch],
    rate: float,
    identity: Mapping[str, Any],
    tracker: Any,
    first: int,
    held: int,
) -> Result:
    """Decode all rows, and bring rows back to the video's frames.

    The `first` rows and the last `held` ones are of its first and last frame standing still.
    """
    joined = {
        name: np.concatenate([stretch.arrays[name] for stretch in done])
        for name in (*done[0].arrays,)
        if name != "box"
    }
    numbers, times = joined["numbers"], joined["times"]
    times = times[: int(numbers[-1]) + 1]
    scores = {name.removeprefix("score_"): array for name, array in joined.items()
              if name.startswith("score_")}  # fmt: skip
    found, drawn = scorer.decode(scores)
    row_of = np.searchsorted(numbers, np.arange(len(times)), "right") - 1
    row_of = np.minimum(row_of, len(numbers) - 1 - held)
    real = int(row_of[-1]) + 1 - first
    short = [t for t, k in fitted.k.items() if real <= 2 * k] if first or held else []
    found = [d for d in found if d.type not in short]
    boxes = np.concatenate([np.tile(s.arrays["box"], (s.rows, 1)) for s in done])[row_of]
    present = joined["face"][row_of]
    boxes[present == 0] = -1
    spotting = Spotting(
        video=source.name,
        media=_media(source),
        fps=source.fps,
        times=times,
        face=present.astype(np.uint8),
        scores={type: curve.score[row_of].astype(np.float32) for type, curve in drawn.items()},
        thresholds={t: float(c.threshold) for t, c in drawn.items() if np.isfinite(c.threshold)},
        detections=tuple(sorted(_in_frames(d, numbers) for d in found)),
        system=fitted.system.name,
        provenance=_provenance(weights, fitted, rate, identity),
        warnings=tuple(_warnings(source, fitted, present, drawn, tracker, identity["face"], short)),
    )
    return Result(spotting, boxes, fitted, rate)


def _in_frames(detection: Detection, numbers: np.ndarray) -> Detection:
    """A detection whose frames are the video's, not the rows'."""
    onset, apex, offset = (
        int(numbers[row]) for row in (detection.onset, detection.apex, detection.offset)
    )
    return detection._replace(onset=onset, apex=apex, offset=offset, score=float(detection.score))


def _media(source: Any) -> Path | None:
    """The absolute path of a video file."""
    if source.media is None or source.media.is_dir():
        return None
    return Path(source.media).absolute()


def _identity(
    source: Any, weights: Weights, fitted: Fitted, rate: float, face: int
) -> dict[str, Any]:
    """What the scores of a video depend on, JSON-like."""
    values = to_dict(fitted.config)
    video = {"name": source.name, "fps": source.fps}
    if source.media is not None:
        stat = source.media.stat()
        video |= {"bytes": stat.st_size, "changed": stat.st_mtime_ns}
    return {
        "version": spotjax.__version__,
        "video": video,
        "weights": weights.sha256,
        "folds": list(weights.folds),
        "features": values["features"],
        "system": values["system"],
        "k": fitted.k,
        "rows_per_second": rate,
        "face": face,
    }


def _provenance(
    weights: Weights, fitted: Fitted, rate: float, identity: Mapping[str, Any]
) -> dict[str, Any]:
    libraries = {}
    for name in LIBRARIES:
        try:
            libraries[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    features: Any = fitted.config.features
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "version": spotjax.__version__,
        "weights": weights.source,
        "sha256": weights.sha256,
        "origins": [list(origin) for origin in weights.origins],
        "folds": list(weights.folds),
        "flow": features.flow.method if hasattr(features, "flow") else "none",
        "rows_per_second": rate,
        "decoding": dict(fitted.system.about) | fitted.options,
        "libraries": libraries,
    } | {key: identity[key] for key in ("video", "features", "system", "k", "face")}


def _warnings(
    source: Any,
    fitted: Fitted,
    present: np.ndarray,
    drawn: Mapping[str, decode.Curve],
    tracker: Any,
    face: int,
    short: Sequence[str],
) -> Iterator[str]:
    """What must be said with the result."""
    yield from fitted.notes
    yield from source.notes
    if source.fps < LEAST_MICRO_FPS and "micro" in drawn:
        yield (
            f"{source.fps:.4g} frames per second are too few for micro-expressions, which last "
            "half a second at most: 25 and more are needed, 100 and more are better"
        )
    for type in short:
        yield (
            f"the video is too short for {type}-expressions: more than "
            f"{2 * fitted.k[type]} frames are needed"
        )
    missing = float(np.mean(present == 0))
    if missing == 1 and 0 < tracker.most < face:
        yield f"there is no face number {face}, {tracker.most} were seen: set another --face"
    elif missing == 1:
        yield (
            "no face was found in any frame: is the picture turned, or the face smaller than 40 px "
            "in a picture 640 px wide?"
        )
    elif missing > 0.01:
        yield f"no face was found in {missing:.0%} of the frames: they have no score"
    if tracker.most > 1 and missing < 1:
        yield (
            f"up to {tracker.most} faces were seen: the one followed was number {face} by size at "
            "its first sight (--face 2 takes the second largest, and so on)"
        )
    if all(np.isnan(curve.score).all() for curve in drawn.values()) and missing < 1:
        yield "no frame has a score: the video, or the time with a face in it, is too short"
