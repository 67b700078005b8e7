"""The HTML page of a sweep: its table, a chart of the seeds, links to the runs' own pages."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from spotjax.counting import headline
from spotjax.pages import plots
from spotjax.pages.report_page import HEAD, STYLE
from spotjax.pages.svg import svg, text
from spotjax.sweeps.sweep_table import COUNTS, MEASURES, Configuration, others_of, types_of

WIDTH, HEIGHT = 120, 18
"""Of the chart of a configuration."""

PAGE = (
    HEAD
    + """<header>
<h1>{{ title }}</h1>
<p class="dim">{{ lead }}</p>
{% if oracle %}<p class="warn"><b>Oracle</b>: in the marked rows something was {{ oracle }}.</p>
{% endif %}
{% if failed %}<div class="warn"><b>Without results</b><ul>
{% for name, why in failed.items() %}<li>{{ name }}: {{ why }}</li>
{% endfor %}
</ul></div>{% endif %}
</header>
<main>
<h2 id="result">Result</h2>
<div class="wide"><table class="small">
<thead><tr><th class="text">configuration</th>
{% for type in types %}<th>{{ type }} F1</th><th>{% if several %}least – greatest<br>{% endif %}
TP / FP / FN</th><th class="text">{{ axis }}</th>{% endfor %}
{% for title in others %}<th>{{ title }}</th>{% endfor %}</tr></thead>
{% for one in configurations %}
<tbody>
{% for row in one.rows %}
<tr{% if row.main %} class="main"{% endif %}>
<th class="text" scope="row">{% if row.link %}<a href="{{ row.link }}">{{ row.label }}</a>
{%- else %}{{ row.label }}{% endif %}{% if row.oracle %} <span class="dim">(oracle: no
result)</span>{% endif %}</th>
{% for cell in row.types %}
<td>{{ cell.value }}</td><td>{{ cell.more }}</td><td class="text">{{ cell.chart }}</td>
{% endfor %}
{% for value in row.others %}<td>{{ value }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
{% endfor %}
</table></div>
<p><b>How to read it.</b> {% if several %}A configuration's row is the mean ± standard deviation
over its seeds; a dot of its chart is a seed, the upright line their mean. A difference between two
configurations that is no greater than these spreads says nothing. {% endif %}Other subjects would
move the values too: each run's page, behind its name, has the 95 % interval over subjects.</p>
</main>
</body>
</html>
"""
)


def render(
    configurations: Sequence[Configuration], failed: dict[str, str], title: str, folder: Path
) -> str:
    """The page as a string, to be kept in `folder`, which its links start from."""
    types, others = types_of(configurations), others_of(configurations)
    values = [row[f"{type}_f1"] for one in configurations for row in one.rows for type in types]
    limit = math.ceil(10 * max([0.1, *(value for value in values if value != "")]) - 1e-9) / 10
    seeds = {len(one.rows) for one in configurations}
    runs = sum(len(one.rows) for one in configurations)
    return _ENVIRONMENT.from_string(PAGE).render(
        title=title,
        style=Markup(plots.CSS + STYLE),
        lead=f"{len(configurations)} configurations, {runs} runs",
        oracle=headline.ORACLE if any(one.oracle for one in configurations) else "",
        failed=failed,
        several=max(seeds, default=1) > 1,
        types=types,
        axis=f"0 to {limit:.2g}",
        others=[MEASURES[key] for key in others],
        configurations=[
            {"rows": _rows(one, types, others, limit, folder)} for one in configurations
        ],
    )


def _rows(
    one: Configuration, types: list[str], others: list[str], limit: float, folder: Path
) -> list[dict[str, Any]]:
    """The rows of a configuration: its spread, unless it is one run, and the runs."""
    alone = len(one.rows) == 1
    rows = [] if alone else [_spread_row(one, types, others, limit)]
    for row in one.rows:
        rows.append(
            {
                "label": one.label if alone else f"seed {row['seed']}",
                "main": alone,
                "oracle": "oracle" in row["epoch_choice"],
                "types": [
                    {
                        "value": _ratio(row[f"{type}_f1"]),
                        "more": " / ".join(_count(row[f"{type}_{key}"]) for key in COUNTS),
                        "chart": dots(one, f"{type}_f1", limit) if alone else "",
                    }
                    for type in types
                ],
                "others": [_ratio(row[key]) for key in others],
                "link": _link(Path(row["run"]) / "report.html", folder),
            }
        )
    return rows


def _spread_row(
    one: Configuration, types: list[str], others: list[str], limit: float
) -> dict[str, Any]:
    cells = []
    for type in types:
        found = one.spread(f"{type}_f1")
        cells.append(
            {
                "value": f"{found.mean:.3f} ± {found.std:.3f}" if found else "–",
                "more": f"{found.low:.3f} – {found.high:.3f}" if found else "–",
                "chart": dots(one, f"{type}_f1", limit),
            }
        )
    means = [one.spread(key) for key in others]
    return {
        "label": one.label,
        "main": True,
        "oracle": one.oracle,
        "types": cells,
        "others": [f"{found.mean:.3f} ± {found.std:.3f}" if found else "–" for found in means],
        "link": "",
    }


def dots(one: Configuration, measure: str, limit: float) -> Markup:
    """A dot per run on an axis from 0 to `limit`, a line at the mean of several."""
    left, right, middle = 5, WIDTH - 5, HEIGHT / 2

    def x_of(value: float) -> float:
        return left + value / limit * (right - left)

    parts = [f'<path class="axis" d="M{left} {middle}H{right}"/>']
    found = one.spread(measure)
    if found is None:
        parts.append(text(left, middle - 3, "no result"))
    elif len(one.rows) > 1:
        x = x_of(found.mean)
        parts.append(f'<path class="whisker" d="M{x:.1f} 2V{HEIGHT - 2}"/>')
    for row in one.rows:
        if row[measure] != "":
            parts.append(
                f'<circle class="s0" cx="{x_of(row[measure]):.1f}" cy="{middle}" r="3.5" '
                f'opacity=".7"><title>seed {row["seed"]}: {row[measure]:.4f}</title></circle>'
            )
    label = f"{one.label}: {MEASURES[measure]} of {len(one.rows)} seeds"
    return Markup(svg(WIDTH, HEIGHT, label, parts).replace("<svg ", f'<svg width="{WIDTH}" ', 1))


def _link(page: Path, folder: Path) -> str:
    """From a page in `folder` to one that is there, below it; else none."""
    page, folder = page.absolute(), folder.absolute()
    if not page.exists() or not page.is_relative_to(folder):
        return ""
    return quote(page.relative_to(folder).as_posix())


def _ratio(value: Any) -> str:
    return f"{value:.3f}" if value != "" else "–"


def _count(value: Any) -> str:
    return f"{value:g}" if value != "" else "–"


_ENVIRONMENT = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
