import pytest

from spotjax.data.tfrecord import read_records, write_records
from spotjax.errors import UserError

PAYLOADS = [b"first", b"", b"x" * 1000]


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "a.tfrecord"
    assert write_records(path, PAYLOADS) == 3
    return path


def test_round_trip_leaves_no_temporary_file(shard):
    assert list(read_records(shard)) == PAYLOADS
    assert [p.name for p in shard.parent.iterdir()] == ["a.tfrecord"]


def test_framing_is_tensorflows(shard):
    # the masked CRC32C of an eight byte length 5, as TensorFlow writes it
    assert shard.read_bytes()[:8] == (5).to_bytes(8, "little")
    tensorflow = pytest.importorskip("tensorflow")
    read = tensorflow.data.TFRecordDataset(str(shard)).as_numpy_iterator()
    assert list(read) == PAYLOADS


@pytest.mark.parametrize("position", [0, 9, 13, 18, 40, 60, -1])
def test_any_flipped_byte_is_found(shard, position):
    data = bytearray(shard.read_bytes())
    data[position] ^= 0x10
    shard.write_bytes(data)
    with pytest.raises(UserError, match="a.tfrecord: (wrong checksum|cut short)"):
        list(read_records(shard))


@pytest.mark.parametrize("size", [5, 14, 20, 40, 500])
def test_a_cut_file_is_found(shard, size):
    shard.write_bytes(shard.read_bytes()[:size])
    with pytest.raises(UserError, match="cut short"):
        list(read_records(shard))


def test_a_failing_writer_leaves_nothing(tmp_path):
    def broken():
        yield b"a"
        raise OSError(28, "No space left on device", "x")

    with pytest.raises(OSError, match="No space"):
        write_records(tmp_path / "b", broken())
    assert not list(tmp_path.iterdir())
