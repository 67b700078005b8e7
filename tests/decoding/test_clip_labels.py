"""MESNet's training clips: labels, kinds, draws; all by hand or by brute force."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import shared_file

from spotjax.decoding import clip_labels as cl
from spotjax.decoding.clip_labels import MACRO, MICRO, MOST, NONE, NOWHERE
from spotjax.decoding.clip_windows import CLIP, POSITIVE_IOU, windows
from spotjax.types import Interval, Video

FIRST_ROW = 1000
"""Rows of other videos before this one."""


def video(frames=260, *spans, fps=30.0):
    """A video with `spans` of (onset, apex, offset, type)."""
    listed = tuple(Interval(*span) for span in spans)
    return Video("s", "v", fps, FIRST_ROW, frames, np.arange(frames, dtype=np.int32), listed)


HAND_MADE = video(
    260, (95, 100, 107, "micro"), (20, 25, 60, "macro"), (230, 234, 240, "micro")
)  # fmt: skip


def faces(of):
    return np.ones(of.num_frames, bool)


def clips(of, valid=None):
    return cl.clips(of, faces(of) if valid is None else valid)


def begins(table, kind):
    """First rows of the clips of a kind, counted from the video."""
    return (table["row"][table["kind"] == kind] - FIRST_ROW).tolist()


# --- labels ---------------------------------------------------------------------------------------


def test_positive_windows_of_the_reference():
    expected = json.loads(shared_file("goldens/mesnet_cnn3d.json").read_text())
    for onset, offset in ((40, 52), (0, 12), (30, 38)):
        (table,) = cl.truths(np.array([0]), np.array([[onset, offset]]))
        assert cl.positives(table).sum() == expected[f"positives_for_ME_{onset}_{offset}"]
    (table,) = cl.truths(np.array([0]), np.array([[40, 52]]))
    assert np.flatnonzero(cl.positives(table)).tolist() == expected["positives_idx_40_52"]


def test_an_expression_that_is_cut_keeps_its_length():
    micro = np.array([[95, 107], [230, 240]])
    table = cl.truths(np.array([0, 8, 100, 108, 160]), micro)
    assert table.dtype == np.float32 and table.shape == (5, MOST, 2)
    assert table[:, 0].tolist() == [[95, 107], [87, 99], [-5, 7], [NOWHERE, NOWHERE], [70, 80]]
    assert (table[:, 1:] == NOWHERE).all()
    both = cl.truths(np.array([141]), np.array([[95, 145], [230, 240]]))
    assert both[0, :3].tolist() == [[-46, 4], [89, 99], [NOWHERE, NOWHERE]]
    # of 13 rows 5 lie in the clip: no window covers 0.7 of it, none is positive
    assert not cl.positives(cl.truths(np.array([0]), micro)[0]).any()
    assert cl.positives(cl.truths(np.array([8]), micro)[0]).sum() == 14  # as 0..12 of the reference
    assert not cl.positives(np.full((MOST, 2), NOWHERE, np.float32)).any()


def test_clips_of_another_length():
    assert cl.truths(np.array([0, 9]), np.array([[8, 20]]), clip=8)[:, 0].tolist() == [
        [NOWHERE, NOWHERE],
        [-1, 11],
    ]


def test_a_clip_holds_sixteen_expressions_at_most():
    many = np.array([[6 * i, 6 * i + 3] for i in range(MOST + 1)])
    assert (cl.truths(np.array([0]), many[:MOST]) >= 0).all()
    with pytest.raises(ValueError, match="100 rows touches more than 16 micro-expressions"):
        cl.truths(np.array([0]), many)
    assert cl.truths(np.array([0]), np.zeros((0, 2), int)).shape == (1, MOST, 2)


# --- clips of the main stage ----------------------------------------------------------------------


def test_clips_by_hand():
    table = clips(HAND_MADE)
    assert {name: array.dtype for name, array in table.items()} == {
        "row": np.int32, "length": np.int32, "truth": np.float32, "kind": np.uint8,
        "group": np.int32,
    }  # fmt: skip
    # whole in the clip: 95..107 for starts 8..95, 230..240 for 141..160
    assert begins(table, MICRO) == [*range(8, 96), *range(141, 161)]
    assert begins(table, MACRO) == []  # every clip with row 20 touches row 95, too
    assert begins(table, NONE) == [*range(108, 131)]  # 108 and 130: neither 107 nor 230
    assert table["group"].tolist() == [1095] * 88 + [1230] * 20 + [-1] * 23
    assert set(table["length"]) == {CLIP}
    for start, truth in zip(table["row"] - FIRST_ROW, table["truth"], strict=True):
        there = [(a - start, b - start) for a, b in ((95, 107), (230, 240))
                 if a < start + CLIP and b >= start]  # fmt: skip
        assert [tuple(row) for row in truth[: len(there)].tolist()] == there
        assert (truth[len(there) :] == NOWHERE).all()


def test_a_macro_expression_counts_where_it_begins():
    of = video(300, (150, 155, 180, "macro"), (280, 283, 290, "micro"))
    table = clips(of)
    # its onset in the clip (51..150), and no row of 280..290 (up to 180)
    assert begins(table, MACRO) == list(range(51, 151))
    assert begins(table, NONE) == list(range(0, 51))  # 151..180 see its end: neither
    assert begins(table, MICRO) == list(range(191, 201))


def test_a_clip_with_two_micro_expressions_stands_for_each():
    table = clips(video(100, (10, 12, 18, "micro"), (60, 64, 70, "micro")))
    assert table["row"].tolist() == [1000, 1000] and table["group"].tolist() == [1010, 1060]
    np.testing.assert_array_equal(*table["truth"])


def test_rows_without_a_face_are_in_no_clip():
    valid = faces(HAND_MADE)
    valid[150] = False
    table = clips(HAND_MADE, valid)
    assert begins(table, MICRO) == [*range(8, 51), *range(151, 161)]
    assert begins(table, NONE) == []  # all of 108..130 hold it
    valid[:] = False
    assert all(len(array) == 0 for array in clips(HAND_MADE, valid).values())


def test_a_video_shorter_than_a_clip_is_one_clip():
    table = clips(video(60, (20, 25, 32, "micro")))
    assert table["row"].tolist() == [1000] and table["length"].tolist() == [60]
    assert table["kind"].tolist() == [MICRO] and table["truth"][0, 0].tolist() == [20, 32]
    assert begins(clips(video(60)), NONE) == [0]
    cut = clips(video(60, (55, 58, 70, "micro")))  # does not end in the video
    assert all(len(array) == 0 for array in cut.values())
    assert begins(clips(video(101)), NONE) == [0, 1]


def test_a_video_without_any_expression_has_empty_clips_alone():
    table = clips(video(130))
    assert begins(table, NONE) == list(range(31)) and len(table["row"]) == 31
    assert (table["truth"] == NOWHERE).all()


spans = st.lists(
    st.tuples(st.integers(0, 250), st.integers(4, 40), st.sampled_from(["micro", "macro"])),
    max_size=4,
    unique_by=lambda span: span[0],
).map(lambda rows: [(a, a + 2, a + length, type) for a, length, type in rows])


@settings(deadline=None)
@given(st.integers(30, 280), spans, st.lists(st.integers(0, 279), max_size=2))
def test_clips_are_what_they_say(frames, spans, gone):
    of = video(frames, *(s for s in spans if s[2] < frames))
    valid = faces(of)
    valid[[row for row in gone if row < frames]] = False
    expected = []
    for start in range(max(frames - CLIP, 0) + 1):
        rows = set(range(start, min(start + CLIP, frames)))
        if not valid[sorted(rows)].all():
            continue
        expressions = [(set(range(i.onset, i.offset + 1)), i) for i in of.intervals]
        micro = [(own, i) for own, i in expressions if i.type == "micro"]
        expected += [(MICRO, start, i.onset) for own, i in micro if own <= rows]
        if not any(own & rows for own, _ in expressions):
            expected.append((NONE, start, -1))
        begun = any(i.onset in rows for _, i in expressions if i.type == "macro")
        if begun and not any(own & rows for own, _ in micro):
            expected.append((MACRO, start, -1))
    table = clips(of, valid)
    start, kind = table["row"] - FIRST_ROW, table["kind"]
    group = np.where(kind == MICRO, table["group"] - FIRST_ROW, -1)
    assert sorted(zip(kind, start, group, strict=True)) == sorted(expected)
    for onset, truth, length in zip(group, table["truth"], table["length"], strict=True):
        assert length == min(CLIP, frames)
        if onset >= 0:  # the expression of its group lies whole in the clip
            ends = next((i.onset, i.offset) for i in of.intervals
                        if i.type == "micro" and i.onset == onset)  # fmt: skip
            inside = (truth >= 0).all(axis=1) & (truth < length).all(axis=1)
            assert ends[1] - ends[0] in (truth[inside, 1] - truth[inside, 0])


# --- what a fold draws ----------------------------------------------------------------------------


def test_a_fold_draws_so_many_of_each():
    of = video(500, *((a, a + 3, a + 12, "micro") for a in (95, 230)), (400, 405, 450, "macro"))
    table = clips(of)
    kept = cl.draw(table, np.random.default_rng(0), micro=5, macro=3, none=4)
    assert set(kept) == {"row", "length", "truth", "rho"} and len(kept["row"]) == 2 * (5 + 3 + 4)
    start = kept["row"] - FIRST_ROW
    for group, (a, b) in zip((start[:5], start[5:10]), ((95, 107), (230, 242)), strict=True):
        assert (group <= a).all() and (b < group + CLIP).all()
        assert (np.diff(group) > 0).all()  # none twice
    assert set(start[10:16]) <= set(begins(table, MACRO)) and len(set(start[10:16])) == 6
    assert set(start[16:]) <= set(begins(table, NONE)) and len(set(start[16:])) == 8


def test_rho_is_positive_windows_over_all_others():
    kept = cl.draw(clips(HAND_MADE), np.random.default_rng(1), micro=6, macro=2, none=2)
    assert len(kept["row"]) == 2 * 6 + 0 + 2 * 2
    positive = 0
    for start in kept["row"] - FIRST_ROW:
        for first, last in windows() + start:
            own = set(range(first, last + 1))
            ious = [
                len(own & true) / len(own | true)
                for true in (set(range(95, 108)), set(range(230, 241)))
            ]
            positive += max(ious) > POSITIVE_IOU
    others = 16 * 470 - positive
    np.testing.assert_allclose(kept["rho"], positive / others, rtol=1e-6)
    assert kept["rho"].dtype == np.float32 and 0.015 < kept["rho"][0] < 0.03


def test_places_come_twice_only_where_there_are_too_few():
    table = clips(video(102, (40, 45, 52, "micro")))  # three places
    kept = cl.draw(table, np.random.default_rng(0), micro=3, macro=1, none=1)
    assert kept["row"].tolist() == [1000, 1001, 1002]
    more = cl.draw(table, np.random.default_rng(0), micro=9, macro=1, none=1)
    assert len(more["row"]) == 9 and set(more["row"].tolist()) <= {1000, 1001, 1002}


def test_without_micro_expressions_nothing_is_drawn():
    kept = cl.draw(clips(video(200, (50, 60, 80, "macro"))), np.random.default_rng(0), 10, 4, 2)
    assert all(len(array) == 0 for array in kept.values()) and "rho" in kept


def test_draws_follow_the_seed():
    table = clips(HAND_MADE)
    first, again, other = (
        cl.draw(table, np.random.default_rng(seed), 5, 4, 2)["row"].tolist() for seed in (1, 1, 2)
    )
    assert first == again != other


# --- pre-training ---------------------------------------------------------------------------------


def test_pretraining_clips_by_hand():
    of = video(
        60, (10, 14, 18, "micro"), (40, 44, 55, "macro"), (57, -1, 59, "macro"), fps=12.0
    )  # a sixth of a second is 2 rows
    table = cl.pretraining_clips(of, faces(of), steps=5, none_rows=9)
    rows = table["row"] - FIRST_ROW
    assert rows.dtype == np.int32 and set(table["length"]) == {5}
    assert rows[:2].tolist() == [[10, 12, 14, 16, 18], [40, 42, 43, 44, 46]]  # 41.5 and 44.5: even
    assert table["kind"].tolist()[:2] == [MICRO, MACRO]
    assert table["kind"].tolist()[2:] == [NONE] * (2 + 13)  # 0..8, 1..9, 19..27 up to 31..39
    assert rows[2:, 0].tolist() == [0, 1, *range(19, 32)]
    assert rows[-1].tolist() == [31, 33, 35, 37, 39]


def test_pretraining_ends_with_the_video_and_leaves_out_missing_faces():
    of = video(50, (40, 48, 49, "macro"), (5, 8, 14, "micro"))
    valid = faces(of)
    table = cl.pretraining_clips(of, valid, steps=4, none_rows=16)
    macro = table["row"][table["kind"] == MACRO] - FIRST_ROW
    assert macro.tolist() == [[40, 43, 46, 49]]  # 48 + 5 lies beyond the end
    valid[8] = False
    without = cl.pretraining_clips(of, valid, steps=4, none_rows=16)
    assert MICRO not in without["kind"]
    valid[8], valid[7] = True, False  # 7 is not looked at: 5, 8, 11, 14
    assert (cl.pretraining_clips(of, valid, steps=4, none_rows=16)["kind"] == MICRO).sum() == 1
    short = cl.pretraining_clips(video(12), np.ones(12, bool), steps=4, none_rows=16)
    assert short["row"].shape == (0, 4)


@settings(deadline=None)
@given(st.integers(1, 200), spans, st.integers(2, 40))
def test_a_clip_without_any_touches_no_expression(frames, spans, none_rows):
    of = video(frames, *(s for s in spans if s[2] < frames))
    table = cl.pretraining_clips(of, faces(of), 16, none_rows)
    rows, kind = table["row"] - FIRST_ROW, table["kind"]
    assert rows.shape == (len(kind), 16) and ((rows >= 0) & (rows < frames)).all()
    assert (np.diff(rows, axis=1) >= 0).all()
    none = rows[kind == NONE]
    assert ((none[:, -1] - none[:, 0]) == none_rows - 1).all()
    inside = {row for i in of.intervals for row in range(i.onset, i.offset + 1)}
    free = [s for s in range(frames - none_rows + 1) if not inside & set(range(s, s + none_rows))]
    assert none[:, 0].tolist() == free
    ends = [(i.onset, i.offset) for i in of.intervals if i.type == "micro"]
    assert [tuple(row) for row in rows[kind == MICRO][:, [0, -1]].tolist()] == ends


def test_pretraining_draws_its_ratios():
    kind = np.repeat([MICRO, MACRO, NONE], [7, 6, 100]).astype(np.uint8)
    table = {
        "row": np.arange(113, dtype=np.int32)[:, None] + np.arange(3, dtype=np.int32),
        "length": np.full(113, 3, np.int32),
        "kind": kind,
    }
    kept = cl.draw_pretraining(table, np.random.default_rng(0), macro=0.5, none=1.0)
    assert set(kept) == {"row", "length", "label"} and kept["label"].dtype == np.int32
    first = kept["row"][:, 0]
    assert first[:7].tolist() == list(range(7))  # every micro-expression
    assert len(first) == 7 + 4 + 7  # round(3.5) is 4
    assert ((first[7:11] >= 7) & (first[7:11] < 13)).all() and (first[11:] >= 13).all()
    assert len(set(first.tolist())) == len(first)  # none twice
    assert kept["label"].tolist() == [0] * 7 + [1] * 11
    everything = cl.draw_pretraining(table, np.random.default_rng(0), macro=9.0, none=0.0)
    assert len(everything["row"]) == 7 + 6
    empty = {name: array[kind != MICRO] for name, array in table.items()}
    assert len(cl.draw_pretraining(empty, np.random.default_rng(0), 0.5, 1.0)["row"]) == 0
