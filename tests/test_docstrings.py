"""What the docstrings of public names must say, read from the source: shapes and errors."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "spotjax").rglob("*.py"), *(ROOT / "data_prep").rglob("*.py")])
SHAPE = re.compile(r"(?:\b(?:bool|str|dtype|[iuf](?:8|16|32|64)?)|`)\[[^\]]*\]")
"""`f32[B, 42, 42, 3]`, `bool[F]`, `f[T]` of any float; `[N, ...]` in backquotes of any type."""
ARRAYS = frozenset({"ndarray", "NDArray", "Array"})
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def last_word(node):
    """`Array` of the node of `jax.Array`, empty where it is no name."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def holds_array(annotation, arrays):
    """Whether a value of this type is or has an array; a function that takes some has none."""
    if isinstance(annotation, ast.Subscript) and last_word(annotation.value) == "Callable":
        return False
    children = ast.iter_child_nodes(annotation)
    return last_word(annotation) in arrays or any(holds_array(child, arrays) for child in children)


def note_after(body, position):
    """The string that stands after a name in the source and says what it is."""
    after = body[position + 1] if position + 1 < len(body) else None
    said = after.value if isinstance(after, ast.Expr) else None
    return said.value if isinstance(said, ast.Constant) and isinstance(said.value, str) else ""


def undescribed_aliases(trees):
    """`ARRAYS` and the names of array types (`Floats = NDArray[np.float32]`) that give no shape.

    Those that do, as `Samples`, need no shape where they are used.
    """
    found = set(ARRAYS)
    for tree in trees:
        for position, node in enumerate(tree.body):
            if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Subscript):
                continue
            described = SHAPE.search(note_after(tree.body, position))
            if holds_array(node.value, ARRAYS) and not described:
                found.add(last_word(node.targets[0]))
    return frozenset(found)


def leaving(function):
    """Names of the errors that a function raises itself and does not catch again.

    Those of a function within it are not its own; `raise` alone passes on what another one raised;
    `NotImplementedError` is that of a method which subclasses replace.
    """
    found = []

    def visit(node, caught):
        if isinstance(node, (*FUNCTIONS, ast.Lambda, ast.ClassDef)):
            return
        if isinstance(node, ast.Raise) and node.exc is not None:
            error = last_word(node.exc.func if isinstance(node.exc, ast.Call) else node.exc)
            if error[:1].isupper() and error not in caught:
                found.append(error)
        handlers = node.handlers if isinstance(node, ast.Try) else []
        types = {last_word(t) for h in handlers if h.type for t in ast.walk(h.type)}
        for child in ast.iter_child_nodes(node):
            inside = isinstance(node, ast.Try) and child in node.body
            visit(child, caught | types if inside else caught)

    for statement in function.body:
        visit(statement, {"NotImplementedError"})
    return list(dict.fromkeys(found))


def public(tree):
    """(name, node, docstring) of every public class, function, method and constructor."""
    for node in tree.body:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not node.name.startswith("_"):
            text = ast.get_docstring(node) or ""
            yield node.name, node, text
            for method in node.body if isinstance(node, ast.ClassDef) else ():
                if not isinstance(method, FUNCTIONS):
                    continue
                own = ast.get_docstring(method) or ""
                if method.name == "__init__":
                    yield f"{node.name}.__init__", method, f"{text}\n{own}"
                elif not method.name.startswith("_"):
                    yield f"{node.name}.{method.name}", method, own


def array_fields(node, arrays):
    """(name, string after it) of the annotated fields of a class that hold arrays."""
    for position, field in enumerate(node.body):
        if isinstance(field, ast.AnnAssign) and holds_array(field.annotation, arrays):
            yield last_word(field.target), note_after(node.body, position)


def faults(tree, arrays=ARRAYS):
    """What the public docstrings of a module lack, a line for each."""
    found = []
    for name, node, text in public(tree):
        if isinstance(node, ast.ClassDef):
            found += [
                f"{name}.{field} gives no shape"
                for field, note in array_fields(node, arrays)
                if not SHAPE.search(text) and not SHAPE.search(note)
            ]
            continue
        args = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        types = [a.annotation for a in args if a.annotation and a.arg != "key"]  # a key of JAX
        types += [node.returns] if node.returns else []
        if any(holds_array(type, arrays) for type in types) and not SHAPE.search(text):
            found.append(f"{name} gives no shape")
        for error in leaving(node):
            if not re.search(rf"\b{error}\b", text):
                found.append(f"{name} does not name {error}")
    return found


@pytest.fixture(scope="module")
def modules():
    """Every source by its path in the repository."""
    found = {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in SOURCES}
    assert {"spotjax/counting/matching.py", "data_prep/faces.py"} <= set(found)
    return found


def test_public_docstrings_give_shapes_and_errors(modules):
    arrays = undescribed_aliases(modules.values())
    assert "Floats" in arrays and "Samples" not in arrays
    lacking = [f"{path}: {f}" for path, tree in modules.items() for f in faults(tree, arrays)]
    assert not lacking, "\n".join(lacking)


BARE = 'def f(x: {}) -> int:\n    """Of x{}."""'
CLASS = 'class A:\n    """A{}."""\n    {}'


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (BARE.format("np.ndarray", " [N]"), ["f gives no shape"]),
        (BARE.format("list[jax.Array | None]", ""), ["f gives no shape"]),
        (BARE.format("np.ndarray", ", f32[N]"), []),
        (BARE.format("dict[str, np.ndarray]", ", `[N, ...]` by name"), []),
        (BARE.format("Callable[[np.ndarray], int]", ""), []),
        ('def f() -> np.ndarray:\n    """Something."""', ["f gives no shape"]),
        ('def f(key: jax.Array) -> int:\n    """Random."""', []),
        ("def f(x: np.ndarray) -> int:\n    pass", ["f gives no shape"]),
        ("def _f(x: np.ndarray) -> int:\n    pass", []),
        (CLASS.format("", 'def f(self, x: Array):\n        """F."""'), ["A.f gives no shape"]),
        (CLASS.format("", 'x: Array\n    """bool[N]"""\n    y: Array'), ["A.y gives no shape"]),
        (CLASS.format(" of f32[N]", "x: Array\n    y: Array"), []),
        (CLASS.format(" of f32[N]", 'def __init__(self, x: Array):\n        """Keep."""'), []),
    ],
)
def test_the_rule_about_shapes(source, expected):
    assert faults(ast.parse(source)) == expected


LACKS = {error: [f"f does not name {error}"] for error in ("ValueError", "UserError")}


@pytest.mark.parametrize(
    ("body", "text", "expected"),
    [
        ("if x: raise ValueError('no')", "May fail.", LACKS["ValueError"]),
        ("if x: raise ValueError('no')", "Raises ValueError.", []),
        ("raise ValueError", "Raises NotAValueError.", LACKS["ValueError"]),
        ("for y in x:\n        with y: raise a.UserError('no')", "F.", LACKS["UserError"]),
        ("try: g()\n    except OSError: raise UserError from None", "F.", LACKS["UserError"]),
        ("try: g()\n    except ValueError: raise ValueError('no')", "F.", LACKS["ValueError"]),
        ("try: g()\n    except OSError: raise", "F.", []),
        ("try: raise ValueError('no')\n    except (OSError, ValueError): pass", "F.", []),
        ("def inner(): raise ValueError('no')", "F.", []),
        ("raise NotImplementedError", "F.", []),
    ],
)
def test_the_rule_about_errors(body, text, expected):
    assert faults(ast.parse(f'def f(x):\n    """{text}"""\n    {body}')) == expected


def test_a_type_that_gives_its_shape_is_not_asked_for_it_again():
    said, bare = 'Said = dict[str, np.ndarray]\n"""f32[N] by name."""\n', "Bare = NDArray[int]\n"
    assert undescribed_aliases([ast.parse(said), ast.parse(bare)]) == {*ARRAYS, "Bare"}
