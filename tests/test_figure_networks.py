"""Figures that run networks again: mean Grad-CAM maps, features of the contrastive loss."""

import dataclasses
import xml.etree.ElementTree as ElementTree
from functools import partial
from itertools import pairwise

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from made_runs import write_run

from spotjax.config import Spotformer
from spotjax.counting import evaluation
from spotjax.loso.curves import decode_video
from spotjax.pages import figure_cam, figure_data, figure_embedding
from spotjax.pages.figure_cam import mean_maps, spots
from spotjax.pages.figure_data import Opened
from spotjax.pages.figure_embedding import CLASSES, pca, project
from spotjax.systems import build, explain, softnet
from spotjax.systems import spotformer_net as net

SMALL = ("system.width=8", "system.head_width=4", "system.heads=2", "system.mlp_width=8",
         "system.normalise=true")  # fmt: skip


def opened(toy, config, curves):
    """The toy set as a run whose videos all have the score curves f32[120, ...] by problem."""
    system = build(config.system, dict(toy.k))
    videos, found, drawn = list(toy.videos), {}, {}
    for video in videos:
        lasting = {name: np.resize(curve, (video.num_frames, *curve.shape[1:]))
                   for name, curve in curves.items()}  # fmt: skip
        given = {problem: {video.id: lasting[problem]} for problem in system.problems}
        found[video.id], drawn[video.id] = decode_video(system, toy, video, given)
    taken = evaluation.matches(videos, found, config.evaluation)
    return Opened(toy, system, videos, found, drawn, taken)


# --- Grad-CAM -------------------------------------------------------------------------------------


def hills(*rows):
    """f32[120] with a peak at each row, nothing at its end."""
    apart = np.arange(120)[:, None] - np.array(rows)
    return np.exp(-np.square(apart / 4)).sum(axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def looked(toy, tmp_path_factory):
    """A run of SOFTNet, two subjects, and the parameters of two folds."""
    source = figure_data.read(write_run(tmp_path_factory.mktemp("cam") / "run"))
    some = toy._replace(videos=toy.videos[:2])
    # k is 12 and 4: centred intervals from 6 and 2 rows before the peak on
    run = opened(some, source.config, {"macro": hills(24, 58), "micro": hills(71)})
    folds = jax.jit(jax.vmap(run.system.init))(jax.random.split(jax.random.key(0), 2))
    return source, run, folds


def test_a_detection_is_explained_by_the_row_of_its_peak(looked):
    source, run, _ = looked
    assert [d[:4] for d in run.found["s0/v0"]] == [
        (18, 30, 42, "macro"), (52, 64, 76, "macro"), (69, 73, 77, "micro"),
    ]  # fmt: skip
    first = run.videos[1].first_row
    assert spots(run, "macro", "s1") == [(first + 24, "macro", True), (first + 58, "macro", False)]
    assert spots(run, "micro", "s0") == [(71, "micro", True)]
    silent = dataclasses.replace(source.config.system, silent_proposal=True)
    config = dataclasses.replace(source.config, system=silent)
    flat = opened(run.dataset, config, {"macro": hills(), "micro": hills()})
    assert len(flat.found["s0/v0"]) == 2 and not spots(flat, "macro", "s0")


def test_mean_maps_are_those_of_each_detection(looked):
    source, run, folds = looked
    panels = mean_maps(source, run, "macro", ["s0", "s1"], folds)
    assert [(p.type, p.hit, p.number) for p in panels] == [("macro", True, 2), ("macro", False, 2)]
    images = softnet.min_max(run.dataset.streams["flow_macro"][[24, run.videos[1].first_row + 24]])
    maps = jax.jit(explain.softnet_maps)
    expected = [maps(jax.tree.map(lambda x, n=n: x[n], folds), images[n : n + 1]) for n in range(2)]
    joined = np.mean([np.asarray(one.joined[0]) for one in expected], axis=0)
    strain = np.mean([np.asarray(one.streams[0, ..., 2]) for one in expected], axis=0)
    np.testing.assert_allclose(panels[0].maps[0], joined, atol=2e-5)
    np.testing.assert_allclose(panels[0].maps[3], strain, atol=2e-5)


def test_the_panel_has_an_image_per_stream(looked):
    source, run, folds = looked
    panels = mean_maps(source, run, "macro", ["s0", "s1"], folds)
    chart = ElementTree.fromstring(figure_cam.panels_chart(panels, ("u", "v", "strain"), True))
    assert len(list(chart.iter("image"))) == 2 * 4 + 1  # and the ramp of colours
    words = [e.text for e in chart.iter("text")]
    assert "false positives" in words and words.count("n 2") == 2


def test_systems_without_maps_say_why(tmp_path):
    for file, why in (("mesnet", "mesnet has no maps"), ("cnn3d", "cnn3d has no maps")):
        source = figure_data.read(write_run(tmp_path / file, (), f"configs/{file}_demo.py"))
        assert why in figure_cam.why_not(source)
        assert "only SpotFormer has a contrastive loss" in figure_embedding.why_not(source)
    plain = figure_data.read(write_run(tmp_path / "softnet"))
    assert not figure_cam.why_not(plain)


# --- PCA ------------------------------------------------------------------------------------------


def test_pca_by_hand():
    # along (3, 4) / 5 at -2, 0, 2 and across at 0, 0, 0 after the mean is taken off
    values = np.array([[1, 1, 7], [1, 1, 7], [1, 1, 7]], np.float32)
    values[:, :2] += np.outer([-2, 0, 2], [0.6, 0.8])
    points, shares = pca(values)
    np.testing.assert_allclose(points, [[-2, 0], [0, 0], [2, 0]], atol=1e-6)
    assert shares == pytest.approx((1, 0), abs=1e-9)


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 12), st.integers(2, 5)),
                     elements=st.integers(-50, 50).map(np.float32)))  # fmt: skip
@settings(deadline=None)
def test_pca_keeps_what_varies_most(values):
    points, shares = pca(values)
    assert points.shape == (len(values), 2) and shares[0] >= shares[1] - 1e-9
    assert sum(shares) <= 1 + 1e-9
    total = np.square(values - values.mean(0, dtype=float)).sum()
    assert np.square(points).sum() == pytest.approx(sum(shares) * total, abs=1e-3)
    if values.shape[1] == 2:  # a rotation: distances stay
        for a, b in pairwise(range(len(values))):
            apart = np.linalg.norm(values[a].astype(float) - values[b])
            assert np.linalg.norm(points[a] - points[b]) == pytest.approx(apart, abs=1e-3)


@pytest.mark.parametrize("values", [np.zeros((3, 1)), np.zeros((0, 4)), np.zeros(3)])
def test_what_has_no_two_directions_is_refused(values):
    with pytest.raises(ValueError, match="D >= 2"):
        pca(values)


def _shape(system):
    names = set(net.Shape._fields) & set(type(system).__dataclass_fields__)
    return net.Shape(**{name: getattr(system, name) for name in names})


def test_the_features_are_those_of_the_loss(toy, tmp_path):
    source = figure_data.read(
        write_run(tmp_path / "run", (), "configs/spotformer_demo.py", overrides=SMALL)
    )
    assert isinstance(source.config.system, Spotformer) and not figure_embedding.why_not(source)
    some = toy._replace(videos=toy.videos[:1])
    run = opened(some, source.config, {"both": np.zeros((120, 6), np.float32)})
    fold = jax.jit(run.system.init)(jax.random.key(1))
    work = jax.jit(lambda clips: figure_embedding._features(source, run, fold, clips))
    kept = []

    def features(clips):
        kept.append(np.asarray(work(clips)))
        return kept[-1]

    panel = project(run, "both", "s0", features)
    video = some.videos[0]
    assert len(panel.points) == video.num_frames == 120 and panel.subject == "s0"
    # macro: 20-40 and 84-100; micro: 70-76
    counts = {CLASSES[c][0]: int((panel.classes == c).sum()) for c in CLASSES}
    assert counts == {"neutral": 75, "macro": 38, "micro": 7}
    joined = np.concatenate(kept)[:120]
    np.testing.assert_allclose(np.linalg.norm(joined, axis=1), 1, atol=1e-5)  # system.normalise
    clips = toy.streams["swmro"][:4].astype(np.float32)
    network = jax.jit(partial(net.apply, train=False, shape=_shape(source.config.system)))
    outputs, _ = network(fold, clips, np.ones(4, np.float32), key=jax.random.key(0))
    feature = np.asarray(outputs.feature)
    feature = feature / np.linalg.norm(feature, axis=1, keepdims=True)
    np.testing.assert_allclose(joined[:4], feature, atol=1e-5)
    np.testing.assert_allclose(panel.points, pca(joined)[0], atol=1e-6)
    chart = ElementTree.fromstring(figure_embedding.panels_chart([panel, panel]))
    assert len(list(chart.iter("circle"))) == 240


def test_many_points_are_thinned_evenly():
    indices = np.arange(1000) * 2
    some = figure_embedding._evenly(indices)
    assert len(some) == len(set(some)) == figure_embedding.MOST_POINTS
    assert (some[0], some[-1]) == (0, 1998) and np.ptp(np.diff(some)) <= 2
    assert figure_embedding._evenly(indices[:7]).tolist() == indices[:7].tolist()
