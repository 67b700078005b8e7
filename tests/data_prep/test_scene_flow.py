"""Scene flow of textured surfaces with known motions, rendered here."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import scene_flow as module
from data_prep import scene_flow_fill, scene_flow_solver
from data_prep.scene_flow import Rgbd, Settings, as_released, scene_flow, w_from_2d, warm_up
from spotjax.errors import UserError

SIDE, FOCAL, MIDDLE = 128, 500.0, 64.0  # px
Field = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(x, y) in px -> an array of their shape, or with the axis (u, v, w) in front."""


class Scene(NamedTuple):
    """A pair of frames and its flow."""

    first: Rgbd
    second: Rgbd
    truth: np.ndarray
    """f32[H, W, 3]"""
    counted: np.ndarray
    """bool[H, W]: 8 px from the border, before and after."""

    def errors(self, flow: np.ndarray) -> tuple[float, float]:
        """Mean |(u, v) error| in px and mean |w error| in mm."""
        off = (flow - self.truth)[self.counted]
        return float(np.hypot(off[:, 0], off[:, 1]).mean()), float(np.abs(off[:, 2]).mean())


def texture(seed: int) -> Field:
    """f64[..., 3]: 60 waves of 4 to 30 px, in blue, green and red slightly out of phase."""
    rng = np.random.default_rng(seed)
    length = np.exp(rng.uniform(np.log(4), np.log(30), 60))
    turn, phase = rng.uniform(0, 2 * np.pi, (2, 60))
    shift = rng.normal(0, 0.3, (60, 3))
    strength = 40 * np.sqrt(2 * length / length.sum())

    def colour(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        image = np.full((*x.shape, 3), 128.0)
        for i in range(60):
            along = 2 * np.pi / length[i] * (np.cos(turn[i]) * x + np.sin(turn[i]) * y) + phase[i]
            image += strength[i] * np.cos(along[..., None] + shift[i])
        return image

    return colour


def hill(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Mm: 60 mm high, as broad as a face, in front of a tilted plane."""
    return 600 - 60 * np.exp(-((x - MIDDLE) ** 2 + (y - MIDDLE) ** 2) / 1800) + 0.15 * x


def plane(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Mm: tilted by 25 and 15 degrees."""
    return 600 + 0.5 * (x - MIDDLE) - 0.3 * (y - MIDDLE)


def shifted(u: float, v: float) -> Field:
    return lambda x, y: np.stack([np.full_like(x, u), np.full_like(x, v), np.zeros_like(x)])


def moved(surface: Field, degrees: float, approach: float) -> Field:
    """Turned about an upright axis at 600 mm, then moved towards the camera by mm."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))

    def flow(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        z = surface(x, y)
        right, down = (x - MIDDLE) * z / FOCAL, (y - MIDDLE) * z / FOCAL
        turned, far = cos * right + sin * (z - 600), -sin * right + cos * (z - 600) + 600
        far = far - approach
        u, v = FOCAL * turned / far + MIDDLE - x, FOCAL * down / far + MIDDLE - y
        return np.stack([u, v, far - z])

    return flow


def render(
    flow: Field, surface: Field, noise: float, holes: bool, shape: tuple[int, int] = (SIDE, SIDE)
) -> Scene:
    """`noise` mm of depth; the colour's is 2 of 255.  Depth in whole mm."""
    rng, colour = np.random.default_rng(7), texture(3)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    from_x, from_y = x, y
    for _ in range(60):  # the point that the second frame shows at (x, y)
        u, v, _ = flow(from_x, from_y)
        from_x, from_y = x - u, y - v
    images = colour(x, y), colour(from_x, from_y)
    depths = surface(x, y), surface(from_x, from_y) + flow(from_x, from_y)[2]
    frames = []
    for image, depth in zip(images, depths, strict=True):
        depth = np.rint(depth + rng.normal(0, noise, shape) if noise else depth)
        if holes:
            depth[rng.random(shape) < 0.003] = 0
            depth[40:60, 5:14] = 0
            depth[:, -6:] = 0
            depth[np.hypot(x - 70, y - 90) < 6] = 0
        image = np.clip(np.rint(image + rng.normal(0, 2, image.shape)), 0, 255)
        frames.append(Rgbd(image.astype(np.uint8), depth.astype(np.uint16)))
    truth = flow(x, y).transpose(1, 2, 0).astype(np.float32)
    ends = [x, y, x + truth[..., 0], y + truth[..., 1]]
    limits = [shape[1], shape[0]] * 2
    inside = [(end > 8) & (end < limit - 9) for end, limit in zip(ends, limits, strict=True)]
    return Scene(frames[0], frames[1], truth, np.all(inside, axis=0))


MOTIONS = {
    "below a pixel": (shifted(0.4, -0.3), hill),
    "several pixels": (shifted(6.3, -4.2), hill),
    "tilted plane, 2 degrees": (moved(plane, 2, 0), plane),
    "approach by 2 mm": (moved(hill, 0, 2), hill),
    "approach by 10 mm": (moved(hill, 0, 10), hill),
    "turn and leave": (moved(hill, -2, -5), hill),
}


@pytest.mark.parametrize("noise", [0.0, 1.0])
@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("motion", MOTIONS)
def test_known_motions(motion: str, noise: float, holes: bool) -> None:
    scene = render(*MOTIONS[motion], noise, holes)
    flow = scene_flow(scene.first, scene.second, Settings(FOCAL))
    assert flow.shape == (SIDE, SIDE, 3) and flow.dtype == np.float32
    px, mm = scene.errors(flow)
    assert px < 0.05 and mm < 0.15


@pytest.mark.parametrize("motion", MOTIONS)
def test_the_coupling_pays_where_depth_is_noisy(motion: str) -> None:
    scene = render(*MOTIONS[motion], 1.0, True)
    flow = scene_flow(scene.first, scene.second, Settings(FOCAL))
    coupled = scene.errors(flow)[1]
    flow[..., 2] = w_from_2d(flow[..., :2], scene.first.depth, scene.second.depth)
    single = scene.errors(flow)[1]
    assert 0.7 < single < 1.3  # of two images with 1 mm of noise each
    assert coupled < 0.2 * single


def test_grey_images_and_averaged_depth_will_do() -> None:
    scene = render(*MOTIONS["approach by 2 mm"], 1.0, True)
    grey = [
        Rgbd(frame.colour[..., 1].copy(), frame.depth.astype(np.float32))
        for frame in (scene.first, scene.second)
    ]
    px, mm = scene.errors(scene_flow(grey[0], grey[1], Settings(FOCAL)))
    assert px < 0.06 and mm < 0.15


def test_effort_as_released() -> None:
    """A shift is found; an approach as a whole ends the sweeps before it is followed."""
    scene = render(*MOTIONS["below a pixel"], 1.0, True)
    px, mm = scene.errors(scene_flow(scene.first, scene.second, as_released(FOCAL)))
    assert px < 0.05 and mm < 0.05
    scene = render(*MOTIONS["approach by 10 mm"], 1.0, True)
    mm = scene.errors(scene_flow(scene.first, scene.second, as_released(FOCAL)))[1]
    assert mm > 5


def test_equal_frames_do_not_move() -> None:
    scene = render(*MOTIONS["below a pixel"], 1.0, True)
    for options in (Settings(FOCAL), as_released(FOCAL)):
        flow = scene_flow(scene.first, scene.first, options)
        np.testing.assert_allclose(flow, 0, atol=1e-4)  # rounding


def test_rows_and_columns_are_alike() -> None:
    scene = render(*MOTIONS["turn and leave"], 0.0, False, (60, 97))
    settings = Settings(FOCAL, relaxation=1.8, rounds=5)
    flow = scene_flow(scene.first, scene.second, settings)
    turned = [
        Rgbd(frame.colour.transpose(1, 0, 2), frame.depth.T)
        for frame in (scene.first, scene.second)
    ]
    other = scene_flow(turned[0], turned[1], settings).transpose(1, 0, 2)[..., [1, 0, 2]]
    assert np.abs(flow).max() > 1
    difference = np.abs(flow - other)
    assert difference.mean() < 1e-4 and difference.max() < 1e-2


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((60, 60), [(60, 60), (45, 45), (33, 33), (25, 25), (18, 18)]),
        ((120, 40), [(120, 40), (90, 30), (67, 22), (50, 16)]),
        ((12, 99), [(12, 99)]),
    ],
)
def test_levels_by_hand(shape: tuple[int, int], sizes: list[tuple[int, int]]) -> None:
    scene = render(*MOTIONS["below a pixel"], 0.0, False, shape)
    levels = module._levels(scene.first, scene.second, Settings(FOCAL))
    assert [level.trust.shape for level in levels] == sizes
    for level, (height, width) in zip(levels, sizes, strict=True):
        assert level.first.shape == level.second.shape == (6, height, width)
        assert level.smoothness.shape == (2, height, width)
        assert level.focal == FOCAL * width / shape[1]
        # a surface at 600 mm, whatever the size
        assert abs(np.median(level.first[-1]) / FOCAL - np.median(scene.first.depth) / 1e3) < 4e-3
    assert len(module._levels(scene.first, scene.second, as_released(FOCAL))) == 1


def test_small_and_narrow_images() -> None:
    for shape in ((60, 60), (48, 100)):
        scene = render(*MOTIONS["below a pixel"], 1.0, False, shape)
        px, mm = scene.errors(scene_flow(scene.first, scene.second, Settings(FOCAL)))
        assert px < 0.06 and mm < 0.1


def faces_before_a_wall(u: float, v: float, w: float) -> tuple[Scene, np.ndarray]:
    """An oval at 550 mm that moves before a wall at 1400 mm, and where it is in the first frame."""
    rng, skin, paper = np.random.default_rng(5), texture(1), texture(2)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float64)

    def oval(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.hypot((x - 60) / 38, (y - 64) / 48) < 1

    frames = []
    for a, b, c in ((0.0, 0.0, 0.0), (u, v, w)):
        inside = oval(x - a, y - b)
        image = np.where(inside[..., None], skin(x - a, y - b), 0.6 * paper(x, y))
        depth = np.where(inside, hill(x - a, y - b) + c, 1400) + rng.normal(0, 1, inside.shape)
        image = np.clip(image + rng.normal(0, 2, image.shape), 0, 255)
        frames.append(Rgbd(image.astype(np.uint8), np.rint(depth).astype(np.uint16)))
    truth = np.where(oval(x, y)[..., None], (u, v, w), 0).astype(np.float32)
    return Scene(frames[0], frames[1], truth, oval(x, y)), oval(x, y)


def test_the_wall_does_not_move_with_the_face(monkeypatch: pytest.MonkeyPatch) -> None:
    scene, face = faces_before_a_wall(1.5, -1, 4)
    flow = scene_flow(scene.first, scene.second, Settings(FOCAL))
    assert np.abs(flow[face, 2] - 4).mean() < 0.1
    assert np.abs(flow[~face, 2]).mean() < 0.1
    monkeypatch.setattr(
        module, "smoothness_weights", lambda depth, focal: np.ones((2, *depth.shape), np.float32)
    )
    flow = scene_flow(scene.first, scene.second, Settings(FOCAL))
    assert np.abs(flow[~face, 2]).mean() > 0.5  # without boundaries it does


@given(
    st.tuples(st.integers(8, 26), st.integers(8, 26)),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.3, 0.98]),
    st.booleans(),
)
@settings(deadline=None, max_examples=25)
def test_always_finite(shape: tuple[int, int], seed: int, missing: float, flat: bool) -> None:
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(2):
        colour = np.zeros((*shape, 3)) if flat else rng.integers(0, 256, (*shape, 3))
        depth = rng.integers(1, 65536, shape)
        depth[rng.random(shape) < missing] = 0
        depth[rng.integers(shape[0]), rng.integers(shape[1])] = 700
        frames.append(Rgbd(colour.astype(np.uint8), depth.astype(np.uint16)))
    flow = scene_flow(frames[0], frames[1], Settings(100.0))
    assert flow.shape == (*shape, 3) and np.isfinite(flow).all()


def test_empty_depth_is_refused() -> None:
    scene = render(*MOTIONS["below a pixel"], 0.0, False, (20, 20))
    empty = scene.first._replace(depth=np.zeros((20, 20), np.uint16))
    with pytest.raises(UserError, match="the first depth image is empty"):
        scene_flow(empty, scene.second, Settings(FOCAL))
    with pytest.raises(UserError, match="the second depth image is empty"):
        scene_flow(scene.first, empty, Settings(FOCAL))
    with pytest.raises(UserError, match="nothing in it was measured"):
        w_from_2d(np.zeros((20, 20, 2), np.float32), scene.first.depth, empty.depth)


def test_wrong_arguments_are_refused() -> None:
    frame = render(*MOTIONS["below a pixel"], 0.0, False, (20, 24)).first
    colour, depth = frame
    nan = depth.astype(np.float32)
    nan[3, 3] = np.nan
    for first, second, message in (
        (Rgbd(colour, depth[:-1]), frame, "the first image must be"),
        (frame, Rgbd(colour[:, :-1], depth), "the second image must be"),
        (frame, Rgbd(colour[:-1], depth[:-1]), "the second depth must be"),
        (frame, Rgbd(colour, depth.astype(np.int32)), "the second depth must be"),
        (Rgbd(colour.astype(np.float32), depth), frame, "the first image must be"),
        (Rgbd(colour[..., :2], depth), frame, "the first image must be"),
        (Rgbd(colour[..., 0], depth), frame, "one image is grey"),
        (frame, Rgbd(colour, nan), "not finite"),
        (Rgbd(colour[:7], depth[:7]), Rgbd(colour[:7], depth[:7]), "too small"),
    ):
        with pytest.raises(ValueError, match=message):
            scene_flow(first, second, Settings(FOCAL))
    for changes in ({"focal": 0.0}, {"relaxation": 2.0}, {"ratio": 1.0}, {"smallest": 4}):
        with pytest.raises(ValueError, match="focal must be positive"):
            scene_flow(frame, frame, Settings(FOCAL)._replace(**changes))
    for shape in ((20, 24), (20, 24, 3), (24, 20, 2)):
        with pytest.raises(ValueError, match="a flow"):
            w_from_2d(np.zeros(shape, np.float32), depth, depth)


def test_sampled_w_by_hand() -> None:
    first = np.full((3, 4), 500, np.uint16)
    second = 500 + 10 * np.mgrid[:3, :4][1].astype(np.uint16)
    flow = np.zeros((3, 4, 2), np.float32)
    flow[..., 0] = 0.5
    np.testing.assert_allclose(w_from_2d(flow, first, second), [[5, 15, 25, 30]] * 3)
    flow[..., 1] = 1.7  # the depth is the same in all rows
    np.testing.assert_allclose(w_from_2d(flow, first, second), [[5, 15, 25, 30]] * 3)
    second[0, 0] = 0  # filled with 510, the median of 500, 510, 510
    w = w_from_2d(np.zeros_like(flow), first, second)
    np.testing.assert_allclose(w, [[10, 10, 20, 30], [0, 10, 20, 30], [0, 10, 20, 30]])
    smooth = w_from_2d(np.zeros_like(flow), first, second, sigma=1.0)
    assert smooth.std() < w.std()


def test_warm_up_compiles_all_there_is() -> None:
    warm_up()
    functions = scene_flow_solver.refine, scene_flow_fill.fill
    assert [len(function.signatures) for function in functions] == [1, 1]
    scene = render(*MOTIONS["below a pixel"], 1.0, True, (40, 50))
    cut = [Rgbd(f.colour[3:, ::-1], f.depth[3:, ::-1]) for f in (scene.first, scene.second)]
    scene_flow(cut[0], cut[1], as_released(FOCAL))
    scene_flow(scene.first, scene.second, Settings(500))
    assert [len(function.signatures) for function in functions] == [1, 1]
