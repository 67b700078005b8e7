"""Every key of a config is used: a setting that nothing reads would be a silent lie."""

import ast
import dataclasses
import re
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from spotjax.config import Config

ROOT = Path(__file__).parents[1]
SYSTEMS = ("Softnet", "Spotformer", "Sfamnet", "Mesnet", "Cnn3d")


def sections(kind, found=None):
    """All sections below `kind`, by name."""
    found = {} if found is None else found
    if dataclasses.is_dataclass(kind) and isinstance(kind, type) and kind.__name__ not in found:
        found[kind.__name__] = kind
        for field in dataclasses.fields(kind):
            sections(field.type, found)
    for part in get_args(kind):
        sections(part, found)
    return found


SECTIONS = sections(Config)
KEYS = [
    (name, field.name)
    for name, section in SECTIONS.items()
    for field in dataclasses.fields(section)
    if (name, field.name) != ("Config", "name")
]


def rooms(section):
    """Where the keys of a section must be read: a system's in no other system's files."""
    if section in SYSTEMS:
        others = tuple(name.lower() for name in SYSTEMS if name != section)
        files = (ROOT / "spotjax/systems").glob("*.py")
        return [file for file in files if not file.name.startswith(others)]
    if section.endswith("Features"):
        return [*(ROOT / "data_prep").glob("*.py"), ROOT / "spotjax/data/schema.py"]
    return [*(ROOT / "spotjax").rglob("*.py"), *(ROOT / "data_prep").rglob("*.py")]


@cache
def read(file):
    """What a file reads: attributes and whole strings, and patterns of f-strings."""
    tree = ast.parse(file.read_text())
    prose = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    plain, patterns = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            plain.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            plain |= {node.value} if id(node) not in prose else set()
        elif isinstance(node, ast.JoinedStr):
            parts = [re.escape(p.value) if isinstance(p, ast.Constant) else r"\w+"
                     for p in node.values]  # fmt: skip
            if any(isinstance(p, ast.Constant) and len(p.value) > 1 for p in node.values):
                patterns.add("".join(parts))
    return plain, patterns


def is_read(key, files):
    for file in files:
        plain, patterns = read(file)
        if key in plain or any(re.fullmatch(pattern, key) for pattern in patterns):
            return True
    return False


@pytest.mark.parametrize(("section", "key"), KEYS, ids=".".join)
def test_a_key_is_read_somewhere(section, key):
    assert is_read(key, rooms(section)), f"{section}.{key} is used nowhere: use or remove it"


def test_all_sections_are_looked_at():
    assert set(SYSTEMS) < set(SECTIONS) and {"Train", "Annotation", "Flow"} < set(SECTIONS)
    assert len(KEYS) > 150


def test_a_key_that_nothing_reads_is_found():
    assert not is_read("lerning_rate", rooms("Train"))
    assert not is_read("t_cpn", rooms("Softnet")) and is_read("t_cpn", rooms("Mesnet"))
    assert is_read("skips_micro", rooms("Cnn3d"))  # as f"skips_{type}"
