"""The words, the style and the HTML of the report page: text only, used by `pages.report`."""

from collections.abc import Mapping
from typing import Any

from spotjax.config.base import keys_that_change
from spotjax.config.systems import SECTIONS
from spotjax.counting.matching import RULES

MEANINGS: dict[str, str | dict[str, str]] = {
    "videos": {
        "all": "also videos without an annotation: spotting anything there is a false positive",
        "annotated_only": "only videos that contain the type: easier than all videos",
    },
    "rule": {name: rule.text for name, rule in RULES.items()},
    "paper_rule": {name: f"the paper's own rule: {rule.text}" for name, rule in RULES.items()},
    "types": "expression types that it spots; only these are shown",
    "interval": {
        "published": "peak ± k on the first frames of the pairs",
        "centred": "peak ± k moved by k/2 to the centre of the pairs",
    },
    "epoch_choice": {
        "last": "the last epoch, never the best one on the held-out subject",
        "validation": "per fold the best one on training subjects that it did not train on",
        "oracle": "per fold the best one on the HELD-OUT subject: no result, only for comparison "
        "with papers that chose so",
    },
    "threshold_choice": {
        "fixed": "thresholds as configured",
        "validation": "per fold those with the best F1 on its own validation videos",
        "oracle": "those with the best F1 on the HELD-OUT videos: no result, only for comparison "
        "with papers that chose so",
    },
    "iou": "least overlap of a true positive with its annotation",
    "k": "frames between the two images of a pair, or as its source says",
    "flow_kind": {
        "optical": "u, v and strain of optical flow",
        "scene": "u, v and w of RGB-D scene flow",
        "hybrid": "u and v of optical flow, w of RGB-D scene flow",
    },
    "micro_test": {
        "prominence": "a micro peak stays if it rises above its ends (release)",
        "mae_difference": "a micro peak stays if it rises above the macro curve (paper)",
    },
    "video_gate": "nothing is spotted where the mean of the smoothed score reaches it; 0: off",
    "t_cpn": "least probability of a window that the proposal network (CPN) passes on",
    "t_crn": "least probability of an interval of the regression network (CRN)",
    "t_nms": "IoU at which the less likely of two intervals of a video is dropped",
    "nms": {
        "greedy": "an interval that is dropped itself drops no other",
        "simultaneous": "an interval that is dropped itself still drops others",
    },
    "module": {
        "crn": "intervals of the regression network: proposals classified again, ends moved",
        "cpn": "windows of the proposal network as they are",
    },
    "decode": {
        "inverse": "ends moved by parts of the expression's length, the exact inverse of training",
        "proposal_length": "ends moved by parts of the proposal's length, an approximation",
    },
    "k_micro": "rows between the frame and its near reference",
    "k_macro": "rows between the frame and its far reference",
    "reference": {
        "forward": "a later frame",
        "backward": "an earlier frame",
        "centred": "both ends lie around the frame",
    },
    "order": "of the Butterworth filter that smooths the scores",
    "threshold_rule": {
        "youden": "largest difference of true and false positive rate of frames",
        "corner": "nearest to the corner of the ROC",
        "f1": "best F1 of intervals",
    },
    "pretraining": "of the backbone, before, on the same fold's training videos",
    "updates": "after so many a fold stops",
    "start": "each fold began with the fold of this run that held out the same subject",
    "seed": "initialisation, order and sampling",
}
"""Of the protocol's entries that a system's config does not describe, or not for each value."""


def meaning(system: str, key: str, value: Any) -> str:
    """What an entry of the protocol of `system` says, in words; empty where nothing is known."""
    known = MEANINGS.get(key, "")
    if isinstance(known, Mapping):
        known = known.get(str(value), "")
    if not known and system in SECTIONS:
        section = SECTIONS[system]
        if key in keys_that_change(section, "intervals", "scores"):
            known = section.__pydantic_fields__[key].description
    return known


STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --line: #d8dce0; --soft: #f5f6f7;
  --warn: #fff4e0; --mark: #e8f2fa; }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e4e7ea; --line: #363d45;
  --soft: #1d2126; --warn: #33270f; --mark: #14293a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1216px; padding: 24px 32px 64px; color: var(--ink);
  background: var(--paper); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 27px; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 44px 0 10px; padding-top: 12px; border-top: 1px solid var(--line); }
h3 { font-size: 15px; margin: 18px 0 0; overflow-wrap: anywhere; }
p { margin: 8px 0; max-width: 84ch; } a { color: var(--ok); }
.facts th, .facts td { padding: 2px 10px 2px 0; }
.dim, figcaption { color: var(--dim); } .small, figcaption { font-size: .87em; }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; margin-top: 14px; }
.wide { overflow-x: auto; } .wide > svg { width: 100%; min-width: 760px; }
.pair { display: flex; flex-wrap: wrap; gap: 20px 28px; align-items: flex-start; }
.pair > .wide { flex: 0 1 auto; min-width: 0; }
.pair > figure { flex: 1 1 300px; max-width: 400px; }
.pair.even > figure { flex: 1 1 380px; max-width: 560px; }
figure { margin: 6px 0 0; min-width: 0; } figure > svg { width: 100%; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 10px; text-align: right; white-space: nowrap; font-weight: 400; }
th.text, td.text { text-align: left; } td.free { white-space: normal; overflow-wrap: anywhere; }
thead th { color: var(--dim); font-size: .87em; border-bottom: 1px solid var(--grey); }
th.over { text-align: center; font-weight: 650; }
tbody { border-bottom: 1px solid var(--line); } tbody th { vertical-align: top; }
.main > * { font-weight: 650; } .mark > * { background: var(--mark); }
.meter { display: inline-block; width: 84px; height: 9px; margin-right: 8px; border-radius: 2px;
  background: var(--gone); print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.meter > i { display: block; height: 100%; border-radius: 2px; background: var(--ok); }
.warn { background: var(--warn); border-left: 4px solid var(--wrong); padding: 8px 16px;
  margin: 18px 0; overflow-wrap: anywhere; } .warn ul { margin: 2px 0; padding-left: 18px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 20px; font-size: .87em; margin: 8px 0 14px; }
.legend span { display: inline-flex; align-items: center; gap: 7px; }
details { border-bottom: 1px solid var(--line); } summary { cursor: pointer; padding: 8px 0; }
summary b { margin-right: 8px; } pre { font-size: 12px; overflow-x: auto; background: var(--soft);
  padding: 12px; }
@media (max-width: 640px) { body { padding: 16px 14px 48px; } th, td { padding: 4px 6px; } }
@media print { body { max-width: none; padding: 0; font-size: 11px; } nav { display: none; }
  details::details-content { content-visibility: visible; height: auto; }
  figure, tr, .warn { break-inside: avoid; } h2, h3, summary { break-after: avoid; }
  .wide { overflow: visible; } .wide > svg { min-width: 0; } }
"""

HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{{ title }}</title>
<style>{{ style }}</style>
</head>
<body>
"""
"""What every page of the project begins with."""

PAGE = (
    HEAD
    + """{% macro results(row) %}
<td>{{ row.precision|ratio }}</td><td>{{ row.recall|ratio }}</td><td>{{ row.ap|ratio }}</td>
<td>{{ row.tp|count }}</td><td>{{ row.fp|count }}</td><td>{{ row.fn|count }}</td>
{% endmacro %}
<header>
<h1>{{ title }}</h1>
<p class="dim">{{ lead }}</p>
<nav><a href="#result">Result</a> <a href="#protocol">Protocol</a>
{% if variants %}<a href="#variants">Variants</a>{% endif %}
{% if recognition %}<a href="#emotions">Emotions</a>{% endif %}
{% if subjects %}<a href="#subjects">Subjects</a>{% endif %}
{% if losses %}<a href="#training">Training</a>{% endif %}
<a href="#timelines">Timelines</a></nav>
{% if oracles %}<p class="warn"><b>Oracle</b>: {{ oracles|join(" and ") }} {{ oracle }}.</p>
{% endif %}
</header>
<main>
<h2 id="result">Result</h2>
<div class="pair"><div class="wide"><table>
<thead><tr><th class="text">type</th><th class="text">method</th><th>F1</th><th>95 % interval</th>
<th>precision</th><th>recall</th><th>AP@[.5:.95]</th><th>TP</th><th>FP</th><th>FN</th></tr></thead>
{% for type in types %}
<tbody>
{% for name, rows in methods.items() %}
{% set row = rows.get(type, {}) %}
<tr{% if name == system %} class="main"{% endif %}>
{% if loop.first %}<th class="text" scope="rowgroup" rowspan="{{ methods|length }}">{{ type }}</th>
{% endif %}
<td class="text">{{ name }}</td><td>{{ row.f1|ratio }}</td>
<td>{% if name == system and bootstrap[type] %}{{ bootstrap[type][0]|ratio }} –
{{ bootstrap[type][1]|ratio }}{% endif %}</td>
{{ results(row) }}
</tr>
{% endfor %}
</tbody>
{% endfor %}
</table></div>
<figure>{{ bars }}<figcaption>F1; whisker: 95 % interval over subjects (bootstrap).</figcaption>
</figure></div>
<p><b>How to read it.</b> These F1 values rest on few events, so a handful of them, or one subject,
moves the value a lot: read the interval, not the third digit. What is spotted is a suggestion of
where a human coder should look; it is no diagnosis and says nothing about what a person feels.</p>
{% if only %}<p class="small">{{ system }} spots {{ only }}-expressions only: where it spots an
expression of another type, that is a false positive.</p>
{% endif %}
{% for sentence in reading %}<p class="small">{{ sentence }}</p>
{% endfor %}
<p class="small dim">strain sum: optical strain without any network (SOFTNet's control), decoded as
the protocol says. MDMD, LBP-χ²: published training-free methods with their published parameters.
chance: as many intervals of the same lengths at random places (mean counts).</p>
{% if warnings %}<div class="warn"><b>Warnings</b><ul>
{% for warning in warnings %}<li>{{ warning }}</li>
{% endfor %}
</ul></div>{% endif %}
<h2 id="protocol">Protocol</h2>
<table class="facts">
{% for label, value, meaning in protocol %}
<tr><th class="text dim">{{ label }}</th><td class="text free">{{ value }}
{%- if meaning %}<span class="dim">: {{ meaning }}</span>{% endif %}</td></tr>
{% endfor %}
</table>
{% for key, text in configs.items() %}
<details><summary>{{ key }}</summary><pre>{{ text }}</pre></details>
{% endfor %}
{% if variants %}
<h2 id="variants">Variants</h2>
<p>The same scores under each matching rule of the field and each way of decoding. The
marked row is the result above; the others show how much of it depends on these two choices. Under
sfamnet and megc2020 a count may be negative: an interval or an annotation may count twice.</p>
<div class="wide"><table>
<thead><tr><th class="text" rowspan="2">matching rule</th><th class="text" rowspan="2">decoding</th>
{% for type in types %}<th class="over" colspan="{{ 3 if beside else 2 }}">{{ type }}</th>
{% endfor %}
<th rowspan="2"></th></tr>
<tr>{% for type in types %}<th>F1</th><th>TP / FP / FN</th>
{% if beside %}<th>{{ baseline_names[beside] }} F1</th>{% endif %}{% endfor %}</tr></thead>
<tbody>
{% for row in variants %}
<tr{% if row.headline %} class="mark main"{% endif %}>
<td class="text">{{ row.rule }}{% if row.rule == paper_rule %} <span class="dim">(the
paper's)</span>{% endif %}</td>
<td class="text">{{ decodings.get(row.decoding, row.decoding) }}</td>
{% for type in types %}
{% set mine = row.results.get(type, {}) %}
<td>{{ mine.f1|ratio }}</td>
<td>{{ mine.tp|count }} / {{ mine.fp|count }} / {{ mine.fn|count }}</td>
{% if beside %}<td class="dim">{{ row.baselines[beside].get(type, {}).f1|ratio }}</td>{% endif %}
{% endfor %}
<td class="text">{% if row.headline %}◀ headline{% endif %}</td></tr>
{% endfor %}
</tbody></table></div>
{% endif %}
{% if recognition %}
<h2 id="emotions">Emotions</h2>
<p>Of micro-expressions, by the network that never saw the subject. Neutral can be predicted and is
then a miss. UF1: mean F1 of the classes; UAR: mean recall; analysis F1: harmonic mean of mean
precision and mean recall; STRS: spotting F1 times analysis F1.</p>
<div class="wide"><table>
<thead><tr><th class="text">what is recognised</th><th>n</th><th>UF1</th><th>UAR</th>
<th>spotting F1</th><th>analysis F1</th><th>STRS</th></tr></thead>
<tbody>
<tr class="main"><td class="text">annotated intervals</td><td>{{ recognition.samples }}</td>
<td>{{ recognition.ground_truth.uf1|ratio }}</td><td>{{ recognition.ground_truth.uar|ratio }}</td>
<td></td><td></td><td></td></tr>
<tr><td class="text dim">the other subjects' commonest class</td><td>{{ recognition.samples }}</td>
<td>{{ recognition.majority.uf1|ratio }}</td><td>{{ recognition.majority.uar|ratio }}</td>
<td></td><td></td><td></td></tr>
{% for rule, row in recognition.analysis.items() %}
<tr{% if rule == recognition.rule %} class="main"{% endif %}>
<td class="text">spotted intervals, rule {{ rule }}</td><td>{{ row.analysed }}</td>
<td>{{ row.uf1|ratio }}</td><td>{{ row.uar|ratio }}</td><td>{{ row.spotting_f1|ratio }}</td>
<td>{{ row.analysis_f1|ratio }}</td><td>{{ row.strs|ratio }}</td></tr>
{% endfor %}
</tbody></table></div>
<div class="pair even">
{% for caption, chart in recognition.charts.items() %}
<figure>{{ chart }}<figcaption>{{ caption }}</figcaption></figure>
{% endfor %}
</div>
{% if recognition.unlabelled or recognition.without_features %}
<p class="small dim">Left out: {{ recognition.unlabelled }} without an emotion,
{{ recognition.without_features }} without features.</p>
{% endif %}
{% endif %}
{% if subjects %}
<h2 id="subjects">Subjects</h2>
<p>Each subject as scored by the network that never saw it; – where nothing was annotated and
nothing spotted.</p>
<div class="wide"><table>
<thead><tr><th class="text">subject</th>{% for type in types %}
<th class="text">{{ type }} F1</th><th>TP / FP / FN</th>{% endfor %}</tr></thead>
<tbody>
{% for subject in subjects %}
<tr><td class="text"><a href="#{{ subject.anchor }}">{{ subject.name }}</a></td>
{% for type in types %}
{% set row = subject.rows.get(type, {}) %}
{% if row and row.tp + row.fp + row.fn > 0 %}
<td class="text"><span class="meter"><i style="width:{{ (100 * row.f1)|ratio(1) }}%"></i></span>
{{- row.f1|ratio(2) }}</td><td>{{ row.tp|count }} / {{ row.fp|count }} / {{ row.fn|count }}</td>
{% else %}<td class="text">–</td><td>–</td>{% endif %}
{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endif %}
{% if losses %}
<h2 id="training">Training</h2>
<p>Mean training loss per epoch: a thin line per fold, their mean in colour.</p>
<div class="pair even">
{% for problem, chart in losses.items() %}
<figure><b>{{ problem }}</b>{{ chart }}</figure>
{% endfor %}
</div>
{% endif %}
<h2 id="timelines">Timelines</h2>
<p>Annotated expressions above the score (and shaded behind it), spotted ones below. Point at a bar
for its frames in the data set's own numbering, seconds and score.{% if proposals %} Proposed ones
were looked at closer before anything was spotted: the stronger, the likelier.{% endif %}</p>
<div class="legend">
<span>{{ swatch("found") }}annotated, found</span>
<span>{{ swatch("missed") }}annotated, missed</span>
<span>{{ swatch("hit") }}spotted, hit</span>
<span>{{ swatch("false") }}spotted, false positive</span>
{% if proposals %}<span>{{ swatch("proposed") }}proposed</span>
{% endif %}
<span>{{ swatch("curve") }}{{ "" if proposals else "smoothed " }}score</span>
<span>{{ swatch("level") }}threshold</span>
<span>{{ swatch("peak") }}peak</span>
<span>{{ swatch("gone") }}no face</span>
</div>
{% for subject in subjects if subject.videos %}
<details{% if loop.first %} open{% endif %}>
<summary><b>{{ subject.name }}</b><span class="dim">{{ subject.videos|length }}
video{{ "s" if subject.videos|length > 1 }}
{%- for type, row in subject.rows.items() if type != "overall" and type in types %}
 · {{ type }}: {{ row.tp|count }} hits, {{ row.fp|count }} false, {{ row.fn|count }} missed
{%- endfor %}</span></summary>
<div id="{{ subject.anchor }}">
{% for video in subject.videos %}
<figure><h3>{{ video.name }}</h3><figcaption>{{ video.caption }}</figcaption>
<div class="wide">{{ video.chart }}</div></figure>
{% endfor %}
</div></details>
{% else %}
<p class="dim">No videos.</p>
{% endfor %}
</main>
</body>
</html>
"""
)
