"""Where the time goes when one's own video is spotted, and how much memory it takes.

    python -m benchmarks.own_video                                       # 640x480, one minute
    python -m benchmarks.own_video --width 1920 --height 1080 --minutes 10

A rendered face is written as a video of the wanted size.  Each stage is then timed alone on a
stretch of it (CPU seconds of all threads: other work on the machine does not count), and the whole
command is run --rounds times in a process of its own for its time and largest resident memory.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from spotjax.data_prep import extract_softnet, own_face, own_video, source
from spotjax.data_prep.faces import crop, landmarks_in_crop
from spotjax.data_prep.flow import make_flow
from spotjax.data_prep.softnet import composite, geometry, masked
from spotjax.data_prep.synthetic import generate

from benchmarks import common
from spotjax.own.scorer import Scorer, fit
from spotjax.parameters import weights
from spotjax.spot import DEMO

FPS = 30
MEASURED = """
import resource, subprocess, sys, time
start = time.perf_counter()
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
subprocess.run(sys.argv[1:], check=True, **quiet)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss)
"""
"""Runs a command from a small process: a large one would count as its child's memory."""
LOOP = 20.0  # seconds of rendered video, repeated


def write_video(path: Path, folder: Path, size: tuple[int, int], minutes: float) -> int:
    """A video of `size` (width, height) px that repeats the rendered frames; its frames."""
    generate(folder, subjects=1, videos=1, seconds=LOOP, seed=0, progress=False)
    images = sorted(folder.glob("rawpic/*/*/*.jpg"))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, size)
    count = round(minutes * 60 * FPS)
    for number in range(count):
        # there and back again, so that nothing jumps
        place = number % (2 * len(images) - 2)
        image = cv2.imread(str(images[min(place, 2 * len(images) - 2 - place)]))
        zoom = size[1] / image.shape[0]
        image = cv2.resize(image, (round(image.shape[1] * zoom), size[1]))
        left = max(0, size[0] - image.shape[1]) // 2
        right = max(0, size[0] - image.shape[1] - left)
        writer.write(
            cv2.copyMakeBorder(image, 0, 0, left, right, cv2.BORDER_REPLICATE)[:, : size[0]]
        )
    writer.release()
    return count


def timed(work: Callable[[], Any]) -> tuple[tuple[float, float], Any]:
    """CPU seconds of `work()` over all threads and wall seconds, and what it returns."""
    start, start_wall = time.process_time(), time.perf_counter()
    result = work()
    return (time.process_time() - start, time.perf_counter() - start_wall), result


def stages(path: Path, frames: int) -> dict[str, tuple[float, float]]:
    """CPU and wall seconds a frame of each stage, over the first `frames` frames."""
    known = weights.load(DEMO)
    fitted = fit(known, FPS)
    features: Any = fitted.config.features
    opened = source.open_source(str(path))

    def decode() -> list[source.Shot]:
        return [shot for shot, _ in zip(opened, range(frames), strict=False)]

    spent: dict[str, tuple[float, float]] = {}
    spent["decode"], shots = timed(decode)
    scale = min(1.0, own_video.LARGEST / max(shots[0].image.shape[:2]))
    spent["grey"], grey = timed(lambda: [own_video._grey(shot, scale) for shot in shots])
    tracker = own_face.Tracker()
    stretch = int(own_video.SECONDS * FPS)

    def look() -> Any:
        for row in range(0, frames, stretch):
            tracker.find(grey[row], row)
        for row in range(0, frames, own_face.CHECK_EVERY):
            assert tracker.last is not None
            tracker.present(grey[row], row, tracker.last.box)
        return tracker.last

    spent["face"], face = timed(look)
    spent["crop"], crops = timed(lambda: [crop(image, face.box) for image in grey])
    flow = make_flow(features.flow)
    pairs = [(i, i + k) for k in fitted.k.values() for i in range(frames - k)]
    name = f"flow ({features.flow.method}, both k)"
    spent[name], flows = timed(lambda: [flow(crops[a], crops[b]) for a, b in pairs])
    where = geometry(landmarks_in_crop(face), features.roi)
    spent["features"], images = timed(lambda: [composite(masked(f, where), where) for f in flows])
    rows = {
        stream: np.zeros((frames, *kind.shape), kind.dtype)
        for stream, kind in extract_softnet.streams(tuple(fitted.k)).items()
    }
    for (first, second), image in zip(pairs, images, strict=True):
        type = {k: t for t, k in fitted.k.items()}[second - first]
        rows[f"flow_{type}"][first] = image
        rows[f"valid_{type}"][first] = 1
    scorer = Scorer(fitted)
    scorer(rows, 0, frames)  # compiles
    spent["network"], scores = timed(lambda: scorer(rows, 0, frames))
    spent["spotting"], _ = timed(lambda: scorer.decode(scores))
    return {stage: (cpu / frames, wall / frames) for stage, (cpu, wall) in spent.items()}


def main() -> None:
    """Command line."""
    parser = common.parser(__doc__, rounds=1)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--flow", default="dis", choices=("dis", "farneback", "tvl1"))
    options = parser.parse_args()
    cpu: dict[str, list[float]] = {}
    wall: dict[str, list[float]] = {}
    memory = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        size = options.width, options.height
        count = write_video(path, Path(folder) / "set", size, options.minutes)
        cv2.setNumThreads(1)
        for number in range(options.rounds):
            out = f"{folder}/out{number}"
            command = [sys.executable, "-m", "spotjax.spot", str(path), "--out", out]
            told = subprocess.run(
                [sys.executable, "-c", MEASURED, *command, "--flow", options.flow],
                check=True, capture_output=True, text=True,
            ).stdout  # fmt: skip
            seconds, used, most = (float(word) for word in told.split())
            memory.append(most / 1e6)
            spent = stages(path, min(count, 600))
            together = tuple(map(sum, zip(*spent.values(), strict=True)))
            found = {
                "the command": (used / count, seconds / count),
                "real time": (1 / FPS, 1 / FPS),
                "stages together": together,
                **spent,
            }
            for name, (busy, elapsed) in found.items():
                cpu.setdefault(name, []).append(busy)
                wall.setdefault(name, []).append(elapsed)
    common.show(
        "own_video", common.Times(cpu, wall), "ms a frame", "the command", options.json,
        notes=[
            f"{count} frames of {size[0]}x{size[1]} px, {options.minutes:g} min at {FPS} fps, flow "
            f"{options.flow}; stages over the first {min(count, 600)} frames",
            f"the command: {statistics.median(wall['the command']) * count:.1f} s for "
            f"{options.minutes * 60:.0f} s of video, {max(memory):.2f} GB of memory",
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
