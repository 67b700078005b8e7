"""Tensors of a file that `torch.save` wrote, without PyTorch and without running code from it."""

import pickle
import zipfile
from collections import OrderedDict

import numpy as np

STORAGES = {"FloatStorage": np.float32, "LongStorage": np.int64}


def _tensor(storage, offset, size, stride, *_):
    strides = [storage.itemsize * step for step in stride]
    view = np.lib.stride_tricks.as_strided(storage[offset:], size, strides, writeable=False)
    return view.copy()


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive, root):
        super().__init__(archive.open(f"{root}/data.pkl"))
        self.archive, self.root = archive, root

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in STORAGES:
            return np.dtype(STORAGES[name])
        raise pickle.UnpicklingError(f"{module}.{name} is not a part of a state dict")

    def persistent_load(self, key):
        kind, dtype, number, _device, count = key
        assert kind == "storage"
        values = np.frombuffer(self.archive.read(f"{self.root}/data/{number}"), dtype)
        assert len(values) == count
        return values


def read(path):
    """The state dict of a file: tensor names to arrays."""
    with zipfile.ZipFile(path) as archive:
        (pickled,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        return dict(_Unpickler(archive, pickled.rsplit("/", 1)[0]).load())
