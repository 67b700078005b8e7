"""Videos shared out to processes or to a cluster, with one progress bar over all frames.

Processes are spawned, never forked, so that no thread pool of OpenCV is copied half alive.  They
end with their parent, however it ends: a killed run leaves nothing behind that still writes.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Literal, TypeVar

import cv2
from tqdm import tqdm

from spotjax.config import cores
from spotjax.errors import UserError

Report = Callable[[int], object]
"""Called with a number of frames whenever so many more are done."""
T = TypeVar("T")
R = TypeVar("R")

_frames_done: Any = None  # in a worker: the counter it shares with the parent


def run(
    work: Callable[[T, Report], R],
    tasks: Sequence[T],
    *,
    jobs: int,
    frames: int,
    finished: Callable[[T, R], None],
    label: str = "features",
    quiet: bool = False,
    runner: Literal["local", "ray"] = "local",
) -> None:
    """Call `work(task, report)` for every task, then `finished(task, result)` in this process.

    `jobs` processes (0: one per core; 1: this one), `frames` in all for the bar on stderr.  The
    runner `ray` makes tasks of a Ray cluster of them (`ray_workers.run`).
    Raises UserError if a worker process is killed, and whatever `work` raises.
    """
    calm = 0.2 if sys.stderr.isatty() else 30.0  # seconds between two lines of a log file
    with tqdm(total=frames, unit="frame", desc=label, mininterval=calm, disable=quiet) as bar:
        if runner == "ray":
            from . import ray_workers

            ray_workers.run(work, tasks, jobs=jobs, finished=finished, bar=bar)
            return
        jobs = min(jobs or cores(), len(tasks))
        if jobs <= 1:
            cv2.setNumThreads(1)
            for task in tasks:
                finished(task, work(task, bar.update))
            return
        context = multiprocessing.get_context("spawn")
        counter = context.Value("q", 0)
        pool = ProcessPoolExecutor(jobs, context, _start, (counter,))
        try:
            # Ctrl-C is the parent's business: children inherit that they ignore it
            handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
            try:
                pending = {pool.submit(_work, work, task): task for task in tasks}
            finally:
                signal.signal(signal.SIGINT, handler)
            while pending:
                done, _ = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                bar.update(counter.value - bar.n)
                for future in done:
                    finished(pending.pop(future), future.result())
        except BrokenProcessPool:
            raise UserError(
                "a worker process was killed, perhaps for lack of memory: run the same command "
                f"again (finished videos are kept) with fewer jobs than {jobs}"
            ) from None
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _start(counter: Any) -> None:
    """Set up a worker: one OpenCV thread, ending with its parent."""
    global _frames_done
    _frames_done = counter
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def end_with_process(pid: int) -> None:
    """End this process, and with it its workers, as soon as its parent is no longer `pid`.

    spotjax.train starts data_prep so: a killed training leaves nothing behind that still writes.
    """

    def watch() -> None:
        while os.getppid() == pid:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _report(frames: int) -> None:
    with _frames_done.get_lock():
        _frames_done.value += frames


def _work(work: Callable[[T, Report], R], task: T) -> R:
    return work(task, _report)
