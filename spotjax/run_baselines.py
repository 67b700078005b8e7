"""What a training-free method finds on the videos of a run, counted like the run itself.

The run's directory does not hold the methods' intervals: they are spotted again, from the shards.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spotjax import evaluate
from spotjax.baselines import BASELINES
from spotjax.config import EXPRESSION_TYPES, Config
from spotjax.counting import evaluation
from spotjax.counting.matching import VideoResult
from spotjax.counting.run_counts import Scored
from spotjax.data import shards
from spotjax.decoding.intervals import as_array
from spotjax.errors import UserError
from spotjax.systems import build
from spotjax.types import Dataset, Detection, Video


def of_run(base: Scored, name: str) -> Scored:
    """The method `name` beside an evaluated run, for the types that the run spots.

    Raises UserError: no such method, its features are not there, or other labels.
    """
    if name not in BASELINES:
        raise UserError(
            f"{base.folder}:{name}: no such training-free method: one of {', '.join(BASELINES)}"
        )
    with evaluate.open_evaluated(base.folder, [f"baselines.names={name}"]) as opened:
        config, dataset, folder = opened
        system = build(config.system, dict(dataset.k))
        source = evaluate.baseline_sets(base.folder, config, dataset, system, folder)[name]
        return spotted(base, name, source, config, base.types)


def spotted(
    base: Scored,
    name: str,
    source: Dataset,
    config: Config,
    types: Sequence[str] = EXPRESSION_TYPES,
) -> Scored:
    """The method `name` on the videos of `base`, with the features of `source`.

    Its `metrics` hold `results` with AP and `chance` as those of a run.
    """
    videos = [video for video in source.videos if video.id in base.frames]
    found = evaluate.spot_baseline(name, source, config, videos, types)
    results = {
        type: {
            video.id: result_of(video, found[video.id], type, base.results[type][video.id].truths)
            for video in videos
        }
        for type in types
    }
    options = config.evaluation
    tables = {
        "protocol": base.protocol,
        "results": evaluation.table(videos, found, options),
        "chance": evaluation.chance(videos, found, options, config.train.seed),
    }
    return base._replace(
        label=f"{base.label}:{name}",
        metrics=tables,
        types=tuple(types),
        results=results,
        method=name,
    )


def result_of(
    video: Video, detections: Sequence[Detection], type: str, truths: np.ndarray
) -> VideoResult:
    """The detections of a type in the video's own frame numbers, in the order of intervals.csv.

    `truths` i64[m, 2] are in these numbers already and stay as they are.
    """
    mine = sorted(d for d in detections if d.type == type)
    scores = np.asarray([d.score for d in mine], np.float64)
    return VideoResult(video.frame_ids[as_array(mine)].astype(np.int64), scores, truths)


def make(config: Config, base: Scored, folder: Path) -> dict[str, Scored]:
    """All methods of `config.baselines` on the videos of `base`, by name, for both types.

    `folder` has the shards of the config's system.  Raises UserError if features are missing.
    """
    dataset = shards.load(folder, config)
    system = build(config.system, dict(dataset.k))
    sources = evaluate.baseline_sets(base.folder, config, dataset, system, folder)
    return {name: spotted(base, name, source, config) for name, source in sources.items()}
