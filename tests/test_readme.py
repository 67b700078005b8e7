"""README and CONTRIBUTING name what is there; the map of the modules is that of their imports."""

import ast
import importlib.util
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXTS = {name: (ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md")}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for room in ("spotjax", "data_prep")
    for path in (ROOT / room).rglob("*.py")
}


@cache
def imported(module):
    """The project's own modules that a module imports anywhere in it."""
    path, found = MODULES[module], set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            up = package.split(".")[: len(package.split(".")) + 1 - node.level]
            base = ".".join([*(up if node.level else ()), *([node.module] if node.module else ())])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    installed = {name.removeprefix("spotjax.") for name in found if ".data_prep" in name}
    return {name for name in found | installed if name in MODULES and name != module}


def parse(text):
    """Boxes {name: label} of modules, of files on disk, and arrows [(from, to)] of a flowchart."""
    boxes = dict(re.findall(r'^\s*(\w+)\["([^"]+)"\]$', text, re.MULTILINE))
    disk = dict(re.findall(r"^\s*(\w+)\[\(([^)]+)\)\]$", text, re.MULTILINE))
    arrows = []
    for line in text.splitlines():
        if "->" in line:
            names = re.split(r'\s*(?:-->|-\.->|-\. "[^"]*" \.->)\s*', line.strip())
            arrows += list(zip(names, names[1:], strict=False))
    return boxes, disk, arrows


DIAGRAMS = [
    parse(block)
    for text in TEXTS.values()
    for block in re.findall(r"```mermaid\n(.*?)```", text, re.DOTALL)
]


def members(label):
    """The modules that a box stands for: a file or a pattern of files."""
    names = {path: name for name, path in MODULES.items()}
    return {names[path] for path in ROOT.glob(label)}


def joined(a, b):
    """Whether a module of one box imports one of the other."""
    return any(
        members(other) & imported(module)
        for one, other in ((a, b), (b, a))
        for module in members(one)
    )


def test_there_is_one_map_and_it_is_whole():
    [(boxes, disk, arrows)] = DIAGRAMS
    assert len(boxes) >= 20 and len(disk) >= 3
    assert {name for arrow in arrows for name in arrow} == boxes.keys() | disk.keys()
    for room in ("data_prep", "spotjax"):
        assert any(label.startswith(room) for label in boxes.values())


def test_every_box_is_a_module():
    for boxes, _, _ in DIAGRAMS:
        for label in boxes.values():
            assert members(label), f"{label}: no such module"


def test_every_arrow_between_modules_is_an_import():
    for boxes, _, arrows in DIAGRAMS:
        inner = [(a, b) for a, b in arrows if a in boxes and b in boxes]
        assert len(inner) >= 20
        for a, b in inner:
            assert joined(boxes[a], boxes[b]), f"{boxes[a]} and {boxes[b]} do not know each other"


def test_a_wrong_arrow_is_found():
    assert not joined("spotjax/counting/matching.py", "spotjax/train.py")
    assert not joined("data_prep/flow.py", "spotjax/loso/training.py")
    assert joined("spotjax/train.py", "spotjax/data/plans.py")
    assert "spotjax.data.plans" in imported("spotjax.loso.training")


@pytest.mark.parametrize("name", TEXTS)
def test_links_configs_and_commands_are_there(name):
    text = TEXTS[name]
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (ROOT / target).exists(), f"{name}: {target}"
    shown = re.findall(r"^```python\n# (\S+)", text, re.M)  # files that a reader makes
    for config in re.findall(r"configs/[\w/]+\.(?:py|png)", text):
        assert (ROOT / config).exists() or config in shown, f"{name}: {config}"
    commands = re.findall(r"python -m ((?:spotjax|data_prep|benchmarks)[\w.]*)", text)
    for module in {command.rstrip(".") for command in commands}:
        assert importlib.util.find_spec(module) is not None, f"{name}: python -m {module}"
