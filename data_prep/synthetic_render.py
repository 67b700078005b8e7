"""Frames of one synthetic video: a still face, displaced, lit, with noise, as JPEG files."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from .synthetic_face import HEIGHT, WIDTH, Face, build_face
from .synthetic_fields import sample
from .synthetic_motion import FPS, Motion, plan_motion
from .workers import Report

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

JPEG_QUALITY = 90
NOISE_MARGIN = 96  # px: the noise tile is this much larger than a frame and shifted at random
IDENTITY, SESSION, MOTION, NOISE = range(4)  # independent random streams


@dataclass(frozen=True)
class VideoTask:
    """One video to render.  `folder` is relative to `root`; `clip` is disgust, anger or happy."""

    root: Path
    folder: str
    subject: int  # index from 0
    video: int  # index from 0
    clip: str
    seconds: float
    seed: int

    @property
    def frames(self) -> int:
        """Its length."""
        return round(self.seconds * FPS)

    def generator(self, stream: int) -> np.random.Generator:
        """Random numbers that depend on (seed, subject, video) and the stream, nothing else."""
        video = 0 if stream == IDENTITY else 1 + self.video
        sequence = np.random.SeedSequence((self.seed, self.subject, video, stream))
        return np.random.Generator(np.random.Philox(sequence))

    def motion(self) -> Motion:
        """What happens in the video: cheap, so labels never need a second look at the frames."""
        return plan_motion(self.generator(MOTION), self.frames, self.clip, self.video == 0)

    def face(self) -> Face:
        """Who is seen in the video, and how."""
        return build_face(self.generator(IDENTITY), self.generator(SESSION))


PARTIAL = ".partial-"
"""Begins the name of a folder of unfinished videos; the process's number follows."""


def render_video(task: VideoTask, report: Report) -> None:
    """Write the frames of `task`.

    They are written to a temporary folder that takes its final name when it is complete.
    """
    cv2.setNumThreads(1)
    final = task.root / task.folder
    partial = task.root / f"{PARTIAL}{os.getpid()}" / final.name
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    renderer = Renderer(task.face(), task.motion(), task.generator(NOISE))
    for index in range(task.frames):
        ok, encoded = cv2.imencode(
            ".jpg", renderer.frame(index), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        )
        if not ok:
            raise OSError(f"OpenCV could not encode frame {index + 1} of {task.folder}")
        (partial / f"img{index + 1:03d}.jpg").write_bytes(encoded.tobytes())
        report(1)
    final.parent.mkdir(parents=True, exist_ok=True)
    os.replace(partial, final)


class Renderer:
    """Draws the frames of one video in any order."""

    def __init__(self, face: Face, motion: Motion, rng: np.random.Generator) -> None:
        """`rng` is for the sensor noise."""
        self.face = face
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
        self._noise = _noise_tile(rng, sigma)
        self._offsets = rng.integers(0, NOISE_MARGIN, (len(motion.gain), 2))

    def frame(self, index: int) -> Bytes:
        """(HEIGHT, WIDTH, 3) BGR frame `index` (from 0)."""
        x0, y0, x1, y1 = self.face.head_box
        image = self.face.still.copy()
        source = self.source_map(index)
        image[y0:y1, x0:x1] = sample(self.face.still, source)
        dx, dy = self._offsets[index]
        noise = self._noise[dy : dy + HEIGHT, dx : dx + WIDTH]
        gain = float(self.motion.gain[index])
        return cv2.addWeighted(image, gain, noise, 1.0, -128.0).astype(np.uint8, copy=False)

    def source_map(self, index: int) -> Floats:
        """(h, w, 2) of the head box: where in the still frame each pixel is read."""
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


def _noise_tile(rng: np.random.Generator, sigma: float) -> Bytes:
    """Sensor noise around 128, mostly grey, slightly blurred as a demosaicked sensor's is."""
    shape = (HEIGHT + NOISE_MARGIN, WIDTH + NOISE_MARGIN)
    grey = rng.standard_normal((*shape, 1), dtype=np.float32)
    colour = rng.standard_normal((*shape, 3), dtype=np.float32)
    blurred = cv2.GaussianBlur(grey + 0.5 * colour, (0, 0), 0.6)
    tile = 128.0 + sigma * blurred / blurred.std()
    return np.clip(np.round(tile), 0, 255).astype(np.uint8)
