"""CPU seconds to score many predictions under every rule.

    python -m benchmarks.scoring [--videos 1000] [--predictions 50000] [--truths 5000] [--rounds 5]

Random intervals of both types with scores, from seed 0, in memory: reading a CSV comes on top.
All rules together, each rule, and AP@[.5:.95].
"""

from functools import partial

import numpy as np

from benchmarks import common
from benchmarks.common import Run
from spotjax.counting import metrics
from spotjax.counting.matching import RULES, VideoResult


def make_results(videos: int, predictions: int, truths: int) -> list[VideoResult]:
    """One result per video and type; intervals of 5 to 60 frames in videos of 3,000."""
    rng = np.random.default_rng(0)
    count = 2 * videos

    def intervals(total: int) -> list[np.ndarray]:
        onset = rng.integers(0, 3000, total)
        table = np.stack([onset, onset + rng.integers(5, 60, total)], axis=1)
        return np.array_split(table, count)

    scores = np.array_split(rng.random(predictions), count)
    pairs = zip(intervals(predictions), scores, intervals(truths), strict=True)
    return [VideoResult(*pair) for pair in pairs]


def main() -> None:
    """Command line."""
    parser = common.parser(__doc__, rounds=5)
    for name, value in (("videos", 1000), ("predictions", 50_000), ("truths", 5000)):
        parser.add_argument(f"--{name}", type=common.positive, default=value)
    options = parser.parse_args()
    results = make_results(options.videos, options.predictions, options.truths)
    variants: dict[str, Run] = {"all rules": lambda: [metrics.count(results, r) for r in RULES]}
    variants |= {rule: partial(metrics.count, results, rule) for rule in RULES}
    variants["AP"] = partial(metrics.average_precision, results)
    common.show(
        "scoring", common.measure(variants, options.rounds), "s", "all rules", options.json,
        notes=[
            f"{options.videos} videos, {options.predictions} predictions, {options.truths} truths",
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
