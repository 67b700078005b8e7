"""A small data set that needs no rendering."""

import jax
import jax.numpy as jnp
import numpy as np

from spotjax.config import Softnet
from spotjax.systems import build
from spotjax.types import Dataset, Interval, System, Video

K = {"macro": 12, "micro": 4}


def _regions(rng, length, spans):
    """f16[T, 17, 10, 2]: regions move away from a clip's first frame while an expression lasts."""
    shift = np.zeros(length + 17)
    for span in spans:
        frames = np.arange(span.onset, span.offset + 1)
        rise = np.minimum(frames - span.onset, span.offset - frames)
        shift[frames + 8] = rise / max(1, rise.max())
    clips = np.stack([shift[s : s + length] - shift[:length] for s in range(17)], axis=1)
    flow = clips[:, :, None, None] * rng.normal(0, 1, (10, 2)) + rng.normal(
        0, 0.05, (length, 17, 10, 2)
    )
    return flow.astype(np.float16)


def toy_dataset(subjects: int = 4, videos: int = 1, frames: int = 120, seed: int = 0) -> Dataset:
    """Features with a bright patch where a pair meets an expression; ragged over subjects."""
    rng = np.random.default_rng(seed)
    listed, streams, row = [], {}, 0
    for subject in range(subjects):
        for video in range(videos):
            length = frames + 10 * subject
            spans = [Interval(20, 28, 40, "macro"), Interval(70, 73, 76, "micro")]
            if subject != 1:
                spans.append(Interval(84, 90, 100, "macro"))
            listed.append(
                Video(
                    f"s{subject}",
                    f"v{video}",
                    30.0,
                    row,
                    length,
                    np.arange(1, length + 1, dtype=np.int32),
                    tuple(spans),
                )
            )
            for type, k in K.items():
                flow = rng.normal(0, 0.1, (length, 42, 42, 3))
                for span in spans:
                    if span.type == type:
                        flow[max(span.onset - k + 1, 0) : span.offset + 1, 10:20, 10:20] += 1
                valid = np.arange(length) < length - k
                flow[~valid] = 0
                parts = {"flow": flow.astype(np.float16), "valid": valid.astype(np.uint8)}
                parts["strain"] = flow.sum(axis=(1, 2, 3)).astype(np.float32)
                for name, array in parts.items():
                    streams.setdefault(f"{name}_{type}", []).append(array)
            streams.setdefault("face", []).append(np.ones(length, np.uint8))
            streams.setdefault("swmro", []).append(_regions(rng, length, spans))
            streams.setdefault("valid_both", []).append(np.ones(length, np.uint8))
            row += length
    joined = {name: np.concatenate(parts) for name, parts in streams.items()}
    manifest = {"quirks": [], "skipped": [], "k_source": "toy", "hash": "toy", "versions": {}}
    return Dataset("toy", tuple(listed), joined, K, manifest)


def small_softnet(**config) -> System:
    """SOFTNet with 601 parameters behind means of 6x6 px: for tests of what trains a system.

    Its samples, augmentation, loss and decoding are SOFTNet's; it compiles in a third of the time
    and its steps cost next to nothing.
    """

    def init(key):
        kernels = jax.random.split(key)
        return {
            "params": {
                "kernel1": 0.3 * jax.random.normal(kernels[0], (147, 4)),
                "bias1": jnp.zeros(4),
                "kernel2": jax.random.normal(kernels[1], (4,)),
                "bias2": jnp.zeros(()),
            }
        }

    def apply(variables, images, weight, train, key):
        learnt = variables["params"]
        pooled = images.reshape(len(images), 7, 6, 7, 6, 3).mean((2, 4)).reshape(-1, 147)
        hidden = jnp.tanh(pooled @ learnt["kernel1"] + learnt["bias1"][None])
        return hidden @ learnt["kernel2"] + learnt["bias2"], variables

    return build(Softnet(**config), K)._replace(init=init, apply=apply)


EMOTIONS = ("disgust", "happy", "surprise", "others")


def toy_rgbd(subjects: int = 4, seed: int = 0) -> Dataset:
    """As `toy_dataset`, with SFAMNet's streams: a patch whose place tells the emotion."""
    plain = toy_dataset(subjects, seed=seed)
    rng = np.random.default_rng(seed + 1)
    rows = sum(video.num_frames for video in plain.videos)
    flow = rng.normal(0, 0.1, (rows, 42, 42, 3))
    events, valid_events, videos = [], [], []
    for number, video in enumerate(plain.videos):
        spans = [
            Interval(70, 76, 82, "micro", EMOTIONS[number % 4]),
            Interval(20, 28, 40, "macro"),
            Interval(100, 106, 110, "micro", EMOTIONS[(number + 1) % 4]),
        ]
        if number == 1:
            spans[2] = spans[2]._replace(apex=-1)  # unknown
        videos.append(video._replace(intervals=tuple(spans), first_event=len(events)))
        for span in spans:
            image = rng.normal(0, 0.1, (42, 42, 3))
            if span.type == "micro":
                place = 2 + 10 * EMOTIONS.index(span.emotion)
                patch = (slice(place, place + 8), slice(16, 26))
                flow[video.first_row + span.onset : video.first_row + span.apex + 1, *patch] += 1
                image[patch] += 1
            events.append(image)
            valid_events.append(span.apex > span.onset)
    valid = np.concatenate([np.arange(v.num_frames) < v.num_frames - 3 for v in videos])
    streams = dict(plain.streams)
    for name in ("optical", "scene"):
        streams[name] = (flow * valid[:, None, None, None]).astype(np.float16)
        streams[f"valid_{name}"] = valid.astype(np.uint8)
        streams[f"event_{name}"] = np.stack(events).astype(np.float16)
        streams[f"valid_event_{name}"] = np.array(valid_events, np.uint8)
    streams["valid_scene"] = streams["valid_scene"].copy()
    streams["valid_scene"][:5] = 0  # no depth in the first frames
    return plain._replace(videos=tuple(videos), streams=streams)


def toy_clips(subjects: int = 4, videos: int = 2, size: int = 32, seed: int = 0) -> Dataset:
    """MESNet's streams: a patch moves down while a micro-expression lasts, another for a macro.

    Each video has a micro-expression, the first of each subject a macro-expression at its end;
    there are clips of all kinds.  `s1/v1` is shorter than a clip.
    """
    rng = np.random.default_rng(seed)
    listed, flows, row = [], [], 0
    for subject in range(subjects):
        for video in range(videos):
            length = 70 if (subject, video) == (1, 1) else 150 + 8 * subject + 5 * video
            onset = 24 + 6 * subject + 3 * video
            spans = [Interval(onset, onset + 5, onset + 10 + 2 * video, "micro")]
            if video == 0:
                spans.append(Interval(length - 15, length - 11, length - 3, "macro"))
            flow = rng.normal(0, 0.05, (length, size, size, 2))
            for span in spans:
                place = 4 if span.type == "micro" else 20
                flow[span.onset : span.offset + 1, place : place + 8, 8:24, 1] += 0.3
            flows.append(flow.astype(np.float16))
            frame_ids = np.arange(1, length + 1, dtype=np.int32)
            listed.append(
                Video(f"s{subject}", f"v{video}", 30.0, row, length, frame_ids, tuple(spans))
            )
            row += length
    flow = np.concatenate(flows)
    streams = {
        "flow": flow,
        "energy": np.square(flow, dtype=np.float32).mean(axis=(1, 2, 3)),
        "valid_both": np.ones(row, np.uint8),
        "face": np.ones(row, np.uint8),
    }
    manifest = {"quirks": [], "skipped": [], "k_source": "toy", "hash": "toy", "versions": {}}
    return Dataset("toy", tuple(listed), streams, {"macro": 1, "micro": 1}, manifest)


def toy_crops(
    subjects: int = 4, videos: int = 1, size: int = 32, fps: float = 30.0, seed: int = 0
) -> Dataset:
    """The 3D-CNN's stream: a texture whose patch gets brighter while an expression lasts.

    Faces are missing in rows 3 to 7 of each video.
    """
    rng = np.random.default_rng(seed)
    listed, crops, row = [], [], 0
    for subject in range(subjects):
        for video in range(videos):
            length = 40 + 3 * subject + video
            spans = [
                Interval(10 + subject, 12 + subject, 14 + subject, "micro"),
                Interval(24 + video, 28 + video, 34 + video, "macro"),
            ]
            images = 90 + 30 * rng.random((size, size)) + rng.normal(0, 2, (length, size, size))
            for span in spans:
                place = 4 if span.type == "micro" else 20
                images[span.onset : span.offset + 1, place : place + 8, 8:24] += 100
            images[3:8] = 0
            crops.append(images.astype(np.uint8))
            frame_ids = np.arange(1, length + 1, dtype=np.int32)
            listed.append(
                Video(f"s{subject}", f"v{video}", fps, row, length, frame_ids, tuple(spans))
            )
            row += length
    valid = np.concatenate([images.any(axis=(1, 2)) for images in crops]).astype(np.uint8)
    streams = {"crops": np.concatenate(crops), "valid_both": valid, "face": valid}
    manifest = {"quirks": [], "skipped": [], "k_source": "toy", "hash": "toy", "versions": {}}
    return Dataset("toy", tuple(listed), streams, {"macro": 1, "micro": 1}, manifest)


def without_micro(video: Video) -> Video:
    """The video without its micro-expressions."""
    return video._replace(intervals=tuple(i for i in video.intervals if i.type != "micro"))
