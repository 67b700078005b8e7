"""Training-free methods beside a run that is there: features of their own, made once."""

import json
from pathlib import Path

import pytest
from commands import run
from tiny_sets import ROWS, frame, make_set, video_folder

SUBJECTS = ("s15", "s16", "s19")
NAMES = "--config.baselines.names=strain_sum,mdmd,lbp_chi2"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of SOFTNet over one epoch with its own control."""
    folder = tmp_path_factory.mktemp("baselines")
    rows = [(number, *row[1:]) for number in (1, 2, 3) for row in ROWS]
    root = make_set(folder / "set", tuple((s, "0101", 72) for s in SUBJECTS), rows)
    for subject in SUBJECTS:  # one slow movement between still frames
        for row in range(72):
            image = frame((row - 18) // 2 if 18 <= row < 58 else 0)
            (video_folder(root, subject) / f"img{row + 1:03d}.jpg").write_bytes(image)
    done = run(
        "spotjax.train", "--config", "configs/demo.py", "--workdir", folder / "run",
        f"--config.data.root={root}", f"--config.data.shards={folder / 'shards'}",
        "--config.features.face.backend=csv", f"--config.features.face.csv={folder / 'landmarks'}",
        "--config.train.epochs=1", "--config.train.updates=2", "--config.train.devices=1",
        "--config.data.jobs=1", "--config.evaluation.bootstrap=0",
        "--config.evaluation.chance_draws=2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "run"


def results(workdir: Path) -> dict:
    return json.loads((workdir / "metrics.json").read_text())


def test_they_are_extracted_once_and_printed_beside_the_system(trained: Path) -> None:
    before = results(trained)
    refused = run("spotjax.evaluate", "--workdir", trained, NAMES)
    assert refused.returncode == 2
    assert "the features of the baseline mdmd are not there" in refused.stderr
    made = run("data_prep", "--config", trained / "config.json", NAMES)
    assert made.returncode == 0, made.stderr
    assert "3 videos complete: nothing to do" in made.stdout  # SOFTNet's are there already
    again = run("data_prep", "--config", trained / "config.json", NAMES)
    assert again.stdout.count("3 videos complete: nothing to do") == 3
    done = run("spotjax.evaluate", "--workdir", trained, NAMES)
    assert done.returncode == 0, done.stderr
    after = results(trained)
    assert list(after["baselines"]) == ["strain_sum", "mdmd", "lbp_chi2"]
    assert after["results"] == before["results"]
    assert after["baselines"]["strain_sum"] == before["baselines"]["strain_sum"]
    for name in ("mdmd", "lbp_chi2"):
        row = after["baselines"][name]["overall"]
        assert row["tp"] + row["fn"] == sum(after["protocol"]["annotations"].values())
        assert row["tp"] + row["fp"] > 0
    assert "macro lbp_chi2" in done.stdout and "LBP-χ²" in (trained / "report.html").read_text()
