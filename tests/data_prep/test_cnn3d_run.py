"""The 3D-CNN from images to a scored run, a kill, and the run on another data set."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import run
from tiny_sets import REPOSITORY, frame, make_set, manifest, write_landmarks

from spotjax.loso import checkpoints

SUBJECTS = {"s15": 44, "s16": 47, "s19": 50}
"""Frames of the video of each."""
OTHERS = {"anna": 60, "ben": 70}
EPOCHS = 6
RESULTS = {
    "metrics.json", "intervals.csv", "truths.csv", "videos.csv", "curves.npz", "report.html",
}  # fmt: skip


def rows() -> list[tuple[object, ...]]:
    """A macro- and a micro-expression in every video."""
    found: list[tuple[object, ...]] = []
    for number in (1, 2, 3):
        macro, micro = ("disgust1_1", 8, 14, 22), ("disgust1_2", 31, 33, 36)
        found.append((number, *macro, 4, "others", "macro-expression", "x"))
        found.append((number, *micro, 4, "others", "micro-expression", "x"))
    return found


def shared_words(folder: Path) -> list[str]:
    """What both commands need: landmarks from files, quick tables."""
    return [
        "--config.features.face.backend=csv", f"--config.features.face.csv={folder / 'landmarks'}",
        "--config.evaluation.bootstrap=0", "--config.evaluation.chance_draws=2",
        "--config.data.jobs=1",
    ]  # fmt: skip


def words(folder: Path, workdir: str, *more: str) -> list[str]:
    return [
        "--config", "configs/cnn3d_demo.py", "--workdir", str(folder / workdir),
        f"--config.data.root={folder / 'set'}", f"--config.data.shards={folder / 'shards'}",
        "--config.features.size=32", "--config.system.size=32", "--config.system.channels=4,6,8",
        "--config.system.stride=1",
        f"--config.train.epochs={EPOCHS}", "--config.train.batch=8",
        "--config.train.validation=1", "--config.train.devices=1",
        "--config.baselines.names=", *shared_words(folder), *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set in CAS(ME)^2's layout, and one of two people in one's own layout."""
    folder = tmp_path_factory.mktemp("cnn3d")
    videos = tuple((subject, "0101", frames) for subject, frames in SUBJECTS.items())
    make_set(folder / "set", videos, rows())
    lines = ["video,onset,apex,offset,type"]
    for subject, frames in OTHERS.items():
        images = folder / "other" / subject / "talk"
        images.mkdir(parents=True)
        for number in range(1, frames + 1):
            (images / f"{number:04d}.jpg").write_bytes(frame(number // 2 % 20))
        write_landmarks(folder / "landmarks" / subject / "talk.csv", range(1, frames + 1))
        lines += [f"{subject}/talk,20,28,44,macro", f"{subject}/talk,50,53,58,micro"]
    (folder / "other/annotations.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def trained(made: Path) -> Path:
    """A whole run."""
    done = run("spotjax.train", *words(made, "whole"))
    assert done.returncode == 0, done.stderr
    assert "both: 3 folds" in done.stderr
    return made / "whole"


def results(workdir: Path) -> dict:
    return json.loads((workdir / "metrics.json").read_text())


def log(workdir: Path) -> list[dict]:
    file = workdir / "log.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def same(found: object, expected: object) -> None:
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_run_is_trained_judged_and_scored(made: Path, trained: Path) -> None:
    streams = manifest(made / "shards")["streams"]
    assert streams["crops"] == {"shape": [32, 32], "dtype": "uint8"}
    lines = log(trained)
    assert [(line["problem"], line["epoch"]) for line in lines] == [
        ("both", 1 + number) for number in range(EPOCHS)
    ]
    for line in lines:
        assert set(line["loss"]) == set(line["validation"]) == set(SUBJECTS)
        assert all(
            np.isfinite(merits[0]) and merits[0] < 0 for merits in line["validation"].values()
        )
    finished = checkpoints.read_finished(trained, "both")
    for subject in SUBJECTS:
        judged = [line["validation"][subject][0] for line in lines]
        np.testing.assert_allclose(finished.merits[subject], max(judged), atol=1e-6)
        assert finished.epochs[subject] == 1 + int(np.argmax(judged))

    assert {item.name for item in trained.iterdir()} >= RESULTS
    about = results(trained)["protocol"]
    assert (about["system"], about["epoch_choice"]) == ("cnn3d", "validation")
    assert (about["k_micro"], about["k_macro"]) == (6, 19)
    assert about["threshold_choice"] == "validation"
    chosen = about["chosen_thresholds"]
    assert set(chosen) == set(SUBJECTS)
    for of in chosen.values():
        assert set(of) == {"threshold_micro", "threshold_macro"}
        assert all(0 <= value <= 1 for value in of.values())
    assert len({tuple(of.values()) for of in chosen.values()}) > 1  # each fold's own
    curves = np.load(trained / "curves.npz")
    assert set(curves.files) == {f"both/{subject}/0101" for subject in SUBJECTS}
    for subject, frames in SUBJECTS.items():
        scores = curves[f"both/{subject}/0101"]
        assert scores.shape == (frames, 2) and ((scores > 0) & (scores < 1)).all()
    with open(trained / "intervals.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert found and {row["type"] for row in found} <= {"micro", "macro"}
    for row in found:
        assert 1 <= int(row["onset"]) <= int(row["offset"]) <= SUBJECTS[row["subject"]]
    page = (trained / "report.html").read_text()
    assert "3D-CNN" in page and "no result" not in page


def test_killed_it_ends_with_the_same_parameters(made: Path, trained: Path) -> None:
    workdir = made / "killed"
    more = words(made, "killed", "--config.evaluate=false")
    process = subprocess.Popen(
        [sys.executable, "-m", "spotjax.train", *more],
        cwd=REPOSITORY, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if (workdir / "checkpoints/both/1").exists():
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    with checkpoints.Checkpoints(workdir, "both", read_only=True) as store:
        assert 1 <= store.latest < EPOCHS
    done = run("spotjax.train", *more)
    assert done.returncode == 0, done.stderr
    found, expected = (checkpoints.read_finished(w, "both") for w in (workdir, trained))
    same(found.variables, expected.variables)
    assert found[1:] == expected[1:]
    for line, other in zip(log(workdir), log(trained), strict=True):
        assert all(line[key] == other[key] for key in ("epoch", "loss", "validation"))


def test_a_data_set_of_another_layout_and_rate_in_one_command(made: Path, trained: Path) -> None:
    done = run(
        "spotjax.unseen", "--workdir", trained, "--config", "configs/cnn3d_casme2.py",
        "--config.data.layout=folder", f"--config.data.root={made / 'other'}",
        f"--config.data.shards={made / 'other_shards'}", "--config.data.fps=60",
        *shared_words(made),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    out = trained / "on_cnn3d_casme2"
    assert f"report: {out / 'report.html'}" in done.stdout
    assert {item.name for item in out.iterdir()} >= RESULTS
    assert manifest(made / "other_shards")["streams"]["crops"]["shape"] == [32, 32]
    about = results(out)["protocol"]
    assert about["data_set"] == "folder" and about["trained_on"] == str(trained)
    assert (about["k_micro"], about["k_macro"]) == (12, 38)  # 60 fps, trained at 30
    assert "mean of 3 folds trained on casme2" in about["held_out"]
    own = results(trained)["protocol"]["chosen_thresholds"]
    expected = {
        name: np.mean([of[name] for of in own.values()])
        for name in ("threshold_micro", "threshold_macro")
    }
    assert set(about["chosen_thresholds"]) == set(OTHERS)
    for of in about["chosen_thresholds"].values():
        assert of == pytest.approx(expected)
    curves = np.load(out / "curves.npz")
    for subject, frames in OTHERS.items():
        scores = curves[f"both/{subject}/talk"]
        assert scores.shape == (frames, 2) and np.isfinite(scores).all()
    counted = results(out)["results"]
    assert all(counted[type]["tp"] + counted[type]["fn"] == 2 for type in ("micro", "macro"))


def test_crops_of_another_size_end_in_one_line(made: Path) -> None:
    done = run("spotjax.train", *words(made, "refused", "--config.system.size=40"))
    assert done.returncode == 2
    error = done.stderr
    assert error.count("error: ") == error.count("\n") == 1 and "features.size is 32" in error
    assert not (made / "refused" / "checkpoints").exists()
