"""What an error says of settings, said of the options of a command without a job file."""

from __future__ import annotations

import re

from batchembed.errors import BatchembedError

OPTIONS = {
    "corpus.text": "--text",
    "corpus.template": "--template",
    "corpus.id": "--id",
    "model.provider": "--provider",
    "model.name": "--model",
    "model.representation": "--representation",
    "model.dimensions": "--dimensions",
    "model.base_url": "--base-url",
    "output.path": "--out",
}
_FULL = re.compile(r"`((?:corpus|model|output)\.\w+)`")
_FULL_NAME = re.compile(r"`[a-z]+\.\w+`")
_UNDER = re.compile(r"`(\w+)( = [^`]*)?` under \[(\w+)\]")
_TABLE = re.compile(r"\[(corpus|model|output)\] (.*)")
_NAME = re.compile(r"`?\b(\w+)\b`?")


def in_options(error: BatchembedError) -> BatchembedError:
    """Return the error with the names that the command line has, in its message and its hint.

    A setting without an option of its own is one of --set.
    """
    error.message = _said(error.message.removeprefix("the command: "))
    if error.hint is not None:
        about = error.hint.startswith("docs/job-file.md") and not _FULL_NAME.search(error.message)
        error.hint = "--help tells every option" if about else _said(error.hint)
    error.args = (error.message,)
    return error


def _said(words: str) -> str:
    words = "\n".join(_line(line) for line in words.split("\n"))
    words = _UNDER.sub(lambda found: _setting(f"{found[3]}.{found[1]}", found[2] or ""), words)
    return _FULL.sub(lambda found: _setting(found[1]), words).replace("set `--", "give `--")


def _line(line: str) -> str:
    """Return a line of words about one table with the options of that table."""
    found = _TABLE.match(line.strip())
    if found is None:
        return line
    table, rest = found[1], found[2]
    first = _NAME.match(rest)
    if first is not None and f"{table}.{first[1]}" in OPTIONS:
        return f"`{OPTIONS[f'{table}.{first[1]}']}`{rest[first.end() :]}"
    told = (name for name in OPTIONS if name.startswith(f"{table}."))
    for name in told:
        rest = rest.replace(f"`{name.partition('.')[2]}`", f"`{OPTIONS[name]}`")
    return f"give {rest.removeprefix('takes ')}" if rest.startswith("takes ") else rest


def _setting(name: str, value: str = "") -> str:
    return (
        f"`{OPTIONS[name]}{value.replace(' = ', ' ')}`"
        if name in OPTIONS
        else (f"`--set {name}={value.removeprefix(' = ')}`" if value else f"`{name}`")
    )
