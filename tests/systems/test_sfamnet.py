"""SFAMNet as a system: samples, loss, folds, stages; the network itself has its own tests."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import optimised
from toy import toy_rgbd

from spotjax.cli import load_config, override
from spotjax.config import Sfamnet, Train
from spotjax.data import plans
from spotjax.errors import UserError
from spotjax.loso import folds as folds_lib
from spotjax.loso import scoring, training
from spotjax.systems import build
from spotjax.systems.sfamnet_net import Outputs
from spotjax.types import Interval

CONFIG = Sfamnet(flow="hybrid")
SYSTEM = build(CONFIG, {})
TRAIN = Train(epochs=1, batch=16, optimizer="adam", learning_rate=1e-3)
ALIKE = 1e-6 if jax.default_backend() == "cpu" else 1e-5
"""How far the parameters of a fold alone may be from those of the same fold beside others."""
NEUTRAL = 4


@pytest.fixture(scope="module")
def rgbd():
    return toy_rgbd()


@pytest.fixture(scope="module")
def trained(rgbd):
    """The last epoch of the folds of some subjects (of none: all); each run is made once."""
    return cache(lambda *wanted: run(rgbd, wanted)[-1])


def run(data, wanted=(), system=SYSTEM, states=None, **changes):
    train = dataclasses.replace(TRAIN, **changes)
    mesh = folds_lib.make_mesh(1)
    members = plans.loso(system, data, "both", Train(), wanted)
    members, arrays = training.place(system, "both", data.streams, members, mesh)
    return list(training.train_folds(system, "both", members, arrays, train, mesh, states))


def leaves(epoch, fold):
    return [np.asarray(leaf)[fold] for leaf in jax.tree.leaves(epoch.states)]


def fold_of(data, config=CONFIG, subject="s0"):
    return plans.loso(build(config, {}), data, "both", Train(), (subject,))[0].samples


def test_targets_are_every_valid_row_and_the_onset_phases(rgbd):
    video = rgbd.videos[1]  # the apex of its second micro-expression is unknown
    valid = rgbd.streams["valid_optical"][video.rows] > 0
    table = SYSTEM.targets(video, valid, "both")
    rows = np.flatnonzero(valid)
    assert table["row"].tolist() == [*(video.first_row + rows), video.first_event]
    assert table["event"].tolist() == [0] * len(rows) + [1]
    positive = np.flatnonzero((table["score"] > 0) & (table["event"] == 0))
    assert positive.tolist() == [73, 74, 75, 76]  # second half of 70..76, the apex included
    assert set(table["emotion"][positive]) == {1} and table["emotion"][-1] == 1  # happy: positive
    assert set(np.delete(table["emotion"], [*positive, -1])) == {NEUTRAL}
    first = build(dataclasses.replace(CONFIG, pseudo_label="paper"), {}).targets(
        video, valid, "both"
    )
    assert np.flatnonzero((first["score"] > 0) & (first["event"] == 0)).tolist() == [70, 71, 72, 73]


def test_a_fold_is_balanced_and_weighs_its_classes(rgbd):
    table = fold_of(rgbd)
    positive, event = table["emotion"] < NEUTRAL, table["event"] > 0
    assert event.sum() == 5 and (positive & ~event).sum() == 5 * 4  # s1 lacks an apex
    assert (~positive).sum() == positive.sum() and len(set(table["row"][~positive])) == 25
    assert (table["class_weight"][~positive] == 0).all()
    counts = np.bincount(table["emotion"][positive], minlength=4)
    for emotion in np.flatnonzero(counts):
        expected = 25 / ((counts > 0).sum() * counts[emotion])
        weights = table["class_weight"][table["emotion"] == emotion]
        np.testing.assert_allclose(weights, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("sampling", "events", "windows"), [("events", 5, 0), ("windows", 0, 20), ("both", 5, 20)]
)
def test_kinds_of_samples(rgbd, sampling, events, windows):
    table = fold_of(rgbd, dataclasses.replace(CONFIG, sampling=sampling))
    positive, event = table["emotion"] < NEUTRAL, table["event"] > 0
    assert (event.sum(), (positive & ~event).sum()) == (events, windows)
    assert (~positive).sum() == events + windows


def test_events_without_features_are_left_out(rgbd):
    streams = dict(rgbd.streams)
    for name in ("valid_event_scene", "valid_event_optical"):
        streams[name] = np.zeros_like(streams[name])
    table = fold_of(rgbd._replace(streams=streams))
    assert table["event"].sum() == 0 and (table["emotion"] < NEUTRAL).sum() == 20


def test_flow_kinds_choose_their_channels(rgbd):
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.normal(size=(6, 42, 42, 3)).astype(np.float16)
        for name in ("optical", "scene", "event_optical", "event_scene")
    }
    samples = {"row": np.array([3, 2]), "event": np.array([0, 1], np.uint8)}
    key = jax.random.key(0)
    for kind, (uv, w) in {
        "optical": ("optical", "optical"),
        "scene": ("scene", "scene"),
        "hybrid": ("optical", "scene"),
    }.items():
        system = build(Sfamnet(flow=kind), {})
        found = np.asarray(system.inputs(arrays, samples, key, "both"))
        row = np.concatenate([arrays[uv][3][..., :2], arrays[w][3][..., 2:]], axis=-1)
        event = np.concatenate(
            [arrays[f"event_{uv}"][2][..., :2], arrays[f"event_{w}"][2][..., 2:]], axis=-1
        )
        np.testing.assert_array_equal(found, np.stack([row, event]).astype(np.float32))
        assert system.valid("both") == ("valid_optical" if kind == "optical" else "valid_scene")
    alone = build(Sfamnet(flow="hybrid", streams=("w",)), {})
    assert alone.streams("both") == ("scene", "event_scene")
    found = np.asarray(alone.inputs(arrays, samples, key, "both"))
    np.testing.assert_array_equal(found[0, ..., 0], arrays["scene"][3][..., 2])


def test_training_samples_are_scaled_by_a_hundredth(rgbd):
    table = {name: column[:20] for name, column in fold_of(rgbd).items()}
    arrays = {name: rgbd.streams[name] for name in SYSTEM.streams("both")}
    plain = {name: table[name] for name in ("row", "event")}
    scaled, still = (
        np.asarray(SYSTEM.inputs(arrays, samples, jax.random.key(1), "both"))
        for samples in (table, plain)
    )
    factor = (scaled * still).sum((1, 2, 3)) / (still * still).sum((1, 2, 3))
    np.testing.assert_allclose(factor * 100, np.rint(factor * 100), atol=1e-3)
    assert factor.min() >= 0.9 - 1e-6 and factor.max() <= 1.1 + 1e-6 and len(set(factor)) > 5
    off = build(dataclasses.replace(CONFIG, scaling=False), {})
    np.testing.assert_array_equal(off.inputs(arrays, table, jax.random.key(1), "both"), still)


def test_loss_by_hand_and_of_neutral_samples_alone():
    outputs = Outputs(jnp.array([0.5, 1.0, 0.0]), jnp.zeros((3, 5)))
    samples = {
        "score": np.array([1.0, 1.0, 0.0], np.float32),
        "emotion": np.array([0, 2, 4]),
        "class_weight": np.array([2.0, 1.0, 0.0], np.float32),
    }
    weight = jnp.ones(3)
    total, terms = SYSTEM.loss(outputs, samples, weight)
    np.testing.assert_allclose(terms["spotting"], 0.9 * 0.25 / 3, rtol=1e-6)
    np.testing.assert_allclose(terms["recognition"], 0.1 * np.log(5), rtol=1e-6)
    np.testing.assert_allclose(total, terms["spotting"] + terms["recognition"], rtol=1e-6)
    _, padded = SYSTEM.loss(outputs, samples, jnp.array([1.0, 0.0, 1.0]))
    np.testing.assert_allclose(padded["spotting"], 0.9 * 0.25 / 2, rtol=1e-6)
    neutral = samples | {"class_weight": np.zeros(3, np.float32)}

    def objective(logits):
        return SYSTEM.loss(Outputs(outputs.score, logits), neutral, weight)[1]["recognition"]

    value, gradient = jax.value_and_grad(objective)(outputs.logits)
    assert value == 0 and not np.any(gradient)


def test_a_batch_of_neutral_samples_alone_trains(rgbd):
    quiet = tuple(
        v._replace(intervals=(Interval(70, 76, 82, "micro", ""),)) for v in rgbd.videos
    )  # micro-expressions without an emotion: spotted, never recognised
    last = run(rgbd._replace(videos=quiet), wanted=("s0",))[-1]
    assert all(np.isfinite(leaf).all() for leaf in leaves(last, 0))


def test_a_fold_without_a_class_and_a_subject_without_micro(rgbd):
    videos = tuple(
        v._replace(intervals=v.intervals[1:2]) if v.subject == "s2" else
        v._replace(intervals=tuple(i._replace(emotion="fear") if i.type == "micro" else i
                                   for i in v.intervals))
        for v in rgbd.videos
    )  # fmt: skip
    data = rgbd._replace(videos=videos)
    table = fold_of(data, subject="s2")
    assert set(table["class_weight"]) == {0.0, 1.0}  # one class of four
    last = run(data)[-1]
    assert all(np.isfinite(leaf).all() for fold in range(4) for leaf in leaves(last, fold))


def test_a_fold_with_nothing_to_learn_is_refused(rgbd):
    videos = tuple(
        v if v.subject == "s0" else v._replace(intervals=v.intervals[1:2]) for v in rgbd.videos
    )
    with pytest.raises(UserError, match="fold s0 has nothing to learn"):
        plans.loso(SYSTEM, rgbd._replace(videos=videos), "both", Train())


def test_an_unknown_emotion_is_refused_and_names_the_keys(rgbd):
    video = rgbd.videos[0]
    video = video._replace(intervals=(Interval(70, 76, 82, "micro", "bored"),))
    valid = rgbd.streams["valid_optical"][video.rows] > 0
    with pytest.raises(UserError, match="emotion 'bored' is none of negative, .*emotions"):
        SYSTEM.targets(video, valid, "both")
    seven = build(dataclasses.replace(CONFIG, classes="seven"), {})
    video = video._replace(intervals=(Interval(70, 76, 82, "micro", "negative"),))
    with pytest.raises(UserError, match="emotion 'negative' is none of disgust"):
        seven.targets(video, valid, "both")


def test_a_fold_does_not_depend_on_the_others(rgbd, trained):
    together = trained()
    for position in (0, 2):
        alone = trained(rgbd.subjects[position])
        for found, expected in zip(leaves(together, position), leaves(alone, 0), strict=True):
            np.testing.assert_allclose(found, expected, atol=ALIKE)


def test_side_by_side_equals_one_after_another(rgbd):
    plain = {"optimizer": "sgd", "learning_rate": 1e-2, "epochs": 1}
    together = run(rgbd, ("s0", "s2"), fold_exec="vmap", **plain)[-1]
    sequence = run(rgbd, ("s0", "s2"), fold_exec="map", **plain)[-1]
    for found, expected in zip(
        jax.tree.leaves(together.states), jax.tree.leaves(sequence.states), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_held_out_subjects_labels_never_reach_training(rgbd, trained):
    poisoned = rgbd._replace(
        videos=tuple(
            v._replace(intervals=tuple(i._replace(onset=5, apex=30, emotion="fear")
                                       for i in v.intervals)) if v.subject == "s2" else v
            for v in rgbd.videos
        )
    )  # fmt: skip
    clean, dirty = trained("s2"), run(poisoned, wanted=("s2",))[-1]
    for found, expected in zip(leaves(clean, 0), leaves(dirty, 0), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_run_that_goes_on_is_bit_identical(rgbd):
    whole = run(rgbd, wanted=("s2",), epochs=2)
    members = plans.loso(SYSTEM, rgbd, "both", Train(), ("s2",))
    mesh = folds_lib.make_mesh(1)
    members, arrays = training.place(SYSTEM, "both", rgbd.streams, members, mesh)
    train = dataclasses.replace(TRAIN, epochs=2)
    rest = list(
        training.train_folds(SYSTEM, "both", members, arrays, train, mesh, whole[0].states, 1)
    )
    for found, expected in zip(leaves(rest[-1], 0), leaves(whole[-1], 0), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_fine_tuning_trains_recognition_alone(rgbd, trained):
    earlier = trained().states.variables
    config = dataclasses.replace(CONFIG, classes="seven", fine_tune=True)
    system = build(config, {})
    members = plans.loso(system, rgbd, "both", Train())
    mesh = folds_lib.make_mesh(1)
    members, arrays = training.place(system, "both", rgbd.streams, members, mesh)
    states = folds_lib.init_state(system, folds_lib.make_optimizer(TRAIN), 0, [0] * len(members))
    begun = system.transfer(states.variables, earlier)
    last = list(
        training.train_folds(
            system, "both", members, arrays, TRAIN, mesh, states._replace(variables=begun)
        )
    )[-1].states.variables["params"]
    flat = jax.tree_util.tree_leaves_with_path
    before = {jax.tree_util.keystr(path): leaf for path, leaf in flat(earlier["params"])}
    for path, leaf in flat(last):
        name = jax.tree_util.keystr(path)
        if "recognition" in name:
            changed = leaf.shape != before[name].shape or not np.array_equal(leaf, before[name])
            assert changed, name
        else:
            np.testing.assert_array_equal(leaf, before[name])
    for path, leaf in flat(begun["params"]):  # the recognition convolution starts from the earlier
        name = jax.tree_util.keystr(path)
        if leaf.shape == before[name].shape:
            np.testing.assert_array_equal(leaf, before[name])


def test_it_learns_to_spot_and_to_recognise(rgbd):
    subjects = ("s0", "s1")
    states = folds_lib.init_state(SYSTEM, folds_lib.make_optimizer(TRAIN), 0, [0] * 2)
    with optimised():
        epochs = run(rgbd, subjects, states=states, epochs=15, learning_rate=5e-3)
    assert np.mean(epochs[-1].losses[0]) < 0.5 * np.mean(epochs[0].losses[0])
    videos_of = scoring.held_out_videos(rgbd, subjects)
    given = (SYSTEM, "both", rgbd, videos_of, epochs[-1].states.variables)
    found = scoring.score_all(*given)
    assert tuple(found) == scoring.curve_names(SYSTEM) == ("both", "both_events")
    inside, outside = [], []
    for curves in found["both"]:
        for video in (v for v in rgbd.videos if v.id in curves):
            scores = curves[video.id]
            assert scores.shape == (video.num_frames, 6) and np.isnan(scores[-3:]).all()
            inside.append(np.nanmean(scores[72:77, 0]))
            outside.append(np.nanmean(scores[40:65, 0]))
    assert np.mean(inside) > np.mean(outside) + 0.3
    events = {name: table for group in found["both_events"] for name, table in group.items()}
    assert np.isnan(events["s1/v0"][2]).all()  # its apex is unknown
    assert np.isfinite(events["s1/v0"][:2]).all() and events["s1/v0"].shape == (3, 6)


def test_frames_without_depth_lack_scene_flow_only(rgbd):
    first = rgbd.videos[0]
    optical = build(Sfamnet(flow="optical"), {})
    for system, missing in ((SYSTEM, 5), (optical, 0)):
        valid = rgbd.streams[system.valid("both")][first.rows] > 0
        table = system.targets(first, valid, "both")
        assert (table["event"] == 0).sum() == first.num_frames - 3 - missing


def test_configs_that_do_not_fit_are_refused():
    demo = load_config("configs/sfamnet_demo.py")
    with pytest.raises(UserError, match="system.flow=hybrid: features.scene is false"):
        override(demo, ["features.scene=false"])
    with pytest.raises(UserError, match="nothing to start from: set --config.train.start"):
        override(demo, ["system.fine_tune=true"])
    assert override(demo, ["features.scene=false", "system.flow=optical"])
