"""Tiny data sets in the layout of CAS(ME)^2: one photograph, its mouth moved a little."""

import csv
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import openpyxl
import skimage.data

from spotjax.config import Config, Data, Face, Flow, SoftnetFeatures
from spotjax.data import schema
from spotjax.data.tfrecord import read_records

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = REPOSITORY.parent / "shared"
CODES = {"0101": "disgust1", "0401": "anger1", "0502": "happy1"}
ROWS: tuple[tuple[object, ...], ...] = (
    (1, "disgust1_1", 11, 15, 23, "4", "negative", "macro-expression", "disgust"),
    (1, "disgust1_2", 31, 33, 36, 43, "others", "micro-expression", "disgust"),
)
SUBJECTS = ((1, "s15"), (2, "s16"), (3, "s19"))
Videos = tuple[tuple[str, str, int], ...]
VIDEOS: Videos = (("s15", "0101", 60), ("s15", "0401", 44), ("s16", "0101", 50))


def landmarks() -> np.ndarray:
    """f32[68, 2] of the face in `frame`: a plain face drawn into the box found by dlib."""
    turn = np.linspace(np.pi, 0, 17)
    points = [(0.5 + 0.5 * np.cos(a), 0.35 + 0.65 * np.sin(a)) for a in turn]
    for left, right in ((0.08, 0.42), (0.58, 0.92)):
        points += [(x, 0.12) for x in np.linspace(left, right, 5)]
    points += [(0.5, y) for y in np.linspace(0.25, 0.5, 4)]
    points += [(x, 0.57) for x in np.linspace(0.4, 0.6, 5)]
    for left in (0.16, 0.64):
        eye = [(0, 0), (1, -1), (2, -1), (3, 0), (2, 1), (1, 1)]
        points += [(left + 0.067 * x, 0.27 + 0.03 * y) for x, y in eye]
    mouth = np.linspace(np.pi, -np.pi, 13)[:12]
    points += [(0.5 + 0.2 * np.cos(a), 0.78 - 0.08 * np.sin(a)) for a in mouth]
    mouth = np.linspace(np.pi, -np.pi, 9)[:8]
    points += [(0.5 + 0.15 * np.cos(a), 0.78 - 0.04 * np.sin(a)) for a in mouth]
    return (np.array(points) * (93, 92) + (79, 87)).astype(np.float32)


@cache
def frame(row: int) -> bytes:
    """JPEG of frame `row`: the mouth goes down by up to 2 px every 20 frames."""
    photograph = cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2GRAY)[:240, 100:420]
    y, x = np.mgrid[:240, :320].astype(np.float32)
    weight = np.exp(-((x - 123) ** 2 + (y - 148) ** 2) / 300)
    shift = np.float32(1 - np.cos(2 * np.pi * row / 20))
    moved = cv2.remap(photograph, x, y - shift * weight, cv2.INTER_LINEAR)
    return cv2.imencode(".jpg", moved)[1].tobytes()


def write_workbook(path: Path, rows: Iterable[tuple[object, ...]] = ROWS) -> None:
    book = openpyxl.Workbook()
    codes, subjects, videos = book.active, book.create_sheet(), book.create_sheet()
    codes.title, subjects.title, videos.title = "CASFEcode_final", "naming rule1", "naming rule2"
    for row in rows:
        codes.append(row)
    for number, folder in SUBJECTS:
        subjects.append((int(folder[1:]), folder, number))
    for code, clip in CODES.items():
        videos.append((code, clip))
    book.save(path)


def video_folder(root: Path, subject: str = "s15", code: str = "0101") -> Path:
    return root / "rawpic" / subject / f"{subject[1:]}_{code}something"


def make_set(
    root: Path, videos: Videos = VIDEOS, rows: Iterable[tuple[object, ...]] = ROWS
) -> Path:
    """A data set at `root`, and its landmarks in `root/../landmarks`."""
    for subject, code, length in videos:
        folder = video_folder(root, subject, code)
        folder.mkdir(parents=True)
        for row in range(length):
            (folder / f"img{row + 1:03d}.jpg").write_bytes(frame(row % 20))
        write_landmarks(root.parent / "landmarks" / subject / f"{code}.csv", range(1, length + 1))
    write_workbook(root / "CAS(ME)^2code_final.xlsx", rows)
    return root


def write_landmarks(path: Path, numbers: Iterable[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["frame"] + [f"{axis}{point}" for axis in "xy" for point in range(68)])
        writer.writerows([number, *landmarks().T.ravel().tolist()] for number in numbers)


def make_config(root: Path, /, **data: object) -> Config:
    """DIS flow, landmarks from files, k from the annotation (6 and 3), in this process."""
    settings: dict[str, object] = {"root": str(root), "jobs": 1} | data
    settings.setdefault("shards", str(root.parent / "shards"))
    face = Face(backend="csv", csv=str(root.parent / "landmarks"))
    return Config(
        name="tiny",
        data=Data(**settings),  # type: ignore[arg-type]
        features=SoftnetFeatures(face=face, flow=Flow(method="dis")),
    )


def with_features(config: Config, **changes: object) -> Config:
    return dataclasses.replace(config, features=dataclasses.replace(config.features, **changes))


def config_file(root: Path, folder: Path) -> Path:
    """A config file for the command line that says the same as `make_config`."""
    path = folder / "tiny.py"
    path.write_text(
        "from spotjax.config import *\n"
        "def get_config():\n"
        f"    return Config(name='tiny', data=Data(root={str(root)!r}, "
        f"shards={str(root.parent / 'shards')!r}, jobs=1),\n"
        "        features=SoftnetFeatures(flow=Flow(method='dis'), face=Face(backend='csv', "
        f"csv={str(root.parent / 'landmarks')!r})))\n"
    )
    return path


def run_module(*words: object) -> subprocess.CompletedProcess[str]:
    """`python -W error -m data_prep WORDS` in the repository."""
    return subprocess.run(command(*words), cwd=REPOSITORY, capture_output=True, text=True)


def command(*words: object) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "data_prep", *map(str, words)]


def manifest(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*-of-?????"))


def contents(folder: Path) -> list[list[bytes]]:
    """Every array of every record; protobuf writes a record's fields in any order."""
    features = schema.features_dict(streams(folder))
    chunks = [features.deserialize_example_np(r) for p in shards(folder) for r in read_records(p)]
    return [[np.asarray(chunk[name]).tobytes() for name in sorted(chunk)] for chunk in chunks]


def streams(folder: Path) -> dict[str, schema.Stream]:
    return {
        name: schema.Stream(tuple(stream["shape"]), stream["dtype"])
        for name, stream in manifest(folder)["streams"].items()
    }
