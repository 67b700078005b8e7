"""Which of the faces in one's own video is followed, stretch after stretch.

A data set shows one person who sits still, and one box serves the whole video.  In a video of
one's own people come, go and move, so the box is found anew in every stretch of a few seconds
(`own_video`).  At first it is the largest face, or the one that was asked for; from then on the
face that lies where the last one was.
"""

import numpy as np

from .faces import Dlib68, Face, iou

CHECK_EVERY = 15
"""Frames between two looks whether the face is still there."""
DETECTION_WIDTH = 640
"""px; a face is found from 40 px of it on, and large videos cost no more than small ones."""
_NEAR = 1.5  # box widths that a face may move between two stretches
_LOST = 4  # stretches without it after which it is looked for anew


class Tracker:
    """A `faces.LandmarkBackend` that remembers where the face was."""

    check_every = CHECK_EVERY

    def __init__(self, which: int = 1) -> None:
        """Follow the `which`-th largest face of the first frame that has so many.

        Loads the models (1 s).  Raises UserError if they are not installed.
        """
        self._detector = Dlib68(CHECK_EVERY)
        self._which = which
        self._last: Face | None = None
        self._missed = 0
        self.most = 0
        """The most faces seen in a frame that was looked at."""

    @property
    def last(self) -> Face | None:
        """The face of the last stretch that had one, in px of the frames looked at."""
        return self._last

    def begin(self) -> None:
        """A new stretch begins: the face counts as missed until it is found."""
        self._missed += 1
        if self._missed > _LOST:
            self._last = None

    def resume(self, box: tuple[int, int, int, int]) -> None:
        """Go on from a `box` in px where the face was last seen."""
        self._last = Face(box, np.zeros((68, 2), np.float32))

    def find(self, frame: np.ndarray, row: int) -> Face | None:
        """The followed face in `frame` u8[H, W], if it is there."""
        found = self._detector.find_all(frame, DETECTION_WIDTH)
        self.most = max(self.most, len(found))
        if self._last is None:
            chosen = found[self._which - 1] if len(found) >= self._which else None
        else:
            chosen = nearest(found, self._last.box)
        if chosen is not None:
            self._last, self._missed = chosen, 0
        return chosen

    def present(self, frame: np.ndarray, row: int, box: tuple[int, int, int, int]) -> bool:
        """Whether there is a face at `box` (px) of `frame` u8[H, W], as dlib sees it."""
        return self._detector.present(frame, row, box)


def nearest(found: list[Face], box: tuple[int, int, int, int]) -> Face | None:
    """The face of `found` that overlaps `box` most, else the nearest within 1.5 widths of it."""
    if not found:
        return None
    overlap = [iou(np.array(face.box), box) for face in found]
    if max(overlap) > 0:
        return found[int(np.argmax(overlap))]
    middle = np.array([_middle(face.box) for face in found]) - _middle(box)
    apart = np.hypot(*middle.T)
    best = int(np.argmin(apart))
    return found[best] if apart[best] <= _NEAR * (box[2] - box[0]) else None


def _middle(box: tuple[int, int, int, int]) -> np.ndarray:
    return np.array([box[0] + box[2], box[1] + box[3]]) / 2
