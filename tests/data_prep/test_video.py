from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_sets import frame

from data_prep.video import FileFrames, ImageFrames, position, positions, read_grey
from spotjax.errors import UserError


def test_a_jpeg_becomes_grey(tmp_path: Path) -> None:
    path = tmp_path / "img001.jpg"
    path.write_bytes(frame(0) + b"trailing bytes after the end marker are harmless")
    image = read_grey(path)
    assert image.shape == (240, 320) and image.dtype == np.uint8


def test_a_thumbnails_end_marker_does_not_count(tmp_path: Path) -> None:
    """A JPEG whose header holds a whole small JPEG, cut inside its own scan."""
    thumbnail = cv2.imencode(".jpg", np.zeros((8, 8), np.uint8))[1].tobytes()
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = frame(0)[:2] + segment + frame(0)[2:]
    path = tmp_path / "img001.jpg"
    path.write_bytes(whole)
    assert read_grey(path).shape == (240, 320)
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(UserError, match=r"img001\.jpg: the image is cut short"):
        read_grey(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.99])
def test_a_cut_image_is_refused(tmp_path: Path, suffix: str, part: float) -> None:
    data = cv2.imencode(suffix, cv2.imdecode(np.frombuffer(frame(0), np.uint8), 0))[1].tobytes()
    path = tmp_path / f"img001{suffix}"
    path.write_bytes(data)
    assert read_grey(path).shape == (240, 320)
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(UserError, match=rf"img001\{suffix}: the image is cut short: copy"):
        read_grey(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory"),
        (b"", "the file is empty"),
        (b"GIF89a nothing of the kind", "cannot be decoded as an image"),
        (b"\xff\xd8\xff\xda\x00\xff\xd9", "cannot be decoded as an image"),
    ],
)
def test_unreadable_images_are_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "img007.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"img007\.jpg: {message}.*: copy this frame again"):
        read_grey(path)


def test_a_change_of_size_is_refused(tmp_path: Path) -> None:
    paths = [tmp_path / f"img{row}.jpg" for row in range(3)]
    for path in paths:
        path.write_bytes(frame(0))
    paths[2].write_bytes(cv2.imencode(".jpg", np.zeros((120, 160), np.uint8))[1].tobytes())
    frames = ImageFrames(paths)
    assert len(frames) == 3 and frames[1].shape == (240, 320)
    with pytest.raises(UserError, match=r"img2\.jpg: is 160x120 px, the video's.*320x240"):
        frames[2]


@given(length=st.integers(0, 300), step=st.integers(1, 50) | st.floats(1, 50))
def test_frames_taken(length: int, step: float) -> None:
    """All round(step j) inside the video, once each; whole steps as a slice takes them."""
    found = positions(length, step).tolist()
    assert found == [n for j in range(length) if (n := position(j, step)) < length]
    assert found == sorted(set(found)) and found[:1] == [0] * min(length, 1)
    if isinstance(step, int):
        assert found == list(range(length))[::step]


def test_a_file_sampled_by_a_fraction(tmp_path: Path) -> None:
    """Frame n has grey value 4 n; the frames are decoded in any order."""
    path = tmp_path / "talk.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for row in range(40):
        writer.write(np.full((48, 64, 3), 4 * row, np.uint8))
    writer.release()
    frames = FileFrames(path, len(positions(40, 6.7)), 6.7)
    assert len(frames) == 6
    for row, wanted in ((0, 0), (1, 7), (2, 13), (5, 34), (3, 20), (4, 27)):
        assert abs(float(frames[row].mean()) - 4 * wanted) < 2
        assert frames.where(row) == f"{path}, frame {wanted}"
    with pytest.raises(IndexError):
        frames[6]
