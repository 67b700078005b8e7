"""A BORIS project (format 7.0) with the video, the behaviours and the events; and its events.

Fields and their order are those of BORIS 8 and 9 (`config.py`: EMPTY_PROJECT, PJ_EVENTS_FIELDS).
A state event is two rows, START and STOP, which BORIS pairs by turns for each subject, behaviour
and modifier: so overlapping detections of one type are one event, and what would set a STOP apart
from its START (score, emotion) is a comment, not a modifier.

Times are seconds with three decimals.  The frame index is 0-based: the onset frame at START, the
offset frame at STOP, whose time is the end of that frame.
"""

import json
from pathlib import Path
from typing import Any

from spotjax.config import EXPRESSION_TYPES
from spotjax.spotting import Spotting
from spotjax.writers import spans
from spotjax.writers.spans import CAUTION, clean

SUBJECT = "face"
BEHAVIOURS = (
    ("macro", "State event", "m", "macro-expression", "#e66101"),
    ("micro", "State event", "i", "micro-expression", "#5e3c99"),
    ("apex", "Point event", "a", "frame of highest score of an expression", "#444444"),
)
"""Code, type, key, description and colour."""
PLAYERS = 8


def boris_project(spotting: Spotting, folder: Path | None = None) -> str:
    """The project with one observation, named after the video.

    The media file is named relative to `folder`, where the project will lie, if it lies in or
    below it; else by its absolute path.  Without a media file the observation is a live one,
    which BORIS opens without a player.  BORIS asks whether the media has sound; the answer
    written is no, which only hides the plots of sound.  The text is ASCII, since BORIS reads it in
    the encoding of the machine.
    """
    name = clean(spotting.video).strip() or "video"
    values = {
        "time_format": "hh:mm:ss",
        "project_date": _date(spotting),
        "project_name": name,
        "project_description": f"Expressions spotted by spotjax ({spotting.system}). {CAUTION}",
        "project_format_version": "7.0",
        "subjects_conf": {
            "0": {"key": "f", "name": SUBJECT, "description": "the face that was followed"}
        },
        "behaviors_conf": {str(i): _behaviour(*row) for i, row in enumerate(BEHAVIOURS)},
        "observations": {name: _observation(spotting, folder)},
        "behavioral_categories": [],
        "behavioral_categories_config": {},
        "independent_variables": {},
        "coding_map": {},
        "behaviors_coding_map": [],
        "converters": {},
    }
    return json.dumps(values, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def boris_tsv(spotting: Spotting) -> str:
    """Events to paste into an open observation of BORIS: no header and no newline at the end.

    Columns: time, subject, code, modifier, comment and, with a media file, frame index.
    """
    rows = (f"{time:.3f}\t" + "\t".join(map(str, rest)) for time, *rest in events(spotting))
    return "\n".join(rows)


def events(spotting: Spotting) -> list[list[Any]]:
    """`[time, subject, code, modifier, comment, frame index]` of each event, in BORIS's order.

    Live observations, those without a media file, have no frame index.
    """
    found: list[list[Any]] = []
    for type in EXPRESSION_TYPES:
        for span in spans.spans(spotting, type):
            first, last = span.frames
            found.append([span.start / 1000, SUBJECT, type, "", spans.label(span), first])
            found.append([span.end / 1000, SUBJECT, type, "", "", last])
    for span in spans.apexes(spotting):
        comment = " + ".join(spans.title(d) for d in span.parts)
        found.append([span.start / 1000, SUBJECT, "apex", "", comment, span.parts[0].apex])
    return sorted(event if spotting.media is not None else event[:-1] for event in found)


def _observation(spotting: Spotting, folder: Path | None) -> dict[str, Any]:
    merged = [
        note for type in EXPRESSION_TYPES for note in spans.notes(spans.spans(spotting, type))
    ]
    common = {
        "date": _date(spotting),
        "description": clean("\n".join([CAUTION, *spotting.warnings, *merged])),
        "time offset": 0.0,
        "observation time interval": [0, 0],
        "independent_variables": {},
        "visualize_spectrogram": False,
        "visualize_waveform": False,
        "media_creation_date_as_offset": False,
        "media_scan_sampling_duration": 0,
        "image_display_duration": 1,
        "close_behaviors_between_videos": False,
        "events": events(spotting),
    }
    if spotting.media is None:
        live = {"scan_sampling_time": 0, "start_from_current_time": False}
        live |= {"start_from_current_epoch_time": False}
        return {"type": "LIVE", **common, **live, "file": {}, "media_info": {"offset": {}}}
    media = _place(spotting.media, folder)
    return {
        "type": "MEDIA",
        **common,
        "file": {str(n): [media] if n == 1 else [] for n in range(1, PLAYERS + 1)},
        "media_info": {
            "length": {media: round(spotting.length_s, 3)},
            "fps": {media: float(spotting.fps)},
            "hasVideo": {media: True},
            "hasAudio": {media: False},
            "offset": {"1": 0.0},
        },
    }


def _behaviour(code: str, type: str, key: str, description: str, colour: str) -> dict[str, Any]:
    return {
        "type": type,
        "key": key,
        "code": code,
        "description": description,
        "color": colour,
        "category": "",
        "modifiers": {},
        "excluded": "",
        "coding map": "",
    }


def _place(media: Path, folder: Path | None) -> str:
    if folder is not None and folder.absolute() in media.parents:
        return media.relative_to(folder.absolute()).as_posix()
    return str(media)


def _date(spotting: Spotting) -> str:
    """BORIS wants no time zone."""
    return spotting.date.replace(tzinfo=None).isoformat(timespec="seconds")
