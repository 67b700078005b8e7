"""Stretches of a video give what the whole gives, whatever its clock, however often stopped."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_clips import images, swing

from data_prep import extract_softnet, faces, own_face, own_video, source
from data_prep.faces import Face
from data_prep.readers import RawVideo
from spotjax.config import Cnn3d, Cnn3dFeatures, Config, Flow, SoftnetFeatures, Spotformer
from spotjax.config import SpotformerFeatures as SwMro
from spotjax.errors import UserError

LENGTH = 130
FEATURES = SoftnetFeatures(k_macro=8, k_micro=3, flow=Flow(method="dis"))
CONFIG = Config(name="own", features=FEATURES)
K = {"macro": 8, "micro": 3}
PLAIN = own_video.Context(0, 0)


class Still:
    """A finder that knows the face, but for the frames of `away`."""

    check_every = 1
    most = 1

    def __init__(self, face, away=()):
        self.last, self._away = face, away
        self.begun = 0

    def begin(self):
        self.begun += 1

    def resume(self, box):
        self.last = self.last._replace(box=box)

    def find(self, frame, row):
        return self.last if frame.any() else None

    def present(self, frame, row, box):
        return bool(frame.any())


@pytest.fixture(scope="module")
def face():
    return faces.Dlib68(15).find_all(own_video._grey(first_shot(), 1.0), 640)[0]


def first_shot():
    return next(iter(source.from_frames([images([0])[0][..., ::-1]], 30)))


def frames(length=LENGTH):
    return np.stack(images(swing(length)))[..., ::-1]


def read(given, spec, finder, rate=30.0, around=None, done=None):
    around = around or own_video.context(CONFIG, K, rate)._replace(held_before=0, held_after=0)
    done = done or own_video.Reading()
    return list(own_video.parts(given, spec, rate, around, finder, done, lambda n: None))


def own_rows(part, name):
    return part.rows[name][part.before : part.before + len(part.numbers)]


def test_stretches_joined_are_the_whole_video(face, monkeypatch):
    monkeypatch.setattr(own_video, "SECONDS", 1.5)
    given = frames()
    spec = own_video.make_spec(CONFIG, 30.0)
    found = read(source.from_frames(given, 30), spec, Still(face))
    assert len(found) > 1
    assert [part.first for part in found] == [0, *np.cumsum([len(p.numbers) for p in found])[:-1]]
    grey = [own_video._grey(shot, 1.0) for shot in source.from_frames(given, 30)]
    live = own_video.Live("whole", grey, list(range(LENGTH)))
    video = RawVideo(
        "", "", (), np.arange(LENGTH), 30.0, (), (), file=live.place, live=(live, Still(face))
    )
    whole = extract_softnet.extract(FEATURES, K, video, lambda n: None)
    for name in whole.rows:
        joined = np.concatenate([own_rows(part, name) for part in found])
        np.testing.assert_array_equal(joined, whole.rows[name], err_msg=name)
    assert whole.rows["valid_macro"].sum() == LENGTH - 8
    np.testing.assert_array_equal(np.concatenate([p.numbers for p in found]), np.arange(LENGTH))
    times = np.concatenate([part.times for part in found])
    np.testing.assert_allclose(times, np.arange(LENGTH) / 30)
    assert all(part.box == face.box for part in found)


def test_it_goes_on_where_it_was_stopped(face, monkeypatch):
    monkeypatch.setattr(own_video, "SECONDS", 1.2)
    given = frames(110)
    spec = own_video.make_spec(CONFIG, 30.0)
    whole = read(source.from_frames(given, 30), spec, Still(face))
    done = own_video.Reading()
    for part in whole[:1]:
        done.rows += len(part.numbers)
        done.numbers += part.numbers.tolist()
        done.times += part.times.tolist()
        done.box = part.box
    rest = read(source.from_frames(given, 30), spec, Still(face), done=done)
    assert len(rest) == len(whole) - 1 > 0
    for a, b in zip(rest, whole[1:], strict=True):
        np.testing.assert_array_equal(a.numbers, b.numbers)
        np.testing.assert_array_equal(a.times, b.times)
        assert a.first_time == b.first_time
        for name in a.rows:
            np.testing.assert_array_equal(own_rows(a, name), own_rows(b, name))


def test_frames_without_a_face_stay_as_rows(face, monkeypatch):
    monkeypatch.setattr(own_video, "SECONDS", 1.0)
    given = frames(150)
    given[40:] = 0
    opened = source.from_frames(given, 30)
    found = read(opened, own_video.make_spec(CONFIG, 30.0), Still(face))
    present = np.concatenate([part.face for part in found])
    np.testing.assert_array_equal(present, np.arange(150) < 40)
    valid = np.concatenate([own_rows(part, "valid_micro") for part in found])
    np.testing.assert_array_equal(valid, np.arange(150) < 40 - 3)
    assert found[-1].box is None
    assert opened.notes == []


def test_other_features_look_both_ways(face):
    spotformer = Config(name="own", features=SwMro(), system=Spotformer())
    assert own_video.context(spotformer, K, 30) == (8, 8, 0, 0, 0)
    cnn = Config(name="own", features=Cnn3dFeatures(), system=Cnn3d())
    assert own_video.context(cnn, K, 30) == (0, 0, 19, 0, 0)
    centred = Config(name="own", features=Cnn3dFeatures(), system=Cnn3d(reference="centred"))
    assert own_video.context(centred, K, 30) == (19, 0, 19, 0, 0)


def test_the_first_and_last_frames_are_held(face, monkeypatch):
    monkeypatch.setattr(own_video, "SECONDS", 1.0)
    around = own_video.context(CONFIG, K, 30)
    assert (around.held_before, around.held_after) == (8, 16)
    spec = own_video.make_spec(CONFIG, 30.0)
    given = frames(100)
    found = read(source.from_frames(given, 30), spec, Still(face), around=around)
    numbers = np.concatenate([part.numbers for part in found])
    np.testing.assert_array_equal(numbers, [*[0] * 8, *range(100), *[99] * 16])
    plain = read(source.from_frames(given, 30), spec, Still(face))
    with_held, without = (
        np.concatenate([own_rows(part, "strain_macro") for part in parts])
        for parts in (found, plain)
    )
    np.testing.assert_array_equal(with_held[8 : 8 + 92], without[:92])
    assert np.abs(with_held[1:8]).max() > 0  # from the first frame to those after it
    np.testing.assert_allclose(with_held[100 + 8 : -8], 0, atol=1e-3)  # nothing moves
    assert sum(len(part.times) for part in found) == 100
    done = own_video.Reading()
    done.rows = len(found[0].numbers)
    done.numbers, done.times = found[0].numbers.tolist(), found[0].times.tolist()
    rest = read(source.from_frames(given, 30), spec, Still(face), around=around, done=done)
    np.testing.assert_array_equal(np.concatenate([p.numbers for p in rest]), numbers[done.rows :])


def test_an_error_of_the_reader_reaches_the_caller(face):
    given = [*frames(60), np.zeros((3, 3), np.uint8)]
    with pytest.raises(UserError, match=r"frame 60 is \(3, 3\) px"):
        read(source.from_frames(given, 30), own_video.make_spec(CONFIG, 30.0), Still(face))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.004, 0.3), min_size=1, max_size=60),
    st.sampled_from([10.0, 25.0, 30.0]),
    st.integers(0, 50),
)
def test_every_row_is_the_frame_seen_at_its_time(gaps, rate, start):
    times = np.concatenate([[0], np.cumsum(gaps)])
    given = clocked(times)
    pairs = own_video.on_the_clock(given, rate, own_video.Reading(), 0, PLAIN)
    numbers = list(itertools.chain(*([shot.number] * count for shot, count in pairs)))
    assert numbers == sorted(numbers)
    half = 0.5 / max(rate, given.fps)
    for row, number in enumerate(numbers):
        at = row / rate
        # the last frame that began by then, give or take half a frame
        assert times[number] <= at + half + 1e-6
        assert number == len(times) - 1 or times[number + 1] > at - half - 1e-6
    again = own_video.Reading(rows=start, numbers=numbers[:start])
    begin = min(start, len(numbers))
    if begin == start:
        pairs = own_video.on_the_clock(given, rate, again, start, PLAIN)
        rest = list(itertools.chain(*([shot.number] * count for shot, count in pairs)))
        assert rest == numbers[start:]


def clocked(times):
    """A source of empty frames at given times."""

    class Clocked(source.Source):
        def skip(self, count):
            image = np.zeros((2, 2, 3), np.uint8)
            return (source.Shot(n, t, image) for n, t in enumerate(times) if n >= count)

    return Clocked("clocked", None, 30.0, len(times))


def test_the_tracker_follows_one_of_two_faces():
    box = (100, 50, 200, 150)
    left, right = (
        Face(b, np.zeros((68, 2), np.float32)) for b in ((0, 0, 90, 90), (95, 60, 190, 155))
    )
    assert own_face.nearest([left, right], box) is right
    assert own_face.nearest([left], box) is left  # moved by about its width
    assert own_face.nearest([left._replace(box=(600, 0, 690, 90))], box) is None
    assert own_face.nearest([], box) is None
    two = np.concatenate([images([0])[0], images([0])[0]], axis=1)
    two = two[..., 0].copy()
    first, second = own_face.Tracker(1), own_face.Tracker(2)
    a, b = first.find(two, 0), second.find(two, 0)
    assert first.most == second.most == 2
    assert abs(a.box[0] - b.box[0]) > 250
    # the same one is followed although both are there, and have moved
    for finder, before in ((first, a), (second, b)):
        now = finder.find(np.roll(two, 25, axis=1), 0)
        assert now is not None and now.box[0] - before.box[0] == pytest.approx(25, abs=8)
    for _ in range(6):
        first.begin()
    assert first.last is None  # lost for long: looked for anew
    assert own_face.Tracker(3).find(two, 0) is None


@pytest.mark.parametrize("at_a_time", [7, 64, 1000])
def test_pairs_computed_at_once_are_those_computed_one_by_one(face, monkeypatch, at_a_time):
    def whole():
        grey = [own_video._grey(shot, 1.0) for shot in source.from_frames(frames(60), 30)]
        live = own_video.Live("whole", grey, list(range(60)))
        video = RawVideo(
            "", "", (), np.arange(60), 30.0, (), (), file=live.place, live=(live, Still(face))
        )
        return extract_softnet.extract(FEATURES, K, video, lambda n: None).rows

    expected = whole()
    pairs, _ = extract_softnet.make_pairs(FEATURES.flow)
    sizes = []

    def several(firsts, seconds):
        sizes.append(len(firsts))
        return pairs(firsts, seconds)

    monkeypatch.setattr(extract_softnet, "make_pairs", lambda flow: (several, at_a_time))
    found = whole()
    assert set(sizes[:-1]) <= {at_a_time} and sum(sizes) == 60 - K["macro"] + 60 - K["micro"]
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
