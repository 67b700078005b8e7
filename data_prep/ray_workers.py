"""Videos shared out to a Ray cluster: one video is one task.

A task writes its shard where a local worker would, so nodes need spotjax and a file system that
they share, and a task that runs twice leaves the same file.  A task whose node is lost runs again
elsewhere, `LOST_NODES` times.  Imported only for `data.runner=ray`.
"""

import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import cv2
from tqdm import tqdm

from spotjax.errors import UserError, one_line
from spotjax.sweeps.runners import ray_cluster

from .workers import Report

T = TypeVar("T")
R = TypeVar("R")

LOST_NODES = 5
PAUSE = 0.5
"""Seconds between two looks at what is done, and between two reports of a task."""


class Progress:
    """Frames that each task has done; an actor of its own, on the node of the command."""

    def __init__(self) -> None:
        """No task has done any."""
        self.frames: dict[int, int] = {}

    def tell(self, task: int, frames: int) -> None:
        """A task has done so many in all; one that starts again tells fewer than before."""
        self.frames[task] = frames

    def total(self) -> int:
        """Frames of all tasks."""
        return sum(self.frames.values())


def run(
    work: Callable[[T, Report], R],
    tasks: Sequence[T],
    *,
    jobs: int,
    finished: Callable[[T, R], None],
    bar: "tqdm[Any]",
) -> None:
    """`workers.run` on Ray: at most `jobs` tasks at a time (0: as many as have a CPU each).

    Raises UserError if Ray is missing or does not answer, or a task is lost too often, and whatever
    `work` raises.
    """
    with ray_cluster("--config.data.runner=ray") as ray:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        progress = ray.remote(num_cpus=0, scheduling_strategy=here)(Progress).remote()
        remote = ray.remote(num_cpus=1, max_retries=LOST_NODES)(_work)
        queue = list(enumerate(tasks))[::-1]
        going: dict[Any, T] = {}
        try:
            while queue or going:
                while queue and (not jobs or len(going) < jobs):
                    number, task = queue.pop()
                    going[remote.remote(work, task, number, progress, os.getcwd())] = task
                done, _ = ray.wait(list(going), num_returns=len(going), timeout=PAUSE)
                bar.update(ray.get(progress.total.remote()) - bar.n)
                for reference in done:
                    finished(going.pop(reference), _result(ray, reference))
        except BaseException:
            for reference in going:
                ray.cancel(reference, force=True)
            raise


def _result(ray: Any, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        first = str(error).strip().partition("\n")[0]
        raise UserError(
            f"a task was lost {LOST_NODES + 1} times ({type(error).__name__}: {first}): run the "
            "same command again (finished videos are kept)"
        ) from None


def _work(
    work: Callable[[T, Report], R],
    task: T,
    number: int,
    progress: Any,
    folder: str,
) -> R:
    """`work` in a worker of Ray, in the folder that the command was started in."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise UserError(
            f"{one_line(error)} on {socket.gethostname()}: start data_prep in a folder that all "
            "nodes share"
        ) from None
    cv2.setNumThreads(1)
    frames, told = 0, time.monotonic()

    def report(more: int) -> None:
        nonlocal frames, told
        frames += more
        if time.monotonic() - told >= PAUSE:
            progress.tell.remote(number, frames)
            told = time.monotonic()

    progress.tell.remote(number, 0)
    result = work(task, report)
    progress.tell.remote(number, frames)
    return result
