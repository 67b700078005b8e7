import json
from functools import cache

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference import shared_file

from spotjax.counting.recognition import CLASSES, NEUTRAL
from spotjax.decoding import two_curves
from spotjax.decoding.two_curves import Limits, Options

NAMES = (*CLASSES[4], NEUTRAL)
RELEASE = Options(peak_shift=-1)


def f32(values):
    return np.asarray(values, np.float32)


def bump(length, *tops, low=0.25, width=9.0):
    """A score of `low` with a hill of `width` rows around each (row, height): f32[length]."""
    rows = np.arange(length)
    hills = [(h - low) * np.exp(-(((rows - row) / width) ** 2)) for row, h in tops]
    return f32(low + np.sum(hills, axis=0)) if hills else f32(np.full(length, low))


def video(score, emotions=(), classes=CLASSES[4]):
    """f32[T, 1 + C + 1]: the score, and logits that favour `emotions` {row: index}, or neutral."""
    predicted = np.full(len(score), len(classes))
    for row, emotion in dict(emotions).items():
        predicted[row] = emotion
    return np.concatenate([f32(score)[:, None], np.eye(len(classes) + 1)[predicted]], 1)


def spot(scores, valid=None, options=None, classes=CLASSES[4]):
    scores = f32(scores)
    valid = np.ones(len(scores), bool) if valid is None else np.asarray(valid, bool)
    return two_curves.spot(scores, valid, options or Options(), classes)


def test_smoothing_by_hand():
    scores = f32([4, 8, 0, 4, 12])
    for window, expected in {
        1: scores,
        2: [2, 6, 4, 2, 8],  # the row before and the row itself
        3: [4, 4, 4, 16 / 3, 16 / 3],
        4: [3, 3, 4, 6, 4],
        7: [16 / 7, 28 / 7, 28 / 7, 28 / 7, 24 / 7],  # longer than the video
    }.items():
        found = two_curves.smooth(scores, window)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert found.dtype == np.float32


def test_smoothing_leaves_out_rows_without_a_score():
    scores = f32([np.nan, 4, 8, np.nan, 4, 12, np.nan, np.nan])
    expected = [np.nan, 4, 6, np.nan, 8, 16 / 3, np.nan, np.nan]  # the ends count as 0
    np.testing.assert_allclose(two_curves.smooth(scores, 3), expected, rtol=1e-6)
    for nothing in (np.full(5, np.nan), np.zeros(0)):
        found = two_curves.smooth(f32(nothing), 14)
        assert found.shape == nothing.shape and np.isnan(found).all()


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=60), st.integers(1, 20))
def test_smoothing_of_a_whole_video_is_numpys(values, window):
    assume(len(values) >= window)
    scores = np.array(values)
    expected = np.convolve(scores, np.ones(window) / window, mode="same")
    np.testing.assert_allclose(two_curves.smooth(f32(scores), window), expected, 1e-5, 1e-7)


def test_peaks_by_hand():
    curve = np.array([9, 0, 3, 0, 4, 0, 0, 0, 2, 2, 2, 0], float)
    assert two_curves.find_peaks(curve, 1, 1, 0).tolist() == [2, 4, 9]
    assert two_curves.find_peaks(curve, 1, 3, 0).tolist() == [4, 9]
    assert two_curves.find_peaks(curve, 1, 1, 3).tolist() == [4]  # rows 3 to 8
    assert two_curves.find_peaks(curve, 4, 1, 0).tolist() == [4]
    assert two_curves.find_peaks(curve, 1, 1, 6).tolist() == []
    padded = np.concatenate([np.full(5, np.nan), curve, np.full(3, np.nan)])
    assert two_curves.find_peaks(padded, 1, 1, 3).tolist() == [9]


def test_the_distance_of_peaks_holds_across_rows_without_a_score():
    curve = np.array([0, 2, 0, np.nan, 0, 3, 0, np.nan, 0, 1, 0], float)
    assert two_curves.find_peaks(curve, 0.5, 4, 0).tolist() == [1, 5, 9]
    assert two_curves.find_peaks(curve, 0.5, 5, 0).tolist() == [5]
    assert two_curves.find_peaks(curve, 0.5, 8, 0).tolist() == [5]


def test_an_interval_by_hand():
    curve = np.array([0.1, 0.5, 0.6, 0.6, 0.9, 0.8, 0.55, 0.7, 0.2])
    for threshold, before, after, expected in (
        (0.0, 2, 2, (2, 6)),  # of equals the first
        (0.0, 9, 9, (0, 8)),
        (0.3, 9, 9, (1, 6)),
        (0.6, 9, 9, (4, 7)),  # above the threshold, not at it
        (0.9, 9, 9, (4, 4)),
        (0.0, 0, 1, (4, 5)),
    ):
        assert two_curves.detect_interval(curve, 4, before, after, threshold) == expected
    assert two_curves.detect_interval(curve, 3, 1, 1, 0.0) == (3, 4)  # the higher row differs too
    curve[[1, 6]] = np.nan
    assert two_curves.detect_interval(curve, 4, 3, 2, 0.3) == (2, 5)


LIMITS = Limits(window=2, distance=1, before=9, after=9, shortest=3, longest=5)


def test_lengths_and_the_mean_of_an_interval():
    curve = np.array([0.1, 0.6, 0.7, 0.8, 0.7, 0.6, 0.1])
    assert two_curves.intervals(curve, LIMITS, 0.5) == [(1, 3, 5)]
    for refused in ({"shortest": 5}, {"longest": 3}, {"highest_mean": 0.67}):
        assert two_curves.intervals(curve, LIMITS._replace(**refused), 0.5) == []
    short, low = LIMITS._replace(shortest=2), LIMITS._replace(highest_mean=0.69)
    assert two_curves.intervals(curve, low, 0.5) == [(1, 3, 5)]  # the mean is .68
    assert two_curves.intervals(curve, short, 0.5, shift=-1) == [(1, 2, 3)]
    assert two_curves.intervals(np.full(7, np.nan), LIMITS, 0.5) == []


def test_an_interval_that_is_too_short_is_widened_to_rows_with_a_score():
    curve = np.array([0.1, 0.2, 0.3, 0.6, 0.8, 0.6, 0.3, 0.2, 0.1])
    for widen, expected in {0: [], 1: [(2, 4, 6)], 2: [(1, 4, 7)], 9: [(0, 4, 8)]}.items():
        limits = LIMITS._replace(widen=widen, longest=8)
        assert two_curves.intervals(curve, limits, 0.5) == expected
    curve[[0, 7]] = np.nan
    for widen, expected in {2: (1, 4, 6), 3: (1, 4, 8), 9: (1, 4, 8)}.items():
        limits = LIMITS._replace(widen=widen, longest=8)
        assert two_curves.intervals(curve, limits, 0.5) == [expected]


def test_an_interval_of_the_shortest_length_stays_as_it_is():
    curve = np.array([0.1, 0.2, 0.6, 0.8, 0.6, 0.2, 0.1])
    for shortest, expected in {2: (2, 3, 4), 3: (1, 3, 5)}.items():
        limits = LIMITS._replace(shortest=shortest, widen=1)
        assert two_curves.intervals(curve, limits, 0.5) == [expected]


def test_no_peak_within_half_a_window_of_the_ends():
    curve = np.array([0.1, 0.6, 0.8, 0.6, 0.1, 0.6, 0.8, 0.6, 0.1])
    for window, apexes in {2: [2, 6], 3: [2, 6], 4: [], 8: []}.items():
        limits = LIMITS._replace(window=window, shortest=2, before=2, after=2)
        assert [apex for _, apex, _ in two_curves.intervals(curve, limits, 0.5)] == apexes


def test_the_constants_are_those_of_the_release():
    micro, macro = Options().micro, Options().macro
    # rows, from the frames of the release with its skip of 2
    assert (micro.window, macro.window) == (2 * (15 // 2), 2 * (20 // 2))
    assert (micro.before, micro.after) == (micro.shortest, micro.longest) == (15 // 2, 32 // 2)
    assert macro.before == macro.after == 50 // 2
    assert (macro.shortest, macro.longest) == (25 // 2, 90 // 2)
    for limits in (micro, macro):
        assert limits.distance == (limits.before + limits.after) // 2
    assert (micro.widen, macro.widen) == (0, macro.before // 3)
    assert (micro.highest_mean, macro.highest_mean) == (0.725, float("inf"))
    assert (micro.prominence, macro.prominence) == (0.017, 0)
    assert Options()._replace(micro=(), macro=()) == (
        0.576, (), (), 0.41, 0, "prominence", 0.02,
    )  # fmt: skip


def test_prominence_and_the_step_of_the_paper():
    curve, other = np.array([0.5, 0.75, 0.25]), np.array([0.5, 0.5, 0.5])
    assert two_curves.is_prominent(curve, 0, 1, 2, by=0.2)
    assert not two_curves.is_prominent(curve, 0, 1, 2, by=0.25)
    assert not two_curves.is_prominent(curve, 0, 1, 1, by=0.0)
    assert two_curves.rises_above(curve, other, 1, by=0.2)
    assert not two_curves.rises_above(curve, other, 1, by=0.25)
    assert not two_curves.rises_above(curve, other, 2, by=0.2)


def test_spot_by_hand():
    score = bump(200, (59.5, 0.85), (140, 0.95))
    score[120:140] = np.maximum(score[120:140], 0.9)  # a long one
    found, curves = spot(video(score, {row: 1 for row in range(50, 62)}))
    assert list(curves) == ["macro", "micro"]
    micro = [d for d in found if d.type == "micro"]
    assert [d.type for d in found] == sorted(d.type for d in found)  # macro first
    assert [(d.apex, d.emotion) for d in micro] == [(60, "positive")] and len(found) == 3
    assert [d.emotion for d in found if d.type == "macro"] == ["positive", "neutral"]
    for type, limits in (("macro", Options().macro), ("micro", Options().micro)):
        curve = curves[type]
        np.testing.assert_array_equal(curve.score, two_curves.smooth(score, limits.window))
        assert curve.score.dtype == np.float32 and curve.threshold == 0.576
        mine = [d for d in found if d.type == type]
        assert curve.peaks.tolist() == [d.apex for d in mine] and curve.peaks.dtype == np.int64
        assert [d.score for d in mine] == [float(curve.score[d.apex]) for d in mine]


MICRO_ONLY = Options(macro=Options().macro._replace(shortest=99, longest=99))


def test_the_emotion_is_the_commonest_of_the_onset_phase():
    score, valid = bump(120, (59.5, 0.85)), np.ones(120, bool)

    def emotion(emotions):
        (found,) = spot(video(score, emotions), valid, MICRO_ONLY)[0]
        assert found[:3] == (53, 60, 67)
        return found.emotion

    assert emotion({row: 2 for row in range(56, 61)}) == "surprise"  # five rows of eight
    assert emotion({row: 2 for row in range(57, 61)}) == "neutral"  # of equals the first seen
    assert emotion({row: 2 for row in range(120) if not 53 <= row <= 60}) == "neutral"
    assert emotion({53: 1, 54: 1, 55: 0, 56: 1, 57: 0, 58: 0}) == "positive"
    valid[54] = False
    assert emotion({53: 1, 54: 1, 55: 0, 56: 1, 57: 0, 58: 0}) == "negative"


def test_seven_emotions():
    score = bump(120, (59.5, 0.85))
    scores = video(score, {row: 6 for row in range(50, 62)}, CLASSES[7])
    assert {d.emotion for d in spot(scores, classes=CLASSES[7])[0]} == {"happy"}


def test_a_video_with_a_high_mean_gives_nothing():
    low, high = (bump(120, (59.5, 0.9), low=low) for low in (0.3, 0.5))
    mean = two_curves.smooth(high, 14).mean(dtype=float)
    assert mean > 0.41 and len(spot(video(low))[0]) == 2
    found, curves = spot(video(high))
    assert found == [] and curves["micro"].peaks.size == 0 and curves["micro"].threshold == 0.576
    for gate, found in ((mean + 1e-6, True), (mean - 1e-6, False), (float("inf"), True)):
        assert bool(spot(video(high), options=Options(video_gate=gate))[0]) == found


def test_options_reach_the_intervals():
    score = video(bump(120, (59.5, 0.85)))
    (macro, micro), _ = spot(score)
    assert [d.apex for d in (macro, micro)] == [60, 60]
    (macro, shifted), _ = spot(score, options=RELEASE)
    assert (macro.apex, shifted.apex) == (60, 59)  # only the micro peak moves
    found, curves = spot(score, options=Options(threshold=0.8))
    assert found == [] and curves["macro"].threshold == 0.8
    paper = Options(micro_test="mae_difference")
    above = curves["micro"].score[60] - curves["macro"].score[60]
    for difference, types in ((above - 1e-4, ["macro", "micro"]), (above + 1e-4, ["macro"])):
        found, _ = spot(score, options=paper._replace(difference=difference))
        assert [d.type for d in found] == types
    steep = Options(micro=Options().micro._replace(prominence=0.5))
    assert [d.type for d in spot(score, options=steep)[0]] == ["macro"]
    both = steep._replace(micro_test="mae_difference", difference=0.0)
    assert [d.type for d in spot(score, options=both)[0]] == ["macro", "micro"]


def test_rows_without_a_face_at_the_ends_are_no_part_of_the_video():
    inside = video(bump(120, (59.5, 0.85)), {row: 1 for row in range(70)})
    scores, valid = np.full((150, 6), 0.9, np.float32), np.zeros(150, bool)
    scores[20:140], valid[20:140] = inside, True
    found, curves = spot(scores, valid)
    expected, whole = spot(inside)
    assert [d[3:] for d in found] == [d[3:] for d in expected] and len(found) == 2
    np.testing.assert_array_equal([d[:3] for d in found], np.add([d[:3] for d in expected], 20))
    np.testing.assert_array_equal(curves["micro"].score[20:140], whole["micro"].score)
    assert np.isnan(curves["micro"].score[~valid]).all()


@pytest.mark.parametrize("length", [0, 1, 13, 14, 19, 20, 40, 200])
def test_short_and_flat_and_empty_videos_give_nothing(length):
    for value in (0.0, 0.4, 0.6, 1.0, np.nan):
        for gate in (0.41, float("inf")):
            flat = video(np.full(length, value))
            found, curves = spot(flat, options=Options(video_gate=gate))
            assert found == [] and curves["macro"].peaks.size == 0
            missing = length == 0 or np.isnan(value)
            assert np.isnan(curves["micro"].threshold) == missing
            assert np.isnan(curves["micro"].score).all() == missing
    found, curves = spot(video(np.full(length, 0.6)), np.zeros(length, bool))
    assert found == [] and np.isnan(curves["macro"].score).all()


def test_a_flat_score_with_gaps_gives_nothing():
    valid = np.ones(200, bool)
    valid[[30, 31, 90]] = False
    scores = video(np.full(200, 0.7))
    scores[60:65, 3] = np.nan  # an emotion is missing
    found, curves = spot(scores, valid, Options(video_gate=float("inf")))
    assert found == []
    for curve in curves.values():
        gaps = np.flatnonzero(np.isnan(curve.score)).tolist()
        assert gaps == [30, 31, 60, 61, 62, 63, 64, 90]
        np.testing.assert_allclose(curve.score[[40, 89, 100]], 0.7)


def test_bad_arguments():
    scores, valid = video(np.zeros(5)), np.ones(5, bool)
    for message, call in {
        r"5, 6\) must be \[T, 9\] for 7 emotions": lambda: spot(scores, classes=CLASSES[7]),
        r"must be \[T, 6\]": lambda: spot(scores[:, 0]),
        r"valid \(4,\) \[T\]": lambda: spot(scores, valid[:4]),
        "unknown micro_test 'paper'": lambda: spot(scores, options=Options(micro_test="paper")),
        "or shift 1": lambda: spot(scores, options=Options(peak_shift=1)),
        "at least 1": lambda: two_curves.smooth(scores[:, 0], 0),
        "rank 1": lambda: two_curves.smooth(scores, 3),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()


LOW = Options(threshold=0.4, video_gate=float("inf"))
hills = st.lists(st.tuples(st.integers(0, 180), st.floats(0.4, 1.0)), max_size=4)


@settings(deadline=None)
@given(
    st.integers(0, 180),
    hills,
    st.floats(3, 20),
    st.integers(0, 2**16),
    st.sampled_from([0.0, 0.05, 0.3]),
    st.sampled_from([LOW, RELEASE, LOW._replace(peak_shift=-1, micro_test="mae_difference")]),
)
def test_intervals_are_ordered_inside_the_video_and_finite(
    length, tops, width, seed, missing, options
):
    rng = np.random.default_rng(seed)
    scores = video(bump(length, *tops, width=width) + rng.normal(0, 0.05, length))
    scores[:, 1:] = rng.normal(size=(length, 5))
    valid = rng.random(length) >= missing
    scores[rng.random(length) < missing, 0] = np.nan
    known = valid & np.isfinite(scores).all(axis=1)
    found, curves = spot(scores, valid, options)
    for type in ("macro", "micro"):
        mine, limits = [d for d in found if d.type == type], getattr(options, type)
        curve = curves[type]
        assert np.isnan(curve.score).tolist() == (~known).tolist()
        assert curve.peaks.tolist() == [d.apex for d in mine]
        assert (np.diff(curve.peaks) >= limits.distance).all()
        for d in mine:
            assert 0 <= d.onset <= d.apex <= d.offset < length
            assert known[[d.onset, d.apex, d.offset]].all()
            assert limits.shortest <= d.offset - d.onset <= limits.longest
            assert d.emotion in NAMES and np.isfinite(d.score)
            predicted = scores[d.onset : d.apex + 1][known[d.onset : d.apex + 1], 1:].argmax(axis=1)
            count = np.bincount(predicted, minlength=5)
            assert count[NAMES.index(d.emotion)] == count.max()


@cache
def golden():
    path = shared_file("goldens/sfamnet_softnet_postprocess.json")
    return json.loads(path.read_text())["sfamnet"]


def test_smoothing_of_the_release():
    case = golden()["smooth"]
    assert set(case["outputs"]) == {"14", "15", "20"}
    for window, expected in case["outputs"].items():
        found = two_curves.smooth(f32(case["input"]), int(window))
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_intervals_of_the_release():
    curve = two_curves.smooth(f32(golden()["smooth"]["input"]), 14)
    cases = golden()["detect_interval"]["cases"]
    assert len(cases) >= 5
    for case in cases:
        onset, apex, offset = case["start_peak_end"]
        reach = (case["peak"], case["left"], case["right"], case["threshold"])
        assert apex == case["peak"] and two_curves.detect_interval(curve, *reach) == (onset, offset)


def test_step_iv_of_an_earlier_release():
    """MTSN, by the same authors, has the test that SFAMNet's paper describes."""
    reference = golden()["mtsn_check_peak"]
    micro, macro = (two_curves.smooth(f32(reference["curve"]), n) for n in (14, 20))
    for case in reference["cases"]:
        kept = [
            span
            for span in case["detected"]
            if two_curves.rises_above(micro, macro, span[1], case["dif_threshold"])
        ]
        assert kept == case["kept"]
