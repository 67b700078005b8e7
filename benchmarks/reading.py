"""Rows a second from shards: ours against tf.data reading the same files.

    python -m benchmarks.reading [--videos 8] [--frames 2600] [--batch 264] [--rounds 5]

A batch of 264 rows is what 22 folds of SOFTNet read in a step.  The files are in the page cache.

  in order, ours      all rows of a stream, read by their place in the shards, in batches
  in order, tf.data   TFRecordDataset, parse, decode, unbatch, batch (checks every record's sum)
  shuffled, ours      batches of rows from anywhere, 20 of them read at a time as in a training
                      whose features are streamed
  shuffled, tf.data   the same pipeline with `shuffle`, whose buffer holds all rows: a fair shuffle
  first look, ours    every byte of every shard checked once, as each run begins
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import made_shards
from benchmarks.common import measure, parser, positive, show
from spotjax.config import Config
from spotjax.data import schema, shards

STREAM, PIECE = "flow_macro", 20


def ours(folder: Path, batch: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """Rows in order, and rows from anywhere."""
    streams: Any = shards.load(folder).streams
    count, rng = len(streams["valid_macro"]), np.random.default_rng(0)

    def in_order() -> None:
        for start in range(0, count, batch):
            streams.take([STREAM], np.arange(start, min(start + batch, count)))

    def shuffled() -> None:
        order = rng.permutation(count)
        for start in range(0, count, batch * PIECE):
            wanted = order[start : start + batch * PIECE]
            rows = np.sort(wanted)
            array = streams.take([STREAM], rows)[STREAM]
            places = np.searchsorted(rows, wanted)
            for first in range(0, len(places), batch):
                array[places[first : first + batch]]

    return in_order, shuffled


def tensorflow(
    folder: Path, batch: int, count: int
) -> tuple[Callable[[], None], Callable[[], None]]:
    """The same with tf.data.  Raises ImportError."""
    import tensorflow as tf  # type: ignore[import-not-found]

    files = sorted(str(path) for path in folder.glob("*.tfrecord-*"))

    def rows(payload: Any) -> Any:
        parsed = tf.io.parse_single_example(payload, {STREAM: tf.io.FixedLenFeature([], tf.string)})
        return tf.reshape(tf.io.decode_raw(parsed[STREAM], tf.float16), (-1, 42, 42, 3))

    def data(shuffle: bool) -> Any:
        found = tf.data.TFRecordDataset(files).map(rows, num_parallel_calls=tf.data.AUTOTUNE)
        found = found.unbatch()
        if shuffle:
            found = found.shuffle(count, seed=0)
        return found.batch(batch).prefetch(tf.data.AUTOTUNE)

    def run(shuffle: bool) -> Callable[[], None]:
        def read() -> None:
            assert sum(len(part) for part in data(shuffle).as_numpy_iterator()) == count

        return read

    return run(False), run(True)


def main() -> None:
    """Command line."""
    arguments = parser(__doc__ or "", rounds=5)
    arguments.add_argument("--videos", type=positive, default=8)
    arguments.add_argument("--frames", type=positive, default=2600, help="of a video")
    arguments.add_argument("--batch", type=positive, default=264)
    options = arguments.parse_args()
    count = options.videos * options.frames
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        made_shards.make(folder, Config(name="reading"), options.videos, options.videos, count)
        in_order, shuffled = ours(folder, options.batch)
        variants = {"in order, ours": in_order, "shuffled, ours": shuffled}
        try:
            theirs = tensorflow(folder, options.batch, count)
            variants |= {"in order, tf.data": theirs[0], "shuffled, tf.data": theirs[1]}
        except ImportError:
            print("tensorflow is not installed: no tf.data rows")
        variants["first look, ours"] = lambda: shards.load(folder)
        times = measure(variants, options.rounds, work=count)
        size = sum(path.stat().st_size for path in folder.glob("*.tfrecord-*"))
    row = int(np.prod(made_shards.STREAMS[STREAM].shape)) * 2
    speed = {name: f"{row / min(wall) / 1e9:.2f}" for name, wall in times.wall.items()}
    show(
        "reading",
        times,
        "us a row",
        "shuffled, ours",
        options.json,
        columns={"GB/s": speed},
        notes=[f"{count} rows of {row} bytes, shards of {size / 1e6:.0f} MB with both streams, "
               f"records of {schema.RECORD_FRAMES} rows"],
    )  # fmt: skip


if __name__ == "__main__":
    main()
