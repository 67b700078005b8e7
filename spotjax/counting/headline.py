"""The headline of an evaluation: which numbers are shown of metrics.json, and how a terminal does.

Nothing is printed here.  metrics.json of earlier versions lack `types` in their protocol: there all
expression types are shown.
"""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from spotjax.config import EXPRESSION_TYPES
from spotjax.counting.matching import RULES

ORACLE = "chosen on the test subjects: not a result, only for comparison with such papers"
CHOICES = {"epoch_choice": "epoch", "threshold_choice": "thresholds"}
"""Keys of the protocol whose value may be `oracle`, and what is chosen."""
DECODINGS = {"module cpn": "CPN", "module crn": "CRN"}
"""Ways of decoding that have a name."""

_RATIOS = f"{'F1':>7}{'prec.':>8}{'recall':>8}"
_COUNTS = f"{'TP':>8}{'FP':>8}{'FN':>8}"


def types_of(protocol: Mapping[str, Any]) -> tuple[str, ...]:
    """The expression types that the system spots, and `overall` if these are several."""
    spotted = protocol.get("types", EXPRESSION_TYPES)
    types = tuple(type for type in EXPRESSION_TYPES if type in spotted)
    return (*types, "overall") if len(types) > 1 else types


def oracles(protocol: Mapping[str, Any]) -> list[str]:
    """What was chosen on the test subjects ("epoch", "thresholds"); empty for a result."""
    return [name for key, name in CHOICES.items() if protocol.get(key) == "oracle"]


def lines(metrics: Mapping[str, Any]) -> Iterator[str]:
    """The protocol in one line, then the tables, from the content of metrics.json."""
    about = metrics["protocol"]
    choices = [
        f"{name} {about[key]}{f' ({ORACLE})' if about[key] == 'oracle' else ''}"
        for key, name in CHOICES.items()
        if about.get(key, "fixed") != "fixed"  # thresholds as configured are not worth a word
    ]
    how = f"{about['subjects']} LOSO folds"
    if "trained_on" in about:
        how = f"{about['subjects']} subjects, none seen by {about['trained_on']}"
    yield (
        f"{about['system']} on {about['data_set']}: {how}, "
        f"{about['num_videos']} videos, rule {about['rule']}, IoU >= {about['iou']}, "
        + ", ".join(choices)
    )
    yield f"{'':<20}{_RATIOS}{'AP':>8}{_COUNTS}"
    methods = {about["system"]: metrics["results"], **metrics["baselines"]}
    for type in types_of(about):
        for name, results in (methods | {"chance": metrics["chance"]}).items():
            row = results[type]
            yield (
                f"{f'{type} {name}':<20}{_ratios(row)}{row['ap']:>8.4f}"
                f"{_counts(row, 1 if name == 'chance' else 0)}"
            )
    yield from _paper_lines(metrics)
    if recognised := metrics.get("recognition"):
        yield from _recognition_lines(about["system"], recognised)


def _paper_lines(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Each way of decoding under the rule of the system's paper and under the headline's.

    Nothing unless the protocol names a `paper_rule` and there are several ways.
    """
    about, variants = metrics["protocol"], metrics.get("variants", [])
    decodings = dict.fromkeys(row["decoding"] for row in variants)
    paper = about.get("paper_rule")
    if paper is None or len(decodings) < 2:
        return
    rows = {(row["decoding"], row["rule"]): row for row in variants}
    labels = {
        (type, decoding): f"{type} {DECODINGS.get(decoding, decoding)}"
        for type in types_of(about)
        for decoding in decodings
    }
    wide = max(20, max(map(len, labels.values())) + 2)
    yield ""
    yield f"{'decoding':<{wide}}{'rule':<12}{_RATIOS}{_COUNTS}"
    for (type, decoding), label in labels.items():
        for rule in dict.fromkeys((paper, about["rule"])):
            variant = rows[decoding, rule]
            row = variant["results"][type]
            mark = "  <- headline" if variant["headline"] else ""
            yield f"{label:<{wide}}{rule:<12}{_ratios(row)}{_counts(row)}{mark}"
    note = f"{paper}, the rule of the system's paper: {RULES[paper].text}"
    yield from textwrap.wrap(note, 98, subsequent_indent="  ")


def _recognition_lines(system: str, recognised: Mapping[str, Any]) -> Iterator[str]:
    """UF1, UAR and STRS."""
    yield f"{'emotions of micro':<26}{'UF1':>7}{'UAR':>8}{'n':>6}"
    for name, key in ((system, "ground_truth"), ("majority class", "majority")):
        row = recognised[key]
        label = f"annotated, {name}"
        yield f"{label:<26}{row['uf1']:>7.4f}{row['uar']:>8.4f}{recognised['samples']:>6}"
    row = recognised["analysis"][recognised["rule"]]
    label = f"spotted, {system}"
    yield (
        f"{label:<26}{row['uf1']:>7.4f}{row['uar']:>8.4f}{row['analysed']:>6}   analysis F1 "
        f"{row['analysis_f1']:.4f}, STRS {row['strs']:.4f} (rule {recognised['rule']})"
    )


def _ratios(row: Mapping[str, float]) -> str:
    return f"{row['f1']:>7.4f}{row['precision']:>8.4f}{row['recall']:>8.4f}"


def _counts(row: Mapping[str, float], digits: int = 0) -> str:
    return "".join(f"{row[name]:>8.{digits}f}" for name in ("tp", "fp", "fn"))
