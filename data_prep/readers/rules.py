"""Rows of an annotation sheet and the rules for their oddities, in the order they are applied.

Numbers stay the data set's own here (`566.6` too); `placing` turns them into frames.  Each rule is
a key of `config.data.annotation`; one that fires notes the row, so that the manifest, the report
and `data_prep.check` can list it.

Deviation from SOFTNet's release, which keeps intervals that leave the video although nothing can
match them: `outside` cuts or drops them.
"""

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

from spotjax.config import EXPRESSION_TYPES, Annotation
from spotjax.errors import UserError

from .base import Quirks

LONG_MICRO = 30  # frames, offset - onset: SFAMNet's evaluation shortens longer micro-expressions
LGSNET_LENGTH = 20  # frames after the apex, LGSNet's stand-in for a missing offset
WORDS = {"mae": "macro", "me": "micro"}


class Row(NamedTuple):
    """One annotated expression in the data set's own frame numbers, which may be fractional."""

    subject: str
    video: str
    onset: float
    apex: float
    """0 or negative where unknown."""
    offset: float
    type: str
    emotion: str
    action_units: str
    where: str
    """`file, sheet S, row N`, for messages."""

    @property
    def place(self) -> str:
        """`row N`."""
        return self.where.rpartition(", ")[2]


def resolved(annotation: Annotation, layout: str) -> Annotation:
    """`annotation` with every `paper` replaced by what the layout's first paper did."""
    dropped = layout in ("casme2", "samm_lv")
    onset_zero, missing = annotation.onset_zero, annotation.missing_frames
    if onset_zero == "paper":
        onset_zero = "drop" if dropped else "keep"
    if missing == "paper":
        missing = "allow" if layout == "casme3" else "error"
    return dataclasses.replace(annotation, onset_zero=onset_zero, missing_frames=missing)


def expression_type(word: str, where: str) -> str:
    """macro or micro of `Macro`, `Micro - 1/2`, `micro-expression`, `MaE`, ...

    Raises UserError for anything else.
    """
    plain = word.strip().lower()
    plain = WORDS.get(plain, plain)
    for name in EXPRESSION_TYPES:
        if plain.startswith(name):
            return name
    raise UserError(
        f"{where}: expression type {word!r} is not known: write macro-expression or "
        "micro-expression"
    )


def apply(
    rows: Iterable[Row], rules: Annotation, quirks: Quirks, from_zero: bool = False
) -> tuple[Row, ...]:
    """The rows that remain under `rules` (resolved), mended; what fired goes to `quirks`.

    In a data set that counts its frames `from_zero`, 0 is an ordinary onset or apex; elsewhere it
    means unknown.  Raises UserError for a row that no rule can mend.
    """
    kept: list[Row] = []
    first_of: dict[tuple[object, ...], str] = {}
    for row in rows:
        _refuse_negative(row)
        if row.onset == 0 and row.type == "macro":
            word = "dropped" if rules.onset_zero == "drop" else "kept from the first frame"
            if rules.onset_zero == "drop" or not from_zero:
                quirks.add(f"macro-expression with onset 0 {word} (annotation.onset_zero)",
                           row.place)  # fmt: skip
            if rules.onset_zero == "drop":
                continue
        unknown = row.apex < 0 or (row.apex == 0 and not from_zero)
        if unknown:
            quirks.add("apex not annotated", row.place)
        mended = _offset(row, rules, quirks, unknown)
        mended = _symmetric(mended, rules, quirks) if mended else None
        if mended is None or _too_long(mended, rules, quirks):
            continue
        if mended.offset < mended.onset:
            raise UserError(
                f"{row.where}: offset {row.offset:g} comes before onset {row.onset:g}: correct "
                "the row in your copy"
            )
        if not unknown and not mended.onset <= mended.apex <= mended.offset:
            quirks.add("apex outside its interval", row.place)
        if any(value != int(value) for value in (row.onset, row.apex, row.offset)):
            word = "truncated" if rules.fractions == "truncate" else "rounded"
            quirks.add(f"fractional frame numbers {word} (annotation.fractions)", row.place)
        if _repeats(row, rules, quirks, first_of):
            continue
        kept.append(mended)
    return tuple(kept)


def _refuse_negative(row: Row) -> None:
    if min(row.onset, row.offset) < 0:
        raise UserError(
            f"{row.where}: onset {row.onset:g}, offset {row.offset:g}: a frame number is "
            "negative: correct the row in your copy"
        )


def _offset(row: Row, rules: Annotation, quirks: Quirks, no_apex: bool) -> Row | None:
    """The row with its missing offset replaced; None where it is dropped."""
    not_after = rules.missing_offset == "apex_plus_20" and row.offset <= row.apex
    missing = row.offset == 0 and row.onset > 0
    if not (missing or not_after) or (no_apex and rules.missing_offset != "drop"):
        return row
    name = "(annotation.missing_offset)"
    if rules.missing_offset == "drop":
        quirks.add(f"row with offset 0 dropped {name}", row.place)
        return None
    if rules.missing_offset == "apex_plus_20":
        quirks.add(f"offset not after the apex replaced by apex + {LGSNET_LENGTH} {name}",
                   row.place)  # fmt: skip
        return row._replace(offset=row.apex + LGSNET_LENGTH)
    quirks.add(f"offset 0 replaced by the apex {name}", row.place)
    return row._replace(offset=row.apex)


def _symmetric(row: Row, rules: Annotation, quirks: Quirks) -> Row | None:
    """SFAMNet's evaluation: a long micro-expression falls as fast as it rose; None if empty."""
    if rules.long_micro == "keep" or row.type != "micro" or row.offset - row.onset <= LONG_MICRO:
        return row
    if row.apex <= row.onset:
        quirks.add("long micro-expression whose apex is its onset dropped "
                   "(annotation.long_micro)", row.place)  # fmt: skip
        return None
    quirks.add("long micro-expression made symmetric (annotation.long_micro)", row.place)
    return row._replace(offset=2 * row.apex - row.onset)


def _too_long(row: Row, rules: Annotation, quirks: Quirks) -> bool:
    longest = rules.longest_micro if row.type == "micro" else rules.longest_macro
    if not longest or row.offset - row.onset <= longest:
        return False
    quirks.add(f"{row.type}-expression longer than {longest} frames dropped "
               f"(annotation.longest_{row.type})", row.place)  # fmt: skip
    return True


def _repeats(
    row: Row, rules: Annotation, quirks: Quirks, first_of: dict[tuple[object, ...], str]
) -> bool:
    """Whether the row repeats an earlier one and is dropped.  Raises UserError if refused."""
    key = row._replace(where="", emotion="", action_units="")
    first = first_of.setdefault(key, row.place)
    if first == row.place:
        return False
    if rules.duplicates == "error":
        raise UserError(
            f"{row.where}: repeats {first} ({row.type} {row.onset:g}-{row.offset:g} of video "
            f"{row.video}): remove one, or count it once with "
            "--config.data.annotation.duplicates=drop"
        )
    word = "dropped" if rules.duplicates == "drop" else "counted again"
    quirks.add(f"repeated row {word} (annotation.duplicates)", f"{row.place} repeats {first}")
    return rules.duplicates == "drop"
