"""How large functions, files and classes may be: small enough to be read at one sitting."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "batchembed"

LINES_OF_A_FUNCTION = 60
LINES_OF_A_FILE = 300
PUBLIC_METHODS = 10
PARAMETERS_BY_POSITION = 5

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def too_large(name: str, source: str) -> list[str]:
    """What in one module is larger than it may be."""
    found = []
    if (lines := len(source.splitlines())) > LINES_OF_A_FILE:
        found.append(f"{name}: {lines} lines; make it a folder with the same import path")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, FUNCTIONS):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > LINES_OF_A_FUNCTION:
                found.append(f"{name}:{node.name}: {lines} lines; name its steps")
            given = [
                a for a in node.args.posonlyargs + node.args.args if a.arg not in ("self", "cls")
            ]
            if len(given) > PARAMETERS_BY_POSITION:
                found.append(f"{name}:{node.name}: {len(given)} parameters; make them keyword-only")
        if isinstance(node, ast.ClassDef):
            methods = {n.name for n in node.body if isinstance(n, FUNCTIONS) and n.name[0] != "_"}
            if len(methods) > PUBLIC_METHODS:
                found.append(
                    f"{name}:{node.name}: {len(methods)} methods; it is more than one thing"
                )
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_is_too_large(path):
    """Each module keeps within the sizes."""
    assert too_large(path.name, path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x = 1\n" * 301, "301 lines"),
        ("def f():\n" + "    x = 1\n" * 60, "61 lines"),
        ("async def f():\n" + "    x = 1\n" * 60, "61 lines"),
        ("def f(a, b, c, d, e, g): ...", "6 parameters"),
        ("class C:\n    def f(self, a, /, b, c, d, e, g): ...", "6 parameters"),
        ("class C:\n" + "".join(f"    def m{n}(self): ...\n" for n in range(11)), "11 methods"),
    ],
)
def test_what_is_too_large_is_seen(source, says):
    """Each size, passed by one, is reported."""
    found = too_large("planted", source)
    assert len(found) == 1
    assert says in found[0]


def test_the_largest_that_may_be_is_not_reported():
    """Each size may be reached; keyword-only parameters and private methods do not count."""
    methods = "".join(f"    def m{n}(self): ...\n" for n in range(10))
    assert too_large("planted", "x = 1\n" * 300) == []
    assert too_large("planted", "def f():\n" + "    x = 1\n" * 59) == []
    assert (
        too_large("planted", f"class C:\n{methods}    def _p(self, a, b, c, d, e, *, f): ...") == []
    )
