"""The result of one's own video: its clock, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from spottings import MACRO, MICRO, make_spotting, spottings

from spotjax.spotting import Spotting, check


def test_an_interval_ends_with_its_last_frame() -> None:
    spotting = make_spotting(times=np.array([0, 0.04, 0.1, 0.14, 0.3, 0.31, 0.4, 0.5]))
    times = (spotting.onset_s(MACRO), spotting.apex_s(MACRO), spotting.offset_s(MACRO))
    assert times == (0.1, 0.14, 0.31)
    last = MACRO._replace(offset=7)
    assert spotting.offset_s(last) == pytest.approx(0.54)
    assert spotting.length_s == pytest.approx(0.54)


def test_length_without_frames_is_zero() -> None:
    none = {"macro": np.zeros(0, np.float32)}
    spotting = make_spotting((), times=np.zeros(0), face=np.zeros(0, np.uint8), scores=none)
    check(spotting)
    assert spotting.length_s == 0
    assert not spotting.variable_rate


@pytest.mark.parametrize("fps", [23.976, 29.97, 30, 60, 200, 240])
def test_milliseconds_of_a_container_are_no_variable_rate(fps: float) -> None:
    even = np.arange(500) / fps
    assert not make_spotting(times=even).variable_rate
    assert not make_spotting(times=np.round(even, 3)).variable_rate
    assert not make_spotting(times=np.floor(even * 1000) / 1000 + 0.04).variable_rate


@pytest.mark.parametrize("lost", [1, 250, 498])
@pytest.mark.parametrize("fps", [25, 30, 200])
def test_one_frame_left_out_is_a_variable_rate(fps: int, lost: int) -> None:
    assert make_spotting(times=np.delete(np.arange(500) / fps, lost)).variable_rate


@settings(deadline=None, max_examples=50)
@given(spottings())
def test_every_detection_lasts(spotting: Spotting) -> None:
    check(spotting)
    for d in spotting.detections:
        assert spotting.onset_s(d) <= spotting.apex_s(d) < spotting.offset_s(d) <= spotting.length_s


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"fps": 0.0}, "fps"),
        ({"fps": float("nan")}, "fps"),
        ({"times": np.array([0, 1, 1, 2, 3, 4, 5, 6.0])}, "times"),
        ({"times": np.arange(8.0) - 0.5}, "times"),
        ({"times": np.array([0, 1, 2, 3, 4, 5, 6, np.nan])}, "times"),
        ({"face": np.ones(7, np.uint8)}, "face"),
        ({"media": Path("interview.mp4")}, "media"),
        ({"thresholds": {"both": 0.5}}, r"\['both'\]"),
        ({"scores": {"macro": np.zeros(7, np.float32)}}, "scores"),
        ({"scores": {"macro": np.full(8, np.inf, np.float32)}}, "scores"),
        ({"detections": (MACRO._replace(offset=8),)}, "outside 8 frames"),
        ({"detections": (MACRO._replace(onset=5),)}, "outside 8 frames"),
        ({"detections": (MACRO._replace(apex=-1),)}, "outside 8 frames"),
        ({"detections": (MACRO._replace(score=float("nan")),)}, "finite"),
        ({"detections": (MICRO, MACRO)}, "sorted"),
        ({"provenance": {}}, "date"),
        ({"provenance": {"date": "yesterday"}}, "date"),
    ],
)
def test_what_does_not_fit_together_is_refused(other: dict[str, Any], message: str) -> None:
    check(make_spotting())
    with pytest.raises(ValueError, match=f"^spotting: .*{message}"):
        check(make_spotting(**other))
