import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import shared_file

from spotjax.decoding import clip_proposals as cp
from spotjax.decoding.clip_proposals import Options
from spotjax.decoding.clip_windows import CLIP, overlaps, starts, whole_windows, windows
from spotjax.decoding.intervals import as_array


def golden(name):
    return json.loads(shared_file("goldens/mesnet_cnn3d.json").read_text())[name]


def silent(frames):
    """Scores in which no window is likely, f32[n, 470, 4]."""
    scores = np.zeros((len(starts(frames)), len(windows()), 4), np.float32)
    scores[..., :2] = 0.1
    return scores


def faces(frames):
    return np.ones(frames, bool)


def window(first, last, clip_start=0):
    """Number of the window that covers [first, last], which may stick out of the clip."""
    wanted = np.array([first, last]) - clip_start
    (number,) = np.flatnonzero((whole_windows() == wanted).all(axis=1))
    return number


def spans_of(detections):
    return [(d.onset, d.offset) for d in detections]


# --- regression -----------------------------------------------------------------------------------


def test_the_way_back_of_the_reference():
    case = golden("decode")
    span, r = np.array([case["proposal"]], float), np.array([case["r"]])
    np.testing.assert_allclose(cp.regress(span, r), [[case["a"], case["b"]]], rtol=1e-12)
    assert np.diff(cp.regress(span, r))[0, 0] == pytest.approx(case["len"])


def test_regression_by_hand():
    span, truth = np.array([[40.0, 52.0]]), np.array([[42.0, 50.0]])
    r = cp.encode(span, truth)
    assert r.tolist() == [[2 / 8, -2 / 8]]  # of the true length
    assert cp.regress(span, r, "proposal_length").tolist() == [[43, 49]]  # 2 / 8 of 12
    # 1 + r1 - r2 = 1.5 is more than a window of IoU 0.7 can have: held at 1 / 0.7
    np.testing.assert_allclose(cp.regress(span, r), [[40 + 0.25 * 8.4, 52 - 0.25 * 8.4]])
    np.testing.assert_allclose(  # 1 + r1 - r2 = 0.2: held at 0.7
        cp.regress(span, np.array([[-0.4, 0.4]])), [[40 - 0.4 * 12 / 0.7, 52 + 0.4 * 12 / 0.7]]
    )
    with pytest.raises(ValueError, match="must end after it begins"):
        cp.encode(span, np.array([[42.0, 42.0]]))


@given(
    st.floats(-50, 50), st.floats(1, 40), st.floats(-1, 1), st.floats(0.701, 1 / 0.701),
)  # fmt: skip
def test_decoding_undoes_encoding(begin, length, shift, ratio):
    truth = np.array([[begin, begin + length]])
    first = begin + shift * length
    span = np.array([[first, first + ratio * length]])
    np.testing.assert_allclose(cp.regress(span, cp.encode(span, truth)), truth, atol=1e-9)


# --- suppression ----------------------------------------------------------------------------------


def test_both_ways_to_suppress_of_the_reference():
    case = golden("nms_example")
    spans, scores = np.array(case["intervals"]), np.array(case["scores"])
    assert cp.nms(spans, scores, case["T"]).tolist() == case["greedy"]
    assert cp.suppress(spans, scores, case["T"]).tolist() == case["simultaneous"]


def test_an_overlap_at_the_threshold_is_dropped():
    spans, scores = np.array([[0, 9], [0, 19]]), np.array([0.5, 0.9])  # IoU 10 / 20
    for thin in (cp.nms, cp.suppress):
        assert thin(spans, scores, 0.5).tolist() == [1]
        assert thin(spans, scores, 0.5001).tolist() == [1, 0]
        assert thin(spans[:0], scores[:0], 0.5).tolist() == []


def test_of_equal_scores_the_earlier_interval_is_kept():
    spans, scores = np.array([[2, 12], [0, 11], [0, 10]]), np.full(3, 0.5)
    assert cp.nms(spans, scores, 0.5).tolist() == [2]
    assert cp.suppress(spans, scores, 0.5).tolist() == [2, 1, 0]  # none is strictly better


def naive_greedy(spans, scores, iou):
    rest = sorted(range(len(spans)), key=lambda i: (-scores[i], *spans[i]))
    kept = []
    while rest:
        best, *rest = rest
        kept.append(best)
        rest = [i for i in rest if overlaps(spans[[i]], spans[[best]])[0, 0] < iou]
    return kept


def naive_simultaneous(spans, scores, iou):
    close = overlaps(spans, spans) >= iou
    kept = [i for i in range(len(spans)) if not any(close[i, scores > scores[i]])]
    return sorted(kept, key=lambda i: (-scores[i], *spans[i]))


many = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 15), st.integers(0, 6)),
    max_size=25,
    unique_by=lambda row: row[:2],
)
thresholds = st.sampled_from([0.05, 0.3, 0.5, 0.75, 0.95])


@settings(deadline=None)
@given(many, thresholds)
def test_suppression_is_what_it_says(rows, iou):
    spans = as_array((a, a + length) for a, length, _ in rows)
    scores = np.array([score / 8 for *_, score in rows])
    greedy, simultaneous = cp.nms(spans, scores, iou), cp.suppress(spans, scores, iou)
    assert greedy.tolist() == naive_greedy(spans, scores, iou)
    assert simultaneous.tolist() == naive_simultaneous(spans, scores, iou)


@settings(deadline=None)
@given(many, thresholds, st.integers(0, 6))
def test_a_threshold_on_the_score_cuts_off_the_tail_of_what_is_kept(rows, iou, least):
    """What `choose_thresholds` relies on."""
    spans = as_array((a, a + length) for a, length, _ in rows)
    scores = np.array([score / 8 for *_, score in rows])
    high = np.flatnonzero(scores >= least / 8)
    for thin in (cp.nms, cp.suppress):
        kept = thin(spans, scores, iou)
        tail_cut = kept[scores[kept] >= least / 8]
        assert high[thin(spans[high], scores[high], iou)].tolist() == tail_cut.tolist()


# --- a video --------------------------------------------------------------------------------------


def test_spot_by_hand():
    scores = silent(100)
    scores[0, window(40, 52)] = 0.8, 0.9, 0.1, -0.05  # the reference's 41.04..51.48
    scores[0, window(42, 52)] = 0.7, 0.6, 0, 0  # overlaps it, less likely
    scores[0, window(70, 80)] = 0.6, 0.4, 0, 0  # CRN says no
    scores[0, window(10, 20)] = 0.45, 0.9, 0, 0  # CPN says no
    scores[0, window(20, 28)] = 0.55, 0.5, 0, 0
    found, curves = cp.spot(scores, faces(100))
    assert [d[:4] for d in found] == [(20, 24, 28, "micro"), (41, 46, 51, "micro")]
    assert [d.score for d in found] == pytest.approx([0.5, 0.9])
    assert list(curves) == ["micro"]
    curve = curves["micro"]
    assert curve.peaks.tolist() == [24, 46] and curve.threshold == 0.5
    np.testing.assert_allclose(curve.proposals, [[20, 28, 0.55], [40, 52, 0.8], [70, 80, 0.6]])

    found, alone = cp.spot(scores, faces(100), Options(module="cpn"))
    assert spans_of(found) == [(20, 28), (40, 52), (70, 80)]
    assert [d.score for d in found] == pytest.approx([0.55, 0.8, 0.6])
    np.testing.assert_array_equal(alone["micro"].proposals, curve.proposals)
    assert alone["micro"].peaks.tolist() == [24, 46, 75]

    assert spans_of(cp.spot(scores, faces(100), Options(t_cpn=0.7))[0]) == [(41, 51)]
    assert spans_of(cp.spot(scores, faces(100), Options(t_crn=0.4))[0])[-1] == (70, 80)
    whole = spans_of(cp.spot(scores, faces(100), Options(t_nms=None))[0])
    assert whole == [(20, 28), (41, 51), (42, 52)]
    longer = cp.spot(scores, faces(100), Options(decode="proposal_length"))[0]
    assert spans_of(longer)[1] == (41, 51)  # 41.2 and 51.4
    scores[0, window(40, 52), 2:] = 0.3, 0.3  # moved by its length times 0.3
    assert spans_of(cp.spot(scores, faces(100))[0])[-1] == (44, 56)  # 43.6 and 55.6


def test_the_curve_is_the_best_probability_at_the_middle_of_a_window():
    scores = silent(100)
    scores[0, window(38, 50), :2] = 0.2, 0.7
    scores[0, window(40, 48), :2] = 0.9, 0.3
    for module, value in (("crn", 0.7), ("cpn", 0.9)):
        chosen = Options(0.6, 0.65, module=module)
        curve = cp.spot(scores, faces(100), chosen)[1]["micro"]
        assert curve.score.dtype == np.float32 and curve.score.shape == (100,)
        assert curve.score[44] == pytest.approx(value)
        assert (np.delete(curve.score, [0, 1, 44, 98, 99]) == np.float32(0.1)).all()
        assert curve.threshold == {"crn": 0.65, "cpn": 0.6}[module]
    # cut windows: [0, 4] has the middle 2, so that the first two rows have none, nor the last two
    assert np.flatnonzero(np.isnan(curve.score)).tolist() == [0, 1, 98, 99]


def test_simultaneous_suppression_reaches_the_video():
    scores = silent(100)
    for (first, last), p in {(20, 32): 0.9, (25, 37): 0.8, (30, 42): 0.7}.items():
        scores[0, window(first, last), :2] = p
    for nms, kept in (("greedy", [(20, 32), (30, 42)]), ("simultaneous", [(20, 32)])):
        for module in ("crn", "cpn"):
            chosen = Options(t_nms=0.4, nms=nms, module=module)
            assert spans_of(cp.spot(scores, faces(100), chosen)[0]) == kept


def test_identical_intervals_of_two_clips_are_one_even_without_suppression():
    scores = silent(180)  # clips at 0 and 80
    scores[0, window(85, 95), :2] = 0.6, 0.7
    scores[1, window(85, 95, 80), :2] = 0.9, 0.8
    for module, p in (("crn", 0.8), ("cpn", 0.9)):
        (found,), curves = cp.spot(scores, faces(180), Options(t_nms=None, module=module))
        assert found[:3] == (85, 90, 95) and found.score == pytest.approx(p)
        assert curves["micro"].proposals.shape == (1, 3)


def test_windows_that_stick_out_count_at_the_ends_of_the_video_only():
    scores = silent(180)
    for clip, start in enumerate((0, 80)):
        for first, last in ((-2, 8), (91, 101)):
            scores[clip, window(first, last), :2] = 0.9, 0.9
        scores[clip, window(0, 6), :2] = 0.8, 0.8
        assert start == starts(180)[clip]
    # 0..6 of the first clip gives way to -2..8 at the start of the video, not at an inner border
    assert spans_of(cp.spot(scores, faces(180))[0]) == [(0, 8), (80, 86), (171, 179)]


def test_a_moved_interval_ends_with_its_clip_and_with_the_video():
    scores = silent(180)
    scores[0, window(84, 98)] = 0.9, 0.9, 0, 0.3  # 84 .. 103.6, the clip ends at 99
    scores[1, window(82, 92, 80)] = 0.9, 0.8, -0.3, -0.3  # 79 .. 89, the clip begins at 80
    assert spans_of(cp.spot(scores, faces(180), Options(t_nms=None))[0]) == [(80, 89), (84, 99)]
    scores = silent(60)
    scores[0, window(46, 58)] = 0.9, 0.9, 0, 0.3
    assert spans_of(cp.spot(scores, faces(60))[0]) == [(46, 59)]
    scores[0, window(46, 58)] = 0.9, 0.9, 1.7, 1.0  # both ends behind the last row
    assert cp.spot(scores, faces(60))[0] == []


def test_a_video_shorter_than_a_clip():
    scores = silent(60)
    for first, p in ((0, 0.9), (51, 0.8), (48, 0.7), (55, 0.95)):
        scores[0, window(first, first + 10), :2] = p
    # 55..65 reaches into the filling by more than 2 rows, 51..61 is cut
    chosen = Options(t_nms=None, module="cpn")
    assert spans_of(cp.spot(scores, faces(60), chosen)[0]) == [(0, 10), (48, 58), (51, 59)]
    curve = cp.spot(scores, faces(60), chosen)[1]["micro"]
    assert curve.score.shape == (60,) and np.flatnonzero(curve.score > 0.5).tolist() == [5, 53, 55]
    for frames in (0, 1, 2):
        found, curves = cp.spot(np.full_like(silent(frames), 0.9), faces(frames))
        assert found == [] and np.isnan(curves["micro"].score).all()
        assert np.isnan(curves["micro"].threshold) and curves["micro"].proposals.shape == (0, 3)


def test_windows_without_a_face_or_without_scores_do_not_count():
    scores = silent(100)
    for first, p in ((20, 0.9), (40, 0.8), (60, 0.7), (80, 0.6)):
        scores[0, window(first, first + 10), :2] = p
    valid = faces(100)
    valid[[30, 39]] = False  # the last row of one, the row before another
    scores[0, window(60, 70), 3] = np.nan
    found, curves = cp.spot(scores, valid)
    assert spans_of(found) == [(40, 50), (80, 90)]
    assert np.isnan(curves["micro"].score[30]) and not np.isnan(curves["micro"].score[65])
    found, curves = cp.spot(scores, ~faces(100))
    assert found == [] and np.isnan(curves["micro"].threshold)
    assert curves["micro"].peaks.dtype == np.int64 and curves["micro"].peaks.size == 0


def test_wrong_shapes_are_refused():
    for scores, frames in (
        (silent(100), 101),
        (silent(100)[..., :3], 100),
        (silent(100)[:, :469], 100),
        (silent(100)[0], 100),
    ):
        with pytest.raises(ValueError, match=r"scores .* must be \(\d, 470, 4\)"):
            cp.spot(scores, faces(frames))
    with pytest.raises(ValueError, match=r"for valid \(100, 1\)"):
        cp.spot(silent(100), faces(100)[:, None])


def naive(scores, valid, options):
    """Intervals of one video with their scores, window by window."""
    frames, best = len(valid), {}
    for clip, start in enumerate(starts(frames).tolist()):
        for (low, high), (cpn, crn, r1, r2) in zip(
            whole_windows().tolist(), scores[clip].astype(float).tolist(), strict=True
        ):
            if low < 0 and start > 0 or high >= CLIP and start + CLIP < frames:
                continue
            if start + high > frames + 1 or cpn < options.t_cpn:
                continue
            a, b = start + max(low, 0), start + min(high, CLIP - 1)
            if not all(valid[a : b + 1]):
                continue
            p = cpn
            if options.module == "crn":
                p = crn
                length = (b - a) / min(max(1 + r1 - r2, 0.7), 1 / 0.7)
                last = min(start + CLIP, frames) - 1
                a, b = (
                    int(np.floor(min(max(end + r * length, start), last) + 0.5))
                    for end, r in ((a, r1), (b, r2))
                )
                if p < options.t_crn or b <= a:
                    continue
            else:
                b = min(b, frames - 1)
            best[a, b] = max(p, best.get((a, b), 0))
    spans, p = as_array(best), np.array(list(best.values()))
    kept = naive_greedy(spans, p, options.t_nms)
    return sorted((*spans[i].tolist(), p[i]) for i in kept)


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from([3, 20, 60, 99, 100, 101, 130, 181, 260]),
    st.sampled_from([Options(0.9, 0.5), Options(0.85, module="cpn"), Options(0.8, 0.7, 0.2)]),
    st.integers(0, 2**32 - 1),
)
def test_a_video_window_by_window(frames, options, seed):
    rng = np.random.default_rng(seed)
    scores = silent(frames)
    scores[..., :2] = rng.random(scores[..., :2].shape).round(2)
    scores[..., 2:] = rng.normal(0, 0.3, scores[..., 2:].shape)
    valid = rng.random(frames) > 0.02
    found, curves = cp.spot(scores, valid, options)
    ours = [(d.onset, d.offset, d.score) for d in found]
    np.testing.assert_allclose(ours, naive(scores, valid, options))
    assert all(0 <= d.onset < d.offset < frames for d in found)
    assert curves["micro"].peaks.tolist() == sorted({d.apex for d in found})
    lone = naive(scores, valid, options._replace(module="cpn"))
    np.testing.assert_allclose(curves["micro"].proposals, np.reshape(lone, (-1, 3)))
