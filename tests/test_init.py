"""`batchembed init`: a first job file that is commented, and runs."""

import os
import pty
import re
import subprocess
import sys
import tomllib

import pyarrow as pa
import pytest
from fakes.commands import ROOT, environment
from fakes.runs import manifest, table, texts, write
from hypothesis import given, settings
from hypothesis import strategies as st

from batchembed.api import look_at
from batchembed.job import FirstJob, first_job, from_dict


@pytest.fixture
def folder(tmp_path):
    """A folder with a corpus of 30 rows."""
    write(tmp_path / "corpus.parquet", table(texts(30)))
    return tmp_path


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_the_file_that_is_written_runs(commands, tmp_path, suffix):
    """From a corpus to vectors in two commands, the second as the first one says it."""
    write(tmp_path / f"articles.{suffix}", table(texts(30)))
    told = commands.run("init", f"articles.{suffix}", cwd=tmp_path)
    assert (told.code, told.err) == (0, "")
    line = re.search(r"(?m)^ +batchembed (run .*)$", told.out)[1]
    assert commands.run(*line.split(), cwd=tmp_path).code == 0
    assert manifest(tmp_path / "runs/articles")["counts"]["embedded"] == 30


def test_the_file_says_what_it_does(commands, folder):
    """The command to copy, the other columns, and a comment on each line that may be changed."""
    commands.run("init", "corpus.parquet", cwd=folder)
    words = (folder / "corpus.toml").read_text("utf-8")
    assert "#     batchembed run corpus.toml\n" in words
    assert "# Also there: id, number." in words
    told = tomllib.loads(words)
    assert told["corpus"] == {"path": "corpus.parquet", "text": "text", "id": "id"}
    assert told["model"]["provider"] == "local"


def test_options_are_answers(commands, folder):
    """What an option says is not asked and not guessed."""
    options = {
        "--text": "id",
        "--id": "number",
        "--provider": "openai",
        "--model": "m",
        "--out": "x/y",
        "--job": "a.toml",
    }
    words = [word for pair in options.items() for word in pair]
    told = commands.run("init", "corpus.parquet", *words, "--json", cwd=folder)
    assert told.json == {
        "job": "a.toml",
        "corpus": ["corpus.parquet"],
        "text": "id",
        "id": "number",
        "provider": "openai",
        "out": "x/y",
    }
    job = tomllib.loads((folder / "a.toml").read_text("utf-8"))
    assert (job["model"]["name"], job["output"]["path"]) == ("m", "x/y")
    assert "OPENAI_API_KEY" in (folder / "a.toml").read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "which corpus?"),
        (("nowhere.csv",), "`nowhere.csv` does not exist"),
        (("corpus.parquet", "--text", "txet"), "did you mean `text`?"),
        (("corpus.parquet", "--id", "nubmer"), "did you mean `number`?"),
        (("corpus.parquet", "--provider", "opnai"), "did you mean `openai`?"),
        (("corpus.parquet", "--job", "job.yaml"), "its name ends with .toml"),
        (("numbers.parquet",), "no column holds text"),
    ],
)
def test_a_mistake_writes_nothing(commands, folder, words, says):
    """The value that is wrong, and the mend; no half a job file stays behind."""
    write(folder / "numbers.parquet", pa.table({"a": [1, 2], "b": [0.5, 0.25]}))
    before = sorted(folder.iterdir())
    told = commands.run("init", *words, cwd=folder)
    assert told.code == 2
    assert says in told.err
    assert sorted(folder.iterdir()) == before


def test_a_file_that_is_there_stays(commands, folder):
    """It may have been changed by hand; --force says that it may go."""
    (folder / "corpus.toml").write_text("mine", "utf-8")
    told = commands.run("init", "corpus.parquet", cwd=folder)
    assert told.code == 2
    assert "--force" in told.err
    assert (folder / "corpus.toml").read_text("utf-8") == "mine"
    assert commands.run("init", "corpus.parquet", "--force", cwd=folder).code == 0
    assert "mine" not in (folder / "corpus.toml").read_text("utf-8")


def answered(folder, *lines):
    """What `init` says to a person at a terminal who answers with `lines`."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "batchembed", "init"]
    told = environment() | {"PYTHONPATH": str(ROOT), "TERM": "dumb"}
    with subprocess.Popen(
        command, cwd=folder, env=told, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs
    ) as process:
        os.close(theirs)
        os.write(ours, "".join(f"{line}\n" for line in lines).encode())
        out, _ = process.communicate(timeout=60)
        said = os.read(ours, 65536).decode()
        os.close(ours)
    return process.returncode, out.decode(), said


def test_a_person_is_asked_four_questions(folder):
    """Corpus, column, provider and place; a likely answer needs only the return key."""
    code, out, said = answered(folder, "corpus.parquet", "", "opnai", "local", "runs/mine")
    assert code == 0
    assert "Which column is embedded, of id, text, number? [text]" in said
    assert "did you mean `openai`?" in said  # asked again, not thrown out
    assert "[runs/corpus]" in said
    assert "batchembed run corpus.toml" in out
    assert tomllib.loads((folder / "corpus.toml").read_text("utf-8"))["output"] == {
        "path": "runs/mine"
    }


@pytest.mark.parametrize(
    ("columns", "text", "row"),
    [
        ({"name": ["a", "b"], "long": ["x" * 50, "y" * 60]}, "long", None),
        ({"long": ["x" * 50], "body": ["short"]}, "body", None),
        ({"long": ["x" * 50], "body": [""]}, "long", None),
        ({"id": [1, 1], "t": ["a", "b"]}, "t", None),
        ({"id": [1, None], "t": ["a", "b"]}, "t", None),
        ({"article_id": ["p", "q"], "t": ["aa", "bb"]}, "t", "article_id"),
        ({"id": [0.5, 1.5], "t": ["a", "b"]}, "t", None),
        ({"a": [1, 2]}, None, None),
    ],
)
def test_the_likely_columns(tmp_path, columns, text, row):
    """A usual name with texts in it, else the longest texts; an id only where it names rows."""
    found = look_at([str(write(tmp_path / "c.parquet", pa.table(columns)))])
    assert (found.text, found.id) == (text, row)


def test_an_empty_corpus_is_looked_at(tmp_path):
    """No rows are no reason to fail here: the run says what is wrong with them."""
    path = write(tmp_path / "c.parquet", table([]))
    assert look_at([str(path)]).columns == ("id", "text", "number")


names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=12)


@settings(deadline=None)
@given(names, names, st.lists(names, min_size=1, max_size=4), names)
def test_whatever_the_names_the_file_is_a_job(text, row, more, out):
    """Quotes, line ends and backslashes in names of columns and files do no harm."""
    told = FirstJob(
        corpus=(f"{out}.csv",),
        text=text,
        id=row,
        columns=(text, row, "Title", *more),
        provider="local",
        model=None,
        out=f"runs/{out}",
    )
    words = first_job(told, "job.toml")
    tables = tomllib.loads(words)
    assert tables["corpus"]["text"] == text
    assert tables["corpus"]["id"] == row
    if out.strip() and "\0" not in out:
        assert from_dict(tables, where="here").table.text == text
