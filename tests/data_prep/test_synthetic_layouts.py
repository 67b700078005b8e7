"""SAMM-LV and CAS(ME)^3, rendered: names, cells, frames, and what the readers make of them."""

import hashlib
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openpyxl
import pytest
from python_calamine import CalamineWorkbook

from data_prep import readers
from data_prep.synthetic import generate, main
from data_prep.synthetic_labels import write_workbooks
from data_prep.synthetic_layouts import LAYOUTS, VideoTask
from data_prep.synthetic_motion import MACRO, MICRO
from spotjax.config import Data

SAMM_LV = "SAMM_LongVideos_V2_Release.xlsx"
CASME3, CASME3_ME = "CAS(ME)3_part_A_v2.xlsx", "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx"
SECONDS = {"samm_lv": 1.5, "casme3": 2.5}
FRAMES = {"samm_lv": 300, "casme3": 75}


def tasks_of(root: Path, layout: str) -> list[VideoTask]:
    return [VideoTask(layout, root, subject, 0, SECONDS[layout], 1) for subject in range(2)]


def render(out: Path, layout: str, jobs: int = 1, subjects: int = 2) -> Path:
    seconds = SECONDS[layout]
    generate(
        out, layout=layout, subjects=subjects, videos=1, seconds=seconds, seed=1, jobs=jobs,
        progress=False,
    )  # fmt: skip
    return out


def digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return total.hexdigest()


def sheet(file: Path, name: str) -> list[list[Any]]:
    book = CalamineWorkbook.from_path(file)
    return book.get_sheet_by_name(name).to_python(skip_empty_area=False)


@pytest.fixture(scope="module")
def samm_lv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(tmp_path_factory.mktemp("samm_lv"), "samm_lv", jobs=2)


@pytest.fixture(scope="module")
def casme3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(tmp_path_factory.mktemp("casme3"), "casme3", jobs=2)


def test_samm_lv_frames_are_grey_at_200_fps(samm_lv: Path) -> None:
    frames = samm_lv / "SAMM_longvideos"
    assert sorted(path.name for path in frames.iterdir()) == ["006_1", "007_1"]
    names = sorted(path.name for path in (frames / "006_1").iterdir())
    assert names == [f"006_1_{number:04d}.jpg" for number in range(1, 1 + FRAMES["samm_lv"])]
    image = cv2.imread(str(frames / "006_1" / "006_1_0001.jpg"), cv2.IMREAD_UNCHANGED)
    assert image is not None and image.shape == (480, 640) and 20 < image.mean() < 230
    assert VideoTask("samm_lv", samm_lv, 0, 0, 60.0, 0).files(12000) == ("006_1_12000.jpg",)


def test_samm_lv_workbook_has_the_real_cells(samm_lv: Path) -> None:
    assert CalamineWorkbook.from_path(samm_lv / SAMM_LV).sheet_names == ["FACS_Movement_Only"]
    rows = sheet(samm_lv / SAMM_LV, "FACS_Movement_Only")
    assert [number for number in (2, 5, 9) if any(rows[number - 1])] == []
    assert rows[9] == [
        "Subject", "Filename", "Inducement Code", "Onset", "Apex", "Offset", "Duration", "Type",
        "Action Units", "Notes",
    ]  # fmt: skip
    assert {row[7] for row in rows[10:]} <= {"Macro", "Micro - 1/2"} and len(rows) > 11
    assert [row[0] for row in rows[10:]] == [row[1][:3] for row in rows[10:]]
    assert all(re.fullmatch(r"00[67]_1_\d", row[1]) and row[2] == 1 for row in rows[10:])
    formulas = openpyxl.load_workbook(samm_lv / SAMM_LV)["FACS_Movement_Only"]
    assert formulas["G11"].value == "=SUM(F11-D11)+1"


def test_samm_lv_oddities_leave_the_truth_readable(tmp_path: Path) -> None:
    """Cut as SOFTNet does or rounded as MEGC does, a fractional number is the true frame."""
    tasks = [VideoTask("samm_lv", tmp_path, s, v, 30.0, 0) for s in range(30) for v in range(2)]
    write_workbooks("samm_lv", tasks, tmp_path)
    rows = sheet(tmp_path / SAMM_LV, "FACS_Movement_Only")[10:]
    events = [event for task in tasks for event in task.motion().expressions]
    assert len(rows) == len(events) > 200
    for row, event in zip(rows, events, strict=True):
        onset, apex, offset = row[3:6]
        assert (int(onset), int(offset)) == (event.onset, event.offset)
        assert (int(onset + 0.5), int(offset + 0.5)) == (event.onset, event.offset)
        assert apex == -1 or int(apex) == event.apex
        if event.kind == MACRO:
            assert row[7] == "Macro" and offset - onset >= 101
        else:
            assert row[7] == "Micro - 1/2" and 29 <= offset - onset <= 100
    fractional = np.mean([row[3] % 1 > 0 or row[5] % 1 > 0 for row in rows])
    assert 0.2 < fractional < 0.4 and 1 <= sum(row[4] == -1 for row in rows) < 0.1 * len(rows)
    assert {type(row[8]) for row in rows} == {str, float} and {row[9] for row in rows} <= {
        "",
        "Blinks",
    }


def test_casme3_has_colour_and_depth_by_jpg_number(casme3: Path) -> None:
    for task, name in zip(tasks_of(casme3, "casme3"), ("spNO.1", "spNO.2"), strict=True):
        folder = casme3 / "part_A" / name / "a"
        assert sorted(path.name for path in folder.iterdir()) == ["color", "depth"]
        first, missing = task.numbering(task.motion())
        expected = {str(first + index) for index in range(FRAMES["casme3"]) if index not in missing}
        assert {path.stem for path in (folder / "color").glob("*.jpg")} == expected
        assert {path.stem for path in (folder / "depth").glob("*.png")} == expected
        colour, depth = (
            cv2.imread(str(folder / file), cv2.IMREAD_UNCHANGED) for file in task.files(first)
        )
        assert colour is not None and colour.shape == (480, 640, 3)
        assert depth is not None and depth.shape == (480, 640) and depth.dtype == np.uint16


def test_casme3_numbers_begin_anywhere_and_have_gaps() -> None:
    seen: dict[int, int] = {}
    gaps = 0
    for subject in range(40):
        task = VideoTask("casme3", Path("unused"), subject, 3, 20.0, 0)
        motion = task.motion()
        first, missing = task.numbering(motion)
        seen[first] = seen.get(first, 0) + 1
        gaps += bool(missing)
        assert len(missing) <= 9 and missing <= set(range(1, task.frames - 1))
        named = {
            frame - 1
            for event in motion.expressions
            for frame in (event.onset, event.apex, event.offset)
        }
        assert named.isdisjoint(missing)
    assert {7, 5, 8} <= seen.keys() <= {7, 5, 8, 1, 4, 6, 10} and 5 < gaps < 35


def test_casme3_workbooks_have_the_real_cells(casme3: Path) -> None:
    labels = sheet(casme3 / CASME3, "AU+Emotion")
    assert labels[0] == [
        "Subject", "Filename", "Onset", "Apex", "Offset", "AU", "Expression type",
        "Objective class",
    ]  # fmt: skip
    assert len(labels) > 2 and all(type(cell) is str for row in labels for cell in row)
    assert {row[6] for row in labels[1:]} == {"Macro-expression", "Micro-expression"}
    assert {row[0] for row in labels[1:]} == {"spNO.1", "spNO.2"}
    emotions = sheet(casme3 / CASME3_ME, "label")
    assert emotions[0] == [*labels[0][:6], "Objective class", "emotion"]
    assert CalamineWorkbook.from_path(casme3 / CASME3_ME).sheet_names[1:] == ["Sheet1", "Sheet3"]
    micro = [row[:6] for row in labels[1:] if row[6] == "Micro-expression"]
    assert [row[:6] for row in emotions[1:]] == micro
    assert {row[7] for row in emotions[1:]} <= set(LAYOUTS["casme3"].repertoire.emotions)
    blinks = sheet(casme3 / CASME3, "eye blink")
    assert blinks[0] == ["Subject", "Filename", "Onset", "Offset"]
    for subject, video, *span in blinks[1:]:
        for number in span:
            assert (casme3 / "part_A" / subject / video / "color" / f"{number}.jpg").exists()


def test_casme3_emotions_follow_from_the_action_units() -> None:
    style = LAYOUTS["casme3"]
    assert len(style.repertoire.emotions) == 7
    shown: dict[object, set[str]] = {}
    for subject in range(10):
        for video in range(13):
            motion = VideoTask("casme3", Path("unused"), subject, video, 30.0, 0).motion()
            for event in motion.expressions:
                shown.setdefault(event.display.action_units, set()).add(event.display.emotion)
    assert all(len(emotions) == 1 for emotions in shown.values())
    assert set.union(*shown.values()) == set(style.repertoire.emotions)
    assert all(sum(odds) == pytest.approx(1.0) for odds in style.repertoire.odds.values())


@pytest.mark.parametrize("layout", ["samm_lv", "casme3"])
def test_the_reader_finds_what_was_rendered(layout: str, request: pytest.FixtureRequest) -> None:
    root: Path = request.getfixturevalue(layout)
    dataset = readers.read(Data(layout=layout, root=str(root)), root)  # type: ignore[arg-type]
    assert dataset.name == f"synthetic_{layout}"
    for task, video in zip(tasks_of(root, layout), dataset.videos, strict=True):
        motion = task.motion()
        first, missing = task.numbering(motion)
        rows = {frame: row for row, frame in enumerate(sorted(set(range(task.frames)) - missing))}
        assert video.fps == task.style.pace.fps and len(video.frames) == len(rows)
        assert video.frame_ids.tolist() == [first + frame for frame in rows]
        assert len(video.intervals) == len(motion.expressions) >= 1
        for interval, event in zip(
            sorted(video.intervals, key=lambda i: i.onset), motion.expressions, strict=True
        ):
            assert interval.type == event.kind[:5]
            assert (interval.onset, interval.offset) == (
                rows[event.onset - 1], rows[event.offset - 1],
            )  # fmt: skip
            assert interval.apex in (rows[event.apex - 1], -1)


@pytest.mark.parametrize("layout", ["samm_lv", "casme3"])
def test_bytes_depend_on_seed_subject_video_and_layout_only(
    layout: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    root: Path = request.getfixturevalue(layout)
    first, second = (root / task.folder for task in tasks_of(root, layout))
    one = render(tmp_path / "one", layout, subjects=1)
    assert digest(one / first.relative_to(root)) == digest(first) != digest(second)


def test_an_interrupted_set_goes_on(casme3: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(casme3, out)
    before = digest(out / "part_A")
    labels = sheet(out / CASME3, "AU+Emotion")
    shutil.rmtree(out / "part_A" / "spNO.2" / "a")
    (out / CASME3).unlink()
    half = out / ".partial-123" / "a" / "color"
    half.mkdir(parents=True)
    (half / "7.jpg").write_bytes(b"")
    render(out, "casme3")
    assert digest(out / "part_A") == before and sheet(out / CASME3, "AU+Emotion") == labels
    assert not (out / ".partial-123").exists()


def test_another_layout_has_other_people_and_does_not_mix(
    samm_lv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faces = [VideoTask(name, Path("unused"), 0, 0, 2.0, 1).face().landmarks for name in LAYOUTS]
    assert not any(np.allclose(faces[a], faces[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    words = ["--layout", "casme3", "--subjects", "2", "--videos", "1", "--seconds", "1.5"]
    assert main([str(samm_lv), *words, "--seed", "1"]) == 2
    assert "another synthetic set (other layout)" in capsys.readouterr().err


def test_both_types_are_in_every_first_video() -> None:
    for layout in LAYOUTS:
        motion = VideoTask(layout, Path("unused"), 2, 0, 8.0, 0).motion()
        assert {event.kind for event in motion.expressions} == {MACRO, MICRO}
