"""The per-frame features of the training-free baselines: MDMD and LBP-chi2.

Row i belongs to frame i and needs frames i-k, i and i+k with a face in each; it is zero with valid
0 elsewhere.  The face lies in one box per video, as for the networks, here 227x227 px.
"""

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from spotjax.config import Config, Face, Mdmd
from spotjax.data.schema import Stream, sampled_k
from spotjax.decoding import contrast
from spotjax.errors import UserError

from . import faces, lbp, mdmd
from .features import Extracted, FeatureSpec, empty_rows, frames_of, k_sources
from .flow import make_flow
from .readers import RawDataset, RawVideo
from .workers import Report

Halved = Callable[[int, int], int]
"""k of a video from the data set's k and the video's length."""
Feature = Callable[[np.ndarray, np.ndarray, np.ndarray], float]
"""The number of a frame from what is kept of the frames i-k, i and i+k."""


def mdmd_spec(config: Config, dataset: RawDataset) -> FeatureSpec:
    """`mdmd_<t>` f32[T] and `valid_<t>` u8[T] per type t.  Raises UserError as `_half_windows`."""
    settings = config.baselines.mdmd
    k = _half_windows("mdmd", settings.k_macro, settings.k_micro, dataset)
    return FeatureSpec(
        streams=_streams("mdmd", k),
        k=k,
        k_source=k_sources(settings.k_macro, settings.k_micro, "published seconds"),
        extract=partial(extract_mdmd, config.features.face, settings, k),
        check=partial(_check_mdmd, config.features.face, settings),
    )


def lbp_spec(config: Config, dataset: RawDataset) -> FeatureSpec:
    """`lbp_chi2_<t>` f32[T] and `valid_<t>` u8[T] per type.  Raises as `_half_windows`."""
    settings = config.baselines.lbp_chi2
    k = _half_windows("lbp_chi2", settings.k_macro, settings.k_micro, dataset)
    return FeatureSpec(
        streams=_streams("lbp_chi2", k),
        k=k,
        k_source=k_sources(settings.k_macro, settings.k_micro, "published seconds"),
        extract=partial(extract_lbp, config.features.face, k),
        check=partial(faces.check_backend, config.features.face),
    )


def extract_mdmd(
    face: Face, settings: Mdmd, k: Mapping[str, int], video: RawVideo, report: Report
) -> Extracted:
    """MDMD's feature of every frame and type.  Raises UserError as `_extract`."""
    flow = make_flow(settings.flow)

    def feature(before: np.ndarray, now: np.ndarray, after: np.ndarray) -> float:
        compat = settings.directions == "matlab"
        return mdmd.feature(flow(before, now), flow(before, after), matlab_compat=compat)

    return _extract("mdmd", face, k, contrast.halved_mdmd, lambda crop: crop, feature, video,
                    report)  # fmt: skip


def extract_lbp(face: Face, k: Mapping[str, int], video: RawVideo, report: Report) -> Extracted:
    """LBP-chi2's feature of every frame and type.  Raises UserError as `_extract`."""
    return _extract("lbp_chi2", face, k, contrast.halved_lbp, lbp.histograms, lbp.feature, video,
                    report)  # fmt: skip


def _extract(
    name: str,
    settings: Face,
    k: Mapping[str, int],
    halved: Halved,
    keep: Callable[[np.ndarray], np.ndarray],
    feature: Feature,
    video: RawVideo,
    report: Report,
) -> Extracted:
    """Slide over the video once; `keep` turns a crop u8[227, 227] into what `feature` needs.

    Only the last 2 max(k) + 1 of these are held.  Raises UserError if the video has no face or a
    frame cannot be read.
    """
    length = video.num_frames
    mine = {kind: halved(step, length) for kind, step in k.items()}
    frames = frames_of(video)
    face, present = faces.find_face(faces.backend(settings, video), frames)
    rows = empty_rows(_streams(name, k), length)
    kept: deque[np.ndarray] = deque(maxlen=2 * max(mine.values()) + 1)
    for last in range(length):
        kept.append(keep(faces.crop(frames[last], face.box, mdmd.SIZE)))
        for kind, step in mine.items():
            first, row = last - 2 * step, last - step
            if first < 0 or not (present[first] and present[row] and present[last]):
                continue
            try:
                value = feature(kept[-1 - 2 * step], kept[-1 - step], kept[-1])
            except UserError as error:
                raise UserError(f"{frames.where(row)}: {error}") from None
            rows[f"{name}_{kind}"][row] = value
            rows[f"valid_{kind}"][row] = 1
        report(1)
    return Extracted(present, face.box, rows)


def _half_windows(
    name: str, macro: int | None, micro: int | None, dataset: RawDataset
) -> dict[str, int]:
    """k per type: as set, else the published seconds.  Raises UserError: several frame rates."""
    wanted = {"macro": macro, "micro": micro}
    rates = sorted({video.fps for video in dataset.videos})
    if len(rates) > 1 and None in wanted.values():
        raise UserError(
            f"config.baselines.{name}: the videos have frame rates from {rates[0]:g} to "
            f"{rates[-1]:g}: set --config.baselines.{name}.k_macro and k_micro (frames)"
        )
    every = dataset.videos[0].step
    return {
        kind: sampled_k(value, every) if value else contrast.half_window(kind, rates[0])
        for kind, value in wanted.items()
    }


def _streams(name: str, k: Mapping[str, int]) -> dict[str, Stream]:
    found: dict[str, Stream] = {}
    for kind in k:
        found[f"{name}_{kind}"] = Stream((), "float32")
        found[f"valid_{kind}"] = Stream((), "uint8")
    return found


def _check_mdmd(face: Face, settings: Mdmd) -> None:
    faces.check_backend(face)
    make_flow(settings.flow)
