"""`python -m spotjax.figures RUN`: the papers' figures of an evaluated run as SVG files.

Timelines, training curves, precision and recall, overlaps, subjects, confusion matrices, mean
Grad-CAM maps and the features of the contrastive loss, with an index.html that says what each shows
and of which epochs and folds.  What a system does not have is left out with a line.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from spotjax import files
from spotjax.errors import UserError, command, one_line
from spotjax.pages import figure_data, figure_scores, figure_timeline, figure_training, plots
from spotjax.pages.figure_data import Figure, Opened, Source
from spotjax.pages.report_page import HEAD, STYLE
from spotjax.pages.svg_file import standalone

EXTRA = """
.chart .line { fill: none; stroke-width: 2.2; stroke-linejoin: round; }
.chart .line.s0 { stroke: var(--ok); } .chart .line.s3 { stroke: var(--dim); }
"""
FROM_FILES: dict[str, Callable[[Source], Iterator[Figure]]] = {
    "scores": figure_scores.figures,
    "training": figure_training.figures,
}
"""Groups that need the run directory alone."""
WITH_DATA = ("gradcam", "pca", "timelines")
"""Groups that also need the run's shards."""

IMAGES = " figure > a > img { max-width: 100%; height: auto; }"
PAGE = (
    HEAD
    + """<header><h1>{{ title }}</h1><p class="dim">{{ lead }}</p>
<nav>{% for figure in figures if not figure.name.startswith("timeline_") %}
<a href="#{{ figure.name }}">{{ figure.title }}</a>
{% endfor %}</nav></header>
<main>
{% for figure in figures %}
<h2 id="{{ figure.name }}">{{ figure.title }}</h2>
<figure><a href="{{ figure.name }}.svg"><img src="{{ figure.name }}.svg" loading="lazy"
alt="{{ figure.title }}"></a><figcaption>{{ figure.text }}</figcaption></figure>
{% endfor %}
{% if left_out %}<h2 id="left-out">Left out</h2>
<ul>{% for name, why in left_out.items() %}<li>{{ name }}: {{ why }}</li>
{% endfor %}</ul>{% endif %}
</main>
</body>
</html>
"""
)


@command
def main(argv: list[str]) -> int:
    """Command line.  Raises UserError for a wrong option."""
    options = _arguments().parse_args(argv)
    known = (*FROM_FILES, *WITH_DATA)
    wanted = [word.strip() for word in options.only.split(",") if word.strip()] or list(known)
    for name in wanted:
        if name not in known:
            raise UserError(f"--only {name}: is none of {', '.join(known)}")
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax tells what we say in one line
    source = figure_data.read(Path(options.run))
    out = files.folder(options.out or source.folder / "figures", "--out")
    found, left_out = collected(source, wanted)
    for figure in found:
        files.write_text(out / f"{figure.name}.svg", standalone(figure.chart, EXTRA))
    for figure in found:
        print(f"{out / f'{figure.name}.svg'}: {figure.title}")
    for name, why in left_out.items():
        print(f"left out: {name}: {why}")
    if found:
        files.write_text(out / "index.html", page(source, found, left_out))
        print(f"page: {out / 'index.html'}")
    return 2 if options.only and any(name in left_out for name in wanted) else 0


def _arguments() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(
        prog="python -m spotjax.figures",
        description="The papers' figures of an evaluated run as SVG, with a page of all.\n\n"
        "  python -m spotjax.figures runs/demo\n"
        "  python -m spotjax.figures runs/spotformer_demo --only pca,training --out figures",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    arguments.add_argument("run", metavar="RUN", help="run directory of spotjax.train")
    arguments.add_argument("--out", help="folder (default: RUN/figures)")
    arguments.add_argument(
        "--only", default="", help=f"of {', '.join((*FROM_FILES, *WITH_DATA))} (default: all)"
    )
    return arguments


def collected(source: Source, wanted: Sequence[str]) -> tuple[list[Figure], dict[str, str]]:
    """The figures of the wanted groups, timelines last, and why others are left out."""
    found: list[Figure] = []
    left_out: dict[str, str] = {}
    for name in (name for name in wanted if name in FROM_FILES):
        mine = list(FROM_FILES[name](source))
        found += mine
        if not mine:
            left_out[name] = f"{source.folder / 'log.jsonl'}: has no epochs: train the run again"
    if "scores" in wanted and "recognition" not in source.metrics:
        left_out["confusion matrices"] = f"{source.config.system.name} recognises no emotions"
    data = [name for name in WITH_DATA if name in wanted]
    makers = _makers(source, data, left_out)
    if makers:
        try:
            with figure_data.open_data(source) as opened:
                for make in makers.values():
                    found += make(source, opened)
        except UserError as error:
            left_out |= dict.fromkeys(makers, one_line(error))
    return found, left_out


def _makers(
    source: Source, wanted: Sequence[str], left_out: dict[str, str]
) -> dict[str, Callable[[Source, Opened], Iterator[Figure]]]:
    """The groups that this system has; why not the others goes into `left_out`."""
    if not wanted:
        return {}
    from spotjax.pages import figure_cam, figure_embedding  # import JAX

    modules: dict[str, Any] = {"gradcam": figure_cam, "pca": figure_embedding}
    makers: dict[str, Callable[[Source, Opened], Iterator[Figure]]] = {}
    for name in wanted:
        if name not in modules:
            makers[name] = figure_timeline.figures
        elif why := modules[name].why_not(source):
            left_out[name] = why
        else:
            makers[name] = modules[name].figures
    return makers


def page(source: Source, found: Sequence[Figure], left_out: dict[str, str]) -> str:
    """The page of all figures, in the folder of their files."""
    about = source.metrics["protocol"]
    return _ENVIRONMENT.from_string(PAGE).render(
        title=f"Figures of {about['name']}",
        lead=f"{about['system']} on {about['data_set']}, rule {about['rule']}, "
        f"IoU >= {about['iou']:g}; scores of {figure_data.epochs_of(source)}.",
        style=Markup(plots.CSS + STYLE + IMAGES),
        figures=found,
        left_out=left_out,
    )


_ENVIRONMENT = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)


if __name__ == "__main__":
    sys.exit(main())
