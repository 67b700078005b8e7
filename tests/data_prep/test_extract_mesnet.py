"""MESNet's streams: known shifts, the crop box, lost faces, fractional sampling, shards."""

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import openpyxl
import pytest
from pydantic import ValidationError
from tiny_sets import landmarks, make_set, manifest, video_folder, write_landmarks

from data_prep import extract_mesnet, faces, readers, video
from data_prep.extract_mesnet import landmark_box
from data_prep.features import Extracted
from data_prep.write_shards import prepare
from spotjax.config import Baselines, Config, Data, Face, MesnetFeatures
from spotjax.data import shards
from spotjax.errors import UserError

LENGTH = 8
BOX = (79, 84, 172, 179)
"""Of the tiny sets' landmarks: x 79 to 172, y 98.04 (brow) - 13.8 (eye below brow) to 179."""
SHIFT = (0.9, -0.6)  # px of the image per frame


@cache
def texture() -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(240, 320)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return (128 + 40 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)


def moved(x: float, y: float) -> bytes:
    """JPEG of the texture moved right and down by (x, y) px."""
    matrix = np.array([[1, 0, x], [0, 1, y]], np.float32)
    image = cv2.warpAffine(texture(), matrix, (320, 240), borderMode=cv2.BORDER_REFLECT)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set of one video that moves by `SHIFT` from frame to frame."""
    rows = ((1, "disgust1_1", 2, 4, 6, "4", "negative", "macro-expression", "disgust"),)
    made = make_set(tmp_path / "set", (("s15", "0101", LENGTH),), rows)
    for row, path in enumerate(sorted(video_folder(made).iterdir())):
        path.write_bytes(moved(row * SHIFT[0], row * SHIFT[1]))
    return made


def settings(root: Path, **changes: object) -> MesnetFeatures:
    face = Face(backend="csv", csv=str(root.parent / "landmarks"))
    return MesnetFeatures(face=face, **({"size": 64} | changes))  # type: ignore[arg-type]


def extract(root: Path, **changes: object) -> Extracted:
    source = readers.read(Data(layout="casme2"), root).videos[0]
    spec = extract_mesnet.spec(settings(root, **changes))
    spec.check()
    done: list[int] = []
    found = spec.extract(source, done.append)
    assert done == [1] * source.num_frames
    assert found.rows.keys() == spec.streams.keys()
    for name, stream in spec.streams.items():
        assert found.rows[name].shape == (source.num_frames, *stream.shape)
        assert found.rows[name].dtype == stream.dtype
    return found


def inner(flow: np.ndarray) -> np.ndarray:
    """f64[2]: the median flow away from the crop's border."""
    edge = flow.shape[-2] // 6
    return np.median(flow[..., edge:-edge, edge:-edge, :].astype(float), axis=(-3, -2))


@pytest.mark.parametrize("flow_size", [0, 64, 128, 150])
def test_a_shift_is_measured_in_px_of_the_size(root: Path, flow_size: int) -> None:
    found = extract(root, flow_size=flow_size)
    width, height = BOX[2] - BOX[0], BOX[3] - BOX[1]
    expected = [SHIFT[0] * 64 / width, SHIFT[1] * 64 / height]
    assert found.crop == BOX and found.rows["valid_both"].all()
    for row in range(LENGTH):
        np.testing.assert_allclose(inner(found.rows["flow"][row]), expected, rtol=0.1)


def test_flow_size_equal_to_size_is_plain_flow(root: Path) -> None:
    plain, same = extract(root), extract(root, flow_size=64)
    np.testing.assert_array_equal(plain.rows["flow"], same.rows["flow"])


def test_averaging_down_by_hand() -> None:
    """Four px of flow 8, 0, 0, 0 become one of 2 px of the large crop, 1 px of the small one."""
    whole = np.zeros((4, 4, 2), np.float32)
    whole[0, 0] = (8, -8)
    image = np.zeros((4, 4), np.uint8)
    found = extract_mesnet.reduced(lambda first, second: whole, image, image, 2)
    assert found[0, 0].tolist() == [1, -1] and np.count_nonzero(found) == 2


def test_the_last_row_repeats_its_predecessor(root: Path) -> None:
    rows = extract(root).rows
    for values in rows.values():
        np.testing.assert_array_equal(values[-1], values[-2])
    assert (rows["flow"][-2] != rows["flow"][-3]).any()


def test_energy_is_the_mean_square_as_stored(root: Path) -> None:
    rows = extract(root).rows
    u, v = np.moveaxis(rows["flow"].astype(np.float64), -1, 0)
    expected = (u**2 + v**2).mean(axis=(1, 2)) / 2
    np.testing.assert_allclose(rows["energy"], expected, rtol=1e-6)
    assert (rows["energy"] > 0).all()


def test_rows_without_both_faces_are_zero(root: Path) -> None:
    there = [number for number in range(1, LENGTH + 1) if number not in (4, LENGTH)]
    write_landmarks(root.parent / "landmarks/s15/0101.csv", there)
    rows, whole = extract(root).rows, [0, 1, 4, 5]  # frames 3 and 7 are missing
    assert np.flatnonzero(rows["valid_both"]).tolist() == whole
    assert np.flatnonzero(rows["energy"]).tolist() == whole
    assert np.flatnonzero(rows["flow"].any(axis=(1, 2, 3))).tolist() == whole


def test_the_box_is_that_of_the_first_frame_with_a_face(root: Path) -> None:
    file = root.parent / "landmarks/s15/0101.csv"
    head, *lines = file.read_text().splitlines()
    right = [landmarks() + (3, 0)] * 2 + [landmarks()] * (LENGTH - 3)
    rows = [",".join(map(str, [n + 2, *points.T.ravel()])) for n, points in enumerate(right)]
    file.write_text("\n".join([head, *rows]) + "\n")
    found = extract(root)
    assert found.crop == (BOX[0] + 3, BOX[1], BOX[2] + 3, BOX[3])
    assert found.face.tolist() == [0] + [1] * (LENGTH - 1)
    assert not found.rows["valid_both"][0] and found.rows["valid_both"][1:].all()


def test_the_landmark_box_by_hand() -> None:
    points = np.full((68, 2), (50, 60), np.float32)
    points[0], points[16], points[8] = (20, 58), (90.4, 58), (55, 110)
    points[18], points[19], points[36] = (30, 40), (35, 38), (32, 52)
    assert landmark_box(points, (200, 300)) == (20, 26, 90, 110)  # 38 - (52 - 40)
    assert landmark_box(points, (100, 80)) == (20, 26, 80, 100)
    assert landmark_box(points - (30, 30), (200, 300)) == (0, 0, 60, 80)
    assert landmark_box(points - (0, 109), (200, 300)) is None
    assert landmark_box(points + 300, (200, 300)) is None


def test_the_detectors_box(root: Path) -> None:
    source = readers.read(Data(layout="casme2"), root).videos[0]
    face = faces.backend(settings(root).face, source).find(texture(), 0)
    assert face is not None and extract(root, box="detector").crop == face.box != BOX


def test_every_frame_is_decoded_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = readers.read(Data(layout="casme2"), root).videos[0]
    face = faces.Face(BOX, landmarks()), np.ones(LENGTH, np.uint8)
    monkeypatch.setattr(faces, "find_face", lambda finder, frames: face)
    read, decode = [], video.read_grey
    monkeypatch.setattr(video, "read_grey", lambda path: read.append(path) or decode(path))
    extract_mesnet.extract(settings(root), source, lambda frames: None)
    assert read == list(source.frames)


def test_a_video_of_one_frame_is_refused(root: Path) -> None:
    for path in sorted(video_folder(root).iterdir())[1:]:
        path.unlink()
    with pytest.raises(UserError, match="15_0101something: 1 frame is too few: flow needs two"):
        extract(root)


def test_errors_name_the_frame_or_the_video(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = video_folder(root) / "img004.jpg"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-2])
    with pytest.raises(UserError, match=r"img004\.jpg: the image is cut short"):
        extract(root)
    broken.write_bytes(whole)
    with monkeypatch.context() as patch:
        patch.setattr(
            cv2, "calcOpticalFlowFarneback",
            lambda first, *rest: np.full((*first.shape, 2), np.nan, np.float32),
        )  # fmt: skip
        with pytest.raises(UserError, match=r"img001\.jpg: farneback flow is not finite"):
            extract(root)
    face = faces.Face(BOX, landmarks() + 900), np.ones(LENGTH, np.uint8)
    monkeypatch.setattr(faces, "find_face", lambda finder, frames: face)
    with pytest.raises(UserError, match="15_0101something: the landmarks lie outside the image"):
        extract(root)


def test_settings_are_checked() -> None:
    default = MesnetFeatures()
    assert (default.size, default.flow_size, default.flow.method) == (112, 0, "farneback")
    for wrong, message in (
        ({"size": 64, "flow_size": 63}, "flow is averaged down to size=64: use 0 or at least 64"),
        ({"flow_size": 111}, "size=112"),
        ({"size": 31}, "greater than or equal to 32"),
        ({"size": 257, "flow_size": 40}, "less than or equal to 256"),
        ({"flow_size": 1025}, "less than or equal to 1024"),
        ({"box": "face"}, "'landmarks' or 'detector'"),
    ):
        with pytest.raises(ValidationError, match=message):
            MesnetFeatures(**wrong)  # type: ignore[arg-type]


@pytest.fixture
def samm(tmp_path: Path) -> Path:
    """SAMM-LV's layout: 40 frames, each 0.2 px to the right of the one before."""
    root = tmp_path / "SAMMLV"
    folder = root / "SAMM_longvideos" / "006_1"
    folder.mkdir(parents=True)
    for number in range(1, 41):
        (folder / f"006_1_{number:04d}.jpg").write_bytes(moved(0.2 * number, 0))
    book = openpyxl.Workbook()
    assert book.active is not None
    for row in (
        ("Subject", "Filename", "Inducement Code", "Onset", "Apex", "Offset", "Duration", "Type",
         "Action Units"),
        (6, "006_1_1", 1, 8, 14.4, 28, 20, "Micro - 1/2", "4"),
        (6, "006_1_2", 1, 12, 30, 40, 28, "Macro", "12"),
    ):  # fmt: skip
        book.active.append(row)
    book.save(root / "SAMMLV_gt.xlsx")
    write_landmarks(tmp_path / "landmarks/006/006_1.csv", range(1, 41))
    return root


def test_every_6_7th_frame_of_samm_lv_in_shards(samm: Path) -> None:
    """Frames 0, 6.7, 13.4, 20.1, 26.8, 33.5 (half to even: 34); 40.2 is outside."""
    config = Config(
        name="tiny",
        data=Data(layout="samm_lv", root=str(samm), shards=str(samm.parent / "shards"), jobs=1,
                  sample_every=6.7),
        features=settings(samm, flow_size=128),
        baselines=Baselines(names=()),
    )  # fmt: skip
    folder = prepare(config)
    facts = manifest(folder)
    assert facts["k"] == {"macro": 1, "micro": 1} and facts["k_source"] == "neighbouring frames"
    assert facts["data"]["sample_every"] == 6.7
    dataset = shards.load(folder, config)
    (one,) = dataset.videos
    assert one.frame_ids.tolist() == [1, 8, 14, 21, 28, 35]
    assert one.fps == pytest.approx(200 / 6.7)
    # (8 - 1) / 6.7 = 1.04, (14.4 - 1) / 6.7 = 2, 27 / 6.7 = 4.03; 1.64, 4.3, 39 / 6.7 = 5.8
    assert [interval[:4] for interval in one.intervals] == [(1, 2, 4, "micro"), (2, 4, 5, "macro")]
    flow = dataset.streams["flow"]
    assert flow.shape == (6, 64, 64, 2) and flow.dtype == np.float16
    frames_apart = np.array([7, 6, 7, 7, 7, 7])  # the last row is that of its predecessor
    expected = 0.2 * frames_apart * 64 / (BOX[2] - BOX[0])
    np.testing.assert_allclose(inner(flow)[:, 0], expected, rtol=0.05)
    np.testing.assert_allclose(inner(flow)[:, 1], 0, atol=0.02)
    mean_square = np.square(flow.astype(np.float64)).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(dataset.streams["energy"], mean_square, rtol=1e-6)
    assert dataset.streams["valid_both"].tolist() == [1] * 6
