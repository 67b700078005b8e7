"""SFAMNet's streams of a video: optical and scene flow of the pairs 0.2 s apart, and of the events.

Paper section 3.2.  Row i of `optical` and `scene` is the pair (i, i+k), k being `seconds` in
frames of the video.  An event row is the pair (onset, apex) of an annotated interval, the paper's
ground-truth sample; both kinds of expression have one, the system trains on the micro-expressions'.

A frame without depth (its image is missing, or nothing in the face was measured) has no scene
flow: its pairs have `valid_scene` 0 and keep their optical flow.
"""

from functools import partial

import cv2
import numpy as np

from spotjax.config import EXPRESSION_TYPES, SfamnetFeatures
from spotjax.data.schema import Stream
from spotjax.errors import UserError

from . import faces, scene_flow, sfamnet
from .features import Extracted, FeatureSpec, empty_rows, frames_of
from .flow import FlowMethod, make_flow
from .readers import RawDataset, RawVideo
from .video import read_colour, read_depth
from .workers import Report


def spec(features: SfamnetFeatures, dataset: RawDataset) -> FeatureSpec:
    """The spec of SFAMNet's features; k is the same for both types.

    Raises UserError if scene flow is wanted of a data set without any depth image.
    """
    if features.scene and not any(video.depth for video in dataset.videos):
        raise UserError(
            f"{dataset.name}: has no depth images, which scene flow needs: use "
            "--config.features.scene=false --config.system.flow=optical"
        )
    k = frames_between(features, dataset.videos[0].fps)
    return FeatureSpec(
        streams=streams(features.scene),
        k=dict.fromkeys(EXPRESSION_TYPES, k),
        k_source=f"{features.seconds:g} s",
        extract=partial(extract, features),
        check=partial(_check, features),
        events={f"event_{n}": s for n, s in _images(features.scene).items()}
        | {f"valid_event_{n}": Stream((), "uint8") for n in _images(features.scene)},
        depth=features.scene,
    )


def frames_between(features: SfamnetFeatures, fps: float) -> int:
    """Frames between the images of a pair: `seconds` at `fps`, at least 1."""
    return max(1, round(features.seconds * fps))


def _images(scene: bool) -> dict[str, Stream]:
    names = ("optical", "scene") if scene else ("optical",)
    return {name: Stream((sfamnet.SIZE, sfamnet.SIZE, 3), "float16") for name in names}


def streams(scene: bool) -> dict[str, Stream]:
    """`optical` and `scene` f16[T, 42, 42, 3] with `valid_optical` and `valid_scene` u8[T]."""
    images = _images(scene)
    return images | {f"valid_{name}": Stream((), "uint8") for name in images}


def extract(features: SfamnetFeatures, video: RawVideo, report: Report) -> Extracted:
    """SFAMNet's streams and event streams.

    Every frame is decoded once (besides the few that the face search looks at) and kept only as
    long as a pair or an event needs it.  Raises UserError if the video has no face, or a frame
    cannot be read; UserError too if colour and depth differ in size.
    """
    length, k = video.num_frames, frames_between(features, video.fps)
    if length <= k:
        raise UserError(
            f"{video.place}: {length} frames are too few: a pair of frames is {k} frames apart; "
            "lower --config.features.seconds"
        )
    face, present = faces.find_face(faces.backend(features.face, video), frames_of(video))
    pairs = [(row, row + k) for row in range(length - k)]
    events = [(i.onset, i.apex) for i in video.intervals]
    measure = _Measure(features, video, face, present)
    rows = empty_rows(streams(features.scene), length)
    of_events = {f"event_{n}": array for n, array in
                 empty_rows(_images(features.scene), len(events)).items()}  # fmt: skip
    for name in _images(features.scene):
        of_events[f"valid_event_{name}"] = np.zeros(len(events), np.uint8)
    ends: dict[int, list[tuple[int, int, dict[str, np.ndarray], str]]] = {}
    last_use: dict[int, int] = {}
    for (first, second), target, prefix, index in [
        *((pair, rows, "", row) for row, pair in enumerate(pairs)),
        *((pair, of_events, "event_", m) for m, pair in enumerate(events)),
    ]:
        if 0 <= first < second and present[first] and present[second]:
            ends.setdefault(second, []).append((first, index, target, prefix))
            last_use[first] = max(last_use.get(first, 0), second)
    crops: dict[int, sfamnet.Crop] = {}
    for second in range(length):
        if second in ends or second in last_use:
            crops[second] = measure.crop(second)
        for first, index, target, prefix in ends.get(second, ()):
            for name, image in measure.pair(crops[first], crops[second], first).items():
                target[f"{prefix}{name}"][index] = image
                target[f"valid_{prefix}{name}"][index] = 1
        for row in [row for row in crops if last_use.get(row, 0) <= second]:
            del crops[row]
        report(1)
    return Extracted(present, face.box, rows, of_events)


class _Measure:
    """Crops of a video's frames and the flow of their pairs."""

    def __init__(
        self, features: SfamnetFeatures, video: RawVideo, face: faces.Face, present: np.ndarray
    ) -> None:
        self._features, self._video, self._box = features, video, face.box
        self._frames = frames_of(video)
        self._flow: FlowMethod = make_flow(features.flow)
        focal = sfamnet.focal_in_crop(features.scene_flow.focal, face.box)
        released = features.scene_flow.solver == "released"
        self._settings = (scene_flow.as_released if released else scene_flow.Settings)(focal)
        try:
            self._nose = sfamnet.nose_patch(faces.landmarks_in_crop(face))
        except UserError as error:
            raise UserError(f"{video.place}: {error}") from None

    def crop(self, row: int) -> sfamnet.Crop:
        """The face in frame `row`."""
        if not (self._features.scene and self._video.depth):
            return sfamnet.Crop(faces.crop(self._frames[row], self._box), None)
        colour = read_colour(self._video.frames[row])
        small = faces.crop(colour, self._box)
        return sfamnet.Crop(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), self._rgbd(row, colour, small))

    def _rgbd(self, row: int, colour: np.ndarray, small: np.ndarray) -> scene_flow.Rgbd | None:
        path = self._video.depth[row]
        if path is None:
            return None
        depth = read_depth(path)
        if depth.shape != colour.shape[:2]:
            raise UserError(
                f"{path}: is {depth.shape[1]}x{depth.shape[0]} px, its colour image "
                f"{colour.shape[1]}x{colour.shape[0]} px: align depth to colour, or use "
                "--config.features.scene=false --config.system.flow=optical"
            )
        face = sfamnet.crop_depth(depth, self._box)
        return scene_flow.Rgbd(small, face) if face.any() else None

    def pair(self, first: sfamnet.Crop, second: sfamnet.Crop, row: int) -> dict[str, np.ndarray]:
        """The images that can be computed of a pair that begins at frame `row`, by stream."""
        found = {}
        try:
            found["optical"] = sfamnet.optical(first, second, self._flow, self._nose)
            if first.rgbd is not None and second.rgbd is not None:
                found["scene"] = sfamnet.scene(
                    first.rgbd, second.rgbd, self._settings, self._nose,
                    self._features.w_unit == "px",
                )  # fmt: skip
        except UserError as error:
            raise UserError(f"{self._frames.where(row)}: {error}") from None
        return found


def _check(features: SfamnetFeatures) -> None:
    faces.check_backend(features.face)
    make_flow(features.flow)
    if features.scene:
        scene_flow.warm_up()  # once, before the workers begin
