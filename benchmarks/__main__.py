"""Every benchmark, each in a process of its own, and a page of what they found.

    python -m benchmarks [--quick] [--only fold_training,swmro] [--out DIR]

Benchmarks of one core are pinned to it, where the system can and JAX has no accelerator; with one,
wall time is compared.  One that fails, or whose package is
not installed, is named on the page, and the others go on.  The page, its picture and all figures
are DIR/RESULTS.md, DIR/benchmarks.svg and DIR/benchmarks.json.  With --only what DIR already has of
other benchmarks stays, if this machine made it.
"""

import argparse
import functools
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import common, results
from benchmarks.stages import STAGES, Stage
from spotjax import files
from spotjax.errors import UserError, command

FIGURES = "benchmarks.json"


@command
def main(argv: list[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, one round")
    parser.add_argument(
        "--only", default="", help="names such as fold_training,flow (default: all)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/benchmarks"),
        help="folder (default: runs/benchmarks)",
    )
    options = parser.parse_args(argv)
    stages = chosen(options.only)
    options.out.mkdir(parents=True, exist_ok=True)

    found, failed, lines = earlier(options.out, options.quick) if options.only else ({}, {}, [])
    lines.append("python -m benchmarks" + " --quick" * options.quick)
    lines[-1] += f" --only {options.only}" if options.only else ""
    expected = sum(stage.seconds for stage in stages)
    done, begin = 0.0, time.perf_counter()
    for number, stage in enumerate(stages, start=1):
        spent = time.perf_counter() - begin
        left = (expected - done) * (spent / done if done else 1.0)
        told = f", about {max(1, round(left / 60))} min left" if done or not options.quick else ""
        print(f"[{number}/{len(stages)}] {stage.name}{told}", flush=True)
        outcome = run(stage, options.quick)
        failed.pop(stage.name, None)
        if isinstance(outcome, str):
            failed[stage.name] = outcome
            print(f"    {outcome}", flush=True)
        else:
            found[stage.name] = outcome
            for ratio in results.ratios_of(stage, outcome)[0]:
                print(f"    {ratio.label}: {ratio.ratio:.2f}", flush=True)
        done += stage.seconds

    text = results.page(STAGES, found, failed, options.quick, lines)
    ratios = [r for s in STAGES if s.name in found for r in results.ratios_of(s, found[s.name])[0]]
    record = {"lines": lines, "quick": options.quick, "benchmarks": found, "failed": failed}
    files.write_json(options.out / FIGURES, record)
    files.write_text(options.out / "benchmarks.svg", results.picture(ratios))
    files.write_text(options.out / "RESULTS.md", text)
    print(f"{options.out / 'RESULTS.md'}: {len(found)} measured, {len(failed)} not")
    return 1 if failed and not found else 0


def earlier(folder: Path, quick: bool) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """Figures, failures and commands in `folder`, if this machine made them, just as quickly."""
    path = folder / FIGURES
    if not path.exists():
        return {}, {}, []
    record = json.loads(path.read_text())
    machines = [figures["machine"].split(" of ")[-1] for figures in record["benchmarks"].values()]
    if record["quick"] != quick or not all(m.startswith(common.processor()) for m in machines):
        return {}, {}, []
    return record["benchmarks"], record["failed"], record["lines"]


def chosen(only: str) -> list[Stage]:
    """The stages called so, all for no name.  Raises UserError for an unknown name."""
    known = {stage.name: stage for stage in STAGES}
    names = [name for name in only.split(",") if name]
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"--only {','.join(unknown)}: choose from {', '.join(known)}")
    return [known[name] for name in names] or list(STAGES)


def run(stage: Stage, quick: bool) -> dict[str, Any] | str:
    """The figures of a benchmark, or in one line why there are none."""
    if importlib.util.find_spec(f"benchmarks.{stage.module}") is None:
        return f"there is no benchmarks/{stage.module}.py"
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.json"
        words = [*stage.arguments.split(), *(stage.quick.split() if quick else ())]
        words += ["--rounds", "1"] if quick else []
        line = [sys.executable, "-m", f"benchmarks.{stage.module}", *words, "--json", str(figures)]
        with pinned(stage.cores if on_cpu() else 0):
            process = subprocess.Popen(
                line,
                cwd=Path(__file__).parents[1],
                env=environment(stage.cores),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        try:
            error = process.communicate()[1]
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.returncode:
            return failure(process.returncode, error.splitlines())
        found: dict[str, Any] = json.loads(figures.read_text())
        return found


@functools.cache
def on_cpu() -> bool:
    """Whether JAX has no accelerator here; asked of a process, so that none is held by this one."""
    line = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
    said = subprocess.run(line, capture_output=True, text=True, check=False).stdout
    return said.split() == ["cpu"]


@contextmanager
def pinned(cores: int) -> Iterator[None]:
    """A process started inside stays on the last core, if it is to have one; Linux only."""
    if cores != 1 or not hasattr(os, "sched_setaffinity"):
        yield
        return
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(ours)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)


def environment(cores: int) -> dict[str, str]:
    """Threads of the libraries that do not ask how many cores they may use."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return os.environ | dict.fromkeys(names, str(cores))


def failure(status: int, lines: Sequence[str]) -> str:
    """One line of a failed process: the last that looks like an error."""
    told = [line for line in lines if "rror" in line] or list(lines) or ["no message"]
    return f"failed with status {status}: {told[-1].strip()[:200]}"


if __name__ == "__main__":
    sys.exit(main())
