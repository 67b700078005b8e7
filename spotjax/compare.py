"""`python -m spotjax.compare RUN RUN [RUN ...]`: do runs differ, on the same subjects?

For each expression type the F1 of each method, and for each pair of methods the difference with
its 95 % interval and p (`counting.paired`).  Runs that differ in nothing but the seed are one
method, the mean of its seeds.  `RUN:strain_sum` is a training-free method on that run's videos.  No
network runs.  Writes OUT/comparison.csv and OUT/comparison.html.
"""

import argparse
import csv
import io
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from spotjax import files
from spotjax.config import EXPRESSION_TYPES
from spotjax.counting import paired, run_counts
from spotjax.counting.comparison import Compared, Method, Terms, compare, counted, grouped, terms_of
from spotjax.counting.headline import ORACLE
from spotjax.counting.matching import RULES
from spotjax.counting.run_counts import Scored
from spotjax.errors import UserError, command
from spotjax.pages import compare_page

COLUMNS = (
    "kind", "type", "first", "second", "runs", "f1", "f1_std", "f1_min", "f1_max", "low", "high",
    "tp", "fp", "fn", "p", "p_holm", "p_exact", "subjects", "videos", "rule", "iou",
)  # fmt: skip
LONGEST = 70
"""Characters of the names of a pair that still stand in one line."""


@command
def main(argv: list[str]) -> int:
    """Command line.  Raises UserError for a wrong option."""
    options = _arguments().parse_args(argv)
    if options.draws < 100:
        raise UserError(f"--draws {options.draws}: give at least 100")
    if options.rule and options.rule not in RULES:
        raise UserError(f"--rule {options.rule}: is none of {', '.join(RULES)}")
    if options.iou is not None and not 0 < options.iou <= 1:
        raise UserError(f"--iou {options.iou:g}: give a number above 0, at most 1")
    scored = [read(text) for text in options.runs]
    if options.common:
        scored = run_counts.common(scored)
    same = "compare runs on the same videos"
    run_counts.refuse_different(scored, same + ("" if options.common else ", or give --common"))
    methods = grouped(scored, options.apart)
    terms = terms_of(scored, options.rule, options.iou, options.draws)
    compared = compare(methods, terms)
    about = list(about_lines(scored[0], methods, terms))
    out = files.folder(options.out, "--out")
    table, page = out / "comparison.csv", out / "comparison.html"
    files.write_text(table, to_csv(compared, scored[0], terms))
    files.write_text(page, compare_page.render(compared, about))
    print("\n".join([*about, *lines(compared)]))
    print(f"\ntable: {table}\npage: {page}")
    return 0


def _arguments() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(
        prog="python -m spotjax.compare",
        description="Compare evaluated runs on the same subjects: F1, differences, intervals, p.\n"
        "\n"
        "  python -m spotjax.compare runs/demo runs/spotformer_demo\n"
        "  python -m spotjax.compare runs/demo runs/demo:strain_sum\n"
        "  python -m spotjax.compare runs/a_seed=0 runs/a_seed=1 runs/b_seed=0 runs/b_seed=1",
        epilog="difference  F1 of the first minus F1 of the second, over all subjects' counts\n"
        "95 %        what the difference is when subjects are drawn again and again, with\n"
        "            replacement, the same ones for both methods\n"
        "p           how often it would be as large if each subject's two results were\n"
        "            exchanged at random, which changes nothing where methods do not differ\n"
        "p (Holm)    the same, corrected for the number of pairs of the type: a small p among\n"
        "            many is to be expected",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = arguments.add_argument
    add("runs", nargs="+", metavar="RUN", help="run directory, or RUN:METHOD (strain_sum, ...)")
    add("--rule", default="", help="matching rule (default: the runs' own)")
    add("--iou", type=float, help="least IoU of a true positive (default: the runs' own)")
    add("--common", action="store_true", help="only the videos that all runs have scored")
    add("--apart", action="store_true", help="seeds of one configuration are methods of their own")
    add("--draws", type=int, default=paired.DRAWS, help=f"resamplings (default: {paired.DRAWS})")
    add("--out", default="runs", help="folder of comparison.csv and .html (default: runs)")
    return arguments


# --- what is compared -----------------------------------------------------------------------------


def read(text: str) -> Scored:
    """`RUN` or `RUN:METHOD`.  Raises UserError."""
    folder, colon, method = text.rpartition(":")
    if not colon or Path(text).is_dir():
        return run_counts.read(Path(text))
    from spotjax import run_baselines  # imports JAX

    return run_baselines.of_run(run_counts.read(Path(folder)), method)


# --- tables ---------------------------------------------------------------------------------------


def about_lines(base: Scored, methods: Sequence[Method], terms: Terms) -> Iterator[str]:
    """What was compared and how, in sentences."""
    subjects = len(set(base.subjects.values()))
    least = 2 / 2**subjects
    every = 2**subjects <= terms.draws
    yield (
        f"{base.protocol['data_set']}: {subjects} subjects, {len(base.frames)} videos, rule "
        f"{terms.rule}, IoU >= {terms.iou:g}"
    )
    yield (
        f"95 % intervals: {terms.draws} resamplings of subjects, the same for all methods; p: "
        f"{'all' if every else 'random'} exchanges of subjects"
        + (f" ({2**subjects}, least p {least:.2g})" if every else "")
    )
    for method in methods:
        if method.oracle:
            yield f"{method.label}: oracle, {ORACLE}"
    for type in EXPRESSION_TYPES:
        spotting = [any(type in one.types for one in method.members) for method in methods]
        if any(spotting) and not all(spotting):
            without = [m.label for m, there in zip(methods, spotting, strict=True) if not there]
            does, stands = ("does", "stands") if len(without) == 1 else ("do", "stand")
            yield f"{type}: {', '.join(without)} {does} not spot it and {stands} in no row of it"
    if len(methods) == 1:
        yield "all runs are seeds of one configuration: --apart compares them with each other"


def lines(compared: Sequence[Compared]) -> Iterator[str]:
    """The tables on a terminal."""
    labels = [result.method.label for one in compared for result in one.results]
    names = [f"{p.first.label} - {p.second.label}" for one in compared for p in one.pairs]
    wide = max(map(len, [*labels, *(name for name in names if len(name) <= LONGEST)])) + 2
    for one in compared:
        seeds = any(len(result.each) > 1 for result in one.results)
        yield ""
        yield (
            f"{one.type:<{wide}}{'F1':>9}{'± seeds' if seeds else '':>9}{'95 %':>18}"
            f"{'TP/FP/FN':>18}"
        )
        for result in one.results:
            spread = f"± {result.std:.4f}" if len(result.each) > 1 else ""
            yield (
                f"{result.method.label:<{wide}}{result.f1:>9.4f}{spread:>9}"
                f"{f'{result.low:.3f} to {result.high:.3f}':>18}{counted(result):>18}"
            )
        several = len(one.pairs) > 1
        if one.pairs:
            holm = f"{'p (Holm)':>10}" if several else ""
            yield f"{'  difference':<{wide}}{'F1':>9}{'':>9}{'95 %':>18}{'p':>9}{holm}"
        for pair in one.pairs:
            name, found = f"{pair.first.label} - {pair.second.label}", pair.found
            head = textwrap.wrap(name, wide - 2)
            yield from head[:-1]
            span = f"{found.low:+.3f} to {found.high:+.3f}"
            yield (
                f"{head[-1]:<{wide}}{found.difference:>+9.4f}{'':>9}{span:>18}{found.p:>9.4f}"
                + (f"{pair.p_holm:>10.4f}" if several else "")
            )


def to_csv(compared: Sequence[Compared], base: Scored, terms: Terms) -> str:
    """A line per method and type, then a line per pair and type."""
    common = {
        "subjects": len(set(base.subjects.values())),
        "videos": len(base.frames),
        "rule": terms.rule,
        "iou": terms.iou,
    }
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for one in compared:
        for result in one.results:
            tp, fp, fn = result.counts.sum(axis=1).mean(axis=0)[:3].tolist()
            writer.writerow(
                {"kind": "method", "type": one.type, "first": result.method.label,
                 "runs": len(result.each), "f1": result.f1, "f1_std": result.std,
                 "f1_min": min(result.each), "f1_max": max(result.each), "low": result.low,
                 "high": result.high, "tp": tp, "fp": fp, "fn": fn}
                | common
            )  # fmt: skip
        for pair in one.pairs:
            found = pair.found
            writer.writerow(
                {"kind": "difference", "type": one.type, "first": pair.first.label,
                 "second": pair.second.label, "f1": found.difference, "low": found.low,
                 "high": found.high, "p": found.p, "p_holm": pair.p_holm, "p_exact": found.exact}
                | common
            )  # fmt: skip
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
