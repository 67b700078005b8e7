"""What a sweep runs: every combination of config, preset, grid value and seed, and its name.

A combination is the config file and the overrides that `spotjax.train` would be given by hand, so
its results are those of that command.  Nothing is run here, and everything is checked.
"""

import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any, NamedTuple

from spotjax import config as config_lib
from spotjax.cli import load_config, presets, split_values
from spotjax.config import Config
from spotjax.data import schema
from spotjax.errors import UserError

PLAIN = "plain"
"""Name of the config without a preset."""
LONGEST_VALUE, LONGEST_NAME = 24, 120
"""Characters of a value, and of a configuration, in the name of a run directory."""
Groups = Callable[[Sequence[Config]], list[list[int]]]
"""Which of some runs can be trained in one program: `spotjax.together.groups`."""


class Run(NamedTuple):
    """One training of a sweep."""

    name: str
    """Of its run directory: `<configuration>[_seed=N]`."""
    configuration: str
    """`<name of the config>[_key=value...]`: what its seeds have in common."""
    file: str
    """The config as `--config` takes it, FILE or FILE:PRESET."""
    preset: str
    text: str
    """The preset in one line."""
    overrides: tuple[str, ...]
    """`key=value`: those of the command line, the grid's, the seed."""
    settings: dict[str, Any]
    """The grid's keys and their values in the config."""
    config: Config


# --- the options of the command line --------------------------------------------------------------


def parse_grid(texts: Sequence[str]) -> dict[str, list[str]]:
    """`KEY=V1,V2` of every `--grid`, each value once, commas in brackets kept.

    Raises UserError: no values, a key twice, or a key that names runs in another way.
    """
    grid: dict[str, list[str]] = {}
    for text in texts:
        key, equals, listed = text.partition("=")
        values = split_values(listed)
        if not equals or not values:
            raise UserError(
                f"--grid {text}: write KEY=V1,V2,..., for example train.learning_rate=1e-3,3e-4"
            )
        if key in grid:
            raise UserError(f"--grid {text}: {key} is there already: give all its values at once")
        if key == "train.seed":
            raise UserError(f"--grid {text}: write --seeds {listed}")
        if key == "name":
            raise UserError(f"--grid {text}: the name follows from the other keys: leave it out")
        grid[key] = values
    return grid


def parse_seeds(text: str) -> list[int]:
    """`3` is 0, 1, 2; `0,3,7` (or `5,` for one) is a list; empty is none.  Raises UserError.

    >>> parse_seeds("3"), parse_seeds("0,3,7"), parse_seeds("5,")
    ([0, 1, 2], [0, 3, 7], [5])
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    whole = all(re.fullmatch(r"\d{1,9}", word) for word in words)
    if text and not (words and whole and (len(words) > 1 or "," in text or int(words[0]))):
        raise UserError(
            f"--seeds {text}: write a number of seeds such as 3 (for 0, 1, 2), or a list such as "
            "0,3,7"
        )
    if text and "," not in text:
        return list(range(int(text)))
    return list(dict.fromkeys(int(word) for word in words))


def parse_task(text: str) -> tuple[int, int]:
    """`I/N` with 1 <= I <= N.  Raises UserError."""
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UserError(f"--task {text}: write I/N with I from 1 to N, for example 3/8")
    return int(match[1]), int(match[2])


# --- the runs -------------------------------------------------------------------------------------


def plan(
    files: Sequence[str],
    wanted: Sequence[str],
    grid: Mapping[str, Sequence[str]],
    seeds: Sequence[int],
    overrides: Sequence[str],
) -> list[Run]:
    """The full product, in the order of the arguments, seeds fastest; every config is checked.

    `wanted` presets; none stands for the plain config and, without grid and seeds, all presets.
    Raises UserError that names the option: an unknown preset, key or value, two runs of one name,
    nothing to sweep.
    """
    for key in grid:
        if any(text.startswith(f"{key}=") for text in overrides):
            raise UserError(f"--grid {key}: is also given as --config.{key}: leave out one of both")
    if seeds and any(text.startswith("train.seed=") for text in overrides):
        raise UserError("--seeds: the seed is also given as --config.train.seed: leave it out")
    varied = bool(grid or seeds)
    runs: list[Run] = []
    for file in dict.fromkeys(files):
        known = _presets_of(file)
        if not known and not varied and len(files) == 1:
            raise UserError(
                f"--config {file}: has no PRESETS, so there is nothing to sweep: give --grid or "
                "--seeds, or use spotjax.train"
            )
        chosen = list(wanted) or [PLAIN, *([] if varied else known)]
        for preset in chosen:
            if preset != PLAIN and preset not in known:
                has = f"it has {', '.join(known)}" if known else "it has none"
                raise UserError(f"--presets {preset}: {file} has no such preset; {has}")
            text = known.get(preset, "as the file stands")
            place = file if preset == PLAIN else f"{file}:{preset}"
            for values in itertools.product(*grid.values()):
                settings = dict(zip(grid, values, strict=True))
                runs += _seeded(place, preset, text, settings, seeds, overrides)
    runs = _once(runs)
    _refuse_equal_names(runs)
    return runs


def _presets_of(file: str) -> dict[str, str]:
    if ":" in file:
        raise UserError(f"--config {file}: name the file alone, and its presets with --presets")
    return {} if file.endswith(".json") else presets(file)


def _seeded(
    file: str,
    preset: str,
    text: str,
    settings: Mapping[str, str],
    seeds: Sequence[int],
    overrides: Sequence[str],
) -> list[Run]:
    """One combination with each of its seeds."""
    common = [*overrides, *(f"{key}={value}" for key, value in settings.items())]
    runs = []
    for seed in seeds or (None,):
        words = common if seed is None else [*common, f"train.seed={seed}"]
        try:
            config = load_config(file, words)
        except UserError as error:
            message = str(error)
            for key in settings:
                message = message.replace(f"--config.{key}:", f"--grid {key}:")
            raise UserError(message) from None
        values = {key: value_of(config, key) for key in settings}
        configuration = name_of(config, values)
        name = configuration if seed is None else f"{configuration}_seed={seed}"
        runs.append(Run(name, configuration, file, preset, text, tuple(words), values, config))
    return runs


def value_of(config: Config, key: str) -> Any:
    """The value of a dotted key, as plain JSON types."""
    node: Any = config_lib.to_dict(config)
    for part in key.split("."):
        node = node[part]
    return node


def name_of(config: Config, settings: Mapping[str, Any]) -> str:
    """`<name of the config>[_key=value...]`, safe as a file's name.

    It follows from the values in the config, not from how or in which order they were written.
    Keys of `train` are written without that word.  What is too long or has other letters is cut or
    replaced, and ends in a hash of the whole.
    """
    parts = [
        f"{key.removeprefix('train.')}={_safe(settings[key])}"
        for key in _in_order(config, settings)
    ]
    name = "_".join([config.name, *parts])
    if len(name) > LONGEST_NAME:
        digest = config_lib.digest(name)[:8]
        name = f"{name[: LONGEST_NAME - len(digest) - 1]}-{digest}"
    return name


def _in_order(config: Config, settings: Mapping[str, Any]) -> list[str]:
    """The keys in the order of the config's sections and fields."""

    def place(key: str) -> list[int]:
        node, found = config_lib.to_dict(config), []
        for part in key.split("."):
            found.append(list(node).index(part))
            node = node[part]
        return found

    return sorted(settings, key=place)


def _safe(value: Any) -> str:
    """A value in a file's name.

    >>> _safe(1e-3), _safe(True), _safe(None), _safe([2, 8]), _safe("a/b")[:4]
    ('0.001', 'true', 'none', '2-8', 'a-b-')
    """
    if isinstance(value, list):
        text = "-".join(map(_safe, value))
    else:
        text = value if isinstance(value, str) else json.dumps(value).replace("null", "none")
    clean = re.sub(r"[^A-Za-z0-9.+-]", "-", text)
    if clean == text and len(text) <= LONGEST_VALUE:
        return text
    return f"{clean[:LONGEST_VALUE]}-{config_lib.digest(value)[:6]}"


def _once(runs: Sequence[Run]) -> list[Run]:
    """Without runs that are there already: a value written twice, `1e-3,0.001`."""
    found: list[Run] = []
    for run in runs:
        known = ((other.file, other.name, other.config) for other in found)
        if (run.file, run.name, run.config) not in known:
            found.append(run)
    return found


def _refuse_equal_names(runs: Sequence[Run]) -> None:
    """Raise UserError for two runs that would share a directory."""
    first: dict[str, Run] = {}
    for run in runs:
        other = first.setdefault(run.name, run)
        if other is not run:
            both = run.file if run.file == other.file else f"{other.file} and {run.file}"
            raise UserError(
                f"{both}: two different runs would be called {run.name}: give the configs "
                "different names, and do not override the name"
            )


# --- what runs together, and what must not --------------------------------------------------------


def units(runs: Sequence[Run], most: int, groups: Groups) -> list[list[Run]]:
    """The runs in units of work: at most `most` that `groups` lets share a program.

    A group is cut into as few parts as that allows, as equal as can be.  The order of the first
    runs stays.
    """
    if most == 1 or len(runs) == 1:
        return [[run] for run in runs]
    parts: list[list[int]] = []
    for group in groups([run.config for run in runs]):
        count = ceil(len(group) / most)
        ends = [len(group) * part // count for part in range(count + 1)]
        parts += [group[start:stop] for start, stop in itertools.pairwise(ends)]
    return [[runs[index] for index in part] for part in sorted(parts, key=min)]


def data_sets(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs by what data_prep makes for them."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        values = config_lib.to_dict(run.config)
        key = json.dumps([values["data"], values["features"], values["baselines"]], sort_keys=True)
        found.setdefault(key, []).append(run)
    return list(found.values())


def refuse_shared_shards(runs: Sequence[Run]) -> None:
    """Raise UserError where runs would rewrite each other's labels when trained side by side.

    Features do not depend on `data.annotation`: their folder holds the labels of the last run.
    """
    first: dict[str, Run] = {}
    for run in runs:
        other = first.setdefault(str(schema.shards_folder(run.config)), run)
        if other.config.data.annotation != run.config.data.annotation:
            raise UserError(
                f"{other.name} and {run.name}: differ in data.annotation and share the shards "
                f"{schema.shards_folder(run.config)}, so they cannot run side by side: use "
                "--runner local --jobs 1"
            )
