"""The sweep's bookkeeping; its runs are those of spotjax.train, which has its own tests."""

import json
import subprocess

import pytest

from spotjax import config as config_lib
from spotjax import sweep
from spotjax.cli import load_config, presets
from spotjax.errors import UserError

CONFIG = "configs/sfamnet_demo.py"


def metrics_of(config, f1):
    counts = {"f1": f1, "precision": f1, "recall": f1, "ap": 0.1, "tp": 3, "fp": 2, "fn": 1}
    return {
        "protocol": {
            "system": "sfamnet", "data_set": "synthetic_casme3", "rule": "one_to_one",
            "epoch_choice": "last", "seed": 0, "config": config_lib.to_dict(config),
        },
        "results": {type: counts for type in ("macro", "micro", "overall")},
        "recognition": {
            "rule": "one_to_one",
            "ground_truth": {"uf1": 0.5, "uar": 0.6},
            "analysis": {"one_to_one": {"strs": 0.25}},
        },
    }  # fmt: skip


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Stands in for training: writes what a run would, and lists the commands."""
    commands = []

    def run(command):
        commands.append(command)
        file, run = command[command.index("--config") + 1], command[command.index("--workdir") + 1]
        if file.endswith(":strain"):
            return subprocess.CompletedProcess(command, 2)
        config = load_config(file, [w.removeprefix("--config.") for w in command[7:]])
        folder = tmp_path / run
        folder.mkdir(parents=True, exist_ok=True)
        values = {"config": config_lib.to_dict(config), "data_hash": "x", "shards": "s"}
        (folder / "config.json").write_text(json.dumps(values))
        (folder / "metrics.json").write_text(json.dumps(metrics_of(config, 0.5)))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(sweep.subprocess, "run", run)
    return commands


def test_every_preset_is_run_once(tmp_path, trained, capsys):
    argv = ["--config", CONFIG, "--presets", "plain,optical,scene", "--out", str(tmp_path / "o"),
            "--config.train.epochs=1"]  # fmt: skip
    assert sweep.main(argv) == 0
    assert [c[4] for c in trained] == [CONFIG, f"{CONFIG}:optical", f"{CONFIG}:scene"]
    assert all(c[-1] == "--config.train.epochs=1" for c in trained)
    out = capsys.readouterr().out
    assert "optical" in out and "0.5000         3/2/1" in out and "0.2500" in out
    lines = (tmp_path / "o/sweep_sfamnet_demo.csv").read_text().splitlines()
    assert lines[0].startswith("preset,macro_f1,macro_tp") and len(lines) == 4
    assert lines[2].split(",")[:5] == ["optical", "0.5", "3", "2", "1"]
    assert sweep.main(argv) == 0 and len(trained) == 3  # finished runs are not repeated
    assert sweep.main([*argv[:-1], "--config.train.epochs=2", "--presets", "plain"]) == 0
    assert len(trained) == 4  # another config is
    lines = (tmp_path / "o/sweep_sfamnet_demo.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["plain", "optical", "scene"]


def test_a_preset_that_fails_is_named_and_the_others_go_on(tmp_path, trained, capsys):
    argv = ["--config", CONFIG, "--presets", "strain,optical", "--out", str(tmp_path / "o")]
    assert sweep.main(argv) == 2
    both = capsys.readouterr()
    assert "error: strain: ended with status 2" in both.err and "optical" in both.out


def test_an_unknown_preset_is_refused_before_any_run(tmp_path, trained, capsys):
    assert sweep.main(["--config", CONFIG, "--presets", "plain,opticl"]) == 2
    assert "no such preset; it has optical, scene" in capsys.readouterr().err
    assert not trained
    assert sweep.main(["--config", "configs/demo.py"]) == 2
    assert "configs/demo.py: has no PRESETS" in capsys.readouterr().err
    assert sweep.main(["--config", f"{CONFIG}:soft"]) == 2
    assert "and its presets with --presets" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    ["sfamnet_demo", "sfamnet_casme3", "spotformer_demo", "spotformer_samm_lv",
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
