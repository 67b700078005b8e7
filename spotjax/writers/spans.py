"""Detections as spans of whole milliseconds that never overlap, as annotation tools want them.

ELAN allows no overlap inside a tier, and BORIS pairs the starts and stops of a behaviour by turns.
So detections of one type that overlap become one span; how many they were stays visible.  Starts
and ends are rounded to milliseconds, and a span lasts at least 1 ms.
"""

from collections.abc import Iterable
from typing import NamedTuple

from spotjax.config import EXPRESSION_TYPES
from spotjax.spotting import Spotting
from spotjax.types import Detection

CAUTION = (
    "Suggested by a program, for a human coder to check; "
    "neither a diagnosis nor a detector of lies or feelings."
)


class Span(NamedTuple):
    """Milliseconds `start` to `end` (exclusive), and the detections that lie in it."""

    start: int
    end: int
    parts: tuple[Detection, ...]

    @property
    def best(self) -> Detection:
        """The detection of highest score; the first of equals."""
        return max(self.parts, key=lambda d: d.score)

    @property
    def frames(self) -> tuple[int, int]:
        """First and last frame of all the detections."""
        return min(d.onset for d in self.parts), max(d.offset for d in self.parts)


def spans(spotting: Spotting, type: str) -> list[Span]:
    """Disjoint spans of the detections of one type, ascending; overlapping ones are merged."""
    found = [d for d in spotting.detections if d.type == type]
    return _disjoint(_span(spotting.onset_s(d), spotting.offset_s(d), d) for d in found)


def apexes(spotting: Spotting) -> list[Span]:
    """Disjoint spans of one frame, ascending: the apex of the best detection of every span.

    Apexes that share a frame, one of each type, share a span.
    """
    best = [span.best for type in EXPRESSION_TYPES for span in spans(spotting, type)]
    return _disjoint(_span(spotting.apex_s(d), spotting.end_s(d.apex), d) for d in best)


def label(span: Span) -> str:
    """`macro 0.812 happiness (2 merged)`: type, highest score, emotion, how many they were.

    >>> first, second = Detection(0, 1, 2, "macro", 0.5), Detection(2, 3, 4, "macro", 0.8125, "joy")
    >>> label(Span(0, 9, (first,))), label(Span(0, 9, (first, second)))
    ('macro 0.500', 'macro 0.812 joy (2 merged)')
    """
    merged = f" ({len(span.parts)} merged)" if len(span.parts) > 1 else ""
    return title(span.best) + merged


def title(detection: Detection) -> str:
    """`macro 0.812 happiness`: type, score and emotion."""
    return f"{detection.type} {detection.score:.3f} {detection.emotion}".rstrip()


def notes(found: Iterable[Span]) -> list[str]:
    """A sentence for every span that holds several detections of its type."""
    result = []
    for span in found:
        if len(span.parts) > 1:
            each = ", ".join(f"{d.onset}-{d.offset} ({d.score:.3f})" for d in span.parts)
            result.append(f"{span.best.type}: overlapping detections are one here: frames {each}")
    return result


def clean(text: str) -> str:
    """`text` with what no XML and no UTF-8 file can hold replaced by U+FFFD.

    >>> clean("a\\x00b\\udcffü")
    'a\ufffdb\ufffdü'
    """
    return "".join(c if _writable(c) else "\ufffd" for c in text)


def _writable(c: str) -> bool:
    return c in "\t\n\r" or (c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff")


def _span(start_s: float, end_s: float, detection: Detection) -> Span:
    start = round(start_s * 1000)
    return Span(start, max(round(end_s * 1000), start + 1), (detection,))


def _disjoint(found: Iterable[Span]) -> list[Span]:
    result: list[Span] = []
    for span in sorted(found):
        if result and span.start < result[-1].end:
            last = result.pop()
            span = Span(last.start, max(last.end, span.end), (*last.parts, *span.parts))
        result.append(span)
    return result
