"""Rows read from their place in the shards are those that were written."""

import os
import time

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import toy_dataset
from toy_shards import write_shards

from spotjax.data import records, schema, shards
from spotjax.data.schema import Stream
from spotjax.errors import UserError

NAMES = ["flow_micro", "strain_micro", "valid_micro"]


@pytest.fixture(scope="module")
def data():
    return toy_dataset(subjects=2, frames=110)


@pytest.fixture
def folder(tmp_path, data):
    write_shards(tmp_path, data, NAMES)
    return tmp_path


def test_streams_are_those_of_the_data_set(folder, data):
    found = shards.load(folder).streams
    for name in NAMES:
        assert found[name].dtype == data.streams[name].dtype
        np.testing.assert_array_equal(found[name], data.streams[name])
    assert found.row_bytes("flow_micro") == 42 * 42 * 3 * 2 and found.row_bytes("valid_micro") == 1


def test_rows_across_records_and_shards(folder, data):
    found = shards.load(folder).streams
    for rows in ([], [0], [109, 110], [3, 4, 5, 48, 49, 50, 51, 109, 110, 111, 229], range(230)):
        rows = np.array(rows, np.int64)
        taken = found.take(NAMES, rows)
        for name in NAMES:
            np.testing.assert_array_equal(taken[name], data.streams[name][rows])


def test_spans_of_a_record():
    features = schema.features_dict({"x": Stream((2,), "int16")})
    values = {
        "dataset": "d", "subject": "s", "video": "v", "fps": np.float32(30), "start": 300,
        "num_frames": 70_000, "frame_ids": np.arange(3, dtype=np.int32),
        "face": np.ones(3, np.uint8), "crop": np.zeros(4, np.int32),
        "intervals": np.zeros((0, 5), np.int32), "x": np.array([[1, 2], [-3, 4]], np.int16),
    }  # fmt: skip
    payload = features.serialize_example(values)
    spans = records.spans(payload)
    assert records.integer(payload, spans["start"]) == 300
    assert records.integer(payload, spans["num_frames"]) == 70_000
    x = records.array(payload, spans["x"], Stream((2,), "int16"))
    assert x.tolist() == [[1, 2], [-3, 4]]
    assert spans["intervals"][0] == spans["intervals"][1]  # no bytes


@given(st.binary(max_size=40))
def test_what_is_no_record_is_refused(payload):
    try:
        found = records.spans(payload)
    except ValueError:
        return
    assert all(0 <= begin <= end <= len(payload) for begin, end in found.values())


def test_a_record_of_another_program_names_the_shard(folder):
    from spotjax.data.tfrecord import write_records

    shard = next(folder.glob("*.tfrecord-*"))
    write_records(shard, [b"not an example"])
    with pytest.raises(UserError, match=f"{shard.name}: not a record of this program"):
        shards.load(folder)


def test_what_is_read_needs_no_copy_on_a_cpu(folder):
    taken = shards.load(folder).streams.take(["flow_micro"], np.array([3, 7]))["flow_micro"]
    assert taken.ctypes.data % 64 == 0 and taken.flags.c_contiguous
    placed = jax.device_put(taken, jax.devices()[0])
    assert placed.unsafe_buffer_pointer() == taken.ctypes.data


def removed(path):
    path.unlink()


def cut(path):
    os.truncate(path, 9000)


def replaced(path):
    data = path.read_bytes()
    time.sleep(0.01)
    path.unlink()
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [(removed, "has gone since the run began"), (cut, "has changed"), (replaced, "has changed")],
)
def test_a_shard_that_is_no_longer_what_it_was(folder, change, message):
    streams = shards.load(folder).streams
    shard = sorted(folder.glob("*.tfrecord-*"))[1]
    change(shard)
    streams.take(["flow_micro"], np.arange(100))  # of the other video
    with pytest.raises(UserError, match=rf"{shard.name}: .*{message}.*last checkpoint"):
        streams.take(["flow_micro"], np.arange(100, 120))
    assert len(streams["valid_micro"]) == 230  # one number a row is kept


def test_a_shard_cut_while_it_is_read(folder):
    shard = next(folder.glob("*.tfrecord-*"))
    block = records.Block(shard, records.stamp_of(shard), shard.stat().st_size - 4, 0, 2)
    with pytest.raises(UserError, match="was cut short"):
        records._read_block(block, np.arange(2), np.zeros((2, 4), np.uint8))
