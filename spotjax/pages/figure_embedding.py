"""SpotFormer's features as its contrastive loss sees them, in two dimensions (JAX).

Every fold has a network, and so a space, of its own: each held-out subject is projected alone, onto
the two directions in which its features vary most (PCA).  Classes are those of the loss: neutral,
macro, micro (a frame in both is macro).
"""

from collections.abc import Iterator
from operator import itemgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from spotjax.config import Spotformer
from spotjax.data.rows import Rows, take
from spotjax.decoding import boundary_labels
from spotjax.loso import checkpoints
from spotjax.pages.figure_data import Figure, Opened, Source, parameters_of
from spotjax.pages.svg import svg, text

CHUNK = 128
"""Clips projected at once."""
MOST_FOLDS = 12
MOST_POINTS = 250
"""Of a class in a panel, evenly chosen."""
CLASSES = {
    boundary_labels.NEUTRAL: ("neutral", "s2"),
    boundary_labels.MACRO: ("macro", "s0"),
    boundary_labels.MICRO: ("micro", "false"),
}


class Projected(NamedTuple):
    """One held-out subject."""

    subject: str
    points: np.ndarray
    """f64[N, 2]."""
    classes: np.ndarray
    """i64[N], keys of `CLASSES`."""
    shares: tuple[float, float]
    """Of the variance, of both directions."""


def why_not(source: Source) -> str:
    """Why there is no such figure; empty if there is."""
    if isinstance(source.config.system, Spotformer):
        return ""
    return f"only SpotFormer has a contrastive loss, {source.config.system.name} has none"


def figures(source: Source, opened: Opened) -> Iterator[Figure]:
    """The panels of the first folds.  Raises ValueError as `project`, UserError if not trained."""
    (problem,) = opened.system.problems
    trained = checkpoints.read_finished(source.folder, problem)
    work = jax.jit(lambda fold, clips: _features(source, opened, fold, clips))
    panels = []
    for number, subject in enumerate(trained.subjects[:MOST_FOLDS]):
        fold = jax.tree.map(itemgetter(number), trained.variables)
        panels.append(project(opened, problem, subject, lambda clips, f=fold: work(f, clips)))
    folds = len(trained.subjects)
    some = f"all {folds}" if len(panels) == folds else f"the first {len(panels)} of {folds}"
    assert isinstance(source.config.system, Spotformer)
    yield Figure(
        "contrastive_pca",
        "Features of the contrastive loss",
        f"PCA of the {source.config.system.width} channels that the loss compares, one panel for "
        f"each held-out subject ({some} folds; each its own network and its own directions), "
        f"{parameters_of(source, trained.epochs)}. At most {MOST_POINTS} frames of a class.",
        panels_chart(panels),
    )


def project(opened: Opened, problem: str, subject: str, features: Any) -> Projected:
    """The valid frames of a subject; `features`: clips of `CHUNK` rows to f32[CHUNK, D].

    Raises ValueError if the subject has none.
    """
    rows, classes = [], []
    for video in opened.videos:
        if video.subject != subject:
            continue
        valid = opened.dataset.streams[opened.system.valid(problem)][video.rows] > 0
        micro, macro = (
            boundary_labels.marks(video.num_frames, video.intervals, type)
            for type in boundary_labels.TYPES
        )
        label = boundary_labels.targets(micro, macro, boundary_labels.Spread())["class"]
        rows.append(video.first_row + np.flatnonzero(valid))
        classes.append(label[valid].astype(np.int64))
    every, label = np.concatenate(rows), np.concatenate(classes)
    kept = np.sort(np.concatenate([_evenly(np.flatnonzero(label == c)) for c in CLASSES]))
    chosen, found = every[kept], []
    for start in range(0, len(chosen), CHUNK):
        some = chosen[start : start + CHUNK]
        taken = take(opened.dataset.streams, opened.system.streams(problem), Rows(some, some[:0]))
        filled = {
            name: np.concatenate([a, np.repeat(a[:1], CHUNK - len(a), axis=0)])
            for name, a in taken.items()
        }
        found.append(np.asarray(features(filled))[: len(some)])
    points, shares = pca(np.concatenate(found))
    return Projected(subject, points, label[kept], shares)


def _evenly(indices: np.ndarray) -> np.ndarray:
    """At most `MOST_POINTS` of i64[n], as evenly as can be."""
    if len(indices) <= MOST_POINTS:
        return indices
    return indices[np.linspace(0, len(indices) - 1, MOST_POINTS).round().astype(int)]


def _features(source: Source, opened: Opened, fold: Any, arrays: Any) -> jax.Array:
    """What the contrastive loss compares: f32[CHUNK, D]."""
    samples = {"row": np.arange(CHUNK, dtype=np.int32)}
    given = opened.system.inputs(arrays, samples, jax.random.key(0), opened.system.problems[0])
    outputs, _ = opened.system.apply(fold, given, jnp.ones(CHUNK), False, jax.random.key(0))
    feature = outputs.feature.astype(jnp.float32)
    if getattr(source.config.system, "normalise", False):
        feature = feature / jnp.linalg.norm(feature, axis=1, keepdims=True)
    return feature


def pca(values: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """The first two principal components f64[N, 2] of f32[N, D] and their shares of the variance.

    Signs: the direction's largest weight is positive.  Raises ValueError for D < 2 or no row.
    """
    if values.ndim != 2 or values.shape[1] < 2 or not len(values):
        raise ValueError(f"features are [N, D] with D >= 2: {values.shape}")
    centred = values.astype(np.float64) - values.mean(axis=0, dtype=np.float64)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    axes, sizes = _two(axes), _two(sizes)
    largest = np.abs(axes).argmax(axis=1)
    axes = axes * np.where(axes[np.arange(2), largest] < 0, -1, 1)[:, None]
    total = float(np.square(centred).sum())
    first, second = (np.square(sizes) / total if total else np.zeros(2)).tolist()
    return centred @ axes.T, (first, second)


def _two(values: np.ndarray) -> np.ndarray:
    """The first two entries, zeros where there is but one (a single row)."""
    return np.concatenate([values[:2], np.zeros((2 - min(2, len(values)), *values.shape[1:]))])


def panels_chart(panels: list[Projected]) -> str:
    """A scatter of each subject, up to four in a row."""
    side, gap, across = 210, 26, min(4, len(panels))
    out = []
    for place, panel in enumerate(panels):
        x0, y0 = 10 + place % across * (side + gap), 22 + place // across * (side + gap + 22)
        shares = " and ".join(f"{share:.0%}" for share in panel.shares)
        out.append(text(x0, y0 - 6, f"{panel.subject}: {shares} of the variance", "strong"))
        out.append(f'<path class="grid" d="M{x0} {y0}h{side}v{side}h-{side}z"/>')
        low, high = panel.points.min(axis=0), panel.points.max(axis=0)
        scale = (side - 12) / max(float((high - low).max()), 1e-9)
        centred = (panel.points - (low + high) / 2) * scale + side / 2
        for kind, (name, style) in CLASSES.items():
            dots = "".join(
                f'<circle cx="{x0 + x:.1f}" cy="{y0 + side - y:.1f}" r="2.2"/>'
                for x, y in centred[panel.classes == kind].tolist()
            )
            out.append(f'<g class="{style}" opacity=".75"><title>{name}</title>{dots}</g>')
    bottom = 22 + -(-len(panels) // across) * (side + gap + 22) - 8
    for number, (name, style) in enumerate(CLASSES.values()):
        x = 10 + 80 * number
        out.append(f'<rect class="{style}" x="{x}" y="{bottom - 9}" width="10" height="10"/>')
        out.append(text(x + 15, bottom, name))
    return svg(20 + across * (side + gap), bottom + 8, "PCA of SpotFormer's features", out)
