"""From detections to the numbers of metrics.json: pure NumPy, no model, no file.

Every table has the same form: `{"macro"|"micro"|"overall": {"tp", "fp", "fn", "precision",
"recall", "f1", "ap"}}`.  Counts are summed over videos and subjects and divided once; overall
sums macro and micro (MEGC), its AP is the mean of both (SOFTNet table 2).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spotjax import baselines
from spotjax.config import EXPRESSION_TYPES, Evaluate
from spotjax.counting import metrics
from spotjax.counting.metrics import Counts, VideoResult
from spotjax.decoding.intervals import as_array
from spotjax.types import Detection, Video

Detections = Mapping[str, Sequence[Detection]]
"""Detections of all types by video id."""
Table = dict[str, dict[str, float]]

CHANCE_AP_DRAWS = 20


def results_of(
    videos: Sequence[Video], detections: Detections, type: str, video_set: str = "all"
) -> dict[str, VideoResult]:
    """Predictions and truths of `type` by video id.

    `video_set` "annotated_only" leaves out videos without a truth of the type (SOFTNet's table 2:
    false positives in those videos are then not counted), "all" keeps them (MEGC).
    """
    found = {}
    for video in videos:
        truths = [i for i in video.intervals if i.type == type]
        if video_set == "annotated_only" and not truths:
            continue
        mine = [d for d in detections.get(video.id, ()) if d.type == type]
        scores = np.asarray([d.score for d in mine], np.float64)
        found[video.id] = VideoResult(as_array(mine), scores, as_array(truths))
    return found


def counts(
    videos: Sequence[Video], detections: Detections, options: Evaluate, rule: str | None = None
) -> Table:
    """Counts and ratios under `rule` (default: the config's), without AP."""
    found: dict[str, Counts] = {
        type: metrics.count(
            results_of(videos, detections, type, options.videos).values(),
            rule or options.rule,
            options.iou,
        )
        for type in EXPRESSION_TYPES
    }
    found["overall"] = sum(found.values(), Counts())
    return {type: value.as_dict() for type, value in found.items()}


def overall(videos: Sequence[Video], detections: Detections, options: Evaluate) -> Counts:
    """Counts of both types together under the config's rule."""
    return sum(
        (
            metrics.count(
                results_of(videos, detections, type, options.videos).values(),
                options.rule,
                options.iou,
            )
            for type in EXPRESSION_TYPES
        ),
        Counts(),
    )


def table(videos: Sequence[Video], detections: Detections, options: Evaluate) -> Table:
    """The result table of these detections under the config's rule, with AP.

    AP always matches one to one; that of overall is the mean of both types.
    """
    rows = counts(videos, detections, options)
    for type in EXPRESSION_TYPES:
        found = list(results_of(videos, detections, type, options.videos).values())
        rows[type]["ap"] = metrics.average_precision(found)
    rows["overall"]["ap"] = float(np.mean([rows[type]["ap"] for type in EXPRESSION_TYPES]))
    return rows


def by_subject(
    videos: Sequence[Video], detections: Detections, options: Evaluate
) -> dict[str, dict[str, Counts]]:
    """Counts per subject and type, and their sum under "overall"."""
    subjects: dict[str, dict[str, Counts]] = {}
    for subject in dict.fromkeys(video.subject for video in videos):
        mine = [video for video in videos if video.subject == subject]
        found: dict[str, Counts] = {
            type: metrics.count(
                results_of(mine, detections, type, options.videos).values(),
                options.rule,
                options.iou,
            )
            for type in EXPRESSION_TYPES
        }
        subjects[subject] = {**found, "overall": sum(found.values(), Counts())}
    return subjects


def bootstrap(
    subjects: Mapping[str, Mapping[str, Counts]], draws: int, seed: int
) -> dict[str, tuple[float, float] | None]:
    """95 % interval of F1 per type over resampled subjects; None without resampling."""
    if draws == 0:
        return {type: None for type in (*EXPRESSION_TYPES, "overall")}
    return {  # the same draws of subjects for each type
        type: metrics.bootstrap_f1(
            [counts[type] for counts in subjects.values()], draws, np.random.default_rng(seed)
        )
        for type in (*EXPRESSION_TYPES, "overall")
    }


def chance(videos: Sequence[Video], detections: Detections, options: Evaluate, seed: int) -> Table:
    """The table of random intervals of the same number and lengths per video, averaged.

    Counts and ratios are means over `options.chance_draws` placements (AP over the first 20), so
    the counts are not whole numbers.
    """
    rng = np.random.default_rng(seed)
    sums: dict[str, dict[str, float]] = {}
    ap_draws = min(CHANCE_AP_DRAWS, options.chance_draws)
    for draw in range(options.chance_draws):
        placed = {
            video.id: baselines.random_intervals(
                list(detections.get(video.id, ())), video.num_frames, rng
            )
            for video in videos
        }
        total = Counts()
        rows: dict[str, dict[str, float]] = {}
        for type in EXPRESSION_TYPES:
            found = list(results_of(videos, placed, type, options.videos).values())
            counts = metrics.count(found, options.rule, options.iou)
            total += counts
            ap = metrics.average_precision(found) if draw < ap_draws else 0.0
            rows[type] = {**counts.as_dict(), "ap": ap}
        mean_ap = float(np.mean([rows[type]["ap"] for type in EXPRESSION_TYPES]))
        rows["overall"] = {**total.as_dict(), "ap": mean_ap}
        for name_of_type, row in rows.items():
            target = sums.setdefault(name_of_type, dict.fromkeys(row, 0.0))
            for name, value in row.items():
                target[name] += value / (ap_draws if name == "ap" else options.chance_draws)
    return sums


def matches(
    videos: Sequence[Video], detections: Detections, options: Evaluate
) -> dict[tuple[str, str], np.ndarray]:
    """Index of the truth that each detection takes, -1 for none: i64[n] by (video id, type)."""
    return {
        (video_id, type): metrics.matched(result, options.rule, options.iou)
        for type in EXPRESSION_TYPES
        for video_id, result in results_of(videos, detections, type).items()
    }


def as_json(subjects: Mapping[str, Mapping[str, Counts]]) -> dict[str, Any]:
    """Per-subject counts as plain dictionaries."""
    return {
        subject: {type: counts.as_dict() for type, counts in row.items()}
        for subject, row in subjects.items()
    }
