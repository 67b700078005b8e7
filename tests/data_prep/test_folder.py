"""One's own videos: files and image folders, subjects, frame numbers, every bad line named."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_sets import frame

from data_prep import readers, video
from data_prep.features import frames_of
from data_prep.readers import folder
from spotjax.config import Data
from spotjax.errors import UserError
from spotjax.types import Interval

HEADER = "video,onset,apex,offset,type,emotion\n"


def write_video(path: Path, frames: int, fps: float = 25.0) -> None:
    """A video whose frame n has grey value 2 n."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (64, 48))
    for row in range(frames):
        writer.write(np.full((48, 64, 3), 2 * row, np.uint8))
    writer.release()


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "mine"
    write_video(root / "anna/talk.avi", 40)
    write_video(root / "solo.AVI", 30)
    images = root / "ben/reading"
    images.mkdir(parents=True)
    for number in range(1, 21):
        (images / f"{number:04d}.jpg").write_bytes(frame(number % 20))
    (root / "annotations.csv").write_text(
        HEADER + "anna/talk.avi,10,12,20,macro,Happy\nben/reading,3,,9,ME,\n"
        "anna\\talk,0,2,5,micro,\n"
    )
    return root


def read(root: Path, **data: object) -> readers.RawDataset:
    return readers.read(Data(**{"layout": "folder", "fps": 30.0} | data), root)  # type: ignore[arg-type]


def test_videos_and_rows(own: Path) -> None:
    dataset = read(own)
    assert dataset.name == "folder"
    assert [v.id for v in dataset.videos] == ["anna/talk", "ben/reading", "solo/solo"]
    talk, reading, solo = dataset.videos
    assert talk.file == own / "anna/talk.avi" and talk.fps == 25 and talk.num_frames == 40
    assert talk.frame_ids[0] == 0 and talk.intervals == (
        Interval(10, 12, 20, "macro", "happy"), Interval(0, 2, 5, "micro", ""),
    )  # fmt: skip
    assert reading.fps == 30 and reading.file is None
    assert reading.intervals == (Interval(2, -1, 8, "micro"),)  # image 3 is row 2
    assert solo.intervals == () and solo.num_frames == 30
    assert "videos of different frame rates: 25, 30 fps (k is counted in frames)" in dataset.quirks


def test_frames_of_a_file_counted_from_1_and_sampled(own: Path) -> None:
    talk = read(own, first_frame=1).videos[0]
    assert talk.frame_ids[0] == 1 and talk.intervals[0][:3] == (9, 11, 19)
    sampled = read(own, sample_every=4).videos[0]
    assert sampled.num_frames == 10 and sampled.fps == 25 / 4
    frames = frames_of(sampled)
    assert [round(float(frames[row].mean()) / 2) for row in (0, 3, 9, 2)] == [0, 12, 36, 8]


def test_a_video_file_is_read_in_any_order(own: Path) -> None:
    frames = frames_of(read(own).videos[0])
    assert len(frames) == 40 and frames[5].dtype == np.uint8 and frames[5].shape == (48, 64)
    for row in (7, 7, 39, 0, 20):
        assert abs(float(frames[row].mean()) - 2 * row) < 2
    with pytest.raises(IndexError):
        frames[40]
    assert frames.where(3).endswith("talk.avi, frame 3")


def test_frames_are_counted_once(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = own / "anna/talk.avi"
    assert video.count_frames([path]) == [40]
    monkeypatch.setattr(video, "_count", lambda path: pytest.fail("counted again"))
    assert video.count_frames([path]) == [40]
    video.COUNTS.write_text("{")  # a damaged memory is made anew
    monkeypatch.setattr(video, "_count", lambda path: 7)
    assert video.count_frames([path]) == [7]


def test_a_subject_column(own: Path) -> None:
    (own / "annotations.csv").write_text(
        "subject;video;onset;apex;offset;type\nP1;solo;3;4;5;macro\nP1;anna/talk;3;4;5;MaE\n"
    )
    assert [v.id for v in read(own).videos] == ["P1/solo", "P1/talk", "ben/reading"]


def test_a_video_that_is_none_has_a_problem(own: Path) -> None:
    (own / "broken.mp4").write_text("no video")
    broken = next(v for v in read(own).videos if v.name == "broken")
    assert broken.num_frames == 0 and "no frame can be decoded" in broken.problem


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"annotations\.csv: is empty: write a header with the columns video,onset"),
        ("video,onset,offset,type\n", r"line 1: the header has no column apex: expected"),
        (HEADER + "annna/talk,1,2,3,macro,\n", r"line 2: no video 'annna/talk' below .*anna/talk"),
        (HEADER + "solo,one,2,3,macro,\n", r"line 2, column onset: onset should be a number, got"),
        (HEADER + "solo,,2,3,macro,\n", r"line 2, column onset: onset is empty"),
        (HEADER + "solo,9,2,3,macro,\n", r"line 2: offset 3 comes before onset 9"),
        (HEADER + "solo,-9,2,3,macro,\n", r"line 2: onset -9, offset 3: a frame number is neg"),
        (HEADER + "solo,1,2,3,blink,\n", r"line 2: expression type 'blink' is not known"),
        (HEADER + "solo,1,2,3,macro,,,x\n", r"line 2: has 8 cells, the header 6"),
        (HEADER + "solo,1,2,3,ME,\n\nsolo,1,2,3,ME,\n", r"line 4: repeats line 2 \(micro 1-3"),
        (
            "video,subject,onset,apex,offset,type\nsolo,a,1,2,3,ME\nsolo,b,4,5,6,ME\n",
            r"line 3: video solo has subject b here and a above",
        ),
        ("PK\x03\x04\x00\x00", r"annotations\.csv: is no text file: save it as CSV"),
    ],
)
def test_a_bad_csv_is_named(own: Path, text: str, message: str) -> None:
    (own / "annotations.csv").write_text(text)
    with pytest.raises(UserError, match=message) as info:
        read(own)
    assert "\n" not in str(info.value)


def test_letters_with_accents_are_compared_composed(own: Path) -> None:
    (own / "ben").rename(own / "Ju\u0308rgen")  # as macOS stores it
    for name in ("J\u00fcrgen/reading", "Ju\u0308rgen/reading"):
        (own / "annotations.csv").write_text(HEADER + f"{name},3,,9,ME,\n", encoding="utf-8")
        dataset = read(own)
        assert [v.id for v in dataset.videos if v.intervals] == ["J\u00fcrgen/reading"]


def test_a_video_that_is_cut_short_is_noted(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "header_frames", lambda path: 300)
    assert any(
        "talk.avi: only 40 of the 300 frames that its header names" in quirk
        for quirk in read(own).quirks
    )


def test_two_videos_of_one_name(own: Path) -> None:
    write_video(own / "anna/talk.mkv", 3)
    with pytest.raises(UserError, match=r"talk\.mkv: has the name of talk\.avi beside it"):
        read(own)


def test_what_is_missing_is_named(own: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"reading: its frame rate is not known: set --config"):
        read(own, fps=0.0)
    (own / "annotations.csv").unlink()
    with pytest.raises(
        UserError, match=r"annotations\.csv: no such file: write there the columns video,onset"
    ):
        read(own)
    (tmp_path / "none").mkdir()
    (tmp_path / "none/notes.txt").touch()
    with pytest.raises(UserError, match="none: no video in it: expected annotations.csv and"):
        read(tmp_path / "none")
