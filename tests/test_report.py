"""The HTML report and its charts, on a synthetic evaluation."""

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from spotjax import plots, report, tracks

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Checks that tags balance; collects tags, ids, text and attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def classes(self, name: str) -> int:
        """Number of elements that have the class `name`."""
        return sum(name in (attrs.get("class") or "").split() for _, attrs in self.tags)


def make_video(subject: str = "s15", name: str = "15_0101", frames: int = 300) -> Any:
    rng = np.random.default_rng(0)
    score = rng.random(frames).astype(np.float32)
    score[-18:] = np.nan
    truths = (tracks.Truth(30, 40, 60, True), tracks.Truth(100, -1, 110, False))
    spotted = (tracks.Spotted(28, 44, 62, 0.9, True), tracks.Spotted(200, 210, 220, 0.7, False))
    macro = tracks.Track("macro", score, 0.6, np.array([44, 210]), truths, spotted)
    micro = tracks.Track("micro", score, float("nan"), np.zeros(0, int), truths[:1], ())
    missing = np.zeros(frames, bool)
    missing[5:9] = missing[-3:] = True
    ids = np.arange(frames, dtype=np.int32) + 2401
    return tracks.VideoReport(subject, name, 30.0, ids, (macro, micro), missing)


def make_metrics(subject: str = "s15") -> dict[str, Any]:
    row = {"tp": 1, "fp": 1, "fn": 2, "precision": 0.5, "recall": 1 / 3, "f1": 0.4, "ap": 0.1}
    zero = {**dict.fromkeys(row, 0.0), "tp": 0.25}
    rows = {"macro": row, "micro": {**row, "f1": 0.0}, "overall": row}
    none = dict.fromkeys(rows, zero)
    return {
        "protocol": {
            "system": "softnet",
            "rule": "one_to_one",
            "k": {"macro": 18, "micro": 6},
            "subjects": 1,
            "nothing": None,
            "list": ["a", "b"],
            "config": {"train": {"epochs": 10}},
        },
        "results": rows,
        "baselines": {"strain_sum": none},
        "chance": none,
        "bootstrap": {"macro": [0.1, 0.6], "micro": [None, None], "overall": [0.0, 0.5]},
        "variants": [
            {
                "rule": rule,
                "decoding": "interval published",
                "headline": rule == "softnet",
                "results": rows,
                "baselines": {"strain_sum": none},
            }
            for rule in ("one_to_one", "softnet")
        ],
        "subjects": {subject: rows, "s99": dict.fromkeys(rows, {**zero, "tp": 0})},
        "warnings": ["<b>few</b> videos"],
    }


TRAINING = [
    {"problem": p, "epoch": e, "loss": {"s15": 1.0 / e, "s<16": 2.0 / e}}
    for p in ("macro", "micro")
    for e in (1, 2, 3)
]


def svgs(page: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page, re.S)]


def test_page_balances_and_loads_nothing_from_outside() -> None:
    text = report.render(make_metrics(), [make_video()], TRAINING, "A run")
    page = Page(text)
    for tag, attrs in page.tags:
        assert tag not in {"script", "img", "iframe", "object"}
        for key in ("src", "href"):
            assert (attrs.get(key) or "#").startswith(("#", "data:"))
    assert "http:" not in text and "https:" not in text
    assert "url(" not in text and "@import" not in text
    ids = [attrs["id"] for _, attrs in page.tags if attrs.get("id")]
    links = [(a["href"] or "")[1:] for tag, a in page.tags if tag == "a"]
    assert len(ids) == len(set(ids))
    assert set(links) - {"subject-1"} <= set(ids)


def test_every_interval_is_one_bar_with_its_own_frames_in_the_tooltip() -> None:
    page = report.render(make_metrics(), [make_video(), make_video(name="b")], [], "A run")
    parsed = Page(page)
    assert parsed.classes("bar") == 2 * 5
    assert parsed.classes("hit") - 1 == 2  # one more in the legend
    assert parsed.classes("false") - 1 == 2
    assert parsed.classes("found") - 1 == 4
    assert parsed.classes("missed") - 1 == 2
    assert parsed.classes("gone") - 1 == 4
    assert "annotated macro, found: frames 2431 to 2461 (1.00 to 2.03 s), apex 2441" in page
    assert "spotted macro, false positive: frames 2601 to 2621" in page
    assert "score 0.7" in page


def test_all_charts_are_xml() -> None:
    charts = svgs(report.render(make_metrics(), [make_video()], TRAINING, "A run"))
    assert len(charts) == 1 + 2 + 8 + 1  # bars, losses, legend, timeline


def test_text_is_escaped_everywhere() -> None:
    evil = "<script>alert('x')</script>&\""
    metrics = make_metrics(evil)
    metrics["protocol"][evil] = evil
    metrics["protocol"]["system"] = evil
    metrics["warnings"] = [evil]
    training = [{"problem": evil, "epoch": 1, "loss": {evil: 1.0}}]
    page = report.render(metrics, [make_video(evil, evil)], training, evil)
    assert "<script" not in page
    assert "alert" in "".join(Page(page).text)
    svgs(page)


def test_headline_numbers_and_variants_are_there() -> None:
    page = report.render(make_metrics(), [make_video()], TRAINING, "A run")
    text = " ".join(" ".join(Page(page).text).split())
    assert "SOFTNet 0.400 0.100 – 0.600 0.500 0.333 0.100 1 1 2" in text
    assert "chance 0.000 0.000 0.000 0.000 0.2 0 0" in text
    assert text.count("◀ headline") == 1
    assert "by falling score" in text and "macro 18, micro 6" in text
    assert "no diagnosis" in text and "<b>few</b> videos" in text
    assert "Not separated: the 95 % interval of SOFTNet" in text
    assert "for overall (strain sum), overall (chance)." in text


def test_one_more_event_moves_f1_as_said() -> None:
    page = report.render(make_metrics(), [], [], "A run")
    after = 2 * 2 / (2 * 2 + 1 + 1)
    assert f"macro: 3 annotated expressions; finding one more of them would have moved F1 by " \
        f"{after - 0.4:+.3f}." in page  # fmt: skip


@pytest.mark.parametrize("metrics", [{}, {"protocol": {}, "results": {}, "bootstrap": {}}])
def test_empty_run_still_gives_a_page(metrics: dict[str, Any]) -> None:
    page = report.render(metrics, [], [], "Empty")
    assert "No videos." in "".join(Page(page).text)
    svgs(page)


def test_partly_missing_results_show_a_dash() -> None:
    metrics = {"results": {"macro": {"f1": None, "tp": 0}}, "chance": {}, "bootstrap": {}}
    page = report.render(metrics, [make_video()], [{"event": "start"}], "Partial")
    assert "–" in "".join(Page(page).text)


def test_curve_without_any_score_and_video_without_frames() -> None:
    video = make_video()
    empty = video.tracks[0]._replace(score=np.full(300, np.nan, np.float32), truths=(), spotted=())
    text = plots.timeline(video._replace(tracks=(empty,)))
    assert "no score in this video" in text and "nan" not in text
    none = empty._replace(score=np.zeros(0, np.float32), peaks=np.zeros(0, int))
    bare = video._replace(frame_ids=np.zeros(0, np.int32), missing_face=np.zeros(0, bool))
    assert "nan" not in plots.timeline(bare._replace(tracks=(none,)))


def test_nan_splits_the_curve_and_never_reaches_the_svg() -> None:
    video = make_video()
    score = np.full(300, 0.5, np.float32)
    score[[10, 12, 200]] = np.nan
    track = video.tracks[0]._replace(score=score, truths=(), spotted=())
    chart = ElementTree.fromstring(plots.timeline(video._replace(tracks=(track,))))
    paths = [e.get("d") or "" for e in chart.iter("path") if e.get("class") == "curve"]
    assert len(paths) == 1
    assert paths[0].count("M") == 4 and paths[0].count("h0") == 1
    assert "nan" not in paths[0]


def test_overlapping_intervals_do_not_hide_each_other() -> None:
    video = make_video()
    spotted = tuple(tracks.Spotted(10 + i, 20 + i, 40 + i, 0.5, False) for i in range(3))
    track = video.tracks[0]._replace(truths=(), spotted=spotted)
    chart = ElementTree.fromstring(plots.timeline(video._replace(tracks=(track,))))
    bars = [e for e in chart.iter("rect") if "bar" in (e.get("class") or "").split()]
    assert len({bar.get("y") for bar in bars}) == 3


def test_interval_beyond_the_video_stays_in_the_panel() -> None:
    video = make_video()
    spotted = (tracks.Spotted(-5, 2, 9, 0.5, False), tracks.Spotted(290, 299, 310, 0.5, False))
    track = video.tracks[0]._replace(truths=(), spotted=spotted)
    text = plots.timeline(video._replace(tracks=(track,)))
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
    chosen = plots.downsample(values)
    assert len(chosen) <= plots.MAX_POINTS
    assert np.all(np.diff(chosen) > 0)
    separate = len(np.unique(peaks // (max(frames, 1) // 600 + 1))) == len(peaks)
    if frames:
        assert values[chosen].max() == values.max() and values[chosen].min() == values.min()
    if separate:
        assert set(peaks) <= set(chosen)


def test_downsampling_keeps_gaps() -> None:
    values = np.ones(6000, np.float32)
    values[1000:2000] = np.nan
    chosen = plots.downsample(values)
    assert np.isnan(values[chosen]).any()
    assert not np.isnan(values[chosen[(chosen < 1000) | (chosen >= 2000)]]).any()


def test_bars_and_losses_take_missing_values() -> None:
    bars = plots.bars_with_intervals(["macro", "micro"], {"a": [0.2, np.nan]}, [(0.1, 0.4), None])
    assert bars.count("whisker") == 1 and "0.100 to 0.400" in bars
    losses = plots.loss_curves({"x": np.array([1.0, np.nan, 1e-4]), "y": np.full(3, np.nan)}, "l")
    assert "nan" not in losses and losses.count('class="fold"') == 2
    assert ">0.001<" in losses  # logarithmic
    flat = plots.loss_curves({"x": np.zeros(2)}, "l")
    assert "nan" not in flat


def test_many_long_videos_stay_small() -> None:
    page = report.render(make_metrics(), [make_video(frames=4000)] * 10, [], "Long")
    assert len(page) < 10 * 8e6 / 98
