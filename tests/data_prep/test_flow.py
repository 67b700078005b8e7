from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_prep import flow
from spotjax.config import Flow
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


def test_a_flow_that_is_not_finite_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "dis", lambda: lambda a, b: np.full((*a.shape, 2), np.nan))
    grey = np.zeros((8, 8), np.uint8)
    with pytest.raises(UserError, match="dis flow is not finite"):
        flow.make_flow(Flow(method="dis"))(grey, grey)


def test_opencv_without_contrib_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "optflow")
    with pytest.raises(UserError, match="tvl1 needs OpenCV's contrib modules: pip install"):
        flow.make_flow(Flow())
