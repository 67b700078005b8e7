"""CPU seconds and memory of one training step of the 3D-CNN: both formulations and PyTorch.

    python -m benchmarks.cnn3d_step [--batch 32] [--rounds 3] [--steps 1] [--torch-threads 0]

Random crops u8 of 112 px and labels (the time does not depend on them).  A step is that of
training: the rows of a batch (three images a sample) are gathered from a table and augmented, then
come the contrast normalisation, both passes, dropout .2 and Adam, all in a loop of --steps steps in
one program.

  shift           the default formulation
  conv            `lax.conv` over the whole batch, as in the paper
  no change       shift without augmentation
  regular         shift, a regular first convolution
  PyTorch         the same network, loss and update in plain PyTorch, not compiled and without
                  augmentation (needs torch)

One core: `taskset -c 0 python -m benchmarks.cnn3d_step --torch-threads 1`.  Temporary memory is
what XLA sets aside for the steps beside their arguments and results.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from benchmarks import common
from benchmarks.common import Run
from spotjax import train
from spotjax.systems import cnn3d_images, losses
from spotjax.systems import cnn3d_net as net

PARAMETERS = {"separable": 12_701, "regular": 13_090}
RATE, IMPORTANCE, POSITIVE = 1e-3, (0.9, 0.1), 3.0
FRAMES = 512


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


def main() -> None:
    """Command line."""
    parser = common.parser(__doc__, rounds=3)
    parser.add_argument("--batch", type=common.positive, default=32)
    parser.add_argument("--chunk", type=int, default=0, help="0: what suits the device")
    parser.add_argument("--steps", type=common.positive, default=1, help="in each round")
    parser.add_argument("--torch-threads", type=int, default=0, help="of a CPU; 0: its own choice")
    options = parser.parse_args()
    train.set_up_jax(1)

    data = make_data(options.batch, options.steps)
    shift = net.Shape(chunk=options.chunk)
    variants: dict[str, Run] = {}
    memory: dict[str, str] = {}
    for name, shape, augmented in (
        ("shift", shift, True),
        ("conv", shift._replace(formulation="conv"), True),
        ("no change", shift, False),
        ("regular", shift._replace(first_conv="regular"), True),
    ):
        variants[name], temporary = ours(shape, augmented, data)
        memory[name] = f"{temporary / 1e6:.0f}"
    if device := common.find_torch(options.torch_threads):
        variants["PyTorch"] = in_torch(data, device)
    common.show(
        "cnn3d_step", common.measure(variants, options.rounds, options.steps), "s a step",
        "shift", options.json, columns={"temporary MB": memory},
        notes=[f"batch {options.batch}, chunk {options.chunk}"],
    )  # fmt: skip


if __name__ == "__main__":
    main()
