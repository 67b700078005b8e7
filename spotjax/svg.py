"""The two elements that every chart of the report is made of, as strings."""

from collections.abc import Sequence
from html import escape


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
