"""`python -m spotjax.unseen --workdir RUN --config C`: a trained run on another data set.

Every fold of the run scores all videos of the other data set, none of which it has seen; their
scores are averaged.  Features and system are the run's, data and evaluation those of the config C,
and so is the k of the features, a constant of the data set.  The rows' rate may differ: numbers of
rows in the system (the 3D-CNN's k) are scaled by it.
"""

import dataclasses
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from spotjax import files, protocol, train
from spotjax.cli import load_config, parse, parser
from spotjax.config import Baselines, Config
from spotjax.config import to_dict as config_to_dict
from spotjax.counting import headline
from spotjax.data import schema, shards
from spotjax.errors import UserError, command
from spotjax.loso import checkpoints, rundir, scoring
from spotjax.loso.curves import Curves, chosen_options, tuned
from spotjax.results import write_results
from spotjax.systems import build
from spotjax.types import Dataset, System

IN_ROWS = ("k_micro", "k_macro")
"""Keys of a system that count rows."""
OF_DATA_SET = ("face", "k_micro", "k_macro")
"""Keys of the features that are of the data set and not of the run."""


@command
def main(argv: list[str]) -> int:
    """Command line.  Raises UserError for a wrong option, or if the run's features have changed."""
    arguments = parser(
        "python -m spotjax.unseen",
        "Score a data set that a trained run has never seen, by the mean of its folds.\n"
        "--config.data.* and --config.evaluation.* override keys of the other data set's config.",
    )
    arguments.add_argument("--workdir", required=True, help="run directory of spotjax.train")
    arguments.add_argument("--config", required=True, help="config of the other data set")
    arguments.add_argument("--out", help="folder of the results (default: RUN/on_<config's name>)")
    options, overrides = parse(arguments, argv)
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax tells what we say in one line
    workdir = Path(options.workdir)
    saved, data_hash, folder = rundir.load_run(workdir)
    other = load_config(options.config, overrides)
    config = crossed(saved, other)
    out = Path(options.out or workdir / f"on_{other.name}")
    train.set_up_jax(saved.train.devices)
    with files.locked(out, "wait for it, or choose another --out"):
        files.write_json(out / "config.json", {"config": config_to_dict(config)})
        if status := train.make_shards(str(out / "config.json"), []):
            return status  # data_prep has said why
        own = shards.load(folder, saved)
        if own.manifest["hash"] != data_hash:
            raise UserError(f"{workdir}: was trained on other features or labels than {folder} has")
        dataset = shards.load(schema.shards_folder(config), config)
        line = " ".join(["python -m spotjax.unseen", *argv])
        metrics = evaluate_unseen(workdir, out, saved, config, own, dataset, line)
    print("\n" + "\n".join(headline.lines(metrics)))
    print(f"report: {out / 'report.html'}")
    return 0


def crossed(saved: Config, other: Config) -> Config:
    """The config of a run's networks on the data of `other`.  Raises UserError: other features."""
    if saved.features.name != other.features.name:
        raise UserError(
            f"--config: its features are {other.features.name}'s, the run is of "
            f"{saved.system.name}: use a config of the same system"
        )
    own = {key: getattr(other.features, key) for key in OF_DATA_SET if hasattr(other.features, key)}
    return dataclasses.replace(
        saved,
        name=f"{saved.name}_on_{other.name}",
        data=other.data,
        features=dataclasses.replace(saved.features, **own),
        evaluation=dataclasses.replace(other.evaluation, epoch_choice="last"),
        train=dataclasses.replace(saved.train, folds=()),
        baselines=Baselines(names=()),
    )


def at_rate(config: Config, ratio: float) -> Config:
    """`config` whose system counts rows that come `ratio` times as often."""
    keys = [key for key in IN_ROWS if hasattr(config.system, key)]
    scaled: Any = {key: max(1, round(getattr(config.system, key) * ratio)) for key in keys}
    return dataclasses.replace(config, system=dataclasses.replace(config.system, **scaled))


def evaluate_unseen(
    workdir: Path,
    out: Path,
    saved: Config,
    config: Config,
    own: Dataset,
    dataset: Dataset,
    line: str,
) -> Any:
    """Score, decode and count; writes the results to `out` and returns metrics.json's content.

    `own` is the data set that the run was trained on.  Raises UserError if both have a video.
    """
    known = {(video.id, video.num_frames) for video in own.videos}
    shared = [video.id for video in dataset.videos if (video.id, video.num_frames) in known]
    if dataset.name == own.name and shared:
        raise UserError(
            f"{workdir}: was trained on the video {shared[0]} of {own.name}: use spotjax.evaluate, "
            "where each video is scored by the fold that has not seen it"
        )
    config = at_rate(config, dataset.videos[0].fps / own.videos[0].fps)
    system = build(config.system, dict(dataset.k))
    curves, folds = mean_curves(workdir, dataset, system)
    choice = config.evaluation.threshold_choice
    chosen: dict[str, Any] = {}
    if choice == "oracle" and system.tune is not None:
        chosen = tuned(dataset, system, dataset.videos, curves)
    elif choice != "fixed":  # on the run's own validation videos, at its own rate
        judging = dataclasses.replace(saved, evaluation=config.evaluation)
        before = build(saved.system, dict(own.k))
        each = list(chosen_options(workdir, judging, own, before, {}).values())
        chosen = {key: float(np.mean([options[key] for options in each])) for key in each[0]}
    about = protocol.describe(config, dataset, system, dataset.videos, line)
    about["held_out"] = (
        f"the whole data set: scores are the mean of {folds} folds trained on {own.name}; "
        "none of its videos was trained on"
    )
    about["trained_on"] = str(workdir)
    decoding = dict.fromkeys(dataset.subjects, chosen)
    return write_results(
        out, config, dataset, system, dataset.videos, curves, decoding, {}, about, []
    )


def mean_curves(workdir: Path, dataset: Dataset, system: System) -> tuple[Curves, int]:
    """The scores of all videos, averaged over the folds of a run, and how many folds it has."""
    curves: Curves = {}
    folds = 0
    for problem in system.problems:
        trained = checkpoints.read_finished(workdir, problem)
        folds = len(trained.subjects)
        frames = folds * sum(video.num_frames for video in dataset.videos)
        with tqdm(total=frames, desc=f"score {problem}", unit="frame", disable=None) as bar:
            found = scoring.score_all(
                system, problem, dataset, [dataset.videos] * folds, trained.variables, bar.update
            )
        for name, groups in found.items():
            curves[name] = {
                video.id: np.mean([group[video.id] for group in groups], axis=0)
                for video in dataset.videos
            }
    return curves, folds


if __name__ == "__main__":
    sys.exit(main())
