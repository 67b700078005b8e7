"""Synthetic long face videos on disk exactly as a data set of the field.

No licensed recording may be shared, so demos and tests render their own: moving heads with
labelled macro- and micro-expressions, in the folders, file names and annotation workbooks of
CAS(ME)^2, SAMM-LV (grey, 200 fps) or CAS(ME)^3 (colour and depth).  Readers, face detection,
optical flow and networks run on them unchanged.

    python -m data_prep.synthetic OUT --layout casme2 --subjects 4 --videos 3 --seconds 30 --seed 0

The bytes of a video depend on (seed, subject, video, layout) only: not on --jobs, nor on how many
other subjects are rendered.  An interrupted run continues where it stopped.
"""

import argparse
import json
import shutil
from pathlib import Path

from spotjax.errors import UserError, command, one_line, require_free_space
from spotjax.files import LEFTOVER, LOCK, locked, write_json

from . import workers
from .readers import SYNTHETIC_MARK
from .synthetic_labels import write_workbooks
from .synthetic_layouts import LAYOUTS, VideoTask
from .synthetic_render import PARTIAL, render_video

FORMAT = "spotjax-synthetic-1"  # raise it whenever the same parameters give other frames
LONGEST = 3600.0  # seconds


def generate(
    out: Path,
    *,
    layout: str = "casme2",
    subjects: int,
    videos: int,
    seconds: float,
    seed: int,
    calm: bool = False,
    jobs: int = 0,
    progress: bool = True,
) -> None:
    """Render `subjects` x `videos` videos of `seconds` and their workbooks into `out`.

    `layout` is a key of `LAYOUTS`; `calm` videos show no distractors.  `jobs` processes share the
    videos (0: one per core); a script that calls this with more than one needs the usual
    `if __name__ == "__main__":`.  Videos that are already complete are kept.

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
    } | ({"calm": True} if calm else {})  # sets rendered before there was this choice stay valid
    tasks = [
        VideoTask(layout, out, subject, video, seconds, seed, calm)
        for subject in range(subjects)
        for video in range(videos)
    ]
    try:
        with locked(out, "wait for it, or choose another folder"):
            _claim(out, parameters)
            for leftover in out.glob(f"{PARTIAL}*"):
                shutil.rmtree(leftover)
            missing = [task for task in tasks if not (out / task.folder).is_dir()]
            frames = sum(task.frames for task in missing)
            space = frames * LAYOUTS[layout].bytes_per_frame
            require_free_space(out, space, f"rendering {frames} frames")
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
            write_workbooks(layout, tasks, out)
            for leftover in out.glob(f"{PARTIAL}*"):
                shutil.rmtree(leftover)
    except OSError as error:
        raise UserError(one_line(error)) from error


def _check(layout: str, subjects: int, videos: int, seconds: float, seed: int, jobs: int) -> None:
    """Refuse arguments out of range, each in one line with what to do."""
    if layout not in LAYOUTS:
        raise UserError(f"--layout {layout}: unknown layout, use {', '.join(LAYOUTS)}")
    style = LAYOUTS[layout]
    for name, value, most in (
        ("--subjects", subjects, len(style.subjects)),
        ("--videos", videos, len(style.moods)),
    ):
        if not 1 <= value <= most:
            raise UserError(
                f"{name} {value}: {style.title} has room for 1 to {most}, choose a number in "
                "between"
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
    path = out / SYNTHETIC_MARK
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if found == parameters:
            return
        differing = sorted(
            name
            for name in {*parameters, *(found if isinstance(found, dict) else ())}
            if not isinstance(found, dict) or found.get(name) != parameters.get(name)
        )
        raise UserError(
            f"{out} holds another synthetic set (other {', '.join(differing) or 'fields'}): "
            "choose another folder, or delete this one to render it anew"
        )
    names = [path.name for path in out.iterdir()]
    if any(name != LOCK and not LEFTOVER.search(name) for name in names):
        raise UserError(
            f"{out} is not empty and holds no {SYNTHETIC_MARK}: choose a new or empty folder"
        )
    write_json(path, parameters)


@command
def main(argv: list[str]) -> int:
    """The command line.  Raises UserError for a wrong option or a folder of something else."""
    parser = argparse.ArgumentParser(
        prog="python -m data_prep.synthetic",
        description="Render synthetic face videos with labelled macro- and micro-expressions, "
        "laid out on disk like a data set of the field.",
        epilog="layouts:\n"
        "  casme2   CAS(ME)^2: 30 fps, colour; rawpic/s15/15_0101disgustingteeth/img001.jpg;\n"
        "           four emotions; up to 22 people with 9 videos each\n"
        "  samm_lv  SAMM-LV: 200 fps, grey; SAMM_longvideos/006_1/006_1_0001.jpg; some frame\n"
        "           numbers are fractional; no emotions; up to 30 people with 7 videos each\n"
        "  casme3   CAS(ME)^3 part A: 30 fps, colour and 16-bit depth in mm;\n"
        "           part_A/spNO.1/a/color/7.jpg and .../depth/7.png; numbers begin anywhere and\n"
        "           a few images are missing; seven emotions; up to 98 people with 13 videos each\n"
        "\n"
        "example:  python -m data_prep.synthetic data/synthetic --subjects 4 --videos 3 "
        "--seconds 30 --seed 0\n"
        "\n"
        "writes 4 x 3 videos of 900 frames each (about 50 KB a frame; 45 KB in grey, 200 KB with\n"
        "depth) to data/synthetic/rawpic and their labels to\n"
        "data/synthetic/CAS(ME)^2code_final.xlsx.  Run the same command again after an\n"
        "interruption: finished videos are kept.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="new or empty folder")
    parser.add_argument(
        "--layout", default="casme2", help=f"data set to imitate: {', '.join(LAYOUTS)} (casme2)"
    )
    parser.add_argument("--subjects", type=int, default=4, help="people (default 4)")
    parser.add_argument("--videos", type=int, default=3, help="videos a person (default 3)")
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="length of a video (default 30)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="another seed, other people (default 0)"
    )
    parser.add_argument(
        "--calm", action="store_true", help="no blinks, talking, sniffs, swallows or nods"
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
        calm=options.calm,
        jobs=options.jobs,
    )
    print(
        f"{options.out}: {options.subjects} x {options.videos} videos, layout {options.layout}; "
        f"look at them with python -m data_prep.check --config configs/softnet_{options.layout}.py "
        f"--config.data.root={options.out}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
