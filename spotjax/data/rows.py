"""Which rows of the streams training reads: those alone lie on the device (NumPy only).

A system that trains on a few samples of long videos (SFAMNet: some thousand of millions of rows)
would otherwise need all features of a data set in memory.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from spotjax.data.plans import Fold
from spotjax.types import Samples


class Rows(NamedTuple):
    """Rows of the frame streams, i64[n], and of the event streams, i64[m]; sorted, different."""

    frames: np.ndarray
    events: np.ndarray


def used(folds: Sequence[Fold], reach: int, num_rows: int) -> Rows:
    """The rows that the samples of `folds` read, those for validation included."""
    tables = (t for fold in folds for t in (fold.samples, fold.judged) if t is not None)
    return of_tables(tables, reach, num_rows)


def of_tables(tables: Iterable[Samples], reach: int, num_rows: int) -> Rows:
    """The rows that samples read.

    A sample of frames reads `reach` rows from each of its own on, as far as there are `num_rows`.
    """
    frames, events = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for table in tables:
        row, event = table["row"].astype(np.int64), _is_event(table)
        first = np.unique(row[~event])
        frames.append(np.unique(first[:, None] + np.arange(reach)))
        events.append(row[event].reshape(-1))
    joined = np.unique(np.concatenate(frames))
    return Rows(joined[joined < num_rows], np.unique(np.concatenate(events)))


def renumbered(folds: Sequence[Fold], rows: Rows) -> list[Fold]:
    """`folds` whose samples count rows among `rows`, as the arrays of `take` do."""
    return [
        fold._replace(
            samples=moved(fold.samples, rows),
            judged=None if fold.judged is None else moved(fold.judged, rows),
        )
        for fold in folds
    ]


def moved(table: Samples, rows: Rows) -> Samples:
    """`table` whose samples count rows among `rows`."""
    return table | {"row": _positions(table, rows)}


def take(
    streams: Mapping[str, np.ndarray], names: Sequence[str], rows: Rows
) -> dict[str, np.ndarray]:
    """The given rows, `dtype[n, *shape]`, of `streams` `dtype[R, *shape]` by name.

    From shards only the videos that hold some are read; UserError if one has changed or is gone.
    """
    frames = [name for name in names if not name.startswith("event_")]
    events = [name for name in names if name.startswith("event_")]
    found: dict[str, np.ndarray] = {}
    for group, wanted in ((frames, rows.frames), (events, rows.events)):
        if group and hasattr(streams, "take"):
            found |= streams.take(group, wanted)
        else:
            found |= {name: streams[name][wanted] for name in group}
    return found


def filled(array: np.ndarray, size: int) -> np.ndarray:
    """`array` `[n, ...]` with zeros after it: `[size, ...]`.  Raises ValueError if n > `size`."""
    rest = np.zeros((size - len(array), *array.shape[1:]), array.dtype)
    return np.concatenate([array, rest])


def _is_event(samples: Samples) -> np.ndarray:
    return samples["event"] > 0 if "event" in samples else np.zeros(len(samples["row"]), bool)


def _positions(samples: Samples, rows: Rows) -> np.ndarray:
    row = samples["row"]
    event = _is_event(samples).reshape(-1, *[1] * (row.ndim - 1))
    places = np.where(event, np.searchsorted(rows.events, row), np.searchsorted(rows.frames, row))
    return places.astype(np.int32)
