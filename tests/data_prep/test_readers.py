import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_sets import CODES, ROWS, make_set, video_folder, write_workbook

from data_prep import features, readers
from data_prep.readers import RawDataset, base, casme2, casme3, placing, rules, samm_lv
from spotjax.config import Annotation, Data
from spotjax.errors import UserError
from spotjax.types import Interval

Shared = Callable[[str], Path]
FIXTURES = Path(__file__).parents[1] / "fixtures"
SOFTNET = rules.resolved(Annotation(), "casme2")


def touch_video(folder: Path, numbers: range, name: str = "img{:03d}.jpg") -> None:
    """Empty image files: a reader looks at names only."""
    folder.mkdir(parents=True)
    for number in numbers:
        (folder / name.format(number)).touch()


def test_natural_order() -> None:
    names = ["s10", "s9", "006_10", "006_2", "img1000", "img999"]
    assert sorted(names, key=base.natural_key) == [
        "006_2", "006_10", "img999", "img1000", "s9", "s10",
    ]  # fmt: skip


def test_rows_are_0_based_and_inclusive(tiny: Path) -> None:
    dataset = readers.read(Data(layout="casme2"), tiny)
    assert [video.id for video in dataset.videos] == ["s15/0101", "s15/0401", "s16/0101"]
    first = dataset.videos[0]
    assert first.intervals == (
        Interval(10, 14, 22, "macro", "negative"),
        Interval(30, 32, 35, "micro", "others"),
    )
    assert first.action_units == ("4", "43") and first.fps == 30
    assert first.frame_ids.tolist() == list(range(1, 61)) and first.frame_ids.dtype == np.int32
    assert [video.intervals for video in dataset.videos[1:]] == [(), ()]  # no annotation
    assert not any(video.problem for video in dataset.videos) and dataset.quirks == ()


def test_rows_follow_the_data_sets_own_numbers(tmp_path: Path) -> None:
    touch_video(video_folder(tmp_path), range(5, 1105))
    touch_video(video_folder(tmp_path, "s16"), range(0, 40), "img_{}.jpg")
    rows = [ROWS[0], (2, *ROWS[0][1:])]
    write_workbook(tmp_path / "code_final.xlsx", rows)
    shifted, from_zero = readers.read(Data(layout="casme2"), tmp_path).videos
    assert shifted.frames[0].name == "img005.jpg" and shifted.frames[-1].name == "img1104.jpg"
    assert shifted.frame_ids[shifted.intervals[0].onset] == 11
    assert from_zero.frame_ids[from_zero.intervals[0].onset] == 11
    assert readers.read(Data(layout="casme2"), tmp_path).quirks == (
        "video begins after frame 1: 1 (s15/0101: 5)",
    )


def test_quirks_fire_as_in_softnet(tmp_path: Path) -> None:
    touch_video(video_folder(tmp_path), range(1, 51))
    values = [(11, 15, 0), (21, 0, 30), (40, 44, 60), (51, 55, 60), (30.6, 33.2, 35.9)]
    rows = [(1, "disgust1_1", *v, 4, "others", "macro-expression", "") for v in values]
    rows.append((1, "disgust1_2", 2, 3, 4, 4, "others", "micro-expression", ""))
    write_workbook(tmp_path / "code_final.xlsx", rows)
    dataset = readers.read(Data(layout="casme2"), tmp_path)
    assert [interval[:4] for interval in dataset.videos[0].intervals] == [
        (10, 14, 14, "macro"),
        (20, -1, 29, "macro"),
        (39, 43, 49, "macro"),
        (29, 32, 34, "macro"),
        (1, 2, 3, "micro"),
    ]
    assert dataset.quirks == (
        "offset 0 replaced by the apex (annotation.missing_offset): 1 (row 1)",
        "apex not annotated: 1 (row 2)",
        "fractional frame numbers truncated (annotation.fractions): 1 (row 5)",
        "interval clipped to its video (annotation.outside): 1 (row 3: 40-60 of 1-50)",
        "interval wholly outside its video, dropped: 1 (row 4: 51-60 of 1-50)",
    )


def test_folder_without_a_code_keeps_its_name(tmp_path: Path) -> None:
    touch_video(tmp_path / "rawpic" / "s15" / "video", range(1, 5))
    touch_video(video_folder(tmp_path), range(1, 51))
    (tmp_path / "rawpic" / "s15" / ".cache").mkdir()
    write_workbook(tmp_path / "any name.xlsx")
    assert [v.name for v in readers.read(Data(layout="casme2"), tmp_path).videos] == [
        "0101",
        "video",
    ]


@pytest.mark.parametrize("direct", [False, True])
def test_samm_lv_folders(tmp_path: Path, direct: bool) -> None:
    fixture = FIXTURES / "samm_lv_v2.xlsx"
    (tmp_path / "SAMMLV_gt.xlsx").write_bytes(fixture.read_bytes())
    frames = tmp_path if direct else tmp_path / "SAMM_longvideos"
    lengths = {"006_1": 2400, "006_2": 500, "028_4": 1300, "037_4": 1700, "037_5": 2000}
    for name, length in lengths.items():
        touch_video(frames / name, range(1, length + 1), name + "_{:04d}.jpg")
    dataset = readers.read(Data(layout="samm_lv"), tmp_path)
    assert [v.id for v in dataset.videos] == [f"{n[:3]}/{n}" for n in lengths]
    assert dataset.videos[0].fps == 200
    found = [
        [v.subject, v.name, i.type, i.onset, None if i.apex < 0 else i.apex, i.offset]
        for v in dataset.videos
        for i in v.intervals
    ]
    expected = json.loads(fixture.with_name("expected.json").read_text())["samm_lv_v2.xlsx"]
    wanted = [
        [subject, video, {"MaE": "macro", "ME": "micro"}[kind], onset, apex, min(offset, 1999)]
        for subject, video, kind, onset, apex, offset, _ in expected[
            "rows_softnet_truncate (int(x-1))"
        ]
    ]
    assert found == wanted
    assert (
        "macro-expression with onset 0 dropped (annotation.onset_zero): 1 (row 13)"
        in dataset.quirks
    )


def test_casme2_fixture() -> None:
    file = FIXTURES / "casme_sq_code_final.xlsx"
    expected = json.loads(file.with_name("expected.json").read_text())[file.name]
    rows = casme2.read_annotations(file, SOFTNET).rows
    assert [
        [r.subject, r.video, r.type, r.onset - 1, r.apex - 1 if r.apex > 0 else None, r.offset - 1]
        for r in rows
    ] == [
        [s, v, {"MaE": "macro", "ME": "micro"}[kind], *frames]
        for s, v, kind, *frames, _ in expected["rows"]
    ]
    assert (rows[1].emotion, rows[1].action_units) == ("others", "30")


@pytest.mark.parametrize(
    ("name", "module", "counts", "subjects", "k"),
    [
        ("CASME_sq_gt.xlsx", casme2, {"macro": 300, "micro": 57}, 22, {"macro": 18, "micro": 6}),
        ("SAMMLV_gt.xlsx", samm_lv, {"macro": 333, "micro": 159}, 30, {"macro": 174, "micro": 37}),
    ],
)
def test_published_counts_and_k(shared, name, module, counts, subjects, k) -> None:  # type: ignore[no-untyped-def]
    annotations = module.read_annotations(shared(f"annotations/original/{name}"), SOFTNET)
    assert Counter(row.type for row in annotations.rows) == counts
    assert len({row.subject for row in annotations.rows}) == subjects
    intervals = tuple(
        Interval(
            placing.whole(r.onset, "truncate"), -1, placing.whole(r.offset, "truncate"), r.type
        )
        for r in annotations.rows
    )
    video = readers.RawVideo("", "", (), np.zeros(0, np.int32), 1.0, intervals, ("",) * 9)
    dataset = RawDataset("", (video,), (), annotations.files)
    assert {kind: features.half_length(dataset, kind, None) for kind in k} == k


def test_published_counts_of_casme3(shared: Shared) -> None:
    files = [shared(f"annotations/original/{name}") for name in (
        "CAS(ME)3_part_A_v2.xls", "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx")]  # fmt: skip

    def read(**options: object) -> placing.Annotations:
        return casme3.read_annotations(*files, rules.resolved(Annotation(**options), "casme3"))

    four = read()
    assert Counter(row.type for row in four.rows) == {"macro": 3346, "micro": 860}
    assert len({row.subject for row in four.rows}) == 98
    assert len({(row.subject, row.video) for row in four.rows}) == 956
    assert Counter(row.emotion for row in four.rows if row.emotion) == {
        "negative": 457, "positive": 55, "surprise": 187, "others": 161,
    }  # fmt: skip
    assert Counter(row.emotion for row in read(emotions="seven").rows if row.emotion) == {
        "disgust": 250, "surprise": 187, "others": 161, "fear": 86, "anger": 64, "sad": 57,
        "happy": 55,
    }  # fmt: skip
    symmetric = read(long_micro="symmetric").rows  # SFAMNet's evaluation
    assert Counter(row.type for row in symmetric) == {"macro": 3346, "micro": 818}
    reduced = read(longest_micro=15, longest_macro=120).rows
    assert Counter(row.type for row in reduced) == {"macro": 2364, "micro": 288}


@pytest.mark.parametrize(
    ("module", "names", "folds"),
    [
        (casme2, ["CASME_sq_gt.xlsx"], "casme_sq"),
        (samm_lv, ["SAMMLV_gt.xlsx"], "samm_lv"),
        (
            casme3,
            ["CAS(ME)3_part_A_v2.xls", "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx"],
            "casme_cube_part_a_v2",
        ),
    ],
)
def test_folds_are_those_of_the_tables(shared, module, names, folds) -> None:  # type: ignore[no-untyped-def]
    files = [shared(f"annotations/original/{name}") for name in names]
    wanted = json.loads(shared("annotations/normalized/loso_folds.json").read_text())[folds]
    rows = module.read_annotations(*files, rules.resolved(Annotation(onset_zero="keep"), "")).rows
    assert Counter((row.subject, row.type) for row in rows) == {
        (fold["subject"], kind): fold[word]
        for fold in wanted["folds"]
        for kind, word in (("macro", "MaE"), ("micro", "ME"))
        if fold[word]
    }


def test_k_of_samm_lv_survives_clipping_to_the_videos(shared: Shared) -> None:
    rows = samm_lv.read_annotations(shared("annotations/original/SAMMLV_gt.xlsx"), SOFTNET).rows
    with open(shared("annotations/normalized/video_frames_samm_lv.csv")) as file:
        lengths = {line["video"]: int(line["frames"]) for line in csv.DictReader(file)}
    quirks = base.Quirks()
    kept = [
        pair[0]
        for row in rows
        if (
            pair := placing._place(
                row, np.arange(1, lengths[row.video] + 1), Data(), SOFTNET, quirks
            )
        )
    ]
    assert [line.split(" (")[0] for line in quirks.lines()] == [
        "interval wholly outside its video, dropped: 1",
        "interval clipped to its video",
    ]
    lengths_of = [i.offset - i.onset for i in kept if i.type == "macro"]
    assert len(lengths_of) == 332 and int((np.mean(lengths_of) + 1) / 2) == 174


def bad_root(tmp_path: Path, case: str) -> Path:
    root = tmp_path / "set"
    if case == "missing":
        return root
    if case == "file":
        root.touch()
        return root
    root.mkdir()
    if case in ("no workbook", "no videos", "two workbooks"):
        (root / "rawpic").mkdir()
    if case == "two workbooks":
        write_workbook(root / "a.xlsx")
        write_workbook(root / "b.xlsx")
    if case == "no videos":
        write_workbook(root / "code_final.xlsx")
    if case == "other layout":
        (root / "SAMM_longvideos").mkdir()
    return root


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("missing", r"set: no such folder: set --config\.data\.root"),
        ("file", "set: is a file"),
        ("empty", r"set: the folder is empty: copy the data set there \(rawpic/"),
        ("other layout", r"expected rawpic/.* found SAMM_longvideos: .*--config\.data\.layout"),
        ("no workbook", r"no annotation workbook: put CAS\(ME\)\^2code_final\.xlsx or"),
        ("two workbooks", r"several workbooks \(a\.xlsx, b\.xlsx\): name the annotation"),
        ("no videos", "rawpic: no video folders in it"),
    ],
)
def test_wrong_root(tmp_path: Path, case: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as info:
        readers.read(Data(layout="casme2"), bad_root(tmp_path, case))
    assert "\n" not in str(info.value)


def test_samm_lv_wrong_root(tmp_path: Path) -> None:
    (tmp_path / "rawpic").mkdir()
    with pytest.raises(UserError, match="expected SAMM_longvideos/006_1/.* found rawpic"):
        readers.read(Data(layout="samm_lv"), tmp_path)


GOOD = ROWS[0]


def changed(column: int, value: object) -> tuple[object, ...]:
    return (*GOOD[:column], value, *GOOD[column + 1 :])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (changed(2, "eleven"), r"row 2, column C: onset should be a number, got 'eleven'"),
        (changed(4, None), r"row 2, column E: offset is empty"),
        (changed(4, 10), r"row 2: offset 10 comes before onset 11"),
        (changed(7, "blink"), r"row 2: expression type 'blink' is not known"),
        (changed(0, 9), r"row 2, column A: subject number 9 is not in sheet naming rule1"),
        (changed(1, "fear7_1"), r"row 2, column B: clip 'fear7_1' is not in sheet naming rule2"),
    ],
)
def test_wrong_cell_is_named(tmp_path: Path, row: tuple[object, ...], message: str) -> None:
    file = tmp_path / "code_final.xlsx"
    write_workbook(file, [GOOD, row])
    with pytest.raises(UserError, match=rf"code_final\.xlsx, sheet CASFEcode_final, {message}"):
        casme2.read_annotations(file, SOFTNET)


def test_wrong_workbook_is_named(tmp_path: Path) -> None:
    import openpyxl

    file = tmp_path / "code_final.xlsx"
    with pytest.raises(UserError, match=r"code_final\.xlsx: no such file"):
        casme2.read_annotations(file, SOFTNET)
    file.write_text("subject,onset")
    with pytest.raises(UserError, match="cannot be read as a workbook"):
        casme2.read_annotations(file, SOFTNET)
    book = openpyxl.Workbook()
    book.active.append([1, 2])
    book.save(file)
    with pytest.raises(UserError, match=r"sheet 2 is missing \(found Sheet\).*naming rule1"):
        casme2.read_annotations(file, SOFTNET)
    with pytest.raises(UserError, match="sheet Sheet: has 2 columns, needs 8"):
        samm_lv.read_annotations(file, SOFTNET)
    write_workbook(file, [GOOD[:6]])
    with pytest.raises(UserError, match="sheet CASFEcode_final: has 6 columns, needs 8"):
        casme2.read_annotations(file, SOFTNET)


def test_samm_lv_header(tmp_path: Path) -> None:
    import openpyxl

    file = tmp_path / "SAMMLV_gt.xlsx"
    header = ["Subject", "Filename", "Inducement Code", "Onset", "Apex", "Offset", "D", "Type"]
    for lines, message in (
        ([["x"] * 10], "no header row that begins with Subject, Filename"),
        ([[*header, "AU"]], "row 1: the header has no column action units"),
        (
            [[*header, "Action Units"], ["006", "006_1", 1, 2, 3, 4, 5, "Macro", ""]],
            "row 2: Filename '006_1' should be subject_video_index",
        ),
    ):
        book = openpyxl.Workbook()
        for line in lines:
            book.active.append(line)
        book.save(file)
        with pytest.raises(UserError, match=message):
            samm_lv.read_annotations(file, SOFTNET)


def test_a_video_with_a_gap_has_a_problem(tiny: Path) -> None:
    for number in (7, 8, 20):
        (video_folder(tiny) / f"img{number:03d}.jpg").unlink()
    (video_folder(tiny, "s16") / "img1.jpg").touch()
    (video_folder(tiny, "s15", "0401") / "img99999999999.jpg").touch()
    gap, large, double = readers.read(Data(layout="casme2"), tiny).videos
    assert "frame 7 is missing (3 in all between 1 and 60)" in gap.problem
    assert str(video_folder(tiny)) in gap.problem
    assert "frame number 99999999999 is too large" in large.problem
    assert "two images of frame 1 (img001.jpg and img1.jpg)" in double.problem


def test_a_row_without_its_video_has_a_problem(tmp_path: Path) -> None:
    rows = [GOOD, (2, "happy1_1", 3, 4, 5, 1, "positive", "micro-expression", "")]
    root = make_set(tmp_path / "set", (("s15", "0101", 40),), rows)
    lost = readers.read(Data(layout="casme2"), root).videos[1]
    assert lost.id == "s16/0502" and lost.frames == ()
    assert (
        "sheet CASFEcode_final, row 2: names video 0502 of subject s16, which has no frames"
        in lost.problem
    )
    assert lost.intervals == (Interval(2, 3, 4, "micro", "positive"),)


def test_a_folder_without_frames_has_a_problem(tiny: Path) -> None:
    (tiny / "rawpic/s16/16_0502empty").mkdir()
    (tiny / "rawpic/s16/16_0502empty/Thumbs.db").touch()
    empty = readers.read(Data(layout="casme2"), tiny).videos[-1]
    assert empty.frames == () and "16_0502empty: no numbered .jpg or .png image" in empty.problem


def test_two_folders_of_one_video(tiny: Path) -> None:
    (tiny / "rawpic" / "s15" / "15_0101again").mkdir()
    with pytest.raises(UserError, match="second folder of video 0101 of subject s15 beside"):
        readers.read(Data(layout="casme2"), tiny)
    assert set(CODES) == {"0101", "0401", "0502"}
