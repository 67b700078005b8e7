"""SpotFormer's sliding-window optical flow of ten face regions (SW-MRO), pair by pair.

A pair is the first frame of a clip and a later one.  The later frame's face box follows the nose,
Farneback's flow is computed between the two 320x320 crops, and the flow around each of ten
landmarks becomes one vector, less the nose's.  The release has no feature extraction; what the
paper leaves open follows the code of Zhao et al. 2022, which the paper cites for its regions:

- box of nine half inner-eye distances, 20x20 px around each landmark, Farneback's parameters, the
  nose's region, subtraction of the nose's remaining flow;
- the box keeps its shift from frame to frame of a clip and is corrected once per frame (the paper:
  moved by the nose's flow from the first frame, which is the same sum).

Deviations, each with its reason:

- one box and 68 landmarks per video (`faces.find_face`); the paper detects them per clip;
- the shift, measured in px of the crop, is converted to px of the frame, where Zhao et al. take it
  as it is;
- a box beyond the image is filled with copies of the border; the release of Zhao et al. cuts it,
  which changes the scale;
- flow is computed in small regions around the landmarks (`crops` regions), not on the whole face
  (`face`).  Such a region is too small for Farneback's pyramid (OpenCV stops at 32 px), and one
  scale sees motion up to about 6 px only.  So it starts from the flow of the clip's previous
  frame, which saves one of five iterations, and where it finds more than 3 px anywhere, the
  pair's flow is taken from the whole face.  `benchmarks/swmro.py` measures time and difference.
"""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from spotjax.errors import UserError

from .swmro_reduce import Reduction

SIDE = 320  # px, side of the square face crop
LANDMARKS = (20, 19, 18, 23, 24, 25, 48, 54, 51, 57)
"""The ten nodes: brows from inner to outer, mouth corners, upper and lower lip."""
PARTS = ("left_brow",) * 3 + ("right_brow",) * 3 + ("mouth",) * 4
NODES = len(LANDMARKS)
NOSE = NODES  # number of the nose after the nodes
_RADIUS = 10  # px, half the side of a node's box
_FAR = 3.0  # px: a region with more motion anywhere takes its flow from the whole face
_LARGEST = 1e4  # px: no flow of a 320 px crop; float16, in which it is stored, ends at 65504


class Box(NamedTuple):
    """A rectangle in px; right and bottom exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def cut(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def area(self) -> int:
        """Its pixels."""
        return (self.right - self.left) * (self.bottom - self.top)


class Target(NamedTuple):
    """A node, or the nose, within a region."""

    number: int
    """0..9 in the order of `LANDMARKS`, or `NOSE`."""
    part: str
    """left_brow, right_brow, mouth or nose."""
    where: tuple[slice, slice]
    """Rows and columns of the region's flow."""


class Region(NamedTuple):
    """A part of the crop in which flow is computed at once."""

    box: Box
    targets: tuple[Target, ...]


class Plan(NamedTuple):
    """Where everything is; fixed for a video, as its landmarks are."""

    face: Box
    """The unmoved face box in px of the frame; it may reach beyond the image."""
    scale: float
    """Px of the frame per px of the crop."""
    regions: tuple[Region, ...]
    """The first one's first target is the nose."""
    pyramid: bool
    """Flow from coarse to fine (the whole face), not from the previous frame's."""


class Track(NamedTuple):
    """What a pair takes over from the previous pair of its clip."""

    shift: tuple[int, int]
    """Of the face box, x and y in px of the frame."""
    flows: tuple[np.ndarray, ...]
    """f32[h, w, 2] of each region, in px of the crop."""


def start(plan: Plan) -> Track:
    """The track at a clip's first frame: nothing has moved."""
    boxes = (region.box for region in plan.regions)
    shapes = ((box.bottom - box.top, box.right - box.left, 2) for box in boxes)
    return Track((0, 0), tuple(np.zeros(shape, np.float32) for shape in shapes))


def face_box(landmarks: np.ndarray) -> Box:
    """The square box of `landmarks` f32[68, 2] (px of the frame).

    With d half the distance of the inner eye corners in x and their middle as centre: 4.5 d to the
    left and right, 3.5 d above and 5.5 d below.  Raises UserError if d is less than 1 px.
    """
    left, right = landmarks[39], landmarks[42]
    half = int((right[0] - left[0]) / 2)
    if half < 1:
        raise UserError(
            "the inner eye corners (landmarks 39, 42) are less than 2 px apart: leave the video "
            "out with --config.data.skip_bad_videos=true, or bring landmarks with "
            "features.face.backend=csv"
        )
    x, y = np.floor((left + right) / 2).astype(int).tolist()
    side = int(4.5 * half)
    return Box(x - side, y - int(3.5 * half), x + side, y + int(5.5 * half))


def make_plan(landmarks: np.ndarray, crops: str, margin: int) -> Plan:
    """Regions for `landmarks` f32[68, 2] (px of the frame); `crops` is regions or face.

    A region is the bounding box of its targets and `margin` px around it, inside the crop.
    Raises UserError if a node or the nose lies outside the crop.
    """
    face = face_box(landmarks)
    size = np.array([face.right - face.left, face.bottom - face.top])
    points = np.rint((landmarks - face[:2] + 0.5) * (SIDE / size) - 0.5).astype(int)
    used = points[[*LANDMARKS, 29, 30]]
    if used.min() < 0 or used.max() >= SIDE:
        raise UserError(
            "the landmarks lie outside the face crop: leave the video out with "
            "--config.data.skip_bad_videos=true, or bring landmarks with features.face.backend=csv"
        )
    nodes = [_inside(Box(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS))
             for x, y in points[list(LANDMARKS)].tolist()]  # fmt: skip
    boxes = [*nodes, _nose_box(points)]
    groups: list[Group]
    if crops == "face":
        groups = [((NOSE, *range(NODES)), Box(0, 0, SIDE, SIDE))]
    else:
        groups = [((NOSE,), _grown(boxes[NOSE], margin)), *cover(nodes, margin)]
    parts = (*PARTS, "nose")
    regions = tuple(
        Region(
            outer,
            tuple(Target(n, parts[n], _within(outer, boxes[n]).cut) for n in numbers),
        )
        for numbers, outer in groups
    )
    return Plan(face, float(size[0]) / SIDE, regions, crops == "face")


Group = tuple[tuple[int, ...], Box]
"""Numbers of targets, and the box around them."""


def cover(boxes: list[Box], margin: int) -> list[Group]:
    """Groups of `boxes` and the box around each group, with few pixels in all.

    Each box grows by `margin`; then the two groups are united that save most pixels, as long as
    any do: neighbours on a brow share a region, the mouth's corners get one each.
    """
    groups: list[Group] = [((n,), _grown(box, margin)) for n, box in enumerate(boxes)]
    while True:
        best = (0, 0, 0)
        for second in range(len(groups)):
            for first in range(second):
                a, b = groups[first][1], groups[second][1]
                best = max(best, (a.area + b.area - _union(a, b).area, -first, -second))
        saved, first, second = best[0], -best[1], -best[2]
        if saved <= 0:
            return groups
        numbers, box = groups.pop(second)
        groups[first] = (*groups[first][0], *numbers), _union(groups[first][1], box)


def crop(frame: np.ndarray, box: Box, shift: tuple[int, int] = (0, 0)) -> np.ndarray:
    """The face u8[320, 320] at `box` of `frame` u8[H, W], moved by `shift` px; bilinear.

    Beyond the image its border is repeated.
    """
    height, width = frame.shape
    left, right = box.left + shift[0], box.right + shift[0]
    top, bottom = box.top + shift[1], box.bottom + shift[1]
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        part = frame[top:bottom, left:right]
    else:
        rows = np.clip(np.arange(top, bottom), 0, height - 1)
        columns = np.clip(np.arange(left, right), 0, width - 1)
        part = frame[np.ix_(rows, columns)]
    return cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)


def coarse_to_fine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """f32[H, W, 2]: x, y displacement in px from `first` to `second`, both u8[H, W].

    Farneback's, 4 scales (fewer if a side is below 256 px), 5 iterations, windows of 15 px,
    polynomials of 7 px (sigma 1.5).  Raises UserError if the result is not finite.
    """
    flow = np.zeros((*first.shape, 2), np.float32)
    flow = cv2.calcOpticalFlowFarneback(first, second, flow, 0.5, 3, 15, 5, 7, 1.5, 0)
    if not np.abs(flow).max() < _LARGEST:  # also catches nan
        raise UserError(
            "the flow is not finite: leave the video out with --config.data.skip_bad_videos=true"
        )
    return flow


def one_scale(first: np.ndarray, second: np.ndarray, near: np.ndarray) -> np.ndarray:
    """f32[H, W, 2]: as `coarse_to_fine` on the finest scale only, 4 iterations from `near`.

    `near` f32[H, W, 2] is a flow in px; nothing checks that the result is finite.
    """
    flags = cv2.OPTFLOW_USE_INITIAL_FLOW
    return cv2.calcOpticalFlowFarneback(first, second, near.copy(), 0.5, 0, 15, 4, 7, 1.5, flags)


class Pair:
    """Flow between two crops u8[320, 320], region by region."""

    def __init__(self, first: np.ndarray, second: np.ndarray, pyramid: bool) -> None:
        """`pyramid`: from the whole face in any case."""
        self._first, self._second, self._pyramid = first, second, pyramid
        self._whole: np.ndarray | None = None

    def flow(self, box: Box, near: np.ndarray) -> np.ndarray:
        """f32[h, w, 2] at `box`, searched for near the flow `near`; the whole face's if it is far.

        `near` f32[h, w, 2] and the result are in px of the crop.  Once computed, the whole face's
        flow serves the other regions too.  Raises UserError if it is not finite.
        """
        if self._whole is None:
            if not self._pyramid:
                flow = one_scale(self._first[box.cut], self._second[box.cut], near)
                if np.abs(flow).max() <= _FAR:  # false for nan
                    return flow
            self._whole = coarse_to_fine(self._first, self._second)
        return self._whole[box.cut]


def follow(
    plan: Plan,
    first: np.ndarray,
    second: Callable[[tuple[int, int]], np.ndarray],
    track: Track,
    reduce: Reduction,
    *,
    align: bool,
    residual: bool,
) -> tuple[np.ndarray, Track]:
    """f32[10, 2]: the nodes' vectors (dx, dy in px of the crop) of one pair, and the new track.

    `first` u8[320, 320] is the crop of the clip's first frame, `second` gives the later frame's
    crop for a shift of the box.  `align`: the shift is corrected by the nose's flow, once.
    `residual`: what the nose still moves is subtracted.  Raises UserError if the flow is not
    finite.
    """
    shift, near = track.shift, track.flows
    nose = plan.regions[0]
    pair = Pair(first, second(shift), plan.pyramid)
    flow = pair.flow(nose.box, near[0])
    if align:
        moved = reduce(_vectors(flow, nose.targets[0]), "nose")
        x, y = np.rint(moved * plan.scale).astype(int).tolist()
        if x or y:
            shift = shift[0] + x, shift[1] + y
            taken = np.array((x, y), np.float32) / np.float32(plan.scale)
            near = tuple(before - taken for before in (flow, *near[1:]))
            pair = Pair(first, second(shift), plan.pyramid)
            flow = pair.flow(nose.box, near[0])
    others = zip(plan.regions[1:], near[1:], strict=True)
    flows = (flow, *(pair.flow(region.box, before) for region, before in others))
    vectors = np.zeros((NODES + 1, 2), np.float32)
    for region, flow in zip(plan.regions, flows, strict=True):
        for target in region.targets:
            vectors[target.number] = reduce(_vectors(flow, target), target.part)
    if residual:
        vectors -= vectors[NOSE]
    return vectors[:NODES], Track(shift, flows)


def _vectors(flow: np.ndarray, target: Target) -> np.ndarray:
    return flow[target.where].reshape(-1, 2)


def _nose_box(points: np.ndarray) -> Box:
    """The lower nose bridge: landmarks 29, 30 grown by 13 px, less (5, 15, 5, 10) px inside."""
    (left, top), (right, bottom) = points[29:31].min(axis=0), points[29:31].max(axis=0)
    return _inside(Box(int(left) - 8, int(top) + 2, int(right) + 8, int(bottom) + 3))


def _inside(box: Box) -> Box:
    """`box` clipped to the crop."""
    return Box(*(min(max(edge, 0), SIDE) for edge in box))


def _grown(box: Box, margin: int) -> Box:
    left, top, right, bottom = box
    return _inside(Box(left - margin, top - margin, right + margin, bottom + margin))


def _union(a: Box, b: Box) -> Box:
    return Box(
        min(a.left, b.left), min(a.top, b.top), max(a.right, b.right), max(a.bottom, b.bottom)
    )


def _within(outer: Box, box: Box) -> Box:
    """`box` in the coordinates of `outer`."""
    x, y = outer.left, outer.top
    return Box(box.left - x, box.top - y, box.right - x, box.bottom - y)
