"""Every snippet of every page is run, or is held by a test that is named here.

The README has a test of its own, test_docs_readme; commands in `sh` are understood by test_docs.
"""

import ast
import contextlib
import doctest
import io
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from test_docs import PAGES, ROOT, blocks
from test_docs_readme import same_shape

from batchembed.job import from_dict
from batchembed.prices.table import read as read_prices

SHOWN = {name: text for name, text in PAGES.items() if name.startswith("docs/")}
LANGUAGES = {"console", "pycon", "python", "toml", "json", "yaml", "sh", "text"}
# Commands that are not run here, and who runs them.
NOT_HERE = {
    "--format png": "tests/browser: matplotlib is an extra",
    "-m benchmarks": "measures for minutes: tests/test_benchmarks.py",
    "tools/": "needs models that are not in the repository",
    "pip install": "needs a network",
    "export HF_HUB_OFFLINE": "belongs to the line after it",
}
# Pages whose Python, YAML or JSON other tests hold.
PROVEN = {
    ("docs/adding-a-provider.md", "python"): "test_adding_a_provider.py",
    ("docs/format.md", "python"): "test_docs_format.py",
    ("docs/format.md", "json"): "test_docs_format.py",
    ("docs/operations.md", "python"): "test_docs_snippets.py",
    ("docs/operations.md", "yaml"): "test_docs_snippets.py",
    ("docs/similarity.md", "python"): "interop/test_snippets.py",
}
FREE = {"mkdir", "cp", "head", "printf"}
# What a page takes for granted: commands that make it so.
BEFORE = {
    "docs/similarity.md": [
        "embed sample_data/articles.csv --text text --id id --out runs/articles",
        "embed sample_data/queries.csv --text query --id id --out runs/queries",
    ],
    "docs/report.md": ["run jobs/quickstart.toml"],
    "docs/job-file.md": [],
}
MODEL = {"provider": "openai", "name": "m"}
BASE = {"corpus": {"path": "a.csv", "text": "text"}, "model": MODEL, "output": {"path": "runs/a"}}


def pieces(text):
    """The commands and the Python of a page in their order: (language, line, what is shown)."""
    for language, content in blocks(text):
        if language == "console":
            for piece in re.split(r"(?m)^\$ ", content)[1:]:
                line, _, output = piece.partition("\n")
                yield "console", line, output.splitlines()
        elif language == "pycon":
            yield "pycon", content, []


def skipped(line):
    return next((why for part, why in NOT_HERE.items() if part in line), None)


def ran(line, commands, folder):
    """What a command prints, as a terminal shows it."""
    words = shlex.split(line)
    if words[0] == "batchembed":
        ended = commands.run(*words[1:], cwd=folder)
        return ended.code, (ended.out + ended.err).splitlines()
    assert words[0] in FREE, f"{line}: not run, and not in NOT_HERE"
    done = subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout + done.stderr).splitlines()


def answered(content, scope, folder):
    """Run lines after >>>; raise when one gives something else than what is shown."""
    said = io.StringIO()
    test = doctest.DocTestParser().get_doctest(content, scope, "page", None, 0)
    with contextlib.chdir(folder):
        runner = doctest.DocTestRunner(verbose=False)
        failed = runner.run(test, out=said.write, clear_globs=False).failed
    assert failed == 0, said.getvalue()
    return test.globs


@pytest.fixture
def folder(tmp_path, commands, request):
    """The jobs and the data of the repository, and what the page goes on from."""
    page = request.node.callspec.params["page"]
    for name in ("jobs", "sample_data"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for line in BEFORE.get(page, []):
        assert commands.run(*shlex.split(line), cwd=tmp_path).code == 0
    if page == "docs/job-file.md":
        (tmp_path / "articles.toml").write_text(
            next(content for language, content in blocks(SHOWN[page]) if language == "toml")
        )
        shutil.copy(ROOT / "sample_data" / "articles.parquet", tmp_path / "new.parquet")
    return tmp_path


@pytest.mark.parametrize("page", [page for page, text in SHOWN.items() if any(pieces(text))])
def test_commands_print_what_the_page_shows(page, commands, folder):
    """In the order of the page, but for numbers; what begins with `error:` fails."""
    scope = {}
    for language, line, told in pieces(SHOWN[page]):
        if language == "pycon":
            scope = answered(line, scope, folder)
        elif skipped(line) is None:
            code, real = ran(line, commands, folder)
            fails = any(one.startswith("error:") for one in told)
            assert (code != 0) == fails, (line, real)
            assert not told or same_shape(told, real), (line, told, real)


@pytest.mark.parametrize("page", [p for p, t in SHOWN.items() if "```python" in t])
def test_python_of_the_page_runs(page, commands, folder):
    """Or is held by the test that is named."""
    if (page, "python") in PROVEN:
        return
    commands.run("run", "jobs/quickstart.toml", cwd=folder)
    for language, content in blocks(SHOWN[page]):
        if language == "python":
            with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
                exec(compile(content, page, "exec"), {})


def judged(given):
    """Raise for what is no job, and no part of one, and no other file of ours."""
    if "price" in given and isinstance(given["price"], list):
        return "prices"
    if "project" in given:  # of a package of the reader's own
        return "package"
    whole = {name: dict(table) for name, table in BASE.items()}
    for name, table in given.items():
        whole[name] = whole.get(name, {}) | table
    if whole["model"].get("provider") == "acme":  # the example's; its own test offers it
        whole["model"]["provider"] = "cohere"
    if "factor" in str(given):
        whole["model"] = {"provider": "local"} | given["model"]
    from_dict(whole, where="the page")
    return "job"


@pytest.mark.parametrize("page", [p for p, t in SHOWN.items() if "```toml" in t])
def test_toml_of_the_page_is_a_job(page, tmp_path):
    """Whole, or a part that makes one with the usual rest; or a table of prices that is read."""
    for language, content in blocks(SHOWN[page]):
        if language == "toml":
            kind = judged(tomllib.loads(content))
            if kind == "prices":
                (tmp_path / "prices.toml").write_text(content)
                assert read_prices(tmp_path / "prices.toml")


def test_a_wrong_job_is_seen():
    """A setting that does not exist in a part of a job is reported."""
    with pytest.raises(Exception, match="did you mean"):
        judged({"limits": {"max_costs": 5}})


def test_every_snippet_is_of_a_language_that_is_checked():
    """A block without a language, or of another one, would be looked at by nobody."""
    found = {(page, language) for page, text in PAGES.items() for language, _ in blocks(text)}
    assert {(page, language) for page, language in found if language not in LANGUAGES} == set()


def test_what_is_held_elsewhere_is_held_there():
    """The tests that are named exist and read the page; no entry is left over."""
    for (page, language), name in PROVEN.items():
        source = (Path(__file__).parent / name).read_text("utf-8")
        assert Path(page).name in source, (page, name)
        assert f"```{language}\n" in SHOWN[page]
    lines = [line for text in SHOWN.values() for kind, line, _ in pieces(text) if kind == "console"]
    assert [part for part in NOT_HERE if not any(part in line for line in lines)] == []


def test_the_dags_of_the_page_have_arguments_that_exist():
    """What they give the operator, the operator takes, or Airflow's own base does."""
    page = SHOWN["docs/operations.md"]
    codes = [content for language, content in blocks(page) if language == "python"]
    calls = [one for code in codes for one in ast.walk(ast.parse(code)) if _is_call(one)]
    made = [one for one in calls if "BatchEmbedOperator" in ast.unparse(one.func)]
    assert len(made) == 3
    source = (ROOT / "batchembed" / "airflow" / "operator.py").read_text("utf-8")
    (init,) = (
        one
        for one in ast.walk(ast.parse(source))
        if isinstance(one, ast.FunctionDef) and one.name == "__init__"
    )
    own = {one.arg for one in init.args.kwonlyargs}
    given = {one.arg for call in made for one in call.keywords if one.arg}
    given |= {key.value for code in codes for key in _told(code)}
    assert {"job", "settings", "out", "merge", "cwd"} <= given & own
    assert given - own <= {"task_id", "retries", "retry_delay"}


def _is_call(node):
    return isinstance(node, ast.Call)


def _told(code):
    """The keys of what is given with `**told`."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "told":
            yield from node.value.keys


@pytest.mark.slow
def test_yaml_of_the_pages_is_yaml():
    """By the reader that `make docs` installs."""
    python = ROOT / ".venv-docs" / "bin" / "python"
    if not python.exists():
        pytest.skip("make docs")
    read = "import sys, yaml; assert list(yaml.safe_load_all(sys.stdin))"
    for _, content in (b for text in SHOWN.values() for b in blocks(text) if b[0] == "yaml"):
        subprocess.run([python, "-c", read], input=content, text=True, check=True)


def test_other_yaml_and_json_is_read():
    """Pages that are not named above have none that nobody reads."""
    for page, text in SHOWN.items():
        for language, content in blocks(text):
            if language in {"json", "yaml"} and (page, language) not in PROVEN:
                assert language == "json", f"{page}: YAML that no test reads"
                json.loads(content)


def test_the_site_has_every_page():
    """The nav of mkdocs.yml names each page once; decisions/ stands for all of its pages."""
    nav = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
    named = re.findall(r": ([\w/-]+\.md)$", nav, re.MULTILINE)
    pages = {
        name.removeprefix("docs/")
        for name in SHOWN
        if "s/README" not in name and "decisions/" not in name
    }
    assert sorted(named) == sorted(pages)
    assert ": decisions/" in nav
    for part in ("Tutorial", "How to", "Reference", "Explanation"):
        assert f"  - {part}:" in nav


@pytest.mark.slow
def test_the_site_builds(tmp_path):
    """Strictly, and without a network; nothing on a page is loaded from elsewhere."""
    mkdocs = ROOT / ".venv-docs" / "bin" / "mkdocs"
    if not mkdocs.exists():
        pytest.skip("make docs")
    command = ["unshare", "-rn", str(mkdocs)] if _has_unshare() else [str(mkdocs)]
    done = subprocess.run(
        [*command, "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for page in tmp_path.rglob("*.html"):
        elsewhere = r'<(?:script|link|img)[^>]*(?:src|href)="(https?://[^"]*)"'
        loaded = re.findall(elsewhere, page.read_text("utf-8"))
        assert loaded == [], page


def _has_unshare():
    done = subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False)
    return done.returncode == 0
