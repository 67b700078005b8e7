import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import shared_file

from spotjax.decoding import labels


def test_unit_is_one_where_the_window_meets_the_expression():
    found = labels.pseudo_labels("unit", 20, 3, [(10, 12)])
    assert np.flatnonzero(found).tolist() == [8, 9, 10, 11, 12]
    assert found.dtype == np.float32


def test_linear_is_the_iou_by_hand():
    found = labels.pseudo_labels("linear", 20, 4, [(10, 13)])
    np.testing.assert_allclose(found[[6, 7, 8, 10, 13]], [0, 1 / 7, 2 / 6, 1, 1 / 7])


def test_step4_cuts_at_the_quarters():
    iou = labels.window_iou(30, 4, 10, 13)
    step = labels.pseudo_labels("step4", 30, 4, [(10, 13)])
    expected = np.select([iou == 0, iou < 0.25, iou < 0.5, iou < 0.75], [0, 0.25, 0.5, 0.75], 1.0)
    np.testing.assert_array_equal(step, expected.astype(np.float32))


def test_step4_at_exactly_a_quarter_is_the_next_step():
    assert labels.window_iou(20, 4, 10, 15)[9] == 3 / 7
    step = labels.pseudo_labels("step4", 20, 2, [(10, 12)])  # windows meet by 1: IoU 1/4
    assert labels.window_iou(20, 2, 10, 12)[9] == 0.25 and step[9] == 0.5


def test_release_loses_the_onset_and_one_frame_expressions():
    found = labels.pseudo_labels("unit_release", 20, 3, [(10, 12), (3, 3)])
    assert np.flatnonzero(found).tolist() == [9, 10, 11, 12]


def test_release_cases_of_the_reference():
    import json

    cases = json.loads(shared_file("goldens/sfamnet_softnet_postprocess.json").read_text())
    for case in cases["softnet"]["pseudo_label_release"]["cases"]:
        found = labels.pseudo_labels(
            "unit_release", case["labels_len"], case["k"], case["intervals_onset_offset0"]
        )
        assert np.flatnonzero(found).tolist() == case["positive_indices"]
    for case in cases["softnet"]["cal_k"]["cases"]:
        assert labels.half_mean_length(case["intervals_onset_offset0"]) == case["k"]


def test_overlapping_expressions_take_the_higher_score():
    found = labels.pseudo_labels("linear", 30, 5, [(10, 14), (12, 16)])
    assert found[10] == 1 and found[12] == 1


@given(st.integers(1, 12), st.integers(0, 25), st.integers(0, 10))
def test_every_rule_stays_in_the_unit_interval_and_agrees_on_zero(k, onset, length):
    spans = [(onset, onset + length)]
    unit = labels.pseudo_labels("unit", 30, k, spans)
    for rule in ("linear", "step4"):
        found = labels.pseudo_labels(rule, 30, k, spans)
        assert found.min() >= 0 and found.max() <= 1
        np.testing.assert_array_equal(found > 0, unit > 0)


def test_bad_arguments():
    with pytest.raises(ValueError, match="k must be"):
        labels.pseudo_labels("unit", 10, 0, [(1, 2)])
    with pytest.raises(ValueError, match="unknown pseudo-label rule"):
        labels.pseudo_labels("cubic", 10, 2, [(1, 2)])
    with pytest.raises(ValueError, match="no interval"):
        labels.half_mean_length([])
    assert labels.half_mean_length([(0, 12), (0, 13)]) == 6
