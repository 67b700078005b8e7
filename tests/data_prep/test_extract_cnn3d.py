"""The two-stream 3D-CNN's crops: alignment by hand and by property, ready-made crops, shards."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tiny_sets import landmarks, make_set, manifest, video_folder, write_landmarks

from data_prep import extract_cnn3d, faces, kinds, readers, video
from data_prep.extract_cnn3d import REFERENCE, STABLE, aligned, alignment, outline, resized
from data_prep.features import Extracted
from data_prep.synthetic_face import MIRRORED, PORTRAIT_LANDMARKS
from data_prep.write_shards import prepare
from spotjax.config import Baselines, Cnn3dFeatures, Config, Data, Face
from spotjax.data import shards
from spotjax.errors import UserError

LENGTH = 8
EYES = np.array([(32.06, 28.58), (79.94, 28.58)])
"""px of a crop of 112 px: where the reference's eyes are."""
PORTRAIT_EYES = np.array([(31.6, 28.5), (79.5, 28.7)])
"""The portrait is not quite symmetric, so that its eyes come to lie beside them."""


def centres(points: np.ndarray) -> np.ndarray:
    """f64[2, 2]: the centres of both eyes."""
    return np.array([points[36:42].mean(axis=0), points[42:48].mean(axis=0)], float)


def turned(
    points: np.ndarray, degrees: float, zoom: float, shift: tuple[float, float]
) -> np.ndarray:
    """`points` turned about (60, 60), zoomed and shifted."""
    angle = np.deg2rad(degrees)
    rotation = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    return ((points - 60) @ rotation.T * zoom + 60 + shift).astype(np.float32)


def reference() -> np.ndarray:
    """f32[68, 2]: landmarks of the reference face; those that are not looked at are nan."""
    points = np.full((68, 2), np.nan, np.float32)
    points[STABLE] = REFERENCE
    return points


def drawn(points: np.ndarray, size: tuple[int, int] = (640, 480)) -> np.ndarray:
    """A grey image with a bright spot (Gauss, 5 px) at each eye's centre."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    spots = sum(np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 50) for cx, cy in centres(points))
    return np.asarray(40 + 200 * spots).round().astype(np.uint8)


def spots(crop: np.ndarray) -> np.ndarray:
    """f64[2, 2]: centres of mass of the spots in both halves of a crop, px of the crop."""
    light = np.clip(crop.astype(float) - 60, 0, None)
    found = []
    for columns in np.array_split(np.arange(crop.shape[1]), 2):
        x, y = np.meshgrid(columns, np.arange(len(crop)))
        weight = light[:, columns] / light[:, columns].sum()
        found.append(((weight * x).sum(), (weight * y).sum()))
    return np.array(found)


def jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()


def write_points(path: Path, points: np.ndarray, numbers: range = range(1, LENGTH + 1)) -> None:
    write_landmarks(path, [])
    with open(path, "a") as file:
        for number in numbers:
            file.write(",".join(map(str, [number, *points.T.ravel().tolist()])) + "\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set of one video of `LENGTH` frames."""
    rows = ((1, "disgust1_1", 2, 4, 6, "4", "negative", "macro-expression", "disgust"),)
    return make_set(tmp_path / "set", (("s15", "0101", LENGTH),), rows)


def replace_frames(root: Path, images: list[np.ndarray]) -> None:
    """The video's frames become these, lossless under their old names' stems."""
    for path in video_folder(root).iterdir():
        path.unlink()
    for number, image in enumerate(images, start=1):
        content = cv2.imencode(".png", image)[1].tobytes()
        (video_folder(root) / f"img{number:03d}.jpg").write_bytes(content)


def settings(root: Path, **changes: object) -> Cnn3dFeatures:
    face = Face(backend="csv", csv=str(root.parent / "landmarks"))
    return Cnn3dFeatures(face=face, **changes)  # type: ignore[arg-type]


def extract(root: Path, **changes: object) -> Extracted:
    source = readers.read(Data(layout="casme2"), root).videos[0]
    spec = extract_cnn3d.spec(settings(root, **changes))
    spec.check()
    done: list[int] = []
    found = spec.extract(source, done.append)
    assert done == [1] * source.num_frames
    assert found.rows.keys() == spec.streams.keys()
    for name, stream in spec.streams.items():
        assert found.rows[name].shape == (source.num_frames, *stream.shape)
        assert found.rows[name].dtype == stream.dtype
    np.testing.assert_array_equal(found.face, found.rows["valid_both"])
    return found


def test_the_reference_is_the_portrait_made_symmetric() -> None:
    """Portrait and mirror image, laid over each other, are the reference up to a similarity."""
    points = PORTRAIT_LANDMARKS @ [1, 1j]
    mirrored = -points[MIRRORED].conj()
    a, b = points - points.mean(), mirrored - mirrored.mean()
    both = (a + np.vdot(b, a) / np.vdot(b, b) * b) / 2
    both, goal = both[STABLE] - both[STABLE].mean(), (REFERENCE - REFERENCE.mean(axis=0)) @ [1, 1j]
    laid = np.vdot(both, goal) / np.vdot(both, both) * both
    assert abs(laid - goal).max() < 0.02
    mirror = np.flatnonzero(STABLE == 1), np.flatnonzero(STABLE == 15)
    assert REFERENCE[mirror[0], 0] + REFERENCE[mirror[1], 0] == pytest.approx(112)


@given(
    degrees=st.floats(-180, 180),
    zoom=st.floats(0.2, 8),
    shift=st.tuples(st.floats(-300, 300), st.floats(-300, 300)),
)
def test_alignment_undoes_every_similarity(
    degrees: float, zoom: float, shift: tuple[float, float]
) -> None:
    moved = turned(reference(), degrees, zoom, shift)
    matrix = alignment(moved)
    assert matrix is not None
    np.testing.assert_allclose(moved[STABLE] @ matrix[:, :2].T + matrix[:, 2], REFERENCE, atol=2e-3)
    np.testing.assert_allclose(np.linalg.det(matrix[:, :2]), zoom**-2, rtol=1e-4)


def test_alignment_keeps_the_spread_of_another_face() -> None:
    """As OpenFace: equal centre and equal spread of the points, not least squares in scale."""
    points = landmarks()
    matrix = alignment(points)
    assert matrix is not None
    laid = points[STABLE] @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(laid.mean(axis=0), REFERENCE.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(laid.var(axis=0).sum(), REFERENCE.var(axis=0).sum(), rtol=1e-5)
    assert alignment(np.full((68, 2), (50, 60), np.float32)) is None


def test_every_size_shows_the_same_part() -> None:
    """A smaller crop is the mean of all pixels; a larger one lies between the pixels' centres."""
    frame = np.random.default_rng(0).integers(0, 256, (224, 224), np.uint8)
    same, half = np.eye(2, 3), np.array([(0.5, 0, -0.25), (0, 0.5, -0.25)])
    np.testing.assert_array_equal(aligned(frame, same, 112), frame[:112, :112])
    for size, block in ((112, 2), (56, 4)):
        means = frame.reshape(size, block, size, block).mean(axis=(1, 3))
        assert abs(aligned(frame, half, size) - means).max() <= 1
    ramp = np.tile(3 * np.arange(80, dtype=np.uint8), (112, 1))
    columns = 3 * np.clip((np.arange(150) + 0.5) / 2 - 0.5, 0, None)
    assert abs(aligned(ramp, same, 224)[50, :150] - columns).max() <= 0.55


@pytest.mark.parametrize("size", [56, 112, 160])
@pytest.mark.parametrize(
    ("degrees", "zoom", "shift"), [(0, 1.0, (0, 0)), (25, 2.2, (250, 160)), (-40, 1.5, (200, 120))]
)
def test_the_eyes_land_where_they_should(
    root: Path, size: int, degrees: float, zoom: float, shift: tuple[float, float]
) -> None:
    """A real face's landmarks, turned and scaled: its eyes land within 1 px of their places."""
    upright = (PORTRAIT_LANDMARKS - (165, 85)) * 1.06 + 4
    points = turned(upright, degrees, zoom, shift)
    write_points(root.parent / "landmarks/s15/0101.csv", points)
    replace_frames(root, [drawn(points)] * LENGTH)
    found = extract(root, size=size)
    for expected, off in ((EYES, 1.0), (PORTRAIT_EYES, 0.3)):
        places = (expected + 0.5) * size / 112 - 0.5
        np.testing.assert_allclose(spots(found.rows["crops"][0]), places, atol=off * size / 112)
    assert found.rows["valid_both"].all()
    np.testing.assert_array_equal(found.rows["crops"][0], found.rows["crops"][-1])


def test_one_transform_serves_the_whole_video(root: Path) -> None:
    """Landmarks that tremble do not move the crops; the first frame with a face decides."""
    file = root.parent / "landmarks/s15/0101.csv"
    write_landmarks(file, range(2, LENGTH + 1))
    still = extract(root)
    lines = file.read_text().splitlines()
    for n in range(2, len(lines)):
        cells = np.array(lines[n].split(","), float)
        lines[n] = ",".join(map(str, [int(cells[0]), *(cells[1:] + (-1) ** n)]))
    file.write_text("\n".join(lines) + "\n")
    trembling = extract(root)
    np.testing.assert_array_equal(trembling.rows["crops"], still.rows["crops"])
    assert still.rows["valid_both"].tolist() == [0] + [1] * (LENGTH - 1)


def test_rows_without_a_face_are_zero(root: Path) -> None:
    there = [number for number in range(1, LENGTH + 1) if number not in (4, LENGTH)]
    write_landmarks(root.parent / "landmarks/s15/0101.csv", there)
    for way in ("landmarks", "box"):
        rows = extract(root, alignment=way).rows
        assert np.flatnonzero(rows["valid_both"]).tolist() == [n - 1 for n in there]
        assert np.flatnonzero(rows["crops"].any(axis=(1, 2))).tolist() == [n - 1 for n in there]


def test_pixels_outside_the_image_repeat_its_edge(root: Path) -> None:
    points = turned(reference(), 0, 1, (-20, 0))
    points[np.isnan(points)] = 50
    write_points(root.parent / "landmarks/s15/0101.csv", points)
    ramp = np.tile(np.arange(200, dtype=np.uint8) + 20, (150, 1))
    replace_frames(root, [ramp] * LENGTH)
    found = extract(root)
    assert found.crop == (0, 0, 92, 112)
    columns = found.rows["crops"][0].astype(int)
    expected = 20 + np.clip(np.arange(112) - 20, 0, None)
    assert abs(columns - expected).max() <= 1


def test_the_outline_by_hand() -> None:
    half = np.array([(0.5, 0, -0.25), (0, 0.5, -0.25)])  # px 0..223 of the frame, averaged by two
    assert outline(half, (480, 640)) == (0, 0, 224, 224)
    assert outline(half, (200, 150)) == (0, 0, 150, 200)
    assert outline(half - ((0, 0, 100), (0, 0, 50)), (480, 640)) == (200, 100, 424, 324)
    quarter = np.array([(0.0, -1, 111), (1, 0, 0)])
    assert outline(quarter, (480, 640)) == (0, 0, 112, 112)
    assert outline(half - ((0, 0, 400), (0, 0, 0)), (480, 640)) is None
    assert outline(half + ((0, 0, 60), (0, 0, 0)), (480, 640)) is None


@pytest.mark.parametrize("size", [56, 112, 128])
def test_the_detectors_box(root: Path, size: int) -> None:
    source = readers.read(Data(layout="casme2"), root).videos[0]
    first = video.read_grey(source.frames[0])
    face = faces.backend(settings(root).face, source).find(first, 0)
    found = extract(root, alignment="box", size=size)
    assert face is not None and found.crop == face.box
    expected = faces.crop(first, face.box, max(size, 112))
    if size == 56:  # every px is the mean of four
        expected = expected.reshape(56, 2, 56, 2).mean(axis=(1, 3))
    assert abs(found.rows["crops"][0] - expected.astype(float)).max() <= 0.5
    assert (found.rows["crops"] != extract(root, size=size).rows["crops"]).any()


def test_ready_made_crops_pass_bit_by_bit(root: Path) -> None:
    """No face is looked for, so that no landmarks are needed; a black image is no face."""
    images = list(np.random.default_rng(0).integers(0, 256, (LENGTH, 112, 112), np.uint8))
    images[0], images[5] = np.zeros_like(images[0]), np.zeros_like(images[0])
    images[6] = np.zeros_like(images[0])
    images[6][40, 40] = 1
    replace_frames(root, images)
    source = readers.read(Data(layout="casme2"), root).videos[0]
    features = Cnn3dFeatures(alignment="ready", face=Face(backend="csv", csv=""))
    spec = extract_cnn3d.spec(features)
    spec.check()
    found = spec.extract(source, lambda frames: None)
    np.testing.assert_array_equal(found.rows["crops"], np.array(images))
    assert found.rows["valid_both"].tolist() == [0, 1, 1, 1, 1, 0, 1, 1]
    assert found.face.tolist() == found.rows["valid_both"].tolist()
    assert found.crop == (0, 0, 112, 112)


def test_ready_made_crops_of_another_size(root: Path) -> None:
    coarse = np.random.default_rng(0).integers(1, 64, (LENGTH, 56, 50), np.uint8) * 4
    large = [image.repeat(2, axis=0).repeat(2, axis=1) for image in coarse]  # 112x100
    replace_frames(root, large)
    found = extract(root, alignment="ready", size=50)
    assert found.crop == (0, 0, 100, 112)
    expected = [resized(image, 50) for image in coarse]  # 2x2 px of one value average to it
    assert abs(found.rows["crops"].astype(int) - np.array(expected)).max() <= 1
    enlarged = extract(root, alignment="ready", size=200).rows["crops"][0]
    assert enlarged.std() < large[0].std() and abs(enlarged.mean() - large[0].mean()) < 2


def test_a_video_of_black_crops_is_refused(root: Path) -> None:
    replace_frames(root, [np.zeros((112, 112), np.uint8)] * LENGTH)
    with pytest.raises(UserError, match="15_0101something: every image is black"):
        extract(root, alignment="ready")


@pytest.mark.parametrize("way", ["landmarks", "box", "ready"])
def test_every_frame_is_decoded_once(root: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    source = readers.read(Data(layout="casme2"), root).videos[0]
    face = faces.Face((79, 84, 172, 179), landmarks()), np.ones(LENGTH, np.uint8)
    monkeypatch.setattr(faces, "find_face", lambda finder, frames: face)
    read, decode = [], video.read_grey
    monkeypatch.setattr(video, "read_grey", lambda path: read.append(path) or decode(path))
    extract_cnn3d.extract(settings(root, alignment=way), source, lambda frames: None)
    assert read == list(source.frames)


def test_errors_name_the_frame_or_the_video(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = video_folder(root) / "img004.jpg"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-2])
    with pytest.raises(UserError, match=r"img004\.jpg: the image is cut short"):
        extract(root)
    with pytest.raises(UserError, match=r"img004\.jpg: the image is cut short"):
        extract(root, alignment="ready")
    broken.write_bytes(whole)
    for wrong in (landmarks() + 900, landmarks() * 0 + 50):
        face = faces.Face((79, 84, 172, 179), wrong), np.ones(LENGTH, np.uint8)
        with monkeypatch.context() as patch:
            patch.setattr(faces, "find_face", lambda finder, frames, face=face: face)
            with pytest.raises(UserError, match="15_0101something: the landmarks are none of a"):
                extract(root)
    write_landmarks(root.parent / "landmarks/s15/0101.csv", [])
    with pytest.raises(UserError, match="15_0101something: no face found in 8 frames"):
        extract(root)
    with pytest.raises(UserError, match="is not a folder"):
        extract_cnn3d.spec(Cnn3dFeatures(face=Face(backend="csv", csv="nowhere"))).check()


def test_settings_are_checked() -> None:
    default = Cnn3dFeatures()
    assert (default.name, default.size, default.alignment) == ("cnn3d", 112, "landmarks")
    for wrong, message in (
        ({"size": 31}, "greater than or equal to 32"),
        ({"size": 257}, "less than or equal to 256"),
        ({"alignment": "frames"}, "'landmarks', 'box' or 'ready'"),
    ):
        with pytest.raises(ValidationError, match=message):
            Cnn3dFeatures(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("way", ["landmarks", "ready"])
def test_shards_read_back_as_bytes(root: Path, way: str) -> None:
    write_landmarks(root.parent / "landmarks/s15/0101.csv", range(1, LENGTH))
    config = Config(
        name="tiny",
        data=Data(root=str(root), shards=str(root.parent / "shards"), jobs=1),
        features=settings(root, size=56, alignment=way),
        baselines=Baselines(names=()),
    )
    folder = prepare(config)
    facts = manifest(folder)
    assert facts["k"] == {"macro": 1, "micro": 1}
    assert facts["k_source"] == "single frames: config.system pairs them"
    assert facts["streams"]["crops"] == {"shape": [56, 56], "dtype": "uint8"}
    dataset = shards.load(folder, config)
    source = readers.read(config.data, root)
    expected = kinds.build(config, source).extract(source.videos[0], lambda frames: None)
    crops = dataset.streams["crops"]
    assert crops.dtype == np.uint8 and crops.shape == (LENGTH, 56, 56)
    np.testing.assert_array_equal(crops, expected.rows["crops"])
    last = int(way == "ready")
    assert dataset.streams["valid_both"].tolist() == [1] * (LENGTH - 1) + [last]
    assert dataset.streams["face"].tolist() == [1] * (LENGTH - 1) + [last]


def test_dlib_is_not_needed_for_ready_made_crops(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)  # importing it fails
    config = Config(
        name="tiny",
        data=Data(root=str(root), shards=str(root.parent / "shards"), jobs=1),
        features=Cnn3dFeatures(alignment="ready"),
        baselines=Baselines(names=()),
    )
    assert "dlib" not in manifest(prepare(config))["versions"]
