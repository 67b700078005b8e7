"""An invented evaluation for the tests of the report and the charts."""

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np

from spotjax.pages import tracks

TRAINING = [
    {"problem": p, "epoch": e, "loss": {"s15": 1.0 / e, "s<16": 2.0 / e}}
    for p in ("macro", "micro")
    for e in (1, 2, 3)
]


def make_video(subject: str = "s15", name: str = "15_0101", frames: int = 300) -> Any:
    rng = np.random.default_rng(0)
    score = rng.random(frames).astype(np.float32)
    score[-18:] = np.nan
    truths = (tracks.Truth(30, 40, 60, True), tracks.Truth(100, -1, 110, False))
    spotted = (tracks.Spotted(28, 44, 62, 0.9, True), tracks.Spotted(200, 210, 220, 0.7, False))
    macro = tracks.Track("macro", score, 0.6, np.array([44, 210]), truths, spotted)
    micro = tracks.Track("micro", score, float("nan"), np.zeros(0, int), truths[:1], ())
    missing = np.zeros(frames, bool)
    missing[5:9] = missing[-3:] = True
    ids = np.arange(frames, dtype=np.int32) + 2401
    return tracks.VideoReport(subject, name, 30.0, ids, (macro, micro), missing)


def make_metrics(subject: str = "s15") -> dict[str, Any]:
    row = {"tp": 1, "fp": 1, "fn": 2, "precision": 0.5, "recall": 1 / 3, "f1": 0.4, "ap": 0.1}
    zero = {**dict.fromkeys(row, 0.0), "tp": 0.25}
    rows = {"macro": row, "micro": {**row, "f1": 0.0}, "overall": row}
    none = dict.fromkeys(rows, zero)
    return {
        "protocol": {
            "system": "softnet",
            "rule": "one_to_one",
            "k": {"macro": 18, "micro": 6},
            "subjects": 1,
            "nothing": None,
            "list": ["a", "b"],
            "config": {"train": {"epochs": 10}},
        },
        "results": rows,
        "baselines": {"strain_sum": none},
        "chance": none,
        "bootstrap": {"macro": [0.1, 0.6], "micro": [None, None], "overall": [0.0, 0.5]},
        "variants": [
            {
                "rule": rule,
                "decoding": "interval published",
                "headline": rule == "softnet",
                "results": rows,
                "baselines": {"strain_sum": none},
            }
            for rule in ("one_to_one", "softnet")
        ],
        "subjects": {subject: rows, "s99": dict.fromkeys(rows, {**zero, "tp": 0})},
        "warnings": ["<b>few</b> videos"],
    }


def with_proposals(video: Any, proposals: Any) -> Any:
    """`video` with its micro track alone, and (onset, offset, score) as its proposals."""
    micro = video.tracks[1]._replace(proposals=np.asarray(proposals, np.float64).reshape(-1, 3))
    return video._replace(tracks=(micro,))


def svgs(page: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page, re.S)]
