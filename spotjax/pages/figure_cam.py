"""Where the network looked, on average: Grad-CAM of true and of false positives (JAX).

For every detection the features of the row that gave its score are explained by the fold that
never saw its subject (`systems.explain`).  Each map is scaled to its own range first, so that
every detection counts alike, then the maps of an outcome are averaged.
"""

import base64
from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import Any, NamedTuple

import jax
import numpy as np

from spotjax.config import Sfamnet, Softnet
from spotjax.counting import recognition
from spotjax.data.rows import Rows, take
from spotjax.loso import checkpoints
from spotjax.pages import png
from spotjax.pages.figure_data import Figure, Opened, Source, parameters_of
from spotjax.pages.overlay import PLASMA
from spotjax.pages.svg import svg, text
from spotjax.systems import explain, sfamnet, sfamnet_net

CHUNK = 16
"""Detections explained at once."""
OUTCOMES = {True: "true positives", False: "false positives"}


class Spot(NamedTuple):
    """A detection to be explained."""

    row: int
    """Of its features, in the concatenated streams."""
    type: str
    hit: bool


class Panel(NamedTuple):
    """The mean maps of an outcome."""

    type: str
    hit: bool
    number: int
    maps: np.ndarray
    """f64[S + 1, 42, 42] in [0, 1]: all streams together, then each of S."""


def why_not(source: Source) -> str:
    """Why there are no maps of this system; empty if there are."""
    system = source.config.system
    if not isinstance(system, Softnet | Sfamnet):
        return f"Grad-CAM is for SOFTNet and SFAMNet; {system.name} has no maps of its input"
    backbone = getattr(system, "backbone", "shallow")
    if backbone != "shallow":
        return f"Grad-CAM is for SOFTNet's own network, not for {backbone}"
    return ""


def figures(source: Source, opened: Opened) -> Iterator[Figure]:
    """One panel of mean maps per expression type."""
    system = source.config.system
    streams = ("u", "v", "strain") if isinstance(system, Softnet) else _shape(system).trunk
    panels: list[Panel] = []
    words = ""
    for problem in opened.system.problems:
        trained = checkpoints.read_finished(source.folder, problem)
        words = parameters_of(source, trained.epochs)
        panels += mean_maps(source, opened, problem, trained.subjects, trained.variables)
    where = "eyes above, mouth below" if isinstance(system, Softnet) else "the whole face"
    for type in dict.fromkeys(panel.type for panel in panels):
        mine = [panel for panel in panels if panel.type == type]
        counts = " and ".join(f"{panel.number} {OUTCOMES[panel.hit]}" for panel in mine)
        yield Figure(
            f"gradcam_{type}",
            f"Grad-CAM, {type}",
            f"Mean map of {counts} in the network's image ({where}): bright raised the score. "
            "Each map is scaled to its own range before the mean; one scale of colours. Every "
            f"detection by the fold that never saw its subject, {words}.",
            panels_chart(mine, streams, isinstance(system, Softnet)),
        )


def spots(opened: Opened, problem: str, subject: str) -> list[Spot]:
    """The detections of a problem and subject, with the rows of the peaks that they come from.

    A placeholder (`system.silent_proposal`) has no peak and is left out.
    """
    found = []
    for video in opened.videos:
        for type in opened.system.types:
            if video.subject != subject or (type != problem and problem in opened.system.types):
                continue
            peaks = opened.drawn[video.id][type].peaks.tolist()
            taken = opened.taken[video.id, type].tolist() if peaks else []
            found += [
                Spot(video.first_row + peak, type, truth >= 0)
                for peak, truth in zip(peaks, taken, strict=True)
            ]
    return found


def mean_maps(
    source: Source, opened: Opened, problem: str, subjects: list[str], variables: Any
) -> list[Panel]:
    """The mean maps of each type and outcome of a problem; `variables` of all folds `[F, ...]`."""
    sums: dict[tuple[str, bool], np.ndarray] = {}
    counts: dict[tuple[str, bool], int] = {}
    work = jax.jit(lambda fold, arrays: _maps(source, opened, problem, fold, arrays))
    for number, subject in enumerate(subjects):
        mine = spots(opened, problem, subject)
        fold = jax.tree.map(itemgetter(number), variables)
        for start in range(0, len(mine), CHUNK):
            some = mine[start : start + CHUNK]
            maps = np.asarray(work(fold, _features(opened, problem, some)), np.float64)
            for spot, one in zip(some, maps, strict=False):
                key = (spot.type, spot.hit)
                sums[key] = sums.get(key, 0.0) + one
                counts[key] = counts.get(key, 0) + 1
    return [
        Panel(type, hit, counts[type, hit], sums[type, hit] / counts[type, hit])
        for type in opened.system.types
        for hit in OUTCOMES
        if (type, hit) in sums
    ]


def _features(opened: Opened, problem: str, some: list[Spot]) -> dict[str, np.ndarray]:
    """The streams' rows of at most `CHUNK` detections, filled up with the first one's."""
    rows = np.array([spot.row for spot in some] + [some[0].row] * (CHUNK - len(some)))
    unique, places = np.unique(rows, return_inverse=True)
    names = [n for n in opened.system.streams(problem) if not n.startswith("event_")]
    taken = take(opened.dataset.streams, names, Rows(unique, np.zeros(0, np.int64)))
    return {name: array[places] for name, array in taken.items()}


def _maps(
    source: Source, opened: Opened, problem: str, fold: Any, arrays: Mapping[str, Any]
) -> jax.Array:
    """f32[CHUNK, S + 1, 42, 42]: joined, then the streams."""
    samples = {"row": np.arange(CHUNK, dtype=np.int32)}
    images = opened.system.inputs(arrays, samples, jax.random.key(0), problem)
    system = source.config.system
    if isinstance(system, Softnet):
        found = explain.softnet_maps(fold, images)
    else:
        assert isinstance(system, Sfamnet)
        found = explain.sfamnet_maps(fold, images, _shape(system))
    each = found.streams.transpose(0, 3, 1, 2)
    return jax.numpy.concatenate([found.joined[:, None], each], axis=1)


def _shape(system: Any) -> sfamnet_net.Shape:
    return sfamnet_net.Shape(
        streams=system.streams,
        classes=len(recognition.CLASSES[sfamnet.NUM_CLASSES[system.classes]]),
        joint=system.joint,
        cbam=system.cbam,
        formulation=system.formulation,
    )


# --- drawing --------------------------------------------------------------------------------------


def panels_chart(panels: list[Panel], streams: tuple[str, ...], parts: bool) -> str:
    """A row per outcome, a column per stream; `parts`: SOFTNet's image of eyes and mouth."""
    side, left, gap = 132, 112, 14
    heads = ["all streams", *streams]
    most = max(1e-9, *(float(panel.maps.max()) for panel in panels))
    out = [
        text(left + n * (side + gap) + side / 2, 14, head, "mid strong")
        for n, head in enumerate(heads)
    ]
    for row, panel in enumerate(panels):
        y = 22 + row * (side + gap)
        out.append(text(left - 10, y + side / 2, OUTCOMES[panel.hit], "end strong"))
        out.append(text(left - 10, y + side / 2 + 15, f"n {panel.number}", "end"))
        for column, one in enumerate(panel.maps):
            x = left + column * (side + gap)
            out.append(_image(one / most, x, y, side))
            if parts:
                out.append(f'<path class="grid" d="M{x} {y + side / 2}h{side}"/>')
    bottom = 22 + len(panels) * (side + gap)
    ramp = np.repeat(np.linspace(0, 1, 64)[None], 2, axis=0)
    out.append(_image(ramp, left, bottom + 4, side, 8))
    out.append(text(left - 10, bottom + 12, "0", "end"))
    out.append(
        text(left + side + 8, bottom + 12, f"{most:.2f} (each map reaches 1 before the mean)")
    )
    width = left + len(heads) * (side + gap) + 4
    return svg(width, bottom + 20, "Mean Grad-CAM maps", out)


def _image(values: np.ndarray, x: float, y: float, width: float, height: float = 0) -> str:
    """A map f64[H, W] in [0, 1] as an image inside the chart."""
    steps = np.linspace(0, 1, len(PLASMA))
    colours = np.stack([np.interp(values, steps, channel) for channel in PLASMA.T], axis=-1)
    data = base64.b64encode(png.encode(np.rint(colours).astype(np.uint8))).decode()
    return (
        f'<image x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height or width:.1f}" '
        'preserveAspectRatio="none" style="image-rendering:pixelated" '
        f'href="data:image/png;base64,{data}"/>'
    )
