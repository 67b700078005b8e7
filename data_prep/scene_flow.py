"""RGB-D scene flow between two frames, SFAMNet's features: Herbst, Ren, Fox, ICRA 2013.

For every pixel of the first frame: where its surface point is in the second one (u, v in px) and
how much farther it is from the camera (w in mm).  The energy, summed over the pixels, is

    mean over channels of q psi(I2(x + u, y + v) - I1)       colour: grey, its x and y derivative,
                                                             G - R, G - B
    + c psi(Z2(x + u, y + v) - Z1 - w)                       depth, c the trust in it
    + alpha g sqrt(|grad u|^2 + |grad v|^2 + f^2 |grad w|^2)
    + gamma (u^2 + v^2 + (f / Z)^2 w^2)

with psi(s) = sqrt(s^2 + e^2), f the focal length, Z in m.  SFAMNet's equations 1 to 5 leave the
squares out; what stands here, constants and clamps included, is the code that the authors of the
method released (rgbd-flow, "as released").  Coarse to fine, relinearised at each level.

Deviations, each with its reason (`benchmarks/scene_flow.py` measures cost and error):

- pyramid down to 16 px instead of 60, three relinearisations of 15 sweeps instead of 50 of up to
  10,000, with over-relaxation 1.95 instead of under-relaxation .7: `Settings` against
  `as_released`.  On a 128 px crop of a face, 60 px leave three levels, which lose motions of 6 px;
- a pixel's three unknowns are solved together, not each from the others' old values, which is what
  makes over-relaxation stable; the system's solution is the same;
- boundaries (g) come from steps of the filled depth alone.  Theirs come from raw depth, of which a
  hole along the outline of a face opens the barrier, from colour where depth is missing, and from
  normals, which changed no digit of the errors on rendered faces;
- the smoothness on the right-hand side is not divided by the mean g, and q compares with the
  second depth at x + u, y + v, not at x, y: both as the energy says;
- the trust in depth is the smaller one of the two frames, as a comment of theirs proposes;
- images are resized by OpenCV about half pixels, theirs about whole ones.
"""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from scipy import ndimage

from spotjax.errors import UserError

from .scene_flow_depth import fill_holes, smoothness_weights, trust

_TAPS = np.array([1, -8, 0, 8, -1], np.float32) / 12
_ONE = np.ones(1, np.float32)
_FEWEST = 8  # px: no smaller image, and no smaller level


class Rgbd(NamedTuple):
    """One frame of a depth camera, both images of the same view."""

    colour: np.ndarray
    """u8[H, W, 3], blue, green, red; or grey u8[H, W], without the two colour differences."""
    depth: np.ndarray
    """u16[H, W] or f32[H, W] in mm, 0 where nothing was measured."""


class Settings(NamedTuple):
    """Camera, energy and effort.  The defaults are the fast ones; `as_released` the authors'."""

    focal: float
    """Focal length in px at this image's size (a crop resized by k: k times the camera's)."""
    alpha: float = 0.02
    """Weight of the smoothness."""
    gamma: float = 1e-5
    """Weight of the magnitude."""
    smallest: int = 16
    """Px: no level of the pyramid has a shorter side below it, but the image itself."""
    ratio: float = 0.75
    """Of the sides of two levels."""
    rounds: int = 3
    """Relinearisations per level, at most."""
    sweeps: int = 15
    """Sweeps over the linear system per relinearisation, at most."""
    relaxation: float = 1.95
    """Between 0 and 2.  Below 1.93, 15 sweeps do not follow an approach by 20 mm."""
    tolerance: float = 0.0
    """Sweeps end when none changes more (px, m for w), tested at each 25th; 0: not tested."""
    settled: float = 0.0
    """Above the coarsest level, rounds end at a step of this mean square."""


def as_released(focal: float) -> Settings:
    """The settings of the authors' demo.

    Its tolerance counts w in m, so the sweeps end early for a surface that moves along the axis as
    a whole: of 10 mm, 2 are found.  The defaults find them.
    """
    return Settings(
        focal, smallest=60, rounds=50, sweeps=10_000, relaxation=0.7, tolerance=1e-5, settled=4e-4
    )


class Level(NamedTuple):
    """Two frames at one size, ready to be compared."""

    first: np.ndarray
    """f32[C + 1, h, w]: colour channels in [-1, 1], then depth in px: m * focal, none missing."""
    second: np.ndarray
    """f32[C + 1, h, w], likewise."""
    trust: np.ndarray
    """f32[h, w], weight of the depth term."""
    smoothness: np.ndarray
    """f32[2, h, w], g between a pixel and its right, lower neighbour."""
    focal: float
    """px at this size."""


Refine = Callable[[Level, np.ndarray, Settings, bool], None]
"""(level, flow f32[3, h, w] (u, v, w in px) to be improved in place, settings, coarsest)."""


def scene_flow(first: Rgbd, second: Rgbd, settings: Settings) -> np.ndarray:
    """f32[H, W, 3] from `first` to `second`: u, v in px, w in mm (positive: farther).  Finite.

    Where the flow leaves the image, and in holes of the depth, it continues its surroundings.
    Raises UserError if a depth image is empty, ValueError for wrong sizes, types or settings.
    """
    return coarse_to_fine(first, second, settings, _refine)


def coarse_to_fine(first: Rgbd, second: Rgbd, settings: Settings, refine: Refine) -> np.ndarray:
    """f32[H, W, 3]: `scene_flow` with another solver of a level; errors as there."""
    _check(first, second, settings)
    levels = _levels(first, second, settings)
    flow = np.zeros((3, *levels[-1].trust.shape), np.float32)
    for level in reversed(levels):
        flow = _enlarged(flow, level.trust.shape)
        refine(level, flow, settings, level is levels[-1])
    flow[2] *= 1000 / settings.focal
    return np.ascontiguousarray(flow.transpose(1, 2, 0))


def w_from_2d(
    flow: np.ndarray, first: np.ndarray, second: np.ndarray, sigma: float = 0.0
) -> np.ndarray:
    """f32[H, W] in mm: w without the coupling, the depth sampled along a 2-D flow; not the paper's.

    `flow` f32[H, W, 2] in px; `first`, `second` depth u16 or f32[H, W] in mm, holes are filled.
    `sigma` px: Gaussian smoothing of the result.  Raises UserError if a depth image is empty,
    ValueError for wrong sizes or types.
    """
    if not first.shape == second.shape == flow.shape[:2] or flow.shape[2:] != (2,):
        raise ValueError(f"a flow {flow.shape} for depth {first.shape} and {second.shape}")
    rows, columns = np.indices(first.shape, np.float32)
    places = np.stack([rows + flow[..., 1], columns + flow[..., 0]])
    seen = ndimage.map_coordinates(fill_holes(second), places, order=1, mode="nearest")
    w = seen - fill_holes(first)
    return cv2.GaussianBlur(w, (0, 0), sigma) if sigma > 0 else w


def warm_up() -> None:
    """Compile the solver: 15 s, once per machine where numba finds a folder to keep the result.

    Worth calling before processes are started that would each do so.
    """
    flat = Rgbd(np.zeros((_FEWEST, _FEWEST), np.uint8), np.ones((_FEWEST, _FEWEST), np.uint16))
    flat.depth[0, 0] = 0  # for the filling
    scene_flow(flat, flat, Settings(float(_FEWEST)))


def _refine(level: Level, flow: np.ndarray, settings: Settings, coarsest: bool) -> None:
    """The compiled solver."""
    from . import scene_flow_solver  # numba takes half a second to import

    one = np.float32
    scene_flow_solver.refine(
        level.first,
        level.second,
        level.trust,
        level.smoothness,
        flow,
        one(settings.focal),
        one(level.focal),
        one(settings.alpha),
        one(settings.gamma),
        settings.rounds,
        settings.sweeps,
        one(settings.relaxation),
        one(settings.tolerance),
        one(0 if coarsest else settings.settled),
    )


def _check(first: Rgbd, second: Rgbd, settings: Settings) -> None:
    """Raise UserError for an empty depth image, ValueError for wrong sizes, types or settings."""
    size = first.depth.shape
    for name, (colour, depth) in (("first", first), ("second", second)):
        if depth.dtype not in (np.uint16, np.float32) or depth.shape != size or len(size) != 2:
            raise ValueError(
                f"the {name} depth must be u16 or f32{list(size)}, not "
                f"{depth.dtype}{list(depth.shape)}"
            )
        if not np.isfinite(depth).all():
            raise ValueError(f"the {name} depth has values that are not finite")
        if colour.dtype != np.uint8 or colour.shape not in (size, (*size, 3)):
            raise ValueError(
                f"the {name} image must be u8{list(size)} or u8{[*size, 3]}, not "
                f"{colour.dtype}{list(colour.shape)}"
            )
        if not (depth > 0).any():
            raise UserError(f"the {name} depth image is empty: nothing in it was measured")
    if first.colour.shape != second.colour.shape:
        raise ValueError("one image is grey, the other one in colour")
    if min(size) < _FEWEST:
        raise ValueError(f"an image of {list(size)} px is too small: {_FEWEST} px at least")
    good = settings.focal > 0 and 0 < settings.relaxation < 2 and 0.4 <= settings.ratio <= 0.98
    if not good or settings.smallest < _FEWEST:
        raise ValueError(
            f"{settings}: focal must be positive, relaxation in (0, 2), ratio in [.4, .98], "
            f"smallest at least {_FEWEST}"
        )


def _levels(first: Rgbd, second: Rgbd, settings: Settings) -> list[Level]:
    """The pyramid, finest first."""
    height, width = first.depth.shape
    focal = settings.focal
    metres = [frame.depth.astype(np.float32) / 1000 for frame in (first, second)]
    trusted = np.minimum(*map(trust, metres))
    stacks = [
        np.dstack([*_colours(frame.colour), fill_holes(depth)])
        for frame, depth in zip((first, second), metres, strict=True)
    ]
    stacks[0] = np.dstack([stacks[0], trusted])
    sizes, scale = [(height, width)], settings.ratio
    while min(height, width) * scale >= settings.smallest:
        sizes.append((int(height * scale), int(width * scale)))
        scale *= settings.ratio
    levels = []
    for one, two in zip(*(_pyramid(stack, sizes, settings.ratio) for stack in stacks), strict=True):
        *colours, depth, weight = cv2.split(one)
        at_level = focal * depth.shape[1] / width
        levels.append(
            Level(
                _channels(*colours, depth * np.float32(focal)),
                _channels(*cv2.split(two)),
                weight,
                smoothness_weights(depth, at_level),
                at_level,
            )
        )
        levels[-1].second[-1] *= focal
    return levels


def _colours(colour: np.ndarray) -> list[np.ndarray]:
    """f32[H, W] each, of `colour` u8[H, W, 3]: grey, G - R, G - B; of u8[H, W]: grey."""
    planes = [np.float32(1 / 255) * plane for plane in cv2.split(colour)]
    if len(planes) == 1:
        return planes
    blue, green, red = planes
    grey = np.float32(0.114) * blue + np.float32(0.587) * green + np.float32(0.299) * red
    return [grey, green - red, green - blue]


def _pyramid(image: np.ndarray, sizes: list[tuple[int, int]], ratio: float) -> list[np.ndarray]:
    """`image` f32[H, W, C] at `sizes`, each smoothed from the image, or from 1/4 the way up."""
    base = 1 / ratio - 1  # standard deviation in px per level
    quarter = int(np.log(0.25) / np.log(ratio))
    found = [image]
    for n, (height, width) in enumerate(sizes[1:], 1):
        source = found[max(n - quarter, 0)]
        smooth = cv2.GaussianBlur(
            source, (0, 0), base * min(n, quarter), borderType=cv2.BORDER_REPLICATE
        )
        found.append(cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR))
    return found


def _channels(grey: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """f32[C, h, w]: `grey`, its x and y derivative, and the others, f32[h, w] each."""
    border = cv2.BORDER_REPLICATE
    across = cv2.sepFilter2D(grey, -1, _TAPS, _ONE, borderType=border)
    along = cv2.sepFilter2D(grey, -1, _ONE, _TAPS, borderType=border)
    return np.stack([grey, across, along, *others])


def _enlarged(flow: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`flow` f32[3, h, w] at `size`; u and v grow with it."""
    _, height, width = flow.shape
    if (height, width) == size:
        return flow
    planes = [cv2.resize(plane, size[::-1], interpolation=cv2.INTER_LINEAR) for plane in flow]
    larger = np.stack(planes)
    larger[0] *= size[1] / width
    larger[1] *= size[0] / height
    return larger
