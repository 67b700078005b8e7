"""Two-stream 3D-CNN with temporal reference frames (Yap et al.), end to end from grey faces.

Every frame is looked at together with a near and a far reference frame; both pairs pass the same
network (`cnn3d_net`), which says whether the frame is inside a micro- or a macro-expression.
Smoothed scores above a threshold become intervals (`decoding.score_runs`).  No code was released.

What the paper leaves open, and what is done here (each a key of the config):
  * the reference is k frames later, both ends clamped to the video; labels and scores are those of
    the frame itself.  `backward` and `centred` are variants;
  * k of scoring is a constant of the data set (6 and 19, SAMM-LV 37 and 217: half the mean length,
    the macro-expressions of unknown onset included), in training it is drawn for each sample
    anew; in validation it is drawn once;
  * the loss is printed with a minus inside the bracket, which would reward confident false
    positives; corrected.  CAS(ME)^2 is unweighted;
  * channels 16, 32, 64, kernels 3x3x3, dropout 0.2, batch statistics 0.99, the residual dense
    layers before the streams are joined: 12,701 parameters;
  * the first filter begins as the difference of the pair's images (`first_init`);
  * Adam, batches of 32, validation on 20 % of the fold's subjects, patience of 3 epochs, the best
    parameters of validation;
  * Butterworth filter of order 2, cut-off 1 / k, without phase;
  * the threshold of the ROC is Youden's on the fold's validation videos
    (`evaluation.threshold_choice=validation`); the paper does not say on which, and `oracle` takes
    the held-out ones.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spotjax.config import Cnn3d
from spotjax.decoding import score_runs
from spotjax.systems import cnn3d_images as images_lib
from spotjax.systems import cnn3d_net as net
from spotjax.systems import losses
from spotjax.systems.decoding import Decoding, labelled
from spotjax.types import Samples, System, Video


def build(config: Cnn3d, k: dict[str, int]) -> System:
    """The 3D-CNN as a `System` with one problem, `both`; k is a constant of its config."""
    del k
    types = ("micro", "macro") if config.streams == "both" else (config.streams,)
    skips = [getattr(config, f"skips_{type}") for type in types]
    steps = [getattr(config, f"k_{type}") for type in types]
    farthest = max(high for _, high in skips)
    back = {"forward": 0, "backward": farthest, "centred": farthest // 2}[config.reference]
    shape = net.Shape(
        size=config.size,
        channels=config.channels,
        lcn=config.lcn,
        streams=len(types),
        first_conv=config.first_conv,
        first_init=config.first_init,
        dropout=config.dropout,
        momentum=config.momentum,
        formulation=config.formulation,
    )

    def targets(video: Video, valid: np.ndarray, problem: str) -> Samples:
        """Blocks of `stride` rows; `row` is the first one that a block may read."""
        start = np.arange(0, video.num_frames, config.stride)
        rows = start[:, None] + np.arange(config.stride)
        inside = np.minimum(rows, video.num_frames - 1)
        there = (rows < video.num_frames) & valid[inside]
        kept = there.any(axis=1)
        first = np.maximum(start - back, 0)
        labels = score_runs.frame_labels(video)[inside]
        table = {
            "row": (video.first_row + first).astype(np.int32),
            "at": (start - first).astype(np.int32),
            "ahead": (video.num_frames - 1 - first).astype(np.int32),
            "there": there.astype(np.uint8),
            "label": labels.astype(np.uint8),
        }
        return {name: array[kept] for name, array in table.items()}

    def inputs(arrays: dict[str, jax.Array], samples: Any, key: jax.Array, problem: str) -> Any:
        if samples["row"].ndim == 2:  # scoring: the rows of each sample as they are
            return {"images": _images(arrays, samples["row"])}
        which, skip, change = jax.random.split(key, 3)
        count = len(samples["row"])
        drawn = jax.random.uniform(which, (count, config.stride))
        at = jnp.argmax(jnp.where(samples["there"] > 0, drawn, -1), axis=1)
        label = jnp.take_along_axis(samples["label"], at[:, None, None], axis=1)[:, 0]
        low, high = jnp.asarray(skips).T[:, None]
        drawn_skips = jax.random.randint(skip, (count, len(types)), low, high + 1)
        centre = samples["at"] + at
        offsets = _pairs(centre, drawn_skips, config.reference)
        inside = jnp.clip(offsets, 0, samples["ahead"][:, None])
        images = _images(arrays, samples["row"][:, None] + inside)
        if config.augment and "judged" not in samples:
            images = images_lib.augment(images, change)
        return {"images": images, "label": label.astype(jnp.float32)}

    def apply(variables: Any, given: Any, weight: jax.Array, train: bool, key: jax.Array) -> Any:
        logits, variables = net.apply(variables, given["images"], weight, train, key, shape)
        return (logits, given.get("label")), variables

    importance = (config.importance_micro, config.importance_macro)

    def loss(outputs: tuple[jax.Array, jax.Array], samples: Any, weight: jax.Array) -> Any:
        logits, label = outputs
        return losses.weighted_binary(logits, label, weight, importance, config.positive), {}

    def judge(outputs: tuple[jax.Array, jax.Array], samples: Any) -> jax.Array:
        """f32[B, 1]: the negative loss of each sample."""
        logits, label = outputs

        def one(logits: jax.Array, label: jax.Array) -> jax.Array:
            return -losses.weighted_binary(
                logits[None], label[None], jnp.ones(1), importance, config.positive
            )

        return jax.vmap(one)(logits, label)[:, None]

    def scored(video: Video, valid: np.ndarray, problem: str) -> Samples:
        row = np.arange(video.num_frames)
        apart = np.tile(np.asarray(steps), (len(row), 1))
        inside = np.clip(_pairs(row, apart, config.reference), 0, video.num_frames - 1)
        return {"row": (video.first_row + inside).astype(np.int32)}

    keys = {name: getattr(config, name) for name in DECODING}
    decoding = Decoding(score_runs.spot, score_runs.Options, keys)

    def tune(
        curves: Sequence[dict[str, np.ndarray]],
        valid: Sequence[dict[str, np.ndarray]],
        videos: Sequence[Video],
    ) -> dict[str, float]:
        given = labelled(curves, valid, videos, score_runs.frame_labels)
        chosen, _ = score_runs.choose_thresholds(given, decoding.chosen({}), config.threshold_rule)
        return chosen

    about = {**keys, "reference": config.reference, "threshold_rule": config.threshold_rule}
    return System(
        name="cnn3d",
        problems=("both",),
        targets=targets,
        select=lambda samples, rng, problem: samples,
        init=lambda key: net.init(key, shape),
        inputs=inputs,
        apply=apply,
        loss=loss,
        scores=lambda outputs: jax.nn.sigmoid(outputs[0]),
        decode=decoding.decode,
        streams=lambda problem: ("crops",),
        about=about,
        valid=lambda problem: "valid_both",
        reach=back + config.stride + farthest,
        scored=scored,
        judge=judge,
        merits=1,
        tune=tune,
        sweeps={f"threshold_{type}": LEVELS for type in ("micro", "macro")},
    )


DECODING = (
    "k_micro", "k_macro", "order", "cutoff", "threshold_micro", "threshold_macro", "min_rows"
)  # fmt: skip
"""Keys of the config that decide how scores become intervals."""


LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def _pairs(centre: Any, skips: Any, reference: str) -> Any:
    """`[N, 2 n]`: the frames of n pairs around `centre` `[N]`, `skips` `[N, n]` frames apart."""
    xp = jnp if isinstance(centre, jax.Array) else np
    centre = centre[:, None]
    near = centre + 0 * skips
    pair = {
        "forward": (near, centre + skips),
        "backward": (near, centre - skips),
        "centred": (centre - skips // 2, centre - skips // 2 + skips),
    }[reference]
    return xp.stack(pair, axis=-1).reshape(len(centre), -1)


def _images(arrays: dict[str, jax.Array], rows: jax.Array) -> jax.Array:
    """f32[B, n, S, S] in [0, 1] of the crops u8 of `rows` i32[B, n]."""
    crops = arrays["crops"]
    return crops[jnp.minimum(rows, len(crops) - 1)].astype(jnp.float32) / 255
