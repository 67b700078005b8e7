"""The windows that MESNet's clip proposal network looks through, and their labels (NumPy only).

A clip of 100 flows (`CLIP`) is covered by 470 windows of five lengths, one for each way to stack
two temporal convolutions (paper section III-C, table II):

    tower   first layer   second (kernel, dilation)   span on S   windows   length on the flow
    1       A             1, 1                        3           98        7
    2       A             3, 1                        5           96        9
    3       A             3, 2                        7           94        11
    4       A             3, 3                        9           92        13
    5       B (dilated 2) 3, 3                        11          90        15

Window n of a tower of span R sees flows n - 2 to n + R + 1: its span on the temporal features S
and two more on either side, since S itself sees two flows to both sides.  Windows that stick out of
their clip are cut there.
"""

from typing import NamedTuple

import numpy as np

CLIP, OVERLAP = 100, 20
HOP = CLIP - OVERLAP
POSITIVE_IOU = 0.7


class Tower(NamedTuple):
    """Two stacked temporal convolutions, the first with kernel 3."""

    first: str
    """Its first layer: A (dilation 1), shared by four towers, or B (dilation 2)."""
    kernel: int
    dilation: int

    @property
    def span(self) -> int:
        """Columns of S that a window sees."""
        first = 3 if self.first == "A" else 5
        return first + (self.kernel - 1) * self.dilation


TOWERS = (
    Tower("A", 1, 1), Tower("A", 3, 1), Tower("A", 3, 2), Tower("A", 3, 3), Tower("B", 3, 3)
)  # fmt: skip


def whole_windows(clip: int = CLIP) -> np.ndarray:
    """i64[W, 2]: first and last flow of every window, as if the clip went on beyond its ends.

    >>> whole_windows()[[0, -1]].tolist()
    [[-2, 4], [87, 101]]
    """
    found = []
    for tower in TOWERS:
        start = np.arange(clip - tower.span + 1)
        found.append(np.stack([start - 2, start + tower.span + 1], axis=1))
    return np.concatenate(found)


def windows(clip: int = CLIP) -> np.ndarray:
    """i64[W, 2]: first and last flow of every window, cut at the ends of the clip.

    >>> len(windows()), windows()[[0, 1, 2, 3]].tolist()
    (470, [[0, 4], [0, 5], [0, 6], [1, 7]])
    """
    return np.clip(whole_windows(clip), 0, clip - 1)


def starts(num_frames: int, clip: int = CLIP, hop: int = HOP) -> np.ndarray:
    """i64[n]: first frames of the clips that cover a video; the last one ends with the video.

    A video shorter than a clip has one, from frame 0 on, which goes beyond its end.

    >>> starts(300).tolist(), starts(60).tolist()
    ([0, 80, 160, 200], [0])
    """
    last = max(num_frames - clip, 0)
    return np.append(np.arange(0, last, hop), last)


def overlaps(spans: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """f64[W, M]: IoU of windows `[W, 2]` and expressions `[M, 2]`, fractions of frames allowed.

    Ends are inclusive: [40, 52] has 13 frames.
    """
    low = np.maximum(spans[:, None, 0], truths[None, :, 0])
    high = np.minimum(spans[:, None, 1], truths[None, :, 1])
    shared = np.maximum(high - low + 1, 0)
    length, true = spans[:, 1] - spans[:, 0] + 1, truths[:, 1] - truths[:, 0] + 1
    return shared / (length[:, None] + true[None, :] - shared)
