import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import shared_file

from spotjax.counting import metrics
from spotjax.counting.matching import RULES, Counts, VideoResult
from spotjax.decoding.intervals import as_array, iou_matrix

ONE_TO_ONE = ("one_to_one", "softnet", "mean", "abpn", "spotformer")
RELEASES = {  # rule -> name of its evaluator in the reference file
    "softnet": "softnet_map2d_no_placeholder",
    "mean": "mean_map2d",
    "sfamnet": "sfamnet_map2d",
    "megc2020": "he_megc2020",
    "abpn": "ustc_abpn",
    "spotformer": "spotformer",
}


def result(predictions, truths, scores=None):
    scores = np.linspace(1, 0.5, len(predictions)) if scores is None else np.asarray(scores, float)
    return VideoResult(as_array(predictions), scores, as_array(truths))


def tally(case, rule, iou=0.5):
    return metrics.count([case], rule, iou)


def test_the_table_of_rules():
    assert list(RULES) == [
        "one_to_one", "softnet", "mean", "sfamnet", "megc2020", "mesnet", "abpn", "spotformer",
        "strs_tool",
    ]  # fmt: skip
    assert all(rule.text and rule.source for rule in RULES.values())


CASES = {
    "two predictions on one truth": (
        result([(10, 20), (11, 21)], [(10, 20)]),
        {
            "sfamnet": Counts(2, 0, -1),
            "mesnet": Counts(2, 0, 0, -1),
        },
        Counts(1, 1, 0),
    ),
    "one prediction over two truths": (
        result([(10, 30)], [(10, 26), (14, 30)]),
        {
            "sfamnet": Counts(2, 0, 0),
            "megc2020": Counts(2, -1, 0),
            "mesnet": Counts(1, 0, 0, 1),
            "strs_tool": Counts(2, 0, 0),
        },
        Counts(1, 0, 1),
    ),
    "both predictions prefer the same truth": (
        result([(12, 30), (13, 31)], [(10, 26), (13, 30)]),
        {
            "one_to_one": Counts(2, 0, 0),
            "sfamnet": Counts(4, 0, -2),
            "megc2020": Counts(2, 0, 0),
            "mesnet": Counts(2, 0, 0),
            "spotformer": Counts(2, 0, 0),
            "strs_tool": Counts(2, 1, 0),
        },
        Counts(1, 1, 1),
    ),
    "exactly one half without the +1": (
        result([(10, 15)], [(10, 20)]),
        {"abpn": Counts(0, 1, 1)},
        Counts(1, 0, 0),
    ),
    "a single frame": (
        result([(10, 11)], [(10, 10)]),
        {rule: Counts(0, 1, 1) for rule in ("megc2020", "abpn", "spotformer")},
        Counts(1, 0, 0),
    ),
    "a truth that ends before it begins": (result([(10, 22)], [(12, 0)]), {}, Counts(0, 1, 1)),
    "a video without a truth": (result([(1, 9)], []), {"strs_tool": Counts()}, Counts(0, 1, 0)),
    "a video without a prediction": (result([], [(1, 9)]), {}, Counts(0, 0, 1)),
    "an empty video": (result([], []), {}, Counts()),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("rule", RULES)
def test_rules_by_hand(name, rule):
    case, special, others = CASES[name]
    if name == "two predictions on one truth" and rule == "mesnet":
        assert (special[rule].precision, special[rule].recall, special[rule].f1) == (1, 1, 1)
    assert tally(case, rule) == special.get(rule, others)


def test_ratios_where_the_two_sides_differ():
    counts = Counts(3, 1, 2, -1) + Counts()
    assert counts == Counts(3, 1, 2, -1)
    assert (counts.found, counts.precision, counts.recall) == (2, 3 / 4, 2 / 4)
    assert counts.f1 == 2 * 3 * 2 / (3 * 4 + 2 * 4)
    assert Counts(2, 0, -1).f1 == 4 / 3


def test_ties_between_truths_do_not_depend_on_their_order():
    predictions, truths = [(10, 19), (8, 17)], [(12, 21), (8, 17)]
    for order in (truths, truths[::-1]):
        case = result(predictions, order, scores=[1, 0])
        hits = RULES["one_to_one"].hits(case, 0.5)
        assert order[int(hits[0].argmax())] == (8, 17)
        assert tally(case, "one_to_one") == Counts(1, 1, 1)


def test_rules_that_follow_the_file_order():
    # by score the second takes the only truth; MEAN, the STRS tool follow the file
    case = result([(0, 9), (0, 10)], [(0, 9)], scores=[0, 1])
    for rule, row in {"one_to_one": 1, "softnet": 1, "mean": 0, "strs_tool": 0}.items():
        assert np.flatnonzero(RULES[rule].hits(case, 0.5)[:, 0]).tolist() == [row]
    # the first truth takes the prediction that the second would need
    crossing = result([(0, 10), (30, 40)], [(0, 14), (0, 10)])
    assert RULES["spotformer"].hits(crossing, 0.5).tolist() == [[True, False], [False, False]]
    assert RULES["abpn"].hits(crossing, 0.5).tolist() == [[True, True], [False, False]]


def test_a_threshold_is_reached_or_exceeded():
    case = result([(0, 10)], [(0, 20)])  # IoU 11/21 in inclusive frames, 1/2 without the +1
    assert iou_matrix(case.predictions, case.truths, "difference") == 0.5
    assert tally(case, "spotformer").tp == 1
    assert tally(case, "abpn").tp == 0
    assert tally(case, "one_to_one", iou=11 / 21).tp == 1
    assert tally(case, "one_to_one", iou=0.53).tp == 0


def test_matched_names_the_first_truth():
    case = result([(10, 30), (50, 60), (70, 80)], [(70, 80), (10, 26), (14, 30)])
    assert metrics.matched(case, "sfamnet").tolist() == [1, -1, 0]
    assert metrics.matched(result([(1, 2)], []), "abpn").tolist() == [-1]
    assert metrics.matched(result([], [(1, 2)]), "strs_tool").tolist() == []
    with pytest.raises(KeyError):
        metrics.matched(case, "another")


def reference_cases():
    cases = json.loads(shared_file("goldens/metrics.json").read_text())["spotting"]
    assert len(cases) >= 30
    return [
        (
            case["id"],
            {
                video["name"]: result(
                    [p[:2] for p in video["pred"]], video["gt"], [p[2] for p in video["pred"]]
                )
                for video in case["videos"]
            },
            case["expected"],
        )
        for case in cases
    ]


def expected_counts(rule, row):
    """tp, fp, fn in the words of each evaluator."""
    if rule == "megc2020":
        found = row["n_found"]
        return found, row["n_pred"] - found, row["n_gt"] - found
    if rule in ("abpn", "spotformer"):
        return row["find"], row["n"] - row["find"], row["m"] - row["find"]
    return row["tp"], row["fp"], row["fn"]


def placed(videos):
    """With the placeholder [0, 0] of SOFTNet and MEAN in videos without a prediction."""
    empty = result([(0, 0)], [], [0.0])
    return [
        v if len(v.scores) else VideoResult(empty.predictions, empty.scores, v.truths)
        for v in videos.values()
    ]


def test_the_releases_are_reproduced():
    for name, videos, expected in reference_cases():
        for rule, evaluator in RELEASES.items():
            found = placed(videos) if rule == "mean" else list(videos.values())
            counts = metrics.count(found, rule)
            row = expected[evaluator]
            assert counts[:3] == expected_counts(rule, row), (name, rule)
            f1 = row["f1_small" if rule == "megc2020" else "f1"]
            assert counts.f1 == pytest.approx(f1, abs=1e-12), (name, rule)
        with_placeholder = metrics.count(placed(videos), "softnet")
        row = expected["softnet_map2d_placeholder"]
        assert with_placeholder[:3] == (row["tp"], row["fp"], row["fn"]), name


def test_the_releases_mark_the_same_pairs():
    for name, videos, expected in reference_cases():
        for rule in ("abpn", "spotformer"):
            flags = expected[RELEASES[rule]]["find_flags"]
            for video, marked in flags.items():
                hits = RULES[rule].hits(videos[video], 0.5)
                assert hits.any(axis=1).tolist() == marked, (name, rule)
        baseline = expected["he_megc2020"]
        hits = [RULES["megc2020"].hits(v, 0.5) for v in videos.values()]
        assert sum(h.sum() for h in hits) == baseline["n_correct_pairs"], name
        assert [h.sum(axis=0).tolist() for h in hits] == baseline["gt_res"], name
        assert [h.sum(axis=1).tolist() for h in hits] == baseline["pred_res"], name
        pairs = np.concatenate([RULES["sfamnet"].hits(v, 0.5).sum(1) for v in placed(videos)])
        assert pairs.tolist() == expected["sfamnet_map2d"]["tp_per_pred"], name


def test_spotformers_shift_of_the_truths_is_reproduced():
    for name, videos, expected in reference_cases():
        moved = [VideoResult(v.predictions, v.scores, v.truths - 1) for v in videos.values()]
        counts = metrics.count(moved, "spotformer")
        row = expected["spotformer_casme2_shift"]
        assert counts[:3] == expected_counts("spotformer", row), name


def test_mesnet_counts_both_sides_of_the_references():
    for name, videos, expected in reference_cases():
        counts = metrics.count(videos.values(), "mesnet")
        reached = np.count_nonzero(expected["sfamnet_map2d"]["tp_per_pred"])
        assert counts.tp == reached, name
        if not name.startswith(("single_frame", "pred_at_zero")):  # 2020: length 1 finds nothing
            assert counts.found == expected["he_megc2020"]["n_found"], name


def test_mesnets_published_counts():
    rows = json.loads(shared_file("goldens/mesnet_cnn3d.json").read_text())["metrics_abmn_f1"]
    assert len(rows) >= 11
    for found, right, m, n, f1 in rows:
        counts = Counts(right, n - right, m - found, found - right)
        assert counts.f1 == pytest.approx(f1, abs=1e-6)


@pytest.mark.parametrize("kind", ["synthetic", "real"])
def test_spotformers_release_flags_the_same_proposals(kind):
    path = shared_file(f"goldens/spotformer_post_{kind}.json")
    matching = json.loads(path.read_text())["matching"]
    assert len(matching["cases"]) >= 6
    for case in matching["cases"]:
        shift = 1 if case["dataset"] == "cas(me)^2" else 0
        truths = [
            (row[2] - shift, row[4] - shift)
            for row in matching["annotations"]
            if row[1] == case["video"] and row[5] == case["type_idx"]
        ]
        proposals = result([p[:2] for p in case["proposals"]], truths)
        hits = RULES["spotformer"].hits(proposals, 0.5)
        assert hits.any(axis=1).tolist() == case["find"], case["name"]


intervals = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 15)).map(lambda t: (t[0], t[0] + t[1])),
    max_size=6,
)
videos_strategy = st.lists(st.tuples(intervals, intervals), max_size=4)
ORDERED_PREDICTIONS = ("mean", "abpn", "spotformer", "strs_tool")
ORDERED_TRUTHS = ("softnet", "mean", "spotformer")


def shuffled(case, random, predictions, truths):
    rows, columns = (
        np.asarray(random.sample(range(n), n) if chosen else range(n), int)
        for n, chosen in ((len(case.scores), predictions), (len(case.truths), truths))
    )
    return VideoResult(case.predictions[rows], case.scores[rows], case.truths[columns])


@given(videos_strategy, st.randoms(use_true_random=False))
def test_counts_do_not_depend_on_order_or_split(videos, random):
    found = [result(p, t, [random.randint(0, 3) for _ in p]) for p, t in videos]
    for rule in RULES:
        total = metrics.count(found, rule)
        parts = sum((metrics.count([r], rule) for r in found), Counts())
        assert parts == total == metrics.count(found[::-1], rule)
        free = rule not in ORDERED_PREDICTIONS, rule not in ORDERED_TRUTHS
        again = [shuffled(r, random, *free) for r in found]
        assert metrics.count(again, rule) == total


@given(videos_strategy, st.randoms(use_true_random=False))
def test_one_to_one_rules_stay_in_bounds(videos, random):
    found = [result(p, t, [random.random() for _ in p]) for p, t in videos]
    for rule in ONE_TO_ONE:
        for case in found:
            counts = metrics.count([case], rule)
            assert 0 <= counts.tp <= min(len(case.scores), len(case.truths))
            assert counts.tp + counts.fp == len(case.scores)
            assert counts.tp + counts.fn == len(case.truths)
            hits = RULES[rule].hits(case, 0.5)
            assert hits.shape == (len(case.scores), len(case.truths))
            assert rule == "abpn" or hits.sum(axis=1).max(initial=0) <= 1
            assert hits.sum(axis=0).max(initial=0) <= 1
        macro, micro = metrics.count(found[:2], rule), metrics.count(found[2:], rule)
        low, high = sorted([macro.f1, micro.f1])
        overall = (macro + micro).f1
        assert 0 <= overall <= 1
        if sum(macro) and sum(micro):
            assert low - 1e-12 <= overall <= high + 1e-12
