"""CSV and JSON, read back with the readers that people have."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from spottings import MACRO, make_spotting, spottings

from spotjax.spotting import Spotting
from spotjax.writers import frames_csv, spot_csv, spot_json


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def strict(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


def test_spot_csv_by_hand() -> None:
    assert spot_csv(make_spotting()).splitlines() == [
        "video,type,onset_frame,apex_frame,offset_frame,onset_s,apex_s,offset_s,duration_s,"
        "score,system,emotion",
        "interview.mp4,macro,2,3,4,0.080000,0.120000,0.200000,0.120000,0.750000,softnet,",
        "interview.mp4,micro,4,4,5,0.160000,0.160000,0.240000,0.080000,0.500000,softnet,happiness",
    ]


def test_spot_csv_of_nothing_is_the_header_alone() -> None:
    lines = spot_csv(make_spotting(())).splitlines()
    assert len(lines) == 1
    assert lines[0].endswith(",score,system")


def test_frames_csv_by_hand() -> None:
    lines = frames_csv(make_spotting()).splitlines()
    assert lines[:2] == ["frame,timestamp,face,score_macro,score_micro", "0,0.000000,1,0.1,"]
    assert lines[6:] == ["5,0.200000,1,0.1,0.3", "6,0.240000,0,,0.2", "7,0.280000,1,,0.1"]


def test_a_type_without_scores_keeps_its_empty_column() -> None:
    spotting = make_spotting((MACRO,))
    spotting = spotting._replace(scores={"macro": spotting.scores["macro"]})
    assert {row["score_micro"] for row in rows(frames_csv(spotting))} == {""}


def test_spot_json_by_hand() -> None:
    provenance = {
        "date": "2025-11-25",
        "weights": Path("w.npz"),
        "folds": ("s1", "s2"),
        "k": {"macro": np.int64(6)},
        "mean": np.float32("nan"),
        "sizes": np.array([128, 128]),
        "cuda": None,
    }
    warned = make_spotting(warnings=("below 25 fps",), provenance=provenance)
    values = strict(spot_json(warned))
    assert values["intervals"][1] == {
        "type": "micro",
        "onset_frame": 4,
        "apex_frame": 4,
        "offset_frame": 5,
        "onset_s": 0.16,
        "apex_s": 0.16,
        "offset_s": 0.24,
        "duration_s": 0.08,
        "score": 0.5,
        "emotion": "happiness",
    }
    assert values["intervals"][0]["emotion"] is None
    assert values["thresholds"] == {"macro": 0.6, "micro": None}
    assert values["counts"] == {"macro": 1, "micro": 1}
    assert values["warnings"] == ["below 25 fps"]
    assert values["media"] == str(warned.media)
    assert values["timing"] == {
        "fps": 25.0,
        "frames": 8,
        "duration_s": pytest.approx(0.32),
        "variable_frame_rate": False,
        "shortest_frame_s": pytest.approx(0.04),
        "longest_frame_s": pytest.approx(0.04),
        "frames_with_face": 7,
    }
    assert values["provenance"] == {
        "date": "2025-11-25",
        "weights": "w.npz",
        "folds": ["s1", "s2"],
        "k": {"macro": 6},
        "mean": None,
        "sizes": [128, 128],
        "cuda": None,
    }


def test_json_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="no place in JSON"):
        spot_json(make_spotting(provenance={"date": "2025-11-25", "config": object()}))


@settings(deadline=None, max_examples=50)
@given(spottings())
def test_readers_get_the_same_intervals(spotting: Spotting) -> None:
    table, values = rows(spot_csv(spotting)), strict(spot_json(spotting))
    assert len(table) == len(values["intervals"]) == len(spotting.detections)
    for row, interval, d in zip(table, values["intervals"], spotting.detections, strict=True):
        assert row["video"] == spotting.video
        assert row.get("emotion", "") == (interval["emotion"] or "") == d.emotion
        assert row["type"] == interval["type"] == d.type
        for key, frame in (("onset", d.onset), ("apex", d.apex), ("offset", d.offset)):
            assert int(row[f"{key}_frame"]) == interval[f"{key}_frame"] == frame
        seconds = (spotting.onset_s(d), spotting.apex_s(d), spotting.offset_s(d))
        for key, second in zip(("onset_s", "apex_s", "offset_s"), seconds, strict=True):
            assert float(row[key]) == pytest.approx(second, abs=1e-6)
            assert interval[key] == pytest.approx(second, abs=1e-6)
        assert float(row["duration_s"]) > 0
        assert float(row["score"]) == pytest.approx(d.score, abs=1e-6)
        assert interval["score"] == d.score


@settings(deadline=None, max_examples=50)
@given(spottings())
def test_every_frame_has_its_row(spotting: Spotting) -> None:
    table = rows(frames_csv(spotting))
    assert [int(row["frame"]) for row in table] == list(range(len(spotting.times)))
    assert [float(row["timestamp"]) for row in table] == pytest.approx(spotting.times, abs=1e-6)
    scores = np.array([np.float32(row["score_macro"]) for row in table], np.float32)
    np.testing.assert_array_equal(scores, spotting.scores["macro"])
