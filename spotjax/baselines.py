"""Training-free spotting beside any system, on the same videos (NumPy only).

Each baseline reads streams of a shards folder, its own or the system's, and gives intervals of one
video.  The published parameters are the defaults of `config.baselines`:

    strain_sum   SOFTNet's control experiment, "without SOFTNet" (Liong et al. 2021, table 1)
    mdmd         main directional maximal difference, baseline of MEGC 2020
    lbp_chi2     chi-squared distances of local binary patterns, as in MESNet's comparison
"""

from collections.abc import Callable, Sequence

import numpy as np

from spotjax.config import Config, Softnet, StrainSum
from spotjax.decoding import contrast, decode
from spotjax.types import Dataset, Detection, Video

STRAIN_P = 0.5


def strain_sum(
    dataset: Dataset, video: Video, types: Sequence[str], config: Config
) -> list[Detection]:
    """The summed optical strain of eyes and mouth at 128x128 px as the score of a frame.

    Stream `strain_<type>`, smoothed and decoded as SOFTNet's score, with p = 0.5 (SOFTNet section
    4.3, table 1); beside another system as `config.baselines.strain_sum` says.
    """
    found: list[Detection] = []
    settings = strain_settings(config)
    for type in types:
        score, valid = _streams(dataset, video, "strain", type)
        detections, _ = decode.spot(
            score, valid, dataset.k[type], type, p=STRAIN_P,
            smoothing=settings.smoothing, interval=settings.interval,
        )  # fmt: skip
        found += detections
    return found


def strain_settings(config: Config) -> Softnet | StrainSum:
    """The section that says how summed strain is decoded: as SOFTNet's score beside SOFTNet."""
    return config.system if isinstance(config.system, Softnet) else config.baselines.strain_sum


def mdmd(dataset: Dataset, video: Video, types: Sequence[str], config: Config) -> list[Detection]:
    """Frames whose main directional maximal difference stands out, and their lengths."""
    settings = config.baselines.mdmd
    found: list[Detection] = []
    for type in types:
        feature, valid = _streams(dataset, video, "mdmd", type)
        k = contrast.halved_mdmd(dataset.k[type], video.num_frames)
        curve = contrast.contrast_mdmd(feature, valid, k, settings.directions == "matlab")
        shortest, longest = contrast.limits(video.fps)[type]
        found += contrast.spot(curve, settings.p, shortest, longest, type)[0]
    return found


def lbp_chi2(
    dataset: Dataset, video: Video, types: Sequence[str], config: Config
) -> list[Detection]:
    """Frames whose texture differs from that before and after, and their lengths.

    With `bin_frames` the intervals are MEGC 2019's bins, of any length.
    """
    settings = config.baselines.lbp_chi2
    merge = None
    if settings.bin_frames:
        merge = contrast.Bins(settings.bin_frames, settings.bin_hits)
    found: list[Detection] = []
    for type in types:
        feature, valid = _streams(dataset, video, "lbp_chi2", type)
        k = contrast.halved_lbp(dataset.k[type], video.num_frames)
        curve = contrast.contrast_lbp(feature, valid, k)
        shortest, longest = (1, None) if merge else contrast.limits(video.fps)[type]
        found += contrast.spot(curve, settings.p, shortest, longest, type, merge=merge)[0]
    return found


BASELINES: dict[str, Callable[[Dataset, Video, Sequence[str], Config], list[Detection]]] = {
    "strain_sum": strain_sum,
    "mdmd": mdmd,
    "lbp_chi2": lbp_chi2,
}
"""(data set with the streams it reads, video, expression types, config) -> detections."""


def _streams(dataset: Dataset, video: Video, name: str, type: str) -> tuple[np.ndarray, np.ndarray]:
    """Feature f32[T] and validity bool[T] of one video."""
    feature = dataset.streams[f"{name}_{type}"][video.rows].astype(np.float32)
    return feature, dataset.streams[f"valid_{type}"][video.rows] > 0


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
