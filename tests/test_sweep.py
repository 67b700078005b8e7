"""The sweep's command; its runs are those of spotjax.train, which has its own tests."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from spotjax import config as config_lib
from spotjax import sweep, train
from spotjax.cli import load_config, presets
from spotjax.errors import UserError
from spotjax.sweeps import runners

CONFIG, DEMO = "configs/sfamnet_demo.py", "configs/demo.py"


def metrics_of(config, f1, recognised):
    counts = {"f1": f1, "precision": f1, "recall": f1, "ap": 0.1, "tp": 3, "fp": 2, "fn": 1}
    metrics = {
        "protocol": {
            "system": config.system.name, "data_set": "synthetic_casme3", "rule": "one_to_one",
            "epoch_choice": config.evaluation.epoch_choice, "seed": config.train.seed,
            "config": config_lib.to_dict(config),
        },
        "results": {type: counts for type in ("macro", "micro", "overall")},
    }  # fmt: skip
    if recognised:
        metrics["recognition"] = {
            "rule": "one_to_one",
            "ground_truth": {"uf1": 0.5, "uar": 0.6},
            "analysis": {"one_to_one": {"strs": 0.25}},
        }
    return metrics


class Stand:
    """Stands in for training: writes what runs would, and keeps what was to be done."""

    def __init__(self):
        self.units, self.prepared, self.failing = [], [], ""

    @property
    def lines(self):
        return [unit.words for unit in self.units]

    def prepare(self, file, overrides):
        self.prepared.append((file, list(overrides)))
        return 2 if self.failing and self.failing in overrides else 0

    def run_local(self, units, jobs):
        self.units += units
        failed = {}
        for unit in units:
            if unit.words[0] == "spotjax.together":
                runs = json.loads(Path(unit.words[1]).read_text())["runs"]
            else:
                _, _, file, _, workdir, *words = unit.words
                words = [word.removeprefix("--config.") for word in words]
                runs = [{"config": file, "overrides": words, "workdir": workdir}]
            for run in runs:
                if run["config"].endswith(":strain"):
                    failed[unit.name] = f"a.csv: no such column (log: {unit.log})"
                else:
                    self.train(Path(run["workdir"]), load_config(run["config"], run["overrides"]))
        return failed

    def train(self, folder, config):
        folder.mkdir(parents=True, exist_ok=True)
        values = {"config": config_lib.to_dict(config), "data_hash": "x", "shards": "s"}
        (folder / "config.json").write_text(json.dumps(values))
        f1 = 0.5 + config.train.seed / 10
        metrics = metrics_of(config, f1, config.system.name == "sfamnet")
        (folder / "metrics.json").write_text(json.dumps(metrics))
        (folder / "report.html").write_text("")


@pytest.fixture
def stand(monkeypatch):
    made = Stand()
    monkeypatch.setattr(runners, "run_local", made.run_local)
    monkeypatch.setattr(train, "make_shards", made.prepare)
    return made


def test_every_preset_is_run_once(tmp_path, stand, capsys):
    argv = ["--config", CONFIG, "--presets", "plain,optical,scene", "--out", str(tmp_path / "o"),
            "--config.train.epochs=1"]  # fmt: skip
    assert sweep.main(argv) == 0
    assert stand.lines[1] == (
        "spotjax.train", "--config", f"{CONFIG}:optical", "--workdir",
        str(tmp_path / "o/sfamnet_demo_optical"), "--config.train.epochs=1",
    )  # fmt: skip
    assert [line[2] for line in stand.lines] == [CONFIG, f"{CONFIG}:optical", f"{CONFIG}:scene"]
    assert stand.units[1].log == tmp_path / "o/sfamnet_demo_optical/train.log"
    assert all(words == ["train.epochs=1"] for _, words in stand.prepared)
    out = capsys.readouterr().out
    # one seed: the table of presets
    assert "preset             macro F1      TP/FP/FN" in out and " ± " not in out
    assert "optical              0.5000         3/2/1" in out and "0.2500" in out
    lines = (tmp_path / "o/sweep_sfamnet_demo.csv").read_text().splitlines()
    assert lines[0].startswith("preset,macro_f1,macro_tp") and len(lines) == 4
    assert lines[2].split(",")[:5] == ["optical", "0.5", "3", "2", "1"]
    assert sweep.main(argv) == 0 and len(stand.lines) == 3  # finished runs are not repeated
    assert sweep.main([*argv[:-1], "--config.train.epochs=2", "--presets", "plain"]) == 0
    assert len(stand.lines) == 4  # another config is
    lines = (tmp_path / "o/sweep_sfamnet_demo.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["plain", "optical", "scene"]


def test_a_grid_with_seeds(tmp_path, stand, capsys):
    argv = ["--config", DEMO, "--seeds", "3", "--grid", "train.learning_rate=1e-3,3e-4",
            "--out", str(tmp_path)]  # fmt: skip
    assert sweep.main(argv) == 0
    (only,) = stand.units  # seeds and step sizes share a program
    assert only.runs == 6 and only.words[0] == "spotjax.together"
    assert only.name == "demo_learning_rate=0.001_seed=0 and 5 more"
    runs = json.loads(Path(only.words[1]).read_text())["runs"]
    assert runs[4] == {
        "config": DEMO,
        "overrides": ["train.learning_rate=3e-4", "train.seed=1"],
        "workdir": str(tmp_path / "demo_learning_rate=0.0003_seed=1"),
    }
    assert len(stand.prepared) == 1  # one data set
    out = capsys.readouterr().out
    first = f"{'demo_learning_rate=0.001':<27}{'0.6000 ± 0.1000':>17}{'0.500-0.700':>15}"
    assert first in out and f"{'  seed 2':<27}{'0.7000':>17}{'3/2/1':>15}" in out
    with open(tmp_path / "sweep_demo.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["runs"] for row in rows] == ["3", "1", "1", "1"] * 2
    assert float(rows[0]["macro_f1"]) == pytest.approx(0.6)
    assert rows[5]["train.learning_rate"] == "0.0003" and rows[5]["seed"] == "0"
    assert (tmp_path / "sweep_demo.html").read_text().count("report.html") == 6
    assert sweep.main(argv) == 0 and len(stand.units) == 1
    assert sweep.main([*argv[:2], "--seeds", "2,3", *argv[4:]]) == 0
    assert stand.units[1].name == "demo_learning_rate=0.001_seed=3 and 1 more"
    assert sum(unit.runs for unit in stand.units) == 8  # of both only seed 3 was missing


def test_how_many_share_a_program(tmp_path, stand):
    argv = ["--config", DEMO, "--seeds", "5", "--out"]
    assert sweep.main([*argv, str(tmp_path / "a"), "--together", "2"]) == 0
    assert [unit.runs for unit in stand.units] == [1, 2, 2]
    assert sweep.main([*argv, str(tmp_path / "b"), "--together", "1"]) == 0
    assert all(line[0] == "spotjax.train" for line in stand.lines[3:])


def test_what_fails_is_named_and_the_others_go_on(tmp_path, stand, capsys):
    argv = ["--config", CONFIG, "--presets", "strain,optical", "--out", str(tmp_path / "o")]
    assert sweep.main(argv) == 2
    both = capsys.readouterr()
    log = tmp_path / "o/sfamnet_demo_strain/train.log"
    assert both.err.endswith(f"error: sfamnet_demo_strain: a.csv: no such column (log: {log})\n")
    assert "optical" in both.out
    assert sweep.main(argv) == 2 and len(stand.units) == 3  # it is tried again
    page = (tmp_path / "o/sweep_sfamnet_demo.html").read_text()
    assert "Without results" in page and "a.csv: no such column" in page


def test_results_of_another_config_are_not_shown(tmp_path, stand, capsys):
    argv = ["--config", DEMO, "--seeds", "1", "--out", str(tmp_path)]
    assert sweep.main(argv) == 0
    assert sweep.main([*argv, "--only", "table", "--config.system.p=0.9"]) == 2
    both = capsys.readouterr()
    assert "error: demo_seed=0: its results are of another config" in both.err
    assert sweep.main([*argv[:2], "--seeds", "2", *argv[4:], "--only", "table"]) == 2
    assert "error: demo_seed=1: not trained yet" in capsys.readouterr().err
    assert len(stand.units) == 1


def test_features_that_cannot_be_made_stop_only_their_runs(tmp_path, stand, capsys):
    stand.failing = "data.sample_every=2"
    argv = ["--config", DEMO, "--seeds", "2", "--grid", "data.sample_every=1,2"]
    assert sweep.main([*argv, "--out", str(tmp_path)]) == 2
    assert len(stand.prepared) == 2
    assert [unit.name for unit in stand.units] == ["demo_data.sample_every=1_seed=0 and 1 more"]
    err = capsys.readouterr().err
    assert (
        "error: demo_data.sample_every=2_seed=0, demo_data.sample_every=2_seed=1: its features "
        "could not be made (data_prep ended with status 2)\n"
    ) in err


def test_tasks_of_an_array_share_the_units(tmp_path, stand, capsys):
    argv = ["--config", DEMO, "--seeds", "5", "--together", "1", "--out", str(tmp_path)]
    assert sweep.main([*argv, "--only", "prepare"]) == 0 and not stand.units
    assert sweep.main([*argv, "--task", "2/3"]) == 0
    assert [unit.name for unit in stand.units] == ["demo_seed=1", "demo_seed=4"]
    assert sweep.main([*argv, "--task", "1/3"]) == 0
    assert sweep.main([*argv, "--task", "3/3"]) == 0
    assert sorted(unit.name for unit in stand.units) == [f"demo_seed={seed}" for seed in range(5)]
    assert len(stand.prepared) == 1 and not (tmp_path / "sweep_demo.csv").exists()
    assert sweep.main([*argv, "--only", "table"]) == 0 and len(stand.units) == 5
    assert (tmp_path / "sweep_demo.csv").exists()


def test_oracle_runs_are_marked(tmp_path, stand, capsys):
    argv = ["--config", DEMO, "--seeds", "2", "--out", str(tmp_path)]
    assert sweep.main([*argv, "--grid", "evaluation.epoch_choice=last,oracle"]) == 0
    marked = [line for line in capsys.readouterr().out.splitlines() if "no result" in line]
    assert len(marked) == 3 and marked[0].startswith("demo_evaluation.epoch_choice=oracle")
    assert all(line.endswith("  oracle: chosen on the test subjects, no result") for line in marked)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--config", CONFIG, "--presets", "plain,opticl"], "no such preset; it has optical"),
        (["--config", "configs/softnet_folder.py"], "configs/softnet_folder.py: has no PRESETS"),
        (["--config", f"{CONFIG}:soft"], "and its presets with --presets"),
        (["--config", DEMO, "--grid", "optim.lr=1"], "--grid optim.lr: unknown key"),
        (["--config", DEMO, "--seeds", "x"], "--seeds x: write a number"),
        (["--config", DEMO, "--seeds", "2", "--jobs", "0"], "--jobs 0: give a number from 1 on"),
        (["--config", DEMO, "--seeds", "2", "--task", "3/2"], "--task 3/2: write I/N"),
        (
            ["--config", DEMO, "--seeds", "2", "--task", "1/2", "--only", "table"],
            "--task only trains",
        ),
        (
            ["--config", DEMO, "--grid", "data.annotation.onset_zero=drop,keep", "--jobs", "2"],
            "differ in data.annotation and share the shards",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_before_any_run(words, why, stand, capsys, tmp_path):
    assert sweep.main([*words, "--out", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert why in err and err.count("\n") == 1
    assert not stand.units and not stand.prepared


def test_ctrl_c_while_features_are_made_is_told_once(tmp_path, monkeypatch, capfd):
    code = "import os, signal; from spotjax.errors import command\n"
    code += "main = command(lambda argv: os.kill(os.getpid(), signal.SIGINT))\n"
    code += "raise SystemExit(main([]))"
    (tmp_path / "interrupted.py").write_text(code)
    started = subprocess.Popen

    def popen(line, **options):
        return started([sys.executable, str(tmp_path / "interrupted.py")], **options)

    monkeypatch.setattr(train.subprocess, "Popen", popen)
    assert sweep.main(["--config", DEMO, "--seeds", "2", "--out", str(tmp_path)]) == 130
    assert capfd.readouterr().err.count("interrupted: run the same command again") == 1


def test_several_files_make_one_table(tmp_path, stand):
    files = [DEMO, "configs/cnn3d_demo.py"]
    assert sweep.main(["--config", *files, "--seeds", "2", "--out", str(tmp_path)]) == 0
    table = (tmp_path / "sweep_demo+cnn3d_demo.csv").read_text()
    assert [line.split(",")[17] for line in table.splitlines()[1::3]] == ["demo", "cnn3d_demo"]


@pytest.mark.parametrize(
    "name",
    ["demo", "sfamnet_demo", "sfamnet_casme3", "spotformer_demo", "spotformer_samm_lv",
     "spotformer_casme2", "spotformer_casme3"],
)  # fmt: skip
def test_every_preset_is_another_valid_config(name):
    file = f"configs/{name}.py"
    listed = presets(file)
    configs = [load_config(file)] + [load_config(f"{file}:{preset}") for preset in listed]
    assert len({config.name for config in configs}) == len(listed) + 1
    plain = config_lib.to_dict(configs[0])
    for config in configs[1:]:
        values = config_lib.to_dict(config)
        changed = {key for key in values if values[key] != plain[key]}
        assert changed > {"name"} and changed <= {"name", "system", "features"}
        assert config_lib.from_dict(values) == config
    with pytest.raises(UserError, match="unknown preset 'x'"):
        load_config(f"{file}:x")
