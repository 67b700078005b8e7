"""How the rows that samples read come to the devices: all of them once, or piece by piece.

`Resident` keeps every row that training reads on every device: nothing is copied while it runs.
`Streamed` cuts an epoch into pieces of some steps.  Each device gets the rows that its own folds
read in a piece, taken from the shards by a thread while the devices work on the piece before, so
neither the host nor a device needs room for the features.  Samples see the same values in the same
order, so both train the same parameters, bit by bit.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from spotjax.data import plans, rows
from spotjax.loso import folds as folds_lib
from spotjax.types import Samples, System

SHARE = 1 / 16
"""Of a device's memory, for the rows of one piece; there are up to three of them at a time."""


def fits(
    system: System,
    problem: str,
    streams: Mapping[str, np.ndarray],
    folds: Sequence[plans.Fold],
    mesh: Mesh,
) -> bool:
    """Whether all rows that `folds` read fit the memory of each device, half of it at most.

    `streams` are `[R, ...]` by name.
    """
    used = rows.used(folds, system.reach, len(streams[system.valid(problem)]))
    need = sum(
        len(used.events if name.startswith("event_") else used.frames) * row_bytes(streams, name)
        for name in system.streams(problem)
    )
    return need < memory(mesh) / 2


def memory(mesh: Mesh) -> int:
    """Bytes of a device of this process; those of a CPU share the machine's and the rows in it."""
    mine = [d for d in mesh.devices.flat if d.process_index == jax.process_index()]
    return int((mine[0].memory_stats() or {}).get("bytes_limit", 0)) or host_memory()


def host_memory() -> int:
    """Bytes of the machine, or of the container if it is given less."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(physical, int(text)) if text.isdigit() else physical


def row_bytes(streams: Mapping[str, np.ndarray], name: str) -> int:
    """Bytes of one row of a stream; `streams` are `[R, ...]` by name."""
    if hasattr(streams, "row_bytes"):
        return int(streams.row_bytes(name))
    return int(streams[name].itemsize * np.prod(streams[name].shape[1:]))


class Piece(NamedTuple):
    """Some steps of an epoch and all that they read, on the devices."""

    first: int
    """Number of its first step."""
    samples: Any
    order: jax.Array
    """i32[F, S, B] into `samples`; -1 for padding."""
    arrays: Any


class Resident:
    """All rows on every device."""

    spec = folds_lib.COMMON

    def __init__(self, arrays: Mapping[str, jax.Array], mesh: Mesh) -> None:
        """`arrays` `[R, ...]` by name, as `training.place` gives them."""
        self._arrays, self._mesh = dict(arrays), mesh
        self.row_bytes = sum(array.nbytes for array in arrays.values())

    def hold(self, tables: Samples) -> Any:
        """Sample tables `[F, N, ...]`, kept for all epochs."""
        return folds_lib.put(tables, self._mesh, folds_lib.FOLD)

    def pieces(self, held: Any, order: np.ndarray) -> Iterator[Piece]:
        """One piece: all steps of `order` i32[F, S, B]."""
        yield Piece(0, held, folds_lib.put(order, self._mesh, folds_lib.FOLD), self._arrays)


class Streamed:
    """The rows of some steps at a time, each device's own."""

    spec = folds_lib.FOLD

    def __init__(
        self,
        system: System,
        problem: str,
        streams: Mapping[str, np.ndarray],
        mesh: Mesh,
        steps: int = 0,
    ) -> None:
        """Pieces of `steps` steps; 0: as many as let a piece fit `SHARE` of the memory.

        `streams` are `[R, ...]` by name.
        """
        self._system, self._streams, self._mesh = system, streams, mesh
        self._names = system.streams(problem)
        self._num_rows = len(streams[system.valid(problem)])
        room = memory(mesh)
        mine = [d for d in mesh.devices.flat if d.process_index == jax.process_index()]
        if mine[0].platform == "cpu":  # each has a piece of its own in the same memory
            room //= len(mine)
        self._memory, self._steps = int(room * SHARE), steps
        self.row_bytes = 0
        """Of a piece on one device; 0 before the first."""

    def hold(self, tables: Samples) -> Any:
        """Sample tables `[F, N, ...]`, kept on the host."""
        return {name: np.asarray(table) for name, table in tables.items()}

    def pieces(self, held: Any, order: np.ndarray) -> Iterator[Piece]:
        """Pieces of equal shape in turn, of all steps of `order` i32[F, S, B].

        The next one is read while this one is worked on.
        """
        steps, capacity = self._shape(held, order)
        starts = range(0, order.shape[1], steps)
        with ThreadPoolExecutor(1, "rows") as reader:
            waiting = reader.submit(self._piece, held, order, starts[0], steps, capacity)
            for number in range(len(starts)):
                piece = waiting.result()
                if number + 1 < len(starts):
                    waiting = reader.submit(
                        self._piece, held, order, starts[number + 1], steps, capacity
                    )
                yield piece

    def _shape(self, held: Any, order: np.ndarray) -> tuple[int, tuple[int, int]]:
        """Steps of a piece, and how many rows (frames, events) a device must have room for.

        Capacity is what the samples could read at most, so that one compiled program serves all.
        """
        folds = len(order) // self._mesh.size
        each = int(np.prod(held["row"].shape[2:])) * self._system.reach * order.shape[2] * folds
        frames = [name for name in self._names if not name.startswith("event_")]
        step_bytes = each * sum(row_bytes(self._streams, name) for name in frames)
        steps = self._steps or int(max(1, min(order.shape[1], self._memory // step_bytes)))
        events = 0
        if "event" in held:
            events = max(1, len(np.unique(held["row"][held["event"] > 0])))
        most = each * steps
        return steps, (min(most, self._num_rows), min(most, events))

    def _piece(
        self, held: Samples, order: np.ndarray, first: int, steps: int, capacity: tuple[int, int]
    ) -> Piece:
        mine = order[:, first : first + steps]
        idle = np.full((len(order), steps - mine.shape[1], order.shape[2]), -1, np.int32)
        index = np.concatenate([mine, idle], axis=1).reshape(len(order), -1)
        of_device = len(order) // self._mesh.size
        tables: list[Samples] = []
        parts: dict[str, list[jax.Array]] = {name: [] for name in self._names}
        for number, device in enumerate(self._mesh.devices.flat):
            here = slice(number * of_device, (number + 1) * of_device)
            if device.process_index != jax.process_index():
                tables += _blank(held, index[here])
                continue
            moved, arrays = self._of_device(held, index, here, capacity)
            tables += moved
            for name, array in arrays.items():
                parts[name].append(jax.device_put(array, device))
        new = np.where(index >= 0, np.arange(index.shape[1], dtype=np.int32), np.int32(-1))
        joined = {name: self._joined(parts[name]) for name in self._names}
        self.row_bytes = sum(parts[name][0].nbytes for name in self._names)
        return Piece(
            first,
            folds_lib.put(plans.stack(tables), self._mesh, folds_lib.FOLD),
            folds_lib.put(new.reshape(len(order), steps, -1), self._mesh, folds_lib.FOLD),
            joined,
        )

    def _of_device(
        self, held: Samples, index: np.ndarray, here: slice, capacity: tuple[int, int]
    ) -> tuple[list[Samples], dict[str, np.ndarray]]:
        """The samples that the folds of one device use, and the rows that these read."""
        chosen = [
            {name: table[fold][np.maximum(own, 0)] for name, table in held.items()}
            for fold, own in enumerate(index[here], start=here.start)
        ]
        real = [
            {name: array[own >= 0] for name, array in table.items()}
            for table, own in zip(chosen, index[here], strict=True)
        ]
        read = rows.of_tables(real, self._system.reach, self._num_rows)
        taken = rows.take(self._streams, self._names, read)
        arrays = {
            name: rows.filled(array, capacity[name.startswith("event_")])
            for name, array in taken.items()
        }
        counted = [rows.moved(table, read) for table in chosen]
        for table, own in zip(counted, index[here], strict=True):
            table["row"][own < 0] = 0
        return counted, arrays

    def _joined(self, parts: Sequence[jax.Array]) -> jax.Array:
        """The devices' parts as one array."""
        count, *shape = parts[0].shape
        sharding = NamedSharding(self._mesh, self.spec)
        return jax.make_array_from_single_device_arrays(
            (count * self._mesh.size, *shape), sharding, list(parts)
        )


def _blank(held: Samples, index: np.ndarray) -> list[Samples]:
    """In the place of samples that another process takes care of."""
    return [
        {name: np.zeros((len(own), *table.shape[2:]), table.dtype) for name, table in held.items()}
        for own in index
    ]
