"""The page: what it says, what it leaves out, and that it needs nothing else."""

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from own_clips import write_clip
from own_results import BARE, PROVENANCE, SFAMNET, fitted, result
from spotjax.data_prep import source as sources
from spottings import spottings

from spotjax.errors import UserError
from spotjax.own import page, pictures
from spotjax.own.looked import Shares
from spotjax.own.run import Result
from spotjax.papers.published import find
from spotjax.types import Detection

JPEG = b"\xff\xd8 a picture"
VOID = {"meta", "link", "br", "img"}


class Reader(HTMLParser):
    """Words, links and balance of the elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.rows: list[list[str]] = []
        self.words = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        given = dict(attrs)
        self.links += [given[key] or "" for key in ("href", "src") if key in given]
        self.ids += [given["id"] or ""] if "id" in given else []
        assert not any(key.startswith("on") for key in given)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += data
            if self.open and {"td", "th"} & set(self.open):
                self.rows[-1][-1] += f" {data.strip()}" if data.strip() else ""


def said(text: str) -> str:
    return " ".join(Reader(text).words.split())


def row(text: str, first: str) -> list[str]:
    """The cells after the one that says `first`."""
    (found,) = [r for r in Reader(text).rows if r and r[0].strip() == first]
    return [" ".join(cell.split()) for cell in found[1:]]


# --- what was found -------------------------------------------------------------------------------


def test_the_list_has_times_frames_and_scores():
    text = page.render(result(), {})
    assert row(text, "1") == [
        "macro", "00:00.08 frame 2", "00:00.12 frame 3", "00:00.20 frame 4", "0.12 s", "0.750",
        "",
    ]  # fmt: skip
    assert row(text, "2")[-1] == "happiness"
    words = said(text)
    assert "Suggested: 1 macro-expression and 1 micro-expression." in words
    assert "00:00.32 · 8 frames · 25 frames/s" in words
    assert row(text, "thresholds") == ["macro 0.600: least score of a peak"]


def test_links_lead_to_the_rows_and_nothing_is_loaded():
    taken = {d: pictures.Pictures(JPEG, JPEG, b"", JPEG) for d in result().spotting.detections}
    found = Reader(page.render(result(), taken))
    assert {"d1", "d2", "timeline", "list", "trust", "settings"} == set(found.ids)
    assert "script" not in found.tags
    for link in found.links:
        assert link.startswith("data:") or link[1:] in found.ids
    assert sum(link.startswith("data:image/jpeg;base64,/9gg") for link in found.links) == 6


def test_names_are_words_and_never_markup():
    bad = "<script>alert(1)</script> & \"x\" 'y' \x00\ud800.mp4"
    some = result(video=bad, warnings=("<img src=x>", "<img src=x>"))
    d = Detection(2, 3, 4, "macro", 0.7, "<b>joy</b>")
    some = some._replace(spotting=some.spotting._replace(detections=(d,)))
    text = page.render(some, {})
    found = Reader(text)
    assert "script" not in found.tags and "img" not in found.tags and "x" not in found.links
    assert "Facial expressions in <script>alert(1)" in found.words
    assert text.encode() and "\x00" not in text
    assert said(text).count("<img src=x>") == 1  # the same warning once


def test_warnings_come_before_everything():
    words = said(page.render(result(warnings=("too few frames",)), {}))
    assert words.index("too few frames") < words.index("A suggestion for a human coder")
    assert words.index("A suggestion") < words.index("Timeline List")
    assert "Before you use this" not in said(page.render(result(), {}))


def test_caution():
    words = said(page.render(result(), {}))
    assert "A suggestion for a human coder, made by SOFTNet (spotjax 0.1.0)" in words
    assert "not a lie detector and not a diagnosis" in words
    assert "Faces are personal data." in words and "nothing of it left it" in words
    assert "holds pictures of a face" not in words
    taken = dict.fromkeys(result().spotting.detections, pictures.Pictures(JPEG, JPEG, JPEG))
    assert "holds pictures of a face" in said(page.render(result(), taken))


def test_pictures_that_are_missing_are_explained():
    macro, micro = result().spotting.detections
    cut = page.render(result(), {macro: pictures.Pictures(JPEG, b"", JPEG, JPEG)})
    assert "Only the 1 that rank highest have pictures." in said(cut)
    assert row(cut, "1")[2] == "00:00.12 frame 3 no face" and "no face" not in row(cut, "2")[2]
    assert "Looked at: Grad-CAM on the eyes and the mouth" in said(cut)
    once = said(page.render(result(), {}, repeatable=False))
    assert "a camera or a pipe can be read only once" in once and "rank highest" not in once


def test_attention_is_drawn():
    macro, _ = result().spotting.detections
    shares = Shares(np.full(17, 1 / 17), np.full(10, 0.1))
    taken = {macro: pictures.Pictures(JPEG, JPEG, JPEG, shares=shares)}
    text = page.render(result(system="spotformer"), taken)
    assert "Attention by region and by frame" in text and "upper lip" in said(text)
    assert "how much of each region of the face" in said(text)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({}, "no course of the score was that of an expression"),
        ({"face": np.zeros(8, np.uint8)}, "there is no face in this video"),
        ({"scores": {"macro": np.full(8, np.nan, np.float32)}}, "no frame has a score"),
    ],
)
def test_why_nothing_was_found(other, reason):
    text = page.render(result(detections=(), **other), {})
    assert f"Nothing was found: {reason}." in said(text)
    assert "no macro-expressions" in said(text)


def test_a_long_video_has_an_overview():
    assert "The whole video." not in page.render(result(), {})
    times = np.arange(1200) / 10
    long = result(
        detections=(Detection(500, 505, 510, "macro", 0.7),), times=times, fps=10.0,
        face=np.ones(1200, np.uint8), scores={"macro": np.zeros(1200, np.float32)},
    )  # fmt: skip
    text = page.render(long, {})
    assert "The whole video." in text and text.count('class="chart" viewBox="0 0 1120') == 5


@settings(max_examples=15, deadline=None)
@given(spottings())
def test_any_result_has_a_page(spotting):
    boxes = np.full((len(spotting.times), 4), -1)
    text = page.render(Result(spotting, boxes, BARE, 25.0), {})
    assert Reader(text).ids.count("list") == 1 and text.encode()


# --- how far to trust it, and settings ------------------------------------------------------------


def test_published_figures_are_the_papers():
    words = Reader(page.render(result(), {})).rows
    rows = [[" ".join(cell.split()) for cell in r] for r in words]
    (mine,) = [r for r in rows if r[:2] == ["CAS(ME)^2", "macro"]]
    (record,) = find(
        paper="softnet", table="2", data_set="casme2", type="macro", metric="F1",
        system="SOFTNet", variant="p=0.55",
    )  # fmt: skip
    assert mine == ["CAS(ME)^2", "macro", f"{record.value:.3f}", "90 of 447", "90 of 300",
                    "table 2, p=0.55"]  # fmt: skip
    assert "these weights were trained on rendered" not in said(page.render(result(), {})).lower()


@pytest.mark.parametrize(
    ("system", "figures"),
    [
        ("softnet", ["0.241", "0.117", "0.217", "0.152"]),
        ("sfamnet", ["0.059", "0.125"]),
        ("spotformer", ["0.445", "0.428", "0.506", "0.282", "0.266", "0.204"]),
        ("cnn3d", ["0.186", "0.041", "0.040", "0.012"]),
    ],
)
def test_figures_of_every_system(system, figures):
    found = page._published(result(system=system).spotting)
    assert [item["f1"] for item in found] == figures
    assert page._title(system)


def test_one_type_alone_has_its_own_figures():
    spotting = result(scores={"micro": np.zeros(8, np.float32)}).spotting
    assert {item["type"] for item in page._published(spotting)} == {"micro"}


def test_demonstration_weights_say_so():
    note = "trained on rendered faces: a demonstration, not for the faces of people"
    assert "what they find in a video of a person may be anything" in said(
        page.render(result(warnings=(note,)), {})
    )


def test_settings_in_plain_words():
    text = page.render(result(), {})
    assert row(text, "k") == [
        "macro 8 rows (0.32 s), micro 3 rows (0.12 s) between the two frames that are compared"
    ]
    assert row(text, "SHA-256") == ["0123456789ab…"]
    assert row(text, "weights") == ["run demo: softnet trained on <invented> faces"]
    assert row(text, "optical flow") == ["DIS"]
    assert row(text, "face") == ["the largest one when it was first seen; not there in 1 frames"]
    assert row(text, "program") == ["spotjax 0.1.0; numpy 2.4.6"]
    assert row(text, "made on") == ["2025-11-25 14:03 UTC+01:00"]
    assert row(text, "p")[0].startswith("0.55: threshold = mean + p")
    assert '"rows_per_second": 25.0' in said(text)
    second = page.render(result(provenance=PROVENANCE | {"face": 2}), {})
    assert row(second, "face")[0].startswith("number 2 by size")


def test_settings_of_other_systems():
    sfamnet: Any = fitted(SFAMNET)
    text = page.render(result(made=sfamnet, rate=15.0, system="sfamnet"), {})
    assert row(text, "k") == ["3 rows (0.20 s) between the two frames that are compared"]
    assert row(text, "averaged over") == ["trained folds: 2 (both)"]
    assert "need not be what the person feels" in said(text)
    assert row(text, "rows")[0].endswith("from the frame that was seen then")


# --- files ----------------------------------------------------------------------------------------


@pytest.fixture
def clip(tmp_path):
    frames = [np.full((40, 60, 3), 20 * i, np.uint8) for i in range(8)]
    return sources.open_source(str(write_clip(tmp_path / "interview.avi", frames, 25)))


@pytest.fixture
def unexplained(monkeypatch):
    monkeypatch.setattr(pictures.looked, "can_explain", lambda fitted: False)


def test_the_page_and_the_video_are_written(clip, tmp_path, unexplained):
    out = tmp_path / "out"
    out.mkdir()
    (alone,) = page.write(out, "interview", clip, result())
    assert alone == out / "interview.html"
    found = Reader(alone.read_text())
    assert sum(link.startswith("data:image/jpeg") for link in found.links) == 6
    paths = page.write(out, "interview", clip, result(), video=True)
    assert paths == [out / "interview.html", out / "interview.spot.mp4"]
    assert sorted(p.name for p in out.iterdir()) == ["interview.html", "interview.spot.mp4"]


def test_a_camera_has_a_page_but_no_video(tmp_path):
    once = sources.from_frames(np.zeros((8, 40, 60, 3), np.uint8), 25, "camera:0")
    with pytest.raises(UserError, match="camera:0: can be read only once"):
        page.write(tmp_path, "camera0", once, result(), video=True)
    assert "read only once" in (tmp_path / "camera0.html").read_text()


def test_macros_leave_no_template_behind():
    text = page.render(result(), {})
    assert not re.search(r"\{\{|\{%|None|Markup", text)
