"""Files of the form that `torch.save` writes, made without PyTorch; hostile ones included."""

import zipfile

import numpy as np

KINDS = {np.dtype("<f4"): "FloatStorage", np.dtype("<i8"): "LongStorage"}


def word(text):
    data = text.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def number(value):
    return b"J" + int(value).to_bytes(4, "little", signed=True)


def tup(*parts):
    return b"(" + b"".join(parts) + b"t"


def tensor(storage, count, size, stride, offset=0, kind="FloatStorage"):
    """The instructions that rebuild one tensor; `stride` and `offset` in numbers."""
    described = tup(word("storage"), b"ctorch\n" + kind.encode() + b"\n", word(str(storage)),
                    word("cpu"), number(count)) + b"Q"  # fmt: skip
    shape, step = tup(*map(number, size)), tup(*map(number, stride))
    hooks = b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + tup(
        described, number(offset), shape, step, b"\x89", hooks
    ) + b"R"  # fmt: skip


def program(entries):
    """The pickle of an ordered dict of `entries`, (name, instructions), with torch's metadata."""
    pairs = b"".join(word(name) + instructions for name, instructions in entries)
    metadata = b"}" + word("_metadata") + b"}s"
    return b"\x80\x02ccollections\nOrderedDict\n)Rq\x00(" + pairs + b"u" + metadata + b"b."


def write(path, pickled, storages=()):
    """A zip with a pickle and its storages, arrays in order."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("fold/data.pkl", pickled)
        for place, values in enumerate(storages):
            archive.writestr(f"fold/data/{place}", np.ascontiguousarray(values).tobytes())
        archive.writestr("fold/version", "3\n")
    return path


def save(path, state):
    """What `torch.save` makes of a state dict of arrays."""
    entries = []
    for place, (name, value) in enumerate(state.items()):
        value = np.asarray(value)
        stride = [step // value.itemsize for step in np.ascontiguousarray(value).strides]
        shape = (value.size, value.shape, stride if value.ndim else ())
        entries.append((name, tensor(place, *shape, kind=KINDS[value.dtype])))
    return write(path, program(entries), list(state.values()))
