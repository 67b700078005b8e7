"""SFAMNet from rendered RGB-D images to a scored run with emotions, and its second stage."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import run

from data_prep.synthetic import generate
from spotjax.data import shards

SECONDS = 6.0  # a micro- and a macro-expression in each video


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a rendered set of three people."""
    folder = tmp_path_factory.mktemp("sfamnet")
    generate(folder / "set", layout="casme3", subjects=3, videos=1, seconds=SECONDS, seed=0, jobs=1,
             progress=False)  # fmt: skip
    return folder


def words(made: Path, workdir: str, *more: str) -> tuple[str, ...]:
    return (
        "--config", "configs/sfamnet_demo.py", "--workdir", str(made / workdir),
        f"--config.data.root={made / 'set'}", f"--config.data.shards={made / 'shards'}",
        "--config.data.sample_every=3", "--config.data.sample_rule=floor", "--config.data.jobs=1",
        "--config.train.devices=1", "--config.evaluation.bootstrap=0",
        "--config.evaluation.chance_draws=2", "--config.train.epochs=3",
        "--config.train.batch=16", *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(made: Path) -> Path:
    """A run with four classes; every fold stops after two updates."""
    done = run("spotjax.train", *words(made, "four", "--config.train.updates=2"))
    assert done.returncode == 0, done.stderr
    assert "sfamnet on" in done.stdout and "memory of a device" in done.stderr
    return made / "four"


def results(workdir: Path) -> dict:
    return json.loads((workdir / "metrics.json").read_text())


def test_shards_hold_pairs_and_events(made: Path, trained: Path) -> None:
    dataset = shards.load(made / "shards")
    assert dataset.k == {"macro": 2, "micro": 2}  # 0.2 s at 10 frames a second
    for name in ("optical", "scene"):
        stream, events = dataset.streams[name], dataset.streams[f"event_{name}"]
        assert stream.dtype == events.dtype == np.float16
        assert stream.shape[1:] == events.shape[1:] == (42, 42, 3)
        assert len(events) == sum(len(v.intervals) for v in dataset.videos) == 6
        assert dataset.streams[f"valid_event_{name}"].all()
        for video in dataset.videos:
            valid = dataset.streams[f"valid_{name}"][video.rows]
            assert valid[:-2].all() and not valid[-2:].any()
            assert video.events.stop - video.events.start == len(video.intervals) == 2
    assert not np.array_equal(dataset.streams["event_scene"], dataset.streams["event_optical"])


def test_the_run_is_scored_with_emotions(trained: Path) -> None:
    metrics = results(trained)
    about, recognised = metrics["protocol"], metrics["recognition"]
    assert (about["system"], about["flow_kind"], about["updates"]) == ("sfamnet", "hybrid", 2)
    assert recognised["classes"] == ["negative", "positive", "surprise", "others", "neutral"]
    assert recognised["samples"] == 3 and np.sum(recognised["ground_truth"]["confusion"]) == 3
    assert set(recognised["analysis"]) == {"one_to_one", "sfamnet", "strs_tool"}
    page = (trained / "report.html").read_text()
    assert page.count("recognised as") >= 2 and "STRS" in page
    curves = np.load(trained / "curves.npz")
    name = next(n for n in curves.files if n.startswith("both_events/"))
    assert curves[name].shape == (2, 6)
    truths = (trained / "truths.csv").read_text()
    assert "negative" in truths and "fear" not in truths  # in the classes of the system
    scored = run("spotjax.score", "--pred", str(trained / "intervals.csv"), "--gt",
                 str(trained / "truths.csv"), "--videos", str(trained / "videos.csv"))  # fmt: skip
    assert scored.returncode == 0, scored.stderr


def test_updates_stop_every_fold(trained: Path) -> None:
    log = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert len(log) == 2  # one batch holds a fold's samples: an update an epoch
    assert run("spotjax.evaluate", "--workdir", str(trained)).returncode == 0


def test_seven_classes_start_from_the_folds_of_four(made: Path, trained: Path) -> None:
    more = ("--config.system.classes=seven", "--config.system.fine_tune=true",
            f"--config.train.start={trained}")  # fmt: skip
    done = run("spotjax.train", *words(made, "seven", *more))
    assert done.returncode == 0, done.stderr
    metrics = results(made / "seven")
    assert len(metrics["recognition"]["classes"]) == 8
    assert metrics["protocol"]["start"] == str(trained)
    for type, row in results(trained)["results"].items():  # spotting is kept
        assert metrics["results"][type] == pytest.approx(row)
    four, seven = (np.load(made / name / "curves.npz") for name in ("four", "seven"))
    for name in (n for n in four.files if n.startswith("both/")):
        np.testing.assert_allclose(four[name][:, 0], seven[name][:, 0], atol=1e-6)


def test_a_start_that_does_not_fit_is_refused(made: Path, trained: Path) -> None:
    nowhere = run("spotjax.train", *words(made, "x1", f"--config.train.start={made / 'none'}"))
    assert nowhere.returncode == 2 and "no run directory" in nowhere.stderr
    assert not (made / "x1").exists()  # looked at before anything is made
    other = run("spotjax.train", *words(made, "x1", f"--config.train.start={trained}",
                                        "--config.system.flow=optical"))  # fmt: skip
    assert other.returncode == 2 and "with system.flow='hybrid', not 'optical'" in other.stderr
    only = run("spotjax.train", *words(made, "one", "--config.train.folds=spNO.1"))
    assert only.returncode == 0, only.stderr
    lacking = run("spotjax.train", *words(made, "x2", f"--config.train.start={made / 'one'}"))
    assert lacking.returncode == 2
    assert "has no fold that held out" in lacking.stderr and "spNO.1:" in lacking.stderr


def test_moved_labels_compute_their_events_anew(made: Path, trained: Path) -> None:
    config = json.loads((trained / "config.json").read_text())["config"]
    assert config["data"]["annotation"]["long_micro"] == "keep"
    before = len(shards.load(made / "shards").streams["event_scene"])
    more = (
        "--config.data.annotation.longest_macro=3",
        "--config.baselines.strain_sum.k_macro=10",  # the same k, with no macro-expression left
    )
    done = run("data_prep", *words(made, "four", *more)[:2], *words(made, "four", *more)[4:])
    assert done.returncode == 0, done.stderr
    assert "it has other frames or events now" in done.stderr
    after = shards.load(made / "shards")
    assert len(after.streams["event_scene"]) == 3 < before


def test_depth_that_is_gone_computes_its_video_anew(made: Path, trained: Path) -> None:
    argv = [*words(made, "four")[:2], *words(made, "four")[4:], "--config.baselines.names="]
    folder = next((made / "set").rglob("depth"))
    gone = sorted(folder.iterdir(), key=lambda path: int(path.stem))[20:22]  # one of them is taken
    images = [path.read_bytes() for path in gone]

    def remove() -> None:
        for path in gone:
            path.unlink()

    def restore() -> None:
        for path, image in zip(gone, images, strict=True):
            path.write_bytes(image)

    for change in (remove, restore):
        change()
        done = run("data_prep", *argv)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("anew: it has other depth images now") == 1
    assert "nothing to do" in run("data_prep", *argv).stdout
