import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_sets import frame, landmarks, write_landmarks

from data_prep import faces
from data_prep.readers import RawVideo
from data_prep.video import ImageFrames, read_grey
from spotjax.config import Face as FaceConfig
from spotjax.errors import UserError

IDS = np.arange(1, 11, dtype=np.int32)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "face.jpg"
    path.write_bytes(frame(0))
    return path


@pytest.fixture
def blank(tmp_path: Path) -> Path:
    path = tmp_path / "blank.png"
    path.write_bytes(cv2.imencode(".png", np.full((240, 320), 90, np.uint8))[1].tobytes())
    return path


@pytest.fixture
def dlib68() -> faces.Dlib68:
    pytest.importorskip("dlib")
    if importlib.util.find_spec("face_recognition_models") is None:
        pytest.skip("face_recognition_models is not installed")
    return faces.Dlib68(check_every=4)


def test_dlib_finds_the_face(dlib68: faces.Dlib68, picture: Path) -> None:
    face = dlib68.find(read_grey(picture), 0)
    assert face is not None and face.landmarks.shape == (68, 2)
    left, top, right, bottom = face.box
    assert 60 < left < 95 and 60 < top < 95 and 155 < right < 185 and 155 < bottom < 185
    mouth = face.landmarks[48:68].mean(axis=0)
    np.testing.assert_allclose(mouth, (123, 146), atol=6)


def test_dlib_takes_the_largest_face(dlib68: faces.Dlib68, picture: Path) -> None:
    small = read_grey(picture)[60:190, 60:190]
    both = np.full((240, 480), 90, np.uint8)
    both[:130, :130] = small
    both[:240, 240:480] = cv2.resize(small, (240, 240))
    face = dlib68.find(both, 0)
    assert face is not None and face.box[0] > 240


def test_presence_is_that_of_the_nearest_check(
    dlib68: faces.Dlib68, picture: Path, blank: Path
) -> None:
    frames = ImageFrames([blank] * 2 + [picture] * 7 + [blank] * 3)
    face, present = faces.find_face(dlib68, frames)
    assert face.box[2] - face.box[0] > 60
    # checks at rows 0, 4, 8: blank, face, face
    assert present.tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    frames = ImageFrames([picture] * 6 + [blank] * 6)
    assert faces.find_face(dlib68, frames)[1].tolist() == [1] * 6 + [0] * 6


def test_no_face_at_all(dlib68: faces.Dlib68, blank: Path) -> None:
    with pytest.raises(UserError, match="no face found in . frames looked at, of 3"):
        faces.find_face(dlib68, ImageFrames([blank] * 3))


def test_csv_landmarks(tmp_path: Path, picture: Path) -> None:
    write_landmarks(tmp_path / "s15" / "0101.csv", [1, 2, 4])
    config = FaceConfig(backend="csv", csv=str(tmp_path))
    faces.check_backend(config)
    video = RawVideo("s15", "0101", (picture,) * 10, IDS, 30.0, (), ())
    finder = faces.backend(config, video)
    face, present = faces.find_face(finder, ImageFrames(video.frames))
    assert present.tolist() == [1, 1, 0, 1, 0, 0, 0, 0, 0, 0]
    np.testing.assert_allclose(face.landmarks, landmarks(), atol=1e-4)
    low, high = landmarks().min(axis=0), landmarks().max(axis=0)
    width, height = high - low
    expected = (low[0] - 0.03 * width, low[1] - 0.12 * height, high[0], high[1] - 0.1 * height)
    assert face.box == tuple(np.rint(expected).astype(int).tolist())


def test_openface_files_fit_as_they_are(tmp_path: Path) -> None:
    points = landmarks().T.ravel().tolist()
    names = [" success", " confidence"] + [f" {a}_{i}" for a in "xy" for i in range(68)]
    lines = [", ".join(["frame", " timestamp", *names])]
    for number, success, confidence in ((1, 1, 0.98), (2, 0, 0.98), (3, 1, 0.2)):
        lines.append(", ".join(map(str, (number, 0.033, success, confidence, *points))))
    file = tmp_path / "0101.csv"
    file.write_text("\n".join(lines))
    finder = faces.CsvLandmarks(file, IDS[:3])
    grey = np.zeros((240, 320), np.uint8)
    assert [finder.find(grey, row) is not None for row in range(3)] == [True, False, False]


def test_a_face_that_moved_away_is_absent(tmp_path: Path) -> None:
    write_landmarks(tmp_path / "0101.csv", IDS)
    finder = faces.CsvLandmarks(tmp_path / "0101.csv", IDS)
    grey = np.zeros((240, 320), np.uint8)
    assert finder.present(grey, 0, (76, 88, 172, 171))
    assert not finder.present(grey, 0, (170, 88, 270, 171))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory: put the video's 68 landmarks there"),
        ("", "no column frame: expected frame, x0"),
        ("frame,x0\n1,2\n", "no column x1:"),
    ],
)
def test_wrong_landmark_files(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "0101.csv"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UserError, match=rf"0101\.csv: {message}"):
        faces.CsvLandmarks(file, IDS)


def test_a_wrong_landmark_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "0101.csv"
    write_landmarks(file, [1, 2])
    file.write_text(file.read_text() + "3," + "left," * 136 + "\n")
    with pytest.raises(UserError, match=r"0101\.csv, line 4: needs a number in each"):
        faces.CsvLandmarks(file, IDS)


def test_backends_that_cannot_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.features\.face\.csv: \(empty\) is not a folder"):
        faces.check_backend(FaceConfig(backend="csv"))
    for missing, message in (
        ("dlib", r"dlib is not installed: pip install 'spotjax\[landmarks\]'"),
        ("face_recognition_models", "landmark model of dlib is not installed: pip install"),
    ):
        with monkeypatch.context() as patch:
            find = importlib.util.find_spec
            patch.setattr(
                importlib.util, "find_spec",
                lambda name, missing=missing, find=find: None if name == missing else find(name),
            )  # fmt: skip
            with pytest.raises(UserError, match=message):
                faces.check_backend(FaceConfig(backend="dlib"))


def test_crop_and_landmarks_agree() -> None:
    """A bright dot lands in the crop where its coordinates say."""
    grey = np.zeros((240, 320), np.uint8)
    grey[99:102, 149:152] = 255
    face = faces.Face((100, 50, 228, 178), np.full((68, 2), (150, 100), np.float32))
    cropped = faces.crop(grey, face.box)
    assert cropped.shape == (128, 128) and cropped.dtype == np.uint8
    y, x = np.argwhere(cropped > 0).mean(axis=0)
    np.testing.assert_allclose(faces.landmarks_in_crop(face)[0], (x, y), atol=1e-4)
    face = faces.Face((100, 50, 164, 114), face.landmarks)  # twice enlarged
    y, x = np.argwhere(faces.crop(grey, face.box) > 100).mean(axis=0)
    np.testing.assert_allclose(faces.landmarks_in_crop(face)[0], (x, y), atol=0.6)


def test_boxes_are_clamped() -> None:
    grey = np.zeros((240, 320), np.uint8)
    assert faces._clamped((-9, -4, 400, 239), grey) == (0, 0, 320, 239)
    assert faces._clamped((330, 250, 340, 260), grey) == (319, 239, 320, 240)
    assert faces.iou(np.array((0, 0, 10, 10)), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert faces.iou(np.array((0, 0, 10, 10)), (20, 20, 30, 30)) == 0
