"""Orbax checkpoints of all folds of a problem as one tree with a leading fold axis.

An unfinished save never replaces a finished one, so a run may be killed at any moment.
"""

import warnings
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from spotjax.errors import UserError


class Checkpoints:
    """The checkpoints of one problem of a run: `<workdir>/checkpoints/<problem>/<epochs done>`."""

    def __init__(self, workdir: Path, problem: str, keep: int = 2) -> None:
        """Open (and create) the folder; the newest `keep` checkpoints stay."""
        self._path = (workdir / "checkpoints" / problem).absolute()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, cleanup_tmp_directories=True, enable_async_checkpointing=True
        )
        self._manager = ocp.CheckpointManager(self._path, options=options)

    def __enter__(self) -> "Checkpoints":
        """Use as a context: leaving it waits for the last save."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the last save and close."""
        self._manager.close()

    @property
    def latest(self) -> int:
        """Epochs done by the newest finished checkpoint; 0 if there is none."""
        return self._manager.latest_step() or 0

    def save(self, epochs: int, tree: Any, meta: dict[str, Any]) -> None:
        """Save `tree` (host arrays) and JSON `meta` after `epochs` epochs; returns early."""
        args = ocp.args.Composite(state=ocp.args.StandardSave(tree), meta=ocp.args.JsonSave(meta))
        self._manager.save(epochs, args=args, force=True)

    def wait(self) -> None:
        """Wait until the last save is on the disk; raises what went wrong with it."""
        self._manager.wait_until_finished()

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
                "delete this folder to go on from the checkpoint before it"
            ) from None
        return restored["state"], restored["meta"]
