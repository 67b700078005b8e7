"""Seconds and memory of one training step of SpotFormer: ours and PyTorch.

    python benchmarks/spotformer_step.py [--clips 512] [--width 256] [--rounds 5]
        [--steps 1] [--torch-threads 0]

Random clips and labels (the time does not depend on them), dropout .1, AdamW.  Each round runs
every variant for some steps, in turn, after a warm-up; medians over the rounds are printed with
the ratio to the first variant of the same round.

  float32         the step that training runs, of one fold, compiled (ours)
  bfloat16        as float32, hidden values of 16 bits
  remat           as float32, blocks computed again in the backward pass
  PyTorch         the same network, losses and update in plain PyTorch, float32, not compiled
                  (needs torch)

PyTorch gets its batch ready on the device, ours gathers it inside the step.  On a GPU both may
multiply float32 with TF32.  Where other programs use the cores PyTorch's threads wait for each
other: try --torch-threads 1 too.  Temporary memory is what XLA sets aside for a step beside its
arguments and results.
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

from spotjax import folds as folds_lib
from spotjax import losses, presets, rundir, train
from spotjax.config import Spotformer
from spotjax.systems import build, spotformer
from spotjax.systems import spotformer_net as net
from spotjax.types import Samples

PARAMETERS = {256: 3_168_778}
CONTRASTIVE_TEMPERATURE, BASE_TEMPERATURE = 0.5, 0.07
Run = Callable[[int], None]
"""Does that many steps and waits for the last one."""


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


def ours(config: Spotformer, swmro: np.ndarray, table: Samples) -> tuple[Run, int]:
    """The compiled step of one fold, and its temporary memory in bytes."""
    system = build(config, {})
    optimizer = folds_lib.make_optimizer(presets.spotformer_training())
    states = folds_lib.init_state(system, optimizer, 0, 1)
    state = jax.tree.map(lambda leaf: leaf[0], states)
    assert_count(config.width, sum(leaf.size for leaf in jax.tree.leaves(state[0]["params"])))
    key = jax.random.wrap_key_data(folds_lib.fold_keys(0, 0, [0])[0])
    index = np.arange(len(table["row"]), dtype=np.int32)
    rest = jax.device_put((key, table, index, {"swmro": swmro}, np.float32(1)))
    step = jax.jit(folds_lib.make_step(system, "both", optimizer), donate_argnums=(0,))
    compiled = step.lower(state, *rest).compile()
    box = [state]

    def run(steps: int) -> None:
        for _ in range(steps):
            box[0], loss = compiled(box[0], *rest)
        jax.block_until_ready((box[0], loss))

    return run, compiled.memory_analysis().temp_size_in_bytes


def assert_count(width: int, count: int) -> None:
    """That a network has the paper's number of parameters, or at another width our number."""
    shapes = jax.eval_shape(build(config_of(width), {}).init, jax.random.key(0))
    expected = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    assert PARAMETERS.get(width, expected) == expected == count, (width, count, expected)


def torch_network(shape: net.Shape) -> Any:
    """The network of `spotformer_net` (variant `simul_st`): clips to logits and feature."""
    import torch  # type: ignore[import-not-found]
    from torch import nn

    width, inner = shape.width, shape.heads * shape.head_width
    ends = np.cumsum(shape.parts).tolist()

    class Norm(nn.BatchNorm1d):  # type: ignore[misc]
        def forward(self, h: Any) -> Any:
            return super().forward(h.reshape(-1, width)).view(h.shape)

    class Attention(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.norm = Norm(width)
            self.packed = nn.Linear(width, 3 * inner, bias=False)
            self.out = nn.Linear(inner, width)
            self.drop = nn.Dropout(shape.dropout)

        def forward(self, h: Any) -> Any:
            packed = self.packed(self.norm(h)).chunk(3, dim=-1)
            split = (*h.shape[:-1], shape.heads, shape.head_width)
            query, key, value = (x.view(split).transpose(2, 3) for x in packed)
            score = query @ key.transpose(3, 4) * shape.head_width**-0.5
            mixed = self.drop(score.softmax(-1)) @ value
            return self.drop(self.out(mixed.transpose(2, 3).reshape(*h.shape[:-1], inner)))

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self, spatial: bool) -> None:
            super().__init__()
            self.spatial = spatial
            self.attention = Attention()
            first, second = nn.Linear(width, shape.mlp_width), nn.Linear(shape.mlp_width, width)
            drops = [nn.Dropout(shape.dropout) for _ in range(2)]
            self.mlp = nn.Sequential(Norm(width), first, nn.GELU(), drops[0], second, drops[1])

        def forward(self, h: Any) -> Any:
            h = h.transpose(1, 2) if self.spatial else h
            h = h + self.attention(h)
            h = h + self.mlp(h)
            return h.transpose(1, 2) if self.spatial else h

    class Pool(nn.Module):  # type: ignore[misc]
        def __init__(self, stage: int) -> None:
            super().__init__()
            self.norm = Norm(width)
            self.parts = (len(shape.parts),) if stage else shape.parts

        def forward(self, h: Any) -> Any:
            groups = self.norm(h).split(self.parts, dim=1)
            return torch.stack([group.max(dim=1).values for group in groups], dim=1)

    class Down(nn.Module):  # type: ignore[misc]
        def __init__(self, padding: int) -> None:
            super().__init__()
            self.norm = Norm(width)
            self.conv = nn.Conv1d(width, width, net.TAPS, net.STRIDE, padding, bias=False)

        def forward(self, h: Any) -> Any:
            clips, nodes = h.shape[:2]
            x = self.conv(self.norm(h).flatten(0, 1).transpose(1, 2))
            return x.transpose(1, 2).unflatten(0, (clips, nodes))

    class Network(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.norm = nn.Linear(2, width), Norm(width)
            self.frame = nn.Parameter(torch.randn(shape.window + 1, width))
            self.part = nn.Parameter(torch.randn(len(shape.parts), width))
            self.drop = nn.Dropout(shape.dropout)
            make = {
                "spatial": lambda index: Block(True),
                "temporal": lambda index: Block(False),
                "pool": Pool,
                "down": lambda index: Down(shape.paddings[index]),
            }
            self.layers = nn.Sequential(*(make[kind](index) for kind, index in net.order(shape)))
            self.head = nn.Linear(width, net.LOGITS)
            nodes = np.searchsorted(ends, np.arange(ends[-1]), side="right")
            self.register_buffer("part_of_node", torch.from_numpy(nodes))

        def forward(self, clips: Any) -> tuple[Any, Any]:
            h = self.norm(self.linear(clips.transpose(1, 2)))
            place = self.part[self.part_of_node][:, None] + self.frame[: shape.window]
            feature = self.layers(self.drop(h + place))[:, 0, 0]
            return self.head(feature), feature

    return Network()


def torch_loss(logits: Any, feature: Any, labels: dict[str, Any], config: Spotformer) -> Any:
    """The losses of `spotjax.systems.spotformer` for a batch without padding."""
    import torch

    def focal(column: int, targets: Any, alpha: float) -> Any:
        p = logits[:, column].sigmoid()
        positive = -alpha * (targets - p).abs() * torch.log(p + losses.SIGMOID_FLOOR)
        modulation = (targets + spotformer.SMOOTHING - p).abs()
        negative = -(1 - alpha) * modulation * torch.log(1 - p + losses.SIGMOID_FLOOR)
        return torch.where(targets > 0, positive, negative).mean()

    def contrastive() -> Any:
        product = feature @ feature.T / CONTRASTIVE_TEMPERATURE
        product = product - product.max(dim=1, keepdim=True).values.detach()
        other = ~torch.eye(len(product), dtype=torch.bool, device=product.device)
        total = (product.exp() * other).sum(dim=1, keepdim=True)
        log_p = product - torch.log(total + losses.CONTRAST_FLOOR)
        positive = other & (labels["class"][:, None] == labels["class"])
        mean = (positive * log_p).sum(dim=1) / (positive.sum(dim=1) + losses.CONTRAST_FLOOR)
        return -CONTRASTIVE_TEMPERATURE / BASE_TEMPERATURE * mean.mean()

    total = config.contrastive * contrastive()
    for number, type in enumerate(("micro", "macro")):
        edge = (spotformer.MICRO, spotformer.MACRO)[number]
        apex = focal(spotformer.APEX[number], labels[f"{type}_apex"], spotformer.APEX_ALPHA)
        cross = torch.nn.functional.cross_entropy(logits[:, edge], labels[f"{type}_edge"])
        inside = labels[f"{type}_expression"]
        expression = focal(spotformer.EXPRESSION[number], inside, spotformer.EXPRESSION_ALPHA)
        total = total + {"micro": 1.0, "macro": config.macro_weight}[type] * (
            spotformer.APEX_WEIGHT[type] * apex
            + spotformer.EDGE_WEIGHT * cross
            + spotformer.EXPRESSION_WEIGHT * expression
        )
    return total


def torch_batch(swmro: np.ndarray, table: Samples, device: str) -> tuple[Any, dict[str, Any]]:
    """Clips f32 and flat labels on the device."""
    import torch

    labels = {}
    for name in table.keys() - {"row", "there"}:
        values = torch.from_numpy(table[name].reshape(-1)).to(device)
        labels[name] = values if values.is_floating_point() else values.long()
    return torch.from_numpy(swmro.astype(np.float32)).to(device), labels


def torch_step(config: Spotformer, swmro: np.ndarray, table: Samples, device: str) -> Run:
    """The step in PyTorch; weight decay where ours has it."""
    import torch

    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    network = torch_network(
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
    clips, labels = torch_batch(swmro, table, device)

    def run(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            torch_loss(*network(clips), labels, config).backward()
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
    parser.add_argument("--clips", type=int, default=512, help="of a batch, a multiple of 16")
    parser.add_argument("--width", type=int, default=256, help="of a token, a multiple of 4")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1, help="steps of a variant in each round")
    parser.add_argument("--torch-threads", type=int, default=0, help="of a CPU; 0: its own choice")
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()
    if options.clips < 16 or options.clips % 16 or options.width < 4 or options.width % 4:
        parser.error("--clips must be a multiple of 16 and --width of 4")
    train.set_up_jax(1)

    swmro, table = make_data(options.clips)
    changes: dict[str, dict[str, Any]] = {
        "float32": {},
        "bfloat16": {"dtype": "bfloat16"},
        "remat": {"remat": True},
    }
    variants: dict[str, Run] = {}
    memory: dict[str, int] = {}
    for name, change in changes.items():
        variants[name], memory[name] = ours(config_of(options.width, **change), swmro, table)
    versions = rundir.versions()
    found = find_torch(options.torch_threads)
    if found:
        versions["torch"], place, name = found
        variants[name] = torch_step(config_of(options.width), swmro, table, place)

    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for round_number in range(options.rounds + 1):
        for name, run in variants.items():
            begin = time.perf_counter()
            run(options.steps)
            if round_number:  # the first one is the warm-up
                seconds[name].append((time.perf_counter() - begin) / options.steps)
    first = next(iter(variants))
    device = jax.devices()[0]
    print(
        f"{len(jax.devices())} x {device.device_kind} ({device.platform}), {platform.machine()}, "
        f"{train.cores()} cores, python {platform.python_version()}, {versions}"
    )
    sizes = f"{options.clips} clips, width {options.width}"
    print(f"{sizes}, {options.rounds} rounds of {options.steps} steps")
    print(
        f"{'variant':<20}{'median s/step':>14}{'min':>9}{'max':>9}{'x of float32':>14}"
        f"{'temporary MB':>14}"
    )
    for name, values in seconds.items():
        ratio = statistics.median(v / a for v, a in zip(values, seconds[first], strict=True))
        size = f"{memory[name] / 1e6:.0f}" if name in memory else "-"
        print(
            f"{name:<20}{statistics.median(values):>14.3f}{min(values):>9.3f}{max(values):>9.3f}"
            f"{ratio:>14.2f}{size:>14}"
        )
    if options.json:
        figures = {"seconds_per_step": seconds, "temporary_bytes": memory, "argv": sys.argv[1:]}
        with open(options.json, "w") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
