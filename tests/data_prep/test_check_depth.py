"""What data_prep.check says of a depth image."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from data_prep.checks import _check_depth
from spotjax.cli import load_config

SIZE = (24, 32)
GOOD = np.full(SIZE, 600, np.uint16)


@pytest.mark.parametrize(
    ("image", "status", "words"),
    [
        (GOOD, "", ""),
        (GOOD[:12], "bad", "is 32x12 px, colour 32x24 px"),
        (GOOD.astype(np.uint8), "bad", "is no 16-bit depth image"),
        (0 * GOOD, "odd", "nothing was measured"),
        (GOOD // 300, "odd", "half of its values are below 2 mm: is it in mm?"),
    ],
)
def test_faults_of_a_depth_image(
    tmp_path: Path, image: np.ndarray, status: str, words: str
) -> None:
    path = tmp_path / "7.png"
    cv2.imwrite(str(path), image)
    scene = load_config("configs/sfamnet_demo.py")
    found = list(_check_depth(scene, path, SIZE, "s/v"))
    assert [check.status for check in found] == ([status] if status else [])
    assert not words or words in found[0].text
    other = list(_check_depth(load_config("configs/softnet_casme3.py"), path, SIZE, "s/v"))
    assert "bad" not in [check.status for check in other]  # colour alone is all that is read
