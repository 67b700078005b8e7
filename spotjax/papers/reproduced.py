"""What `reproduce` reads from finished runs: their saved scores under other decodings and rules.

No network is trained or scored here; of one run all readings are made while it is open.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from spotjax import vary
from spotjax.baselines import STRAIN_P
from spotjax.cli import override
from spotjax.config import EXPRESSION_TYPES, Config, Softnet
from spotjax.counting import emotions, evaluation, metrics
from spotjax.counting.matching import Counts
from spotjax.data import plans
from spotjax.decoding import decode
from spotjax.errors import UserError
from spotjax.evaluate import baseline_sets, open_evaluated, spot_baseline
from spotjax.loso import rundir, scoring
from spotjax.loso.curves import Curves, chosen_curves, decode_video, tuned
from spotjax.papers.published import Record
from spotjax.systems import build
from spotjax.types import Dataset, Detection, System, Video

EVERY_P = tuple(round(0.01 * step, 2) for step in range(1, 100))
"""What `p=best` tries."""
TIMED, BATCH = 5, 64
"""Repetitions and images of one of `inference_time_s`."""
EXTRAS = ("training samples", "parameters_M", "inference_time_s")
"""Metrics that need more than the scores."""


class Reading(NamedTuple):
    """One way to decode and count the scores of a run, or a baseline on its videos."""

    decoding: tuple[str, ...] = ()
    """`key=value` of keys that change no parameter."""
    baseline: str = ""
    p: str = ""
    """Of the baseline; empty: as configured; `best`: the best on these videos."""


class Values(NamedTuple):
    """What one reading gives."""

    counts: Mapping[str, Counts]
    """By type; `overall` if there are several."""
    ap: Mapping[str, float]
    k: Mapping[str, int]
    recognition: Mapping[str, Any] | None = None
    extras: Mapping[str, float] = {}


def read_run(
    workdir: Path, readings: Iterable[Reading], extras: Sequence[str] = ()
) -> dict[Reading, Values]:
    """The values of each reading of a run that is evaluated; `extras` are some of `EXTRAS`.

    Raises UserError if it is no such run, or lacks the scores that a reading needs.
    """
    with open_evaluated(workdir, []) as (config, dataset, folder):
        more = {name: _extra(name, config, dataset) for name in extras}
        return {
            reading: _values(workdir, config, reading, dataset, folder)._replace(extras=more)
            for reading in dict.fromkeys(readings)
        }


def read_results(folder: Path) -> Values:
    """The values of a metrics.json as it stands.  Raises UserError if it is not readable."""
    path = folder / "metrics.json"
    try:
        found = json.loads(path.read_text())
        rows, about = found["results"], found["protocol"]
        counts = {t: Counts(rows[t]["tp"], rows[t]["fp"], rows[t]["fn"]) for t in rows}
        return Values(counts, {t: rows[t]["ap"] for t in rows}, about["k"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not the results of a run ({error}): delete it") from None


def value_of(values: Values, record: Record) -> tuple[float | None, Counts | None]:
    """The value of `record`'s metric and type, and the counts behind it; None if there is none."""
    metric, type = record.metric, record.type or ""
    counts = values.counts.get(type)
    if metric in values.extras:
        return values.extras[metric], None
    if metric == "k_frames":
        return values.k.get(type), None
    if "-class " in metric:
        return _recognised(metric, values.recognition), None
    if counts is None:
        return None, None
    found: dict[str, float | None] = {
        "F1": counts.f1,
        "precision": counts.precision,
        "recall": counts.recall,
        "AP": values.ap.get(type),
        "found": counts.found,
        "predictions": counts.tp + counts.fp,
    }
    return found.get(metric), counts


def _recognised(metric: str, table: Mapping[str, Any] | None) -> float | None:
    """Of `4-class UF1` and the like; None with other classes."""
    number, _, name = metric.partition("-class ")
    if table is None or len(table["classes"]) != int(number) + 1:
        return None
    analysis = table["analysis"][table["rule"]]
    found = {
        "UF1": table["ground_truth"]["uf1"],
        "UAR": table["ground_truth"]["uar"],
        "analysis F1": analysis["analysis_f1"],
        "STRS": analysis["strs"],
    }
    return found.get(name)


# --- one reading ----------------------------------------------------------------------------------


def _values(
    workdir: Path, saved: Config, reading: Reading, dataset: Dataset, folder: Path
) -> Values:
    config = override(saved, list(reading.decoding))
    if difference := rundir.first_difference(saved, config):
        raise ValueError(f"{difference[0]} is not decoding: it needs a training of its own")
    system = build(config.system, dict(dataset.k))
    videos = vary.held_out(config, dataset)
    if reading.baseline:
        detections = _by_baseline(workdir, config, reading, dataset, folder, system, videos)
        return _counted(config, system, dataset, videos, detections)
    curves = _curves(workdir, saved, config, dataset, system, videos)
    options = _thresholds(workdir, saved, config, dataset, system, videos, curves)
    found = {
        v.id: decode_video(system, dataset, v, curves, **options.get(v.subject, {}))[0]
        for v in videos
    }
    recognition = None
    if system.classes:
        events = {k: v for p in system.problems for k, v in curves[f"{p}_events"].items()}
        recognition = emotions.results(videos, found, events, system.classes, config.evaluation)
    return _counted(config, system, dataset, videos, found)._replace(recognition=recognition)


def _counted(
    config: Config,
    system: System,
    dataset: Dataset,
    videos: Sequence[Video],
    detections: Mapping[str, list[Detection]],
) -> Values:
    """Counts and AP of the types that the system spots, under the config's rule."""
    options = config.evaluation
    counts: dict[str, Counts] = {}
    ap: dict[str, float] = {}
    for type in (t for t in EXPRESSION_TYPES if t in system.types):
        results = list(evaluation.results_of(videos, detections, type, options.videos).values())
        counts[type] = metrics.count(results, options.rule, options.iou)
        ap[type] = metrics.average_precision(results)
    if len(counts) > 1:
        counts["overall"] = sum(counts.values(), Counts())
        ap["overall"] = float(np.mean(list(ap.values())))
    return Values(counts, ap, dict(dataset.k))


def _curves(
    workdir: Path,
    saved: Config,
    config: Config,
    dataset: Dataset,
    system: System,
    videos: Sequence[Video],
) -> Curves:
    """The scores of the last evaluation, or those of another choice of epochs."""
    if config.evaluation.epoch_choice != saved.evaluation.epoch_choice:
        return chosen_curves(workdir, config, dataset, system)[0]
    named = system._replace(problems=scoring.curve_names(system))
    return vary.read_curves(workdir, named, videos)


def _thresholds(
    workdir: Path,
    saved: Config,
    config: Config,
    dataset: Dataset,
    system: System,
    videos: Sequence[Video],
    curves: Curves,
) -> Mapping[str, Mapping[str, Any]]:
    """Decoding options by subject: those that the evaluation chose, or an oracle's."""
    choice = config.evaluation.threshold_choice
    if choice == "oracle":
        return dict.fromkeys((v.subject for v in videos), tuned(dataset, system, videos, curves))
    if choice != saved.evaluation.threshold_choice:
        raise ValueError(f"threshold_choice {choice} needs networks: evaluate the run so")
    about = json.loads((workdir / "metrics.json").read_text())["protocol"]
    return about.get("chosen_thresholds", {})


def _by_baseline(
    workdir: Path,
    config: Config,
    reading: Reading,
    dataset: Dataset,
    folder: Path,
    system: System,
    videos: Sequence[Video],
) -> Mapping[str, list[Detection]]:
    """A baseline's detections by video id."""
    name = reading.baseline
    config = override(config, [f"baselines.names={name}"])
    [source] = baseline_sets(workdir, config, dataset, system, folder).values()

    def spotted(p: str) -> dict[str, list[Detection]]:
        if name == "strain_sum":
            return {
                v.id: strain_at(float(p or STRAIN_P), source, v, system.types, config)
                for v in videos
            }
        changed = override(config, [f"baselines.{name}.p={p}"] if p else [])
        return spot_baseline(name, source, changed, videos, system.types)

    if reading.p != "best":
        return spotted(reading.p)
    each = [spotted(str(p)) for p in EVERY_P]
    scores = [evaluation.overall(videos, found, config.evaluation).f1 for found in each]
    return each[int(np.argmax(scores))]


def strain_at(
    p: float, source: Dataset, video: Video, types: Sequence[str], config: Config
) -> list[Detection]:
    """`baselines.strain_sum` with another p than the paper's."""
    settings = config.system if isinstance(config.system, Softnet) else config.baselines.strain_sum
    found: list[Detection] = []
    for type in types:
        score = source.streams[f"strain_{type}"][video.rows].astype(np.float32)
        valid = source.streams[f"valid_{type}"][video.rows] > 0
        found += decode.spot(
            score, valid, source.k[type], type, p=p,
            smoothing=settings.smoothing, interval=settings.interval,
        )[0]  # fmt: skip
    return found


# --- what is not in the scores --------------------------------------------------------------------


def _extra(name: str, config: Config, dataset: Dataset) -> float:
    system = build(config.system, dict(dataset.k))
    if name == "training samples":
        problem, first = system.problems[0], dataset.subjects[:1]
        return plans.loso(system, dataset, problem, config.train, first)[0].size
    if name == "parameters_M":
        shapes = jax.eval_shape(system.init, jax.random.key(0))
        return sum(leaf.size for leaf in jax.tree.leaves(shapes)) / 1e6
    frames = np.mean([video.num_frames for video in vary.held_out(config, dataset)])
    return inference_seconds(system) * float(frames)


def inference_seconds(system: System) -> float:
    """Seconds of the network for one of SOFTNet's images on this machine, `BATCH` at a time.

    The median of `TIMED` repetitions after the first, which compiles.
    """
    key, problem = jax.random.key(0), system.problems[0]
    variables = system.init(key)
    samples = {"row": jnp.arange(BATCH)}
    stream = system.streams(problem)[0]
    shape = (BATCH, 42, 42, 3)

    @jax.jit
    def scored(images: jax.Array) -> jax.Array:
        inputs = system.inputs({stream: images}, samples, key, problem)
        outputs, _ = system.apply(variables, inputs, jnp.ones(BATCH), False, key)
        return system.scores(outputs)

    images = jax.random.normal(key, shape, jnp.float16)
    scored(images).block_until_ready()
    taken = []
    for _ in range(TIMED):
        begin = time.perf_counter()
        scored(images).block_until_ready()
        taken.append(time.perf_counter() - begin)
    return float(np.median(taken)) / BATCH
