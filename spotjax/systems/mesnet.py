"""MESNet: clip proposals for micro-expressions of different lengths (no code was ever released).

A clip of 100 flows becomes 470 windows of 7 to 15 flows.  The clip proposal network (CPN) says of
each whether it is a micro-expression; the classification-regression network (CRN) looks at the
likely ones again and moves their ends.  Only micro-expressions are spotted; macro-expressions are
negatives.  Before that the backbone learns to tell short clips of micro-expressions from others
(`pretraining`, the stage before).  Networks: `mesnet_net`; training clips: `decoding.clip_labels`;
from window scores to intervals: `spotjax.decoding.clip_proposals`.

What the paper leaves open, or says in two ways, and what is done here:
  * flow: Farneback between sampled frames, two channels, divided by its root mean square over the
    fold's training videos and clipped to +-8.  Raw flow (0.07 px) lets the L2 term shrink the
    weights before anything is learnt;
  * "padding 2" is 1 on either side; first layers of the CPN have 128 channels; the CRN sees a
    window at 7 times; windows that stick out of the clip are cut;
  * rho, the share of negatives that enter the CPN's loss, is a constant of the fold: positive
    windows over all others of its training clips.  Per batch it would be 0 / 0;
  * the CRN is trained on windows of CPN probability 0.5 or more at that step (no suppression),
    labelled by the same IoU > 0.7; smooth L1 of both ends, for the positive ones;
  * L2 of kernels alone, each once, but for the last dense layers; half of 0.01 times their squares;
  * the printed decoding needs the true length, which is known in training only: it is solved for
    (`spotjax.decoding.clip_proposals`);
  * a fold trains on 70 % of the other subjects' videos, drawn so that they hold at least 64 % of
    its micro-expressions and the rest at least 15 %.  The paper counts the held-out subject's
    among the total (37 and 9 of 57): `least_train` and `least_validation` give such numbers;
  * Adam instead of gradient descent, and far fewer updates (the `paper` preset has the printed
    schedule); several initialisations side by side instead of a new one when validation is bad;
  * a video shorter than a clip is filled up with zero flow.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spotjax.config import Mesnet
from spotjax.decoding import clip_labels, clip_proposals, clip_windows
from spotjax.systems import losses
from spotjax.systems import mesnet_net as net
from spotjax.systems.decoding import Decoding, labelled
from spotjax.systems.layers import noise
from spotjax.types import Samples, System, Video

PROPOSED = 0.5
"""CPN probability of a window that the CRN is trained on."""
SPANS = clip_windows.windows()
WHOLE_END = clip_windows.whole_windows()[:, 1]


def build(config: Mesnet, k: dict[str, int]) -> System:
    """MESNet as a `System` with one problem, `both`; it has no use for `k`."""
    del k
    shape = net.Shape(config.size, config.share, config.formulation)

    def targets(video: Video, valid: np.ndarray, problem: str) -> Samples:
        return clip_labels.clips(video, valid)

    def select(samples: Samples, rng: np.random.Generator, problem: str) -> Samples:
        counts = (config.clips_micro, config.clips_macro, config.clips_none)
        return clip_labels.draw(samples, rng, *counts)

    def scored(video: Video, valid: np.ndarray, problem: str) -> Samples:
        start = clip_windows.starts(video.num_frames)
        length = np.minimum(video.num_frames - start, clip_windows.CLIP)
        row = video.first_row + start
        return {"row": row.astype(np.int32), "length": length.astype(np.int32)}

    def inputs(arrays: dict[str, jax.Array], samples: Any, key: jax.Array, problem: str) -> Any:
        rows = samples["row"][:, None] + jnp.arange(clip_windows.CLIP)[None]
        flow = arrays["flow"][jnp.minimum(rows, len(arrays["flow"]) - 1)]
        given = {"flow": flow, "length": samples["length"]}
        if "rho" in samples:
            given["chance"] = noise(key, (len(rows), len(SPANS))) / np.float32(2**32)
        return given

    def apply(variables: Any, given: Any, weight: jax.Array, train: bool, key: jax.Array) -> Any:
        del weight  # no batch norm
        outputs = net.apply(variables, given, train, key, shape)
        return (outputs, given.get("chance")), variables

    def loss(outputs: tuple[net.Outputs, jax.Array], samples: Any, weight: jax.Array) -> Any:
        found, chance = outputs
        positive, offsets = window_targets(samples["truth"])
        usable = (samples["length"][:, None] + 2 > WHOLE_END[None]) * weight[:, None]
        kept = usable * (positive | (chance < samples["rho"][:, None]))
        proposed = jax.nn.softmax(found.proposal)[..., 0] >= PROPOSED
        proposed = usable * jax.lax.stop_gradient(proposed)
        ends = losses.smooth_l1(found.offsets - offsets).sum(axis=-1)
        terms = {
            "cpn": losses.weighted_mean(cross_entropy(found.proposal, positive), kept),
            "crn": losses.weighted_mean(
                cross_entropy(found.logits, positive) + positive * ends, proposed
            ),
            "l2": config.l2 / 2 * found.penalty,
        }
        return sum(terms.values()), terms

    def scores(outputs: tuple[net.Outputs, Any]) -> jax.Array:
        """f32[B, 470, 4]: probabilities of CPN and CRN, r1', r2'."""
        found, _ = outputs
        likely = [jax.nn.softmax(logits)[..., :1] for logits in (found.proposal, found.logits)]
        return jnp.concatenate([*likely, found.offsets], axis=-1)

    keys = {name: getattr(config, name) for name in DECODING}
    decoding = Decoding(clip_proposals.spot, clip_proposals.Options, keys)

    def tune(
        curves: Sequence[dict[str, np.ndarray]],
        valid: Sequence[dict[str, np.ndarray]],
        videos: Sequence[Video],
    ) -> dict[str, float]:
        given = labelled(curves, valid, videos, lambda video: clip_labels.spans(video, "micro"))
        best = clip_proposals.choose_thresholds(given, decoding.chosen({}))
        return {"t_cpn": best.t_cpn, "t_crn": best.t_crn}

    return System(
        name="mesnet",
        problems=("both",),
        targets=targets,
        select=select,
        init=lambda key: net.init(key, shape),
        inputs=inputs,
        apply=apply,
        loss=loss,
        scores=scores,
        decode=decoding.decode,
        streams=lambda problem: ("flow",),
        types=("micro",),
        about={**keys, "paper_rule": "mesnet"},
        variants=({"module": "crn"}, {"module": "cpn"}),
        valid=lambda problem: "valid_both",
        reach=clip_windows.CLIP,
        transfer=_transfer,
        scored=scored,
        look=clip_windows.CLIP,
        constants=_constants,
        accepts=_shares(config),
        tune=tune,
        before=pretraining(config),
        sweeps=SWEEPS,
    )


DECODING = ("t_cpn", "t_crn", "t_nms", "nms", "module", "decode")
"""Keys of the config that decide how scores become intervals."""
SWEEPS = {
    "t_cpn": (0.48, 0.5, 0.52, *(round(0.56 + 0.04 * i, 2) for i in range(7))),
    "t_crn": tuple(round(0.4 + 0.04 * i, 2) for i in range(11)),
    "t_nms": (0.05, 0.15, 0.25, 0.35, 0.45, 0.5, 0.55, 0.65, 0.75, 0.85, 0.95, None),
    "evaluation.iou": (0.05, 0.15, 0.25, 0.35, 0.45, 0.5, 0.55, 0.65, 0.75, 0.85, 0.95),
}
"""Tables VII to IX of the paper."""


def pretraining(config: Mesnet) -> System:
    """The stage before: backbone and a dense head tell clips of 16 steps apart (section III-B)."""
    shape = net.Shape(config.size, config.share, config.formulation)

    def targets(video: Video, valid: np.ndarray, problem: str) -> Samples:
        return clip_labels.pretraining_clips(video, valid, net.PRETRAIN_STEPS, config.none_rows)

    def select(samples: Samples, rng: np.random.Generator, problem: str) -> Samples:
        return clip_labels.draw_pretraining(samples, rng, config.macro_ratio, config.none_ratio)

    def inputs(arrays: dict[str, jax.Array], samples: Any, key: jax.Array, problem: str) -> Any:
        return {"flow": arrays["flow"][samples["row"]], "length": samples["length"]}

    def apply(variables: Any, given: Any, weight: jax.Array, train: bool, key: jax.Array) -> Any:
        del weight
        return net.apply_pretraining(variables, given, train, key, shape), variables

    def loss(outputs: tuple[jax.Array, jax.Array], samples: Any, weight: jax.Array) -> Any:
        logits, penalty = outputs
        terms = {
            "classes": losses.weighted_mean(cross_entropy(logits, samples["label"] == 0), weight),
            "l2": config.l2 / 2 * penalty,
        }
        return sum(terms.values()), terms

    def judge(outputs: tuple[jax.Array, jax.Array], samples: Any) -> jax.Array:
        """f32[B, 2]: whether right, and the negative cross-entropy, which breaks ties."""
        logits, _ = outputs
        right = jnp.argmax(logits, axis=1) == samples["label"]
        return jnp.stack([right * 1.0, -cross_entropy(logits, samples["label"] == 0)], axis=1)

    return System(
        name="mesnet",
        problems=("pretrain",),
        targets=targets,
        select=select,
        init=lambda key: net.init_pretraining(key, shape),
        inputs=inputs,
        apply=apply,
        loss=loss,
        scores=lambda outputs: jax.nn.softmax(outputs[0])[:, 0],
        decode=lambda curves, valid, **_: ([], {}),  # clips, not videos: nothing is spotted
        streams=lambda problem: ("flow",),
        types=("micro",),
        valid=lambda problem: "valid_both",
        constants=_constants,
        accepts=_shares(config),
        judge=judge,
        merits=2,
    )


def cross_entropy(logits: jax.Array, micro: jax.Array) -> jax.Array:
    """f32[...] of `logits` [..., 2] of (micro-expression, other) and `micro` bool[...]."""
    log_p = jax.nn.log_softmax(logits)
    return -jnp.where(micro, log_p[..., 0], log_p[..., 1])


def window_targets(truth: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Labels bool[B, 470] and offsets f32[B, 470, 2] of the windows of clips (equations 8 to 10).

    `truth` f32[B, M, 2] are the micro-expressions in rows of the clip.  A window takes the one that
    it overlaps best and is positive where the IoU is above 0.7; its offsets are (a - a') / (b - a)
    and (b - b') / (b - a), 0 for others.
    """
    window = jnp.asarray(SPANS, jnp.float32)[None, :, None]
    truth = truth[:, None]
    shared = jnp.minimum(window[..., 1], truth[..., 1]) - jnp.maximum(window[..., 0], truth[..., 0])
    shared = jnp.maximum(shared + 1, 0)
    length, true = (ends[..., 1] - ends[..., 0] + 1 for ends in (window, truth))
    iou = shared / (length + true - shared)
    best = jnp.argmax(iou, axis=-1)
    positive = jnp.max(iou, axis=-1) > clip_windows.POSITIVE_IOU
    matched = jnp.take_along_axis(truth[:, 0], best[..., None], axis=1)
    lasting = jnp.maximum(matched[..., 1:] - matched[..., :1], 1)
    return positive, jnp.where(positive[..., None], (matched - window[:, :, 0]) / lasting, 0)


def _constants(streams: Any, rows: np.ndarray) -> Any:
    """The root mean square of the flow over the rows that a fold trains on, in px."""
    energy = streams["energy"][rows].astype(np.float64)
    return {"scale": np.float32(max(math.sqrt(energy.mean()), 1e-6))}


def _transfer(variables: Any, earlier: Any) -> Any:
    """`variables` with the backbone of `earlier`; nothing is frozen."""
    learnt = {part: earlier["params"][part] for part in ("spatial", "temporal")}
    return variables | {"params": variables["params"] | learnt}


def _shares(config: Mesnet) -> Any:
    """The test of a split of a fold's videos into training and validation."""

    def accepts(training: Sequence[Video], validation: Sequence[Video]) -> str:
        there = [sum(len(clip_labels.spans(video, "micro")) for video in part)
                 for part in (training, validation)]  # fmt: skip
        total = sum(there)
        asked = [
            config.least_train or math.ceil(config.share_train * total - 1e-9),
            config.least_validation or math.ceil(config.share_validation * total - 1e-9),
        ]
        if all(has >= least for has, least in zip(there, asked, strict=True)):
            return ""
        return (
            f"of its {total} micro-expressions at least {asked[0]} must be in training and "
            f"{asked[1]} in validation (system.share_train, system.share_validation, "
            f"system.least_train, system.least_validation); the last try had {there[0]} and "
            f"{there[1]}"
        )

    return accepts
