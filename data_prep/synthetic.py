"""Synthetic long face videos on disk exactly as a data set of the field.

No licensed recording may be shared, so demos and tests render their own: moving heads with
labelled macro- and micro-expressions, in the folders, file names and annotation workbook of
CAS(ME)^2.  Readers, face detection, optical flow and networks run on them unchanged.

    python -m data_prep.synthetic OUT --subjects 4 --videos 3 --seconds 30 --seed 0

The bytes of a video depend on (seed, subject, video) only: not on --jobs, nor on how many other
subjects are rendered.  An interrupted run continues where it stopped.
"""

import argparse
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import openpyxl

from spotjax.errors import UserError, command, one_line, require_free_space
from spotjax.files import LEFTOVER, LOCK, locked, write_json

from . import workers
from .synthetic_render import PARTIAL, VideoTask, render_video

FORMAT = "spotjax-synthetic-1"  # raise it whenever the same parameters give other frames
PARAMETERS_FILE = "synthetic.json"
BYTES_PER_FRAME = 70_000  # a generous mean, for the check of free space
LONGEST = 3600.0  # seconds

# Subject folders of CAS(ME)^2 in their order, and its clips: code, folder suffix, name.
SUBJECTS = (
    "s15",
    "s16",
    *(f"s{n}" for n in range(19, 28)),
    *(f"s{n}" for n in range(29, 39)),
    "s40",
)
CLIPS = (
    ("0101", "disgustingteeth", "disgust1"),
    ("0102", "eatingworms", "disgust2"),
    ("0401", "girlcrashing", "anger1"),
    ("0402", "beatingpregnantwoman", "anger2"),
    ("0502", "funnyerrors", "happy1"),
    ("0503", "unnyfarting", "happy2"),
    ("0505", "funnyinnovations", "happy3"),
    ("0507", "climbingthewall", "happy4"),
    ("0508", "funnydunkey", "happy5"),
)
WORKBOOK = "CAS(ME)^2code_final.xlsx"
SELF_REPORTS = {"disgust": "disgust", "anger": "anger", "happy": "happiness"}


def generate(
    out: Path,
    *,
    layout: str = "casme2",
    subjects: int,
    videos: int,
    seconds: float,
    seed: int,
    jobs: int = 0,
    progress: bool = True,
) -> None:
    """Render `subjects` x `videos` videos of `seconds` at 30 fps and their workbook into `out`.

    `jobs` processes share the videos (0: one per core); a script that calls this with more than
    one needs the usual `if __name__ == "__main__":`.  Videos that are already complete are kept.

    Raises:
      UserError: an argument is out of range, `out` holds something else, or the disk is full.
    """
    out = Path(out)
    _check(layout, subjects, videos, seconds, seed, jobs)
    parameters = {
        "format": FORMAT,
        "layout": layout,
        "subjects": subjects,
        "videos": videos,
        "seconds": float(seconds),
        "seed": seed,
    }
    tasks = list(_tasks(out, subjects, videos, seconds, seed))
    try:
        with locked(out, "wait for it, or choose another folder"):
            _claim(out, parameters)
            for leftover in out.glob(f"{PARTIAL}*"):
                shutil.rmtree(leftover)
            missing = [task for task in tasks if not (out / task.folder).is_dir()]
            frames = sum(task.frames for task in missing)
            require_free_space(out, frames * BYTES_PER_FRAME, f"rendering {frames} frames")
            if missing:
                workers.run(
                    render_video,
                    missing,
                    jobs=jobs,
                    frames=frames,
                    finished=lambda task, result: None,
                    label="rendering",
                    quiet=not progress,
                )
            _write_workbook(tasks, out / WORKBOOK)
            for leftover in out.glob(f"{PARTIAL}*"):
                shutil.rmtree(leftover)
    except OSError as error:
        raise UserError(one_line(error)) from error


def _check(layout: str, subjects: int, videos: int, seconds: float, seed: int, jobs: int) -> None:
    """Refuse arguments out of range, each in one line with what to do."""
    if layout != "casme2":
        raise UserError(f"--layout {layout}: unknown layout, use casme2")
    for name, value, most in (
        ("--subjects", subjects, len(SUBJECTS)),
        ("--videos", videos, len(CLIPS)),
    ):
        if not 1 <= value <= most:
            raise UserError(
                f"{name} {value}: CAS(ME)^2 has room for 1 to {most}, choose a number in between"
            )
    if not 1.0 <= seconds <= LONGEST:  # also catches nan
        raise UserError(
            f"--seconds {seconds:g}: choose a length from 1 to {LONGEST:g} seconds per video "
            "(30 gives room for a few expressions)"
        )
    if seed < 0:
        raise UserError(f"--seed {seed}: choose 0 or a positive whole number")
    if jobs < 0:
        raise UserError(f"--jobs {jobs}: choose 0 (all cores) or a positive number of processes")


def _claim(out: Path, parameters: dict[str, object]) -> None:
    """Make `out` the home of this set, or refuse if it holds anything else."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / PARAMETERS_FILE
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if found == parameters:
            return
        differing = sorted(
            name
            for name in parameters
            if not isinstance(found, dict) or found.get(name) != parameters[name]
        )
        raise UserError(
            f"{out} holds another synthetic set (other {', '.join(differing) or 'fields'}): "
            "choose another folder, or delete this one to render it anew"
        )
    names = [path.name for path in out.iterdir()]
    if any(name != LOCK and not LEFTOVER.search(name) for name in names):
        raise UserError(
            f"{out} is not empty and holds no {PARAMETERS_FILE}: choose a new or empty folder"
        )
    write_json(path, parameters)


def _tasks(out: Path, subjects: int, videos: int, seconds: float, seed: int) -> Iterator[VideoTask]:
    """All videos in the order of the workbook."""
    for subject, folder in enumerate(SUBJECTS[:subjects]):
        for video, (code, suffix, name) in enumerate(CLIPS[:videos]):
            yield VideoTask(
                root=out,
                folder=f"rawpic/{folder}/{folder[1:]}_{code}{suffix}",
                subject=subject,
                video=video,
                clip=name.rstrip("0123456789"),
                seconds=seconds,
                seed=seed,
            )


def _write_workbook(tasks: list[VideoTask], path: Path) -> None:
    """The three sheets of CAS(ME)^2's annotation workbook, without header rows."""
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    codes = book.create_sheet("CASFEcode_final")
    folders = book.create_sheet("naming rule1")
    names = book.create_sheet("naming rule2")
    for task in tasks:
        folder = SUBJECTS[task.subject]
        name = CLIPS[task.video][2]
        for number, event in enumerate(task.motion().expressions, start=1):
            label = (
                task.subject + 1,
                f"{name}_{number}",
                event.onset,
                event.apex,
                event.offset,
                event.display.action_units,
                event.display.emotion,
                event.kind,
                SELF_REPORTS[task.clip],
            )
            codes.append(label)
            folders.append((int(folder[1:]), folder, task.subject + 1))
    for code, _, name in CLIPS:
        names.append((code, name))
    partial = path.with_name(f".{path.name}.tmp")
    book.save(partial)
    os.replace(partial, path)


@command
def main(argv: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m data_prep.synthetic",
        description="Render synthetic face videos with labelled macro- and micro-expressions, "
        "laid out on disk like CAS(ME)^2.",
        epilog="example:  python -m data_prep.synthetic data/synthetic --subjects 4 --videos 3 "
        "--seconds 30 --seed 0\n\nwrites 4 x 3 videos of 900 frames each (about 50 KB a frame) to "
        "data/synthetic/rawpic\nand their labels to data/synthetic/CAS(ME)^2code_final.xlsx.  "
        "Run the same command again\nafter an interruption: finished videos are kept.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="new or empty folder")
    parser.add_argument("--layout", default="casme2", help="data set to imitate (only casme2)")
    parser.add_argument("--subjects", type=int, default=4, help="people, 1 to 22 (default 4)")
    parser.add_argument("--videos", type=int, default=3, help="videos a person, 1 to 9 (default 3)")
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="length of a video at 30 fps (default 30)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="another seed, other people (default 0)"
    )
    parser.add_argument("--jobs", type=int, default=0, help="processes, 0 for all cores (default)")
    options = parser.parse_args(argv)
    generate(
        options.out,
        layout=options.layout,
        subjects=options.subjects,
        videos=options.videos,
        seconds=options.seconds,
        seed=options.seed,
        jobs=options.jobs,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
