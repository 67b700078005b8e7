"""SpotFormer's stream over a video: clips, their ends, lost faces, and errors that name a frame."""

from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import ValidationError
from tiny_sets import landmarks, make_set, video_folder, write_landmarks

from data_prep import extract_spotformer, readers, swmro, video
from data_prep.extract_spotformer import clip_frames, complete
from data_prep.features import Extracted, FeatureSpec, frames_of
from data_prep.swmro_reduce import REDUCTIONS
from spotjax.config import Data, Face, SpotformerFeatures
from spotjax.errors import UserError

LENGTH, WINDOW = 12, 5


@pytest.fixture
def short(tmp_path: Path) -> Path:
    """A data set of one video of 12 frames, whose mouth moves down and up."""
    code = "0101"
    rows = ((1, "disgust1_1", 2, 4, 6, "4", "negative", "macro-expression", "disgust"),)
    return make_set(tmp_path / "set", (("s15", code, LENGTH),), rows)


def settings(root: Path, **changes: object) -> SpotformerFeatures:
    face = Face(backend="csv", csv=str(root.parent / "landmarks"))
    return SpotformerFeatures(face=face, **({"window": WINDOW} | changes))  # type: ignore[arg-type]


def extract(root: Path, **changes: object) -> tuple[FeatureSpec, Extracted]:
    dataset = readers.read(Data(layout="casme2"), root)
    spec = extract_spotformer.spec(settings(root, **changes), dataset)
    spec.check()
    done: list[int] = []
    found = spec.extract(dataset.videos[0], done.append)
    assert sum(done) == dataset.videos[0].num_frames
    return spec, found


def test_streams(short: Path) -> None:
    spec, found = extract(short)
    assert spec.k == {"macro": 2, "micro": 2}
    assert set(found.rows) == set(spec.streams)
    for name, stream in spec.streams.items():
        assert found.rows[name].shape == (LENGTH, *stream.shape)
        assert found.rows[name].dtype == stream.dtype
    assert spec.bytes_per_frame == 5 * 10 * 2 * 2 + 1 + 16
    assert found.crop == swmro.face_box(landmarks())
    assert found.rows["valid_both"].all() and found.face.all()
    default = extract_spotformer.streams(SpotformerFeatures().window)
    assert default["swmro"] == ((17, 10, 2), "float16")


@pytest.mark.parametrize("motion", ["window", "adjacent"])
def test_clips_at_the_ends_of_the_video(short: Path, motion: str) -> None:
    rows = extract(short, motion=motion)[1].rows["swmro"]
    assert not rows[:, 0].any()
    assert not rows[0, :3].any() and not rows[1, :2].any()  # copies of the first frame
    assert rows[0, 3:].any() and rows[1, 2:].any()
    if motion == "window":
        np.testing.assert_array_equal(rows[-1, 3], rows[-1, 2])  # copies of the last one
        np.testing.assert_array_equal(rows[-1, 4], rows[-1, 2])
        np.testing.assert_array_equal(rows[0, 3:], rows[1, 2:4])  # both from frame 0
    else:
        assert not rows[-1, 3:].any()
        np.testing.assert_array_equal(rows[4, 1:4], rows[3, 2:5])  # the same pairs


def test_mouth_goes_down_from_the_first_frame(short: Path) -> None:
    """`tiny_sets.frame`: by up to 2 px around (123, 148), in 10 frames."""
    plain = {"reduction": "mean", "align": False, "residual": False}
    rows = extract(short, **plain)[1].rows["swmro"].astype(np.float32)
    lip = rows[4, :, 8, 1]  # frames 2 to 6
    assert (np.diff(lip) > 0).all() and lip[-1] > 1
    assert np.abs(rows[4, :, :6]).max() < 0.1 * lip[-1]


def test_a_row_is_its_clip(short: Path) -> None:
    """Nothing is carried over from other rows, so an interrupted run may start anywhere."""
    for reduction in ("mean", "mdmo8", "topk", "abpn"):
        features = settings(short, reduction=reduction)
        source = readers.read(Data(layout="casme2"), short).videos[0]
        frames = frames_of(source)
        plan = swmro.make_plan(landmarks(), "regions", features.margin)
        track, expected = swmro.start(plan), np.zeros((WINDOW, 10, 2))
        for entry in range(1, WINDOW):
            expected[entry], track = swmro.follow(
                plan, swmro.crop(frames[5], plan.face),
                partial(swmro.crop, frames[5 + entry], plan.face),
                track, REDUCTIONS[reduction], align=True, residual=True,
            )  # fmt: skip
        found = extract(short, reduction=reduction)[1].rows["swmro"][7]
        np.testing.assert_array_equal(found, expected.astype(np.float16))


def test_adjacent_is_one_pair(short: Path) -> None:
    whole, pairs = (extract(short, motion=motion)[1].rows for motion in ("window", "adjacent"))
    np.testing.assert_array_equal(pairs["swmro"][4, 1], whole["swmro"][4, 1])
    assert (pairs["swmro"][4, 2] != whole["swmro"][4, 2]).any()


@pytest.mark.parametrize("motion", ["window", "adjacent"])
def test_clips_without_a_face_are_invalid(short: Path, motion: str) -> None:
    there = [number for number in range(1, LENGTH + 1) if number != 10]
    write_landmarks(short.parent / "landmarks/s15/0101.csv", there)
    rows = extract(short, motion=motion)[1].rows
    assert np.flatnonzero(rows["valid_both"]).tolist() == list(range(7))  # frame 9 is missing
    assert not rows["swmro"][7:].any() and rows["swmro"][6].any()


def test_complete_counts_copies_as_their_frame() -> None:
    present = np.array([1, 1, 1, 1, 1, 1, 0], np.uint8)
    assert complete(present, 3).tolist() == [1, 1, 1, 1, 1, 0, 0]
    assert complete(present[::-1], 3).tolist() == [0, 0, 1, 1, 1, 1, 1]
    assert clip_frames(0, 5, 7).tolist() == [0, 0, 0, 1, 2]
    assert clip_frames(6, 5, 7).tolist() == [4, 5, 6, 6, 6]


def test_regions_and_face_agree(short: Path) -> None:
    regions, face = (
        extract(short, crops=crops, reduction="mean", window=3)[1].rows["swmro"]
        for crops in ("regions", "face")
    )
    np.testing.assert_allclose(
        regions.astype(np.float32), face.astype(np.float32), atol=1e-3, rtol=2**-10
    )


def test_every_frame_is_decoded_once(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = readers.read(Data(layout="casme2"), short).videos[0]
    features = settings(short)
    plan = swmro.make_plan(landmarks(), "regions", features.margin)
    frames, read = frames_of(source), []
    decode = video.read_grey
    monkeypatch.setattr(video, "read_grey", lambda path: read.append(path) or decode(path))
    out = np.zeros((LENGTH, WINDOW, 10, 2), np.float32)
    valid = np.ones(LENGTH, np.uint8)
    extract_spotformer.clips(features, plan, frames, valid, out, lambda frames: None)
    assert read == list(source.frames)


def test_a_video_shorter_than_the_window_is_refused(short: Path) -> None:
    assert extract(short, window=11)[1].rows["valid_both"].all()
    with pytest.raises(UserError, match="12 frames are too few: config.features.window=13 needs"):
        extract(short, window=13)


@pytest.mark.parametrize("window", [4, 1, 35])
def test_a_window_without_a_middle_is_refused(window: int) -> None:
    with pytest.raises(ValidationError, match="window"):
        SpotformerFeatures(window=window)


@pytest.mark.parametrize("motion", ["window", "adjacent"])
def test_errors_name_the_frame(short: Path, motion: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = video_folder(short) / "img004.jpg"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-2])
    with pytest.raises(UserError, match=r"img004\.jpg: the image is cut short"):
        extract(short, motion=motion)
    broken.write_bytes(whole)
    monkeypatch.setattr(
        cv2, "calcOpticalFlowFarneback", lambda first, *rest: np.full((*first.shape, 2), np.nan)
    )
    with pytest.raises(UserError, match=r"img002\.jpg: the flow is not finite"):
        extract(short, motion=motion)


def test_landmarks_outside_the_crop_name_the_video(short: Path) -> None:
    file = short.parent / "landmarks/s15/0101.csv"
    lines = [line.split(",") for line in file.read_text().splitlines()]
    lip = lines[0].index("y57")
    for cells in lines[1:]:
        cells[lip] = "999"
    file.write_text("\n".join(",".join(cells) for cells in lines) + "\n")
    with pytest.raises(UserError, match="15_0101something: the landmarks lie outside the face"):
        extract(short)


def test_a_face_at_the_edge_of_the_image(short: Path) -> None:
    """The box reaches beyond the image; the border is repeated."""
    cut = 75
    for path in video_folder(short).iterdir():
        path.write_bytes(cv2.imencode(".jpg", video.read_grey(path)[cut:])[1].tobytes())
    file = short.parent / "landmarks/s15/0101.csv"
    moved = (landmarks() - (0, cut)).T.ravel().tolist()
    lines = [",".join(map(str, [number, *moved])) for number in range(1, LENGTH + 1)]
    file.write_text("\n".join([file.read_text().splitlines()[0], *lines]) + "\n")
    found = extract(short)[1]
    assert found.crop[1] < 0 and found.rows["valid_both"].all()
    assert np.isfinite(found.rows["swmro"]).all() and found.rows["swmro"].any()
