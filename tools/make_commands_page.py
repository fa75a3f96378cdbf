"""Write docs/commands.md: the help of every command, as click tells it.

    .venv/bin/python tools/make_commands_page.py

tests/test_docs.py compares the page with what this makes, with --check.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from batchembed.cli import main

PAGE = Path(__file__).parent.parent / "docs" / "commands.md"
HEAD = """\
# Commands

What `--help` says of every command, on one page. It is made by `tools/make_commands_page.py`.

Results go to stdout, words about progress and errors to stderr; every command that answers with
data has `--json`. What the exit codes mean: [operations.md](operations.md#exit-codes).

## Completion

A shell that knows the commands and their options, by one line in its start-up file:

```sh
eval "$(_BATCHEMBED_COMPLETE=bash_source batchembed)"   # ~/.bashrc
eval "$(_BATCHEMBED_COMPLETE=zsh_source batchembed)"    # ~/.zshrc
_BATCHEMBED_COMPLETE=fish_source batchembed | source    # ~/.config/fish/completions/batchembed.fish
```
"""


def page() -> str:
    """Return the words of docs/commands.md."""
    told = [HEAD]
    whole = click.Context(main, info_name="batchembed", **main.context_settings)
    for name, command in sorted(main.commands.items()):
        context = click.Context(command, whole, info_name=name)
        context.terminal_width = 100
        words = command.get_help(context)
        words = re.sub(r"[ \t]+$", "", words, flags=re.MULTILINE)
        told.append(f"## {name}\n\n```text\n{words}\n```\n")
    return "\n".join(told)


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(PAGE.read_text("utf-8") != page())
    PAGE.write_text(page(), "utf-8")
