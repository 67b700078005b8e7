"""The timeline of one's own video and the bars of attention."""

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spottings import make_spotting, spottings

from spotjax.own import charts
from spotjax.types import Detection
from spotjax.writers import clean


def long_video(seconds: float, *detections: Detection, **other: Any) -> Any:
    times = np.arange(round(seconds * 10)) / 10
    flat = np.full(len(times), 0.5, np.float32)
    values = {
        "times": times,
        "fps": 10.0,
        "face": np.ones(len(times), np.uint8),
        "scores": {"macro": flat, "micro": flat},
    }
    return make_spotting(tuple(detections), **(values | other))


def of_class(chart: str, name: str) -> list[ElementTree.Element]:
    tree = ElementTree.fromstring(chart)
    return [e for e in tree.iter() if name in (e.get("class") or "").split()]


def words(chart: str) -> list[str]:
    return [e.text or "" for e in ElementTree.fromstring(chart).iter("text")]


@settings(max_examples=40, deadline=None)
@given(st.floats(0.01, 40_000))
def test_rows_cover_the_video_once(length):
    found = charts.spans(length)
    assert found[0].start == 0 and found[-1].stop >= length - 1e-6
    assert all(a.stop == b.start for a, b in zip(found, found[1:], strict=False))
    assert len(found) <= charts.MAX_ROWS and found[-1].start < length


@settings(max_examples=40, deadline=None)
@given(spottings())
def test_any_result_can_be_drawn(spotting):
    for chart in [charts.overview(spotting), *charts.rows(spotting)]:
        ElementTree.fromstring(clean(chart))  # names may hold what no file can
        assert "nan" not in chart and "inf" not in chart


def test_a_bar_lies_at_its_time_and_leads_to_its_row():
    # 8 frames of 40 ms over 1120 - 62 - 48 = 1010 px: the macro one is 80 to 200 ms
    (chart,) = charts.rows(make_spotting())
    links = [e.get("href") for e in ElementTree.fromstring(chart).iter("a")]
    assert sorted(links) == ["#d1", "#d2"]
    bar = next(e for e in of_class(chart, "bar") if "macro" in e.get("class"))
    scale = 1010 / 0.32
    assert float(bar.get("x")) == pytest.approx(62 + 0.08 * scale, abs=0.1)
    assert float(bar.get("width")) == pytest.approx(0.12 * scale, abs=0.1)
    assert "1: macro from 00:00.08 to 00:00.20, apex 00:00.12, frames 2 to 4" in chart
    (gone,) = of_class(chart, "gone")
    assert float(gone.get("x")) == pytest.approx(62 + 0.24 * scale, abs=0.1)
    assert float(gone.get("width")) == pytest.approx(0.04 * scale, abs=0.1)


def test_a_gap_in_the_score_stays_a_gap_and_no_score_is_said():
    (chart,) = charts.rows(make_spotting(scores={"macro": np.float32([0.1, np.nan] * 4)}))
    (curve,) = of_class(chart, "curve")
    assert curve.get("d").count("M") == 4
    none = charts.overview(make_spotting((), scores={"macro": np.full(8, np.nan, np.float32)}))
    assert "no score in this video" in words(none) and not of_class(none, "curve")


def test_an_expression_across_two_rows_is_in_both():
    spotting = long_video(300, Detection(590, 598, 620, "macro", 0.7))
    charts_of = charts.rows(spotting)
    assert len(charts_of) == 10
    assert [len(of_class(chart, "bar")) for chart in charts_of] == [0, 1, 1] + [0] * 7
    first, second = (of_class(charts_of[i], "bar")[0] for i in (1, 2))
    right = float(first.get("x")) + float(first.get("width"))
    assert right == pytest.approx(1072, abs=0.2)
    assert float(second.get("x")) == pytest.approx(62, abs=0.2)
    assert len(of_class(charts_of[1], "peak")) == 1 and not of_class(charts_of[2], "peak")


def test_the_axis_is_in_minutes():
    spotting = long_video(600)
    assert words(charts.rows(spotting)[1])[-5:] == ["01:40", "01:45", "01:50", "01:55", "02:00"]
    assert words(charts.overview(spotting))[-3:] == ["08:00", "09:00", "10:00"]
    hours = words(charts.overview(long_video(7200)))
    assert hours[-1] == "2:00:00" and "1:30:00" in hours


def test_overlapping_ones_do_not_hide_each_other_and_crowded_numbers_are_left_out():
    spotting = long_video(80, *(Detection(i, i + 2, i + 30, "macro", 0.6) for i in range(3)))
    (chart,) = charts.rows(spotting)
    assert len({bar.get("y") for bar in of_class(chart, "bar")}) == 3
    crowd = [Detection(4 * i, 4 * i, 4 * i + 1, "micro", 0.6) for i in range(9)]  # 5 px each
    (chart,) = charts.rows(long_video(80, *crowd))
    assert len(of_class(chart, "bar")) == 9
    assert [word for word in words(chart) if re.fullmatch(r"\d", word)][-3:] == ["1", "5", "9"]


def test_bars_of_attention():
    frames, regions = np.full(17, 1 / 17), np.linspace(0.01, 0.19, 10)
    chart = charts.attention(frames, regions)
    bars = [float(e.get("width")) for e in of_class(chart, "s0")][:10]
    assert np.allclose(np.divide(bars, bars[-1]), regions / 0.19, atol=0.01)
    assert (
        "lower lip" in words(chart) and "19%" in words(chart) and "\u22128 frames" in words(chart)
    )
    assert len(of_class(chart, "s1")) == 16  # all frames but the apex
