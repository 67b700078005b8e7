"""Trained weights out of run directories: what they say of themselves, and what is refused."""

import dataclasses
import json
import shutil
from functools import cache

import jax
import numpy as np
import pytest
from test_weights import NAME, same
from toy import K, toy_crops

from spotjax import evaluate, files, train
from spotjax.config import (
    Baselines,
    Cnn3d,
    Cnn3dFeatures,
    Config,
    Data,
    Evaluate,
    Mesnet,
    MesnetFeatures,
    Sfamnet,
    SfamnetFeatures,
    Softnet,
    SoftnetFeatures,
    Spotformer,
    SpotformerFeatures,
    Train,
)
from spotjax.data import schema, shards
from spotjax.errors import UserError
from spotjax.loso import folds, rundir, runs, scoring
from spotjax.loso.checkpoints import Checkpoints, read_finished
from spotjax.parameters import weights
from spotjax.parameters.run_weights import LAYOUT_FPS
from spotjax.parameters.weights import load, save
from spotjax.systems import build

# --- run directories ------------------------------------------------------------------------------

SYSTEMS = {
    "softnet": (SoftnetFeatures(), Softnet(), "casme2", 30.0),
    "spotformer": (
        SpotformerFeatures(),
        Spotformer(width=16, heads=2, head_width=8, mlp_width=16),
        "samm_lv",
        200.0,
    ),
    "sfamnet": (SfamnetFeatures(), Sfamnet(classes="seven"), "casme3", 30.0),
    "mesnet": (MesnetFeatures(size=32), Mesnet(size=32), "casme2", 30.0),
    "cnn3d": (Cnn3dFeatures(size=32), Cnn3d(size=32, channels=(4, 4, 8)), "casme2", 30.0),
}
SUBJECTS = ["s1", "s2", "s3"]


def write_manifest(folder, name="casme2", rates=(30.0, 30.0)):
    """A manifest as data_prep writes it, as far as weights look; its content hash."""
    folder.mkdir(exist_ok=True)
    manifest = {
        "schema": schema.SCHEMA_VERSION,
        "dataset": name,
        "k": K,
        "hash": "abc",
        "videos": [
            {"subject": f"s{n}", "name": "v", "fps": rate, "num_frames": 9, "intervals": []}
            for n, rate in enumerate(rates)
        ],
    }
    files.write_json(folder / "manifest.json", manifest)
    return shards.content_hash(manifest)


@cache
def new_state(name):
    """The problems of a system, and three fresh initialisations of its small network."""
    system = build(SYSTEMS[name][1], K)
    state = folds.init_state(system, folds.make_optimizer(Train()), 3, range(3))
    return system.problems, jax.tree.map(np.asarray, state)


def make_run(folder, name="softnet", done=2, root="videos", problems=None, **manifest):
    """A run directory whose folds are fresh initialisations, each its own."""
    features, section, layout, _ = SYSTEMS[name]
    data = Data(layout=layout, root=root, sample_every=2 if layout == "casme3" else 1)
    config = Config(name="made", data=data, features=features, system=section)
    workdir, place = folder / "run", folder / "shards"
    workdir.mkdir()
    digest = write_manifest(place, **manifest)
    rundir.open_run(workdir, config, digest, place)
    problems_of, state = new_state(name)
    for number, problem in enumerate(problems_of):
        shifted = jax.tree.map(lambda leaf, n=number: leaf + np.asarray(n, leaf.dtype), state)
        with Checkpoints(workdir, problem) as store:
            subjects = (problems or {}).get(problem, SUBJECTS)
            store.save(done, shifted, {"epochs": done, "of": 2, "subjects": subjects})
    return workdir, state


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_comes_out_of_its_run_and_back_from_a_file(tmp_path, name):
    workdir, state = make_run(tmp_path, name)
    found = load(workdir)
    assert found.folds == tuple(SUBJECTS) and found.k == K and found.fps == 30.0
    assert found.source == f"run run: {name} trained on casme2"
    assert found.notes == () and found.options == {}
    assert found.sha256 == weights.content_hash(found.variables)
    assert found.origins == (("run", found.sha256),)
    assert found.config == rundir.load_run(workdir)[0]
    for number, problem in enumerate(found.problems):
        expected = jax.tree.map(lambda leaf, n=number: leaf + np.asarray(n, leaf.dtype), state)
        pairs = zip(
            weights.leaves(found.variables[problem]),
            weights.leaves(expected.variables),
            strict=True,
        )
        for (place, a), (_, b) in pairs:
            assert a.tobytes() == b.tobytes(), place
    save(tmp_path / NAME, found)
    same(load(tmp_path / NAME), found)
    one = load(workdir, "s2")
    assert one.folds == ("s2",) and one.source.endswith("fold s2 alone")
    same(load(tmp_path / NAME, "s2")._replace(origins=()), one._replace(origins=()))


@pytest.mark.parametrize("name", ["softnet", "sfamnet", "spotformer"])
def test_without_shards_the_evaluation_and_the_layout_tell_k_and_rate(tmp_path, name):
    workdir, _ = make_run(tmp_path, name)
    shutil.rmtree(tmp_path / "shards")
    with pytest.raises(UserError, match="its k is not known without the shards .* data_prep"):
        load(workdir)
    _, data_hash, _ = rundir.load_run(workdir)
    protocol = {"k": {"macro": 5, "micro": 2}, "data_set": "casmeX", "data_hash": data_hash}
    files.write_json(workdir / "metrics.json", {"protocol": protocol})
    with pytest.raises(UserError, match="its k is not known"):
        files.write_json(workdir / "metrics.json", {"protocol": protocol | {"data_hash": "other"}})
        load(workdir)
    config = rundir.load_run(workdir)[0]
    about = protocol | {"config": {"evaluation": {"epoch_choice": "last"}}}
    files.write_json(workdir / "metrics.json", {"protocol": about})
    found = load(workdir)
    assert found.k == protocol["k"] and "trained on casmeX" in found.source
    assert found.fps == SYSTEMS[name][3] / config.data.sample_every


def test_rates_of_the_layouts_are_data_preps():
    from data_prep.readers import casme2, casme3, samm_lv

    readers = {"casme2": casme2, "casme3": casme3, "samm_lv": samm_lv}
    assert {name: reader.FPS for name, reader in readers.items()} == LAYOUT_FPS


def test_shards_made_anew_otherwise_do_not_speak_for_the_run(tmp_path):
    workdir, _ = make_run(tmp_path)
    write_manifest(tmp_path / "shards", rates=(25.0, 25.0, 25.0))
    with pytest.raises(UserError, match="its k is not known"):
        load(workdir)


def test_a_folder_of_videos_has_no_rate_without_its_shards(tmp_path):
    workdir, _ = make_run(tmp_path)
    values = json.loads((workdir / "config.json").read_text())
    values["config"]["data"]["layout"] = "folder"
    files.write_json(workdir / "config.json", values)
    assert load(workdir).fps == 30.0
    shutil.rmtree(tmp_path / "shards")
    about = {"k": K, "data_set": "folder", "data_hash": values["data_hash"]}
    files.write_json(workdir / "metrics.json", {"protocol": about})
    with pytest.raises(UserError, match="its frame rate is not known without the shards"):
        load(workdir)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"root": ""}, "rendered faces: a demonstration"),
        ({"name": "synthetic_casme2"}, "rendered faces: a demonstration"),
        ({"rates": (25.0, 30.0, 60.0)}, "25 to 60 frames per second"),
    ],
)
def test_what_every_result_must_say(tmp_path, changes, words):
    changes = dict(changes)
    data_set = {"name": changes.pop("name")} if "name" in changes else {}
    root = {"root": changes.pop("root")} if "root" in changes else {}
    folder = tmp_path / "one"
    folder.mkdir()
    workdir, _ = make_run(folder, **root)
    write = write_manifest(folder / "shards", **data_set, **changes)
    values = json.loads((workdir / "config.json").read_text()) | {"data_hash": write}
    files.write_json(workdir / "config.json", values)
    (note,) = load(workdir).notes
    assert words in note


def test_an_epoch_chosen_on_held_out_subjects_is_told(tmp_path):
    workdir, _ = make_run(tmp_path)
    _, data_hash, _ = rundir.load_run(workdir)
    about = {"data_hash": data_hash, "config": {"evaluation": {"epoch_choice": "oracle"}}}
    files.write_json(workdir / "metrics.json", {"protocol": about})
    assert "chosen on the held-out subjects (oracle)" in load(workdir).notes[0]


def test_runs_that_are_not_done_or_do_not_fit_are_refused(tmp_path):
    workdir, _ = make_run(tmp_path, done=1)
    with pytest.raises(UserError, match="macro is trained for 1 of 2 epochs"):
        load(workdir)
    other = tmp_path / "other"
    other.mkdir()
    workdir, _ = make_run(other, problems={"micro": ["s1", "s2", "s4"]})
    with pytest.raises(UserError, match="its problems have other folds"):
        load(workdir)
    (workdir / "metrics.json").write_text("{")
    with pytest.raises(UserError, match=r"metrics\.json: damaged"):
        load(workdir)


def test_an_unknown_fold_of_a_run_is_refused(tmp_path):
    workdir, _ = make_run(tmp_path)
    with pytest.raises(UserError, match="has no fold s9: it has s1, s2, s3"):
        load(workdir, "s9")


# --- a run that was trained and evaluated ---------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two trained folds of the 3D-CNN with thresholds that validation chose; and their data."""
    config = Config(
        name="home",
        data=Data(root="home"),
        features=Cnn3dFeatures(size=32),
        system=dataclasses.replace(SYSTEMS["cnn3d"][1], skips_micro=(1, 2), skips_macro=(3, 5),
                                   k_micro=3, k_macro=7, stride=4, augment=False),
        train=Train(epochs=1, batch=8, optimizer="adam", learning_rate=3e-3, validation=1,
                    validate_every=1, folds=("s0", "s2"), devices=1),
        evaluation=Evaluate(threshold_choice="validation", bootstrap=0, chance_draws=2),
        baselines=Baselines(names=()),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("trained")
    workdir, dataset = folder / "run", toy_crops()
    workdir.mkdir()
    digest = write_manifest(folder / "shards", "toy")
    dataset = dataset._replace(manifest=dataset.manifest | {"hash": digest})
    rundir.open_run(workdir, config, digest, folder / "shards")
    system = build(config.system, dict(dataset.k))
    members = train.folds_of(config, dataset, system)
    train.train_runs([runs.Run(workdir, config, members)], dataset, system)
    evaluate.evaluate_run(workdir, config, dataset, folder / "shards", "a test")
    return workdir, dataset


def test_thresholds_that_validation_chose_come_along(trained):
    workdir, _ = trained
    metrics = json.loads((workdir / "metrics.json").read_text())
    chosen = metrics["protocol"]["chosen_thresholds"]
    found = load(workdir)
    assert found.options.keys() == {"threshold_micro", "threshold_macro"}
    for key, value in found.options.items():
        assert value == pytest.approx(np.mean([chosen[s][key] for s in ("s0", "s2")]))
    assert "validation subjects, the mean of 2 folds: threshold_micro" in found.notes[-1]
    one = load(workdir, "s2")
    assert one.options == chosen["s2"] and "those of fold s2" in one.notes[-1]
    metrics["protocol"]["threshold_choice"] = "oracle"
    metrics["protocol"]["chosen_thresholds"]["s2"].pop("threshold_micro")
    copy = workdir.parent / "copy"
    shutil.copytree(workdir, copy)
    files.write_json(copy / "metrics.json", metrics)
    with pytest.raises(UserError, match="field chosen_thresholds"):
        load(copy)
    assert "(oracle)" in load(copy, "s0").notes[-1]


def test_scores_of_a_file_are_the_runs(trained, tmp_path):
    workdir, dataset = trained
    save(tmp_path / NAME, load(workdir))
    found = load(tmp_path / NAME)
    system, videos = found.system(), [dataset.videos[:1]] * 2
    mine = scoring.score_problem(system, "both", dataset, videos, found.variables["both"])
    theirs = scoring.score_problem(
        system, "both", dataset, videos, read_finished(workdir, "both").variables
    )
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(a["s0/v0"], b["s0/v0"])
    assert not np.array_equal(mine[0]["s0/v0"], mine[1]["s0/v0"], equal_nan=True)
