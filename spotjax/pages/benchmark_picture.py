"""The benchmark as one picture: a bar per method and type, its interval, chance (NumPy only)."""

from collections.abc import Sequence
from html import escape

from spotjax.config import EXPRESSION_TYPES
from spotjax.pages.svg import svg, text, ticks_of
from spotjax.pages.svg_file import standalone
from spotjax.sweeps.benchmark_table import Row, Score

WIDTH, LEFT, GAP, LANE, BAR_HEIGHT, TOP = 860, 128, 56, 27, 15, 62
STYLE = ".chart .chance { stroke: var(--wrong); stroke-width: 2.4; }"


def picture(rows: Sequence[Row], title: str, note: str) -> str:
    """An SVG file: macro-expressions on the left, micro on the right, the methods below another.

    A whisker is the 95 % interval, the upright stroke the chance level of that method.
    """
    panel = (WIDTH - LEFT - GAP - 40) / len(EXPRESSION_TYPES)
    tops = [score.high for row in rows for score in row.scores.values()]
    tops += [score.f1 for row in rows for score in row.scores.values()]
    ticks = ticks_of(0.0, max([0.1, *tops]), 5)
    limit = max(ticks[-1], max(tops, default=0.0) * 1.02)
    bottom = TOP + LANE * len(rows)
    out = [text(8, 18, title, "strong"), text(8, 34, note)]
    for number, type in enumerate(EXPRESSION_TYPES):
        left = LEFT + number * (panel + GAP)
        out.append(text(left, TOP - 8, f"{type}-expressions, F1", "strong"))
        for tick in ticks:
            x = left + tick / limit * panel
            out.append(f'<path class="grid" d="M{x:.1f} {TOP}V{bottom}"/>')
            out.append(text(x, bottom + 15, f"{tick:g}", "mid"))
        for lane, row in enumerate(rows):
            y = TOP + lane * LANE + (LANE - BAR_HEIGHT) / 2
            score = row.scores.get(type)
            if score is None:
                out.append(text(left + 5, y + 12, "not spotted by it"))
            else:
                out += _bar(row, type, score, left, y, panel / limit)
        out.append(f'<path class="axis" d="M{left} {TOP}V{bottom}"/>')
    for lane, row in enumerate(rows):
        middle = TOP + (lane + 0.5) * LANE + 4
        out.append(text(LEFT - 10, middle, row.name, "end strong" if row.trained else "end"))
    chart = svg(WIDTH, bottom + 50, f"{title}. {note}", [*out, *_legend(bottom + 32)])
    return standalone(chart, STYLE)


def _bar(row: Row, type: str, score: Score, left: float, y: float, scale: float) -> list[str]:
    end, low, high, chance = (
        left + value * scale for value in (score.f1, score.low, score.high, score.chance)
    )
    middle = y + BAR_HEIGHT / 2
    tip = escape(
        f"{row.name}, {type}: {score.f1:.3f} (95 % interval {score.low:.3f} to {score.high:.3f}), "
        f"chance {score.chance:.3f}"
    )
    return [
        f'<rect class="{"s0" if row.trained else "s1"}" x="{left:.1f}" y="{y:.1f}" '
        f'width="{max(end - left, 0.5):.1f}" height="{BAR_HEIGHT}" rx="1"><title>{tip}</title>'
        "</rect>",
        f'<path class="whisker" d="M{low:.1f} {middle:.1f}H{high:.1f}M{low:.1f} {middle - 4:.1f}v8'
        f'M{high:.1f} {middle - 4:.1f}v8"/>',
        f'<path class="chance" d="M{chance:.1f} {y - 2:.1f}v{BAR_HEIGHT + 4}"/>',
        text(max(end, high, chance) + 6, middle + 4, f"{score.f1:.3f}"),
    ]


def _legend(y: float) -> list[str]:
    words = (("s0", "trained"), ("s1", "training-free"))
    out = []
    for number, (style, word) in enumerate(words):
        x = LEFT + 110 * number
        out.append(f'<rect class="{style}" x="{x}" y="{y}" width="10" height="10"/>')
        out.append(text(x + 15, y + 9, word))
    x = LEFT + 220
    out.append(f'<path class="whisker" d="M{x} {y + 5}h22m-22 -4v8m22 -8v8"/>')
    out.append(text(x + 28, y + 9, "95 % interval over subjects"))
    out.append(f'<path class="chance" d="M{x + 200} {y - 2}v14"/>')
    out.append(text(x + 208, y + 9, "chance"))
    return out
