"""The benchmark's command, its table and picture, from invented runs."""

import csv
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from made_runs import TRUTHS, VIDEOS, write_run

from spotjax import benchmark, sweep
from spotjax.benchmark import SYSTEMS
from spotjax.cli import load_config
from spotjax.config import to_dict
from spotjax.counting import paired, run_counts
from spotjax.errors import UserError
from spotjax.pages import benchmark_picture
from spotjax.sweeps.benchmark_table import row_of, to_csv

LOG = ({"problem": "macro", "epoch": 1, "seconds": 3.5},
       {"problem": "micro", "epoch": 1, "seconds": 4.0})  # fmt: skip
NO_METHODS = ["--baselines", ""]


def rows_of(folder):
    with open(folder / "benchmark.csv", newline="") as file:
        return {(row["name"], row["type"]): row for row in csv.DictReader(file)}


def test_every_system_is_there_on_the_same_videos():
    runs = benchmark.planned(list(SYSTEMS), "2", [])
    assert [run.name for run in runs[:3]] == [
        "demo_seed=0",
        "demo_seed=1",
        "spotformer_demo_seed=0",
    ]
    assert {run.config.system.name for run in runs} == set(SYSTEMS) and len(runs) == 10
    assert len({str(to_dict(run.config)["data"]["synthetic"]) for run in runs}) == 1
    for file in SYSTEMS.values():
        text = Path(file).read_text().split('"""')[1]
        assert all(w in text for w in ("Command:", "Cost:", "Expect:", "Differs from the paper:"))


def test_the_benchmarks_own_configs_are_the_demos_on_other_videos():
    for name, preset in (("sfamnet", ":optical"), ("cnn3d", "")):
        own = to_dict(load_config(f"configs/benchmark/{name}.py"))
        demo = to_dict(load_config(f"configs/{name}_demo.py{preset}"))
        changed = {key for key in own if own[key] != demo[key]}
        assert changed <= {"name", "data", "features", "train"}
        own["train"]["epochs"] = demo["train"]["epochs"]
        assert own["train"] == demo["train"]
        other = {k for k in own["features"] if own["features"][k] != demo["features"][k]}
        assert other == ({"scene"} if name == "sfamnet" else set())


def test_a_run_of_another_config_is_told_from_one_that_is_missing(tmp_path, capsys):
    write_run(tmp_path / "demo", overrides=("train.epochs=4",))
    argv = ["--systems", "softnet,mesnet", "--only", "table", "--out", str(tmp_path), *NO_METHODS]
    assert benchmark.main(argv) == 2
    err = capsys.readouterr().err
    assert "demo: its results are of another config (train.epochs 4): give --run" in err
    assert "mesnet_demo: not trained yet: run the command without --only, or leave it out" in err


def test_seeds_are_averaged(tmp_path, capsys):
    found = (TRUTHS, TRUTHS[:3])
    runs = [
        write_run(tmp_path / str(seed), rows, overrides=(f"train.seed={seed}",), log=LOG)
        for seed, rows in enumerate(found)
    ]
    words = [word for run in runs for word in ("--run", str(run))]
    argv = [*words, "--systems", "softnet", "--seeds", "2", "--out", str(tmp_path), *NO_METHODS]
    assert benchmark.main([*argv, "--only", "table"]) == 0
    row = rows_of(tmp_path)["SOFTNet", "micro"]
    # 3 of 3 micro-expressions, and 1 of 3 without a false one: 1 and 2/(2+2)
    assert float(row["f1"]) == 0.75 and float(row["f1_std"]) == pytest.approx(0.125**0.5)
    assert (row["tp"], row["fn"], row["runs"]) == ("2.0", "1.0", "2")
    counts = run_counts.table([run_counts.read(r) for r in runs], "micro", "one_to_one", 0.5)
    assert (float(row["f1_low"]), float(row["f1_high"])) == paired.bootstrap(counts, 1000, 0)
    assert float(row["train_seconds"]) == 7.5
    out = capsys.readouterr().out
    assert "0.750 ±0.354" in out and "Mean of 2 seeds" in out


def test_a_system_of_one_type_and_one_that_is_not_there(tmp_path, capsys):
    mesnet = write_run(tmp_path / "mesnet", (), "configs/mesnet_demo.py", log=LOG)
    argv = ["--systems", "mesnet,sfamnet", "--run", str(mesnet), "--out", str(tmp_path / "o")]
    assert benchmark.main([*argv, *NO_METHODS, "--only", "table"]) == 2
    both = capsys.readouterr()
    assert "error: benchmark_sfamnet: not trained yet" in both.err
    assert list(rows_of(tmp_path / "o")) == [("MESNet", "micro")]
    assert "not spotted by it" in (tmp_path / "o/benchmark.svg").read_text()


def test_what_failed_is_told_and_the_table_made(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sweep, "prepare", lambda runs: {})
    monkeypatch.setattr(sweep, "train", lambda units, out, how: {units[0][0].name: "no memory"})
    demo = write_run(tmp_path / "demo", log=LOG)
    argv = ["--systems", "softnet,cnn3d", "--run", str(demo), "--out", str(tmp_path)]
    assert benchmark.main([*argv, *NO_METHODS]) == 2
    both = capsys.readouterr()
    assert "error: benchmark_cnn3d: no memory" in both.err and "SOFTNet" in both.out


@pytest.mark.parametrize(
    ("change", "words", "why"),
    [
        ({}, ["--systems", "softnet,x"], "--systems x: is none of softnet, spotformer"),
        ({}, ["--systems", ""], "--systems: name at least one of softnet"),
        ({}, ["--baselines", "mdmm"], "--baselines mdmm: is none of strain_sum, mdmd, lbp_chi2"),
        ({}, ["--jobs", "0"], "--jobs 0: give a number from 1 on"),
        ({}, ["--config.evaluation.epoch_choice=oracle", "--config.train.score_every=1"],
         "--config.evaluation.epoch_choice=oracle: is no result"),
        ({"overrides": ("train.epochs=9",)}, [], "differs from configs/demo.py in train.epochs (9"),
        ({"overrides": ("system.p=0.9",)}, [], "differs from configs/demo.py in system.p (0.9, no"),
        ({"overrides": ("train.seed=4",)}, [], "softnet with seed 4 is not in this benchmark"),
        ({"overrides": ("data.synthetic.videos=1",)}, [], "in data.synthetic.videos (1, not 2)"),
    ],
)  # fmt: skip
def test_what_is_not_honest_or_not_alike_is_refused(tmp_path, capsys, change, words, why):
    run = write_run(tmp_path / "run", **change)
    argv = ["--run", str(run), "--only", "table", "--out", str(tmp_path), *NO_METHODS, *words]
    assert benchmark.main(argv) == 2
    err = capsys.readouterr().err
    assert why in err and err.count("\n") == 1


def test_other_keys_of_a_run_do_not_matter(tmp_path):
    free = ("data.shards=x", "data.jobs=2", "baselines.names=mdmd", "train.devices=1")
    run = write_run(tmp_path / "run", overrides=free)
    (wanted,) = benchmark.planned(["softnet"], "", [])
    assert benchmark.given([run], [wanted]) == {"demo": run}
    again = write_run(tmp_path / "again")
    with pytest.raises(UserError, match="run stands for demo already"):
        benchmark.given([run, again], [wanted])


def test_runs_on_other_videos_are_refused(tmp_path, capsys):
    one = write_run(tmp_path / "a")
    other = write_run(tmp_path / "b", (), "configs/mesnet_demo.py", truths=(), videos=VIDEOS[:2])
    argv = ["--run", str(one), "--run", str(other), "--systems", "softnet,mesnet", *NO_METHODS]
    assert benchmark.main([*argv, "--only", "table", "--out", str(tmp_path)]) == 2
    assert "b: did not score the video s2/b" in capsys.readouterr().err


def test_the_picture(tmp_path):
    run = run_counts.read(write_run(tmp_path / "a", TRUTHS[:4]))
    row = row_of("A<B", [run], [2.0], 100, 0)
    chart = ElementTree.fromstring(benchmark_picture.picture([row, row], "title & more", "note"))
    assert chart.tag.endswith("svg") and chart.get("width") == "860"
    space = "{http://www.w3.org/2000/svg}"
    bars = [r for r in chart.iter(f"{space}rect") if r.find(f"{space}title") is not None]
    widths = [float(bar.get("width")) for bar in bars]
    # macro: 2 of 3 found, F1 0.8; micro: 2 of 3 as well; the axis is the same
    assert len(bars) == 4 and np.ptp(widths) == 0
    styles = [path.get("class") for path in chart.iter(f"{space}path")]
    assert styles.count("chance") == 5 and styles.count("whisker") == 5  # one each in the legend
    assert to_csv([row]).count("\n") == 4
