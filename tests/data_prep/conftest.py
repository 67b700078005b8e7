"""Fixtures of the data_prep tests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_sets import SHARED, make_set

from data_prep import flow
from data_prep.flow import FlowMethod


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The root of a data set of two subjects and three videos."""
    return make_set(tmp_path / "set")


@pytest.fixture
def shared() -> Callable[[str], Path]:
    """A file of the reference material beside the repository; skips where it is not there."""

    def find(name: str) -> Path:
        if not (SHARED / name).exists():
            pytest.skip(f"shared/{name} is not here")
        return SHARED / name

    return find


@pytest.fixture
def quick_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for DIS where a test is not about flow (and stays in this process)."""

    def make() -> FlowMethod:
        return lambda first, second: np.dstack([first, second]).astype(np.float32) / 100

    monkeypatch.setattr(flow, "dis", make)
