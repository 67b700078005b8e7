"""Orbax checkpoints of all folds of a problem as one tree with a leading fold axis.

An unfinished save never replaces a finished one, so a run may be killed at any moment.
"""

import errno
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from spotjax.errors import UserError


class Checkpoints:
    """The checkpoints of one problem of a run: `<workdir>/checkpoints/<problem>/<epochs done>`."""

    def __init__(self, workdir: Path, problem: str, keep: int = 2, read_only: bool = False) -> None:
        """Open the folder (made unless `read_only`); the newest `keep` checkpoints stay.

        Raises UserError if it is to be read and is not there.
        """
        self._path = (workdir / "checkpoints" / problem).absolute()
        if read_only and not self._path.is_dir():
            raise UserError(f"{self._path}: there is no checkpoint; run spotjax.train first")
        alone = ocp.options.MultiprocessingOptions()
        if jax.process_count() > 1:  # of several processes the one that opens it saves for all
            me = jax.process_index()
            alone = ocp.options.MultiprocessingOptions(
                primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"{problem}_{me}"
            )
            self._path.mkdir(parents=True, exist_ok=True)
        if read_only:
            options = ocp.CheckpointManagerOptions(
                read_only=True, multiprocessing_options=alone, create=False
            )
        else:
            options = ocp.CheckpointManagerOptions(
                max_to_keep=keep, cleanup_tmp_directories=True, enable_async_checkpointing=True,
                multiprocessing_options=alone, create=jax.process_count() == 1,
            )  # fmt: skip
        self._manager = ocp.CheckpointManager(self._path, options=options)

    def __enter__(self) -> "Checkpoints":
        """Use as a context: leaving it waits for the last save."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the last save and close."""
        with self._full_disk_named():
            self._manager.close()

    @property
    def latest(self) -> int:
        """Epochs done by the newest finished checkpoint; 0 if there is none."""
        return self._manager.latest_step() or 0

    @property
    def finished(self) -> bool:
        """Whether the newest checkpoint is that of the last epoch."""
        if not self.latest:
            return False
        args = ocp.args.Composite(meta=ocp.args.JsonRestore())
        meta = self._manager.restore(self.latest, args=args)["meta"]
        return meta["epochs"] >= meta.get("of", meta["epochs"])

    def save(self, epochs: int, tree: Any, meta: dict[str, Any], best: Any = None) -> None:
        """Save `tree` (host arrays) and JSON `meta` after `epochs` epochs; returns early.

        `best` is what validation has chosen, if folds are judged.
        """
        items = {"state": ocp.args.StandardSave(tree), "meta": ocp.args.JsonSave(meta)}
        if best is not None:
            items["best"] = ocp.args.StandardSave(best)
        args = ocp.args.Composite(**items)
        with self._full_disk_named():
            self._manager.save(epochs, args=args, force=True)

    def wait(self) -> None:
        """Wait until the last save is on the disk; raises what went wrong with it."""
        with self._full_disk_named():
            self._manager.wait_until_finished()

    @contextmanager
    def _full_disk_named(self) -> Iterator[None]:
        """Turn what Orbax raises on a full disk into the OSError that it was."""
        try:
            yield
        except (ValueError, RuntimeError) as error:
            if "No space left" not in str(error):
                raise
            raise OSError(errno.ENOSPC, "No space left on device", str(self._path)) from None

    def restore(self, like: Any | None = None, best: Any | None = None) -> "Restored":
        """The newest checkpoint (host arrays; trees structured like `like` and `best` if given).

        Raises UserError naming the folder if it cannot be read.
        """
        step = self._manager.latest_step()
        if step is None:
            raise UserError(f"{self._path}: there is no checkpoint; run spotjax.train first")
        items = {"state": ocp.args.StandardRestore(like), "meta": ocp.args.JsonRestore()}
        if (self._path / str(step) / "best").exists():
            items["best"] = ocp.args.StandardRestore(best)
        args = ocp.args.Composite(**items)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Sharding info not provided")
                restored = self._manager.restore(step, args=args)
        except (ValueError, KeyError, FileNotFoundError, TypeError) as error:
            first = str(error).strip().splitlines()[0]
            raise UserError(
                f"{self._path / str(step)}: cannot be restored ({first}); "
                "delete this folder and run spotjax.train again: it goes on from the checkpoint "
                "before it, if there is one"
            ) from None
        return Restored(restored["state"], restored["meta"], restored.get("best"))


class Restored(NamedTuple):
    """A checkpoint of all folds, host arrays `[F, ...]`."""

    state: Any
    meta: dict[str, Any]
    """`epochs` done `of` how many, `subjects` held out by the folds, in their order."""
    best: Any
    """What validation has chosen, None where it does not choose."""


class Finished(NamedTuple):
    """What a training has ended with, one fold a subject."""

    variables: Any
    """Host arrays `[F, ...]`."""
    subjects: list[str]
    merits: dict[str, list[float]]
    """By subject, where folds were judged by validation."""
    epochs: dict[str, int]
    """After which epoch, by subject, likewise."""


def read_finished(workdir: Path, problem: str) -> Finished:
    """What a problem's training ended with: its last parameters, or those of best validation.

    Raises UserError if its training is not done.
    """
    with Checkpoints(workdir, problem, read_only=True) as store:
        state, meta, best = store.restore()
    meta = {"of": meta["epochs"]} | meta  # written by a version that did not say of how many
    if meta["epochs"] < meta["of"]:
        raise UserError(
            f"{workdir}: {problem} is trained for {meta['epochs']} of {meta['of']} epochs: run "
            "spotjax.train again, it goes on from there"
        )
    if best is None:
        return Finished(state["variables"], meta["subjects"], {}, {})
    rows = best_rows(meta["subjects"], best["merits"])
    return Finished(
        jax.tree.map(lambda leaf: np.asarray(leaf)[list(rows.values())], best["variables"]),
        list(rows),
        {subject: [float(x) for x in best["merits"][row]] for subject, row in rows.items()},
        {subject: int(best["epoch"][row]) for subject, row in rows.items()},
    )


def best_rows(subjects: Sequence[str], merits: np.ndarray) -> dict[str, int]:
    """Of the initialisations of each subject the one of highest `merits` f32[F, K], the first of
    equals.

    >>> best_rows(["a", "a", "b"], np.array([[0.5, -2], [0.5, -1], [0.1, 0]]))
    {'a': 1, 'b': 2}
    """
    rows: dict[str, int] = {}
    for row, subject in enumerate(subjects):
        known = rows.setdefault(subject, row)
        if tuple(merits[row]) > tuple(merits[known]):
            rows[subject] = row
    return rows
