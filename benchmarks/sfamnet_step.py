"""CPU seconds and memory of one training step of SFAMNet's network, or of its outputs alone.

    python -m benchmarks.sfamnet_step [--batch 1024] [--folds 0] [--rounds 5] [--steps 1]
        [--inference] [--torch-threads 0]

Random images and labels (the time does not depend on them), .9 squared error of the score plus .1
cross-entropy of the emotion, Adam.  Each round runs every variant for some steps, in turn.

  blocked         the default formulation, compiled
  plain           `lax.conv` over the whole batch, compiled
  PyTorch         the same network, losses and update in plain PyTorch, not compiled (needs torch)
  in turn         with --folds: that many folds one after the other (`lax.map`) in one program;
                  the time is a fold's share
  side by side    the same under `vmap`

One core each: `taskset -c 0 python -m benchmarks.sfamnet_step --torch-threads 1`.  Temporary memory
is what XLA sets aside for a step beside its arguments and results.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import common
from benchmarks.common import Run
from spotjax import train
from spotjax.parameters import released
from spotjax.systems import sfamnet_net as net

PARAMETERS = 7_207
RATE, SCORE_WEIGHT, EMOTION_WEIGHT = 1e-4, 0.9, 0.1
Batch = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Images f32[B, 42, 42, 3], scores f32[B], emotions i32[B]."""


def make_batch(size: int) -> Batch:
    """Random images and labels."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(size, net.SIZE, net.SIZE, 3)).astype(np.float32)
    return images, rng.random(size, np.float32), rng.integers(0, 5, size).astype(np.int32)


def ours(
    shape: net.Shape, batch: Batch, steps: int, folds: int = 0, vmap: bool = False
) -> tuple[Run, int]:
    """Compiled steps, of `folds` folds in one program, and a step's temporary memory in bytes."""
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

    def run() -> None:
        for _ in range(steps):
            params, state, loss = compiled(*box[0], data)
            box[0] = params, state
        jax.block_until_ready((box[0], loss))

    return run, compiled.memory_analysis().temp_size_in_bytes


def our_outputs(shape: net.Shape, batch: Batch, steps: int) -> tuple[Run, int]:
    """The compiled outputs, `steps` times, and their temporary memory in bytes."""
    variables = net.init(jax.random.key(0), shape)
    images = jax.device_put(batch[0])
    compiled = jax.jit(lambda v, x: net.apply(v, x, shape)).lower(variables, images).compile()

    def run() -> None:
        for _ in range(steps):
            jax.block_until_ready(compiled(variables, images))

    return run, compiled.memory_analysis().temp_size_in_bytes


def torch_outputs(tensors: Any, images: Any) -> tuple[Any, Any]:
    """The release's network in PyTorch: score `[B]` and logits of `images` `[B, 3, 42, 42]`.

    `tensors` by their names in its state dict (`spotjax.parameters.released`).
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


def in_torch(batch: Batch, device: str, steps: int, inference: bool) -> Run:
    """The steps, or the outputs alone, in PyTorch."""
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

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        scores, logits = torch_outputs(tensors, images)
        error, cross = F.mse_loss(scores, score), F.cross_entropy(logits, emotion)
        (SCORE_WEIGHT * error + EMOTION_WEIGHT * cross).backward()
        optimizer.step()

    def outputs() -> None:
        with torch.inference_mode():
            torch_outputs(tensors, images)

    def run() -> None:
        for _ in range(steps):
            outputs() if inference else step()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def main() -> None:
    """Command line."""
    parser = common.parser(__doc__, rounds=5)
    parser.add_argument("--batch", type=common.positive, default=1024)
    parser.add_argument("--folds", type=int, default=0, help="also this many in one program")
    parser.add_argument("--chunk", type=int, default=0, help="0: what suits the device")
    parser.add_argument("--steps", type=common.positive, default=1, help="in each round")
    parser.add_argument("--inference", action="store_true", help="outputs alone, no training")
    parser.add_argument("--torch-threads", type=int, default=0, help="of a CPU; 0: its own choice")
    options = parser.parse_args()
    if options.folds < 0 or (options.folds and options.inference):
        parser.error("--folds must be 0 or more, and 0 with --inference")
    train.set_up_jax(1)

    batch = make_batch(options.batch)
    shapes = {"blocked": net.Shape(chunk=options.chunk), "plain": net.Shape(formulation="plain")}
    variants: dict[str, Run] = {}
    memory: dict[str, int] = {}
    work: dict[str, float] = {}
    make = our_outputs if options.inference else ours
    for name, shape in shapes.items():
        variants[name], memory[name] = make(shape, batch, options.steps)
    for name, shape in shapes.items() if options.folds else ():
        for vmap, form in ((False, "in turn"), (True, "side by side")):
            key = f"{name} {form}"
            variants[key], memory[key] = ours(shape, batch, options.steps, options.folds, vmap)
            work[key] = float(options.steps * options.folds)
    if device := common.find_torch(options.torch_threads):
        variants["PyTorch"] = in_torch(batch, device, options.steps, options.inference)

    work = dict.fromkeys(variants, float(options.steps)) | work
    common.show(
        "sfamnet_inference" if options.inference else "sfamnet_step",
        common.measure(variants, options.rounds, work), "s a step", "blocked", options.json,
        columns={"temporary MB": {name: f"{size / 1e6:.0f}" for name, size in memory.items()}},
        notes=[f"batch {options.batch}, chunk {options.chunk}, {options.folds} folds in a program"],
    )  # fmt: skip


if __name__ == "__main__":
    main()
