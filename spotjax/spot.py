"""`python -m spotjax.spot VIDEO`: find facial expressions in one's own video.

The module can be called too, which is the same without the files: `spotjax.spot(frames, fps)`.
"""

import argparse
import logging
import os
import sys
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from spotjax import files, writers
from spotjax.errors import UserError, command
from spotjax.own import page
from spotjax.own.run import Progress, Result, spot_source
from spotjax.own.store import Store
from spotjax.parameters import weights
from spotjax.spotting import Spotting
from spotjax.types import Detection

DEMO = Path(__file__).with_name("demo.spotjax.npz")
"""SOFTNet trained on rendered faces: the package carries no other weights.

Made by `python -m spotjax.convert runs/demo --fold s15 --out spotjax/demo.spotjax.npz`.
"""


def spot(
    frames: Any,
    fps: float = 0.0,
    weights: "str | Path | weights.Weights" = DEMO,
    *,
    face: int = 1,
    flow: str = "",
) -> Spotting:
    """The expressions in a video: `spot(...).detections`.

    `frames` is the path of a video file or of a folder of images, or the frames themselves, grey
    u8[H, W] or RGB u8[H, W, 3], which need their rate `fps`: an array u8[T, H, W, 3], or a
    generator, whose frames are kept for a few seconds only.  `weights` is a file of ours
    (`spotjax.convert`), a run directory or `Weights`; left out: a demonstration, trained on
    rendered faces.  `face` 2 follows the second largest face.  `flow` (tvl1, tvl1_jax, dis,
    farneback) replaces the optical flow that the weights were trained on.  Raises UserError for
    what cannot be used.

        found = spotjax.spot("interview.mp4", weights="softnet.spotjax.npz")
        for d in found.detections:
            print(d.type, found.onset_s(d), found.offset_s(d), d.score)
    """
    from spotjax.data_prep import source as sources

    known = _weights(weights)
    if isinstance(frames, str | os.PathLike):
        source: sources.Source = sources.open_source(os.fspath(frames), fps)
    else:
        if not fps > 0:
            raise UserError("spot(frames, fps): frames need their rate, for example fps=30")
        source = sources.from_frames(frames, fps)
    return spot_source(source, known, face=face, flow=flow).spotting


def _weights(given: Any, fold: str = "") -> weights.Weights:
    if isinstance(given, weights.Weights):
        return given
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax tells what we say in one line
    return weights.load(Path(given), fold)


@command
def main(argv: list[str]) -> int:
    """Command line.  Raises UserError for a wrong option and for the video, if it is only one."""
    options = _parser().parse_args(argv)
    if options.face < 1:
        raise UserError(f"--face {options.face}: count faces from 1, the largest")
    if options.fps < 0 or options.fps > 1000:
        raise UserError(f"--fps {options.fps:g}: frames per second, for example 30")
    from spotjax.data_prep import source as sources

    out = Path(options.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--out {out}: {error.strerror or error}: name a folder that can be written"
        ) from None
    if not os.access(out, os.W_OK | os.X_OK):
        raise UserError(f"--out {out}: may not be written to: name another folder")
    known = _weights(options.weights, options.fold)
    names = _names(options.video)
    status = 0
    for text, stem in names.items():
        try:
            source = sources.open_source(text, options.fps)
            with files.locked(out, "wait for it, or choose another --out"):
                _one(source, stem, known, out, options)
        except UserError as error:
            if len(names) == 1:
                raise
            print(f"error: {error}", file=sys.stderr)
            status = 2
    return status


def _names(videos: Iterable[str]) -> dict[str, str]:
    """Stem of the result files of each video.  Raises UserError if two would be one."""
    found: dict[str, str] = {}
    for text in videos:
        stem = {"-": "stdin"}.get(text, Path(text).resolve().name if Path(text).is_dir() else "")
        stem = stem or Path(text).stem.replace(":", "")
        if stem in found.values():
            raise UserError(f"{text}: another video is called {stem} too: use two --out folders")
        found[text] = stem
    return found


def _one(
    source: Any, stem: str, known: weights.Weights, out: Path, options: argparse.Namespace
) -> None:
    """Spot one video and write its files."""
    live = not source.repeatable
    if live and options.video_file:
        raise UserError(f"--video: {source.name} can be read only once: record it, then spot it")

    def store(identity: Mapping[str, Any]) -> Store:
        return Store(out / f".{stem}.partial", identity)

    with tqdm(
        total=source.expected or None, desc=source.name, unit="frame", disable=None, smoothing=0.1
    ) as bar:
        told: set[Detection] = set()

        def so_far(spotting: Spotting) -> None:
            _tell(spotting, told)

        result = spot_source(
            source, known, face=options.face, flow=options.flow or "",
            store=None if live else store,
            progress=Progress(bar.update, so_far if live else None),
        )  # fmt: skip
    extras = [name for name in writers.EXTRAS if getattr(options, name)]
    paths = list(writers.write(out, stem, result.spotting, extras, options.megc_base))
    paths += page.write(out, stem, source, result, video=options.video_file)
    Store(out / f".{stem}.partial", {}).remove()
    _summary(result, paths)


def _tell(spotting: Spotting, told: set[Detection]) -> None:
    """A line for each detection that ended at least a second ago and was not told of yet."""
    for d in spotting.detections:
        same = any(t.type == d.type and t.onset <= d.offset and d.onset <= t.offset for t in told)
        if not same and spotting.offset_s(d) < spotting.length_s - 1:
            told.add(d)
            print(_line(spotting, d) + "  (so far)", flush=True)


def _line(spotting: Spotting, d: Detection) -> str:
    emotion = f" {d.emotion}" if d.emotion else ""
    return (
        f"{d.type:<6} {spotting.onset_s(d):9.2f} s to {spotting.offset_s(d):9.2f} s, apex "
        f"{spotting.apex_s(d):9.2f} s, frames {d.onset}-{d.offset}, score {d.score:.3f}{emotion}"
    )


def _summary(result: Result, paths: Iterable[Path]) -> None:
    spotting = result.spotting
    for d in spotting.detections:
        print(_line(spotting, d))
    counts = {type: sum(d.type == type for d in spotting.detections) for type in spotting.scores}
    told = ", ".join(f"{n} {type}-expression{'s' * (n != 1)}" for type, n in counts.items())
    print(f"{spotting.video}: {told} in {spotting.length_s:.1f} s, by {spotting.system}")
    for text in spotting.warnings:
        print(f"note: {text}", file=sys.stderr)
    for path in paths:
        print(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m spotjax.spot",
        description="Find facial macro- and micro-expressions in your own videos, as a suggestion "
        "for a human coder.",
        epilog="examples:\n"
        "  python -m spotjax.spot interview.mp4 --out found\n"
        "  python -m spotjax.spot interview.mp4 --weights runs/demo --out found --boris --srt\n"
        "  python -m spotjax.spot images/ --fps 200 --weights samm.spotjax.npz --out found\n"
        "  ffmpeg -i rtsp://... -f matroska - | python -m spotjax.spot - --out found\n"
        "\n"
        "writes to --out, for interview.mp4:\n"
        "  interview.spot.csv     the intervals, frames from 0 and seconds\n"
        "  interview.frames.csv   score and face of every frame\n"
        "  interview.spot.json    the same with everything that it was made with\n"
        "  interview.eaf          for ELAN: open it beside the video\n"
        "  interview.html         one page to look at: curve, pictures, settings\n"
        "\n"
        "Nothing leaves your machine.  An interrupted run goes on when the same command is given "
        "again.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "video",
        nargs="+",
        help="video file, folder of images, - for a pipe (Matroska, AVI or MPEG-TS), or camera:0",
    )
    parser.add_argument(
        "--weights",
        default=str(DEMO),
        help="file of spotjax.convert, or run directory of spotjax.train (default: a "
        "demonstration trained on rendered faces)",
    )
    parser.add_argument("--fold", default="", help="one fold of a run instead of the mean of all")
    parser.add_argument("--out", default="spotted", help="folder of the results (spotted)")
    parser.add_argument(
        "--face", type=int, default=1, help="2: follow the second largest face, ... (1)"
    )
    parser.add_argument(
        "--flow",
        choices=("tvl1", "tvl1_jax", "dis", "farneback"),
        help="another optical flow than the weights were trained on: dis takes 1 ms where tvl1 "
        "takes 300, tvl1_jax (the same procedure as tvl1) 20",
    )
    parser.add_argument(
        "--fps", type=float, default=0.0, help="frame rate of a folder of images (30)"
    )
    for name, text in writers.EXTRAS.items():
        parser.add_argument(f"--{name}", action="store_true", help=f"also {text}")
    parser.add_argument(
        "--megc-base", type=int, choices=(0, 1), default=1, help="first frame's number there (1)"
    )
    parser.add_argument(
        "--video",
        dest="video_file",
        action="store_true",
        help="also the video with face box and scores drawn on it (*.spot.mp4; no sound)",
    )
    return parser


class _Callable(types.ModuleType):
    """`spotjax.spot` is a command to run and a function to call."""

    def __call__(self, *args: Any, **kwargs: Any) -> Spotting:
        """See `spot`."""
        return spot(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable

if __name__ == "__main__":
    sys.exit(main())
