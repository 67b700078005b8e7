"""SAMM Long Videos: 200 fps, 30 subjects in the table, 147 long videos.

On disk: `<root>/SAMM_longvideos/006_1/006_1_0001.jpg` (or the folders `006_1` directly in
`<root>`) and the annotation workbook in `<root>`.  Its first sheet has a preamble, then a header
row that begins with Subject, Filename.  `Filename` is subject_video_index; the video is its first
two fields, the subject the first.  Frame numbers come from another time base: 143 onsets and 148
offsets are fractional; 10 macro-expressions have onset 0, 6 rows an apex of -1.
"""

from collections.abc import Iterator
from pathlib import Path

from spotjax.config import Annotation, Data
from spotjax.errors import UserError

from . import rules
from .base import Quirks, RawDataset, find_workbook, folders_in, list_images, require_folder
from .placing import Annotations, Found, assemble
from .sheets import Line, Workbook, columns_of

FPS = 200.0
WORKBOOKS = ("SAMM_LongVideos_V2_Release.xlsx", "SAMMLV_gt.xlsx")
HOLDS = "SAMM_longvideos/006_1/006_1_0001.jpg and SAMM_LongVideos_V2_Release.xlsx"
_COLUMNS = ("filename", "onset", "apex", "offset", "type", "action units")
_SHEETS = (
    "SAMM-LV's sheet FACS_Movement_Only with a header row Subject, Filename, Inducement Code, "
    "Onset, Apex, Offset, Duration, Type, Action Units"
)


def read(data: Data, root: Path) -> RawDataset:
    """All videos below `root`.  Raises UserError for a wrong folder or a wrong workbook."""
    direct = root.is_dir() and any(_is_video(path.name) for path in folders_in(root))
    frames = root if direct else require_folder(root, "SAMM_longvideos", HOLDS)
    options = rules.resolved(data.annotation, "samm_lv")
    annotations = read_annotations(find_workbook(root, WORKBOOKS), options)
    found = [
        Found(folder.name.split("_")[0], folder.name, list_images(folder), folder)
        for folder in folders_in(frames)
        if _is_video(folder.name)
    ]
    if not found:
        raise UserError(f"{frames}: no video folders such as 006_1 in it: expected {HOLDS}")
    return assemble(annotations, found, data, options, name="samm_lv", fps=FPS)


def read_annotations(file: Path, options: Annotation) -> Annotations:
    """The annotation rows of the workbook `file`, the rules of `options` (resolved) applied.

    Raises UserError naming the file, or its row and column, that is missing or wrong.
    """
    lines = Workbook(file).rows(0, 8, _SHEETS)
    columns = _find_header(lines, file)
    quirks = Quirks()
    rows = [_row(line, columns) for line in lines]
    return Annotations((file,), rules.apply(rows, options, quirks), quirks.lines())


def _row(line: Line, columns: dict[str, int]) -> rules.Row:
    fields = line.text(columns["filename"], "Filename").split("_")
    if len(fields) != 3:
        raise UserError(
            f"{line.where}: Filename {'_'.join(fields)!r} should be subject_video_index such "
            "as 006_1_2: correct it in your copy of the workbook"
        )
    return rules.Row(
        subject=fields[0],
        video="_".join(fields[:2]),
        onset=line.number_at(columns["onset"], "Onset"),
        apex=line.number_at(columns["apex"], "Apex"),
        offset=line.number_at(columns["offset"], "Offset"),
        type=rules.expression_type(line.text(columns["type"], "Type"), line.where),
        emotion="",
        action_units=line.optional_text(columns["action units"]),
        where=line.where,
    )


def _find_header(lines: Iterator[Line], file: Path) -> dict[str, int]:
    """Advance `lines` past the header; 0-based column of every name in `_COLUMNS`."""
    for line in lines:
        names = [str(cell).strip().lower() for cell in line.cells]
        if names[:2] == ["subject", "filename"]:
            return columns_of(line, _COLUMNS, _SHEETS)
    raise UserError(f"{file}: no header row that begins with Subject, Filename: expected {_SHEETS}")


def _is_video(folder: str) -> bool:
    """Whether `folder` looks like `006_1`: two numbers."""
    fields = folder.split("_")
    return len(fields) == 2 and all(field.isdigit() for field in fields)
