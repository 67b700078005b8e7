"""Seconds and memory of one training step of the 3D-CNN: both formulations and PyTorch.

    python benchmarks/cnn3d_step.py [--batch 32] [--rounds 3] [--steps 1] [--torch-threads 0]

Random crops u8 of 112 px and labels (the time does not depend on them).  A step is that of
training: the rows of a batch (three images a sample) are gathered from a table and augmented, then
come the contrast normalisation, both passes, dropout .2 and Adam, all in a loop of --steps steps in
one program.  Each round runs every variant in turn, after a warm-up; medians over the rounds are
printed with the ratio to the first variant of the same round, of the clock's and of the CPU's
seconds (those of all threads).

  conv            `lax.conv` over the whole batch, as in the paper
  shift           the default formulation
  no change       shift without augmentation
  regular         shift, a regular first convolution
  PyTorch         the same network, loss and update in plain PyTorch, not compiled and without
                  augmentation (needs torch)

One core: `taskset -c 0 python benchmarks/cnn3d_step.py --torch-threads 1`.  Temporary memory is
what XLA sets aside for the steps beside their arguments and results.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from spotjax import losses, rundir, train
from spotjax.systems import cnn3d_images
from spotjax.systems import cnn3d_net as net

PARAMETERS = {"separable": 12_701, "regular": 13_090}
RATE, IMPORTANCE, POSITIVE = 1e-3, (0.9, 0.1), 3.0
FRAMES = 512
Run = Callable[[], None]
"""Does some steps and waits for the last one."""


class Data(NamedTuple):
    """What a step reads."""

    crops: np.ndarray
    """u8[FRAMES, S, S]"""
    rows: np.ndarray
    """i32[steps, B, 3]: a frame and its two references."""
    labels: np.ndarray
    """f32[steps, B, 2]"""


def make_data(batch: int, steps: int) -> Data:
    """Random crops, rows and labels."""
    rng = np.random.default_rng(0)
    size = net.Shape().size
    crops = rng.integers(0, 256, (FRAMES, size, size), dtype=np.uint8)
    rows = rng.integers(0, FRAMES, (steps, batch, 3), dtype=np.int32)
    return Data(crops, rows, rng.integers(0, 2, (steps, batch, 2)).astype(np.float32))


def ours(shape: net.Shape, augmented: bool, data: Data) -> tuple[Run, int]:
    """The compiled steps, and their temporary memory in bytes."""
    optimizer = optax.adam(RATE)
    weight = jnp.ones(data.rows.shape[1])

    def steps(variables: Any, state: Any, data: Data) -> Any:
        def step(i: jax.Array, carry: Any) -> Any:
            variables, state = carry
            key, change = jax.random.split(jax.random.fold_in(jax.random.key(0), i))
            images = data.crops[data.rows[i]].astype(jnp.float32) / 255
            images = cnn3d_images.augment(images, change) if augmented else images

            def objective(params: Any) -> Any:
                given = {**variables, "params": params}
                logits, after = net.apply(given, images, weight, True, key, shape)
                value = losses.weighted_binary(
                    logits, data.labels[i], weight, IMPORTANCE, POSITIVE
                )  # fmt: skip
                return value, after

            gradient, after = jax.grad(objective, has_aux=True)(variables["params"])
            updates, state = optimizer.update(gradient, state)
            params = optax.apply_updates(variables["params"], updates)
            return {**after, "params": params}, state

        return lax.fori_loop(0, len(data.rows), step, (variables, state))

    variables = net.init(jax.random.key(0), shape)
    assert_count(shape.first_conv, (leaf.size for leaf in jax.tree.leaves(variables["params"])))
    box = [(variables, optimizer.init(variables["params"]))]
    placed = jax.device_put(data)
    compiled = jax.jit(steps, donate_argnums=(0, 1)).lower(*box[0], placed).compile()

    def run() -> None:
        box[0] = jax.block_until_ready(compiled(*box[0], placed))

    return run, compiled.memory_analysis().temp_size_in_bytes


def assert_count(first_conv: str, sizes: Any) -> None:
    """That a network has as many parameters as it should."""
    assert sum(sizes) == PARAMETERS[first_conv]


def in_torch(data: Data, device: str) -> Run:
    """The steps in PyTorch, images ready on the device."""
    import torch  # type: ignore[import-not-found]
    from torch import nn
    from torch.nn import functional as F

    shape = net.Shape()
    layers: list[Any] = []
    before = 1
    for width in shape.channels:
        layers += [
            nn.ConstantPad3d((0, 1, 0, 1, 1, 1), 0.0),
            nn.Conv3d(before, before, 3, (1, 2, 2), groups=before, bias=False),
            nn.Conv3d(before, width, 1, bias=False),
            nn.BatchNorm3d(width, momentum=1 - shape.momentum),
            nn.ReLU(),
            nn.Dropout(shape.dropout),
        ]
        before = width
    blocks = nn.Sequential(*layers).to(device)
    dense = nn.ModuleList([nn.Linear(before, before), nn.Linear(before, before)]).to(device)
    last = nn.Linear(shape.streams * before, 2).to(device)
    parameters = [p for part in (blocks, dense, last) for p in part.parameters()]
    assert_count("separable", (p.numel() for p in parameters))
    optimizer = torch.optim.Adam(parameters, RATE)
    blur = torch.from_numpy(cnn3d_images.gaussian(shape.size)).to(device)
    importance = torch.tensor(IMPORTANCE, device=device)
    crops = torch.from_numpy(data.crops).to(device).float() / 255
    rows = torch.from_numpy(data.rows).long().to(device)
    labels = torch.from_numpy(data.labels).to(device)

    def normalised(images: Any) -> Any:
        v = images - blur @ images @ blur.T
        sigma = (blur @ (v * v) @ blur.T).sqrt()
        floor = sigma.mean((-2, -1), keepdim=True).clamp_min(cnn3d_images.SMALLEST)
        return v / torch.maximum(sigma, floor)

    def run() -> None:
        for row, label in zip(rows, labels, strict=True):
            optimizer.zero_grad(set_to_none=True)
            images = normalised(crops[row])
            pairs = torch.stack([images[:, [0, 0]], images[:, 1:]], 2).flatten(0, 1)[:, None]
            h = blocks(pairs).mean((2, 3, 4))
            h = (h + dense[1](dense[0](h).relu())).relu()
            logits = last(h.reshape(len(row), -1))
            right = POSITIVE * label * F.logsigmoid(logits)
            wrong = (1 - label) * F.logsigmoid(-logits)
            (-(right + wrong) @ importance).mean().backward()
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


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--chunk", type=int, default=net.Shape().chunk, help="of `shift`")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1, help="steps of a variant in each round")
    parser.add_argument("--torch-threads", type=int, default=0, help="of a CPU; 0: its own choice")
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()
    if min(options.batch, options.chunk, options.rounds, options.steps) < 1:
        parser.error("--batch, --chunk, --rounds and --steps must be 1 or more")
    train.set_up_jax(1)

    data = make_data(options.batch, options.steps)
    shift = net.Shape(chunk=options.chunk)
    variants: dict[str, Run] = {}
    memory: dict[str, int] = {}
    for name, shape, augmented in (
        ("conv", shift._replace(formulation="conv"), True),
        ("shift", shift, True),
        ("no change", shift, False),
        ("regular", shift._replace(first_conv="regular"), True),
    ):
        variants[name], memory[name] = ours(shape, augmented, data)
    versions = rundir.versions()
    found = find_torch(options.torch_threads)
    if found:
        versions["torch"], place, name = found
        variants[name] = in_torch(data, place)

    seconds: dict[str, list[float]] = {name: [] for name in variants}
    cpu: dict[str, list[float]] = {name: [] for name in variants}
    for round_number in range(options.rounds + 1):
        for name, run in variants.items():
            begin, cpu_begin = time.perf_counter(), time.process_time()
            run()
            if round_number:  # the first one is the warm-up
                seconds[name].append((time.perf_counter() - begin) / options.steps)
                cpu[name].append((time.process_time() - cpu_begin) / options.steps)
    device = jax.devices()[0]
    print(
        f"{len(jax.devices())} x {device.device_kind} ({device.platform}), {platform.machine()}, "
        f"{train.cores()} cores, python {platform.python_version()}, {versions}"
    )
    print(f"batch {options.batch}, {options.rounds} rounds of {options.steps} steps; x: of conv")
    print(
        f"{'variant':<22}{'median s/step':>14}{'min':>9}{'max':>9}{'x':>8}"
        f"{'median CPU s/step':>19}{'x':>8}{'temporary MB':>14}"
    )
    for name, values in seconds.items():
        ratios = [
            statistics.median(v / f for v, f in zip(of[name], of["conv"], strict=True))
            for of in (seconds, cpu)
        ]
        size = f"{memory[name] / 1e6:.0f}" if name in memory else "-"
        print(
            f"{name:<22}{statistics.median(values):>14.3f}{min(values):>9.3f}{max(values):>9.3f}"
            f"{ratios[0]:>8.3f}{statistics.median(cpu[name]):>19.3f}{ratios[1]:>8.3f}{size:>14}"
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
