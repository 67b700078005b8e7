"""What evaluated runs found on the same videos, per subject, from their CSV files (NumPy only).

`intervals.csv`, `truths.csv` and `videos.csv` of a run directory hold everything that a matching
rule needs, in the data set's own frame numbers, so that runs of different systems can be counted
alike.  Nothing is compared that was not scored on the same videos with the same truths.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydantic

from spotjax import config as config_lib
from spotjax.config import EXPRESSION_TYPES, Config
from spotjax.counting import headline, metrics, score_inputs
from spotjax.counting.matching import Counts, VideoResult
from spotjax.errors import UserError
from spotjax.papers import run_tables


class Scored(NamedTuple):
    """What one run, or a training-free method, found."""

    label: str
    """The run directory, `RUN:METHOD` for a method."""
    folder: Path
    metrics: Mapping[str, Any]
    """metrics.json of the run."""
    types: tuple[str, ...]
    """Expression types that it spots, macro before micro."""
    subjects: dict[str, str]
    """Subject of every video by its id, in the order of videos.csv."""
    frames: dict[str, int]
    """Number of each video's last frame."""
    results: dict[str, dict[str, VideoResult]]
    """By type and video id."""
    method: str = ""
    """Of the training-free method; empty for the run's system."""

    @property
    def protocol(self) -> Mapping[str, Any]:
        """How it was evaluated."""
        return self.metrics["protocol"]

    def only(self, videos: Iterable[str]) -> "Scored":
        """The same without the other videos."""
        kept = set(videos)

        def those(values: dict[str, Any]) -> dict[str, Any]:
            return {video: value for video, value in values.items() if video in kept}

        results = {type: those(found) for type, found in self.results.items()}
        return self._replace(
            subjects=those(self.subjects), frames=those(self.frames), results=results
        )


def read(folder: Path) -> Scored:
    """What the last evaluation of a run has found.

    Raises UserError: no run directory, not evaluated, or a file that is missing or malformed.
    """
    found = run_tables.read_results(folder)
    again = f"run python -m spotjax.evaluate --workdir {folder}"
    intervals, truths, videos = (folder / f"{n}.csv" for n in ("intervals", "truths", "videos"))
    for path in (intervals, truths, videos):
        if not path.exists():
            raise UserError(f"{path}: is not there: {again}")
    inputs = score_inputs.load(intervals, truths, videos, again)
    cases = score_inputs.cases_of(inputs, "all")
    spotted = found["protocol"].get("types", EXPRESSION_TYPES)
    return Scored(
        str(folder),
        folder,
        found,
        tuple(type for type in EXPRESSION_TYPES if type in spotted),
        {ident: ident.partition("/")[0] for ident in inputs.videos},
        {ident: int(number or 0) for ident, number in inputs.videos.items()},
        {type: {v: case.result for v, case in of.items()} for type, of in cases.items()},
    )


def evaluated(scored: Scored) -> Config:
    """The config that the run was evaluated with, keys that are younger than it at their defaults.

    Raises UserError if it is no config of this version.
    """
    try:
        return config_lib.from_dict(scored.protocol["config"])
    except (pydantic.ValidationError, KeyError, TypeError):
        raise UserError(
            f"{scored.folder / 'metrics.json'}: protocol.config is not a config of this version: "
            f"run python -m spotjax.evaluate --workdir {scored.folder}"
        ) from None


def joined(values: Iterable[float], joint: str) -> str:
    """Counts, or their means over runs, in a row.

    >>> joined([35, 12.333, 10], "/")
    '35/12.3/10'
    """
    return joint.join(f"{value:.1f}".removesuffix(".0") for value in values)


def counts(
    scored: Scored, rule: str, iou: float, video_set: str = "all"
) -> dict[str, dict[str, Counts]]:
    """Counts by type (`overall` last, if several) and subject, in the order of the videos.

    `video_set` is `evaluation.videos`.  Raises KeyError for an unknown rule.
    """
    found: dict[str, dict[str, Counts]] = {}
    for type in scored.types:
        row = {subject: Counts() for subject in scored.subjects.values()}
        for video, result in scored.results[type].items():
            if video_set == "all" or len(result.truths):
                row[scored.subjects[video]] += metrics.count([result], rule, iou)
        found[type] = row
    if len(found) > 1:
        found["overall"] = {
            subject: sum((row[subject] for row in found.values()), Counts())
            for subject in scored.subjects.values()
        }
    return found


def table(
    members: Sequence[Scored], type: str, rule: str, iou: float, video_set: str = "all"
) -> np.ndarray:
    """Counts i64[N, S, 4] of N runs on the subjects of the first one, for `counting.paired`."""
    each = [counts(one, rule, iou, video_set)[type] for one in members]
    return np.asarray([[row[subject] for subject in each[0]] for row in each], np.int64)


def types_of(members: Sequence[Scored]) -> tuple[str, ...]:
    """The types that all of them spot, and `overall` if these are several."""
    shared = tuple(t for t in EXPRESSION_TYPES if all(t in one.types for one in members))
    return headline.types_of({"types": shared}) if shared else ()


# --- the same videos ------------------------------------------------------------------------------


def refuse_different(members: Sequence[Scored], remedy: str) -> None:
    """Raise UserError naming the first video or truth in which a run differs from the first."""
    for other in members[1:]:
        if why := first_difference(members[0], other):
            raise UserError(f"{why}: {remedy}")


def first_difference(one: Scored, other: Scored) -> str:
    """The first video or truth that only one of two runs has, in words; empty if there is none."""
    for has, lacks in ((one, other), (other, one)):
        for video in has.frames:
            if video not in lacks.frames:
                return f"{lacks.label}: did not score the video {video}, which {has.label} did"
    for video, number in one.frames.items():
        if other.frames[video] != number:
            return (
                f"{other.label}: {video} ends with frame {other.frames[video]}, in {one.label} "
                f"with {number}"
            )
    for type in EXPRESSION_TYPES:
        for video in one.frames:
            mine, yours = (_truths(scored, type, video) for scored in (one, other))
            if mine != yours:
                odd = min((mine - yours) + (yours - mine))
                has, lacks = (one, other) if mine[odd] > yours[odd] else (other, one)
                return (
                    f"{lacks.label}: {video} has no {type}-expression from {odd[0]} to {odd[1]}, "
                    f"in {has.label} it has"
                )
    return ""


def _truths(scored: Scored, type: str, video: str) -> Counter[tuple[int, int]]:
    truths = scored.results[type][video].truths.tolist()
    return Counter((onset, offset) for onset, offset in truths)


def common(members: Sequence[Scored]) -> list[Scored]:
    """The runs on the videos that all of them have scored.  Raises UserError if there is none."""
    shared = [v for v in members[0].frames if all(v in one.frames for one in members)]
    if not shared:
        names = ", ".join(one.label for one in members)
        raise UserError(f"--common: no video was scored by all of {names}")
    first = [one.only(shared) for one in members]
    return [
        one._replace(
            subjects={video: one.subjects[video] for video in shared},
            frames={video: one.frames[video] for video in shared},
        )
        for one in first
    ]
