import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import shared_file

from spotjax.counting import metrics
from spotjax.counting.metrics import VideoResult
from spotjax.decoding import decode
from spotjax.decoding.intervals import as_array


def all_valid(scores):
    return np.ones(len(scores), bool)


def test_smoothing_by_hand():
    scores = np.arange(7, dtype=np.float32) ** 2
    found = decode.smooth(scores, all_valid(scores), 2, "paper")
    np.testing.assert_allclose(found, [np.nan, np.nan, 30 / 5, 55 / 5, 90 / 5, np.nan, np.nan])
    release = decode.smooth(scores, all_valid(scores), 2, "release")
    np.testing.assert_allclose(release, [np.nan, np.nan, 14 / 4, 30 / 4, 54 / 4, np.nan, np.nan])


def test_smoothing_leaves_out_rows_without_a_face():
    scores = np.array([1, 1, 9, 1, 1, 1], np.float32)
    valid = np.array([1, 1, 0, 1, 1, 1], bool)
    found = decode.smooth(scores, valid, 1)
    np.testing.assert_allclose(found, [np.nan, 1, np.nan, 1, 1, np.nan])


def test_smoothing_of_too_short_or_empty_curves_is_undefined():
    assert np.isnan(decode.smooth(np.ones(4, np.float32), np.ones(4, bool), 3)).all()
    assert np.isnan(decode.smooth(np.ones(4, np.float32), np.zeros(4, bool), 1)).all()
    with pytest.raises(ValueError, match="rank 1"):
        decode.smooth(np.ones(4, np.float32), np.ones(5, bool), 1)


def test_threshold_by_hand():
    assert decode.threshold(np.array([0, 1, 2, np.nan]), 0.5) == 1.5
    assert np.isnan(decode.threshold(np.full(3, np.nan), 0.5))


def test_peaks_are_local_maxima_apart_and_not_at_ends():
    curve = np.array([9, 0, 3, 0, 4, 0, 0, 0, 2, 2, 2, 0], float)
    assert decode.peaks(curve, 1, 1).tolist() == [2, 4, 9]
    assert decode.peaks(curve, 1, 3).tolist() == [4, 9]
    assert decode.peaks(curve, 3.5, 1).tolist() == [4]


def test_the_edge_of_a_gap_is_no_peak():
    curve = np.array([0, 1, 2, np.nan, 0, 3, 0], float)
    assert decode.peaks(curve, 0.5, 1).tolist() == [5]


def bump(length=60, at=30, width=4.0):
    return np.exp(-((np.arange(length) - at) ** 2) / (2 * width**2)).astype(np.float32)


def test_published_and_centred_intervals():
    scores = bump()
    found, curve = decode.spot(scores, all_valid(scores), 6, "micro", p=0.5)
    assert [d[:4] for d in found] == [(24, 30, 36, "micro")] and curve.peaks.tolist() == [30]
    moved, _ = decode.spot(scores, all_valid(scores), 6, "micro", p=0.5, interval="centred")
    assert [d[:3] for d in moved] == [(27, 33, 39)]
    assert found[0].score == moved[0].score == pytest.approx(float(curve.score[30]))


def test_silent_videos():
    flat = np.zeros(50, np.float32)
    assert decode.spot(flat, all_valid(flat), 5, "macro", p=0.5)[0] == []
    found, _ = decode.spot(flat, all_valid(flat), 5, "macro", p=0.5, silent_proposal=True)
    assert [d[:3] for d in found] == [(5, 5, 5)] and found[0].score == 0
    short = np.ones(5, np.float32)
    assert decode.spot(short, all_valid(short), 6, "macro", p=0.5)[0] == []


@settings(deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=80), st.integers(1, 12))
def test_intervals_stay_inside_the_video_and_peaks_apart(values, k):
    frames = len(values) + k
    scores = np.asarray([*values, *[0.0] * k], np.float32)
    valid = np.arange(frames) < len(values)
    for interval in ("published", "centred"):
        found, _ = decode.spot(scores, valid, k, "macro", p=0.55, interval=interval)
        assert all(0 <= d.onset <= d.apex <= d.offset < frames for d in found)
        assert all(d.offset - d.onset == 2 * k for d in found)
        apexes = sorted(d.apex for d in found)
        assert all(b - a >= k for a, b in zip(apexes, apexes[1:], strict=False))


def test_release_spotting_reproduces_the_reference_counts():
    text = shared_file("goldens/sfamnet_softnet_postprocess.json").read_text()
    cases = json.loads(text)["softnet"]["spotting"]
    for name, case in cases.items():
        results = []
        for video in case["videos"]:
            scores = np.asarray(video["score"], np.float32)
            found, _ = decode.spot(
                scores,
                all_valid(scores),
                case["k"],
                "micro",
                p=case["p"],
                smoothing="release",
                silent_proposal=True,
            )
            truth_key = next(key for key in video if "gt" in key or "interval" in key)
            truths = as_array(video[truth_key])
            results.append(VideoResult(as_array(found), np.zeros(len(found)), truths))
        counts = metrics.count(results, "softnet")
        assert counts == metrics.Counts(case["TP"], case["FP"], case["FN"]), name


def test_a_curve_has_no_proposals_unless_told():
    _, curve = decode.spot(bump(), all_valid(bump()), 6, "micro", p=0.5)
    assert curve.proposals.shape == (0, 3) and curve.proposals.dtype == np.float64
    given = np.array([[3, 9, 0.5]])
    assert decode.Curve(bump(), 0.5, np.zeros(0, int), given).proposals is given
