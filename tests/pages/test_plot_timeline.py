"""Timelines of videos, on invented ones."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from invented import make_video, with_proposals

from spotjax.pages import plot_timeline, tracks


def test_curve_without_any_score_and_video_without_frames() -> None:
    video = make_video()
    empty = video.tracks[0]._replace(score=np.full(300, np.nan, np.float32), truths=(), spotted=())
    text = plot_timeline.timeline(video._replace(tracks=(empty,)))
    assert "no score in this video" in text and "nan" not in text
    none = empty._replace(score=np.zeros(0, np.float32), peaks=np.zeros(0, int))
    bare = video._replace(frame_ids=np.zeros(0, np.int32), missing_face=np.zeros(0, bool))
    assert "nan" not in plot_timeline.timeline(bare._replace(tracks=(none,)))


def test_nan_splits_the_curve_and_never_reaches_the_svg() -> None:
    video = make_video()
    score = np.full(300, 0.5, np.float32)
    score[[10, 12, 200]] = np.nan
    track = video.tracks[0]._replace(score=score, truths=(), spotted=())
    chart = ElementTree.fromstring(plot_timeline.timeline(video._replace(tracks=(track,))))
    paths = [e.get("d") or "" for e in chart.iter("path") if e.get("class") == "curve"]
    assert len(paths) == 1
    assert paths[0].count("M") == 4 and paths[0].count("h0") == 1
    assert "nan" not in paths[0]


def test_overlapping_intervals_do_not_hide_each_other() -> None:
    video = make_video()
    spotted = tuple(tracks.Spotted(10 + i, 20 + i, 40 + i, 0.5, False) for i in range(3))
    track = video.tracks[0]._replace(truths=(), spotted=spotted)
    chart = ElementTree.fromstring(plot_timeline.timeline(video._replace(tracks=(track,))))
    bars = [e for e in chart.iter("rect") if "bar" in (e.get("class") or "").split()]
    assert len({bar.get("y") for bar in bars}) == 3


def test_interval_beyond_the_video_stays_in_the_panel() -> None:
    video = make_video()
    spotted = (tracks.Spotted(-5, 2, 9, 0.5, False), tracks.Spotted(290, 299, 310, 0.5, False))
    track = video.tracks[0]._replace(truths=(), spotted=spotted)
    text = plot_timeline.timeline(video._replace(tracks=(track,)))
    bars = [e for e in ElementTree.fromstring(text).iter("rect") if "bar" in (e.get("class") or "")]
    assert min(float(bar.get("x") or 0) for bar in bars) >= 100
    assert max(float(b.get("x") or 0) + float(b.get("width") or 0) for b in bars) <= 1080
    assert "frames 2396 to 2410" in text and "frames 2691 to 2711" in text


@pytest.mark.parametrize("frames", [0, 1, 1199, 1200, 1201, 4000, 60_001])
def test_downsampling_keeps_extremes_within_the_limit(frames: int) -> None:
    rng = np.random.default_rng(frames)
    values = rng.random(frames).astype(np.float32)
    peaks = rng.choice(frames, min(frames, 5), replace=False)
    values[peaks] = 2 + np.arange(len(peaks))
    chosen = plot_timeline.downsample(values)
    assert len(chosen) <= plot_timeline.MAX_POINTS
    assert np.all(np.diff(chosen) > 0)
    separate = len(np.unique(peaks // (max(frames, 1) // 600 + 1))) == len(peaks)
    if frames:
        assert values[chosen].max() == values.max() and values[chosen].min() == values.min()
    if separate:
        assert set(peaks) <= set(chosen)


def test_downsampling_keeps_gaps() -> None:
    values = np.ones(6000, np.float32)
    values[1000:2000] = np.nan
    chosen = plot_timeline.downsample(values)
    assert np.isnan(values[chosen]).any()
    assert not np.isnan(values[chosen[(chosen < 1000) | (chosen >= 2000)]]).any()


def proposed(video) -> list[ElementTree.Element]:
    chart = ElementTree.fromstring(plot_timeline.timeline(video))
    return [e for e in chart.iter("rect") if e.get("class") == "proposed"]


def test_proposals_lie_between_the_curve_and_the_spotted_intervals() -> None:
    video = with_proposals(make_video(), [[30, 59, 0.5], [120, 149, 1.0]])
    track = video.tracks[0]._replace(spotted=(tracks.Spotted(30, 44, 59, 0.9, True),))
    video = video._replace(tracks=(track,))
    bars = proposed(video)
    assert [bar.find("title").text for bar in bars] == [
        "proposal: frames 2521 to 2550 (4.00 to 5.00 s), score 1",
        "proposal: frames 2431 to 2460 (1.00 to 2.00 s), score 0.5",
    ]  # the best comes first
    scale = (1120 - 110 - 48) / 300
    assert float(bars[1].get("x")) == pytest.approx(110 + 30 * scale, abs=0.06)
    assert float(bars[1].get("width")) == pytest.approx(30 * scale, abs=0.06)
    assert [float(bar.get("fill-opacity")) for bar in bars] == [0.8, 0.2]
    chart = ElementTree.fromstring(plot_timeline.timeline(video))
    curve_bottom = max(
        float(e.get("y")) + float(e.get("height"))
        for e in chart.iter("rect")
        if (e.get("class") or "").startswith("band")
    )
    spotted = [float(e.get("y")) for e in chart.iter("rect") if e.get("class") == "bar hit"]
    ends = [float(bar.get("y")) + float(bar.get("height")) for bar in bars]
    assert curve_bottom < min(float(bar.get("y")) for bar in bars)
    assert max(ends) < min(spotted)


def test_a_panel_without_proposals_is_as_before() -> None:
    video = make_video()
    plain = plot_timeline.timeline(video)
    assert "propos" not in plain
    height = ElementTree.fromstring(plain).get("viewBox")
    none = video._replace(
        tracks=tuple(t._replace(proposals=np.zeros((0, 3))) for t in video.tracks)
    )
    assert ElementTree.fromstring(plot_timeline.timeline(none)).get("viewBox") == height


def test_proposals_that_overlap_are_stacked_and_the_rest_shines_through() -> None:
    spans = [[10 + i, 40 + i, 0.9 - i / 10] for i in range(6)]
    bars = proposed(with_proposals(make_video(), spans))
    tops = [float(bar.get("y")) for bar in bars]
    assert tops[:4] == sorted(set(tops[:4])) and tops[4:] == [tops[3]] * 2
    assert all(0 < float(bar.get("fill-opacity")) < 1 for bar in bars)
    apart = proposed(with_proposals(make_video(), [[10, 20, 0.5], [21, 30, 0.4], [31, 40, 0.9]]))
    assert len({bar.get("y") for bar in apart}) == 1


def test_of_very_many_proposals_the_best_are_drawn_and_it_says_so() -> None:
    rng = np.random.default_rng(1)
    onsets = rng.integers(0, 280, 2000)
    spans = np.column_stack([onsets, onsets + 10, rng.permutation(2000) / 2000])
    video = with_proposals(make_video(), spans)
    bars = proposed(video)
    assert len(bars) == plot_timeline.MAX_PROPOSALS
    scores = [float((bar.find("title").text or "").split("score ")[1]) for bar in bars]
    assert min(scores) == pytest.approx(1 - plot_timeline.MAX_PROPOSALS / 2000)
    assert "of 2000 proposals the 300 of highest score are drawn" in plot_timeline.timeline(video)
    few = plot_timeline.timeline(with_proposals(make_video(), spans[:300]))
    assert "of highest score are drawn" not in few


def test_proposals_beyond_the_video_stay_in_the_panel() -> None:
    bars = proposed(with_proposals(make_video(), [[-5, 9, 0.5], [290, 310, 0.5], [400, 410, 2.0]]))
    assert min(float(bar.get("x")) for bar in bars) >= 110
    assert max(float(bar.get("x")) + float(bar.get("width")) for bar in bars) <= 1072 + 3
    assert max(float(bar.get("fill-opacity")) for bar in bars) == 0.8
