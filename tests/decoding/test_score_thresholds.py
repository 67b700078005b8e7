"""Thresholds of score runs: from the ROC of frames, and from other videos."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_score_runs import box, f32

from spotjax.counting.matching import RULES, Counts, VideoResult
from spotjax.decoding import score_runs
from spotjax.decoding.contrast import runs
from spotjax.decoding.score_runs import Options
from spotjax.types import Interval, Video

# --- ROC ------------------------------------------------------------------------------------------


def test_roc_by_hand():
    thresholds, tpr, fpr = score_runs.roc(
        f32([0.5, 1, 0.25, 0.5, 0.25]), np.array([1, 1, 0, 0, 0], bool)
    )
    assert thresholds.tolist() == [1, 0.5, 0.25]
    np.testing.assert_allclose(tpr, [1 / 2, 1, 1])
    np.testing.assert_allclose(fpr, [0, 1 / 3, 1])
    counted = np.array([3, 7, 1], np.uint8)  # cannot be negated
    assert score_runs.roc(counted, np.array([0, 1, 0]))[0].tolist() == [7, 3, 1]


def test_thresholds_by_hand():
    toy = np.array([0.9, 0.8, 0.4, 0.3]), np.array([1, 1, 0, 0], bool)
    _, tpr, fpr = score_runs.roc(*toy)
    assert score_runs.youden(*toy) == score_runs.corner(*toy) == 0.8 and (tpr - fpr).max() == 1
    tied = np.array([0.9, 0.8, 0.7, 0.6]), np.array([1, 0, 1, 0], bool)
    assert score_runs.youden(*tied) == 0.9  # J = 1/2 at .9 and at .7
    assert score_runs.corner(*tied) == 0.9  # distance 1/4 at both
    apart = np.arange(9, 0, -1) / 10, np.array([1, 1, 0, 0, 0, 0, 1, 0, 0], bool)
    # (tpr, fpr) is (2/3, 0) at .8 and (1, 2/3) at .3; the corner is nearer to the first
    assert score_runs.youden(*apart) == score_runs.corner(*apart) == 0.8
    steep = np.arange(6, 0, -1) / 10, np.array([1, 0, 1, 0, 1, 1], bool)
    # J: 1/4, -1/4, 0, -1/2, -1/4, 0; distances^2: .5625, .8125, .5, 1.25, 1.0625, 1
    assert score_runs.youden(*steep) == 0.6 and score_runs.corner(*steep) == 0.4


def brute_force(scores, labels):
    """(threshold, TPR, FPR) of every score, falling, in fractions."""
    positives, negatives = sum(labels), len(labels) - sum(labels)
    return [
        (
            t,
            Fraction(sum(y for s, y in zip(scores, labels, strict=True) if s >= t), positives),
            Fraction(sum(not y for s, y in zip(scores, labels, strict=True) if s >= t), negatives),
        )
        for t in sorted(set(scores), reverse=True)
    ]


frames = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=2, max_size=40).filter(
    lambda pairs: len({label for _, label in pairs}) == 2
)


@given(frames)
def test_roc_and_its_thresholds_are_those_of_brute_force(pairs):
    scores, labels = zip(*pairs, strict=True)
    expected = brute_force(scores, labels)
    given = np.array(scores, np.float32), np.array(labels)
    thresholds, tpr, fpr = score_runs.roc(*given)
    assert thresholds.tolist() == [t for t, _, _ in expected]
    assert tpr.tolist() == [float(rate) for _, rate, _ in expected]
    assert fpr.tolist() == [float(rate) for _, _, rate in expected]
    assert (np.diff(thresholds) < 0).all()
    assert (np.diff(tpr) >= 0).all() and (np.diff(fpr) >= 0).all() and tpr[-1] == fpr[-1] == 1
    j = max(expected, key=lambda point: (point[1] - point[2], point[0]))
    near = min(expected, key=lambda point: (point[2] ** 2 + (1 - point[1]) ** 2, -point[0]))
    assert score_runs.youden(*given) == j[0]
    assert score_runs.corner(*given) == near[0]


# --- thresholds from other videos -----------------------------------------------------------------


def video(length, *intervals):
    made = tuple(Interval(a, -1, b, type) for a, b, type in intervals)
    return Video("s1", "v1", 30.0, 500, length, np.arange(length), made)


def test_frame_labels_by_hand():
    labels = score_runs.frame_labels(
        video(10, (2, 3, "micro"), (3, 6, "macro"), (9, 9, "micro"), (0, 0, "macro"))
    )
    assert labels.dtype == bool and labels.shape == (10, 2)
    assert np.flatnonzero(labels[:, 0]).tolist() == [2, 3, 9]
    assert np.flatnonzero(labels[:, 1]).tolist() == [0, 3, 4, 5, 6]
    cut = score_runs.frame_labels(video(10, (8, 12, "micro"), (-3, 1, "macro"), (-6, -4, "micro")))
    assert [np.flatnonzero(track).tolist() for track in cut.T] == [[8, 9], [0, 1]]


def labels_of(micro, macro):
    return np.stack([np.asarray(micro, bool), np.asarray(macro, bool)], axis=1)


def invented(seed, length=400):
    """Scores, valid and labels of a video with two pulses of each type in noise."""
    rng = np.random.default_rng(seed)
    micro = box(length, (60, 69), (300, 309))
    macro = box(length, (100, 140), (200, 260))
    noise = rng.normal(0, 0.25, (length, 2)).astype(np.float32)
    valid = np.ones(length, bool)
    valid[[150, 151, 305]] = False
    scores = (np.stack([micro, macro], axis=1) + noise) * rng.uniform(0.2, 1)
    return scores.astype(np.float32), valid, labels_of(micro, macro)


OPTIONS = Options(k_micro=8, k_macro=30, threshold_micro=0.31, threshold_macro=0.62)


@pytest.mark.parametrize("kind", ["youden", "corner"])
def test_thresholds_of_several_videos_are_of_all_their_smoothed_frames(kind):
    videos = [invented(seed) for seed in range(4)]
    chosen, left = score_runs.choose_thresholds(videos, OPTIONS, kind)
    assert left == () and list(chosen) == ["threshold_micro", "threshold_macro"]
    for type, column, k in (("micro", 0, 8), ("macro", 1, 30)):
        pooled, labels = [], []
        for scores, valid, label in videos:
            curve = score_runs.smooth(score_runs.normalise(scores[:, column], valid), valid, k)
            pooled.append(curve[valid])
            labels.append(label[valid, column])
        rule = getattr(score_runs, kind)
        expected = rule(np.concatenate(pooled), np.concatenate(labels))
        assert chosen[f"threshold_{type}"] == expected

    # spotting with them covers the very frames that the ROC curve counted
    options = OPTIONS._replace(**chosen)
    for scores, valid, _ in videos:
        for type, curve in score_runs.curves(scores, valid, options).items():
            covered = np.zeros(len(scores), bool)
            for d in score_runs.spot(scores, valid, options)[0]:
                if d.type == type:
                    covered[d.onset : d.offset + 1] = True
            np.testing.assert_array_equal(covered, curve >= chosen[f"threshold_{type}"])


def f1(videos, options, type):
    column, total = score_runs.COLUMNS[type], Counts()
    for scores, valid, labels in videos:
        mine = [d for d in score_runs.spot(scores, valid, options)[0] if d.type == type]
        spans = np.array([(d.onset, d.offset) for d in mine], np.int64).reshape(-1, 2)
        result = VideoResult(spans, np.array([d.score for d in mine]), runs(labels[:, column]))
        total += RULES["one_to_one"].tally(RULES["one_to_one"].hits(result, 0.5))
    return total.f1


@pytest.mark.parametrize("min_rows", [1, 8])
def test_the_best_f1_is_that_of_spotting_with_every_level(min_rows):
    videos = [invented(seed) for seed in range(3)]
    options = OPTIONS._replace(min_rows=min_rows)
    chosen, left = score_runs.choose_thresholds(videos, options, "f1")
    assert left == ()
    for type in ("micro", "macro"):
        name = f"threshold_{type}"
        every = {
            level: f1(videos, options._replace(**{name: level}), type)
            for level in np.arange(1, 51) / 50
        }
        best = max(every, key=lambda level: (every[level], level))
        assert chosen[name] == pytest.approx(best, rel=1e-12) and every[best] > 0
        assert len(set(every.values())) > 3  # something to choose between


def test_rare_expressions_get_a_low_threshold_from_frames_but_not_from_intervals():
    """What the third way is for: most of the 0.5 % positive frames are found at any price."""
    rng = np.random.default_rng(3)
    labels = np.zeros((4000, 2), bool)
    labels[np.r_[1000:1010, 3000:3010], 0] = True
    scores = rng.normal(0, 0.25, (4000, 2)).astype(np.float32)
    scores[labels[:, 0], 0] += 1
    labels[3005:3025, 0] = True  # annotated longer than it is seen
    videos = [(scores, np.ones(4000, bool), labels)]
    frames, intervals = (
        score_runs.choose_thresholds(videos, OPTIONS, kind)[0] for kind in ("youden", "f1")
    )
    assert frames["threshold_micro"] < intervals["threshold_micro"]
    by = {
        name: f1(videos, OPTIONS._replace(**chosen), "micro")
        for name, chosen in (("frames", frames), ("intervals", intervals))
    }
    assert by["frames"] < by["intervals"]


@pytest.mark.parametrize("kind", ["youden", "corner", "f1"])
def test_a_type_without_a_choice_stays(kind):
    scores, valid, labels = invented(0)
    kept = OPTIONS._asdict()

    def choose(*videos):
        return score_runs.choose_thresholds(videos, OPTIONS, kind)

    none = labels.copy()
    none[:, 0] = False
    chosen, left = choose((scores, valid, none))
    assert left == ("micro",) and chosen["threshold_micro"] == kept["threshold_micro"]
    full, _ = choose((scores, valid, labels))
    assert chosen["threshold_macro"] == full["threshold_macro"] != kept["threshold_macro"]
    both_left = {name: kept[name] for name in ("threshold_micro", "threshold_macro")}
    nothing = both_left, ("micro", "macro")
    assert choose() == nothing
    assert choose((scores, np.zeros(400, bool), labels)) == nothing
    assert choose((np.full_like(scores, 0.4), valid, labels)) == nothing
    # a score that falls where expressions are: no threshold is better than to find nothing
    backwards = Options(1, 1, 0.31, 0.62)
    wrong = np.where(labels, np.float32(0), np.float32(1))
    wrong[:, :] += np.linspace(0, 0.1, 400, dtype=np.float32)[:, None]
    assert score_runs.choose_thresholds([(wrong, valid, labels)], backwards, kind) == nothing
