"""How the flow in a small box becomes one vector: four candidates (SpotFormer, Eq. 1).

The paper averages "MDMO optical flow" and gives no code, so the choice is an option.  On a
coherent motion `mean` and `mdmo8` agree; `topk` and `abpn` are 5-15 % larger.  `mdmo8` and `abpn`
jump where two directions are equally frequent.
"""

from collections.abc import Callable

import numpy as np

Reduction = Callable[[np.ndarray, str], np.ndarray]
"""(vectors f32[n, 2], n > 0; part of the face) -> f32[2]; order of the vectors does not matter."""

TOP_SHARE = {"left_brow": 0.2, "right_brow": 0.3, "mouth": 0.2, "nose": 0.7}
"""`topk`: the share of the longest vectors that is kept in each part."""
_TINY = 1e-6


def mean(vectors: np.ndarray, part: str) -> np.ndarray:
    """f32[2]: the plain mean of `vectors` f32[n, 2] (the paper's Eq. 1 as printed)."""
    return vectors.mean(axis=0)


def mdmo8(vectors: np.ndarray, part: str) -> np.ndarray:
    """Mean of the fullest of eight directions of 45 degrees each (MDMO, Liu et al. 2016).

    `vectors` f32[n, 2] become f32[2].  Direction b holds the angles [45 b, 45 (b + 1)) from +x
    towards +y; zero vectors belong to direction 0; of equally full directions the first counts.
    """
    angle = np.arctan2(vectors[:, 1], vectors[:, 0])
    direction = np.floor(angle * np.float32(4 / np.pi)).astype(np.intp) & 7
    fullest = np.argmax(np.bincount(direction, minlength=8))
    return vectors[direction == fullest].mean(axis=0)


def topk(vectors: np.ndarray, part: str) -> np.ndarray:
    """f32[2]: mean of the longest `vectors` f32[n, 2], `TOP_SHARE` of all (Zhao et al. 2022).

    Raises KeyError for a `part` without a share.
    """
    return _longest(vectors, int(len(vectors) * (1 - TOP_SHARE[part]))).mean(axis=0)


def abpn(vectors: np.ndarray, part: str) -> np.ndarray:
    """ABPN's vector: direction of the sum and mean length of the longest in the main direction.

    `vectors` f32[n, 2] become f32[2].  Four directions: [30, 150), [150, 210), [210, 330) degrees
    and the rest; for the nose quadrants [45, 135), [135, 225), [225, 315) and the rest.  Of the
    fullest (the first of equals) the longest 60 % are kept (nose: 88 %), rounded down.  At least
    one is, where the release gives nan.
    """
    edges, share = ((45, 135, 225, 315), 0.88) if part == "nose" else ((30, 150, 210, 330), 0.6)
    angle = np.degrees(np.arctan2(vectors[:, 1], vectors[:, 0])) % 360
    direction = (np.searchsorted(edges, angle, side="right") - 1) % 4
    main = vectors[direction == np.argmax(np.bincount(direction, minlength=4))]
    longest = _longest(main, len(main) - max(1, int(len(main) * share)))
    total = longest.sum(axis=0)
    length = np.linalg.norm(longest, axis=1).mean()
    return total / (np.linalg.norm(total) + np.float32(_TINY)) * length


REDUCTIONS: dict[str, Reduction] = {"mean": mean, "mdmo8": mdmo8, "topk": topk, "abpn": abpn}


def _longest(vectors: np.ndarray, skip: int) -> np.ndarray:
    """All but the `skip` shortest vectors; of equally long ones the first are skipped."""
    order = np.argsort(np.hypot(vectors[:, 0], vectors[:, 1]), kind="stable")
    return vectors[order[skip:]]
