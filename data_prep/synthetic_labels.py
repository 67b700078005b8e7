"""The annotation workbooks of the imitated data sets, with the exact labels of what was rendered.

They have the sheets, headers, cell types and names of the real ones, and the oddities that leave
the truth readable: SAMM-LV's fractional frame numbers and unknown apexes, CAS(ME)^3's numbers as
text.  Oddities that would hide or invent an expression (onset 0, offset 0, repeated rows, intervals
past the end) are left out.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import openpyxl

from .synthetic_layouts import (
    CASME2_CLIPS,
    CASME2_SUBJECTS,
    CASME3_SUBJECTS,
    CODER,
    LAYOUTS,
    SAMM_LV_SUBJECTS,
    VideoTask,
    casme3_video,
    samm_lv_video,
)
from .synthetic_motion import MACRO, MICRO, Motion

Row = Sequence[object]
Sheets = dict[str, list[Row]]

SELF_REPORTS = {"disgust": "disgust", "anger": "anger", "happy": "happiness"}
FRACTIONAL = 0.3  # SAMM-LV: the share of rows with fractional onset and offset
UNKNOWN_APEX = 0.03  # SAMM-LV: the share of rows with apex -1
SAMM_LV_TYPES = {MACRO: "Macro", MICRO: "Micro - 1/2"}
SAMM_LV_PREAMBLE: tuple[Row, ...] = (
    ("SAMM Long Videos Dataset - FACS Codes",),
    (),
    ("Symbol Key:",),
    ('"/" = or',),
    (),
    ("AU Help:",),
    (
        '"L2 or R2" = Unilateral AU 2 on the left / right side of the face', None, None, None, None,
        "NOTE: Subjects with Apex Frame not annotated were labelled as -1.",
    ),
    ("All labels of this copy belong to synthetic videos.",),
    (),
    ("Subject", "Filename", "Inducement Code", "Onset", "Apex", "Offset", "Duration", "Type",
     "Action Units", "Notes"),
)  # fmt: skip
CASME3_HEADER = ("Subject", "Filename", "Onset", "Apex", "Offset", "AU")
OBJECTIVE_CLASSES = {
    **dict.fromkeys(("12", "L12", "R12"), "I"),
    **dict.fromkeys(("1+2", "1+2+25"), "II"),
    "4": "III",
    **dict.fromkeys(("15", "L15"), "V"),
    "1+2+4": "VI",
}
"""CAS(ME)^3: class of the action units; VII for all others."""


def write_workbooks(layout: str, tasks: Sequence[VideoTask], root: Path) -> None:
    """Write the annotation of the videos `tasks` into `root`.  Raises OSError."""
    for name, sheets in zip(LAYOUTS[layout].workbooks, MAKERS[layout](tasks), strict=True):
        book = openpyxl.Workbook()
        book.remove(book.worksheets[0])
        for title, rows in sheets.items():
            sheet = book.create_sheet(title)
            for number, row in enumerate(rows, start=1):
                for column, value in enumerate(row, start=1):
                    if value is not None:
                        sheet.cell(number, column, value)
        partial = root / f".{name}.tmp"
        book.save(partial)
        os.replace(partial, root / name)


def _casme2(tasks: Sequence[VideoTask]) -> tuple[Sheets, ...]:
    """Three sheets without header rows."""
    codes: list[Row] = []
    folders: list[Row] = []
    for task in tasks:
        folder = CASME2_SUBJECTS[task.subject]
        name = CASME2_CLIPS[task.video][2]
        for number, event in enumerate(task.motion().expressions, start=1):
            label = (
                task.subject + 1,
                f"{name}_{number}",
                event.onset,
                event.apex,
                event.offset,
                event.display.action_units,
                event.display.emotion,
                event.kind,
                SELF_REPORTS[task.style.moods[task.video]],
            )
            codes.append(label)
            folders.append((int(folder[1:]), folder, task.subject + 1))
    names: list[Row] = [(code, name) for code, _, name in CASME2_CLIPS]
    return ({"CASFEcode_final": codes, "naming rule1": folders, "naming rule2": names},)


def _samm_lv(tasks: Sequence[VideoTask]) -> tuple[Sheets, ...]:
    """One sheet with a preamble; frame numbers that SOFTNet's and MEGC's rule both read right.

    A fraction is .2 or .4: cut or rounded, the number is the true frame.
    """
    rows: list[Row] = list(SAMM_LV_PREAMBLE)
    for task in tasks:
        rng = task.generator(CODER)
        motion = task.motion()
        for index, event in enumerate(motion.expressions, start=1):
            span = np.array([event.onset, event.apex, event.offset], np.float64)
            if rng.random() < FRACTIONAL:
                span += 0.2 * rng.integers(1, 3, 3)
            onset, apex, offset = (
                int(frame) if frame.is_integer() else frame for frame in span.tolist()
            )
            blinking = motion.lids[event.onset - 1 : event.offset].any()
            row = len(rows) + 1
            label = (
                SAMM_LV_SUBJECTS[task.subject],
                f"{samm_lv_video(task.subject, task.video)}_{index}",
                task.video + 1,
                onset,
                -1 if rng.random() < UNKNOWN_APEX else apex,
                offset,
                f"=SUM(F{row}-D{row})+1",
                SAMM_LV_TYPES[event.kind],
                event.display.action_units,
                "Blinks" if blinking else None,
            )
            rows.append(label)
    return ({"FACS_Movement_Only": rows},)


def _casme3(tasks: Sequence[VideoTask]) -> tuple[Sheets, ...]:
    """Part A: all expressions with the blinks, and the emotions of the micro-expressions."""
    labels: list[Row] = [(*CASME3_HEADER, "Expression type", "Objective class")]
    blinks: list[Row] = [("Subject", "Filename", "Onset", "Offset")]
    emotions: list[Row] = [(*CASME3_HEADER, "Objective class", "emotion")]
    for task in tasks:
        motion = task.motion()
        first, missing = task.numbering(motion)
        video = (CASME3_SUBJECTS[task.subject], casme3_video(task.video))
        for event in motion.expressions:
            span = (str(first + frame - 1) for frame in (event.onset, event.apex, event.offset))
            units = str(event.display.action_units)
            label = (*video, *span, units)
            objective = OBJECTIVE_CLASSES.get(units, "VII")
            labels.append((*label, event.kind.capitalize(), objective))
            if event.kind == MICRO:
                emotions.append((*label, objective, event.display.emotion))
        for onset, offset in _blinks(motion, missing):
            blinks.append((*video, str(first + onset), str(first + offset)))
    return (
        {"AU+Emotion": labels, "eye blink": blinks},
        {"label": emotions, "Sheet1": [], "Sheet3": []},
    )


def _blinks(motion: Motion, missing: frozenset[int]) -> list[tuple[int, int]]:
    """First and last frame (from 0) of every blink that have an image."""
    moving = np.concatenate([[False], motion.lids > 0, [False]])
    edges = np.flatnonzero(np.diff(moving.astype(np.int8)))
    found = []
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        seen = [frame for frame in range(int(start), int(stop)) if frame not in missing]
        if seen:
            found.append((seen[0], seen[-1]))
    return found


MAKERS: dict[str, Callable[[Sequence[VideoTask]], tuple[Sheets, ...]]] = {
    "casme2": _casme2,
    "samm_lv": _samm_lv,
    "casme3": _casme3,
}
