"""The results of runs beside the printed values that go with them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from spotjax.errors import UserError, one_line
from spotjax.papers import published
from spotjax.papers.published import Beside


class Compared(NamedTuple):
    """A run directory, its protocol and its values beside printed ones."""

    folder: Path
    protocol: Mapping[str, Any]
    pairs: list[Beside]


def compare_all(folders: Sequence[Path], words: Mapping[str, Any]) -> tuple[list[Any], list[str]]:
    """Every run beside the papers, and a note for each without a counterpart.

    Raises UserError with all the notes if no run has one.
    """
    runs, notes = [], []
    for folder in folders:
        try:
            runs.append(compare(folder, words))
        except UserError as error:
            notes.append(one_line(error))
    if not runs:
        raise UserError("; ".join(notes))
    return runs, [f"note: {note}" for note in notes]


def compare(folder: Path, words: Mapping[str, str | None]) -> Compared:
    """A run's results beside the records that `words` choose, by default of its system's paper.

    Raises UserError if the folder holds no results or nothing printed goes with them.
    """
    metrics = read_results(folder)
    protocol = metrics["protocol"]
    system = protocol["system"]
    if not words["paper"] and system not in published.SYSTEMS:
        known = ", ".join(published.SYSTEMS)
        raise UserError(f"{folder}: system {system!r} has no paper here ({known}): name a --paper")
    paper = words["paper"] or published.SYSTEMS[system].paper
    pairs = published.beside(metrics, published.find(**{**words, "paper": paper}))
    if not pairs:
        raise UserError(
            f"{folder}: the chosen rows of {paper} hold no value for {system} or its baselines on "
            f"{protocol['data_set']}: see python -m spotjax.tables for what there is"
        )
    return Compared(folder, protocol, pairs)


def read_results(folder: Path) -> Any:
    """metrics.json of a run.  Raises UserError: no run directory, not evaluated, no results."""
    path = folder / "metrics.json"
    if not path.exists():
        if not (folder / "config.json").exists():
            raise UserError(
                f"{folder}: no run directory (config.json is missing): "
                "name the --workdir of spotjax.train"
            )
        raise UserError(
            f"{folder}: not evaluated yet (metrics.json is missing): "
            f"run python -m spotjax.evaluate --workdir {folder}"
        )
    try:
        metrics = json.loads(path.read_text())
        whole = {"system", "data_set"} <= set(metrics["protocol"]) and metrics["results"]["overall"]
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise UserError(
            f"{path}: not the results of a run: run python -m spotjax.evaluate --workdir {folder}"
        )
    return metrics
