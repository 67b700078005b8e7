"""The table of a sweep, its numbers worked out by hand, and its page, read with html.parser."""

import csv
import io
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from invented import svgs

from spotjax.pages import sweep_page
from spotjax.sweeps import sweep_table
from spotjax.sweeps.sweep_table import Configuration, spread


def row(run, seed=0, macro=0.5, micro=0.2, **more):
    values = {
        "preset": "plain", "macro_f1": macro, "macro_tp": 3, "macro_fp": 2, "macro_fn": 1,
        "micro_f1": micro, "micro_tp": 1, "micro_fp": 4, "micro_fn": 4, "overall_f1": 0.4,
        "rule": "one_to_one", "epoch_choice": "last", "seed": seed, "run": str(run),
    }  # fmt: skip
    return dict.fromkeys(sweep_table.COLUMNS, "") | values | more


@pytest.fixture
def found(tmp_path):
    """Three seeds of one configuration, one of another; the first two have pages."""
    runs = [tmp_path / f"a p=0.5_seed={seed}" for seed in range(3)]
    for run in runs[:2]:
        run.mkdir()
        (run / "report.html").write_text("")
    rows = [row(run, seed, 0.2 * (seed + 1)) for seed, run in enumerate(runs)]
    alone = row(tmp_path / "b", macro=0.55, epoch_choice="oracle", strs=0.1)
    return [Configuration("a p=0.5", "a p=0.5", rows), Configuration("b", "b", [alone])]


# --- numbers --------------------------------------------------------------------------------------


def test_mean_and_spread():
    # 0.2, 0.4, 0.6: mean 0.4; squares of the differences 0.04, 0, 0.04, over n - 1 = 2: 0.04
    found = spread([0.2, 0.6, 0.4])
    assert found == pytest.approx((0.4, 0.2, 0.2, 0.6))
    assert spread([0.3]) == (0.3, 0.0, 0.3, 0.3)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_the_mean_lies_within_the_spread(values):
    found = spread(values)
    assert found.low - 1e-12 <= found.mean <= found.high + 1e-12
    assert 0 <= found.std <= (found.high - found.low) + 1e-12


def test_a_measure_that_a_run_lacks_has_no_mean(found):
    assert found[0].spread("strs") is None
    assert found[1].spread("strs") == (0.1, 0.0, 0.1, 0.1)
    mixed = Configuration("c", "c", [found[0].rows[0], found[0].rows[1] | {"micro_f1": ""}])
    assert mixed.spread("micro_f1") is None and mixed.spread("macro_f1").mean == pytest.approx(0.3)


# --- terminal and CSV -----------------------------------------------------------------------------


def test_the_table_on_the_terminal(found):
    lines = [line.split() for line in sweep_table.lines(found)]
    head = "configuration macro F1 TP/FP/FN micro F1 TP/FP/FN overall STRS"
    assert lines[0] == head.split()
    spreads = "a p=0.5 0.4000 ± 0.2000 0.200-0.600 0.2000 ± 0.0000 0.200-0.200 0.4000 ± 0.0000 -"
    assert lines[1] == spreads.split()
    assert lines[3] == ["seed", "1", "0.4000", "3/2/1", "0.2000", "1/4/4", "0.4000", "-"]
    oracle = "b 0.5500 3/2/1 0.2000 1/4/4 0.4000 0.1000 oracle: chosen on the test subjects, no"
    assert lines[5] == [*oracle.split(), "result"]
    assert len(lines) == 7  # the last one explains ±


def test_one_seed_has_the_short_table(found):
    lines = list(sweep_table.lines(found[1:]))
    assert lines == [
        "configuration      macro F1      TP/FP/FN micro F1      TP/FP/FN  overall     STRS",
        "b                    0.5500         3/2/1   0.2000         1/4/4   0.4000   0.1000"
        "  oracle: chosen on the test subjects, no result",
    ]
    assert list(sweep_table.lines([]))[0].startswith("preset")


def test_a_type_that_is_not_spotted_is_left_out(found):
    only = [row("x", macro="", macro_tp="", macro_fp="", macro_fn="", overall_f1="")]
    lines = list(sweep_table.lines([Configuration("x", "plain", only)]))
    assert lines == ["preset             micro F1      TP/FP/FN",
                     "plain                0.2000         1/4/4"]  # fmt: skip
    both = list(sweep_table.lines([found[1], Configuration("x", "x", only)]))
    assert both[2].split()[:3] == ["x", "-", "-"]


def test_the_csv_is_read_again_for_what_is_not_in_the_sweep(found, tmp_path):
    first = found[0]._replace(rows=[r | {"train.epochs": 3} for r in found[0].rows])
    text = sweep_table.to_csv([first, found[1]])
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [r["runs"] for r in rows] == ["3", "1", "1", "1", "1"]
    assert rows[0]["run"] == rows[0]["macro_tp"] == "" and rows[0]["train.epochs"] == "3"
    assert float(rows[0]["macro_f1"]) == pytest.approx(0.4)
    assert float(rows[0]["macro_f1_std"]) == pytest.approx(0.2)
    assert (rows[0]["macro_f1_min"], rows[0]["macro_f1_max"]) == ("0.2", "0.6000000000000001")
    table = tmp_path / "t.csv"
    table.write_text(text)
    (again,) = sweep_table.earlier(table, [found[1]])
    assert again.name == "a p=0.5" and len(again.rows) == 3
    assert sweep_table.to_csv([again, found[1]]) == text
    table.write_text("preset,macro_f1\nplain,0.5\n")  # of an earlier version
    assert sweep_table.earlier(table, found) == []


# --- the page -------------------------------------------------------------------------------------


class Table(HTMLParser):
    """The cells of every row, the links, the dots of each chart; tags must balance."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.links, self.dots, self.open = [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        assert tag not in {"script", "img", "iframe"}
        if tag not in {"meta", "link", "br"}:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "a":
            self.links.append(values["href"])
        elif tag == "svg":
            self.dots.append([])
        elif tag == "circle":
            self.dots[-1].append(float(values["cx"]))

    def handle_startendtag(self, tag, attrs):
        if tag != "path":
            self.handle_starttag(tag, attrs)
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.rows and {"td", "th"} & set(self.open) and "svg" not in self.open:
            self.rows[-1][-1] += data


def read(page):
    table = Table(page)
    table.rows = [[" ".join(cell.split()) for cell in cells] for cells in table.rows]
    return table


def test_the_page_has_the_runs_and_their_spread(found, tmp_path):
    text = sweep_page.render(found, {"c": "a.csv: <bad>"}, "Sweep a", tmp_path)
    page = read(text)
    assert page.rows[1] == [
        "a p=0.5", "0.400 ± 0.200", "0.200 – 0.600", "", "0.200 ± 0.000", "0.200 – 0.200", "",
        "0.400 ± 0.000", "–",
    ]  # fmt: skip
    assert page.rows[3] == [
        "seed 1", "0.400", "3 / 2 / 1", "", "0.200", "1 / 4 / 4", "", "0.400", "–",
    ]  # fmt: skip
    assert page.rows[5][:3] == ["b (oracle: no result)", "0.550", "3 / 2 / 1"]
    assert page.rows[5][-2:] == ["0.400", "0.100"]
    # linked are the pages that are there, from the page's own folder
    assert page.links == ["a%20p%3D0.5_seed%3D0/report.html", "a%20p%3D0.5_seed%3D1/report.html"]
    assert "c: a.csv: &lt;bad&gt;" in text and "<b>Oracle</b>" in text
    assert "http:" not in text and "https:" not in text
    assert len(svgs(text)) == 4


def test_a_dot_stands_where_its_value_is(found, tmp_path):
    page = read(sweep_page.render(found, {}, "Sweep a", tmp_path))
    # the axis goes from 5 to 115 for 0 to 0.6, the greatest value rounded up to a tenth
    macro, micro, alone, _ = page.dots
    assert macro == pytest.approx([5 + 110 / 3, 5 + 220 / 3, 115], abs=0.05)
    assert micro == pytest.approx([5 + 110 / 3] * 3, abs=0.05) and alone == pytest.approx(
        [5 + 110 * 0.55 / 0.6], abs=0.05
    )


def test_one_seed_has_neither_spread_nor_warnings(tmp_path):
    one = Configuration("a", "plain", [row(tmp_path / "a")])
    text = sweep_page.render([one], {}, "Sweep a", tmp_path)
    page = read(text)
    assert page.rows[0][:3] == ["configuration", "macro F1", "TP / FP / FN"]
    assert len(page.rows) == 2 and page.rows[1][1:3] == ["0.500", "3 / 2 / 1"]
    assert "±" not in text and "Oracle" not in text and "Without results" not in text
    assert page.links == []  # a run outside or without a page has no link
