import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import shared_file
from scipy.special import expit, softmax

from spotjax.counting import metrics
from spotjax.counting.matching import Counts, VideoResult
from spotjax.decoding import proposals
from spotjax.decoding.intervals import as_array, iou_matrix
from spotjax.decoding.proposals import Options, Range
from spotjax.types import Detection

TYPES = {1: "macro", 2: "micro"}


def f32(values):
    return np.asarray(values, np.float32)


def propose(onset, offset, apex, type="micro", valid=None, **options):
    """`proposals.propose` with the ranges of the release and all frames valid."""
    valid = np.ones(len(apex), bool) if valid is None else np.asarray(valid, bool)
    options = proposals.ranges()[type]._asdict() | options
    return proposals.propose(f32(onset), f32(offset), f32(apex), type, valid=valid, **options)


def peaked(length, **peaks):
    """Probabilities of `length` frames: .1, except where `peaks` say {frame: probability}."""
    rows = {name: np.full(length, 0.1) for name in ("onset", "offset", "apex")}
    for name, values in peaks.items():
        for frame, value in values.items():
            rows[name][frame] = value
    return rows


def test_a_proposal_by_hand():
    rows = peaked(40, onset={14: 0.5, 11: 0.75}, offset={24: 0.5, 27: 0.4}, apex={20: 0.75})
    rows["onset"][19] = rows["offset"][21] = 0.9  # nearer than 2 frames
    (found,) = propose(**rows)
    assert found[:4] == (14, 20, 24, "micro")  # 11 is 9 frames away
    assert found.score == pytest.approx(0.5 * 0.5 * 0.75)
    (wider,) = propose(**rows, low=1, high=9)
    assert wider[:3] == (19, 20, 21)


def test_of_equal_boundaries_the_nearest_counts():
    rows = peaked(40, onset={15: 0.6, 17: 0.6}, offset={26: 0.6, 23: 0.6, 25: 0.6}, apex={20: 0.75})
    assert [d[:3] for d in propose(**rows)] == [(17, 20, 23)]


def test_the_apex_must_exceed_the_threshold_and_each_boundary_the_opposite():
    rows = peaked(40, onset={15: 0.6}, offset={25: 0.6}, apex={20: 0.75})
    assert len(propose(**rows)) == 1 and propose(**rows, threshold=0.75) == []
    for name, frame in (("offset", 15), ("onset", 25)):
        other = {key: row.copy() for key, row in rows.items()}
        other[name][frame] = 0.6
        assert propose(**other) == []


def test_distances_end_at_the_ends_of_the_video():
    rows = peaked(7, onset={0: 0.6}, offset={6: 0.6}, apex={1: 0.75, 5: 0.8})
    assert [d[:3] for d in propose(**rows)] == [(0, 1, 6), (0, 5, 6)]


def test_frames_without_a_face_are_neither_apex_nor_boundary():
    apexes = {20: 0.75, 21: 0.75, 22: 0.75}
    rows = peaked(40, onset={14: 0.7, 15: 0.6}, offset={25: 0.6}, apex=apexes)
    valid = np.ones(40, bool)
    valid[[14, 21]] = False
    assert [d[:3] for d in propose(**rows, valid=valid)] == [(15, 20, 25), (15, 22, 25)]
    rows["offset"][25] = np.nan
    rows["offset"][24] = 0.5
    rows["apex"][22] = np.nan
    assert [d[:3] for d in propose(**rows, valid=valid)] == [(15, 20, 24)]


def test_an_apex_without_any_face_on_one_side_proposes_nothing():
    rows = peaked(40, onset={15: 0.6, 18: 0.6}, offset={22: 0.6, 25: 0.6}, apex={20: 0.75})
    for side in (range(12, 19), range(22, 29)):
        valid = ~np.isin(np.arange(40), side)
        assert propose(**rows, valid=valid) == []


def test_tiny_and_flat_videos():
    assert propose([0.9], [0.9], [0.9]) == propose([0.9], [0.1], [0.9]) == propose([], [], []) == []
    flat = np.full(60, 0.6)
    assert propose(flat, flat, flat) == propose(flat, 0.5 * flat, flat) == []
    missing = np.full(60, np.nan)
    assert propose(missing, missing, missing) == []


def test_bad_arguments():
    one, two, video = [0.1], [0.1, 0.2], np.zeros((5, 6), np.float32)
    for message, call in {
        "equal, rank 1": lambda: propose(two, one, one),
        "low <= high is needed, got 4": lambda: propose(one, one, one, low=4, high=3),
        "low <= high is needed, got -1": lambda: propose(one, one, one, low=-1, high=3),
        "must not be negative": lambda: proposals.nms([], keep=-1),
        r"5, 10\) must be \[T, 6\]": lambda: proposals.spot(np.zeros((5, 10)), np.ones(5, bool)),
        r"valid \(4,\) \[T\]": lambda: proposals.spot(video, np.ones(4, bool)),
        "fps must be positive": lambda: proposals.ranges(fps=0),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(KeyError):
        proposals.ranges("abpn")


def test_ranges():
    release = {"macro": Range(8, 29), "micro": Range(2, 8)}
    assert proposals.ranges() == release == {t: getattr(Options(), t) for t in release}
    assert proposals.ranges("paper") == {"macro": Range(8, 30), "micro": Range(2, 8)}
    assert proposals.ranges(fps=29.97) == release
    assert proposals.ranges(fps=200 / 7) == {"macro": Range(8, 28), "micro": Range(2, 8)}
    assert proposals.ranges("paper", 200)["macro"] == Range(53, 200)


def spans(*rows):
    return [Detection(onset, (onset + end) // 2, end, "micro", s) for onset, end, s in rows]


def test_suppression_by_hand():
    found = spans((0, 10, 0.5), (2, 12, 0.9), (20, 30, 0.1), (40, 50, 0.2), (8, 18, 0.3))
    assert [d.onset for d in proposals.nms(found)] == [2, 8, 40, 20]
    assert [d.onset for d in proposals.nms(found, keep=2)] == [2, 8]
    assert [d.onset for d in proposals.nms(found, iou=0.9)] == [2, 0, 8, 40, 20]
    chain = spans((0, 10, 0.9), (3, 13, 0.8), (6, 16, 0.7))  # the dropped one drops no other
    assert [d.onset for d in proposals.nms(chain)] == [0, 6]


def test_only_an_overlap_above_the_threshold_drops():
    pair = spans((0, 20, 0.9), (0, 10, 0.5))  # 10 / 20, or 11 / 21 with the last frames
    assert len(proposals.nms(pair)) == 2
    assert len(proposals.nms(pair, kind="inclusive")) == 1


def test_no_limit_and_ties():
    many = spans(*((20 * i, 20 * i + 5, 0.5) for i in range(8)))
    assert proposals.nms(many[::-1], keep=0) == many
    assert proposals.nms(many[::-1]) == many[:5]
    assert proposals.nms([]) == []


def video_scores(length=200):
    """A macro-expression 40..60..80 and a micro-expression 120..125..130: f32[length, 6]."""
    scores = np.full((length, 6), 0.1, np.float32)
    for frame, column in ((120, 0), (130, 1), (40, 2), (80, 3), (125, 4), (60, 5)):
        scores[frame, column] = 0.8
    return scores


def test_spot_by_hand():
    scores = video_scores()
    found, curves = proposals.spot(scores, np.ones(200, bool))
    assert [d[:4] for d in found] == [(40, 60, 80, "macro"), (120, 125, 130, "micro")]
    assert found[0].score == pytest.approx(0.512)
    assert list(curves) == ["macro", "micro"]
    for type, column, apex in (("macro", 5, 60), ("micro", 4, 125)):
        curve = curves[type]
        np.testing.assert_array_equal(curve.score, scores[:, column])
        assert curve.score.dtype == np.float32 and curve.threshold == 0.5
        assert curve.peaks.tolist() == [apex] and curve.peaks.dtype == np.int64


def test_spot_without_faces():
    scores, valid = video_scores(), np.ones(200, bool)
    valid[120] = False
    scores[55:65] = np.nan
    found, curves = proposals.spot(scores, valid)
    assert found == [] and curves["macro"].peaks.tolist() == []
    assert np.flatnonzero(np.isnan(curves["macro"].score)).tolist() == [*range(55, 65), 120]
    for missing in (np.full((50, 6), np.nan, np.float32), np.zeros((0, 6), np.float32)):
        found, curves = proposals.spot(missing, np.ones(len(missing), bool))
        assert found == [] and np.isnan(curves["micro"].threshold)
        assert np.isnan(curves["micro"].score).all() and curves["micro"].peaks.size == 0


def test_options_of_the_proposals_reach_them():
    scores, valid = video_scores(), np.ones(200, bool)
    found, curves = proposals.spot(scores, valid, Options(threshold=0.8))
    assert found == [] and curves["macro"].threshold == 0.8
    assert proposals.spot(scores, valid, Options(**proposals.ranges(fps=15)))[0] == []
    scores[:, 4] = 0.7  # every frame near the micro-expression is an apex: the first one stays
    found, curves = proposals.spot(scores, valid, Options(keep=1))
    assert [d[:4] for d in found] == [(40, 60, 80, "macro"), (120, 122, 130, "micro")]


def test_options_of_suppression_reach_it():
    scores, valid = np.full((40, 6), 0.1, np.float32), np.ones(40, bool)
    scores[[10, 17], 4] = scores[[6, 12], 0] = scores[[17, 21], 1] = 0.9
    both = [(6, 10, 17), (12, 17, 21)]  # they share 5 / 15, or 6 / 16 with the last frames
    inclusive = Options(iou=0.35, kind="inclusive")
    for options, kept in (Options(), 2), (Options(iou=0.3), 1), (inclusive, 1):
        assert [d[:3] for d in proposals.spot(scores, valid, options)[0]] == both[:kept]
    assert len(proposals.spot(scores, valid, Options(iou=0.35))[0]) == 2


@settings(deadline=None)
@given(
    st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 6, st.booleans()), min_size=1, max_size=60),
    st.sampled_from([Options(), Options(keep=0), Options(keep=0, kind="inclusive", iou=0.2)]),
)
def test_intervals_are_ordered_inside_the_video_and_apart(rows, options):
    scores = f32([row[:6] for row in rows])
    valid = np.array([row[6] for row in rows])
    found, curves = proposals.spot(scores, valid, options)
    for type, (onset, offset, _) in proposals.COLUMNS.items():
        mine = [d for d in found if d.type == type]
        low, high = getattr(options, type)
        for d in mine:
            assert 0 <= d.onset <= d.apex <= d.offset < len(rows) and d.onset < d.offset
            assert valid[[d.onset, d.apex, d.offset]].all()
            assert d.onset == 0 or low <= d.apex - d.onset <= high
            assert d.offset == len(rows) - 1 or low <= d.offset - d.apex <= high
            assert scores[d.onset, onset] > scores[d.onset, offset]
            assert scores[d.offset, offset] > scores[d.offset, onset]
            assert 0 < d.score <= 1
        overlaps = iou_matrix(as_array(mine), as_array(mine), options.kind)
        assert (overlaps[~np.eye(len(mine), dtype=bool)] <= options.iou).all()
        assert options.keep == 0 or len(mine) <= options.keep
        assert [d.score for d in mine] == sorted((d.score for d in mine), reverse=True)
        assert curves[type].peaks.tolist() == sorted(d.apex for d in mine)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12), st.integers(1, 4)), max_size=12),
    st.randoms(use_true_random=False),
    st.sampled_from([0, 1, 5]),
)
def test_suppression_does_not_depend_on_the_order(rows, random, keep):
    found = spans(*((onset, onset + length, score / 4) for onset, length, score in rows))
    kept = proposals.nms(found, keep=keep)
    assert proposals.nms(random.sample(found, len(found)), keep=keep) == kept
    assert proposals.nms(kept, keep=keep) == kept


cases = pytest.mark.parametrize("kind", ["synthetic", "real"])


def reference(kind):
    path = shared_file(f"goldens/spotformer_post_{kind}.json")
    logits = np.load(shared_file(f"goldens/spotformer_post_{kind}_logits.npz"))
    return json.loads(path.read_text()), logits


@cases
def test_proposals_and_suppression_of_the_release(kind):
    golden = reference(kind)[0]["proposal_cases"]
    assert len(golden) >= 5
    for case in golden:
        type = TYPES[case["type_idx"]]
        found = propose(case["start"], case["end"], case["apex"], type)
        expected = case["proposals"] or []
        assert [d[:3] for d in found] == [(a, c, b) for a, b, c, *_ in expected], case["name"]
        scores = [np.prod(row[3:]) for row in expected]
        np.testing.assert_allclose([d.score for d in found], scores, rtol=1e-12)
        for keep in (5, 100) if expected else ():
            kept, best = proposals.nms(found, keep=keep), case[f"nms_top{keep}"]
            assert [d[:3] for d in kept] == [(a, c, b) for a, b, c, _ in best], case["name"]
            np.testing.assert_allclose([d.score for d in kept], [row[3] for row in best], 1e-6)


def probabilities(logits):
    """What `spot` takes, f32[T, 6], of the network's logits f32[T, 10]."""
    edges = [softmax(logits[:, first : first + 3], axis=1)[:, :2] for first in (0, 3)]
    return np.concatenate([*edges, expit(logits[:, 6:8])], axis=1)


def spotted(logits, subject, epoch, videos, options=None):
    """Per video of a subject, what `spot` finds in the epoch's logits."""
    mine = [video for video in videos if video.startswith(subject)]
    scores = {video: probabilities(logits[f"{video}|{epoch}"]) for video in mine}
    return {v: proposals.spot(s, np.ones(len(s), bool), options)[0] for v, s in scores.items()}


def results(found, annotations):
    """By (video, type), the intervals found against the annotations in table order."""
    listed = {}
    for video, type in ((video, type) for video in found for type in TYPES.values()):
        mine = [d for d in found[video] if d.type == type]
        rows = [a for a in annotations if (a["video_name"], TYPES[a["type_idx"]]) == (video, type)]
        truths = as_array((a["start_frame"], a["end_frame"]) for a in rows)
        scores = np.array([d.score for d in mine])
        listed[video, type] = VideoResult(as_array(mine), scores, truths)
    return listed


@cases
def test_intervals_and_hits_of_the_release(kind):
    golden, logits = reference(kind)
    run = golden["end_to_end"]
    assert len(run["epochs"]) == 9
    for key, expected in run["epochs"].items():
        subject, epoch = key.split("|")
        found = spotted(logits, subject, epoch, run["videos"])
        ours = [(video, *d) for video, mine in found.items() for d in mine]
        fields = ("video_name", "start_frame", "apex_frame", "end_frame", "type_idx", "score")
        theirs = [tuple(row[field] for field in fields) for row in expected["nms"]]
        assert [row[:4] for row in ours] == [row[:4] for row in theirs], key
        assert [row[4] for row in ours] == [TYPES[row[4]] for row in theirs], key
        np.testing.assert_allclose([row[5] for row in ours], [row[5] for row in theirs], 1e-5)
        matched = results(found, run["annotations"]).values()
        hits = np.concatenate([metrics.matched(one, "spotformer") >= 0 for one in matched])
        assert hits.tolist() == [row["find"] for row in expected["matched"]], key
        everything = spotted(logits, subject, epoch, run["videos"], Options(keep=0, iou=1.0))
        assert sum(map(len, everything.values())) == expected["n_proposals"], key


def best(by_epoch, types):
    """Counts of the epoch that the release takes for a subject: .01 is added to each type's TP."""

    def f1(counts):
        total = sum((counts[type] for type in types), Counts())
        number = 2 * total.tp + total.fp + total.fn
        return 2 * (total.tp + 0.01 * len(types)) / number if number else 0.0

    return max(by_epoch, key=f1)


@cases
def test_the_final_f1_of_the_release(kind):
    golden, logits = reference(kind)
    run = golden["end_to_end"]

    def counted(subject, epoch):
        found = spotted(logits, subject, epoch, run["videos"])
        totals = dict.fromkeys(TYPES.values(), Counts())
        for (_, type), one in results(found, run["annotations"]).items():
            totals[type] += metrics.count([one], "spotformer")
        return totals

    subjects = [[counted(subject, epoch) for epoch in (1, 2, 3)] for subject in run["subjects"]]
    macro, micro, both = ("macro",), ("micro",), ("macro", "micro")
    choices = [(macro, macro), (micro, micro), (both, both), (both, macro), (both, micro)]
    ours = []
    for choice, types in choices:
        taken = [best(epochs, choice)[type] for epochs in subjects for type in types]
        total = sum(taken, Counts())
        ours.append((total.tp, total.tp + total.fp, round(total.f1, 6)))
    printed = [
        [float(value) for value in re.findall(rf"{name}】 ?= (\S+)", run["printed"])]
        for name in ("TP", "Predict_Count", "F1_Score")
    ]
    assert ours == list(zip(*printed, strict=True))
