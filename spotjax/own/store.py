"""What is done of a video, kept on disk so that an interrupted run goes on (NumPy only).

A folder `.<name>.partial` beside the results holds a file for each stretch of the video that is
scored.  It says what it was made of: with other weights or options it is begun anew.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spotjax import files

IDENTITY = "identity.json"


class Store:
    """The stretches of one video that are done."""

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        """Open `folder`; what it holds of another `identity` (JSON-like) is removed."""
        self.folder = folder
        known = folder / IDENTITY
        wanted = json.dumps(identity, sort_keys=True)
        if not known.is_file() or known.read_text(encoding="utf-8") != wanted:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            files.write_text(known, wanted)
        self._count = 0

    def read(self) -> list[dict[str, np.ndarray]]:
        """All stretches from the first on, as `add` was given them: arrays `dtype[...]` by name.

        Up to one that is missing or damaged, which ends them.
        """
        found: list[dict[str, np.ndarray]] = []
        while (path := self._path(len(found))).is_file():
            try:
                with np.load(path, allow_pickle=False) as arrays:
                    found.append({name: arrays[name] for name in arrays.files})
            except (OSError, ValueError, KeyError, EOFError):
                break
        self._count = len(found)
        return found

    def add(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep one more stretch, `dtype[...]` by name.  Raises OSError if the disk refuses."""
        files.write_npz(self._path(self._count), arrays)
        self._count += 1

    def remove(self) -> None:
        """Everything is in the results now."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npz"
