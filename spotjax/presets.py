"""Named sets of choices: what a paper says, and what its authors' code does."""

from typing import NamedTuple

from spotjax.config import Evaluate, Softnet, Train


class Preset(NamedTuple):
    """The sections of a Config that a preset decides."""

    system: Softnet
    train: Train
    evaluation: Evaluate


def softnet(name: str) -> Preset:
    """SOFTNet's `paper` or `release`; the differences stand in `spotjax/systems/softnet.py`.

    `paper`: plain SGD 5e-4, batch 12, 10 epochs, symmetric smoothing, all videos counted one to
    one.  `release`: the same training with one order of samples, the onset lost from the labels,
    int(max(count0, count1) / 2) negatives, the asymmetric window, a placeholder prediction in
    silent videos, and only videos that contain the type counted, by the release's rule.
    Raises ValueError for another name.
    """
    if name not in ("paper", "release"):
        raise ValueError(f"unknown preset {name!r}: paper or release")
    release = name == "release"
    return Preset(
        system=Softnet(
            pseudo_label="unit_release" if release else "unit",
            negatives="half_release" if release else "half",
            smoothing="release" if release else "paper",
            silent_proposal=release,
        ),
        train=Train(
            epochs=10, batch=12, optimizer="sgd", learning_rate=5e-4, reshuffle=not release
        ),
        evaluation=Evaluate(
            videos="annotated_only" if release else "all",
            rule="softnet" if release else "one_to_one",
        ),
    )


def spotformer_training() -> Train:
    """SpotFormer's optimisation: 32 blocks of 16 clips a step, 100 epochs of AdamW, step x 0.96."""
    return Train(
        epochs=100,
        batch=32,
        optimizer="adamw",
        learning_rate=2e-4,
        decay=0.96,
        beta1=0.7,
        beta2=0.9,
        weight_decay=0.1,
    )
