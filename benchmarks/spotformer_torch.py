"""SpotFormer's network and losses in plain PyTorch, for `spotformer_step.py` to compare with."""

from typing import Any

import numpy as np

from spotjax.config import Spotformer
from spotjax.systems import losses, spotformer
from spotjax.systems import spotformer_net as net
from spotjax.types import Samples

CONTRASTIVE_TEMPERATURE, BASE_TEMPERATURE = 0.5, 0.07


def network(shape: net.Shape) -> Any:
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


def loss(logits: Any, feature: Any, labels: dict[str, Any], config: Spotformer) -> Any:
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


def batch(swmro: np.ndarray, table: Samples, device: str) -> tuple[Any, dict[str, Any]]:
    """Clips f32 and flat labels on the device."""
    import torch

    labels = {}
    for name in table.keys() - {"row", "there"}:
        values = torch.from_numpy(table[name].reshape(-1)).to(device)
        labels[name] = values if values.is_floating_point() else values.long()
    return torch.from_numpy(swmro.astype(np.float32)).to(device), labels
