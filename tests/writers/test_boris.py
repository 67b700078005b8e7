"""BORIS projects: the keys that BORIS reads, and events that pair."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from spottings import MACRO, ODD, make_spotting, spottings

from spotjax.spotting import Spotting
from spotjax.types import Detection
from spotjax.writers import boris_project, boris_tsv

TOP = {
    "time_format", "project_date", "project_name", "project_description",
    "project_format_version", "subjects_conf", "behaviors_conf", "observations",
    "behavioral_categories", "independent_variables", "coding_map", "behaviors_coding_map",
    "converters",
}  # fmt: skip
"""What BORIS's empty project has."""


def observation(spotting: Spotting, folder: Path | None = None) -> Any:
    project = json.loads(boris_project(spotting, folder))
    ((name, found),) = project["observations"].items()
    assert name == name.strip() != ""
    return found


def paired(events: list[list[Any]], code: str) -> list[tuple[int, int]]:
    """Milliseconds of the state events of one behaviour, paired by turns as BORIS does."""
    open_at: dict[tuple[str, str], float] = {}
    found = []
    for time, subject, behaviour, modifier, *_ in events:
        if behaviour == code:
            if (subject, modifier) in open_at:
                start = open_at.pop((subject, modifier))
                found.append((round(start * 1000), round(time * 1000)))
            else:
                open_at[subject, modifier] = time
    assert not open_at
    return found


def test_project_by_hand() -> None:
    project = json.loads(boris_project(make_spotting(), Path("/films").absolute()))
    assert set(project) >= TOP
    assert project["project_format_version"] == "7.0"
    assert project["project_date"] == "2025-11-25T14:03:07"
    behaviours = {b["code"]: b for b in project["behaviors_conf"].values()}
    assert {code: b["type"] for code, b in behaviours.items()} == {
        "macro": "State event", "micro": "State event", "apex": "Point event",
    }  # fmt: skip
    assert all(
        set(b) == {"type", "key", "code", "description", "color", "category", "modifiers",
                   "excluded", "coding map"}
        for b in behaviours.values()
    )  # fmt: skip
    keys = [b["key"] for b in (*behaviours.values(), *project["subjects_conf"].values())]
    assert len(set(keys)) == len(keys) == 4
    assert project["subjects_conf"]["0"]["name"] == "face"
    found = project["observations"]["interview.mp4"]
    assert found["type"] == "MEDIA"
    assert found["file"]["1"] == ["interview.mp4"]
    assert found["media_info"] == {
        "length": {"interview.mp4": 0.32},
        "fps": {"interview.mp4": 25.0},
        "hasVideo": {"interview.mp4": True},
        "hasAudio": {"interview.mp4": False},
        "offset": {"1": 0.0},
    }
    assert found["events"] == [
        [0.08, "face", "macro", "", "macro 0.750", 2],
        [0.12, "face", "apex", "", "macro 0.750", 3],
        [0.16, "face", "apex", "", "micro 0.500 happiness", 4],
        [0.16, "face", "micro", "", "micro 0.500 happiness", 4],
        [0.2, "face", "macro", "", "", 4],
        [0.24, "face", "micro", "", "", 5],
    ]


def test_a_media_file_elsewhere_keeps_its_absolute_path() -> None:
    spotting = make_spotting(media=Path("/films", ODD).absolute())
    text = boris_project(spotting, Path("/films/out").absolute())
    assert text.isascii()
    (found,) = json.loads(text)["observations"].values()
    assert found["file"]["1"] == [str(spotting.media)] == list(found["media_info"]["length"])
    assert observation(spotting, Path("/").absolute())["file"]["1"] == [f"films/{ODD}"]


def test_without_a_media_file_the_observation_is_live() -> None:
    found = observation(make_spotting(media=None))
    assert (found["type"], found["file"]) == ("LIVE", {})
    assert found["events"][0] == [0.08, "face", "macro", "", "macro 0.750"]


def test_overlapping_detections_of_a_type_are_one_event() -> None:
    found = observation(make_spotting((MACRO, MACRO._replace(onset=3, offset=6, score=0.9))))
    assert paired(found["events"], "macro") == [(80, 280)]
    comments = [event[4] for event in found["events"]]
    assert comments == ["macro 0.900 (2 merged)", "macro 0.900", ""]
    assert "frames 2-4 (0.750), 3-6 (0.900)" in found["description"]


def test_events_to_paste() -> None:
    text = boris_tsv(make_spotting())
    lines = text.split("\n")
    assert lines[0] == "0.080\tface\tmacro\t\tmacro 0.750\t2"
    assert {len(line.split("\t")) for line in lines} == {6}
    live = boris_tsv(make_spotting(media=None)).split("\n")
    assert {len(line.split("\t")) for line in live} == {5}
    assert boris_tsv(make_spotting(())) == ""


@pytest.mark.parametrize("media", [None, Path("/a.mp4").absolute()])
def test_touching_events_stay_apart(media: Path | None) -> None:
    found = (Detection(0, 0, 1, "micro", 0.5), Detection(2, 2, 3, "micro", 0.5))
    spotting = make_spotting(found, media=media)
    events = observation(spotting)["events"]
    assert paired(events, "micro") == [(0, 80), (80, 160)]
    # BORIS skips a pasted event that it has already
    lines = boris_tsv(spotting).split("\n")
    assert len(set(lines)) == len(lines) == 6


@settings(deadline=None, max_examples=50)
@given(spottings())
def test_boris_reads_the_same_intervals(spotting: Spotting) -> None:
    found = observation(spotting, Path("/films").absolute())
    events = found["events"]
    assert [event[0] for event in events] == sorted(event[0] for event in events)
    assert {event[1] for event in events} <= {"face"}
    apexes = sum(event[2] == "apex" for event in events)
    spans = [*paired(events, "macro"), *paired(events, "micro")]
    assert len(events) == 2 * len(spans) + apexes
    assert bool(apexes) == bool(spotting.detections)
    for type in ("macro", "micro"):
        pairs = paired(events, type)
        assert all(start < end for start, end in pairs)
        assert all(a[1] <= b[0] for a, b in zip(pairs, pairs[1:], strict=False))
        wanted = [d for d in spotting.detections if d.type == type]
        for d in wanted:
            start, end = spotting.onset_s(d) * 1000, spotting.offset_s(d) * 1000
            assert sum(a <= start + 0.501 and end - 0.501 <= b for a, b in pairs) >= 1
        assert len(pairs) <= len(wanted)
    rows = [line.split("\t") for line in boris_tsv(spotting).split("\n") if events]
    assert [[float(time), *rest] for time, *rest in rows] == [
        [time, *map(str, rest)] for time, *rest in events
    ]
    if spotting.media is not None:
        (media,) = found["file"]["1"]
        assert found["media_info"]["fps"] == {media: spotting.fps}
        assert found["media_info"]["length"][media] == pytest.approx(spotting.length_s, abs=5.01e-4)
