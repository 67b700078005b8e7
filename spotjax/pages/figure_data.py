"""What the figures of a run are drawn from (JAX only where networks are run again).

`read` needs the run directory alone; `open_data` also the shards that the run was trained on, and
gives the decoded videos of the last evaluation.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spotjax.config import Config
from spotjax.counting import evaluation, run_counts
from spotjax.counting.run_counts import Scored
from spotjax.loso import rundir
from spotjax.types import Dataset, Detection, System, Video


class Figure(NamedTuple):
    """One picture and what is to be known of it."""

    name: str
    """Of its file, without .svg."""
    title: str
    text: str
    """What it shows, and of which epochs and folds."""
    chart: str
    """The `<svg>` of `spotjax.pages.svg`."""


class Source(NamedTuple):
    """An evaluated run."""

    folder: Path
    scored: Scored
    config: Config
    """Of the last evaluation."""
    log: list[dict[str, Any]]

    @property
    def metrics(self) -> Mapping[str, Any]:
        """metrics.json."""
        return self.scored.metrics


class Opened(NamedTuple):
    """A run with its data."""

    dataset: Dataset
    system: System
    videos: list[Video]
    """All that were scored."""
    found: dict[str, list[Detection]]
    """By video id."""
    drawn: dict[str, Any]
    """`decode.Curve` by type, by video id."""
    taken: dict[tuple[str, str], np.ndarray]
    """i64[n]: the truth that each detection takes, -1 for none, by video id and type."""


def read(folder: Path) -> Source:
    """An evaluated run.  Raises UserError: no run, not evaluated, damaged files."""
    scored = run_counts.read(folder)
    return Source(folder, scored, run_counts.evaluated(scored), rundir.Log(folder).read())


@contextmanager
def open_data(source: Source) -> Iterator[Opened]:
    """The run's data set and decoded videos; the run directory is held meanwhile.

    Raises UserError if the shards are not there or not those of the training, or the scores of the
    last evaluation are not.
    """
    from spotjax.evaluate import open_evaluated
    from spotjax.loso.curves import decode_video  # these import JAX
    from spotjax.systems import build
    from spotjax.vary import held_out, read_curves

    with open_evaluated(source.folder, []) as (_, dataset, _):
        system = build(source.config.system, dict(dataset.k))
        videos = held_out(source.config, dataset)
        curves = read_curves(source.folder, system, videos)
        chosen = source.metrics["protocol"].get("chosen_thresholds", {})
        found, drawn = {}, {}
        for video in videos:
            options = chosen.get(video.subject, {})
            found[video.id], drawn[video.id] = decode_video(
                system, dataset, video, curves, **options
            )
        taken = evaluation.matches(videos, found, source.config.evaluation)
        yield Opened(dataset, system, videos, found, drawn, taken)


def epochs_of(source: Source) -> str:
    """Which epochs' scores the results are made of, in words."""
    about = source.metrics["protocol"]
    choice = about["epoch_choice"]
    chosen = about.get("chosen_epochs", {})
    each = f" ({', '.join(f'{fold} {epoch}' for fold, epoch in chosen.items())})" if chosen else ""
    words = {
        "last": f"the last epoch of each fold ({about.get('epochs', '?')})",
        "validation": f"the epoch of each fold that its validation liked best{each}",
        "oracle": f"ORACLE, the epoch of each fold that is best on its own test videos{each}",
    }
    return words.get(choice, choice)


def parameters_of(source: Source, epochs: Mapping[str, int]) -> str:
    """Which epochs' parameters a checkpoint holds; `epochs` of best validation by subject."""
    if epochs:
        each = ", ".join(f"{fold} {epoch}" for fold, epoch in epochs.items())
        return f"parameters of each fold's best validated epoch ({each})"
    words = f"parameters of the last epoch ({source.config.train.epochs})"
    if source.config.evaluation.epoch_choice != "last":
        words += ", although the scores are of other epochs"
    return words


def curves_of(log: Sequence[Mapping[str, Any]], key: str) -> dict[str, dict[str, np.ndarray]]:
    """Values f64[E] over epochs 1..E by problem and fold from a log's `key`, NaN where missing.

    `key` is "loss" or "validation", whose first merit counts.
    """
    epochs: dict[str, int] = {}
    for record in log:
        epochs[record["problem"]] = max(epochs.get(record["problem"], 0), int(record["epoch"]))
    found: dict[str, dict[str, np.ndarray]] = {}
    for record in (record for record in log if record.get(key)):
        folds = found.setdefault(record["problem"], {})
        for fold, value in record[key].items():
            first = value[0] if isinstance(value, list) else value
            curve = folds.setdefault(str(fold), np.full(epochs[record["problem"]], np.nan))
            curve[int(record["epoch"]) - 1] = np.nan if first is None else first
    return found
