"""`python -m spotjax.vary --workdir RUN --vary KEY=V1,V2,...`: other decoding of the same scores.

Decodes and counts `curves.npz` of an evaluated run again, once for each value of a decoding or
evaluation key, as the parameter tables of the papers do.  No network runs.  Several keys are varied
one after another, each alone.  Writes RUN/vary.csv.
"""

import csv
import io
import sys
import textwrap
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from spotjax import files
from spotjax.cli import override, parse, parser, split_values
from spotjax.config import EXPRESSION_TYPES, Config
from spotjax.config.base import keys_that_change
from spotjax.counting import evaluation, headline
from spotjax.data import plans
from spotjax.errors import UserError, command
from spotjax.evaluate import open_evaluated
from spotjax.loso import rundir
from spotjax.loso.curves import Curves, decode_video
from spotjax.papers import run_tables
from spotjax.score import chosen_rules
from spotjax.systems import build
from spotjax.types import Dataset, Detection, System, Video

COUNTED = ("evaluation.iou", "evaluation.rule", "evaluation.videos")
"""Keys that change how detections are counted."""
RATIOS, COUNTS = ("f1", "precision", "recall"), ("tp", "fp", "fn")


class Variation(NamedTuple):
    """One key and the configs that its values make."""

    key: str
    configs: dict[str, Config]
    """By the value as it was written."""
    own: str
    """The value that the run itself has, as it was written; empty if it is none of these."""


# --- what is varied -------------------------------------------------------------------------------


def variation(config: Config, text: str) -> Variation:
    """The configs of `KEY=V1,V2,...`, all checked.  Raises UserError naming the key.

    Commas inside brackets belong to the value: `system.range_micro=(2,8),(2,10)`.
    """
    key, equals, listed = text.partition("=")
    values = split_values(listed)
    if not equals or not values:
        raise UserError(f"--vary {text}: write KEY=V1,V2,..., for example system.p=0.4,0.5")
    try:
        configs = {value: override(config, [f"{key}={value}"]) for value in values}
    except UserError as error:
        raise UserError(str(error).replace("--config.", "--vary ")) from None
    known = decoding_keys(config)
    if key not in known:
        raise UserError(
            f"--vary {key}: {_why_not(config, key)}; of this run, {', '.join(known)} can be varied"
        )
    own = [value for value, other in configs.items() if other == config]
    return Variation(key, configs, own[0] if own else "")


def decoding_keys(config: Config) -> list[str]:
    """The keys that may be varied without training or scoring again."""
    marked = keys_that_change(type(config.system), "intervals")
    return [*(f"system.{name}" for name in marked), *COUNTED]


def _why_not(config: Config, key: str) -> str:
    if not files.is_one_of(key, rundir.free_keys(config)):
        return "would need training again (spotjax.train, spotjax.sweep)"
    if key.startswith("system."):
        return "would need scoring again (spotjax.evaluate)"
    return "changes neither how saved scores are decoded nor how detections are counted"


def refuse_other_overrides(config: Config, overrides: Iterable[str]) -> None:
    """Raise UserError for an override that saved scores cannot follow; `data` may have moved."""
    for key in (text.partition("=")[0] for text in overrides):
        if key not in decoding_keys(config) and not key.startswith("data."):
            raise UserError(
                f"--config.{key}: {_why_not(config, key)}: leave it to spotjax.evaluate"
            )


def default_lists(system: System) -> list[str]:
    """The system's own lists as `KEY=V1,V2,...`.  Raises UserError if it has none."""
    if not system.sweeps:
        raise UserError(
            f"{system.name} has no lists of its own: give --vary KEY=V1,V2,... (see --help)"
        )
    return [
        f"{key if '.' in key else f'system.{key}'}={','.join(map(str, values))}"
        for key, values in system.sweeps.items()
    ]


def wanted_rules(
    text: str | None, config: Config, system: System, variations: Sequence[Variation]
) -> list[str]:
    """The rules of `--rule`, else the run's and that of the system's paper.  Raises UserError."""
    if text is None:
        both = (config.evaluation.rule, system.about.get("paper_rule"))
        return list(dict.fromkeys(rule for rule in both if rule))
    if any(one.key == "evaluation.rule" for one in variations):
        raise UserError(f"--rule {text}: evaluation.rule is varied: leave out one of both")
    return chosen_rules(text)


# --- the saved scores -----------------------------------------------------------------------------


def held_out(config: Config, dataset: Dataset) -> list[Video]:
    """The videos of the run's folds."""
    subjects = plans.chosen_subjects(dataset, config.train.folds)
    return [video for video in dataset.videos if video.subject in subjects]


def read_curves(workdir: Path, system: System, videos: Sequence[Video]) -> Curves:
    """The scores of `videos` that the last evaluation saved, by problem and video id.

    Raises UserError if the file is not there, is damaged, or lacks a video.
    """
    path = workdir / "curves.npz"
    again = f"run python -m spotjax.evaluate --workdir {workdir}"
    try:
        with open(path, "rb") as file, np.load(file) as archive:
            return {
                problem: {video.id: archive[f"{problem}/{video.id}"] for video in videos}
                for problem in system.problems
            }
    except FileNotFoundError:
        raise UserError(f"{path}: is not there, the run is not evaluated yet: {again}") from None
    except KeyError as error:
        raise UserError(f"{path}: {error.args[0]}: {again} again") from None
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error}): {again} again") from None


# --- the table ------------------------------------------------------------------------------------


def rows_of(
    config: Config,
    dataset: Dataset,
    curves: Curves,
    variations: Sequence[Variation],
    rules: Sequence[str],
) -> list[dict[str, Any]]:
    """One line per key, value, way of decoding (`System.variants`) and rule, in this order.

    Counts and ratios are `<type>_tp` and so on.  A way of decoding that sets the varied key itself
    leaves it alone.  Where the rule is varied, `rules` do not matter.
    """
    videos = held_out(config, dataset)
    decoded: dict[Any, dict[str, list[Detection]]] = {}
    rows = []
    settings = [(v.key, *pair) for v in variations for pair in v.configs.items()]
    for key, value, changed in tqdm(settings, desc="vary", unit="value", disable=None):
        system = build(changed.system, dict(dataset.k))
        for label, options in ways_to_decode(system, key).items():
            if (changed.system, label) not in decoded:
                decoded[changed.system, label] = {
                    v.id: decode_video(system, dataset, v, curves, **options)[0] for v in videos
                }
            found = decoded[changed.system, label]
            for rule in [changed.evaluation.rule] if key == "evaluation.rule" else rules:
                table = evaluation.counts(videos, found, changed.evaluation, rule)
                numbers = {
                    f"{type}_{name}": table[type][name]
                    for type in types_of(system)
                    for name in (*RATIOS, *COUNTS)
                }
                rows.append({"key": key, "value": value, "decoding": label, "rule": rule} | numbers)
    return rows


def ways_to_decode(system: System, key: str) -> dict[str, dict[str, Any]]:
    """The decoding options of `system.variants` but for the varied `key`, by their label."""
    found = {}
    for variant in system.variants:
        options = {name: value for name, value in variant.items() if f"system.{name}" != key}
        found[", ".join(f"{name} {value}" for name, value in options.items())] = options
    return found


def types_of(system: System) -> tuple[str, ...]:
    """The spotted types, and `overall` if these are several."""
    types = tuple(type for type in EXPRESSION_TYPES if type in system.types)
    return (*types, "overall") if len(types) > 1 else types


def lines(rows: Sequence[dict[str, Any]], own: Sequence[tuple[str, str]]) -> Iterator[str]:
    """One block of aligned lines per key, way of decoding and rule.

    A star marks the pairs of key and value in `own`: those that the run itself has.
    """
    types = [name.removesuffix("_f1") for name in rows[0] if name.endswith("_f1")]
    blocks: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        rule = f"rule {row['rule']}" if row["key"] != "evaluation.rule" else ""
        blocks.setdefault((row["key"], row["decoding"], rule), []).append(row)
    for names, block in blocks.items():
        yield ""
        yield ", ".join(filter(None, names))
        width = max(len(row["value"]) for row in block) + 2
        yield " " * width + "".join(_heads(type) for type in types)
        for row in block:
            star = " *" if (row["key"], row["value"]) in own else ""
            yield f"{row['value'] + star:<{width}}" + "".join(_cells(row, type) for type in types)


def _heads(type: str) -> str:
    more = "" if type == "overall" else f"{'prec.':>8}{'recall':>8}{'TP/FP/FN':>14}"
    return f"{f'{type} F1':>12}{more}"


def _cells(row: dict[str, Any], type: str) -> str:
    f1, precision, recall = (row[f"{type}_{name}"] for name in RATIOS)
    counted = "/".join(str(row[f"{type}_{name}"]) for name in COUNTS)
    more = "" if type == "overall" else f"{precision:>8.4f}{recall:>8.4f}{counted:>14}"
    return f"{f1:>12.4f}{more}"


def footnote(about: Mapping[str, Any]) -> str:
    """What a reader of the table must know; `about` is the protocol of the last evaluation."""
    text = (
        f"* as the run has it.  Scores of the last evaluation, epoch choice "
        f"{about['epoch_choice']}.  A value taken from this table is an oracle choice, "
        f"{headline.ORACLE}."
    )
    choice = about.get("threshold_choice", "fixed")
    if choice != "fixed":
        text += (
            "  Thresholds that are not varied are those of the config, not those that this "
            f"evaluation chose (evaluation.threshold_choice={choice})."
        )
    return textwrap.fill(text, 98)


def table_csv(rows: Sequence[dict[str, Any]]) -> str:
    """The table as CSV."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


@command
def main(argv: list[str]) -> int:
    """Command line.  Raises UserError for a wrong option."""
    arguments = parser(
        "python -m spotjax.vary",
        "Decode and count the saved scores of an evaluated run with other settings; no network\n"
        "runs.  Several keys are varied one after another, each alone.\n\n"
        "  python -m spotjax.vary --workdir runs/demo --vary system.p=0.4,0.5,0.6\n"
        "  python -m spotjax.vary --workdir runs/demo --vary evaluation.iou=0.3,0.5 --rule all",
    )
    arguments.add_argument("--workdir", required=True, help="run directory of spotjax.train")
    arguments.add_argument(
        "--vary",
        metavar="KEY=V1,V2",
        action="append",
        help="decoding or evaluation key and its values; again for another key (default: the "
        "lists of the system's paper)",
    )
    arguments.add_argument(
        "--rule", help="matching rule, several a,b or all (default: the run's and the paper's)"
    )
    arguments.add_argument("--out", type=Path, help="the table as CSV (default: RUN/vary.csv)")
    options, overrides = parse(arguments, argv)
    workdir = Path(options.workdir)
    with open_evaluated(workdir, overrides) as (config, dataset, _):
        refuse_other_overrides(config, overrides)
        system = build(config.system, dict(dataset.k))
        listed = options.vary or default_lists(system)
        variations = [variation(config, text) for text in listed]
        rules = wanted_rules(options.rule, config, system, variations)
        curves = read_curves(workdir, system, held_out(config, dataset))
        about = run_tables.read_results(workdir)["protocol"]
        rows = rows_of(config, dataset, curves, variations, rules)
        out = options.out or workdir / "vary.csv"
        files.write_text(out, table_csv(rows))
    print("\n".join(lines(rows, [(v.key, v.own) for v in variations])))
    print(f"\n{footnote(about)}\ntable: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
