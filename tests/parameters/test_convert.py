"""Released weights to a file that spots; outputs are the reference programs'."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_file
from reference import shared_file
from test_released import keras_tensors, made_up

from spotjax import convert
from spotjax.config import Flow
from spotjax.parameters import released, released_files, weights
from spotjax.parameters.released_weights import FPS, K
from spotjax.parameters.weights import load

ROOT = Path(__file__).parents[2]
KERAS = {
    "conv_u": "conv2d_3",
    "conv_v": "conv2d_4",
    "conv_s": "conv2d_5",
    "dense1": "dense_2",
    "dense2": "dense_3",
}
"""Names of the layers of the second model that a Keras session makes."""


def write_keras(path, tensors):
    """What Keras' `save_weights` makes of `<layer>/<layer>/kernel:0`, empty layers included."""
    h5py = pytest.importorskip("h5py")
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"input_1", *{n.split("/")[0].encode() for n in tensors}]
        file.create_group("input_1").attrs["weight_names"] = np.zeros(0)
        for name, value in tensors.items():
            file[name] = np.asarray(value, np.float32)
    return path


def seeded_softnet(seed=7):
    """The reference's weights from their recipe, under Keras' names."""
    rng = np.random.default_rng(seed)
    shapes = dict(zip(KERAS, released.SOFTNET_LAYERS, strict=True))
    found = {}
    for layer, kernel in shapes.items():
        for part, shape in (("kernel", kernel), ("bias", kernel[-1:])):
            value = rng.random(shape, dtype=np.float32)
            if part == "kernel":
                area = int(np.prod(shape[:2])) if len(shape) == 4 else 1
                fans = np.prod(shape[:-1]) + shape[-1] * area
                value = (value * 2 - 1) * np.float32(np.sqrt(6 / fans))
            else:
                value = (value - 0.5) * 0.1
            found[f"{KERAS[layer]}/{KERAS[layer]}/{part}:0"] = value.astype(np.float32)
    return found


def run(*words):
    return convert.main([str(word) for word in words])


def refused(capsys, *words):
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def outputs(found, problem, images, fold=0):
    """What the system of converted weights says about images f32[B, 42, 42, 3]."""
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf[fold]), found.variables[problem])
    weight = jnp.ones(len(images))
    apply = jax.jit(found.system().apply, static_argnums=(3, 4))
    with jax.default_matmul_precision("highest"):
        return apply(variables, jnp.asarray(images), weight, False, None)[0]


# --- SOFTNet --------------------------------------------------------------------------------------


def test_softnets_outputs_are_the_references(tmp_path):
    golden = np.load(shared_file("goldens/softnet_forward_and_sgd.npz"))
    source = write_keras(tmp_path / "CASME_sq_macro_s2.hdf5", seeded_softnet())
    assert run(source, "--out", tmp_path / "w.npz") == 0
    found = outputs(load(tmp_path / "w.npz"), "macro", golden["input"])
    np.testing.assert_allclose(found, golden["forward/score"][:, 0], rtol=0, atol=1e-5)


def released_softnet(folder):
    """Files placed and named as in the release: two macro folds, one micro fold."""
    made = [
        write_keras(folder / f"CASME_sq/{kind}-expression/s{n}.hdf5", seeded_softnet(seed))
        for seed, (kind, n) in enumerate([("macro", 1), ("macro", 2), ("micro", 1)])
    ]
    return made


def test_softnet_as_released(tmp_path, capsys):
    made = released_softnet(tmp_path)
    assert run(*made, "--out", tmp_path / "soft", "--system", "softnet") == 0
    printed = capsys.readouterr().out
    path = tmp_path / "soft.spotjax.npz"
    assert f"weights: {path}\n" in printed and "k macro 18, micro 6; folds" in printed
    assert "note: SOFTNet's released weights" in printed
    found = load(path)
    assert found.problems == ("macro", "micro")
    assert [found.num_folds(problem) for problem in found.problems] == [2, 1]
    assert found.folds == ("macro-expression/s1.hdf5", "s2.hdf5", "micro-expression/s1.hdf5")
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in made]
    assert found.origins == tuple(zip(found.folds, digests, strict=True))
    assert found.k == {"macro": 18, "micro": 6} and found.fps == 30
    features, system = found.config.features, found.config.system
    assert (features.k_macro, features.k_micro) == (18, 6)
    assert features.roi == "strip" and features.flow == Flow(method="tvl1")
    assert system.smoothing == "release" and system.p == 0.55 and system.interval == "published"
    assert system.pseudo_label == "unit_release" and not system.silent_proposal
    for seed, (problem, fold) in enumerate([("macro", 0), ("macro", 1), ("micro", 0)]):
        expected = released.softnet(seeded_softnet(seed))
        mine = jax.tree.map(lambda leaf, f=fold: leaf[f], found.variables[problem]["params"])
        for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(a, b)
    again = tmp_path / "again.npz"
    assert run(*made, "--out", again) == 0
    assert again.read_bytes() == path.read_bytes()


def test_one_type_alone_spots_that_type(tmp_path):
    made = released_softnet(tmp_path)
    assert run(made[2], "--out", tmp_path / "w.npz") == 0
    found = load(tmp_path / "w.npz")
    assert found.problems == ("micro",) and found.k == {"micro": 6}
    assert found.config.system.types == ("micro",) and found.config.features.k_macro is None
    scores = np.zeros(100, np.float32)
    scores[50] = 1
    detections, _ = found.system().decode({"micro": scores}, {"micro": np.ones(100, bool)})
    assert [d.type for d in detections] == ["micro"]


@pytest.mark.parametrize(
    ("name", "data_set", "kind"),
    [
        ("CASME_sq_macro_s2.hdf5", "casme2", "macro"),
        ("SAMMLV_micro_s6.hdf5", "samm_lv", "micro"),
        ("SAMMLV/macro-expression/s6.hdf5", "samm_lv", "macro"),
        ("CAS(ME)^2/Micro/weights.h5", "casme2", "micro"),
        ("micro/samm_macro_1.h5", "samm_lv", "macro"),  # the name goes before the folder
    ],
)
def test_data_set_and_type_are_told_by_names(tmp_path, name, data_set, kind):
    path = write_keras(tmp_path / "here" / "x" / name, keras_tensors())
    assert run(path, "--out", tmp_path / "w.npz") == 0
    found = load(tmp_path / "w.npz")
    assert found.problems == (kind,) and found.config.data.layout == data_set
    assert found.k == {kind: K[data_set][kind]} and found.fps == FPS[data_set]


def test_options_tell_what_names_do_not(tmp_path, capsys):
    folder = tmp_path / "a" / "b" / "c"
    path = write_keras(folder / "model.h5", keras_tensors())
    out = ("--out", tmp_path / "w.npz")
    assert "model.h5: neither" in refused(capsys, path, *out)
    assert "add --type macro or micro" in refused(capsys, path, *out, "--dataset", "samm_lv")
    both = write_keras(folder / "SAMM_micro_or_macro.h5", keras_tensors())
    assert "add --type macro or micro" in refused(capsys, both, *out)
    assert run(path, *out, "--dataset", "samm_lv", "--type", "micro") == 0
    assert load(tmp_path / "w.npz").k == {"micro": 37}


def test_k_is_that_of_the_configs():
    for name, layout in (("softnet_casme2", "casme2"), ("softnet_samm_lv", "samm_lv")):
        from spotjax.cli import load_config

        config = load_config(str(ROOT / "configs" / f"{name}.py"))
        assert config.data.layout == layout
        features = config.features
        assert {"macro": features.k_macro, "micro": features.k_micro} == K[layout]


RELEASED = {
    "CASME_sq_macro_s2": ("macro", 18, 30.0),
    "CASME_sq_micro_s1": ("micro", 6, 30.0),
    "SAMMLV_macro_s1": ("macro", 174, 200.0),
    "SAMMLV_micro_s6": ("micro", 37, 200.0),
}


@pytest.mark.parametrize("name", RELEASED)
def test_released_softnet_files_score_finitely(tmp_path, name):
    source = shared_file(f"weights/softnet/{name}.hdf5")
    assert run(source, "--out", tmp_path / "w.npz") == 0
    found = load(tmp_path / "w.npz")
    kind, k, fps = RELEASED[name]
    assert found.k == {kind: k} and found.fps == fps
    sizes = [leaf.size for leaf in jax.tree.leaves(found.variables)]
    assert sum(sizes) == 314_817
    norm = np.linalg.norm(found.variables[kind]["params"]["dense1"]["kernel"])
    assert norm == pytest.approx(23.0, abs=0.2)  # as released: hardly left its initialisation
    images = np.random.default_rng(0).random((3, 42, 42, 3), np.float32)
    scores = outputs(found, kind, images)
    assert np.isfinite(scores).all() and np.ptp(scores) > 0


# --- SFAMNet --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [5, 8])
def test_sfamnets_outputs_are_the_references(tmp_path, count):
    golden = np.load(shared_file("goldens/sfamnet_forward.npz"))
    about = json.loads(str(golden["meta_json"]))[f"c{count}"]
    rng = np.random.default_rng(70 + count)
    state = {}
    for name, shape in about["names_shapes_in_draw_order"]:
        fan = np.prod(shape[1:]) if len(shape) > 1 else 8
        state[name] = (rng.random(shape, np.float32) * 2 - 1) * np.float32(1 / np.sqrt(fan))
    source = torch_file.save(tmp_path / "subject_1.pkl", state)
    assert run(source, "--out", tmp_path / "w.npz") == 0
    weights_ = load(tmp_path / "w.npz")
    assert weights_.config.system.classes == ("four" if count == 5 else "seven")
    found = outputs(weights_, "both", golden["input"])
    np.testing.assert_allclose(found.score, golden[f"c{count}/score"][:, 0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.logits, golden[f"c{count}/emotion_logits"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("classes", [4, 7])
def test_released_sfamnet_files_score_finitely_and_dead_folds_are_left_out(
    tmp_path, capsys, classes
):
    given = [shared_file(f"weights/sfamnet/{classes}emo_subject_{n}.pkl") for n in (1, 3, 150)]
    error = refused(capsys, *given, "--out", tmp_path / "w.npz")
    assert f"{classes}emo_subject_3.pkl: tensor c1.0.conv1.weight has NaN" in error
    assert "this fold is dead" in error and "--skip-bad leaves it out" in error
    assert not (tmp_path / "w.npz").exists()
    assert run(*given, "--out", tmp_path / "w.npz", "--skip-bad") == 0
    assert f"left out: {classes}emo_subject_3.pkl: tensor" in capsys.readouterr().out
    found = load(tmp_path / "w.npz")
    assert found.folds == tuple(f"{classes}emo_subject_{n}.pkl" for n in (1, 150))
    assert found.num_folds("both") == 2 and "left out" in found.notes[-1]
    for fold in range(2):
        silent = outputs(found, "both", np.zeros((1, 42, 42, 3), np.float32), fold)
        assert 0.18 < silent.score[0] < 0.26 and silent.logits.shape == (1, classes + 1)
    one = load(tmp_path / "w.npz", f"{classes}emo_subject_150.pkl")
    assert one.num_folds("both") == 1


def sfamnet_file(path, classes=4, **changes):
    return torch_file.save(path, made_up(classes) | changes)


@pytest.mark.parametrize("flow", ["", "scene", "hybrid", "optical"])
def test_sfamnet_says_which_flow_it_was_trained_on(tmp_path, flow):
    source = sfamnet_file(tmp_path / "subject_1.pkl")
    words = ("--flow", flow) if flow else ()
    assert run(source, "--out", tmp_path / "w.npz", *words) == 0
    found = load(tmp_path / "w.npz")
    assert found.config.system.flow == (flow or "scene")
    assert found.config.features.scene == (flow != "optical")
    assert found.fps == 15 and found.config.data.sample_every == 2
    assert found.k == {"macro": 3, "micro": 3} and found.folds == ("subject_1.pkl",)
    assert any("trained on scene flow" in note for note in found.notes)
    assert any("optical flow" in note for note in found.notes)
    names = {"scene", "event_scene"} if flow in ("", "scene") else {"optical", "event_optical"}
    assert names <= set(found.system().streams("both"))


def test_files_of_other_numbers_of_emotions_are_refused(tmp_path, capsys):
    four, seven = (sfamnet_file(tmp_path / f"{n}.pkl", n) for n in (4, 7))
    error = refused(capsys, four, seven, "--out", tmp_path / "w.npz")
    assert "7.pkl: is of 7 emotions" in error and "4.pkl of 4" in error
    five = sfamnet_file(tmp_path / "5.pkl", 5)
    assert "is of 5 emotions" in refused(capsys, five, "--out", tmp_path / "w.npz")


# --- what cannot be converted ---------------------------------------------------------------------


def test_bad_files_are_named_and_can_be_left_out(tmp_path, capsys):
    out = ("--out", tmp_path / "w.npz")
    good = sfamnet_file(tmp_path / "good.pkl")
    nan = sfamnet_file(tmp_path / "nan.pkl", **{"fc_spot.bias": np.array([np.nan], "<f4")})
    shape = sfamnet_file(tmp_path / "shape.pkl", **{"fc_spot.bias": np.zeros(2, "<f4")})
    harm = torch_file.write(tmp_path / "harm.pkl", b"\x80\x02cos\nsystem\nX\x00\x00\x00\x00\x85R.")
    cut = tmp_path / "cut.pkl"
    cut.write_bytes(good.read_bytes()[:-40])
    words = {
        nan: "nan.pkl: tensor fc_spot.bias has NaN or infinite values (1 of 32 tensors have)",
        shape: "shape.pkl: tensor fc_spot.bias has shape (2,): SFAMNet's is (1,)",
        harm: "harm.pkl: damaged, or no state dict (os system is not a part of a state dict)",
        cut: "cut.pkl: damaged, or no state dict",
    }
    for path, expected in words.items():
        assert expected in refused(capsys, path, *out)
    error = refused(capsys, *words, *out, "--skip-bad")
    assert "none of the 4 files can be converted" in error
    assert run(good, *words, *out, "--skip-bad") == 0
    found = load(tmp_path / "w.npz")
    assert found.folds == ("good.pkl",)
    assert [note.split(":")[1].strip() for note in found.notes[-4:]] == [p.name for p in words]


def test_mixtures_and_repetitions_are_refused(tmp_path, capsys):
    out = ("--out", tmp_path / "w.npz")
    casme = write_keras(tmp_path / "CASME_sq_micro_s1.hdf5", keras_tensors())
    samm = write_keras(tmp_path / "SAMMLV_micro_s1.hdf5", keras_tensors(1))
    same = write_keras(tmp_path / "CASME_sq_micro_s2.hdf5", keras_tensors())
    sfam = sfamnet_file(tmp_path / "subject_1.pkl")
    assert "is of SAMM-LV, " in refused(capsys, casme, samm, *out)
    assert "has the same content as" in refused(capsys, casme, same, *out)
    assert "has the same content as" in refused(capsys, sfam, sfam, *out, "--skip-bad")
    assert "subject_1.pkl: is not converted together" in refused(capsys, casme, sfam, *out)
    assert "--system sfamnet: " in refused(capsys, casme, *out, "--system", "sfamnet")
    assert "--flow says nothing about files of softnet" in refused(
        capsys, casme, *out, "--flow", "scene"
    )
    assert "--type says nothing about files of sfamnet" in refused(
        capsys, sfam, *out, "--type", "macro"
    )
    assert "--fold says nothing about" in refused(capsys, sfam, *out, "--fold", "s1")
    assert list(tmp_path.glob("*.npz")) == []


def test_what_is_none_of_these_is_refused(tmp_path, capsys):
    out = ("--out", tmp_path / "w.npz")
    text = tmp_path / "x.txt"
    text.write_text("hello")
    assert "x.txt: neither a run directory" in refused(capsys, text, *out)
    assert "y: no such file" in refused(capsys, tmp_path / "y", *out)
    assert "no run directory: name the files in it" in refused(capsys, tmp_path, *out)
    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    assert "a.npz: neither" in refused(capsys, tmp_path / "a.npz", *out)
    (tmp_path / "config.json").write_text("{}")
    assert "config.json: not a run's config" in refused(capsys, tmp_path, *out)
    sfam = sfamnet_file(tmp_path / "subject_1.pkl")
    assert "not converted together" in refused(capsys, sfam, tmp_path, *out)
    assert "not converted together" in refused(
        capsys, tmp_path, tmp_path / ".", *out, "--fold", "a"
    )


def test_released_files_are_converted_before_they_are_loaded(tmp_path):
    path = sfamnet_file(tmp_path / "subject_1.pkl")
    with pytest.raises(weights.UserError, match="subject_1.pkl: no weights of spotjax: .*convert"):
        load(path)


# --- the command ----------------------------------------------------------------------------------


def command(*words):
    return subprocess.run(
        [sys.executable, "-m", "spotjax.convert", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_a_run_becomes_a_file_on_the_command_line(tmp_path):
    from test_run_weights import make_run, same

    workdir, _ = make_run(tmp_path, "softnet")
    done = command(workdir, "--out", tmp_path / "mine")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.splitlines()[0] == "run run: softnet trained on casme2"
    same(load(tmp_path / "mine.spotjax.npz"), load(workdir))
    assert run(workdir, "--fold", "s2", "--out", tmp_path / "one.npz") == 0
    same(load(tmp_path / "one.npz"), load(workdir, "s2"))


def test_help_teaches_and_wrong_use_ends_with_2(capsys):
    with pytest.raises(SystemExit) as ended:
        run("--help")
    assert ended.value.code == 0
    helped = capsys.readouterr().out
    assert "python -m spotjax.convert SOFTNet_Weights/CASME_sq/*/*.hdf5 --out" in helped
    with pytest.raises(SystemExit) as ended:
        run("x.pkl")
    assert ended.value.code == 2 and "--out" in capsys.readouterr().err


def test_the_first_bytes_tell_the_kind(tmp_path):
    assert write_keras(tmp_path / "a", keras_tensors()).read_bytes()[:8] == released_files.HDF5
    assert sfamnet_file(tmp_path / "b").read_bytes()[:4] == released_files.ZIP
