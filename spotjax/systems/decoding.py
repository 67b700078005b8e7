"""Decoding of systems with the one problem `both`: from their config's keys to intervals."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from spotjax.decoding.decode import Curve
from spotjax.types import Detection, Video

BOTH = "both"


class Decoding(NamedTuple):
    """How scores become intervals, and the options that may be overridden."""

    spot: Callable[[np.ndarray, np.ndarray, Any], tuple[list[Detection], dict[str, Curve]]]
    """(scores of a video, valid bool[T], options) -> intervals, and the curves to draw by type."""
    options: Callable[..., Any]
    """Makes the options of `spot` of `keys`."""
    keys: Mapping[str, Any]
    """The options as configured."""

    def chosen(self, overrides: Mapping[str, Any]) -> Any:
        """The options with `overrides`, of which those that are no keys do not count."""
        return self.options(**{key: overrides.get(key, value) for key, value in self.keys.items()})

    def decode(
        self, curves: Mapping[str, np.ndarray], valid: Mapping[str, np.ndarray], **overrides: Any
    ) -> tuple[list[Detection], dict[str, Curve]]:
        """`System.decode`: the intervals of a video and its curves by type; errors as `spot`.

        `curves` f32[N, ...] (the system's scores) and `valid` bool[T] are by problem.
        """
        return self.spot(curves[BOTH], valid[BOTH], self.chosen(overrides))


def labelled(
    curves: Sequence[Mapping[str, np.ndarray]],
    valid: Sequence[Mapping[str, np.ndarray]],
    videos: Sequence[Video],
    labels: Callable[[Video], Any],
) -> list[tuple[np.ndarray, np.ndarray, Any]]:
    """(scores, valid, labels) of each video, as thresholds are chosen by in `System.tune`.

    `curves` f32[N, ...] and `valid` bool[T] are by problem, for each video.  Raises ValueError if
    there are not as many of each.
    """
    return [
        (scores[BOTH], there[BOTH], labels(video))
        for scores, there, video in zip(curves, valid, videos, strict=True)
    ]
