"""Annotation numbers to rows: gaps, sampling, clipping; sampled tables of other groups."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_rules import row

from data_prep.readers import placing, rules, samm_lv
from data_prep.readers.base import Images, Quirks
from data_prep.video import positions
from spotjax.config import Annotation, Data
from spotjax.types import Interval

FIXTURES = Path(__file__).parents[1] / "fixtures"
LENGTHS = {"006_1": 8748, "006_2": 2400, "028_4": 1300, "037_4": 1700, "037_5": 2100}


def place(
    annotated: rules.Row, ids: object, quirks: Quirks | None = None, **data: object
) -> tuple[int, int, int] | None:
    options = rules.resolved(Annotation(**data.pop("annotation", {})), "")  # type: ignore[arg-type]
    found = placing._place(annotated, np.asarray(ids), Data(**data), options, quirks or Quirks())
    return None if found is None else found[0][:3]


def test_numbers_are_names_not_positions() -> None:
    assert place(row(10, 12, 20), range(1, 31)) == (9, 11, 19)
    assert place(row(10, 12, 20), range(7, 31)) == (3, 5, 13)


def test_a_gap_closes_up() -> None:
    ids = [7, 8, 9, 13, 14, 20]
    assert place(row(8, 9, 14), ids) == (1, 2, 4)
    assert place(row(10, 12, 19), ids) == (3, 3, 4)  # from the next frame to the one before
    quirks = Quirks()
    assert place(row(10, 11, 12), ids, quirks) is None
    assert quirks.lines()[0].startswith("interval of which no frame is there, dropped: 1")


def test_intervals_that_leave_the_video() -> None:
    ids = range(1, 51)
    assert place(row(40, 45, 60), ids) == (39, 44, 49)
    assert place(row(40, 55, 60), ids) == (39, -1, 49)  # the apex is outside: unknown
    assert place(row(51, 55, 60), ids) is None
    assert place(row(40, 45, 60), ids, annotation={"outside": "drop"}) is None
    assert place(row(0, 5, 9), ids, annotation={"onset_zero": "keep"}) == (0, 4, 8)


@pytest.mark.parametrize(
    ("file", "columns"),
    [
        ("spotformer_samm_every7.csv", {"sample_every": 7}),
        (
            "abpn_samm_25fps.csv",
            {"sample_every": 8, "sample_rule": "floor", "annotation": {"fractions": "round"}},
        ),
    ],
)
def test_sampled_tables_of_others(file: str, columns: dict[str, object]) -> None:
    """Every 7th frame of SpotFormer and every 8th of ABPN, row by row."""
    options = rules.resolved(Annotation(onset_zero="keep", **columns.get("annotation", {})), "")  # type: ignore[arg-type]
    data = Data(**{k: v for k, v in columns.items() if k != "annotation"})  # type: ignore[arg-type]
    found = set()
    for item in samm_lv.read_annotations(FIXTURES / "samm_lv_v2.xlsx", options).rows:
        ids = np.arange(1, LENGTHS[item.video] + 1)
        pair = placing._place(item, ids, data, options, Quirks())
        assert pair is not None
        found.add((item.video, item.type, pair[0].onset, pair[0].offset))
    with open(FIXTURES / file, newline="") as handle:
        wanted = {
            (
                line["video_name"].removeprefix("samm_"),
                "macro" if line["type_idx"] == "1" else "micro",
                int(line["start_frame"]),
                int(line["end_frame"]),
            )
            for line in csv.DictReader(handle)
        }
    assert wanted and wanted <= found


@given(
    first=st.integers(0, 20),
    length=st.integers(1, 60),
    onset=st.integers(0, 90),
    duration=st.integers(0, 40),
    every=st.integers(1, 9) | st.floats(1, 9),
    rule=st.sampled_from(["round", "floor"]),
)
def test_a_placed_interval_lies_in_its_video(
    first: int, length: int, onset: int, duration: int, every: float, rule: str
) -> None:
    annotated = row(onset, onset, onset + duration)
    ids = np.arange(first, first + length)
    found = place(annotated, ids, sample_every=every, sample_rule=rule)
    inside = onset <= ids[-1] and onset + duration >= first
    assert (found is not None) == inside
    if found:
        assert 0 <= found[0] <= found[2] < len(positions(length, every))


@given(
    length=st.integers(1, 60),
    every=st.integers(1, 9) | st.floats(1, 9),
    rule=st.sampled_from(["round", "floor"]),
)
def test_a_kept_frame_is_its_own_row(length: int, every: float, rule: str) -> None:
    for kept, number in enumerate(np.arange(1, length + 1)[positions(length, every)].tolist()):
        found = place(row(number, number, number), range(1, length + 1),
                      sample_every=every, sample_rule=rule)  # fmt: skip
        assert found == (kept, kept, kept)


@given(
    length=st.integers(1, 60),
    every=st.integers(2, 9),
    onset=st.integers(1, 60),
    duration=st.integers(0, 40),
    rule=st.sampled_from(["round", "floor"]),
)
def test_a_whole_step_is_a_division(
    length: int, every: int, onset: int, duration: int, rule: str
) -> None:
    onset = min(onset, length)
    numbers = (onset, onset, min(onset + duration, length))
    found = place(row(*numbers), range(1, length + 1), sample_every=every, sample_rule=rule)
    divided = [(n - 1) // every if rule == "floor" else round((n - 1) / every) for n in numbers]
    assert found == tuple(min(value, (length - 1) // every) for value in divided)


@pytest.mark.parametrize(
    ("numbers", "rounded", "floored"),
    [
        ((8, 14, 21), (1, 2, 3), (1, 2, 3)),  # the kept frames 7, 13, 20 themselves
        ((7, 11, 20), (1, 1, 3), (0, 1, 2)),  # 6 / 6.7 = 0.90, 1.49, 2.84
        ((12, 18, 40), (2, 3, 5), (1, 2, 5)),  # 1.64, 2.54, 5.82: the last kept frame is row 5
    ],
)
def test_a_fraction_of_a_step(
    numbers: tuple[int, int, int], rounded: tuple[int, ...], floored: tuple[int, ...]
) -> None:
    """Of 40 frames, one in 6.7 is kept: 0, 7, 13, 20, 27, 34 (33.5 half to even)."""
    ids = range(1, 41)
    assert positions(40, 6.7).tolist() == [0, 7, 13, 20, 27, 34]
    assert place(row(*numbers), ids, sample_every=6.7) == rounded
    assert place(row(*numbers), ids, sample_every=6.7, sample_rule="floor") == floored


def test_sampling_keeps_the_data_sets_own_numbers() -> None:
    images = Images(tuple(Path(f"{n:04d}.jpg") for n in range(1, 101)),
                    np.arange(1, 101, dtype=np.int32), "")  # fmt: skip
    found = placing.Found("006", "006_1", images, Path("006_1"))
    annotation = placing.Annotations(
        (Path("gt.xlsx"),), (row(15, 22, 50, subject="006", video="006_1"),), ()
    )
    options = rules.resolved(Annotation(), "samm_lv")
    dataset = placing.assemble(
        annotation, [found], Data(sample_every=7), options, name="samm_lv", fps=200.0
    )
    video = dataset.videos[0]
    assert video.fps == pytest.approx(200 / 7) and video.num_frames == 15
    assert video.frame_ids.tolist() == list(range(1, 101, 7))
    assert video.frames[1].name == "0008.jpg" and video.step == 7
    assert video.intervals == (Interval(2, 3, 7, "macro"),)
    assert video.frame_ids[[2, 7]].tolist() == [15, 50]
    depth = tuple(Path(f"depth/{n:04d}.png") for n in range(1, 101))
    with_depth = found._replace(depth=Path("depth"))
    lists = Images(depth, images.ids, "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placing, "list_images", lambda folder: lists)
        dataset = placing.assemble(
            annotation, [with_depth], Data(sample_every=6.7), options, name="samm_lv", fps=200.0
        )
    video = dataset.videos[0]
    assert video.fps == 200 / 6.7 and video.step == 6.7
    assert video.frame_ids.tolist() == [round(6.7 * j) + 1 for j in range(15)]
    assert [path.stem for path in video.frames] == [f"{n:04d}" for n in video.frame_ids]
    assert [path and path.stem for path in video.depth] == [path.stem for path in video.frames]
    assert video.intervals == (Interval(2, 3, 7, "macro"),)  # 14 / 6.7 = 2.09, 3.1, 7.3
