"""Flow of the ten regions of one pair, on a rendered face that is warped by known motions."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from data_prep import swmro
from data_prep.swmro import Box
from data_prep.swmro_reduce import mean
from data_prep.synthetic_layouts import VideoTask
from spotjax.errors import UserError


class Scene(NamedTuple):
    """A still face."""

    image: np.ndarray
    landmarks: np.ndarray

    def moved(self, motion: np.ndarray) -> np.ndarray:
        """The image displaced by `motion` f32[H, W, 2] or f32[2], px of the frame."""
        height, width = self.image.shape
        y, x = np.mgrid[:height, :width].astype(np.float32)
        source = np.dstack([x, y]) - motion.astype(np.float32)
        return cv2.remap(self.image, source, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)

    def bump(self, numbers: tuple[int, ...], vector: tuple[float, float]) -> np.ndarray:
        """f32[H, W, 2]: `vector` at these landmarks, fading out over 15 px."""
        height, width = self.image.shape
        y, x = np.mgrid[:height, :width].astype(np.float32)
        weight = np.zeros((height, width), np.float32)
        for u, v in self.landmarks[list(numbers)]:
            weight = np.maximum(weight, np.exp(-((x - u) ** 2 + (y - v) ** 2) / 450))
        return weight[..., None] * np.array(vector, np.float32)


@pytest.fixture(scope="module")
def scene() -> Scene:
    face = VideoTask("casme2", Path(), 0, 0, 2.0, 0).face()
    return Scene(cv2.cvtColor(face.still, cv2.COLOR_BGR2GRAY), face.landmarks)


def run(
    scene: Scene,
    frames: list[np.ndarray],
    crops: str = "regions",
    margin: int = 18,
    align: bool = True,
    residual: bool = True,
) -> tuple[np.ndarray, swmro.Track]:
    """f32[len(frames), 10, 2] from the still image to each frame in turn, and the last track."""
    plan = swmro.make_plan(scene.landmarks, crops, margin)
    first, track, found = swmro.crop(scene.image, plan.face), swmro.start(plan), []
    for frame in frames:
        crop = partial(swmro.crop, frame, plan.face)
        vectors, track = swmro.follow(
            plan, first, crop, track, mean, align=align, residual=residual
        )
        found.append(vectors)
    return np.array(found), track


def test_face_box_by_hand() -> None:
    landmarks = np.zeros((68, 2), np.float32)
    landmarks[39], landmarks[42] = (100, 81), (141, 84)  # d = 20, centre (120, 82)
    assert swmro.face_box(landmarks) == (30, 12, 210, 192)
    landmarks[42] = (101, 81)
    with pytest.raises(UserError, match="inner eye corners .* less than 2 px apart"):
        swmro.face_box(landmarks)


def test_boxes_by_hand(scene: Scene) -> None:
    """Each target's box lies around its landmark, whatever region holds it."""
    face = swmro.face_box(scene.landmarks)
    scale = (face.right - face.left) / 320
    points = np.rint((scene.landmarks - face[:2] + 0.5) / scale - 0.5).astype(int)
    for crops in ("regions", "face"):
        plan = swmro.make_plan(scene.landmarks, crops, 18)
        assert plan.scale == scale and plan.pyramid == (crops == "face")
        assert plan.regions[0].targets[0].number == swmro.NOSE
        targets = [(region.box, target) for region in plan.regions for target in region.targets]
        assert sorted(target.number for _, target in targets) == list(range(11))
        for outer, target in targets:
            rows, columns = target.where
            x, y = outer.left + columns.start, outer.top + rows.start
            size = columns.stop - columns.start, rows.stop - rows.start
            if target.number == swmro.NOSE:
                low, high = points[29:31].min(axis=0), points[29:31].max(axis=0)
                assert (x, y) == (low[0] - 8, low[1] + 2)
                assert size == (high[0] - low[0] + 16, high[1] - low[1] + 1)
                assert target.part == "nose"
            else:
                point = points[swmro.LANDMARKS[target.number]]
                assert (x, y) == (point[0] - 10, point[1] - 10) and size == (20, 20)
                assert target.part == swmro.PARTS[target.number]


def test_landmarks_outside_the_crop_are_refused(scene: Scene) -> None:
    landmarks = scene.landmarks.copy()
    landmarks[57] += (0, 400)
    with pytest.raises(UserError, match="landmarks lie outside the face crop"):
        swmro.make_plan(landmarks, "regions", 18)


def test_cover_unites_what_saves_pixels() -> None:
    near, next_to, far = Box(50, 50, 70, 70), Box(66, 52, 86, 72), Box(200, 5, 220, 25)
    groups = swmro.cover([near, far, next_to], 10)
    assert groups == [((0, 2), Box(40, 40, 96, 82)), ((1,), Box(190, 0, 230, 35))]


def test_crop_repeats_the_border() -> None:
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 255, (60, 80), np.uint8)
    wide = cv2.copyMakeBorder(frame, 50, 50, 50, 50, cv2.BORDER_REPLICATE)
    for box in (Box(10, 5, 50, 45), Box(-20, -10, 60, 70), Box(100, 100, 120, 120)):
        part = wide[box.top + 50 : box.bottom + 50, box.left + 50 : box.right + 50]
        if part.shape != (box.bottom - box.top, box.right - box.left):
            part = np.full((20, 20), frame[-1, -1])  # wholly outside
        expected = cv2.resize(part, (320, 320), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_array_equal(swmro.crop(frame, box), expected)
    moved = swmro.crop(frame, Box(10, 5, 50, 45), (7, -3))
    np.testing.assert_array_equal(moved, swmro.crop(frame, Box(17, 2, 57, 42)))


def test_still_face_has_no_flow(scene: Scene) -> None:
    for crops in ("regions", "face"):
        assert np.abs(run(scene, [scene.image] * 2, crops)[0]).max() < 1e-5


@pytest.mark.parametrize("crops", ["regions", "face"])
def test_motion_of_the_whole_head_is_taken_out(scene: Scene, crops: str) -> None:
    motion = np.array([(2.3, -1.4), (5.2, -3.1), (9.4, -6.7), (14.2, -9.2)])  # px of the frame
    frames = [scene.moved(step) for step in motion]
    found, track = run(scene, frames, crops)
    assert np.abs(found).max() < 0.1
    assert track.shift == (14, -9)
    scale = swmro.make_plan(scene.landmarks, crops, 18).scale
    raw, track = run(scene, frames[:2], crops, align=False, residual=False)
    np.testing.assert_allclose(raw / (motion[:2, None] / scale), 1, atol=0.08)
    assert track.shift == (0, 0)
    shifted, _ = run(scene, frames[:2], crops, residual=False)  # what whole px leave over
    left = (motion[:2] - np.rint(motion[:2])) / scale
    np.testing.assert_allclose(shifted, np.broadcast_to(left[:, None], (2, 10, 2)), atol=0.1)


@pytest.mark.parametrize("crops", ["regions", "face"])
def test_mouth_moves_the_mouth_only(scene: Scene, crops: str) -> None:
    frame = scene.moved(scene.bump((48, 51, 54, 57), (0, 3)))
    (found,), _ = run(scene, [frame], crops, align=False, residual=False)
    assert found[6:, 1].min() > 1.5 and np.abs(found[6:, 0]).max() < 0.4
    assert np.abs(found[:6]).max() < 0.01


def test_regions_equal_the_whole_face(scene: Scene) -> None:
    """Within 1e-3 px if the margin is large enough."""
    head = np.array((1.3, 0.6))
    smile = scene.bump((48,), (-2, -2)) + scene.bump((54,), (2, -2)) + scene.bump((19, 24), (0, -3))
    rng = np.random.default_rng(0)
    frames = []
    for part in (0.4, 0.8, 1.0):
        noise = rng.normal(0, 1.2, scene.image.shape)
        image = scene.moved(part * (head + smile)) + noise
        frames.append(image.clip(0, 255).astype(np.uint8))
    reference, _ = run(scene, frames, "face")
    assert np.abs(reference).max() > 1.8
    gaps = [np.abs(run(scene, frames, margin=m)[0] - reference).max() for m in (8, 18, 24)]
    assert gaps[0] > 1e-3 and max(gaps[1:]) < 2e-4


def test_large_motion_takes_the_flow_of_the_whole_face(scene: Scene) -> None:
    """On one scale, a sudden 10 px are lost."""
    smile = scene.moved(scene.bump((48,), (-11, -4)))
    (reference,), _ = run(scene, [smile], "face")
    (found,), _ = run(scene, [smile])
    assert reference[6, 0] < -7
    np.testing.assert_allclose(found, reference, atol=1e-3)
    plan = swmro.make_plan(scene.landmarks, "regions", 18)
    first, second = (swmro.crop(image, plan.face) for image in (scene.image, smile))
    for region, near in zip(plan.regions, swmro.start(plan).flows, strict=True):
        if 6 in (target.number for target in region.targets):
            cut = region.box.cut
            alone = swmro.one_scale(first[cut], second[cut], near)
            whole = swmro.coarse_to_fine(first, second)[cut]
            assert np.abs(alone - whole).max() > 2
            np.testing.assert_array_equal(
                swmro.Pair(first, second, False).flow(region.box, near), whole
            )


def test_the_whole_face_is_computed_once_a_pair(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    whole = swmro.coarse_to_fine
    monkeypatch.setattr(
        swmro, "coarse_to_fine", lambda *images: calls.append(images) or whole(*images)
    )
    run(scene, [scene.image])
    assert not calls
    run(scene, [scene.moved(scene.bump((48, 54), (0, -9)))])
    assert len(calls) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, 2e4])
def test_a_flow_that_is_not_finite_is_refused(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = np.zeros((8, 8, 2), np.float32)
    broken[3, 4, 1] = value
    monkeypatch.setattr(cv2, "calcOpticalFlowFarneback", lambda *arguments: broken)
    grey = np.zeros((8, 8), np.uint8)
    with pytest.raises(UserError, match="the flow is not finite"):
        swmro.coarse_to_fine(grey, grey)
