"""SpotFormer's stream of a video: a clip of region flows centred on every frame (SW-MRO).

Paper section 3.1.  Row i of `swmro` is the clip of `window` frames around frame i, the video being
extended by copies of its first and last frame: entry s is the flow of the ten nodes from the
clip's first frame to its s-th, entry 0 is zero.  With `motion` adjacent (the ablation without
sliding window) entry s is the flow from the frame before it.  Values are px of the 320x320 crop,
neither normalised nor clipped.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from spotjax.config import SpotformerFeatures
from spotjax.data.schema import Stream
from spotjax.errors import UserError

from . import faces, swmro
from .features import Extracted, FeatureSpec, empty_rows, frames_of
from .readers import RawDataset, RawVideo
from .swmro_reduce import REDUCTIONS
from .video import Frames
from .workers import Report


def spec(features: SpotformerFeatures, dataset: RawDataset) -> FeatureSpec:
    """The spec of SpotFormer's features.

    k is half the window, the same for both types: the frames that a row looks ahead and back.
    The lengths of expressions do not enter the features, only the decoding.
    """
    half = features.window // 2
    return FeatureSpec(
        streams=streams(features.window),
        k={"macro": half, "micro": half},
        k_source="half of the clip",
        extract=partial(extract, features),
        check=partial(faces.check_backend, features.face),
    )


def streams(window: int) -> dict[str, Stream]:
    """`swmro` f16[T, window, 10, 2] and `valid_both` u8[T]."""
    return {
        "swmro": Stream((window, swmro.NODES, 2), "float16"),
        "valid_both": Stream((), "uint8"),
    }


def extract(features: SpotformerFeatures, video: RawVideo, report: Report) -> Extracted:
    """SpotFormer's streams; a row is zero with valid 0 unless each frame of its clip has a face.

    Every frame is decoded once (besides the few that the face search looks at), and only the
    frames of one clip are kept.  Raises UserError if the video is shorter than the window, has no
    face, or a frame cannot be read.
    """
    length, window = video.num_frames, features.window
    if length < window:
        raise UserError(
            f"{video.place}: {length} frames are too few: config.features.window={window} needs "
            f"at least {window}; lower --config.features.window"
        )
    frames = frames_of(video)
    face, present = faces.find_face(faces.backend(features.face, video), frames)
    try:
        plan = swmro.make_plan(face.landmarks, features.crops, features.margin)
    except UserError as error:
        raise UserError(f"{video.place}: {error}") from None
    rows = empty_rows(streams(window), length)
    rows["valid_both"] = complete(present, window)
    fill = clips if features.motion == "window" else neighbours
    fill(features, plan, frames, rows["valid_both"], rows["swmro"], report)
    return Extracted(present, plan.face, rows)


def complete(present: np.ndarray, window: int) -> np.ndarray:
    """u8[T], 1 where all of the clip is present; `present` u8[T], T >= window."""
    padded = np.pad(present, window // 2, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, window).min(axis=1)


def clip_frames(row: int, window: int, length: int) -> np.ndarray:
    """i64[window]: the frames of the clip around `row`, the first and last ones repeated."""
    return np.clip(np.arange(row - window // 2, row + window // 2 + 1), 0, length - 1)


def clips(
    features: SpotformerFeatures,
    plan: swmro.Plan,
    frames: Frames,
    valid: np.ndarray,
    out: np.ndarray,
    report: Report,
) -> None:
    """Fill the valid rows of `out` f16[T, window, 10, 2] with flow from each clip's first frame.

    Raises UserError naming the frame that cannot be read, or whose flow is not finite.
    """
    crops, measure = Crops(frames, plan.face), _measure(features, plan, frames)
    for row in range(len(frames)):
        if valid[row]:
            clip = clip_frames(row, features.window, len(frames))
            first, last = int(clip[0]), int(clip[-1])
            crops.forget(first)
            vectors = np.zeros((last - first + 1, swmro.NODES, 2), np.float32)
            track = swmro.start(plan)
            for second in range(first + 1, last + 1):
                vectors[second - first], track = measure(crops, first, second, track)
            out[row] = vectors[clip - first]
        report(1)


def neighbours(
    features: SpotformerFeatures,
    plan: swmro.Plan,
    frames: Frames,
    valid: np.ndarray,
    out: np.ndarray,
    report: Report,
) -> None:
    """Fill the valid rows of `out` f16[T, window, 10, 2] with flow between neighbouring frames.

    A pair is shared by all clips around it.  Raises UserError as `clips`.
    """
    crops, measure = Crops(frames, plan.face), _measure(features, plan, frames)
    length = len(frames)
    needed = np.zeros(length, bool)
    members = {
        row: clip_frames(row, features.window, length) for row in np.flatnonzero(valid).tolist()
    }
    for clip in members.values():
        needed[clip[1:][np.diff(clip) > 0]] = True
    vectors = np.zeros((length, swmro.NODES, 2), np.float32)
    for second in range(length):
        if needed[second]:
            crops.forget(second - 1)
            vectors[second], _ = measure(crops, second - 1, second, swmro.start(plan))
        report(1)
    for row, clip in members.items():
        moved = np.diff(clip, prepend=clip[0]) > 0
        out[row, moved] = vectors[clip[moved]]


class Crops:
    """Face crops of a video by frame and shift, each made once while its frame is kept."""

    def __init__(self, frames: Frames, face: swmro.Box) -> None:
        """Nothing is decoded yet."""
        self._frames, self._face = frames, face
        self._images: dict[int, np.ndarray] = {}
        self._crops: dict[int, dict[tuple[int, int], np.ndarray]] = {}

    def get(self, row: int, shift: tuple[int, int] = (0, 0)) -> np.ndarray:
        """u8[320, 320] of frame `row`, the box moved by `shift` px.  Raises UserError: unreadable.

        Frames are best asked for in ascending order.
        """
        if row not in self._images:
            self._images[row] = self._frames[row]
            self._crops[row] = {}
        known = self._crops[row]
        if shift not in known:
            known[shift] = swmro.crop(self._images[row], self._face, shift)
        return known[shift]

    def forget(self, first: int) -> None:
        """Frames before `first` are not needed any more."""
        for row in [row for row in self._images if row < first]:
            del self._images[row], self._crops[row]


Measure = Callable[[Crops, int, int, swmro.Track], tuple[np.ndarray, swmro.Track]]
"""(crops, first frame, second frame, track) -> f32[10, 2] of the pair and the new track."""


def _measure(features: SpotformerFeatures, plan: swmro.Plan, frames: Frames) -> Measure:
    reduce = REDUCTIONS[features.reduction]

    def measure(
        crops: Crops, first: int, second: int, track: swmro.Track
    ) -> tuple[np.ndarray, swmro.Track]:
        reference = crops.get(first)
        crops.get(second)  # a frame that cannot be read names itself
        try:
            return swmro.follow(
                plan, reference, partial(crops.get, second), track, reduce,
                align=features.align, residual=features.residual,
            )  # fmt: skip
        except UserError as error:
            raise UserError(f"{frames.where(second)}: {error}") from None

    return measure
