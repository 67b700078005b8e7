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
    """The System of a config section; `k` as the data set's manifest states it.

    Raises ValueError if it has no builder, or varies a decoding option that `about` does not tell.
    """
    if config.name not in _BUILDERS:
        raise ValueError(f"{config.name}: has no builder in spotjax/systems/__init__.py")
    system = _BUILDERS[config.name](config, k)
    if untold := {key for options in system.variants for key in options} - set(system.about):
        raise ValueError(f"{config.name}: `about` lacks {', '.join(untold)}, which `variants` has")
    return system
