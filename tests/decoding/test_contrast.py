"""Contrast, intervals and limits of the training-free baselines."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from reference import shared_file

from spotjax.decoding import contrast
from spotjax.decoding.contrast import Bins

nan = np.nan
curves = hnp.arrays(
    np.float32, st.integers(0, 40), elements=st.one_of(st.just(nan), st.floats(-9, 9, width=16))
)
features = hnp.arrays(np.float32, st.integers(0, 40), elements=st.floats(-9, 9, width=16))


def valid_rows(length, k, gaps=()):
    """bool[T]: what a video with a face in all frames but `gaps` gives."""
    face = np.ones(length, bool)
    face[list(gaps)] = False
    valid = np.zeros(length, bool)
    for i in range(k, length - k):
        valid[i] = face[i - k] and face[i] and face[i + k]
    return valid


def spans(detections):
    return [(d.onset, d.apex, d.offset) for d in detections]


def test_mdmd_contrast_by_hand():
    feature = np.array([99, 99, 1, 4, 9, 1, 0, 2, 99, 99], np.float32)
    found = contrast.contrast_mdmd(feature, valid_rows(10, 2), 2)
    expected = [nan, nan, nan, -1, 6.5, -3.5, -1.5, nan, nan, nan]
    np.testing.assert_array_equal(found, np.array(expected, np.float32))
    assert found.dtype == np.float32


def test_mdmd_contrast_of_the_public_code_ends_2k_rows_earlier():
    length, k = 40, 4
    feature = np.random.default_rng(0).normal(size=length).astype(np.float32)
    ours = contrast.contrast_mdmd(feature, valid_rows(length, k), k)
    theirs = contrast.contrast_mdmd(feature, valid_rows(length, k), k, matlab_compat=True)
    assert np.flatnonzero(np.isfinite(ours)).tolist() == list(range(2 * k - 1, length - 2 * k + 1))
    # frames 2k to n-4k+1 counted from 1
    tested = np.flatnonzero(np.isfinite(theirs))
    assert tested.tolist() == list(range(2 * k - 1, length - 4 * k + 1))
    np.testing.assert_array_equal(theirs[tested], ours[tested])


@given(features, st.integers(1, 8), st.sets(st.integers(0, 39), max_size=3), st.booleans())
@settings(max_examples=80, deadline=None)
def test_mdmd_contrast_equals_the_loop(feature, k, gaps, compat):
    length = len(feature)
    valid = valid_rows(length, k, [gap for gap in gaps if gap < length])
    expected = np.full(length, nan, np.float32)
    for i in range(k - 1, length - 4 * k + 1 if compat else length - k + 1):
        if valid[i - k + 1] and valid[i] and valid[i + k - 1]:
            expected[i] = feature[i] - (feature[i - k + 1] + feature[i + k - 1]) / 2
    found = contrast.contrast_mdmd(feature, valid, k, compat)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_lbp_contrast_by_hand():
    feature = np.array([99, 99, 1, 8, 2, 5, 99, 99], np.float32)
    found = contrast.contrast_lbp(feature, valid_rows(8, 2), 2)
    # beyond rows 2 and 5 F goes on as 1 and 5
    expected = [0, 0, max(0, 1 - (1 + 2) / 2), 8 - (1 + 5) / 2, 0, max(0, 5 - (8 + 5) / 2), 0, 0]
    np.testing.assert_array_equal(found, np.array(expected, np.float32))


def test_lbp_contrast_with_frames_without_a_face():
    length, k = 30, 2
    feature = np.arange(length, dtype=np.float32) ** 2 % 7
    whole = contrast.contrast_lbp(feature, valid_rows(length, k), k)
    assert np.isfinite(whole).all()
    valid = valid_rows(length, k, gaps=[14])  # no feature in rows 12, 14 and 16
    found = contrast.contrast_lbp(feature, valid, k)
    assert np.flatnonzero(np.isnan(found)).tolist() == [10, 12, 14, 16, 18]
    kept = np.isfinite(found)
    np.testing.assert_array_equal(found[kept], whole[kept])
    assert np.isnan(contrast.contrast_lbp(feature, np.zeros(length, bool), k)).all()


def test_lbp_contrast_of_a_face_that_comes_late_and_leaves_early():
    length, k = 30, 2
    valid = valid_rows(length, k, gaps=[*range(8), *range(20, length)])
    found = contrast.contrast_lbp(np.ones(length, np.float32), valid, k)
    assert np.flatnonzero(np.isfinite(found)).tolist() == list(range(8, 20))


@given(features, st.integers(1, 8))
@settings(max_examples=80, deadline=None)
def test_lbp_contrast_equals_the_loop(feature, k):
    length = len(feature)
    found = contrast.contrast_lbp(feature, valid_rows(length, k), k)
    if length < 2 * k + 1:
        assert np.isnan(found).all()
        return
    level = feature.astype(np.float64)
    level[:k], level[length - k :] = level[k], level[length - k - 1]
    expected = np.zeros(length)
    for i in range(k, length - k):
        expected[i] = max(0, level[i] - (level[i - k] + level[i + k]) / 2)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("function", [contrast.contrast_mdmd, contrast.contrast_lbp])
def test_wrong_arguments_are_refused(function):
    with pytest.raises(ValueError, match="rank 1"):
        function(np.zeros(4, np.float32), np.ones(5, bool), 1)
    with pytest.raises(ValueError, match="k must be at least 1"):
        function(np.zeros(4, np.float32), np.ones(4, bool), 0)


def test_runs_by_hand():
    hits = np.array([1, 1, 0, 0, 1, 0, 1, 1, 1], bool)
    assert contrast.runs(hits).tolist() == [[0, 1], [4, 4], [6, 8]]
    assert contrast.runs(np.ones(3, bool)).tolist() == [[0, 2]]
    for none in (np.zeros(3, bool), np.zeros(0, bool)):
        assert contrast.runs(none).shape == (0, 2)


def test_bins_by_hand():
    hits = np.zeros(13, bool)
    hits[[1, 3, 4, 5, 6, 11, 12]] = True  # bins 0-4, 5-9, 10-12
    assert contrast.bins(hits, Bins(5, 2)).tolist() == [[1, 4], [5, 6], [11, 12]]
    assert contrast.bins(hits, Bins(5, 3)).tolist() == [[1, 4]]
    assert contrast.bins(hits, Bins(5, 4)).shape == (0, 2)
    assert contrast.bins(np.zeros(0, bool), Bins(5, 1)).shape == (0, 2)


@given(hnp.arrays(bool, st.integers(0, 60)), st.integers(1, 20), st.integers(1, 6))
def test_runs_and_bins_hold_the_hits(hits, frames, wanted):
    covered = np.zeros(len(hits), bool)
    for onset, offset in contrast.runs(hits):
        covered[onset : offset + 1] = True
    np.testing.assert_array_equal(covered, hits)
    found = contrast.bins(hits, Bins(frames, wanted))
    for onset, offset in found:
        assert hits[onset] and hits[offset] and onset // frames == offset // frames
        assert hits[onset : offset + 1].sum() >= wanted
    full = [hits[s : s + frames].sum() >= wanted for s in range(0, len(hits), frames)]
    assert len(found) == sum(full)


def test_spotting_by_hand():
    curve = np.array([nan, 3, 4, 0, 0, 0, 5, 7, 7, 6, 0, 0, nan, 4], np.float32)
    found, drawn = contrast.spot(curve, 0, 1, None, "macro")  # mean 3
    assert spans(found) == [(2, 2, 2), (6, 7, 9), (13, 13, 13)]
    assert [d.score for d in found] == [1, 4, 1]
    assert {d.type for d in found} == {"macro"}
    assert drawn.threshold == 3 and drawn.score is curve
    assert drawn.peaks.tolist() == [2, 7, 13] and drawn.peaks.dtype == np.int64


@pytest.mark.parametrize(
    ("shortest", "longest", "lengths"),
    [(1, None, [1, 4, 2]), (2, None, [4, 2]), (2, 4, [4, 2]), (2, 3, [2]), (4, 4, [4]), (5, 9, [])],
)
def test_limits_of_length_are_inclusive(shortest, longest, lengths):
    curve = np.array([0, 9, 0, 9, 9, 9, 9, 0, 9, 9, 0, 0], np.float32)
    found, drawn = contrast.spot(curve, 0.5, shortest, longest, "micro")
    assert [d.offset - d.onset + 1 for d in found] == lengths
    assert drawn.peaks.tolist() == [d.apex for d in found]


def test_a_missing_contrast_ends_a_run_but_not_a_bin():
    curve = np.array([0, 0, 9, nan, 8, 0, 0, 0], np.float32)
    assert spans(contrast.spot(curve, 0, 1, None, "micro")[0]) == [(2, 2, 2), (4, 4, 4)]
    found, _ = contrast.spot(curve, 0, 1, None, "micro", merge=Bins(8, 2))
    assert spans(found) == [(2, 2, 4)]


@given(curves)
@settings(max_examples=150, deadline=None)
def test_p_1_gives_nothing_and_p_0_all_above_the_mean(curve):
    assert contrast.spot(curve, 1, 1, None, "micro")[0] == []
    found, drawn = contrast.spot(curve, 0, 1, None, "micro")
    marked = np.zeros(len(curve), bool)
    for detection in found:
        marked[detection.onset : detection.offset + 1] = True
        assert detection.score > 0
        assert curve[detection.apex] == curve[detection.onset : detection.offset + 1].max()
    np.testing.assert_array_equal(marked, curve > np.float32(drawn.threshold))


@given(curves, st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=80, deadline=None)
def test_a_higher_p_marks_no_more_rows(curve, p, q):
    less, more = (
        sum(d.offset - d.onset + 1 for d in contrast.spot(curve, x, 1, None, "micro")[0])
        for x in (max(p, q), min(p, q))
    )
    assert less <= more


@pytest.mark.parametrize("curve", [np.zeros(0), np.full(5, nan), np.full(7, 0.1)])
def test_silent_curves_give_nothing(curve):
    found, drawn = contrast.spot(curve.astype(np.float32), 0.01, 1, None, "micro")
    assert found == [] and drawn.peaks.shape == (0,)


def test_limits_and_windows_of_the_published_frame_rates():
    assert contrast.limits(30) == {"micro": (7, 16), "macro": (17, None)}
    assert contrast.limits(200) == {"micro": (47, 105), "macro": (106, None)}
    published = {("micro", 30): 12, ("macro", 30): 39, ("micro", 200): 80, ("macro", 200): 260}
    for (type, fps), k in published.items():
        assert contrast.half_window(type, fps) == k
    with pytest.raises(KeyError):
        contrast.half_window("other", 30)


@given(st.floats(0.5, 1000))
def test_limits_leave_no_length_out_at_any_frame_rate(fps):
    (shortest, longest), (next_one, open_end) = contrast.limits(fps).values()
    assert 1 <= shortest <= longest and next_one == longest + 1 and open_end is None
    assert 1 <= contrast.half_window("micro", fps) <= contrast.half_window("macro", fps)


@pytest.mark.parametrize(
    ("k", "frames", "mdmd", "lbp"),
    [(39, 234, 39, 39), (39, 233, 20, 39), (39, 119, 10, 39), (12, 24, 3, 6), (260, 707, 65, 260),
     (5, 10, 1, 3), (5, 1, 1, 1), (5, 0, 1, 1), (1, 1, 1, 1)],
)  # fmt: skip
def test_k_is_halved_in_short_videos(k, frames, mdmd, lbp):
    assert contrast.halved_mdmd(k, frames) == mdmd
    assert contrast.halved_lbp(k, frames) == lbp


@given(st.integers(1, 300), st.integers(6, 4000))
def test_a_halved_k_fits(k, frames):
    assert frames >= 6 * contrast.halved_mdmd(k, frames)
    assert frames >= 2 * contrast.halved_lbp(k, frames) + 1


def published(name):
    """Videos in the release's order with their frames, and its published intervals."""
    with open(shared_file(f"goldens/mdmd_megc2020/{name}_videos.csv")) as file:
        videos = {row["video"]: int(row["frames"]) for row in csv.DictReader(file)}
    with open(shared_file(f"goldens/mdmd_megc2020/{name}_pred.csv")) as file:
        return videos, list(csv.DictReader(file))


@pytest.mark.parametrize(("name", "fps"), [("casme2", 30), ("samm_lv", 200)])
def test_published_mdmd_intervals_keep_our_limits_and_ends(name, fps):
    """Every interval of MEGC 2020's baseline has an allowed length and lies in tested frames."""
    videos, rows = published(name)
    for type in ("micro", "macro"):
        shortest, longest = contrast.limits(fps)[type]
        k, window = contrast.half_window(type, fps), {}
        for video, frames in videos.items():
            k = window[video] = contrast.halved_mdmd(k, frames)  # never restored, as in the release
        mine = [row for row in rows if row["type"] == type]
        lengths = [int(row["offset"]) - int(row["onset"]) + 1 for row in mine]
        assert min(lengths) == shortest
        assert longest is None or max(lengths) == longest
        for row in mine:
            k, frames = window[row["video"]], videos[row["video"]]
            assert 2 * k <= int(row["onset"]) and int(row["offset"]) <= frames - 4 * k + 1


def test_the_release_did_not_return_to_the_full_k():
    """With k = 260 in the long videos no macro-interval could begin before frame 520."""
    videos, rows = published("samm_lv")
    outside = [
        row
        for row in rows
        if row["type"] == "macro"
        and int(row["onset"]) < 2 * contrast.halved_mdmd(260, videos[row["video"]])
    ]
    assert len(outside) > 20
