"""The README's commands on a small rendered set: outputs, resuming, refusals, honest controls."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import commands
import jax
import numpy as np
import pytest
from compiling import optimised

from spotjax.cli import load_config
from spotjax.config import Evaluate, Train
from spotjax.counting import evaluation
from spotjax.counting.matching import RULES
from spotjax.data import plans, schema, shards
from spotjax.evaluate import spot_baseline
from spotjax.loso import checkpoints, training
from spotjax.loso import folds as folds_lib
from spotjax.loso.curves import decode_video
from spotjax.loso.scoring import held_out_videos, score_problem
from spotjax.systems import build

ROOT = Path(__file__).parents[1]
TYPES = ("macro", "micro", "overall")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """Overrides of configs/demo.py for a small set, which the first training renders."""
    if not _has_dlib():
        pytest.skip("the extra [landmarks] is not installed")
    folder = tmp_path_factory.mktemp("rendered")
    return [
        f"data.synthetic.root={folder / 'videos'}",
        f"data.shards={folder / 'shards'}",
        "data.synthetic.subjects=6",
        "data.synthetic.videos=1",
        "data.synthetic.seconds=20",
        "train.epochs=3",
        "evaluation.chance_draws=20",
        "evaluation.bootstrap=200",
    ]


def _has_dlib():
    from importlib.util import find_spec

    return find_spec("dlib") is not None and find_spec("face_recognition_models") is not None


def flags(overrides):
    return [f"--config.{override}" for override in overrides]


def environment():
    """Of a user who has set nothing, but for the cache."""
    return {**os.environ, "XLA_FLAGS": "", "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}


def run(module, *words):
    """The command as a user runs it; `commands.run` is quicker."""
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, words)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
    )


def train_words(overrides, workdir):
    return ["--config", "configs/demo.py", *flags(overrides), "--workdir", str(workdir)]


@pytest.fixture(scope="module")
def finished(rendered, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "whole"
    done = run("spotjax.train", *train_words(rendered, workdir))
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_a_run_writes_everything_it_promises(finished, rendered):
    workdir, done = finished
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert list(metrics["baselines"]) == ["strain_sum"]
    for table in (metrics["results"], metrics["baselines"]["strain_sum"], metrics["chance"]):
        for type in TYPES:
            row = table[type]
            assert set(row) == {"tp", "fp", "fn", "precision", "recall", "f1", "ap"}
    for type in TYPES:
        row = metrics["results"][type]
        subjects = metrics["subjects"].values()
        for name in ("tp", "fp", "fn"):
            assert row[name] == sum(subject[type][name] for subject in subjects)
        low, high = metrics["bootstrap"][type]
        assert 0 <= low <= high <= 1
    headline = [v for v in metrics["variants"] if v["headline"]]
    assert len(metrics["variants"]) == 2 * len(RULES)
    for type, row in headline[0]["results"].items():
        assert row == {name: metrics["results"][type][name] for name in row}
    assert metrics["protocol"]["epoch_choice"] == "last"
    assert metrics["protocol"]["num_videos"] == 6 and metrics["protocol"]["command"] in (
        " ".join(["python -m spotjax.train", *train_words(rendered, workdir)])
    )
    text = (workdir / "report.html").read_text()
    assert "s15" in text and "http" not in text
    assert "macro softnet" in done.stdout and "epoch" in done.stderr

    assert metrics["protocol"]["data_set"] == "synthetic_casme2"
    with open(workdir / "intervals.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["subject", "video", "type", "onset", "apex", "offset", "score"]
    counted = metrics["results"]["macro"]["tp"] + metrics["results"]["macro"]["fp"]
    assert sum(row["type"] == "macro" for row in rows) == counted
    for row in rows:
        assert 1 <= int(row["onset"]) <= int(row["apex"]) <= int(row["offset"]) <= 600
    files = [f"--{flag}={workdir / name}.csv" for flag, name in (
        ("pred", "intervals"), ("gt", "truths"), ("videos", "videos"))]  # fmt: skip
    scores = workdir / "scores.json"
    again = commands.run("spotjax.score", *files, "--rule", "all", f"--json={scores}")
    assert again.returncode == 0, again.stderr
    placed = f"interval {metrics['protocol']['interval']}"
    here = {v["rule"]: v["results"] for v in metrics["variants"] if v["decoding"] == placed}
    assert json.loads(scores.read_text()) == here  # the command counts as the evaluation does
    curves = np.load(workdir / "curves.npz")
    assert len(curves.files) == 12
    assert all(curves[name].shape == (600,) for name in curves.files)


def test_the_same_command_again_changes_nothing(finished, rendered):
    workdir, _ = finished
    before = (workdir / "intervals.csv").read_text(), (workdir / "log.jsonl").read_text()
    done = commands.run("spotjax.train", *train_words(rendered, workdir))
    assert done.returncode == 0, done.stderr
    assert before == ((workdir / "intervals.csv").read_text(), (workdir / "log.jsonl").read_text())
    lines = [json.loads(line) for line in before[1].splitlines()]
    assert [(line["problem"], line["epoch"]) for line in lines] == [
        (problem, epoch) for problem in ("macro", "micro") for epoch in (1, 2, 3)
    ]


def test_evaluate_takes_other_decoding_but_not_other_training(finished):
    workdir, _ = finished
    before = json.loads((workdir / "metrics.json").read_text())
    done = commands.run("spotjax.evaluate", "--workdir", workdir, "--config.system.p=0.9")
    assert done.returncode == 0, done.stderr
    after = json.loads((workdir / "metrics.json").read_text())
    assert after["protocol"]["p"] == 0.9
    assert after["results"]["overall"]["fp"] < before["results"]["overall"]["fp"]
    refused = commands.run("spotjax.evaluate", "--workdir", workdir, "--config.train.epochs=4")
    assert refused.returncode == 2
    assert "error: train.epochs=4 would need training again (the run has 3)" in refused.stderr
    nowhere = commands.run("spotjax.evaluate", "--workdir", workdir / "nowhere")
    assert nowhere.returncode == 2 and nowhere.stderr.count("\n") == 1


def test_a_run_without_checkpoints_is_refused_in_one_line(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run", ignore=shutil.ignore_patterns("macro"))
    refused = commands.run("spotjax.evaluate", "--workdir", tmp_path / "run")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert "checkpoints/macro: there is no checkpoint" in refused.stderr


def test_a_wrong_root_is_not_rendered_into(tmp_path):
    words = ["--config", "configs/demo.py", f"--config.data.root={tmp_path / 'typo'}"]
    refused = commands.run("spotjax.train", *words, "--workdir", tmp_path / "run")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert "typo: no such folder" in refused.stderr and not (tmp_path / "typo").exists()


def test_a_killed_run_ends_with_the_same_parameters(finished, rendered, tmp_path):
    """Two of the folds: each is what it is beside the others."""
    workdir = tmp_path / "killed"
    words = train_words([*rendered, "train.folds=s15,s19"], workdir)
    process = subprocess.Popen(
        [sys.executable, "-m", "spotjax.train", *words], cwd=ROOT, env=environment(),
        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    log = workdir / "log.jsonl"
    while process.poll() is None and time.monotonic() < deadline:
        if log.exists() and '"micro", "epoch": 1' in log.read_text():
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = run("spotjax.train", *words)
    assert done.returncode == 0, done.stderr
    for problem in ("macro", "micro"):
        found, expected = (checkpoints.read_finished(w, problem) for w in (workdir, finished[0]))
        assert found.subjects == ["s15", "s19"]
        rows = [expected.subjects.index(subject) for subject in found.subjects]
        mine = jax.tree.map(lambda leaf, rows=rows: leaf[rows], expected.variables)
        jax.tree.map(np.testing.assert_array_equal, found.variables, mine)
    assert (workdir / "intervals.csv").exists()
    lines = (workdir / "log.jsonl").read_text().splitlines()
    epochs = [json.loads(line)["epoch"] for line in lines]
    assert epochs == [1, 2, 3, 1, 2, 3]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs=7", "this run has train.epochs=3, the config wants 7: choose another"),
        (
            "features.k_macro=5",
            "has k_macro=.*, config wants 5: choose another --config.data.shards",
        ),
        (
            "features.flow.method=farneback",
            "has features.flow.method=dis, config wants farneback: choose",
        ),
        ("train.folds=s99", "no subject 's99'"),
    ],
)
def test_other_configs_are_refused_in_one_line(finished, rendered, override, message):
    words = [*train_words([*rendered, override], finished[0])]
    refused = commands.run("spotjax.train", *words)
    assert refused.returncode == 2
    assert re.search(message, refused.stderr) and "Traceback" not in refused.stderr


def damaged(finished, rendered, change):
    """stderr of an evaluation while one shard is changed; the shard is put back."""
    folder = Path(next(o for o in rendered if o.startswith("data.shards")).split("=")[1])
    shard = sorted(folder.glob("*.tfrecord-*"))[2]
    original = shard.read_bytes()
    try:
        change(shard, original)
        refused = commands.run("spotjax.evaluate", "--workdir", finished[0])
        assert refused.returncode == 2 and refused.stderr.count("\n") == 1
        assert shard.name in refused.stderr
        return refused.stderr
    finally:
        shard.write_bytes(original)


def test_damaged_shards_are_refused_by_name(finished, rendered):
    flipped = lambda p, data: p.write_bytes(data[:5000] + bytes([data[5000] ^ 1]) + data[5001:])  # noqa: E731
    assert "checksum" in damaged(finished, rendered, flipped)
    assert "cut short" in damaged(finished, rendered, lambda p, d: p.write_bytes(d[: len(d) // 2]))
    assert "missing" in damaged(finished, rendered, lambda p, d: p.unlink())


# --- does it learn, and does it learn for the right reason? --------------------------------------


def spotting(config, dataset, variables, system):
    """Macro F1 and AP of these parameters on the subjects that each fold held out."""
    videos_of = held_out_videos(dataset, dataset.subjects)
    found = score_problem(system, "macro", dataset, videos_of, variables)
    curves = {"macro": {name: curve for group in found for name, curve in group.items()}}
    curves["micro"] = {v.id: np.full(v.num_frames, np.nan, np.float32) for v in dataset.videos}
    found = {v.id: decode_video(system, dataset, v, curves)[0] for v in dataset.videos}
    return evaluation.table(dataset.videos, found, Evaluate())["macro"]


def trained_on(config, datasets, system):
    """Variables of the folds of each data set; other labels of the same videos: one program."""
    mesh = folds_lib.make_mesh()
    members = [fold for data in datasets for fold in plans.loso(system, data, "macro", Train())]
    members, arrays = training.place(system, "macro", datasets[0].streams, members, mesh)
    epochs = training.train_folds(system, "macro", members, arrays, config.train, mesh)
    variables, count = list(epochs)[-1].states.variables, len(datasets[0].subjects)
    return [
        jax.tree.map(lambda leaf, n=n: leaf[n * count : (n + 1) * count], variables)
        for n in range(len(datasets))
    ]


def moved(video, shift):
    """The video with its intervals moved along, around the end."""
    room = video.num_frames
    spans = []
    for i in video.intervals:
        onset = (i.onset + shift) % (room - (i.offset - i.onset))
        spans.append(i._replace(onset=onset, offset=onset + i.offset - i.onset))
    return video._replace(intervals=tuple(spans))


def test_trained_beats_the_control_and_broken_training_does_not(finished, rendered):
    config = load_config(str(ROOT / "configs/demo.py"), rendered)
    dataset = shards.load(schema.shards_folder(config), config)
    system = build(config.system, dict(dataset.k))
    rng = np.random.default_rng(1)
    labels = {
        "shuffled": dataset._replace(
            videos=tuple(moved(v, int(rng.integers(100, 500))) for v in dataset.videos)
        ),
        "a second late": dataset._replace(videos=tuple(moved(v, 30) for v in dataset.videos)),
    }
    trained = checkpoints.read_finished(finished[0], "macro")
    assert trained.subjects == list(dataset.subjects)
    untrained = folds_lib.init_state(
        system, folds_lib.make_optimizer(config.train), 0, [0] * len(dataset.subjects)
    )
    with optimised():
        learnt = trained_on(config, list(labels.values()), system)
        variables = dict(zip(labels, learnt, strict=True))
        variables |= {"true": trained.variables, "untrained": untrained.variables}
        results = {
            name: spotting(config, dataset, mine, system) for name, mine in variables.items()
        }
    strain = spot_baseline("strain_sum", dataset, config, dataset.videos, system.types)
    free = evaluation.table(dataset.videos, strain, Evaluate())
    chance = evaluation.chance(dataset.videos, strain, Evaluate(chance_draws=20), 0)
    text = {name: (row["f1"], row["ap"]) for name, row in results.items()} | {
        "control": (free["macro"]["f1"], free["macro"]["ap"])
    }
    assert results["true"]["f1"] > 1.1 * free["macro"]["f1"], text
    assert results["true"]["ap"] > 1.5 * free["macro"]["ap"], text
    assert free["macro"]["f1"] > 2 * chance["macro"]["f1"], text
    # a random network answers to any motion, about as the control does; 13 expressions: one more
    # or less moves F1 by 0.07
    for name in ("shuffled", "a second late", "untrained"):
        assert results[name]["f1"] < 0.8 * results["true"]["f1"], text
        share = 1.0 if name == "untrained" else 0.85  # 0.86 on one processor
        assert results[name]["ap"] < share * results["true"]["ap"], text
        assert results[name]["f1"] <= free["macro"]["f1"] + 0.15, text
