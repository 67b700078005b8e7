import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_sets import (
    REPOSITORY,
    ROWS,
    config_file,
    contents,
    make_config,
    make_set,
    manifest,
    shards,
    streams,
    video_folder,
    with_features,
    write_workbook,
)

from data_prep import readers, write_shards
from data_prep.__main__ import main
from data_prep.write_shards import prepare
from spotjax import config as config_lib
from spotjax.config import Data, Synthetic
from spotjax.data import schema
from spotjax.data.shards import load
from spotjax.data.tfrecord import read_records
from spotjax.errors import UserError


@pytest.mark.usefixtures("quick_flow")
def test_the_manifest_tells_what_stands_in_the_shards(tiny: Path) -> None:
    config = make_config(tiny)
    folder = prepare(config)
    facts = manifest(folder)
    assert (facts["dataset"], facts["data"]["layout"]) == ("casme2", "casme2")
    assert facts["schema"] == 2
    assert facts["types"] == ["macro", "micro"] and facts["emotions"] == ["negative", "others"]
    # (23 - 11 + 1) / 2 = 6.5 and (36 - 31 + 1) / 2 = 3
    assert facts["k"] == {"macro": 6, "micro": 3}
    assert facts["features_hash"] == config_lib.digest(schema.feature_settings(config))
    assert facts["hash"] == schema.extraction_digest(config, facts["k"])
    assert set(facts["versions"]) == {"python", "numpy", "cv2", "spotjax"}
    assert [(v["subject"], v["name"], v["num_frames"]) for v in facts["videos"]] == [
        ("s15", "0101", 60), ("s15", "0401", 44), ("s16", "0101", 50),
    ]  # fmt: skip
    first = facts["videos"][0]
    assert first["intervals"][0] == {
        "onset": 10, "apex": 14, "offset": 22, "type": "macro", "emotion": "negative", "au": "4",
    }  # fmt: skip
    assert first["valid_rows"] == {"macro": 54, "micro": 57} and first["face_frames"] == 60
    assert first["bytes"] == (folder / first["shard"]).stat().st_size
    assert facts["skipped"] == [] and not list(folder.glob("*.tmp*"))


def test_records_are_chunks_that_join_to_the_video(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "RECORD_FRAMES", 25)
    folder = prepare(make_config(tiny))
    features = schema.features_dict(streams(folder))
    path = folder / schema.shard_name("casme2", 0, 3)
    chunks = [features.deserialize_example_np(payload) for payload in read_records(path)]
    assert [len(chunk["frame_ids"]) for chunk in chunks] == [25, 25, 10]
    assert [int(chunk["start"]) for chunk in chunks] == [0, 25, 50]
    assert np.concatenate([c["frame_ids"] for c in chunks]).tolist() == list(range(1, 61))
    assert chunks[0]["intervals"].tolist() == [[10, 14, 22, 0, 0], [30, 32, 35, 1, 1]]
    flow = np.concatenate([chunk["flow_macro"] for chunk in chunks])
    valid = np.concatenate([chunk["valid_macro"] for chunk in chunks])
    assert flow.shape == (60, 42, 42, 3) and flow.dtype == np.float16
    assert valid.tolist() == [1] * 54 + [0] * 6
    assert not flow[54:].any() and np.abs(flow[:54]).max() > 0.5


@pytest.mark.usefixtures("quick_flow")
def test_running_again_does_nothing_and_says_so(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = prepare(make_config(tiny))
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    capsys.readouterr()
    assert prepare(make_config(tiny)) == folder
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and "nothing to do" in out and err == ""
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    tiny.rename(tiny.with_name("gone"))
    prepare(make_config(tiny))
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.usefixtures("quick_flow")
def test_only_a_lost_or_damaged_shard_is_computed_anew(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = prepare(make_config(tiny))
    good = contents(folder)
    first, second, third = shards(folder)
    first.unlink()
    flipped = bytearray(second.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    second.write_bytes(flipped)
    third.write_bytes(third.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"wrong checksum of record 0.*run data_prep again"):
        list(read_records(second))
    with pytest.raises(UserError, match="cut short inside record 0"):
        list(read_records(third))
    prepare(make_config(tiny))
    err = capsys.readouterr().err
    assert "computing s15/0401 anew" in err and "computing s16/0101 anew" in err
    assert contents(folder) == good


def test_one_process_or_two_give_the_same_values(tiny: Path) -> None:
    alone = prepare(make_config(tiny, shards=str(tiny.parent / "one")))
    both = prepare(make_config(tiny, shards=str(tiny.parent / "two"), jobs=2))
    assert contents(alone) == contents(both)


@pytest.mark.usefixtures("quick_flow")
def test_a_folder_begun_otherwise_is_refused(tiny: Path) -> None:
    folder = prepare(make_config(tiny))
    kept = [path.read_bytes() for path in shards(folder)]
    with pytest.raises(UserError, match=r"has k_macro=6, config wants 9: choose another"):
        prepare(with_features(make_config(tiny), k_macro=9))
    with pytest.raises(UserError, match=r"has features.roi=strip, config wants two_eyes"):
        prepare(with_features(make_config(tiny), roi="two_eyes"))
    (tiny / "rawpic/s16/16_0502new").mkdir()
    with pytest.raises(UserError, match="begun with another list of videos than config.data.root"):
        prepare(make_config(tiny, skip_bad_videos=True))
    assert [path.read_bytes() for path in shards(folder)] == kept
    (tiny.parent / "home").mkdir()
    (tiny.parent / "home" / "thesis.tmp.doc").write_text("mine")
    with pytest.raises(UserError, match="not empty and has no extraction.json"):
        prepare(make_config(tiny, shards=str(tiny.parent / "home")))


@pytest.mark.usefixtures("quick_flow")
def test_changed_labels_or_frames_touch_their_video_only(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = prepare(make_config(tiny))
    before = [path.stat().st_mtime_ns for path in shards(folder)]
    write_workbook(tiny / "CAS(ME)^2code_final.xlsx", [(*ROWS[0][:3], 17, *ROWS[0][4:]), ROWS[1]])
    (video_folder(tiny, "s16") / "img050.jpg").unlink()
    prepare(make_config(tiny))
    err = capsys.readouterr().err
    assert "s15/0101: labels rewritten" in err and "computing s15/0101" not in err
    assert "computing s16/0101 anew: it has other frames or events now" in err
    changed = [
        path.stat().st_mtime_ns != old for path, old in zip(shards(folder), before, strict=True)
    ]
    assert changed == [True, False, True]
    assert manifest(folder)["videos"][0]["intervals"][0]["apex"] == 16
    assert manifest(folder)["videos"][2]["num_frames"] == 49


def test_default_folder_follows_from_root_layout_and_features(tmp_path: Path) -> None:
    config = make_config(tmp_path / "CASME", shards="")
    folder = schema.shards_folder(config)
    assert folder.parent == Path("shards") and folder.name.startswith("CASME-")
    assert schema.shards_folder(make_config(tmp_path / "CASME", shards="", jobs=7)) == folder
    assert schema.shards_folder(with_features(config, k_micro=5)) != folder
    assert schema.shards_folder(make_config(tmp_path / "x" / "CASME", shards="")) != folder


def test_command_line_in_a_fresh_process_imports_no_jax(tiny: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from data_prep.__main__ import main; "
        f"status = main(['--config', {str(config_file(tiny, tmp_path))!r}]); "
        "print(status, sorted({'jax', 'flax', 'optax', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr
    assert "154/154" in done.stderr


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--config", "configs/demo.py", "--help"])
    text = capsys.readouterr().out
    assert "rawpic/s15" in text and "features.flow.method" in text and "Run the same" in text


def test_tensorflow_datasets_reads_the_folder(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorflow", exc_type=ImportError)
    import tensorflow_datasets as tfds

    (tiny / "rawpic" / "s15" / "15_0401something" / "img003.jpg").unlink()
    folder = prepare(make_config(tiny, skip_bad_videos=True))
    builder = tfds.builder_from_directory(folder)
    records = list(builder.as_dataset(split="train").as_numpy_iterator())
    assert [r["video"] for r in records] == [b"0101", b"0101"]
    assert records[0]["flow_micro"].shape == (60, 42, 42, 3)
    assert records[0]["flow_micro"].dtype == np.float16


@pytest.mark.usefixtures("quick_flow")
def test_the_trainer_reads_what_was_written(tiny: Path) -> None:
    config = make_config(tiny)
    folder = prepare(config)
    loaded = load(folder, config)
    assert loaded.subjects == ("s15", "s16") and loaded.k == {"macro": 6, "micro": 3}
    assert loaded.streams["flow_macro"].shape == (154, 42, 42, 3)
    raw = readers.read(Data(layout="casme2"), tiny).videos
    for video, original in zip(loaded.videos, raw, strict=True):
        assert (video.id, video.intervals) == (original.id, original.intervals)
        np.testing.assert_array_equal(video.frame_ids, original.frame_ids)


def test_installed_as_part_of_spotjax(tmp_path: Path) -> None:
    """setuptools installs data_prep/ as spotjax.data_prep: relative imports only."""
    rubbish = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "spotjax", tmp_path / "spotjax", ignore=rubbish)
    shutil.copytree(REPOSITORY / "data_prep", tmp_path / "spotjax/data_prep", ignore=rubbish)
    words = [sys.executable, "-m", "spotjax.data_prep", "--help"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "usage: python -m spotjax.data_prep" in done.stdout


@pytest.mark.usefixtures("quick_flow")
def test_a_synthetic_set_is_rendered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict] = []

    def render(out: Path, **settings: object) -> None:
        calls.append(settings)
        if out.exists():
            raise UserError(f"{out} holds another synthetic set")
        make_set(out)
        keys = ("layout", "subjects", "videos", "seconds", "seed")
        numbers = {name: settings[name] for name in keys}
        (out / "synthetic.json").write_text(json.dumps(numbers))

    monkeypatch.setattr(write_shards, "generate", render)
    home = str(tmp_path / "set")
    wanted = Synthetic(root=home, subjects=2, videos=2, seconds=2.0, seed=3)
    config = make_config(tmp_path / "set", root="", synthetic=wanted)
    folder = prepare(config)
    prepare(config)
    assert calls == [
        {"layout": "casme2", "subjects": 2, "videos": 2, "seconds": 2.0, "seed": 3, "calm": False,
         "jobs": 1}
    ]  # fmt: skip
    with pytest.raises(UserError, match="another synthetic set"):
        prepare(make_config(tmp_path / "set", root="", synthetic=Synthetic(root=home, subjects=5)))
    with pytest.raises(UserError, match="data.root is not given"):
        prepare(make_config(tmp_path / "set", root=""))
    (tmp_path / "set").rename(tmp_path / "gone")
    assert prepare(config) == folder and len(calls) == 2  # nothing is rendered for a complete set


@pytest.mark.usefixtures("quick_flow")
def test_other_rules_for_the_annotation_rewrite_labels_only(tiny: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    config = with_features(make_config(tiny), k_macro=6, k_micro=3)
    folder = prepare(config)
    flow_before = contents(folder)
    monkeypatch.setattr(write_shards, "make_shard", lambda *words: pytest.fail("computed anew"))
    shorter = dataclasses.replace(config.data.annotation, longest_macro=5)
    other = dataclasses.replace(config, data=dataclasses.replace(config.data, annotation=shorter))
    assert prepare(other) == folder
    assert [len(video["intervals"]) for video in manifest(folder)["videos"]] == [1, 0, 0]
    dataset = load(folder, other)
    assert [i.type for i in dataset.videos[0].intervals] == ["micro"]
    with pytest.raises(UserError, match=r"made with data\.annotation\.longest_macro=5, the config"):
        load(folder, config)
    prepare(config)
    assert contents(folder) == flow_before


@pytest.mark.usefixtures("quick_flow")
def test_k_that_follows_from_a_changed_annotation_is_explained(tiny: Path) -> None:
    prepare(make_config(tiny))
    write_workbook(tiny / "CAS(ME)^2code_final.xlsx", [(*ROWS[0][:4], 33, *ROWS[0][5:]), ROWS[1]])
    with pytest.raises(
        UserError, match=r"has k_macro=6, config wants 11 \(it follows from the ann"
    ):
        prepare(make_config(tiny))
    prepare(with_features(make_config(tiny), k_macro=6))
