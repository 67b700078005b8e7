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
The network (figure 3) stands in `softnet_net`, with the meaning of `formulation`; those of table 3
in its place (`backbone`) stand in `backbones`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spotjax.config import Softnet
from spotjax.decoding import decode, labels
from spotjax.systems import backbones
from spotjax.systems.softnet_net import FILTERS, KERNEL, POOL, SIZE, Network
from spotjax.types import Detection, Samples, System, Video

__all__ = ["FILTERS", "KERNEL", "POOL", "SIZE", "Network", "augment", "build", "min_max"]

FLIP, BLUR, NOISE = 1, 2, 3
NOISE_SIGMA = 0.1


# --- images (section 3.1, 4.1) --------------------------------------------------------------------


def min_max(images: jax.Array) -> jax.Array:
    """f32[B, H, W, C]: each image and channel scaled to [0, 1]; a constant channel becomes 0.

    Samples lie last inside, as in the network: a maximum over pixels then runs over whole rows.
    """
    count, *shape = images.shape
    pixels = images.reshape(count, -1).T.astype(jnp.float32).reshape(-1, shape[-1], count)
    low = pixels.min(axis=0, keepdims=True)
    span = pixels.max(axis=0, keepdims=True) - low
    scaled = (pixels - low) / jnp.where(span > 0, span, 1)
    return scaled.reshape(-1, count).T.reshape(images.shape)


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
    noise = NOISE_SIGMA * jax.random.normal(key, images.shape[1:])
    return jax.lax.platform_dependent(
        images, kind, noise, cpu=augment_one_by_one, default=augment_all
    )


def augment_one_by_one(images: jax.Array, kind: jax.Array, noise: jax.Array) -> jax.Array:
    """`augment` with each sample alone, so that a CPU computes only what it asks for.

    `images` f32[B, 42, 42, 3], `kind` i32[B], `noise` f32[42, 42, 3].
    """
    changes = [
        lambda image: image,
        lambda image: image[:, ::-1],
        _blurred,
        lambda i: _noisy(i, noise),
    ]
    return jax.lax.map(lambda sample: jax.lax.switch(sample[1], changes, sample[0]), (images, kind))


def augment_all(images: jax.Array, kind: jax.Array, noise: jax.Array) -> jax.Array:
    """`augment` by every change of every sample, of which one is kept; `noise` f32[42, 42, 3]."""
    kind = kind[:, None, None, None]
    changed = jnp.where(kind == FLIP, images[:, :, ::-1], images)
    changed = jnp.where(kind == BLUR, _blurred(images), changed)
    return jnp.where(kind == NOISE, _noisy(images, noise[None]), changed)


def _blurred(images: jax.Array) -> jax.Array:
    """f32[..., 42, 42, 3]."""
    matrix = _blur_matrix()
    return jnp.einsum("ij,...jkc,lk->...ilc", matrix, images, matrix)


def _noisy(images: jax.Array, noise: jax.Array) -> jax.Array:
    """Both f32[..., 42, 42, 3]."""
    return jnp.clip(images + noise, 0, 1)


# --- the system -----------------------------------------------------------------------------------


def build(config: Softnet, k: dict[str, int]) -> System:
    """SOFTNet as a `System`; `k` gives the frames between the images of a pair per type."""
    k = {type: k[type] for type in config.types}
    network: Any = Network(config.formulation)
    if config.backbone != "shallow":
        network = backbones.Network(config.backbone)

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
        images = min_max(arrays[f"flow_{problem}"][samples["row"]])
        if problem in config.augment and "augment" in samples:
            images = min_max(augment(images, samples["augment"], key))
        return images

    def apply(
        variables: Any, images: jax.Array, weight: jax.Array, train: bool, key: jax.Array
    ) -> Any:
        del key  # no dropout
        if config.backbone != "shallow":
            return backbones.apply(network, variables, images, weight, train)
        return network.apply(variables, images), variables  # no batch norm

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
