"""CAS(ME)^3 part A: text cells, names that are no positions, depth, emotions of four or seven."""

import shutil
from pathlib import Path

import openpyxl
import pytest
from test_placing import FIXTURES
from test_readers import touch_video

from data_prep import readers
from data_prep.readers import casme3, rules
from spotjax.config import Annotation, Data
from spotjax.errors import UserError

LABEL = FIXTURES / "casme_cube_me_label_v2.xlsx"
TABLE = FIXTURES / "casme_cube_part_a_v2.xls"


def read(root: Path, **options: object) -> readers.RawDataset:
    return readers.read(Data(layout="casme3", annotation=Annotation(**options)), root)


@pytest.fixture
def part_a(tmp_path: Path) -> Path:
    """The videos of the fixture, from image 7 on (of one: 0); one has holes, one no dot."""
    shutil.copy(TABLE, tmp_path / casme3.WORKBOOKS[0])
    shutil.copy(LABEL, tmp_path / casme3.LABELS)
    for folder, first, last in (
        ("spNO.1/a", 7, 400), ("spNO.1/c", 7, 600), ("spNO.3/L", 0, 800), ("spNO.14/j", 7, 200),
        ("spNO216/d", 7, 2700), ("spNO216/e", 0, 40), ("spNO216/f", 1, 20),
    ):  # fmt: skip
        touch_video(tmp_path / "part_A" / folder / "color", range(first, last + 1), "{}.jpg")
        touch_video(tmp_path / "part_A" / folder / "depth", range(first, last + 1), "{}.png")
    for number in (40, 41, 355):
        (tmp_path / f"part_A/spNO.1/a/color/{number}.jpg").unlink()
        (tmp_path / f"part_A/spNO.1/a/depth/{number}.png").unlink()
    return tmp_path


def test_annotation_fixture() -> None:
    found = casme3.read_annotations(TABLE, LABEL, rules.resolved(Annotation(), "casme3")).rows
    assert [(r.subject, r.video, r.type, r.onset, r.apex, r.offset) for r in found] == [
        ("spNO.1", "a", "macro", 37, 63, 65),
        ("spNO.1", "a", "micro", 355, 359, 366),
        ("spNO.1", "c", "micro", 96, 102, 160),
        ("spNO.1", "c", "micro", 500, 500, 540),
        ("spNO.14", "j", "macro", 119, 136, 143),
        ("spNO.216", "e", "micro", 0, 0, 25),
        ("spNO.216", "d", "micro", 2647, 2668, 2694),
        ("spNO.3", "l", "macro", 0, 357, 750),
    ]
    emotions = [r.emotion for r in found if r.type == "micro"]
    assert sorted(emotions) == ["negative", "negative", "others", "others", "surprise"]
    assert {r.emotion for r in found if r.type == "macro"} == {""}
    seven = rules.resolved(Annotation(emotions="seven", long_micro="symmetric"), "casme3")
    rows = casme3.read_annotations(TABLE, LABEL, seven).rows
    assert [(r.onset, r.apex, r.offset) for r in rows if r.type == "micro"] == [
        (355, 359, 366), (96, 102, 108), (0, 0, 25), (2647, 2668, 2689),
    ]  # fmt: skip
    assert {r.emotion for r in rows} <= {"", "disgust", "fear", "surprise", "others"}


def test_folders(part_a: Path) -> None:
    dataset = read(part_a)
    assert [v.id for v in dataset.videos] == [
        "spNO.1/a", "spNO.1/c", "spNO.3/l", "spNO.14/j", "spNO.216/d", "spNO.216/e", "spNO.216/f",
    ]  # fmt: skip
    first = dataset.videos[0]
    assert not first.problem and first.fps == 30 and len(first.depth) == first.num_frames
    assert [p.stem for p in first.depth] == [p.stem for p in first.frames]
    macro, micro = first.intervals
    assert first.frame_ids[[macro.onset, macro.offset]].tolist() == [37, 65]
    # images 40, 41 and 355 are missing: the interval closes up and begins at the next one
    assert macro.offset - macro.onset == 65 - 37 - 2
    assert first.frame_ids[[micro.onset, micro.apex]].tolist() == [356, 359]
    assert "frames missing inside a video (annotation.missing_frames): 1 (spNO.1/a: 3)" in (
        dataset.quirks
    )
    strict = read(part_a, missing_frames="error").videos[0]
    assert "spNO.1/a: frame 40 is missing (3 in all between 7 and 400)" in strict.problem


def test_depth_may_lie_beside_the_colour_folder(part_a: Path) -> None:
    video = part_a / "part_A/spNO.14/j"
    for path in (video / "depth").iterdir():
        path.rename(video / path.name)
    (video / "depth").rmdir()
    found = {v.id: v for v in read(part_a).videos}["spNO.14/j"]
    assert len(found.depth) == found.num_frames and found.depth[0].parent == video
    (video / "50.png").unlink()
    dataset = read(part_a)
    lacking = {v.id: v for v in dataset.videos}["spNO.14/j"]
    assert not lacking.problem
    gap = lacking.frame_ids.tolist().index(50)
    assert [n for n, path in enumerate(lacking.depth) if path is None] == [gap]
    assert "frames without a depth image: 1 (spNO.14/j: j/50 is missing, 1 in all)" in (
        dataset.quirks
    )
    for path in video.glob("*.png"):
        path.rename(path.with_name(f"{int(path.stem) + 100000}.png"))
    dataset = read(part_a)
    lacking = {v.id: v for v in dataset.videos}["spNO.14/j"]
    assert not lacking.problem and lacking.depth == ()  # colour alone may be all one needs
    assert "no image in j has the number of a frame" in " ".join(dataset.quirks)


def test_workbooks_are_found_or_named(part_a: Path) -> None:
    (part_a / "annotation").mkdir()
    (part_a / casme3.LABELS).rename(part_a / "annotation" / casme3.LABELS)
    assert len(read(part_a).videos) == 7
    (part_a / "annotation" / casme3.LABELS).unlink()
    with pytest.raises(UserError, match="needs one workbook .*label.*, found none: put it there"):
        read(part_a)
    with pytest.raises(UserError, match="expected part_A/spNO.1/a/color/37.jpg"):
        read(part_a / "part_A" / "spNO.1" / "a")


def labels(path: Path, rows: list[tuple[object, ...]]) -> Path:
    book = openpyxl.Workbook()
    book.active.append(["Subject", "Filename", "Onset", "Apex", "Offset", "AU", "Class", "emotion"])
    for values in rows:
        book.active.append(values)
    book.save(path)
    return path


GOOD = [
    ("spNO.1", "a", "355", "359", "366", "", "", "others"),
    ("spNO.1", "c", 96, 102, 160, "", "", "disgust"),
    ("spNO.1", "c", 500, 500, 540, "", "", "Others"),
    ("spNO.216", "e", 0, 0, 25, "", "", "fear"),
    ("spNO.216", "d", 2647, 2668, 2694, "", "", "surprise"),
]


def test_labels_join_although_a_number_differs(tmp_path: Path) -> None:
    options = rules.resolved(Annotation(), "casme3")
    typo = [*GOOD[:1], ("spNO.1", "c", 96, 102, 0, "", "", "disgust"), *GOOD[2:]]
    found = casme3.read_annotations(TABLE, labels(tmp_path / "l.xlsx", typo), options)
    assert found.quirks[0].startswith("emotion joined although a frame number differs")
    assert [r.emotion for r in found.rows if r.offset == 160] == ["negative"]
    with pytest.raises(UserError, match=r"micro-expression 96-160 of spNO\.1/c has no emotion"):
        casme3.read_annotations(TABLE, labels(tmp_path / "l.xlsx", GOOD[:1] + GOOD[2:]), options)
    wrong = [*GOOD[:4], (*GOOD[4][:-1], "bored")]
    with pytest.raises(UserError, match=r"row 6: emotion 'bored' is not known: write one of"):
        casme3.read_annotations(TABLE, labels(tmp_path / "l.xlsx", wrong), options)


def test_a_wrong_subject_or_header_is_named(tmp_path: Path) -> None:
    options = rules.resolved(Annotation(), "casme3")
    book = openpyxl.Workbook()
    book.active.append(["Subject", "Filename", "Onset", "Apex", "Offset", "AU", "Kind"])
    book.save(tmp_path / "t.xlsx")
    with pytest.raises(UserError, match="row 1: the header has no column expression type"):
        casme3.read_annotations(tmp_path / "t.xlsx", LABEL, options)
    book.active["G1"] = "Expression type"
    book.active.append(["Anna", "a", 1, 2, 3, 4, "Macro-expression"])
    book.save(tmp_path / "t.xlsx")
    with pytest.raises(UserError, match="row 2: Subject 'Anna' should be such as spNO.1"):
        casme3.read_annotations(tmp_path / "t.xlsx", LABEL, options)
