"""Training-free spotting beside any system, on the same videos (NumPy only)."""

from collections.abc import Sequence

import numpy as np

from spotjax import decode
from spotjax.types import Dataset, Detection, Video

STRAIN_P = 0.5


def strain_sum(
    dataset: Dataset, video: Video, types: Sequence[str], smoothing: str, interval: str
) -> list[Detection]:
    """SOFTNet's control experiment ("without SOFTNet"): the summed optical strain as the score.

    The strain of eyes and mouth at 128x128 px (stream `strain_<type>`), smoothed and decoded as
    the network's score, with p = 0.5 (SOFTNet section 4.3, table 1).
    """
    found: list[Detection] = []
    for type in types:
        k = dataset.k[type]
        score = dataset.streams[f"strain_{type}"][video.rows].astype(np.float32)
        valid = dataset.streams[f"valid_{type}"][video.rows] > 0
        detections, _ = decode.spot(
            score, valid, k, type, p=STRAIN_P, smoothing=smoothing, interval=interval
        )
        found += detections
    return found


def random_intervals(
    detections: list[Detection], num_frames: int, rng: np.random.Generator
) -> list[Detection]:
    """As many intervals of the same types and lengths, anywhere in the video, with random scores.

    What a system would reach that knows how many expressions there are and how long, but not
    where: the chance level.
    """
    placed = []
    for detection in detections:
        length = detection.offset - detection.onset + 1
        onset = int(rng.integers(0, max(num_frames - length, 0) + 1))
        middle = onset + (length - 1) // 2
        placed.append(
            Detection(onset, middle, onset + length - 1, detection.type, float(rng.random()))
        )
    return placed
