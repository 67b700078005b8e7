"""What a terminal shows of an evaluation."""

from typing import Any

import pytest
from invented import make_metrics

from spotjax.counting import headline


def evaluated(**about: Any) -> dict[str, Any]:
    metrics = make_metrics()
    metrics["protocol"] |= {
        "data_set": "casme2", "num_videos": 4, "iou": 0.5, "epoch_choice": "last", **about
    }  # fmt: skip
    return metrics


def two_ways() -> dict[str, Any]:
    """MESNet's CPN and CRN under its own rule and another; the figures of its table X."""
    metrics = evaluated(system="mesnet", types=["micro"], module="crn", paper_rule="mesnet")
    figures = {
        ("module cpn", "mesnet"): (22, 2777, 39, 22 / 2799, 18 / 57, 0.0153),
        ("module cpn", "one_to_one"): (18, 2781, 39, 18 / 2799, 18 / 57, 0.0126),
        ("module crn", "mesnet"): (12, 859, 47, 12 / 871, 10 / 57, 0.0255),
        ("module crn", "one_to_one"): (10, 861, 47, 10 / 871, 10 / 57, 0.0216),
        ("module crn", "softnet"): (9, 862, 48, 9 / 871, 9 / 57, 0.0194),
    }
    keys = ("tp", "fp", "fn", "precision", "recall", "f1")
    metrics["variants"] = [
        {
            "rule": rule,
            "decoding": decoding,
            "headline": (decoding, rule) == ("module crn", "one_to_one"),
            "results": {"micro": dict(zip(keys, row, strict=True))},
        }
        for (decoding, rule), row in figures.items()
    ]
    return metrics


def test_each_type_has_its_methods_and_overall_comes_last() -> None:
    lines = list(headline.lines(evaluated()))
    assert lines[0] == (
        "softnet on casme2: 1 LOSO folds, 4 videos, rule one_to_one, IoU >= 0.5, epoch last"
    )
    assert lines[1].split() == ["F1", "prec.", "recall", "AP", "TP", "FP", "FN"]
    assert [line.split()[:2] for line in lines[2:]] == [
        [type, name]
        for type in ("macro", "micro", "overall")
        for name in ("softnet", "strain_sum", "chance")
    ]
    assert lines[2].split()[2:] == ["0.4000", "0.5000", "0.3333", "0.1000", "1", "1", "2"]
    assert lines[4].split()[-3:] == ["0.2", "0.0", "0.0"]  # chance: mean counts
    assert len({len(line) for line in lines[1:]}) == 1


@pytest.mark.parametrize(
    ("types", "shown"),
    [
        (["micro"], ("micro",)),
        (["micro", "macro"], ("macro", "micro", "overall")),
        (None, ("macro", "micro", "overall")),
    ],
)
def test_only_types_that_are_spotted_are_shown(types: Any, shown: tuple[str, ...]) -> None:
    about = {} if types is None else {"types": types}
    assert headline.types_of(about) == shown
    lines = list(headline.lines(evaluated(**about)))
    assert tuple(dict.fromkeys(line.split()[0] for line in lines[2:])) == shown


def test_every_way_of_decoding_under_the_rule_of_the_paper_and_the_headline_s() -> None:
    lines = list(headline.lines(two_ways()))
    start = lines.index("") + 1
    assert lines[start].split() == ["decoding", "rule", "F1", "prec.", "recall", "TP", "FP", "FN"]
    assert [" ".join(line.split()) for line in lines[start + 1 : start + 5]] == [
        "micro CPN mesnet 0.0153 0.0079 0.3158 22 2777 39",
        "micro CPN one_to_one 0.0126 0.0064 0.3158 18 2781 39",
        "micro CRN mesnet 0.0255 0.0138 0.1754 12 859 47",
        "micro CRN one_to_one 0.0216 0.0115 0.1754 10 861 47 <- headline",
    ]
    note = " ".join(" ".join(lines[start + 5 :]).split())
    assert note.startswith("mesnet, the rule of the system's paper: precision counts")
    assert all(len(line) <= 100 for line in lines)


def test_no_such_lines_without_a_rule_of_the_paper_or_with_one_way() -> None:
    metrics = two_ways()
    metrics["protocol"]["paper_rule"] = metrics["protocol"]["rule"]
    same = list(headline.lines(metrics))
    assert len(same[same.index("") + 2 :]) == 2 + 2  # one rule, and two lines of note
    del metrics["protocol"]["paper_rule"]
    assert "" not in headline.lines(metrics)
    one = two_ways()
    one["variants"] = one["variants"][:2]
    assert "" not in headline.lines(one)
    assert "" not in headline.lines(evaluated())  # two rules, one way


@pytest.mark.parametrize("key", ["epoch_choice", "threshold_choice"])
@pytest.mark.parametrize("choice", ["validation", "oracle"])
def test_an_oracle_is_marked(key: str, choice: str) -> None:
    metrics = evaluated(**{key: choice})
    first = next(headline.lines(metrics))
    name = {"epoch_choice": "epoch", "threshold_choice": "thresholds"}[key]
    mark = " (chosen on the test subjects: not a result, only for comparison with such papers)"
    assert first.endswith(f"{name} {choice}{mark if choice == 'oracle' else ''}")
    assert first.count(mark) == (choice == "oracle")
    assert headline.oracles(metrics["protocol"]) == ([name] if choice == "oracle" else [])


def test_thresholds_as_configured_are_not_mentioned() -> None:
    assert next(headline.lines(evaluated(threshold_choice="fixed"))).endswith(", epoch last")


def test_emotions_follow() -> None:
    metrics = evaluated()
    row = {"uf1": 0.25, "uar": 0.5}
    spotted = row | {"analysed": 3, "analysis_f1": 0.4, "strs": 0.16}
    metrics["recognition"] = {
        "rule": "sfamnet", "samples": 7, "ground_truth": row, "majority": row,
        "analysis": {"sfamnet": spotted},
    }  # fmt: skip
    lines = list(headline.lines(metrics))[-4:]
    assert lines[0].split() == ["emotions", "of", "micro", "UF1", "UAR", "n"]
    assert lines[1].split() == ["annotated,", "softnet", "0.2500", "0.5000", "7"]
    assert lines[3].endswith("3   analysis F1 0.4000, STRS 0.1600 (rule sfamnet)")
