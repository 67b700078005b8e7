"""A confusion matrix as SVG: a pure function, standard library and NumPy only."""

from collections.abc import Sequence
from html import escape

import numpy as np

from spotjax.pages.svg import svg, text

_CELL, _LEFT, _TOP = 58, 84, 40


def confusion_matrix(table: np.ndarray, classes: Sequence[str], label: str) -> str:
    """Counts i64[C, C + 1] of true classes (rows) by predicted ones (columns, last: neutral).

    A cell is as dark as its share of the row, which stands below the count; the right answers are
    framed.  `classes` are the C + 1 names.  Raises ValueError if they do not fit.
    """
    rows, columns = table.shape
    if columns != rows + 1 or len(classes) != columns:
        raise ValueError(f"a table {table.shape} has not the classes {', '.join(classes)}")
    out = [text(_LEFT + columns * _CELL / 2, 12, "recognised as", "mid strong")]
    for column, name in enumerate(classes):
        out.append(text(_LEFT + (column + 0.5) * _CELL, _TOP - 10, name, "mid"))
    for row, name in enumerate(classes[:-1]):
        total = int(table[row].sum())
        y = _TOP + row * _CELL
        out.append(text(_LEFT - 8, y + _CELL / 2, name, "end strong"))
        out.append(text(_LEFT - 8, y + _CELL / 2 + 14, f"n {total}", "end"))
        for column, other in enumerate(classes):
            count = int(table[row, column])
            share = count / total if total else 0.0
            x = _LEFT + column * _CELL
            tip = escape(f"{count} of {total} {name} recognised as {other}")
            out.append(
                f'<rect class="cell" x="{x + 1}" y="{y + 1}" width="{_CELL - 2}" '
                f'height="{_CELL - 2}" rx="2" fill-opacity="{0.06 + 0.64 * share:.3f}">'
                f"<title>{tip}</title></rect>"
            )
            if row == column:
                out.append(
                    f'<rect class="right" x="{x + 2}" y="{y + 2}" width="{_CELL - 4}" '
                    f'height="{_CELL - 4}" rx="2" fill="none"/>'
                )
            out.append(text(x + _CELL / 2, y + _CELL / 2, str(count), "mid strong"))
            if total:
                out.append(text(x + _CELL / 2, y + _CELL / 2 + 15, f"{share:.0%}", "mid"))
    return svg(_LEFT + columns * _CELL + 4, _TOP + rows * _CELL + 6, label, out)
