"""Results made by hand, for the tests of the page, its pictures and the video."""

from typing import Any

import jax
import numpy as np
from spottings import make_spotting

from spotjax.config import (
    Config,
    Flow,
    Sfamnet,
    SfamnetFeatures,
    SoftnetFeatures,
    Spotformer,
    SpotformerFeatures,
)
from spotjax.own.run import Result
from spotjax.own.scorer import Fitted
from spotjax.systems import build

K = {"macro": 8, "micro": 3}
FEATURES = SoftnetFeatures(k_macro=8, k_micro=3, flow=Flow(method="dis"))
CONFIG = Config(name="own", features=FEATURES)
SFAMNET = Config(
    name="own",
    features=SfamnetFeatures(scene=False, flow=Flow(method="dis")),
    system=Sfamnet(flow="optical", streams=("u", "w")),
)
SPOTFORMER = Config(
    name="own",
    features=SpotformerFeatures(window=7, motion="adjacent"),
    system=Spotformer(window=7, width=8, heads=2, head_width=4, mlp_width=8),
)
PROVENANCE: dict[str, Any] = {
    "date": "2025-11-25T14:03:07+01:00",
    "version": "0.1.0",
    "weights": "run demo: softnet trained on <invented> faces",
    "sha256": "0123456789abcdef" * 4,
    "origins": [["demo", "ab"]],
    "flow": "dis",
    "rows_per_second": 25.0,
    "decoding": {"interval": "published", "p": 0.55},
    "libraries": {"numpy": "2.4.6"},
    "k": K,
    "features": {"seconds": 0.2},
    "face": 1,
}


def fitted(config: Config = CONFIG, folds: int = 2, **options: Any) -> Fitted:
    """Weights of a system with random positive numbers: motion anywhere raises the score."""
    system = build(config.system, K)
    rng = np.random.default_rng(0)

    def draw(leaf: Any) -> np.ndarray:
        return np.float32(np.abs(rng.normal(size=(folds, *leaf.shape))) / np.sqrt(leaf.size))

    tree = jax.eval_shape(system.init, jax.random.key(0))
    variables = {problem: jax.tree.map(draw, tree) for problem in system.problems}
    return Fitted(config, K, system, variables, options, ())


BARE = Fitted(CONFIG, K, build(CONFIG.system, K), {}, {}, ())
"""Where the network is not the point."""


def result(rate: float = 25.0, made: Fitted = BARE, boxes: Any = None, **other: Any) -> Result:
    """`spottings.make_spotting` with a box of 10 px where there is a face."""
    spotting = make_spotting(**({"provenance": PROVENANCE} | other))
    if boxes is None:
        boxes = np.tile([4, 6, 14, 18], (len(spotting.times), 1))
        boxes[spotting.face == 0] = -1
    return Result(spotting, np.asarray(boxes, np.int64), made, rate)
