"""ELAN files: by hand, read back by pympi, and against the format's own schema where it is here."""

import os
import tempfile
import xml.etree.ElementTree as ElementTree
from datetime import datetime
from pathlib import Path

import numpy as np
import pympi
import pytest
import xmlschema
from hypothesis import given, settings
from spottings import MACRO, MICRO, ODD, make_spotting, spottings

from spotjax.spotting import Spotting
from spotjax.types import Detection
from spotjax.writers import eaf

Annotations = dict[str, list[tuple[int, int, str]]]
OUT = Path("/films/out").absolute()


def read(text: str) -> tuple[pympi.Elan.Eaf, Annotations]:
    """What pympi gets: milliseconds and value of each annotation, by tier, in order of time."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.eaf")
        path.write_text(text, encoding="utf-8")
        document = pympi.Elan.Eaf(path)
    tiers = document.get_tier_names()
    return document, {t: sorted(document.get_annotation_data_for_tier(t)) for t in tiers}


def occupied(found: list[tuple[int, int]]) -> set[int]:
    return {ms for start, end in found for ms in range(start, end)}


def rounded(spotting: Spotting, d: Detection) -> tuple[int, int]:
    start = round(spotting.onset_s(d) * 1000)
    return start, max(round(spotting.offset_s(d) * 1000), start + 1)


def test_annotations_by_hand() -> None:
    document, tiers = read(eaf(make_spotting(), OUT))
    assert tiers == {
        "spotjax:macro": [(80, 200, "macro 0.750")],
        "spotjax:micro": [(160, 240, "micro 0.500 happiness")],
        "spotjax:apex": [(120, 160, "macro 0.750"), (160, 200, "micro 0.500 happiness")],
    }
    assert document.adocument["AUTHOR"] == "spotjax 0.1.0"
    assert document.adocument["DATE"] == "2025-11-25T14:03:07+01:00"
    assert dict(document.properties)["lastUsedAnnotationId"] == "4"


def test_tiers_stand_there_when_nothing_was_found() -> None:
    _, tiers = read(eaf(make_spotting(())))
    assert tiers == {"spotjax:macro": [], "spotjax:micro": [], "spotjax:apex": []}


def test_overlapping_detections_of_a_type_are_one_annotation_that_says_so() -> None:
    found = (
        Detection(0, 1, 3, "macro", 0.5, "anger"),
        Detection(1, 2, 2, "micro", 0.3),
        Detection(3, 4, 5, "macro", 0.9, "joy"),
        Detection(5, 5, 5, "macro", 0.2),
        Detection(6, 7, 7, "macro", 0.4),
    )
    document, tiers = read(eaf(make_spotting(found)))
    assert tiers["spotjax:macro"] == [
        (0, 240, "macro 0.900 joy (3 merged)"),
        (240, 320, "macro 0.400"),
    ]
    assert tiers["spotjax:micro"] == [(40, 120, "micro 0.300")]
    assert [a[:2] for a in tiers["spotjax:apex"]] == [(80, 120), (160, 200), (280, 320)]
    assert [text for name, text in document.properties if name == "spotjax:merged"] == [
        "macro: overlapping detections are one here: frames 0-3 (0.500), 3-5 (0.900), 5-5 (0.200)"
    ]


def test_apexes_of_two_types_in_one_frame_share_an_annotation() -> None:
    _, tiers = read(eaf(make_spotting((MACRO, MICRO._replace(onset=3, apex=3)))))
    assert tiers["spotjax:apex"] == [(120, 160, "macro 0.750 + micro 0.500 happiness")]


def test_media_links_are_literal_as_elan_takes_them() -> None:
    media = Path("/films/my films", ODD).absolute()
    text = eaf(make_spotting(video=ODD, media=media, warnings=("a < b & c",)), OUT)
    document, _ = read(text)
    assert document.media_descriptors == [
        {
            "MEDIA_URL": f"file:///films/my films/{ODD}",
            "RELATIVE_MEDIA_URL": f"../my films/{ODD}",
            "MIME_TYPE": "video/mp4",
        }
    ]
    properties = dict(document.properties)
    assert properties["spotjax:video"] == ODD
    assert properties["spotjax:warning"] == "a < b & c"


@pytest.mark.parametrize(
    ("name", "mime"),
    [("a.MP4", "video/mp4"), ("a.mov", "video/quicktime"), ("a.mpg", "video/mpeg"),
     ("a.webm", "video/*"), ("a", "video/*")],
)  # fmt: skip
def test_mime_type_by_suffix(name: str, mime: str) -> None:
    document, _ = read(eaf(make_spotting(media=Path("/films", name).absolute())))
    (link,) = document.media_descriptors
    assert link["MIME_TYPE"] == mime
    assert "RELATIVE_MEDIA_URL" not in link


def test_without_a_media_file_there_is_no_link() -> None:
    document, _ = read(eaf(make_spotting(media=None), OUT))
    assert document.media_descriptors == []


def test_characters_that_xml_cannot_hold_are_replaced() -> None:
    document, _ = read(eaf(make_spotting(video="a\x00\x1b\udcff\ufffe.mp4")))
    assert dict(document.properties)["spotjax:video"] == "a" + "\ufffd" * 4 + ".mp4"


@settings(deadline=None, max_examples=50)
@given(spottings())
def test_pympi_reads_the_same_intervals(spotting: Spotting) -> None:
    _, tiers = read(eaf(spotting, OUT))
    for found in tiers.values():
        assert all(start < end for start, end, _ in found)
        assert all(a[1] <= b[0] for a, b in zip(found, found[1:], strict=False))
    for type in ("macro", "micro"):
        found = [(start, end) for start, end, _ in tiers[f"spotjax:{type}"]]
        wanted = [rounded(spotting, d) for d in spotting.detections if d.type == type]
        assert occupied(found) == occupied(wanted)
        inside = [sum(a <= start and end <= b for a, b in found) for start, end in wanted]
        assert inside == [1] * len(wanted)
        assert {start for start, _ in found} <= {start for start, _ in wanted}
    starts = {round(spotting.apex_s(d) * 1000) for d in spotting.detections}
    assert {start for start, _, _ in tiers["spotjax:apex"]} <= starts
    assert bool(tiers["spotjax:apex"]) == bool(spotting.detections)


@settings(deadline=None, max_examples=50)
@given(spottings())
def test_references_and_order_hold(spotting: Spotting) -> None:
    root = ElementTree.fromstring(eaf(spotting, OUT).encode())
    names = [child.tag for child in root]
    assert names == ["HEADER", "TIME_ORDER", *["TIER"] * 3, "LINGUISTIC_TYPE"]
    assert datetime.fromisoformat(root.attrib["DATE"]) == spotting.date
    slots = {s.attrib["TIME_SLOT_ID"]: int(s.attrib["TIME_VALUE"]) for s in root[1]}
    assert list(slots.values()) == sorted(slots.values())
    annotations = list(root.iter("ALIGNABLE_ANNOTATION"))
    used = [a.attrib[f"TIME_SLOT_REF{i}"] for a in annotations for i in (1, 2)]
    assert sorted(used) == sorted(slots)
    ids = [a.attrib["ANNOTATION_ID"] for a in annotations]
    assert len({*ids, *slots}) == len(ids) + len(root[1])
    kinds = {t.attrib["LINGUISTIC_TYPE_REF"] for t in root.iter("TIER")}
    assert kinds == {root[-1].attrib["LINGUISTIC_TYPE_ID"]}


@pytest.fixture(scope="module")
def schema() -> xmlschema.XMLSchema:
    """EAFv3.0.xsd of the Max Planck Institute.  It states no licence, so no copy lies here.

    The source distribution of pympi-ling has one (`test/EAFv3.0.xsd`).
    """
    path = os.environ.get("EAF_SCHEMA", "")
    if not path:
        pytest.skip("EAF_SCHEMA does not name a copy of EAFv3.0.xsd")
    return xmlschema.XMLSchema(path)


def test_the_schema_holds_by_hand(schema: xmlschema.XMLSchema) -> None:
    merged = (MACRO, MACRO._replace(score=0.9), MICRO)
    media = Path("/films", ODD).absolute()
    schema.validate(eaf(make_spotting(merged, video=ODD, media=media), OUT))
    with pytest.raises(xmlschema.XMLSchemaValidationError):
        schema.validate(eaf(make_spotting()).replace('"ts2"', '"ts1"'))


@settings(deadline=None, max_examples=50)
@given(spotting=spottings())
def test_the_schema_holds(schema: xmlschema.XMLSchema, spotting: Spotting) -> None:
    schema.validate(eaf(spotting, OUT))


def test_a_long_video_keeps_its_milliseconds() -> None:
    times = 40_000 + np.arange(8) / 25
    _, tiers = read(eaf(make_spotting(times=times)))
    assert tiers["spotjax:macro"] == [(40_000_080, 40_000_200, "macro 0.750")]
