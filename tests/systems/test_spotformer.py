"""SpotFormer as a system: samples, loss, folds; the network itself has its own tests."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spotjax.cli import load_config, override
from spotjax.config import Spotformer, Train
from spotjax.data import plans
from spotjax.errors import UserError
from spotjax.loso import folds as folds_lib
from spotjax.loso import scoring, training
from spotjax.systems import build
from spotjax.systems.spotformer_net import Outputs
from spotjax.types import Interval, Video

# two down-samplings instead of four, to compile in half the time
CONFIG = Spotformer(window=5, paddings=(0, 1), width=8, heads=2, head_width=4, mlp_width=8,
                    dropout=0.1)  # fmt: skip
SYSTEM = build(CONFIG, {})
TRAIN = Train(epochs=2, batch=4, optimizer="adamw", learning_rate=1e-3, beta1=0.7, beta2=0.9,
              weight_decay=0.1, decay=0.9)  # fmt: skip


@pytest.fixture(scope="module")
def toy(toy):
    """The toy data set with clips of five frames, as `CONFIG` reads them."""
    clips = toy.streams["swmro"]
    middle = clips[:, 6:11] - clips[:, 6:7]  # from their own first frame
    return toy._replace(streams={**toy.streams, "swmro": middle})


@pytest.fixture(scope="module")
def trained(toy):
    """The last epoch of the folds of some subjects (of none: all); each run is made once.

    Plain SGD: AdamW's first steps turn rounding of a zero gradient into a whole step.
    """
    return cache(lambda *wanted: run(toy, wanted, **PLAIN)[-1])


PLAIN = {"optimizer": "sgd", "learning_rate": 1e-2}


def run(toy, wanted=(), mesh=None, **changes):
    train = dataclasses.replace(TRAIN, **changes)
    mesh = mesh or folds_lib.make_mesh(1)
    members = plans.loso(SYSTEM, toy, "both", Train(), wanted)
    members, arrays = training.place(SYSTEM, "both", toy.streams, members, mesh)
    return list(training.train_folds(SYSTEM, "both", members, arrays, train, mesh))


def leaves(epoch, fold):
    return [np.asarray(leaf)[fold] for leaf in jax.tree.leaves(epoch.states)]


def test_samples_are_blocks_with_an_expression():
    video = Video("s", "v", 30.0, 1000, 70, np.arange(70), (Interval(20, 22, 25, "micro"),
                  Interval(40, 50, 66, "macro")))  # fmt: skip
    valid = np.ones(70, bool)
    valid[:24] = False
    table = SYSTEM.targets(video, valid, "both")
    assert table["row"].tolist() == [1016, 1032, 1048, 1064]
    assert table["there"].sum(axis=1).tolist() == [8, 16, 16, 6]  # no face; the video's end
    assert table["micro_edge"].shape == (4, 16) and table["class"][0, 4:10].tolist() == [2] * 6
    everything = build(dataclasses.replace(CONFIG, only_expressions=False), {})
    assert len(everything.targets(video, valid, "both")["row"]) == 4  # block 0 has no face at all
    nothing = SYSTEM.targets(video._replace(intervals=()), valid, "both")
    assert len(nothing["row"]) == 0


def batch_of(toy, count):
    table = plans.loso(SYSTEM, toy, "both", Train())[0].samples
    return {name: column[:count] for name, column in table.items()}


def test_padding_reaches_neither_loss_nor_gradient(toy):
    variables = jax.jit(SYSTEM.init)(jax.random.key(1))

    @jax.jit
    def loss_and_grads(batch, weight, arrays):
        def objective(params):
            inputs = SYSTEM.inputs(arrays, batch, jax.random.key(2), "both")
            given = {**variables, "params": params}
            outputs, _ = SYSTEM.apply(given, inputs, weight, True, jax.random.key(3))
            return SYSTEM.loss(outputs, batch, weight)[0]

        return jax.value_and_grad(objective)(variables["params"])

    arrays = dict(toy.streams)
    batch = batch_of(toy, 5)
    other = {name: np.concatenate([c[:3], c[::-1][:2]]) for name, c in batch_of(toy, 9).items()}
    assert not np.array_equal(batch["row"], other["row"])
    weight = np.array([1, 1, 1, 0, 0], np.float32)
    loss, grads = loss_and_grads(batch, weight, arrays)
    again, expected = loss_and_grads(other, weight, arrays)
    assert loss == again and np.isfinite(loss)
    for found, wanted in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(found, wanted)
    zero, grads = loss_and_grads(batch, 0 * weight, arrays)
    assert zero == 0 and not any(np.any(leaf) for leaf in jax.tree.leaves(grads))
    whole, _ = loss_and_grads(batch, np.ones(5, np.float32), arrays)
    assert abs(whole - loss) > 1e-4  # the weight is not ignored


def test_terms_add_up_and_follow_the_weights(toy):
    batch, weight = batch_of(toy, 4), jnp.ones(4)
    rng = np.random.default_rng(0)
    outputs = Outputs(jnp.asarray(rng.normal(size=(64, 10)), jnp.float32),
                      jnp.asarray(rng.normal(size=(64, 8)), jnp.float32))  # fmt: skip
    total, terms = SYSTEM.loss(outputs, batch, weight)
    assert len(terms) == 7 and abs(total - sum(terms.values())) < 1e-6
    light = build(dataclasses.replace(CONFIG, macro_weight=0.0, contrastive=0.0), {})
    only_micro, rest = light.loss(outputs, batch, weight)
    assert rest["macro_edge"] == 0 and rest["contrastive"] == 0
    micro = sum(value for name, value in terms.items() if name.startswith("micro"))
    assert abs(only_micro - micro) < 1e-6


def test_a_fold_does_not_depend_on_the_others(toy, trained):
    together = trained()
    for position in (0, 2):
        alone = trained(toy.subjects[position])
        for found, expected in zip(leaves(together, position), leaves(alone, 0), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-6)
    states = folds_lib.init_state(SYSTEM, folds_lib.make_optimizer(TRAIN), 0, [0])
    start = jax.tree.leaves(states.variables["params"])
    trained = jax.tree.leaves(together.states.variables["params"])
    moved = zip(trained, start, strict=True)
    assert max(np.abs(a[2] - b[0]).max() for a, b in moved) > 1e-3


def test_side_by_side_equals_one_after_another(toy, trained):
    together, sequence = run(toy, fold_exec="vmap", **PLAIN)[-1], trained()
    for found, expected in zip(
        jax.tree.leaves(together.states), jax.tree.leaves(sequence.states), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_the_held_out_subjects_labels_never_reach_training(toy, trained):
    poisoned = toy._replace(
        videos=tuple(
            v._replace(intervals=(Interval(0, 5, 60, "micro"),)) if v.subject == "s2" else v
            for v in toy.videos
        )
    )
    clean, dirty = trained("s2"), run(poisoned, ("s2",), **PLAIN)[-1]
    for found, expected in zip(leaves(clean, 0), leaves(dirty, 0), strict=True):
        np.testing.assert_array_equal(found, expected)
    other, same = run(poisoned, ("s0",), **PLAIN)[-1], trained("s0")
    assert any(
        not np.array_equal(a, b) for a, b in zip(leaves(same, 0), leaves(other, 0), strict=True)
    )


def test_a_run_that_goes_on_is_bit_identical(toy):
    whole = run(toy, wanted=("s2",), epochs=3)
    members = plans.loso(SYSTEM, toy, "both", Train(), ("s2",))
    mesh = folds_lib.make_mesh(1)
    members, arrays = training.place(SYSTEM, "both", toy.streams, members, mesh)
    train = dataclasses.replace(TRAIN, epochs=3)
    rest = list(
        training.train_folds(SYSTEM, "both", members, arrays, train, mesh, whole[0].states, 1)
    )
    for found, expected in zip(leaves(rest[-1], 0), leaves(whole[-1], 0), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_the_step_size_falls_and_only_kernels_decay(toy):
    start = jax.eval_shape(SYSTEM.init, jax.random.key(0))["params"]
    flags = folds_lib.decayed(start)
    named = jax.tree_util.tree_leaves_with_path(flags)
    assert {getattr(path[-1], "key", "") for path, flag in named if flag} == {"kernel"}
    assert sum(not flag for _, flag in named) > sum(flag for _, flag in named)
    epochs = run(toy, wanted=("s0",), decay=1e-8)
    for first, second in zip(
        jax.tree.leaves(epochs[0].states.variables["params"]),
        jax.tree.leaves(epochs[1].states.variables["params"]), strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(first, second, atol=1e-6)  # the second epoch hardly moves


def test_it_learns_and_scores_every_frame(toy):
    epochs = run(toy, ("s0",), epochs=20)
    assert np.mean(epochs[-1].losses[0]) < 0.75 * np.mean(epochs[0].losses[0])
    videos_of = scoring.held_out_videos(toy, toy.subjects[:1])
    curves = scoring.score_problem(SYSTEM, "both", toy, videos_of, epochs[-1].states.variables)
    video = videos_of[0][0]
    scores = curves[0][video.id]
    assert scores.shape == (video.num_frames, 6) and ((scores > 0) & (scores < 1)).all()
    _, drawn = SYSTEM.decode({"both": scores}, {"both": np.ones(video.num_frames, bool)})
    assert set(drawn) == {"macro", "micro"}


def test_decoding_options_are_free_to_change():
    scores = np.zeros((60, 6), np.float32)
    scores[20, 2], scores[40, 3], scores[30, 5] = 0.9, 0.9, 0.9
    valid = {"both": np.ones(60, bool)}
    found, _ = SYSTEM.decode({"both": scores}, valid)
    assert [d[:4] for d in found] == [(20, 30, 40, "macro")]
    assert SYSTEM.decode({"both": scores}, valid, apex_threshold=0.95)[0] == []
    assert SYSTEM.decode({"both": scores}, valid, range_macro=[1, 5])[0] == []


def test_a_window_that_does_not_fit_is_refused():
    with pytest.raises(UserError, match="window 25 with paddings .* leaves 2 frames"):
        build(Spotformer(window=25), {})
    demo = load_config("configs/spotformer_demo.py")
    with pytest.raises(UserError, match="system.window=9: features.window is 17: set both alike"):
        override(demo, ["system.window=9"])
