"""Intervals as CSV: the data set's own numbers, and back through the reader of tables."""

from pathlib import Path

import numpy as np

from spotjax import export
from spotjax.counting import interval_files
from spotjax.types import Detection, Interval, Video

VIDEO = Video("s1", "v", 30.0, 0, 4, np.array([7, 9, 10, 14], np.int32),
              (Interval(1, -1, 3, "micro", "others"), Interval(0, 1, 2, "macro")))  # fmt: skip


def test_numbers_are_the_data_sets_own() -> None:
    found = {"s1/v": [Detection(1, 2, 3, "macro", 0.25)]}
    assert export.intervals_csv([VIDEO], found).splitlines()[1:] == ["s1,v,macro,9,10,14,0.250000"]
    assert export.truths_csv([VIDEO]).splitlines()[1:] == [
        "s1,v,macro,7,9,10,", "s1,v,micro,9,,14,others",
    ]  # fmt: skip
    assert export.videos_csv([VIDEO]).splitlines() == ["subject,video,frames", "s1,v,14"]


def test_the_reader_of_tables_reads_them(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(export.truths_csv([VIDEO]))
    rows = interval_files.read_intervals(tmp_path / "t.csv", truths=True).rows
    assert [(r.name.id, r.type, r.onset, r.offset) for r in rows] == [
        ("s1/v", "macro", 7, 10), ("s1/v", "micro", 9, 14),
    ]  # fmt: skip
    (tmp_path / "v.csv").write_text(export.videos_csv([VIDEO]))
    assert interval_files.read_videos(tmp_path / "v.csv")[0].frames == 14
