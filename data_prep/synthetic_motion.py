"""What happens in one synthetic video, frame by frame: expressions with labels, and distractors.

Everything here is numbers: strengths in px of a 300 px face, times in frames of 30 fps.  The
renderer turns them into pictures.  Labelled are the expressions only; blinks, head motion,
talking, sniffing and swallowing must be told apart from them.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .synthetic_fields import ACTIONS, LID_LEVELS

Floats = npt.NDArray[np.float32]
Rng = np.random.Generator

FPS = 30
VISIBLE_PX = 0.05  # px of a 300 px face: an expression lasts as long as it moves more than this
NEUTRAL_GAP = 15  # frames at rest between two expressions, at the least
MACRO, MICRO = "macro-expression", "micro-expression"
SECONDS_PER_EXPRESSION = 10.0  # of one type, on average
LENGTHS = {MACRO: (15, 120), MICRO: (6, 15)}  # frames
STRENGTHS = {MACRO: (1.3, 5.5), MICRO: (0.4, 1.5)}  # px of a 300 px face, the largest displacement


@dataclass(frozen=True)
class Display:
    """One kind of expression: what the coder writes and which actions move how much."""

    action_units: int | str
    emotion: str
    parts: dict[str, float]


def _both(action: str, weight: float = 1.0) -> dict[str, float]:
    return {f"{action}_R": weight, f"{action}_L": weight}


DISPLAYS = (
    Display(12, "positive", _both("au12")),
    Display("12+25", "positive", _both("au12") | {"au25": 0.5}),
    Display("L12", "positive", {"au12_L": 1.0}),
    Display("R12", "positive", {"au12_R": 1.0}),
    Display(4, "negative", _both("au4")),
    Display("4+15", "negative", _both("au4") | _both("au15", 0.8)),
    Display(15, "negative", _both("au15")),
    Display("L15", "negative", {"au15_L": 1.0}),
    Display("1+2", "surprise", _both("au1+2")),
    Display("1+2+25", "surprise", _both("au1+2") | {"au25": 0.8}),
    Display(14, "others", _both("au14")),
    Display("L14", "others", {"au14_L": 1.0}),
    Display("R14", "others", {"au14_R": 1.0}),
    Display("4+14", "others", _both("au4", 0.8) | _both("au14")),
)
EMOTION_ODDS = {  # of the clip: odds of negative, positive, surprise, others
    "disgust": (0.55, 0.1, 0.1, 0.25),
    "anger": (0.55, 0.1, 0.1, 0.25),
    "happy": (0.1, 0.6, 0.1, 0.2),
}
EMOTIONS = ("negative", "positive", "surprise", "others")


@dataclass(frozen=True)
class Expression:
    """One labelled expression.  Frame numbers are 1-based and inclusive."""

    kind: str  # MACRO or MICRO
    display: Display
    onset: int
    apex: int
    offset: int
    first: int  # frame number of profile[0]
    profile: Floats  # px of a 300 px face, the largest displacement frame by frame


@dataclass(frozen=True)
class Motion:
    """One video of T frames."""

    expressions: tuple[Expression, ...]
    actions: Floats  # (T, len(ACTIONS)) strengths, px of a 300 px face
    lids: npt.NDArray[np.int64]  # (T,) 0 open .. LID_LEVELS - 1 closed
    head: Floats  # (T, 4) shift x, y (px of a 300 px face), rotation (rad), relative scale
    gain: Floats  # (T,) relative brightness


def plan_motion(rng: Rng, frames: int, clip: str, first_of_subject: bool) -> Motion:
    """Draw one video.  `clip` is disgust, anger or happy; `frames` its length.

    The first video of a subject always has both types where its length allows; later ones may
    lack one or, rarely, both.
    """
    kinds = _kinds(rng, frames, first_of_subject)
    expressions = _place(rng, kinds, frames, clip)
    actions = np.zeros((frames, len(ACTIONS)), np.float32)
    busy = np.zeros(frames, bool)
    for event in expressions:
        span = slice(event.first - 1, event.first - 1 + len(event.profile))
        strongest = max(event.display.parts.values())
        for action, weight in event.display.parts.items():
            actions[span, ACTIONS.index(action)] += event.profile * (weight / strongest)
        busy[max(0, span.start - 4) : span.stop + 4] = True
    _talk(rng, actions, busy)
    _fidget(rng, actions, busy)
    return Motion(
        expressions=tuple(expressions),
        actions=actions,
        lids=_blinks(rng, frames, busy),
        head=_head(rng, frames),
        gain=_light(rng, frames),
    )


def _kinds(rng: Rng, frames: int, first_of_subject: bool) -> list[str]:
    """The expressions of a video in the order in which they are tried, both types in turn."""
    mean = frames / FPS / SECONDS_PER_EXPRESSION
    counts = [max(1, int(np.floor(mean + rng.uniform(-0.2, 1.2)))) for _ in range(2)]
    fate = rng.random()
    if not first_of_subject and fate < 0.12:
        counts[int(rng.integers(2))] = 0
        if fate < 0.03:
            counts = [0, 0]
    queues = [[MICRO] * counts[0], [MACRO] * counts[1]]
    turns = range(max(counts))
    return [kind for turn in turns for queue in queues for kind in queue[turn : turn + 1]]


def _place(rng: Rng, kinds: list[str], frames: int, clip: str) -> list[Expression]:
    """Give every expression a length and a place; what does not fit is left out."""
    chosen: list[tuple[str, int]] = []
    room = frames - NEUTRAL_GAP
    for kind in kinds:
        length = min(_length(rng, kind), room - NEUTRAL_GAP)
        if length >= LENGTHS[kind][0]:
            chosen.append((kind, length))
            room -= length + NEUTRAL_GAP
    order = rng.permutation(len(chosen))
    gaps = np.floor(rng.dirichlet(np.ones(len(chosen) + 1)) * room).astype(int)
    placed, start = [], 1
    for gap, index in zip(gaps[:-1], order, strict=True):
        kind, length = chosen[index]
        start += NEUTRAL_GAP + int(gap)
        placed.append(_express(rng, kind, start, length, clip))
        start += length
    return placed


def _length(rng: Rng, kind: str) -> int:
    """Frames: CAS(ME)^2 has 13 on average for micro- and 36 for macro-expressions."""
    low, high = LENGTHS[kind]
    if kind == MICRO:
        return int(np.clip(np.round(rng.triangular(8.0, 16.0, 16.0)), low, high))
    return int(np.clip(np.round(rng.lognormal(np.log(31.0), 0.52)), low, high))


def _express(rng: Rng, kind: str, first: int, length: int, clip: str) -> Expression:
    """One expression over the frames first .. first + length - 1 and its exact label."""
    low, high = STRENGTHS[kind]
    # Macro: evenly over the logarithm, so that weak and strong ones are equally frequent.
    level = rng.random() if kind == MACRO else rng.beta(2.2, 1.2)
    strength = low * (high / low) ** level if kind == MACRO else low + (high - low) * level
    profile = (strength * _profile(rng, length)).astype(np.float32)
    emotion = EMOTIONS[rng.choice(4, p=EMOTION_ODDS[clip])]
    options = [display for display in DISPLAYS if display.emotion == emotion]
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


def _profile(rng: Rng, length: int) -> npt.NDArray[np.float64]:
    """(length,) rise, sometimes a hold, and fall; exactly 1 at one frame and below elsewhere."""
    peak = rng.uniform(0.3, 0.55)
    hold = rng.uniform(0.1, 0.35) if rng.random() < 0.35 and length >= 12 else 0.0
    steps = np.arange(1, length + 1) / (length + 1)
    apex = steps[int(np.clip(np.round(peak * length), 1, length - 2))]
    rise_end, fall_start = apex - hold * apex, apex + hold * (1 - apex)
    rise = np.clip(steps / rise_end, 0.0, 1.0)
    fall = np.clip((1.0 - steps) / (1.0 - fall_start), 0.0, 1.0)
    level = np.minimum(0.5 - 0.5 * np.cos(np.pi * rise), 0.5 - 0.5 * np.cos(np.pi * fall))
    # A held expression still has one strongest frame.
    return level * (1.0 - 0.06 * np.abs(steps - apex) / 0.5)


def _talk(rng: Rng, actions: Floats, busy: npt.NDArray[np.bool_]) -> None:
    """Episodes of speech: the mouth opens and narrows at 2 to 6 Hz for about a second."""
    for start, length in _episodes(rng, busy, every=12.0, shortest=0.5, longest=2.2):
        time = np.arange(length) / FPS
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


def _fidget(rng: Rng, actions: Floats, busy: npt.NDArray[np.bool_]) -> None:
    """Sniffs and swallows, which last as long as a micro-expression but sit elsewhere."""
    for action, every, strength in (("sniff", 25.0, 1.2), ("swallow", 25.0, 1.8)):
        for start, length in _episodes(rng, busy, every=every, shortest=0.3, longest=0.8):
            shape = np.sin(np.pi * (np.arange(length) + 1) / (length + 1)) ** 2
            level = rng.uniform(0.4, 1.0) * strength * shape
            actions[start : start + length, ACTIONS.index(action)] += level


def _episodes(
    rng: Rng, busy: npt.NDArray[np.bool_], every: float, shortest: float, longest: float
) -> list[tuple[int, int]]:
    """(start, length) frames of episodes about `every` seconds that keep clear of expressions."""
    frames = len(busy)
    found = []
    for _ in range(int(rng.poisson(frames / FPS / every))):
        length = int(FPS * rng.uniform(shortest, longest))
        start = int(rng.integers(0, max(1, frames - length)))
        if start + length <= frames and not busy[start : start + length].any():
            found.append((start, length))
    return found


def _blinks(rng: Rng, frames: int, busy: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """(frames,) eyelid levels: a blink every 3 to 10 s, closed in 3, open again after 5 frames."""
    lids = np.zeros(frames, np.int64)
    frame = int(rng.uniform(0.5, 5.0) * FPS)
    while frame < frames:
        down, up = int(rng.integers(2, 4)), int(rng.integers(3, 7))
        depth = (LID_LEVELS - 1) * (1.0 if rng.random() < 0.85 else rng.uniform(0.3, 0.8))
        level = np.concatenate([np.linspace(0, 1, down + 1), np.linspace(1, 0, up + 1)])
        level = np.round(depth * level).astype(np.int64)[: frames - frame]
        lids[frame : frame + len(level)] = level
        frame += int(rng.uniform(3.0, 10.0) * FPS)
    return lids


def _head(rng: Rng, frames: int) -> Floats:
    """(frames, 4) slow drift with a little sway, and now and then a quicker nod or turn."""
    time = np.arange(frames) / FPS
    head = np.zeros((frames, 4))
    spread = np.array([3.0, 2.2, 0.007, 0.005])
    for column in range(4):
        for period in rng.uniform(4.0, 16.0, 3):
            wave = np.sin(2 * np.pi * (time / period + rng.random()))
            head[:, column] += spread[column] * rng.uniform(0.2, 0.7) * wave
        sway = np.sin(2 * np.pi * (time * rng.uniform(0.5, 1.1) + rng.random()))
        head[:, column] += 0.04 * spread[column] * sway
    for _ in range(int(rng.poisson(frames / FPS / 9.0))):
        centre, width = rng.uniform(0, frames / FPS), rng.uniform(0.15, 0.4)
        bump = np.exp(-0.5 * ((time - centre) / width) ** 2)
        head += bump[:, None] * rng.normal(0.0, 1.0, 4) * (1.5, 2.5, 0.008, 0.004)
    return head.astype(np.float32)


def _light(rng: Rng, frames: int) -> Floats:
    """(frames,) brightness: mains flicker aliased by the camera, and clouds."""
    time = np.arange(frames) / FPS
    flicker = rng.uniform(0.0, 0.006) * np.sin(2 * np.pi * (rng.uniform(2.0, 12.0) * time))
    drift = 0.015 * np.sin(2 * np.pi * (time / rng.uniform(8.0, 25.0) + rng.random()))
    return (1.0 + flicker + drift + rng.normal(0.0, 0.001, frames)).astype(np.float32)
