"""Features of one's own video, stretch after stretch, in bounded memory.

The same extraction as for a data set runs on stretches of a few seconds, so that the numbers are
those that a system was trained on.  The rows of features follow an even clock of `rate` rows per
second, whatever the video's own frame rate does; each row belongs to the frame that is seen at its
time.  A stretch is read with as many rows before and after it as its features look at; those are
thrown away again.  The face is found anew in each stretch (`own_face`).

Decoding smooths a score over rows around it, and a data set's first and last rows have none.  A
video of one's own may be short, so its first and last frame are held for as many rows as that
takes.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from spotjax.config import (
    Cnn3dFeatures,
    Config,
    MesnetFeatures,
    SfamnetFeatures,
    SoftnetFeatures,
    SpotformerFeatures,
)
from spotjax.errors import UserError

from . import kinds
from .faces import NoFace
from .features import Extracted, FeatureSpec, empty_rows
from .own_face import Tracker
from .readers import RawDataset, RawVideo
from .source import Shot, Source

SECONDS = 5.0
"""Length of a stretch at most."""
LARGEST = 960
"""px; larger frames are reduced to this side before anything else."""
SMOOTHED = 32
"""Rows over which SFAMNet's decoding smooths, and from a video's ends on finds no peak."""
STRETCH_BYTES = 60_000_000
"""Of the grey frames of a stretch: large frames make it shorter."""


class Part(NamedTuple):
    """The features of some consecutive rows of a video."""

    first: int
    """Number of its first row."""
    numbers: np.ndarray
    """i64[R]: the frame of each row."""
    face: np.ndarray
    """u8[R], 1 where the face was found."""
    box: tuple[int, int, int, int] | None
    """Of the face in px of the frame as it came, left, top, right, bottom."""
    rows: Mapping[str, np.ndarray]
    """Every stream `dtype[B + R + A, *shape]`, with rows before and after for systems that score
    pairs of them."""
    before: int
    """B."""
    times: np.ndarray
    """f64[N]: seconds of the frames that were read for it, ..."""
    first_time: int
    """... the first of which has this number."""


class Context(NamedTuple):
    """Rows that belong to a stretch without being its own."""

    before: int
    after: int
    scored_after: int = 0
    """Rows after a stretch that its scores look at, beyond what its features do."""
    held_before: int = 0
    """Rows of the first frame standing still before the video, ..."""
    held_after: int = 0
    """... and of its last frame after it, so that expressions there are not cut off."""


@dataclass
class Live:
    """The frames of a stretch, as `video.Frames`."""

    name: str
    images: Sequence[np.ndarray] | np.ndarray
    """u8[H, W] of each row."""
    numbers: list[int]

    def __len__(self) -> int:
        """Rows."""
        return len(self.images)

    def __getitem__(self, row: int) -> np.ndarray:
        """u8[H, W] of a row."""
        return self.images[row]

    @property
    def place(self) -> Path:
        """The video, for messages."""
        return Path(self.name)

    def where(self, row: int) -> str:
        """`video, frame N`."""
        return f"{self.name}, frame {self.numbers[row]}"


def clock(source_fps: float, trained_fps: float) -> float:
    """Rows per second: the rate that a system was trained at, or the video's if that is lower.

    Within 5 % every frame is a row.

    >>> clock(29.97, 30), clock(60, 30), clock(25, 30), clock(30, 200)
    (29.97, 30, 25, 30)
    """
    return trained_fps if source_fps > 1.05 * trained_fps else source_fps


def make_spec(config: Config, rate: float) -> FeatureSpec:
    """How the features of `config` (k of both types given) are made of a video of `rate` fps."""
    video = RawVideo(
        "", "video", (), np.arange(1, dtype=np.int32), rate, (), (), file=Path("video")
    )
    spec = kinds.build(config, RawDataset("own", (video,), (), ()))
    spec.check()
    return spec


def context(config: Config, k: Mapping[str, int], rate: float) -> Context:
    """What the features and scores of `config` look at around a row."""
    features = config.features
    if isinstance(features, SoftnetFeatures):
        longest = max(k.values())
        return Context(0, longest, held_before=longest, held_after=2 * longest)
    if isinstance(features, SfamnetFeatures):
        pair = max(1, round(features.seconds * rate))
        return Context(0, pair, held_before=SMOOTHED, held_after=SMOOTHED + pair)
    if isinstance(features, SpotformerFeatures):
        return Context(features.window // 2, features.window // 2)
    if isinstance(features, MesnetFeatures):
        return Context(0, 1)
    assert isinstance(features, Cnn3dFeatures)
    longest = max(config.system.k_micro, config.system.k_macro)  # type: ignore[union-attr]
    return {
        "forward": Context(0, 0, longest),
        "backward": Context(longest, 0),
        "centred": Context(longest, 0, longest),
    }[config.system.reference]  # type: ignore[union-attr]


@dataclass
class Reading:
    """What is known of the rows read so far: enough to go on after an interruption."""

    rows: int = 0
    """Rows whose parts are done."""
    numbers: list[int] = field(default_factory=list)
    """Frame of each of them."""
    times: list[float] = field(default_factory=list)
    """Seconds of each frame read so far."""
    box: tuple[int, int, int, int] | None = None


def parts(
    source: Source,
    spec: FeatureSpec,
    rate: float,
    around: Context,
    tracker: Tracker,
    done: Reading,
    report: Callable[[int], object],
) -> Iterator[Part]:
    """The features of `source` from row `done.rows` on.

    Decoding goes on in a thread of its own, one stretch ahead.  `report(n)` is called whenever n
    more frames of the video are done.  Notes on what had to be left out are added to
    `source.notes`.  Raises UserError if the video cannot be read or is too short.
    """
    ready: queue.Queue[Any] = queue.Queue(maxsize=1)
    stop = threading.Event()

    def hand_over(item: Any) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def read() -> None:
        try:
            for stretch in stretches(source, rate, around, done):
                if not hand_over(stretch):
                    return
            hand_over(None)
        except BaseException as error:  # it is raised where the parts are taken
            hand_over(error)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    box = done.box
    try:
        while (stretch := ready.get()) is not None:
            if isinstance(stretch, BaseException):
                raise stretch
            if box is not None:
                tracker.resume(_scaled(box, stretch.scale))
                box = None
            yield _part(source, spec, rate, stretch, tracker)
            report(len(stretch.times))
    finally:
        stop.set()
        reader.join()


class Stretch(NamedTuple):
    """Some consecutive rows, with those around them that their features look at."""

    first: int
    before: int
    own: int
    live: Live
    scale: float
    times: list[float]
    first_time: int


def stretches(source: Source, rate: float, around: Context, done: Reading) -> Iterator[Stretch]:
    """Stretches of rows, each with its context, read in order."""
    images: list[np.ndarray] = []
    numbers: list[int] = []
    times: list[float] = []
    start = max(0, done.rows - around.before)  # first row of `images`
    own_from, read_from = done.rows, len(done.times)
    after = around.after + around.scored_after
    least = around.before + 2 * after + 17  # what no extraction finds too short
    core = 0
    scale = 1.0
    for shot, count in on_the_clock(source, rate, done, start, around):
        if shot.number >= read_from + len(times):
            times.append(shot.time)
        if not count:
            continue
        scale = min(1.0, LARGEST / max(shot.image.shape[:2]))
        grey = _grey(shot, scale)
        core = core or max(least, int(min(SECONDS * rate, STRETCH_BYTES / grey.size)))
        images += [grey] * count
        numbers += [shot.number] * count
        while start + len(images) >= own_from + core + after + least:
            own = slice(0, own_from - start + core + after)
            # one block, not many arrays that another thread frees: memory then does not grow
            live = Live(source.name, np.stack(images[own]), numbers[own])
            yield Stretch(own_from, own_from - start, core, live, scale, times, read_from)
            read_from, times = read_from + len(times), []
            own_from += core
            dropped = own_from - around.before - start
            images, numbers, start = images[dropped:], numbers[dropped:], start + dropped
    own_rows = start + len(images) - own_from
    if own_rows > 0:
        live = Live(source.name, images, numbers)
        yield Stretch(own_from, own_from - start, own_rows, live, scale, times, read_from)


def on_the_clock(
    source: Source, rate: float, done: Reading, start: int, around: Context
) -> Iterator[tuple[Shot, int]]:
    """Frames from that of row `start` on, each with the number of rows that it is the frame of.

    Row r is the frame seen at (r - held_before) / rate seconds; the frame of a gap is the one
    before it.
    """
    half = 0.5 / max(rate, source.fps)
    row = start - around.held_before
    first = 0
    if done.numbers:  # the frame of row `start`, or one that comes before it
        first = done.numbers[min(start, len(done.numbers) - 1)]
    held: Shot | None = None
    for shot in source.skip(first):
        if held is not None:
            until = shot.time - half
            count = 0
            while row / rate < until - 1e-9:
                row, count = row + 1, count + 1
            yield held, count
        held = shot
    if held is not None:
        rows = int((held.time + half) * rate + 1e-9) + 1 + around.held_after
        yield held, max(0, rows - row)


def _grey(shot: Shot, scale: float) -> np.ndarray:
    grey = cv2.cvtColor(shot.image, cv2.COLOR_BGR2GRAY)
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return grey


def _scaled(box: tuple[int, int, int, int], scale: float) -> tuple[int, int, int, int]:
    left, top, right, bottom = (round(edge * scale) for edge in box)
    return left, top, right, bottom


def _part(
    source: Source, spec: FeatureSpec, rate: float, stretch: Stretch, tracker: Tracker
) -> Part:
    """The features of a stretch, zero where there is no face."""
    live = stretch.live
    tracker.begin()
    video = RawVideo(
        "", source.name, (), np.arange(len(live), dtype=np.int32), rate, (), (),
        file=live.place, live=(live, tracker),
    )  # fmt: skip
    box = None
    try:
        found = spec.extract(video, lambda frames: None)
        assert tracker.last is not None
        box = _scaled(tracker.last.box, 1 / stretch.scale)
    except NoFace:
        found = Extracted(np.zeros(len(live), np.uint8), (0, 0, 0, 0), {})
    except UserError as error:
        if stretch.first == 0 and stretch.own == len(live):
            raise  # the whole video
        found = Extracted(np.zeros(len(live), np.uint8), (0, 0, 0, 0), {})
        source.notes.append(f"frames {live.numbers[0]} to {live.numbers[-1]} left out: {error}")
    rows = found.rows or empty_rows(spec.streams, len(live))
    own = slice(stretch.before, stretch.before + stretch.own)
    return Part(
        first=stretch.first,
        numbers=np.asarray(live.numbers[own], np.int64),
        face=found.face[own],
        box=box,
        rows=rows,
        before=stretch.before,
        times=np.asarray(stretch.times),
        first_time=stretch.first_time,
    )
