"""The files of one spotted video, for people and for their tools (NumPy only).

Every writer turns a `Spotting` into the text of one file; `write` puts the chosen ones in place.
"""

from collections.abc import Iterable
from pathlib import Path

from spotjax import files
from spotjax.spotting import Spotting, check
from spotjax.writers.boris import boris_project, boris_tsv
from spotjax.writers.challenge import activitynet_json, megc_csv
from spotjax.writers.eaf import eaf
from spotjax.writers.spans import clean
from spotjax.writers.subtitles import srt
from spotjax.writers.tables import frames_csv, spot_csv, spot_json

EXTRAS = {
    "boris": "a BORIS project, and its events to paste (*.boris, *.boris.tsv)",
    "srt": "subtitles (*.srt)",
    "megc": "the table of the MEGC spotting challenge (*.megc.csv)",
    "activitynet": "ActivityNet's JSON of detections (*.activitynet.json)",
}
"""Files written on request, by name."""


def texts(
    folder: Path, stem: str, spotting: Spotting, extras: Iterable[str] = (), megc_base: int = 1
) -> dict[str, str]:
    """Text of every file by its name; arguments as those of `write`, and so is its ValueError."""
    extras = tuple(extras)
    if unknown := set(extras) - set(EXTRAS):
        raise ValueError(f"unknown files {sorted(unknown)}: only {', '.join(EXTRAS)}")
    if not stem or Path(stem).name != stem:
        raise ValueError(f"{stem!r} is no name of a file")
    check(spotting)
    spotting = spotting._replace(video=clean(spotting.video))
    found = {
        f"{stem}.spot.csv": spot_csv(spotting),
        f"{stem}.frames.csv": frames_csv(spotting),
        f"{stem}.spot.json": spot_json(spotting),
        f"{stem}.eaf": eaf(spotting, folder),
    }
    if "boris" in extras:
        found[f"{stem}.boris"] = boris_project(spotting, folder)
        found[f"{stem}.boris.tsv"] = boris_tsv(spotting)
    if "srt" in extras:
        found[f"{stem}.srt"] = srt(spotting)
    if "megc" in extras:
        found[f"{stem}.megc.csv"] = megc_csv(spotting, megc_base)
    if "activitynet" in extras:
        found[f"{stem}.activitynet.json"] = activitynet_json(spotting)
    return found


def write(
    folder: Path, stem: str, spotting: Spotting, extras: Iterable[str] = (), megc_base: int = 1
) -> tuple[Path, ...]:
    """Write the tables, the JSON and the ELAN file, and the `extras` asked for; return the paths.

    `folder` is made; each file appears complete or not at all, and an older one is replaced.
    Nothing is written unless all the texts could be made.  `megc_base` is the number of the first
    frame in the MEGC table.  Raises ValueError for an unknown extra, a stem with a folder in it,
    another base than 0 or 1, or a spotting that `check` refuses; OSError if the disk refuses.
    """
    found = texts(folder, stem, spotting, extras, megc_base)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in found.items():
        files.write_text(folder / name, text)
    return tuple(folder / name for name in found)
