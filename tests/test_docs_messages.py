"""docs/messages.md has every error that the source can raise."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
from fakes.commands import ROOT

from batchembed import errors

SPEC = importlib.util.spec_from_file_location("tool", ROOT / "tools/make_messages_page.py")
tool = sys.modules["tool"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tool)


def test_every_exit_code_of_an_error_has_its_part():
    """Those of signals are told at the head."""
    page = tool.page()
    assert set(re.findall(r"(?m)^## (\d+):", page)) == {str(code) for code in tool.kinds().values()}
    assert "130 or 143" in page


def test_nearly_every_call_of_an_error_is_on_the_page():
    """But those whose words come from elsewhere: a server, a library, another error."""
    calls, known = 0, tool.kinds()
    for path in (ROOT / "batchembed").rglob("*.py"):
        source = path.read_text("utf-8")
        calls += len(re.findall(rf"(?<!class )\b(?:{'|'.join(known)})\((?!Bat|Usa|Not)", source))
    rows = len(re.findall(r"(?m)^\| (?!the message)(?!--)", tool.page()))
    assert rows > 0.8 * calls


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ('raise JobError(f"`{x}` is wrong", hint="mend it")', (2, "`…` is wrong", "mend it")),
        ('h = "mend"\ndef f():\n raise DamagedError("a" f"{b}", hint=h)', (1, "a…", "mend")),
        ('def f():\n w = "so"\n return NotFinishedError(w)', (75, "so", "")),
        ('ActionNeededError("no" if a else "yes", hint=b)', (4, "no", "")),
        ("raise JobError(error.message)", None),
        ('raise ValueError("not ours")', None),
    ],
)
def test_what_a_source_says_is_found(source, told):
    """Words with gaps for values, hints from where they are assigned, and nothing else."""
    found = sorted(tool.messages(source))
    assert (found[:1] or [None])[0] == (told and tool.Message(*told))


def test_messages_of_the_errors_module_are_of_known_codes():
    """The exit codes of the contract."""
    assert set(tool.kinds().values()) == {1, 2, 4, 75}
    assert errors.InterruptedRunError(15).exit_code == 143
    assert Path(tool.PAGE).name == "messages.md"
