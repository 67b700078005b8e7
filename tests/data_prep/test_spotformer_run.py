"""SpotFormer from images to a scored run on three tiny subjects, and each choice of an epoch."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import run
from tiny_sets import ROWS, make_set

SUBJECTS = ("s15", "s16", "s19")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory of two epochs, curves kept after each."""
    folder = tmp_path_factory.mktemp("spotformer")
    rows = [(number, *row[1:]) for number in (1, 2, 3) for row in ROWS]
    root = make_set(folder / "set", tuple((s, "0101", 50) for s in SUBJECTS), rows)
    words = [
        # flow between neighbours: a tenth of the time
        "--config", "configs/spotformer_demo.py:adjacent", "--workdir", str(folder / "run"),
        f"--config.data.root={root}", f"--config.data.shards={folder / 'shards'}",
        "--config.data.jobs=1",
        "--config.features.face.backend=csv", f"--config.features.face.csv={folder / 'landmarks'}",
        # two down-samplings instead of four: half the time to compile
        "--config.features.window=5", "--config.system.window=5", "--config.system.paddings=0,1",
        "--config.system.width=16", "--config.system.head_width=4", "--config.system.mlp_width=16",
        "--config.train.epochs=2", "--config.train.score_every=1", "--config.train.validation=1",
        "--config.train.devices=1", "--config.evaluation.bootstrap=0",
        "--config.evaluation.chance_draws=2",
    ]  # fmt: skip
    done = run("spotjax.train", *words)
    assert done.returncode == 0, done.stderr
    assert "spotformer on casme2: 3 LOSO folds" in done.stdout
    return folder / "run"


def results(workdir: Path) -> dict:
    return json.loads((workdir / "metrics.json").read_text())


def test_the_run_is_scored_after_its_last_epoch(trained: Path) -> None:
    assert run("spotjax.evaluate", "--workdir", str(trained)).returncode == 0
    metrics = results(trained)
    about = metrics["protocol"]
    assert (about["system"], about["epoch_choice"]) == ("spotformer", "last")
    assert about["keep"] == 5 and "chosen_epochs" not in about
    assert list(metrics["baselines"]) == ["strain_sum"]  # from shards of its own
    assert {row["decoding"] for row in metrics["variants"]} == {"keep 5", "keep 0"}
    curves = np.load(trained / "curves.npz")
    assert curves["both/s15/0101"].shape == (50, 6)
    last = np.load(trained / "scores" / "both-0002.npz")
    np.testing.assert_allclose(last["s15/s15/0101"], curves["both/s15/0101"], atol=1e-5)
    fold = next(name.split("/")[0] for name in last.files)
    assert sum(name.startswith(f"{fold}/") for name in last.files) == 2  # and one to validate


@pytest.mark.parametrize("choice", ["validation", "oracle"])
def test_other_epochs_are_named_as_what_they_are(trained: Path, choice: str) -> None:
    done = run(
        "spotjax.evaluate", "--workdir", str(trained), f"--config.evaluation.epoch_choice={choice}"
    )
    assert done.returncode == 0, done.stderr
    about = results(trained)["protocol"]
    assert about["epoch_choice"] == choice
    assert set(about["chosen_epochs"]) == set(SUBJECTS)
    assert set(about["chosen_epochs"].values()) <= {1, 2}
    warned = "chosen on the test subjects: not a result" in done.stdout
    page = "HELD-OUT subject: no result" in (trained / "report.html").read_text()
    assert warned == page == (choice == "oracle")
