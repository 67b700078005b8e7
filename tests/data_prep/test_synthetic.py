"""The synthetic CAS(ME)^2: layout, labels, determinism, resuming and refusals."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from python_calamine import CalamineWorkbook

from data_prep.synthetic import CLIPS, SUBJECTS, WORKBOOK, generate, main
from data_prep.synthetic_fields import ACTIONS, LID_LEVELS
from data_prep.synthetic_motion import LENGTHS, MACRO, MICRO, NEUTRAL_GAP, VISIBLE_PX
from data_prep.synthetic_render import NOISE, Renderer, VideoTask
from spotjax.errors import UserError

SECONDS = 2.0
FIRST = "rawpic/s15/15_0101disgustingteeth"
SECOND = "rawpic/s16/16_0101disgustingteeth"


def task(subject: int = 0, video: int = 0, seconds: float = 30.0, seed: int = 0) -> VideoTask:
    return VideoTask(Path("unused"), "unused", subject, video, "happy", seconds, seed)


def digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        total.update(path.name.encode() + path.read_bytes())
    return total.hexdigest()


def sheet(root: Path, name: str) -> list[list[Any]]:
    return CalamineWorkbook.from_path(root / WORKBOOK).get_sheet_by_name(name).to_python()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects with one video each, by two processes."""
    out = tmp_path_factory.mktemp("synthetic") / "two"
    generate(out, subjects=2, videos=1, seconds=SECONDS, seed=3, jobs=2, progress=False)
    return out


def test_frames_lie_where_casme2_has_them(two: Path) -> None:
    assert sorted(str(p.relative_to(two)) for p in two.glob("rawpic/*/*")) == [FIRST, SECOND]
    names = sorted(p.name for p in (two / FIRST).iterdir())
    assert names == [f"img{n:03d}.jpg" for n in range(1, 61)]
    image = cv2.imread(str(two / FIRST / "img001.jpg"))
    assert image is not None and image.shape == (480, 640, 3)
    assert sorted(p.name for p in two.iterdir()) == [".lock", WORKBOOK, "rawpic", "synthetic.json"]


def test_names_of_the_real_set() -> None:
    assert len(SUBJECTS) == 22 and SUBJECTS[:3] == ("s15", "s16", "s19")
    assert {"s17", "s18", "s28", "s39"}.isdisjoint(SUBJECTS) and SUBJECTS[-1] == "s40"
    assert [code for code, _, _ in CLIPS][-3:] == ["0505", "0507", "0508"]


def test_workbook_has_three_sheets_without_headers(tmp_path: Path) -> None:
    generate(tmp_path, subjects=1, videos=1, seconds=4, seed=3, progress=False)
    labels = sheet(tmp_path, "CASFEcode_final")
    assert labels
    for number, row in enumerate(labels, start=1):
        subject, clip, onset, apex, offset, _, emotion, kind, report = row
        assert subject == 1 and clip == f"disgust1_{number}" and report == "disgust"
        assert 1 <= onset <= apex <= offset <= 120
        assert emotion in {"negative", "positive", "surprise", "others"}
        assert kind in {MACRO, MICRO}
    assert sheet(tmp_path, "naming rule1") == [[15, "s15", 1]] * len(labels)
    assert sheet(tmp_path, "naming rule2") == [[code, name] for code, _, name in CLIPS]


def test_bytes_depend_on_seed_subject_and_video_only(two: Path, tmp_path: Path) -> None:
    generate(tmp_path / "one", subjects=1, videos=1, seconds=SECONDS, seed=3, jobs=1)
    assert digest(tmp_path / "one" / FIRST) == digest(two / FIRST) != digest(two / SECOND)
    one, other = task(seed=1), task(seed=2)
    assert not np.array_equal(one.motion().actions, other.motion().actions)


def test_finished_videos_are_kept_and_missing_ones_rendered(two: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(two, out)
    labels = sheet(out, "CASFEcode_final")
    before = digest(out / SECOND)
    kept = (out / FIRST / "img001.jpg").stat().st_mtime_ns
    shutil.rmtree(out / SECOND)
    (out / WORKBOOK).unlink()
    half = out / ".partial-123" / "16_0101disgustingteeth"  # what a killed run leaves behind
    half.mkdir(parents=True)
    (half / "img999.jpg").write_bytes(b"")
    generate(out, subjects=2, videos=1, seconds=SECONDS, seed=3, progress=False)
    assert digest(out / SECOND) == before
    assert (out / FIRST / "img001.jpg").stat().st_mtime_ns == kept
    assert sheet(out, "CASFEcode_final") == labels
    assert not (out / ".partial-123").exists()


def test_another_set_in_the_same_folder_is_refused(two: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="another synthetic set .*seed"):
        generate(two, subjects=2, videos=1, seconds=SECONDS, seed=4)
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="not empty"):
        generate(tmp_path, subjects=1, videos=1, seconds=SECONDS, seed=0)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "synthetic.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="another synthetic set"):
        generate(broken, subjects=1, videos=1, seconds=SECONDS, seed=0)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--subjects", "0"),
        ("--subjects", "23"),
        ("--videos", "10"),
        ("--seconds", "-3"),
        ("--seconds", "nan"),
        ("--seed", "-1"),
        ("--jobs", "-1"),
        ("--layout", "samm"),
    ],
)
def test_bad_arguments_end_in_one_line(
    option: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "out"), option, value]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {option} {value}") and message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_full_disk_ends_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="the disk is full"):
        generate(tmp_path, subjects=1, videos=1, seconds=SECONDS, seed=0, progress=False)
    assert json.loads((tmp_path / "synthetic.json").read_text(encoding="utf-8"))["seed"] == 0
    assert not (tmp_path / FIRST).exists()


def test_labels_follow_from_the_strengths() -> None:
    seen = {MACRO: 0, MICRO: 0}
    for subject in range(6):
        motion = task(subject, seconds=20.0).motion()
        assert {event.kind for event in motion.expressions} == {MACRO, MICRO}
        last = 1 - NEUTRAL_GAP
        for event in motion.expressions:
            seen[event.kind] += 1
            frames = np.arange(event.first, event.first + len(event.profile))
            visible = frames[event.profile > VISIBLE_PX]
            assert (event.onset, event.offset) == (visible[0], visible[-1])
            assert event.apex == frames[event.profile.argmax()]
            assert (event.profile == event.profile.max()).sum() == 1
            assert len(event.profile) <= LENGTHS[event.kind][1]
            assert event.first - last > NEUTRAL_GAP and event.offset <= 600
            last = event.first + len(event.profile) - 1
            strongest = motion.actions[event.apex - 1].max()
            assert strongest == pytest.approx(event.profile.max())
    assert min(seen.values()) >= 6


def test_measured_motion_is_the_labelled_one() -> None:
    """Farneback between the frame before onset and the apex sees the stated displacement."""
    video = task(subject=1, seconds=20.0, seed=5)
    face, motion = video.face(), video.motion()
    motion.head[:] = 0.0
    motion.lids[:] = 0
    renderer = Renderer(face, motion, video.generator(NOISE))
    region = face.region
    for event in motion.expressions:
        rest, apex = (
            cv2.cvtColor(renderer.frame(number - 1), cv2.COLOR_BGR2GRAY)
            for number in (max(1, event.onset - 1), event.apex)
        )
        start = np.zeros((*rest.shape, 2), np.float32)
        flow = cv2.calcOpticalFlowFarneback(rest, apex, start, 0.5, 4, 21, 5, 7, 1.5, 0)
        flow = flow[region.y0 : region.y1, region.x0 : region.x1]
        field = np.tensordot(motion.actions[event.apex - 1], face.actions, 1)
        length = np.sqrt((field**2).sum(axis=-1))
        where = length > 0.85 * length.max()
        along = ((flow * field).sum(axis=-1) / np.maximum(length, 1e-6))[where].mean()
        expected = face.scale * length[where].mean()
        assert 0.7 * expected < along < 1.2 * expected


def test_every_action_moves_one_pixel_at_most() -> None:
    face = task().face()
    length = np.sqrt((face.actions**2).sum(axis=-1))
    np.testing.assert_allclose(length.max(axis=(1, 2)), 1.0, rtol=1e-5)
    assert face.actions.shape[0] == len(ACTIONS) and face.eyelids.shape[0] == LID_LEVELS
    raised = face.actions[ACTIONS.index("au12_R")]
    y, x = np.unravel_index(np.argmax(np.abs(raised[..., 1])), raised.shape[:2])
    corner = face.landmarks[48] - (face.region.x0, face.region.y0)
    assert raised[y, x, 1] < 0 and np.hypot(*(corner - (x, y))) < 20


def test_a_second_video_shows_the_same_person_elsewhere() -> None:
    first, second = task(video=0).face(), task(video=1).face()
    assert not np.array_equal(first.landmarks, second.landmarks)
    shapes = [
        (face.landmarks - face.landmarks[30])
        / np.linalg.norm(face.landmarks[45] - face.landmarks[36])
        for face in (first, second)
    ]
    np.testing.assert_allclose(shapes[0], shapes[1], atol=0.1)


def test_neither_jax_nor_dlib_is_imported() -> None:
    code = (
        "import sys, data_prep.synthetic; "
        "print([m for m in ('jax', 'flax', 'optax', 'dlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_killed_rendering_goes_on_and_leaves_no_short_video(tmp_path: Path) -> None:
    out = tmp_path / "set"
    words = [sys.executable, "-m", "data_prep.synthetic", str(out), "--subjects", "2"]
    words += ["--videos", "1", "--seconds", "4", "--jobs", "2"]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(out.glob(".partial-*/*/img0[3-9]*.jpg")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL and not (out / "CAS(ME)^2code_final.xlsx").exists()
    subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
    assert [len(list(v.iterdir())) for v in sorted(out.glob("rawpic/*/*"))] == [120, 120]
    assert not list(out.glob(".partial-*"))
