"""SpotFormer's features: ms per frame with region crops and with whole-face flow, and the gap.

    python -m benchmarks.swmro [--rows 4] [--rounds 5] [--margin 18] [--subjects 3]

Rendered videos (`data_prep.synthetic`, CAS(ME)^2's layout) around their strongest expression; no
licensed recording is needed.  Each round extracts the same rows with every variant, in turn, on
one core; decoding not included.

  regions   Farneback on small crops around the nodes (the default), the whole face where needed
  face      Farneback on the whole 320x320 face (the reference), same alignment, same nodes
  16 flows  the bare flow of the reference: 16 pairs of 320x320 px, no alignment, no nodes

Differences are those of the nodes' vectors in px of the face crop: with the plain mean of a node's
box, and with the default reduction, which may jump where two directions are equally frequent.
Rows around a blink are listed apart: closing lids have no true flow, so they are the hardest.
Where a region moves more than 3 px, `regions` takes the flow of the whole face: a laugh costs
nearly as much as `face`, a still face least.
"""

import statistics
from pathlib import Path

import cv2
import numpy as np
from spotjax.data_prep import extract_spotformer, swmro
from spotjax.data_prep.synthetic_layouts import NOISE, VideoTask
from spotjax.data_prep.synthetic_render import Renderer

from benchmarks import common
from benchmarks.common import Run
from spotjax.config import SpotformerFeatures

SECONDS = 20.0  # length of a rendered video
HALF = 8  # frames of a clip on either side of its row
DATA_SETS = {"CAS(ME)^2": 254_094, "SAMM-LV (every 7th frame)": 482_797 // 7}
"""Frames, for the estimate of hours."""


class Clip:
    """Consecutive frames of a rendered video, in memory."""

    def __init__(self, subject: int, around: str, rows: int) -> None:
        """The frames that `rows` rows need around an expression or a blink."""
        task = VideoTask("casme2", Path(), subject, 0, SECONDS, 0)
        face, motion = task.face(), task.motion()
        if around == "blink":
            centre = int(np.argmax(motion.lids))
        else:
            centre = max(motion.expressions, key=lambda e: e.profile.max()).apex - 1
        length = rows + 2 * HALF
        first = min(max(centre - length // 2, 0), task.frames - length)
        camera = Renderer(face, motion, task.generator(NOISE))
        span = range(first, first + length)
        drawn = (camera.draw(i, camera.source_map(i)) for i in span)
        self.images = [cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in drawn]
        self.landmarks = face.landmarks
        self.place = Path("rendered")
        self.valid = np.zeros(length, np.uint8)
        self.valid[HALF:-HALF] = 1

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.images)

    def __getitem__(self, row: int) -> np.ndarray:
        """Frame `row`, u8[H, W]."""
        return self.images[row]

    def where(self, row: int) -> str:
        """Names frame `row` in messages."""
        return f"rendered frame {row}"


def extract(clips: list[Clip], features: SpotformerFeatures) -> np.ndarray:
    """f32[N, 17, 10, 2] of the valid rows of all clips."""
    found = []
    for clip in clips:
        plan = swmro.make_plan(clip.landmarks, features.crops, features.margin)
        out = np.zeros((len(clip), features.window, swmro.NODES, 2), np.float32)
        extract_spotformer.clips(features, plan, clip, clip.valid, out, lambda frames: None)
        found.append(out[clip.valid > 0])
    return np.concatenate(found)


def bare_flows(clips: list[Clip]) -> None:
    """16 whole-face flows per valid row."""
    for clip in clips:
        box = swmro.face_box(clip.landmarks)
        crops = [swmro.crop(image, box) for image in clip.images]
        for row in np.flatnonzero(clip.valid):
            for second in range(row - HALF + 1, row + HALF + 1):
                swmro.coarse_to_fine(crops[row - HALF], crops[second])


def gap(clips: list[Clip], margin: int, reduction: str) -> str:
    """The differences between regions and face in one line."""
    a, b = (
        extract(clips, SpotformerFeatures(crops=crops, margin=margin, reduction=reduction))  # type: ignore[arg-type]
        for crops in ("regions", "face")
    )
    difference = np.abs(a - b)[:, 1:]
    return (
        f"{difference.max():>10.5f}{np.quantile(difference, 0.99):>10.5f}"
        f"{difference.mean():>10.6f}{np.abs(b).max():>10.2f}"
    )


def main() -> None:
    """Command line."""
    parser = common.parser(__doc__, rounds=5)
    parser.add_argument("--rows", type=int, default=4, help="rows of each clip (frames)")
    parser.add_argument("--margin", type=int, default=SpotformerFeatures().margin, help="px")
    parser.add_argument("--subjects", type=int, default=3, help="rendered people, one clip each")
    options = parser.parse_args()
    cv2.setNumThreads(1)

    clips = [Clip(subject, "expression", options.rows) for subject in range(options.subjects)]
    blinks = [Clip(subject, "blink", options.rows) for subject in range(options.subjects)]
    settings = {"margin": options.margin}
    variants: dict[str, Run] = {
        "regions": lambda: extract(clips, SpotformerFeatures(**settings)),
        "face": lambda: extract(clips, SpotformerFeatures(crops="face")),
        "16 flows": lambda: bare_flows(clips),
    }
    frames = options.rows * options.subjects
    times = common.measure(variants, options.rounds, frames)
    notes = [
        f"{frames} frames of {options.subjects} people, window 17, margin {options.margin} px",
        f"{'|regions - face|, px':<34}{'max':>10}{'99 %':>10}{'mean':>10}{'largest':>10}",
    ]
    for label, chosen in (("expressions", clips), ("blinks", blinks)):
        for reduction in ("mean", "mdmo8"):
            gaps = gap(chosen, options.margin, reduction)
            notes.append(f"{f'{label}, {reduction}':<34}{gaps}")
    notes.append("hours on two cores, regions (face):")
    for name, number in DATA_SETS.items():
        hours = [statistics.median(times.cpu[v]) * number / 3600 / 2 for v in ("regions", "face")]
        notes.append(f"  {name:<28}{number:>9,} frames{hours[0]:>7.1f} ({hours[1]:.1f})")
    common.show("swmro", times, "ms a frame", "regions", options.json, notes=notes)


if __name__ == "__main__":
    main()
