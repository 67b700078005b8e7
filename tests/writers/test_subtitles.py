"""Subtitles, read back by the `srt` package."""

from datetime import timedelta

import pytest
import srt as reader
from hypothesis import given, settings
from spottings import make_spotting, spottings

from spotjax.spotting import Spotting
from spotjax.writers import srt

MS = timedelta(milliseconds=1)


def test_subtitles_by_hand() -> None:
    assert srt(make_spotting()) == (
        "1\n00:00:00,080 --> 00:00:00,200\nmacro 0.750\n\n"
        "2\n00:00:00,160 --> 00:00:00,240\nmicro 0.500 happiness\n"
    )
    assert srt(make_spotting(())) == ""


@settings(deadline=None, max_examples=50)
@given(spottings())
def test_players_get_the_same_intervals(spotting: Spotting) -> None:
    found = list(reader.parse(srt(spotting), ignore_errors=False))
    assert [subtitle.index for subtitle in found] == list(range(1, len(found) + 1))
    assert len(found) == len(spotting.detections)
    for subtitle, d in zip(found, spotting.detections, strict=True):
        assert subtitle.content == f"{d.type} {d.score:.3f} {d.emotion}".rstrip()
        assert subtitle.start / MS == pytest.approx(spotting.onset_s(d) * 1000, abs=0.501)
        assert subtitle.end / MS == pytest.approx(spotting.offset_s(d) * 1000, abs=1.001)
        assert subtitle.end > subtitle.start
