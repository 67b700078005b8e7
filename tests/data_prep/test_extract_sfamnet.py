"""SFAMNet's streams over a video: pairs, events, lost faces, and every fault of the depth."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_sets import frame, landmarks, write_landmarks

from data_prep import extract_sfamnet, faces, sfamnet
from data_prep.features import Extracted
from data_prep.readers import RawDataset, RawVideo
from spotjax.config import Face, Flow, SceneFlow, SfamnetFeatures
from spotjax.errors import UserError
from spotjax.types import Interval

LENGTH, K = 9, 3  # frames at 15 a second
EVENTS = (
    Interval(0, 2, 4, "micro", "disgust"),
    Interval(1, 8, 8, "macro"),
    Interval(3, -1, 5, "micro"),  # apex unknown
    Interval(5, 5, 6, "micro", "happy"),  # apex is the onset
)
SETTINGS = SceneFlow(focal=600.0)


def depth_image(row: int) -> np.ndarray:
    """u16[240, 320] mm: a tilted plane that comes nearer by 1 mm a frame, its mouth by 3 mm."""
    y, x = np.mgrid[:240, :320]
    mouth = np.exp(-((x - 123) ** 2 + (y - 162) ** 2) / 200)
    return np.rint(600 - row - 2 * row * mouth + x * 0.05).astype(np.uint16)


@pytest.fixture
def video(tmp_path: Path) -> RawVideo:
    """Colour, depth and landmarks of 9 frames."""
    colour, depth = tmp_path / "set/s/v/color", tmp_path / "set/s/v/depth"
    for folder in (colour, depth):
        folder.mkdir(parents=True)
    for row in range(LENGTH):
        grey = cv2.imdecode(np.frombuffer(frame(2 * row), np.uint8), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(colour / f"{row + 1}.png"), cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))
        cv2.imwrite(str(depth / f"{row + 1}.png"), depth_image(row))
    ids = np.arange(1, LENGTH + 1, dtype=np.int32)
    write_landmarks(tmp_path / "landmarks/s/v.csv", range(1, LENGTH + 1))
    frames, depths = (tuple(f / f"{n}.png" for n in ids) for f in (colour, depth))
    return RawVideo("s", "v", frames, ids, 15.0, EVENTS, ("",) * len(EVENTS), depth=depths)


def settings(video: RawVideo, **changes: object) -> SfamnetFeatures:
    folder = video.frames[0].parents[4] / "landmarks"
    given = {"flow": Flow(method="dis"), "scene_flow": SETTINGS} | changes
    return SfamnetFeatures(face=Face(backend="csv", csv=str(folder)), **given)  # type: ignore[arg-type]


def extract(video: RawVideo, **changes: object) -> Extracted:
    spec = extract_sfamnet.spec(settings(video, **changes), RawDataset("x", (video,), (), ()))
    spec.check()
    assert spec.k == {"macro": K, "micro": K}
    done: list[int] = []
    found = spec.extract(video, done.append)
    assert sum(done) == LENGTH
    for given, streams, rows in (
        (found.rows, spec.streams, LENGTH),
        (found.events, spec.events, len(video.intervals)),
    ):
        assert set(given) == set(streams)
        for name, stream in streams.items():
            assert given[name].shape == (rows, *stream.shape)
            assert given[name].dtype == stream.dtype
            assert np.isfinite(given[name]).all()
    return found


def test_pairs_and_events(video: RawVideo) -> None:
    found = extract(video)
    for name in ("optical", "scene"):
        assert found.rows[f"valid_{name}"].tolist() == [1] * 6 + [0] * 3
        assert not found.rows[name][6:].any() and found.rows[name][:6].any(axis=(1, 2, 3)).all()
        assert found.events[f"valid_event_{name}"].tolist() == [1, 1, 0, 0]
        assert not found.events[f"event_{name}"][2:].any()
    # an event is the pair of its onset and its apex
    shorter = settings(video, seconds=2 / 15)
    pairs = extract_sfamnet.extract(shorter, video, lambda n: None)
    np.testing.assert_array_equal(found.events["event_scene"][0], pairs.rows["scene"][0])
    np.testing.assert_array_equal(found.events["event_optical"][0], pairs.rows["optical"][0])
    assert (
        found.crop
        == faces.CsvLandmarks(Path(settings(video).face.csv) / "s" / "v.csv", video.frame_ids)
        .find(np.zeros((240, 320), np.uint8), 0)
        .box
    )  # type: ignore[union-attr]


def test_the_nose_stands_still_and_units_of_w(video: RawVideo) -> None:
    """Of the 3 mm that the whole plane moves nothing is left; of the mouth's 9 mm are 6."""
    found, in_mm = extract(video), extract(video, w_unit="mm")
    w = in_mm.rows["scene"][:6, ..., 2].astype(float)
    assert np.abs(w[:, :5]).mean() < 0.4  # the forehead's edge
    assert -6.2 < w.min(axis=(1, 2)).mean() < -2.0  # 6 mm at one point, smoothed
    factor = sfamnet.focal_in_crop(SETTINGS.focal, found.crop) / 600
    a, b = in_mm.rows["scene"][0, ..., 2].ravel(), found.rows["scene"][0, ..., 2].ravel()
    assert np.polyfit(a.astype(float), b.astype(float), 1)[0] == pytest.approx(factor, rel=0.1)
    np.testing.assert_array_equal(in_mm.rows["optical"], found.rows["optical"])


def test_frames_without_depth_lose_scene_flow_only(video: RawVideo) -> None:
    whole = extract(video)
    depth = list(video.depth)
    depth[4] = None
    cv2.imwrite(str(depth[1]), np.zeros((240, 320), np.uint16))  # nothing was measured
    found = extract(video._replace(depth=tuple(depth)))
    assert found.rows["valid_optical"].tolist() == [1] * 6 + [0] * 3
    assert found.rows["valid_scene"].tolist() == [1, 0, 1, 1, 0, 1, 0, 0, 0]
    assert found.events["valid_event_scene"].tolist() == [1, 0, 0, 0]
    np.testing.assert_array_equal(found.rows["optical"], whole.rows["optical"])
    np.testing.assert_array_equal(found.rows["scene"][0], whole.rows["scene"][0])


def test_a_video_without_depth_keeps_its_optical_flow(video: RawVideo) -> None:
    spec = extract_sfamnet.spec(settings(video), RawDataset("x", (video,), (), ()))
    found = spec.extract(video._replace(depth=()), lambda n: None)
    assert found.rows["valid_optical"].sum() == 6 and not found.rows["valid_scene"].any()


def test_holes_and_nan_free(video: RawVideo) -> None:
    for path in video.depth:
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        image[100:140, 90:200] = 0
        cv2.imwrite(str(path), image)
    found = extract(video)
    assert found.rows["valid_scene"].sum() == 6


def test_other_sizes_and_broken_images_name_the_file(video: RawVideo) -> None:
    cv2.imwrite(str(video.depth[2]), np.full((120, 160), 600, np.uint16))
    with pytest.raises(UserError, match=r"depth/3\.png: is 160x120 px, its colour image 320x240"):
        extract(video)
    cv2.imwrite(str(video.depth[2]), np.full((240, 320), 60, np.uint8))
    with pytest.raises(UserError, match=r"depth/3\.png: is no 16-bit depth image"):
        extract(video)
    Path(str(video.depth[2])).write_bytes(b"")
    with pytest.raises(UserError, match=r"depth/3\.png: the file is empty"):
        extract(video)


def test_without_any_depth_the_remedy_is_named(video: RawVideo) -> None:
    bare = RawDataset("casme2", (video._replace(depth=()),), (), ())
    with pytest.raises(UserError, match="casme2: has no depth images.*features.scene=false"):
        extract_sfamnet.spec(settings(video), bare)
    spec = extract_sfamnet.spec(settings(video, scene=False), bare)
    assert set(spec.streams) == {"optical", "valid_optical"}
    found = spec.extract(bare.videos[0], lambda n: None)
    assert found.rows["valid_optical"].sum() == 6 and set(found.events) == set(spec.events)


def test_a_lost_face_and_a_short_video(video: RawVideo, tmp_path: Path) -> None:
    file = Path(settings(video).face.csv) / "s" / "v.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(line for n, line in enumerate(lines) if n != 5) + "\n")  # frame 5
    found = extract(video)
    assert found.face.tolist() == [1, 1, 1, 1, 0, 1, 1, 1, 1]
    assert found.rows["valid_scene"].tolist() == [1, 0, 1, 1, 0, 1, 0, 0, 0]
    short = video._replace(frames=video.frames[:3], frame_ids=video.frame_ids[:3],
                           depth=video.depth[:3], intervals=())  # fmt: skip
    with pytest.raises(UserError, match="3 frames are too few: a pair of frames is 3 frames apart"):
        extract_sfamnet.extract(settings(video), short, lambda n: None)


def test_depth_is_averaged_over_what_was_measured() -> None:
    depth = np.zeros((256, 256), np.uint16)
    depth[:, 1::2] = 600
    depth[:, 128:] = 800
    small = sfamnet.crop_depth(depth, (0, 0, 256, 256))
    assert small.shape == (128, 128) and (small[:, :64] == 0).all()  # half of it: not enough
    depth[::2, ::2] = np.where(np.arange(128) < 64, 602, 800)
    small = sfamnet.crop_depth(depth, (0, 0, 256, 256))
    np.testing.assert_allclose(small[:, :64], (600 + 600 + 602) / 3, rtol=1e-6)
    np.testing.assert_allclose(small[:, 64:], 800, rtol=1e-6)
    assert sfamnet.focal_in_crop(920.0, (0, 0, 256, 256)) == 460


def test_landmarks_outside_the_crop_are_refused() -> None:
    points = landmarks() * 0 - 50
    with pytest.raises(UserError, match="landmarks lie outside"):
        sfamnet.nose_patch(points)
    rows, columns = sfamnet.nose_patch(np.full((68, 2), 2.0, np.float32))
    assert (rows, columns) == (slice(0, 8), slice(0, 8))
