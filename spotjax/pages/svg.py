"""What every chart of the report is made of, as strings: the frame, text, paths and ticks."""

from collections.abc import Sequence
from html import escape

import numpy as np

BAR = 10
"""Height of the bar of an interval, in a timeline and in its legend."""


def svg(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    """A chart of `parts` with a label for screen readers; its style is `plots.CSS`."""
    return (
        f'<svg class="chart" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def text(x: float, y: float, words: str, style: str = "") -> str:
    """`words`, escaped, at a point."""
    style = f' class="{style}"' if style else ""
    return f'<text{style} x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'


def path(x: np.ndarray, y: np.ndarray) -> str:
    """SVG path through the points `x`, `y` f[n] in px of the chart.

    A NaN in `y` starts a new piece, a lone point becomes a dot.
    """
    pieces = []
    for start, stop in runs(np.isfinite(y)):
        points = zip(x[start:stop], y[start:stop], strict=True)
        pieces.append("M" + " ".join(f"{a:.1f} {b:.1f}" for a, b in points))
        pieces.append("h0" if stop == start + 1 else "")
    return "".join(pieces)


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """[start, stop) of every run of true values in bool[T]."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(mask, np.int8), [0]])))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def ticks_of(low: float, high: float, most: int) -> list[float]:
    """Round numbers within [low, high], at most `most` + 1."""
    raw = max(high - low, 1e-9) / most
    power = 10.0 ** np.floor(np.log10(raw))
    step = float(power * next(m for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9)))
    first, last = int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9))
    return [round(i * step, 10) for i in range(first, last + 1)]
