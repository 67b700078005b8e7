"""CPU seconds and memory of one training step of MESNet, both formulations.

    taskset -c 0 python benchmarks/mesnet_step.py [--size 112] [--rounds 5] [--steps 2]
        [--stage pretrain]

Random flow and labels (the time does not depend on them).  A step is that of training, in a loop
of --steps steps in one program: two clips of 100 flows for the main stage, of 16 for `pretrain`,
both passes, Adam.  Each round runs both formulations in turn, after a warm-up; medians over the
rounds are printed with the ratio within a round.

  blocked   the default: pooled convolutions as matrix products
  plain     `lax.conv`
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from spotjax import folds, rundir, train
from spotjax.config import Mesnet, Train
from spotjax.systems import build
from spotjax.types import Interval, System, Video

FRAMES, BATCH = 400, 2


def steps_of(system: System, size: int, steps: int) -> tuple[Callable[[], None], float]:
    """The compiled steps of one fold, and their temporary memory in MB."""
    rng = np.random.default_rng(0)
    flow = rng.normal(0, 0.1, (FRAMES, size, size, 2)).astype(np.float16)
    spans = (Interval(60, 66, 72, "micro"), Interval(200, 220, 240, "macro"))
    video = Video("s", "v", 30.0, 0, FRAMES, np.arange(FRAMES), spans)
    (problem,) = system.problems
    offered = system.targets(video, np.ones(FRAMES, bool), problem)
    samples = system.select(offered, rng, problem)
    count = len(samples["row"])
    optimizer = folds.make_optimizer(Train(optimizer="adam", learning_rate=1e-4))
    mesh = folds.make_mesh(1)
    epoch = folds.make_epoch(system, problem, optimizer, mesh)
    states = folds.init_state(system, optimizer, 0, [0])
    order = (np.arange(steps * BATCH) % count).astype(np.int32).reshape(1, steps, BATCH)
    folded: Any = (
        states,
        folds.fold_keys(0, 0, [(0, 0)]),
        jax.tree.map(lambda a: a[None], samples),
    )
    state, keys, table, order = folds.put((*folded, order), mesh, folds.FOLD)
    arrays = folds.put({"flow": flow}, mesh, folds.COMMON)
    box = [state]
    given = (keys, table, order, arrays, np.float32(1))
    compiled = epoch.lower(box[0], *given).compile()

    def run() -> None:
        box[0], _ = jax.block_until_ready(compiled(box[0], *given))

    return run, compiled.memory_analysis().temp_size_in_bytes / 1e6


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--stage", choices=("both", "pretrain"), default="both")
    options = parser.parse_args()
    train.set_up_jax(1)
    runs, memory = {}, {}
    for name in ("blocked", "plain"):
        system = build(Mesnet(size=options.size, formulation=name), {})
        stage = system if options.stage == "both" else system.before
        runs[name], memory[name] = steps_of(stage, options.size, options.steps)
        runs[name]()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, run in runs.items():
            begin = time.process_time()
            run()
            seconds[name].append((time.process_time() - begin) / options.steps)
    ratios = [b / a for a, b in zip(seconds["blocked"], seconds["plain"], strict=True)]
    print(f"{options.size} px, {options.stage}, {options.rounds} rounds; {rundir.versions()}")
    for name in runs:
        print(f"{name:<8} {statistics.median(seconds[name]):8.3f} CPU s a step, "
              f"{memory[name]:7.0f} MB temporary")  # fmt: skip
    print(f"plain / blocked within a round, median: {statistics.median(ratios):.1f}")


if __name__ == "__main__":
    main()
