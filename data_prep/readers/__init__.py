"""Readers of the data sets' own layouts: one module per layout, one list here."""

from collections.abc import Callable
from pathlib import Path

from . import casme2, samm_lv
from .base import RawDataset, RawVideo

__all__ = ["READERS", "RawDataset", "RawVideo", "read"]

READERS: dict[str, Callable[[Path], RawDataset]] = {
    "casme2": casme2.read,
    "samm_lv": samm_lv.read,
}


def read(layout: str, root: Path) -> RawDataset:
    """All videos of the data set at `root`.  Raises UserError for a wrong folder or workbook."""
    return READERS[layout](root)
