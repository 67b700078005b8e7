"""The systems by name: the one list."""

from typing import Any

from spotjax.systems import softnet
from spotjax.types import System

_BUILDERS = {"softnet": softnet.build}


def build(config: Any, k: dict[str, int]) -> System:
    """The System of a config section; `k` as the data set's manifest states it."""
    return _BUILDERS[config.name](config, k)
