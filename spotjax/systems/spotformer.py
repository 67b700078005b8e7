"""SpotFormer: multi-scale spatio-temporal transformer for facial expression spotting.

A clip of 17 frames around a frame becomes the flow of ten facial regions from the clip's first
frame (SW-MRO, made by `data_prep.swmro`).  The network (`spotformer_net`) says for the middle frame
whether it is an onset, an offset or an apex of a micro- or a macro-expression; frames with a likely
apex become intervals (`spotjax.decoding.proposals`).  One network serves both types.

Deviations from the paper, as in the authors' release unless said otherwise:
  * onset, offset and none by cross-entropy (the paper: focal, `three_class=focal`), sigmoid terms
    by a focal loss with soft targets and smoothing 0.16; weights 1.8 / 1 / 0.1 and `macro_weight`;
  * the contrastive loss takes features as they are (`normalise` for unit vectors) and averages
    over anchors; its weight is 0.005;
  * training on blocks of 16 consecutive frames that hold an expression (`only_expressions`), 32
    blocks a batch; labels spread by 1 (micro) and 3 (macro) frames inside a block (`borders`);
  * frames outside the video and frames without a face weigh nothing (not in the release, which
    learns them as neutral);
  * one initialisation shared by all folds (the release draws a new one per fold);
  * a validity test of onset and offset, at most five intervals per video and type (`keep`);
  * `evaluation.epoch_choice`: the last epoch by default; the paper's numbers take for each subject
    the epoch that is best on this subject's own test videos (`oracle`).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spotjax.config import Spotformer
from spotjax.decoding import boundary_labels, decode, proposals
from spotjax.systems import losses
from spotjax.systems import spotformer_net as net
from spotjax.types import Detection, Samples, System, Video

BLOCK = 16
MICRO, MACRO, APEX, EXPRESSION = slice(0, 3), slice(3, 6), (6, 7), (8, 9)
"""Columns of the logits: micro and macro onset/offset/none; apex and expression of both."""
APEX_WEIGHT, EDGE_WEIGHT, EXPRESSION_WEIGHT = {"micro": 1.8, "macro": 1.0}, 1.0, 0.1
APEX_ALPHA, EXPRESSION_ALPHA, SMOOTHING = 0.9, 0.8, 0.16


def build(config: Spotformer, k: dict[str, int]) -> System:
    """SpotFormer as a `System` with one problem, `both`; it has no use for `k`."""
    del k
    shape = net.Shape(
        window=config.window,
        width=config.width,
        heads=config.heads,
        head_width=config.head_width,
        mlp_width=config.mlp_width,
        dropout=config.dropout,
        variant=config.variant,
        pooling=config.pooling,
        paddings=config.paddings,
        remat=config.remat,
        dtype=config.dtype,
    )
    net.frames(shape)  # refuses a window that the paddings do not bring down to one frame

    def targets(video: Video, valid: np.ndarray, problem: str) -> Samples:
        table = boundary_labels.blocks(
            video.num_frames, video.intervals, BLOCK, config.only_expressions, config.borders
        )
        rows = table["start"][:, None] + np.arange(BLOCK)
        there = np.arange(BLOCK) < table["length"][:, None]
        there &= valid[np.minimum(rows, video.num_frames - 1)]
        kept = there.any(axis=1)
        labels = {name: table[name][kept] for name in table if name not in ("start", "length")}
        start = (video.first_row + table["start"][kept]).astype(np.int32)
        return {"row": start, "there": there[kept].astype(np.float32), **labels}

    def init(key: jax.Array) -> Any:
        return net.init(key, shape)

    def inputs(arrays: dict[str, jax.Array], samples: Any, key: jax.Array, problem: str) -> Any:
        """Clips of whole blocks in training, of single rows in scoring, and which are there."""
        swmro = arrays["swmro"]
        rows, there = samples["row"], jnp.ones(samples["row"].shape)
        if "there" in samples:
            rows = jnp.minimum(rows[:, None] + jnp.arange(BLOCK)[None], len(swmro) - 1)
            there = samples["there"]
        clips = swmro[rows.reshape(-1)].astype(jnp.float32)
        return {"clips": clips, "there": there}

    def apply(variables: Any, given: Any, weight: jax.Array, train: bool, key: jax.Array) -> Any:
        clip_weight = _per_clip(given["there"], weight)
        return net.apply(variables, given["clips"], clip_weight, train, key, shape)

    def loss(outputs: net.Outputs, samples: Any, weight: jax.Array) -> Any:
        clip_weight = _per_clip(samples["there"], weight)
        terms = {}
        for number, (type, edges) in enumerate((("micro", MICRO), ("macro", MACRO))):
            whole = {"micro": 1.0, "macro": config.macro_weight}[type]
            terms[f"{type}_apex"] = whole * APEX_WEIGHT[type] * losses.sigmoid_focal(
                outputs.logits[:, APEX[number]], samples[f"{type}_apex"].reshape(-1), clip_weight,
                APEX_ALPHA, smoothing=SMOOTHING,
            )  # fmt: skip
            terms[f"{type}_edge"] = whole * EDGE_WEIGHT * losses.three_class(
                outputs.logits[:, edges], samples[f"{type}_edge"].reshape(-1).astype(jnp.int32),
                clip_weight, config.three_class,
            )  # fmt: skip
            terms[f"{type}_expression"] = whole * EXPRESSION_WEIGHT * losses.sigmoid_focal(
                outputs.logits[:, EXPRESSION[number]],
                samples[f"{type}_expression"].reshape(-1),
                clip_weight, EXPRESSION_ALPHA, smoothing=SMOOTHING,
            )  # fmt: skip
        terms["contrastive"] = config.contrastive * losses.supervised_contrastive(
            outputs.feature, samples["class"].reshape(-1), clip_weight, normalise=config.normalise
        )
        return sum(terms.values()), terms

    def scores(outputs: net.Outputs) -> jax.Array:
        """f32[B, 6]: the columns of `proposals.spot`."""
        micro = jax.nn.softmax(outputs.logits[:, MICRO])[:, :2]
        macro = jax.nn.softmax(outputs.logits[:, MACRO])[:, :2]
        apex = jax.nn.sigmoid(outputs.logits[:, APEX[0] : APEX[1] + 1])
        return jnp.concatenate([micro, macro, apex], axis=1)

    def decode_video(
        curves: dict[str, np.ndarray], valid: dict[str, np.ndarray], **overrides: Any
    ) -> tuple[list[Detection], dict[str, decode.Curve]]:
        chosen = about | overrides
        options = proposals.Options(
            threshold=chosen["apex_threshold"],
            iou=chosen["nms_iou"],
            keep=chosen["keep"],
            micro=proposals.Range(*chosen["range_micro"]),
            macro=proposals.Range(*chosen["range_macro"]),
        )
        return proposals.spot(curves["both"], valid["both"], options)

    about: dict[str, Any] = {
        "apex_threshold": config.apex_threshold,
        "nms_iou": config.nms_iou,
        "keep": config.keep,
        "range_micro": list(config.range_micro),
        "range_macro": list(config.range_macro),
    }
    return System(
        name="spotformer",
        problems=("both",),
        targets=targets,
        select=lambda samples, rng, problem: samples,
        init=init,
        inputs=inputs,
        apply=apply,
        loss=loss,
        scores=scores,
        decode=decode_video,
        streams=lambda problem: ("swmro",),
        reach=BLOCK,
        about=about,
        sweeps={"apex_threshold": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8), "nms_iou": (0.3, 0.5, 0.7)},
        variants=tuple({"keep": keep} for keep in dict.fromkeys((config.keep, 0))),
    )


def _per_clip(there: jax.Array, weight: jax.Array) -> jax.Array:
    """f32[B * 16] or f32[B]: weight of every clip of `there` f32[B, 16] or f32[B]."""
    if there.ndim == 2:
        weight = weight[:, None]
    return (there * weight).reshape(-1)
