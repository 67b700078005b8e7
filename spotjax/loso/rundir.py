"""A run directory: config, log and results on disk.

config.json              the config, the shards' hash, library versions
log.jsonl                one line per problem and epoch
checkpoints/<problem>/   Orbax checkpoints of all folds
metrics.json intervals.csv truths.csv videos.csv curves.npz report.html    after evaluation
"""

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from spotjax import config as config_lib
from spotjax.config import Config
from spotjax.config.base import keys_that_change
from spotjax.errors import UserError
from spotjax.files import flat, is_one_of, write_json, write_text

FREE_KEYS = (
    "baselines",
    "data",
    "evaluate",
    "evaluation",
    "train.devices",
    "train.fold_exec",
    "train.fold_chunk",
    "train.distributed",
    "train.residency",
    "train.piece",
    "train.checkpoint_every",
    "pretrain.fold_exec",
    "pretrain.fold_chunk",
    "pretrain.checkpoint_every",
)
"""Config keys that do not change trained parameters, beside those that a system's section marks.

The videos' features are compared by the shards' own hash, so `data` is free too.
"""


def free_keys(config: Config) -> tuple[str, ...]:
    """All keys that may differ when the run of this config goes on."""
    marked = keys_that_change(type(config.system), "intervals", "scores")
    return FREE_KEYS + tuple(f"system.{name}" for name in marked)


def versions() -> dict[str, str]:
    """Versions of the libraries that can move a number."""
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy")
    return {"spotjax": metadata.version("spotjax"), **{n: metadata.version(n) for n in names}}


def open_run(workdir: Path, config: Config, data_hash: str, shards: Path) -> None:
    """Write config.json, or compare with the one that is there.

    Raises UserError naming the first key that differs and matters for the trained parameters.
    """
    path = workdir / "config.json"
    if path.exists():
        saved, saved_hash, _ = load_run(workdir)
        difference = first_difference(saved, config)
        if difference:
            key, old, new = difference
            raise UserError(
                f"{path}: this run has {key}={old!r}, the config wants {new!r}: "
                "choose another --workdir"
            )
        if saved_hash != data_hash:
            raise UserError(
                f"{path}: this run was trained on other features or labels ({saved_hash}, the "
                f"shards are {data_hash}): choose another --workdir"
            )
    values = {
        "config": config_lib.to_dict(config),
        "data_hash": data_hash,
        "shards": str(shards.absolute()),
        "versions": versions(),
    }
    write_json(path, values)


def load_run(workdir: Path) -> tuple[Config, str, Path]:
    """Config, data hash and shards folder of a run.  Raises UserError if it is no run directory."""
    path = workdir / "config.json"
    try:
        values = json.loads(path.read_text())
        config = config_lib.from_dict(values["config"])
        return config, values["data_hash"], Path(values["shards"])
    except FileNotFoundError:
        raise UserError(
            f"{workdir}: no run directory (config.json is missing): run spotjax.train first"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a run's config ({type(error).__name__}: {error})") from None


def first_difference(saved: Config, wanted: Config) -> tuple[str, Any, Any] | None:
    """The first key (in the config's order) that differs and is not free, with both values."""
    old, new = flat(config_lib.to_dict(saved)), flat(config_lib.to_dict(wanted))
    free = free_keys(wanted)
    for key in dict.fromkeys([*old, *new]):
        if not is_one_of(key, free) and old.get(key) != new.get(key):
            return key, old.get(key), new.get(key)
    return None


class Log:
    """`log.jsonl`: one JSON object per line; lines of a run that went on are not repeated."""

    def __init__(self, workdir: Path) -> None:
        """Open the log of a run."""
        self.path = workdir / "log.jsonl"

    def read(self) -> list[dict[str, Any]]:
        """All complete lines."""
        records = []
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                try:
                    records.append(json.loads(line))
                except json.JSONDecodeError:  # a line cut by a kill
                    continue
        return records

    def restart(self, problem: str, epochs: int) -> None:
        """Drop lines of `problem` after `epochs` epochs: they will be written again."""
        kept = [r for r in self.read() if r["problem"] != problem or r["epoch"] <= epochs]
        write_text(self.path, "".join(json.dumps(record) + "\n" for record in kept))

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one line."""
        with open(self.path, "a") as file:
            file.write(json.dumps(record) + "\n")
