"""The HTML report, on an invented evaluation."""

from html.parser import HTMLParser
from typing import Any

import pytest
from invented import TRAINING, make_metrics, make_video, svgs, with_proposals

from spotjax.pages import report, report_page

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


def test_many_long_videos_stay_small() -> None:
    page = report.render(make_metrics(), [make_video(frames=4000)] * 10, [], "Long")
    assert len(page) < 10 * 8e6 / 98


def one_type(**about: Any) -> dict[str, Any]:
    """Metrics of a system that spots micro-expressions only and decodes in two ways."""
    metrics = make_metrics()
    metrics["protocol"] |= {
        "system": "mesnet", "types": ["micro"], "module": "crn", "paper_rule": "mesnet", **about
    }  # fmt: skip
    metrics["bootstrap"]["micro"] = [0.0, 0.3]
    metrics["variants"] = [
        {**row, "rule": rule, "decoding": f"module {module}", "headline": False}
        for row in metrics["variants"][:1]
        for module in ("cpn", "crn")
        for rule in ("one_to_one", "mesnet")
    ]
    return metrics


def test_a_system_of_one_type_has_neither_the_other_nor_overall() -> None:
    proposals = [[30, 60, 0.9], [100, 110, 0.5]]
    page = report.render(one_type(), [with_proposals(make_video(), proposals)], [], "A run")
    parsed = Page(page)
    text = " ".join(" ".join(parsed.text).split())
    result = text[text.index("type method") : text.index("How to read it.")]
    assert "overall" not in text and "macro" not in result
    assert "MESNet spots micro-expressions only" in text
    groups = [i for tag, i in parsed.tags if i.get("scope") == "rowgroup"]
    assert len(groups) == 1
    bars = svgs(page)[0]
    assert [t.text for t in bars.iter("text") if (t.get("class") or "") == "strong mid"] == [
        "micro"
    ]
    assert "micro F1" in text and "macro F1" not in text  # subjects
    assert "micro: 1 hits" in text and "macro: 1 hits" not in text  # timelines
    assert "types micro" in text


def test_ways_of_decoding_have_names_and_the_rule_of_the_paper_a_mark() -> None:
    text = " ".join(" ".join(Page(report.render(one_type(), [], [], "A run")).text).split())
    assert "mesnet (the paper's) CPN" in text and "one_to_one CRN" in text
    assert text.count("(the paper's)") == 2
    assert "paper rule mesnet : the paper's own rule: precision counts" in text
    old = " ".join(" ".join(Page(report.render(make_metrics(), [], [], "A run")).text).split())
    assert "(the paper's)" not in old and "interval published" in old


def test_proposals_are_explained_only_where_there_are_any() -> None:
    video = make_video()
    without = report.render(one_type(), [with_proposals(video, [])], [], "A run")
    there = report.render(one_type(), [with_proposals(video, [[3, 9, 0.6]])], [], "A run")
    assert Page(without).classes("proposed") == 0 and "Proposed" not in without
    assert "smoothed score" in without
    assert Page(there).classes("proposed") == 1 + 1 and "Proposed ones" in there  # and the legend
    assert "smoothed score" not in there  # of windows, not of a smoothed curve


@pytest.mark.parametrize(
    ("about", "chosen"),
    [
        ({}, ""),
        ({"epoch_choice": "last", "threshold_choice": "validation"}, ""),
        ({"epoch_choice": "oracle"}, "epoch"),
        ({"epoch_choice": "last", "threshold_choice": "oracle"}, "thresholds"),
        ({"epoch_choice": "oracle", "threshold_choice": "oracle"}, "epoch and thresholds"),
    ],
)
def test_what_was_chosen_on_the_test_subjects_stands_at_the_top(about: Any, chosen: str) -> None:
    page = report.render(one_type(**about), [], [], "A run")
    text = " ".join(" ".join(Page(page).text).split())
    top = text[: text.index("type method")]
    assert ("not a result" in top) == bool(chosen)
    assert not chosen or f"Oracle : {chosen} chosen on the test subjects" in top
    meant = "HELD-OUT videos: no result" in text
    assert meant == (about.get("threshold_choice") == "oracle")


def test_results_without_types_are_shown_as_before() -> None:
    metrics = make_metrics()
    assert "types" not in metrics["protocol"]
    text = " ".join(" ".join(Page(report.render(metrics, [make_video()], [], "Old")).text).split())
    for type in ("macro", "micro", "overall"):
        assert f"{type} F1" in text
    assert "-expressions only" not in text
    metrics["protocol"]["types"] = ["macro", "micro"]
    again = report.render(metrics, [make_video()], [], "Old")
    assert "overall F1" in again and "-expressions only" not in again


def test_entries_of_the_protocol_are_explained_by_the_report_or_by_the_systems_config() -> None:
    assert report_page.meaning("cnn3d", "cutoff", 1.0) == "of the filter, in cycles per k rows"
    assert report_page.meaning("softnet", "interval", "centred").startswith("peak ± k moved by")
    assert report_page.meaning("softnet", "interval", "other").startswith("[peak-k, peak+k]")
    assert report_page.meaning("sfamnet", "flow", "dis") == ""  # the protocol's own, not the key
    assert report_page.meaning("softnet", "cutoff", 1.0) == report_page.meaning("x", "p", 1) == ""
