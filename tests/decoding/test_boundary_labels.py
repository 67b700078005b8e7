import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import shared_file

from spotjax.decoding import boundary_labels
from spotjax.decoding.boundary_labels import Spread, blocks
from spotjax.types import Interval

COLUMNS = {
    "micro_edge": "micro_start_end",
    "micro_apex": "micro_apex",
    "micro_expression": "micro_action",
    "macro_edge": "macro_start_end",
    "macro_apex": "macro_apex",
    "macro_expression": "macro_action",
    "class": "class_0neutral_1macro_2micro",
}
"""Our columns and the reference's."""


def whole(num_frames, *intervals, **options):
    """Targets of a video in one block of its own length."""
    table = blocks(num_frames, intervals, num_frames, **options)
    assert len(table["start"]) == 1
    return {name: column[0] for name, column in table.items()}


def mended(rows, num_frames):
    """Intervals of a table with the reference's zeros: its repairs of missing values."""
    found = []
    for row in rows:
        onset, apex, offset = (row[f"{name}_frame"] for name in ("start", "apex", "end"))
        if [onset, apex, offset].count(0) >= 2 or apex >= num_frames:
            continue
        offset = offset or 2 * apex - onset
        type = {1: "macro", 2: "micro"}[row["type_idx"]]
        found.append(Interval(onset, apex or -1, min(offset, num_frames - 1), type))
    return found


def reference(kind):
    """Per video: golden arrays by column, frames, intervals, number of all blocks."""
    golden = np.load(shared_file(f"goldens/spotformer_labels_{kind}.npz"))
    for dataset, meta in json.loads(str(golden["meta_json"])).items():
        for video, num_frames in meta["frames"].items():
            rows = [row for row in meta["annotations"] if row["video_name"] == video]
            prefix = f"{dataset}/{video}/"
            arrays = {k[len(prefix) :]: golden[k] for k in golden.files if k.startswith(prefix)}
            yield arrays, num_frames, mended(rows, num_frames), meta["total_segments"][video]


@pytest.mark.parametrize(("kind", "videos"), [("synthetic", 5), ("real", 9)])
def test_blocks_are_those_of_the_release(kind, videos):
    cases = list(reference(kind))
    assert len(cases) == videos
    for golden, num_frames, intervals, total in cases:
        found = blocks(num_frames, intervals)
        np.testing.assert_array_equal(found["start"], golden["segment_starts"])
        for ours, theirs in COLUMNS.items():
            np.testing.assert_array_equal(found[ours], golden[theirs], ours)
        assert len(blocks(num_frames, intervals, only_with_expression=False)["start"]) == total


@pytest.mark.parametrize("kind", ["synthetic", "real"])
def test_marks_are_the_eight_rows_of_the_release(kind):
    for golden, num_frames, intervals, _ in reference(kind):
        rows = golden["raw8_start_apex_end_action_micro_then_macro"]
        for first, type in ((0, "micro"), (4, "macro")):
            found = boundary_labels.marks(num_frames, intervals, type)
            for track, row in enumerate(found):
                padded = np.append(row, np.zeros(16, bool))
                cut = padded[golden["segment_starts"][:, None] + np.arange(16)]
                np.testing.assert_array_equal(cut, rows[..., first + track])


def test_a_micro_expression_by_hand():
    found = whole(12, Interval(2, 5, 8, "micro"))
    assert found["micro_edge"].tolist() == [2, 0, 0, 0, 2, 2, 2, 1, 1, 1, 2, 2]
    near = np.float32(np.exp(-1 / 32))
    assert found["micro_apex"].tolist() == [0, 0, 0, 0, near, 1, near, 0, 0, 0, 0, 0]
    assert found["micro_expression"].tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0]
    assert found["class"].tolist() == [0, 0, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0]
    assert (found["macro_edge"] == boundary_labels.NEITHER).all() and not found["macro_apex"].any()
    assert found["start"] == 0 and found["length"] == 12


def test_dtypes():
    table = blocks(40, [Interval(2, 5, 8, "micro")])
    dtypes = {name: column.dtype for name, column in table.items()}
    assert dtypes["start"] == dtypes["length"] == np.int32
    for type in ("micro", "macro"):
        assert dtypes[f"{type}_edge"] == dtypes["class"] == np.int8
        assert dtypes[f"{type}_apex"] == dtypes[f"{type}_expression"] == np.float32


def test_the_offset_wins_over_the_onset_and_the_later_apex_over_the_earlier():
    found = whole(16, Interval(4, 5, 7, "macro"), Interval(8, 9, 14, "macro"), borders="free")
    assert found["macro_edge"].tolist() == [2, 0, 0, 0, *[1] * 7, 1, 1, 1, 1, 1]
    late = np.exp(-np.square(np.arange(6, 13) - 9) / 32).astype(np.float32)
    assert found["macro_apex"][6:13].tolist() == late.tolist()
    apart = whole(16, Interval(4, 7, 14, "macro"), Interval(4, 9, 14, "macro"), borders="free")
    assert apart["macro_apex"][7] == np.float32(np.exp(-4 / 32))


def test_macro_wins_where_both_types_are():
    found = whole(8, Interval(1, 2, 5, "micro"), Interval(4, 5, 6, "macro"))
    assert found["class"].tolist() == [0, 2, 2, 2, 1, 1, 1, 0]
    assert found["micro_expression"].sum() == 5 and found["macro_expression"].sum() == 3


def test_spreads_of_the_release_stop_at_the_block():
    interval = Interval(16, 18, 31, "macro")
    release = blocks(48, [interval])
    free = blocks(48, [interval], borders="free")
    assert release["start"].tolist() == free["start"].tolist() == [16]
    all_free = blocks(48, [interval], borders="free", only_with_expression=False)
    assert np.flatnonzero(all_free["macro_edge"][0] == boundary_labels.ONSET).tolist() == [
        13,
        14,
        15,
    ]
    assert (all_free["macro_edge"][2, :3] == boundary_labels.OFFSET).all()
    all_release = blocks(48, [interval], only_with_expression=False)
    assert (all_release["macro_edge"][[0, 2]] == boundary_labels.NEITHER).all()
    np.testing.assert_array_equal(release["macro_edge"], free["macro_edge"])


def test_no_apex_of_the_release_reaches_position_zero_from_the_right():
    interval = Interval(16, 18, 31, "macro")
    assert blocks(48, [interval])["macro_apex"][0, 0] == 0
    free = blocks(48, [interval], borders="free")["macro_apex"][0]
    assert free[0] == np.float32(np.exp(-4 / 32))
    at_zero = blocks(48, [interval._replace(apex=16)])["macro_apex"][0]
    assert at_zero[0] == 1 and at_zero[3] == np.float32(np.exp(-9 / 32))


def test_frames_past_the_end():
    release = blocks(20, [Interval(10, 12, 19, "macro")])
    free = blocks(20, [Interval(10, 12, 19, "macro")], borders="free")
    assert release["length"].tolist() == free["length"].tolist() == [16, 4]
    assert release["macro_edge"][1].tolist() == [1] * 7 + [2] * 9
    assert free["macro_edge"][1].tolist() == [1] * 4 + [2] * 12
    for table in (release, free):
        assert not table["macro_expression"][1, 4:].any() and not table["class"][1, 4:].any()


def test_an_unknown_apex_is_the_middle_and_frame_zero_is_a_frame():
    assert whole(20, Interval(3, -1, 10, "micro"))["micro_apex"].argmax() == 6
    assert whole(20, Interval(0, 0, 10, "micro"))["micro_apex"].argmax() == 0


def test_spreads_may_be_chosen():
    found = whole(40, Interval(10, 20, 30, "micro"), spread=Spread(micro=5, sigma=2.0))
    assert np.flatnonzero(found["micro_edge"] == boundary_labels.ONSET).tolist() == [*range(5, 16)]
    assert found["micro_apex"][22] == np.float32(np.exp(-0.5))
    none = whole(40, Interval(10, 20, 30, "micro"), spread=Spread(0, 0))
    assert (none["micro_edge"] != boundary_labels.NEITHER).sum() == 2
    assert np.flatnonzero(none["micro_apex"]).tolist() == [20]


def test_bad_arguments():
    with pytest.raises(ValueError, match="does not fit in a video of 20 frames"):
        blocks(20, [Interval(3, 5, 20, "micro")])
    with pytest.raises(ValueError, match="does not fit"):
        blocks(20, [Interval(3, 20, 9, "macro")])
    with pytest.raises(ValueError, match="does not fit"):
        blocks(20, [Interval(9, 5, 3, "macro")])
    with pytest.raises(ValueError, match=r"unknown types \['blink'\]"):
        blocks(20, [Interval(3, 5, 9, "blink")])
    with pytest.raises(ValueError, match="unknown borders"):
        blocks(20, [], borders="open")
    with pytest.raises(ValueError, match="at least 1"):
        blocks(0, [])
    with pytest.raises(ValueError, match="at least 1"):
        blocks(20, [], size=0)


def test_a_video_without_expressions():
    assert len(blocks(40, [])["start"]) == 0
    assert blocks(40, [])["micro_apex"].shape == (0, 16)
    table = blocks(40, [], only_with_expression=False)
    assert table["start"].tolist() == [0, 16, 32] and not table["class"].any()


@st.composite
def videos(draw):
    num_frames = draw(st.integers(1, 70))
    frames = st.integers(0, num_frames - 1)
    intervals = []
    for _ in range(draw(st.integers(0, 5))):
        onset, offset = sorted((draw(frames), draw(frames)))
        apex = draw(st.one_of(frames, st.just(-1)))
        intervals.append(Interval(onset, apex, offset, draw(st.sampled_from(["micro", "macro"]))))
    return num_frames, intervals


def by_loop(num_frames, intervals, size):
    """The release's rules frame by frame, one block after another."""
    table = {name: [] for name in ("micro_edge", "micro_apex", "macro_edge", "macro_apex")}
    for start in range(0, num_frames, size):
        for type, spread in (("micro", 1), ("macro", 3)):
            mine = [i for i in intervals if i.type == type]
            edge, apex = np.full(size, 2), np.zeros(size, np.float32)
            for value, frames in ((0, [i.onset for i in mine]), (1, [i.offset for i in mine])):
                for frame in (f - start for f in frames if start <= f < start + size):
                    edge[max(frame - spread, 0) : frame + spread + 1] = value
            middles = [i.apex if i.apex >= 0 else (i.onset + i.offset) // 2 for i in mine]
            for frame in sorted(f - start for f in middles if start <= f < start + size):
                for at in range(frame - spread, frame + spread + 1):
                    if at == frame or (0 < at < size):
                        apex[at] = np.exp(-((at - frame) ** 2) / 32)
            table[f"{type}_edge"].append(edge)
            table[f"{type}_apex"].append(apex)
    return table


@settings(deadline=None)
@given(videos(), st.integers(1, 20))
def test_blocks_agree_with_a_loop_over_the_frames(video, size):
    num_frames, intervals = video
    found = blocks(num_frames, intervals, size, only_with_expression=False)
    for name, expected in by_loop(num_frames, intervals, size).items():
        np.testing.assert_array_equal(found[name], expected, name)


@settings(deadline=None)
@given(
    videos(),
    st.integers(1, 20),
    st.sampled_from(["release", "free"]),
    st.randoms(use_true_random=False),
)
def test_blocks_cover_the_video_and_know_no_order(video, size, borders, random):
    num_frames, intervals = video
    table = blocks(num_frames, intervals, size, False, borders)
    assert table["length"].sum() == num_frames and table["length"].min() >= 1
    assert (table["class"] != 0).sum() == sum(
        any(i.onset <= frame <= i.offset for i in intervals) for frame in range(num_frames)
    )
    again = blocks(num_frames, random.sample(intervals, len(intervals)), size, False, borders)
    kept = blocks(num_frames, intervals, size, True, borders)
    rows = np.isin(table["start"], kept["start"])
    np.testing.assert_array_equal(rows, (table["class"] != 0).any(axis=1))
    for name, column in table.items():
        np.testing.assert_array_equal(column, again[name], name)
        np.testing.assert_array_equal(column[rows], kept[name], name)


@settings(deadline=None)
@given(videos(), st.integers(1, 20))
def test_free_borders_do_not_depend_on_the_size_of_the_blocks(video, size):
    num_frames, intervals = video
    cut = blocks(num_frames, intervals, size, False, "free")
    together = blocks(num_frames, intervals, num_frames, False, "free")
    for name in ("micro_edge", "micro_apex", "macro_edge", "macro_apex", "class"):
        np.testing.assert_array_equal(cut[name].ravel()[:num_frames], together[name][0], name)
