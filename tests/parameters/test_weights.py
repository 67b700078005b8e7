"""Trained weights as one file and out of run directories: nothing lost, nothing bad let in."""

import dataclasses
import json
import shutil
import zipfile
from functools import cache

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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
from spotjax.parameters.weights import Weights, load, save
from spotjax.systems import build

NAME = "tiny.spotjax.npz"


@cache
def shapes():
    """Of SFAMNet's variables."""
    return jax.eval_shape(build(Sfamnet(), {}).init, jax.random.key(0))


def tiny(folds=("s1", "s2"), seed=0, **changes):
    """Two folds of SFAMNet, which is small, with numbers of ours."""
    rng = np.random.default_rng(seed)
    config = Config(name="tiny", features=SfamnetFeatures(), system=Sfamnet())
    variables = jax.tree.map(
        lambda leaf: rng.normal(size=(len(folds), *leaf.shape)).astype(leaf.dtype), shapes()
    )
    found = Weights(
        config=config,
        k={"macro": 3, "micro": 3},
        fps=15.0,
        variables={"both": variables},
        folds=tuple(folds),
        options={"threshold": 0.6},
        source="a test",
        sha256=weights.content_hash({"both": variables}),
        notes=("for tests only", "ümlaut"),
        origins=(("a.pkl", "0" * 64),),
    )
    return found._replace(**changes)


def same(found, expected):
    """Everything but the hash, which is of the file, is equal to the last bit."""
    plain = [w._replace(variables={}, sha256="") for w in (found, expected)]
    assert plain[0] == plain[1]
    pairs = [list(weights.leaves(w.variables)) for w in (found, expected)]
    assert [place for place, _ in pairs[0]] == [place for place, _ in pairs[1]]
    for (place, a), (_, b) in zip(*pairs, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape, place
        assert a.tobytes() == b.tobytes(), place


# --- the file -------------------------------------------------------------------------------------


def test_a_file_gives_back_what_was_saved(tmp_path):
    path, given = tmp_path / NAME, tiny()
    save(path, given)
    found = load(path)
    same(found, given)
    assert found.problems == ("both",) and found.num_folds("both") == 2
    assert found.system().name == "sfamnet"
    again = tmp_path / "again.npz"
    save(again, given)
    assert again.read_bytes() == path.read_bytes()
    with np.load(path, allow_pickle=False) as archive:  # what the docstring promises
        assert archive["both/params/trunk/u/conv1/kernel"].shape == (2, 5, 5, 1, 3)
        assert json.loads(str(archive["meta"]))["version"] == 1


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    special=st.lists(st.sampled_from([-0.0, 1e-45, 3.4e38, -1e-38]), min_size=1, max_size=4),
    names=st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=3, unique=True),
    fps=st.floats(0.5, 1000),
)
def test_any_finite_weights_come_back(tmp_path_factory, seed, special, names, fps):
    path = tmp_path_factory.getbasetemp() / NAME
    given = tiny(names, seed, fps=fps, source="".join(names), notes=tuple(names))
    given.variables["both"]["params"]["spotting"]["conv"]["bias"][0, : len(special)] = special
    save(path, given)
    same(load(path), given)


def test_one_fold_is_taken_out(tmp_path):
    save(tmp_path / NAME, tiny())
    found = load(tmp_path / NAME, "s2")
    assert found.folds == ("s2",) and found.num_folds("both") == 1 and "s2 alone" in found.source
    for (_, one), (_, all) in zip(
        weights.leaves(found.variables), weights.leaves(tiny().variables), strict=True
    ):
        np.testing.assert_array_equal(one, all[1:])
    with pytest.raises(UserError, match=f"{NAME}: has no fold s3: it has s1, s2"):
        load(tmp_path / NAME, "s3")


def test_folds_of_released_problems_are_not_taken_apart(tmp_path):
    save(tmp_path / NAME, tiny()._replace(folds=("a", "b", "c")))
    with pytest.raises(UserError, match="has no fold a: its problems have folds of their own"):
        load(tmp_path / NAME, "a")


def test_the_hash_is_the_files(tmp_path):
    import hashlib

    save(tmp_path / NAME, tiny())
    digest = hashlib.sha256((tmp_path / NAME).read_bytes()).hexdigest()
    assert load(tmp_path / NAME).sha256 == digest


def test_the_content_hash_sees_place_shape_and_value():
    one = {"a": {"b": np.zeros((2, 3), np.float32)}}
    others = [
        {"a": {"c": one["a"]["b"]}},
        {"a": {"b": np.zeros((3, 2), np.float32)}},
        {"a": {"b": one["a"]["b"] + np.float32(1e-45)}},
    ]
    hashes = {weights.content_hash(tree) for tree in [one, *others]}
    assert len(hashes) == 4 and weights.content_hash(one) in hashes


# --- broken and hostile files ---------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    save(tmp_path / NAME, tiny())
    with np.load(tmp_path / NAME) as archive:
        return tmp_path / NAME, {name: archive[name] for name in archive.files}


def refused(path, arrays, words):
    files.write_npz(path, arrays)
    with pytest.raises(UserError, match=words) as caught:
        load(path)
    assert NAME in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.7, 0.99, 0.9999])
def test_a_cut_file_is_refused(saved, share):
    path, _ = saved
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=rf"{NAME}: (damaged, or )?no weights of spotjax"):
        load(path)


def test_a_flipped_byte_is_told_by_its_tensor(saved):
    path, _ = saved
    with zipfile.ZipFile(path) as archive:
        name = "both/params/recognition/linear/kernel"
        place = archive.getinfo(f"{name}.npy").header_offset + 2000
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match=f"tensor {name} is damaged"):
        load(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_a_foreign_file_is_refused(tmp_path, content):
    (tmp_path / "x.hdf5").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.hdf5: no weights of spotjax: .*spotjax.convert"):
        load(tmp_path / "x.hdf5")


def test_a_foreign_npz_and_a_missing_file_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    with pytest.raises(UserError, match=r"x\.npz: no weights of spotjax"):
        load(tmp_path / "x.npz")
    with pytest.raises(UserError, match=r"y\.npz: no such file"):
        load(tmp_path / "y.npz")
    with pytest.raises(UserError, match="no run directory"):
        load(tmp_path)


KERNEL = "both/params/spotting/conv/kernel"
BAD_ARRAYS = {
    "missing": (None, "is missing"),
    "of another shape": (np.zeros((2, 5, 5, 9, 7), np.float32), r"has shape \(2, 5, 5, 9, 7\)"),
    "of one fold": (np.zeros((5, 5, 9, 8), np.float32), r"has shape \(5, 5, 9, 8\)"),
    "of other folds": (np.zeros((1, 5, 5, 9, 8), np.float32), r"has shape \(1, 5, 5, 9, 8\)"),
    "of no fold": (np.zeros((0, 5, 5, 9, 8), np.float32), r"has shape \(0, 5, 5, 9, 8\)"),
    "a number": (np.float32(1), r"has shape \(\)"),
    "of another type": (np.zeros((2, 5, 5, 9, 8), np.float16), "float16: it must be float32"),
    "NaN": (np.full((2, 5, 5, 9, 8), np.nan, np.float32), "not finite in 3600 places"),
    "infinite": (np.full((2, 5, 5, 9, 8), np.inf, np.float32), "not finite"),
    "objects": (np.array([print, None]), "is damaged"),
    "huge": (np.zeros((20, 5, 5, 9, 8), np.float32), r"is larger than \(5, 5, 9, 8\) for each"),
}


@pytest.mark.parametrize("what", BAD_ARRAYS)
def test_a_tensor_that_cannot_be_is_named(saved, what):
    path, arrays = saved
    value, words = BAD_ARRAYS[what]
    arrays = {n: a for n, a in arrays.items() if n != KERNEL}
    refused(path, arrays | ({} if value is None else {KERNEL: value}), f"{KERNEL} .*{words}")


@pytest.mark.parametrize("name", ["both/params/spotting/conv/scale", "macro/params/x", "extra"])
def test_an_unknown_tensor_is_refused(saved, name):
    path, arrays = saved
    refused(path, arrays | {name: np.zeros(3, np.float32)}, f"tensor {name} is not one of sfamnet")


def changed_meta(arrays, change):
    meta = json.loads(str(arrays["meta"]))
    change(meta)
    return arrays | {"meta": np.array(json.dumps(meta))}


BAD_META = {
    "version": (lambda m: m.update(version=2), "meta.version is 2, this program reads 1"),
    "format": (lambda m: m.update(format="x"), "field meta.format"),
    "fps": (lambda m: m.update(fps=0), "field meta.fps"),
    "NaN": (lambda m: m.update(fps=float("nan")), "field meta.fps"),
    "k": (lambda m: m.update(k={"macro": 0.5}), "field meta.k.macro"),
    "no fold": (lambda m: m.update(folds=[]), "field meta.folds"),
    "too few folds": (lambda m: m.update(folds=["a"]), "is larger than .* for each fold"),
    "key": (lambda m: m["config"]["system"].update(power=3), "meta.config.system.*power"),
    "extra": (lambda m: m.update(more=3), "field meta.more"),
    "lacking": (lambda m: m.pop("notes"), "field meta.notes"),
    "options": (lambda m: m.update(options={"p": 0.5}), "field options"),
    "option": (lambda m: m.update(options={"threshold": "high"}), "field options"),
    "system": (
        lambda m: m.update(config=m["config"] | {"system": {"name": "softnet"}}),
        "tensor both/.* is not one of softnet",
    ),
}


@pytest.mark.parametrize("what", BAD_META)
def test_a_field_that_cannot_be_is_named(saved, what):
    path, arrays = saved
    change, words = BAD_META[what]
    refused(path, changed_meta(arrays, change), words)


def test_types_without_k_are_refused(saved):
    path, arrays = saved
    softnet = {"system": {"name": "softnet"}, "features": {"name": "softnet"}}

    def change(meta):
        meta.update(config=meta["config"] | softnet, k={"macro": 3})

    refused(path, changed_meta(arrays, change), "field k: says nothing about micro-expressions")


@pytest.mark.parametrize("text", ["", "{", "[1]", "null"])
def test_a_meta_that_is_no_json_is_refused(saved, text):
    path, arrays = saved
    refused(path, arrays | {"meta": np.array(text)}, "field meta")


def test_a_pickled_meta_is_not_opened(saved):
    path, arrays = saved
    refused(path, arrays | {"meta": np.array([print])}, "allow_pickle=False")


def test_what_would_not_load_is_not_saved(tmp_path):
    given = tiny()
    given.variables["both"]["params"]["spotting"]["conv"]["bias"][1, 2] = np.nan
    with pytest.raises(UserError, match="spotting/conv/bias is not finite in 1 places"):
        save(tmp_path / NAME, given)
    with pytest.raises(UserError, match="has no problem micro"):
        save(tmp_path / NAME, tiny()._replace(variables=tiny().variables | {"micro": {}}))
    assert list(tmp_path.iterdir()) == []


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
