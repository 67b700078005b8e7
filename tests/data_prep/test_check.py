"""`data_prep.check`: what a complete copy, an odd one and a broken one are told."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_placing import FIXTURES
from test_readers import touch_video
from tiny_sets import ROWS, config_file, make_config, make_set, video_folder, write_workbook

from data_prep import check, checks
from data_prep.published import FACTS, RELEASES
from data_prep.readers import RawDataset, RawVideo
from spotjax.config import Config, Data
from spotjax.types import Interval


def lines(config: Config, frames: int = 3) -> dict[str, list[checks.Check]]:
    found: dict[str, list[checks.Check]] = {}
    for item in check.check(config, frames)[1]:
        found.setdefault(item.subject, []).append(item)
    return found


def test_a_small_copy_is_odd_but_can_be_used(tiny: Path) -> None:
    found = lines(make_config(tiny))
    bad = [item for items in found.values() for item in items if item.status == "bad"]
    assert [item.text[:36] for item in bad] == [
        "macro is annotated for 1 subject(s):", "micro is annotated for 1 subject(s):",
    ]  # fmt: skip
    macro = found["macro"][0]
    assert (macro.status, macro.found, macro.expected) == ("odd", 1, 300)
    assert macro.text == "1, published are 300"
    assert found["subjects"][0].text == "2, published are 22"
    assert found["fps"][0] == checks.Check("ok", "fps", "30", [30.0])
    assert found["k macro"][0].text == "6 frames from the annotation, published 18"
    assert found["annotation"][0].status == "odd"
    assert found["faces"][0].text == "found in 3 of 3 sampled frames (csv)"
    assert "3 of 3 decoded, 320x240 px" in found["images"][0].text
    assert found["without annotation"][0].found == ["s15/0401", "s16/0101"]
    disk = found["disk"][0]
    assert disk.status == "ok" and disk.expected == 154 * (2 * (42 * 42 * 3 * 2 + 5) + 16)


def test_what_cannot_be_used_is_bad(tiny: Path) -> None:
    (video_folder(tiny) / "img007.jpg").unlink()
    (video_folder(tiny, "s15", "0401") / "img003.jpg").write_bytes(b"")
    found = lines(make_config(tiny), frames=200)
    assert found["video"][0].status == "bad"
    assert "15_0101something: frame 7 is missing" in found["video"][0].text
    assert "img003.jpg: the file is empty" in found["image"][0].text


def test_faces_that_are_not_found(tiny: Path) -> None:
    for file in (tiny.parent / "landmarks").rglob("*.csv"):
        text = file.read_text().splitlines()
        file.write_text("\n".join(text[:1]) + "\n")
    item = lines(make_config(tiny))["faces"][0]
    assert (
        item.status == "bad" and "found in 0 of 3" in item.text and "none in s15/0101" in item.text
    )


def make_video(*intervals: Interval, fps: float = 30.0, frames: int = 200) -> RawVideo:
    ids = np.arange(1, frames + 1, dtype=np.int32)
    return RawVideo("s1", "v", (), ids, fps, intervals, ("",) * len(intervals))


def test_odd_intervals() -> None:
    video = make_video(
        Interval(10, -1, 30, "macro"), Interval(20, -1, 40, "macro"), Interval(30, -1, 35, "micro"),
        Interval(50, -1, 50, "micro"), Interval(60, -1, 80, "micro"),
    )  # fmt: skip
    dataset = RawDataset("folder", (video,), ("a quirk: 1 (row 3)",), ())
    found = [(item.subject, item.found) for item in checks.check_intervals(dataset)]
    assert found == [
        ("overlaps", 1), ("overlaps", 2), ("single frame", 1), ("long micro", 1), ("quirk", None),
    ]  # fmt: skip
    assert all(item.status == "odd" for item in checks.check_intervals(dataset))


def test_frame_rates_and_samples() -> None:
    slow = make_video(Interval(1, 2, 3, "macro"), fps=12.5)
    dataset = RawDataset("folder", (slow, make_video()), (), ())
    config = Config(name="x", data=Data(layout="folder"))
    fps = next(item for item in checks.check_counts(config, dataset) if item.subject == "fps")
    assert fps.status == "odd" and "12.5, 30" in fps.text and "below 25 fps" in fps.text
    sample = checks.sampled(dataset.videos, 7)
    assert len(sample) == 7 and len({row for _, row in sample}) > 4
    assert {id(video) for video, _ in sample} == {id(video) for video in dataset.videos}
    assert all(0 <= row < 200 for _, row in sample) and checks.sampled((), 3) == []


def test_published_numbers_are_those_of_the_real_tables(shared) -> None:  # type: ignore[no-untyped-def]
    import hashlib

    folder = shared("annotations/original/CASME_sq_gt.xlsx").parent
    digests = {hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    assert digests == set(RELEASES)
    folds = json.loads(shared("annotations/normalized/loso_folds.json").read_text())
    for name, key in (
        ("casme2", "casme_sq"), ("samm_lv", "samm_lv"), ("casme3", "casme_cube_part_a_v2"),
    ):  # fmt: skip
        facts, table = FACTS[name], folds[key]
        assert (facts.subjects, facts.videos) == (table["subjects"], table["videos"])
        assert facts.rows["macro"] == sum(fold["MaE"] for fold in table["folds"])
        assert facts.rows["micro"] == sum(fold["ME"] for fold in table["folds"])
        if facts.frames:
            assert facts.frames == sum(fold["frames"] for fold in table["folds"])


def test_a_real_workbook_without_videos_is_complete_in_its_counts(tmp_path: Path, shared) -> None:  # type: ignore[no-untyped-def]
    shutil.copy(shared("annotations/original/SAMMLV_gt.xlsx"), tmp_path / "gt.xlsx")
    touch_video(tmp_path / "SAMM_longvideos/006_1", range(1, 8749), "006_1_{:04d}.jpg")
    found = lines(Config(name="x", data=Data(layout="samm_lv", root=str(tmp_path))), frames=0)
    assert found["annotation"][0].status == "ok"
    assert [found[name][0].status for name in ("subjects", "macro", "micro", "k macro")] == [
        "ok"
    ] * 4
    assert found["macro"][0].found == 333 and len(found["video"]) == 146


def test_the_command(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = config_file(tiny, tmp_path)
    rows = [*ROWS, *((2, *row[1:]) for row in ROWS)]
    write_workbook(tiny / "CAS(ME)^2code_final.xlsx", rows)
    out = tmp_path / "check.json"
    words = ["--config", str(file), "--frames", "2", "--json", str(out)]
    assert check.main([*words, "--export", str(tmp_path / "gt")]) == 0
    assert (tmp_path / "gt/truths.csv").read_text().splitlines() == [
        "subject,video,type,onset,apex,offset,emotion",
        "s15,0101,macro,11,15,23,negative",
        "s15,0101,micro,31,33,36,others",
        "s16,0101,macro,11,15,23,negative",
        "s16,0101,micro,31,33,36,others",
    ]
    assert (tmp_path / "gt/videos.csv").read_text().splitlines()[:2] == [
        "subject,video,frames", "s15,0101,60",
    ]  # fmt: skip
    text = capsys.readouterr().out
    assert f"casme2 at {tiny}" in text and "  odd  macro" in text and " 0 bad" in text
    content = json.loads(out.read_text())
    assert {"dataset", "root", "checks", "quirks", "versions"} == set(content)
    assert content["versions"]["cv2"] and content["checks"][0]["subject"] == "annotation"
    assert check.main(["--config", str(file), "--frames", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dataset"] == "casme2"
    (video_folder(tiny) / "img007.jpg").unlink()
    assert check.main(["--config", str(file)]) == 1
    write_workbook(tiny / "CAS(ME)^2code_final.xlsx", [ROWS[0][:6]])
    assert check.main(["--config", str(file)]) == 2
    assert "has 6 columns, needs 8" in capsys.readouterr().err
    assert check.main([]) == 2 and "--config is missing" in capsys.readouterr().err
    assert check.main(["--config", str(file), "--frames", "-1"]) == 2
    shutil.rmtree(tiny)
    assert check.main(["--config", str(file)]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_a_rendered_set_that_is_not_there_yet(tmp_path: Path) -> None:
    from spotjax.config import Synthetic
    from spotjax.errors import UserError

    config = Config(name="x", data=Data(synthetic=Synthetic(root=str(tmp_path / "none"))))
    with pytest.raises(UserError, match="the synthetic set is not rendered yet: run python -m"):
        check.check(config, 0)


def test_fixtures_are_read_by_the_check(tmp_path: Path) -> None:
    shutil.copy(FIXTURES / "casme_sq_code_final.xlsx", tmp_path / "code_final.xlsx")
    make_set(tmp_path / "set")
    for subject, code, length in (("s15", "0401", 160), ("s16", "0503", 330)):
        touch_video(video_folder(tmp_path, subject, code), range(1, length))
    found = lines(Config(name="x", data=Data(root=str(tmp_path))), frames=0)
    assert any("apex outside its interval" in item.text for item in found["quirk"])
    assert any("names video 0508 of subject s16" in item.text for item in found["video"])
