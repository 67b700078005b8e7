"""`python -m spotjax.evaluate --workdir RUN`: score held-out subjects from a run's checkpoints.

Every video is scored by the fold that never saw its subject.  Writes `metrics.json`,
`intervals.csv`, `truths.csv`, `videos.csv`, `curves.npz` and `report.html` into the run directory.
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spotjax import files, protocol
from spotjax.baselines import BASELINES
from spotjax.cli import override, parse, parser
from spotjax.config import Config
from spotjax.counting import headline
from spotjax.data import plans, schema, shards
from spotjax.errors import UserError, command
from spotjax.loso import rundir
from spotjax.loso.curves import chosen_curves, chosen_options
from spotjax.results import write_results
from spotjax.systems import build
from spotjax.types import Dataset, Detection, System, Video


def evaluate_run(
    workdir: Path, config: Config, dataset: Dataset, folder: Path, command_line: str
) -> Any:
    """Score, decode, count and write all results; returns the content of metrics.json.

    `folder` holds the shards of `dataset`; those of the baselines lie beside it.  Raises UserError
    if features or checkpoints are missing, or if there is nothing to choose by as the config asks.
    """
    system = build(config.system, dict(dataset.k))
    sources = baseline_sets(workdir, config, dataset, system, folder)
    curves, epochs = chosen_curves(workdir, config, dataset, system)
    decoding = chosen_options(workdir, config, dataset, system, curves)
    subjects = plans.chosen_subjects(dataset, config.train.folds)
    videos = [video for video in dataset.videos if video.subject in subjects]
    free = {
        name: spot_baseline(name, source, config, videos, system.types)
        for name, source in sources.items()
    }
    about = protocol.describe(config, dataset, system, videos, command_line)
    about |= {"chosen_epochs": epochs} if epochs else {}
    log = rundir.Log(workdir).read()
    return write_results(
        workdir, config, dataset, system, videos, curves, decoding, free, about, log
    )


def baseline_sets(
    workdir: Path, config: Config, dataset: Dataset, system: System, folder: Path
) -> dict[str, Dataset]:
    """The data set that each baseline of the config reads: the system's or its own shards.

    Raises UserError if features are missing, or were made of other videos or labels.
    """
    sets: dict[str, Dataset] = {}
    for name in config.baselines.names:
        source, place = dataset, folder
        if schema.has_own_shards(config, name):
            place = schema.shards_folder(config, name)
            if not place.is_absolute() and not place.exists():
                place = folder.parent / place.name
            if not shards.complete(place):
                raise UserError(
                    f"{place}: the features of the baseline {name} are not there: make them with "
                    f"python -m data_prep --config {workdir / 'config.json'} "
                    f"--config.baselines.names={name}, or leave it out of baselines.names"
                )
            source = shards.load(place, config, name)
        if _labels(source) != _labels(dataset):
            raise UserError(
                f"{place}: was made of other videos or labels than {folder}: delete it and run "
                "data_prep again"
            )
        sets[name] = source
    return sets


def _labels(dataset: Dataset) -> list[Any]:
    return [(video.id, video.num_frames, video.intervals) for video in dataset.videos]


def spot_baseline(
    name: str,
    source: Dataset,
    config: Config,
    videos: Sequence[Video],
    types: Sequence[str],
) -> dict[str, list[Detection]]:
    """A training-free method's detections by video id."""
    spot = BASELINES[name]
    return {video.id: spot(source, video, types, config) for video in videos}


@contextmanager
def open_evaluated(
    workdir: Path, overrides: Sequence[str]
) -> Iterator[tuple[Config, Dataset, Path]]:
    """A run's config with `overrides`, its data set and the folder of its shards, held for us.

    Raises UserError if it is no run, if an override would need training again, if another process
    is at work there, or if the shards are not those that the run was trained on.
    """
    saved, data_hash, folder = rundir.load_run(workdir)
    config = override(saved, list(overrides))
    difference = rundir.first_difference(saved, config)
    if difference:
        key, old, new = difference
        raise UserError(
            f"{key}={new!r} would need training again (the run has {old!r}): train it with "
            "spotjax.train in another --workdir"
        )
    if config.data.shards != saved.data.shards:
        folder = schema.shards_folder(config)
    with files.locked(workdir, "wait for it"):
        dataset = shards.load(folder, config)
        if dataset.manifest["hash"] != data_hash:
            raise UserError(
                f"{workdir}: was trained on other features or labels than {folder} holds now: "
                "train again with spotjax.train in another --workdir"
            )
        yield config, dataset, folder


@command
def main(argv: list[str]) -> int:
    """Command line.  Raises UserError for a wrong option."""
    arguments = parser(
        "python -m spotjax.evaluate",
        "Evaluate a trained run from its checkpoints.  Decoding and evaluation keys may be\n"
        "overridden, for example --config.system.p=0.6 --config.evaluation.videos=annotated_only",
    )
    arguments.add_argument("--workdir", required=True, help="run directory of spotjax.train")
    options, overrides = parse(arguments, argv)
    workdir = Path(options.workdir)
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax tells what we say in one line
    with open_evaluated(workdir, overrides) as (config, dataset, folder):
        line = " ".join(["python -m spotjax.evaluate", *argv])
        metrics = evaluate_run(workdir, config, dataset, folder, line)
    print_results(workdir, metrics)
    return 0


def print_results(workdir: Path, metrics: Any) -> None:
    """The headline on the terminal."""
    print("\n" + "\n".join(headline.lines(metrics)))
    print(f"report: {workdir / 'report.html'}")


if __name__ == "__main__":
    sys.exit(main())
