"""Seconds and memory of one training step of SpotFormer: ours and PyTorch.

    python benchmarks/spotformer_step.py [--clips 512] [--width 256] [--rounds 5] [--steps 4]
        [--variants float32 bfloat16 remat] [--torch-threads 0]

Random clips and labels (the time does not depend on them), dropout .1, AdamW.  Each round runs
every variant for some steps, in turn, after a warm-up; medians over the rounds are printed with
the ratio to the first variant of the same round.

  float32         the epoch that training runs, of one fold and --steps steps, compiled (ours)
  bfloat16        as float32, hidden values of 16 bits
  remat           as float32, blocks computed again in the backward pass
  PyTorch         the same network, losses and update in plain PyTorch, float32, not compiled
                  (needs torch)

Our epoch gets its temporary memory from the system once: the fewer --steps, the more of a step's
time that is (the paper's epochs have 34 to 50).  PyTorch gets its batch ready on the device, ours
gathers it inside the step.  On a GPU both may multiply float32 with TF32.  Where other programs
use the cores compare the CPU's seconds (those of all threads), and each on one core: start with
`taskset -c 0` and --torch-threads 1.  Temporary memory is what XLA sets aside for a step beside
its arguments and results.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import spotformer_torch as plain

from spotjax import folds as folds_lib
from spotjax import presets, rundir, train
from spotjax.config import Spotformer
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
Run = Callable[[], None]
"""Does some steps and waits for the last one."""


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
    optimizer = folds_lib.make_optimizer(presets.spotformer_training())
    mesh = folds_lib.make_mesh(1)
    state = folds_lib.init_state(system, optimizer, 0, 1)
    assert_count(config.width, sum(p.size for p in jax.tree.leaves(state.variables["params"])))
    order = np.tile(np.arange(len(table["row"]), dtype=np.int32), (1, steps, 1))
    samples = {name: column[None] for name, column in table.items()}
    state, *folded = folds_lib.put(
        (state, folds_lib.fold_keys(0, 0, [0]), samples, order), mesh, folds_lib.FOLD
    )
    common = folds_lib.put(({"swmro": swmro}, np.float32(1)), mesh, folds_lib.COMMON)
    epoch = folds_lib.make_epoch(system, "both", optimizer, mesh)
    compiled = epoch.lower(state, *folded, *common).compile()
    box = [state]

    def run() -> None:
        box[0], losses = compiled(box[0], *folded, *common)
        jax.block_until_ready((box[0], losses))

    return run, compiled.memory_analysis().temp_size_in_bytes


def assert_count(width: int, count: int) -> None:
    """That a network has the paper's number of parameters, or at another width our number."""
    shapes = jax.eval_shape(build(config_of(width), {}).init, jax.random.key(0))
    expected = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    assert PARAMETERS.get(width, expected) == expected == count, (width, count, expected)


def in_torch(config: Spotformer, swmro: np.ndarray, table: Samples, device: str, steps: int) -> Run:
    """The steps in PyTorch; weight decay where ours has it."""
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

    def run() -> None:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            plain.loss(*network(clips), labels, config).backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def find_torch(threads: int) -> tuple[str, str, str] | None:
    """Version, device that JAX uses too and name of the row; None, with a note, without PyTorch."""
    try:
        import torch
    except ImportError:
        print("torch is not installed: no PyTorch row")
        return None
    accelerated = jax.devices()[0].platform != "cpu"
    if accelerated and not torch.cuda.is_available():
        print("torch cannot use the device that JAX uses: no PyTorch row")
        return None
    if accelerated:
        return torch.__version__, "cuda", "PyTorch"
    torch.set_num_threads(threads or torch.get_num_threads())
    return torch.__version__, "cpu", f"PyTorch, {torch.get_num_threads()} threads"


def measure(
    variants: dict[str, Run], rounds: int, steps: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds and CPU seconds per step of each variant in each round; a round more warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    cpu: dict[str, list[float]] = {name: [] for name in variants}
    for round_number in range(rounds + 1):
        for name, run in variants.items():
            begin, cpu_begin = time.perf_counter(), time.process_time()
            run()
            if round_number:
                seconds[name].append((time.perf_counter() - begin) / steps)
                cpu[name].append((time.process_time() - cpu_begin) / steps)
    return seconds, cpu


def ratio(values: list[float], first: list[float]) -> float:
    """Median of the ratios of the same round."""
    return statistics.median(v / f for v, f in zip(values, first, strict=True))


def parse() -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=512, help="of a batch, a multiple of 16")
    parser.add_argument("--width", type=int, default=256, help="of a token, a multiple of 4")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="steps of a variant in each round")
    parser.add_argument(
        "--variants", nargs="+", choices=CHANGES, default=list(CHANGES), help="of ours (all)"
    )
    parser.add_argument("--torch-threads", type=int, default=0, help="of a CPU; 0: its own choice")
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()
    if options.clips < 16 or options.clips % 16 or options.width < 4 or options.width % 4:
        parser.error("--clips must be a multiple of 16 and --width of 4")
    if options.rounds < 1 or options.steps < 1:
        parser.error("--rounds and --steps must be at least 1")
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
        variants[name], memory[name] = ours(config, swmro, table, options.steps)
    versions = rundir.versions()
    found = find_torch(options.torch_threads)
    if found:
        versions["torch"], place, name = found
        config = config_of(options.width)
        variants[name] = in_torch(config, swmro, table, place, options.steps)

    seconds, cpu = measure(variants, options.rounds, options.steps)
    device = jax.devices()[0]
    print(
        f"{len(jax.devices())} x {device.device_kind} ({device.platform}), {platform.machine()}, "
        f"{train.cores()} cores, python {platform.python_version()}, {versions}"
    )
    sizes = f"{options.clips} clips, width {options.width}"
    first = options.variants[0]
    print(f"{sizes}, {options.rounds} rounds of {options.steps} steps; x: ratio to {first}")
    print(
        f"{'variant':<20}{'median s/step':>14}{'min':>9}{'max':>9}{'x':>7}"
        f"{'median CPU s/step':>19}{'min':>9}{'x':>7}{'temporary MB':>14}"
    )
    for name, values in seconds.items():
        size = f"{memory[name] / 1e6:.0f}" if name in memory else "-"
        print(
            f"{name:<20}{statistics.median(values):>14.3f}{min(values):>9.3f}{max(values):>9.3f}"
            f"{ratio(values, seconds[first]):>7.2f}{statistics.median(cpu[name]):>19.3f}"
            f"{min(cpu[name]):>9.3f}{ratio(cpu[name], cpu[first]):>7.2f}{size:>14}"
        )
    if options.json:
        figures = {
            "seconds_per_step": seconds,
            "cpu_seconds_per_step": cpu,
            "temporary_bytes": memory,
            "argv": sys.argv[1:],
        }
        with open(options.json, "w") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
