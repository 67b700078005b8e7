"""Every bad input ends in one clear line and exit status 2, and nothing computed is lost."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_sets import ROWS, config_file, frame, run_module, video_folder, write_workbook

from data_prep.__main__ import main

pytestmark = pytest.mark.usefixtures("quick_flow")

Break = Callable[[Path], None]


def run(root: Path, tmp_path: Path, *overrides: str) -> int:
    return main(["--config", str(config_file(root, tmp_path)), *overrides])


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("error: ") for line in lines) == 1
    assert not any("Traceback" in line for line in lines)
    return lines[-1]


def image(root: Path) -> Path:
    return video_folder(root) / "img021.jpg"


def no_face(root: Path) -> None:
    """No row with a face in the landmark file."""
    file = root.parent / "landmarks/s15/0101.csv"
    file.write_text(file.read_text().splitlines()[0] + "\n")


def small_frame(root: Path) -> None:
    image(root).write_bytes(cv2.imencode(".jpg", np.zeros((24, 32), np.uint8))[1].tobytes())


def short(root: Path) -> None:
    for number in range(13, 61):
        (video_folder(root) / f"img{number:03d}.jpg").unlink()


def foreign_landmarks(root: Path) -> None:
    file = root.parent / "landmarks/s15/0101.csv"
    file.write_text(file.read_text().replace(".", "x."))


def shrunken_landmarks(root: Path) -> None:
    """All 68 points at one place: a box of one px."""
    file = root.parent / "landmarks/s15/0101.csv"
    lines = [line.split(",") for line in file.read_text().splitlines()]
    for line in lines[1:]:
        line[1:] = ["900"] * 136
    file.write_text("\n".join(",".join(line) for line in lines))


BAD_VIDEOS: list[tuple[Break, str]] = [
    (lambda root: image(root).unlink(), r"frame 21 is missing (1 in all between 1 and 60)"),
    (lambda root: image(root).write_bytes(b""), "img021.jpg: the file is empty"),
    (lambda root: image(root).write_bytes(frame(0)[:4000]), "img021.jpg: the image is cut short"),
    (lambda root: image(root).write_bytes(b"text"), "img021.jpg: cannot be decoded"),
    (small_frame, "img021.jpg: is 32x24 px"),
    (no_face, "no face found in"),
    (short, "12 frames are too few: k_macro=6 needs more than 12"),
    (lambda root: (root.parent / "landmarks/s15/0101.csv").unlink(), "No such file or directory"),
    (foreign_landmarks, "0101.csv, line 2: needs a number in each"),
    (shrunken_landmarks, "the landmarks lie outside the face crop"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD_VIDEOS)
def test_a_bad_video_is_named_after_the_others_are_done(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Break, message: str
) -> None:
    spoil(tiny)
    # k is given: a short video clips the intervals that it would be derived from
    k = ("--config.features.k_macro=6", "--config.features.k_micro=3")
    assert run(tiny, tmp_path, *k) == 2
    line = last_line(capsys)
    assert line.startswith("error: s15/0101: ") and message in line
    assert "--config.data.skip_bad_videos=true" in line
    folder = tmp_path / "shards"
    assert len(list(folder.glob("*-of-00003"))) == 2 and not (folder / "manifest.json").exists()

    assert run(tiny, tmp_path, *k, "--config.data.skip_bad_videos=true") == 0
    facts = json.loads((folder / "manifest.json").read_text())
    assert [f"{v['subject']}/{v['name']}" for v in facts["videos"]] == ["s15/0401", "s16/0101"]
    assert [entry["video"] for entry in facts["skipped"]] == ["s15/0101"]
    assert message in facts["skipped"][0]["reason"]


def test_several_bad_videos_are_counted_and_listed(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image(tiny).write_bytes(b"")
    (video_folder(tiny, "s16") / "img002.jpg").unlink()
    assert run(tiny, tmp_path) == 2
    err = capsys.readouterr().err
    assert "cannot use s15/0101: " in err and "cannot use s16/0101: " in err
    line = err.splitlines()[-1]
    assert line.startswith("error: s15/0101: ") and "(1 more bad videos are listed above)" in line


def test_a_mended_video_completes_the_set(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image(tiny).unlink()
    assert run(tiny, tmp_path, "--config.data.skip_bad_videos=true") == 0
    image(tiny).write_bytes(frame(0))
    assert run(tiny, tmp_path, "--config.data.skip_bad_videos=true") == 0
    assert "1 left out (delete manifest.json to try them again)" in capsys.readouterr().out
    assert run(tiny, tmp_path) == 0
    facts = json.loads((tmp_path / "shards/manifest.json").read_text())
    assert len(facts["videos"]) == 3 and facts["skipped"] == []


def test_no_video_can_be_used(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in tiny.glob("rawpic/*/*/img002.jpg"):
        path.unlink()
    assert run(tiny, tmp_path, "--config.data.skip_bad_videos=true") == 2
    assert "no video can be used; the first: s15/0101: " in last_line(capsys)


def test_a_row_whose_video_is_not_there(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_workbook(tiny / "CAS(ME)^2code_final.xlsx", [*ROWS, (2, "happy1_1", *ROWS[0][2:])])
    assert run(tiny, tmp_path) == 2
    out, err = capsys.readouterr()
    assert err.count("\n") == 1 and out == ""  # before any work
    for part in ("CAS(ME)^2code_final.xlsx", "row 3", "video 0502", "remove the row"):
        assert part in err
    assert run(tiny, tmp_path, "--config.data.skip_bad_videos=true") == 0
    facts = json.loads((tmp_path / "shards/manifest.json").read_text())
    assert [entry["video"] for entry in facts["skipped"]] == ["s16/0502"]


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["--config.data.root=nowhere"], ["nowhere: no such folder", "--config.data.root"]),
        (["--config.data.layout=samm_lv"], ["expected SAMM_longvideos", "found CAS(ME)^2code"]),
        (["--config.data.layout=smic"], ["data.layout"]),
        (["--config.features.flow.metod=dis"], ["did you mean --config.features.flow.method?"]),
        (["--config.features.face.csv=nowhere"], ["features.face.csv", "nowhere is not a folder"]),
        (["--config.data.shards=/dev/null"], ["/dev/null"]),
        (["--confg"], ["unknown argument '--confg'", "--help"]),
    ],
)
def test_wrong_settings(
    tiny: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    overrides: list[str],
    parts: list[str],
) -> None:
    assert run(tiny, tmp_path, *overrides) == 2
    line = last_line(capsys)
    assert all(part in line for part in parts), line
    assert not list((tmp_path / "shards").glob("*"))


def test_config_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "--config is missing" in last_line(capsys)


def test_damaged_bookkeeping_is_named(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny, tmp_path) == 0
    (tmp_path / "shards/manifest.json").write_text("{")
    capsys.readouterr()
    assert run(tiny, tmp_path) == 2
    assert "manifest.json: is damaged: delete the file" in last_line(capsys)
    (tmp_path / "shards/manifest.json").unlink()
    assert run(tiny, tmp_path) == 0


def test_one_line_from_the_shell(tiny: Path, tmp_path: Path) -> None:
    done = run_module("--config", config_file(tiny, tmp_path), "--config.data.root=nowhere")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
