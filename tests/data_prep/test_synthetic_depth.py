"""The depth of the synthetic face: a plausible surface that moves with the colour image."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from data_prep.synthetic_depth import FOCAL_PX, RELIEF, DepthCamera
from data_prep.synthetic_fields import ACTIONS, spline_nodes
from data_prep.synthetic_layouts import DEPTH, NOISE, VideoTask
from data_prep.synthetic_render import Renderer


def cameras(subject: int = 0, seconds: float = 12.0) -> tuple[Renderer, DepthCamera]:
    task = VideoTask("casme3", Path("unused"), subject, 0, seconds, 0)
    face, motion = task.face(), task.motion()
    colour = Renderer(face, motion, task.generator(NOISE))
    return colour, DepthCamera(face, motion, task.generator(DEPTH))


def at(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(n,) bilinear values at points (n, 2) px."""
    return map_coordinates(image.astype(np.float64), points[:, ::-1].T, order=1)


@pytest.mark.parametrize("subject", range(4))
def test_the_face_is_a_plausible_surface(subject: int) -> None:
    _, depth = cameras(subject, seconds=2.0)
    points = depth.face.landmarks.astype(np.float64)
    nose, ears = at(depth.rest, points[[30]])[0], at(depth.rest, points[[1, 15]]).mean()
    eyes, chin = at(depth.rest, points[[36, 45]]).mean(), at(depth.rest, points[[8]])[0]
    assert 400 < nose < ears < 700 and 95 < ears - nose < 145
    assert nose < chin < ears and nose + 20 < eyes < ears
    breadth = np.ptp(points[:17, 0]) * ears / FOCAL_PX
    assert 135 < breadth < 165  # mm, a human head
    wall = depth.rest[:60, [0, -1]]
    assert wall.min() > ears + 300
    inner = depth.rest[
        int(points[20, 1]) : int(points[57, 1]), int(points[36, 0]) : int(points[45, 0])
    ]
    steepest = max(np.abs(np.diff(inner, axis=axis)).max() for axis in (0, 1))
    assert steepest < 4.0  # mm per px: smooth


def test_there_is_one_relief_value_per_spline_node() -> None:
    _, used = spline_nodes(cameras(seconds=2.0)[1].face.landmarks)
    assert RELIEF.shape == (len(used),)


def test_every_point_keeps_its_depth_but_for_the_analytic_change() -> None:
    """Depth in frame t = surface at the source position + what head and actions add there."""
    colour, depth = cameras()
    face, motion = depth.face, depth.motion
    x0, y0, x1, y1 = face.head_box
    region = face.region
    rng = np.random.default_rng(0)
    low, high = face.landmarks.min(axis=0), face.landmarks.max(axis=0)
    pixels = rng.uniform(low + 5, high - 5, (400, 2)).round().astype(int)
    frames = [event.apex - 1 for event in motion.expressions]
    frames += [int(np.abs(motion.head[:, 3]).argmax()), int(motion.actions.sum(axis=1).argmax())]
    for index in frames:
        source = colour.source_map(index)
        seen = depth.surface(index, source)
        points = source[pixels[:, 1] - y0, pixels[:, 0] - x0].astype(np.float64)
        expected = at(depth.rest, points)
        expected -= motion.head[index, 3] * at(depth.per_growth, points - (x0, y0))
        for action in range(len(ACTIONS)):
            field = at(depth.actions[action], points - (region.x0, region.y0))
            expected -= motion.actions[index, action] * field
        # cv2.remap rounds positions to 1/32 px, the surface's slope is a few mm per px
        np.testing.assert_allclose(seen[pixels[:, 1], pixels[:, 0]], expected, atol=0.25)


def test_a_head_that_grows_comes_nearer_in_proportion() -> None:
    colour, depth = cameras(seconds=2.0)
    motion = depth.motion
    motion.head[:] = (0.0, 0.0, 0.0, 0.01)
    motion.actions[:] = 0.0
    motion.lids[:] = 0
    seen = depth.surface(5, colour.source_map(5))
    nose = tuple(depth.face.landmarks[30].round().astype(int)[::-1])
    assert seen[nose] == pytest.approx(0.99 * depth.rest[nose], abs=0.3)
    assert seen[0, 0] == depth.rest[0, 0]  # the wall stays


def test_actions_move_the_parts_they_should() -> None:
    _, depth = cameras(seconds=2.0)
    region, landmarks = depth.face.region, depth.face.landmarks
    cheek = 0.5 * landmarks[48] + 0.5 * landmarks[36]

    def change(action: str, point: np.ndarray) -> float:
        place = np.asarray(point, np.float64)[None] - (region.x0, region.y0)
        return float(at(depth.actions[ACTIONS.index(action)], place)[0])

    assert change("au12_R", cheek) > 0.5 > 0.1 > abs(change("au12_L", cheek))
    assert change("au12_R", landmarks[48]) < -0.3
    assert change("au25", landmarks[8]) < -0.3 and change("pucker", landmarks[57]) > 0.5
    assert np.abs(depth.actions).max() < 1.5
    assert abs(depth.actions[:, [0, -1]]).max() == abs(depth.actions[:, :, [0, -1]]).max() == 0


def test_a_sensor_measures_whole_millimetres_with_noise_and_holes() -> None:
    colour, depth = cameras(seconds=2.0)
    x0, y0, x1, y1 = depth.face.head_box
    deviations, holes = [], []
    for index in (0, 20, 40):
        source = colour.source_map(index)
        image, surface = depth.draw(index, source), depth.surface(index, source)
        assert image.dtype == np.uint16
        measured = image > 0
        assert np.abs(image - surface)[measured].max() < 7  # 5 sigma of 1 mm, and rounding
        deviations.append(np.std((image - surface)[measured]))
        holes.append(~measured)
        middle = measured[y0 + 150 : y0 + 300, x0 + 180 : x1 - 180]
        assert 0.99 < middle.mean() < 1.0  # specks only
    assert all(0.5 < deviation < 1.1 for deviation in deviations)
    assert 0.01 < np.mean(holes) < 0.1
    assert not np.array_equal(holes[0], holes[1])
    body = depth.face.person > 0.5
    outline = body[:, 1:] != body[:, :-1]
    assert holes[0][:, 1:][outline].mean() > 0.8  # the rest moved along with the head
