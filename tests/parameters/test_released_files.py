"""Reading what others have pickled: only a state dict is obeyed."""

import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch_file
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import shared_file
from torch_file import number, program, tensor, tup, word

from spotjax.errors import UserError
from spotjax.parameters.released_files import LARGEST, read_keras, read_torch

STATE = {
    "a.weight": np.arange(12, dtype="<f4").reshape(3, 4) - 5,
    "a.bias": np.array([0.5, -0.0, np.nan], "<f4"),
    "norm.count": np.array(7, "<i8"),
    "empty": np.zeros((0, 3), "<f4"),
}

# --- PyTorch --------------------------------------------------------------------------------------


def test_a_state_dict_comes_back(tmp_path):
    found = read_torch(torch_file.save(tmp_path / "a.pkl", STATE))
    assert list(found) == list(STATE)
    for name, value in STATE.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype


def test_a_tensor_is_read_by_its_strides(tmp_path):
    entries = [("t", tensor(0, 6, (3, 2), (1, 3))), ("s", tensor(0, 6, (2,), (2,), offset=1))]
    path = torch_file.write(tmp_path / "a.pkl", program(entries), [np.arange(6, dtype="<f4")])
    found = read_torch(path)
    np.testing.assert_array_equal(found["t"], [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(found["s"], [1, 3])


@pytest.mark.parametrize("subject", ["1", "3", "150"])
def test_the_released_files_are_read(subject):
    found = read_torch(shared_file(f"weights/sfamnet/4emo_subject_{subject}.pkl"))
    assert len(found) == 77 and found["fc_spot.weight"].shape == (1, 392)
    assert found["c1.0.bn1.num_batches_tracked"] == 0


class Harmful:
    """What runs when Python unpickles it."""

    def __reduce__(self):
        return sys.exit, ("it ran",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_something_is_refused(tmp_path, protocol):
    body = pickle.dumps({"a": Harmful()}, protocol)
    path = torch_file.write(tmp_path / "bad.pkl", body)
    with pytest.raises(UserError, match=r"bad\.pkl: .* is not a part of a state dict"):
        read_torch(path)


STEPS = np.arange(6, dtype="<f4")
OUTSIDE = [
    ((7,), (1,), 0),
    ((6,), (1,), 1),
    ((2,), (6,), 0),
    ((3, 3), (0, 1), 0),  # more values than there are
    ((2,), (-1,), 1),
    ((-2,), (1,), 0),
    ((2,), (1,), -1),
    ((2, 2), (1,), 0),
]


@pytest.mark.parametrize(("size", "stride", "offset"), OUTSIDE)
def test_a_tensor_outside_its_numbers_is_refused(tmp_path, size, stride, offset):
    entry = [("a", tensor(0, 6, size, stride, offset))]
    path = torch_file.write(tmp_path / "a.pkl", program(entry), [STEPS])
    with pytest.raises(UserError, match="a.pkl: damaged, or no state dict"):
        read_torch(path)


BODIES = {
    "no end": program([])[:-1],
    "an attribute of a class": b"\x80\x02ccollections\nOrderedDict\nN}(X\x01\x00\x00\x00au\x86b.",
    "numbers for names": b"\x80\x02}" + number(1) + number(2) + b"s.",
    "a word": b"\x80\x02" + word("hello") + b".",
    "a number": b"\x80\x02}" + word("a") + number(1) + b"s.",
    "too little on the stack": b"\x80\x02R.",
    "a memory that is not there": b"\x80\x02h\x07.",
    "a call of a word": b"\x80\x02" + word("os.system") + tup(word("true")) + b"R.",
    "a call of a tensor": program([("a", tensor(0, 6, (6,), (1,)) + b")R")]),
    "another storage": program([("a", tensor(0, 6, (6,), (1,), kind="HalfStorage"))]),
    "a storage that is not there": program([("a", tensor(4, 6, (6,), (1,)))]),
    "a storage of another length": program([("a", tensor(0, 5, (5,), (1,)))]),
    "a path as a storage": program([("a", tensor("../../x", 6, (6,), (1,)))]),
    "a storage without a dtype": b"\x80\x02" + tup(word("storage"), *[word("0")] * 4) + b"Q.",
    "not a tuple": b"\x80\x02" + number(3) + b"Q.",
}


@pytest.mark.parametrize("what", BODIES)
def test_what_is_no_state_dict_is_refused(tmp_path, what):
    path = torch_file.write(tmp_path / "a.pkl", BODIES[what], [STEPS])
    with pytest.raises(UserError, match=r"a\.pkl: .*state dict"):
        read_torch(path)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_pickle_never_ends_in_anything_but_one_line(tmp_path_factory, data):
    body = bytearray(program([("a", tensor(0, 6, (2, 3), (3, 1))), ("b", tensor(0, 6, (), ()))]))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    body = body[: data.draw(st.integers(0, len(body)))]
    path = torch_file.write(tmp_path_factory.getbasetemp() / "a.pkl", bytes(body), [STEPS])
    try:
        found = read_torch(path)
    except UserError as error:
        assert str(error).startswith(f"{path}: ")
    else:
        assert all(value.dtype in (np.float32, np.int64) for value in found.values())


def test_a_file_that_unpacks_to_too_much_is_not_read(tmp_path):
    path = tmp_path / "bomb.pkl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("fold/data.pkl", program([]))
        archive.writestr("fold/data/0", bytes(LARGEST + 1))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(UserError, match="more than 64 MB"):
        read_torch(path)


@pytest.mark.parametrize("cut", [0, 10, 200, -30])
def test_a_cut_or_foreign_zip_is_refused(tmp_path, cut):
    path = torch_file.save(tmp_path / "a.pkl", STATE)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match=r"a\.pkl: damaged, or no state dict"):
        read_torch(path)


def test_a_zip_without_a_pickle_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", a=STEPS)
    with pytest.raises(UserError, match=r"one data\.pkl"):
        read_torch(tmp_path / "a.npz")


# --- Keras ----------------------------------------------------------------------------------------


@pytest.fixture
def h5py():
    return pytest.importorskip("h5py")


@pytest.fixture
def keras(tmp_path, h5py):
    """A new HDF5 file, open; its path is `keras.filename`."""
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        yield file


def read(file):
    file.flush()
    return read_keras(Path(file.filename))


def test_weights_are_read_and_the_optimisers_state_is_not(keras):
    keras["conv2d/conv2d/kernel:0"] = np.arange(6, dtype="<f4").reshape(2, 3)
    keras["optimizer_weights/SGD/momentum:0"] = np.zeros(3)
    keras["conv2d"].attrs["weight_names"] = [b"conv2d/kernel:0"]
    found = read(keras)
    assert list(found) == ["conv2d/conv2d/kernel:0"]
    np.testing.assert_array_equal(found["conv2d/conv2d/kernel:0"], [[0, 1, 2], [3, 4, 5]])


def test_numbers_outside_the_file_are_refused(keras, h5py, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(12))
    keras.create_dataset(
        "d/kernel:0", (3,), "<f4", external=[(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)]
    )
    with pytest.raises(UserError, match="tensor d/kernel:0: its numbers lie outside the file"):
        read(keras)


def test_links_out_of_the_file_are_not_followed(keras, h5py, tmp_path):
    with h5py.File(tmp_path / "other.hdf5", "w") as other:
        other["secret"] = np.zeros(3)
    keras["d"] = h5py.ExternalLink(str(tmp_path / "other.hdf5"), "/secret")
    assert read(keras) == {}


@pytest.mark.parametrize(
    ("shape", "kind", "words"),
    [
        ((1 << 20, 1 << 10), "<f4", "empty or too large"),
        ((0, 3), "<f4", "empty or too large"),
        ((3,), "<i4", "of int32"),
        ((3,), "text", "of object"),
    ],
)
def test_what_cannot_be_a_weight_is_refused(keras, h5py, shape, kind, words):
    kind = h5py.string_dtype() if kind == "text" else kind
    keras.create_dataset("d/kernel:0", shape, kind, chunks=True if 0 not in shape else None)
    with pytest.raises(UserError, match=f"tensor d/kernel:0 .*{words}"):
        read(keras)


@pytest.mark.parametrize("cut", [0, 8, 100, 2000])
def test_a_cut_or_foreign_hdf5_is_refused(tmp_path, h5py, cut):
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        file["d/kernel:0"] = np.zeros((100, 100), "<f4")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match=r"a\.hdf5: damaged, or no HDF5 file"):
        read_keras(path)


def test_without_h5py_one_line_tells_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match=r"needs h5py: pip install 'spotjax\[convert\]'"):
        read_keras(tmp_path / "a.hdf5")
