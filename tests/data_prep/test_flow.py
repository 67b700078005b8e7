import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from data_prep import flow
from spotjax.config import Config, Flow, SoftnetFeatures
from spotjax.data import schema
from spotjax.errors import UserError


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    """A texture and itself moved by +1.5 px in x and -1 px in y."""
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.uniform(0, 255, (160, 160)).astype(np.float32), (0, 0), 3)
    texture = (texture - texture.min()) / np.ptp(texture) * 255
    y, x = np.mgrid[16:144, 16:144].astype(np.float32)
    moved = cv2.remap(texture, x - 1.5, y + 1, cv2.INTER_CUBIC)
    return texture[16:144, 16:144].astype(np.uint8), moved.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("method", ["tvl1", "farneback", "dis"])
def test_known_motion(method: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    compute = flow.make_flow(Flow(method=method))  # type: ignore[arg-type]
    found = compute(*pair)
    assert found.shape == (128, 128, 2) and found.dtype == np.float32
    np.testing.assert_allclose(found[16:-16, 16:-16].mean(axis=(0, 1)), (1.5, -1), atol=0.15)
    np.testing.assert_array_equal(compute(*pair), found)  # nothing is carried over between pairs


def test_tvl1_golden(shared: Callable[[str], Path]) -> None:
    """Another OpenCV version: the interior only."""
    golden = np.load(shared("goldens/softnet_preprocess.npz"))
    difference = flow.make_flow(Flow())(*golden["tvl1/images"]) - golden["tvl1/flow"]
    inside = np.abs(difference[8:-8, 8:-8])
    assert inside.max() < 0.1 and inside.mean() < 0.01


def test_tvl1_of_jax_is_opencv_s(pair: tuple[np.ndarray, np.ndarray]) -> None:
    one, two = (np.ascontiguousarray(image[40:64, 50:72]) for image in pair)
    compute = flow.make_flow(Flow(backend="jax"))
    found = compute(one, two)
    assert found.dtype == np.float32 and found.shape == (24, 22, 2) and found.flags.writeable
    apart = found - flow.make_flow(Flow())(one, two)
    assert np.hypot(apart[..., 0], apart[..., 1]).mean() < 0.02
    np.testing.assert_array_equal(compute(one, two), found)


def test_a_batch_for_an_accelerator_is_filled_up(
    pair: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, seen = Flow(method="tvl1", backend="jax"), []

    def pairs(firsts: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        seen.append(firsts.shape)
        moved = np.float32(firsts) - seconds
        return np.stack([moved, -moved], axis=-1)

    monkeypatch.setattr(flow, "_on_cpu", lambda: False)
    monkeypatch.setattr(flow, "_tvl1_pairs", lambda: pairs)
    several, at_a_time = flow.make_pairs(config)
    found = several([pair[0], pair[1]], [pair[1], pair[0]])
    assert at_a_time == flow.BATCH and seen == [(flow.BATCH, *pair[0].shape)]
    assert len(found) == 2 and found[0].shape == (*pair[0].shape, 2)
    np.testing.assert_array_equal(found[0], -found[1])
    monkeypatch.setattr(flow, "_tvl1_pairs", lambda: lambda a, b: np.full((64, 2, 2, 2), np.nan))
    with pytest.raises(UserError, match="not finite"):
        flow.make_pairs(config)[0]([pair[0]], [pair[1]])


def test_only_tvl1_is_computed_by_jax() -> None:
    with pytest.raises(ValidationError, match="jax has tvl1 only: leave backend at opencv for"):
        Flow(method="dis", backend="jax")


SET_UP = """
import os
from data_prep.flow import make_flow
from spotjax.config import Flow
make_flow(Flow(backend="jax"))
import jax
print(os.environ["NPROC"], jax.default_backend(), jax.config.jax_compilation_cache_dir)
"""


def test_a_process_of_data_prep_gets_one_thread_and_the_cache(tmp_path: Path) -> None:
    """Unless the environment says otherwise."""
    bare = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    bare |= {"XDG_CACHE_HOME": str(tmp_path)}
    said = {"NPROC": "2", "JAX_COMPILATION_CACHE_DIR": "mine", "JAX_PLATFORMS": "cpu"}
    for more, expected in (({}, f"1 cpu {tmp_path / 'spotjax'}"), (said, "2 cpu mine")):
        command = [sys.executable, "-c", SET_UP]
        done = subprocess.run(command, env=bare | more, capture_output=True, text=True, check=True)
        assert done.stdout.split("\n")[0] == expected


def test_shards_older_than_the_backend_are_used() -> None:
    plain, other = (
        Config(name="x", features=SoftnetFeatures(flow=Flow(backend=backend)))
        for backend in ("opencv", "jax")
    )
    assert schema.feature_settings(plain)["flow"] == {"method": "tvl1"}
    assert schema.feature_settings(other)["flow"] == {"method": "tvl1", "backend": "jax"}
    k = {"macro": 8, "micro": 3}
    assert schema.extraction_digest(plain, k) != schema.extraction_digest(other, k)
    assert schema.feature_settings(plain, "mdmd")["flow"] == {"method": "farneback"}


def test_a_flow_that_is_not_finite_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "dis", lambda: lambda a, b: np.full((*a.shape, 2), np.nan))
    grey = np.zeros((8, 8), np.uint8)
    with pytest.raises(UserError, match="dis flow is not finite"):
        flow.make_flow(Flow(method="dis"))(grey, grey)


def test_opencv_without_contrib_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "optflow")
    with pytest.raises(UserError, match="tvl1 needs OpenCV's contrib modules: pip install"):
        flow.make_flow(Flow())
