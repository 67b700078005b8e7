"""Files for other people's scoring tools."""

import csv
import io
import json

import pytest
from hypothesis import given, settings
from spottings import make_spotting, spottings

from spotjax.spotting import Spotting
from spotjax.writers import activitynet_json, megc_csv


def test_megc_by_hand() -> None:
    head = "vid,pred_onset,pred_offset,type"
    spotting = make_spotting()
    assert megc_csv(spotting).splitlines() == [head, "interview,3,5,mae", "interview,5,6,me"]
    assert megc_csv(spotting, base=0).splitlines()[1:] == ["interview,2,4,mae", "interview,4,5,me"]
    assert megc_csv(make_spotting(())).splitlines() == [head]
    with pytest.raises(ValueError, match="base 2"):
        megc_csv(spotting, base=2)


def test_a_folder_keeps_its_whole_name() -> None:
    spotting = make_spotting(video="s23.part2", media=None)
    assert megc_csv(spotting).splitlines()[1].startswith("s23.part2,")
    assert list(json.loads(activitynet_json(spotting))["results"]) == ["s23.part2"]


def test_activitynet_by_hand() -> None:
    assert json.loads(activitynet_json(make_spotting())) == {
        "version": "VERSION 1.3",
        "results": {
            "interview": [
                {"label": "macro", "score": 0.75, "segment": [0.08, 0.2]},
                {"label": "micro", "score": 0.5, "segment": [0.16, 0.24]},
            ]
        },
        "external_data": {},
    }


@settings(deadline=None, max_examples=50)
@given(spottings())
def test_scoring_tools_get_the_same_intervals(spotting: Spotting) -> None:
    rows = list(csv.DictReader(io.StringIO(megc_csv(spotting))))
    types = {"macro": "mae", "micro": "me"}
    assert [(int(r["pred_onset"]), int(r["pred_offset"]), r["type"]) for r in rows] == [
        (d.onset + 1, d.offset + 1, types[d.type]) for d in spotting.detections
    ]
    ((_, found),) = json.loads(activitynet_json(spotting))["results"].items()
    assert [(f["label"], f["score"]) for f in found] == [
        (d.type, d.score) for d in spotting.detections
    ]
    for f, d in zip(found, spotting.detections, strict=True):
        seconds = [spotting.onset_s(d), spotting.offset_s(d)]
        assert f["segment"] == pytest.approx(seconds, abs=1e-6)
        assert f["segment"][0] < f["segment"][1]
