"""What the benchmarks share: interleaved rounds, medians of ratios, one table and one file.

A benchmark gives `measure` its variants by name and `show` what came out.  Every round runs each
variant once, in turn, after a round that warms up, so that what disturbs the machine disturbs them
all.  CPU seconds (of all threads of this process) count where other programs use the cores.
"""

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from spotjax import files
from spotjax.config import cores

Run = Callable[[], object]
"""Does some work and waits for its end."""
SCALES = {"s": 1.0, "ms": 1e3, "us": 1e6}
PACKAGES = (
    ("jax", "jaxlib", "numpy", "numba", "opencv-contrib-python-headless")
    + ("tensorflow-cpu", "tensorflow", "keras", "torch", "ray")
)  # fmt: skip


class Times(NamedTuple):
    """Seconds of each variant in each round, per unit of work."""

    cpu: dict[str, list[float]]
    wall: dict[str, list[float]]


def parser(doc: str, rounds: int) -> argparse.ArgumentParser:
    """A benchmark's command line: its docstring, `--rounds` and `--json`."""
    found = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("--rounds", type=positive, default=rounds)
    found.add_argument("--json", type=Path, help="also write the figures to this file")
    return found


def positive(word: str) -> int:
    """A whole number of 1 or more, for argparse."""
    if (number := int(word)) < 1:
        raise argparse.ArgumentTypeError(f"{word} must be 1 or more")
    return number


def measure(
    variants: Mapping[str, Run], rounds: int, work: float | Mapping[str, float] = 1.0
) -> Times:
    """Time each variant in each round; `work` units are done in one run (of each, or of all)."""
    cpu: dict[str, list[float]] = {name: [] for name in variants}
    wall: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, run in variants.items():
            units = work[name] if isinstance(work, Mapping) else work
            begin, begin_cpu = time.perf_counter(), time.process_time()
            run()
            spent, spent_cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
            if number:  # the first round compiles and warms up
                cpu[name].append(spent_cpu / units)
                wall[name].append(spent / units)
    return Times(cpu, wall)


def ratio(values: Sequence[float], reference: Sequence[float]) -> float:
    """Median of the ratios of the same round."""
    return statistics.median(v / r for v, r in zip(values, reference, strict=True))


def show(
    benchmark: str,
    times: Times,
    unit: str,
    reference: str,
    json: Path | None,
    columns: Mapping[str, Mapping[str, str]] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Print the table and write the figures.

    `unit` begins with s, ms or us, for example "ms a step"; `reference` is the variant that the
    others are compared with; `columns` are further cells by heading and variant.
    """
    scale, columns = SCALES[unit.split()[0]], columns or {}
    print(f"{benchmark}: {machine()}")
    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    print(f"{unit}, median of {len(times.cpu[reference])} rounds; x: times of {reference}")
    width = max(28, *(len(name) + 2 for name in times.cpu))
    heads = ("CPU", "min", "max", "x", "wall", "x", *columns)
    print(f"{'':<{width}}" + "".join(f"{head:>{max(10, len(head) + 2)}}" for head in heads))
    for name, values in times.cpu.items():
        walls = times.wall[name]
        middle, wall = (statistics.median(v) * scale for v in (values, walls))
        cells = [
            *(significant(x) for x in (middle, min(values) * scale, max(values) * scale)),
            f"{ratio(values, times.cpu[reference]):.2f}",
            significant(wall),
            f"{ratio(walls, times.wall[reference]):.2f}",
            *(column.get(name, "-") for column in columns.values()),
        ]
        widths = [max(10, len(head) + 2) for head in heads]
        padded = (f"{cell:>{w}}" for cell, w in zip(cells, widths, strict=True))
        print(f"{name:<{width}}" + "".join(padded))
    for note in notes:
        print(note)
    if json is not None:
        files.write_json(json, figures(benchmark, times, unit, reference, columns, notes))


def figures(
    benchmark: str,
    times: Times,
    unit: str,
    reference: str,
    columns: Mapping[str, Mapping[str, str]],
    notes: Sequence[str],
) -> dict[str, Any]:
    """What a benchmark's file holds; `variants` and `ratios` are of CPU time."""
    scale = SCALES[unit.split()[0]]
    return {
        "benchmark": benchmark,
        "argv": without_json(sys.argv[1:]),
        "machine": machine(),
        "versions": versions(),
        "unit": f"CPU {unit}",
        "accelerator": accelerator(),
        "variants": {name: [v * scale for v in values] for name, values in times.cpu.items()},
        "wall": {name: [v * scale for v in values] for name, values in times.wall.items()},
        "reference": reference,
        "ratios": {name: ratio(v, times.cpu[reference]) for name, v in times.cpu.items()},
        "columns": columns,
        "notes": list(notes),
    }


def without_json(words: Sequence[str]) -> list[str]:
    """A command line's words without `--json FILE`: a path says nothing about a measurement."""
    kept = list(words)
    while "--json" in kept:
        place = kept.index("--json")
        del kept[place : place + 2]
    return kept


def significant(value: float) -> str:
    """Three digits that count, no exponent: 0.0123, 1.23, 123."""
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def machine() -> str:
    """Cores, processor and the device that JAX uses, where it is loaded; no host name."""
    found = f"{cores()} core{'s' if cores() > 1 else ''} of {processor()}"
    return f"{found}, {accelerator()}" if accelerator() else found


def accelerator() -> str:
    """The device that JAX uses, where it is loaded; empty for a CPU."""
    if "jax" not in sys.modules:
        return ""
    device = sys.modules["jax"].devices()[0]
    return "" if device.platform == "cpu" else f"{device.device_kind} ({device.platform})"


def processor() -> str:
    """The processor's name, its architecture where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({platform.machine()})" if names else platform.machine()


def versions() -> dict[str, str]:
    """Of Python and of the packages that a benchmark may have used."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def find_torch(threads: int) -> str | None:
    """The PyTorch device that corresponds to JAX's; None, with a note, where there is none.

    On CPUs PyTorch gets `threads` threads (0: its own choice).
    """
    import jax

    try:
        import torch
    except ImportError:
        print("torch is not installed: no PyTorch rows")
        return None
    if jax.devices()[0].platform == "cpu":
        torch.set_num_threads(threads or torch.get_num_threads())
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    print("torch cannot use the device that JAX uses: no PyTorch rows")
    return None
