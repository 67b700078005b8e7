"""Orbax checkpoints of all folds of a problem as one tree with a leading fold axis.

An unfinished save never replaces a finished one, so a run may be killed at any moment.
"""

import errno
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
        if read_only:
            options = ocp.CheckpointManagerOptions(read_only=True)
        else:
            options = ocp.CheckpointManagerOptions(
                max_to_keep=keep, cleanup_tmp_directories=True, enable_async_checkpointing=True
            )
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

    def save(self, epochs: int, tree: Any, meta: dict[str, Any]) -> None:
        """Save `tree` (host arrays) and JSON `meta` after `epochs` epochs; returns early."""
        args = ocp.args.Composite(state=ocp.args.StandardSave(tree), meta=ocp.args.JsonSave(meta))
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

    def restore(self, like: Any | None = None) -> tuple[Any, dict[str, Any]]:
        """The newest tree (host arrays; structured like `like` if given) and its meta.

        Raises UserError naming the folder if it cannot be read.
        """
        step = self._manager.latest_step()
        if step is None:
            raise UserError(f"{self._path}: there is no checkpoint; run spotjax.train first")
        args = ocp.args.Composite(state=ocp.args.StandardRestore(like), meta=ocp.args.JsonRestore())
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
        return restored["state"], restored["meta"]


def read_finished(workdir: Path, problem: str) -> tuple[Any, dict[str, Any]]:
    """The newest tree of a problem and its meta.  Raises UserError if its training is not done."""
    with Checkpoints(workdir, problem, read_only=True) as store:
        tree, meta = store.restore()
    meta = {"of": meta["epochs"]} | meta  # written by a version that did not say of how many
    if meta["epochs"] < meta["of"]:
        raise UserError(
            f"{workdir}: {problem} is trained for {meta['epochs']} of {meta['of']} epochs: run "
            "spotjax.train again, it goes on from there"
        )
    return tree, meta
