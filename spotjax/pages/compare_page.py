"""The HTML page of a comparison: tables and dots with intervals (NumPy only)."""

from collections.abc import Sequence
from html import escape

import jinja2
from markupsafe import Markup

from spotjax.counting.comparison import Compared, Pair, Result, counted
from spotjax.pages import plots
from spotjax.pages.report_page import HEAD, STYLE
from spotjax.pages.svg import svg, text, ticks_of

WIDTH, LEFT, RIGHT, LANE, TOP = 760, 300, 70, 26, 22
DOTS = """
.chart .seed { fill: var(--grey); opacity: .7; } .chart .zero { stroke: var(--dim);
  stroke-width: 1.4; } .chart .dot { fill: var(--ok); } .chart .unsure { fill: var(--grey); }
"""

PAGE = (
    HEAD
    + """<header><h1>Comparison</h1>
{% for line in about %}<p class="dim">{{ line }}</p>
{% endfor %}
</header>
<main>
{% for one in types %}
<h2 id="{{ one.type }}">{{ one.type }}</h2>
<figure><div class="wide">{{ one.methods }}</div><figcaption>F1 with its 95 % interval over
subjects{% if one.seeds %}; grey: single seeds, blue: their mean{% endif %}.</figcaption></figure>
<div class="wide"><table class="small"><thead><tr><th class="text">method</th><th>F1</th>
{% if one.seeds %}<th>seeds: ± std, least – greatest</th>{% endif %}
<th>95 % interval</th><th>TP / FP / FN</th></tr></thead><tbody>
{% for row in one.results %}
<tr><th class="text" scope="row">{{ row.label }}</th><td>{{ row.f1 }}</td>
{% if one.seeds %}<td>{{ row.seeds }}</td>{% endif %}
<td>{{ row.interval }}</td><td>{{ row.counts }}</td></tr>
{% endfor %}
</tbody></table></div>
{% if one.pairs %}
<figure><div class="wide">{{ one.differences }}</div><figcaption>Difference of F1, first minus
second, with its 95 % interval; grey where the interval holds 0.</figcaption></figure>
<div class="wide"><table class="small"><thead><tr><th class="text">first</th>
<th class="text">second</th><th>difference</th><th>95 % interval</th><th>p</th>
{% if one.pairs|length > 1 %}<th>p, Holm</th>{% endif %}</tr></thead><tbody>
{% for row in one.pairs %}
<tr><th class="text" scope="row">{{ row.first }}</th><td class="text">{{ row.second }}</td>
<td>{{ row.difference }}</td><td>{{ row.interval }}</td><td>{{ row.p }}</td>
{% if one.pairs|length > 1 %}<td>{{ row.p_holm }}</td>{% endif %}</tr>
{% endfor %}
</tbody></table></div>
{% endif %}
{% endfor %}
<p><b>How to read it.</b> The interval of the difference is made from the same drawn subjects for
both, so it can leave out 0 although the two intervals of F1 overlap. p is the share of exchanges
of both methods within subjects that give at least this difference: small where it would be rare
if they were alike. With few subjects neither can say much, and a difference of seeds is no
difference of methods: compare several seeds. {% if holm %}Several pairs are several chances to
find something: Holm's p takes that into account, for each expression type.{% endif %}</p>
</main>
</body>
</html>
"""
)


def render(compared: Sequence[Compared], about: Sequence[str]) -> str:
    """The page as a string."""
    return _ENVIRONMENT.from_string(PAGE).render(
        title="Comparison",
        style=Markup(plots.CSS + STYLE + DOTS),
        about=about,
        holm=any(len(one.pairs) > 1 for one in compared),
        types=[
            {
                "type": one.type,
                "seeds": any(len(result.each) > 1 for result in one.results),
                "methods": Markup(methods_chart(one)),
                "differences": Markup(differences_chart(one)) if one.pairs else "",
                "results": [_result(result) for result in one.results],
                "pairs": [_pair(pair) for pair in one.pairs],
            }
            for one in compared
        ],
    )


def _result(result: Result) -> dict[str, str]:
    spread = f"± {result.std:.3f}, {min(result.each):.3f} – {max(result.each):.3f}"
    return {
        "label": result.method.label,
        "f1": f"{result.f1:.3f}",
        "seeds": spread if len(result.each) > 1 else "",
        "interval": f"{result.low:.3f} – {result.high:.3f}",
        "counts": counted(result, " / "),
    }


def _pair(pair: Pair) -> dict[str, str]:
    found = pair.found
    return {
        "first": pair.first.label,
        "second": pair.second.label,
        "difference": f"{found.difference:+.3f}",
        "interval": f"{found.low:+.3f} to {found.high:+.3f}",
        "p": f"{found.p:.4f}",
        "p_holm": f"{pair.p_holm:.4f}",
    }


# --- charts ---------------------------------------------------------------------------------------


def methods_chart(one: Compared) -> str:
    """F1 of each method: a dot, its interval, its seeds."""
    top = max([0.1, *(max(result.high, *result.each) for result in one.results)])
    axis = _Axis(0.0, top)
    out = axis.frame(len(one.results))
    for lane, result in enumerate(one.results):
        tip = f"{result.method.label}: {result.f1:.4f} ({result.low:.4f} to {result.high:.4f})"
        out += axis.dot(lane, result.method.label, result.f1, (result.low, result.high), tip, "dot")
        if len(result.each) > 1:
            y = axis.middle(lane)
            out += [
                f'<circle class="seed" cx="{axis.x(value):.1f}" cy="{y - 7:.1f}" r="2.4"/>'
                for value in result.each
            ]
    return svg(WIDTH, axis.height(len(one.results)), f"F1, {one.type}", out)


def differences_chart(one: Compared) -> str:
    """The difference of each pair with its interval, beside a line at 0."""
    ends = [end for pair in one.pairs for end in (pair.found.low, pair.found.high)]
    ends += [pair.found.difference for pair in one.pairs]
    limit = max([0.05, *map(abs, ends)])
    axis = _Axis(-limit, limit)
    out = axis.frame(len(one.pairs))
    out.append(f'<path class="zero" d="M{axis.x(0):.1f} {TOP}V{TOP + LANE * len(one.pairs)}"/>')
    for lane, pair in enumerate(one.pairs):
        first, second = pair.first.label, pair.second.label
        found, name = pair.found, f"{_short(first, 21)} − {_short(second, 21)}"
        unsure = found.low <= 0 <= found.high
        tip = f"{first} − {second}: {found.difference:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
        out += axis.dot(
            lane, name, found.difference, (found.low, found.high), f"{tip}, p {found.p:.4f}",
            "unsure" if unsure else "dot",
        )  # fmt: skip
    return svg(WIDTH, axis.height(len(one.pairs)), f"Differences of F1, {one.type}", out)


class _Axis:
    """An axis of values with lanes below another."""

    def __init__(self, low: float, high: float) -> None:
        self.ticks = ticks_of(low, high, 6)
        self.low, self.high = low, high

    def x(self, value: float) -> float:
        """Where a value is."""
        return LEFT + (value - self.low) / (self.high - self.low) * (WIDTH - LEFT - RIGHT)

    def middle(self, lane: int) -> float:
        """Height of a lane."""
        return TOP + (lane + 0.5) * LANE

    def height(self, lanes: int) -> float:
        """Of the chart."""
        return TOP + LANE * lanes + 6

    def frame(self, lanes: int) -> list[str]:
        """Grid and numbers."""
        out = []
        for tick in self.ticks:
            x, bottom = self.x(tick), TOP + LANE * lanes
            out.append(f'<path class="grid" d="M{x:.1f} {TOP}V{bottom}"/>')
            out.append(text(x, TOP - 6, f"{tick:g}", "mid"))
        return out

    def dot(
        self,
        lane: int,
        name: str,
        value: float,
        ends: tuple[float, float],
        tip: str,
        style: str,
    ) -> list[str]:
        """A named dot with its interval and number."""
        y, (low, high) = self.middle(lane), map(self.x, ends)
        label = text(LEFT - 12, y + 4, _short(name), "end")
        return [
            f"<g><title>{escape(name)}</title>{label}</g>",
            f'<path class="whisker" d="M{low:.1f} {y:.1f}H{high:.1f}"/>',
            f'<circle class="{style}" cx="{self.x(value):.1f}" cy="{y:.1f}" r="5">'
            f"<title>{escape(tip)}</title></circle>",
            text(WIDTH - RIGHT + 10, y + 4, f"{value:{'+' if self.low < 0 else ''}.3f}"),
        ]


def _short(name: str, most: int = 46) -> str:
    """The end of a long name: run directories differ there.

    >>> _short("runs/a", 10), _short("results/of/runs/demo", 10)
    ('runs/a', '…runs/demo')
    """
    return name if len(name) <= most else f"…{name[1 - most :]}"


_ENVIRONMENT = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
