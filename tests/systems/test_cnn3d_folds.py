"""The 3D-CNN's folds: company, validation, poisoned labels, patience."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import toy_crops

from spotjax.config import Cnn3d, Cnn3dFeatures, Config, Evaluate, Train
from spotjax.data import plans
from spotjax.loso import checkpoints, curves, training
from spotjax.loso import folds as folds_lib
from spotjax.systems import build, losses
from spotjax.types import Interval

CONFIG = Cnn3d(
    size=32,
    channels=(4, 4, 8),
    skips_micro=(1, 2),
    skips_macro=(3, 5),
    k_micro=2,
    k_macro=7,
    stride=4,
)
SYSTEM = build(CONFIG, {})
TRAIN = Train(
    epochs=2,
    batch=8,
    optimizer="adam",
    learning_rate=3e-3,
    validation=1,
    validate_every=1,
    fold_exec="map",
)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def crops():
    return toy_crops()


def loso(data, wanted=(), train=TRAIN):
    return plans.loso(SYSTEM, data, "both", train, wanted)


def run(data, wanted=(), **changes):
    train = dataclasses.replace(TRAIN, **changes)
    mesh = folds_lib.make_mesh(1)
    members, arrays = training.place(SYSTEM, "both", data.streams, loso(data, wanted, train), mesh)
    return list(training.train_folds(SYSTEM, "both", members, arrays, train, mesh))


def same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def pick(tree, fold):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[fold], tree)


@pytest.fixture(scope="module")
def whole(crops):
    return run(crops)


def test_folds_beside_others_equal_folds_alone(crops, whole):
    assert [len(loss) for loss in whole[0].losses] == [-(-f.size // 8) for f in loso(crops)]
    alone = run(crops, ("s2",))
    same(pick(alone[-1].states, 0), pick(whole[-1].states, 2))
    same(pick(alone[-1].best, 0), pick(whole[-1].best, 2))
    start = folds_lib.init_state(SYSTEM, folds_lib.make_optimizer(TRAIN), 0, [0])
    moved = jax.tree.map(
        lambda a, b: np.abs(a[0] - b[0]).max(), whole[-1].states.variables, start.variables
    )
    assert all(value > 0 for value in jax.tree.leaves(moved))


def test_merits_are_the_loss_on_the_validation_videos(crops, whole):
    train, mesh = TRAIN, folds_lib.make_mesh(1)
    members, arrays = training.place(SYSTEM, "both", crops.streams, loso(crops), mesh)
    judged = members[1].judged
    assert len(judged["row"]) > train.batch and len(judged["row"]) % train.batch
    root = jax.random.fold_in(jax.random.key(0), 0)
    key, total = jax.random.fold_in(root, 1), 0.0
    for number, first in enumerate(range(0, len(judged["row"]), train.batch)):
        mine = {name: column[first : first + train.batch] for name, column in judged.items()}
        count = len(mine["row"])
        filled = (
            {  # a batch is filled with its table's first sample
                name: np.concatenate(
                    [column, np.repeat(judged[name][:1], train.batch - count, axis=0)]
                )
                for name, column in mine.items()
            }
            | {"judged": np.ones(train.batch)}
        )
        given = SYSTEM.inputs(arrays, filled, jax.random.fold_in(key, number), "both")
        (logits, label), _ = jax.jit(SYSTEM.apply, static_argnums=3)(
            pick(whole[-1].states.variables, 1), given, jnp.ones(train.batch), False, KEY
        )
        weight = jnp.ones(count)
        total += count * losses.weighted_binary(logits[:count], label[:count], weight, (1, 1), 1.0)
    np.testing.assert_allclose(whole[-1].merits[1, 0], -total / len(judged["row"]), rtol=1e-4)


def poisoned(data, subject):
    """`data` with other labels for a subject."""
    wrong = (Interval(0, 2, 20, "micro"), Interval(1, 3, 8, "macro"))
    return data._replace(
        videos=tuple(
            v._replace(intervals=wrong) if v.subject == subject else v for v in data.videos
        )
    )


def test_labels_of_the_held_out_subject_change_nothing(crops, whole, tmp_path):
    other = poisoned(crops, "s2")
    alone = run(other, ("s2",))
    same(pick(alone[-1].states, 0), pick(whole[-1].states, 2))
    same(pick(alone[-1].best, 0), pick(whole[-1].best, 2))
    train = dataclasses.replace(TRAIN, folds=("s2",))
    config = Config(
        name="toy",
        features=Cnn3dFeatures(size=32),
        system=CONFIG,
        train=train,
        evaluation=Evaluate(threshold_choice="validation"),
    )
    with checkpoints.Checkpoints(tmp_path, "both") as store:
        meta = {"epochs": 2, "subjects": ["s2"]}
        store.save(2, alone[-1].states, meta, alone[-1].best)
        store.wait()
    clean, dirty = (
        curves.chosen_options(tmp_path, config, data, SYSTEM, {}) for data in (crops, other)
    )
    assert clean == dirty and set(clean) == {"s2"}
    assert set(clean["s2"]) == {"threshold_micro", "threshold_macro"}
    [fold] = loso(crops, ("s2",))
    [aside] = fold.validation
    moved = curves.chosen_options(
        tmp_path, config, poisoned(crops, aside.split("/")[0]), SYSTEM, {}
    )
    assert moved != clean  # those of the validation video do count


def test_a_stopped_fold_stands_still(crops, whole):
    train = dataclasses.replace(TRAIN, patience=1)
    mesh = folds_lib.make_mesh(1)
    members, arrays = training.place(SYSTEM, "both", crops.streams, loso(crops), mesh)
    first = whole[0]
    waited = np.array([0, 1, 0, 0], np.int32)  # the second one has run out of patience
    best = first.best._replace(waited=waited)
    [second] = training.train_folds(
        SYSTEM, "both", members, arrays, train, mesh, first.states, 1, best=best
    )
    assert [len(loss) for loss in second.losses] == [
        0 if position == 1 else len(loss) for position, loss in enumerate(whole[1].losses)
    ]
    for position in range(4):
        expected = first.states if position == 1 else whole[1].states
        same(pick(second.states, position), pick(expected, position))
    same(pick(second.best, 1), pick(best, 1))
    same(pick(second.best.variables, 2), pick(whole[1].best.variables, 2))
