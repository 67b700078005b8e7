import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import shared_file

from spotjax.counting import metrics
from spotjax.counting.metrics import Counts, VideoResult
from spotjax.decoding.intervals import as_array, iou_matrix


def result(predictions, truths, scores=None):
    scores = np.linspace(1, 0.5, len(predictions)) if scores is None else np.asarray(scores, float)
    return VideoResult(as_array(predictions), scores, as_array(truths))


def test_iou_counts_inclusive_frames():
    found = iou_matrix(as_array([(10, 20), (21, 30)]), as_array([(10, 20), (16, 25)]))
    np.testing.assert_allclose(found, [[1, 5 / 16], [0, 5 / 15]])


def test_iou_without_the_last_frame():
    found = iou_matrix(as_array([(10, 15), (20, 30)]), as_array([(10, 20), (5, 5)]), "difference")
    np.testing.assert_array_equal(found, [[0.5, 0], [0, 0]])
    assert iou_matrix(as_array([(5, 5)]), as_array([(5, 5)]), "difference") == 0


def test_iou_of_the_megc_2020_baseline():
    predictions, truths = as_array([(10, 20), (5, 5)]), as_array([(10, 20), (30, 39), (30, 9)])
    found = iou_matrix(predictions, truths, "megc2020")
    np.testing.assert_allclose(found, [[1, 1 / 20, 0], [0, 0, 0]])  # disjoint: one shared frame


@pytest.mark.parametrize("kind", ["inclusive", "difference", "megc2020"])
def test_iou_of_an_interval_that_ends_before_it_begins(kind):
    whole = as_array([(0, 40), (0, 0), (3, 4)])
    assert not iou_matrix(whole, as_array([(12, 0), (1, 0), (5, 4)]), kind).any()
    assert not iou_matrix(as_array([(12, 0), (1, 0)]), whole, kind).any()


def test_iou_refuses_wrong_input():
    with pytest.raises(ValueError, match="shape"):
        iou_matrix(np.zeros((2, 3), int), as_array([(1, 2)]))


def test_two_predictions_on_one_truth():
    both = result([(10, 20), (11, 21)], [(10, 20)])
    assert metrics.count([both]) == Counts(1, 1, 0)
    assert metrics.matched(both).tolist() == [0, -1]


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
    subjects = [Counts(3, 1, 1), Counts(0, 2, 1), Counts(5, 1, 0, -2)]
    low, high = metrics.bootstrap_f1(subjects, 500, np.random.default_rng(0))
    assert 0 <= low <= sum(subjects, Counts()).f1 <= high <= 1
    assert metrics.bootstrap_f1(subjects[2:], 5, np.random.default_rng(0)) == (subjects[2].f1,) * 2
    assert np.isnan(metrics.bootstrap_f1([], 10, np.random.default_rng(0))).all()


def reference_cases():
    cases = json.loads(shared_file("goldens/metrics.json").read_text())["spotting"]
    assert len(cases) >= 30
    return cases


def videos_of(case, placeholder=False):
    empty = [[0, 0, 0.0]] if placeholder else []
    return [
        result([p[:2] for p in v["pred"] or empty], v["gt"], [p[2] for p in v["pred"] or empty])
        for v in case["videos"]
    ]


def test_average_precision_of_softnets_release():
    compared = 0
    for case in reference_cases():
        if len({p[2] for v in case["videos"] for p in v["pred"]}) > 1:
            expected = case["expected"]["softnet_map2d_no_placeholder"]
            videos = videos_of(case)
            assert metrics.count(videos).tp == expected["tp_soft50"], case["id"]
            area = metrics.average_precision(videos)
            assert area == pytest.approx(expected["map_soft"], abs=1e-6), case["id"]
            compared += 1
    assert compared >= 10


def test_average_precision_in_file_order():
    for case in reference_cases():
        expected = case["expected"]
        placed = videos_of(case, placeholder=True)  # MEAN's and SOFTNet's [0, 0] of silent videos
        mean = metrics.average_precision(placed, rule="mean")
        assert mean == pytest.approx(expected["mean_map2d"]["map_soft"], abs=1e-6), case["id"]
        inserted = expected["softnet_map2d_placeholder_insertion_order"]["map_soft"]
        assert mean == pytest.approx(inserted, abs=1e-6), case["id"]
        sfamnet = metrics.average_precision(videos_of(case), rule="sfamnet")
        assert sfamnet == pytest.approx(expected["sfamnet_map2d"]["map_soft"], abs=1e-6), case["id"]


def test_average_precision_by_hand_in_file_order():
    case = result([(50, 59), (0, 9)], [(0, 9)], scores=[0, 1])
    assert metrics.average_precision([case]) == 1
    assert metrics.average_precision([case], rule="mean") == 0.5
    silent = result([], [])
    assert metrics.average_precision([case, silent], rule="mean") == 0.5
    # the silent video counts as one truth: recall ends at 1/2
    assert metrics.average_precision([case, silent], rule="sfamnet") == 0.25
    twice = result([(0, 9), (0, 9)], [(0, 9)])
    assert metrics.average_precision([twice], rule="sfamnet") == 2
    with pytest.raises(ValueError, match="'abpn' has no AP: one of one_to_one, mean, sfamnet"):
        metrics.average_precision([case], rule="abpn")


intervals = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 15)).map(lambda t: (t[0], t[0] + t[1])),
    max_size=6,
)
videos_strategy = st.lists(st.tuples(intervals, intervals), max_size=4)


@given(videos_strategy, st.randoms(use_true_random=False))
def test_average_precision_is_bounded_and_sees_ranks_only(videos, random):
    found = [result(p, t, [random.randint(-9, 9) for _ in p]) for p, t in videos]
    area = metrics.average_precision(found)
    assert 0 <= area <= 1
    for stretched in (lambda score: 3 * score + 7, lambda score: score**3 + 2 * score):
        again = [VideoResult(r.predictions, stretched(r.scores), r.truths) for r in found]
        assert metrics.average_precision(again) == area
