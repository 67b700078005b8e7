import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_sets import ROWS, make_config, make_set, video_folder, with_features, write_landmarks

from data_prep import faces, features, flow, kinds, readers, softnet, video
from spotjax.config import Config, Data, Face
from spotjax.errors import UserError


def extract(config: Config, root: Path, index: int = 0) -> features.Extracted:
    dataset = readers.read(Data(layout="casme2"), root)
    spec = kinds.build(config, dataset)
    spec.check()
    return spec.extract(dataset.videos[index], lambda frames: None)


def test_k_is_half_the_mean_length(tiny: Path) -> None:
    dataset = readers.read(Data(layout="casme2"), tiny)
    config = make_config(tiny)
    assert kinds.build(config, dataset).k == {"macro": 6, "micro": 3}
    chosen = with_features(config, k_macro=12)
    assert kinds.build(chosen, dataset).k == {"macro": 12, "micro": 3}


def test_k_needs_an_interval_or_a_number(tmp_path: Path) -> None:
    root = make_set(tmp_path / "set", rows=ROWS[:1])
    config = make_config(root)
    with pytest.raises(UserError, match=r"config\.features\.k_micro: .*no micro-expression.*=N"):
        kinds.build(config, readers.read(Data(layout="casme2"), root))
    spec = kinds.build(with_features(config, k_micro=4), readers.read(Data(layout="casme2"), root))
    assert spec.k == {"macro": 6, "micro": 4}


def test_row_i_is_the_pair_i_and_i_plus_k(tiny: Path) -> None:
    config = make_config(tiny)
    found = extract(config, tiny)
    paths = readers.read(Data(layout="casme2"), tiny).videos[0].frames
    crops = [faces.crop(video.read_grey(paths[row]), found.crop) for row in (20, 26)]
    finder = faces.CsvLandmarks(tiny.parent / "landmarks/s15/0101.csv", np.arange(1, 61))
    face = finder.find(np.zeros((240, 320), np.uint8), 0)
    assert face is not None and face.box == found.crop
    where = softnet.geometry(faces.landmarks_in_crop(face), "strip")
    image = softnet.masked(flow.make_flow(config.features.flow)(crops[0], crops[1]), where)
    expected = softnet.composite(image, where).astype(np.float16)
    np.testing.assert_array_equal(found.rows["flow_macro"][20], expected)
    assert found.rows["strain_macro"][20] == softnet.strain_sum(image, where)


def test_streams_have_the_declared_shapes_and_zero_ends(tiny: Path) -> None:
    spec = kinds.build(make_config(tiny), readers.read(Data(layout="casme2"), tiny))
    rows = extract(make_config(tiny), tiny, 1).rows
    assert set(rows) == set(spec.streams)
    for name, stream in spec.streams.items():
        assert rows[name].shape == (44, *stream.shape) and rows[name].dtype == stream.dtype
    for kind, k in spec.k.items():
        assert rows[f"valid_{kind}"].tolist() == [1] * (44 - k) + [0] * k
        assert not rows[f"flow_{kind}"][44 - k :].any()
        assert not rows[f"strain_{kind}"][44 - k :].any()
        assert np.isfinite(rows[f"flow_{kind}"]).all() and rows[f"strain_{kind}"].any()


def test_a_pair_needs_a_face_in_both_frames(tiny: Path) -> None:
    there = [number for number in range(1, 61) if not 31 <= number <= 33]
    write_landmarks(tiny.parent / "landmarks/s15/0101.csv", there)
    found = extract(make_config(tiny), tiny)
    assert np.flatnonzero(found.face == 0).tolist() == [30, 31, 32]
    invalid = np.flatnonzero(found.rows["valid_micro"] == 0).tolist()
    assert invalid == [27, 28, 29, 30, 31, 32, 57, 58, 59]
    assert not found.rows["flow_micro"][invalid].any()


def test_every_frame_is_decoded_once_and_few_crops_are_kept(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    read = video.read_grey
    monkeypatch.setattr(video, "read_grey", lambda path: decoded.append(path.name) or read(path))
    monkeypatch.setattr(faces.CsvLandmarks, "check_every", 30)
    progress: list[int] = []
    dataset = readers.read(Data(layout="casme2"), tiny)
    kinds.build(make_config(tiny), dataset).extract(dataset.videos[0], progress.append)
    assert sum(progress) == 60
    assert len(decoded) == 60 + 1 + 2  # the search looks at frame 1, the checks at 1 and 31


def test_dlib_end_to_end(tiny: Path) -> None:
    pytest.importorskip("dlib")
    if importlib.util.find_spec("face_recognition_models") is None:
        pytest.skip("face_recognition_models is not installed")
    found = extract(with_features(make_config(tiny), face=Face(), roi="two_eyes"), tiny)
    assert found.face.all() and found.rows["valid_macro"].sum() == 54
    # the mouth moves between frames 1 and 7, the eyes do not
    mouth, eyes = found.rows["flow_macro"][0, 21:, :, 1], found.rows["flow_macro"][0, :21, :, 1]
    assert mouth.max() > 1 and eyes.max() < 0.5


def test_a_short_video_is_refused(tiny: Path) -> None:
    config = with_features(make_config(tiny), k_macro=22)
    with pytest.raises(UserError, match=r"15_0401something: 44 frames are too few: k_macro=22"):
        extract(config, tiny, 1)
    assert extract(config, tiny, 2).rows["valid_macro"].sum() == 50 - 22


def test_frames_of_another_size_or_without_flow_are_named(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "dis", lambda: lambda a, b: np.full((*a.shape, 2), np.inf))
    with pytest.raises(UserError, match=r"img001\.jpg: dis flow is not finite"):
        extract(make_config(tiny), tiny)
    small = cv2.imencode(".jpg", np.zeros((24, 32), np.uint8))[1].tobytes()
    (video_folder(tiny) / "img031.jpg").write_bytes(small)
    with pytest.raises(UserError, match=r"img031\.jpg: is 32x24 px"):
        extract(make_config(tiny), tiny)
