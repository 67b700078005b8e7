"""Image files of a video as grey frames, every defect named.

`cv2.imdecode` fills the rest of a truncated JPEG with grey and says nothing that a program could
catch, so the end marker of the file is looked for first.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from spotjax.errors import UserError

_REMEDY = "copy this frame again from the data set"


def read_grey(path: Path) -> np.ndarray:
    """Decode an image to grey u8[H, W].

    Raises UserError if the file is missing, empty, truncated or not an image.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}: {_REMEDY}") from None
    if not data:
        raise UserError(f"{path}: the file is empty: {_REMEDY}")
    if _truncated(data):
        raise UserError(f"{path}: the image is cut short: {_REMEDY}")
    try:
        frame = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error:
        frame = None
    if frame is None:
        raise UserError(f"{path}: cannot be decoded as an image: {_REMEDY}")
    return frame


class Frames:
    """The frames u8[H, W] of one video, decoded when asked for; all must have one size."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Frames in the order of `paths`."""
        self.paths = paths
        self._size: tuple[int, ...] = ()

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.paths)

    def __getitem__(self, row: int) -> np.ndarray:
        """Decode frame `row`.  Raises UserError as `read_grey`, and if its size differs."""
        frame = read_grey(self.paths[row])
        self._size = self._size or frame.shape
        if frame.shape != self._size:
            raise UserError(
                f"{self.paths[row]}: is {frame.shape[1]}x{frame.shape[0]} px, the video's other "
                f"frames {self._size[1]}x{self._size[0]} px: {_REMEDY}"
            )
        return frame


def _truncated(data: bytes) -> bool:
    """Whether a JPEG lacks its end marker after the last scan, or a PNG its last chunk.

    Inside a scan 0xFF is always followed by a stuffed 0, so the markers cannot occur by chance;
    a thumbnail in the header has markers of its own, hence the *last* scan.
    """
    if data.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in data[max(data.rfind(b"\xff\xda"), 0) :]
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data[-64:]
    return False
