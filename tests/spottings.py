"""Spotted videos for the tests of the writers: one by hand, and any at all."""

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from spotjax.spotting import Spotting
from spotjax.types import Detection

PROVENANCE = {"date": "2025-11-25T14:03:07+01:00", "version": "0.1.0", "fps": 25.0}
ODD = "Mäx & <Möritz> 'a' \"b\" 50%.mp4"
MACRO = Detection(2, 3, 4, "macro", 0.75)
MICRO = Detection(4, 4, 5, "micro", 0.5, "happiness")


def make_spotting(detections: tuple[Detection, ...] = (MACRO, MICRO), **other: Any) -> Spotting:
    """Eight frames of 40 ms; frame 6 has no face, and the last two have no scores."""
    macro = np.array([0.1, 0.2, 0.3, 0.75, 0.5, 0.1, np.nan, np.nan], np.float32)
    values = {
        "video": "interview.mp4",
        "media": Path("/films/interview.mp4").absolute(),
        "fps": 25.0,
        "times": np.arange(8) / 25,
        "face": np.array([1, 1, 1, 1, 1, 1, 0, 1], np.uint8),
        "scores": {"macro": macro, "micro": macro[::-1].copy()},
        "thresholds": {"macro": 0.6, "micro": float("nan")},
        "detections": detections,
        "system": "softnet",
        "provenance": PROVENANCE,
        "warnings": (),
    }
    return Spotting(**(values | other))


@st.composite
def spottings(draw: st.DrawFn) -> Spotting:
    """Any result: uneven clocks, frames shorter than a millisecond, no frame, odd names."""
    length = draw(st.integers(0, 30))
    gap = st.sampled_from([0.0003, 0.004, 0.0049, 1 / 30, 0.04, 0.2])
    gaps = draw(st.lists(gap, min_size=length, max_size=length))
    start = draw(st.sampled_from([0.0, 0.0421, 7321.5]))
    times = start + np.concatenate([np.zeros(min(length, 1)), np.cumsum(gaps[1:])])
    found = draw(st.lists(_detections(length), max_size=6)) if length else []
    media = draw(st.sampled_from([None, Path("/films", ODD).absolute(), Path("/a.MOV").absolute()]))
    return make_spotting(
        tuple(sorted(found, key=lambda d: d.onset)),
        video=draw(st.text(max_size=12)) if media is None else media.name,
        media=media,
        fps=draw(st.sampled_from([25.0, 29.97, 200.0, 3000.0])),
        times=times,
        face=np.ones(length, np.uint8),
        scores={"macro": np.linspace(0, 1, length, dtype=np.float32)},
    )


@st.composite
def _detections(draw: st.DrawFn, length: int) -> Detection:
    onset, apex, offset = sorted(draw(st.integers(0, length - 1)) for _ in range(3))
    score = draw(st.floats(-10, 10, width=32))
    emotion = draw(st.sampled_from(["", "happiness", "<&>"]))
    return Detection(onset, apex, offset, draw(st.sampled_from(["macro", "micro"])), score, emotion)
