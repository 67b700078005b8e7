"""Parameters that authors released, as parameters of our networks (NumPy only).

A release's file is a mapping from tensor names to arrays; `parameters.released_files` reads it.

**SFAMNet** (PyTorch's state dict): weights of convolutions turn from [out, in, rows, columns] to
[rows, columns, in, out], of linear layers from [out, in] to [in, out].  Four of its hundred folds
are NaN (subjects 3, 10, 40 and 144, probably for a last batch without any emotion to learn from):
`non_finite` tells them.

**SOFTNet** (Keras): its layouts are ours.  Keras numbers layers by what the session has made before
(conv2d_3, ...), so a layer is told by the shape of its kernel; no two of SOFTNet's are alike.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from spotjax.errors import UserError

STREAMS = {"c1": "u", "c2": "v", "c3": "w"}
STREAM_TENSORS = {
    "conv1.weight": (("conv1", "kernel"), (3, 1, 5, 5)),
    "conv2.weight": (("conv2", "kernel"), (3, 3, 5, 5)),
    "downsample.0.weight": (("shortcut", "kernel"), (3, 1, 1, 1)),
    "cbam.ChannelGate.mlp.1.weight": (("channel_gate", "first", "kernel"), (1, 3)),
    "cbam.ChannelGate.mlp.1.bias": (("channel_gate", "first", "bias"), (1,)),
    "cbam.ChannelGate.mlp.3.weight": (("channel_gate", "second", "kernel"), (3, 1)),
    "cbam.ChannelGate.mlp.3.bias": (("channel_gate", "second", "bias"), (3,)),
    "cbam.SpatialGate.spatial.conv.weight": (("spatial_gate", "conv", "kernel"), (1, 2, 7, 7)),
}
HEADS = {"spotting": ("conv1", "fc_spot"), "recognition": ("conv2", "fc_recog")}
UNUSED = re.compile(
    r"c[123]\.0\.(bn1|bn2|cbam\.SpatialGate\.spatial\.bn)"
    r"\.(weight|bias|running_mean|running_var|num_batches_tracked)"
)
"""SFAMNet's batch norms: made, never called."""
SOFTNET_LAYERS = {
    (5, 5, 1, 3): "conv_u",
    (5, 5, 1, 5): "conv_v",
    (5, 5, 1, 8): "conv_strain",
    (784, 400): "dense1",
    (400, 1): "dense2",
}
"""SOFTNet's layers by the shape of their kernel."""


def sfamnet_tensors(classes: int) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """Place in our parameters and shape of each tensor of SFAMNet that is used, by name.

    `classes` emotions, without neutral.
    """
    found = {
        f"{stream}.0.{name}": (("trunk", ours, *path), shape)
        for stream, ours in STREAMS.items()
        for name, (path, shape) in STREAM_TENSORS.items()
    }
    for head, (conv, linear) in HEADS.items():
        outputs = 1 if head == "spotting" else classes + 1
        found |= {
            f"{conv}.weight": ((head, "conv", "kernel"), (8, 9, 5, 5)),
            f"{conv}.bias": ((head, "conv", "bias"), (8,)),
            f"{linear}.weight": ((head, "linear", "kernel"), (outputs, 392)),
            f"{linear}.bias": ((head, "linear", "bias"), (outputs,)),
        }
    return found


def sfamnet(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """SFAMNet's released state dict as `params` of `spotjax.systems.sfamnet_net`, f32 arrays.

    `state` has tensors f32[...] by name.  The number of emotions is what the recognition layer
    `fc_recog` has outputs for, less neutral.  Tensors of the batch norms are left out.  Raises
    UserError for a missing or an unknown tensor and for one of another shape.  NaN passes: ask
    `non_finite`.
    """
    outputs = np.size(state.get("fc_recog.bias", np.zeros(5)))
    expected = sfamnet_tensors(outputs - 1)
    if unknown := [name for name in state if name not in expected and not UNUSED.fullmatch(name)]:
        raise UserError(
            f"SFAMNet has no tensor {unknown[0]} ({len(unknown)} such): is the file of its release?"
        )
    params: dict[str, Any] = {}
    for name, (path, shape) in expected.items():
        if name not in state:
            raise UserError(f"SFAMNet's tensor {name} is missing: is the file of its release?")
        value = np.asarray(state[name])
        if value.shape != shape:
            raise UserError(f"tensor {name} has shape {value.shape}: SFAMNet's is {shape}")
        place = params
        for key in path[:-1]:
            place = place.setdefault(key, {})
        axes = (2, 3, 1, 0) if value.ndim == 4 else range(value.ndim)[::-1]
        place[path[-1]] = np.ascontiguousarray(value.transpose(axes), dtype=np.float32)
    return params


def softnet(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """SOFTNet's released tensors as `params` of `spotjax.systems.softnet`, f32 arrays.

    `tensors` are f32[...] by name.  Names are `.../<layer>/kernel:0` and `.../<layer>/bias:0`.
    Raises UserError for a tensor of another name or shape, a layer that is there twice, and a
    missing layer.  NaN passes: ask `non_finite`.
    """
    layers: dict[str, dict[str, np.ndarray]] = {}
    for name, value in tensors.items():
        layer, _, part = name.removesuffix(":0").rpartition("/")
        if part not in ("kernel", "bias"):
            raise UserError(f"SOFTNet has no tensor {name}: is the file of its release?")
        layers.setdefault(layer, {})[part] = np.asarray(value)
    params: dict[str, Any] = {}
    for layer, parts in layers.items():
        if lacking := [part for part in ("kernel", "bias") if part not in parts]:
            raise UserError(f"tensor {layer}/{lacking[0]} is missing: is the file cut?")
        kernel, bias = parts["kernel"], parts["bias"]
        place = SOFTNET_LAYERS.get(kernel.shape)
        if place is None or place in params:
            how = "has no layer of it" if place is None else "has one layer of it"
            raise UserError(f"tensor {layer}/kernel has shape {kernel.shape}: SOFTNet {how}")
        if bias.shape != kernel.shape[-1:]:
            raise UserError(
                f"tensor {layer}/bias has shape {bias.shape}: SOFTNet's is {kernel.shape[-1:]}"
            )
        params[place] = {
            part: np.ascontiguousarray(value, dtype=np.float32) for part, value in parts.items()
        }
    for shape, place in SOFTNET_LAYERS.items():
        if place not in params:
            raise UserError(f"SOFTNet's layer with a kernel of {shape} ({place}) is missing")
    return params


def non_finite(state: Mapping[str, np.ndarray]) -> list[str]:
    """Names of the tensors f32[...] with a value that is NaN or infinite; a good fold has none."""
    return [name for name, value in state.items() if not np.isfinite(value).all()]
