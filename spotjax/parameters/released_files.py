"""Readers of the files that authors released: Keras' HDF5, PyTorch's zip (NumPy only).

Neither Keras nor PyTorch is needed, and nothing of a file is ever run.  A file of PyTorch is a
pickle beside its numbers.  Python's unpickler would call whatever the pickle names; ours
(`_followed`) knows the instructions of a state dict alone and builds dicts, tuples, words, whole
numbers and tensors, nothing else.
"""

import math
import pickletools
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spotjax.errors import UserError

HDF5, ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
"""First bytes of a file."""
LARGEST = 1 << 26  # bytes; SOFTNet's files have 1.3 MB, SFAMNet's 60 kB
DICT, TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"
STORAGES = {"torch FloatStorage": np.dtype("<f4"), "torch LongStorage": np.dtype("<i8")}
"""Names that a state dict's pickle may hold."""


# --- Keras ----------------------------------------------------------------------------------------


def read_keras(path: Path) -> dict[str, np.ndarray]:
    """All weights of a Keras HDF5 file by their place in it, `conv2d/conv2d/kernel:0`.

    They are f[...], of any shape and float type.  The optimiser's state in a whole saved model is
    left out.  Raises UserError without h5py, for a damaged file, and for a tensor that is too large
    or whose numbers lie outside the file.
    """
    try:
        import h5py
    except ImportError:
        raise UserError(
            f"{path}: reading Keras files needs h5py: pip install 'spotjax[convert]'"
        ) from None
    found: dict[str, np.ndarray] = {}

    def visit(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset) or name.startswith("optimizer_weights/"):
            return
        if item.external or item.is_virtual:
            raise UserError(f"{path}: tensor {name}: its numbers lie outside the file: refused")
        if item.dtype.kind != "f":
            raise UserError(f"{path}: tensor {name} is of {item.dtype}: weights are of float32")
        if not item.size or item.size * item.dtype.itemsize > LARGEST:
            raise UserError(f"{path}: tensor {name} has shape {item.shape}: empty or too large")
        found[name] = item[()]

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)  # follows no link out of the file
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise UserError(f"{path}: damaged, or no HDF5 file ({error}): get it anew") from None
    return found


# --- PyTorch --------------------------------------------------------------------------------------


class _Storage(NamedTuple):
    values: np.ndarray


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """The state dict of a file that `torch.save` wrote (torch 1.6 or later): `dtype[...]` by name.

    Raises UserError for a damaged file, and for one that holds anything but a state dict.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > LARGEST:
                raise ValueError(f"unpacked it has more than {LARGEST >> 20} MB")
            pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise ValueError("a file of torch.save has one data.pkl")
            root = pickles[0].removesuffix("data.pkl")

            def storage(key: Any) -> _Storage:
                kind, dtype, number, _device, count = key
                if kind != "storage" or not isinstance(dtype, np.dtype):
                    raise ValueError("a storage is not described as torch does")
                values = np.frombuffer(archive.read(f"{root}data/{number}"), dtype)
                if len(values) != count:
                    raise ValueError(f"storage {number} has {len(values)} of {count} values")
                return _Storage(values)

            state = _followed(archive.read(pickles[0]), storage)
    except (
        ValueError, TypeError, KeyError, IndexError, EOFError, RuntimeError,  # RuntimeError: a
        zipfile.BadZipFile, zlib.error,  # password, or a compression that is not known
    ) as error:  # fmt: skip
        raise UserError(f"{path}: damaged, or no state dict ({error}): get it anew") from None
    if not isinstance(state, dict) or not all(isinstance(v, np.ndarray) for v in state.values()):
        raise UserError(f"{path}: holds something else than a state dict of tensors")
    return state


def _followed(program: bytes, storage: Callable[[Any], _Storage]) -> Any:
    """What the pickle of a state dict builds.  Raises ValueError for any other instruction.

    Objects are what `json` would give, `_Storage` and arrays; nothing is imported or called.
    """
    mark = object()
    stack: list[Any] = []
    memo: dict[Any, Any] = {}

    def since_mark() -> list[Any]:
        found: list[Any] = []
        while (top := stack.pop()) is not mark:
            found.append(top)
        return found[::-1]

    def assign(pairs: list[Any]) -> None:
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(stack[-1], dict) or not isinstance(key, str):
                raise ValueError("a state dict has tensors by name")
            stack[-1][key] = value

    for instruction, value, _ in pickletools.genops(program):
        match instruction.name:
            case "PROTO":
                pass
            case "MARK":
                stack.append(mark)
            case "EMPTY_DICT":
                stack.append({})
            case "BINUNICODE" | "BININT" | "BININT1" | "BININT2":
                stack.append(value)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[instruction.name])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(instruction.name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "SETITEM":
                pair = [stack.pop(), stack.pop()][::-1]
                assign(pair)
            case "SETITEMS":
                assign(since_mark())
            case "BINPUT" | "LONG_BINPUT":
                memo[value] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[value])
            case "GLOBAL" if value in STORAGES:
                stack.append(STORAGES[value])
            case "GLOBAL" if value in (DICT, TENSOR):
                stack.append(value)
            case "GLOBAL":
                raise ValueError(f"{value} is not a part of a state dict")
            case "BINPERSID":
                stack.append(storage(stack.pop()))
            case "REDUCE":
                arguments, name = stack.pop(), stack.pop()
                stack.append(_tensor(*arguments) if name == TENSOR else _empty(name, arguments))
            case "BUILD":  # attributes of the ordered dict: `_metadata`, which no weight needs
                stack.pop()
            case "STOP":
                return stack.pop()
            case other:
                raise ValueError(f"the instruction {other} is not a part of a state dict")
    raise ValueError("its pickle has no end")


def _empty(name: Any, arguments: Any) -> dict[str, Any]:
    if name != DICT or arguments != ():
        raise ValueError(f"{name} is not a part of a state dict")
    return {}


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: object) -> np.ndarray:
    """A tensor from its numbers, what torch calls `_rebuild_tensor_v2`.

    Raises ValueError if it would reach outside them.
    """
    counts = (offset, *size, *stride)
    if not isinstance(storage, _Storage) or not all(type(n) is int and n >= 0 for n in counts):
        raise ValueError("a tensor is not made of a storage and whole numbers")
    values = storage.values
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) > len(values) or (0 not in size and last >= len(values)):
        raise ValueError(f"a tensor of {size} reaches outside its {len(values)} values")
    strides = [values.itemsize * step for step in stride]
    view = np.lib.stride_tricks.as_strided(values[offset:], size, strides, writeable=False)
    return view.copy()
