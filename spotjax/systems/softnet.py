"""SOFTNet: shallow optical flow three-stream CNN (Liong, See, Wong; ICIP 2021).

A pair of frames (i, i+k) becomes a 42x42 composite of eyes and mouth with three channels: |u|,
|v| and optical strain (section 3.1; made by `data_prep.softnet`).  Three streams of one 5x5
convolution each (3, 5 and 8 filters), pooled and joined, regress how well the pair agrees with
an expression (section 3.3).  Macro- and micro-expressions are two separate problems with their
own k.

Deviations from the paper, all as in the authors' release unless said otherwise:
  * one 21x42 strip for both eyes (the paper: two 21x21); `features.roi` switches;
  * min-max per image and channel before augmentation and again after it (what the release does
    from its second fold on; the paper is silent);
  * augmentation of positives is one flipped, one blurred (7x7) and one noisy copy with
    sigma 0.1; the paper's N(0, 1) on images in [0, 1] would bury the signal;
  * batch of 12 (the paper gives none); one initialisation shared by all folds;
  * the onset counts as part of an expression (the release loses it: `unit_release`), the
    smoothing window is the paper's symmetric one (`smoothing=release` for 2k), and a silent video
    gets no placeholder prediction (`silent_proposal`);
  * a new order of samples in each epoch (the release repeats one: `train.reshuffle=False`).
`formulation=blocked` computes convolution and pooling as one matrix product per 6x6 pooling
block, `plain` as the layers stand in the paper; both give the same numbers (to 1e-6).
"""

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from spotjax import decode, labels
from spotjax.config import Softnet
from spotjax.types import Detection, Samples, System, Video

FILTERS = {"u": 3, "v": 5, "strain": 8}
SIZE, KERNEL, POOL = 42, 5, 6
FLIP, BLUR, NOISE = 1, 2, 3
NOISE_SIGMA = 0.1


# --- network (figure 3) ---------------------------------------------------------------------------


class PooledConv(nn.Module):
    """5x5 convolution, ReLU, max-pool 3x3 and 2x2 of one channel: f32[B, 42, 42] -> [B, 7, 7, C].

    Pooling by 3 and then by 2 is pooling by 6, and ReLU commutes with it.
    """

    features: int
    formulation: str

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Apply the stream to f32[B, 42, 42]."""
        kernel = self.param(
            "kernel", nn.initializers.glorot_uniform(), (KERNEL, KERNEL, 1, self.features)
        )
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        conv = _conv_blocked if self.formulation == "blocked" else _conv_plain
        return nn.relu(conv(image, kernel) + bias.reshape(1, 1, 1, -1))


def _conv_plain(image: jax.Array, kernel: jax.Array) -> jax.Array:
    """Reference form: `lax.conv`, then pooling (without bias and ReLU, which commute)."""
    y = jax.lax.conv_general_dilated(
        image[..., None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    blocks = y.reshape(len(image), SIZE // POOL, POOL, SIZE // POOL, POOL, -1)
    return blocks.max(axis=(2, 4))


def _toeplitz() -> np.ndarray:
    """f32[25, 100, 36]: which weight links a pixel of a 10x10 patch to each of its 6x6 outputs."""
    patch = POOL + KERNEL - 1
    table = np.zeros((KERNEL, KERNEL, patch, patch, POOL, POOL), np.float32)
    for a, b, i, j in np.ndindex(KERNEL, KERNEL, POOL, POOL):
        table[a, b, a + i, b + j, i, j] = 1
    return table.reshape(KERNEL * KERNEL, patch * patch, POOL * POOL)


def _conv_blocked(image: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same as `_conv_plain`, as one matrix product per 6x6 block of outputs.

    XLA's CPU convolution is slow inside loops and, under vmap over folds, becomes a grouped one;
    a matrix product is neither (`benchmarks/fold_training.py`).
    """
    blocks, patch = SIZE // POOL, POOL + KERNEL - 1
    margin = KERNEL // 2
    padded = jnp.pad(image, ((0, 0), (margin, margin), (margin, margin)))
    last = POOL * (blocks - 1) + 1
    pixels = [
        padded[:, a : a + last : POOL, b : b + last : POOL]
        for a in range(patch)
        for b in range(patch)
    ]
    patches = jnp.stack(pixels).reshape(patch * patch, -1)  # [100, B*49]
    weights = jnp.einsum("kc,kpo->ocp", kernel.reshape(KERNEL * KERNEL, -1), _toeplitz())
    channels = kernel.shape[-1]
    product = weights.reshape(POOL * POOL * channels, patch * patch) @ patches
    best = product.reshape(POOL * POOL, channels, -1).max(axis=0)
    return best.reshape(channels, len(image), blocks, blocks).transpose(1, 2, 3, 0)


class Network(nn.Module):
    """Three pooled streams, joined (7x7x16), dense 400 ReLU, dense 1: 314,817 parameters."""

    formulation: str = "blocked"

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Scores f32[B] of f32[B, 42, 42, 3]."""
        chex.assert_shape(images, (None, SIZE, SIZE, 3))
        streams = [
            PooledConv(features, self.formulation, name=f"conv_{name}")(images[..., channel])
            for channel, (name, features) in enumerate(FILTERS.items())
        ]
        joined = jnp.concatenate(streams, axis=-1).reshape(len(images), -1)
        hidden = nn.relu(
            nn.Dense(400, name="dense1", kernel_init=nn.initializers.glorot_uniform())(joined)
        )
        score = nn.Dense(1, name="dense2", kernel_init=nn.initializers.glorot_uniform())(hidden)
        return score[:, 0]


# --- images (section 3.1, 4.1) --------------------------------------------------------------------


def min_max(images: jax.Array) -> jax.Array:
    """Scale each image and channel of f32[B, H, W, C] to [0, 1]; a constant channel becomes 0."""
    low = images.min(axis=(1, 2), keepdims=True)
    span = images.max(axis=(1, 2), keepdims=True) - low
    return (images - low) / jnp.where(span > 0, span, 1)


def _blur_matrix() -> np.ndarray:
    """f32[42, 42]: OpenCV's 7x7 blur with sigma 0 (a fixed table of taps), mirrored borders."""
    taps = np.array([1, 3.5, 7, 9, 7, 3.5, 1]) / 32
    matrix = np.zeros((SIZE, SIZE))
    for row in range(SIZE):
        for shift, tap in enumerate(taps, start=-3):
            column = abs(row + shift)
            matrix[row, column if column < SIZE else 2 * (SIZE - 1) - column] += tap
    return matrix.astype(np.float32)


def augment(images: jax.Array, kind: jax.Array, key: jax.Array) -> jax.Array:
    """Flip, blur or add noise to f32[B, 42, 42, 3] in [0, 1] where `kind` i32[B] says so.

    One noise image a step serves all noisy samples of the batch: drawing 12 of them would cost
    more than half of the network's own step.
    """
    kind = kind[:, None, None, None]
    blur = _blur_matrix()
    blurred = jnp.einsum("ij,bjkc,lk->bilc", blur, images, blur)
    noise = NOISE_SIGMA * jax.random.normal(key, (1, *images.shape[1:]))
    noisy = jnp.clip(images + noise, 0, 1)
    images = jnp.where(kind == FLIP, images[:, :, ::-1], images)
    images = jnp.where(kind == BLUR, blurred, images)
    return jnp.where(kind == NOISE, noisy, images)


# --- the system -----------------------------------------------------------------------------------


def build(config: Softnet, k: dict[str, int]) -> System:
    """SOFTNet as a `System`; `k` gives the frames between the images of a pair per type."""
    k = {type: k[type] for type in config.types}
    network = Network(config.formulation)

    def targets(video: Video, valid: np.ndarray, problem: str) -> Samples:
        spans = [(i.onset, i.offset) for i in video.intervals if i.type == problem]
        rows = np.flatnonzero(valid)
        if not spans:  # as released: a type is learnt from the videos that contain it
            rows = rows[:0]
        score = labels.pseudo_labels(config.pseudo_label, video.num_frames, k[problem], spans)
        return {
            "row": (video.first_row + rows).astype(np.int32),
            "label": score[rows],
            "augment": np.zeros(len(rows), np.int32),
        }

    def select(samples: Samples, rng: np.random.Generator, problem: str) -> Samples:
        positive = np.flatnonzero(samples["label"] > 0)
        negative = np.flatnonzero(samples["label"] <= 0)
        keep = len(negative) // 2
        if config.negatives == "half_release":
            keep = min(max(len(positive), len(negative)) // 2, len(negative))
        chosen = np.sort(rng.choice(negative, keep, replace=False))
        copies = (0, FLIP, BLUR, NOISE) if problem in config.augment else (0,)
        index = np.concatenate([np.tile(positive, len(copies)), chosen])
        kind = np.concatenate(
            [np.repeat(np.asarray(copies), len(positive)), np.zeros(len(chosen), int)]
        )
        return {
            "row": samples["row"][index],
            "label": samples["label"][index],
            "augment": kind.astype(np.int32),
        }

    def init(key: jax.Array) -> Any:
        return network.init(key, jnp.zeros((1, SIZE, SIZE, 3)))

    def inputs(arrays: dict[str, jax.Array], samples: Any, key: jax.Array, problem: str) -> Any:
        images = min_max(arrays[f"flow_{problem}"][samples["row"]].astype(jnp.float32))
        if problem in config.augment and "augment" in samples:
            images = min_max(augment(images, samples["augment"], key))
        return images

    def apply(
        variables: Any, images: jax.Array, weight: jax.Array, train: bool, key: jax.Array
    ) -> Any:
        del weight, train, key  # no batch norm, no dropout
        return network.apply(variables, images), variables

    def loss(outputs: jax.Array, samples: Any, weight: jax.Array) -> Any:
        error = jnp.square(outputs - samples["label"])
        return jnp.sum(weight * error) / jnp.maximum(jnp.sum(weight), 1), {}

    def decode_video(
        curves: dict[str, np.ndarray], valid: dict[str, np.ndarray], **overrides: Any
    ) -> tuple[list[Detection], dict[str, decode.Curve]]:
        options = {
            "p": config.p,
            "smoothing": config.smoothing,
            "interval": config.interval,
            "silent_proposal": config.silent_proposal,
        } | overrides
        found: list[Detection] = []
        drawn = {}
        for problem in k:
            detections, drawn[problem] = decode.spot(
                curves[problem], valid[problem], k[problem], problem, **options
            )
            found += detections
        return found, drawn

    return System(
        name="softnet",
        problems=tuple(k),
        targets=targets,
        select=select,
        init=init,
        inputs=inputs,
        apply=apply,
        loss=loss,
        scores=lambda outputs: outputs,
        decode=decode_video,
        streams=lambda problem: (f"flow_{problem}",),
        types=config.types,
        about={"interval": config.interval, "p": config.p, "smoothing": config.smoothing},
        variants=({"interval": "published"}, {"interval": "centred"}),
        sweeps={"p": (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)},
    )
