"""SpotFormer's network: a transformer over a graph of facial regions and its frames (pure JAX).

A clip is f32[17, 10, 2]: the flow of ten facial regions from the clip's first frame to each frame.
Attention over the regions of a frame and over the frames of a region alternate while the graph
shrinks (10 -> 3 -> 1: facial local graph pooling, FLGP) and the frames do (17 -> 8 -> 3 -> 2 -> 1:
convolutions), until one vector is left: the feature z of the middle frame, and ten logits of it.

Inside, hidden values are `[N, V, T, D]`: clips, nodes, frames, channels.  Layers and their order
are the release's, whose batch norms before pooling and down-sampling the paper does not name.
Deviations:
  * one kernel each for query, key and value (slicing a packed one costs a copy backwards);
  * a convolution is a matrix product of three joined frames (grouped, slow ones under vmap);
  * padding clips are left out of the batch statistics.
As in the release the table of frame positions has window + 1 rows, the last never read: 3,168,778
parameters.  Variants (section 4.4.1) and the ablation without FLGP are in no release: `Network`.
"""

from functools import reduce
from typing import Any, Literal, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from spotjax.errors import UserError
from spotjax.systems.layers import BatchNorm, Dense, Dropout, product, uniform

LOGITS = 10
"""Onset, offset, none of micro; the same of macro; apex of micro, macro; expression of both."""
TAPS, STRIDE = 3, 2

Variables = Any
"""`{"params": ..., "batch_stats": ...}`: trees of f32 arrays; weight decay is for `kernel`s."""


class Shape(NamedTuple):
    """Everything that is fixed when the network is built; the defaults are the paper's."""

    window: int = 17
    """Frames of a clip."""
    parts: tuple[int, ...] = (3, 3, 4)
    """Nodes of each facial part, in order: left brow, right brow, mouth."""
    width: int = 256
    heads: int = 4
    head_width: int = 64
    mlp_width: int = 256
    dropout: float = 0.1
    variant: Literal["simul_st", "seq_st", "simul_ts", "paral_st", "paral_st_shared"] = "simul_st"
    pooling: Literal["flgp", "mean"] = "flgp"
    paddings: tuple[int, ...] = (0, 0, 1, 1)
    """Zero frames on both sides at each temporal down-sampling; (0, 1, 1, 1, 1) for 25 frames."""
    remat: bool = False
    """Compute the blocks again in the backward pass instead of keeping their values."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of hidden values; parameters, batch statistics, softmax, logits and feature are float32."""

    @property
    def nodes(self) -> int:
        """Nodes of the graph, 10 in the paper."""
        return sum(self.parts)


class Outputs(NamedTuple):
    """What the network says about the middle frame of each clip."""

    logits: jax.Array
    """f32[N, 10], columns as in `LOGITS`."""
    feature: jax.Array
    """f32[N, D], not normalised; what the contrastive loss compares."""


def frames(shape: Shape) -> tuple[int, ...]:
    """Frames before each temporal down-sampling and after the last: 17, 8, 3, 2, 1.

    Raises UserError where they do not end at 1.
    """
    lengths = [shape.window]
    for padding in shape.paddings:
        lengths.append((lengths[-1] + 2 * padding - TAPS) // STRIDE + 1)
    if len(shape.paddings) < 2 or min(lengths) < 1 or lengths[-1] != 1:
        raise UserError(
            f"window {shape.window} with paddings {shape.paddings} leaves {lengths[-1]} frames "
            "instead of 1: use an odd window of 7 to 21 with (0, 0, 1, 1), or 25 with "
            "(0, 1, 1, 1, 1)"
        )
    return tuple(lengths)


# --- layers ---------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Multi-head self-attention over nodes or frames; the branch without its residual."""

    shape: Shape
    train: bool
    spatial: bool

    @nn.compact
    def __call__(self, h: jax.Array, weight: jax.Array) -> jax.Array:
        """Attend in `h` `[N, V, T, D]` over the nodes of a frame or the frames of a node."""
        drop = Dropout(self.shape.dropout, self.train)
        heads, head_width = self.shape.heads, self.shape.head_width
        # query, key and value alone are brought to [N, T, heads, V, d] or [N, V, heads, T, d]
        apart = (0, 2, 3, 1, 4) if self.spatial else (0, 1, 3, 2, 4)
        together = (0, 3, 1, 2, 4) if self.spatial else (0, 1, 3, 2, 4)
        split = (*h.shape[:-1], heads, head_width)
        x = BatchNorm(self.train, name="norm")(h, weight)
        query, key, value = (
            Dense(heads * head_width, bias=False, name=name)(x).reshape(split).transpose(apart)
            for name in ("query", "key", "value")
        )
        score = query @ key.swapaxes(3, 4) * head_width**-0.5
        share = jax.nn.softmax(score.astype(jnp.float32)).astype(h.dtype)
        mixed = (drop(share) @ value).transpose(together)
        mixed = mixed.reshape(*h.shape[:-1], heads * head_width)
        return drop(Dense(h.shape[-1], name="out")(mixed))


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between; the branch without its residual."""

    shape: Shape
    train: bool

    @nn.compact
    def __call__(self, h: jax.Array, weight: jax.Array) -> jax.Array:
        """Apply to each vector of `h` `[N, V, T, D]`."""
        drop = Dropout(self.shape.dropout, self.train)
        x = BatchNorm(self.train, name="norm")(h, weight)
        x = jax.nn.gelu(Dense(self.shape.mlp_width, name="first")(x), approximate=False)
        x = drop(x)
        x = Dense(h.shape[-1], name="second")(x)
        return drop(x)


class Block(nn.Module):
    """Attention and MLP with residuals, over the frames of a node or the nodes of a frame."""

    shape: Shape
    train: bool
    spatial: bool

    @nn.compact
    def __call__(self, h: jax.Array, weight: jax.Array) -> jax.Array:
        """Apply to `h` `[N, V, T, D]`."""
        h = h + Attention(self.shape, self.train, self.spatial, name="attention")(h, weight)
        return h + Mlp(self.shape, self.train, name="mlp")(h, weight)


class Down(nn.Module):
    """Halve the frames: batch norm, then a convolution of 3 frames with stride 2, no bias."""

    padding: int
    train: bool

    @nn.compact
    def __call__(self, h: jax.Array, weight: jax.Array) -> jax.Array:
        """`[N, V, T, D]` to `[N, V, (T + 2 padding - 3) // 2 + 1, D]`."""
        width = h.shape[-1]
        kernel = self.param("kernel", uniform(TAPS * width), (TAPS, width, width))
        x = BatchNorm(self.train, name="norm")(h, weight)
        x = jnp.pad(x, ((0, 0), (0, 0), (self.padding, self.padding), (0, 0)))
        last = x.shape[2] - TAPS
        taps = [x[:, :, tap : tap + last + 1 : STRIDE] for tap in range(TAPS)]
        joined = jnp.concatenate(taps, axis=-1)
        return product(joined, kernel.reshape(TAPS * width, width).astype(x.dtype))


class Pool(nn.Module):
    """Facial local graph pooling (FLGP): batch norm, then the maximum over each part's nodes."""

    parts: tuple[int, ...]
    train: bool

    @nn.compact
    def __call__(self, h: jax.Array, weight: jax.Array) -> jax.Array:
        """`[N, V, T, D]` to `[N, len(parts), T, D]`."""
        return largest_of(self.parts, BatchNorm(self.train, name="norm")(h, weight))


def largest_of(parts: tuple[int, ...], h: jax.Array) -> jax.Array:
    """Maximum over the nodes of each part: `[N, V, T, D]` to `[N, len(parts), T, D]`.

    The first maximum gets the whole gradient, as in PyTorch.  `jnp.max` will not do: its gradient
    compares values with their maximum and is lost where XLA computes one of the two again with
    other rounding, as on a CPU in all layers below the first pooling.
    """
    nodes = [h[:, node] for node in range(h.shape[1])]
    ends = np.cumsum(parts).tolist()
    groups = [nodes[end - part : end] for part, end in zip(parts, ends, strict=True)]
    return jnp.stack([reduce(_larger, group) for group in groups], axis=1)


def _larger(a: jax.Array, b: jax.Array) -> jax.Array:
    """The larger of two values, `a` if they are equal."""
    return jnp.where(b > a, b, a)


class Embedding(nn.Module):
    """Flow vectors to hidden values, with the positions of frame and facial part added."""

    shape: Shape
    train: bool

    @nn.compact
    def __call__(self, clips: jax.Array, weight: jax.Array) -> jax.Array:
        """f32[N, T, V, 2] to `[N, V, T, D]`."""
        shape = self.shape
        normal = nn.initializers.normal(1.0)
        frame = self.param("frame", normal, (shape.window + 1, shape.width))
        part = self.param("part", normal, (len(shape.parts), shape.width))
        x = clips.swapaxes(1, 2).astype(shape.dtype)
        x = BatchNorm(self.train, name="norm")(Dense(shape.width, name="linear")(x), weight)
        node = part[np.repeat(np.arange(len(shape.parts)), shape.parts)]
        x = x + (node[:, None] + frame[None, : shape.window])[None].astype(shape.dtype)
        return Dropout(shape.dropout, self.train)(x)


# --- the network ----------------------------------------------------------------------------------


class Network(nn.Module):
    """Logits and feature of clips; the order of its layers follows `shape.variant`.

    `simul_st` (the paper's main network) attends over nodes, then frames, then makes both coarser;
    `simul_ts` frames, then nodes; `seq_st` ends with the graph before it turns to the frames.
    With `pooling` "mean" the graph keeps its ten nodes until their mean replaces the last FLGP.

    `paral_st`: the graph at its three sizes, each with its own temporal blocks; after each of them
    the finer graph, pooled and sent through a 1x1 convolution, is added to the next coarser one,
    and the coarsest is read out.  `paral_st_shared` has one temporal block and down-sampling for
    all sizes and adds what is pooled as it is, without batch norm: no parameter more than
    `simul_st`.
    """

    shape: Shape
    train: bool = False

    @nn.compact
    def __call__(self, clips: jax.Array, weight: jax.Array) -> Outputs:
        """Apply to `clips` f32[N, T, V, 2] with `weight` f32[N], 0 for padding."""
        shape = self.shape
        chex.assert_shape(clips, (None, shape.window, shape.nodes, 2))
        chex.assert_shape(weight, (len(clips),))
        frames(shape)
        h = Embedding(shape, self.train, name="embedding")(clips, weight)
        if shape.variant in ("paral_st", "paral_st_shared"):
            h = self._parallel(h, weight)
        else:
            for kind, index in order(shape):
                h = self._layer(kind, index, h, weight)
        feature = h[:, 0, 0].astype(jnp.float32)
        return Outputs(Dense(LOGITS, name="head")(feature), feature)

    def _layer(
        self, kind: str, index: int, h: jax.Array, weight: jax.Array, suffix: str = ""
    ) -> jax.Array:
        """Layer number `index` of a kind."""
        shape, name = self.shape, f"{kind}_{index}{suffix}"
        if kind == "pool":
            return self._pool(index, h, weight, name)
        if kind == "down":
            return Down(shape.paddings[index], self.train, name=name)(h, weight)
        block = nn.remat(Block) if shape.remat else Block
        return block(shape, self.train, kind == "spatial", name=name)(h, weight)

    def _pool(self, index: int, h: jax.Array, weight: jax.Array, name: str | None) -> jax.Array:
        """From nodes to parts (`index` 0) or from parts to one (1); unnamed: no batch norm."""
        if self.shape.pooling == "mean":
            return h.mean(axis=1, keepdims=True) if index else h
        parts = (len(self.shape.parts),) if index else self.shape.parts
        if name is None:
            return largest_of(parts, h)
        return Pool(parts, self.train, name=name)(h, weight)

    def _parallel(self, h: jax.Array, weight: jax.Array) -> jax.Array:
        """Temporal layers at all sizes of the graph: `[N, V, T, D]` to `[N, 1, 1, D]`."""
        shared = self.shape.variant == "paral_st_shared"
        fine = self._layer("spatial", 0, h, weight)
        middle = self._layer("spatial", 1, self._layer("pool", 0, fine, weight), weight)
        graphs = [fine, middle, self._layer("pool", 1, middle, weight)]

        def at_each_size(kind: str, stage: int, graphs: list[jax.Array]) -> list[jax.Array]:
            if not shared:
                return [
                    self._layer(kind, stage, graph, weight, f"_size_{size}")
                    for size, graph in enumerate(graphs, start=3 - len(graphs))
                ]
            joined = self._layer(kind, stage, jnp.concatenate(graphs, axis=1), weight)
            ends = np.cumsum([graph.shape[1] for graph in graphs])[:-1]
            return jnp.split(joined, ends, axis=1)

        for stage in range(len(self.shape.paddings)):
            graphs = at_each_size("temporal", stage, graphs)
            for size in (0, 1):
                name = f"lateral_{stage}_{size}"
                finer = self._pool(size, graphs[size], weight, None if shared else f"{name}_pool")
                if not shared:
                    finer = Dense(self.shape.width, bias=False, name=name)(finer)
                graphs[size + 1] += finer
            last = stage == len(self.shape.paddings) - 1
            graphs = at_each_size("down", stage, graphs[-1:] if last else graphs)
        return graphs[0]


def order(shape: Shape) -> list[tuple[str, int]]:
    """Layers after the embedding as (kind, number), for the variants that have one graph."""
    double = {
        "simul_st": ("spatial", "temporal", "pool", "down"),
        "simul_ts": ("temporal", "spatial", "down", "pool"),
        "seq_st": ("spatial", "pool"),
    }[shape.variant]
    start = 0 if shape.variant == "seq_st" else 2
    layers = [(kind, index) for index in (0, 1) for kind in double]
    return layers + [
        (kind, index)
        for index in range(start, len(shape.paddings))
        for kind in ("temporal", "down")
    ]


def init(key: jax.Array, shape: Shape) -> Variables:
    """New variables: PyTorch's defaults, N(0, 1) for the two tables of positions."""
    clips = jnp.zeros((1, shape.window, shape.nodes, 2))
    return Network(shape).init(key, clips, jnp.ones(1))


def apply(
    variables: Variables,
    clips: jax.Array,
    weight: jax.Array,
    train: bool,
    key: jax.Array | None,
    shape: Shape,
) -> tuple[Outputs, Variables]:
    """Outputs of `clips` f32[N, T, V, 2] and the variables after them.

    While training, batch norm uses (and `batch_stats` learn) the statistics of the clips whose
    `weight` f32[N] is 1, and `key` draws the dropout (None: there must be none to draw);
    otherwise neither is used.
    """
    run: Any = Network(shape, train).apply
    if not train:
        return run(variables, clips, weight), variables
    rngs = None if key is None else {"dropout": key}
    outputs, stats = run(variables, clips, weight, rngs=rngs, mutable=["batch_stats"])
    return outputs, {**variables, **stats}
