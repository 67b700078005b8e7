"""SFAMNet: a scene flow attention-based micro-expression network (Liong, Liong, Chan, See; 2024).

Pairs of frames 0.2 s apart become optical flow and the scene flow of colour and depth
(`data_prep.sfamnet`).  Three shallow streams with attention, joined (`sfamnet_net`), say for each
pair how well it agrees with the onset phase of a micro-expression, and which emotion it shows; two
smoothed curves of the first become macro- and micro-intervals (`decoding.two_curves`), whose
emotion is the one most of their onset phase shows.

Training samples are the pairs of all training videos and, for each micro-expression, the flow from
its onset to its apex, joined one to one with neutral pairs.

Deviations from the paper, as in the authors' release unless said otherwise:
  * every second frame is taken (`data.sample_every=2` in the configs; the release's frame skip), so
    rows, and the constants of the decoding, count half-rate frames;
  * positive rows are the second half of the onset phase (`pseudo_label=paper`: the first);
  * rows that are not positive are neutral, as in the paper; the released code writes the last real
    class there, which its weights were not trained with;
  * the weighted cross-entropy of a batch without any emotion is 0 (the release: NaN);
  * two convolutions and a shortcut in a stream (the paper draws one convolution);
  * 1,001 updates (`train.updates`; the paper: 200 epochs);
  * each training sample is multiplied by a factor of 0.90, 0.91, ... 1.10 (`scaling`);
  * one initialisation shared by all folds (the release draws a new one per fold);
  * seven emotions: trunk and spotting head of the four-class run are kept and the rest fine-tuned,
    as in the paper (the released script trains from scratch, the released weights were not).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spotjax.config import Sfamnet
from spotjax.counting import recognition
from spotjax.decoding import decode, phase_labels, two_curves
from spotjax.errors import UserError
from spotjax.systems import losses
from spotjax.systems import sfamnet_net as net
from spotjax.types import Detection, Interval, Samples, System, Video

CHANNELS = {
    "optical": (("optical", 0), ("optical", 1), ("optical", 2)),
    "scene": (("scene", 0), ("scene", 1), ("scene", 2)),
    "hybrid": (("optical", 0), ("optical", 1), ("scene", 2)),
}
"""Stream and channel of u, v and w for each kind of flow; optical flow has strain as its w."""
RECOGNITION = "recognition"
"""The part of the parameters that fine-tuning trains."""
NUM_CLASSES = {"four": 4, "seven": 7}


def build(config: Sfamnet, k: dict[str, int]) -> System:
    """SFAMNet as a `System` with one problem, `both`; it has no use for `k`."""
    del k
    classes = recognition.CLASSES[NUM_CLASSES[config.classes]]
    neutral = len(classes)
    shape = net.Shape(
        streams=config.streams,
        classes=neutral,
        joint=config.joint,
        cbam=config.cbam,
        formulation=config.formulation,
    )
    sources = tuple(
        source
        for letter, source in zip("uvw", CHANNELS[config.flow], strict=True)
        if letter in config.streams
    )
    streams = tuple(dict.fromkeys(name for name, _ in sources))
    scene = "scene" in streams

    def emotion_of(video: Video, interval: Interval) -> int:
        try:
            return recognition.class_of(interval.emotion, classes)
        except UserError as error:
            frame = video.frame_ids[interval.onset]
            raise UserError(f"{video.id}, micro-expression at frame {frame}: {error}") from None

    def targets(video: Video, valid: np.ndarray, problem: str) -> Samples:
        """Every valid row, then an event for every micro-expression with an onset phase."""
        micro = [
            (number, i.onset, i.apex, emotion_of(video, i))
            for number, i in enumerate(video.intervals)
            if i.type == "micro" and i.apex > i.onset
        ]
        score, emotion = phase_labels.labels(
            config.pseudo_label, config.soft, video.num_frames,
            [(onset, apex, felt) for _, onset, apex, felt in micro], neutral,
        )  # fmt: skip
        rows, count = np.flatnonzero(valid), len(micro)
        events = [video.first_event + number for number, *_ in micro]
        return {
            "row": np.concatenate([video.first_row + rows, events]).astype(np.int32),
            "event": np.repeat(np.array([0, 1], np.uint8), [len(rows), count]),
            "score": np.concatenate([score[rows], np.ones(count)]).astype(np.float32),
            "emotion": np.concatenate([emotion[rows], [m[3] for m in micro]]).astype(np.int32),
        }

    def select(samples: Samples, rng: np.random.Generator, problem: str) -> Samples:
        """Positive rows and events as `sampling` says, as many neutral rows, class weights."""
        event = samples["event"] > 0
        positive = ((samples["score"] > 0) | (samples["emotion"] < neutral)) & ~event
        negative = np.flatnonzero(~positive & ~event)
        windows = np.flatnonzero(positive) if config.sampling != "events" else np.zeros(0, int)
        events = np.flatnonzero(event) if config.sampling != "windows" else np.zeros(0, int)
        others = phase_labels.balance(len(windows), len(events), negative, rng)
        index = np.concatenate([windows, events, others])
        chosen = {name: array[index] for name, array in samples.items()}
        weights = phase_labels.class_weights(chosen["emotion"], neutral)
        return chosen | {"class_weight": weights[chosen["emotion"]]}

    def init(key: jax.Array) -> Any:
        return net.init(key, shape)

    def inputs(arrays: dict[str, jax.Array], samples: Any, key: jax.Array, problem: str) -> Any:
        """f32[B, 42, 42, S]: the chosen channels of rows and events, scaled in training."""
        row = samples["row"]
        event = samples["event"] > 0 if "event" in samples else jnp.zeros(row.shape, bool)
        found = {name: arrays[name][jnp.where(event, 0, row)] for name in streams}
        if "event" in samples and arrays[f"event_{streams[0]}"].shape[0]:
            is_event = event[:, None, None, None]
            for name in streams:
                events = arrays[f"event_{name}"][jnp.where(event, row, 0)]
                found[name] = jnp.where(is_event, events, found[name])
        images = jnp.stack([found[name][..., c] for name, c in sources], axis=-1)
        images = images.astype(jnp.float32)
        if config.scaling and "score" in samples:
            steps = jax.random.randint(key, (len(images), 1, 1, 1), -10, 11)
            images = images * (1 + steps / 100)
        return images

    def apply(
        variables: Any, images: jax.Array, weight: jax.Array, train: bool, key: jax.Array
    ) -> Any:
        del weight, train, key  # no batch norm, no dropout
        return net.apply(variables, images, shape), variables

    def loss(outputs: net.Outputs, samples: Any, weight: jax.Array) -> Any:
        spotting = losses.weighted_mean(jnp.square(outputs.score - samples["score"]), weight)
        emotions = losses.class_weighted(
            outputs.logits, samples["emotion"], samples["class_weight"], weight
        )
        terms = {
            "spotting": config.spot_weight * spotting,
            "recognition": (1 - config.spot_weight) * emotions,
        }
        return sum(terms.values()), terms

    def scores(outputs: net.Outputs) -> jax.Array:
        """f32[B, 1 + C + 1]: spotting score, probabilities of the emotions, neutral last."""
        return jnp.concatenate([outputs.score[:, None], jax.nn.softmax(outputs.logits)], axis=1)

    def decode_video(
        curves: dict[str, np.ndarray], valid: dict[str, np.ndarray], **overrides: Any
    ) -> tuple[list[Detection], dict[str, decode.Curve]]:
        chosen = about | overrides
        options = two_curves.Options(
            threshold=chosen["threshold"],
            micro_test=chosen["micro_test"],
            video_gate=chosen["video_gate"] or float("inf"),
            peak_shift=chosen["peak_shift"],
        )
        return two_curves.spot(curves["both"], valid["both"], options, classes)

    about: dict[str, Any] = {
        "flow_kind": config.flow,
        "classes": config.classes,
        "threshold": config.threshold,
        "micro_test": config.micro_test,
        "video_gate": config.video_gate,
        "peak_shift": config.peak_shift,
    }
    names = (*streams, *(f"event_{name}" for name in streams))
    return System(
        name="sfamnet",
        problems=("both",),
        targets=targets,
        select=select,
        init=init,
        inputs=inputs,
        apply=apply,
        loss=loss,
        scores=scores,
        decode=decode_video,
        streams=lambda problem: names,
        valid=lambda problem: "valid_scene" if scene else "valid_optical",
        about=about,
        sweeps={"threshold": (0.476, 0.526, 0.576, 0.626, 0.676), "video_gate": (0, 0.41, 0.5)},
        variants=tuple({"micro_test": test} for test in ("prominence", "mae_difference")),
        classes=(*classes, recognition.NEUTRAL),
        transfer=_transfer,
        frozen=_frozen if config.fine_tune else None,
    )


def _transfer(variables: Any, earlier: Any) -> Any:
    """`variables` with every parameter that `earlier` has in the same shape (section 4.3).

    From four classes to seven these are all but the last layer of the recognition head.  Raises
    UserError if the networks are not of one kind.
    """
    same: Any = jax.tree.structure(variables)
    if same != jax.tree.structure(earlier):
        raise UserError(
            "--config.train.start: its network has other streams or attention: choose the same "
            "--config.system.streams, joint and cbam"
        )
    return jax.tree.map(lambda new, old: old if new.shape == old.shape else new, variables, earlier)


def _frozen(params: Any) -> Any:
    """Everything but the recognition head, its convolution included (as in the weights)."""
    return {
        name: jax.tree.map(lambda _, still=name != RECOGNITION: still, part)
        for name, part in params.items()
    }
