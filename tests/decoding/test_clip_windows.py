import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import shared_file

from spotjax.decoding import clip_windows
from spotjax.decoding.clip_windows import CLIP, HOP, OVERLAP, POSITIVE_IOU, TOWERS, overlaps
from spotjax.decoding.intervals import as_array, iou_matrix


def golden():
    return json.loads(shared_file("goldens/mesnet_cnn3d.json").read_text())


def test_the_towers_of_table_2():
    assert [tower.span for tower in TOWERS] == [3, 5, 7, 9, 11]
    whole = clip_windows.whole_windows()
    length = whole[:, 1] - whole[:, 0] + 1
    sizes = [98, 96, 94, 92, 90]
    assert length.tolist() == np.repeat([7, 9, 11, 13, 15], sizes).tolist()
    first = np.cumsum([0, *sizes[:-1]])
    for begin, size in zip(first, sizes, strict=True):  # each tower looks at every row in turn
        assert whole[begin : begin + size, 0].tolist() == list(range(-2, size - 2))
        assert whole[begin + size - 1, 1] == CLIP + 1


def test_windows_are_cut_at_the_clip_and_only_there():
    whole, cut = clip_windows.whole_windows(), clip_windows.windows()
    assert cut.min() == 0 and cut.max() == CLIP - 1
    inside = (whole[:, 0] >= 0) & (whole[:, 1] < CLIP)
    np.testing.assert_array_equal(cut[inside], whole[inside])
    assert (~inside).sum() == 5 * 4  # two at either end of each tower
    lost = (whole[:, 1] - whole[:, 0]) - (cut[:, 1] - cut[:, 0])
    assert sorted(lost[~inside].tolist()) == [1] * 10 + [2] * 10


def test_windows_of_another_clip():
    np.testing.assert_array_equal(
        clip_windows.whole_windows(13),
        [[n - 2, n + span + 1] for span in (3, 5, 7, 9, 11) for n in range(13 - span + 1)],
    )


def test_windows_and_labels_of_the_reference():
    expected = golden()
    found = clip_windows.windows()
    assert len(found) == expected["mesnet_window_count"]
    assert [CLIP - tower.span + 1 for tower in TOWERS] == expected["per_tower"]
    assert found[:4].tolist() == expected["first_windows"]
    assert found[sum(expected["per_tower"][:4])].tolist() == expected["tower5_first"]
    assert found[-1].tolist() == expected["last_window"]
    for truth in ((40, 52), (0, 12), (30, 38)):
        positive = np.flatnonzero(overlaps(found, as_array([truth]))[:, 0] > POSITIVE_IOU)
        assert len(positive) == expected[f"positives_for_ME_{truth[0]}_{truth[1]}"]
        if truth == (40, 52):
            assert positive.tolist() == expected["positives_idx_40_52"]


def test_starts_by_hand():
    for frames, expected in {
        0: [0], 1: [0], 99: [0], 100: [0], 101: [0, 1], 180: [0, 80], 181: [0, 80, 81],
        260: [0, 80, 160], 300: [0, 80, 160, 200],
    }.items():  # fmt: skip
        assert clip_windows.starts(frames).tolist() == expected, frames


@given(st.integers(1, 3000))
def test_clips_cover_every_row_and_the_last_one_ends_with_the_video(frames):
    found = clip_windows.starts(frames)
    assert found[0] == 0 and max(found[-1] + CLIP, frames) == max(CLIP, frames)
    assert found[-1] + CLIP >= frames
    steps = np.diff(found)
    assert (steps[:-1] == HOP).all() and ((steps > 0) & (steps <= HOP)).all()
    covered = np.zeros(max(frames, CLIP), bool)
    for start in found:
        covered[start : start + CLIP] = True
    assert covered.all()


@given(st.integers(CLIP, 1200), st.data())
def test_every_stretch_of_a_window_lies_whole_in_a_clip(frames, data):
    """Why windows that stick out of a clip can be left to the next one."""
    length = data.draw(st.sampled_from([7, 9, 11, 13, 15]))
    begin = data.draw(st.integers(0, frames - length))
    end = begin + length - 1
    clips = clip_windows.starts(frames)
    assert ((clips <= begin) & (end < clips + CLIP)).any() and length <= OVERLAP


def test_overlaps_by_hand():
    spans, truths = np.array([[40, 52], [0, 3]]), np.array([[40, 52], [46, 58], [53, 60]])
    expected = [[1, 7 / 19, 0], [0, 0, 0]]
    np.testing.assert_allclose(overlaps(spans, truths), expected)
    part = overlaps(np.array([[0, 9]]), np.array([[0.5, 9.5]]))  # fractions of frames
    assert part == pytest.approx(9.5 / 10.5)
    assert overlaps(spans, np.zeros((0, 2))).shape == (2, 0)


spans_strategy = st.lists(
    st.tuples(st.integers(-5, 60), st.integers(0, 20)).map(lambda t: (t[0], t[0] + t[1])),
    max_size=8,
).map(as_array)


@given(spans_strategy, spans_strategy)
def test_overlaps_are_symmetric_and_count_the_frames(some, others):
    found = overlaps(some, others)
    np.testing.assert_array_equal(found, overlaps(others, some).T)
    np.testing.assert_allclose(found, iou_matrix(some, others))
    assert ((found >= 0) & (found <= 1)).all()
    for row, (a, b) in zip(found, some.tolist(), strict=True):
        for value, (c, d) in zip(row, others.tolist(), strict=True):
            mine, yours = set(range(a, b + 1)), set(range(c, d + 1))
            assert value == pytest.approx(len(mine & yours) / len(mine | yours))
