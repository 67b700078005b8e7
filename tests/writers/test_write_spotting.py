"""The set of files of one video."""

import json
from pathlib import Path

import pytest
from spottings import ODD, make_spotting

from spotjax import files, writers

DEFAULT = ["a.spot.csv", "a.frames.csv", "a.spot.json", "a.eaf"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_default_set(tmp_path: Path) -> None:
    found = writers.write(tmp_path / "new/out", "a", make_spotting())
    assert [path.name for path in found] == DEFAULT
    assert names(tmp_path / "new/out") == sorted(DEFAULT)


def test_all_the_extras(tmp_path: Path) -> None:
    found = writers.write(tmp_path, "a", make_spotting(), writers.EXTRAS, megc_base=0)
    more = ["a.boris", "a.boris.tsv", "a.srt", "a.megc.csv", "a.activitynet.json"]
    assert [path.name for path in found] == DEFAULT + more
    assert (tmp_path / "a.megc.csv").read_text().splitlines()[1] == "interview,2,4,mae"
    assert not (tmp_path / "a.boris.tsv").read_bytes().endswith(b"\n")


def test_links_are_seen_from_the_folder(tmp_path: Path) -> None:
    media = tmp_path / ODD
    writers.write(tmp_path / "out", "a", make_spotting(media=media), ["boris"])
    assert 'RELATIVE_MEDIA_URL="../' in (tmp_path / "out/a.eaf").read_text("utf-8")
    writers.write(tmp_path, "a", make_spotting(media=media), ["boris"])
    assert 'RELATIVE_MEDIA_URL="./' in (tmp_path / "a.eaf").read_text("utf-8")
    (found,) = json.loads((tmp_path / "a.boris").read_text())["observations"].values()
    assert found["file"]["1"] == [ODD]


def test_a_name_that_is_no_unicode_can_be_written(tmp_path: Path) -> None:
    media = Path("/films/a\udcff.mp4").absolute()
    spotting = make_spotting(video=media.name, media=media)
    writers.write(tmp_path, "a", spotting, writers.EXTRAS)
    assert json.loads((tmp_path / "a.spot.json").read_text("utf-8"))["video"] == "a\ufffd.mp4"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", make_spotting(), ["elan"]), r"unknown files \['elan'\]: only boris"),
        (("a", make_spotting(), ["megc"], 3), "base 3"),
        (("b/a", make_spotting()), "'b/a' is no name"),
        (("", make_spotting()), "no name"),
        (("a", make_spotting(fps=-1.0)), "fps"),
        (("a", make_spotting(provenance={"date": "2025-11-25", "x": object()})), "JSON"),
    ],
)
def test_nothing_is_written_when_something_is_wrong(
    tmp_path: Path, arguments: tuple, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        writers.write(tmp_path, *arguments)
    assert names(tmp_path) == []


def test_files_go_through_the_atomic_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(files, "write_text", lambda path, text: seen.append(path.name))
    writers.write(tmp_path, "a", make_spotting())
    assert seen == DEFAULT
    assert names(tmp_path) == []
