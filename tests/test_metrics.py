import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import shared_file

from spotjax import metrics
from spotjax.intervals import as_array, iou_matrix
from spotjax.metrics import Counts, VideoResult


def result(predictions, truths, scores=None):
    scores = np.linspace(1, 0.5, len(predictions)) if scores is None else np.asarray(scores, float)
    return VideoResult(as_array(predictions), scores, as_array(truths))


def test_iou_counts_inclusive_frames():
    found = iou_matrix(as_array([(10, 20), (21, 30)]), as_array([(10, 20), (16, 25)]))
    np.testing.assert_allclose(found, [[1, 5 / 16], [0, 5 / 15]])


def test_iou_refuses_wrong_input():
    assert iou_matrix(as_array([(5, 4)]), as_array([(4, 5)])) == 0
    with pytest.raises(ValueError, match="shape"):
        iou_matrix(np.zeros((2, 3), int), as_array([(1, 2)]))


def test_two_predictions_on_one_truth():
    both = result([(10, 20), (11, 21)], [(10, 20)])
    assert metrics.count([both]) == Counts(1, 1, 0)
    assert metrics.match_one_to_one(both, 0.5).tolist() == [0, -1]


def test_one_to_one_takes_the_second_best_truth_where_softnet_does_not():
    case = result([(0, 9), (0, 12)], [(0, 9), (5, 13)], scores=[0.9, 0.8])
    assert metrics.count([case], "one_to_one") == Counts(2, 0, 0)
    assert metrics.count([case], "softnet") == Counts(1, 1, 1)


def test_ratios_by_hand():
    counts = Counts(2, 1, 3) + Counts(0, 1, 0)
    assert counts == Counts(2, 2, 3)
    assert (counts.precision, counts.recall, counts.f1) == (0.5, 0.4, 4 / 9)
    assert Counts().f1 == Counts().precision == Counts().recall == 0


def test_average_precision_by_hand():
    # ranks: hit, miss, hit; two truths -> precision 1, 1/2, 2/3 -> area 0.5 * 1 + 0.5 * 2/3
    case = result([(0, 9), (50, 59), (20, 29)], [(0, 9), (20, 29)], scores=[3, 2, 1])
    assert metrics.average_precision([case]) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert metrics.average_precision([result([], [(1, 2)])]) == 0
    assert metrics.average_precision([result([(1, 2)], [])]) == 0


def test_bootstrap_brackets_the_pooled_value():
    subjects = [Counts(3, 1, 1), Counts(0, 2, 1), Counts(5, 1, 0)]
    low, high = metrics.bootstrap_f1(subjects, 500, np.random.default_rng(0))
    assert 0 <= low <= sum(subjects, Counts()).f1 <= high <= 1
    assert np.isnan(metrics.bootstrap_f1([], 10, np.random.default_rng(0))).all()


def reference_cases():
    cases = json.loads(shared_file("goldens/metrics.json").read_text())["spotting"]
    assert len(cases) >= 30
    return cases


def test_softnet_rule_reproduces_the_reference():
    for case in reference_cases():
        expected = case["expected"]["softnet_map2d_no_placeholder"]
        videos = [
            result([p[:2] for p in v["pred"]], v["gt"], [p[2] for p in v["pred"]])
            for v in case["videos"]
        ]
        counts = metrics.count(videos, "softnet")
        assert tuple(counts) == (expected["tp"], expected["fp"], expected["fn"]), case["id"]
        soft = metrics.count(videos, "one_to_one")
        if len({p[2] for v in case["videos"] for p in v["pred"]}) > 1:
            assert soft.tp == expected["tp_soft50"], case["id"]
            assert metrics.average_precision(videos) == pytest.approx(
                expected["map_soft"], abs=1e-6
            ), case["id"]


intervals = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 15)).map(lambda t: (t[0], t[0] + t[1])),
    max_size=6,
)
videos_strategy = st.lists(st.tuples(intervals, intervals), max_size=4)


@given(videos_strategy, st.randoms(use_true_random=False))
def test_counts_do_not_depend_on_order_or_split(videos, random):
    found = [result(p, t, [random.random() for _ in p]) for p, t in videos]
    for rule in metrics.RULES:
        total = metrics.count(found, rule)
        assert total.tp + total.fn == sum(len(t) for _, t in videos)
        assert total.tp + total.fp == sum(len(p) for p, _ in videos)
        assert 0 <= total.f1 <= 1
        parts = sum((metrics.count([r], rule) for r in found), Counts())
        assert parts == total
        shuffled = []
        for r in found:
            order = np.asarray(random.sample(range(len(r.scores)), len(r.scores)), int)
            shuffled.append(VideoResult(r.predictions[order], r.scores[order], r.truths))
        assert metrics.count(shuffled[::-1], rule) == total


@given(videos_strategy, st.randoms(use_true_random=False))
def test_average_precision_is_bounded_and_sees_ranks_only(videos, random):
    found = [result(p, t, [random.randint(0, 50) / 50 for _ in p]) for p, t in videos]
    area = metrics.average_precision(found)
    assert 0 <= area <= 1
    squeezed = [VideoResult(r.predictions, np.exp(3 * r.scores) - 7, r.truths) for r in found]
    assert metrics.average_precision(squeezed) == pytest.approx(area)
