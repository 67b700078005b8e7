"""CAS(ME)^2: 30 fps, 22 subjects, 98 long videos.

On disk: `<root>/rawpic/s15/15_0101disgustingteeth/img001.jpg` and the annotation workbook in
`<root>`.  A video is known by the four digits after the first `_` of its folder; a folder
without them keeps its own name and has no annotation.  The workbook has three sheets without
header rows: the annotation (subject number, clip such as `happy2_10`, onset, apex, offset, AU,
emotion, type, self report), the subjects (folder number, folder, subject number) and the
videos (code as text, clip such as `happy2`).  44 macro-expressions have offset 0.
"""

import re
from pathlib import Path

from spotjax.config import Annotation, Data
from spotjax.errors import UserError

from . import rules
from .base import Quirks, RawDataset, find_workbook, folders_in, list_images, require_folder
from .placing import Annotations, Found, assemble
from .sheets import Line, Workbook

FPS = 30.0
WORKBOOKS = ("CAS(ME)^2code_final.xlsx", "code_final.xlsx", "CASME_sq_gt.xlsx")
HOLDS = "rawpic/s15/15_0101disgustingteeth/img001.jpg and CAS(ME)^2code_final.xlsx"
_SHEETS = (
    "the CAS(ME)^2 sheets CASFEcode_final (9 columns), naming rule1 (3) and naming rule2 (2), "
    "in this order"
)


def read(data: Data, root: Path) -> RawDataset:
    """All videos below `root`.  Raises UserError for a wrong folder or a wrong workbook."""
    frames = require_folder(root, "rawpic", HOLDS)
    options = rules.resolved(data.annotation, "casme2")
    annotations = read_annotations(find_workbook(root, WORKBOOKS), options)
    found = [
        Found(subject.name, _video_code(folder.name), list_images(folder), folder)
        for subject in folders_in(frames)
        for folder in folders_in(subject)
    ]
    if not found:
        raise UserError(f"{frames}: no video folders in it: expected {HOLDS}")
    return assemble(annotations, found, data, options, name="casme2", fps=FPS)


def read_annotations(file: Path, options: Annotation) -> Annotations:
    """The annotation rows of the workbook `file`, the rules of `options` (resolved) applied.

    Raises UserError naming the file, or its row and column, that is missing or wrong.
    """
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
    rows = [_row(line, subjects, codes, book.sheets) for line in book.rows(0, 8, _SHEETS)]
    return Annotations((file,), rules.apply(rows, options, quirks), quirks.lines())


def _row(
    line: Line, subjects: dict[str, str], codes: dict[str, str], sheets: list[str]
) -> rules.Row:
    number, clip = line.text(0, "subject number"), line.text(1, "clip name")
    if number not in subjects:
        raise UserError(
            f"{line.where}, column A: subject number {number} is not in sheet {sheets[1]}: add "
            "it there"
        )
    code = codes.get(clip.rpartition("_")[0].lower())
    if code is None:
        raise UserError(
            f"{line.where}, column B: clip {clip!r} is not in sheet {sheets[2]} "
            f"({', '.join(codes)}): correct it"
        )
    return rules.Row(
        subject=subjects[number],
        video=code,
        onset=line.number_at(2, "onset"),
        apex=line.number_at(3, "apex"),
        offset=line.number_at(4, "offset"),
        type=rules.expression_type(line.text(7, "expression type"), line.where),
        emotion=line.optional_text(6),
        action_units=line.optional_text(5),
        where=line.where,
    )


def _video_code(folder: str) -> str:
    """`0101` of `15_0101disgustingteeth`; the whole name where there is no such code."""
    match = re.match(r"[^_]*_(\d{4})", folder)
    return match[1] if match else folder
