"""Runs as methods, and every pair of methods on the same subjects (NumPy only).

The command is `spotjax.compare`, the statistics are `spotjax.counting.paired`'s.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from spotjax import config as config_lib
from spotjax import files
from spotjax.counting import paired, run_counts
from spotjax.counting.headline import oracles
from spotjax.counting.paired import Comparison
from spotjax.counting.run_counts import Scored
from spotjax.errors import UserError

NO_MATTER = (
    "name", "baselines", "evaluate", "evaluation.bootstrap", "evaluation.chance_draws",
    "data.shards", "data.jobs", "data.runner", "train.seed", "train.devices", "train.fold_exec",
    "train.fold_chunk", "train.distributed", "train.residency", "train.piece",
    "train.checkpoint_every", "pretrain.fold_exec", "pretrain.fold_chunk",
    "pretrain.checkpoint_every",
)  # fmt: skip
"""Keys in which the seeds of one configuration may differ."""


class Method(NamedTuple):
    """One run, the seeds of one configuration, or a training-free method."""

    label: str
    members: tuple[Scored, ...]

    @property
    def oracle(self) -> bool:
        """Whether something was chosen on the test subjects."""
        return any(oracles(one.protocol) for one in self.members if not one.method)


class Terms(NamedTuple):
    """How everything is counted."""

    rule: str
    iou: float
    videos: str
    draws: int


class Result(NamedTuple):
    """One method and type."""

    method: Method
    counts: np.ndarray
    """i64[N, S, 4]."""
    each: tuple[float, ...]
    """F1 of every run."""
    low: float
    high: float

    @property
    def f1(self) -> float:
        """Mean over the runs."""
        return paired.mean_f1(self.counts)

    @property
    def std(self) -> float:
        """Sample standard deviation over the runs, 0 for one."""
        return float(np.std(self.each, ddof=1)) if len(self.each) > 1 else 0.0


class Pair(NamedTuple):
    """Two methods of one type."""

    first: Method
    second: Method
    found: Comparison
    p_holm: float
    """p corrected for the number of pairs of the type."""


class Compared(NamedTuple):
    """One expression type."""

    type: str
    results: list[Result]
    pairs: list[Pair]


def grouped(scored: Sequence[Scored], apart: bool = False) -> list[Method]:
    """Runs that differ in the seed alone together, in the order of the first ones.

    Raises UserError: one given twice, two of the same config and seed.
    """
    groups: dict[str, list[Scored]] = {}
    for one in scored:
        if any(one.label == other.label for other in itertools.chain(*groups.values())):
            raise UserError(f"{one.label}: is given twice")
        groups.setdefault(one.label if apart else _configuration(one), []).append(one)
    for members in groups.values():
        first: dict[int, Scored] = {}
        for one in members:
            other = first.setdefault(one.protocol.get("seed", 0), one)
            if other is not one:
                raise UserError(
                    f"{other.label} and {one.label}: are of the same config and seed: give "
                    "--apart to compare them as two methods"
                )
    return [Method(_label(members), tuple(members)) for members in groups.values()]


def _configuration(one: Scored) -> str:
    """Equal for the seeds of one configuration."""
    if one.method:  # has neither seed nor training
        return one.label
    values = files.flat(config_lib.to_dict(run_counts.evaluated(one)))
    kept = {key: value for key, value in values.items() if not files.is_one_of(key, NO_MATTER)}
    return config_lib.digest(kept)


def _label(members: Sequence[Scored]) -> str:
    if len(members) == 1:
        return members[0].label
    return f"{members[0].label} and {len(members) - 1} more seed{'s' if len(members) > 2 else ''}"


def terms_of(scored: Sequence[Scored], rule: str, iou: float | None, draws: int) -> Terms:
    """What is given, else what all runs agree in.  Raises UserError where they do not."""
    given = {"rule": rule or None, "iou": iou, "videos": None}
    found: dict[str, Any] = {}
    for key, value in given.items():
        values = list(dict.fromkeys(one.protocol[key] for one in scored))
        if value is None and len(values) > 1:
            remedy = f"give --{key}" if key != "videos" else "evaluate one of them again"
            raise UserError(
                f"{scored[0].label} and others: were evaluated with {key} "
                f"{' and '.join(map(str, values))}: {remedy}"
            )
        found[key] = values[0] if value is None else value
    return Terms(**found, draws=draws)


def compare(methods: Sequence[Method], terms: Terms) -> list[Compared]:
    """Every type that any method spots, with every pair of methods that spot it."""
    compared = []
    for type in ("macro", "micro", "overall"):
        able = [m for m in methods if type in run_counts.types_of(m.members)]
        results = [_result(method, type, terms) for method in able]
        found = [
            (one, other, paired.compare(one.counts, other.counts, terms.draws))
            for one, other in itertools.combinations(results, 2)
        ]
        corrected = paired.holm([comparison.p for _, _, comparison in found])
        pairs = [
            Pair(one.method, other.method, comparison, p)
            for (one, other, comparison), p in zip(found, corrected, strict=True)
        ]
        if results:
            compared.append(Compared(type, results, pairs))
    return compared


def _result(method: Method, type: str, terms: Terms) -> Result:
    counts = run_counts.table(method.members, type, terms.rule, terms.iou, terms.videos)
    each = tuple(paired.f1(counts.sum(axis=1)).tolist())
    return Result(method, counts, each, *paired.bootstrap(counts, terms.draws))


def counted(result: Result, joint: str = "/") -> str:
    """tp, fp, fn: means over the runs."""
    return run_counts.joined(result.counts.sum(axis=1).mean(axis=0)[:3].tolist(), joint)
