import cv2
import numpy as np
import pytest
from own_clips import images, swing, turn_by_flag, write_clip

from data_prep import source
from spotjax.errors import UserError


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", images(swing(40)), 25.0)


def test_a_file_gives_every_frame_with_its_time(clip):
    opened = source.open_source(str(clip))
    shots = list(opened)
    assert (opened.name, opened.media, opened.fps, opened.expected) == ("clip.mp4", clip, 25, 40)
    assert [shot.number for shot in shots] == list(range(40))
    np.testing.assert_allclose([shot.time for shot in shots], np.arange(40) / 25, atol=1e-3)
    assert shots[0].image.shape == (240, 320, 3)
    assert opened.notes == []
    later = list(opened.again().skip(30))
    assert [shot.number for shot in later] == list(range(30, 40))
    np.testing.assert_array_equal(later[0].image, shots[30].image)
    assert later[0].time == shots[30].time


def test_a_turned_file_is_set_upright(clip, tmp_path):
    turned = turn_by_flag(write_clip(tmp_path / "turned.mp4", images(swing(3))))
    upright = write_clip(tmp_path / "upright.mp4", images(swing(3)))
    first, second = (next(iter(source.open_source(str(p)))).image for p in (turned, upright))
    assert first.shape == (320, 240, 3)
    assert any(np.array_equal(np.rot90(first, n), second) for n in (1, 3))


def test_a_folder_of_images_is_read_in_natural_order(tmp_path):
    for number in (10, 2, 1):
        cv2.imwrite(str(tmp_path / f"img{number}.png"), np.full((8, 6, 3), number, np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    opened = source.open_source(str(tmp_path), fps=200)
    shots = list(opened)
    assert [int(shot.image[0, 0, 0]) for shot in shots] == [1, 2, 10]
    assert [shot.time for shot in shots] == [0, 1 / 200, 2 / 200]
    assert opened.fps == 200 and opened.notes == []
    assert "30 fps are assumed" in source.open_source(str(tmp_path)).notes[0]
    assert len(list(opened.again())) == 3
    cv2.imwrite(str(tmp_path / "img3.png"), np.zeros((9, 6, 3), np.uint8))
    with pytest.raises(UserError, match=r"img3.png: is 6x9 px, .* one size"):
        list(source.open_source(str(tmp_path)))


def test_frames_of_a_program():
    grey = np.arange(3 * 8 * 6, dtype=np.uint8).reshape(3, 8, 6)
    shots = list(source.from_frames(grey, 10))
    assert [shot.time for shot in shots] == [0, 0.1, 0.2]
    np.testing.assert_array_equal(shots[1].image[..., 2], grey[1])
    red = np.zeros((2, 8, 6, 3), np.uint8)
    red[..., 0] = 255
    assert list(next(iter(source.from_frames(red, 10))).image[0, 0]) == [0, 0, 255]
    opened = source.from_frames(iter(red), 10)
    assert not opened.repeatable
    assert [shot.number for shot in opened.skip(1)] == [1]
    with pytest.raises(UserError, match="read only once"):
        opened.again()
    for bad, message in (
        ([grey[0], grey[0].astype(float)], r"frame 1 is float64\[8, 6\]"),
        ([np.zeros((8, 6, 4), np.uint8)], r"frame 0 is uint8\[8, 6, 4\]"),
        ([grey[0], grey[0, :4]], r"frame 1 is \(4, 6\) px"),
        ([], "no frames"),
    ):
        with pytest.raises(UserError, match=message):
            list(source.from_frames(bad, 10))


def test_times_that_stand_still_go_on_at_the_nominal_rate(clip, monkeypatch):
    opened = source.open_source(str(clip))
    # a property that a file does not have: always -1
    monkeypatch.setattr(cv2, "CAP_PROP_POS_MSEC", cv2.CAP_PROP_BRIGHTNESS)
    np.testing.assert_allclose([shot.time for shot in opened], np.arange(40) / 25)


class Stamps:
    """A capture whose frames have these times in ms."""

    def __init__(self, stamps):
        self._left, self._now = list(stamps), 0.0

    def grab(self):
        if not self._left:
            return False
        self._now = self._left.pop(0)
        return True

    def get(self, what):
        return {cv2.CAP_PROP_POS_MSEC: self._now}.get(what, 0.0)

    def retrieve(self):
        return True, np.zeros((4, 4, 3), np.uint8)

    def release(self):
        pass


def test_damaged_times_do_not_make_a_long_video(clip):
    opened = source.open_source(str(clip))
    opened._capture = Stamps([100, 140, 180, 1_088_600, 1_088_640, 500, 540, 640])
    times = [shot.time for shot in opened]
    np.testing.assert_allclose(times, np.cumsum([0, 0.04, 0.04, 0.04, 0.04, 0.04, 0.04, 0.1]))
    assert opened.notes[0].startswith("1 of its times leap by more than 10 s")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.mp4", None, "gone.mp4: No such file.* name a video file"),
        ("empty.mp4", b"", "empty.mp4: the file is empty"),
        ("text.mp4", b"not a video at all" * 99, "text.mp4: cannot be opened as a video: save it"),
    ],
)
def test_what_is_no_video_is_said_in_one_line(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        source.open_source(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_an_empty_folder_and_a_missing_camera(tmp_path):
    with pytest.raises(UserError, match="holds no images"):
        source.open_source(str(tmp_path))
    with pytest.raises(UserError, match="camera:99: cannot be opened"):
        source.open_source("camera:99")


def test_a_file_that_was_cut_short_says_so(tmp_path):
    whole = write_clip(tmp_path / "whole.avi", images(swing(40))).read_bytes()
    (tmp_path / "half.avi").write_bytes(whole[: len(whole) // 2])
    opened = source.open_source(str(tmp_path / "half.avi"))
    count = len(list(opened))
    assert 10 <= count <= 25
    if opened.expected > count + 2:
        assert f"promises {opened.expected} frames, {count} can be decoded" in opened.notes[0]
    mp4 = write_clip(tmp_path / "whole.mp4", images(swing(10))).read_bytes()
    (tmp_path / "half.mp4").write_bytes(mp4[: len(mp4) // 2])
    with pytest.raises(UserError, match="half.mp4: cannot be opened"):
        source.open_source(str(tmp_path / "half.mp4"))
