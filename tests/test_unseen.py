"""A trained run on a data set that it has never seen; both are made up, the networks are real."""

import csv
import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from toy import toy_crops

from spotjax import train, unseen
from spotjax.config import Cnn3d, Cnn3dFeatures, Config, Data, Evaluate, Softnet, Train
from spotjax.counting import evaluation
from spotjax.errors import UserError
from spotjax.loso import curves, rundir, runs, scoring
from spotjax.loso.curves import decode_video
from spotjax.systems import build

SYSTEM = Cnn3d(
    size=32,
    channels=(4, 4, 8),
    skips_micro=(1, 2),
    skips_macro=(3, 5),
    k_micro=3,
    k_macro=7,
    stride=4,
    augment=False,
)
CONFIG = Config(
    name="home",
    data=Data(root="home", shards="home_shards"),
    features=Cnn3dFeatures(size=32),
    system=SYSTEM,
    train=Train(
        epochs=1,
        batch=8,
        optimizer="adam",
        learning_rate=3e-3,
        validation=1,
        validate_every=1,
        folds=("s0", "s2"),
        devices=1,
    ),
    evaluation=Evaluate(threshold_choice="validation", bootstrap=0, chance_draws=2),
)
HOME = toy_crops()
AWAY = toy_crops(subjects=2, videos=2, fps=60.0, seed=7)._replace(name="folder")
AWAY = AWAY._replace(videos=tuple(v._replace(subject=f"t{v.subject}") for v in AWAY.videos))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The run directory of two trained folds."""
    workdir = tmp_path_factory.mktemp("unseen") / "run"
    workdir.mkdir()
    rundir.open_run(workdir, CONFIG, "toy", workdir.parent / "home_shards")
    system = build(SYSTEM, {})
    members = train.folds_of(CONFIG, HOME, system)
    train.train_runs([runs.Run(workdir, CONFIG, members)], HOME, system)
    return workdir


@pytest.fixture
def sets(monkeypatch):
    """Data sets by the last part of their shards' folder; what is to be prepared is kept."""
    known = {"home_shards": HOME, "away_shards": AWAY}
    prepared = []

    def load(folder, config):
        return known[folder.name]

    def make_shards(config_file, overrides):
        prepared.append((json.loads(Path(config_file).read_text())["config"], overrides))
        return 0

    monkeypatch.setattr(unseen.shards, "load", load)
    monkeypatch.setattr(unseen.train, "make_shards", make_shards)
    monkeypatch.setattr(unseen.train, "set_up_jax", lambda devices: None)
    known["prepared"] = prepared
    return known


def config_file(folder, **changes):
    """A config of the other data set, as a file."""
    text = {
        "evaluation": "Evaluate(threshold_choice='validation', bootstrap=0, chance_draws=2)",
        "features": "Cnn3dFeatures()",
        "system": "Cnn3d()",
    } | changes
    fields = ", ".join(f"{name}={value}" for name, value in text.items())
    path = folder / "away.py"
    path.write_text(
        "from spotjax.config import *\n"
        "def get_config():\n"
        "    data = Data(layout='folder', root='away', shards='away_shards', fps=60.0)\n"
        f"    return Config(name='away', data=data, {fields})\n"
    )
    return path


def run(workdir, out, *words, **changes):
    out.mkdir(exist_ok=True)
    path = config_file(out, **changes)
    found = out / "results"
    words = ["--workdir", str(workdir), "--config", str(path), "--out", str(found), *words]
    assert unseen.main(words) == 0
    return json.loads((found / "metrics.json").read_text()), np.load(found / "curves.npz")


def refused(capsys, workdir, path, *words):
    assert unseen.main(["--workdir", str(workdir), "--config", str(path), *words]) == 2
    error = capsys.readouterr().err
    assert error.count("error: ") == error.count("\n") == 1
    return error


def doubled():
    """The system at twice the rate."""
    return build(dataclasses.replace(SYSTEM, k_micro=6, k_macro=14), {})


def test_scores_are_the_mean_of_the_folds_at_the_rate_of_the_data_set(trained, sets, tmp_path):
    metrics, found = run(trained, tmp_path / "a")
    finished = unseen.checkpoints.read_finished(trained, "both")
    assert finished.subjects == ["s0", "s2"]
    folds = [[], []]
    for position, each in enumerate(folds):
        variables = jax.tree.map(lambda leaf, n=position: leaf[[n]], finished.variables)
        each += scoring.score_problem(doubled(), "both", AWAY, [AWAY.videos], variables)
    assert set(found.files) == {f"both/{video.id}" for video in AWAY.videos}
    for video in AWAY.videos:
        first, second = (each[0][video.id] for each in folds)
        assert first.shape == (video.num_frames, 2) and np.abs(first - second).max() > 1e-3
        np.testing.assert_allclose(found[f"both/{video.id}"], (first + second) / 2, rtol=1e-6)
    about = metrics["protocol"]
    assert (about["k_micro"], about["k_macro"]) == (6, 14)
    assert about["config"]["system"]["k_micro"] == 6
    assert about["data_set"] == "folder" and about["name"] == "home_on_away"
    assert about["subjects"] == 2 and about["num_videos"] == 4
    assert about["trained_on"] == str(trained)
    assert "mean of 2 folds trained on toy" in about["held_out"]


def test_thresholds_come_from_the_runs_own_validation_videos(trained, sets, tmp_path):
    metrics, found = run(trained, tmp_path / "a")
    each = curves.chosen_options(trained, CONFIG, HOME, build(SYSTEM, {}), {})
    assert set(each) == {"s0", "s2"}
    expected = {
        name: (each["s0"][name] + each["s2"][name]) / 2
        for name in ("threshold_micro", "threshold_macro")
    }
    about = metrics["protocol"]
    assert about["threshold_choice"] == "validation"
    assert set(about["chosen_thresholds"]) == {"ts0", "ts1"}
    for chosen in about["chosen_thresholds"].values():
        assert chosen == pytest.approx(expected)
    scores = {"both": {v.id: found[f"both/{v.id}"] for v in AWAY.videos}}
    spotted = {v.id: decode_video(doubled(), AWAY, v, scores, **expected)[0] for v in AWAY.videos}
    table = evaluation.table(AWAY.videos, spotted, CONFIG.evaluation)
    assert metrics["results"] == json.loads(json.dumps(table))
    with open(tmp_path / "a/results/intervals.csv", newline="") as file:
        listed = list(csv.DictReader(file))
    assert len(listed) == sum(map(len, spotted.values())) > 0
    labels = AWAY._replace(videos=tuple(v._replace(intervals=()) for v in AWAY.videos))
    sets["away_shards"] = labels
    blind, _ = run(trained, tmp_path / "b")
    assert blind["protocol"]["chosen_thresholds"] == about["chosen_thresholds"]


def test_an_oracle_is_named_one(trained, sets, tmp_path, capsys):
    more = "--config.evaluation.threshold_choice=oracle"
    metrics, found = run(trained, tmp_path / "a", more)
    scores = {"both": {v.id: found[f"both/{v.id}"] for v in AWAY.videos}}
    expected = curves.tuned(AWAY, doubled(), AWAY.videos, scores)
    about = metrics["protocol"]
    assert about["threshold_choice"] == "oracle"
    assert about["chosen_thresholds"] == dict.fromkeys(("ts0", "ts1"), expected)
    assert "chosen on the test subjects: not a result" in capsys.readouterr().out
    assert "no result" in (tmp_path / "a/results/report.html").read_text()


def test_configured_thresholds_stay(trained, sets, tmp_path):
    metrics, _ = run(trained, tmp_path / "a", "--config.evaluation.threshold_choice=fixed")
    about = metrics["protocol"]
    assert "chosen_thresholds" not in about
    assert (about["threshold_micro"], about["threshold_macro"]) == (0.5, 0.5)


def test_results_lie_in_the_run_and_data_prep_gets_its_config(trained, sets, tmp_path, capsys):
    path = config_file(tmp_path, evaluation="Evaluate(bootstrap=0, chance_draws=2, iou=0.3)")
    before = {item.name for item in trained.iterdir()}
    assert unseen.main(["--workdir", str(trained), "--config", str(path)]) == 0
    out = trained / "on_away"
    assert {item.name for item in trained.iterdir()} == before | {"on_away"}
    written = {item.name for item in out.iterdir()}
    assert written >= {
        "metrics.json", "intervals.csv", "truths.csv", "videos.csv", "curves.npz", "report.html",
        "config.json",
    }  # fmt: skip
    [(config, overrides)] = sets["prepared"]
    assert overrides == [] and config["data"]["root"] == "away"
    assert config["data"]["layout"] == "folder"
    assert config["features"]["size"] == 32  # the run's, not those of the other config
    assert config["system"]["channels"] == [4, 4, 8] and config["train"]["folds"] == []
    assert config["evaluation"]["iou"] == 0.3
    printed = capsys.readouterr().out
    assert f"report: {out / 'report.html'}" in printed


def test_numbers_of_rows_follow_the_rate():
    for ratio, micro, macro in ((1.0, 3, 7), (2.0, 6, 14), (200 / 30, 20, 47), (0.1, 1, 1)):
        system = unseen.at_rate(CONFIG, ratio).system
        assert (system.k_micro, system.k_macro) == (micro, macro)
        assert dataclasses.replace(system, k_micro=3, k_macro=7) == SYSTEM
    other = Config(name="other", system=Softnet())
    assert unseen.at_rate(other, 2.0) == other  # whose k belongs to its features


def test_a_data_set_with_the_same_subjects_is_refused(trained, sets, tmp_path, capsys):
    sets["away_shards"] = HOME._replace(videos=HOME.videos[2:])
    error = refused(capsys, trained, config_file(tmp_path), "--out", str(tmp_path / "out"))
    assert "was trained on the video s2/v0 of toy: use spotjax.evaluate" in error
    assert not (tmp_path / "out/metrics.json").exists()
    # of another data set they are other people
    sets["away_shards"] = AWAY._replace(videos=HOME.videos[2:], streams=HOME.streams)
    run(trained, tmp_path / "b")


def test_a_config_of_another_system_is_refused(trained, sets, tmp_path, capsys):
    path = config_file(tmp_path, features="SoftnetFeatures()", system="Softnet()")
    error = refused(capsys, trained, path, "--out", str(tmp_path / "out"))
    assert "--config: its features are softnet's, the run is of cnn3d" in error
    assert not sets["prepared"]


def test_a_run_whose_features_have_changed_is_refused(trained, sets, tmp_path, capsys):
    sets["home_shards"] = HOME._replace(manifest=HOME.manifest | {"hash": "other"})
    error = refused(capsys, trained, config_file(tmp_path), "--out", str(tmp_path / "out"))
    assert "was trained on other features or labels than" in error


def test_a_run_without_validation_videos_has_no_thresholds(trained, sets, tmp_path):
    saved = dataclasses.replace(
        CONFIG, train=dataclasses.replace(CONFIG.train, validation=0, validate_every=0)
    )
    other = Config(name="away", features=Cnn3dFeatures(), system=Cnn3d())
    other = dataclasses.replace(other, evaluation=CONFIG.evaluation)
    crossed = unseen.crossed(saved, other)
    with pytest.raises(UserError, match="its folds have no validation videos"):
        unseen.evaluate_unseen(trained, tmp_path, saved, crossed, HOME, AWAY, "")
