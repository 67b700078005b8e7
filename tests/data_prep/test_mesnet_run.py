"""MESNet from images to a scored run: both stages, kills, poisoned labels, thresholds, refusals."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import run
from tiny_sets import REPOSITORY, make_set

from spotjax import evaluate, train, vary
from spotjax.cli import load_config
from spotjax.data import schema, shards
from spotjax.decoding.clip_windows import starts
from spotjax.loso import checkpoints, runs
from spotjax.systems import build
from spotjax.types import Interval

SUBJECTS = {"s15": 150, "s16": 156, "s19": 162}
"""Frames of the videos of each."""
VIDEOS = tuple((s, code, frames) for s, frames in SUBJECTS.items() for code in ("0101", "0401"))


def rows() -> list[tuple[object, ...]]:
    """A micro-expression in every video, a macro-expression in each subject's first."""
    found: list[tuple[object, ...]] = []
    for number in (1, 2, 3):
        for name, a in (("disgust1_1", 20 + number), ("anger1_1", 26 + number)):
            found.append((number, name, a, a + 5, a + 11, 4, "others", "micro-expression", "x"))
        found.append((number, "disgust1_2", 135, 138, 146, 4, "others", "macro-expression", "x"))
    return found


def words(folder: Path, workdir: str, *more: str) -> list[str]:
    return [
        "--config", "configs/mesnet_demo.py", "--workdir", str(folder / workdir),
        f"--config.data.root={folder / 'set'}", f"--config.data.shards={folder / 'shards'}",
        "--config.features.face.backend=csv", f"--config.features.face.csv={folder / 'landmarks'}",
        "--config.data.jobs=1",
        "--config.features.size=32", "--config.features.flow_size=64", "--config.system.size=32",
        "--config.system.clips_micro=1", "--config.system.clips_macro=0",
        "--config.system.t_crn=0",
        "--config.pretrain.epochs=2", "--config.pretrain.batch=4",
        "--config.pretrain.validate_every=1", "--config.pretrain.patience=2",
        "--config.pretrain.patience_after=0", "--config.pretrain.checkpoint_every=1",
        "--config.train.epochs=2", "--config.train.batch=2", "--config.train.validation=1",
        "--config.train.devices=1", "--config.train.checkpoint_every=1",
        "--config.baselines.names=", "--config.evaluation.bootstrap=0",
        "--config.evaluation.chance_draws=2", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set of three subjects."""
    folder = tmp_path_factory.mktemp("mesnet")
    make_set(folder / "set", VIDEOS, rows())
    return folder


@pytest.fixture(scope="module")
def trained(made: Path) -> Path:
    """A whole run."""
    done = run("spotjax.train", *words(made, "whole"))
    assert done.returncode == 0, done.stderr
    assert "pretrain: 6 folds" in done.stderr and "both: 3 folds" in done.stderr
    return made / "whole"


def results(workdir: Path) -> dict:
    return json.loads((workdir / "metrics.json").read_text())


def log(workdir: Path) -> list[dict]:
    file = workdir / "log.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def same(found: object, expected: object) -> None:
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_both_stages_are_trained_and_the_run_is_scored(trained: Path) -> None:
    lines = log(trained)
    before = [line for line in lines if line["problem"] == "pretrain"]
    assert [line["epoch"] for line in before] == list(range(1, len(before) + 1))
    assert set(before[0]["loss"]) == {f"{s}{i}" for s in ("s15", "s16", "s19") for i in ("", "#1")}
    assert all(len(merits) == 2 for merits in before[0]["validation"].values())
    after = lines[len(before) :]
    assert [(line["problem"], line["epoch"]) for line in after] == [("both", n) for n in (1, 2)]
    assert "validation" not in after[0] and set(after[0]["loss"]) == {"s15", "s16", "s19"}

    metrics = results(trained)
    about = metrics["protocol"]
    assert (about["system"], about["paper_rule"], about["module"]) == ("mesnet", "mesnet", "crn")
    assert {row["rule"] for row in metrics["variants"]} >= {"mesnet", "one_to_one"}
    decodings = {row["decoding"] for row in metrics["variants"]}
    assert decodings == {"module crn", "module cpn"}
    curves = np.load(trained / "curves.npz")
    assert set(curves.files) == {f"both/{subject}/{code}" for subject, code, _ in VIDEOS}
    for subject, code, frames in VIDEOS:
        scores = curves[f"both/{subject}/{code}"]
        assert scores.shape == (len(starts(frames)), 470, 4) and np.isfinite(scores).all()
        assert ((scores[..., :2] >= 0) & (scores[..., :2] <= 1)).all()
    page = (trained / "report.html").read_text()
    assert "proposed</span>" in page and "mesnet" in page  # CPN's windows are drawn
    with open(trained / "intervals.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert found and {row["type"] for row in found} == {"micro"}
    for row in found:
        assert 1 <= int(row["onset"]) < int(row["offset"]) <= SUBJECTS[row["subject"]]


def test_each_fold_begins_with_the_best_of_its_initialisations(trained: Path) -> None:
    with checkpoints.Checkpoints(trained, "pretrain", read_only=True) as store:
        last = store.restore()
    assert last.meta["subjects"] == ["s15", "s15", "s16", "s16", "s19", "s19"]
    merits = np.asarray(last.best["merits"])
    finished = checkpoints.read_finished(trained, "pretrain")
    assert finished.subjects == ["s15", "s16", "s19"]
    for number, subject in enumerate(finished.subjects):
        pair = [tuple(row) for row in merits[2 * number : 2 * number + 2].tolist()]
        assert tuple(finished.merits[subject]) == max(pair)
        judged = [
            tuple(line["validation"][name])
            for line in log(trained)
            if line["problem"] == "pretrain"
            for name in (subject, f"{subject}#1")
        ]
        np.testing.assert_allclose(finished.merits[subject], max(judged), atol=1e-5)


def test_killed_in_either_stage_it_ends_with_the_same_parameters(made: Path, trained: Path) -> None:
    workdir = made / "killed"
    more = ("--config.evaluate=false",)
    line = [sys.executable, "-m", "spotjax.train", *words(made, "killed", *more)]
    for problem, epoch in (("pretrain", 1), ("both", 1)):
        process = subprocess.Popen(
            line, cwd=REPOSITORY, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline:
            if any((x["problem"], x["epoch"]) == (problem, epoch) for x in log(workdir)):
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    done = run("spotjax.train", *words(made, "killed", *more))
    assert done.returncode == 0, done.stderr
    for problem in ("pretrain", "both"):
        found, expected = (checkpoints.read_finished(w, problem) for w in (workdir, trained))
        same(found.variables, expected.variables)
        assert found[1:] == expected[1:]
    assert [(x["problem"], x["epoch"]) for x in log(workdir)] == [
        (x["problem"], x["epoch"]) for x in log(trained)
    ]


def test_labels_of_the_held_out_subject_change_nothing(trained: Path, tmp_path: Path) -> None:
    config = load_config(str(trained / "config.json"), ["train.folds=s16,s19"])
    dataset = shards.load(schema.shards_folder(config), config)
    poisoned = dataset._replace(
        videos=tuple(
            video._replace(intervals=(Interval(60, 65, 89, "micro"), Interval(5, 9, 14, "micro")))
            if video.subject == "s19"
            else video
            for video in dataset.videos
        )
    )
    system = build(config.system, dict(dataset.k))
    workdir = tmp_path / "poisoned"
    workdir.mkdir()
    folds = train.folds_of(config, poisoned, system)
    train.train_runs([runs.Run(workdir, config, folds)], poisoned, system)
    for problem in ("pretrain", "both"):
        found, expected = (checkpoints.read_finished(w, problem) for w in (workdir, trained))
        assert found.subjects == ["s16", "s19"] and expected.subjects[2] == "s19"
        mine, clean = (jax.tree.map(lambda leaf: leaf[-1], w.variables) for w in (found, expected))
        same(mine, clean)
        a, b = (jax.tree.leaves(w.variables) for w in (found, expected))
        assert any(np.any(x[0] != y[1]) for x, y in zip(a, b, strict=True))  # s16's fold has


def test_other_thresholds_from_the_same_scores(trained: Path) -> None:
    assert vary.main(["--workdir", str(trained)]) == 0
    with open(trained / "vary.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert {row["key"] for row in table} >= {"system.t_cpn", "system.t_crn", "system.t_nms"}
    own = [row for row in table if (row["key"], row["value"]) == ("system.t_cpn", "0.5")]
    assert len(own) == 2 * 2  # modules, rules
    for row in own:
        [known] = [
            variant["results"]["micro"]
            for variant in results(trained)["variants"]
            if (variant["decoding"], variant["rule"]) == (row["decoding"], row["rule"])
        ]
        assert known["tp"] + known["fp"] > 0
        assert all(int(row[f"micro_{name}"]) == known[name] for name in ("tp", "fp", "fn"))


@pytest.mark.parametrize("choice", ["validation", "oracle"])
def test_thresholds_that_are_chosen_are_named_as_what_they_are(
    trained: Path, tmp_path: Path, choice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(trained, workdir)
    more = f"--config.evaluation.threshold_choice={choice}"
    assert evaluate.main(["--workdir", str(workdir), more]) == 0
    about = results(workdir)["protocol"]
    assert about["threshold_choice"] == choice
    chosen = about["chosen_thresholds"]
    assert set(chosen) == set(SUBJECTS)
    assert all(set(of) == {"t_cpn", "t_crn"} for of in chosen.values())
    warned = "chosen on the test subjects: not a result" in capsys.readouterr().out
    page = (workdir / "report.html").read_text()
    if choice == "oracle":
        assert warned and "no result" in page
        assert len({tuple(of.values()) for of in chosen.values()}) == 1  # by all of them at once
    else:
        assert not warned and "no result" not in page


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pretrain.seed=1", "pretrain.seed: unknown key"),  # both stages have the same folds
        ("pretrain.validate_every=0", "pretrain.patience=2 needs pretrain.validate_every=N"),
        ("train.validate_every=1", "train.validate_every=1: mesnet cannot be judged"),
        ("train.validation=0", "pretrain.validate_every=1: mesnet needs train.validation"),
        ("system.size=64", "size"),
        ("system.least_train=5", "fold s15: none of 1000 splits of its 4 other videos"),
    ],
)
def test_a_config_that_cannot_be_ends_in_one_line(
    made: Path, trained: Path, override: str, message: str
) -> None:
    done = run("spotjax.train", *words(made, "refused", f"--config.{override}"))
    assert done.returncode == 2
    error = done.stderr
    assert error.count("error: ") == error.count("\n") == 1 and message in error
    assert not (made / "refused" / "checkpoints").exists()
