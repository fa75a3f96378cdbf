"""What docs/similarity.md says can be done with our files is done, by those libraries.

They live in the venv of `make interop`; see test_readers.
"""

import re
import subprocess

import pytest
from fakes.commands import ROOT, environment
from test_readers import python  # noqa: F401 - a fixture

pytestmark = pytest.mark.slow
TEXT = (ROOT / "docs" / "similarity.md").read_text("utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
MADE = {
    "near.arrow": ("--top-k", "5"),
    "duplicates.arrow": ("--min-score", "0.7"),
    "groups.arrow": ("--min-score", "0.8", "--groups"),
}


@pytest.fixture(scope="module")
def folder(commands, tmp_path_factory):
    """A folder with the run and the files that the page speaks of."""
    made = tmp_path_factory.mktemp("snippets")
    corpus = ROOT / "sample_data" / "articles.parquet"
    told = ("--text", "text", "--id", "id", "--out", "runs/articles")
    assert commands.run("embed", corpus, *told, cwd=made).code in (0, 3)
    for name, asked in MADE.items():
        done = commands.run("similarity", "runs/articles", *asked, "--out", name, cwd=made)
        assert done.code == 0
    return made


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_runs(number, folder, python):  # noqa: F811 - the fixture
    """Each piece of Python on the page runs, after the imports that the page begins with."""
    snippet = SNIPPETS[number]
    if "batchembed" in snippet.replace("runs/", ""):
        pytest.skip("our own API: tests/test_docs.py and the tests of it")
    done = subprocess.run(
        [str(python), "-W", "error", "-c", "import polars as pl\n" + snippet],
        cwd=folder, env=environment({}), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1500:]


def test_the_page_has_snippets_for_each_library():
    """polars, pandas, DuckDB, networkx, scipy and faiss are shown."""
    told = "".join(SNIPPETS)
    for word in ("duckdb", "networkx", "scipy", "faiss", "pandas", "pl."):
        assert word in told
