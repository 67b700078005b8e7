"""MDMD and LBP-chi2 over a video: which rows are valid, and their values from three frames."""

from pathlib import Path

import numpy as np
import pytest
from tiny_sets import make_config, with_features, write_landmarks

from data_prep import extract_baselines, faces, features, flow, kinds, lbp, mdmd, readers
from spotjax.config import Baselines, Config, Data, LbpChi2, Mdmd, SoftnetFeatures
from spotjax.data import schema
from spotjax.errors import UserError

K = {"macro": 6, "micro": 2}


def chosen(root: Path) -> Config:
    import dataclasses

    own = {"k_macro": K["macro"], "k_micro": K["micro"]}
    baselines = Baselines(names=("mdmd", "lbp_chi2"), mdmd=Mdmd(**own), lbp_chi2=LbpChi2(**own))
    return dataclasses.replace(make_config(root), baselines=baselines)


def extract(root: Path, kind: str) -> tuple[features.FeatureSpec, features.Extracted]:
    dataset = readers.read(Data(layout="casme2"), root)
    spec = kinds.build(chosen(root), dataset, kind)
    spec.check()
    return spec, spec.extract(dataset.videos[0], lambda frames: None)


def test_features_without_an_extractor_are_refused(tiny: Path) -> None:
    class Another(SoftnetFeatures):
        pass

    config = chosen(tiny)
    object.__setattr__(config, "features", Another())
    with pytest.raises(UserError, match="softnet has no branch in data_prep/kinds.py"):
        kinds.build(config, readers.read(Data(layout="casme2"), tiny))


@pytest.mark.parametrize("kind", ["mdmd", "lbp_chi2"])
def test_rows_need_three_frames_with_a_face(tiny: Path, kind: str) -> None:
    there = [number for number in range(1, 61) if number != 31]
    write_landmarks(tiny.parent / "landmarks/s15/0101.csv", there)
    spec, found = extract(tiny, kind)
    assert spec.k == K and set(found.rows) == set(spec.streams)
    for type, k in K.items():
        valid = found.rows[f"valid_{type}"]
        missing = {*range(k), *range(60 - k, 60), 30 - k, 30, 30 + k}
        assert np.flatnonzero(valid == 0).tolist() == sorted(missing)
        values = found.rows[f"{kind}_{type}"]
        assert values.dtype == np.float32 and not values[valid == 0].any()
        assert values[valid == 1].any()


def test_values_are_those_of_the_three_frames(tiny: Path) -> None:
    config = chosen(tiny)
    video = readers.read(Data(layout="casme2"), tiny).videos[0]
    frames = features.frames_of(video)
    face, _ = faces.find_face(faces.backend(config.features.face, video), frames)
    crops = [faces.crop(frames[row], face.box, mdmd.SIZE) for row in (14, 20, 26)]
    method = flow.make_flow(config.baselines.mdmd.flow)
    expected = mdmd.feature(method(crops[0], crops[1]), method(crops[0], crops[2]))
    assert extract(tiny, "mdmd")[1].rows["mdmd_macro"][20] == np.float32(expected)
    before, now, after = (lbp.histograms(crop) for crop in crops)
    found = extract(tiny, "lbp_chi2")[1].rows["lbp_chi2_macro"][20]
    assert found == np.float32(lbp.feature(before, now, after))


def test_half_windows_are_the_published_seconds(tiny: Path) -> None:
    dataset = readers.read(Data(layout="casme2"), tiny)
    config = make_config(tiny)
    assert kinds.build(config, dataset, "mdmd").k == {"macro": 39, "micro": 12}
    slow = dataset.videos[0]._replace(fps=200.0)
    mixed = dataset._replace(videos=(*dataset.videos, slow))
    with pytest.raises(UserError, match="frame rates from 30 to 200: set --config.baselines.mdmd"):
        kinds.build(config, mixed, "mdmd")
    assert kinds.build(chosen(tiny), mixed, "lbp_chi2").k == K


def test_a_short_video_halves_its_windows(tiny: Path) -> None:
    dataset = readers.read(Data(layout="casme2"), tiny)
    spec = kinds.build(make_config(tiny), dataset, "mdmd")  # 39 frames: too many for 60
    found = spec.extract(dataset.videos[0], lambda frames: None)
    assert found.rows["valid_macro"].sum() == 60 - 2 * 10  # 39, 20, 10


def test_folders_follow_what_decides_the_features(tiny: Path) -> None:
    config = chosen(tiny)
    assert schema.kinds(config) == ("", "mdmd", "lbp_chi2")
    assert str(schema.shards_folder(config, "mdmd")) == config.data.shards + "-mdmd"
    digest = schema.extraction_digest(config, K, "mdmd")
    other = with_features(config, k_macro=9)
    assert schema.extraction_digest(other, K, "mdmd") == digest  # SOFTNet's own k
    assert schema.extraction_digest(other, K) != schema.extraction_digest(config, K)
    assert "flow" not in schema.feature_settings(config, "lbp_chi2")
    assert extract_baselines.mdmd_spec(config, readers.read(Data(), tiny)).bytes_per_frame == 26
