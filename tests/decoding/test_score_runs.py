import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import butter, sosfiltfilt

from spotjax.decoding import score_runs
from spotjax.decoding.contrast import runs
from spotjax.decoding.intervals import iou_matrix
from spotjax.decoding.score_runs import Options

PLAIN = Options(k_micro=1, k_macro=1)
"""No filter: with k = 1 the cut-off is one cycle per row."""


def f32(values):
    return np.asarray(values, np.float32)


def all_valid(scores):
    return np.ones(len(scores), bool)


def both(micro, macro=None):
    """f32[T, 2] scores; macro constant unless given."""
    return np.stack([f32(micro), f32(np.full(len(micro), 0.5) if macro is None else macro)], axis=1)


def box(length, *spans, height=1.0):
    """f32[T]: 0, and `height` in each of the inclusive spans."""
    scores = np.zeros(length, np.float32)
    for first, last in spans:
        scores[first : last + 1] = height
    return scores


def spans_of(detections, type):
    return [(d.onset, d.apex, d.offset) for d in detections if d.type == type]


# --- curves ---------------------------------------------------------------------------------------


def test_normalised_from_0_to_1_over_the_valid_rows():
    scores, valid = f32([0.5, 0.25, 9, 0.75, np.nan]), np.array([1, 1, 0, 1, 1], bool)
    found = score_runs.normalise(scores, valid)
    np.testing.assert_array_equal(found, [0.5, 0, np.nan, 1, np.nan])
    assert found.dtype == np.float64 and scores[2] == 9  # the input stays as it is
    for constant in (f32([0.3] * 4), f32([0.7]), np.array([0.5, 0.5 + 1e-15])):
        assert score_runs.normalise(constant, all_valid(constant)).tolist() == [0] * len(constant)
    tiny = score_runs.normalise(f32([1e-12, 3e-12, 2e-12]), np.ones(3, bool))
    np.testing.assert_allclose(tiny, [0, 1, 0.5], rtol=1e-6)  # different scores, however small
    assert np.isnan(score_runs.normalise(f32([1, 2]), np.zeros(2, bool))).all()
    assert score_runs.normalise(f32([]), np.zeros(0, bool)).shape == (0,)


@pytest.mark.parametrize("k", [6, 19, 37])
def test_the_filter_does_not_move_a_pulse(k):
    middle, length = 20 * k, 40 * k + 1
    pulse = box(length, (middle - k, middle + k))
    found = score_runs.smooth(pulse, all_valid(pulse), k)
    np.testing.assert_allclose(found, found[::-1], atol=1e-6)
    ((first, last),) = score_runs.intervals(found, 0.5).tolist()
    assert first + last == 2 * middle
    assert abs(first - (middle - k)) <= 1  # half of its height is reached at its ends
    round_top = np.exp(-(((np.arange(length) - middle) / k) ** 2))
    assert np.argmax(score_runs.smooth(round_top, all_valid(pulse), k)) == middle


@pytest.mark.parametrize("order", [1, 2, 4])
def test_the_filter_halves_the_cut_off_and_keeps_what_is_slower(order):
    k, row, inner = 20, np.arange(4000), slice(1000, 3000)
    slow = 10 * np.cos(2 * np.pi * row / 4000)  # fixes the scale of the result
    for periods in (1 / 8, 1, 4):
        wave = np.sin(2 * np.pi * periods * row / k)
        found = score_runs.smooth(wave + slow, np.ones(4000, bool), k, order)
        parts = np.stack([wave, slow, np.ones(4000)], axis=1)[inner]
        kept_wave, kept_slow, _ = np.linalg.lstsq(parts, found[inner], rcond=None)[0]
        # |H|^2, as it is applied twice; the bilinear transform bends the frequencies
        bent = np.tan(np.pi * periods / k) / np.tan(np.pi / k)
        assert kept_wave / kept_slow == pytest.approx(1 / (1 + bent ** (2 * order)), abs=1e-4)


def test_from_half_a_cycle_per_row_on_nothing_is_filtered():
    rng = np.random.default_rng(0)
    scores, valid = rng.random(50), np.ones(50, bool)
    plain = score_runs.normalise(scores, valid)
    for k, cutoff in ((1, 1.0), (2, 1.0), (6, 3.0), (6, 99.0)):
        np.testing.assert_array_equal(score_runs.smooth(scores, valid, k, cutoff=cutoff), plain)
    for k, cutoff in ((3, 1.0), (6, 2.9)):
        assert np.abs(score_runs.smooth(scores, valid, k, cutoff=cutoff) - plain).max() > 0.01


def test_a_smoothed_curve_fills_0_to_1():
    found = score_runs.smooth(np.random.default_rng(1).random(300), np.ones(300, bool), 19)
    assert found.min() == 0 and found.max() == 1


def test_runs_of_valid_rows_are_filtered_apart():
    rng = np.random.default_rng(2)
    scores, valid = rng.random(300), np.ones(300, bool)
    valid[[100, 101, 250]] = False
    found = score_runs.smooth(scores, valid, 12)
    other = np.where(np.arange(300) < 100, 1 - scores, scores)
    again = score_runs.smooth(other, valid, 12)
    np.testing.assert_array_equal(np.isnan(found), ~valid)
    # the two differ by a scale only where the rows of the run are the same
    for run in (slice(102, 250), slice(251, 300)):
        slope, shift = np.polyfit(found[run], again[run], 1)
        np.testing.assert_allclose(slope * found[run] + shift, again[run], atol=1e-12)
    assert np.abs(np.corrcoef(found[:100], again[:100])[0, 1] + 1) < 1e-9
    garbage = np.where(valid, scores, 1e9)
    np.testing.assert_array_equal(score_runs.smooth(garbage, valid, 12), found)


def test_the_ends_are_continued_by_their_reflection():
    k, scores = 6, np.random.default_rng(5).random(60)
    for length, pad in ((60, 6 * k), (20, 19)):  # a short run: as many rows as there are
        run = scores[:length]
        before = 2 * run[0] - run[pad:0:-1]
        after = 2 * run[-1] - run[-2 : -pad - 2 : -1]
        longer = np.concatenate([before, run, after])
        sections = butter(2, 2 / k, output="sos")
        expected = sosfiltfilt(sections, longer, padlen=0)[pad : pad + length]
        found = score_runs.smooth(run, all_valid(run), k)
        expected = score_runs.normalise(expected, all_valid(run))
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_no_run_is_too_short_for_the_filter():
    scores = f32([0.2, 0, 0.9, 0.1, 0, 0.4, 0.5, 0.3])
    valid = np.array([1, 0, 1, 1, 0, 1, 1, 1], bool)
    found = score_runs.smooth(scores, valid, 217)
    assert np.isfinite(found[valid]).all() and found[valid].min() == 0 and found[valid].max() == 1
    single = np.array([1, 0, 1, 0, 0, 1, 0, 1], bool)  # a row alone keeps its score
    np.testing.assert_allclose(
        score_runs.smooth(scores, single, 217), score_runs.normalise(scores, single), atol=1e-9
    )


def test_the_default_cut_off_keeps_pulses_and_stops_noise():
    """Noisy pulses of k to 3 k rows, cut at half of their height."""
    rng = np.random.default_rng(0)

    def trial(k, length, cutoff):
        overlaps, spurious = [], 0
        for _ in range(12):
            starts = 250 + 500 * np.arange(4) + rng.integers(-k, k, 4)
            pulses = box(2000, *((s, s + length - 1) for s in starts))
            noisy = score_runs.normalise(pulses + rng.normal(0, 0.2, 2000), all_valid(pulses))
            curve = score_runs.smooth(noisy, all_valid(pulses), k, cutoff=cutoff)
            iou = iou_matrix(score_runs.intervals(curve, 0.5), runs(pulses > 0))
            overlaps += iou.max(axis=0).tolist()
            spurious += int((iou.max(axis=1) == 0).sum())
        return np.mean(overlaps), spurious / 12

    for k in (6, 19):
        for length in (k, 2 * k, 3 * k):
            overlap, spurious = trial(k, length, 1.0)
            assert overlap > 0.88 and spurious < 1.5
        assert trial(k, k, 0.5)[0] < 0.82  # half of the cut-off flattens them
    assert trial(6, 6, 2.0)[1] > 5  # twice of it leaves the noise in


# --- intervals ------------------------------------------------------------------------------------


def test_intervals_by_hand():
    curve = np.array([1, 0.5, 0.4, 0.5, 0, np.nan, 0.6, np.nan, 0.7, 0.8])
    expected = [[0, 1], [3, 3], [6, 6], [8, 9]]  # both ends, at the threshold, never across a gap
    found = score_runs.intervals(curve, 0.5)
    assert found.tolist() == expected and found.dtype == np.int64
    assert score_runs.intervals(curve, 0.5, min_rows=2).tolist() == [[0, 1], [8, 9]]
    assert score_runs.intervals(curve, 0.5, min_rows=3).tolist() == []
    assert score_runs.intervals(curve, 1.0).tolist() == [[0, 0]]
    assert score_runs.intervals(curve, 0.0).tolist() == [[0, 4], [6, 6], [8, 9]]
    for nothing in (np.zeros(4), np.full(4, np.nan), np.zeros(0)):
        assert score_runs.intervals(nothing, 0.0).tolist() == []


@given(
    st.lists(st.sampled_from([0, 0.25, 0.5, 0.75, 1, np.nan]), max_size=30),
    st.sampled_from([0.0, 0.25, 0.3, 1.0]), st.integers(1, 4),
)  # fmt: skip
def test_intervals_are_those_of_a_loop(values, threshold, min_rows):
    expected, start = [], None
    for row, value in enumerate([*values, np.nan]):
        if value >= threshold:
            start = row if start is None else start
        elif start is not None:
            if row - start >= min_rows:
                expected.append([start, row - 1])
            start = None
    if not any(value > 0 for value in values):
        expected = []
    assert score_runs.intervals(np.array(values), threshold, min_rows).tolist() == expected


def test_spot_by_hand():
    micro = f32([0.1, 0.5, 0.9, 0.9, 0.1, 0.1, 0.1, 0.6])
    macro = f32([0.8, 0.7, 0.6, 0.2, 0.2, 0.2, 0.2, 0.2])
    options = PLAIN._replace(threshold_macro=0.8)
    found, curves = score_runs.spot(both(micro, macro), all_valid(micro), options)
    assert [d[:4] for d in found] == [
        (0, 0, 1, "macro"), (1, 2, 3, "micro"), (7, 7, 7, "micro"),
    ]  # fmt: skip
    assert [d.score for d in found] == pytest.approx([1, 1, 0.625])
    assert all(isinstance(d.score, float) and isinstance(d.apex, int) for d in found)
    assert list(curves) == ["macro", "micro"]
    np.testing.assert_allclose(curves["micro"].score, (micro - 0.1) / 0.8, rtol=1e-6, atol=1e-7)
    assert curves["micro"].score.dtype == np.float32 and curves["micro"].peaks.dtype == np.int64
    assert [curves[t].threshold for t in ("micro", "macro")] == [0.5, 0.8]
    longer = score_runs.spot(both(micro, macro), all_valid(micro), options._replace(min_rows=3))[0]
    assert [d[:4] for d in longer] == [(1, 2, 3, "micro")]
    assert curves["micro"].peaks.tolist() == [2, 7] and curves["macro"].peaks.tolist() == [0]


def test_each_type_has_its_own_filter():
    scores = box(400, (100, 105), (250, 289))
    options = Options(k_micro=6, k_macro=40)
    found, curves = score_runs.spot(both(scores, scores), all_valid(scores), options)
    for type, k in (("micro", 6), ("macro", 40)):
        expected = score_runs.smooth(scores, all_valid(scores), k)
        np.testing.assert_allclose(curves[type].score, expected, atol=1e-6)
    (first, second), (long,) = spans_of(found, "micro"), spans_of(found, "macro")
    assert abs(first[0] - 100) <= 1 and abs(first[2] - 105) <= 1
    assert abs(second[0] - 250) <= 1 and abs(second[2] - 289) <= 1
    assert abs(long[0] - 250) <= 3 and abs(long[2] - 289) <= 3
    slow = options._replace(cutoff=0.1)
    wider = score_runs.spot(both(scores, scores), all_valid(scores), slow)[1]["micro"].score
    np.testing.assert_allclose(
        wider, score_runs.smooth(scores, all_valid(scores), 6, cutoff=0.1), atol=1e-6
    )
    fourth = score_runs.spot(both(scores), all_valid(scores), options._replace(order=4))
    np.testing.assert_allclose(
        fourth[1]["micro"].score, score_runs.smooth(scores, all_valid(scores), 6, 4), atol=1e-6
    )


def test_no_interval_crosses_rows_without_a_face():
    scores, valid = box(60, (20, 39)), np.ones(60, bool)
    valid[30] = False
    found, curves = score_runs.spot(both(scores), valid, Options(6, 19))
    (before, after) = spans_of(found, "micro")
    assert before[2] == 29 and after[0] == 31
    assert np.flatnonzero(np.isnan(curves["micro"].score)).tolist() == [30]
    without = both(scores)
    without[30, 1] = np.nan  # one score is missing: the row has neither
    assert spans_of(score_runs.spot(without, all_valid(scores), Options(6, 19))[0], "micro") == [
        before, after,
    ]  # fmt: skip


def test_nothing_in_a_constant_curve_or_a_video_without_a_face():
    zero = PLAIN._replace(threshold_micro=0.0, threshold_macro=0.0)
    for k in (1, 6):
        found, curves = score_runs.spot(
            both([0.5] * 40), np.ones(40, bool), zero._replace(k_micro=k)
        )
        assert found == []
        assert curves["micro"].score.tolist() == [0] * 40 and curves["micro"].threshold == 0
    for scores in (both(box(9, (3, 5))), np.zeros((0, 2), np.float32)):
        found, curves = score_runs.spot(scores, np.zeros(len(scores), bool), zero)
        assert found == []
        for curve in curves.values():
            assert np.isnan(curve.threshold) and curve.score.shape == (len(scores),)
            assert np.isnan(curve.score).all() and curve.peaks.size == 0
    one = score_runs.spot(both([0.5, 0.6]), np.array([True, False]), zero)[0]
    assert one == []  # a single row is constant too


def test_wrong_arguments_are_refused():
    scores, valid = both(np.arange(9)), np.ones(9, bool)
    for wrong in ((scores[:, :1], valid), (scores[:, 0], valid), (scores, valid[1:])):
        with pytest.raises(ValueError, match=re.escape("must be [T, 2]")):
            score_runs.spot(*wrong, PLAIN)
    for wrong in ({"k_micro": 0}, {"k_macro": 0}, {"order": 0}, {"cutoff": 0}, {"cutoff": np.nan}):
        with pytest.raises(ValueError, match="at least 1, cutoff .* positive"):
            score_runs.spot(scores, valid, PLAIN._replace(**wrong))
    with pytest.raises(ValueError, match="equal, rank 1"):
        score_runs.normalise(scores, valid)
    with pytest.raises(ValueError, match="equal, rank 1"):
        score_runs.smooth(scores[:, 0], valid[1:], 3)
    for score, label, message in (
        ([1, 2], [1], "equal, rank 1"), ([[1, 2]], [[0, 1]], "equal, rank 1"),
        ([1, np.nan], [0, 1], "finite"), ([1, 2], [1, 1], "positive and negative"),
        ([1, 2], [0, 0], "positive and negative"), ([], [], "positive and negative"),
    ):  # fmt: skip
        for function in (score_runs.roc, score_runs.youden, score_runs.corner):
            with pytest.raises(ValueError, match=message):
                function(np.asarray(score, float), np.asarray(label, bool))
    labels = np.zeros((9, 2), bool)
    with pytest.raises(ValueError, match="labels"):
        score_runs.choose_thresholds([(scores, valid, labels[:, 0])], PLAIN)
    with pytest.raises(ValueError, match="unknown kind"):
        score_runs.choose_thresholds([(scores, valid, labels)], PLAIN, "best")
