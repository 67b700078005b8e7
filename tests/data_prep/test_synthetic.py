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

from data_prep.synthetic import generate, main
from data_prep.synthetic_fields import ACTIONS, LID_LEVELS
from data_prep.synthetic_layouts import CASME2_CLIPS, CASME2_SUBJECTS, NOISE, VideoTask
from data_prep.synthetic_motion import AT_200_FPS, MACRO, MICRO, VISIBLE_PX, Pace
from data_prep.synthetic_render import Renderer
from spotjax.errors import UserError

SECONDS = 2.0
WORKBOOK = "CAS(ME)^2code_final.xlsx"
FIRST = "rawpic/s15/15_0101disgustingteeth"
SECOND = "rawpic/s16/16_0101disgustingteeth"


def task(
    subject: int = 0,
    video: int = 0,
    seconds: float = 30.0,
    seed: int = 0,
    layout: str = "casme2",
) -> VideoTask:
    return VideoTask(layout, Path("unused"), subject, video, seconds, seed)


def draw(renderer: Renderer, index: int) -> Any:
    return renderer.draw(index, renderer.source_map(index))


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
    assert len(CASME2_SUBJECTS) == 22 and CASME2_SUBJECTS[:3] == ("s15", "s16", "s19")
    assert {"s17", "s18", "s28", "s39"}.isdisjoint(CASME2_SUBJECTS)
    assert CASME2_SUBJECTS[-1] == "s40"
    assert [code for code, _, _ in CASME2_CLIPS][-3:] == ["0505", "0507", "0508"]


def test_labels_of_the_first_format_never_change() -> None:
    labels = [
        (subject, video, event.onset, event.apex, event.offset, event.display.action_units,
         event.display.emotion, event.kind)
        for subject in range(3)
        for video in range(5)
        for event in task(subject, video, seconds=40.0, seed=3).motion().expressions
    ]  # fmt: skip
    assert len(labels) == 119
    found = hashlib.sha256(json.dumps(labels).encode()).hexdigest()
    assert found == "f5a124b179631941383640ccd2c0eb38c1bf91a2739f2b2eab6e350216e18a9a"


def test_frames_of_the_first_format_never_change() -> None:
    """Every tenth green value of row 330 at an apex; another CPU may round a few differently."""
    video = task(1, 1, seconds=10.0, seed=3)
    motion = video.motion()
    renderer = Renderer(video.face(), motion, video.generator(NOISE))
    row = draw(renderer, motion.expressions[0].apex - 1)[330, ::10, 1].astype(int)
    pinned = (
        "8c928b8c908b8a8c8b8288837f6962330200000085acb8b7bbb79c9c9fa4a6a0"
        "867b8da5bb9f948569b199989c999a9696959394928f8c8d908f919391918f91"
    )
    assert (np.abs(row - list(bytes.fromhex(pinned))) <= 1).mean() > 0.9


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
    assert sheet(tmp_path, "naming rule2") == [[code, name] for code, _, name in CASME2_CLIPS]


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
    "words",
    [
        ("--subjects", "0"),
        ("--subjects", "23"),
        ("--videos", "10"),
        ("--seconds", "-3"),
        ("--seconds", "nan"),
        ("--seed", "-1"),
        ("--jobs", "-1"),
        ("--layout", "samm"),
        ("--subjects", "31", "--layout", "samm_lv"),
        ("--videos", "8", "--layout", "samm_lv"),
        ("--subjects", "99", "--layout", "casme3"),
        ("--videos", "14", "--layout", "casme3"),
    ],
)
def test_bad_arguments_end_in_one_line(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "out"), *words]) == 2
    option, value = words[:2]
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


@pytest.mark.parametrize("layout", ["casme2", "samm_lv", "casme3"])
def test_labels_follow_from_the_strengths(layout: str) -> None:
    seen = {MACRO: 0, MICRO: 0}
    for subject in range(6):
        video = task(subject, seconds=20.0, layout=layout)
        motion, pace = video.motion(), video.style.pace
        assert {event.kind for event in motion.expressions} == {MACRO, MICRO}
        last = 1 - pace.gap
        for event in motion.expressions:
            seen[event.kind] += 1
            frames = np.arange(event.first, event.first + len(event.profile))
            visible = frames[event.profile > VISIBLE_PX]
            assert (event.onset, event.offset) == (visible[0], visible[-1])
            assert event.apex == frames[event.profile.argmax()]
            assert (event.profile == event.profile.max()).sum() == 1
            assert len(event.profile) <= pace.lengths[event.kind][1]
            assert event.first - last > pace.gap and event.offset <= video.frames
            last = event.first + len(event.profile) - 1
            strongest = motion.actions[event.apex - 1].max()
            assert strongest == pytest.approx(event.profile.max())
    assert min(seen.values()) >= 6


def test_time_runs_in_seconds() -> None:
    """At 200 fps people are as quick as at 30: the same means, in seconds, of what they do."""
    means = []
    for layout in ("casme2", "samm_lv"):
        facts = []
        for subject in range(12):
            video = task(subject, seconds=30.0, layout=layout)
            motion, fps = video.motion(), video.style.pace.fps
            moved = np.abs(np.diff(motion.head[:, :2], axis=0)).mean() * fps
            facts.append(
                [(motion.lids > 0).mean(), (motion.actions > 0).any(axis=1).mean(), moved]
                + [
                    np.mean([len(e.profile) / fps for e in motion.expressions if e.kind == kind])
                    for kind in (MACRO, MICRO)
                ]
            )
        means.append(np.mean(facts, axis=0))
    np.testing.assert_allclose(means[1], means[0], rtol=0.25)
    assert AT_200_FPS.gap == 100 and Pace(30, {}).gap == 15


@pytest.mark.parametrize("layout", ["casme2", "samm_lv", "casme3"])
def test_measured_motion_is_the_labelled_one(layout: str) -> None:
    """Farneback between the frame before onset and the apex sees the stated displacement."""
    video = task(subject=1, seconds=20.0, seed=5, layout=layout)
    grey = "grey" in video.style.images
    face, motion = video.face(), video.motion()
    motion.head[:] = 0.0
    motion.lids[:] = 0
    renderer = Renderer(face, motion, video.generator(NOISE), grey=grey)
    region = face.region
    for event in motion.expressions:
        rest, apex = (
            image if grey else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
            for number in (max(1, event.onset - 1), event.apex)
            for image in [draw(renderer, number - 1)]
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
    words += ["--videos", "1", "--seconds", "3", "--jobs", "2"]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(out.glob(".partial-*/*/img0[3-9]*.jpg")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL and not (out / "CAS(ME)^2code_final.xlsx").exists()
    subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
    assert [len(list(v.iterdir())) for v in sorted(out.glob("rawpic/*/*"))] == [90, 90]
    assert not list(out.glob(".partial-*"))


def test_calm_videos_show_expressions_alone():
    usual, calm = (
        VideoTask("casme2", Path("unused"), 1, 0, 60.0, 0, calm=calm).motion()
        for calm in (False, True)
    )
    assert [e.onset for e in calm.expressions] == [e.onset for e in usual.expressions]
    assert usual.lids.any() and not calm.lids.any()
    shown = np.zeros(len(calm.actions), bool)
    for event in calm.expressions:
        shown[event.first - 1 : event.first - 1 + len(event.profile)] = True
    assert not calm.actions[~shown].any() and usual.actions[~shown].any()
    assert np.abs(np.diff(calm.head, axis=0)).max() < np.abs(np.diff(usual.head, axis=0)).max()


def test_a_calm_set_is_another_set(tmp_path):
    generate(tmp_path, subjects=1, videos=1, seconds=1, seed=3, calm=True, progress=False)
    with pytest.raises(UserError, match=r"another synthetic set \(other calm\)"):
        generate(tmp_path, subjects=1, videos=1, seconds=1, seed=3, progress=False)
