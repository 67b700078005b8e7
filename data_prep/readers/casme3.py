"""CAS(ME)^3 part A, annotation v2: 30 fps, colour and depth, 98 annotated subjects, 956 videos.

On disk: `<root>/part_A/spNO.1/a/color/37.jpg` and `.../a/depth/37.png` (16-bit depth; also
`.../a/37.png`, and subject folders without the dot), and in `<root>`, `<root>/part_A` or
`<root>/annotation` the workbook `CAS(ME)3_part_A_v2.xls` (its frame numbers are text cells) and
the emotions of the micro-expressions, `cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx`.

Annotation numbers are the names of the JPG files, not positions: videos begin at 7, 5, 8, 1, ...,
and images are missing inside some.  The video letter is written in either case.
"""

import re
from pathlib import Path

from spotjax.config import Annotation, Data
from spotjax.counting.recognition import FOUR_OF_SEVEN
from spotjax.errors import UserError

from . import rules
from .base import (
    WORKBOOK_SUFFIXES,
    Quirks,
    RawDataset,
    folders_in,
    list_images,
    require_folder,
)
from .placing import Annotations, Found, assemble
from .sheets import Line, Workbook, columns_of

FPS = 30.0
WORKBOOKS = ("CAS(ME)3_part_A_v2.xls", "CAS(ME)3_part_A_v2.xlsx")
LABELS = "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx"
HOLDS = f"part_A/spNO.1/a/color/37.jpg, {WORKBOOKS[0]} and {LABELS}"
_COLUMNS = ("subject", "filename", "onset", "apex", "offset", "au", "expression type")
_SHEET = f"CAS(ME)^3's sheet AU+Emotion with the header {', '.join(_COLUMNS)}"
_LABEL_COLUMNS = ("subject", "filename", "onset", "apex", "offset", "emotion")
_LABEL_SHEET = f"CAS(ME)^3's sheet label with the header {', '.join(_LABEL_COLUMNS)}"
Key = tuple[str, str, float, float, float]


def read(data: Data, root: Path) -> RawDataset:
    """All videos below `root`.  Raises UserError for a wrong folder or a wrong workbook."""
    direct = root.is_dir() and any(_subject(path.name) for path in folders_in(root))
    frames = root if direct else require_folder(root, "part_A", HOLDS)
    options = rules.resolved(data.annotation, "casme3")
    annotations = read_annotations(*find_workbooks(root), options)
    found = [
        _found(_subject(subject.name), video)
        for subject in folders_in(frames)
        if _subject(subject.name)
        for video in folders_in(subject)
    ]
    if not found:
        raise UserError(f"{frames}: no subject folders such as spNO.1 in it: expected {HOLDS}")
    return assemble(annotations, found, data, options, name="casme3", fps=FPS)


def find_workbooks(root: Path) -> tuple[Path, Path]:
    """The annotation and the emotions below `root`.  Raises UserError if one is not there."""
    places = [folder for folder in (root, root / "part_A", root / "annotation") if folder.is_dir()]
    files = [
        path
        for folder in places
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in WORKBOOK_SUFFIXES and not path.name.startswith(("~", "."))
    ]
    labels = [path for path in files if "label" in path.name.lower()]
    tables = [path for path in files if path.name in WORKBOOKS] or [
        path for path in files if path not in labels
    ]
    for found, name in ((tables, WORKBOOKS[0]), (labels, LABELS)):
        if len(found) != 1:
            shown = ", ".join(str(path.relative_to(root)) for path in found) or "none"
            raise UserError(
                f"{root}: needs one workbook {name}, found {shown}: put it there, and no other "
                "release beside it"
            )
    return tables[0], labels[0]


def read_annotations(file: Path, label_file: Path, options: Annotation) -> Annotations:
    """The rows of `file` with the emotions of `label_file`, rules of `options` applied.

    Raises UserError naming the file, or its row and column, that is missing or wrong.
    """
    quirks = Quirks()
    emotions = _read_labels(label_file, options)
    lines = Workbook(file).rows(0, 7, _SHEET)
    header = next(lines, None)
    if header is None:
        raise UserError(f"{file}: the first sheet is empty: expected {_SHEET}")
    columns = columns_of(header, _COLUMNS, _SHEET)
    rows = []
    for line in lines:
        row = _row(line, columns)
        if row.type == "micro":
            row = row._replace(emotion=_emotion(row, emotions, label_file, quirks))
        rows.append(row)
    kept = rules.apply(rows, options, quirks, from_zero=True)
    return Annotations((file, label_file), kept, quirks.lines())


def _row(line: Line, columns: dict[str, int]) -> rules.Row:
    subject = _subject(line.text(columns["subject"], "Subject"))
    if not subject:
        raise UserError(
            f"{line.where}: Subject {line.optional_text(columns['subject'])!r} should be such as "
            "spNO.1: correct it in your copy"
        )
    return rules.Row(
        subject=subject,
        video=line.text(columns["filename"], "Filename").lower(),
        onset=line.number_at(columns["onset"], "Onset"),
        apex=line.number_at(columns["apex"], "Apex"),
        offset=line.number_at(columns["offset"], "Offset"),
        type=rules.expression_type(
            line.text(columns["expression type"], "Expression type"), line.where
        ),
        emotion="",
        action_units=line.optional_text(columns["au"]),
        where=line.where,
    )


def _read_labels(file: Path, options: Annotation) -> dict[Key, str]:
    """Emotion (four or seven classes) of every micro-expression by what names it."""
    lines = Workbook(file).rows(0, 6, _LABEL_SHEET)
    header = next(lines, None)
    if header is None:
        raise UserError(f"{file}: the first sheet is empty: expected {_LABEL_SHEET}")
    columns = columns_of(header, _LABEL_COLUMNS, _LABEL_SHEET)
    emotions: dict[Key, str] = {}
    for line in lines:
        word = line.text(columns["emotion"], "emotion").lower()
        if word not in FOUR_OF_SEVEN:
            known = ", ".join(FOUR_OF_SEVEN)
            raise UserError(f"{line.where}: emotion {word!r} is not known: write one of {known}")
        key = (
            _subject(line.text(columns["subject"], "Subject")),
            line.text(columns["filename"], "Filename").lower(),
            line.number_at(columns["onset"], "Onset"),
            line.number_at(columns["apex"], "Apex"),
            line.number_at(columns["offset"], "Offset"),
        )
        emotions[key] = FOUR_OF_SEVEN[word] if options.emotions == "four" else word
    return emotions


def _emotion(row: rules.Row, emotions: dict[Key, str], file: Path, quirks: Quirks) -> str:
    """The emotion of `row`: that of its own five values, or of the one row with two of three
    numbers equal (the owners' copy has four typos).  Raises UserError if there is none."""
    key = (row.subject, row.video, row.onset, row.apex, row.offset)
    if key in emotions:
        return emotions[key]
    near = [
        other
        for other in emotions
        if other[:2] == key[:2] and sum(a == b for a, b in zip(other[2:], key[2:], strict=True)) > 1
    ]
    if len(near) != 1:
        raise UserError(
            f"{row.where}: micro-expression {row.onset:g}-{row.offset:g} of {row.subject}/"
            f"{row.video} has no emotion in {file.name}: add the row there"
        )
    quirks.add("emotion joined although a frame number differs in the label file", row.place)
    return emotions[near[0]]


def _found(subject: str, folder: Path) -> Found:
    """The colour images of a video and where its depth lies, if it has any."""
    colour = folder / "color" if (folder / "color").is_dir() else folder
    depth = folder / "depth"
    if not depth.is_dir():
        inside = colour != folder and any(folder.glob("*.png"))
        return Found(subject, folder.name.lower(), list_images(colour), folder,
                     depth=folder if inside else None)  # fmt: skip
    return Found(subject, folder.name.lower(), list_images(colour), folder, depth=depth)


def _subject(name: str) -> str:
    """`spNO.7` of `spNO.7` or `spNO7`, empty for anything else."""
    match = re.fullmatch(r"spno\.?(\d+)", name.strip(), re.IGNORECASE)
    return f"spNO.{match[1]}" if match else ""
