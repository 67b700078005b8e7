"""Where the time goes when one's own video is spotted, and how much memory it takes.

    python benchmarks/own_video.py                                       # 640x480, one minute
    python benchmarks/own_video.py --width 1920 --height 1080 --minutes 10

A rendered face is written as a video of the wanted size.  Each stage is then timed alone on a
stretch of it (CPU seconds of all threads: other work on the machine does not count), and the whole
command is run once in a process of its own for its time and largest resident memory.
"""

import argparse
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

from spotjax import weights
from spotjax.own.scorer import Scorer, fit
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


def cpu(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of `work()` over all threads, and what it returns."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def stages(path: Path, frames: int) -> dict[str, float]:
    """CPU milliseconds a frame of each stage, over the first `frames` frames."""
    known = weights.load(DEMO)
    fitted = fit(known, FPS)
    features: Any = fitted.config.features
    opened = source.open_source(str(path))

    def decode() -> list[source.Shot]:
        return [shot for shot, _ in zip(opened, range(frames), strict=False)]

    spent = {}
    spent["decode"], shots = cpu(decode)
    scale = min(1.0, own_video.LARGEST / max(shots[0].image.shape[:2]))
    spent["grey"], grey = cpu(lambda: [own_video._grey(shot, scale) for shot in shots])
    tracker = own_face.Tracker()
    stretch = int(own_video.SECONDS * FPS)

    def look() -> Any:
        for row in range(0, frames, stretch):
            tracker.find(grey[row], row)
        for row in range(0, frames, own_face.CHECK_EVERY):
            assert tracker.last is not None
            tracker.present(grey[row], row, tracker.last.box)
        return tracker.last

    spent["face"], face = cpu(look)
    spent["crop"], crops = cpu(lambda: [crop(image, face.box) for image in grey])
    flow = make_flow(features.flow)
    pairs = [(i, i + k) for k in fitted.k.values() for i in range(frames - k)]
    name = f"flow ({features.flow.method}, both k)"
    spent[name], flows = cpu(lambda: [flow(crops[a], crops[b]) for a, b in pairs])
    where = geometry(landmarks_in_crop(face), features.roi)
    spent["features"], images = cpu(lambda: [composite(masked(f, where), where) for f in flows])
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
    spent["network"], scores = cpu(lambda: scorer(rows, 0, frames))
    spent["spotting"], _ = cpu(lambda: scorer.decode(scores))
    return {stage: 1e3 * seconds / frames for stage, seconds in spent.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--flow", default="dis", choices=("dis", "farneback", "tvl1"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        size = options.width, options.height
        count = write_video(path, Path(folder) / "set", size, options.minutes)
        print(
            f"{count} frames of {size[0]}x{size[1]} px, {options.minutes:g} min at {FPS} fps",
            flush=True,
        )
        cv2.setNumThreads(1)
        spent = stages(path, min(count, 600))
        for stage, ms in spent.items():
            print(f"  {stage:<24}{ms:8.2f} CPU ms a frame")
        total = sum(spent.values())
        print(f"  {'together':<24}{total:8.2f} CPU ms a frame, real time is {1e3 / FPS:.1f}")
        command = [sys.executable, "-m", "spotjax.spot", str(path), "--out", folder + "/out"]
        told = subprocess.run(
            [sys.executable, "-c", MEASURED, *command, "--flow", options.flow],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        wall, used, most = (float(word) for word in told.split())
        print(
            f"  the command: {wall:.1f} s for {options.minutes * 60:.0f} s of video, "
            f"{used:.1f} CPU s, {most / 1e6:.2f} GB of memory"
        )


if __name__ == "__main__":
    main()
