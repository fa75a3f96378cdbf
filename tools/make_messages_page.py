"""Write docs/messages.md: every error that the source can raise, its exit code and its hint.

    .venv/bin/python tools/make_messages_page.py

tests/test_docs_messages.py compares the page with what this makes.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from batchembed import errors

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "messages.md"
GAP = "…"
HEAD = """\
# Messages

Every error of batchembed, by its exit code, with the hint that comes with it; `…` stands for a
value. It is made from the source by `tools/make_messages_page.py`. What the codes mean for a
scheduler, and more about what a nightly run meets: [operations.md](operations.md#what-to-do-when).

A signal ends a run with 130 or 143 and `stopped by …`: run the same command again to continue.
Whatever the message, nothing that was paid for is thrown away.
"""
CODES = {
    1: "Unexpected, or damage",
    2: "The command, the job file or the corpus is wrong; nothing was sent",
    4: "A person must act",
    75: "Not finished, nothing lost: the same command again",
}


@dataclass(frozen=True, order=True)
class Message:
    """One error: its exit code, its words, and what to do."""

    code: int
    words: str
    hint: str


def kinds() -> dict[str, int]:
    """Return the exit code of every class of errors."""
    found = {}
    for name in dir(errors):
        kind = getattr(errors, name)
        if isinstance(kind, type) and issubclass(kind, errors.BatchembedError):
            found[name] = kind.exit_code
    return found


def messages(source: str) -> Iterator[Message]:
    """Yield the errors that a module makes, where their words stand beside them."""
    known = kinds()
    tree = ast.parse(source)
    for function in _scopes(tree):
        names = _assigned(tree) | _assigned(function)
        for node in _own(function):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            if node.func.id not in known or not node.args:
                continue
            hint = next((k.value for k in node.keywords if k.arg == "hint"), None)
            tips = _words(hint, names) if hint is not None else [""]
            for words in _words(node.args[0], names):
                if re.sub(r"[^\w]", "", words):
                    yield Message(known[node.func.id], words, _best(tips))


def _best(tips: list[str]) -> str:
    told = [tip for tip in tips if re.sub(r"[^\w]", "", tip)]
    return ", or: ".join(dict.fromkeys(told))


def _scopes(tree: ast.Module) -> list[ast.AST]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [tree, *(node for node in ast.walk(tree) if isinstance(node, functions))]


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a scope that are not in a function within it."""
    for child in ast.iter_child_nodes(scope):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield child
        yield from _own(child)


def _assigned(scope: ast.AST) -> dict[str, list[ast.expr]]:
    """Return what is assigned to names in a scope."""
    found: dict[str, list[ast.expr]] = {}
    for node in _own(scope):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).append(node.value)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
            values = node.value.elts if isinstance(node.value, ast.Tuple) else []
            for target, value in zip(node.targets[0].elts, values, strict=False):
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, []).append(value)
    return found


def _words(node: ast.expr | None, names: dict[str, list[ast.expr]]) -> list[str]:
    """Return the words that an expression can stand for, with gaps for values."""
    if isinstance(node, ast.Constant):
        return [str(node.value)] if isinstance(node.value, str) else [GAP]
    if isinstance(node, ast.JoinedStr):
        parts = (v.value if isinstance(v, ast.Constant) else GAP for v in node.values)
        return ["".join(map(str, parts))]
    if isinstance(node, ast.IfExp):
        return _words(node.body, names) + _words(node.orelse, names)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [a + b for a in _words(node.left, names) for b in _words(node.right, names)]
    if isinstance(node, ast.Name) and node.id in names:
        less = {name: some for name, some in names.items() if name != node.id}
        return [words for value in names[node.id] for words in _words(value, less)]
    return [GAP]


def page() -> str:
    """Return the words of docs/messages.md."""
    found: set[Message] = set()
    for path in sorted((ROOT / "batchembed").rglob("*.py")):
        found.update(messages(path.read_text("utf-8")))
    told = [HEAD]
    for code, meaning in CODES.items():
        rows = [m for m in sorted(found) if m.code == code]
        lines = [f"## {code}: {meaning}", "", "| the message says | what to do |", "|---|---|"]
        lines += [f"| {_cell(m.words)} | {_cell(m.hint)} |" for m in rows]
        told.append("\n".join(lines) + "\n")
    return "\n".join(told)


def _cell(words: str) -> str:
    """Return words fit for a table of Markdown."""
    words = re.sub(rf"(?:{GAP}\s*)+{GAP}", GAP, re.sub(r"\s+", " ", words)).strip()
    pieces = words.split("`")  # every other one is code
    pieces[::2] = [re.sub(r"([<>\[\]*{}])", r"\\\1", piece) for piece in pieces[::2]]
    return "`".join(pieces).replace("|", "\\|")


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(PAGE.read_text("utf-8") != page())
    PAGE.write_text(page(), "utf-8")
