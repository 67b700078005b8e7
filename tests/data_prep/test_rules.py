"""Each rule for an oddity of an annotation, alone and in the order in which they are applied."""

from pathlib import Path

import pytest

from data_prep.readers import rules
from data_prep.readers.base import Quirks
from spotjax.config import Annotation
from spotjax.errors import UserError


def row(
    onset: float, apex: float, offset: float, type: str = "macro", number: int = 1, **more: str
) -> rules.Row:
    where = f"gt.xlsx, sheet S, row {number}"
    values = {"subject": "s1", "video": "v", "emotion": "", "action_units": ""} | more
    return rules.Row(onset=onset, apex=apex, offset=offset, type=type, where=where, **values)


def applied(
    rows: list[rules.Row], layout: str = "casme2", from_zero: bool = False, **options: object
) -> tuple[list[tuple[float, float, float]], tuple[str, ...]]:
    quirks = Quirks()
    chosen = rules.resolved(Annotation(**options), layout)
    kept = rules.apply(rows, chosen, quirks, from_zero)
    return [(r.onset, r.apex, r.offset) for r in kept], quirks.lines()


def test_paper_means_what_the_first_paper_of_the_layout_did() -> None:
    for layout, onset, frames in (
        ("casme2", "drop", "error"),
        ("samm_lv", "drop", "error"),
        ("casme3", "keep", "allow"),
        ("folder", "keep", "error"),
    ):
        found = rules.resolved(Annotation(), layout)
        assert (found.onset_zero, found.missing_frames) == (onset, frames)
    assert rules.resolved(Annotation(onset_zero="keep"), "casme2").onset_zero == "keep"


@pytest.mark.parametrize(
    ("word", "type"),
    [
        ("Macro", "macro"), ("Micro - 1/2", "micro"), ("micro-expression", "micro"),
        ("MaE", "macro"), ("me", "micro"), (" Macro-expression ", "macro"),
    ],
)  # fmt: skip
def test_words_for_the_types(word: str, type: str) -> None:
    assert rules.expression_type(word, "x") == type


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(UserError, match=r"gt\.csv, line 3: expression type 'blink' is not known"):
        rules.expression_type("blink", "gt.csv, line 3")


def test_onset_zero() -> None:
    rows = [row(0, 5, 9), row(0, 5, 9, "micro", 2)]
    assert applied(rows) == (
        [(0, 5, 9)],  # only macro-expressions are dropped, as in SOFTNet
        ("macro-expression with onset 0 dropped (annotation.onset_zero): 1 (row 1)",),
    )
    kept, lines = applied(rows, onset_zero="keep")
    assert len(kept) == 2 and "kept from the first frame" in lines[0]
    assert applied(rows, from_zero=True, onset_zero="keep") == ([(0, 5, 9)] * 2, ())


def test_missing_offset() -> None:
    rows = [row(11, 15, 0), row(11, 15, 14, number=2), row(3, 5, 9, number=3)]
    assert applied(rows[::2])[0] == [(11, 15, 15), (3, 5, 9)]
    assert applied(rows[::2], missing_offset="drop")[0] == [(3, 5, 9)]
    found, lines = applied(rows, missing_offset="apex_plus_20")
    assert found == [(11, 15, 35), (11, 15, 35), (3, 5, 9)]
    assert lines == (
        "offset not after the apex replaced by apex + 20 (annotation.missing_offset): 2 "
        "(row 1, row 2)",
    )
    with pytest.raises(UserError, match="row 1: offset 0 comes before onset 11: correct"):
        applied([row(11, 0, 0)])  # no apex to take its place


def test_long_micro_expressions_made_symmetric() -> None:
    rows = [row(10, 14, 60, "micro"), row(10, 10, 60, "micro"), row(10, 12, 40, "micro"),
            row(10, 12, 60)]  # fmt: skip
    found, lines = applied(rows, long_micro="symmetric")
    assert found == [(10, 14, 18), (10, 12, 40), (10, 12, 60)]
    assert len(lines) == 2 and applied(rows)[0] == [(r.onset, r.apex, r.offset) for r in rows]


def test_longest() -> None:
    rows = [row(10, 14, 25, "micro"), row(10, 14, 26, "micro"), row(10, 14, 130),
            row(10, 14, 131)]  # fmt: skip
    found, _ = applied(rows, longest_micro=15, longest_macro=120)
    assert found == [(10, 14, 25), (10, 14, 130)]


def test_repeated_rows() -> None:
    rows = [row(1, 2, 3), row(1, 2, 3, "micro", 2), row(1, 2, 3, number=3, emotion="others")]
    with pytest.raises(UserError, match=r"row 3: repeats row 1 \(macro 1-3 of video v\): remove"):
        applied(rows)
    found, lines = applied(rows, duplicates="drop")
    assert len(found) == 2 and "row 3 repeats row 1" in lines[0]
    assert len(applied(rows, duplicates="keep")[0]) == 3


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row(-3, 5, 9), r"onset -3, offset 9: a frame number is negative"),
        (row(3, 5, -1), r"onset 3, offset -1: a frame number is negative"),
        (row(12, 5, 9), r"offset 9 comes before onset 12"),
    ],
)
def test_impossible_rows(bad: rules.Row, message: str) -> None:
    with pytest.raises(UserError, match=f"gt.xlsx, sheet S, row 1: {message}") as info:
        applied([bad])
    assert "\n" not in str(info.value) and Path("gt.xlsx").name in str(info.value)


def test_what_is_odd_but_harmless_is_listed() -> None:
    _, lines = applied([row(10, 40, 30), row(10.5, -1, 30), row(10, 0, 31)])
    assert lines == (
        "apex outside its interval: 1 (row 1)",
        "apex not annotated: 2 (row 1, row 1)",
        "fractional frame numbers truncated (annotation.fractions): 1 (row 1)",
    )
