"""The words, the style and the HTML of the page on one's own video: text only."""

STYLE = """
.lead { font-size: 16px; } .note { border-left: 4px solid var(--ok); background: var(--soft);
  padding: 8px 16px; margin: 18px 0; }
.note p { margin: 4px 0; }
.found { width: 100%; } .found td { vertical-align: top; padding: 10px; }
.found th, .found td { text-align: left; } .found tbody tr { border-top: 1px solid var(--line); }
.found td.nr { font-weight: 650; } .found .type { font-weight: 650; white-space: nowrap; }
.found tr:target { background: var(--mark); }
.found img, .found .none { display: block; width: 124px; height: 124px; margin-top: 6px;
  object-fit: cover; border-radius: 3px; background: var(--gone); }
.found .none { display: grid; place-items: center; color: var(--dim); font-size: .87em; }
.found td.looked { vertical-align: bottom; } .found svg.chart { width: 240px; }
.dot { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 6px; }
.dot.macro { background: var(--ok); } .dot.micro { background: var(--wrong); }
.rows figure { margin-top: 14px; }
@media (max-width: 760px) {
  .found thead { display: none; } .found, .found tbody { display: block; }
  .found tr { display: grid; grid-template-columns: repeat(3, 1fr); gap: 2px 8px; padding: 10px 0; }
  .found td { padding: 2px 0; min-width: 0; white-space: normal; }
  .found td.nr { grid-column: 1; } .found td.type { grid-column: 2 / 4; }
  .found td.looked { grid-column: 1 / 4; }
  .found td[data-label]::before { content: attr(data-label); display: block; color: var(--dim);
    font-size: .87em; }
  .found img, .found .none { width: 100%; max-width: 124px; height: auto; aspect-ratio: 1; } }
"""

LOOKED = {
    "softnet": "Grad-CAM on the eyes and the mouth, which is all that SOFTNet sees: where motion "
    "raised the score at the apex. A face without colour: no place did.",
    "sfamnet": "Grad-CAM on the face: where motion raised the score at the apex. A face without "
    "colour: no place did.",
    "spotformer": "attention at the apex: how much of each region of the face, and of each frame "
    "of the clip around the apex, the first layers mix in. What is attended to need not be what "
    "decided.",
}
"""What the last picture of a row is, by system."""

FLOWS = {"tvl1": "TV-L1", "dis": "DIS", "farneback": "Farneback"}

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{{ title }}</title>
<style>{{ style }}</style>
</head>
<body>
{% macro face(pictures, moment, number) %}
{% if pictures %}
{% if pictures[moment] %}<img alt="the face at the {{ moment }} of number {{ number }}"
 src="{{ pictures[moment] }}">
{% else %}<span class="none">no face</span>
{% endif %}
{% endif %}
{% endmacro %}
<header>
<h1>{{ title }}</h1>
<p class="lead">{{ counts }}</p>
<p class="dim">{{ lead }}</p>
{% if warnings %}<div class="warn"><b>Before you use this</b><ul>
{% for warning in warnings %}<li>{{ warning }}</li>
{% endfor %}
</ul></div>{% endif %}
<div class="note">
<p><b>A suggestion for a human coder</b>, made by {{ system }}. It marks where a face may have
moved as in an expression; look at each place yourself, and expect both false alarms and missed
expressions. It is not a lie detector and not a diagnosis, and it does not know what a person
feels or why.</p>
<p>Faces are personal data. The video was looked at on this machine and nothing of it left it.
{% if has_pictures %}This page holds pictures of a face: keep it as carefully as the video.
{% endif %}</p>
</div>
<nav><a href="#timeline">Timeline</a> <a href="#list">List</a> <a href="#trust">How far to trust
it</a> <a href="#settings">Settings</a></nav>
</header>
<main>
<h2 id="timeline">Timeline</h2>
<div class="legend">
{% for type in types %}<span>{{ swatch(type) }}{{ type }}-expression, tick: apex</span>
{% endfor %}
<span>{{ swatch("curve") }}score</span>
<span>{{ swatch("level") }}threshold</span>
<span>{{ swatch("gone") }}no face</span>
</div>
{% if overview %}<figure><div class="wide">{{ overview }}</div>
<figcaption>The whole video.</figcaption></figure>
<div class="rows">
{% endif %}
{% for chart in charts %}<figure><div class="wide">{{ chart }}</div></figure>
{% endfor %}
{% if overview %}</div>
{% endif %}
<p class="small dim">Minutes and seconds of the video. A number under a bar is that of the list; a
click on the bar leads there.</p>
<h2 id="list">List</h2>
{% if rows %}
<p>{% for sentence in notes %}{{ sentence }} {% endfor %}</p>
<table class="found">
<thead><tr><th></th><th>type</th><th>onset</th><th>apex</th><th>offset</th><th>duration</th>
<th>score</th>{% if emotions %}<th>emotion</th>{% endif %}
{% if looked %}<th>looked at</th>{% endif %}</tr></thead>
<tbody>
{% for row in rows %}
<tr id="d{{ row.number }}"><td class="nr">{{ row.number }}</td>
<td class="type"><span class="dot {{ row.type }}"></span>{{ row.type }}</td>
{% for moment in ("onset", "apex", "offset") %}
<td data-label="{{ moment }}">{{ row[moment].time }}<br>
<span class="dim small">frame {{ row[moment].frame }}</span>
{{ face(row.pictures, moment, row.number) }}</td>
{% endfor %}
<td data-label="duration">{{ row.duration }}</td>
<td data-label="score">{{ row.score }}</td>
{% if emotions %}<td data-label="emotion">{{ row.emotion }}</td>{% endif %}
{% if looked %}<td class="looked" data-label="looked at">
{% if row.chart %}{{ row.chart }}
{% elif row.pictures and row.pictures.heat %}<img alt="what the network looked at, number
 {{ row.number }}" src="{{ row.pictures.heat }}">
{% endif %}</td>{% endif %}
</tr>
{% endfor %}
</tbody></table>
{% else %}
<p>Nothing was found: {{ nothing }}.</p>
{% endif %}
<h2 id="trust">How far to trust it</h2>
<p>{{ trust }}</p>
{% if published %}
<div class="wide"><table>
<thead><tr><th class="text">videos</th><th class="text">type</th><th>F1</th>
{% if counted %}<th class="text">suggestions that were right</th>
<th class="text">expressions that were found</th>{% endif %}
<th class="text">source</th></tr></thead>
<tbody>
{% for item in published %}
<tr><td class="text">{{ item.data_set }}</td><td class="text">{{ item.type }}</td>
<td>{{ item.f1 }}</td>
{% if counted %}<td class="text">{{ item.right }}</td><td class="text">{{ item.hit }}</td>
{% endif %}<td class="text">{{ item.source }}</td></tr>
{% endfor %}
</tbody></table></div>
<p class="small dim">{{ paper }}. F1 is 1 where every expression is found and nothing else, 0 where
none is.</p>
{% endif %}
<h2 id="settings">Settings</h2>
<table class="facts">
{% for label, value in settings %}
<tr><th class="text dim">{{ label }}</th><td class="text free">{{ value }}</td></tr>
{% endfor %}
</table>
<details><summary>everything that it was made with</summary><pre>{{ provenance }}</pre></details>
</main>
</body>
</html>
"""
