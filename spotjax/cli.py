"""Loading a config file and overriding its keys on the command line.

`--config FILE[:ARGUMENT]` names a Python file with `get_config()` (or `get_config(argument)`), or
the config.json of a run directory, which repeats that run; `--config.a.b=value` overrides one key.
Values are Python literals; a word is a string.
"""

import argparse
import ast
import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import pydantic
from pydantic_core import PydanticUndefined

from spotjax import config as config_lib
from spotjax.config import Config, Sfamnet, SfamnetFeatures
from spotjax.errors import UserError

OF_A_SYSTEM = ("system.", "features.")
"""Sections whose keys depend on the system."""


def parser(prog: str, description: str) -> argparse.ArgumentParser:
    """An argument parser whose help also lists the config keys with type, value and meaning."""
    return argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=_about_keys(None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _about_keys(config: Config | None) -> str:
    """The keys of a config with its values; without one those that all configs have."""
    rows = describe(Config, of=config)
    if config is None:
        rows = [row for row in rows if not row[0].startswith(OF_A_SYSTEM)]
        last = "With --config FILE before --help also the keys of its system and features."
    else:
        last = f"These are the keys and values of {config.name}; other systems have others."
    lines = ["config keys (override with --config.KEY=VALUE):"]
    lines += [f"  {key:<32} {kind:<24} {text}" for key, kind, text in rows]
    return "\n".join([*lines, "", last])


def _named_config(argv: Sequence[str]) -> Config | None:
    """The config that a command line names by --config or --workdir; None if there is none."""
    parts = [part for word in argv for part in word.split("=", 1)]
    for option, inside in (("--config", ""), ("--workdir", "config.json")):
        if option in parts[:-1]:
            path = Path(parts[parts.index(option) + 1], inside)
            try:
                return load_config(str(path))
            except UserError:
                continue
    return None


def parse(
    argument_parser: argparse.ArgumentParser, argv: list[str]
) -> tuple[argparse.Namespace, list[str]]:
    """Parse `argv`; returns the options and the `--config.key=value` overrides.

    Raises UserError for an argument that is neither.
    """
    if {"-h", "--help"} & set(argv):
        argument_parser.epilog = _about_keys(_named_config(argv))
    options, rest = argument_parser.parse_known_args(argv)
    overrides: list[str] = []
    position = 0
    while position < len(rest):
        word = rest[position]
        if not word.startswith("--config."):
            raise UserError(f"unknown argument {word!r}: see --help")
        if "=" not in word:
            position += 1
            if position == len(rest):
                raise UserError(f"{word} has no value: write {word}=VALUE")
            word = f"{word}={rest[position]}"
        overrides.append(word.removeprefix("--config."))
        position += 1
    return options, overrides


def split_values(text: str) -> list[str]:
    """The values of a list, each once, in their order.

    >>> split_values("0.4,(2,8),none,0.4")
    ['0.4', '(2,8)', 'none']
    """
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))


def load_config(path: str, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """Run the config file `path`, or read a run's config.json, and apply `key=value` overrides.

    Raises UserError naming the file or the key and, for an unknown key, the nearest known one.
    """
    file, _, argument = path.partition(":")
    if not Path(file).is_file():
        known = sorted(str(p) for p in Path("configs").glob("*.py"))
        near = difflib.get_close_matches(file, known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else "see the folder configs/"
        raise UserError(f"--config {file}: no such file; {hint}")
    if file.endswith(".json"):
        return override(_from_run(Path(file)), overrides)
    if argument and not _executed(file, lambda names: signature(names["get_config"]).parameters):
        raise UserError(f"--config {path}: {file} has no presets: leave out :{argument}")
    result = _executed(file, lambda names: names["get_config"](*([argument] if argument else [])))
    if not isinstance(result, Config):
        raise UserError(f"{file}: get_config() returned {type(result).__name__}, not a Config")
    return override(result, overrides)


def presets(file: str) -> dict[str, str]:
    """The variants that a config file lists in `PRESETS`: name to one line of text.

    Raises UserError as `load_config`.
    """
    load_config(file)
    found = _executed(file, lambda names: names.get("PRESETS", {}))
    return {str(name): str(text) for name, text in found.items()}


def _executed(file: str, take: Callable[[dict[str, Any]], Any]) -> Any:
    """What `take` finds in the names that a config file defines.  Raises UserError."""
    namespace: dict[str, Any] = {"__name__": "spotjax_config", "__file__": file}
    try:
        exec(compile(Path(file).read_text(), file, "exec"), namespace)
        return take(namespace)
    except pydantic.ValidationError as error:
        raise UserError(f"{file}: {_explain(error)}") from None
    except KeyError as error:
        raise UserError(f"{file}: {error.args[0]} is not defined or not known in it") from None
    except (SyntaxError, TypeError, NameError, ValueError, ImportError) as error:
        raise UserError(f"{file}: {type(error).__name__}: {error}") from None


def _from_run(path: Path) -> Config:
    """The config of a run directory's config.json.  Raises UserError if it is none."""
    try:
        return config_lib.from_dict(json.loads(path.read_text())["config"])
    except pydantic.ValidationError as error:
        raise UserError(f"{path}: {_explain(error)}") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"{path}: is no run's config: name a config file FILE.py or RUN/config.json"
        ) from None


def override(config: Config, overrides: list[str] | tuple[str, ...]) -> Config:
    """`config` with `key=value` overrides applied.  Raises UserError naming the key."""
    values = config_lib.to_dict(config)
    for text in overrides:
        key, _, value = text.partition("=")
        _assign(values, key, _literal(value))
    try:
        changed = config_lib.from_dict(values)
    except pydantic.ValidationError as error:
        raise UserError(f"--config.{_explain(error)}") from None
    _refuse_mixture(changed)
    return changed


def _refuse_mixture(config: Config) -> None:
    """Raise UserError where the features are not what the system reads."""
    features, system = config.features, config.system
    reads = getattr(system, "reads", system.name)
    if features.name != reads:
        raise UserError(
            f"config.features are {features.name}'s, config.system is {system.name}, which reads "
            f"{reads}'s: set config.features to those"
        )
    for key in ("window", "size"):
        wanted, made = getattr(system, key, None), getattr(features, key, None)
        if wanted is not None and made is not None and wanted != made:
            raise UserError(
                f"--config.system.{key}={wanted}: features.{key} is {made}: set both alike"
            )
    if isinstance(features, SfamnetFeatures) and isinstance(system, Sfamnet):
        if system.flow != "optical" and not features.scene:
            raise UserError(
                f"--config.system.flow={system.flow}: features.scene is false: use optical, or "
                "compute scene flow"
            )
        if (
            system.classes == "seven"
            and config.data.layout == "casme3"
            and (config.data.annotation.emotions == "four")
        ):
            raise UserError(
                "--config.system.classes=seven: data.annotation.emotions=four takes the seven "
                "emotions together when they are read: set it to seven"
            )
        if system.fine_tune and not config.train.start:
            raise UserError(
                "--config.system.fine_tune=true: nothing to start from: set --config.train.start "
                "to a trained run"
            )


def describe(kind: Any, prefix: str = "", of: Any = None) -> list[tuple[str, str, str]]:
    """`(key, type, "[default] meaning")` of every key below the section `kind`.

    `of` is such a section: then its own values take the place of defaults, and of the sections
    that may stand at one place only the one that does is told.
    """
    hints = typing.get_type_hints(kind)
    rows: list[tuple[str, str, str]] = []
    for field in dataclasses.fields(kind):
        sections = [k for k in _options(hints[field.name]) if dataclasses.is_dataclass(k)]
        value = getattr(of, field.name, None)
        for one in sections if value is None else [k for k in sections if type(value) is k]:
            tag = f"({getattr(one, 'name', '')}) " if len(sections) > 1 and of is None else ""
            below = describe(one, f"{prefix}{field.name}.", value)
            rows += [(key, name, tag + text) for key, name, text in below]
        if sections:
            continue
        info = field.default
        default = getattr(info, "default", info)
        text = getattr(info, "description", None)
        if text is None:
            continue
        default = default if of is None else value
        shown = "" if default is PydanticUndefined else f"[{default}] "
        rows.append((prefix + field.name, _type_name(hints[field.name]), shown + text))
    return rows


def _options(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the hint alone."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if union else (hint,)


def _type_name(hint: Any) -> str:
    names = []
    for option in _options(hint):
        if typing.get_origin(option) is typing.Literal:
            names += [str(value) for value in typing.get_args(option)]
        elif option is type(None):
            names.append("None")
        elif typing.get_origin(option) is tuple:
            names.append("tuple")
        else:
            names.append(getattr(option, "__name__", str(option)))
    return "|".join(names)


def _literal(text: str) -> Any:
    """A Python literal, or the word itself."""
    if text.lower() in ("none", "true", "false"):
        return {"none": None, "true": True, "false": False}[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _assign(values: dict[str, Any], key: str, value: Any) -> None:
    """Set `values["a"]["b"] = value` for the key "a.b"; a missing optional section is created."""
    *parents, leaf = key.split(".")
    node = values
    for parent in parents:
        if node.get(parent, 0) is None:
            node[parent] = {}
        child = node.get(parent)
        if not isinstance(child, dict):
            raise UserError(f"--config.{key}: unknown key; {_nearest(key)}")
        node = child
    if isinstance(node.get(leaf), dict) and value is not None:
        raise UserError(f"--config.{key}: is a section; set one of its keys, {_nearest(key + '.')}")
    node[leaf] = value


def _nearest(key: str) -> str:
    known = [name for name, _, _ in describe(Config)]
    if key in known:
        return "it belongs to another system, see --help"
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    return f"did you mean --config.{near[0]}?"


def _explain(error: pydantic.ValidationError) -> str:
    """One complaint of pydantic as `key: what is wrong`; an unknown key comes first."""
    unknown = ("unexpected_keyword_argument", "extra_forbidden")
    complaints = error.errors(include_url=False)
    first = min(complaints, key=lambda complaint: complaint["type"] not in unknown)
    # of a section that is chosen by its name, pydantic also tells the name: system.softnet.p
    hints = typing.get_type_hints(Config)
    names = {getattr(kind, "name", "") for hint in hints.values() for kind in typing.get_args(hint)}
    key = ".".join(str(part) for part in first["loc"] if part not in names)
    if first["type"] in unknown:
        return f"{key}: unknown key; {_nearest(key)}"
    complaint = first["msg"][0].lower() + first["msg"][1:]
    return f"{key}: {complaint}, got {json.dumps(first['input'], default=str)}"
