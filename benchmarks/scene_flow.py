"""Scene flow of a face: ms per pair, ours and in plain NumPy, and the error on a known motion.

    python -m benchmarks.scene_flow [--people 4] [--gap 8] [--rounds 5] [--size 128]

Rendered faces with depth (`data_prep.synthetic`, CAS(ME)^3's layout): the face crop of the frame
with the strongest expression and of the one `gap` frames before, with the sensors' noise and holes;
no licensed recording is needed.  Each round computes every pair with every variant, in turn, on one
core.

  default    `scene_flow` with its defaults
  released   `scene_flow` with `as_released`, the effort of the authors' demo
  numpy      the default's energy, order and effort in plain NumPy: the same result
  dis, tvl1  2-D flow of OpenCV, w sampled from the depth along it, without and with smoothing

Errors: mean and 95 % quantile of |(u, v) error| in px of the crop, mean and 95 % quantile of |w
error| in mm, over the person's pixels that stay visible, 6 px from the border and the outline.
"""

import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from spotjax.data_prep.scene_flow import (
    Rgbd,
    Settings,
    as_released,
    coarse_to_fine,
    scene_flow,
    w_from_2d,
)
from spotjax.data_prep.synthetic_depth import FOCAL_PX, DepthCamera
from spotjax.data_prep.synthetic_layouts import DEPTH, NOISE, VideoTask
from spotjax.data_prep.synthetic_render import Renderer

from benchmarks import common
from benchmarks.scene_flow_numpy import refine

PAIRS = 1_900_000  # of CAS(ME)^3's part A at 15 per second, for the estimate of hours
SMOOTH = 2.0  # px, standard deviation


class Pair(NamedTuple):
    """Two crops and what happened between them."""

    first: Rgbd
    second: Rgbd
    focal: float
    truth: np.ndarray
    """f32[H, W, 3]: u, v in px, w in mm."""
    counted: np.ndarray
    """bool[H, W]"""


class Scene:
    """A rendered video with depth."""

    def __init__(self, person: int) -> None:
        """`person` is the number of the subject."""
        task = VideoTask("casme3", Path(), person, 0, 20.0, 0)
        self.face, self.motion = task.face(), task.motion()
        self.colours = Renderer(self.face, self.motion, task.generator(NOISE))
        self.depths = DepthCamera(self.face, self.motion, task.generator(DEPTH))
        self.apex = max(self.motion.expressions, key=lambda e: e.profile.max()).apex - 1

    def source(self, index: int) -> np.ndarray:
        """f32[H, W, 2]: where in the still frame each pixel of frame `index` is read."""
        height, width = self.face.still.shape[:2]
        source = np.dstack(np.meshgrid(np.arange(width), np.arange(height))).astype(np.float32)
        x0, y0, x1, y1 = self.face.head_box
        source[y0:y1, x0:x1] = self.colours.source_map(index)
        return source

    def pair(self, gap: int, size: int) -> Pair:
        """The face crop, `size` px wide, of the apex and of `gap` frames before."""
        before, apex = max(self.apex - gap, 0), self.apex
        x0, y0, x1, y1 = self.face.head_box
        inner = (slice(y0, y1), slice(x0, x1))
        one, two = self.source(before), self.source(apex)
        start = np.dstack(np.meshgrid(np.arange(one.shape[1]), np.arange(one.shape[0])))
        end = start.astype(np.float32)
        for _ in range(30):  # where frame `apex` shows the point that is at `start` in `before`
            end -= sampled(two, end) - one
        lost = np.abs(sampled(two, end) - one).max(axis=-1)
        far = [self.depths.surface(i, s[inner]) for i, s in ((before, one), (apex, two))]
        truth = np.dstack([end - start, sampled(far[1], end) - far[0]]).astype(np.float32)

        low, high = self.face.landmarks.min(axis=0), self.face.landmarks.max(axis=0)
        side = int(1.1 * (high - low).max())
        left, top = ((low + high - side) / 2 - (0, 0.05 * side)).clip(0).astype(int)
        cut = (slice(top, top + side), slice(left, left + side))
        scale = size / side

        def crop(image: np.ndarray, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
            part = np.ascontiguousarray(image[cut])
            return cv2.resize(part, (size, size), interpolation=interpolation)

        frames = [
            Rgbd(
                crop(self.colours.draw(index, source[inner])),
                crop(self.depths.draw(index, source[inner]), cv2.INTER_NEAREST),
            )
            for index, source in ((before, one), (apex, two))
        ]
        seen = (crop(self.face.person.astype(np.float32)) > 0.99) & (crop(lost) < 0.05)
        seen[[0, -1]] = seen[:, [0, -1]] = False
        counted = cv2.erode(seen.astype(np.uint8), np.ones((11, 11), np.uint8)) > 0
        truth = crop(truth) * np.array([scale, scale, 1], np.float32)
        return Pair(frames[0], frames[1], FOCAL_PX * scale, truth, counted)


def sampled(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """`image` f32[H, W, ...] at `places` f32[H, W, 2] (x, y), bilinear."""
    return cv2.remap(image, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def with_2d(method: Callable[..., np.ndarray], sigma: float, pair: Pair) -> np.ndarray:
    """Flow of `method` on the grey images, and w along it."""
    grey = [cv2.cvtColor(f.colour, cv2.COLOR_BGR2GRAY) for f in (pair.first, pair.second)]
    flow = method(*grey, None)
    return np.dstack([flow, w_from_2d(flow, pair.first.depth, pair.second.depth, sigma)])


def errors(found: list[np.ndarray], pairs: list[Pair]) -> tuple[float, float, float, float]:
    """Mean and 95 % quantile of |(u, v) error|, then of |w error|."""
    off = np.concatenate(
        [(f - p.truth)[p.counted] for f, p in zip(found, pairs, strict=True)]
    ).astype(np.float64)
    across, depth = np.hypot(off[:, 0], off[:, 1]), np.abs(off[:, 2])
    return (across.mean(), np.quantile(across, 0.95), depth.mean(), np.quantile(depth, 0.95))


def main() -> None:
    """Command line."""
    parser = common.parser(__doc__, rounds=5)
    parser.add_argument("--people", type=int, default=4, help="rendered people, one pair each")
    parser.add_argument("--gap", type=int, default=8, help="frames between the two images")
    parser.add_argument("--size", type=int, default=128, help="px")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc
    tvl1 = cv2.optflow.DualTVL1OpticalFlow.create().calc
    variants: dict[str, Callable[[Pair], np.ndarray]] = {
        "default": lambda p: scene_flow(p.first, p.second, Settings(p.focal)),
        "released": lambda p: scene_flow(p.first, p.second, as_released(p.focal)),
        "numpy": lambda p: coarse_to_fine(p.first, p.second, Settings(p.focal), refine),
        "dis": partial(with_2d, dis, 0.0),
        f"dis, sigma {SMOOTH:.0f}": partial(with_2d, dis, SMOOTH),
        f"tvl1, sigma {SMOOTH:.0f}": partial(with_2d, tvl1, SMOOTH),
    }
    pairs = [Scene(person).pair(options.gap, options.size) for person in range(options.people)]
    found: dict[str, list[np.ndarray]] = {}

    def all_pairs(name: str) -> None:
        found[name] = [variants[name](pair) for pair in pairs]

    runs = {name: partial(all_pairs, name) for name in variants}
    times = common.measure(runs, options.rounds, len(pairs))
    heads = ("u,v px", "95 %", "w mm", "w 95 %")
    off = {name: errors(found[name], pairs) for name in variants}
    columns = {
        head: {name: f"{values[place]:.3f}" for name, values in off.items()}
        for place, head in enumerate(heads)
    }
    motion = np.concatenate([np.abs(pair.truth[pair.counted]) for pair in pairs])
    u, v, w = motion.mean(axis=0)
    gaps = np.abs(np.array(found["default"]) - np.array(found["numpy"]))
    hours = statistics.median(times.cpu["default"]) * PAIRS / 3600
    notes = [
        f"{options.size}x{options.size} px, {len(pairs)} people, {options.gap} frames apart, mean "
        f"motion {u:.2f}, {v:.2f} px, {w:.2f} mm",
        f"|default - numpy|: at most {gaps.max():.5f}, mean {gaps.mean():.7f} (px or mm)",
        f"{PAIRS:,} pairs by default: {hours:.1f} core-hours",
    ]
    common.show("scene_flow", times, "ms a pair", "default", options.json, columns, notes)


if __name__ == "__main__":
    main()
