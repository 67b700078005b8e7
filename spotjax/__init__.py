"""spotjax: find facial macro- and micro-expressions in long videos.

Importing the package loads no JAX: the rooms that need it import it themselves, so that
`data_prep` can share the configuration and the shard format.  Read `spotjax/types.py` first.
"""

__version__ = "0.1.0"
