import itertools
import json
import platform
import xml.etree.ElementTree as ElementTree

import jax
import numpy as np

from benchmarks import __main__ as runner
from benchmarks import common, fold_training, results, steps
from benchmarks.stages import STAGES, Line, Stage
from spotjax.config import Softnet, Train
from spotjax.data import plans
from spotjax.systems import build

FIGURES = {
    "unit": "CPU ms a step",
    "machine": "1 core of a processor",
    "accelerator": "",
    "versions": {"python": "3.11"},
    "reference": "ours",
    "variants": {"ours": [1.0, 2.0, 4.0], "theirs": [8.0, 10.0, 12.0]},
    "wall": {"ours": [2.0, 2.0, 2.0], "theirs": [8.0, 6.0, 4.0]},
    "ratios": {"ours": 1.0, "theirs": 5.0},
    "columns": {"MB": {"ours": "7"}},
    "notes": ["a note"],
}
STAGE = Stage(
    "one", "one",
    (Line("by CPU", "ours", "theirs", 6), Line("by clock", "ours", "theirs", 2, "wall"),
     Line("elsewhere", "ours", "Keras", 3)),
    "About it.", "--size 3", "--size 1", needs="tensorflow",
)  # fmt: skip


def test_the_ratio_is_the_median_of_the_rounds_ratios_not_of_their_medians():
    assert common.ratio([8, 10, 12], [1, 2, 4]) == 5  # 8, 5, 3
    assert common.ratio([9, 1], [3, 1]) == 2


def test_rounds_are_interleaved_and_the_first_one_warms_up(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(common.time, "process_time", lambda: float(next(clock)))
    monkeypatch.setattr(common.time, "perf_counter", lambda: 0.0)
    ran = []
    variants = {name: lambda n=name: ran.append(n) for name in "ab"}
    times = common.measure(variants, 2, {"a": 2.0, "b": 4.0})
    assert ran == list("ababab")
    assert times.cpu == {"a": [0.5, 0.5], "b": [0.25, 0.25]} and times.wall["a"] == [0, 0]


def test_the_file_of_figures(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(common.sys, "argv", ["x", "--rounds", "2", "--json", "secret/place"])
    times = common.Times({"a": [0.1, 0.2], "b": [0.3, 0.4]}, {"a": [1.0, 1.0], "b": [2.0, 3.0]})
    common.show("x", times, "ms a step", "a", tmp_path / "x.json", {"MB": {"b": "5"}}, ["so"])
    found = json.loads((tmp_path / "x.json").read_text())
    assert found["variants"] == {"a": [100, 200], "b": [300, 400]} and found["unit"][:6] == "CPU ms"
    assert found["ratios"] == {"a": 1, "b": 2.5} and found["wall"]["b"] == [2000, 3000]
    assert found["argv"] == ["--rounds", "2"] and found["notes"] == ["so"]
    assert set(found) >= {"benchmark", "machine", "versions", "reference"}
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("b ")]
    assert row.split() == ["b", "350", "300", "400", "2.50", "2500", "2.50", "5"]


def test_three_digits_count():
    values = (0.01234, 1.234, 12.345, 123.4)
    assert [common.significant(value) for value in values] == ["0.012", "1.23", "12.35", "123"]


def test_the_machine_is_told_without_its_name():
    assert "core" in common.machine() and platform.node() not in common.machine()


def test_ratios_of_a_stage():
    (cpu, wall), missing = results.ratios_of(STAGE, FIGURES)
    assert (cpu.ratio, cpu.ours, cpu.other, cpu.unit) == (5, 2, 10, "CPU ms a step")
    assert (wall.ratio, wall.unit) == (3, "wall ms a step")
    assert missing == ["elsewhere: not measured, needs tensorflow"]
    (only,), missing = results.ratios_of(Stage("one", "one", None), FIGURES)
    assert only.label == "one, theirs" and not missing
    assert results.ratios_of(Stage("one", "one"), FIGURES) == ([], [])


def test_on_an_accelerator_wall_time_counts_and_no_core_is_kept():
    figures = FIGURES | {"accelerator": "fast (gpu)"}
    (first, second), _ = results.ratios_of(STAGE, figures)
    assert (first.ratio, first.unit) == (second.ratio, second.unit) == (3, "wall ms a step")
    text = results.page([STAGE], {"one": figures}, {}, False, ["x"])
    assert "`python -m benchmarks.one --size 3`" in text and "taskset -c" not in text


def test_the_page():
    text = results.page([STAGE], {"one": FIGURES}, {"two": "failed"}, False, ["python -m", "then"])
    assert "Made by `python -m`, then `then`." in text
    row = "| by CPU | 2.00 | 10.00 | CPU ms a step | **5.00** | 6 | `taskset -c 0 python -m"
    assert row in text and "--size 3`" in text and "--size 1" not in text
    assert "* elsewhere: not measured, needs tensorflow\n* two: failed" in text
    assert "| ours | 2.00 | 1.00 | 4.00 | 2.00 | 1.00 | 7 |" in text and "a note" in text
    assert "short run" not in text
    assert "short run" in results.page([STAGE], {"one": FIGURES}, {}, True, ["a"])


def test_the_picture_has_a_bar_for_each_ratio_and_a_mark_at_its_goal():
    ratios, _ = results.ratios_of(STAGE, FIGURES)
    root = ElementTree.fromstring(
        results.picture([*ratios, ratios[0]._replace(label="<&", goal=None)])
    )
    space = "{http://www.w3.org/2000/svg}"
    bars = root.findall(f"{space}rect")
    scale = results.BARS / 6  # the largest of ratios and goals
    assert [float(bar.get("width")) for bar in bars] == [
        round(scale * value, 1) for value in (5, 3, 5)
    ]
    assert [bar.get("class") for bar in bars] == ["short", "bar", "bar"]
    goals = [path.get("d") for path in root.findall(f"{space}path") if path.get("class") == "goal"]
    assert [float(d[1:].split()[0]) for d in goals] == [
        round(results.LEFT + scale * goal, 1) for goal in (6, 2)
    ]
    assert "<&" in {text.text for text in root.findall(f"{space}text")}
    ElementTree.fromstring(results.picture([]))


def test_one_benchmark_through_the_command(tmp_path, capsys, monkeypatch):
    broken = Stage("broken", "scoring", arguments="--videos none")
    gone = Stage("gone", "no_such_benchmark")
    quick = "--videos 5 --predictions 20 --truths 5"
    scoring = Stage("scoring", "scoring", (Line("AP", "all rules", "AP"),), quick=quick)
    monkeypatch.setattr(runner, "STAGES", (broken, scoring, gone))
    assert runner.main(["--quick", "--out", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "benchmarks.json").read_text())
    assert len(found["benchmarks"]["scoring"]["variants"]["AP"]) == 1
    assert "invalid" in found["failed"]["broken"] and "gone" in found["failed"]
    page = (tmp_path / "out" / "RESULTS.md").read_text()
    assert "Made by `python -m benchmarks --quick`" in page and str(tmp_path) not in page
    assert f"python -m benchmarks.scoring {quick}" in page
    ElementTree.fromstring((tmp_path / "out" / "benchmarks.svg").read_text())
    told = capsys.readouterr().out
    assert "[2/3] scoring" in told and "1 measured, 2 not" in told

    monkeypatch.setattr(runner, "STAGES", (broken._replace(arguments=quick), scoring, gone))
    again = ["--quick", "--only", "broken", "--out", str(tmp_path / "out")]
    assert runner.main(again) == 0 and "2 measured, 1 not" in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "benchmarks.json").read_text())
    assert record["benchmarks"]["scoring"] == found["benchmarks"]["scoring"]
    assert list(record["failed"]) == ["gone"] and len(record["lines"]) == 2
    monkeypatch.setattr(common, "processor", lambda: "another")
    assert runner.earlier(tmp_path / "out", True) == ({}, {}, [])


def test_an_unknown_name_is_refused(tmp_path, capsys):
    assert runner.main(["--only", "nothing", "--out", str(tmp_path)]) == 2
    assert "--only nothing: choose from fold_training," in capsys.readouterr().err


def test_names_of_benchmarks_differ():
    assert len({stage.name for stage in STAGES}) == len(STAGES)


def test_the_steps_that_are_timed_are_those_of_training():
    features, members = fold_training.make_data(2, 30)
    order = plans.epoch_order(members, 0, 0, 0, 12)
    lowered, state, given = steps.lowered_epoch(
        build(Softnet(augment=("macro",)), fold_training.K), "macro", Train(),
        {"flow_macro": features}, members, order, devices=2,
    )  # fmt: skip
    before = jax.tree.map(np.asarray, state.variables)
    state, losses = lowered.compile()(state, *given)
    assert np.asarray(state.step).tolist() == [3, 3] and (np.asarray(losses) > 0).all()
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), before, state.variables)
    assert all(0 < change < 0.1 for change in jax.tree.leaves(moved))
