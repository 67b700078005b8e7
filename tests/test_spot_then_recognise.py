"""Score curves to spotting counts, recognition and STRS, end to end as SFAMNet's release."""

import json
from functools import cache

import numpy as np
import pytest
from reference import shared_file

from spotjax.counting import recognition
from spotjax.counting.matching import RULES, Counts, VideoResult
from spotjax.counting.recognition import CLASSES, NEUTRAL, EmotionResult
from spotjax.decoding import two_curves
from spotjax.decoding.intervals import as_array
from spotjax.decoding.two_curves import Options


@cache
def golden():
    path = shared_file("goldens/sfamnet_softnet_postprocess.json")
    return json.loads(path.read_text())["sfamnet"]["spot_then_recognize"]


CASES = ("a_4emo", "b_7emo", "c_low_thresholds", "d_4emo_informative_emotions")


def spotted(case):
    """Per video of a reference case: its subject, the case and what `spot` finds."""
    micro, macro, _, gate = case["thresholds_micro_macro_dif_video"]
    assert micro == macro
    options = Options(threshold=micro, video_gate=gate, peak_shift=-1)
    classes = CLASSES[case["emotions"]]
    for subject in case["subjects"]:
        for one in subject["videos"]:
            emotions = np.eye(len(classes) + 1)[one["pred_emotion"]]
            scores = np.column_stack([one["score"], emotions]).astype(np.float32)
            found, _ = two_curves.spot(scores, np.ones(len(scores), bool), options, classes)
            yield subject["subject"], one, found


@pytest.mark.parametrize("name", CASES)
def test_detections_of_the_release(name):
    case = golden()[name]
    names = (*CLASSES[case["emotions"]], NEUTRAL)
    number = 0
    for _, one, found in spotted(case):
        for type in ("micro", "macro"):
            ours = [
                [2 * d.onset, 2 * d.offset, names.index(d.emotion)] for d in found if d.type == type
            ]
            theirs = [
                [a, b, emotion]
                for a, b, confidence, emotion in one[f"pred_{type}_on_off_conf_emotion"]
                if confidence >= 0
            ]  # -1: nothing found
            assert ours == theirs
            number += len(ours)
    assert number >= 8


def result(one, found, type, classes):
    """Detections of a type against its truths, in the data set's frames."""
    mine = [d for d in found if d.type == type]
    truths = [truth for truth in one[f"gt_{type}_used"] if truth[0] >= 0]  # -1: no truth
    names = (*classes, NEUTRAL)
    return EmotionResult(
        VideoResult(
            as_array((2 * d.onset, 2 * d.offset) for d in mine),
            np.array([d.score for d in mine]),
            as_array(truth[:2] for truth in truths),
        ),
        np.array([names.index(d.emotion) for d in mine], np.int64),
        np.array([truth[2] for truth in truths], np.int64),
    )


@pytest.mark.parametrize("name", CASES)
def test_spot_then_recognise_of_the_release(name):
    case = golden()[name]
    classes = CLASSES[case["emotions"]]
    everything = list(spotted(case))
    rule, total = RULES["sfamnet"], {}
    for type in ("micro", "macro"):
        counts = {subject["subject"]: Counts() for subject in case["subjects"]}
        for subject, one, found in everything:
            spotting = result(one, found, type, classes).spotting
            counts[subject] += rule.tally(rule.hits(spotting, 0.5))
        for subject in case["subjects"]:
            assert counts[subject["subject"]] == Counts(*subject[f"{type}_TP_FP_FN"])
        total[type] = sum(counts.values(), Counts())
    both = (total["micro"], total["macro"])
    assert both == tuple(Counts(*row) for row in case["total_micro_macro_TP_FP_FN"])
    f1 = [counts.f1 for counts in (*both, sum(both, Counts()))]
    np.testing.assert_allclose(f1, case["F1_micro_macro_overall"], rtol=1e-12)

    results = [result(one, found, "micro", classes) for _, one, found in everything]
    ours = recognition.spot_then_recognise(results, "sfamnet", len(classes))
    assert ours.predicted.tolist() == case["str_pred"] and ours.true.tolist() == case["str_gt"]
    values = (ours.uf1, ours.uar, ours.f1, ours.strs)
    assert values == pytest.approx((*case["analysis_UF1_UAR_F1"], case["STRS"]), abs=1e-12)


def test_the_reference_cases_are_told_apart():
    cases = golden()
    assert set(cases) == set(CASES)
    strs = {round(case["STRS"], 12) for case in cases.values()}
    assert strs == {0.0, round(5 / 6, 12)}
    assert any(case["total_micro_macro_TP_FP_FN"][0][1] == 0 for case in cases.values())
