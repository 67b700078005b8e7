"""LBP-chi2: how much the texture of a frame differs from that k frames before and after.

Local binary patterns of 8 neighbours on a circle of 3 px, uniform mapping u2 (59 bins), in 6x6
blocks of the face; per block the chi-squared distance between a frame's histogram and the mean
of those of the frames k before and k after it.  The training-free baseline of MEGC 2019;
`spotjax.decoding.contrast` turns the features of a video into intervals.

Deviations and decisions:

- the blocks are the crop cut into 6x6, as in later comparisons; the MEGC 2019 code turns the face
  upright and places overlapping blocks by landmarks, in every frame;
- patterns are of the whole crop, so that a block's pixels see those of the next block, where the
  MEGC 2019 code loses 3 px around every block; here only those along the crop's border;
- a neighbour between pixels is interpolated with weights in whole multiples of 2^-16, so that
  all sums are exact in float32: equal greys compare as equal, and a * f + b (whole a > 0 and b)
  has the patterns of f.
"""

import cv2
import numpy as np

BLOCKS = 6
"""Blocks along each side."""
RADIUS = 3
"""Radius of the circle of neighbours in px."""
NEIGHBOURS = 8
BINS = 59
"""58 uniform patterns (at most two changes between 0 and 1 around the circle), and the rest."""


def _uniform_bins() -> np.ndarray:
    codes = np.arange(1 << NEIGHBOURS)
    bits = codes[:, None] >> np.arange(NEIGHBOURS) & 1
    uniform = (bits != np.roll(bits, 1, axis=1)).sum(axis=1) <= 2
    return np.where(uniform, np.cumsum(uniform) - 1, BINS - 1)


def _kernels() -> tuple[np.ndarray, ...]:
    """f32[7, 7] per neighbour: the interpolated neighbour less the centre, times 2^16."""
    kernels = []
    for angle in 2 * np.pi * np.arange(NEIGHBOURS) / NEIGHBOURS:
        x, y = np.round((RADIUS + RADIUS * np.cos(angle), RADIUS - RADIUS * np.sin(angle)), 9)
        column, row = int(x), int(y)
        right, down = x - column, y - row
        kernel = np.zeros((2 * RADIUS + 2, 2 * RADIUS + 2), np.float32)
        weights = np.outer((1 - down, down), (1 - right, right))
        kernel[row : row + 2, column : column + 2] = np.rint(weights * (1 << 16))
        kernel[RADIUS, RADIUS] = -kernel.sum()
        kernels.append(kernel[:-1, :-1])
    return tuple(kernels)


UNIFORM_BINS = _uniform_bins()
"""i64[256]: the bin of each pattern; uniform patterns by rising code, all others the last."""
_KERNELS = _kernels()


def patterns(image: np.ndarray) -> np.ndarray:
    """The pattern u8[H - 6, W - 6] of every pixel of `image` u8[H, W] at least 3 px inside.

    Bit n is set where the neighbour at n * 45 degrees, anticlockwise from the right, is at least
    as bright as the pixel.  Raises ValueError if the image is not grey u8 or has no such pixel.
    """
    if image.ndim != 2 or image.dtype != np.uint8 or min(image.shape) <= 2 * RADIUS:
        raise ValueError(f"LBP needs u8[H, W] of more than 6x6 px, got {image.dtype}{image.shape}")
    inside = slice(RADIUS, -RADIUS)
    codes = np.zeros(image[inside, inside].shape, np.uint8)
    for bit, kernel in enumerate(_KERNELS):
        brighter = cv2.filter2D(image, cv2.CV_32F, kernel)[inside, inside] >= 0
        codes |= brighter.view(np.uint8) << np.uint8(bit)
    return codes


def histograms(image: np.ndarray, blocks: int = BLOCKS) -> np.ndarray:
    """Normalised histograms f32[blocks * blocks, 59] of `image` u8[H, W], blocks row by row.

    A block has floor(H / blocks) x floor(W / blocks) px; what is left at the right and the bottom
    is unused.  0.8 ms for 227x227.  Raises ValueError as `patterns` does, or if a block is not
    larger than 3x3 px.
    """
    codes = patterns(image)
    height, width = image.shape[0] // blocks, image.shape[1] // blocks
    if min(height, width) <= RADIUS:
        raise ValueError(f"an image of {image.shape} px is too small for {blocks}x{blocks} blocks")
    codes = codes[: blocks * height - RADIUS, : blocks * width - RADIUS]
    row = (RADIUS + np.arange(codes.shape[0])) // height
    column = (RADIUS + np.arange(codes.shape[1])) // width
    bins = UNIFORM_BINS[codes] + BINS * (blocks * row[:, None] + column)
    counts = np.bincount(bins.ravel(), minlength=blocks * blocks * BINS).reshape(-1, BINS)
    return (counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)


def distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Chi-squared distance f64[B] of the histograms f32[B, 59]: sum of (a - b)^2 / (a + b), halved.

    0 for equal, 1 for disjoint normalised histograms; a bin that is empty in both adds nothing.
    """
    a, b = first.astype(np.float64), second.astype(np.float64)
    total = a + b
    return 0.5 * ((a - b) ** 2 / np.where(total > 0, total, 1.0)).sum(axis=1)


def feature(before: np.ndarray, now: np.ndarray, after: np.ndarray) -> float:
    """The feature of frame i: mean of the largest third (12 of 36) of the blocks' distances.

    Between `now` f32[36, 59], the histograms of frame i, and the mean of `before` and `after`,
    those of frames i - k and i + k.
    """
    mean = (before.astype(np.float64) + after) / 2
    values = np.sort(distance(mean, now))
    return float(values[-max(1, round(len(values) / 3)) :].mean())
