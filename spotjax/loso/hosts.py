"""One training over several processes or hosts: who they are, and what the first one does for all.

Every process runs the same program on its own devices (`jax.distributed`); the folds are shared
out over all of them.  Each reads the shards; only the first process makes them and writes the run
directory.  With a single process everything here is a plain call.
"""

import atexit
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from spotjax.errors import UserError, one_line

LONG = 10 * 24 * 3600
"""Seconds that the others wait for the first one, which may make all features of a data set."""
SEVERAL = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "JAX_NUM_PROCESSES")
"""Numbers of processes as launchers tell them."""
TOLD = ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
"""What JAX takes as arguments where it detects no cluster."""
NAMED = ("JAX_COORDINATOR_ADDRESS", "MEGASCALE_COORDINATOR_ADDRESS")
"""Variables that only a job of several processes has."""

_waits = 0


def join(how: str) -> None:
    """Join the other processes of this job, before anything else is done with JAX.

    `how` is `train.distributed`: auto joins if the environment says that there are others.
    Raises UserError if they cannot be found.
    """
    if not expected(how):
        return
    try:
        number, rank = (int(os.environ[n]) if n in os.environ else None for n in TOLD)
        jax.distributed.initialize(os.environ.get("JAX_COORDINATOR_ADDRESS"), number, rank)
    except (ValueError, RuntimeError, IndexError) as error:  # IndexError: an address without port
        reason = one_line(error)[:200]
        raise UserError(
            f"--config.train.distributed={how}: the other processes are not found ({reason}): set "
            "JAX_COORDINATOR_ADDRESS (host:port), JAX_NUM_PROCESSES and JAX_PROCESS_ID (numbers), "
            "or train alone with --config.train.distributed=off"
        ) from None


def expected(how: str) -> bool:
    """Whether `join` will wait for other processes."""
    if jax.distributed.is_initialized():
        return False
    return how == "on" or (how == "auto" and announced())


def announced() -> bool:
    """Whether the environment says that this process is one of several."""
    several = any(os.environ.get(name, "1") not in ("", "0", "1") for name in SEVERAL)
    tpus = "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
    # a batch script sees SLURM_NTASKS too, but only what `srun` starts is a step of several nodes
    if "SLURM_NTASKS" in os.environ and "SLURM_STEP_NODELIST" not in os.environ:
        several = False
    return several or tpus or any(os.environ.get(name) for name in NAMED)


def count() -> int:
    """Number of processes."""
    return jax.process_count()


def first() -> bool:
    """Whether this is the first process, which writes."""
    return jax.process_index() == 0


def wait() -> None:
    """Until all processes have come here."""
    global _waits
    if count() > 1:
        _waits += 1
        ocp.multihost.sync_global_processes(f"spotjax_{_waits}", timeout=LONG)


@contextmanager
def watched() -> Iterator[None]:
    """Turn the loss of another process into a UserError, after which this one ends at once."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if count() == 1:
            raise
        # else JAX would wait a minute for the lost one, and then abort
        atexit.register(_leave)
        reason = one_line(error)[:200]
        raise UserError(
            f"another process of this training has ended ({reason}): see what it said, and start "
            "all of them again: they go on from the last checkpoint"
        ) from None


def _leave() -> None:
    sys.stdout.flush()
    os._exit(2)


def by_first(work: Callable[[], Any]) -> Any:
    """`work()`, done by the first process: its result (JSON) in all of them.

    Where it raises a UserError, all of them do.
    """
    if count() == 1:
        return work()
    told: dict[str, Any] = {}
    if first():
        try:
            told = {"value": work()}
        except UserError as error:
            told = {"error": str(error)}
    wait()
    text = np.frombuffer(json.dumps(told).encode(), np.uint8)
    length = multihost_utils.broadcast_one_to_all(np.int32(len(text)))
    sent = np.zeros(int(length), np.uint8)
    if first():
        sent = text
    told = json.loads(multihost_utils.broadcast_one_to_all(sent).tobytes())
    if "error" in told:
        raise UserError(told["error"])
    return told["value"]


def same(tree: Any) -> Any:
    """Host arrays as the first process has them; the others give arrays of the same shapes."""
    if count() == 1:
        return tree
    return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree))
