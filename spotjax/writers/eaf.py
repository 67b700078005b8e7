"""An ELAN annotation document (EAF 3.0): one tier per type and one of apexes.

Rules of the format (EAFv3.0.xsd; CLARIN's page SpecEAF): times are whole milliseconds, time slots
stand in order, and annotations of a tier do not overlap.  ELAN takes the media links as they
stand, without undoing percent escapes (its `checkLinkStatus` and `pathToURLString`), so a space
or an umlaut is written as such: escaped, the video would not be found.
"""

import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

from spotjax.config import EXPRESSION_TYPES
from spotjax.spotting import Spotting
from spotjax.writers import spans
from spotjax.writers.spans import CAUTION, Span, clean

MIME = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".qt": "video/quicktime",
    ".mpg": "video/mpeg",
    ".mpeg": "video/mpeg",
}
"""MIME types that ELAN knows; any other video is `video/*`."""
SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
KIND = "default-lt"


def eaf(spotting: Spotting, folder: Path | None = None) -> str:
    """The document; `folder` is where it will lie, for the relative link to the media file.

    Tiers `spotjax:macro`, `spotjax:micro` and `spotjax:apex` (one frame each) are always there.
    A value is type, score and emotion.  Overlapping detections of one type are one annotation
    with the highest score; its value and a header property `spotjax:merged` say so.
    """
    tiers = {f"spotjax:{type}": spans.spans(spotting, type) for type in EXPRESSION_TYPES}
    notes = [note for found in tiers.values() for note in spans.notes(found)]
    labelled = {
        name: [(span, spans.label(span)) for span in found] for name, found in tiers.items()
    }
    labelled["spotjax:apex"] = [
        (span, " + ".join(spans.title(d) for d in span.parts)) for span in spans.apexes(spotting)
    ]
    root = Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": f"spotjax {spotting.provenance.get('version', '')}".strip(),
            "DATE": spotting.date.isoformat(timespec="seconds"),
            "FORMAT": "3.0",
            "VERSION": "3.0",
            "xmlns:xsi": INSTANCE,
            "xsi:noNamespaceSchemaLocation": SCHEMA,
        },
    )
    total = sum(len(found) for found in labelled.values())
    _header(root, spotting, folder, notes, total)
    _tiers(root, labelled, clean(spotting.system))
    SubElement(
        root,
        "LINGUISTIC_TYPE",
        {"GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": KIND, "TIME_ALIGNABLE": "true"},
    )
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def media_url(path: Path) -> str:
    """The link to an absolute path as ELAN writes it: `file:///` and the path as it is.

    >>> from pathlib import PurePosixPath, PureWindowsPath
    >>> media_url(PurePosixPath("/my videos/a.mp4")), media_url(PureWindowsPath("C:/a.mp4"))
    ('file:///my videos/a.mp4', 'file:///C:/a.mp4')
    >>> media_url(PureWindowsPath("//server/share/a.mp4"))
    'file://server/share/a.mp4'
    """
    text = path.as_posix()
    slashes = len(text) - len(text.lstrip("/"))
    return ("file://" if slashes == 2 else "file:///") + text.lstrip("/")


def relative_url(path: Path, folder: Path) -> str | None:
    """`./a.mp4` or `../a.mp4`, seen from `folder`; None from another Windows drive.

    >>> relative_url(Path("/films/a.mp4"), Path("/films")), relative_url(Path("/a.mp4"), Path("/b"))
    ('./a.mp4', '../a.mp4')
    """
    try:
        text = Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return None
    return text if text.startswith("../") else f"./{text}"


def _header(
    root: Element, spotting: Spotting, folder: Path | None, notes: list[str], total: int
) -> None:
    header = SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    if spotting.media is not None:
        mime = MIME.get(spotting.media.suffix.lower(), "video/*")
        link = {"MEDIA_URL": clean(media_url(spotting.media)), "MIME_TYPE": mime}
        relative = None if folder is None else relative_url(spotting.media, folder.absolute())
        if relative is not None:
            link["RELATIVE_MEDIA_URL"] = clean(relative)
        SubElement(header, "MEDIA_DESCRIPTOR", link)
    properties = [("lastUsedAnnotationId", str(total)), ("spotjax:video", spotting.video)]
    properties += [("spotjax:system", spotting.system), ("spotjax:caution", CAUTION)]
    properties += [("spotjax:warning", text) for text in spotting.warnings]
    properties += [("spotjax:merged", text) for text in notes]
    for name, text in properties:
        SubElement(header, "PROPERTY", {"NAME": name}).text = clean(text)


def _tiers(root: Element, tiers: dict[str, list[tuple[Span, str]]], annotator: str) -> None:
    """Time slots of all the tiers in order, then the tiers."""
    order = SubElement(root, "TIME_ORDER")
    ends = [
        (ms, name, number, end)
        for name, found in tiers.items()
        for number, (span, _) in enumerate(found)
        for end, ms in enumerate((span.start, span.end))
    ]
    slots = {}
    for slot, (ms, *key) in enumerate(sorted(ends), 1):
        slots[tuple(key)] = f"ts{slot}"
        SubElement(order, "TIME_SLOT", {"TIME_SLOT_ID": f"ts{slot}", "TIME_VALUE": str(ms)})
    count = 0
    for name, found in tiers.items():
        tier = SubElement(
            root, "TIER", {"ANNOTATOR": annotator, "LINGUISTIC_TYPE_REF": KIND, "TIER_ID": name}
        )
        for number, (_, text) in enumerate(found):
            count += 1
            annotation = SubElement(
                SubElement(tier, "ANNOTATION"),
                "ALIGNABLE_ANNOTATION",
                {
                    "ANNOTATION_ID": f"a{count}",
                    "TIME_SLOT_REF1": slots[name, number, 0],
                    "TIME_SLOT_REF2": slots[name, number, 1],
                },
            )
            SubElement(annotation, "ANNOTATION_VALUE").text = clean(text)
