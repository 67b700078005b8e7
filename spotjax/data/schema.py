"""What a shard record and the manifest contain: the only contract between the two rooms.

`data_prep` writes by it, `spotjax.data.shards` reads by it.  A shard is one video; a record is a
chunk of at most 256 consecutive frames, so a record stays small whatever the video's length.
Records are tf.Example messages in the layout of tensorflow-datasets' `FeaturesDict`, so that
`tfds.builder_from_directory(folder).as_dataset()` reads them where TensorFlow is installed.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from spotjax import config as config_lib
from spotjax.config import Config
from spotjax.errors import UserError

SCHEMA_VERSION = 2
RECORD_FRAMES = 256
MANIFEST = "manifest.json"
SPLIT = "train"


class Stream(NamedTuple):
    """One array of a video: `dtype[T, *shape]`."""

    shape: tuple[int, ...]
    dtype: str


def features_dict(
    streams: dict[str, Stream], events: dict[str, Stream] | None = None
) -> tfds.features.FeaturesDict:
    """The tfds features of a record with these streams.

    `streams` have a row per frame of the chunk, `events` one per interval of the video in the
    first record and none in the others.

    Fixed fields: `dataset`, `subject`, `video` (text); `fps`; `start` (first frame of the chunk),
    `num_frames` (of the whole video); `frame_ids` i32[n], the data set's own frame numbers;
    `face` u8[n], 1 where a face was found; `crop` i32[4], the face box in px (left, top, right,
    bottom; right and bottom exclusive); `intervals` i32[m, 5] of the whole video: onset, apex
    (-1 unknown), offset (0-based inclusive), type (index into the manifest's `types`), emotion
    (index into `emotions`, -1 none).
    """
    tensor, text = tfds.features.Tensor, tfds.features.Text
    fixed: dict[str, Any] = {
        "dataset": text(),
        "subject": text(),
        "video": text(),
        "fps": np.float32,
        "start": np.int64,
        "num_frames": np.int64,
        "frame_ids": tensor(shape=(None,), dtype=np.int32, encoding="bytes"),
        "face": tensor(shape=(None,), dtype=np.uint8, encoding="bytes"),
        "crop": tensor(shape=(4,), dtype=np.int32, encoding="bytes"),
        "intervals": tensor(shape=(None, 5), dtype=np.int32, encoding="bytes"),
    }
    for name, stream in (streams | (events or {})).items():
        fixed[name] = tensor(
            shape=(None, *stream.shape), dtype=np.dtype(stream.dtype).type, encoding="bytes"
        )
    return tfds.features.FeaturesDict(fixed)


def shard_name(dataset: str, index: int, count: int) -> str:
    """tfds file name of shard `index` of `count`."""
    return f"{dataset}-{SPLIT}.tfrecord-{index:05d}-of-{count:05d}"


def data_root(config: Config) -> Path:
    """The data set's folder: `data.root`, or where `data.synthetic` is rendered.

    Raises UserError if the config names neither.
    """
    if config.data.root:
        return Path(config.data.root)
    if config.data.synthetic is None:
        raise UserError("--config.data.root is not given: set it to the data set's folder")
    return Path(config.data.synthetic.root)


BASELINE_FEATURES = {
    "strain_sum": ("softnet", ("k_macro", "k_micro", "roi", "flow")),
    "mdmd": ("mdmd", ("k_macro", "k_micro", "flow", "directions")),
    "lbp_chi2": ("lbp_chi2", ("k_macro", "k_micro")),
}
"""Features that each baseline reads, and the config keys that decide them."""


def kinds(config: Config) -> tuple[str, ...]:
    """What is extracted: "" is the system's features, the others are baselines'."""
    return ("", *(name for name in config.baselines.names if has_own_shards(config, name)))


def has_own_shards(config: Config, baseline: str) -> bool:
    """Whether a baseline's features are not the system's."""
    return BASELINE_FEATURES[baseline][0] != config.features.name


def feature_settings(config: Config, kind: str = "") -> dict[str, Any]:
    """The settings that the features of `kind` are made with, as plain values.

    A baseline looks at the face that `config.features.face` finds.  `flow.backend` is left out
    where it is opencv: shards that are older than the choice go on being used.
    """
    values = config_lib.to_dict(config)
    found = values["features"]
    if kind:
        name, keys = BASELINE_FEATURES[kind]
        chosen = {key: values["baselines"][kind][key] for key in keys}
        found = {"name": name, "face": found["face"], **chosen}
    if found.get("flow", {}).get("backend") == "opencv":
        del found["flow"]["backend"]
    return found


def shards_folder(config: Config, kind: str = "") -> Path:
    """`config.data.shards`, or a name that follows from what is extracted from where.

    Raises UserError if the config names neither this folder nor a data set.
    """
    suffix = f"-{kind}" if kind else ""
    if config.data.shards:
        return Path(config.data.shards + suffix)
    root = os.path.abspath(data_root(config))
    digest = config_lib.digest([root, _extracted(config, kind)])[:8]
    return Path("shards") / f"{os.path.basename(root)}{suffix}-{digest}"


def extraction_digest(config: Config, k: dict[str, int], kind: str = "") -> str:
    """Hash of everything that decides the values of the streams: features, k, frames taken.

    Labels follow the annotation and its rules; they are rewritten without computing anything anew.
    """
    return config_lib.digest(_extracted(config, kind) | {"k": k})


def read_settings(config: Config) -> dict[str, Any]:
    """The part of `config.data` that decides which frames and labels a video has."""
    values = config_lib.to_dict(config)["data"]
    keys = ("layout", "sample_every", "sample_rule", "fps", "first_frame", "annotation")
    return {key: values[key] for key in keys}


def _extracted(config: Config, kind: str) -> dict[str, Any]:
    frames = {key: v for key, v in read_settings(config).items() if key != "annotation"}
    return {"features": feature_settings(config, kind), "data": frames}


def sampled_k(k: int, every: int | float) -> int:
    """k, given in the data set's own frames, in frames of which one in `every` is taken.

    >>> sampled_k(174, 1), sampled_k(174, 7), sampled_k(2, 7), sampled_k(174, 6.7)
    (174, 25, 1, 26)
    """
    return max(1, int(k / every + 0.5))
