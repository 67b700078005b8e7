"""Larger image networks in the place of SOFTNet's shallow one (Liong et al. 2021, table 3).

MobileNetV2 (Sandler et al. 2018), ResNet-18 and ResNet-50 (He et al. 2016) and VGG-16 (Simonyan and
Zisserman 2015), each on the same 42x42 composites.  What is left at the end, 2x2 pixels (VGG-16:
1x1), is flattened, and one dense layer gives the score.  That is how the printed numbers of
parameters come about where they can be explained: 2.2631 and 14.7152 million for MobileNetV2 and
VGG-16, with the statistics of the batch norms.  ResNet-50 is printed with the biases that Keras has
before its batch norms and that do nothing; no ResNet-18 that we know has the printed number.

| | images after each halving | trunk | + score | + statistics |
|---|---|---|---|---|
| MobileNetV2 | 21, 11, 6, 3, 2 | 2,223,872 | 5,121 | 34,112 |
| ResNet-18 | 21, 11, 6, 3, 2 | 11,176,512 | 2,049 | 9,600 |
| ResNet-50 | 21, 11, 6, 3, 2 | 23,508,032 | 8,193 | 53,120 |
| VGG-16 | 21, 10, 5, 2, 1 | 14,714,688 | 513 | 0 |

Where the paper is silent: nothing is pre-trained, kernels begin as He's normal numbers; batch norm
is `systems.layers.BatchNorm` (a tenth of each batch, 1e-5; Keras keeps 99 to 99.9 % of what was,
which a fold's few hundred updates would hardly leave); the stride of a ResNet-50 block is in its
first 1x1 layer, as published.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from spotjax.systems.layers import BatchNorm, product

Backbone = Literal["mobilenet_v2", "resnet18", "resnet50", "vgg16"]

HE = nn.initializers.he_normal()
RESNET_WIDTHS = (64, 128, 256, 512)
RESNET_BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}
BOTTLENECK = 4
"""Channels of a ResNet-50 block's output for each of its inner ones."""
MOBILENET = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels, blocks and stride of the first of them (MobileNetV2, table 2)."""
MOBILENET_ENDS = (32, 1280)
"""Channels of its first and of its last convolution."""
VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the 3x3 convolutions before each pooling (configuration D)."""


class Network(nn.Module):
    """One of the backbones and a dense layer."""

    backbone: Backbone

    @nn.compact
    def __call__(
        self, images: jax.Array, weight: jax.Array | None = None, train: bool = False
    ) -> jax.Array:
        """Scores f32[B] of f32[B, 42, 42, 3]; `weight` f32[B] is 0 for padding, None: all count.

        While training batch norm writes to the collection `batch_stats`.
        """
        chex.assert_rank(images, 4)
        weight = jnp.ones(len(images)) if weight is None else weight
        trunks: dict[str, Callable[..., nn.Module]] = {
            "mobilenet_v2": MobileNetV2,
            "resnet18": partial(ResNet, self.backbone),
            "resnet50": partial(ResNet, self.backbone),
            "vgg16": Vgg16,
        }
        trunk: Any = trunks[self.backbone](train, name="trunk")
        features = trunk(images, weight)
        flat = features.reshape(len(images), -1)
        score = nn.Dense(1, name="score", kernel_init=nn.initializers.glorot_uniform())(flat)
        return score[:, 0]


def apply(
    network: Network, variables: Any, images: jax.Array, weight: jax.Array, train: bool
) -> tuple[jax.Array, Any]:
    """Scores f32[B] and the variables, while training with the new statistics of batch norm.

    `images` f32[B, 42, 42, 3]; `weight` f32[B] is 0 for padding.
    """
    scores: jax.Array
    changed: Any
    writes = ["batch_stats"] if train else []
    scores, changed = network.apply(variables, images, weight, train, mutable=writes)
    return scores, {**variables, **changed}


class Conv(nn.Module):
    """Convolution without bias, zeros around the image, batch norm, and ReLU unless told not to."""

    features: int
    size: int
    train: bool
    stride: int = 1
    depthwise: bool = False
    """Each channel by itself; `features` are then as many as there are."""
    top: float | None = jnp.inf
    """What ReLU cuts at: 6 in MobileNetV2; None for no ReLU."""

    @nn.compact
    def __call__(self, x: jax.Array, weight: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to `[B, H / stride, W / stride, features]`, rounded up."""
        inputs = 1 if self.depthwise else x.shape[-1]
        shape = (self.size, self.size, inputs, self.features)
        y = convolved(x, self.param("kernel", HE, shape), self.stride)
        y = BatchNorm(self.train, name="norm")(y, weight)
        return y if self.top is None else jnp.clip(y, 0, self.top)


def convolved(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """`x` `[B, H, W, C]` with `kernel` `[S, S, C or 1, D]`: `[B, H / stride, W / stride, D]`.

    1x1 kernels are a matrix product, depthwise ones (`[S, S, 1, C]`) a sum of shifted images.  On
    CPUs, whose convolution XLA computes slowly, more so within loops and of several folds, larger
    kernels are a product for each of their rows: a seventh of the time for a step of ResNet-18.
    """
    size, _, inputs, _ = kernel.shape
    if size == 1:
        return product(x[:, ::stride, ::stride], kernel[0, 0])
    if inputs < x.shape[-1]:
        taps = [
            part * kernel[row, column].reshape(1, 1, 1, -1)
            for row, parts in enumerate(_shifted(x, size, stride))
            for column, part in enumerate(parts)
        ]
        return sum(taps[1:], taps[0])
    ways = {"cpu": partial(_by_rows, stride), "default": partial(_by_conv, stride)}
    return lax.platform_dependent(x, kernel, **ways)


def _shifted(x: jax.Array, size: int, stride: int) -> list[list[jax.Array]]:
    """What each tap of a kernel meets, zeros around the image; by row and column of the kernel."""
    margin, (height, width) = size // 2, x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    return [
        [padded[:, a : a + height : stride, b : b + width : stride] for b in range(size)]
        for a in range(size)
    ]


def _by_rows(stride: int, x: jax.Array, kernel: jax.Array) -> jax.Array:
    size, features = len(kernel), kernel.shape[-1]
    rows = [
        product(jnp.concatenate(parts, -1), weights.reshape(-1, features))
        for parts, weights in zip(_shifted(x, size, stride), kernel, strict=True)
    ]
    return sum(rows[1:], rows[0])


def _by_conv(stride: int, x: jax.Array, kernel: jax.Array) -> jax.Array:
    margin = len(kernel) // 2
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), [(margin, margin)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip


# --- MobileNetV2 ----------------------------------------------------------------------------------


class MobileNetV2(nn.Module):
    """The trunk up to the last convolution: f32[B, 42, 42, 3] to f32[B, 2, 2, 1280]."""

    train: bool

    @nn.compact
    def __call__(self, x: jax.Array, weight: jax.Array) -> jax.Array:
        """Apply it; `weight` f32[B]."""
        first, last = MOBILENET_ENDS
        x = Conv(first, 3, self.train, 2, top=6.0, name="first")(x, weight)
        for stage, (expansion, features, blocks, stride) in enumerate(MOBILENET, start=1):
            for block in range(1, blocks + 1):
                step = stride if block == 1 else 1
                inverted = InvertedResidual(
                    features, expansion, step, self.train, name=f"stage{stage}_{block}"
                )
                x = inverted(x, weight)
        return Conv(last, 1, self.train, top=6.0, name="last")(x, weight)


class InvertedResidual(nn.Module):
    """Widen (unless by 1), convolve each channel, narrow without ReLU; a shortcut where it fits."""

    features: int
    expansion: int
    stride: int
    train: bool

    @nn.compact
    def __call__(self, x: jax.Array, weight: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to `[B, H / stride, W / stride, features]`."""
        wide = x.shape[-1] * self.expansion
        y = x
        if self.expansion > 1:
            y = Conv(wide, 1, self.train, top=6.0, name="widen")(y, weight)
        y = Conv(wide, 3, self.train, self.stride, True, 6.0, name="depthwise")(y, weight)
        y = Conv(self.features, 1, self.train, top=None, name="narrow")(y, weight)
        return x + y if x.shape == y.shape else y


# --- ResNet ---------------------------------------------------------------------------------------


class ResNet(nn.Module):
    """The trunk of ResNet-18 or 50: f32[B, 42, 42, 3] to f32[B, 2, 2, 512 or 2048]."""

    backbone: str
    train: bool

    @nn.compact
    def __call__(self, x: jax.Array, weight: jax.Array) -> jax.Array:
        """Apply it; `weight` f32[B]."""
        x = Conv(RESNET_WIDTHS[0], 7, self.train, 2, name="first")(x, weight)
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        stages = zip(RESNET_WIDTHS, RESNET_BLOCKS[self.backbone], strict=True)
        for stage, (width, blocks) in enumerate(stages, start=1):
            for block in range(1, blocks + 1):
                stride = 2 if block == 1 and stage > 1 else 1
                name = f"stage{stage}_{block}"
                x = Residual(self._layers(width, stride), self.train, name=name)(x, weight)
        return x

    def _layers(self, width: int, stride: int) -> tuple[tuple[int, int, int], ...]:
        """Channels, kernel and stride of a block's convolutions."""
        if self.backbone == "resnet18":
            return (width, 3, stride), (width, 3, 1)
        return (width, 1, stride), (width, 3, 1), (BOTTLENECK * width, 1, 1)


class Residual(nn.Module):
    """Convolutions beside a shortcut, which is a 1x1 convolution where the shapes differ."""

    layers: Sequence[tuple[int, int, int]]
    train: bool

    @nn.compact
    def __call__(self, x: jax.Array, weight: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to `[B, H / stride, W / stride, channels of the last layer]`."""
        y = x
        for number, (features, size, stride) in enumerate(self.layers, start=1):
            top = None if number == len(self.layers) else jnp.inf
            y = Conv(features, size, self.train, stride, top=top, name=f"conv{number}")(y, weight)
        if x.shape != y.shape:
            stride = max(stride for _, _, stride in self.layers)
            x = Conv(y.shape[-1], 1, self.train, stride, top=None, name="shortcut")(x, weight)
        return nn.relu(x + y)


# --- VGG-16 ---------------------------------------------------------------------------------------


class Vgg16(nn.Module):
    """The 13 convolutions: f32[B, 42, 42, 3] to f32[B, 1, 1, 512]; it has no batch norm."""

    train: bool

    @nn.compact
    def __call__(self, x: jax.Array, weight: jax.Array) -> jax.Array:
        """Apply it; `weight` is not looked at."""
        del weight
        for block, widths in enumerate(VGG16, start=1):
            for number, width in enumerate(widths, start=1):
                x = nn.relu(BiasedConv(width, name=f"conv{block}_{number}")(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        return x


class BiasedConv(nn.Module):
    """Convolution by 3x3 with a bias."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to `[B, H, W, features]`."""
        kernel = self.param("kernel", HE, (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return convolved(x, kernel) + bias.reshape(1, 1, 1, -1)
