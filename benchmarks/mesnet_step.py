"""CPU seconds and memory of one training step of MESNet, both formulations.

    python -m benchmarks.mesnet_step [--size 112] [--rounds 5] [--steps 2] [--stage pretrain]

Random flow and labels (the time does not depend on them).  A step is that of training, in a loop
of --steps steps in one program: two clips of 100 flows for the main stage, of 16 for `pretrain`,
both passes, Adam.  One core: `taskset -c 0 python -m benchmarks.mesnet_step`.

  blocked   the default: pooled convolutions as matrix products
  plain     `lax.conv`
"""

import numpy as np

from benchmarks import common
from benchmarks.common import Run
from benchmarks.steps import training_epoch
from spotjax import train
from spotjax.config import Mesnet, Train
from spotjax.data import plans
from spotjax.systems import build
from spotjax.types import Interval, System, Video

FRAMES, BATCH = 400, 2


def steps_of(system: System, size: int, steps: int) -> tuple[Run, int]:
    """The compiled steps of one fold, and their temporary memory in bytes."""
    rng = np.random.default_rng(0)
    flow = rng.normal(0, 0.1, (FRAMES, size, size, 2)).astype(np.float16)
    spans = (Interval(60, 66, 72, "micro"), Interval(200, 220, 240, "macro"))
    video = Video("s", "v", 30.0, 0, FRAMES, np.arange(FRAMES), spans)
    (problem,) = system.problems
    offered = system.targets(video, np.ones(FRAMES, bool), problem)
    fold = plans.Fold(0, "s", system.select(offered, rng, problem))
    order = (np.arange(steps * BATCH) % fold.size).astype(np.int32).reshape(1, steps, BATCH)
    rule = Train(optimizer="adam", learning_rate=1e-4)
    return training_epoch(system, problem, rule, {"flow": flow}, [fold], order)


def main() -> None:
    """Command line."""
    parser = common.parser(__doc__, rounds=5)
    parser.add_argument("--size", type=int, default=112, help="px of an image's side")
    parser.add_argument("--steps", type=common.positive, default=2, help="in each round")
    parser.add_argument("--stage", choices=("both", "pretrain"), default="both")
    options = parser.parse_args()
    train.set_up_jax(1)
    variants: dict[str, Run] = {}
    memory: dict[str, str] = {}
    for name in ("blocked", "plain"):
        system = build(Mesnet(size=options.size, formulation=name), {})
        stage = system if options.stage == "both" else system.before
        assert stage is not None
        variants[name], temporary = steps_of(stage, options.size, options.steps)
        memory[name] = f"{temporary / 1e6:.0f}"
    common.show(
        "mesnet_step", common.measure(variants, options.rounds, options.steps), "s a step",
        "blocked", options.json, columns={"temporary MB": memory},
        notes=[f"{options.size} px, stage {options.stage}"],
    )  # fmt: skip


if __name__ == "__main__":
    main()
