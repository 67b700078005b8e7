"""Frames of one synthetic video: a still face, displaced, lit, with noise, as image files."""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from .synthetic_depth import DepthCamera
from .synthetic_face import HEIGHT, WIDTH, Face
from .synthetic_fields import sample
from .synthetic_layouts import DEPTH, NOISE, VideoTask
from .synthetic_motion import Motion
from .workers import Report

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

NOISE_MARGIN = 96  # px: the noise tile is this much larger than a frame and shifted at random
CODING = {
    ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 90],
    ".png": [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY],
}

PARTIAL = ".partial-"
"""Begins the name of a folder of unfinished videos; the process's number follows."""


def render_video(task: VideoTask, report: Report) -> None:
    """Write the frames of `task`.

    They are written to a temporary folder that takes its final name when it is complete.  Raises
    OSError if an image cannot be written.
    """
    cv2.setNumThreads(1)
    final = task.root / task.folder
    partial = task.root / f"{PARTIAL}{os.getpid()}" / final.name
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    face, motion, images = task.face(), task.motion(), task.style.images
    camera = Renderer(face, motion, task.generator(NOISE), grey="grey" in images)
    depth = DepthCamera(face, motion, task.generator(DEPTH)) if "depth" in images else None
    first, missing = task.numbering(motion)
    for name in task.files(first):
        (partial / name).parent.mkdir(exist_ok=True)
    for index in range(task.frames):
        if index not in missing:
            names = task.files(first + index)
            source = camera.source_map(index)
            _write(partial / names[0], camera.draw(index, source))
            if depth is not None:
                _write(partial / names[1], depth.draw(index, source))
        report(1)
    final.parent.mkdir(parents=True, exist_ok=True)
    os.replace(partial, final)


def _write(path: Path, image: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> None:
    """Encode by the suffix of `path`.  Raises OSError if that fails."""
    ok, encoded = cv2.imencode(path.suffix, image, CODING[path.suffix])
    if not ok:
        raise OSError(f"OpenCV could not encode {path}")
    path.write_bytes(encoded.tobytes())


class Renderer:
    """Draws the frames of one video in any order."""

    def __init__(
        self, face: Face, motion: Motion, rng: np.random.Generator, *, grey: bool = False
    ) -> None:
        """`rng` is for the sensor noise; `grey` for a camera without colour."""
        self.face = face
        still = cv2.cvtColor(face.still, cv2.COLOR_BGR2GRAY) if grey else face.still
        self._still = still.astype(np.uint8, copy=False)
        self.motion = motion
        x0, y0, x1, y1 = face.head_box
        self._pivot = face.landmarks[30].astype(np.float64)
        columns, rows = np.meshgrid(
            np.arange(x0, x1, dtype=np.float32), np.arange(y0, y1, dtype=np.float32)
        )
        self._map = np.stack([columns, rows], axis=-1)
        # The head's rigid fields are smooth: half the resolution will do.
        half = cv2.resize(face.head_weight, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        u = np.linspace(x0, x1 - 1, half.shape[1], dtype=np.float32)[None] - self._pivot[0]
        v = np.linspace(y0, y1 - 1, half.shape[0], dtype=np.float32)[:, None] - self._pivot[1]
        self._rigid = np.stack(
            [half, half * u.astype(np.float32), half * v.astype(np.float32)]
        ).astype(np.float32)
        sigma = float(rng.uniform(1.2, 2.2))
        self._noise = _noise_tile(rng, sigma, grey)
        self._offsets = rng.integers(0, NOISE_MARGIN, (len(motion.gain), 2))

    def draw(self, index: int, source: Floats) -> Bytes:
        """u8[HEIGHT, WIDTH, 3] BGR or u8[HEIGHT, WIDTH] grey: frame `index` (from 0).

        `source` f32[h, w, 2] is its `source_map`.
        """
        x0, y0, x1, y1 = self.face.head_box
        image = self._still.copy()
        image[y0:y1, x0:x1] = sample(self._still, source)
        dx, dy = self._offsets[index]
        noise = self._noise[dy : dy + HEIGHT, dx : dx + WIDTH]
        gain = float(self.motion.gain[index])
        return cv2.addWeighted(image, gain, noise, 1.0, -128.0).astype(np.uint8, copy=False)

    def source_map(self, index: int) -> Floats:
        """f32[h, w, 2] of the head box: x, y in px of the still frame where each pixel is read."""
        x0, y0, x1, y1 = self.face.head_box
        shift_x, shift_y, angle, growth = self.motion.head[index].astype(np.float64)
        shift = np.array([shift_x, shift_y]) * self.face.scale
        one, u, v = self._rigid
        coarse = np.stack(
            [
                shift[0] * one + growth * u - angle * v,
                shift[1] * one + angle * u + growth * v,
            ],
            axis=-1,
        ).astype(np.float32)
        source = self._map - cv2.resize(coarse, (x1 - x0, y1 - y0))
        local = self._local_field(index)
        if local is not None:
            # The expression rides on the head: shift and turn its field along.
            region = self.face.region
            turn = np.array([[1 + growth, -angle], [angle, 1 + growth]])
            pivot = self._pivot - (region.x0, region.y0)
            move = np.concatenate([turn, (pivot + shift - turn @ pivot)[:, None]], axis=1)
            moved = cv2.warpAffine(local, move, region.size)
            source[region.y0 - y0 : region.y1 - y0, region.x0 - x0 : region.x1 - x0] -= moved
        return source

    def _local_field(self, index: int) -> Floats | None:
        """(h, w, 2) px of the face region: actions and eyelids, None at rest."""
        strengths = self.motion.actions[index] * self.face.scale
        active = np.flatnonzero(strengths)
        lid = self.motion.lids[index]
        if active.size == 0 and lid == 0:
            return None
        field = np.zeros(self.face.actions.shape[1:], np.float32)
        for action in active:
            field += strengths[action] * self.face.actions[action]
        field[..., 1] += self.face.eyelids[lid]
        return field


def _noise_tile(rng: np.random.Generator, sigma: float, without_colour: bool) -> Bytes:
    """Sensor noise around 128, mostly grey, slightly blurred as a demosaicked sensor's is.

    (h, w, 3), or (h, w) without colour.
    """
    shape = (HEIGHT + NOISE_MARGIN, WIDTH + NOISE_MARGIN)
    grey = rng.standard_normal((*shape, 1), dtype=np.float32)
    if without_colour:
        mixed = grey[..., 0]
    else:
        mixed = grey + 0.5 * rng.standard_normal((*shape, 3), dtype=np.float32)
    blurred = cv2.GaussianBlur(mixed, (0, 0), 0.6)
    tile = 128.0 + sigma * blurred / blurred.std()
    return np.clip(np.round(tile), 0, 255).astype(np.uint8)
