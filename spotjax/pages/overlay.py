"""Maps of what a network looked at, on the face (NumPy only).

The networks see 42x42 px: SOFTNet a composite of eyes and mouth, SFAMNet the whole face.  `on_face`
takes a map of theirs (`systems.explain`) back to the 128x128 face crop, `on_composite` the face to
the composite, `overlay` draws one over the other.
"""

from collections.abc import Sequence

import numpy as np

SIZE = 42
"""Pixels of a side of both networks' images and of their maps."""

Box = tuple[slice, slice]
"""Rows and columns of a region."""
Parts = Sequence[tuple[Box, Box]]
"""(region of the face crop, region of the image of 42x42 px) of each part of SOFTNet's composite;
`data_prep.softnet.geometry(...).parts`."""
WHOLE_FACE: Parts = (((slice(0, 128), slice(0, 128)), (slice(0, SIZE), slice(0, SIZE))),)
"""SFAMNet's image: the whole crop of 128x128 px."""

PLASMA = np.array(
    [[13, 8, 135], [76, 2, 161], [126, 3, 168], [169, 35, 149], [204, 71, 120]]
    + [[229, 107, 93], [248, 149, 64], [253, 197, 39], [240, 249, 33]]
)
"""RGB at 0, 1/8 ... 1 of matplotlib's plasma (Smith and van der Walt, CC0): even steps of
lightness, no grey that could be skin, read alike without red-green vision."""


def on_face(heat: np.ndarray, parts: Parts, size: int = 128) -> np.ndarray:
    """A map back on the face crop: f32[size, size], NaN outside the regions.

    `heat` f32[42, 42] in [0, 1].  Each region of `parts` gets its part of the map, bilinear; where
    two overlap, the larger value.  The way back from `data_prep.softnet.composite`.  Raises
    ValueError for another shape, values outside [0, 1] or NaN, and boxes that leave their image.
    """
    heat = np.asarray(heat, np.float32)
    if heat.shape != (SIZE, SIZE) or not ((heat >= 0) & (heat <= 1)).all():
        raise ValueError(f"a map is [{SIZE}, {SIZE}] with values from 0 to 1, not {_about(heat)}")
    face = np.full((size, size), np.nan, np.float32)
    for region, place in parts:
        patch = resized(heat[_inside(place, SIZE)], *_sides(_inside(region, size)))
        face[region] = np.fmax(face[region], patch)
    return face


def on_composite(face: np.ndarray, parts: Parts) -> np.ndarray:
    """The face as SOFTNet's image shows it, to draw a map on; `face` is grey `[size, size]`.

    Bilinear, u8[42, 42] of u8 and f32[42, 42] of other types.  Raises ValueError if `face` is not a
    square, a box leaves its image or the parts do not fill the composite.
    """
    if face.ndim != 2 or face.shape[0] != face.shape[1]:
        raise ValueError(f"a face crop is square and grey, not {_about(face)}")
    image, filled = np.zeros((SIZE, SIZE), np.float32), np.zeros((SIZE, SIZE), bool)
    for region, place in parts:
        image[place] = resized(face[_inside(region, len(face))], *_sides(_inside(place, SIZE)))
        filled[place] = True
    if not filled.all():
        raise ValueError(f"the parts leave {np.sum(~filled)} px of the composite empty")
    return np.rint(image).astype(np.uint8) if face.dtype == np.uint8 else image


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """`image` `[H, W]` as f32[height, width]: bilinear between pixel centres, cv2.INTER_LINEAR."""
    rows, columns = (_between(*sides) for sides in zip(image.shape, (height, width), strict=True))
    return (rows @ image @ columns.T).astype(np.float32)


def overlay(grey: np.ndarray, heat: np.ndarray, opacity: float = 0.6) -> np.ndarray:
    """A map over a grey image: RGB u8[H, W, 3] of `grey` u8[H, W] and `heat` f32[H, W].

    Colours are `PLASMA`'s and cover by `opacity` times the map, so that 0, and NaN (outside the
    map), leave the image as it is.  Raises ValueError for another type or unequal shapes, and for
    a map or an opacity outside [0, 1].
    """
    heat = np.asarray(heat, np.float64)
    if grey.dtype != np.uint8 or grey.ndim != 2 or heat.shape != grey.shape:
        raise ValueError(f"u8[H, W] and a map as large, not {_about(grey)} and {_about(heat)}")
    if (heat < 0).any() or (heat > 1).any() or not 0 <= opacity <= 1:
        raise ValueError("a map and its opacity are from 0 to 1")
    heat = np.nan_to_num(heat)
    steps = np.linspace(0, 1, len(PLASMA))
    colour = np.stack([np.interp(heat, steps, channel) for channel in PLASMA.T], -1)
    cover = opacity * heat[..., None]
    return np.rint((1 - cover) * grey[..., None] + cover * colour).astype(np.uint8)


def _between(source: int, target: int) -> np.ndarray:
    """f64[target, source]: each target pixel as a mean of the two nearest source pixels."""
    centre = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    return np.maximum(0, 1 - np.abs(centre[:, None] - np.arange(source)))


def _inside(box: Box, size: int) -> Box:
    """`box`; raises ValueError unless it is a part of an image of size x size px."""
    for side in box:
        if side.step is not None or not 0 <= side.start < side.stop <= size:
            raise ValueError(f"box {box} is not a part of an image of {size} x {size} px")
    return box


def _sides(box: Box) -> tuple[int, int]:
    """Height and width."""
    return box[0].stop - box[0].start, box[1].stop - box[1].start


def _about(array: np.ndarray) -> str:
    """Type, shape and range of an array for a message."""
    values = f" from {array.min()} to {array.max()}" if array.size else ""
    return f"{array.dtype}{list(array.shape)}{values}"
