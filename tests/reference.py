"""Reference material beside the project; tests that need it skip where it is absent."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def shared_file(name: str) -> Path:
    """A file of the reference material beside the project; skips the test without it."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"the reference file {name} is not here")
    return path
