"""The 3D-CNN as a system: blocks of rows, drawn pairs, scores, thresholds."""

import dataclasses
from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import toy_crops

from spotjax.config import Cnn3d, Train
from spotjax.data import plans
from spotjax.decoding import score_runs
from spotjax.loso import folds as folds_lib
from spotjax.loso import scoring, training
from spotjax.systems import build
from spotjax.types import Interval, Video

REFERENCES = ("forward", "backward", "centred")
SMALL = {"skips_micro": (1, 2), "skips_macro": (3, 5), "k_micro": 2, "k_macro": 7, "stride": 4}
CONFIG = Cnn3d(size=32, channels=(4, 4, 8), **SMALL)
PLAIN = dataclasses.replace(CONFIG, augment=False)
SYSTEM = build(CONFIG, {})
TRAIN = Train(validation=1, validate_every=1)
KEY = jax.random.key(0)
FAST = {"xla_backend_optimization_level": 0}  # compile in half the time

LENGTH = 10
VIDEO = Video(
    "s",
    "v",
    30.0,
    100,
    LENGTH,
    np.arange(LENGTH),
    (Interval(2, 3, 4, "micro"), Interval(4, 5, 8, "macro")),
)
"""Ten rows from row 100 on."""
THERE = np.ones(LENGTH, bool)
NUMBERED = {
    "crops": jnp.asarray(np.arange(200, dtype=np.uint8)[:, None, None] * np.ones(1, np.uint8))
}
"""Crops of 1 px with their row's number."""


def variant(reference, **changes):
    return build(dataclasses.replace(PLAIN, reference=reference, **changes), {})


def rows_of(given):
    """The numbers of the rows [B, n] whose crops were gathered from `NUMBERED`."""
    return np.rint(np.asarray(given["images"])[:, :, 0, 0] * 255).astype(int)


def pair(centre, skip, reference):
    """The two frames of a pair by hand, inside the ten rows."""
    first, second = {
        "forward": (centre, centre + skip),
        "backward": (centre, centre - skip),
        "centred": (centre - skip // 2, centre - skip // 2 + skip),
    }[reference]
    return 100 + min(max(first, 0), LENGTH - 1), 100 + min(max(second, 0), LENGTH - 1)


@pytest.fixture(scope="module")
def crops():
    return toy_crops()


def loso(data, wanted, system):
    return plans.loso(system, data, "both", TRAIN, wanted)


def same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


# --- targets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "row", "at", "ahead"),
    [
        ("forward", (100, 104, 108), (0, 0, 0), (9, 5, 1)),
        ("backward", (100, 100, 103), (0, 4, 5), (9, 9, 6)),  # up to 5 rows back
        ("centred", (100, 102, 106), (0, 2, 2), (9, 7, 3)),  # up to 5 // 2
    ],
)
def test_targets_are_blocks_of_rows(reference, row, at, ahead):
    table = variant(reference).targets(VIDEO, THERE, "both")
    assert table["row"].tolist() == list(row) and table["row"].dtype == np.int32
    assert table["at"].tolist() == list(at) and table["ahead"].tolist() == list(ahead)
    assert table["there"].tolist() == [[1] * 4, [1] * 4, [1, 1, 0, 0]]  # ten rows are no 12
    micro, macro = table["label"][..., 0], table["label"][..., 1]
    assert micro.tolist() == [[0, 0, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert macro.tolist() == [[0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]


def test_rows_without_a_face_are_not_trained_on():
    valid = THERE.copy()
    valid[[1, 4, 5, 6, 7]] = False
    table = SYSTEM.targets(VIDEO, valid, "both")
    assert table["row"].tolist() == [100, 108]  # the second block has none
    assert table["there"].tolist() == [[1, 0, 1, 1], [1, 1, 0, 0]]
    one = build(dataclasses.replace(PLAIN, stride=1), {}).targets(VIDEO, valid, "both")
    assert one["row"].tolist() == [100, 102, 103, 108, 109]
    none = SYSTEM.targets(VIDEO, ~THERE, "both")
    assert {name: len(column) for name, column in none.items()} == dict.fromkeys(table, 0)


# --- pairs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", REFERENCES)
def test_drawn_pairs_stay_in_ranges_and_in_the_video(reference):
    system = variant(reference)
    valid = THERE.copy()
    valid[1] = False
    table = system.targets(VIDEO, valid, "both")
    labels = score_runs.frame_labels(VIDEO)
    centres, possible = (0, 2, 3, 4, 5, 6, 7, 8, 9), {}
    for near in (1, 2):
        for far in (3, 4, 5):
            for centre in centres:
                rows = (*pair(centre, near, reference), *pair(centre, far, reference))
                possible.setdefault(rows, set()).add(centre)
    many = {
        name: np.tile(column, (200, *[1] * (column.ndim - 1))) for name, column in table.items()
    }
    given = system.inputs(NUMBERED, many, KEY, "both")
    drawn = Counter(map(tuple, rows_of(given).tolist()))
    assert set(drawn) == set(possible)  # all skips from the least to the largest, at every frame
    for rows, label in zip(rows_of(given), np.asarray(given["label"]), strict=True):
        assert tuple(label) in {tuple(labels[c].astype(float)) for c in possible[tuple(rows)]}
    assert min(map(min, drawn)) == 100 and max(map(max, drawn)) == 109


def test_a_step_draws_frames_and_skips_anew():
    system = variant("forward")
    table = system.targets(VIDEO, THERE, "both")
    many = {name: np.tile(column, (50, *[1] * (column.ndim - 1))) for name, column in table.items()}
    first, again, other = (
        system.inputs(NUMBERED, many, jax.random.key(seed), "both") for seed in (1, 1, 2)
    )
    same(first, again)
    differ = rows_of(first) != rows_of(other)
    assert (differ.mean(axis=0) > 0.3).all()  # frames of both pairs
    apart = np.diff(rows_of(first)[:, :2], axis=1) != np.diff(rows_of(other)[:, :2], axis=1)
    assert apart.mean() > 0.2
    frames = Counter(rows_of(first)[0::3, 0].tolist())
    assert set(frames) == {100, 101, 102, 103}


@pytest.mark.parametrize("reference", REFERENCES)
def test_scored_pairs_are_k_apart_and_clamped(reference):
    table = variant(reference).scored(VIDEO, THERE, "both")
    assert set(table) == {"row"} and table["row"].dtype == np.int32
    expected = [[*pair(t, 2, reference), *pair(t, 7, reference)] for t in range(LENGTH)]
    assert table["row"].tolist() == expected
    given = variant(reference).inputs(NUMBERED, table, KEY, "both")
    assert set(given) == {"images"} and rows_of(given).tolist() == expected


def test_pairs_by_hand():
    ends = {name: variant(name).scored(VIDEO, THERE, "both")["row"] for name in REFERENCES}
    assert ends["forward"][[0, 2, 3, 9]].tolist() == [
        [100, 102, 100, 107], [102, 104, 102, 109], [103, 105, 103, 109], [109, 109, 109, 109],
    ]  # fmt: skip
    assert ends["backward"][[0, 1, 9]].tolist() == [
        [100, 100, 100, 100], [101, 100, 101, 100], [109, 107, 109, 102],
    ]  # fmt: skip
    assert ends["centred"][[0, 4, 9]].tolist() == [
        [100, 101, 100, 104], [103, 105, 101, 108], [108, 109, 106, 109],
    ]  # fmt: skip


def test_a_skip_may_be_longer_than_the_video():
    system = variant("forward", skips_macro=(30, 40), k_macro=35)
    table = system.targets(VIDEO, THERE, "both")
    assert set(rows_of(system.inputs(NUMBERED, table, KEY, "both"))[:, 3].tolist()) == {109}
    assert set(system.scored(VIDEO, THERE, "both")["row"][:, 3].tolist()) == {109}


def test_validation_sees_the_same_images_every_time(crops):
    arrays = {"crops": jnp.asarray(crops.streams["crops"])}
    video = crops.videos[0]
    table = SYSTEM.targets(video, crops.streams["valid_both"][video.rows] > 0, "both")
    judged = table | {"judged": np.ones(len(table["row"]), np.float32)}
    plain = variant("forward").inputs(arrays, table, KEY, "both")
    for _ in range(2):
        same(SYSTEM.inputs(arrays, judged, KEY, "both"), plain)  # unchanged crops, drawn pairs
    changed = SYSTEM.inputs(arrays, table, KEY, "both")
    same(changed["label"], plain["label"])
    off = np.abs(changed["images"] - plain["images"]).mean(axis=(1, 2, 3))
    assert (off > 0.01).mean() > 0.9
    assert changed["images"].min() >= 0 and np.isfinite(changed["images"]).all()


@pytest.mark.parametrize("reference", REFERENCES)
def test_the_rows_on_the_device_are_all_that_samples_read(crops, reference):
    system = variant(reference)
    folds = loso(crops, ("s1",), system)
    for table in (folds[0].samples, folds[0].judged):
        assert len(table["row"]) > 4
    placed, arrays = training.place(system, "both", crops.streams, folds, folds_lib.make_mesh(1))
    whole = {"crops": jnp.asarray(crops.streams["crops"])}
    assert len(arrays["crops"]) < len(whole["crops"]) - 20  # most of the held-out subject is not
    for seed in range(5):
        key = jax.random.key(seed)
        for mine, expected in (
            (placed[0].samples, folds[0].samples), (placed[0].judged, folds[0].judged),
        ):  # fmt: skip
            assert not np.array_equal(mine["row"], expected["row"])
            same(
                system.inputs(arrays, mine, key, "both"),
                system.inputs(whole, expected, key, "both"),
            )


# --- loss, scores, thresholds ---------------------------------------------------------------------


def test_what_validation_likes_is_the_loss():
    config = dataclasses.replace(CONFIG, importance_micro=0.9, importance_macro=0.1, positive=3.0)
    system = build(config, {})
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(0, 2, (6, 2)), jnp.float32)
    label = jnp.asarray(rng.integers(0, 2, (6, 2)), jnp.float32)
    merits = system.judge((logits, label), {})
    assert merits.shape == (6, 1) and system.merits == 1
    loss, info = system.loss((logits, label), {}, jnp.ones(6))
    np.testing.assert_allclose(merits.mean(), -loss, rtol=1e-6)
    s = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    t = np.asarray(label)
    by_hand = -((0.9, 0.1) * (3 * t * np.log(s) + (1 - t) * np.log(1 - s))).sum(axis=1)
    np.testing.assert_allclose(merits[:, 0], -by_hand, rtol=1e-5)
    weight = jnp.array([1, 1, 0, 1, 0, 0], jnp.float32)
    some, _ = system.loss((logits, label), {}, weight)
    np.testing.assert_allclose(some, by_hand[[0, 1, 3]].mean(), rtol=1e-5)


@pytest.mark.parametrize("streams", ["both", "micro", "macro"])
def test_scores_are_those_of_every_row(crops, streams):
    system = build(dataclasses.replace(CONFIG, streams=streams), {})
    variables = [
        jax.jit(system.init, compiler_options=FAST)(jax.random.key(seed)) for seed in (0, 1)
    ]
    both = jax.tree.map(lambda *leaves: np.stack(leaves), *variables)
    videos = [[crops.videos[1]], [crops.videos[3], crops.videos[0]]]
    found = scoring.score_problem(system, "both", crops, videos, both)
    assert [list(group) for group in found] == [["s1/v0"], ["s3/v0", "s0/v0"]]
    images = crops.streams["crops"].astype(np.float32) / 255
    apply = jax.jit(partial(system.apply, train=False, key=KEY), compiler_options=FAST)
    skips = {"both": (2, 7), "micro": (2,), "macro": (7,)}[streams]
    for fold, group in enumerate(videos):
        for video in group:
            mine, t = images[video.rows], np.arange(video.num_frames)
            pairs = [np.minimum(t + by, video.num_frames - 1) for k in skips for by in (0, k)]
            given = {"images": jnp.asarray(np.stack([mine[rows] for rows in pairs], axis=1))}
            (logits, _), _ = apply(variables[fold], given, jnp.ones(len(t)))
            scores = found[fold][video.id]
            assert scores.shape == (video.num_frames, 2) and scores.dtype == np.float32
            np.testing.assert_allclose(scores, jax.nn.sigmoid(logits), atol=1e-5)


def bump(video, strong, seed):
    """Scores f32[T, 2]: noise up to 0.3, and `strong` while the expressions last."""
    rng = np.random.default_rng(seed)
    labels = score_runs.frame_labels(video)
    return (0.3 * rng.random(labels.shape) + strong * labels).astype(np.float32)


def test_thresholds_are_chosen_by_what_is_given(crops):
    scores = [{"both": bump(video, 0.6, n)} for n, video in enumerate(crops.videos)]
    valid = [{"both": crops.streams["valid_both"][video.rows] > 0} for video in crops.videos]
    options = score_runs.Options(k_micro=2, k_macro=7)
    for rule in ("youden", "corner", "f1"):
        system = build(dataclasses.replace(CONFIG, threshold_rule=rule), {})
        chosen = system.tune(scores, valid, crops.videos)
        given = [
            (s["both"], v["both"], score_runs.frame_labels(video))
            for s, v, video in zip(scores, valid, crops.videos, strict=True)
        ]
        assert chosen == score_runs.choose_thresholds(given, options, rule)[0]
        assert set(chosen) == {"threshold_micro", "threshold_macro"}
        for curve, there in zip(scores, valid, strict=True):
            found, drawn = system.decode(curve, there, **chosen)
            expected, _ = score_runs.spot(curve["both"], there["both"], options._replace(**chosen))
            assert found == expected and set(drawn) == {"macro", "micro"}
            assert drawn["micro"].threshold == chosen["threshold_micro"]
    assert any(value != 0.5 for value in chosen.values())


def test_videos_without_an_expression_leave_the_configured_threshold(crops):
    config = dataclasses.replace(CONFIG, threshold_micro=0.7, threshold_macro=0.35)
    system = build(config, {})
    quiet = [v._replace(intervals=v.intervals[1:]) for v in crops.videos[:2]]  # macro alone
    valid = [{"both": np.ones(video.num_frames, bool)} for video in quiet]
    scores = [{"both": bump(video, 0.6, n)} for n, video in enumerate(quiet)]
    chosen = system.tune(scores, valid, quiet)
    assert chosen["threshold_micro"] == 0.7 and chosen["threshold_macro"] != 0.35
    silent = [v._replace(intervals=()) for v in quiet]
    assert system.tune(scores, valid, silent) == {"threshold_micro": 0.7, "threshold_macro": 0.35}


def test_a_stream_alone_has_its_own_pair_and_both_outputs(crops):
    arrays = {"crops": jnp.asarray(crops.streams["crops"])}
    video = crops.videos[0]
    valid = crops.streams["valid_both"][video.rows] > 0
    for streams, k, apart in (("micro", 2, {1, 2}), ("macro", 7, {3, 4, 5})):
        system = build(dataclasses.replace(PLAIN, streams=streams), {})
        assert system.scored(VIDEO, THERE, "both")["row"].tolist() == [
            list(pair(t, k, "forward")) for t in range(LENGTH)
        ]
        table = system.targets(VIDEO, THERE, "both")
        rows = rows_of(system.inputs(NUMBERED, table, KEY, "both"))
        assert rows.shape == (3, 2) and set((rows[:, 1] - rows[:, 0])[:1].tolist()) <= apart
        assert system.reach == {"micro": 2, "macro": 5}[streams] + PLAIN.stride
        table = system.targets(video, valid, "both")
        weight = jnp.ones(len(table["row"]))
        variables = jax.jit(system.init, compiler_options=FAST)(KEY)

        def objective(params, system=system, table=table, weight=weight, rest=variables):
            given = system.inputs(arrays, table, KEY, "both")
            outputs, _ = system.apply(rest | {"params": params}, given, weight, True, KEY)
            return system.loss(outputs, table, weight)[0], outputs[0]

        slopes, logits = jax.jit(jax.grad(objective, has_aux=True), compiler_options=FAST)(
            variables["params"]
        )
        assert logits.shape == (len(table["row"]), 2)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))
        assert np.any(slopes["block1"]["norm"]["scale"] != 0)
        assert slopes["logits"]["kernel"].shape == (8, 2)
