"""Spotting in other light: F1 of trained runs with the test videos' brightness or contrast changed.

    python -m benchmarks.cnn3d_light runs/cnn3d_demo runs/cnn3d_demo_no_lcn

Every fold scores the videos of its held-out subject, whose grey crops u8 are changed first:
brightness multiplies a pixel, contrast its difference from the image's mean; both are rounded and
cut to 0..255, as a camera would.  Thresholds stay those chosen in the light of training.
"""

import argparse
import logging
from pathlib import Path

import numpy as np

from spotjax import train
from spotjax.counting import evaluation
from spotjax.data import shards
from spotjax.loso import rundir
from spotjax.loso.curves import chosen_options, decode_video, score_run
from spotjax.systems import build
from spotjax.types import Dataset

FACTORS = (0.5, 0.75, 1.0, 1.25, 1.5)


def changed(crops: np.ndarray, kind: str, factor: float) -> np.ndarray:
    """`crops` u8[R, S, S] in other light."""
    found = np.empty_like(crops)
    for start in range(0, len(crops), 4096):
        part = crops[start : start + 4096].astype(np.float32)
        middle = part.mean((1, 2), keepdims=True) if kind == "contrast" else 0
        lit = (part - middle) * factor + middle
        found[start : start + 4096] = np.clip(np.rint(lit), 0, 255)
    return found


def main() -> None:
    """Command line."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("runs", nargs="+", type=Path, help="run directories of the 3D-CNN")
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    print(f"{'run':<24}{'light':<18}" + "".join(f"{t:>24}" for t in ("macro", "micro")))
    for workdir in arguments.parse_args().runs:
        config, _, folder = rundir.load_run(workdir)
        train.set_up_jax(config.train.devices)
        dataset: Dataset = shards.load(folder, config)
        system = build(config.system, dict(dataset.k))
        crops = dataset.streams["crops"]
        plain = score_run(workdir, config, dataset, system)
        options = chosen_options(workdir, config, dataset, system, plain)
        for kind in ("brightness", "contrast"):
            for factor in FACTORS:
                lit = dataset._replace(
                    streams=dict(dataset.streams) | {"crops": changed(crops, kind, factor)}
                )
                curves = score_run(workdir, config, lit, system)
                videos = [v for v in dataset.videos if v.subject in options]
                found = {
                    v.id: decode_video(system, lit, v, curves, **options[v.subject])[0]
                    for v in videos
                }
                table = evaluation.counts(videos, found, config.evaluation, config.evaluation.rule)
                cells = [
                    f"{row['f1']:.3f} ({row['tp']}/{row['fp']}/{row['fn']})"
                    for row in (table["macro"], table["micro"])
                ]
                print(
                    f"{workdir.name:<24}{kind + f' x{factor:g}':<18}"
                    + "".join(f"{cell:>24}" for cell in cells),
                    flush=True,
                )


if __name__ == "__main__":
    main()
