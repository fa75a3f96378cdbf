"""Shell completion, as docs/commands.md tells to switch it on."""

import re
import shutil
import subprocess

import pytest
from fakes.commands import ROOT, environment

PAGE = (ROOT / "docs" / "commands.md").read_text("utf-8")
LINES = re.findall(r"_BATCHEMBED_COMPLETE=(\w+)_source batchembed", PAGE)


def completed(commands, tmp_path, words, *, last):
    """What the shell is told for a line whose last word is being typed."""
    env = {
        "_BATCHEMBED_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(last),
    }
    ended = commands.run(cwd=tmp_path, env=env)
    assert ended.code == 0
    return [line.partition(",")[2] for line in ended.out.splitlines()]


@pytest.mark.parametrize(
    ("words", "last", "told"),
    [
        ("batchembed ru", 1, ["run"]),
        ("batchembed run --log-f", 2, ["--log-format"]),
        ("batchembed run --log-format ", 3, ["text", "json"]),
        ("batchembed embed --metrics", 2, ["--metrics-file"]),
        ("batchembed nothing-like-it", 1, [""]),  # nothing to offer
    ],
)
def test_words_are_completed(commands, tmp_path, words, last, told):
    """Commands, options, and the values of options that have a few."""
    assert completed(commands, tmp_path, words, last=last) == told


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_of_the_page_has_its_script(commands, tmp_path, shell):
    """And bash, where it is there, takes its own without a word."""
    assert shell in LINES
    ended = commands.run(cwd=tmp_path, env={"_BATCHEMBED_COMPLETE": f"{shell}_source"})
    assert ended.code == 0
    assert "batchembed" in ended.out
    if shell == "bash" and (bash := shutil.which("bash")):
        line = f"{ended.out}\ncomplete -p batchembed"
        done = subprocess.run(
            [bash, "-c", line], env=environment(), capture_output=True, text=True, check=True
        )
        assert "batchembed" in done.stdout
        assert done.stderr == ""
