"""The systems by name: the one list."""

from collections.abc import Callable
from typing import Any

from spotjax.systems import cnn3d, mesnet, sfamnet, softnet, spotformer
from spotjax.types import System

_BUILDERS: dict[str, Callable[..., System]] = {
    "cnn3d": cnn3d.build,
    "mesnet": mesnet.build,
    "sfamnet": sfamnet.build,
    "softnet": softnet.build,
    "spotformer": spotformer.build,
}


def build(config: Any, k: dict[str, int]) -> System:
    """The System of a config section; `k` as the data set's manifest states it."""
    return _BUILDERS[config.name](config, k)
