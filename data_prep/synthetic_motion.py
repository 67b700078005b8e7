"""What happens in one synthetic video, frame by frame: expressions with labels, and distractors.

Everything here is numbers: strengths in px of a 300 px face, times in seconds that a `Pace` turns
into frames.  The renderer turns them into pictures.  Labelled are the expressions only; blinks,
head motion, talking, sniffing and swallowing must be told apart from them.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .synthetic_displays import Display, Repertoire
from .synthetic_fields import ACTIONS, LID_LEVELS

Floats = npt.NDArray[np.float32]
Rng = np.random.Generator

VISIBLE_PX = 0.05  # px of a 300 px face: an expression lasts as long as it moves more than this
MACRO, MICRO = "macro-expression", "micro-expression"
SECONDS_PER_EXPRESSION = 10.0  # of one type, on average
STRENGTHS = {MACRO: (1.3, 5.5), MICRO: (0.4, 1.5)}  # px of a 300 px face, the largest displacement


class Pace(NamedTuple):
    """How a camera counts time."""

    fps: int
    lengths: dict[str, tuple[int, int]]
    """Frames that an expression of each type moves: the fewest, the most."""

    @property
    def tempo(self) -> float:
        """Its frames in 1/30 s, the unit of CAS(ME)^2."""
        return self.fps / 30.0

    @property
    def gap(self) -> int:
        """Frames at rest between two expressions, at the least: half a second."""
        return round(15 * self.tempo)


AT_30_FPS = Pace(30, {MACRO: (15, 120), MICRO: (6, 15)})
# Of what moves, the part above VISIBLE_PX is labelled, 3/4 and more.  SAMM-LV's table has
# offset - onset from 101 for macro- and from 29 to 100 for micro-expressions.
AT_200_FPS = Pace(200, {MACRO: (120, 800), MICRO: (44, 100)})


class Script(NamedTuple):
    """What a video is to show, and how fast its camera runs."""

    mood: str
    """One of `repertoire.odds`."""
    repertoire: Repertoire
    pace: Pace
    calm: bool = False
    """Nothing but expressions and a slowly drifting head: no distractors."""


@dataclass(frozen=True)
class Expression:
    """One labelled expression.  Frame numbers are 1-based and inclusive."""

    kind: str
    """MACRO or MICRO."""
    display: Display
    onset: int
    apex: int
    offset: int
    first: int
    """Frame number of profile[0]."""
    profile: Floats
    """f32[n]: the largest displacement in px of a 300 px face, frame by frame."""


@dataclass(frozen=True)
class Motion:
    """One video of T frames."""

    expressions: tuple[Expression, ...]
    actions: Floats
    """f32[T, len(ACTIONS)]: strengths in px of a 300 px face."""
    lids: npt.NDArray[np.int64]
    """i64[T]: 0 open to LID_LEVELS - 1 closed."""
    head: Floats
    """f32[T, 4]: shift x, y (px of a 300 px face), rotation (rad), relative growth."""
    gain: Floats
    """f32[T]: relative brightness."""


def plan_motion(rng: Rng, frames: int, script: Script, first_of_subject: bool) -> Motion:
    """Draw one video; `frames` is its length.

    The first video of a subject always has both types where its length allows; later ones may
    lack one or, rarely, both.
    """
    pace = script.pace
    kinds = _kinds(rng, frames / pace.fps, first_of_subject)
    expressions = _place(rng, kinds, frames, script)
    actions = np.zeros((frames, len(ACTIONS)), np.float32)
    busy = np.zeros(frames, bool)
    margin = round(4 * pace.tempo)
    for event in expressions:
        span = slice(event.first - 1, event.first - 1 + len(event.profile))
        strongest = max(event.display.parts.values())
        for action, weight in event.display.parts.items():
            actions[span, ACTIONS.index(action)] += event.profile * (weight / strongest)
        busy[max(0, span.start - margin) : span.stop + margin] = True
    calm = script.calm
    if not calm:
        _talk(rng, actions, busy, pace)
        _fidget(rng, actions, busy, pace)
    return Motion(
        expressions=tuple(expressions),
        actions=actions,
        lids=np.zeros(frames, np.int64) if calm else _blinks(rng, frames, pace),
        head=_head(rng, frames, pace.fps, nods=not calm),
        gain=_light(rng, frames, pace.fps),
    )


def _kinds(rng: Rng, seconds: float, first_of_subject: bool) -> list[str]:
    """The expressions of a video in the order in which they are tried, both types in turn."""
    mean = seconds / SECONDS_PER_EXPRESSION
    counts = [max(1, int(np.floor(mean + rng.uniform(-0.2, 1.2)))) for _ in range(2)]
    fate = rng.random()
    if not first_of_subject and fate < 0.12:
        counts[int(rng.integers(2))] = 0
        if fate < 0.03:
            counts = [0, 0]
    queues = [[MICRO] * counts[0], [MACRO] * counts[1]]
    turns = range(max(counts))
    return [kind for turn in turns for queue in queues for kind in queue[turn : turn + 1]]


def _place(rng: Rng, kinds: list[str], frames: int, script: Script) -> list[Expression]:
    """Give every expression a length and a place; what does not fit is left out."""
    chosen: list[tuple[str, int]] = []
    pace = script.pace
    room = frames - pace.gap
    for kind in kinds:
        length = min(_length(rng, kind, pace), room - pace.gap)
        if length >= pace.lengths[kind][0]:
            chosen.append((kind, length))
            room -= length + pace.gap
    order = rng.permutation(len(chosen))
    gaps = np.floor(rng.dirichlet(np.ones(len(chosen) + 1)) * room).astype(int)
    placed, start = [], 1
    for gap, index in zip(gaps[:-1], order, strict=True):
        kind, length = chosen[index]
        start += pace.gap + int(gap)
        placed.append(_express(rng, kind, start, length, script))
        start += length
    return placed


def _length(rng: Rng, kind: str, pace: Pace) -> int:
    """Frames: CAS(ME)^2 has 13 on average for micro- and 36 for macro-expressions."""
    thirtieths = (
        rng.triangular(8.0, 16.0, 16.0) if kind == MICRO else rng.lognormal(np.log(31.0), 0.52)
    )
    return int(np.clip(np.round(thirtieths * pace.tempo), *pace.lengths[kind]))


def _express(rng: Rng, kind: str, first: int, length: int, script: Script) -> Expression:
    """One expression over the frames first .. first + length - 1 and its exact label."""
    low, high = STRENGTHS[kind]
    # Macro: evenly over the logarithm, so that weak and strong ones are equally frequent.
    level = rng.random() if kind == MACRO else rng.beta(2.2, 1.2)
    strength = low * (high / low) ** level if kind == MACRO else low + (high - low) * level
    profile = (strength * _profile(rng, length, script.pace)).astype(np.float32)
    repertoire = script.repertoire
    number = rng.choice(len(repertoire.emotions), p=repertoire.odds[script.mood])
    emotion = repertoire.emotions[number]
    options = [display for display in repertoire.displays if display.emotion == emotion]
    visible = np.flatnonzero(profile > VISIBLE_PX)
    return Expression(
        kind=kind,
        display=options[int(rng.integers(len(options)))],
        onset=first + int(visible[0]),
        apex=first + int(np.argmax(profile)),
        offset=first + int(visible[-1]),
        first=first,
        profile=profile,
    )


def _profile(rng: Rng, length: int, pace: Pace) -> npt.NDArray[np.float64]:
    """(length,) rise, sometimes a hold, and fall; exactly 1 at one frame and below elsewhere."""
    peak = rng.uniform(0.3, 0.55)
    hold = rng.uniform(0.1, 0.35) if rng.random() < 0.35 and length >= 12 * pace.tempo else 0.0
    steps = np.arange(1, length + 1) / (length + 1)
    apex = steps[int(np.clip(np.round(peak * length), 1, length - 2))]
    rise_end, fall_start = apex - hold * apex, apex + hold * (1 - apex)
    rise = np.clip(steps / rise_end, 0.0, 1.0)
    fall = np.clip((1.0 - steps) / (1.0 - fall_start), 0.0, 1.0)
    level = np.minimum(0.5 - 0.5 * np.cos(np.pi * rise), 0.5 - 0.5 * np.cos(np.pi * fall))
    # A held expression still has one strongest frame.
    return level * (1.0 - 0.06 * np.abs(steps - apex) / 0.5)


def _talk(rng: Rng, actions: Floats, busy: npt.NDArray[np.bool_], pace: Pace) -> None:
    """Episodes of speech: the mouth opens and narrows at 2 to 6 Hz for about a second."""
    for start, length in _episodes(rng, busy, pace, 12.0, (0.5, 2.2)):
        time = np.arange(length) / pace.fps
        envelope = np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 0.5
        strength = rng.uniform(0.5, 1.8)
        for action, weight in (("au25", 1.0), ("pucker", 0.7)):
            wave = sum(
                rng.uniform(0.5, 1.0) * np.sin(2 * np.pi * (rate * time + rng.random()))
                for rate in rng.uniform(2.0, 6.0, 3)
            )
            level = np.clip(0.5 + wave / 3.0, 0.0, 1.0) if action == "au25" else wave / 2.0
            span = slice(start, start + length)
            actions[span, ACTIONS.index(action)] += strength * weight * envelope * level


def _fidget(rng: Rng, actions: Floats, busy: npt.NDArray[np.bool_], pace: Pace) -> None:
    """Sniffs and swallows, which last as long as a micro-expression but sit elsewhere."""
    for action, every, strength in (("sniff", 25.0, 1.2), ("swallow", 25.0, 1.8)):
        for start, length in _episodes(rng, busy, pace, every, (0.3, 0.8)):
            shape = np.sin(np.pi * (np.arange(length) + 1) / (length + 1)) ** 2
            level = rng.uniform(0.4, 1.0) * strength * shape
            actions[start : start + length, ACTIONS.index(action)] += level


def _episodes(
    rng: Rng, busy: npt.NDArray[np.bool_], pace: Pace, every: float, seconds: tuple[float, float]
) -> list[tuple[int, int]]:
    """(start, length) frames of episodes that keep clear of expressions.

    There is one about `every` seconds, and it lasts from `seconds[0]` to `seconds[1]`.
    """
    frames = len(busy)
    found = []
    for _ in range(int(rng.poisson(frames / pace.fps / every))):
        length = int(pace.fps * rng.uniform(*seconds))
        start = int(rng.integers(0, max(1, frames - length)))
        if start + length <= frames and not busy[start : start + length].any():
            found.append((start, length))
    return found


def _blinks(rng: Rng, frames: int, pace: Pace) -> npt.NDArray[np.int64]:
    """(frames,) eyelid levels: a blink every 3 to 10 s, closed in 0.1, open again after 0.2 s."""
    lids = np.zeros(frames, np.int64)
    frame = int(rng.uniform(0.5, 5.0) * pace.fps)
    while frame < frames:
        down, up = (round(pace.tempo * int(rng.integers(*few))) for few in ((2, 4), (3, 7)))
        depth = (LID_LEVELS - 1) * (1.0 if rng.random() < 0.85 else rng.uniform(0.3, 0.8))
        level = np.concatenate([np.linspace(0, 1, down + 1), np.linspace(1, 0, up + 1)])
        level = np.round(depth * level).astype(np.int64)[: frames - frame]
        lids[frame : frame + len(level)] = level
        frame += int(rng.uniform(3.0, 10.0) * pace.fps)
    return lids


def _head(rng: Rng, frames: int, fps: int, nods: bool) -> Floats:
    """(frames, 4) slow drift with a little sway and, with `nods`, quicker nods and turns."""
    time = np.arange(frames) / fps
    head = np.zeros((frames, 4))
    spread = np.array([3.0, 2.2, 0.007, 0.005])
    for column in range(4):
        for period in rng.uniform(4.0, 16.0, 3):
            wave = np.sin(2 * np.pi * (time / period + rng.random()))
            head[:, column] += spread[column] * rng.uniform(0.2, 0.7) * wave
        sway = np.sin(2 * np.pi * (time * rng.uniform(0.5, 1.1) + rng.random()))
        head[:, column] += 0.04 * spread[column] * sway
    for _ in range(int(rng.poisson(frames / fps / 9.0)) if nods else 0):
        centre, width = rng.uniform(0, frames / fps), rng.uniform(0.15, 0.4)
        bump = np.exp(-0.5 * ((time - centre) / width) ** 2)
        head += bump[:, None] * rng.normal(0.0, 1.0, 4) * (1.5, 2.5, 0.008, 0.004)
    return head.astype(np.float32)


def _light(rng: Rng, frames: int, fps: int) -> Floats:
    """(frames,) brightness: mains flicker aliased by the camera, and clouds."""
    time = np.arange(frames) / fps
    flicker = rng.uniform(0.0, 0.006) * np.sin(2 * np.pi * (rng.uniform(2.0, 12.0) * time))
    drift = 0.015 * np.sin(2 * np.pi * (time / rng.uniform(8.0, 25.0) + rng.random()))
    return (1.0 + flicker + drift + rng.normal(0.0, 0.001, frames)).astype(np.float32)
