"""The parts of the service page as HTML: caution, how far a job is, what was found (text only).

All text is escaped.  The page of the result stands in a frame without any right (`sandbox`): what a
file is called can run nothing, neither there nor here.
"""

from urllib.parse import quote

import jinja2

from spotjax.errors import UserError
from spotjax.own.service import SUFFIXES
from spotjax.own.worker import Found, Row, State

STYLE = """
.spotjax .card { border-left: 4px solid #0072b2; padding: 6px 14px; margin: 6px 0;
  background: var(--background-fill-secondary); }
.spotjax .card.bad { border-color: #d55e00; }
.spotjax { overflow-wrap: anywhere; }
.spotjax p { margin: 4px 0; } .spotjax progress { width: 100%; height: 14px; }
.spotjax table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
.spotjax th, .spotjax td { text-align: left; padding: 4px 10px; white-space: nowrap;
  border-bottom: 1px solid var(--border-color-primary); }
.spotjax .scroll { overflow-x: auto; } .spotjax ul { columns: 20em; padding-left: 1.2em; }
.spotjax iframe { width: 100%; height: 85vh; border: 1px solid var(--border-color-primary);
  background: white; }
"""

HEADS = ("type", "onset", "apex", "offset", "duration", "frames", "score", "emotion")

_PAGES = {
    "caution": """<div class="spotjax">
<div class="card"><p><b>A suggestion for a human coder.</b> It marks where a face may have moved as
in an expression; look at each place yourself, and expect both false alarms and missed expressions.
It is not a lie detector and not a diagnosis, and it does not know what a person feels or why.</p>
<p>Faces are personal data. The video goes to the program behind this page ({{ where }}) and nowhere
else. The upload and its results are deleted when you close or reload this page.
{% if out %}A copy of the results, with pictures of the face, stays in {{ out }}.{% endif %}</p>
{% for note in notes %}<p><b>{{ note }}</b></p>{% endfor %}</div></div>""",
    "state": """<div class="spotjax" role="status">
{% if failed %}<div class="card bad"><p>{{ text }}</p></div>
{% elif text %}<div class="card"><p>{{ text }}</p>
{% if share is not none %}<progress max="1" value="{{ share }}">{{ text }}</progress>
{% elif busy %}<progress>{{ text }}</progress>{% endif %}</div>{% endif %}</div>""",
    "found": """<div class="spotjax">
<h2>{{ found.summary }}</h2>
{% if notes %}<div class="card bad">{% for note in notes %}<p>{{ note }}</p>{% endfor %}</div>
{% endif %}
{% if rows %}<div class="scroll"><table id="intervals"><thead><tr>
{% for head in heads %}<th scope="col">{{ head }}</th>{% endfor %}</tr></thead><tbody>
{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{% else %}<p>Nothing was found.</p>{% endif %}
<h3>Files</h3>
<p>{{ link(found.archive) }}, or one by one:</p>
<ul>{% for path in paths %}<li>{{ link(path) }}</li>{% endfor %}</ul>
<h3>The page with curve, pictures and settings</h3>
<iframe sandbox="" title="Result page of {{ found.archive.stem }}" srcdoc="{{ page }}"></iframe>
</div>""",
}


def caution(where: str, out: str, notes: tuple[str, ...]) -> str:
    """What stands on the first screen.

    `where` names the machine, `out` the folder where results stay (empty: they do not), `notes`
    what must be said with every result.
    """
    return _render("caution", where=where, out=out, notes=notes)


def state(state: State) -> str:
    """How far a job is; empty once something was found that needs no word."""
    share = state.done / state.expected if state.phase == "looking" and state.expected else None
    return _render(
        "state",
        text=words(state),
        failed=state.phase == "failed",
        busy=state.phase in ("starting", "looking", "drawing"),
        share=share,
    )


def failed(error: UserError) -> str:
    """Why a job did not begin."""
    return state(State("failed", text=str(error)))


def found(found: Found) -> str:
    """Table, files and page of a result.  Raises OSError if its page cannot be read."""
    emotions = any(row.emotion for row in found.rows)
    many = len(Row._fields) - (not emotions)
    return _render(
        "found",
        found=found,
        notes=list(dict.fromkeys(found.notes)),
        heads=HEADS[:many],
        rows=[row[:many] for row in found.rows],
        paths=[*found.files, found.page],
        page=framed(found.page.read_text(encoding="utf-8")),
    )


def framed(page: str) -> str:
    """A page of `own.page` for a `srcdoc`: its links to places in it stay in it."""
    return page.replace("<head>", '<head>\n<base href="about:srcdoc">', 1)


def words(state: State) -> str:
    """A sentence.

    >>> words(State("looking", done=300, expected=900, left_s=61.0))
    'Looking: 300 of 900 frames, about 2 min left'
    >>> words(State("waiting", ahead=1)), words(State("starting"))
    ('Waiting: 1 video before yours', 'Starting')
    """
    if state.phase == "waiting":
        return f"Waiting: {state.ahead} video{'' if state.ahead == 1 else 's'} before yours"
    if state.phase == "looking":
        many = f" of {state.expected}" if state.expected else ""
        last = ", now the last scores" if 0 < state.expected <= state.done else ""
        return f"Looking: {state.done}{many} frames{last or _left(state.left_s)}"
    if state.phase == "drawing":
        return f"Drawing the page: all {state.done} frames are looked at"
    named = {"starting": "Starting", "cancelled": "Cancelled", "found": "Done"}
    return ": ".join(part for part in (named.get(state.phase, ""), state.text) if part)


def limit(most_mb: int) -> str:
    """The label of the place for the video.

    >>> limit(4000)
    'Video: mp4, mov, avi, mkv, webm, 4000 MB at most'
    """
    return f"Video: {', '.join(suffix[1:] for suffix in SUFFIXES)}, {most_mb} MB at most"


def _left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return ", less than a minute left"
    return f", about {-int(-seconds // 60)} min left"


def _render(name: str, **values: object) -> str:
    return _ENVIRONMENT.get_template(name).render(**values)


_LINK = """{% macro link(path) %}<a href="gradio_api/file={{ path | address }}"
 download="{{ path.name }}">{{ path.name }}</a>{% endmacro %}"""
_ENVIRONMENT = jinja2.Environment(
    autoescape=True,
    trim_blocks=True,
    loader=jinja2.DictLoader(_PAGES | {"found": _LINK + _PAGES["found"]}),
)
_ENVIRONMENT.filters["address"] = lambda path: quote(path.as_posix())
