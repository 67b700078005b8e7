"""Recognition over a run, worked by hand."""

import numpy as np
import pytest

from spotjax.config import Evaluate
from spotjax.counting import emotions
from spotjax.counting.recognition import CLASSES
from spotjax.errors import UserError
from spotjax.types import Detection, Interval, Video

CLASSES5 = (*CLASSES[4], "neutral")


def video(subject, *intervals):
    return Video(subject, "v", 15.0, 0, 100, np.arange(100), intervals)


def micro(onset, emotion, offset=None):
    return Interval(onset, onset + 3, offset or onset + 9, "micro", emotion)


def scores(*predicted):
    """Event scores whose most likely emotion is given; None: no features."""
    rows = np.full((len(predicted), 6), 0.1, np.float32)
    for row, best in zip(rows, predicted, strict=True):
        if best is None:
            row[:] = np.nan
        else:
            row[1 + best] = 0.6
    return rows


VIDEOS = [
    video("a", micro(10, "fear"), micro(40, "happy"), Interval(60, 70, 90, "macro")),
    video("b", micro(10, "disgust"), micro(40, "surprise"), micro(70, "")),
    video("c", micro(10, "negative"), micro(50, "others")),
]
EVENTS = {"a/v": scores(0, 1, 0), "b/v": scores(0, 4, 2), "c/v": scores(1, None)}
FOUND = {
    "a/v": [
        Detection(10, 13, 19, "micro", 0.9, "negative"),
        Detection(40, 43, 49, "micro", 0.8, "neutral"),
        Detection(60, 70, 90, "macro", 0.7, "positive"),
    ],
    "b/v": [Detection(70, 73, 79, "micro", 0.9, "surprise")],  # its truth has no emotion
    "c/v": [Detection(80, 83, 89, "micro", 0.9, "others")],
}


def results(**options):
    return emotions.results(VIDEOS, FOUND, EVENTS, CLASSES5, Evaluate(**options))


def test_annotated_intervals_by_hand():
    found = results()
    assert (found["samples"], found["unlabelled"], found["without_features"]) == (5, 1, 1)
    truth = found["ground_truth"]
    # negative: right twice, once as positive; positive right; surprise taken for neutral
    assert truth["confusion"] == [[2, 1, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 1], [0] * 5]
    f1 = [2 * 2 / (2 + 3), 2 * 1 / (2 + 1), 0]
    assert truth["uf1"] == pytest.approx(np.mean(f1))
    assert truth["uar"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert truth["accuracy"] == pytest.approx(3 / 5)
    assert truth["per_class"]["others"] == {"precision": None, "recall": None, "f1": None}


def test_majority_is_that_of_the_other_subjects():
    # of b and c: negative twice; of a and c: negative twice; of a and b: negative twice
    assert results()["majority"]["confusion"] == [[3, 0, 0, 0, 0], [1, 0, 0, 0, 0],
                                                  [1, 0, 0, 0, 0], [0] * 5]  # fmt: skip
    alone = emotions.results(VIDEOS[:1], FOUND, EVENTS, CLASSES5, Evaluate())
    assert alone["majority"]["accuracy"] == 0.5  # nobody else: the first class


def test_spotted_intervals_by_hand():
    found = results()
    analysis = found["analysis"][found["rule"]]
    assert found["rule"] == "one_to_one" and set(found["analysis"]) == {
        "one_to_one", "sfamnet", "strs_tool",
    }  # fmt: skip
    assert analysis["analysed"] == 2  # the third hit has no true emotion
    assert analysis["confusion"] == [[1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0] * 5, [0] * 5]
    spotting = 2 * 3 / (2 * 3 + 1 + 4)
    assert analysis["spotting_f1"] == pytest.approx(spotting)
    # negative: precision 1, recall 1; positive: both 0
    assert analysis["analysis_f1"] == pytest.approx(0.5)
    assert analysis["strs"] == pytest.approx(spotting * 0.5)
    assert results(rule="softnet")["rule"] == "one_to_one"
    assert results(rule="sfamnet")["rule"] == "sfamnet"


def test_without_any_emotion_there_is_nothing():
    bare = [video("a", micro(10, ""))]
    assert emotions.results(bare, {}, {"a/v": scores(0)}, CLASSES5, Evaluate()) is None


def test_an_emotion_of_another_set_is_refused():
    seven = (*CLASSES[7], "neutral")
    with pytest.raises(UserError, match="emotion 'negative' is none of disgust"):
        events = {"c/v": np.zeros((2, 9), np.float32)}
        emotions.results(VIDEOS[2:], {}, events, seven, Evaluate())
