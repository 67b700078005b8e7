"""Arithmetic on the printed values: every statement that their tables must satisfy."""

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import NamedTuple

import numpy as np

from spotjax.papers import published
from spotjax.papers.published import Record, find

ANNOTATED = {"casme2": (300, 57), "samm_lv": (343, 159)}
SOFTNET_ANNOTATED = {"casme2": (300, 57), "samm_lv": (333, 159)}
"""Macro- and micro-expressions; SOFTNet drops ten macro-expressions without an onset."""

records = published.records()


class Check(NamedTuple):
    """A statement about the values of some records."""

    about: tuple[Record, ...]
    holds: Callable[..., bool]

    def passes(self, corrected=False):
        values = [
            r.corrected if corrected and r.corrected is not None else r.value for r in self.about
        ]
        return self.holds(*map(exact, values))


def exact(value):
    return Fraction(str(value))


def half(record):
    """Half a unit of the last decimal that the paper prints."""
    return Fraction(1, 2 * 10 ** published.decimals(record.paper, record.metric))


def rounds_to(record, value):
    return Check((record,), lambda printed: abs(printed - value) <= half(record))


def ratio(metric, tp, found, predictions, truths):
    """Precision, recall or F1 as a fraction: F1 = 2ab/(an + bm), 2 TP/(n + m) where a = b."""
    if metric == "F1":
        below = found * predictions + tp * truths
        return Fraction(2 * found * tp, below) if below else Fraction(0)
    return Fraction(tp, predictions) if metric == "precision" else Fraction(found, truths)


def checks_of_counts():
    for r in records:
        if r.counts and r.metric in ("precision", "recall", "F1"):
            tp, fp, fn, found = r.counts
            if fp is None:  # the number of predictions stands in another table
                words = {"data_set": r.data_set, "system": r.system, "metric": "predictions"}
                [general] = find(paper=r.paper, table="VI", variant="not share", **words)
                fp = general.value - tp
            yield rounds_to(r, ratio(r.metric, tp, found, tp + fp, found + fn))


def grouped(chosen, *fields):
    groups = {}
    for r in chosen:
        groups.setdefault(tuple(getattr(r, field) for field in fields), []).append(r)
    return groups.values()


def checks_of_types():
    rows = [r for r in records if r.metric == "F1" and r.type]
    for group in grouped(rows, "paper", "table", "data_set", "system", "variant"):
        by_type = {r.type: r for r in group}
        if len(by_type) == 3:
            about = tuple(by_type[type] for type in ("macro", "micro", "overall"))
            yield Check(
                about, lambda macro, micro, all: min(macro, micro) <= all <= max(macro, micro)
            )
            annotated = SOFTNET_ANNOTATED if about[0].paper == "softnet" else ANNOTATED
            own = about[0].system in ("SOFTNet", "w/o SOFTNet", "SpotFormer", "3D-CNN")
            if own and about[0].data_set in annotated:
                yield Check(about, whole_counts(annotated[about[0].data_set]))


def whole_counts(annotated):
    """True if whole TP and numbers of predictions give the three F1s (4 decimals)."""

    def sums(f1, truths):
        """All (TP, predictions + truths) that round to `f1`: i64[n, 2]."""
        low, high = float(f1) - 0.5001e-4, float(f1) + 0.5001e-4
        found = [
            (tp, total)
            for tp in range(truths + 1)
            for total in range(
                max(truths + tp, int(np.ceil(2 * tp / high))), int(2 * tp / max(low, 1e-3)) + 1
            )
        ]
        return np.array(found, np.int64).reshape(-1, 2)

    def holds(macro, micro, overall):
        first, second = sums(macro, annotated[0]), sums(micro, annotated[1])
        tp = first[:, None, 0] + second[None, :, 0]
        total = first[:, None, 1] + second[None, :, 1]
        return bool((np.abs(2 * tp / total - float(overall)) <= 0.5001e-4).any())

    return holds


def checks_of_sums():
    chosen = [r for r in records if r.counts and r.type and r.metric == "F1"]
    for group in grouped(chosen, "paper", "table", "data_set", "system", "variant"):
        by_type = {r.type: r.counts for r in group}
        if len(by_type) == 3:
            pairs = zip(by_type["macro"], by_type["micro"], strict=True)
            assert tuple(map(sum, pairs)) == by_type["overall"]
    for data_set in ANNOTATED:
        about = find(paper="softnet", table="2", data_set=data_set, metric="AP")
        yield Check(about, lambda a, b, mean: abs((a + b) / 2 - mean) <= Fraction(1, 20000))


def checks_of_strs():
    """STRS = analysis F1 x micro F1, so it never exceeds the micro F1 (SFAMNet section 5)."""

    def product(analysis, strs, spotting):
        e = Fraction(1, 20000)
        return (analysis - e) * (spotting - e) - e <= strs <= (analysis + e) * (spotting + e) + e

    for classes in ("4-class", "7-class"):
        for strs in find(paper="sfamnet", metric=f"{classes} STRS"):
            words = {"paper": "sfamnet", "variant": strs.variant, "system": strs.system}
            if strs.table == "3":
                [analysis] = find(table="3", metric=f"{classes} analysis F1", **words)
                [spotting] = find(table="1", metric="F1", **words)
                yield Check((analysis, strs, spotting), product)
            else:
                [spotting] = find(table=strs.table, metric="F1", type="micro", **words)
                yield Check((strs, spotting), lambda strs, spotting: strs <= spotting)
    for data_set in ("megc2025_samm", "megc2025_casme3"):
        about = [
            find(paper="megc2025", data_set=data_set, metric=metric)[0]
            for metric in ("analysis F1", "STRS", "F1")
        ]
        yield Check(tuple(about), product)


REPEATS = [
    [("softnet", "1", "SOFTNet", None), ("softnet", "2", "SOFTNet", "p=0.55")],
    [("softnet", "2", "SOFTNet", "p=0.55"), ("softnet", "3", "SOFTNet", None)],
    [
        ("softnet", "2", "SOFTNet", "p=0.55"),
        ("softnet", "text 3.2", "SOFTNet", "pseudo-label unit step"),
    ],
    [("softnet", "2", "SOFTNet", "p=0.55"), ("softnet", "4", "SOFTNet", "p=0.55")],
    [("softnet", "2", "SOFTNet", "p=0.55"), ("softnet", "repository", "SOFTNet", "p=0.55")],
    [("softnet", "1", "Ours w/o SOFTNet", None), ("softnet", "5", "w/o SOFTNet", "p=0.50")],
    [("softnet", "1", "SOFTNet", None), ("spotformer", "I", "SOFTNet", None)],
    [("softnet", "1", "Zhang et al", None), ("spotformer", "I", "Zhang et al.", None)],
    [("softnet", "1", "Gan et al", None), ("spotformer", "I", "Optical Strain", None)],
    [("softnet", "1", "Pan", None), ("spotformer", "I", "LBCNN", None)],
    [("megc2020", "README", "MDMD", None), ("softnet", "1", "Baseline MDMD [20]", None)],
    [("megc2020", "README", "MDMD", None), ("spotformer", "I", "MDMD", None)],
    [("cnn3d", "2", "3D-CNN", None), ("spotformer", "I", "3D-CNN", None)],
    [("cnn3d", "2", "3D-CNN", "cropped"), ("spotformer", "I", "3D-CNN", None)],
    *(
        [("spotformer", "I", "SpotFormer", None), ("spotformer", table, "SpotFormer", variant)]
        for table, variant in (
            *(("III", "row4 full"), ("IV", "Simul-ST"), ("V", "window=17")),
            *(("VI", "lambda=0.005"), ("VII", None)),
        )
    ),
    *(
        [
            ("sfamnet", table, "SFAMNet", f"features {features}"),
            ("sfamnet", "6", "SFAMNet", components),
        ]
        for table in "1234"
        for features, components in (
            *(("O", "O_u,O_v,O_eps"), ("S", "S_u,S_v,S_w"), ("H", "O_u,O_v,S_w")),
        )
    ),
    *(
        [
            ("sfamnet", table, "SFAMNet", variant),
            ("sfamnet", "6", "SFAMNet", "S_u,S_v,S_w"),
        ]
        for table, variant in (
            *(("5", "G/T+SW"), ("7", "hard pseudo-labels"), ("8", "multi-stream")),
        )
    ),
    *(
        [("mesnet", table, system, variant), ("mesnet", "VI", system, "not share")]
        for system in ("MESNet-CPN", "MESNet-CRN")
        for table, variant in (
            *(("IV", "general"), ("X", "general"), ("V", "with pretraining")),
            *(("VIII", "T_nms=0.50"), ("IX", "T_eval=0.50")),
        )
    ),
]
"""Rows that state the same thing: all values that both have must be equal."""


def checks_of_repeats():
    for names in REPEATS:
        rows = [
            {
                (r.data_set, r.type, r.metric): r
                for r in records
                if (r.paper, r.table, r.system, r.variant) == name
            }
            for name in names
        ]
        both = rows[0].keys() & rows[1].keys()
        assert both, names
        for key in both:
            yield Check((rows[0][key], rows[1][key]), lambda first, second: first == second)


def checks_of_runs():
    """The general model of MESNet has one number of predictions wherever it is stated."""
    for general in find(paper="mesnet", table="VI", variant="not share", metric="predictions"):
        for r in find(paper="mesnet", data_set=general.data_set, system=general.system):
            if r.counts and r.variant in ("general", "T_nms=0.50"):
                stated = r.counts.tp + (r.counts.fp or 0)
                yield Check((general, r), lambda n, _, stated=stated: n == stated)
                if r.variant == "general":
                    [other] = find(**{**words_of(r), "table": "VIII"}, variant="T_nms=0.50")
                    same = r.counts == other.counts
                    yield Check((r, other), lambda *_, same=same: same)


def words_of(record):
    return {
        "paper": record.paper,
        "data_set": record.data_set,
        "system": record.system,
    }


@cache
def failed_checks():
    checks = [
        check
        for checks in (
            *(checks_of_counts, checks_of_types, checks_of_sums),
            *(checks_of_strs, checks_of_repeats, checks_of_runs),
        )
        for check in checks()
    ]
    assert len(checks) > 700
    return [check for check in checks if not check.passes()]
