"""CAS(ME)^2: 30 fps, 22 subjects, 98 long videos.

On disk: `<root>/rawpic/s15/15_0101disgustingteeth/img001.jpg` and the annotation workbook in
`<root>`.  A video is known by the four digits after the first `_` of its folder; a folder
without them keeps its own name and has no annotation.  The workbook has three sheets without
header rows: the annotation (subject number, clip such as `happy2_10`, onset, apex, offset, AU,
emotion, type, self report), the subjects (folder number, folder, subject number) and the
videos (code as text, clip such as `happy2`).
"""

import re
from pathlib import Path

from spotjax.errors import UserError

from .base import (
    Annotation,
    Annotations,
    Quirks,
    RawDataset,
    annotation,
    assemble,
    find_workbook,
    folders_in,
    require_folder,
)
from .sheets import Workbook

FPS = 30.0
WORKBOOKS = ("CAS(ME)^2code_final.xlsx", "code_final.xlsx", "CASME_sq_gt.xlsx")
_HOLDS = "rawpic/s15/15_0101disgustingteeth/img001.jpg and CAS(ME)^2code_final.xlsx"
_SHEETS = (
    "the CAS(ME)^2 sheets CASFEcode_final (9 columns), naming rule1 (3) and naming rule2 (2), "
    "in this order"
)


def read(root: Path) -> RawDataset:
    """All videos below `root`.  Raises UserError for a wrong folder or a wrong workbook."""
    frames = require_folder(root, "rawpic", _HOLDS)
    annotations = read_annotations(find_workbook(root, WORKBOOKS))
    found = [
        (subject.name, _video_code(folder.name), folder)
        for subject in folders_in(frames)
        for folder in folders_in(subject)
    ]
    if not found:
        raise UserError(f"{frames}: no video folders in it: expected {_HOLDS}")
    return assemble(annotations, found, FPS, "casme2")


def read_annotations(file: Path) -> Annotations:
    """The annotation rows of the workbook `file`, SOFTNet's rules applied (`base`)."""
    book = Workbook(file)
    subjects = {
        row.text(2, "subject number"): row.text(1, "subject folder")
        for row in book.rows(1, 3, _SHEETS)
    }
    codes = {
        row.text(1, "clip").lower(): row.text(0, "video code").zfill(4)
        for row in book.rows(2, 2, _SHEETS)
    }
    quirks = Quirks()
    rows: list[Annotation] = []
    for row in book.rows(0, 8, _SHEETS):
        number = row.text(0, "subject number")
        clip = row.text(1, "clip name")
        if number not in subjects:
            raise UserError(
                f"{row.where}, column A: subject number {number} is not in sheet "
                f"{book.sheets[1]}: add it there"
            )
        code = codes.get(clip.rpartition("_")[0].lower())
        if code is None:
            raise UserError(
                f"{row.where}, column B: clip {clip!r} is not in sheet {book.sheets[2]} "
                f"({', '.join(codes)}): correct it"
            )
        checked = annotation(
            subject=subjects[number],
            video=code,
            onset=row.number_at(2, "onset"),
            apex=row.number_at(3, "apex"),
            offset=row.number_at(4, "offset"),
            kind=row.text(7, "expression type"),
            emotion=row.optional_text(6),
            action_units=row.optional_text(5),
            where=row.where,
            quirks=quirks,
        )
        if checked is not None:
            rows.append(checked)
    return Annotations(file, tuple(rows), quirks.lines())


def _video_code(folder: str) -> str:
    """`0101` of `15_0101disgustingteeth`; the whole name where there is no such code."""
    match = re.match(r"[^_]*_(\d{4})", folder)
    return match[1] if match else folder
