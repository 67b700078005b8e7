"""The benchmark for real: two systems and all methods on a tiny set, trained in this process."""

import csv
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from commands import run
from tiny_sets import make_set

from spotjax import compare, figures
from spotjax.sweeps import runners

ROOT = Path(__file__).resolve().parents[2]
ROWS = tuple(
    row
    for subject in (1, 2, 3)
    for row in (
        (subject, "disgust1_1", 11, 15, 23, "4", "negative", "macro-expression", "disgust"),
        (subject, "disgust1_2", 31, 33, 36, 43, "others", "micro-expression", "disgust"),
    )
)


def rows_of(folder):
    with open(folder / "benchmark.csv", newline="") as file:
        return {(row["name"], row["type"]): row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """The words of the command, its folder, what it told."""
    folder = tmp_path_factory.mktemp("bench")
    videos = tuple((subject, "0101", 50) for subject in ("s15", "s16", "s19"))
    make_set(folder / "videos", videos, ROWS)
    (folder / "configs").symlink_to(ROOT / "configs")
    words = ["--systems", "softnet,sfamnet", "--baselines", "strain_sum,lbp_chi2"] + [
        f"--config.{key}={value}"
        for key, value in {
            "data.root": "videos", "data.jobs": 1, "features.face.backend": "csv",
            "features.face.csv": "landmarks", "train.epochs": 1, "train.updates": 2,
            "train.devices": 1, "evaluation.chance_draws": 2, "evaluation.bootstrap": 50,
        }.items()
    ]  # fmt: skip

    def here(units, jobs):
        for unit in units:
            unit.log.parent.mkdir(parents=True, exist_ok=True)
            done = run(*unit.words)
            assert done.returncode == 0, done.stderr
        return {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runners, "run_local", here)
        patch.chdir(folder)
        yield words, folder, run("spotjax.benchmark", *words)


def test_systems_and_methods_are_trained_and_counted_alike(bench):
    _, folder, done = bench
    assert done.returncode == 0, done.stderr
    assert "2 runs, 0 finished" in done.stdout
    assert "3 subjects (leave one out), 3 videos, 3 macro- and 3 micro-expressions" in done.stdout
    assert "Rule one_to_one, IoU >= 0.5; every video counts" in done.stdout
    assert "SOFTNet, SFAMNet (optical): the last epoch, thresholds as configured." in done.stdout
    rows = rows_of(folder / "runs")
    names = ["SOFTNet", "SFAMNet (optical)", "strain sum", "LBP-χ²"]
    assert list(dict.fromkeys(name for name, _ in rows)) == names
    for folder_name, name in (("demo", "SOFTNet"), ("benchmark_sfamnet", "SFAMNet (optical)")):
        metrics = json.loads((folder / "runs" / folder_name / "metrics.json").read_text())
        for type in ("macro", "micro", "overall"):
            row, own = rows[name, type], metrics["results"][type]
            assert [float(row[key]) for key in ("tp", "fp", "fn", "f1", "ap")] == pytest.approx(
                [own[key] for key in ("tp", "fp", "fn", "f1", "ap")]
            )
            assert [float(row["f1_low"]), float(row["f1_high"])] == metrics["bootstrap"][type]
            assert float(row["chance_f1"]) == metrics["chance"][type]["f1"]
        logged = (folder / "runs" / folder_name / "log.jsonl").read_text().splitlines()
        seconds = sum(json.loads(line)["seconds"] for line in logged)
        assert float(row["train_seconds"]) == pytest.approx(seconds, abs=0.06) and seconds > 0
        free = metrics["baselines"]["strain_sum"]
        assert {key: float(rows["strain sum", "macro"][key]) for key in ("tp", "fp", "fn")} == {
            key: free["macro"][key] for key in ("tp", "fp", "fn")
        }
    assert rows["LBP-χ²", "macro"]["train_seconds"] == "" and rows["LBP-χ²", "macro"]["runs"] == "1"
    ElementTree.parse(folder / "runs/benchmark.svg")
    assert "| SOFTNet | **" in (folder / "runs/benchmark.md").read_text()


def test_the_same_command_repeats_nothing_and_a_finished_run_may_be_given(bench, monkeypatch):
    words, folder, _ = bench
    monkeypatch.setattr(runners, "run_local", lambda units, jobs: pytest.fail(str(units)))
    again = run("spotjax.benchmark", *words)
    assert again.returncode == 0 and "2 runs, 2 finished" in again.stdout
    given = ["--run", "runs/demo", "--run", "runs/benchmark_sfamnet", "--out", "elsewhere"]
    other = run("spotjax.benchmark", *words, *given)
    assert other.returncode == 0 and "0 runs, 0 finished" in other.stdout
    assert rows_of(folder / "elsewhere") == rows_of(folder / "runs")
    changed = run("spotjax.benchmark", *words, *given, "--config.evaluation.iou=0.4")
    assert changed.returncode == 2
    assert "differs from configs/demo.py in evaluation.iou (0.5, not 0.4)" in changed.stderr


def test_the_figures_of_trained_runs(bench, capsys):
    _, folder, _ = bench
    for name in ("demo", "benchmark_sfamnet"):
        run = folder / "runs" / name
        found = json.loads((run / "metrics.json").read_text())["results"]
        assert figures.main([str(run), "--out", str(folder / name)]) == 0
        made = {path.stem for path in (folder / name).glob("*.svg")}
        assert {"timeline_s15_0101", "timeline_s16_0101", "timeline_s19_0101"} <= made
        for type in ("macro", "micro"):
            some = found[type]["tp"] + found[type]["fp"] > 0
            assert (f"gradcam_{type}" in made) == some
        assert ("confusion_annotated" in made) == (name == "benchmark_sfamnet")
        for path in (folder / name).glob("*.svg"):
            ElementTree.parse(path)
    assert "left out: pca" in capsys.readouterr().out


def test_a_method_inside_a_run_is_compared_with_it(bench):
    _, folder, _ = bench
    run = folder / "runs/demo"
    words = [str(run), f"{run}:strain_sum", "--out", str(folder), "--draws", "200"]
    assert compare.main(words) == 0
    with open(folder / "comparison.csv", newline="") as file:
        rows = {(row["first"], row["type"]): row for row in csv.DictReader(file) if row["f1_std"]}
    metrics = json.loads((run / "metrics.json").read_text())
    for type in ("macro", "micro", "overall"):
        for label, own in (
            (run, metrics["results"]),
            (words[1], metrics["baselines"]["strain_sum"]),
        ):
            row = rows[str(label), type]
            assert [float(row[key]) for key in ("tp", "fp", "fn", "f1")] == pytest.approx(
                [own[type][key] for key in ("tp", "fp", "fn", "f1")]
            )


def test_a_method_without_features_is_refused(bench, capsys):
    run = bench[1] / "runs/demo"
    assert compare.main([str(run), f"{run}:mdmd", "--out", str(bench[1])]) == 2
    assert "the features of the baseline mdmd are not there" in capsys.readouterr().err
