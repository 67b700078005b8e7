"""SAMM Long Videos: 200 fps, 30 subjects in the table, 147 long videos.

On disk: `<root>/SAMM_longvideos/006_1/006_1_0001.jpg` (or the folders `006_1` directly in
`<root>`) and the annotation workbook in `<root>`.  Its first sheet has a preamble, then a header
row that begins with Subject, Filename.  `Filename` is subject_video_index; the video is its first
two fields, the subject the first.  Frame numbers come from another time base: 143 onsets and 148
offsets are fractional.
"""

from collections.abc import Iterator
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
from .sheets import Row, Workbook

FPS = 200.0
WORKBOOKS = ("SAMM_LongVideos_V2_Release.xlsx", "SAMMLV_gt.xlsx")
_HOLDS = "SAMM_longvideos/006_1/006_1_0001.jpg and SAMM_LongVideos_V2_Release.xlsx"
_COLUMNS = ("filename", "onset", "apex", "offset", "type", "action units")
_SHEETS = (
    "SAMM-LV's sheet FACS_Movement_Only with a header row Subject, Filename, Inducement Code, "
    "Onset, Apex, Offset, Duration, Type, Action Units"
)


def read(root: Path) -> RawDataset:
    """All videos below `root`.  Raises UserError for a wrong folder or a wrong workbook."""
    direct = root.is_dir() and any(_is_video(path.name) for path in folders_in(root))
    frames = root if direct else require_folder(root, "SAMM_longvideos", _HOLDS)
    annotations = read_annotations(find_workbook(root, WORKBOOKS))
    found = [
        (folder.name.split("_")[0], folder.name, folder)
        for folder in folders_in(frames)
        if _is_video(folder.name)
    ]
    if not found:
        raise UserError(f"{frames}: no video folders such as 006_1 in it: expected {_HOLDS}")
    return assemble(annotations, found, FPS, "samm_lv")


def read_annotations(file: Path) -> Annotations:
    """The annotation rows of the workbook `file`, SOFTNet's rules applied (`base`)."""
    rows = Workbook(file).rows(0, 8, _SHEETS)
    columns = _find_header(rows, file)
    quirks = Quirks()
    kept: list[Annotation] = []
    for row in rows:
        fields = row.text(columns["filename"], "Filename").split("_")
        if len(fields) != 3:
            raise UserError(
                f"{row.where}: Filename {'_'.join(fields)!r} should be subject_video_index such "
                "as 006_1_2: correct it in your copy of the workbook"
            )
        checked = annotation(
            subject=fields[0],
            video="_".join(fields[:2]),
            onset=row.number_at(columns["onset"], "Onset"),
            apex=row.number_at(columns["apex"], "Apex"),
            offset=row.number_at(columns["offset"], "Offset"),
            kind=row.text(columns["type"], "Type"),
            emotion="",
            action_units=row.optional_text(columns["action units"]),
            where=row.where,
            quirks=quirks,
        )
        if checked is not None:
            kept.append(checked)
    return Annotations(file, tuple(kept), quirks.lines())


def _find_header(rows: Iterator[Row], file: Path) -> dict[str, int]:
    """Advance `rows` past the header; 0-based column of every name in `_COLUMNS`."""
    for row in rows:
        names = [str(cell).strip().lower() for cell in row.cells]
        if names[:2] != ["subject", "filename"]:
            continue
        if missing := [name for name in _COLUMNS if name not in names]:
            raise UserError(
                f"{row.where}: the header has no column {missing[0].title()}: expected {_SHEETS}"
            )
        return {name: names.index(name) for name in _COLUMNS}
    raise UserError(f"{file}: no header row that begins with Subject, Filename: expected {_SHEETS}")


def _is_video(folder: str) -> bool:
    """Whether `folder` looks like `006_1`: two numbers."""
    fields = folder.split("_")
    return len(fields) == 2 and all(field.isdigit() for field in fields)
