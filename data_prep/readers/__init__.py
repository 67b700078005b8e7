"""Readers of the data sets' own layouts: one module per layout, one list here."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from spotjax.config import Data

from . import casme2, casme3, folder, samm_lv
from .base import RawDataset, RawVideo

__all__ = ["LAYOUTS", "SYNTHETIC_MARK", "Layout", "RawDataset", "RawVideo", "read"]

SYNTHETIC_MARK = "synthetic.json"
"""A rendered set holds this file; its name then begins with `synthetic_`."""


class Layout(NamedTuple):
    """How one data set lies on disk."""

    read: Callable[[Data, Path], RawDataset]
    holds: str
    """What its folder holds, for the help and for messages."""


LAYOUTS: dict[str, Layout] = {
    "casme2": Layout(casme2.read, casme2.HOLDS),
    "samm_lv": Layout(samm_lv.read, samm_lv.HOLDS),
    "casme3": Layout(casme3.read, casme3.HOLDS),
    "folder": Layout(folder.read, folder.HOLDS),
}


def read(data: Data, root: Path) -> RawDataset:
    """All videos of the data set at `root`.  Raises UserError for a wrong folder or workbook."""
    dataset = LAYOUTS[data.layout].read(data, root)
    if (root / SYNTHETIC_MARK).is_file():
        return dataset._replace(name=f"synthetic_{dataset.name}")
    return dataset
