"""`python -m spotjax.sweep --config C`: a config and its named variants, one table at the end.

A config file that has variants lists them in `PRESETS`, name to one line of text, and takes the
name as the argument of `get_config`.  Each is a run of its own (`spotjax.train`), so the same
command again goes on where it stopped and does not repeat what is finished.
"""

import csv
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

from spotjax import config as config_lib
from spotjax import files, headline, run_tables, rundir
from spotjax.cli import load_config, parse, parser, presets
from spotjax.config import Config
from spotjax.errors import UserError, command, one_line

PLAIN = "plain"
"""Name of the config without a preset."""
COLUMNS = (
    "preset", "macro_f1", "macro_tp", "macro_fp", "macro_fn", "micro_f1", "micro_tp", "micro_fp",
    "micro_fn", "overall_f1", "uf1", "uar", "strs", "rule", "epoch_choice", "seed", "run",
)  # fmt: skip


@command
def main(argv: list[str]) -> int:
    """Command line."""
    arguments = parser(
        "python -m spotjax.sweep",
        "Train and evaluate a config with each of its presets, and print one table.\n\n"
        "  python -m spotjax.sweep --config configs/sfamnet_demo.py\n"
        "  python -m spotjax.sweep --config configs/sfamnet_demo.py --presets plain,scene\n\n"
        "Runs go to OUT/<name of the config>, the table to OUT/sweep_<name>.csv; finished runs "
        "are not repeated.",
    )
    arguments.add_argument("--config", required=True, help="config file with PRESETS")
    arguments.add_argument(
        "--presets", default="", help=f"of its presets, {PLAIN} for none (default: {PLAIN} and all)"
    )
    arguments.add_argument("--out", default="runs", help="folder for the runs (default: runs)")
    options, overrides = parse(arguments, argv)
    if ":" in options.config:
        raise UserError(
            f"--config {options.config}: name the file alone, and its presets with --presets"
        )
    known = presets(options.config)
    if not known:
        raise UserError(
            f"--config {options.config}: has no PRESETS, so there is nothing to sweep: use "
            "spotjax.train"
        )
    wanted = [w for w in options.presets.split(",") if w] or [PLAIN, *known]
    for name in wanted:
        if name != PLAIN and name not in known:
            raise UserError(
                f"--presets {name}: {options.config} has no such preset; it has {', '.join(known)}"
            )
    out = Path(options.out)
    plans = {}
    for name in wanted:  # all of them before the first one runs
        file = options.config + ("" if name == PLAIN else f":{name}")
        config = load_config(file, overrides)
        plans[name] = (file, config, out / config.name)
    failed = {}
    for number, (name, (file, config, run)) in enumerate(plans.items(), start=1):
        print(
            f"[{number}/{len(plans)}] {name}: {known.get(name, 'as the file stands')}", flush=True
        )
        if not finished(run, config):
            words = [f"--config.{override}" for override in overrides]
            line = [sys.executable, "-m", "spotjax.train", "--config", file, "--workdir", str(run)]
            if status := subprocess.run([*line, *words]).returncode:
                failed[name] = f"ended with status {status}"
    rows = []
    for name, (_, _, run) in plans.items():
        try:
            rows.append(row_of(name, run))
        except UserError as error:
            failed.setdefault(name, one_line(error))
    print_table(rows)
    if rows:
        table = out / f"sweep_{load_config(options.config, overrides).name}.csv"
        files.write_text(table, table_csv([*rows, *_others(table, rows)]))
        print(f"table: {table}")
    for name, why in failed.items():
        print(f"error: {name}: {why}", file=sys.stderr)
    return 2 if failed else 0


def _others(table: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of an earlier table for presets that are not in this one."""
    if not table.exists():
        return []
    with open(table, newline="") as file:
        earlier = [row for row in csv.DictReader(file) if set(row) == set(COLUMNS)]
    return [row for row in earlier if row["preset"] not in {new["preset"] for new in rows}]


def finished(run: Path, config: Config) -> bool:
    """Whether `run` holds the evaluated results of exactly this config."""
    if not (run / "metrics.json").exists() or not (run / "config.json").exists():
        return False
    saved, _, _ = rundir.load_run(run)
    return config_lib.to_dict(saved) == config_lib.to_dict(config) == _evaluated(run)


def _evaluated(run: Path) -> Any:
    return run_tables.read_results(run)["protocol"]["config"]


def row_of(name: str, run: Path) -> dict[str, Any]:
    """One line of the table.  Raises UserError if the run has no results."""
    metrics = run_tables.read_results(run)
    about, results = metrics["protocol"], metrics["results"]
    row: dict[str, Any] = dict.fromkeys(COLUMNS, "") | {"preset": name, "run": str(run)}
    for type in headline.types_of(about):
        keys = ("f1",) if type == "overall" else ("f1", "tp", "fp", "fn")
        row |= {f"{type}_{key}": results[type][key] for key in keys}
    if recognised := metrics.get("recognition"):
        row |= {key: recognised["ground_truth"][key] for key in ("uf1", "uar")}
        row["strs"] = recognised["analysis"][recognised["rule"]]["strs"]
    row |= {key: about[key] for key in ("rule", "epoch_choice", "seed")}
    if (thresholds := about.get("threshold_choice", "fixed")) != "fixed":
        row["epoch_choice"] += f", thresholds {thresholds}"
    return row


def print_table(rows: list[dict[str, Any]]) -> None:
    """The table on the terminal."""
    types = [t for t in ("macro", "micro") if any(row[f"{t}_f1"] != "" for row in rows)]
    others = [
        (key, title)
        for key, title in (("overall_f1", "overall"), ("uf1", "UF1"), ("uar", "UAR"),
                           ("strs", "STRS"))
        if any(row[key] != "" for row in rows)
    ]  # fmt: skip
    columns = "".join(f"{f'{type} F1':>9}{'TP/FP/FN':>14}" for type in types)
    print(f"\n{'preset':<18}{columns}" + "".join(f"{title:>9}" for _, title in others))
    for row in rows:
        cells = f"{row['preset']:<18}"
        for type in types:
            counts = "/".join(str(row[f"{type}_{key}"]) for key in ("tp", "fp", "fn"))
            cells += f"{row[f'{type}_f1']:>9.4f}{counts:>14}"
        for key, _ in others:
            cells += f"{row[key]:>9.4f}" if row[key] != "" else f"{'-':>9}"
        oracle = "oracle" in row["epoch_choice"]
        print(cells + ("  oracle: chosen on the test subjects, no result" if oracle else ""))


def table_csv(rows: list[dict[str, Any]]) -> str:
    """The table as CSV with all columns."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
