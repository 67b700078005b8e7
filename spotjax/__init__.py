"""spotjax: find facial macro- and micro-expressions in long videos.

`spotjax.spot(video)` finds them in a video of one's own; see `spotjax/spot.py`.

Importing the package loads no JAX: the rooms that need it import it themselves, so that
`data_prep` can share the configuration and the shard format.  Read `spotjax/types.py` first.
"""

import importlib
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """The function `spotjax.spot`, whose module is loaded when it is asked for."""
    if name == "spot":
        return importlib.import_module("spotjax.spot")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
