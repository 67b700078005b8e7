"""CONTRIBUTING.md is what it says: its blocks are run, linted and hold the rules of the house."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
from test_rooms import JAX, SYSTEMS_MUST_NOT_KNOW, imports, known, roots

import spotjax.config
from data_prep import readers
from spotjax import systems
from spotjax.counting import matching

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
NAMES = ("softnet", "spotformer", "sfamnet", "mesnet", "cnn3d")


def blocks():
    """Code by the file that its first line names, in the order of the text."""
    found = re.findall(r"^```python\n# (\S+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert len(found) == TEXT.count("```python")
    return dict(found)


BLOCKS = blocks()
TESTS = {file: code for file, code in BLOCKS.items() if file.startswith("tests/")}


def module(monkeypatch, file):
    """The block of `file` as a module; one that does not exist yet can be imported."""
    name = file.removesuffix(".py").replace("/", ".")
    made = types.ModuleType(f"contributing.{name}")
    made.__file__ = f"CONTRIBUTING.md: {file}"
    monkeypatch.setitem(sys.modules, made.__name__, made)
    if not (ROOT / file).exists():
        monkeypatch.setitem(sys.modules, name, made)
    exec(compile(BLOCKS[file], made.__file__, "exec"), made.__dict__)
    return made


@pytest.fixture
def added(monkeypatch):
    """What the guide adds, registered where it says."""
    config = module(monkeypatch, "spotjax/config/systems.py")
    monkeypatch.setattr(spotjax.config.systems, "Linear", config.Linear, raising=False)
    linear = module(monkeypatch, "spotjax/systems/linear.py")
    monkeypatch.setitem(systems._BUILDERS, "linear", linear.build)
    module(monkeypatch, "data_prep/extract_brightness.py")
    clips = module(monkeypatch, "data_prep/readers/clips.py")
    monkeypatch.setitem(readers.LAYOUTS, "clips", readers.Layout(clips.read, clips.HOLDS))
    rule = module(monkeypatch, "spotjax/counting/matching.py")
    monkeypatch.setitem(matching.RULES, "middle", rule.MIDDLE)


def functions():
    return [
        (file, node.name, "tmp_path" in [a.arg for a in node.args.args])
        for file, code in TESTS.items()
        for node in ast.parse(code).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


@pytest.mark.parametrize(("file", "name", "has_folder"), functions(), ids=lambda value: str(value))
def test_of_the_guide(file, name, has_folder, added, monkeypatch, tmp_path):
    test = getattr(module(monkeypatch, file), name)
    test(tmp_path) if has_folder else test()


def test_each_part_is_shown_with_a_test():
    assert [file for file in BLOCKS if file not in TESTS] == [
        "spotjax/config/systems.py",
        "spotjax/systems/linear.py",
        "configs/linear_demo.py",
        "data_prep/extract_brightness.py",
        "data_prep/readers/clips.py",
        "spotjax/counting/matching.py",
    ]
    assert len(functions()) >= 7


def grown(root):
    """A copy of the program in which the guide's system is where the guide says."""
    for name in ("spotjax", "data_prep", "configs"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "spotjax/data_prep").symlink_to(root / "data_prep")
    for file in ("spotjax/systems/linear.py", "configs/linear_demo.py"):
        (root / file).write_text(BLOCKS[file])
    section = BLOCKS["spotjax/config/systems.py"].partition("@section")[2]
    edits = {
        "spotjax/config/systems.py": [
            ("AnySystem = ", f"@section{section}\n\nAnySystem = Linear | ")
        ],
        "spotjax/systems/__init__.py": [
            ("import cnn3d,", "import cnn3d, linear,"),
            ('    "cnn3d": ', '    "linear": linear.build,\n    "cnn3d": '),
        ],
    }
    for file, changes in edits.items():
        text = (root / file).read_text()
        for old, new in changes:
            assert text.count(old) == 1, f"{file}: {old}"
            text = text.replace(old, new)
        (root / file).write_text(text)
    return root


def test_the_guides_system_is_trained_like_any_other(tmp_path):
    root = grown(tmp_path)
    words = [
        "data.synthetic.root=data/tiny", "data.synthetic.subjects=3", "data.synthetic.videos=1",
        "data.synthetic.seconds=6", "data.jobs=1", "train.epochs=2", "train.devices=1",
        "evaluation.bootstrap=0", "evaluation.chance_draws=2",
    ]  # fmt: skip
    line = [sys.executable, "-m", "spotjax.train", "--config", "configs/linear_demo.py"]
    done = subprocess.run(
        [*line, *(f"--config.{word}" for word in words)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    protocol = json.loads((root / "runs/linear_demo/metrics.json").read_text())["protocol"]
    assert protocol["system"] == "linear" and protocol["interval"] == "centred"
    assert protocol["strain_sum"] == "interval centred, smoothing paper"
    page = (root / "runs/linear_demo/report.html").read_text()
    assert "Linear" in page and "threshold = mean + p (max - mean)" in page


@pytest.mark.parametrize("words", [("check",), ("format", "--check")], ids=lambda words: words[0])
def test_the_blocks_pass_the_linter_and_the_formatter(words):
    ours = "lint.isort.known-first-party=['spotjax', 'data_prep']"  # files that are not there too
    for file, code in BLOCKS.items():
        whole = code if code.startswith('"""') else f'"""A part of the file."""\n\n{code}'
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *words, "--config", ours, "--no-cache"]
            + ["--stdin-filename", file, "-"],
            cwd=ROOT,
            input=whole,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{file}:\n{done.stdout}{done.stderr}"


def test_the_blocks_respect_the_walls(tmp_path):
    for file, code in BLOCKS.items():
        path = tmp_path / "block.py"
        path.write_text(code)
        names = imports(path)
        if file.startswith("spotjax/systems/"):
            assert not known(names, SYSTEMS_MUST_NOT_KNOW)
            assert 60 <= len(code.splitlines()) <= 110
        if file.startswith("data_prep/"):
            assert not roots(names) & JAX
        if file.startswith("spotjax/"):
            assert not roots(names) & {"cv2", "data_prep"}


def named(path):
    """Which systems the code of a file names: in names, imports or strings of one word."""
    tree = ast.parse(path.read_text())
    prose = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    words = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            words.add(node.id)
        elif isinstance(node, ast.alias):
            words.add(node.name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            words |= {node.value} - {None if id(node) not in prose else node.value}
    plain = {word.lower().removesuffix("features").removeprefix("extract_") for word in words}
    return plain & set(NAMES)


def places():
    """Files of the table of places, folders left out."""
    rows = re.findall(r"^\| (`[^|]+) \|", TEXT.split("### Where a system is named")[1], re.M)
    return {name for row in rows for name in re.findall(r"`([\w/.]+\.(?:py|json))`", row)}


def test_the_table_has_every_place_where_most_systems_are_named():
    found = {
        str(path.relative_to(ROOT))
        for room in ("spotjax", "data_prep")
        for path in (ROOT / room).rglob("*.py")
        if len(named(path)) >= 4
    }
    rules = {
        "spotjax/counting/matching.py",
        "spotjax/config/experiment.py",
    }  # they have papers' names
    assert found - rules <= places()
    for place in places():
        assert (ROOT / place).is_file(), place


@pytest.mark.parametrize(
    ("file", "symbol"), re.findall(r"^\| `(\S+\.py)` \| `(\w+)`", TEXT, re.MULTILINE)
)
def test_the_names_of_the_table_are_there(file, symbol):
    assert re.search(rf"^(def )?{symbol}\b", (ROOT / file).read_text(), re.MULTILINE)


def test_commands_and_paths_are_there():
    makefile = (ROOT / "Makefile").read_text().replace("$(VENV)", ".venv")
    for target in re.findall(r"^make (\S+)", TEXT, re.MULTILINE):
        assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), target
    made = set(BLOCKS)
    for path in re.findall(r"`((?:spotjax|data_prep|tests|benchmarks)/[\w/.]+)`", TEXT):
        assert (ROOT / path).exists() or path in made, path
