"""From finished runs to the own values of a table: what is read of which run, once each."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from spotjax import config as config_lib
from spotjax import sweep
from spotjax.cli import load_config
from spotjax.config import Config
from spotjax.counting import headline
from spotjax.counting.matching import Counts
from spotjax.errors import UserError, one_line
from spotjax.papers.reproduce_plan import Asked, Line, Wanted, root_of
from spotjax.papers.reproduce_table import OURS, Block, Filled, Own, Table, Ways
from spotjax.papers.reproduced import EXTRAS, Reading, Values, read_results, read_run, value_of
from spotjax.sweeps import sweep_plan
from spotjax.sweeps.sweep_plan import Run
from spotjax.sweeps.sweep_table import ORACLE

PAPERS = "paper's way"
COUNTED = ("F1", "precision", "recall", "found", "predictions")
"""Metrics whose counts are shown."""
Found = dict[tuple[str, Reading], Values | str]
"""Values by name of the run and reading, or why there are none."""


class UnseenRun(NamedTuple):
    """A run and the data set that it is to score without having seen it."""

    run: Run
    name: str
    file: str
    overrides: tuple[str, ...]
    folder: Path
    """Of the results."""

    @property
    def finished(self) -> bool:
        """Whether its results are there, of exactly these configs and not older than the run."""
        from spotjax.unseen import crossed  # imports JAX

        results, saved = self.folder / "metrics.json", self.folder / "config.json"
        trained = self.folder.parent / "metrics.json"
        if not (results.exists() and saved.exists() and trained.exists()):
            return False
        wanted = crossed(self.run.config, load_config(self.file, list(self.overrides)))
        same = json.loads(saved.read_text())["config"] == config_lib.to_dict(wanted)
        return same and results.stat().st_mtime >= trained.stat().st_mtime


def unseen_runs(
    asked: Sequence[Asked], roots: Mapping[str, str], overrides: Sequence[str], out: Path
) -> list[UnseenRun]:
    """The runs that score another data set, those of which the data are there.

    Of `overrides` those of data and evaluation are the other set's too, but for its place.
    """
    found: dict[str, UnseenRun] = {}
    for one in asked:
        for wanted in one.lines:
            other = one.recipe.unseen
            if not wanted.line.how.unseen or other is None:
                continue
            file, words = other.config, tuple[str, ...]()
            if roots:
                root = root_of(file, roots)
                if not root:
                    continue
                words = (f"data.root={root}",)
            else:
                file = other.demo
                words = tuple(f"{key}={value}" for key, value in other.demo_settings.items())
            mine = {"data.root", "data.shards", *(word.partition("=")[0] for word in words)}
            words += tuple(
                word
                for word in overrides
                if word.startswith(("data.", "evaluation.")) and word.partition("=")[0] not in mine
            )
            name = other.data_set if roots else "unseen"
            for run in wanted.runs:
                folder = out / run.name / f"on_{name}"
                found[run.name] = UnseenRun(run, name, file, words, folder)
    return list(found.values())


def baselines_of(asked: Sequence[Asked]) -> list[tuple[Run, str]]:
    """The baselines that are read beside a run, once for each data set."""
    found: dict[str, tuple[Run, str]] = {}
    for one in asked:
        for wanted in (w for w in one.lines if w.line.how.baseline):
            name = wanted.line.how.baseline
            for [same, *_] in sweep_plan.data_sets(wanted.runs):
                values = config_lib.to_dict(same.config)
                key = json.dumps([values["data"], values["features"], name], sort_keys=True)
                found.setdefault(key, (same, name))
    return list(found.values())


def ways_of(one: Asked) -> dict[str, tuple[str, ...]]:
    """Overrides of decoding and counting by name: as the paper does, and as the configs do."""
    own: dict[str, tuple[str, ...]] = {OURS: ()}
    return {PAPERS: one.recipe.protocol, **own} if one.recipe.protocol else own


def reading_of(line: Line, protocol: tuple[str, ...]) -> Reading:
    """How a line's value is read of its run."""
    decoding = protocol if line.how.baseline else (*protocol, *line.how.decoding)
    return Reading(decoding, line.how.baseline, line.how.p)


def fill(
    asked: Sequence[Asked], unseen: Sequence[UnseenRun], out: Path, failed: Mapping[str, str]
) -> list[Table]:
    """The tables with the own values that there are, and reasons for the others."""
    found = _read(asked, out, failed)
    others = {one.run.name: one for one in unseen}
    tables = []
    for one in asked:
        filled = [(w.place, _filled(one, w, found, others, failed)) for w in one.lines]
        places = list(dict.fromkeys(place for place, _ in filled))
        blocks = [Block(p, [line for place, line in filled if place == p]) for p in places]
        blocks = [
            _joined(block, blocks) if block.place.name == "both" else block for block in blocks
        ]
        tables.append(Table(one.paper, one.table, _ways(one), blocks, one.notes))
    return tables


def _read(asked: Sequence[Asked], out: Path, failed: Mapping[str, str]) -> Found:
    """All readings, each run opened once."""
    runs: dict[str, Run] = {}
    readings: dict[str, dict[Reading, None]] = {}
    extras: dict[str, dict[str, None]] = {}
    for one in asked:
        for wanted in (w for w in one.lines if not w.line.how.unseen):
            for run in wanted.runs:
                runs[run.name] = run
                for protocol in ways_of(one).values():
                    key = reading_of(wanted.line, protocol)
                    readings.setdefault(run.name, {})[key] = None
                if wanted.line.metric in EXTRAS:
                    extras.setdefault(run.name, {})[wanted.line.metric] = None
    found: Found = {}
    for name, run in runs.items():
        why = failed.get(name, "")
        if not why and not sweep.finished(out / name, run.config):
            why = "not trained yet"
        if why:
            found |= {(name, reading): why for reading in readings[name]}
            continue
        try:
            each = read_run(out / name, readings[name], list(extras.get(name, ())))
            found |= {(name, reading): values for reading, values in each.items()}
        except UserError as error:
            found |= {(name, reading): one_line(error) for reading in readings[name]}
    return found


def _filled(
    one: Asked,
    wanted: Wanted,
    found: Found,
    unseen: Mapping[str, UnseenRun],
    failed: Mapping[str, str],
) -> Filled:
    line, how = wanted.line, wanted.line.how
    if how.why_not:
        return Filled(line, {}, how.why_not)
    if how.keys:
        return _setting(wanted)
    if not wanted.place.file:
        return Filled(line, {}, "no data set of ours")
    own: dict[str, Own] = {}
    for way, protocol in ways_of(one).items():
        values: list[Values] = []
        for run in wanted.runs:
            if how.unseen:
                got = _of_unseen(unseen.get(run.name), failed)
            else:
                got = found[run.name, reading_of(line, protocol)]
            if isinstance(got, str):
                return Filled(line, {}, f"{run.name}: {got}")
            values.append(got)
        pairs = [value_of(each, line.record) for each in values]
        if any(value is None for value, _ in pairs):
            return Filled(line, {}, "this system has no such value here")
        counts = [c for _, c in pairs if c is not None and line.metric in COUNTED]
        own[way] = Own(tuple(value for value, _ in pairs), tuple(counts))
    return Filled(line, own)


def _of_unseen(one: UnseenRun | None, failed: Mapping[str, str]) -> Values | str:
    if one is None:
        return "the other data set is not there: give its --data"
    why = [text for name, text in failed.items() if name.startswith(f"{one.run.name} on unseen")]
    if why:
        return why[0]
    return read_results(one.folder) if one.finished else "not scored yet"


def _setting(wanted: Wanted) -> Filled:
    """The value of a key of the config."""
    line = wanted.line
    key = line.how.keys[line.metric].format(type=line.type)
    value = sweep_plan.value_of(load_config(wanted.place.file), key)
    return Filled(line, {OURS: Own((value,))})


def _joined(block: Block, blocks: Sequence[Block]) -> Block:
    """F1 of the counts of all other places together."""
    others = [other for other in blocks if other.place.file]
    lines = []
    for filled in block.lines:
        same = [
            f
            for other in others
            for f in other.lines
            if f.line[:4] == filled.line[:4]  # system, variant, type, metric
        ]
        ways = set.intersection(*(set(f.own) for f in same)) if len(same) > 1 else set()
        own = {way: _summed([f.own[way] for f in same]) for way in (OURS, PAPERS) if way in ways}
        why = "" if own else "needs the runs of both data sets"
        lines.append(Filled(filled.line, own, why))
    return Block(block.place, lines)


def _summed(several: Sequence[Own]) -> Own:
    counts = [sum(same, Counts()) for same in zip(*(own.counts for own in several), strict=True)]
    return Own(tuple(c.f1 for c in counts), tuple(counts))


# --- protocol -------------------------------------------------------------------------------------


def _ways(one: Asked) -> Ways:
    """How each way evaluates, in words."""
    words, oracles = {}, set()
    configs = {
        wanted.place.name: wanted.runs[0].config for wanted in reversed(one.lines) if wanted.runs
    }
    first = list(configs.values())[-1:]  # of the first place
    for way, protocol in ways_of(one).items():
        words[way] = _protocol(first[0], protocol) if first else "settings of the configs"
        if any(text.endswith("=oracle") for text in protocol):
            oracles.add(way)
            words[way] += f" ({ORACLE})"
    return Ways(words, frozenset(oracles))


def _protocol(config: Config, protocol: tuple[str, ...]) -> str:
    """A config's choices with overrides, in the words of the results' own protocol."""
    changed: dict[str, Any] = dict(text.split("=", 1) for text in protocol)
    chosen = {
        name: changed.get(f"evaluation.{name}", getattr(config.evaluation, name))
        for name in ("rule", "iou", "videos", *headline.CHOICES)
    }
    if chosen["epoch_choice"] == "last" and config.train.validate_every:
        chosen["epoch_choice"] = "validation"
    listed = [f"{name.replace('_', ' ')} {value}" for name, value in chosen.items()]
    train = config.train
    flow = getattr(config.features, "flow", None)
    listed += [f"{train.epochs} epochs", *([f"{train.updates} updates"] if train.updates else [])]
    listed += [f"flow {flow.method}"] if flow else []
    return ", ".join(listed)
