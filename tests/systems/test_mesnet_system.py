"""MESNet as a system: trained, scored and decoded."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compiling import AS_IN_USE
from test_mesnet import CONFIG, KEY, STAGE, SYSTEM, TRAIN, leaves, loso, run, softmax

from spotjax.decoding import clip_labels
from spotjax.decoding.clip_windows import CLIP, starts, windows
from spotjax.loso import folds as folds_lib
from spotjax.loso import scoring
from spotjax.systems import build, mesnet
from spotjax.types import Interval, Video

# --- the whole system -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learning(clips):
    """Eight clips of the first fold, the variables that they start from, and the flow."""
    config = dataclasses.replace(CONFIG, clips_micro=2, clips_none=2)
    [fold] = loso(clips, ("s0",), build(config, {}))
    chosen = np.concatenate([np.arange(4), np.arange(fold.size - 4, fold.size)])
    table = {name: column[chosen] for name, column in fold.samples.items()}
    scale = SYSTEM.constants(clips.streams, clips.streams["valid_both"] > 0)
    variables = jax.jit(SYSTEM.init)(KEY) | {"constants": scale}
    return table, variables, {"flow": jnp.asarray(clips.streams["flow"])}


def terms_of(variables, table, arrays):
    given = SYSTEM.inputs(arrays, table, KEY, "both")
    outputs, _ = SYSTEM.apply(variables, given, jnp.ones(len(table["row"])), False, KEY)
    return SYSTEM.loss(outputs, table, jnp.ones(len(table["row"])))[1]


def test_the_loss_of_the_crn_does_not_reach_the_layers_of_the_cpn(learning):
    table, variables, arrays = learning
    table = {name: column[:2] for name, column in table.items()}

    def crn(params):
        return terms_of(variables | {"params": params}, table, arrays)["crn"]

    slopes = jax.jit(jax.grad(crn))(variables["params"])
    for part, reached in {"cpn": 0, "temporal": 0, "crn": 1, "spatial": 1}.items():
        for path, leaf in jax.tree.leaves_with_path(slopes[part]):
            assert np.any(leaf != 0) == reached, jax.tree_util.keystr(path)


@jax.jit
def errors_of(variables, table, arrays):
    """CPN's loss; CRN's cross-entropy of positive and of other windows; its offsets' errors."""
    given = SYSTEM.inputs(arrays, table, KEY, "both")
    (found, chance), _ = SYSTEM.apply(variables, given, None, False, KEY)
    positive, offsets = mesnet.window_targets(table["truth"])
    surprise = mesnet.cross_entropy(found.logits, positive)
    off = jnp.abs(found.offsets - offsets).sum(axis=-1)
    terms = SYSTEM.loss((found, chance), table, jnp.ones(len(positive)))[1]
    sides = [jnp.mean(surprise, where=side) for side in (positive, ~positive)]
    return terms["cpn"], sum(sides), jnp.mean(off, where=positive)


def test_it_learns_eight_clips(learning):
    table, variables, arrays = learning
    there = [clip_labels.positives(truth).any() for truth in table["truth"]]
    assert there == [True] * 4 + [False] * 4
    system = build(dataclasses.replace(CONFIG, l2=1e-4), {})  # 0.01 takes several times the updates
    optimizer = optax.adam(1e-3)
    step = jax.jit(
        folds_lib.make_step(system, "both", optimizer), compiler_options=AS_IN_USE
    )  # fmt: skip
    state = folds_lib.State(variables, optimizer.init(variables["params"]), jnp.int32(0))
    before = errors_of(variables, table, arrays)
    for number in range(64):
        index = jnp.array([0, 4]) + number % 4
        state, _ = step(state, KEY, table, index, arrays, jnp.ones(2))
    after = errors_of(state.variables, table, arrays)
    for was, now, share in zip(before, after, (0.1, 0.5, 0.75), strict=True):
        assert now < share * was, (before, after)


def test_folds_side_by_side_equal_folds_alone(clips):
    together = run(clips, ("s0", "s2"), fold_exec="vmap")[-1].states
    alone = run(clips, ("s2",), fold_exec="map")[-1].states
    for found, expected in zip(leaves(together, 1), leaves(alone, 0), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    start_state = folds_lib.init_state(SYSTEM, folds_lib.make_optimizer(TRAIN), 0, [0])
    moved = zip(leaves(together, 0), leaves(start_state, 0), strict=True)
    assert max(np.abs(a - b).max() for a, b in moved) > 1e-4


def test_the_backbone_comes_from_the_pretraining():
    earlier = jax.jit(STAGE.init)(jax.random.key(5))
    fresh = jax.jit(SYSTEM.init)(KEY) | {"constants": {"scale": 0.3}}
    found = SYSTEM.transfer(fresh, earlier)
    assert found["constants"] == {"scale": 0.3}  # its own
    for part, expected in (
        ("spatial", earlier), ("temporal", earlier), ("cpn", fresh), ("crn", fresh),
    ):  # fmt: skip
        jax.tree.map(np.testing.assert_array_equal, found["params"][part], expected["params"][part])
    assert set(found["params"]) == set(fresh["params"]) and SYSTEM.frozen is None


# --- scores ---------------------------------------------------------------------------------------


def test_clips_that_are_scored(clips):
    by_id = {video.id: video for video in clips.videos}
    for name in ("s1/v1", "s3/v1"):
        video = by_id[name]
        table = SYSTEM.scored(video, np.ones(video.num_frames, bool), "both")
        assert set(table) == {"row", "length"}
        expected = video.first_row + starts(video.num_frames)
        assert table["row"].tolist() == expected.tolist()
        assert table["length"].tolist() == [min(CLIP, video.num_frames)] * len(expected)
    assert by_id["s1/v1"].num_frames == 70 and by_id["s3/v1"].num_frames == 179
    long = Video("s", "v", 30.0, 7, 285, np.arange(285), ())
    table = SYSTEM.scored(long, np.ones(285, bool), "both")
    assert table["row"].tolist() == [7, 87, 167, 192] and set(table["length"]) == {100}


def test_scores_are_those_of_the_network(clips):
    scale = SYSTEM.constants(clips.streams, clips.streams["valid_both"] > 0)
    variables = [
        jax.jit(SYSTEM.init)(jax.random.key(seed)) | {"constants": scale} for seed in (3, 4)
    ]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *variables)
    last = [v for v in clips.videos if v.subject == "s3"]
    videos_of = [[v for v in clips.videos if v.id == "s1/v1"], last]
    scores = scoring.score_problem(SYSTEM, "both", clips, videos_of, stacked)
    for fold, group in enumerate(videos_of):
        assert set(scores[fold]) == {video.id for video in group}
        for video in group:
            begin = starts(video.num_frames)
            flow = np.zeros((len(begin), CLIP, 32, 32, 2), np.float32)
            for number, first in enumerate(begin):
                piece = clips.streams["flow"][video.rows][first : first + CLIP]
                flow[number, : len(piece)] = piece
            given = {"flow": flow, "length": np.full(len(begin), CLIP)}
            (outputs, _), _ = jax.jit(SYSTEM.apply, static_argnums=3)(
                variables[fold], given, jnp.ones(len(begin)), False, KEY
            )
            expected = np.concatenate(
                [softmax(np.asarray(outputs.proposal))[..., :1],
                 softmax(np.asarray(outputs.logits))[..., :1], outputs.offsets], axis=-1,
            )  # fmt: skip
            found = scores[fold][video.id]
            assert found.shape == (len(begin), 470, 4) and found.dtype == np.float32
            np.testing.assert_allclose(found, expected, atol=2e-6)
    short, valid = scores[0]["s1/v1"], np.ones(70, bool)
    detections, curves = SYSTEM.decode({"both": short}, {"both": valid}, t_cpn=0.0, t_crn=0.0)
    assert detections and max(d.offset for d in detections) <= 69
    assert curves["micro"].score.shape == (70,)


def test_thresholds_are_chosen_on_videos():
    frames = 100
    video = Video("s", "v", 30.0, 0, frames, np.arange(frames), (Interval(40, 46, 52, "micro"),
                  Interval(70, 75, 82, "macro")))  # fmt: skip
    scores = np.zeros((1, 470, 4), np.float32)
    scores[..., :2] = 0.1
    number = {tuple(span): n for n, span in enumerate(windows().tolist())}
    scores[0, number[(40, 52)], :2] = 0.66, 0.62
    scores[0, number[(70, 82)], :2] = 0.55, 0.58  # the macro-expression: wrong
    valid = {"both": np.ones(frames, bool)}
    found = SYSTEM.tune([{"both": scores}], [valid], [video])
    assert found == {"t_cpn": 0.64, "t_crn": 0.6}
    assert len(SYSTEM.decode({"both": scores}, valid)[0]) == 2
    assert [d[:3] for d in SYSTEM.decode({"both": scores}, valid, **found)[0]] == [(40, 46, 52)]
    cpn = build(dataclasses.replace(CONFIG, module="cpn"), {})
    assert cpn.tune([{"both": scores}], [valid], [video]) == {"t_cpn": 0.64, "t_crn": 0.5}
