import csv
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import shared_file

from spotjax.counting.recognition import CLASSES
from spotjax.decoding import phase_labels

RULES = ("release", "paper")


def labels(rule, intervals, num_rows=12, soft=False, neutral=4):
    return phase_labels.labels(rule, soft, num_rows, intervals, neutral)


def test_the_two_halves_of_an_onset_phase_by_hand():
    for rule, rows in {"release": [4, 5, 6, 7], "paper": [2, 3, 4]}.items():
        score, emotion = labels(rule, [(2, 7, 1)])
        assert score.dtype == np.float32 and emotion.dtype == np.int32
        assert np.flatnonzero(score).tolist() == rows and set(score[rows]) == {1}
        assert np.flatnonzero(emotion != 4).tolist() == rows and set(emotion[rows]) == {1}


def test_soft_labels_grow_from_the_onset_to_the_apex():
    score, emotion = labels("release", [(2, 6, 0)], soft=True)
    np.testing.assert_allclose(score[3:8], [0, 0.5, 0.75, 1, 0])
    assert emotion[3:8].tolist() == [4, 0, 0, 0, 4]
    score, emotion = labels("paper", [(2, 6, 0)], soft=True)
    np.testing.assert_allclose(score[1:6], [0, 0, 0.25, 0.5, 0])
    assert emotion[1:6].tolist() == [4, 0, 0, 0, 4]  # the onset is positive with score 0


@pytest.mark.parametrize("rule", RULES)
def test_apexes_that_leave_no_onset_phase(rule):
    for soft in (False, True):
        score, emotion = labels(rule, [(3, 3, 2)], soft=soft)
        assert np.flatnonzero(score).tolist() == [3] and score[3] == 1 and emotion[3] == 2
        for apex in (-1, 0, 2):
            score, emotion = labels(rule, [(3, apex, 2)], soft=soft)
            assert not score.any() and (emotion == 4).all()
        score, emotion = labels(rule, [(0, -1, 2)], soft=soft)
        assert not score.any() and (emotion == 4).all()


def test_rows_past_the_end_are_left_out():
    score, emotion = labels("release", [(6, 14, 0), (20, 30, 1)])
    assert np.flatnonzero(score).tolist() == np.flatnonzero(emotion == 0).tolist() == [10, 11]
    assert 1 not in emotion
    score, emotion = labels("paper", [(0, 4, 0)], num_rows=0)
    assert score.shape == emotion.shape == (0,)


def test_the_later_of_two_expressions_counts():
    score, emotion = labels("release", [(2, 6, 0), (4, 8, 1)], soft=True)
    np.testing.assert_allclose(score[4:9], [0.5, 0.75, 0.5, 0.75, 1])
    assert emotion[4:9].tolist() == [0, 0, 1, 1, 1]


def test_bad_arguments():
    rows, rng = np.arange(4), np.random.default_rng(0)
    for message, call in {
        "unknown rule": lambda: labels("mtsn", []),
        "must not be negative, got -1 and 0": lambda: labels("paper", [(-1, 3, 0)]),
        "must not be negative, got 1 and -2": lambda: labels("paper", [(1, 3, -2)]),
        "counts must not be negative": lambda: phase_labels.balance(-1, 2, rows, rng),
        "counts must not be negative, got 1": lambda: phase_labels.balance(1, -2, rows, rng),
        r"must be in 0..4, got \[5\]": lambda: phase_labels.class_weights([5], 4),
        r"must be in 0..4, got \[-1, 0\]": lambda: phase_labels.class_weights([0, -1], 4),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()


@given(st.integers(0, 30), st.integers(0, 12), st.integers(0, 40), st.booleans())
def test_both_halves_make_the_onset_phase(onset, length, num_rows, soft):
    apex = onset + length
    found = [labels(rule, [(onset, apex, 3)], num_rows, soft)[1] == 3 for rule in RULES]
    inside = np.arange(num_rows)
    np.testing.assert_array_equal(found[0] | found[1], (inside >= onset) & (inside <= apex))
    assert np.flatnonzero(found[0] & found[1]).tolist() in ([], [(onset + apex) // 2])


def test_as_many_negatives_as_positive_rows_and_clips():
    rows = np.array([5, 6, 9, 20, 21, 30, 31])
    chosen = phase_labels.balance(2, 3, rows, np.random.default_rng(0))
    assert len(chosen) == 5 and set(chosen) <= set(rows) and (np.diff(chosen) > 0).all()
    again = phase_labels.balance(2, 3, rows, np.random.default_rng(0))
    assert chosen.tolist() == again.tolist()
    others = {tuple(phase_labels.balance(2, 3, rows, np.random.default_rng(s))) for s in range(20)}
    assert len(others) > 5
    every = phase_labels.balance(9, 9, rows, np.random.default_rng(0))
    assert every.tolist() == rows.tolist()
    for positives, negatives in ((0, rows), (3, rows[:0])):
        assert phase_labels.balance(positives, 0, negatives, np.random.default_rng(0)).size == 0


def test_class_weights_by_hand():
    weights = phase_labels.class_weights(np.array([0, 0, 0, 2, 4, 4, 4]), 4)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, [4 / 6, 0, 4 / 2, 0, 0])  # two classes among 4 samples
    for nothing in ([], [4, 4]):
        assert phase_labels.class_weights(np.array(nothing, np.int32), 4).tolist() == [0] * 5
    assert phase_labels.class_weights(np.array([6]), 7).tolist() == [0] * 6 + [1, 0]


@given(st.lists(st.integers(0, 4), max_size=30))
def test_every_class_that_occurs_weighs_the_same_in_total(emotions):
    weights = phase_labels.class_weights(np.array(emotions, np.int32), 4)
    assert np.isfinite(weights).all() and weights[4] == 0
    count = np.bincount([e for e in emotions if e < 4], minlength=5)
    present = count > 0
    np.testing.assert_array_equal(weights > 0, present)
    total = (weights * count)[present]
    np.testing.assert_allclose(total, np.full(total.shape, count.sum() / max(present.sum(), 1)))


def golden(section):
    path = shared_file("goldens/sfamnet_softnet_postprocess.json")
    return json.loads(path.read_text())["sfamnet"][section]


def test_labels_of_the_release():
    reference = golden("pseudo_label_release")
    assert len(reference["cases"]) >= 10
    for case in reference["cases"]:
        classes = CLASSES[case["emotion_type_argument"]]
        assert list(reference["label_dicts"][str(len(classes))])[:-1] == list(classes)
        skip = case["frame_skip"]
        micro = [
            (onset // skip, apex // skip, classes.index(emotion))
            for (onset, apex, _), type, emotion in zip(
                case["samples_onset_apex_offset0"], case["types"], case["emotions"], strict=True
            )
            if type == "micro"
        ]
        # the release writes its last class where neutral belongs
        (elsewhere,) = case["emotion_label_elsewhere"]
        assert elsewhere == len(classes) - 1
        score, emotion = labels("release", micro, case["feature_len"], neutral=elsewhere)
        positive = np.flatnonzero(score)
        assert positive.tolist() == case["spot_positive_indices"]
        assert emotion[positive].tolist() == case["emotion_labels_on_positive"]
        assert set(np.delete(emotion, positive)) == {elsewhere}


def test_numbers_of_samples_of_the_release():
    case = golden("downsampling")
    negatives = np.arange(case["n_negative"])
    chosen = phase_labels.balance(
        case["n_positive"], case["n_recog"], negatives, np.random.default_rng(1)
    )
    assert len(set(chosen)) == case["kept_negatives"] == case["kept_positives"] + case["n_recog"]


def test_class_weights_of_the_release():
    case = golden("class_weights_balanced")
    emotions = np.repeat(np.arange(5), [*case["counts"], 1000])
    weights = phase_labels.class_weights(emotions, 4)
    np.testing.assert_allclose(weights, [*case["weights"], 0], rtol=1e-6)


def test_the_published_number_of_samples_needs_the_rule_of_the_release():
    path = shared_file("annotations/normalized/casme_cube_part_a_v2.csv")
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "ME"]
    rows = [row for row in rows if row["subject"] != "spNO.1"]  # the fold that the paper counts
    assert len(rows) == 850
    videos = {}
    for row in rows:
        phase = [max(int(row[key]) - 1, 0) // 2 for key in ("onset", "apex")]
        videos.setdefault((row["subject"], row["video"]), []).append((*phase, 0))

    def positives(rule):
        return sum(int(labels(rule, phases, 10_000)[0].sum()) for phases in videos.values())

    # 4472 samples are published, half of them positive; a few rows lie past the videos' ends
    assert positives("release") == 2241 == 4472 // 2 + 5
    assert positives("paper") == 1894
