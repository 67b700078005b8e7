import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import shared_file

from spotjax.counting import recognition
from spotjax.counting.matching import Counts, VideoResult
from spotjax.counting.recognition import CLASSES, EmotionResult
from spotjax.decoding.intervals import as_array

QUIRKS = ("none", "sfamnet", "strs_tool")


def table(true, predicted, classes=4):
    return recognition.confusion(np.array(true, int), np.array(predicted, int), classes)


def test_confusion_has_a_column_for_neutral():
    found = table([0, 0, 1, 3], [0, 4, 1, 1])
    assert found.shape == (4, 5) and found.sum() == 4
    assert found[0].tolist() == [1, 0, 0, 0, 1] and found[3].tolist() == [0, 1, 0, 0, 0]
    with pytest.raises(ValueError, match=r"true emotions must be in 0..3"):
        table([4], [0])
    with pytest.raises(ValueError, match=r"predicted emotions must be in 0..4"):
        table([0], [5])


def test_a_class_that_is_predicted_but_never_true():
    found = table([0, 0, 1, 2], [0, 3, 1, 2])
    precision, recall, f1 = recognition.per_class(found)
    np.testing.assert_array_equal(precision, [1, 1, 1, 0])
    np.testing.assert_array_equal(recall, [0.5, 1, 1, np.nan])
    np.testing.assert_array_equal(f1, [2 / 3, 1, 1, 0])
    assert recognition.uf1(found) == pytest.approx(8 / 3 / 4)
    assert recognition.uar(found) == pytest.approx(2.5 / 3)
    assert recognition.uar(found, "sfamnet") == 0
    assert recognition.uar(found, "strs_tool") == 3 / 4  # it is the mean precision
    assert recognition.analysis_f1(found) == pytest.approx(2 * 0.75 * 0.625 / 1.375)


def test_a_class_that_does_not_occur():
    found = table([0, 1, 1], [0, 1, 0])
    assert recognition.uf1(found) == recognition.uf1(found, "sfamnet") == pytest.approx(2 / 3)
    assert recognition.uf1(found, "strs_tool") == pytest.approx(1 / 3)
    assert recognition.uar(found) == recognition.uar(found, "sfamnet") == 0.75


def test_one_class_only():
    found = table([2, 2], [2, 2])
    assert recognition.uf1(found) == recognition.uar(found) == recognition.analysis_f1(found) == 1
    assert recognition.uf1(found, "sfamnet") == recognition.uar(found, "sfamnet") == 0
    for quirks in QUIRKS:
        nothing = table([], [])
        assert recognition.uf1(nothing, quirks) == recognition.uar(nothing, quirks) == 0
        assert recognition.analysis_f1(nothing, quirks) == 0


def test_classes_of_labels():
    assert recognition.classes_of(["others", "surprise", "neutral"]) == CLASSES[4]
    assert recognition.classes_of(["others", "fear"]) == CLASSES[7]
    with pytest.raises(ValueError, match="holds fear, negative"):
        recognition.classes_of(["fear", "negative"])


def emotions(videos, classes=CLASSES[4]):
    """Videos of (predictions, truths), each interval (onset, offset, emotion)."""
    return [
        EmotionResult(
            VideoResult(as_array(predictions), np.zeros(len(predictions)), as_array(truths)),
            np.array([classes.index(p[2]) for p in predictions], int),
            np.array([classes.index(t[2]) for t in truths], int),
        )
        for predictions, truths in videos
    ]


def test_spot_then_recognise_by_hand():
    case = emotions(
        [
            (
                [(10, 30, "negative"), (60, 70, "surprise"), (90, 99, "others")],
                [(10, 26, "negative"), (14, 30, "positive"), (60, 70, "surprise")],
            )
        ]
    )
    one = recognition.spot_then_recognise(case, "one_to_one", 4)
    assert one.spotting == Counts(2, 1, 1)
    assert one.true.tolist() == one.predicted.tolist() == [0, 2]
    assert (one.uf1, one.uar, one.f1, one.strs) == (1, 1, 1, 2 / 3)
    tool = recognition.spot_then_recognise(case, "strs_tool", 4)
    assert tool.true.tolist() == [0, 1, 2] and tool.predicted.tolist() == [0, 0, 2]
    sfamnet = recognition.spot_then_recognise(case, "sfamnet", 4)  # the first reaches two truths
    assert sfamnet.true.tolist() == [2] and sfamnet.strs == 0
    with pytest.raises(KeyError):
        recognition.spot_then_recognise(case, "abpn", 4)


def test_json_of_an_analysis():
    case = emotions([([(10, 30, "negative")], [(10, 26, "positive")])])
    found = recognition.as_dict(recognition.spot_then_recognise(case, "one_to_one", 4), CLASSES[4])
    assert json.loads(json.dumps(found)) == found
    assert found["analysed"] == 1 and found["classes"][-1] == "neutral"
    assert found["per_class"]["negative"] == {"precision": 0.0, "recall": None, "f1": 0.0}
    assert found["per_class"]["others"] == {"precision": None, "recall": None, "f1": None}


def golden(section, at_least):
    cases = json.loads(shared_file("goldens/metrics.json").read_text())[section]
    assert len(cases) >= at_least
    return cases


def test_recognition_of_sfamnets_release():
    for case in golden("recognition", 10):
        names = tuple(case["label_dict"])[:-1]
        assert names == CLASSES[len(names)] and list(case["label_dict"])[-1] == "neutral"
        found = table(case["gt"], case["pred"], len(names))
        expected = case["expected"]
        for function, key in (
            (recognition.uf1, "uf1"),
            (recognition.uar, "uar"),
            (recognition.analysis_f1, "f1"),
        ):
            assert function(found, "sfamnet") == pytest.approx(expected[key], abs=1e-12), case["id"]


def test_spot_then_recognise_of_sfamnets_release():
    for case in golden("spot_then_recognise", 8):
        found = emotions([(v["pred"], v["gt"]) for v in case["videos"]])
        ours = recognition.spot_then_recognise(found, "sfamnet", 4)
        expected = case["expected"]["sfamnet"]
        spotting = expected["spot"]
        assert ours.spotting == Counts(spotting["tp"], spotting["fp"], spotting["fn"]), case["id"]
        assert ours.predicted.tolist() == expected["analysed_pred"], case["id"]
        assert ours.true.tolist() == expected["analysed_gt"], case["id"]
        values = (ours.uf1, ours.uar, ours.f1, ours.strs)
        wanted = (*(expected["analysis"][k] for k in ("uf1", "uar", "f1")), expected["strs"])
        assert values == pytest.approx(wanted, abs=1e-12), case["id"]


def test_spot_then_recognise_of_the_strs_tool():
    for case in golden("spot_then_recognise", 8):
        found = emotions([(v["pred"], v["gt"]) for v in case["videos"]])
        ours = recognition.spot_then_recognise(found, "strs_tool", 4)
        expected = case["expected"]["strs_metric"]
        if "error" in expected:  # the tool raises where nothing is spotted
            assert ours.spotting.tp == 0 and ours.strs == 0
            continue
        right = int((ours.true == ours.predicted).sum())
        wrong = len(ours.true) - right
        counts = (*ours.spotting[:3], right, wrong, wrong)
        names = [f"{n} {part}" for part in ("spotting", "analysis") for n in ("TP", "FP", "FN")]
        assert counts == tuple(expected[name] for name in names), case["id"]
        values = (ours.spotting.f1, ours.uf1, ours.uar, ours.f1, ours.strs)
        names = ["F1-score spotting", "UF1 analysis", "UAR analysis", "F1-score analysis", "STRS"]
        assert values == pytest.approx([expected[n] for n in names], abs=1e-12), case["id"]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=20), st.randoms())
def test_averages_are_bounded_and_ignore_the_order(pairs, random):
    found = table([t for t, _ in pairs], [p for _, p in pairs])
    random.shuffle(pairs)
    np.testing.assert_array_equal(found, table([t for t, _ in pairs], [p for _, p in pairs]))
    for quirks in QUIRKS:
        for function in (recognition.uf1, recognition.uar, recognition.analysis_f1):
            assert 0 <= function(found, quirks) <= 1
    if pairs and all(t == p for t, p in pairs):
        assert recognition.uf1(found) == recognition.uar(found) == 1
