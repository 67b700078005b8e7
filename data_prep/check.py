"""`python -m data_prep.check --config C`: is this copy of a data set complete, and what is odd.

Reads the annotation, lists the folders and looks at a few frames (`checks`).
"""

import argparse
import json
import platform
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np

from spotjax import cli, export
from spotjax.config import Config
from spotjax.data import schema
from spotjax.errors import UserError, command
from spotjax.files import write_json, write_text

from . import checks, readers
from .checks import Check, some
from .published import FACTS
from .readers import RawDataset

STDOUT = "-"
SHOWN = 5
"""Bad lines of one kind that are printed."""
_DESCRIPTION = """\
Look at a copy of a data set before a day of work is put into it: counts against the published
ones, k, frame rate, missing frames, odd intervals, known annotation releases, faces on sampled
frames, disk space, versions.  Nothing is written but what --json and --export name, and the
numbers of frames of video files, counted once, in shards/frame_counts.json.

  python -m data_prep.check --config configs/softnet_casme2.py --config.data.root=/data/CASME_SQ
  python -m data_prep.check --config configs/demo.py --json check.json
  python -m data_prep.check --config configs/softnet_folder.py --config.data.root=VIDEOS --export gt

ok: as it should be; odd: usable, but look at it; bad: would stop the extraction.  The exit status
is 0 without a bad line, 1 with one, 2 if the folder or the workbook cannot be read at all.
"""


def check(config: Config, frames: int) -> tuple[RawDataset, list[Check]]:
    """All checks of the data set of `config`, `frames` images looked at.

    Raises UserError if the folder or the annotation cannot be read at all.
    """
    root = schema.data_root(config)
    if not config.data.root and not root.exists():
        raise UserError(
            f"{root}: the synthetic set is not rendered yet: run python -m data_prep first, or "
            "set --config.data.root to a data set"
        )
    dataset = readers.read(config.data, root)
    found = [
        *checks.check_annotation(dataset),
        *checks.check_counts(config, dataset),
        *checks.check_videos(dataset),
        *checks.check_intervals(dataset),
        *checks.check_images(config, dataset, frames),
        *checks.check_disk(config, dataset),
    ]
    return dataset, found


def versions() -> dict[str, str]:
    """Versions of what reads, finds faces and computes flow."""
    names = ("spotjax", "numpy", "python-calamine", "dlib-bin")
    installed = {d.metadata["Name"] for d in metadata.distributions()}
    found = {name: metadata.version(name) for name in names if name in installed}
    return {"python": platform.python_version(), "cv2": cv2.__version__} | found


def export_truths(dataset: RawDataset, folder: Path) -> None:
    """Write truths.csv and videos.csv of all videos for `spotjax.score`.

    A video without frames on disk, or with its rows only in the annotation, ends for this purpose
    at its last annotated frame; a note says so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    videos, without = [], []
    for video in dataset.videos:
        if not video.num_frames:
            without.append(video.id)
            last = max((i.offset for i in video.intervals), default=0)
            video = video._replace(frame_ids=np.arange(1, last + 2, dtype=np.int32))
        videos.append(video)
    write_text(folder / "truths.csv", export.truths_csv(videos))
    write_text(folder / "videos.csv", export.videos_csv(videos))
    if without:
        print(
            f"note: {len(without)} videos have no frames here and end in videos.csv at their last "
            f"annotated frame: {some(without)}",
            file=sys.stderr,
        )


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser(f"python -m {__package__}.check", _DESCRIPTION)
    parser.add_argument("--config", metavar="FILE[:ARG]", help="config file")
    parser.add_argument(
        "--json",
        metavar="FILE",
        nargs="?",
        const=STDOUT,
        help="write the checks there too; without FILE: to the terminal, instead of the table",
    )
    parser.add_argument(
        "--export", metavar="DIR", help="write truths.csv and videos.csv for spotjax.score there"
    )
    parser.add_argument("--frames", type=int, default=20, help="images to look at (default 20)")
    return parser


def print_table(dataset: RawDataset, root: Path, found: list[Check]) -> None:
    """The checks for people to read."""
    print(f"{dataset.name} at {root}")
    shown = Counter[str]()
    for item in found:
        shown[item.subject] += item.status == "bad"
        if item.status != "bad" or shown[item.subject] <= SHOWN:
            print(f"  {item.status:<4} {item.subject:<18} {item.text}")
    for subject, count in shown.items():
        if count > SHOWN:
            print(f"  bad  {subject:<18} ... and {count - SHOWN} more (all with --json)")
    if facts := FACTS.get(dataset.name):
        print(f"  published: {facts.source}")
    print("  " + ", ".join(f"{name} {version}" for name, version in versions().items()))
    tally = Counter(item.status for item in found)
    print(f"{tally['ok']} ok, {tally['odd']} odd, {tally['bad']} bad")


@command
def main(argv: list[str]) -> int:
    """The command; exit status 0, or 1 with a bad line.

    Raises UserError, which ends it with status 2 and one line, for a wrong option or config.
    """
    options, overrides = cli.parse(_parser(), argv)
    if options.config is None:
        raise UserError("--config is missing: name a config file, for example configs/demo.py")
    if options.frames < 0:
        raise UserError(f"--frames {options.frames}: choose 0 or a positive number")
    config = cli.load_config(options.config, overrides)
    dataset, found = check(config, options.frames)
    root = schema.data_root(config)
    content = {
        "dataset": dataset.name,
        "root": str(root),
        "checks": [item._asdict() for item in found],
        "quirks": list(dataset.quirks),
        "versions": versions(),
    }
    if options.json == STDOUT:
        print(json.dumps(content, default=str, indent=1))
    else:
        print_table(dataset, root, found)
    if options.json not in (None, STDOUT):
        write_json(Path(options.json), json.loads(json.dumps(content, default=str)))
    if options.export:
        export_truths(dataset, Path(options.export))
    return int(any(item.status == "bad" for item in found))


if __name__ == "__main__":
    sys.exit(main())
