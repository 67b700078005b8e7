"""A chart as an SVG file of its own: what the page around it gives elsewhere is put inside."""

import re

from spotjax.pages import plots

INK = """
svg.chart { color: #1b1f24; background: var(--paper); }
@media screen and (prefers-color-scheme: dark) { svg.chart { color: #e4e7ea; } }
"""


def standalone(chart: str, extra: str = "") -> str:
    """`chart` (of `svg.svg`) with its style, `extra` style and size, for viewers and READMEs.

    Raises ValueError if it is not one chart.
    """
    head = re.match(r'<svg class="chart" viewBox="0 0 (\d+) (\d+)"([^>]*)>', chart)
    if head is None or chart.count("<svg") != 1:
        raise ValueError("not one chart of spotjax.pages.svg")
    width, height, rest = head.groups()
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}"{rest}><style>{plots.CSS}{INK}{extra}</style>'
        f"{chart[head.end() :]}\n"
    )
