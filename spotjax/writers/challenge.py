"""Files that other people's scoring tools read: the MEGC challenge and ActivityNet."""

import json
from pathlib import PurePath

from spotjax.export import csv_text
from spotjax.spotting import Spotting

MEGC_TYPES = {"macro": "mae", "micro": "me"}


def megc_csv(spotting: Spotting, base: int = 1) -> str:
    """`vid,pred_onset,pred_offset,type` with `me` or `mae`, frames inclusive.

    `base` is the number of the first frame, 0 or 1: the rules of each year's challenge say which.
    Raises ValueError for another base.
    """
    if base not in (0, 1):
        raise ValueError(f"base {base}: the first frame is 0 or 1")
    rows: list[list[str | int]] = [["vid", "pred_onset", "pred_offset", "type"]]
    for d in spotting.detections:
        rows.append([_name(spotting), d.onset + base, d.offset + base, MEGC_TYPES[d.type]])
    return csv_text(rows)


def activitynet_json(spotting: Spotting) -> str:
    """ActivityNet's detection file: `results` by video, each a label, a score and two seconds.

    `external_data` is left empty: what the system was trained on stands in `*.spot.json`.
    """
    found = [
        {
            "label": d.type,
            "score": float(d.score),
            "segment": [round(spotting.onset_s(d), 6), round(spotting.offset_s(d), 6)],
        }
        for d in spotting.detections
    ]
    values = {"version": "VERSION 1.3", "results": {_name(spotting): found}, "external_data": {}}
    return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _name(spotting: Spotting) -> str:
    """The video's name without the suffix of a media file; a folder keeps all of its name."""
    return spotting.video if spotting.media is None else PurePath(spotting.video).stem
