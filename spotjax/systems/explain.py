"""What a network looked at: Grad-CAM of SOFTNet and SFAMNet, attention of SpotFormer (JAX).

Grad-CAM (Selvaraju et al. 2017, section 3): with A_k the 42x42 map of filter k after its ReLU and
y what is explained, a filter's weight is the mean of dy/dA_k over the pixels, and the map is
ReLU(sum of weight_k A_k).  Here the sum before the ReLU is called evidence, f32[B, 42, 42, S],
one channel for each of the S streams.  Evidence is additive: `maps` joins the streams by their sum,
and for a mean of scores of F folds it takes the mean of the folds' evidence:

    folds = jax.vmap(softnet_evidence, (0, None))(variables, images)  # leaves of variables [F, ...]
    found = maps(folds.mean(0))

The layer: the last at full resolution where streams are still apart, which is before the first
pooling.  In SOFTNet that is the convolution after its ReLU (its authors' page shows "activation
units" of the three streams and of all after their joining; which layer, it does not say), in
SFAMNet the sum of attention and shortcut after its ReLU (the release draws no maps).  Filters are
few and shallow: a map says where motion raised the score, hardly why.

Pooling windows do not overlap there, so each passes its whole gradient to pixels of its own and
the mean over pixels needs none of the 42x42 gradients: it is the sum of those after pooling over
1764.  No choice among equal maxima enters, and no gradient of a maximum that rounding could lose.
The functions recompute activations from the same parameters; `softnet_score` and
`sfamnet_outputs` continue from them and give the network's outputs in either formulation (1e-6).

All functions but `frame_spans` (NumPy) are pure JAX and run under jit and vmap.  Pictures of the
maps: `spotjax.pages.overlay`.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from spotjax.systems import sfamnet_net, softnet, spotformer_net

SIZE = softnet.SIZE
"""Pixels of a side of both networks' images and of their maps."""
ROUNDING = 1e-5
"""A map that varies by less than this share of its largest value is the same everywhere."""


# --- Grad-CAM -------------------------------------------------------------------------------------


class Maps(NamedTuple):
    """Where an image raised what is explained; scaled for drawing, from 0 (least) to 1 (most).

    A map without positive evidence is 0, and so is one that is the same everywhere: it shows no
    place.  NaN parameters give NaN.
    """

    streams: jax.Array
    """f32[..., H, W, S] in [0, 1], each stream scaled by itself."""
    joined: jax.Array
    """f32[..., H, W] in [0, 1], of the filters of all streams together."""
    strength: jax.Array
    """f32[..., S]: largest value of each stream's map before scaling; compares the streams of an
    image."""


def maps(evidence: jax.Array) -> Maps:
    """Grad-CAM's maps of `evidence` f32[..., H, W, S], as its functions for the networks return it.

    Scaling takes each map's least value to 0 and its largest to 1.
    """
    together = jnp.concatenate([evidence, evidence.sum(-1, keepdims=True)], -1)
    raw = jax.nn.relu(together)
    low, high = (of(raw, (-3, -2), keepdims=True) for of in (jnp.min, jnp.max))
    flat = high - low <= ROUNDING * high
    scaled = jnp.where(flat, 0, jnp.clip((raw - low) / jnp.where(flat, 1, high - low), 0, 1))
    # XLA's maxima pass over NaN on a CPU
    lost = jnp.isnan(together).any((-3, -2), keepdims=True)
    scaled, high = (jnp.where(lost, jnp.nan, x) for x in (scaled, high))
    return Maps(scaled[..., :-1], scaled[..., -1], high[..., 0, 0, :-1])


def softnet_maps(variables: Any, images: jax.Array) -> Maps:
    """`maps` of SOFTNet's score: streams f32[B, 42, 42, 3] (u, v, strain), joined f32[B, 42, 42].

    Arguments and errors as for `softnet_evidence`.
    """
    return maps(softnet_evidence(variables, images))


def softnet_evidence(variables: Any, images: jax.Array) -> jax.Array:
    """Evidence f32[B, 42, 42, 3] of the streams u, v, strain for the score of each image.

    `variables` of `softnet.Network` (either formulation), `images` f32[B, 42, 42, 3] as
    `softnet.min_max` leaves them.  Raises ValueError for images of another shape.
    """
    activations = softnet_activations(variables, images)
    pooled = _pooled(activations, softnet.POOL)
    slope = jax.grad(lambda x: _softnet_head(variables, x).sum())(pooled)
    return _evidence(activations, slope, list(softnet.FILTERS.values()))


def softnet_activations(variables: Any, images: jax.Array) -> jax.Array:
    """Convolutions after ReLU, before pooling: f32[B, 42, 42, 16], 3 of u, 5 of v, 8 of strain.

    Raises ValueError unless `images` are f32[B, 42, 42, 3].
    """
    _require(images, "SOFTNet's images", SIZE, SIZE, len(softnet.FILTERS))
    side = (softnet.KERNEL, softnet.KERNEL)
    streams = []
    for channel, (name, filters) in enumerate(softnet.FILTERS.items()):
        convolve: Any = nn.Conv(filters, side).apply
        params = variables["params"][f"conv_{name}"]
        streams.append(convolve({"params": params}, images[..., channel, None]))
    return jax.nn.relu(jnp.concatenate(streams, -1))


def softnet_score(variables: Any, activations: jax.Array) -> jax.Array:
    """The network's score f32[B] from its `activations` f32[B, 42, 42, 16], else ValueError."""
    _require(activations, "SOFTNet's activations", SIZE, SIZE, sum(softnet.FILTERS.values()))
    return _softnet_head(variables, _pooled(activations, softnet.POOL))


def sfamnet_maps(
    variables: Any,
    images: jax.Array,
    shape: sfamnet_net.Shape,
    emotion: int | jax.Array | None = None,
) -> Maps:
    """`maps` of SFAMNet: streams f32[B, 42, 42, S] (`shape.trunk`), joined f32[B, 42, 42].

    Arguments and errors as for `sfamnet_evidence`.
    """
    return maps(sfamnet_evidence(variables, images, shape, emotion))


def sfamnet_evidence(
    variables: Any,
    images: jax.Array,
    shape: sfamnet_net.Shape,
    emotion: int | jax.Array | None = None,
) -> jax.Array:
    """Evidence f32[B, 42, 42, S] of the streams for the spotting score or for an emotion.

    `variables` and `images` f32[B, 42, 42, channels] as for `sfamnet_net.apply`, whose
    formulation does not matter.  `emotion` None explains the score (before its sigmoid, which
    changes no map), a number the logit of that emotion (the last: neutral), i32[B] another one
    for each image.  Raises ValueError for images of another shape and for an emotion that is not
    there (inside jit a wrong one among traced numbers gives NaN).
    """
    activations = sfamnet_activations(variables, images, shape)
    if emotion is not None and not isinstance(emotion, jax.core.Tracer):
        numbers = np.asarray(emotion)
        if (
            numbers.shape not in ((), images.shape[:1])
            or not np.isin(numbers, np.arange(shape.classes + 1)).all()
        ):
            raise ValueError(
                f"emotion {numbers.tolist()}: a number from 0 to {shape.classes} or one per image"
            )

    def target(pooled: jax.Array) -> jax.Array:
        score, logits = _sfamnet_heads(variables, pooled, shape)
        if emotion is None:
            return score.sum()
        chosen = jnp.broadcast_to(jnp.asarray(emotion), images.shape[:1])[:, None]
        there = (chosen >= 0) & (chosen <= shape.classes)
        logit = jnp.take_along_axis(logits, jnp.clip(chosen, 0, shape.classes), 1)
        return (jnp.where(there, 1, jnp.nan) * logit).sum()

    slope = jax.grad(target)(_pooled(activations, sfamnet_net.POOL))
    return _evidence(activations, slope, [sfamnet_net.FILTERS] * len(shape.trunk))


def sfamnet_activations(variables: Any, images: jax.Array, shape: sfamnet_net.Shape) -> jax.Array:
    """The streams after ReLU, before pooling: f32[B, 42, 42, 3S], three of each in their order.

    Raises ValueError unless `images` are f32[B, 42, 42, channels of shape.streams].
    """
    _require(images, "SFAMNet's images", SIZE, SIZE, len(shape.streams))
    channels = images.transpose(3, 1, 2, 0)
    each = [channels] if shape.joint else list(channels[:, None])
    stream: Any = sfamnet_net.Stream(shape.cbam).apply
    streams = [
        stream({"params": variables["params"]["trunk"][name]}, x[None, None], method="before_pool")
        for name, x in zip(shape.trunk, each, strict=True)
    ]
    return jax.nn.relu(jnp.concatenate(streams, 2)[0, 0]).transpose(3, 1, 2, 0)


def sfamnet_outputs(
    variables: Any, activations: jax.Array, shape: sfamnet_net.Shape
) -> sfamnet_net.Outputs:
    """The network's outputs from its `activations` f32[B, 42, 42, 3S], else ValueError."""
    filters = sfamnet_net.FILTERS * len(shape.trunk)
    _require(activations, "SFAMNet's activations", SIZE, SIZE, filters)
    pooled = _pooled(activations, sfamnet_net.POOL)
    score, logits = _sfamnet_heads(variables, pooled, shape)
    return sfamnet_net.Outputs(jax.nn.sigmoid(score), logits)


def _softnet_head(variables: Any, pooled: jax.Array) -> jax.Array:
    """Score f32[B] of f32[B, 7, 7, 16]."""
    first, second = (variables["params"][name] for name in ("dense1", "dense2"))
    hidden = pooled.reshape(len(pooled), -1) @ first["kernel"] + first["bias"][None]
    return (jax.nn.relu(hidden) @ second["kernel"] + second["bias"][None])[:, 0]


def _sfamnet_heads(
    variables: Any, pooled: jax.Array, shape: sfamnet_net.Shape
) -> tuple[jax.Array, jax.Array]:
    """Score before its sigmoid f32[B] and logits f32[B, classes + 1] of f32[B, 14, 14, 3S]."""
    heads: dict[str, Any] = {
        "spotting": sfamnet_net.Head(1).apply,
        "recognition": sfamnet_net.Head(shape.classes + 1).apply,
    }
    x = pooled.transpose(3, 1, 2, 0)[None, None]
    score, logits = (head({"params": variables["params"][name]}, x) for name, head in heads.items())
    return score[:, 0], logits


def _pooled(x: jax.Array, n: int) -> jax.Array:
    """Maximum of each block of n x n pixels of f32[B, H, W, C]."""
    b, h, w, c = x.shape
    return x.reshape(b, h // n, n, w // n, n, c).max((2, 4))


def _evidence(activations: jax.Array, slope: jax.Array, filters: list[int]) -> jax.Array:
    """f32[B, H, W, S] from f32[B, H, W, C] and the gradient after pooling f32[B, h, w, C]."""
    weight = slope.sum((1, 2), keepdims=True) / (SIZE * SIZE)
    streams = jnp.split(activations * weight, np.cumsum(filters)[:-1], axis=-1)
    return jnp.stack([stream.sum(-1) for stream in streams], -1)


def _require(array: jax.Array, what: str, *shape: int) -> None:
    """Raise ValueError unless the axes after the first (of samples) have these sizes."""
    if array.ndim != len(shape) + 1 or array.shape[1:] != shape:
        expected = ", ".join(map(str, shape))
        raise ValueError(f"{what} have shape {list(array.shape)}: expected [B, {expected}]")


# --- attention of SpotFormer ----------------------------------------------------------------------


class Attention(NamedTuple):
    """Shares of attention by block of the network, `[N, outer, heads, L, L]`; rows sum to 1.

    Row i, column j: how much of j enters what i becomes.  It is what the layer mixes, not what
    decided: residuals pass by it, and the value that is mixed counts as well.
    """

    spatial: dict[str, jax.Array]
    """f32[N, T, heads, V, V]: over the V nodes, for each of T frames; `spatial_0`: the regions."""
    temporal: dict[str, jax.Array]
    """f32[N, V, heads, T, T]: over T frames, for each of V nodes; `temporal_0`: all of the clip,
    the others after down-sampling (`frame_spans`)."""


def spotformer_attention(
    variables: Any, clips: jax.Array, shape: spotformer_net.Shape
) -> Attention:
    """Attention in all blocks for `clips` f32[N, window, nodes, 2], without dropout.

    Names of the blocks are the parameters'; a variant with parallel graphs has its own
    (`temporal_0_size_0`).  Raises ValueError for clips of another shape.
    """
    _require(clips, "SpotFormer's clips", shape.window, shape.nodes, 2)
    network: Any = spotformer_net.Network(shape._replace(remat=False))
    _, state = network.apply(
        variables,
        clips,
        jnp.ones(len(clips)),
        capture_intermediates=lambda module, _: module.name in ("query", "key"),
        mutable=["intermediates"],
    )
    found = Attention({}, {})
    for name, block in state["intermediates"].items():
        spatial = name.startswith("spatial")
        axes = (0, 2, 3, 1, 4) if spatial else (0, 1, 3, 2, 4)
        query, key = (
            x.reshape(*x.shape[:-1], shape.heads, shape.head_width).transpose(axes)
            for x in (block["attention"][part]["__call__"][0] for part in ("query", "key"))
        )
        score = query @ key.swapaxes(3, 4) * shape.head_width**-0.5
        kind = found.spatial if spatial else found.temporal
        kind[name] = jax.nn.softmax(score.astype(jnp.float32))
    return found


def by_head(share: jax.Array) -> jax.Array:
    """Mean over frames or nodes of one block's `share` `[N, outer, heads, L, L]`: [N, heads, L, L].

    Of `temporal_0` a square of frames by frames for each head, of `spatial_0` regions by regions.
    """
    return share.mean(1)


def received(share: jax.Array) -> jax.Array:
    """How much each node or frame is attended to in one block: f32[N, L], which sums to 1.

    The mean over everything that attends; `share` is `[N, outer, heads, L, L]`.
    """
    return share.mean((1, 2, 3))


def frame_spans(shape: spotformer_net.Shape) -> list[np.ndarray]:
    """Frames of the clip that down-sampling joined in each frame of `temporal_0`, `temporal_1`...

    i64[T, 2]: first and last frame, 0-based inclusive.  Raises UserError where the shape's
    paddings do not fit its window.
    """
    spans = [np.arange(shape.window)[:, None].repeat(2, 1)]
    taps, stride = spotformer_net.TAPS, spotformer_net.STRIDE
    lengths = spotformer_net.frames(shape)
    for padding, length in zip(shape.paddings[:-1], lengths[1:-1], strict=True):
        first = stride * np.arange(length) - padding
        last = np.minimum(first + taps, len(spans[-1])) - 1
        before = spans[-1]
        spans.append(np.stack([before[np.maximum(first, 0), 0], before[last, 1]], 1))
    return spans
