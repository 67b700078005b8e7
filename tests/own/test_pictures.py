"""Pictures from a second pass: of the right frames, features as they were, bounded reading."""

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_clips import images, swing, write_clip
from own_results import CONFIG, SFAMNET, SPOTFORMER, fitted, result
from reference import shared_file
from spotjax.data_prep import own_face, own_video
from spotjax.data_prep import source as sources

from spotjax.own import looked, pictures
from spotjax.own.run import Result, spot_source
from spotjax.parameters import weights
from spotjax.types import Detection

LENGTH = 200


def decoded(jpeg: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


# --- which, and from which rows -------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 99), st.booleans(), st.floats(0, 1)), max_size=12))
def test_the_best_of_each_type_come_first(drawn):
    all = {Detection(on, on, on, "macro" if m else "micro", s) for on, m, s in drawn}
    for most in (0, 1, 3, 20):
        kept = pictures.best(list(all), most)
        assert len(kept) == min(most, len(all)) and set(kept) <= all
        assert [d.onset for d in kept] == sorted(d.onset for d in kept)
        for type in ("macro", "micro"):
            left = [d.score for d in all - set(kept) if d.type == type]
            mine = [d.score for d in kept if d.type == type]
            assert not left or not mine or min(mine) >= max(left)


class Clock(sources.Source):
    """A source of nothing but times."""

    def __init__(self, times: np.ndarray, fps: float) -> None:
        super().__init__("clock", None, fps, 0)
        self._times = times

    def skip(self, count: int) -> Any:
        for number, time in enumerate(self._times):
            yield sources.Shot(number, float(time), np.zeros((1, 1, 3), np.uint8))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([0.001, 0.01, 1 / 60, 1 / 30, 0.04, 0.5]), max_size=40),
    st.sampled_from([15.0, 25.0, 30.0, 200.0]),
    st.sampled_from([24.0, 30.0, 60.0]),
)
def test_rows_are_those_that_the_features_were_made_of(gaps, rate, fps):
    times = np.concatenate([[0], np.cumsum(gaps)])
    shots = own_video.on_the_clock(
        Clock(times, fps), rate, own_video.Reading(), 0, own_video.Context(0, 0)
    )
    expected = [shot.number for shot, count in shots for _ in range(count)]
    assert pictures.row_frames(times, rate, fps).tolist() == expected


# --- faces ----------------------------------------------------------------------------------------


def colours() -> list[np.ndarray]:
    """8 frames of 60 x 40 px, each of its own colour."""
    return [np.full((40, 60, 3), (30 * i, 200 - 20 * i, 90), np.uint8) for i in range(8)]


@pytest.fixture
def still(monkeypatch):
    monkeypatch.setattr(looked, "can_explain", lambda fitted: False)


def test_each_picture_shows_its_frame(tmp_path, still):
    source = sources.open_source(str(write_clip(tmp_path / "a.avi", colours(), 25)))
    moments = (Detection(1, 3, 6, "macro", 0.7), Detection(3, 4, 5, "micro", 0.6))
    taken = pictures.of(source, result(detections=moments), thumb=48)
    assert set(taken) == set(moments)
    for d in moments:
        for name in ("onset", "apex", "offset"):
            frame, jpeg = getattr(d, name), getattr(taken[d], name)
            if frame == 6:  # without a face
                assert jpeg == b""
            else:
                image = decoded(jpeg)
                assert image.shape == (48, 41, 3)  # 12 x 14 px: the box has 10 x 12
                assert np.abs(image.astype(int) - colours()[frame][0, 0]).max() < 12
    assert taken[moments[0]].heat == b"" and taken[moments[0]].shares is None


def test_a_box_at_the_border_is_cut_off_there():
    image = np.arange(40 * 60 * 3).reshape(40, 60, 3).astype(np.uint8)
    assert np.array_equal(pictures._cut(image, np.array([10, 10, 30, 20])), image[9:21, 8:32])
    assert np.array_equal(pictures._cut(image, np.array([0, 30, 20, 40])), image[29:40, 0:22])


def test_reading_ends_after_the_last_moment(tmp_path, still):
    source = sources.open_source(str(write_clip(tmp_path / "a.avi", colours(), 25)))
    seen = []

    class Counted:
        repeatable, name, fps = True, source.name, source.fps

        def again(self):
            return self

        def skip(self, count):
            for shot in source.skip(count):
                seen.append(shot.number)
                yield shot

    pictures.of(Counted(), result(detections=(Detection(0, 1, 3, "macro", 0.7),)))
    assert seen == [0, 1, 2, 3]
    seen.clear()
    assert pictures.of(Counted(), result(detections=())) == {} and seen == []


def test_what_can_be_read_only_once_gives_none():
    once = sources.from_frames(np.stack(colours()), 25)
    assert pictures.of(once, result()) == {}


def test_no_more_than_the_limit(tmp_path, still, monkeypatch):
    monkeypatch.setattr(pictures, "MOST", 2)
    source = sources.open_source(str(write_clip(tmp_path / "a.avi", colours(), 25)))
    some = tuple(Detection(i, i, i, "macro", i / 10) for i in range(5))
    assert set(pictures.of(source, result(detections=some))) == {some[3], some[4]}


# --- features -------------------------------------------------------------------------------------


def moving(length: int) -> list[np.ndarray]:
    """A talking face that drifts to the side, so that the box is another in each stretch."""
    return [np.roll(image, frame // 3, axis=1) for frame, image in enumerate(images(swing(length)))]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("own") / "talk.avi", moving(LENGTH), 30)


def extracted(source: sources.Source, made: Any, rate: float) -> tuple[Result, dict[str, Any]]:
    """All features, made as for the scores, and the result that would come of them."""
    around = own_video.context(made.config, made.k, rate)
    spec = own_video.make_spec(made.config, rate)
    tracker = own_face.Tracker()
    rows: dict[str, list[np.ndarray]] = {name: [] for name in spec.streams}
    times: list[float] = []
    boxes: list[Any] = []
    reading = own_video.Reading()
    for part in own_video.parts(source, spec, rate, around, tracker, reading, lambda n: None):
        own = slice(part.before, part.before + len(part.numbers))
        for name, array in part.rows.items():
            rows[name] += list(array[own])
        boxes += [part.box] * len(part.numbers)
        times += part.times.tolist()
    seen = slice(around.held_before, len(boxes) - around.held_after)
    boxes, rows = boxes[seen], {name: array[seen] for name, array in rows.items()}
    assert len(times) == LENGTH and len(set(boxes)) > 1
    number = pictures.row_frames(np.array(times), rate, source.fps)
    of_frame = np.searchsorted(number, np.arange(LENGTH), "right") - 1
    found = result(
        rate=rate, made=made, boxes=np.array(boxes)[of_frame], times=np.array(times),
        fps=source.fps, face=np.ones(LENGTH, np.uint8), scores={},
    )  # fmt: skip
    return found, {name: np.stack(array) for name, array in rows.items()}


@pytest.mark.parametrize(
    ("config", "rate", "options"),
    [
        (CONFIG, 30.0, {}),
        (CONFIG, 20.0, {"interval": "centred"}),
        (SFAMNET, 15.0, {}),
        (SPOTFORMER, 10.0, {}),
    ],
    ids=["softnet", "softnet centred, fewer rows", "sfamnet", "spotformer"],
)
def test_features_are_those_that_were_scored(clip, monkeypatch, config, rate, options):
    monkeypatch.setattr(own_video, "SECONDS", 1.0)
    made = fitted(config, folds=1, **options)
    found, rows = extracted(sources.open_source(str(clip)), made, rate)
    numbers = pictures.row_frames(found.spotting.times, rate, 30.0)
    types = ("macro", "micro")
    chosen = {}  # of both types, in the first, a middle and the last stretch
    for place, type in zip((0.1, 0.3, 0.5, 0.75), types * 2, strict=True):
        apex = int(place * len(numbers))
        d = Detection(*[int(numbers[apex])] * 3, type, place)
        chosen[d] = apex - looked.row_before_apex(made, d)
    source = sources.open_source(str(clip))
    faces = pictures._Faces(found, list(chosen), 64)
    looks = pictures._looks(pictures._Watched(source, faces.see), found, list(chosen), faces)
    assert set(looks) == set(chosen)
    for d, row in chosen.items():
        look = looks[d]
        assert look.streams and set(look.streams) <= set(made.system.streams(look.problem))
        for name, array in look.streams.items():
            assert np.abs(array).max() > 0, (name, d)
            assert np.array_equal(array, rows[name][row]), (name, d)
        assert look.grey.shape == (128, 128) and look.grey.std() > 20


def test_the_map_lies_on_the_eyes_and_the_mouth(clip, monkeypatch):
    monkeypatch.setattr(own_video, "SECONDS", 1.0)
    found, _ = extracted(sources.open_source(str(clip)), fitted(), 30.0)
    d = Detection(20, 28, 36, "macro", 0.9)
    found = found._replace(spotting=found.spotting._replace(detections=(d,)))
    source = sources.open_source(str(clip))
    taken = pictures.of(source, found)
    image = decoded(taken[d].heat).astype(int)
    assert image.shape == (128, 128, 3)
    faces = pictures._Faces(found, [d], 64)
    look = pictures._looks(pictures._Watched(source.again(), faces.see), found, [d], faces)[d]
    there = np.zeros((128, 128), np.uint8)
    for region, _ in look.parts:
        there[region] = 1
    there = cv2.dilate(there, np.ones((17, 17), np.uint8))  # JPEG smears colour over 8 px
    coloured = np.ptp(image, axis=2) > 40
    assert coloured.sum() > 20 and not coloured[there == 0].any() and not there.all()


def test_pictures_of_a_real_face(tmp_path):
    """What SOFTNet as released finds in a video of a person."""
    from spotjax import convert

    names = ("CASME_sq_macro_s2.hdf5", "CASME_sq_micro_s1.hdf5")
    released = [str(shared_file(f"weights/softnet/{name}")) for name in names]
    assert convert.main([*released, "--out", str(tmp_path / "w.spotjax.npz")]) == 0
    clip = sources.open_source(str(shared_file("clips/mouth_play_30fps_480.mp4")))
    found = spot_source(clip, weights.load(tmp_path / "w.spotjax.npz"), flow="dis")
    taken = pictures.of(clip, found)
    assert taken and set(taken) == set(found.spotting.detections)
    for picture in taken.values():
        for jpeg in (picture.onset, picture.apex, picture.offset, picture.heat):
            assert decoded(jpeg).std() > 20
    assert found.fitted.k == {"macro": 18, "micro": 6}
