"""What a finished run has learnt, and at which k and frame rate; its shards may be gone.

Nothing is scored here.  `spotjax.parameters.weights.from_run` is the way in.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from spotjax.config import Config, to_dict
from spotjax.data import schema, shards
from spotjax.errors import UserError
from spotjax.loso import checkpoints, rundir
from spotjax.systems import build

LAYOUT_FPS = {"casme2": 30.0, "casme3": 30.0, "samm_lv": 200.0}
"""Frames per second of the data sets whose layout says so (`data_prep.readers`)."""


class Learnt(NamedTuple):
    """What a run's folds ended with; the fields are those of `parameters.weights.Weights`."""

    config: Config
    k: dict[str, int]
    fps: float
    variables: dict[str, Any]
    folds: tuple[str, ...]
    options: dict[str, Any]
    notes: tuple[str, ...]
    data_set: str


class _Rows(NamedTuple):
    """What the rows were that a run was trained on."""

    k: dict[str, int]
    fps: float
    data_set: str
    note: str = ""


def read(workdir: Path, fold: str = "") -> Learnt:
    """All folds of a run, or the one that held out the subject `fold`; see `weights.from_run`.

    Raises UserError as it, and for an evaluation (`metrics.json`) that is damaged.
    """
    config, data_hash, folder = rundir.load_run(workdir)
    protocol = _protocol(workdir, data_hash)
    rows = _rows(workdir, config, data_hash, folder, protocol)
    system = build(config.system, rows.k)
    variables: dict[str, Any] = {}
    subjects: list[str] = []
    for problem in system.problems:
        trained = checkpoints.read_finished(workdir, problem)
        if subjects and subjects != trained.subjects:
            raise UserError(f"{workdir}: its problems have other folds: run spotjax.train again")
        subjects = trained.subjects
        variables[problem] = jax.tree.map(np.asarray, trained.variables)
    if fold:
        if fold not in subjects:
            raise UserError(f"{workdir}: has no fold {fold}: it has {', '.join(subjects)}")
        number = subjects.index(fold)
        variables = jax.tree.map(lambda leaf: leaf[number : number + 1], variables)
        subjects = [fold]
    options, thresholds = _thresholds(workdir, protocol, subjects)
    notes = [*_notes(config, rows, protocol), *thresholds]
    return Learnt(
        config, rows.k, rows.fps, variables, tuple(subjects), options, tuple(notes), rows.data_set
    )


def _protocol(workdir: Path, data_hash: str) -> Mapping[str, Any]:
    """The protocol of the run's evaluation; empty if there is none, or one of other features."""
    path = workdir / "metrics.json"
    try:
        protocol = json.loads(path.read_text())["protocol"]
        return protocol if protocol["data_hash"] == data_hash else {}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: damaged: delete it, or run spotjax.evaluate again") from None


def _rows(
    workdir: Path, config: Config, data_hash: str, folder: Path, protocol: Mapping[str, Any]
) -> _Rows:
    """k, frame rate and data set, of the shards or else of the evaluation and the layout."""
    if (folder / schema.MANIFEST).exists():
        manifest = shards.read_manifest(folder)
        if shards.content_hash(manifest) == data_hash:
            rates = [float(video["fps"]) for video in manifest["videos"]]
            low, high = min(rates), max(rates)
            note = ""
            if not math.isclose(low, high, rel_tol=1e-3):
                note = f"trained on videos of {low:g} to {high:g} frames per second"
            return _Rows(dict(manifest["k"]), float(np.median(rates)), manifest["dataset"], note)
    rate = LAYOUT_FPS.get(config.data.layout)
    if not protocol or rate is None:
        lacking = "its k" if not protocol else "its frame rate"
        raise UserError(
            f"{workdir}: {lacking} is not known without the shards that it was trained on "
            f"({folder}): run python -m data_prep --config {workdir / 'config.json'}, which makes "
            "them anew"
        )
    fps = rate / config.data.sample_every
    return _Rows(dict(protocol["k"]), fps, protocol["data_set"])


def _notes(config: Config, rows: _Rows, protocol: Mapping[str, Any]) -> list[str]:
    """What every result of these weights must say."""
    notes = [rows.note] if rows.note else []
    if not config.data.root or rows.data_set.startswith("synthetic_"):
        notes.append("trained on rendered faces: a demonstration, not for the faces of people")
    evaluated = protocol.get("config", to_dict(config))
    choice = evaluated["evaluation"]["epoch_choice"]
    judged = "held-out subjects (oracle)" if choice == "oracle" else "validation subjects"
    if choice != "last":
        notes.append(
            f"the run's own figures are of epochs chosen on the {judged}; these are the "
            "parameters of the last epoch"
        )
    return notes


def _thresholds(
    workdir: Path, protocol: Mapping[str, Any], subjects: list[str]
) -> tuple[dict[str, float], list[str]]:
    """The mean of the thresholds that the folds of `subjects` chose, and how to say so."""
    chosen = protocol.get("chosen_thresholds", {})
    mine = [chosen[subject] for subject in subjects if chosen.get(subject)]
    if not mine:
        return {}, []
    try:
        mean = {key: float(np.mean([each[key] for each in mine])) for key in mine[0]}
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{workdir / 'metrics.json'}: field chosen_thresholds: run spotjax.evaluate again"
        ) from None
    oracle = protocol.get("threshold_choice") == "oracle"
    by = "the held-out subjects themselves (oracle)" if oracle else "validation subjects"
    values = ", ".join(f"{key} {value:.4g}" for key, value in mean.items())
    of = f"the mean of {len(mine)} folds" if len(mine) > 1 else f"those of fold {subjects[0]}"
    return mean, [f"thresholds chosen on {by}, {of}: {values}"]
