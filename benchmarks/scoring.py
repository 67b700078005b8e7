"""Seconds to score many predictions under every rule.

    python benchmarks/scoring.py [--videos 1000] [--predictions 50000] [--truths 5000] [--rounds 5]

Random intervals of both types with scores, from seed 0, in memory: reading a CSV comes on top.
Prints the median over the rounds of all rules together, of each rule, and of AP@[.5:.95].
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np

from spotjax import metrics
from spotjax.matching import RULES, VideoResult


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


def median_seconds(work: Callable[[], object], rounds: int) -> float:
    """Median wall time of `work`."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in (("videos", 1000), ("predictions", 50_000), ("truths", 5000)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    results = make_results(options.videos, options.predictions, options.truths)
    print(
        f"{options.videos} videos, {options.predictions} predictions, {options.truths} truths; "
        f"Python {platform.python_version()}, numpy {np.__version__}, median of {options.rounds}"
    )
    together = median_seconds(
        lambda: [metrics.count(results, rule) for rule in RULES], options.rounds
    )
    print(f"{'all rules':<12}{together:8.3f} s")
    for rule in RULES:
        seconds = median_seconds(lambda r=rule: metrics.count(results, r), options.rounds)
        print(f"{rule:<12}{seconds:8.3f} s")
    ap = median_seconds(lambda: metrics.average_precision(results), options.rounds)
    print(f"{'AP':<12}{ap:8.3f} s")


if __name__ == "__main__":
    main()
