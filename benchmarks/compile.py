"""Seconds to compile the training of each system: at the first start and at the second.

    python -m benchmarks.compile [--rounds 3] [--systems softnet sfamnet spotformer mesnet cnn3d]

One program each, an epoch of the paper's network as `spotjax.train` compiles it, always in a
process of its own; JAX's cache of compiled programs on disk is empty at the first start and is
there at the second.  Tracing, which no cache saves, is told apart.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from benchmarks import common
from spotjax import presets
from spotjax.config import Cnn3d, Mesnet, Sfamnet, Softnet, Spotformer, Train
from spotjax.types import Interval, Video

FRAMES = 256
IMAGES = ((42, 42, 3), np.float16)


class Program(NamedTuple):
    """What one system's training is compiled for."""

    config: Any
    train: Train
    problem: str
    arrays: Mapping[str, tuple[tuple[int, ...], Any]]
    """Shape of a row and dtype of each stream."""
    steps: int = 8


PROGRAMS = {
    "softnet": Program(Softnet(), Train(), "micro", {"flow_micro": IMAGES}),
    "sfamnet": Program(
        Sfamnet(flow="optical"), presets.sfamnet_training(), "both",
        {"optical": IMAGES, "event_optical": IMAGES},
    ),
    "spotformer": Program(
        Spotformer(), presets.spotformer_training(), "both", {"swmro": ((17, 10, 2), np.float16)}
    ),
    "mesnet": Program(
        Mesnet(), presets.mesnet_training(1), "both", {"flow": ((112, 112, 2), np.float16)}
    ),
    "cnn3d": Program(
        Cnn3d(), presets.cnn3d_training(), "both", {"crops": ((112, 112), np.uint8)}
    ),
}  # fmt: skip


def compile_once(name: str) -> None:
    """Print the CPU and wall seconds of tracing and of compiling, in this process."""
    from benchmarks.steps import lowered_epoch
    from spotjax import train
    from spotjax.data import plans
    from spotjax.systems import build

    train.set_up_jax(1)
    program = PROGRAMS[name]
    system = build(program.config, {"macro": 12, "micro": 4})
    spans = (
        Interval(20, 26, 32, "micro", "positive"),
        Interval(100, 120, 140, "macro", "positive"),
    )
    video = Video("s", "v", 30.0, 0, FRAMES, np.arange(FRAMES), spans)
    offered = system.targets(video, np.ones(FRAMES, bool), program.problem)
    fold = plans.Fold(0, "s", system.select(offered, np.random.default_rng(0), program.problem))
    batch = program.train.batch
    order = np.resize(np.arange(fold.size), (1, program.steps, batch)).astype(np.int32)
    arrays = {
        stream: np.zeros((FRAMES, *shape), dtype)
        for stream, (shape, dtype) in program.arrays.items()
    }
    spent = []
    begin = time.process_time(), time.perf_counter()
    lowered = lowered_epoch(system, program.problem, program.train, arrays, [fold], order)[0]
    for work in (lambda: None, lowered.compile):
        work()
        now = time.process_time(), time.perf_counter()
        spent += [now[0] - begin[0], now[1] - begin[1]]
        begin = now
    print(*spent)


def start(name: str, cache: str) -> list[float]:
    """CPU and wall seconds of tracing and of compiling, in a fresh process."""
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
    words = [sys.executable, "-m", "benchmarks.compile", "--one", name]
    done = subprocess.run(words, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return [float(word) for word in done.stdout.split()]


def main() -> None:
    """Command line."""
    parser = common.parser(__doc__, rounds=3)
    parser.add_argument("--systems", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--one", choices=PROGRAMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        compile_once(options.one)
        return

    names = ("first start", "second start", "tracing, each start")
    cpu: dict[str, list[float]] = {name: [] for name in names}
    wall: dict[str, list[float]] = {name: [] for name in names}
    of_system: dict[str, list[tuple[float, float]]] = {name: [] for name in options.systems}
    for _ in range(options.rounds):
        told = []
        for system in options.systems:
            with tempfile.TemporaryDirectory() as cache:
                told.append([start(system, cache) for _ in range(2)])
            first, second = told[-1]
            of_system[system].append((first[2], second[2]))
        for clock, values in ((0, cpu), (1, wall)):
            values["first start"].append(sum(first[2 + clock] for first, _ in told))
            values["second start"].append(sum(second[2 + clock] for _, second in told))
            values["tracing, each start"].append(sum(second[clock] for _, second in told))
    notes = []
    for system, pairs in of_system.items():
        first, second = (statistics.median(column) for column in zip(*pairs, strict=True))
        notes.append(
            f"{system}: {first:.2f} CPU s at the first start, {second:.2f} at the second, "
            f"{first / second:.0f} times"
        )
    times = common.Times(cpu, wall)
    common.show("compile", times, "s", "second start", options.json, notes=notes)


if __name__ == "__main__":
    main()
