"""The desk of a service page: people's videos, one after the other, and their files deleted.

A session is one open page.  Its upload and its results lie in a private folder and are deleted when
it leaves; everything is when the desk closes.  Videos wait in line for one process (`worker`).  The
desk knows nothing of the page's library.
"""

import contextlib
import multiprocessing
import secrets
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from spotjax.errors import UserError, one_line
from spotjax.own.worker import ENDS, Asked, State, keep, remove, work
from spotjax.parameters.weights import Weights

SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm")
"""Videos that are taken."""
FLOWS = ("tvl1", "tvl1_jax", "dis", "farneback")
MOST_WAITING = 20
MOST_FACE = 20
STALE_S = 3600.0
"""Seconds after which an upload that no session has is deleted: the page was left meanwhile."""
TICK_S = 0.2
BROKEN = (
    "the program broke off while it looked at this: the file may be damaged, or the memory too "
    "small; the terminal may tell more"
)


class Job:
    """One video of a session."""

    def __init__(self, asked: Asked) -> None:
        """Waiting; the desk moves it on."""
        self.asked = asked
        self.cancelled = threading.Event()
        self._state = State("waiting")
        self._changed = threading.Condition()

    @property
    def state(self) -> State:
        """How far it is."""
        return self._state

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self._state.phase in ENDS

    def set(self, state: State) -> None:
        """Move on; a cancelled job can only end so."""
        with self._changed:
            if not self.ended:
                self._state = state
                self._changed.notify_all()

    def states(self) -> Iterator[State]:
        """Every new state until it has ended; those that follow too fast are left out."""
        told: State | None = None
        while told is None or told.phase not in ENDS:
            with self._changed:
                while self._state is told:
                    self._changed.wait()
                told = self._state
            yield told


class _Session:
    def __init__(self) -> None:
        self.uploads: set[Path] = set()
        self.job: Job | None = None


class Desk:
    """Takes videos of sessions in, and gives their results out."""

    def __init__(self, weights: Weights, root: Path, out: Path | None = None) -> None:
        """`root` is an empty private folder, which `close` deletes.

        The results of all sessions are also copied to `out`, where they stay.
        """
        self.uploads, self.results = root / "uploads", root / "results"
        for folder in (self.uploads, self.results):
            folder.mkdir(mode=0o700)
        self._root, self._out, self._weights = root, out, weights
        self._sessions: dict[str, _Session] = {}
        self._line: deque[Job] = deque()
        self._changed = threading.Condition(threading.RLock())
        self._closed = False
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._thread = threading.Thread(target=self._serve, name="desk", daemon=True)
        self._thread.start()

    def claim(self, session: str, video: Path | None) -> None:
        """A video has been uploaded into `uploads`; it takes the place of the one before it."""
        with self._changed:
            found = self._sessions.setdefault(session, _Session())
            old = found.uploads
            running = found.job is not None and not found.job.ended
            kept = {found.job.asked.video} & old if found.job is not None and running else set()
            found.uploads = kept | ({video} if video is not None else set())
            self._unclaim(old - found.uploads)

    def start(
        self, session: str, video: Path | None, face: float | None = 1, flow: str = ""
    ) -> Job:
        """Put a session's video in line; its older results are deleted.

        Raises UserError, in words for the page, if it cannot be.
        """
        if video is None:
            raise UserError("choose a video first")
        if video.suffix.lower() not in SUFFIXES:
            raise UserError(f"{video.name}: is no {', '.join(s[1:] for s in SUFFIXES)} file")
        if not video.is_file():
            raise UserError(f"{video.name}: is not here any more: upload it again")
        if face is None or not (1 <= face <= MOST_FACE and face == int(face)):
            raise UserError(f"face {face}: count faces from 1, the largest, to {MOST_FACE}")
        if flow not in ("", *FLOWS):
            raise UserError(f"flow {flow}: choose one of {', '.join(FLOWS)}")
        with self._changed:
            found = self._sessions.setdefault(session, _Session())
            if found.job is not None and not found.job.ended:
                raise UserError("one video at a time: wait for it, or cancel it")
            if len(self._line) >= MOST_WAITING:
                raise UserError(f"{MOST_WAITING} videos are waiting already: try again later")
            if found.job is not None:
                remove(found.job.asked.folder)
            found.uploads.add(video)
            folder = self.results / secrets.token_urlsafe(18)
            found.job = Job(Asked(video.absolute(), folder, int(face), flow))
            self._line.append(found.job)
            self._number()
            self._changed.notify_all()
            return found.job

    def cancel(self, session: str) -> None:
        """End a session's job, whether it waits or runs; nothing if it has none."""
        with self._changed:
            found = self._sessions.get(session)
            if found is None or found.job is None or found.job.ended:
                return
            found.job.cancelled.set()
            if found.job in self._line:
                self._line.remove(found.job)
                found.job.set(State("cancelled"))
                self._number()

    def leave(self, session: str) -> None:
        """The page is closed: end its job, delete its upload and its results."""
        self.cancel(session)
        with self._changed:
            found = self._sessions.pop(session, None)
            if found is None:
                return
            running = found.job is not None and not found.job.ended  # `_end` deletes what it has
            if found.job is not None and not running:
                remove(found.job.asked.folder)
            kept = {found.job.asked.video} if found.job is not None and running else set()
            self._unclaim(found.uploads - kept)

    def close(self) -> None:
        """End everything, and delete the root folder."""
        with self._changed:
            self._closed = True
            for session in list(self._sessions):
                self.cancel(session)
            self._changed.notify_all()
        self._thread.join()
        remove(self._root)

    def sweep(self, now: float) -> None:
        """Delete uploads that no session has and that are older than `STALE_S` at `now`.

        `now` is in seconds as `time.time`.
        """
        with self._changed:
            known = {path for session in self._sessions.values() for path in session.uploads}
            known |= {path.parent for path in known}
            for path in self.uploads.iterdir():
                with contextlib.suppress(FileNotFoundError):  # an upload is renamed when it is done
                    if path not in known and now - path.stat().st_mtime > STALE_S:
                        remove(path)

    # --- below this line: the desk's own thread, but for `_unclaim` and `_number` ----------------

    def _serve(self) -> None:
        if hasattr(signal, "pthread_sigmask"):  # Ctrl-C is not for the process that is started here
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with contextlib.suppress(OSError):  # it is tried again, and told of, with the first job
                self._ready()
            while (job := self._next()) is not None:
                self._run(job)
        finally:
            self._stop()

    def _next(self) -> Job | None:
        """The next job, or None when the desk is closed."""
        with self._changed:
            while not self._closed:
                if self._line:
                    job = self._line.popleft()
                    job.set(State("starting"))
                    self._number()
                    return job
                self._changed.wait(STALE_S / 6)
                self.sweep(time.time())
        return None

    def _run(self, job: Job) -> None:
        """Have one video looked at."""
        begun = 0.0
        try:
            pipe = self._ready()
            pipe.send(job.asked)
            while not job.ended:
                if job.cancelled.is_set():
                    self._stop()
                    self._end(job, State("cancelled"))
                elif pipe.poll(TICK_S):
                    state: State = pipe.recv()
                    if state.phase in ENDS:
                        self._end(job, state)
                        continue
                    begun = begun or time.monotonic()
                    job.set(state._replace(left_s=left(state, time.monotonic() - begun)))
        except (EOFError, OSError):
            self._stop()
            name = job.asked.video.name
            text = f"{name}: {BROKEN}"
            self._end(job, State("failed", text=text))

    def _end(self, job: Job, state: State) -> None:
        """The last state of a job; only what was found keeps its files."""
        if state.found is not None and self._out is not None:
            try:
                folder = keep(state.found, job.asked.video.stem, self._out)
                state = state._replace(text=f"also kept in {folder}")
            except OSError as error:
                state = State("failed", text=one_line(error))
        with self._changed:
            if job.cancelled.is_set():
                state = State("cancelled")
            if state.phase != "found":
                remove(job.asked.folder)
            self._unclaim({job.asked.video})
            job.set(state)

    def _ready(self) -> Connection:
        """The pipe to the process, which is started if there is none."""
        if self._process is None or self._pipe is None or not self._process.is_alive():
            self._stop()
            spawn = multiprocessing.get_context("spawn")
            self._pipe, other = spawn.Pipe()
            self._process = spawn.Process(target=work, args=(other, self._weights), daemon=True)
            self._process.start()
            other.close()
        return self._pipe

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None

    def _number(self) -> None:
        """Tell those in line how many are before them."""
        busy = sum(
            session.job is not None and not session.job.ended and session.job not in self._line
            for session in self._sessions.values()
        )
        for number, job in enumerate(self._line):
            job.set(State("waiting", ahead=busy + number))

    def _unclaim(self, videos: set[Path]) -> None:
        """Delete uploads that no session has any more.  Equal uploads of two are one file."""
        for video in videos:
            if any(video in session.uploads for session in self._sessions.values()):
                continue
            remove(video.parent if video.parent.parent == self.uploads else video)


def left(state: State, elapsed_s: float) -> float | None:
    """Seconds that the rest of a video may take, from what `elapsed_s` have brought.

    >>> left(State("looking", done=100, expected=300), 20.0)
    40.0
    """
    if state.phase != "looking" or not 0 < state.done < state.expected:
        return None
    return elapsed_s * (state.expected - state.done) / state.done
