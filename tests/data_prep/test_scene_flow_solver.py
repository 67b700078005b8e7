"""The compiled solver against plain NumPy and against a direct solution of its linear system."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import spsolve

from benchmarks import scene_flow_numpy
from data_prep import scene_flow, scene_flow_solver
from data_prep.scene_flow import Level, Rgbd, Settings

ROOT = Path(__file__).resolve().parents[2]


def frames(height: int, width: int, grey: bool = False, seed: int = 0) -> tuple[Rgbd, Rgbd]:
    """A waving, tinted surface before a wall, and the same moved, with noise and holes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float64)
    found = []
    for shift, nearer in ((0.0, 0.0), (1.3, 6.0)):
        a, b = x - shift, y + 0.6 * shift
        waves = [
            np.sin(a / 3 + k) * np.cos(b / 4 - k) + 0.5 * np.sin((a + b) / 7) for k in range(3)
        ]
        colour = 128 + 60 * np.dstack(waves) + rng.normal(0, 2, (height, width, 3))
        depth = 620 + 8 * np.sin(a / 11) + 0.4 * b - nearer
        depth[:, x[0] > 0.8 * width + shift] = 900
        depth = np.rint(depth + rng.normal(0, 1, depth.shape))
        depth[rng.random(depth.shape) < 0.02] = 0
        colour = np.clip(colour, 0, 255).astype(np.uint8)
        found.append(Rgbd(colour[..., 1].copy() if grey else colour, depth.astype(np.uint16)))
    return found[0], found[1]


def finest(settings: Settings, height: int = 24, width: int = 30) -> Level:
    return scene_flow._levels(*frames(height, width), settings)[0]


def refined(level: Level, flow: np.ndarray, settings: Settings, coarsest: bool = True) -> int:
    """As `scene_flow._refine`, but returns the number of sweeps."""
    one = np.float32
    return scene_flow_solver.refine(
        level.first, level.second, level.trust, level.smoothness, flow, one(settings.focal),
        one(level.focal), one(settings.alpha), one(settings.gamma), settings.rounds,
        settings.sweeps, one(settings.relaxation), one(settings.tolerance),
        one(0 if coarsest else settings.settled),
    )  # fmt: skip


@pytest.mark.parametrize("size", [(48, 64), (51, 37)])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize(
    ("changes", "mean", "most"),
    [
        ({}, 1e-3, 0.2),  # rounding grows in the strip of wall, which little holds in its place
        ({"relaxation": 1.8}, 2e-5, 2e-3),
        ({"relaxation": 0.7, "rounds": 5}, 2e-5, 2e-3),
        ({"sweeps": 60, "relaxation": 1.8, "tolerance": 1e-4, "settled": 1e-4}, 2e-5, 2e-3),
    ],
)
def test_compiled_equals_numpy(
    size: tuple[int, int], grey: bool, changes: dict, mean: float, most: float
) -> None:
    """Through the whole pyramid."""
    pair = frames(*size, grey)
    settings = Settings(300.0)._replace(**changes)
    found = scene_flow.scene_flow(*pair, settings)
    expected = scene_flow.coarse_to_fine(*pair, settings, scene_flow_numpy.refine)
    assert np.abs(expected).max() > 0.5
    difference = np.abs(found - expected)
    assert np.median(difference) < 3e-5
    assert difference.mean() < mean and difference.max() < most


def test_one_round_equals_numpy_closely() -> None:
    settings = Settings(300.0, rounds=1)
    level = finest(settings)
    start = np.random.default_rng(1).normal(0, 0.5, level.first[:3].shape).astype(np.float32)
    found, expected = start.copy(), start.copy()
    assert refined(level, found, settings) == 15
    assert scene_flow_numpy.refine(level, expected, settings, True) == 15
    assert np.abs(found - start).max() > 0.3
    np.testing.assert_allclose(found, expected, atol=3e-4)
    assert np.abs(found - expected).mean() < 1e-5


def test_the_sweeps_end_at_the_solution_of_the_linear_system() -> None:
    settings = Settings(300.0, rounds=1, sweeps=3000, relaxation=1.8)
    level = finest(settings)
    start = np.random.default_rng(2).normal(0, 0.2, level.first[:3].shape).astype(np.float32)
    edges = scene_flow_numpy.smoothness(start, level.smoothness, np.float32(settings.alpha))
    blocks, sides = scene_flow_numpy.linearise(
        level, start, edges, np.float32(settings.focal), np.float32(settings.gamma)
    )
    height, width = edges.shape[1:]
    number = np.arange(height * width).reshape(height, width)
    matrix = sparse.lil_array((3 * height * width, 3 * height * width))
    for y in range(height):
        for x in range(width):
            here = 3 * number[y, x]
            matrix[here : here + 3, here : here + 3] = blocks[:, :, y, x]
            for edge, (row, column) in zip(
                edges[:, y, x], ((y, x - 1), (y, x + 1), (y - 1, x), (y + 1, x)), strict=True
            ):
                if 0 <= row < height and 0 <= column < width:
                    for k in range(3):
                        matrix[here + k, 3 * number[row, column] + k] = -edge
    matrix = matrix.tocsc()
    assert np.abs(matrix - matrix.T).max() < 1e-6  # symmetric
    solution = spsolve(matrix, sides.reshape(3, -1).T.ravel().astype(np.float64))
    expected = solution.reshape(height, width, 3).transpose(2, 0, 1)
    found = start.copy()
    refined(level, found, settings)
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(found - start, expected, atol=2e-3)


def test_sweeps_and_rounds_end_when_nothing_changes() -> None:
    level = finest(Settings(300.0))

    def sweeps(coarsest: bool, **changes: float) -> int:
        settings = Settings(300.0, rounds=4, sweeps=2000, relaxation=1.8)._replace(**changes)
        flow = np.zeros_like(level.first[:3])
        return refined(level, flow, settings, coarsest)

    assert sweeps(True) == 8000
    tested = sweeps(True, tolerance=1e-4)
    assert tested < 2000 and tested % 25 == 0
    assert sweeps(True, tolerance=10.0) == 4 * 25
    assert sweeps(False, settled=1e9) == 2000  # one round
    assert sweeps(True, settled=1e9) == 8000  # not at the coarsest level


def run(code: str, folder: Path, **environment: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_numba_is_imported_only_when_it_is_needed() -> None:
    code = "import sys; import data_prep.scene_flow; print('numba' in sys.modules)"
    assert run(code, ROOT).strip() == "False"


FILL = """
import numpy as np
image = np.zeros((4, 4), np.float32)
image[1, 1] = 7
print(fill(image), image.min())
"""


def test_what_is_kept_serves_both_names_of_the_package(tmp_path: Path) -> None:
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    from_checkout = "from data_prep.scene_flow_fill import fill\n" + FILL
    installed = "from spotjax.data_prep.scene_flow_fill import fill\n" + FILL
    for _ in range(2):
        assert run(from_checkout, ROOT, **cache).split() == ["0", "7.0"]
        assert run(installed, tmp_path, **cache).split() == ["0", "7.0"]
    kept = sorted(path.name.split("-")[0] for path in (tmp_path / "cache").rglob("*.nbi"))
    assert kept == [
        f"scene_flow_fill.{name}.scene_flow_fill.fill"
        for name in ("data_prep", "spotjax.data_prep")
    ]


def test_without_a_folder_to_write_it_compiles_in_memory(tmp_path: Path) -> None:
    nowhere = {"NUMBA_CACHE_LOCATOR_CLASSES": "ZipCacheLocator"}  # fits no plain source file
    code = "from data_prep.scene_flow_fill import fill\n" + FILL
    assert run(code, ROOT, **nowhere).split() == ["0", "7.0"]
