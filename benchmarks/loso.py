"""A whole leave-one-subject-out training of SOFTNet at the size of CAS(ME)^2, as a user starts it.

    python -m benchmarks.loso FOLDER [--epochs 1] [--frames 254094] [--subjects 22] [--videos 98]

Shards of random features (5.4 GB) are made in FOLDER unless they are there; `spotjax.train` then
trains all folds of both expression types for some of the paper's 10 epochs, in a process of its
own, and evaluates.  What 10 epochs cost is the measured epochs' time times 10 over their number.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import made_shards
from benchmarks.common import machine, parser, positive, versions
from spotjax import files
from spotjax.cli import load_config

EPOCHS = 10
CONFIG = "configs/softnet_casme2.py"


def main() -> None:
    """Command line."""
    arguments = parser(__doc__ or "", rounds=1)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--epochs", type=positive, default=1)
    arguments.add_argument("--subjects", type=positive, default=22)
    arguments.add_argument("--videos", type=positive, default=98)
    arguments.add_argument("--frames", type=positive, default=254_094)
    arguments.add_argument("--words", nargs="*", default=[], help="more KEY=VALUE for the config")
    options = arguments.parse_args()
    shards, run = options.folder / "shards", options.folder / "run"
    words = [
        f"data.root={options.folder / 'licensed'}",  # not there, and not needed
        f"data.shards={shards}",
        f"train.epochs={options.epochs}",
        *options.words,
    ]
    made_shards.make(
        shards, load_config(CONFIG, words), options.subjects, options.videos, options.frames
    )
    line = [sys.executable, "-m", "spotjax.train", "--config", CONFIG, "--workdir", str(run)]
    begin = time.perf_counter()
    with subprocess.Popen([*line, *(f"--config.{word}" for word in words)]) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    whole = time.perf_counter() - begin
    if process.returncode:
        sys.exit(process.returncode)
    log = [json.loads(text) for text in (run / "log.jsonl").read_text().splitlines()]
    seconds = {p: sum(e["seconds"] for e in log if e["problem"] == p) for p in ("macro", "micro")}
    trained = sum(seconds.values())
    found = {
        "trained, s": round(trained, 1),
        **{f"{problem}, s": round(value, 1) for problem, value in seconds.items()},
        "whole command, s": round(whole, 1),
        "CPU of the command, s": round(usage.ru_utime + usage.ru_stime, 1),
        "peak memory, GB": round(usage.ru_maxrss / 1e6, 2),
        "epochs": options.epochs,
        f"{EPOCHS} epochs, extrapolated, min": round(
            (whole + trained * (EPOCHS / options.epochs - 1)) / 60, 1
        ),
    }
    print(f"loso: {machine()}; " + ", ".join(f"{n} {v}" for n, v in versions().items()))
    print(f"{options.subjects} subjects, {options.videos} videos, {options.frames} frames")
    for name, value in found.items():
        print(f"{name:<34}{value:>12}")
    if options.json is not None:
        files.write_json(options.json, found)


if __name__ == "__main__":
    main()
