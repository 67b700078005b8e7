"""One video after the other, looked at in a process of its own, for a service page.

The process can be ended at any moment, which is how a job is cancelled; a file that breaks the
decoder ends this process and not the page.  It is told what to do through a pipe and answers with
`State`s.  OpenCV and JAX are imported here, when it starts.
"""

import shutil
import signal
import zipfile
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from spotjax import files, writers
from spotjax.errors import UserError, one_line
from spotjax.own.charts import clock
from spotjax.spotting import Spotting

EXTRAS = ("boris", "srt")
"""Files that are written besides the usual ones; `writers.EXTRAS`."""
ENDS = ("found", "failed", "cancelled")
"""Phases after which nothing more comes."""


class Row(NamedTuple):
    """A detection in words, for the table of a page."""

    type: str
    onset: str
    apex: str
    offset: str
    duration: str
    frames: str
    score: str
    emotion: str


class Found(NamedTuple):
    """What was found in a video."""

    summary: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    """Sentences that must be said with the result."""
    files: tuple[Path, ...]
    """All that was written, the page and the archive apart."""
    page: Path
    """The self-contained HTML page."""
    archive: Path
    """A zip of `files` and the page."""


class State(NamedTuple):
    """How far a job is."""

    phase: str
    """`waiting`, `starting`, `looking`, `drawing`, or one of `ENDS`."""
    ahead: int = 0
    """Videos before it, while it waits."""
    done: int = 0
    """Frames that are looked at."""
    expected: int = 0
    """Frames of the video, 0 if unknown."""
    left_s: float | None = None
    """Seconds that the rest may take."""
    text: str = ""
    """Why it failed, in one line."""
    found: Found | None = None


class Asked(NamedTuple):
    """What is wanted."""

    video: Path
    """Absolute path."""
    folder: Path
    """Is made, and holds the results."""
    face: int
    """n follows the n-th largest face."""
    flow: str
    """Optical flow that replaces the one of the weights; empty: none does."""


def work(pipe: Connection, weights: Any) -> None:
    """Answer every `Asked` of `pipe` with `State`s up to one of `ENDS`, until the pipe is closed.

    `weights` are `spotjax.parameters.weights.Weights`.  A programming error ends the process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which closes the pipe
    import spotjax.data_prep.source
    import spotjax.own.page  # noqa: F401  so that the first video need not wait for them

    try:
        while True:
            asked: Asked = pipe.recv()
            try:
                state = State("found", found=spotted(asked, weights, pipe.send))
            except (UserError, OSError) as error:
                if isinstance(error, BrokenPipeError):
                    raise
                text = one_line(error).replace(str(asked.video), asked.video.name)
                state = State("failed", text=text)
            except MemoryError:
                state = State("failed", text=f"{asked.video.name}: too large for the memory here")
            pipe.send(state)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the server is gone


def spotted(asked: Asked, weights: Any, tell: Callable[[State], object]) -> Found:
    """Look at one video, write its files and say what was found; `tell` hears how far it is.

    Raises UserError if the video cannot be used, OSError if the disk refuses.
    """
    from spotjax.data_prep import source as sources
    from spotjax.own import page
    from spotjax.own.run import Progress, spot_source

    source = sources.open_source(str(asked.video))
    done = 0

    def more(frames: int) -> None:
        nonlocal done
        done += frames
        tell(State("looking", done=done, expected=max(source.expected, done)))

    result = spot_source(source, weights, face=asked.face, flow=asked.flow, progress=Progress(more))
    tell(State("drawing", done=done, expected=done))
    asked.folder.mkdir(mode=0o700, parents=True)
    stem = asked.video.stem
    # links to the video lead to where the results lie, since the upload will be gone
    spotting = result.spotting._replace(media=asked.folder / asked.video.name)
    paths = writers.write(asked.folder, stem, spotting, EXTRAS)
    (shown,) = page.write(asked.folder, stem, source, result._replace(spotting=spotting))
    archive = asked.folder / f"{stem}.zip"
    pack(archive, [*paths, shown])
    return Found(summary(spotting), rows(spotting), spotting.warnings, paths, shown, archive)


def pack(archive: Path, paths: Iterable[Path]) -> None:
    """Put files, without their folders, into a zip that appears complete or not at all."""
    temporary = archive.with_name(f".{archive.name}.part")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in paths:
            packed.write(path, path.name)
    temporary.replace(archive)


def keep(found: Found, stem: str, out: Path) -> Path:
    """Copy all files to a new folder `out/<stem>`, or `<stem>-2`...; returns it.

    Raises OSError if the disk refuses.
    """
    out.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = out / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            continue
        for path in (*found.files, found.page, found.archive):
            files.write_bytes(folder / path.name, path.read_bytes())
        return folder


def summary(spotting: Spotting) -> str:
    """`interview.mp4: 2 macro, 1 micro in 01:15.46`."""
    counts = ", ".join(
        f"{sum(d.type == type for d in spotting.detections)} {type}" for type in spotting.scores
    )
    return f"{spotting.video}: {counts} in {clock(spotting.length_s)}"


def rows(spotting: Spotting) -> tuple[Row, ...]:
    """The detections in words, times as mm:ss.cc."""
    return tuple(
        Row(
            d.type,
            clock(spotting.onset_s(d)),
            clock(spotting.apex_s(d)),
            clock(spotting.offset_s(d)),
            f"{spotting.offset_s(d) - spotting.onset_s(d):.2f} s",
            f"{d.onset} to {d.offset}",
            f"{d.score:.3f}",
            d.emotion,
        )
        for d in spotting.detections
    )


def remove(path: Path) -> None:
    """Delete a file or a folder with all that is in it; nothing if it is not there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
