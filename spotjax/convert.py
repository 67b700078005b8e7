"""`python -m spotjax.convert IN... --out FILE`: trained or released weights as one portable file.

Reads a run directory of spotjax.train, SOFTNet's released Keras files and SFAMNet's released
PyTorch files; neither Keras nor PyTorch is needed.  The file holds everything that spotting needs:
`spotjax.parameters.weights` describes it.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from spotjax.config import EXPRESSION_TYPES
from spotjax.errors import UserError, command
from spotjax.parameters import released_files, released_weights, weights

HELP = """examples:
  a trained run:
    python -m spotjax.convert runs/softnet_casme2 --out mine.spotjax.npz
  SOFTNet as released, both types, all folds of CAS(ME)^2 (their scores are averaged):
    python -m spotjax.convert SOFTNet_Weights/CASME_sq/*/*.hdf5 --out softnet_casme2
  SFAMNet as released, four emotions, without its NaN folds:
    python -m spotjax.convert pretrained_weights/4emo/*.pkl --skip-bad --out sfamnet4

data set and type of SOFTNet's files are told by their names or folders (CASME_sq, SAMMLV; macro,
micro); --dataset and --type say it for files of other names.  A name without .npz gets the ending
.spotjax.npz.  The same input gives the same bytes.
"""
ONLY = {
    "run": ("fold",),
    "softnet": ("type", "dataset", "skip_bad"),
    "sfamnet": ("flow", "skip_bad"),
}
"""Options that each kind of input knows."""


def kind_of(paths: Sequence[Path]) -> str:
    """run, softnet or sfamnet, by what the inputs are.  Raises UserError naming the odd one."""
    first, *others = [_kind(path) for path in paths]
    for path, kind in zip(paths[1:], others, strict=True):
        if kind != first or kind == "run":
            raise UserError(
                f"{path}: is not converted together with {paths[0]}: give one run directory, or "
                "files of one system"
            )
    return first


def _kind(path: Path) -> str:
    if path.is_dir():
        if (path / "config.json").exists():
            return "run"
        raise UserError(f"{path}: no run directory: name the files in it, such as {path}/*.hdf5")
    try:
        with open(path, "rb") as file:
            start = file.read(8)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file: see --help for what can be converted") from None
    if start == released_files.HDF5:
        return "softnet"
    if start.startswith(released_files.ZIP) and path.suffix != ".npz":
        return "sfamnet"
    raise UserError(
        f"{path}: neither a run directory, nor a Keras HDF5 file, nor a PyTorch file (zip)"
    )


def arguments(argv: list[str]) -> argparse.Namespace:
    """The options; `system` is what the inputs are.  Raises UserError."""
    parser = argparse.ArgumentParser(
        prog="python -m spotjax.convert",
        description="Write trained or released weights as one portable file for spotjax.spot.",
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("inputs", nargs="+", type=Path, metavar="IN", help="a run directory, or released files")
    add("--out", type=Path, required=True, metavar="FILE", help="file to write")
    add("--system", choices=("softnet", "sfamnet"), help="refuse files of another system")
    add("--fold", metavar="SUBJECT", help="of a run: only the fold that held it out")
    add("--type", choices=EXPRESSION_TYPES, help="SOFTNet: type of all files")
    add("--dataset", choices=tuple(released_weights.K), help="SOFTNet: data set of all files")
    flows = ("scene", "hybrid", "optical")
    add("--flow", choices=flows, help="SFAMNet: flow that it is given (scene); optical: no depth")
    add("--skip-bad", action="store_true", help="leave out released files that cannot be used")
    options = parser.parse_args(argv)
    kind = kind_of(options.inputs)
    for name in sorted({name for names in ONLY.values() for name in names}):
        if getattr(options, name) and name not in ONLY[kind]:
            what = "a run directory" if kind == "run" else f"files of {kind}"
            raise UserError(f"--{name.replace('_', '-')} says nothing about {what}: leave it out")
    if options.system not in (None, kind):
        raise UserError(f"--system {options.system}: {options.inputs[0]} is of {kind}")
    options.kind = kind
    if options.out.suffix != ".npz":
        options.out = options.out.with_name(options.out.name + weights.SUFFIX)
    return options


@command
def main(argv: list[str]) -> int:
    """Command line.  Raises UserError for a wrong option."""
    options = arguments(argv)
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax tells what we say in one line
    inputs, skip_bad = options.inputs, options.skip_bad
    if options.kind == "run":
        found = weights.from_run(inputs[0], options.fold or "")
    elif options.kind == "softnet":
        kind, data_set = options.type or "", options.dataset or ""
        found = released_weights.softnet(inputs, kind, data_set, skip_bad)
    else:
        found = released_weights.sfamnet(inputs, options.flow or "scene", skip_bad)
    weights.save(options.out, found)
    k = ", ".join(f"{type} {k}" for type, k in found.k.items())
    folds = ", ".join(f"{problem} {found.num_folds(problem)}" for problem in found.problems)
    print(f"{found.source}\n{found.fps:g} frames per second, k {k}; folds averaged: {folds}")
    for note in found.notes:
        print(f"note: {note}")
    print(f"weights: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
