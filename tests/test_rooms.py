"""The walls between the rooms, read from the imports in the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
JAX = {"jax", "jaxlib", "flax", "optax", "orbax", "chex"}
NUMPY_ONLY = ["decoding", "counting", "writers"]
"""Rooms, and below single files of others, that import nothing but NumPy, SciPy and the like."""
NUMPY_ONLY_FILES = [
    "score",
    "export",
    "spotting",
    "parameters/released",
    "parameters/released_files",
    "sweeps/runners",
    "sweeps/sweep_table",
    "sweeps/benchmark_table",
    "pages/report",
    "pages/plots",
    "pages/plot_matrix",
    "pages/overlay",
    "pages/compare_page",
    "pages/sweep_page",
    "pages/benchmark_picture",
    "pages/svg_file",
    "pages/png",
    "own/store",
    "own/charts",
    "own/page_text",
]
OWN_VIDEO = {"spot.py", "own/run.py", "own/pictures.py", "own/movie.py", "own/worker.py"}
"""Rooms that import OpenCV and data_prep, but not before a video is to be read."""
SYSTEMS_MUST_NOT_KNOW = {"spotjax.data", "spotjax.loso", "optax", "pathlib", "os"}
COMMANDS = {
    "train.py",
    "evaluate.py",
    "score.py",
    "tables.py",
    "sweep.py",
    "reproduce.py",
    "vary.py",
    "unseen.py",
    "convert.py",
    "spot.py",
    "serve.py",
    "compare.py",
    "figures.py",
    "benchmark.py",
    "errors.py",
}


def imports(path, top_level_only=False):
    """Names imported by a file, relative ones resolved to `data_prep.<name>`."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            names |= {f"{base}.{alias.name}" for alias in node.names} | {base}
    return names


def roots(names):
    return {name.split(".")[0] for name in names}


def sources(folder):
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found
    return found


def known(names, forbidden):
    return {n for n in names if any(n == f or n.startswith(f + ".") for f in forbidden)}


@pytest.mark.parametrize("path", sources("data_prep"), ids=lambda p: p.name)
def test_data_prep_never_imports_jax(path):
    """Only `flow._jax` does, once it is called."""
    names = imports(path, top_level_only=path.name == "flow.py")
    assert not roots(names) & JAX and not known(names, {"spotjax.flow", "spotjax.median"})


def test_the_one_place_of_data_prep_that_imports_jax():
    functions = [n for n in ast.parse((ROOT / "data_prep/flow.py").read_text()).body if
                 isinstance(n, ast.FunctionDef)]  # fmt: skip
    lazy = {f.name: [n for n in ast.walk(f) if isinstance(n, ast.Import)] for f in functions}
    found = {
        name: [a.name for n in nodes for a in n.names] for name, nodes in lazy.items() if nodes
    }
    assert found == {"_jax": ["jax"]}


@pytest.mark.parametrize("path", sources("spotjax"), ids=lambda p: p.name)
def test_the_core_never_imports_opencv_data_prep_or_configs(path):
    own_video = str(path.relative_to(ROOT / "spotjax")) in OWN_VIDEO
    names = imports(path, top_level_only=own_video)
    assert not roots(names) & {"cv2", "dlib", "data_prep", "configs"}
    assert not known(names, {"spotjax.data_prep"})


def numpy_only():
    files = [ROOT / "spotjax" / f"{name}.py" for name in NUMPY_ONLY_FILES]
    return files + [file for room in NUMPY_ONLY for file in sources(f"spotjax/{room}")]


@pytest.mark.parametrize("path", numpy_only(), ids=lambda p: p.name)
def test_rooms_of_numpy_only(path):
    reachable, queue = set(), [path]
    while queue:
        for found in imports(queue.pop()):
            if found in reachable:
                continue
            reachable.add(found)
            place = ROOT / found.replace(".", "/")
            for file in (place.with_suffix(".py"), place / "__init__.py"):
                if found.startswith("spotjax") and file.exists():
                    queue.append(file)
    assert not roots(reachable) & (JAX | {"tensorflow_datasets"})
    assert not known(reachable, {"spotjax.systems", "spotjax.data"})


@pytest.mark.parametrize("path", sources("spotjax/systems"), ids=lambda p: p.name)
def test_systems_know_no_path_fold_or_optimiser(path):
    assert not known(imports(path), SYSTEMS_MUST_NOT_KNOW)


def test_the_contract_imports_nothing_of_ours():
    assert "spotjax" not in roots(imports(ROOT / "spotjax" / "types.py"))


@pytest.mark.parametrize("path", sources("spotjax"), ids=lambda p: p.name)
def test_nothing_prints_below_the_command_line(path):
    calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    prints = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]
    assert not prints or str(path.relative_to(ROOT / "spotjax")) in COMMANDS


@pytest.mark.parametrize("path", sources("spotjax") + sources("data_prep"), ids=lambda p: p.name)
def test_rooms_stay_small(path):
    assert len(path.read_text().splitlines()) <= 350


def test_running_data_prep_loads_no_jax():
    code = (
        "import sys, data_prep.write_shards, data_prep.synthetic, data_prep.__main__;"
        "from data_prep.flow import make_flow; from spotjax.config import Flow;"
        "import numpy; grey = numpy.zeros((16, 16), 'uint8');"
        "[make_flow(Flow(method=m))(grey, grey) for m in ('tvl1', 'dis', 'farneback')];"
        f"sys.exit(bool({JAX!r} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
