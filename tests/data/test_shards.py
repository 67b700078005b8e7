import json

import numpy as np
import pytest

from spotjax.config import Config, Flow, SoftnetFeatures
from spotjax.data import schema, shards
from spotjax.data.schema import Stream
from spotjax.data.tfrecord import write_records
from spotjax.errors import UserError

CONFIG = Config(name="x")
STREAMS = {"flow": Stream((2, 2), "float16"), "valid": Stream((), "uint8")}


def write_set(folder, count=2, frames=300, value=1.0, **changes):
    """A folder of shards with two records a video, and its manifest."""
    features, entries = schema.features_dict(STREAMS), []
    for number in range(count):
        payloads = [
            features.serialize_example(
                {
                    "dataset": "d",
                    "subject": f"s{number}",
                    "video": "v",
                    "fps": np.float32(30),
                    "start": start,
                    "num_frames": frames,
                    "frame_ids": np.arange(start + 1, end + 1, dtype=np.int32),
                    "face": np.ones(end - start, np.uint8),
                    "crop": np.zeros(4, np.int32),
                    "intervals": np.zeros((0, 5), np.int32),
                    "flow": np.full((end - start, 2, 2), value + number, np.float16),
                    "valid": np.ones(end - start, np.uint8),
                }
            )
            for start, end in ((0, 256), (256, frames))
        ]
        path = folder / schema.shard_name("d", number, count)
        write_records(path, payloads)
        span = {"onset": 3, "apex": -1, "offset": 9, "type": "macro", "emotion": "negative"}
        entries.append(
            {
                "subject": f"s{number}",
                "name": "v",
                "fps": 30.0,
                "num_frames": frames,
                "intervals": [span],
                "shard": path.name,
                "bytes": path.stat().st_size,
            }
        )
    manifest = {
        "schema": schema.SCHEMA_VERSION,
        "dataset": "d",
        "data": schema.read_settings(CONFIG),
        "streams": {n: {"shape": s.shape, "dtype": s.dtype} for n, s in STREAMS.items()},
        "k": {"macro": 5, "micro": 2},
        "features": schema.feature_settings(CONFIG),
        "hash": "h",
        "videos": entries,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))


def test_rows_follow_the_videos(tmp_path):
    write_set(tmp_path)
    dataset = shards.load(tmp_path, CONFIG)
    assert dataset.subjects == ("s0", "s1") and shards.complete(tmp_path)
    second = dataset.videos[1]
    assert second.rows == slice(300, 600) and second.frame_ids.tolist() == list(range(1, 301))
    assert second.intervals[0][:4] == (3, -1, 9, "macro")
    flow = dataset.streams["flow"]
    assert flow.dtype == np.float16 and flow.shape == (600, 2, 2)
    assert (flow[:300] == 1).all() and (flow[300:] == 2).all()
    assert set(dataset.streams) == {"flow", "valid", "face", "frame_ids"}
    with pytest.raises(KeyError):
        dataset.streams["strain"]


def test_changed_labels_are_another_data_set(tmp_path):
    write_set(tmp_path)
    before = shards.load(tmp_path).manifest["hash"]
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace('"onset": 3', '"onset": 4'))
    assert shards.load(tmp_path).manifest["hash"] != before


def test_values_that_are_not_finite_are_refused(tmp_path):
    write_set(tmp_path, value=np.inf)
    with pytest.raises(UserError, match="00000-of-00002: field flow has values that are not"):
        shards.load(tmp_path)


def test_a_lost_or_short_shard_is_seen(tmp_path):
    write_set(tmp_path)
    first = tmp_path / schema.shard_name("d", 0, 2)
    data = first.read_bytes()
    first.write_bytes(data[: len(data) // 2])
    assert not shards.complete(tmp_path)
    first.unlink()
    assert not shards.complete(tmp_path)
    with pytest.raises(UserError, match="this shard is missing"):
        shards.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 99}, "schema is 99"),
        ({"videos": []}, "lists no video"),
        (
            {"data": schema.read_settings(CONFIG) | {"layout": "samm_lv"}},
            "made with data.layout='samm_lv', the config wants 'casme2'",
        ),
        (
            {"data": schema.read_settings(CONFIG) | {"annotation": {"outside": "drop"}}},
            "made with data.annotation.onset_zero=None, the config wants 'paper'",
        ),
    ],
)
def test_manifests_that_do_not_fit(tmp_path, changes, message):
    write_set(tmp_path, **changes)
    with pytest.raises(UserError, match=message):
        shards.load(tmp_path, CONFIG)


def test_another_flow_or_k_is_refused_and_no_manifest_too(tmp_path):
    write_set(tmp_path)
    dis = Config(name="x", features=SoftnetFeatures(flow=Flow(method="dis")))
    with pytest.raises(UserError, match="features.flow=.*tvl1.*the config wants .*dis"):
        shards.load(tmp_path, dis)
    other = Config(name="x", features=SoftnetFeatures(k_micro=3))
    with pytest.raises(UserError, match="features.k_micro=2, the config wants 3"):
        shards.load(tmp_path, other)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="manifest.json: damaged"):
        shards.load(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(UserError, match="run python -m data_prep first"):
        shards.load(tmp_path)


def test_taken_rows_are_those_of_the_whole_stream(tmp_path):
    write_set(tmp_path, count=3)
    streams = shards.load(tmp_path).streams
    whole = streams["flow"]
    for rows in ([], [0], [255, 256, 299, 300], list(range(0, 900, 7)), [899]):
        taken = streams.take(["flow", "valid"], np.array(rows, np.int64))
        np.testing.assert_array_equal(taken["flow"], whole[rows])
        assert taken["valid"].tolist() == [1] * len(rows)


def test_flow_of_another_backend_is_refused(tmp_path):
    """The key is not said at its default, so it may be on one side alone."""
    features = schema.feature_settings(CONFIG)
    flow = features["flow"] | {"backend": "jax"}
    write_set(tmp_path, features=features | {"flow": flow})
    with pytest.raises(UserError, match="features.flow=.*jax"):
        shards.load(tmp_path, CONFIG)
