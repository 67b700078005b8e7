"""What the synthetic people show: action units, the emotion they stand for, and how often.

A display moves the same actions whatever the data set calls it.  CAS(ME)^2 labels four emotions,
CAS(ME)^3 seven and SAMM-LV none (its people show the four).
"""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Display:
    """One kind of expression: what the coder writes and which actions move how much."""

    action_units: int | str
    emotion: str
    parts: dict[str, float]


class Repertoire(NamedTuple):
    """The displays of a data set, and how often each emotion is seen.

    An emotion is drawn by the video's mood, then one of its displays, all equally likely.
    """

    emotions: tuple[str, ...]
    displays: tuple[Display, ...]
    odds: dict[str, tuple[float, ...]]
    """Mood of the video: the probability of each emotion, in the order of `emotions`."""


def _both(action: str, weight: float = 1.0) -> dict[str, float]:
    return {f"{action}_R": weight, f"{action}_L": weight}


FOUR_EMOTIONS = Repertoire(
    emotions=("negative", "positive", "surprise", "others"),
    displays=(
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
    ),
    odds={
        "disgust": (0.55, 0.1, 0.1, 0.25),
        "anger": (0.55, 0.1, 0.1, 0.25),
        "happy": (0.1, 0.6, 0.1, 0.2),
    },
)

_SEVEN = ("disgust", "surprise", "others", "fear", "anger", "sad", "happy")
SEVEN_EMOTIONS = Repertoire(
    emotions=_SEVEN,
    displays=(
        Display("4", "disgust", _both("au4")),
        Display("1+2", "surprise", _both("au1+2")),
        Display("1+2+25", "surprise", _both("au1+2") | {"au25": 0.8}),
        Display("14", "others", _both("au14")),
        Display("L14", "others", {"au14_L": 1.0}),
        Display("R14", "others", {"au14_R": 1.0}),
        Display("1+2+4", "fear", _both("au1+2") | _both("au4", 0.6)),
        Display("4+14", "anger", _both("au4", 0.8) | _both("au14")),
        Display("15", "sad", _both("au15")),
        Display("4+15", "sad", _both("au4") | _both("au15", 0.8)),
        Display("L15", "sad", {"au15_L": 1.0}),
        Display("12", "happy", _both("au12")),
        Display("12+25", "happy", _both("au12") | {"au25": 0.5}),
        Display("L12", "happy", {"au12_L": 1.0}),
        Display("R12", "happy", {"au12_R": 1.0}),
    ),
    odds={mood: tuple(0.46 if emotion == mood else 0.09 for emotion in _SEVEN) for mood in _SEVEN},
)
