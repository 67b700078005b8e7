"""Folds together, alone, in another order, on other devices and after a kill: the same numbers."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from compiling import on_cpus
from toy import K, small_softnet, toy_dataset

from spotjax.config import Softnet, Train
from spotjax.data import plans
from spotjax.errors import UserError
from spotjax.loso import folds as folds_lib
from spotjax.loso import scoring, training
from spotjax.systems import build

SYSTEM, SMALL = build(Softnet(), K), small_softnet()


def run(
    dataset, problem="macro", wanted=(), devices=1, states=None, first=0, order=1, system=SMALL,
    **options,
):  # fmt: skip
    train = Train(**{"epochs": 1, **options})
    mesh = folds_lib.make_mesh(devices)
    members = plans.loso(system, dataset, problem, train, wanted)[::order]
    members, arrays = training.place(system, problem, dataset.streams, members, mesh)
    epochs = training.train_folds(system, problem, members, arrays, train, mesh, states, first)
    return list(epochs)


def largest_difference(a, b):
    pairs = zip(jax.tree.leaves(a.variables), jax.tree.leaves(b.variables), strict=True)
    return max(float(np.abs(x - y).max()) for x, y in pairs)


def pick(state, *folds):
    return jax.tree.map(lambda leaf: leaf[list(folds)], state)


@pytest.mark.parametrize("problem", ["macro", "micro"])
def test_vmapped_folds_equal_folds_alone(problem):
    toy = toy_dataset(3)
    together = run(toy, problem, fold_exec="vmap", system=SYSTEM)[-1].states
    for index, subject in enumerate(toy.subjects[:2]):
        alone = run(toy, problem, wanted=(subject,), fold_exec="map", system=SYSTEM)[-1].states
        assert largest_difference(pick(together, index), alone) <= 1e-6
    start = folds_lib.init_state(SYSTEM, folds_lib.make_optimizer(Train()), 0, [0] * 3)
    assert largest_difference(together, jax.tree.map(np.asarray, start)) > 1e-4


def test_order_chunks_and_devices_do_not_matter(toy):
    plain = run(toy, fold_exec="map")[-1].states
    for other in (
        pick(run(toy, fold_exec="map", order=-1)[-1].states, 3, 2, 1, 0),
        run(toy, fold_exec="map", fold_chunk=3)[-1].states,
        run(toy, fold_exec="map", devices=2)[-1].states,
    ):
        assert largest_difference(plain, other) == 0


def test_padded_steps_leave_a_fold_as_it_is(toy):
    epoch = run(toy, fold_exec="vmap", batch=7)[-1]
    sizes = [fold.size for fold in plans.loso(SYSTEM, toy, "macro", Train())]
    steps = [-(-size // 7) for size in sizes]
    assert [len(loss) for loss in epoch.losses] == steps == epoch.states.step.tolist()
    assert len(set(steps)) > 1


def test_a_continued_run_is_bit_identical(toy):
    whole = run(toy, epochs=3, optimizer="adam", learning_rate=1e-3)
    rest = run(toy, epochs=3, optimizer="adam", learning_rate=1e-3, states=whole[0].states, first=1)
    assert [e.number for e in rest] == [1, 2]
    jax.tree.map(np.testing.assert_array_equal, whole[-1].states, rest[-1].states)


def test_the_seed_matters_and_the_loss_falls(toy):
    epochs = run(toy, epochs=4, learning_rate=0.02)
    assert np.mean(epochs[-1].losses[0]) < 0.7 * np.mean(epochs[0].losses[0])
    assert largest_difference(epochs[0].states, run(toy, seed=1, learning_rate=0.02)[0].states) > 0


def test_a_non_finite_loss_names_the_fold(toy):
    with pytest.raises(UserError, match="macro, fold s1: the loss is (nan|inf) at step"):
        run(toy, wanted=("s1", "s2"), learning_rate=1e20)


def test_no_collectives_and_one_compilation(toy):
    mesh = folds_lib.make_mesh(2)
    members = plans.loso(SYSTEM, toy, "macro", Train())
    optimizer = folds_lib.make_optimizer(Train())
    epoch = folds_lib.make_epoch(SYSTEM, "macro", optimizer, mesh, "vmap")
    folded = (
        folds_lib.init_state(SYSTEM, optimizer, 0, [0] * 4),
        folds_lib.fold_keys(0, 0, [(0, 0), (1, 0), (2, 0), (3, 0)]),
        plans.stack([fold.samples for fold in members]),
        plans.epoch_order(members, 0, 0, 0, 12),
        training.step_sizes(members, Train(), 0),
    )
    placed = folds_lib.put(folded, mesh, folds_lib.FOLD)
    _, arrays = training.place(SYSTEM, "macro", toy.streams, members, mesh)
    text = epoch.lower(*placed, arrays).compile().as_text()
    for word in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
        assert word not in text


def test_scores_come_from_the_fold_that_held_the_subject_out(toy):
    states = run(toy, learning_rate=0.05)[-1].states
    videos_of = scoring.held_out_videos(toy, toy.subjects)
    found = scoring.score_problem(SMALL, "macro", toy, videos_of, states.variables)
    curves = {name: curve for group in found for name, curve in group.items()}
    video = toy.videos[2]
    curve = curves[video.id]
    assert curve.shape == (video.num_frames,) and np.isnan(curve[-K["macro"] :]).all()
    images = SMALL.inputs(toy.streams, {"row": np.arange(10) + video.first_row}, None, "macro")
    own, other = (jax.tree.map(lambda leaf, f=f: leaf[f], states.variables) for f in (2, 1))
    outputs, _ = SMALL.apply(own, images, np.ones(10), False, None)
    np.testing.assert_allclose(curve[:10], outputs, atol=1e-6)
    others, _ = SMALL.apply(other, images, np.ones(10), False, None)
    assert np.abs(curve[:10] - others).max() > 1e-4


CHILD = """
import sys
sys.path[:0] = ["tests", "tests/loso"]
import jax
import numpy as np
from toy import toy_dataset
from test_training import SYSTEM, run
assert len(jax.devices()) == 8
one, eight = (run(toy_dataset(3), devices=n, system=SYSTEM)[-1].states for n in (1, 8))
jax.tree.map(np.testing.assert_array_equal, one, eight)
np.savez(sys.argv[1], *jax.tree.leaves(eight.variables))
"""


@on_cpus
def test_eight_devices_give_the_parameters_of_one(tmp_path):
    target = tmp_path / "8.npz"
    flags = os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=8"
    subprocess.run(
        [sys.executable, "-c", CHILD, str(target)],
        check=True,
        env={**os.environ, "XLA_FLAGS": " ".join(flags), "PYTHONPATH": "."},
        cwd=Path(__file__).parents[2],
    )
    found = run(toy_dataset(3), devices=1, system=SYSTEM)[-1].states
    for one, eight in zip(
        jax.tree.leaves(found.variables), np.load(target).values(), strict=True
    ):  # fmt: skip
        # XLA cuts loops by its number of threads, so this process may round otherwise
        np.testing.assert_allclose(one, eight, atol=1e-7)


@on_cpus
def test_the_need_of_memory_is_told_before_the_first_epoch(toy):
    train = Train(epochs=1)
    mesh = folds_lib.make_mesh(2)
    members = plans.loso(SYSTEM, toy, "macro", Train())
    members, arrays = training.place(SYSTEM, "macro", toy.streams, members, mesh)
    told = []
    epochs = training.train_folds(
        SYSTEM, "macro", members, arrays, train, mesh, planned=told.append
    )
    assert not told and len(list(epochs)) == 1
    [memory] = told
    used = np.unique(np.concatenate([fold.samples["row"] for fold in members]))
    assert memory.features == len(used) * toy.streams["flow_macro"][0].nbytes
    assert memory.folds_at_a_time == 4
    parameters = 314_817 * 4 * 2  # two folds on each of two devices, without Adam's moments
    assert parameters < memory.folds < 2 * parameters and memory.temporary > 1e5


def test_a_fold_that_has_made_its_updates_stands_still(toy):
    batch = min(fold.size for fold in plans.loso(SYSTEM, toy, "macro", Train()))
    epochs = run(toy, updates=2, epochs=5, batch=batch)  # one step an epoch, or more
    sizes = [[len(loss) for loss in epoch.losses] for epoch in epochs]
    assert [sum(made) for made in zip(*sizes, strict=True)] == [2, 2, 2, 2]
    assert [int(step) for step in epochs[-1].states.step] == [2, 2, 2, 2]
    ended = next(f for f in range(4) if sizes[-1][f] == 0)
    before, after = (pick(epoch.states, ended) for epoch in epochs[-2:])
    assert largest_difference(before, after) == 0
