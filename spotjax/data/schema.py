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

SCHEMA_VERSION = 1
RECORD_FRAMES = 256
MANIFEST = "manifest.json"
SPLIT = "train"


class Stream(NamedTuple):
    """One array of a video: `dtype[T, *shape]`."""

    shape: tuple[int, ...]
    dtype: str


def features_dict(streams: dict[str, Stream]) -> tfds.features.FeaturesDict:
    """The tfds features of a record with these streams.

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
    for name, stream in streams.items():
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


def shards_folder(config: Config) -> Path:
    """`config.data.shards`, or a name that follows from what is extracted from where."""
    if config.data.shards:
        return Path(config.data.shards)
    root = os.path.abspath(data_root(config))
    features = config_lib.to_dict(config)["features"]
    digest = config_lib.digest([root, config.data.layout, features])[:8]
    return Path("shards") / f"{os.path.basename(root)}-{digest}"


def extraction_digest(config: Config, k: dict[str, int]) -> str:
    """Hash of everything that decides the values of the streams: features, k and layout."""
    features = config_lib.to_dict(config)["features"]
    return config_lib.digest({"features": features, "k": k, "layout": config.data.layout})
