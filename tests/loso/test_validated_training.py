"""Folds judged by validation videos: what stays, when they stop, several initialisations."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spotjax.config import Config, Mesnet, MesnetFeatures, Train
from spotjax.data import plans, rows, splits
from spotjax.errors import UserError
from spotjax.loso import checkpoints, start, training
from spotjax.loso import folds as folds_lib
from spotjax.systems import build
from spotjax.types import System

# --- a system whose validation is a script --------------------------------------------------------
#
# Its only parameter counts the updates, and its merit after so many updates is looked up in a
# table: what validation likes is known beforehand.


def scripted(merits):
    """A `System` of one parameter w; merits f32[U, K] or f32[U]: after w updates."""
    table = jnp.asarray(merits, jnp.float32).reshape(len(merits), -1)

    def targets(video, valid, problem):
        return {"row": np.arange(video.first_row, video.first_row + 4, dtype=np.int32)}

    def apply(variables, inputs, weight, train, key):
        return (variables["params"]["w"], inputs), variables

    return System(
        name="scripted",
        problems=("both",),
        targets=targets,
        select=lambda samples, rng, problem: samples,
        init=lambda key: {"params": {"w": jnp.zeros(())}},
        inputs=lambda arrays, samples, key, problem: arrays["energy"][samples["row"]],
        apply=apply,
        loss=lambda outputs, samples, weight: (-outputs[0], {}),  # each update of sgd(1) adds 1
        scores=lambda outputs: outputs[1],
        decode=lambda curves, valid, **overrides: ([], {}),
        streams=lambda problem: ("energy",),
        valid=lambda problem: "valid_both",
        judge=lambda outputs, samples: jnp.broadcast_to(
            table[jnp.round(outputs[0]).astype(jnp.int32)][None], (len(outputs[1]), table.shape[1])
        ),
        merits=table.shape[1],
    )


ONE_STEP = Train(batch=1000, learning_rate=1.0, validation=1, validate_every=1, epochs=6)
"""One update an epoch."""


def run(data, system, train, wanted=("s0", "s2"), states=None, first=0, best=None):
    mesh = folds_lib.make_mesh(1)
    (problem,) = system.problems
    members = plans.initialised(plans.loso(system, data, problem, train, wanted),
                                train.initialisations)  # fmt: skip
    members, arrays = training.place(system, problem, data.streams, members, mesh)
    epochs = training.train_folds(
        system, problem, members, arrays, train, mesh, states, first, best=best
    )
    return list(epochs)


def changed(train=ONE_STEP, **changes):
    return dataclasses.replace(train, **changes)


def same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def weights(tree):
    return np.asarray(tree["params"]["w"]).tolist()


def test_the_best_parameters_are_kept_and_of_equals_the_earlier(clips):
    system = scripted([0, 0.1, 0.5, 0.3, 0.5, 0.4, 0.2])
    epochs = run(clips, system, ONE_STEP)
    assert [weights(e.states.variables)[0] for e in epochs] == [1, 2, 3, 4, 5, 6]
    assert [weights(e.variables)[0] for e in epochs] == [1, 2, 2, 2, 2, 2]
    assert [e.best.epoch.tolist() for e in epochs] == [[1, 1]] + 5 * [[2, 2]]
    assert [e.best.waited.tolist() for e in epochs] == [[n, n] for n in (0, 0, 1, 2, 3, 4)]
    np.testing.assert_allclose([e.merits[0, 0] for e in epochs], [0.1, 0.5, 0.3, 0.5, 0.4, 0.2])
    np.testing.assert_allclose(epochs[-1].best.merits, [[0.5], [0.5]])
    assert [e.last for e in epochs] == [False] * 5 + [True]


def test_a_continued_training_remembers_what_it_liked(clips):
    system = scripted([0, 0.1, 0.9, 0.3, 0.4, 0.1, 0.2])
    train = changed(patience=4)
    epochs = run(clips, system, train)
    middle = epochs[3]
    rest = run(clips, system, train, states=middle.states, first=4, best=middle.best)
    assert [e.number for e in rest] == [4, 5]
    for found, expected in zip(rest, epochs[4:], strict=True):
        same(found.best, expected.best)
    assert weights(rest[-1].variables) == [2, 2] and rest[-1].best.waited.tolist() == [4, 4]


def test_a_second_merit_breaks_ties(clips):
    merits = [(0, 0), (0.5, -3), (0.5, -2), (0.4, 9), (0.5, -2), (0.6, -9), (0.5, 0)]
    epochs = run(clips, scripted(merits), ONE_STEP)
    assert [int(e.best.epoch[0]) for e in epochs] == [1, 2, 2, 2, 5, 5]


def test_folds_are_judged_every_so_many_epochs_and_at_the_end(clips):
    system = scripted([0, 9, 1, 9, 2, 3, 9, 2.5])
    epochs = run(clips, system, changed(validate_every=2, epochs=5))
    assert [e.merits is not None for e in epochs] == [False, True, False, True, True]
    assert [int(e.best.epoch[0]) for e in epochs] == [0, 2, 2, 4, 5]
    assert weights(epochs[0].variables) == [0, 0]  # what training began with
    assert np.isneginf(epochs[0].best.merits).all()


def test_a_training_without_judging_keeps_the_last(clips):
    epochs = run(clips, scripted([0, 9, 1, 1]), changed(validate_every=0, epochs=3))
    assert epochs[-1].best is None and epochs[-1].merits is None
    assert weights(epochs[-1].variables) == [3, 3]


def test_patience_ends_the_training_when_every_fold_has_stopped(clips):
    system = scripted([0, 0.5, 0.1, 0.2, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    epochs = run(clips, system, changed(patience=2, epochs=10))
    assert len(epochs) == 3 and [e.last for e in epochs] == [False, False, True]
    assert weights(epochs[-1].variables) == [1, 1]  # 0.9 was never reached
    later = run(clips, system, changed(patience=2, epochs=10, patience_after=3))
    # validations up to the third update try no patience, so that the fourth is seen
    assert [e.best.waited[0] for e in later] == [0, 0, 0, 0, 1, 2]
    assert len(later) == 6 and later[-1].last and weights(later[-1].variables) == [4, 4]


def test_a_stopped_fold_stands_still_while_others_go_on(clips):
    system = scripted([0, 0.5] + [0.1] * 20)
    system = system._replace(  # later rows are liked the better, the more updates: fold s0 goes on
        judge=lambda outputs, samples: jnp.where(
            outputs[1].max() > 50, outputs[0], -outputs[0]
        ) * jnp.ones((len(outputs[1]), 1)),
    )  # fmt: skip
    marked = dict(clips.streams)
    train = changed(patience=2, epochs=7)
    folds = plans.loso(system, clips, "both", train, ("s0", "s2"))
    loud = {v.id: v for v in clips.videos}[folds[0].validation[0]]
    assert loud.id not in folds[1].validation
    marked["energy"] = marked["energy"].copy()
    marked["energy"][loud.rows] = 99
    epochs = run(clips._replace(streams=marked), system, train)
    steps = [e.states.step.tolist() for e in epochs]
    assert steps == [[1, 1], [2, 2], [3, 3], [4, 3], [5, 3], [6, 3], [7, 3]]
    assert [[len(loss) for loss in e.losses] for e in epochs] == [[1, 1]] * 3 + [[1, 0]] * 4
    for epoch in epochs[3:]:
        same([leaf[1] for leaf in jax.tree.leaves(epoch.states)],
             [leaf[1] for leaf in jax.tree.leaves(epochs[2].states)])  # fmt: skip
    assert weights(epochs[-1].variables) == [7, 1] and epochs[-1].last
    assert epochs[-1].best.waited.tolist() == [0, 2]


def test_states_come_back_when_a_checkpoint_is_due(clips):
    system = scripted([0] + [0.1] * 9)
    train = changed(epochs=7, checkpoint_every=3, validate_every=0)
    kept = [weights(e.states.variables)[0] for e in run(clips, system, train)]
    assert kept == [0, 0, 3, 3, 3, 6, 7]
    train = changed(epochs=7, checkpoint_every=3, validate_every=2)
    kept = [weights(e.states.variables)[0] for e in run(clips, system, train)]
    assert kept == [0, 2, 3, 4, 4, 6, 7]


# --- MESNet's pre-training ------------------------------------------------------------------------

CONFIG = Mesnet(size=32, none_ratio=1.0, macro_ratio=0.5)
STAGE = build(CONFIG, {}).before
TRAIN = Train(
    epochs=3,
    batch=4,
    learning_rate=1e-2,
    momentum=0.9,
    validation=0.3,
    validation_of="videos",
    validate_every=1,
    initialisations=2,
    fold_exec="map",
)


@pytest.fixture(scope="module")
def whole(clips):
    """Two folds with two initialisations each: s0, s0#1, s2, s2#1."""
    return run(clips, STAGE, TRAIN)


def pick(tree, *folds):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[list(folds)], tree)


def members_of(data, train=TRAIN, wanted=("s0", "s2")):
    return plans.initialised(plans.loso(STAGE, data, "pretrain", train, wanted),
                             train.initialisations)  # fmt: skip


def test_validation_merits_are_accuracy_and_cross_entropy(clips, whole):
    members = members_of(clips)
    for number, fold in enumerate(members):
        table, size = fold.judged, plans.size(fold.judged)
        assert size > 0 and set(table["label"]) == {0, 1}
        given = STAGE.inputs(clips.streams, table, None, "pretrain")
        given["flow"] = jnp.asarray(given["flow"])
        variables = jax.tree.map(lambda leaf, n=number: leaf[n], whole[-1].states.variables)
        (logits, _), _ = jax.jit(STAGE.apply, static_argnums=3)(
            variables, given, jnp.ones(size), False, jax.random.key(0)
        )
        log_p = np.asarray(jax.nn.log_softmax(logits))[np.arange(size), table["label"]]
        right = np.argmax(logits, axis=1) == table["label"]
        np.testing.assert_allclose(
            whole[-1].merits[number], [right.mean(), log_p.mean()], rtol=1e-4
        )


def test_initialisations_differ_and_share_everything_else(clips, whole):
    first, second = members_of(clips)[:2]
    assert (first.name, second.name) == ("s0", "s0#1") and first.subject == second.subject
    same(first.samples, second.samples)
    which = [fold.initialisation for fold in members_of(clips)]
    states = folds_lib.init_state(STAGE, folds_lib.make_optimizer(TRAIN), 0, which)
    kernels = states.variables["params"]["head"]["dense1"]["kernel"]
    same(kernels[[0, 1]], kernels[[2, 3]])
    assert not np.array_equal(kernels[0], kernels[1])
    trained = whole[-1].states.variables["params"]["head"]["dense1"]["kernel"]
    assert len({trained[i].tobytes() for i in range(4)}) == 4
    keys = folds_lib.fold_keys(0, 0, [(0, 0), (0, 1), (1, 0), (1, 1)])  # of dropout
    assert len(np.unique(keys, axis=0)) == 4
    losses = whole[0].losses
    assert [loss.shape for loss in losses] == [(3,)] * 4 and losses[0][0] != losses[1][0]


def test_an_initialisation_does_not_depend_on_its_company(clips, whole):
    wanted = [members_of(clips)[number] for number in (3, 0)]  # s2#1, s0
    mesh = folds_lib.make_mesh(1)
    members, arrays = training.place(STAGE, "pretrain", clips.streams, wanted, mesh)
    two = changed(TRAIN, epochs=2)
    pair = list(training.train_folds(STAGE, "pretrain", members, arrays, two, mesh))
    same(pair[-1].states, pick(whole[1].states, 3, 0))
    same(pair[-1].best, pick(whole[1].best, 3, 0))
    [together] = run(clips, STAGE, changed(TRAIN, epochs=1, fold_exec="vmap"))
    for found, expected in zip(
        jax.tree.leaves(together.states.variables),
        jax.tree.leaves(whole[0].states.variables),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_chunks_give_the_same(clips, whole):
    # the second group is padded
    chunked = run(clips, STAGE, changed(TRAIN, epochs=2, fold_chunk=3))
    for found, expected in zip(chunked, whole[:2], strict=True):
        same(found.states, expected.states)
        same(found.best, expected.best)
        same(found.merits, expected.merits)


def test_a_continued_training_is_bit_identical(clips, whole, tmp_path):
    config = Config(name="toy", features=MesnetFeatures(size=32), system=CONFIG)
    members = members_of(clips)
    subjects = [fold.subject for fold in members]
    with checkpoints.Checkpoints(tmp_path, "pretrain") as store:
        middle = whole[0]
        meta = {"epochs": 1, "of": 3, "subjects": subjects}
        store.save(1, middle.states, meta, middle.best)
        store.wait()
        assert store.latest == 1 and not store.finished
        with pytest.raises(UserError, match="pretrain is trained for 1 of 3 epochs"):
            checkpoints.read_finished(tmp_path, "pretrain")
        states, best = start.states(config, TRAIN, STAGE, "pretrain", clips, members, store)
    same(states, middle.states)
    assert isinstance(best, training.Best)
    same(best, middle.best)
    rest = run(clips, STAGE, TRAIN, states=states, first=1, best=best)
    assert [e.number for e in rest] == [1, 2]
    same(rest[-1].states, whole[-1].states)
    same(rest[-1].best, whole[-1].best)
    same(rest[-1].losses, whole[-1].losses)


def test_the_best_initialisation_is_what_a_training_ends_with(clips, whole, tmp_path):
    last = whole[-1]
    subjects = [fold.subject for fold in members_of(clips)]
    assert subjects == ["s0", "s0", "s2", "s2"]
    merits = np.array([[0.5, -1], [0.5, -0.5], [0.9, -3], [0.8, -1]], np.float32)
    best = last.best._replace(merits=merits, epoch=np.array([1, 2, 3, 4], np.int32))
    with checkpoints.Checkpoints(tmp_path, "pretrain") as store:
        store.save(4, last.states, {"epochs": 4, "of": 4, "subjects": subjects}, best)
        store.wait()
        assert store.finished
    found = checkpoints.read_finished(tmp_path, "pretrain")
    assert found.subjects == ["s0", "s2"]
    assert found.epochs == {"s0": 2, "s2": 3}
    np.testing.assert_allclose(found.merits["s0"], [0.5, -0.5])
    same(found.variables, pick(best.variables, 1, 2))
    with checkpoints.Checkpoints(tmp_path, "other") as store:
        store.save(4, pick(last.states, 0, 2), {"epochs": 4, "subjects": ["s0", "s2"]})
        store.wait()
    plain = checkpoints.read_finished(tmp_path, "other")
    assert plain.subjects == ["s0", "s2"] and plain.merits == {} and plain.epochs == {}
    same(plain.variables, pick(last.states.variables, 0, 2))


def test_the_main_stage_begins_with_the_fold_of_its_subject(clips, whole, tmp_path):
    system = build(CONFIG, {})
    config = Config(name="toy", features=MesnetFeatures(size=32), system=CONFIG)
    train = changed(TRAIN, validate_every=0, initialisations=1)
    before = checkpoints.Finished(pick(whole[-1].best.variables, 0, 2), ["s0", "s2"], {}, {})
    order = plans.loso(system, clips, "both", train, ("s0", "s2"))[::-1]
    with checkpoints.Checkpoints(tmp_path, "both") as store:
        states, best = start.states(config, train, system, "both", clips, order, store, before)
        assert best is None
        for part in ("spatial", "temporal"):
            same(states.variables["params"][part], pick(before.variables["params"][part], 1, 0))
        assert len(set(states.variables["constants"]["scale"].tolist())) == 2
        other = plans.loso(system, clips, "both", train, ("s1",))
        with pytest.raises(UserError, match="stage before: has no fold that held out s1"):
            start.states(config, train, system, "both", clips, other, store, before)


# --- validation videos ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("validation", "of", "count"),
    [
        (0.3, "videos", 2),
        (2, "videos", 2),
        (0.5, "videos", 3),
        (1, "subjects", 2),
        (0.3, "subjects", 2),
    ],
)
def test_videos_kept_aside_are_no_samples(clips, validation, of, count):
    train = Train(validation=validation, validation_of=of, validate_every=1)
    stage = STAGE._replace(accepts=None)
    for fold in plans.loso(stage, clips, "pretrain", train):
        assert len(fold.validation) == count
        aside = {v.id: v for v in clips.videos if v.id in fold.validation}
        assert len(aside) == count and all(v.subject != fold.subject for v in aside.values())
        if of == "subjects":
            assert len({v.subject for v in aside.values()}) == 1
        there = np.zeros(len(clips.streams["energy"]), bool)
        for video in aside.values():
            there[video.rows] = True
        assert not there[fold.samples["row"]].any() and there[fold.judged["row"]].all()
        both = [splits.validation_videos(system._replace(accepts=None), clips, fold.subject, train)
                for system in (STAGE, build(CONFIG, {}))]  # fmt: skip
        assert both == [fold.validation] * 2


def test_a_share_that_leaves_nothing_is_refused(clips):
    train = Train(validation=0.7, validation_of="subjects")  # of 3 others 0.9 would stay: none
    with pytest.raises(UserError, match="leaves nothing to train on: fold s0 has 3 other subjects"):
        splits.validation_videos(STAGE, clips, "s0", train)


def test_rows_of_validation_samples_lie_on_the_device(clips):
    folds = plans.loso(STAGE, clips, "pretrain", TRAIN, ("s0",))
    used = rows.used(folds, 1, len(clips.streams["energy"]))
    tables = (folds[0].samples["row"], folds[0].judged["row"])
    assert used.frames.tolist() == np.unique(np.concatenate([t.ravel() for t in tables])).tolist()
    [moved] = rows.renumbered(folds, used)
    for table, placed in zip(tables, (moved.samples, moved.judged), strict=True):
        np.testing.assert_array_equal(used.frames[placed["row"]], table)
