"""The video with its findings: frames, drawing, and what becomes of a failed one."""

import cv2
import numpy as np
import pytest
from own_clips import write_clip
from own_results import result
from spotjax.data_prep import source as sources

from spotjax.errors import UserError
from spotjax.own import movie
from spotjax.types import Detection

GREY = (90, 90, 90)
STRIP = 24 * 3 + 6


@pytest.fixture
def clip(tmp_path):
    frames = [np.full((40, 60, 3), GREY, np.uint8) for _ in range(8)]
    return sources.open_source(str(write_clip(tmp_path / "interview.mp4", frames, 25)))


def read(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (found := capture.read())[0]:
        frames.append(found[1])
    return frames, capture.get(cv2.CAP_PROP_FPS)


def near(pixel, colour, by=40):
    return np.abs(np.asarray(pixel, int) - colour).max() < by


def test_all_frames_are_there_with_box_and_strip(clip, tmp_path):
    path = movie.write(tmp_path / "interview.spot.mp4", clip, result())
    frames, fps = read(path)
    assert path.name == "interview.spot.mp4" and len(frames) == 8 and fps == 25
    assert all(frame.shape == (40 + STRIP, 60, 3) for frame in frames)
    assert near(frames[0][30, 30], GREY)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["interview.mp4", path.name]


def test_the_box_has_the_colour_of_what_runs_and_goes_with_the_face():
    # frames 2 to 4 macro, 4 to 5 micro, frame 6 without a face; the box is (4, 6) to (13, 17)
    image = np.full((40, 60, 3), GREY, np.uint8)
    found = result()
    corner = [tuple(int(c) for c in movie.drawn(image, f, found)[6, 4]) for f in range(8)]
    macro, micro = movie.COLOURS["macro"], movie.COLOURS["micro"]
    assert corner == [movie.INK] * 2 + [macro] * 3 + [micro, GREY, movie.INK]
    assert tuple(movie.drawn(image, 3, found)[17, 13]) == macro
    assert (image == GREY).all()


def test_the_bars_are_as_long_as_the_scores():
    # macro runs from 0 to .75 over x = 60 to 230 of a picture of 400 px
    image = np.zeros((20, 400, 3), np.uint8)
    found = result()
    row = 20 + 24 + 12
    for frame, score in enumerate([0.1, 0.2, 0.3, 0.75, 0.5, 0.1]):
        line = movie.drawn(image, frame, found)[row]
        long = int((line == movie.COLOURS["macro"]).all(-1).sum())
        hidden = 1 if score > 0.6 else 0  # behind the mark of the threshold
        assert abs(long + hidden - 1 - 170 * score / 0.75) <= 1
    assert not (movie.drawn(image, 6, found)[row] == movie.COLOURS["macro"]).all(-1).any()


def test_scale_of_a_bar():
    found = result().spotting
    assert movie.scale_of(found, "macro") == (0.0, 0.75)
    low = found._replace(scores={"macro": np.float32([-0.5, np.nan])}, thresholds={"macro": 2.0})
    assert movie.scale_of(low, "macro") == (-0.5, 2.0)
    none = found._replace(scores={"macro": np.float32([np.nan])}, thresholds={})
    assert movie.scale_of(none, "macro") == (0.0, 1.0)


def test_odd_sides_become_even_and_wide_pictures_get_a_wide_strip():
    drawn = movie.drawn(np.zeros((41, 61, 3), np.uint8), 0, result())
    assert drawn.shape == (42 + STRIP, 62, 3)
    wide = movie.drawn(np.zeros((40, 1920, 3), np.uint8), 0, result())
    assert wide.shape == (40 + 2 * STRIP, 1920, 3)


def test_names_of_what_runs_are_drawn(monkeypatch):
    written = []
    plain = cv2.putText

    def spy(image, words, *rest):
        written.append(words)
        return plain(image, words, *rest)

    monkeypatch.setattr(cv2, "putText", spy)
    detections = (Detection(1, 2, 3, "macro", 0.7), Detection(2, 3, 4, "macro", 0.8, "happy"))
    found = result(detections=detections)
    for frame, label in ((0, None), (1, "1: macro"), (2, "2: happy"), (6, None)):
        written.clear()
        movie.drawn(np.zeros((40, 300, 3), np.uint8), frame, found)
        labels = [words for words in written if ":" in words[:2]]
        assert labels == ([label] if label else [])
    assert "no face" in written and "00:00.24  frame 6" in written


def test_without_mpeg4_it_is_an_avi(clip, tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(movie.CODECS, ".mp4", "XXXX")
    path = movie.write(tmp_path / "found.mp4", clip, result())
    assert path == tmp_path / "found.avi" and len(read(path)[0]) == 8
    assert sorted(p.name for p in tmp_path.iterdir()) == ["found.avi", "interview.mp4"]


def test_without_any_codec_nothing_is_left(clip, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(movie, "CODECS", {".mp4": "XXXX", ".avi": "YYYY"})
    with pytest.raises(UserError, match="no video can be written here .*leave --video out"):
        movie.write(tmp_path / "found.mp4", clip, result())
    assert [p.name for p in tmp_path.iterdir()] == ["interview.mp4"]


def test_the_video_itself_is_never_written_over(clip):
    before = clip.media.read_bytes()
    with pytest.raises(UserError, match="is the video itself"):
        movie.write(clip.media, clip, result())
    assert clip.media.read_bytes() == before


def test_a_camera_is_refused(tmp_path):
    once = sources.from_frames(np.zeros((8, 40, 60, 3), np.uint8), 25, "camera:0")
    with pytest.raises(UserError, match="camera:0: can be read only once"):
        movie.write(tmp_path / "found.mp4", once, result())


def test_an_older_video_stays_when_the_new_one_is_cut_short(clip, tmp_path, monkeypatch):
    path = tmp_path / "found.mp4"
    path.write_bytes(b"older")
    monkeypatch.setattr(
        movie._Written, "add", lambda self, image, add=movie._Written.add: (add(self, image),
        setattr(self, "_count", self._count + 1)),
    )  # fmt: skip
    with pytest.raises(UserError, match="8 of 16 frames could be written: free some space"):
        movie.write(path, clip, result())
    assert path.read_bytes() == b"older"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["found.mp4", "interview.mp4"]


def test_an_interrupted_one_leaves_nothing(clip, tmp_path, monkeypatch):
    def stop(image, frame, result):
        raise KeyboardInterrupt

    monkeypatch.setattr(movie, "drawn", stop)
    with pytest.raises(KeyboardInterrupt):
        movie.write(tmp_path / "found.mp4", clip, result())
    assert [p.name for p in tmp_path.iterdir()] == ["interview.mp4"]
