"""Tables and JSON of a spotted video: what a spreadsheet, a script or an audit reads."""

import json
import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np

from spotjax.config import EXPRESSION_TYPES
from spotjax.export import csv_text
from spotjax.spotting import Spotting
from spotjax.types import Detection
from spotjax.writers.spans import CAUTION, clean

SPOT_COLUMNS = (
    "video", "type", "onset_frame", "apex_frame", "offset_frame",
    "onset_s", "apex_s", "offset_s", "duration_s", "score", "system",
)  # fmt: skip


def spot_csv(spotting: Spotting) -> str:
    """One row per detection under `SPOT_COLUMNS`, with `emotion` last where one has an emotion.

    Frames are 0-based and inclusive; `offset_s` is the end of the offset frame.  Seconds and
    scores have six decimals.  The header is there even where nothing was found.
    """
    emotions = any(d.emotion for d in spotting.detections)
    rows: list[list[Any]] = [[*SPOT_COLUMNS, *(["emotion"] if emotions else [])]]
    for d in spotting.detections:
        numbers = [f"{value:.6f}" for value in (*_seconds(spotting, d), d.score)]
        row = [spotting.video, d.type, d.onset, d.apex, d.offset, *numbers, spotting.system]
        rows.append([*row, d.emotion] if emotions else row)
    return csv_text(rows)


def frames_csv(spotting: Spotting) -> str:
    """`frame,timestamp,face,score_macro,score_micro`: one row for every frame.

    A score is the shortest text that gives the f32 again; the cell is empty where there is none.
    """
    rows: list[list[Any]] = [["frame", "timestamp", "face"]]
    rows[0] += [f"score_{type}" for type in EXPRESSION_TYPES]
    none = np.full(len(spotting.times), np.nan, np.float32)
    found = [spotting.scores.get(type, none) for type in EXPRESSION_TYPES]
    columns = [scores.astype(np.float32) for scores in found]
    for frame, time in enumerate(spotting.times):
        scores = ["" if np.isnan(column[frame]) else str(column[frame]) for column in columns]
        rows.append([frame, f"{time:.6f}", int(spotting.face[frame]), *scores])
    return csv_text(rows)


def spot_json(spotting: Spotting) -> str:
    """Intervals, thresholds, timing, provenance and warnings; what is not a number is null.

    Raises ValueError if the provenance has something that JSON cannot hold.
    """
    gaps = np.diff(spotting.times)
    values = {
        "video": spotting.video,
        "media": None if spotting.media is None else clean(str(spotting.media)),
        "system": spotting.system,
        "caution": CAUTION,
        "warnings": spotting.warnings,
        "timing": {
            "fps": spotting.fps,
            "frames": len(spotting.times),
            "duration_s": round(spotting.length_s, 6),
            "variable_frame_rate": spotting.variable_rate,
            "shortest_frame_s": round(float(gaps.min()), 6) if len(gaps) else None,
            "longest_frame_s": round(float(gaps.max()), 6) if len(gaps) else None,
            "frames_with_face": int(np.count_nonzero(spotting.face)),
        },
        "units": {
            "frames": "0-based, inclusive",
            "seconds": "start of the frame; offset_s is the end of the offset frame",
        },
        "thresholds": spotting.thresholds,
        "counts": {
            type: sum(d.type == type for d in spotting.detections) for type in EXPRESSION_TYPES
        },
        "intervals": [_interval(spotting, d) for d in spotting.detections],
        "provenance": spotting.provenance,
    }
    return json.dumps(_plain(values), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _interval(spotting: Spotting, d: Detection) -> dict[str, Any]:
    onset, apex, offset, duration = (round(value, 6) for value in _seconds(spotting, d))
    return {
        "type": d.type,
        "onset_frame": d.onset,
        "apex_frame": d.apex,
        "offset_frame": d.offset,
        "onset_s": onset,
        "apex_s": apex,
        "offset_s": offset,
        "duration_s": duration,
        "score": d.score,
        "emotion": d.emotion or None,
    }


def _seconds(spotting: Spotting, d: Detection) -> tuple[float, float, float, float]:
    onset, offset = spotting.onset_s(d), spotting.offset_s(d)
    return onset, spotting.apex_s(d), offset, offset - onset


def _plain(value: Any) -> Any:
    """What JSON can hold of `value`.  Raises ValueError for a kind of object it does not know."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, PurePath):
        return str(value)
    if value is None or isinstance(value, str | int):
        return value
    raise ValueError(f"spotting: {value!r} has no place in JSON")
