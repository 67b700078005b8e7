"""`python -m spotjax.spot`: files, exit codes and one line for what is no video."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from own_clips import bump, images, swing, write_clip

import spotjax
from spotjax import files, spot
from spotjax.errors import UserError
from spotjax.parameters import weights


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("spot") / "my clip.avi", images(swing(100)))


@pytest.fixture(scope="module")
def found(clip, tmp_path_factory):
    out = tmp_path_factory.mktemp("found")
    assert spot.main([str(clip), "--out", str(out), "--srt", "--boris"]) == 0
    return out


def test_the_package_brings_a_demonstration():
    known = weights.load(spot.DEMO)
    assert known.config.system.name == "softnet" and known.problems == ("macro", "micro")
    assert any("rendered" in note for note in known.notes)
    assert spot.DEMO.stat().st_size < 3_000_000


def test_one_command_writes_what_the_help_says(found, clip):
    names = {path.name for path in found.iterdir() if path.name != files.LOCK}
    ends = ("spot.csv", "frames.csv", "spot.json", "eaf", "html", "srt", "boris", "boris.tsv")
    assert names == {f"my clip.{end}" for end in ends}
    with open(found / "my clip.frames.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [int(row["frame"]) for row in rows] == list(range(100))
    result = json.loads((found / "my clip.spot.json").read_text())
    assert any("rendered faces" in text for text in result["warnings"])


def test_the_same_result_without_files(found, clip):
    spotting = spotjax.spot(clip)
    with open(found / "my clip.spot.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(d.type, d.onset, d.offset) for d in spotting.detections] == [
        (row["type"], int(row["onset_frame"]), int(row["offset_frame"])) for row in rows
    ]


def test_inserted_movements_of_a_real_face_are_found():
    """A photograph whose mouth moves: 1.2 s by 4 px of a face 93 px wide, twice."""
    length, spans = 300, ((60, 96), (190, 226))
    shifts = sum(bump(length, onset, offset, 4.0) for onset, offset in spans)
    rng = np.random.default_rng(0)
    noisy = [
        np.clip(image + rng.normal(0, 1, image.shape), 0, 255).astype(np.uint8)[..., ::-1]
        for image in images(shifts)
    ]
    spotting = spotjax.spot(np.stack(noisy), fps=30)
    macro = [d for d in spotting.detections if d.type == "macro"]
    for onset, offset in spans:
        overlaps = [
            (min(d.offset, offset) - max(d.onset, onset) + 1)
            / (max(d.offset, offset) - min(d.onset, onset) + 1)
            for d in macro
        ]
        assert max(overlaps, default=0) >= 0.5
    assert len(macro) <= 3


def test_a_movement_at_the_very_end_is_found():
    shifts = np.minimum(bump(100, 70, 140, 4.0), 4.0)  # at its height in the last frames
    spotting = spotjax.spot(np.stack(images(shifts))[..., ::-1], fps=30)
    assert any(d.type == "macro" and d.onset <= 80 and d.offset >= 90 for d in spotting.detections)


def test_a_program_must_say_the_rate():
    with pytest.raises(UserError, match="frames need their rate"):
        spotjax.spot(np.zeros((3, 8, 8), np.uint8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.mp4"], "error: gone.mp4: No such file"),
        (["text.mp4"], "error: text.mp4: cannot be opened as a video"),
        (["text.mp4", "--face", "0"], "error: --face 0: count faces from 1"),
        (["text.mp4", "--fps", "-3"], "error: --fps -3: frames per second"),
        (["text.mp4", "--weights", "gone.npz"], "error: gone.npz"),
        (["text.mp4", "--weights", "text.mp4"], "error: text.mp4"),
        (["text.mp4", "text.mp4/"], "error: text.mp4"),
        (["a/x.mp4", "b/x.avi"], "error: b/x.avi: another video is called x too"),
    ],
)
def test_one_line_for_what_cannot_be_used(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.mp4").write_text("no video")
    assert spot.main([*arguments, "--out", "out"]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and error[0].startswith(message)


def test_results_need_a_folder(clip, tmp_path, capsys):
    taken = tmp_path / "taken"
    taken.write_text("a file")
    for out in (taken, taken / "below"):
        assert spot.main([str(clip), "--out", str(out)]) == 2
        assert f"error: --out {out}: " in (error := capsys.readouterr().err)
        assert "name a folder that can be written" in error and error.count("\n") == 1


def test_several_videos_and_one_bad_one(tmp_path, capsys):
    clips = [write_clip(tmp_path / f"{n}.avi", images(swing(20))) for n in "ab"]
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    arguments = [str(clips[0]), str(bad), str(clips[1]), "--out", str(tmp_path / "out")]
    assert spot.main(arguments) == 2
    assert capsys.readouterr().err.count("error: ") == 1
    assert {p.name for p in (tmp_path / "out").glob("*.spot.csv")} == {"a.spot.csv", "b.spot.csv"}
    assert not list((tmp_path / "out").glob(".*.partial"))


def test_a_pipe_is_read_as_it_comes(clip, tmp_path):
    command = [sys.executable, "-m", "spotjax.spot", "-", "--out", str(tmp_path)]
    with open(clip, "rb") as stream:
        ended = subprocess.run(command, stdin=stream, capture_output=True, text=True, check=True)
    assert "stdin: " in ended.stdout and "Traceback" not in ended.stderr
    assert (tmp_path / "stdin.eaf").is_file()
