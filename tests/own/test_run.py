"""From frames to detections: with one's own weights, stopped and gone on with, or in a pipe."""

import dataclasses
from functools import cache

import jax
import numpy as np
import pytest
from own_clips import bump, images, swing, write_clip
from spotjax.data_prep import own_video, source

from spotjax.config import (
    Cnn3d,
    Cnn3dFeatures,
    Config,
    Flow,
    Mesnet,
    MesnetFeatures,
    Sfamnet,
    SfamnetFeatures,
    Softnet,
    SoftnetFeatures,
    Spotformer,
    SpotformerFeatures,
)
from spotjax.errors import UserError
from spotjax.loso import scoring
from spotjax.own.run import Progress, spot_source
from spotjax.own.scorer import Scorer, fit
from spotjax.own.store import Store
from spotjax.parameters import weights
from spotjax.spotting import check
from spotjax.systems import build
from spotjax.types import Video

DIS = Flow(method="dis")
SYSTEMS = {
    "softnet": (SoftnetFeatures(flow=DIS, k_macro=8, k_micro=3), Softnet()),
    "sfamnet": (SfamnetFeatures(flow=DIS, scene=False), Sfamnet(flow="optical")),
    "spotformer": (
        SpotformerFeatures(motion="adjacent"),
        Spotformer(width=16, heads=2, head_width=8, mlp_width=16),
    ),
    "cnn3d": (Cnn3dFeatures(size=32), Cnn3d(size=32, k_micro=3, k_macro=8)),
    "mesnet": (MesnetFeatures(size=32), Mesnet(size=32)),
}
K = {"macro": 8, "micro": 3}


@cache
def untrained(name, folds=2, fps=30.0, **changes):
    features, system = SYSTEMS[name]
    config = Config(name=name, features=features, system=dataclasses.replace(system, **changes))
    built = build(config.system, K)
    keys = jax.random.split(jax.random.key(0), folds)
    init = jax.jit(jax.vmap(built.init))
    variables = {p: init(keys) for p in built.problems}
    return weights.Weights(
        config, K, fps, variables, tuple(f"s{n}" for n in range(folds)), {}, "a test", "0" * 64, ()
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("own") / "clip.avi", images(swing(130)))


@pytest.fixture(scope="module")
def whole(clip):
    return spot_source(source.open_source(str(clip)), untrained("softnet"))


def same(a, b):
    assert a.detections == b.detections
    for field in ("times", "face"):
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
    for type in a.scores:
        np.testing.assert_array_equal(a.scores[type], b.scores[type])


def test_every_frame_has_a_row(whole, clip):
    spotting = whole.spotting
    check(spotting)
    assert len(spotting.times) == 130 and spotting.media == clip
    assert spotting.face.all()
    assert set(spotting.scores) == {"macro", "micro"}
    assert spotting.system == "softnet"
    assert spotting.provenance["sha256"] == "0" * 64 and spotting.provenance["flow"] == "dis"
    assert np.isfinite(spotting.scores["micro"]).sum() > 100
    assert (whole.boxes[:, 2] > whole.boxes[:, 0]).all()


def test_stopped_after_a_stretch_it_goes_on_to_the_same_end(whole, clip, tmp_path, monkeypatch):
    monkeypatch.setattr(own_video, "SECONDS", 1.0)
    seen = []

    def stop(frames):
        seen.append(frames)
        if len(seen) == 4:
            raise KeyboardInterrupt

    def run(frames):
        given = source.open_source(str(clip))
        return spot_source(
            given, untrained("softnet"), store=lambda identity: Store(tmp_path, identity),
            progress=Progress(frames),
        )  # fmt: skip

    with pytest.raises(KeyboardInterrupt):
        run(stop)
    kept = sorted(path.name for path in tmp_path.glob("*.npz"))
    assert kept
    done = []
    result = run(done.append)
    assert done[0] > 0 and sum(done) == 130
    same(result.spotting, run(lambda n: None).spotting)
    np.testing.assert_array_equal(result.spotting.times, whole.spotting.times)


def test_other_weights_begin_anew(tmp_path):
    first = Store(tmp_path, {"weights": "a"})
    first.add({"x": np.arange(3)})
    assert [list(found) for found in Store(tmp_path, {"weights": "a"}).read()] == [["x"]]
    assert Store(tmp_path, {"weights": "b"}).read() == []
    damaged = Store(tmp_path, {"weights": "b"})
    damaged.add({"x": np.arange(3)})
    damaged.add({"x": np.arange(4)})
    (tmp_path / "000001.npz").write_bytes(b"half")
    again = Store(tmp_path, {"weights": "b"})
    assert len(again.read()) == 1
    again.remove()
    assert not tmp_path.exists()


def test_scores_are_the_mean_of_the_folds():
    known = untrained("softnet", folds=3)
    rng = np.random.default_rng(0)
    rows = {f"flow_{type}": rng.random((40, 42, 42, 3)).astype(np.float16) for type in K}
    rows |= {f"valid_{type}": (np.arange(40) < 30).astype(np.uint8) for type in K}
    found = Scorer(fit(known, 30.0))(rows, 4, 30)
    system = build(known.config.system, K)
    video = Video("", "", 30.0, 0, 40, np.arange(40), ())
    for type in K:
        score = scoring.make_score(system, type, rows)
        samples = {"row": np.arange(4, 30, dtype=np.int32)}
        each = [
            score(jax.tree.map(lambda leaf, f=f: leaf[f], known.variables[type]), samples)
            for f in range(3)
        ]
        np.testing.assert_allclose(found[type][:26], np.mean(each, axis=0), atol=1e-6)
        assert np.isnan(found[type][26:]).all()
        np.testing.assert_array_equal(found[f"valid_{type}"], np.arange(4, 34) < 30)
    assert video.num_frames == 40


@pytest.mark.parametrize("name", ["sfamnet", "spotformer", "cnn3d"])
def test_every_system_that_scores_frames(name):
    frames = np.stack(images(swing(70)))[..., ::-1]
    result = spot_source(source.from_frames(frames, 30), untrained(name, folds=1))
    check(result.spotting)
    assert result.spotting.system == name and len(result.spotting.times) == 70
    assert all(np.isfinite(scores).sum() > 30 for scores in result.spotting.scores.values())


def test_mesnet_says_that_it_cannot(clip):
    with pytest.raises(UserError, match="MESNet judges whole clips"):
        spot_source(source.open_source(str(clip)), untrained("mesnet", folds=1))


def test_features_that_are_not_made_of_own_videos_are_refused():
    known = untrained("softnet", folds=1)
    config, features = (dataclasses.replace(c) for c in (known.config, known.config.features))
    object.__setattr__(features, "name", "new")
    object.__setattr__(config, "features", features)
    with pytest.raises(UserError, match="features of new are not made of one's own videos yet"):
        fit(known._replace(config=config), 30.0)


def test_k_counts_seconds_not_frames():
    known = untrained("softnet", folds=1, fps=30.0)
    assert fit(known, 15.0).k == {"macro": 4, "micro": 2}
    assert fit(known, 30.0).k == K
    assert any("trained at 30 frames" in note for note in fit(known, 15.0).notes)
    assert not any("trained at" in note for note in fit(known, 29.97).notes)
    cnn = fit(untrained("cnn3d", folds=1), 60.0)
    assert (cnn.config.system.k_micro, cnn.config.system.k_macro) == (6, 16)


def test_another_flow_is_said():
    known = untrained("softnet", folds=1)
    fitted = fit(known, 30.0, "farneback")
    assert fitted.config.features.flow.method == "farneback"
    assert "trained on dis flow, used with farneback" in fitted.notes
    fast = fit(known, 30.0, "tvl1_jax").config.features.flow
    assert fast == Flow(method="tvl1", backend="jax")
    by_jax = dataclasses.replace(known.config.features, flow=fast)
    trained_so = known._replace(config=dataclasses.replace(known.config, features=by_jax))
    assert fit(trained_so, 30.0).config.features.flow == fast
    assert fit(trained_so, 30.0, "dis").config.features.flow == Flow(method="dis")
    with pytest.raises(UserError, match="cnn3d has no choice of flow"):
        fit(untrained("cnn3d", folds=1), 30.0, "dis")


def test_sixty_frames_a_second_are_every_second_one():
    doubled = np.repeat(np.stack(images(swing(120)))[..., ::-1], 2, axis=0)
    result = spot_source(source.from_frames(doubled, 60), untrained("softnet", folds=1))
    assert result.rate == 30 and len(result.spotting.times) == 240
    scores = result.spotting.scores["micro"]
    np.testing.assert_array_equal(scores[::2], scores[1::2])
    plain = spot_source(source.from_frames(doubled[::2], 30), untrained("softnet", folds=1))
    np.testing.assert_allclose(scores[::2], plain.spotting.scores["micro"], atol=1e-6)


def test_a_stream_tells_what_it_finds_before_its_end(monkeypatch):
    monkeypatch.setattr(own_video, "SECONDS", 1.0)
    moved = images(bump(260, 60, 75, 4.0))
    stream = source.from_frames(iter([image[..., ::-1] for image in moved]), 30)
    lengths = []
    result = spot_source(
        stream,
        untrained("softnet", folds=1),
        progress=Progress(so_far=lambda spotting: lengths.append(len(spotting.times))),
    )
    assert len(lengths) >= 3 and lengths == sorted(lengths) and lengths[0] < 200
    assert len(result.spotting.times) == 260


def test_videos_without_a_face_and_short_ones():
    nobody = np.zeros((90, 64, 64, 3), np.uint8)
    found = spot_source(source.from_frames(nobody, 20), untrained("softnet", folds=1)).spotting
    check(found)
    assert found.detections == () and not found.face.any() and found.thresholds == {}
    assert any("no face was found in any frame" in text for text in found.warnings)
    assert any("too few for micro-expressions" in text for text in found.warnings)
    short = np.stack(images(swing(6)))[..., ::-1]
    found = spot_source(source.from_frames(short, 30), untrained("softnet", folds=1)).spotting
    assert len(found.times) == 6 and not found.detections
    assert np.isfinite(found.scores["micro"]).all()  # as its ends are held
    assert any("too short for macro-expressions: more than 16" in t for t in found.warnings)
    assert any("too short for micro-expressions: more than 6" in t for t in found.warnings)


def test_a_face_that_is_not_there_is_said():
    frames = np.stack(images(swing(40)))[..., ::-1]
    found = spot_source(source.from_frames(frames, 30), untrained("softnet", folds=1), face=2)
    assert not found.spotting.face.any()
    assert any("no face number 2, 1 were seen" in text for text in found.spotting.warnings)


def test_intervals_lie_where_the_movement_is():
    known = untrained("softnet", folds=1, interval="published")
    fitted = fit(known, 30.0)
    assert fitted.options == {"interval": "centred"}
    assert any("k/2 frames earlier" in note for note in fitted.notes)
    assert fit(untrained("softnet", folds=1, interval="centred"), 30.0).options == {}
