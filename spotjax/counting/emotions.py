"""Which emotion, over a whole run: recognition on annotated intervals, and after spotting.

What metrics.json holds under `recognition` (NumPy only).  Micro-expressions alone have emotions.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spotjax.config import Evaluate
from spotjax.counting import evaluation, recognition
from spotjax.counting.recognition import RECOGNITION_RULES, EmotionResult
from spotjax.types import Detection, Video

DEFAULT_RULE = "one_to_one"


def results(
    videos: Sequence[Video],
    detections: Mapping[str, Sequence[Detection]],
    event_scores: Mapping[str, np.ndarray],
    classes: tuple[str, ...],
    options: Evaluate,
) -> dict[str, Any] | None:
    """Recognition and analysis as JSON types; None if no micro-expression has an emotion.

    `event_scores` f32[m, 1 + C + 1] by video id: a row for each interval, its last columns the
    emotions `classes` (neutral last), NaN where an interval has no features.

    `ground_truth`: the most likely emotion of each labelled micro-expression; neutral can win and
    is then a miss.  `majority`: the same if each subject were given the commonest emotion of the
    other subjects.  `analysis` by matching rule: emotions of the spotted micro-expressions.
    Raises UserError for an emotion that is none of `classes`.
    """
    names = classes[:-1]
    true, predicted, subjects = [], [], []
    unlabelled = without = 0
    for video in videos:
        for number, interval in enumerate(video.intervals):
            if interval.type != "micro":
                continue
            truth = recognition.class_of(interval.emotion, names)
            scores = event_scores[video.id][number]
            if truth == len(names):
                unlabelled += 1
            elif np.isnan(scores).any():
                without += 1
            else:
                true.append(truth)
                predicted.append(int(np.argmax(scores[1:])))
                subjects.append(video.subject)
    if not true:
        return None
    table = recognition.confusion(np.array(true), np.array(predicted), len(names))
    analysis = {
        rule: recognition.as_dict(
            recognition.spot_then_recognise(
                _per_video(videos, detections, names, options.videos), rule, len(names), options.iou
            ),
            names,
        )
        for rule in RECOGNITION_RULES
    }
    return {
        "classes": list(classes),
        "rule": options.rule if options.rule in RECOGNITION_RULES else DEFAULT_RULE,
        "samples": len(true),
        "unlabelled": unlabelled,
        "without_features": without,
        "ground_truth": _summary(table, names),
        "majority": _summary(
            recognition.confusion(np.array(true), _majority(true, subjects), len(names)), names
        ),
        "analysis": analysis,
    }


def _summary(table: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    return {
        "uf1": recognition.uf1(table),
        "uar": recognition.uar(table),
        "accuracy": float(np.trace(table) / table.sum()),
        "confusion": table.tolist(),
        "per_class": recognition.ratios_as_dict(table, classes),
    }


def _majority(true: Sequence[int], subjects: Sequence[str]) -> np.ndarray:
    """i64[N]: for each sample the commonest class of the other subjects (ties: the lower index)."""
    total = Counter(true)
    own = {name: Counter[int]() for name in subjects}
    for label, name in zip(true, subjects, strict=True):
        own[name][label] += 1
    others = {name: total - counts for name, counts in own.items()}
    best = {name: min(c, key=lambda label: (-c[label], label)) for name, c in others.items() if c}
    return np.array([best.get(name, 0) for name in subjects])


def _per_video(
    videos: Sequence[Video],
    detections: Mapping[str, Sequence[Detection]],
    classes: tuple[str, ...],
    video_set: str,
) -> list[EmotionResult]:
    """Micro-expressions of every video with the emotions of both sides."""
    spotting = evaluation.results_of(videos, detections, "micro", video_set)
    found = []
    for video in videos:
        if video.id not in spotting:
            continue
        mine = [d.emotion for d in detections.get(video.id, ()) if d.type == "micro"]
        predicted = [
            len(classes) if name == recognition.NEUTRAL else classes.index(name) for name in mine
        ]
        truths = [
            recognition.class_of(i.emotion, classes) for i in video.intervals if i.type == "micro"
        ]
        found.append(
            EmotionResult(
                spotting[video.id], np.array(predicted, np.int64), np.array(truths, np.int64)
            )
        )
    return found
