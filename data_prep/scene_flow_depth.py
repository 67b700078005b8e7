"""What scene flow asks of a depth image: no holes, how far to trust it, and where surfaces end.

After the code of Herbst, Ren, Fox 2013, written for the Kinect: a structured-light camera's error
grows like z^2 / (351 m + z), which is also the law of the stereo camera of CAS(ME)^3.
"""

import cv2
import numpy as np

from spotjax.errors import UserError

_STEP = 0.02  # m at 1 m: neighbours that differ by more lie on two surfaces
_SPREAD = 4  # px (L1): this near to such a step a measurement is trusted less
_UNKNOWN = 1.0  # m: the standard deviation of what was not measured
_BARRIER = 0.99  # at a sure boundary the smoothness keeps this much less than its weight
_REACH = 0.02  # m: of boundaries within this distance, in a row or column, the strongest counts


def fill_holes(depth: np.ndarray) -> np.ndarray:
    """`depth` (u16 or f32[H, W], any unit) as f32[H, W] without holes, that is values <= 0 or nan.

    A hole's pixel gets the median of its known neighbours of the eight, the upper one of two
    middles; pixels with most known ones come first, and what is filled counts as known.
    Raises UserError if nothing is known, ValueError for another type or shape.
    """
    if depth.ndim != 2 or depth.dtype not in (np.uint16, np.float32):
        raise ValueError(f"depth must be u16 or f32[H, W], not {depth.dtype}{list(depth.shape)}")
    filled = depth.astype(np.float32, order="C")
    if not (filled > 0).any():
        raise UserError("the depth image is empty: nothing in it was measured")
    if not (filled > 0).all():
        from . import scene_flow_fill  # numba takes half a second to import

        scene_flow_fill.fill(filled)
    return filled


def _noise(depth: np.ndarray) -> np.ndarray:
    """The standard deviation at `depth` f32[H, W] (m), relative to that at 1 m."""
    far = np.float32(1 / 0.00285)
    return (far + 1) * depth * depth / (far + depth)


def trust(depth: np.ndarray) -> np.ndarray:
    """Weight f32[H, W] of the depth term: sigma at 1 m over sigma here.

    `depth` f32[H, W] in m, 0 where nothing was measured: sigma is 1 m there.  At a step between two
    surfaces, or next to a hole, sigma is 10 times as large, less with the distance from it.
    """
    at_1_m = 1 / (1 / 0.00285 + 1)
    noise = _noise(depth)
    sigma = np.where(depth > 0, np.maximum(at_1_m * noise, 1e-4), np.float32(_UNKNOWN))
    smooth = np.full(depth.shape, 255, np.uint8)
    for here, there in (
        (np.s_[:-1], np.s_[1:]),
        (np.s_[:, :-1], np.s_[:, 1:]),
    ):
        jump = np.abs(depth[here] - depth[there]) > _STEP * np.minimum(noise[here], noise[there])
        smooth[here][jump & (depth[there] > 0)] = 0
    if not smooth.all():
        distance = cv2.distanceTransform(smooth, cv2.DIST_L1, 3)
        near = distance <= _SPREAD
        sigma[near] *= 10 ** (1 - distance[near] / _SPREAD)
    return (at_1_m / sigma).astype(np.float32)


def smoothness_weights(depth: np.ndarray, focal: float) -> np.ndarray:
    """f32[2, H, W] in [.01, 1]: g between a pixel and its right, its lower neighbour.

    `depth` f32[H, W] in m without holes, `focal` in px at its size.  1 - .99 p, where
    p = 1 - exp(-(dz / .02 m)^2), dz divided by the noise relative to that at 1 m, is the
    probability of a boundary; it is 0 next to the image's border, and only the strongest within
    2 cm (1 to 5 px) in a row, or column, is kept.
    """
    noise = _noise(depth)
    reach = int(np.clip(np.rint(focal * _REACH / depth.mean()), 1, 5))
    right = 1 - _BARRIER * _boundaries(depth, noise, reach)
    below = 1 - _BARRIER * _boundaries(depth.T, noise.T, reach).T
    return np.stack([right, below])


def _boundaries(depth: np.ndarray, noise: np.ndarray, reach: int) -> np.ndarray:
    """f32[H, W]: the probability of a boundary between a pixel and its right neighbour."""
    chance = np.zeros(depth.shape, np.float32)
    apart = np.diff(depth)[:, 1:-1] / (_STEP * np.minimum(noise[:, 1:-2], noise[:, 2:-1]))
    chance[:, 1:-2] = 1 - np.exp(-apart * apart)
    before = np.ones((1, reach + 1), np.uint8)
    before[0, -1] = 0
    after = before[:, ::-1].copy()
    strongest = (chance > cv2.dilate(chance, before, anchor=(reach, 0))) & (
        chance >= cv2.dilate(chance, after, anchor=(0, 0))
    )
    return chance * strongest
