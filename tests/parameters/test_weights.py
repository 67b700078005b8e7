"""Trained weights as one file: nothing lost, nothing bad let in."""

import json
import zipfile
from functools import cache

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotjax import files
from spotjax.config import (
    Config,
    Sfamnet,
    SfamnetFeatures,
)
from spotjax.errors import UserError
from spotjax.parameters import weights
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
