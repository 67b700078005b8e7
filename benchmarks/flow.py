"""TV-L1 flow of a pair of face crops: ms by `spotjax.flow` and by OpenCV, and how far they differ.

    python -m benchmarks.flow [--size 128] [--people 4] [--gap 8] [--rounds 7]

Rendered faces (`data_prep.synthetic`): the face crop of the frame with the strongest expression,
and of the one `gap` frames before, with the sensor's noise; no licensed recording needed.  A round
computes every pair with every variant, in turn, on one core (this process binds itself to one).

  opencv tvl1   `cv2.optflow.DualTVL1OpticalFlow` with its defaults, the papers' flow
  jax tvl1      `spotjax.flow.tvl1`, one pair per call
  dis           OpenCV's DIS, medium: not the papers' flow
  farneback     OpenCV's Farneback: not the papers' flow

`EPE` is the mean distance from OpenCV's TV-L1 over all pixels, `most` the greatest, in px; `true`
the mean distance from the motion that was rendered, inside the face.
"""

import os
from collections.abc import Callable

import cv2
import jax
import numpy as np
from spotjax.data_prep import flow as data_prep_flow

from benchmarks import common
from benchmarks.scene_flow import Pair, Scene
from spotjax import flow

PAIRS = {"CAS(ME)^2": 255_000, "SAMM-LV": 1_030_000}
"""Pairs of one k, for the estimate of hours."""
Grey = tuple[np.ndarray, np.ndarray]


def grey(pair: Pair) -> Grey:
    """The two crops u8[size, size]."""
    one, two = (cv2.cvtColor(f.colour, cv2.COLOR_BGR2GRAY) for f in (pair.first, pair.second))
    return one, two


def distance(found: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Length of the difference of two flows f32[H, W, 2]."""
    return np.hypot(*np.moveaxis(found - other, -1, 0))


def main() -> None:
    """Command line."""
    parser = common.parser(__doc__, rounds=7)
    parser.add_argument("--size", type=common.positive, default=128, help="px")
    parser.add_argument("--people", type=common.positive, default=4, help="one pair each")
    parser.add_argument("--gap", type=common.positive, default=8, help="frames between the images")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before JAX makes its threads
    cv2.setNumThreads(1)
    compiled = jax.jit(flow.tvl1)
    methods: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
        "opencv tvl1": data_prep_flow.tvl1(),
        "jax tvl1": lambda one, two: np.asarray(compiled(one, two)),
        "dis": data_prep_flow.dis(),
        "farneback": data_prep_flow.farneback(),
    }
    rendered = [Scene(person).pair(options.gap, options.size) for person in range(options.people)]
    pairs = [grey(pair) for pair in rendered]
    flows = {name: [method(*pair) for pair in pairs] for name, method in methods.items()}
    columns: dict[str, dict[str, str]] = {"EPE": {}, "most": {}, "true": {}}
    for name, found in flows.items():
        gaps = [distance(f, o) for f, o in zip(found, flows["opencv tvl1"], strict=True)]
        wrong = [
            distance(f, p.truth[..., :2])[p.counted] for f, p in zip(found, rendered, strict=True)
        ]
        columns["EPE"][name] = f"{np.mean(gaps):.4f}"
        columns["most"][name] = f"{np.max(gaps):.2f}"
        columns["true"][name] = f"{np.concatenate(wrong).mean():.4f}"
    variants = {
        name: lambda method=method: [method(*pair) for pair in pairs]
        for name, method in methods.items()
    }
    times = common.measure(variants, options.rounds, len(pairs))
    motion = np.concatenate(
        [np.hypot(p.truth[..., 0], p.truth[..., 1])[p.counted] for p in rendered]
    ).mean()
    faster = 1 / common.ratio(times.cpu["jax tvl1"], times.cpu["opencv tvl1"])
    notes = [
        f"jax tvl1: {faster:.1f} times as fast as opencv tvl1 per core",
        f"{len(pairs)} pairs of {options.size}x{options.size} px, {options.gap} frames apart, mean "
        f"motion {motion:.2f} px",
    ]
    for name, count in PAIRS.items():
        hours = (np.median(times.cpu[m]) * count / 3600 for m in ("opencv tvl1", "jax tvl1"))
        notes.append("{}, {:,} pairs: {:.1f} core-hours by opencv, {:.1f} by jax".format(
            name, count, *hours))  # fmt: skip
    common.show("flow", times, "ms a pair", "opencv tvl1", options.json, columns, notes)


if __name__ == "__main__":
    main()
