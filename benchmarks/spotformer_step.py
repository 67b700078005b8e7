"""CPU seconds and memory of one training step of SpotFormer, or of its outputs alone.

    python -m benchmarks.spotformer_step [--clips 512] [--width 256] [--rounds 5] [--steps 4]
        [--variants float32 bfloat16 remat] [--inference] [--torch-threads 0]

Random clips and labels (the time does not depend on them), dropout .1, AdamW.  Each round runs
every variant for some steps, in turn.

  float32         the epoch that training runs, of one fold and --steps steps, compiled (ours)
  bfloat16        as float32, hidden values of 16 bits
  remat           as float32, blocks computed again in the backward pass
  PyTorch         the same network, losses and update in plain PyTorch, float32, not compiled
                  (needs torch)

Our epoch gets its temporary memory from the system once: the fewer --steps, the more of a step's
time that is (the paper's epochs have 34 to 50).  PyTorch gets its batch ready on the device, ours
gathers it inside the step.  With --inference both compute the outputs of the clips without
dropout, in evaluation mode, ours from the stored flow of 16 bits.  On a GPU both may multiply
float32 with TF32.  One core each: `taskset -c 0 python -m ... --torch-threads 1`.
Temporary memory is what XLA sets aside for a step beside its arguments and results.
"""

from typing import Any

import jax
import numpy as np

from benchmarks import common
from benchmarks import spotformer_torch as plain
from benchmarks.common import Run
from benchmarks.steps import training_epoch
from spotjax import presets, train
from spotjax.config import Spotformer
from spotjax.data import plans
from spotjax.systems import build, spotformer
from spotjax.systems import spotformer_net as net
from spotjax.types import Samples

PARAMETERS = {256: 3_168_778}
CHANGES: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"dtype": "bfloat16"},
    "remat": {"remat": True},
}
"""What each variant of ours changes in the paper's config."""


def config_of(width: int, **changes: Any) -> Spotformer:
    """The paper's network, heads and MLPs made narrower with the tokens."""
    return Spotformer(width=width, head_width=width // 4, mlp_width=width, **changes)


def make_data(clips: int) -> tuple[np.ndarray, Samples]:
    """Flow f16[clips, 17, 10, 2] and a table of blocks of 16 clips that covers it once."""
    rng = np.random.default_rng(0)
    shape = (clips // spotformer.BLOCK, spotformer.BLOCK)
    table = {
        "row": np.arange(0, clips, spotformer.BLOCK, dtype=np.int32),
        "there": np.ones(shape, np.float32),
        "class": rng.integers(0, 3, shape).astype(np.int8),
    }
    for type in ("micro", "macro"):
        table[f"{type}_edge"] = rng.integers(0, 3, shape).astype(np.int8)
        table[f"{type}_apex"] = np.maximum(rng.uniform(-1, 1, shape), 0).astype(np.float32)
        table[f"{type}_expression"] = rng.integers(0, 2, shape).astype(np.float32)
    return rng.normal(size=(clips, 17, 10, 2)).astype(np.float16), table


def ours(config: Spotformer, swmro: np.ndarray, table: Samples, steps: int) -> tuple[Run, int]:
    """The compiled epoch of one fold, and its temporary memory in bytes."""
    system = build(config, {})
    shapes = jax.eval_shape(system.init, jax.random.key(0))["params"]
    assert_count(config.width, sum(leaf.size for leaf in jax.tree.leaves(shapes)))
    order = np.tile(np.arange(len(table["row"]), dtype=np.int32), (1, steps, 1))
    fold = plans.Fold(0, "s0", table)
    rule = presets.spotformer_training()
    return training_epoch(system, "both", rule, {"swmro": swmro}, [fold], order)


def our_outputs(config: Spotformer, swmro: np.ndarray, table: Samples) -> tuple[Run, int]:
    """The compiled outputs of all clips, and their temporary memory in bytes."""
    system = build(config, {})
    variables = jax.jit(system.init)(jax.random.key(0))
    weight = np.ones(len(table["row"]), np.float32)

    def outputs(variables: Any, arrays: Any, samples: Any) -> Any:
        key = jax.random.key(0)
        inputs = system.inputs(arrays, samples, key, "both")
        return system.apply(variables, inputs, weight, False, key)[0]

    given = jax.device_put((variables, {"swmro": swmro}, table))
    compiled = jax.jit(outputs).lower(*given).compile()

    def run() -> None:
        jax.block_until_ready(compiled(*given))

    return run, compiled.memory_analysis().temp_size_in_bytes


def assert_count(width: int, count: int) -> None:
    """That a network has the paper's number of parameters, or at another width our number."""
    shapes = jax.eval_shape(build(config_of(width), {}).init, jax.random.key(0))
    expected = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    assert PARAMETERS.get(width, expected) == expected == count, (width, count, expected)


def in_torch(
    config: Spotformer, swmro: np.ndarray, table: Samples, device: str, steps: int, inference: bool
) -> Run:
    """The steps, or the outputs alone, in PyTorch; weight decay where ours has it."""
    import torch

    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    network = plain.network(
        net.Shape(width=config.width, head_width=config.head_width, mlp_width=config.mlp_width)
    ).to(device)
    assert_count(config.width, sum(p.numel() for p in network.parameters()))
    layers = (torch.nn.Linear, torch.nn.Conv1d)
    kernels = [m.weight for m in network.modules() if isinstance(m, layers)]
    chosen = {id(kernel) for kernel in kernels}
    others = [p for p in network.parameters() if id(p) not in chosen]
    rule = presets.spotformer_training()
    optimizer = torch.optim.AdamW(
        [{"params": kernels, "weight_decay": rule.weight_decay}, {"params": others}],
        lr=rule.learning_rate,
        betas=(rule.beta1, rule.beta2),
        weight_decay=0.0,
    )
    clips, labels = plain.batch(swmro, table, device)
    network.train(not inference)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        plain.loss(*network(clips), labels, config).backward()
        optimizer.step()

    def outputs() -> None:
        with torch.inference_mode():
            network(clips)

    def run() -> None:
        for _ in range(1 if inference else steps):
            outputs() if inference else step()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def parse() -> Any:
    """The command line's options."""
    parser = common.parser(__doc__, rounds=5)
    parser.add_argument("--clips", type=int, default=512, help="of a batch, a multiple of 16")
    parser.add_argument("--width", type=int, default=256, help="of a token, a multiple of 4")
    parser.add_argument("--steps", type=common.positive, default=4, help="in each round")
    parser.add_argument(
        "--variants", nargs="+", choices=CHANGES, default=list(CHANGES), help="of ours (all)"
    )
    parser.add_argument("--inference", action="store_true", help="outputs alone, no training")
    parser.add_argument("--torch-threads", type=int, default=0, help="of a CPU; 0: its own choice")
    options = parser.parse_args()
    if options.clips < 16 or options.clips % 16 or options.width < 4 or options.width % 4:
        parser.error("--clips must be a multiple of 16 and --width of 4")
    return options


def main() -> None:
    """Command line."""
    options = parse()
    train.set_up_jax(1)
    swmro, table = make_data(options.clips)
    variants: dict[str, Run] = {}
    memory: dict[str, int] = {}
    for name in options.variants:
        config = config_of(options.width, **CHANGES[name])
        if options.inference:
            variants[name], memory[name] = our_outputs(config, swmro, table)
        else:
            variants[name], memory[name] = ours(config, swmro, table, options.steps)
    if device := common.find_torch(options.torch_threads):
        config = config_of(options.width)
        variants["PyTorch"] = in_torch(
            config, swmro, table, device, options.steps, options.inference
        )
    steps = 1 if options.inference else options.steps
    common.show(
        "spotformer_inference" if options.inference else "spotformer_step",
        common.measure(variants, options.rounds, steps), "s a step", options.variants[0],
        options.json,
        columns={"temporary MB": {name: f"{size / 1e6:.0f}" for name, size in memory.items()}},
        notes=[f"{options.clips} clips, width {options.width}"],
    )  # fmt: skip


if __name__ == "__main__":
    main()
