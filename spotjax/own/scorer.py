"""Scores of a video that comes stretch after stretch, by weights that never saw it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from spotjax.config import (
    EXPRESSION_TYPES,
    Config,
    Flow,
    Sfamnet,
    SfamnetFeatures,
    SoftnetFeatures,
)
from spotjax.decoding import decode
from spotjax.errors import UserError
from spotjax.loso import scoring
from spotjax.parameters.weights import Weights
from spotjax.systems import build
from spotjax.types import Detection, System, Video

SLOWER = 0.9
"""Share of the trained frame rate below which windows of a fixed number of frames are too long."""
OWN_FEATURES = ("softnet", "sfamnet", "spotformer", "mesnet", "cnn3d")
"""Features of which `data_prep/own_video.py` knows what they look at around a row."""
LEAST_MICRO_FPS = 24.9
"""A micro-expression lasts half a second at most: fewer frames do not show its course."""


class Fitted(NamedTuple):
    """Weights made ready for videos of a certain rate."""

    config: Config
    """k, in the features and the system, counts rows of the video."""
    k: dict[str, int]
    system: System
    variables: dict[str, Any]
    options: dict[str, Any]
    """Decoding options that differ from the config's."""
    notes: tuple[str, ...]


def fit(weights: Weights, rate: float, flow: str = "") -> Fitted:
    """`weights` for rows that come `rate` times a second, with another `flow` if it is named.

    Raises UserError for a system that cannot be used on a video of one's own.
    """
    config = weights.config
    if config.system.name == "mesnet":
        raise UserError(
            "--weights: MESNet judges whole clips of a data set and is not made for one's own "
            "videos: use weights of softnet, sfamnet, spotformer or cnn3d"
        )
    if config.features.name not in OWN_FEATURES:
        raise UserError(
            f"--weights: features of {config.features.name} are not made of one's own videos yet: "
            f"use weights of a system that reads those of {', '.join(OWN_FEATURES)}"
        )
    ratio = rate / weights.fps
    k = {type: max(1, round(length * ratio)) for type, length in weights.k.items()}
    notes = list(weights.notes)
    if ratio < SLOWER:
        notes.append(
            f"trained at {weights.fps:g} frames per second, this video has {rate:.4g}: expect less"
        )
    features: Any = config.features
    if isinstance(features, SoftnetFeatures):
        features = dataclasses.replace(features, k_macro=k.get("macro"), k_micro=k.get("micro"))
    if isinstance(features, SfamnetFeatures) and isinstance(config.system, Sfamnet):
        if config.system.flow != "optical":  # weights of a run: convert says it of released ones
            notes.append(
                f"trained on {config.system.flow} flow, which needs depth: a plain video gives "
                "optical flow alone, whose strain takes the place of the motion in depth"
            )
        features = dataclasses.replace(features, scene=False)
        config = dataclasses.replace(
            config, system=dataclasses.replace(config.system, flow="optical")
        )
    if flow and hasattr(features, "flow"):
        asked: Any = (
            {"method": "tvl1", "backend": "jax"} if flow == "tvl1_jax" else {"method": flow}
        )
        if features.flow.method != asked["method"]:
            notes.append(f"trained on {features.flow.method} flow, used with {flow}")
        features = dataclasses.replace(features, flow=Flow(**asked))
    elif flow:
        raise UserError(f"--flow {flow}: {config.system.name} has no choice of flow: leave it out")
    options = dict(weights.options)
    if getattr(config.system, "interval", "") == "published":
        options["interval"] = "centred"
        notes.append(
            "intervals lie around the middle of each pair of frames; as published they would lie "
            "k/2 frames earlier"
        )
    rows = {key: length for key in ("k_micro", "k_macro") if hasattr(config.system, key)
            for length in [max(1, round(getattr(config.system, key) * ratio))]}  # fmt: skip
    config = dataclasses.replace(
        config, features=features, system=dataclasses.replace(config.system, **rows)
    )
    missing = [type for type in EXPRESSION_TYPES if type not in build(config.system, k).types]
    notes += [f"these weights spot no {type}-expressions" for type in missing]
    return Fitted(config, k, build(config.system, k), weights.variables, options, tuple(notes))


class Scorer:
    """Scores rows in one compiled program a problem, averaged over the folds of the weights."""

    def __init__(self, fitted: Fitted) -> None:
        """Nothing is compiled yet."""
        self.fitted = fitted
        self._streams: dict[str, np.ndarray] = {}  # of the stretch in question
        system = fitted.system
        self._score = {p: scoring.make_score(system, p, self._streams) for p in system.problems}
        self._folds = {
            problem: [
                jax.tree.map(lambda leaf, f=fold: leaf[f], variables)
                for fold in range(len(jax.tree.leaves(variables)[0]))
            ]
            for problem, variables in fitted.variables.items()
        }

    def __call__(
        self, rows: Mapping[str, np.ndarray], before: int, count: int
    ) -> dict[str, np.ndarray]:
        """Scores f32[count] or f32[count, C] and `valid_<problem>` bool[count] of some rows.

        `rows` has streams `[N, ...]`; the rows from `before` on are scored, the others are looked
        at.  A row without features is NaN where the system scores rows one by one.
        """
        self._streams.clear()
        self._streams.update(rows)
        system = self.fitted.system
        for problem in system.problems:  # nobody has annotated an event of this video
            for name in system.streams(problem):
                if name not in rows:
                    self._streams[name] = rows[name.removeprefix("event_")][:0]
        length = len(next(iter(rows.values())))
        video = Video("", "", 1.0, 0, length, np.arange(length), ())
        kept = slice(before, before + count)
        found: dict[str, np.ndarray] = {}
        for problem in system.problems:
            there = rows[system.valid(problem)] > 0
            if system.scored is not None:
                samples = system.scored(video, there, problem)
                samples = {name: array[kept] for name, array in samples.items()}
                scores = self._mean(problem, samples)
            else:
                chosen = np.flatnonzero(there[kept]) + before
                some = self._mean(problem, {"row": chosen.astype(np.int32)})
                scores = np.full((count, *some.shape[1:]), np.nan, np.float32)
                scores[chosen - before] = some
            found[problem] = scores
            found[f"valid_{problem}"] = there[kept]
        return found

    def _mean(self, problem: str, samples: dict[str, np.ndarray]) -> np.ndarray:
        score = self._score[problem]
        return np.mean([score(fold, samples) for fold in self._folds[problem]], axis=0)

    def decode(
        self, scores: Mapping[str, np.ndarray]
    ) -> tuple[list[Detection], dict[str, decode.Curve]]:
        """Detections and drawn curves of all rows so far.

        `scores` f32[T] or f32[T, C] and `valid_<problem>` bool[T] are what calls gave, joined.
        """
        problems = self.fitted.system.problems
        return self.fitted.system.decode(
            {problem: scores[problem] for problem in problems},
            {problem: scores[f"valid_{problem}"] for problem in problems},
            **self.fitted.options,
        )
