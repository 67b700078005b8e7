"""Units of work in processes of their own: on this machine, or as tasks of a Ray cluster.

A unit is a `python -m MODULE WORDS` that goes on where it stopped.  It writes to a log file, and it
is tried again when its process is killed (`LOST` times) or its node is lost (`LOST_NODES` times).

  python -m spotjax.sweeps.runners PARENT MODULE WORDS...

runs MODULE as a program that ends with the process PARENT: whatever happens to a sweep or to a
worker of Ray, no training is left behind that holds its run directory.
"""

import os
import re
import runpy
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from spotjax.errors import UserError, one_line

LOST, LOST_NODES = 2, 5
PATIENCE = 30.0
"""Seconds that a process has to end after Ctrl-C before it is killed."""
SETTINGS = {
    "PYTHONUNBUFFERED": "1",
    "TQDM_MININTERVAL": "10",  # seconds between two lines of a progress bar in a log
}
SHARED_GPU = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""For several programs on a GPU: none takes its memory before it is needed."""


class Unit(NamedTuple):
    """What is run as one process."""

    name: str
    words: tuple[str, ...]
    """Module and arguments: `python -m WORDS`."""
    log: Path
    runs: int = 1
    """Trainings in it, for the progress bar."""


# --- one unit -------------------------------------------------------------------------------------


def attempts(
    unit: Unit,
    stopped: Callable[[], bool] = lambda: False,
    settings: Mapping[str, str] | None = None,
) -> str:
    """Run a unit until it ends by itself; "" or why it failed, with the path of its log.

    A process that is killed by a signal is started again, `LOST` times.  When `stopped` is true the
    process is interrupted as by Ctrl-C.  `settings` are environment variables.
    """
    why = ""
    for number in range(1, LOST + 2):
        try:
            status, why = _attempt(unit, number, stopped, settings or {})
        except OSError as error:
            return one_line(error)
        if status >= 0 or stopped():
            break
    return why


def _attempt(
    unit: Unit, number: int, stopped: Callable[[], bool], settings: Mapping[str, str]
) -> tuple[int, str]:
    """Run a unit once; its exit status (-N: killed by signal N), and why it failed."""
    module, *words = unit.words
    line = [sys.executable, "-m", "spotjax.sweeps.runners", str(os.getpid()), module, *words]
    unit.log.parent.mkdir(parents=True, exist_ok=True)
    with open(unit.log, "ab") as log:
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        log.write(
            f"--- {now} {socket.gethostname()}, attempt {number} of {LOST + 1}: "
            f"{shlex.join(['python', '-m', *unit.words])}\n".encode()
        )
        log.flush()
        begin = log.tell()
        with subprocess.Popen(
            line,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **SETTINGS, **settings},
            start_new_session=True,  # Ctrl-C comes from here, once
        ) as process:
            while (status := _status(process, 0.2)) is None and not stopped():
                pass
            if status is None:
                status = _interrupt(process)
        log.write(f"--- ended with status {status}\n".encode())
    return status, why_of(unit, status, begin) if status else ""


def _status(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """Wait for a process; None if it still runs."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _interrupt(process: subprocess.Popen[bytes]) -> int:
    """Let a process end as after Ctrl-C; its status."""
    process.send_signal(signal.SIGINT)
    if (status := _status(process, PATIENCE)) is None:
        process.kill()
        status = process.wait()
    return status


def why_of(unit: Unit, status: int, begin: int = 0) -> str:
    """The first error in a unit's log from byte `begin` on, or what else is known, and the log."""
    with open(unit.log, "rb") as file:
        file.seek(begin)
        lines = re.split(r"[\r\n]+", file.read().decode(errors="replace"))
    told = [line.strip() for line in lines if line.strip() and not line.startswith("--- ")]
    errors = [line.removeprefix("error: ") for line in told if line.startswith("error: ")]
    if errors:
        why = errors[0]
    elif status < 0:
        why = f"killed by {_signal_name(-status)}, {LOST + 1} times"
        why += ": perhaps for lack of memory" if -status == 9 else ""
    else:  # an error of the program's ends with a traceback
        why = told[-1] if told else f"ended with status {status}"
    return f"{why} (log: {unit.log})"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


# --- all of them ----------------------------------------------------------------------------------


class _Progress:
    """One bar over all units with the names of those that run, and what has failed."""

    def __init__(self, units: Sequence[Unit]) -> None:
        calm = 0.5 if sys.stderr.isatty() else 60.0
        total = sum(unit.runs for unit in units)
        self.bar = tqdm(total=total, unit="run", desc="sweep", mininterval=calm, smoothing=0)
        self.failed: dict[str, str] = {}

    def ended(self, unit: Unit, why: str) -> None:
        if why:
            self.failed[unit.name] = why
            tqdm.write(f"failed: {unit.name} (log: {unit.log})", file=sys.stderr)
        self.bar.update(unit.runs)

    def running(self, names: Sequence[str]) -> None:
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        self.bar.set_postfix_str(", ".join(names[:2]) + more, refresh=sys.stderr.isatty())


def run_local(units: Sequence[Unit], jobs: int) -> dict[str, str]:
    """Run the units in processes, `jobs` at a time; why the failed ones failed, by their names.

    A failed unit stops no other.  After Ctrl-C the processes end, and KeyboardInterrupt goes on.
    """
    stop, going = threading.Event(), dict[str, None]()

    def work(unit: Unit) -> str:
        going[unit.name] = None
        why = attempts(unit, stop.is_set, SHARED_GPU if jobs > 1 else {})
        going.pop(unit.name)
        return why

    progress = _Progress(units)
    with progress.bar, ThreadPoolExecutor(jobs) as pool:
        waiting: dict[Future[str], Unit] = {pool.submit(work, unit): unit for unit in units}
        try:
            while waiting:
                done, _ = wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED)
                for future in done:
                    progress.ended(waiting.pop(future), future.result())
                progress.running(list(going))
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return progress.failed


def run_ray(
    units: Sequence[Unit], cpus: float | None = None, gpus: float | None = None
) -> dict[str, str]:
    """Run the units as Ray tasks, with so many `cpus` and `gpus` each; failures as `run_local`.

    The cluster is that of `RAY_ADDRESS`, else one that runs on this machine, else a new local one.
    By default a unit has one GPU where the cluster has any, else all CPUs of a node (the smallest).
    All nodes need spotjax and this folder, on a file system that they share; their own environment
    counts.  A unit whose node is lost runs on another one and goes on from its run directory.
    Raises UserError: Ray is not installed or does not answer.
    """
    progress = _Progress(units)
    with ray_cluster("--runner ray") as ray, progress.bar:
        if gpus is None:
            gpus = 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0
        task = ray.remote(
            num_cpus=_cpus_of(ray.nodes(), gpus) if cpus is None else cpus,
            num_gpus=gpus,
            max_retries=LOST_NODES,
            scheduling_strategy="SPREAD",
        )(_ray_task)
        settings = SHARED_GPU if 0 < gpus < 1 else {}
        waiting = {task.remote(unit, os.getcwd(), settings): unit for unit in units}
        try:
            while waiting:
                progress.running([f"{len(waiting)} to do"])
                done, _ = ray.wait(list(waiting), timeout=1.0)
                for reference in done:
                    progress.ended(waiting.pop(reference), _ray_result(ray, reference))
        except BaseException:
            for reference in waiting:
                ray.cancel(reference, force=True)
            raise
    return progress.failed


def require_ray(option: str) -> None:
    """Raise UserError that begins with `option` if Ray is not installed."""
    if find_spec("ray") is None:
        raise UserError(f"{option}: Ray is not installed: pip install 'spotjax[cluster]'")


@contextmanager
def ray_cluster(option: str) -> Iterator[Any]:
    """Ray, connected to the cluster of `RAY_ADDRESS`, else to one of this machine.

    Raises UserError that begins with `option`: Ray is not installed, or does not answer.
    """
    require_ray(option)
    import ray

    if ray.is_initialized():
        yield ray
        return
    try:
        ray.init(log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, RuntimeError) as error:  # ConnectionError is an OSError
        where = os.environ.get("RAY_ADDRESS", "a local one")
        raise UserError(
            f"{option}: the cluster ({where}) does not answer: {one_line(error).rstrip('.')}: set "
            "RAY_ADDRESS, or unset it for a local one"
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _cpus_of(nodes: Sequence[Mapping[str, Any]], gpus: float) -> float:
    """CPUs of a unit: 1 beside a GPU, else all of the smallest node that has any."""
    have = [node["Resources"].get("CPU", 0) for node in nodes if node["Alive"]]
    return 1 if gpus else min([count for count in have if count], default=1)


def _ray_task(unit: Unit, folder: str, settings: Mapping[str, str]) -> str:
    """`attempts` in a worker of Ray, in the folder that the sweep was started in."""
    try:
        os.chdir(folder)
    except OSError as error:
        return (
            f"{one_line(error)} on {socket.gethostname()}: start the sweep in a folder that all "
            "nodes share"
        )
    return attempts(unit, settings=settings)


def _ray_result(ray: Any, reference: Any) -> str:
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        return f"{type(error).__name__}: {lines[0] if lines else 'no more is known'}"


# --- in the process of a unit ---------------------------------------------------------------------


def main() -> None:
    """`python -m spotjax.sweeps.runners PARENT MODULE WORDS...`."""
    parent, module, *words = sys.argv[1:]
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    sys.argv[1:] = words
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except KeyboardInterrupt as error:  # before the command's own main catches it
        sys.stderr.write(f"interrupted ({type(error).__name__})\n")
        sys.exit(130)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


if __name__ == "__main__":
    main()
