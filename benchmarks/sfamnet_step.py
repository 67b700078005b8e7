"""Seconds and memory of one training step of SFAMNet's network: both formulations and PyTorch.

    python benchmarks/sfamnet_step.py [--batch 1024] [--folds 0] [--rounds 5] [--steps 1]
        [--torch-threads 0] [--cpu-time]

Random images and labels (the time does not depend on them), .9 squared error of the score plus .1
cross-entropy of the emotion, Adam.  Each round runs every variant for some steps, in turn, after
a warm-up; medians over the rounds are printed with the ratio to the first variant of the same
round.

  plain           `lax.conv` over the whole batch, compiled
  blocked         the default formulation, compiled
  PyTorch         the same network, losses and update in plain PyTorch, not compiled (needs torch)
  in turn         with --folds: blocked, that many folds one after the other (`lax.map`) in one
                  program; the time is a fold's share
  side by side    the same under `vmap`; both also for `plain`

One core each: `taskset -c 0 python benchmarks/sfamnet_step.py --torch-threads 1`; where other
programs use the cores, --cpu-time counts this process's CPU seconds instead of the clock's.
Temporary memory is what XLA sets aside for a step beside its arguments and results.
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
import jax.numpy as jnp
import numpy as np
import optax

from spotjax import released, rundir, train
from spotjax.systems import sfamnet_net as net

PARAMETERS = 7_207
RATE, SCORE_WEIGHT, EMOTION_WEIGHT = 1e-4, 0.9, 0.1
Batch = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Images f32[B, 42, 42, 3], scores f32[B], emotions i32[B]."""
Run = Callable[[int], None]
"""Does that many steps and waits for the last one."""


def make_batch(size: int) -> Batch:
    """Random images and labels."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(size, net.SIZE, net.SIZE, 3)).astype(np.float32)
    return images, rng.random(size, np.float32), rng.integers(0, 5, size).astype(np.int32)


def ours(shape: net.Shape, batch: Batch, folds: int = 0, vmap: bool = False) -> tuple[Run, int]:
    """The compiled step, of `folds` folds in one program, and its temporary memory in bytes."""
    optimizer = optax.adam(RATE)

    def step(params: Any, state: Any, batch: Any) -> Any:
        images, score, emotion = batch

        def objective(params: Any) -> jax.Array:
            outputs = net.apply({"params": params}, images, shape)
            cross = optax.softmax_cross_entropy_with_integer_labels(outputs.logits, emotion)
            error = jnp.square(outputs.score - score)
            return SCORE_WEIGHT * error.mean() + EMOTION_WEIGHT * cross.mean()

        loss, gradient = jax.value_and_grad(objective)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, loss

    params = net.init(jax.random.key(0), shape)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == PARAMETERS
    box = [(params, optimizer.init(params))]
    whole = step
    if folds:
        box = jax.tree.map(lambda leaf: jnp.stack([leaf] * folds), box)

        def whole(params: Any, state: Any, batch: Any) -> Any:
            if vmap:
                return jax.vmap(step, in_axes=(0, 0, None))(params, state, batch)
            return jax.lax.map(lambda fold: step(*fold, batch), (params, state))

    data = jax.device_put(batch)
    compiled = jax.jit(whole, donate_argnums=(0, 1)).lower(*box[0], data).compile()

    def run(steps: int) -> None:
        for _ in range(steps):
            params, state, loss = compiled(*box[0], data)
            box[0] = params, state
        jax.block_until_ready((box[0], loss))

    return run, compiled.memory_analysis().temp_size_in_bytes


def torch_outputs(tensors: Any, images: Any) -> tuple[Any, Any]:
    """The release's network in PyTorch: score `[B]` and logits of `images` `[B, 3, 42, 42]`.

    `tensors` by their names in its state dict (`spotjax.released`).
    """
    import torch  # type: ignore[import-not-found]
    from torch.nn import functional as F

    def mlp(name: str, pooled: Any) -> Any:
        first, second = (
            (tensors[f"{name}.{layer}.weight"], tensors[f"{name}.{layer}.bias"]) for layer in "13"
        )
        return F.linear(F.linear(pooled.flatten(1), *first).relu(), *second)

    def stream(name: str, x: Any) -> Any:
        y = F.conv2d(x, tensors[f"{name}.conv1.weight"], padding=2).relu()
        y = F.conv2d(y, tensors[f"{name}.conv2.weight"], padding=2)
        pools = F.avg_pool2d(y, net.SIZE), F.max_pool2d(y, net.SIZE)
        gate = sum(mlp(f"{name}.cbam.ChannelGate.mlp", pooled) for pooled in pools)
        y = y * gate.sigmoid()[:, :, None, None]
        pooled = torch.cat([y.max(1, keepdim=True).values, y.mean(1, keepdim=True)], dim=1)
        kernel = tensors[f"{name}.cbam.SpatialGate.spatial.conv.weight"]
        y = y * F.conv2d(pooled, kernel, padding=3).sigmoid()
        return F.max_pool2d((y + F.conv2d(x, tensors[f"{name}.downsample.0.weight"])).relu(), 3)

    def head(conv: str, linear: str, maps: Any) -> Any:
        y = F.conv2d(maps, tensors[f"{conv}.weight"], tensors[f"{conv}.bias"], padding=2)
        y = F.max_pool2d(y, 3, 2, 1).flatten(1)
        return F.linear(y, tensors[f"{linear}.weight"], tensors[f"{linear}.bias"])

    streams = [stream(f"{name}.0", images[:, i : i + 1]) for i, name in enumerate(released.STREAMS)]
    maps = torch.cat(streams, dim=1)
    score, logits = (head(*names, maps) for names in released.HEADS.values())
    return score[:, 0].sigmoid(), logits


def torch_step(batch: Batch, device: str) -> Run:
    """The step in PyTorch."""
    import torch
    from torch.nn import functional as F

    tensors = {
        name: (0.1 * torch.randn(shape)).to(device).requires_grad_()
        for name, (_, shape) in released.sfamnet_tensors(4).items()
    }
    assert sum(tensor.numel() for tensor in tensors.values()) == PARAMETERS
    optimizer = torch.optim.Adam(tensors.values(), RATE)
    images, score, emotion = (torch.from_numpy(array).to(device) for array in batch)
    images, emotion = images.permute(0, 3, 1, 2).contiguous(), emotion.long()

    def run(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            scores, logits = torch_outputs(tensors, images)
            error, cross = F.mse_loss(scores, score), F.cross_entropy(logits, emotion)
            (SCORE_WEIGHT * error + EMOTION_WEIGHT * cross).backward()
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
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--folds", type=int, default=0, help="also this many in one program")
    parser.add_argument("--chunk", type=int, default=net.Shape().chunk, help="of `blocked`")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1, help="steps of a variant in each round")
    parser.add_argument("--torch-threads", type=int, default=0, help="of a CPU; 0: its own choice")
    parser.add_argument("--cpu-time", action="store_true", help="CPU seconds, not the clock's")
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()
    if min(options.batch, options.chunk, options.rounds, options.steps) < 1 or options.folds < 0:
        parser.error("--batch, --chunk, --rounds and --steps must be 1 or more, --folds 0 or more")
    train.set_up_jax(1)
    clock = time.process_time if options.cpu_time else time.perf_counter

    batch = make_batch(options.batch)
    shapes = {"plain": net.Shape(formulation="plain"), "blocked": net.Shape(chunk=options.chunk)}
    variants: dict[str, Run] = {}
    memory: dict[str, int] = {}
    share = {}
    for name, shape in shapes.items():
        variants[name], memory[name] = ours(shape, batch)
    for name, shape in shapes.items() if options.folds else ():
        for vmap, form in ((False, "in turn"), (True, "side by side")):
            key = f"{name} {form}"
            variants[key], memory[key] = ours(shape, batch, options.folds, vmap)
            share[key] = options.folds
    versions = rundir.versions()
    found = find_torch(options.torch_threads)
    if found:
        versions["torch"], place, name = found
        variants[name] = torch_step(batch, place)

    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for round_number in range(options.rounds + 1):
        for name, run in variants.items():
            begin = clock()
            run(options.steps)
            if round_number:  # the first one is the warm-up
                spent = clock() - begin
                seconds[name].append(spent / options.steps / share.get(name, 1))
    first = next(iter(variants))
    device = jax.devices()[0]
    print(
        f"{len(jax.devices())} x {device.device_kind} ({device.platform}), {platform.machine()}, "
        f"{train.cores()} cores, python {platform.python_version()}, {versions}"
    )
    unit = "CPU seconds" if options.cpu_time else "seconds"
    print(
        f"batch {options.batch}, chunk {options.chunk}, {options.folds} folds in one program, "
        f"{options.rounds} rounds of {options.steps} steps, {unit}"
    )
    print(
        f"{'variant':<22}{'median s/step':>14}{'min':>9}{'max':>9}{'x of plain':>12}"
        f"{'temporary MB':>14}"
    )
    for name, values in seconds.items():
        ratio = statistics.median(v / a for v, a in zip(values, seconds[first], strict=True))
        size = f"{memory[name] / 1e6:.0f}" if name in memory else "-"
        print(
            f"{name:<22}{statistics.median(values):>14.3f}{min(values):>9.3f}{max(values):>9.3f}"
            f"{ratio:>12.2f}{size:>14}"
        )
    if options.json:
        figures = {"seconds_per_step": seconds, "temporary_bytes": memory, "argv": sys.argv[1:]}
        with open(options.json, "w") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
