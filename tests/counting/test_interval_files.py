import pytest

from spotjax.counting import interval_files
from spotjax.counting.interval_files import VideoName, read_intervals, read_videos
from spotjax.errors import UserError


def write(tmp_path, text, name="table.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def rows(tmp_path, text, truths=False):
    table = read_intervals(write(tmp_path, text), truths)
    return [(r.name.id, r.type, r.onset, r.offset, r.score, r.emotion) for r in table.rows]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "subject,video,type,onset,apex,offset,score\ns1,a,macro,3,5,9,0.25\n",
            ("s1/a", "macro", 3, 9, 0.25, ""),
        ),
        ("vid,pred_onset,pred_offset,type\na,3,9,me\n", ("a", "micro", 3, 9, 0.0, "")),
        ("vid,pred_onset,pred_offset,type\na,3,9,MaE\n", ("a", "macro", 3, 9, 0.0, "")),
        (
            "video,type,onset,offset,score,emotion\na,Micro-Expression,3,9,-1e-3,Others\n",
            ("a", "micro", 3, 9, -0.001, "others"),
        ),
        (
            "\ufeffoffset;onset;type;video\r\n 9 ; 3 ;macro expression; a b \r\n\r\n",
            ("a b", "macro", 3, 9, 0.0, ""),
        ),
        ("Video\tTYPE\tonset\toffset\na\tmicro\t3.0\t9.\n", ("a", "micro", 3, 9, 0.0, "")),
        ('"video","type","onset","offset"\n"a,b", "micro", 3, 9', ("a,b", "micro", 3, 9, 0.0, "")),
        ("video,type,onset,offset,score\na,micro,3,9,\n", ("a", "micro", 3, 9, 0.0, "")),
    ],
    ids=["ours", "megc", "megc macro", "plain", "semicolons", "tabs", "quoted", "empty score"],
)
def test_accepted_forms(tmp_path, text, expected):
    assert rows(tmp_path, text) == [expected]


HEAD = "video,type,onset,offset,score\n"
GOOD = "a,micro,3,9,0.5\n"
BAD = {
    "missing column": (
        "video,type,start,end\n" + GOOD,
        r"line 1: the header video,type,start,end has no column onset: write subject,video,type,"
        r"onset,apex,offset,score or video,type,onset,offset\[,score\]\[,emotion\] or vid,pred_",
    ),
    "column twice": ("vid,video,type,onset,offset\n", "line 1: .*two columns for video: remove"),
    "empty": (" \n\n", "the file is empty: begin it with a header, subject,video"),
    "too few fields": (HEAD + GOOD + "a,micro,3\n", "line 3: the row has 3 fields, the header 5"),
    "too many fields": (HEAD + "a,micro,3,9,0.5,\n", "line 2: the row has 6 fields"),
    "no number": (HEAD + "a,micro,three,9,1\n", "line 2: onset 'three' is not a number: write"),
    "no frame": (HEAD + "a,micro,3,,1\n", "line 2: offset '' is not a number"),
    "nan frame": (HEAD + "a,micro,nan,9,1\n", "line 2: onset 'nan' is not a number"),
    "underscore": (HEAD + "a,micro,1_0,19,1\n", "line 2: onset '1_0' is not a number"),
    "fraction": (HEAD + GOOD + "\na,micro,3,12.5,1\n", "line 4: offset 12.5 is not a whole number"),
    "negative": (HEAD + "a,micro,-1,9,1\n", "line 2: onset -1 is negative"),
    "huge": (HEAD + "a,micro,1,9e30,1\n", "line 2: offset 9e30 is too large"),
    "order": (HEAD + "a,micro,10,9,1\n", "line 2: onset 10 comes after offset 9: correct"),
    "order, 0": (HEAD + "a,micro,10,0,1\n", "line 2: onset 10 comes after offset 0: correct"),
    "nan score": (HEAD + "a,micro,3,9,nan\n", "line 2: score 'nan' is not a finite number"),
    "inf score": (HEAD + "a,micro,3,9,1e999\n", "line 2: score '1e999' is not a finite number"),
    "score": (HEAD + "a,micro,3,9,high\n", "line 2: score 'high' is not a finite number"),
    "no score": (HEAD + GOOD + "a,micro,3,9,\n", "line 3: score is missing: give every row one"),
    "type": (HEAD + "a,neutral,3,9,1\n", r"line 2: type 'neutral' is not known: write macro \(mae"),
    "no video": (HEAD + ",micro,3,9,1\n", "line 2: video is empty: fill it in or remove the row"),
    "no subject": (
        "subject,video,type,onset,offset\n,a,micro,3,9\n",
        "line 2: subject is empty",
    ),
    "quotes": (HEAD + '"a,micro,3,9,1\n', "line 2: unexpected end of data: check the quotation"),
    "xlsx": (b"PK\x03\x04rest", r"is a workbook \(.xlsx\): save it as CSV"),
    "xls": (b"\xd0\xcf\x11\xe0rest", r"is a workbook \(.xls\): save it as CSV"),
    "utf-16": ((HEAD + GOOD).encode("utf-16"), "is UTF-16 text: save it as UTF-8"),
    "binary": (b"\x93NUMPY\x01\0v\0", "is a binary file: give a text table"),
    "latin-1": ((HEAD + "é,micro,3,9,1\n").encode("latin-1"), "line 2: is not UTF-8: save"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(tmp_path, name):
    text, message = BAD[name]
    path = write(tmp_path, text)
    with pytest.raises(UserError, match=message) as caught:
        read_intervals(path, truths=False)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_header_alone_is_an_empty_table(tmp_path):
    table = read_intervals(write(tmp_path, HEAD), truths=False)
    assert table.rows == () and not table.has_scores and not table.has_emotions
    table = read_intervals(write(tmp_path, "vid,type,onset,offset,emotion\n"), truths=True)
    assert table.has_emotions


def test_notes(tmp_path):
    text = "video,type,onset,offset,fps,apex\n" + 2 * "a,micro,3,9,30,4\n" + "a,micro,3,9,30,4\n"
    table = read_intervals(write(tmp_path, text), truths=False)
    unread, repeated = table.notes
    assert unread.endswith("columns that are not read: fps") and len(table.rows) == 3
    assert "rows that repeat an earlier one: 2 (first: line 3)" in repeated
    truths = read_intervals(write(tmp_path, text), truths=True)
    assert "a truth of its own" in truths.notes[1]
    scored = read_intervals(write(tmp_path, HEAD + GOOD + "a,micro,3,9,0.6\n"), truths=False)
    assert scored.notes == ()


def test_the_mark_of_a_missing_offset(tmp_path):
    text = HEAD + "a,macro,12,0,1\na,macro,0,0,1\n"
    table = read_intervals(write(tmp_path, text), truths=True)
    assert [(r.onset, r.offset) for r in table.rows] == [(12, 0), (0, 0)]
    (note,) = table.notes
    assert "truths without an offset (it is 0): 1 (first: line 2)" in note
    with pytest.raises(UserError, match="line 2: onset 12 comes after offset 5"):
        read_intervals(write(tmp_path, HEAD + "a,macro,12,5,1\n"), truths=True)


def test_emotions_of_micro_expressions(tmp_path):
    head = "video,type,onset,offset,emotion\n"
    table = read_intervals(write(tmp_path, head + "a,micro,1,2,Fear\nb,macro,1,2,\n"), truths=True)
    assert table.has_emotions
    interval_files.check_emotions(table)
    table = read_intervals(write(tmp_path, head + "a,micro,1,2,\nb,macro,1,2,fear\n"), truths=True)
    assert not table.has_emotions
    for row, message in {
        "b,micro,1,2,glee\n": "line 3: emotion 'glee' is not known: write one of negative, pos",
        "b,micro,1,2,\n": "line 3: emotion is missing: write one of",
    }.items():
        table = read_intervals(write(tmp_path, head + "a,micro,1,2,fear\n" + row), truths=True)
        with pytest.raises(UserError, match=message):
            interval_files.check_emotions(table)


def test_the_list_of_videos(tmp_path):
    found = read_videos(write(tmp_path, "subject;frames;video\ns1;100;a\ns2;90;a\n"))
    assert [(v.name, v.frames) for v in found] == [
        (VideoName("s1", "a"), 100),
        (VideoName("s2", "a"), 90),
    ]
    for text, message in {
        "video,frames\na,1\na,2\n": "line 3: video 'a' stands in line 2 already: remove one",
        "video,frames\na,0\n": "line 2: frames is 0",
        "video,frames\na,-3\n": "line 2: frames -3 is negative",
        "video,frames\n": "lists no video: add one line per video, video,frames",
        "video\na\n": "line 1: the header video has no column frames: write video,frames or",
    }.items():
        with pytest.raises(UserError, match=message):
            read_videos(write(tmp_path, text))


def test_a_missing_file_is_told_by_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_intervals(tmp_path / "none.csv", truths=False)
