"""What the README shows is what its commands print, and what its Python lines answer."""

import contextlib
import doctest
import re
import shlex
import shutil

import pytest
from test_docs import README, ROOT, blocks, inline

import batchembed


def shown(text):
    """The commands of a page's console blocks, each with the output that is shown for it."""
    for language, content in blocks(text):
        if language == "console":
            for piece in re.split(r"(?m)^\$ ", content)[1:]:
                line, _, output = piece.partition("\n")
                yield line, output.splitlines()


def shape(line):
    """A line without its numbers and units of size."""
    line = re.sub(r"\d[\d,]*(?:\.\d+)?", "0", line.rstrip())
    return re.sub(r"0 (?:[KMGT]?B)\b", "0 B", line)


def same_shape(told, real):
    """Whether output is as told; a line of nothing but … stands for any lines."""
    if not told:
        return not real
    if told[0].strip() == "…":
        return any(same_shape(told[1:], real[at:]) for at in range(len(real) + 1))
    return bool(real) and shape(told[0]) == shape(real[0]) and same_shape(told[1:], real[1:])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the jobs and the data of the repository, as a user has them."""
    folder = tmp_path_factory.mktemp("user")
    for name in ("jobs", "sample_data"):
        shutil.copytree(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def told_and_real(commands, place):
    """What the README shows for each command, and what the command prints."""
    found = {}
    for line, told in shown(README):
        if line != "make test":
            words = shlex.split(
                "batchembed run jobs/quickstart.toml" if line == "make run" else line
            )
            ended = commands.run(*words[1:], cwd=place)
            assert ended.code == 0, (line, ended)
            found[line] = told, ended.out.splitlines()
    return found


def test_make_run_is_the_quickstart():
    """`make run` runs the job that the README says, without further options."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert "JOB ?= jobs/quickstart.toml\n" in makefile
    assert re.search(r"(?m)^run:.*\n\t@\$\(BIN\)/batchembed run \$\(JOB\)$", makefile)


def test_outputs_in_the_readme_are_those_of_the_commands(told_and_real):
    """Each command that the README shows prints what is shown, but for numbers."""
    assert len(told_and_real) >= 8
    wrong = [line for line, (told, real) in told_and_real.items() if not same_shape(told, real)]
    assert wrong == [], {line: told_and_real[line] for line in wrong}


def test_an_output_of_another_shape_is_seen():
    """Other words, a line more or a line less are another shape; other numbers are the same."""
    told = ["420 rows in 0.3 s", "…", "  disk  12.1 KB"]
    assert same_shape(told, ["1,000 rows in 12 s", "x", "y", "  disk  1 B"])
    assert same_shape(told, ["4 rows in 0 s", "  disk  3.0 GB"])
    assert not same_shape(told, ["420 lines in 0.3 s", "  disk  12.1 KB"])
    assert not same_shape(told, ["420 rows in 0.3 s", "  disk  12.1 KB", "more"])
    assert not same_shape(told, ["420 rows in 0.3 s"])


def test_the_run_directory_is_the_one_that_is_drawn(told_and_real, place):
    """Every name in the README's drawing is there after the run, and nothing else at its top."""
    assert told_and_real
    drawn = next(content for _, content in blocks(README) if content.startswith("runs/quickstart/"))
    names = [line.split()[0] for line in drawn.splitlines()[1:]]
    run = place / "runs" / "quickstart"
    assert all((run / name).exists() for name in names)
    assert {name.split("/")[0] for name in names} == {p.name for p in run.iterdir()} - {".lock"}


def test_python_in_the_readme_answers_as_shown(told_and_real, place):
    """Each line after >>> gives what is shown under it."""
    assert told_and_real
    import polars as pl

    said, scope = [], {}
    with contextlib.chdir(place), pl.Config(tbl_width_chars=100):
        for number, (_, content) in enumerate(b for b in blocks(README) if b[0] == "pycon"):
            test = doctest.DocTestParser().get_doctest(content, scope, f"block {number}", None, 0)
            runner = doctest.DocTestRunner(verbose=False)
            assert runner.run(test, out=said.append, clear_globs=False).failed == 0, "".join(said)
            scope = test.globs
    assert {"table", "job", "summary"} <= scope.keys()


def test_public_names_that_the_readme_tells_exist():
    """The functions named in the section on Python are public."""
    section = re.search(r"(?ms)^## From Python\n(.*?)^## ", README)[1]
    named = {name for name in inline(section) if name.isidentifier()} - {"hint", "exit_code"}
    assert named <= set(batchembed.__all__) | {"BatchembedError"}
    assert {"run_async", "plan", "status", "verify", "similarity"} <= named
