"""Whether the vectors of the model on this machine mean something, on the corpora that come along.

Each bar stands a little under what was measured, which is told beside it.
"""

import numpy as np
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from fakes.commands import ROOT
from fakes.runs import output

CHANCE = 1 / 12


@pytest.fixture(scope="module")
def found(commands, tmp_path_factory):
    """Articles and questions with their vectors, as the jobs of jobs/ make them."""
    folder = tmp_path_factory.mktemp("quality")
    out = {}
    for name in ("documents", "queries"):
        argv = ("run", f"jobs/{name}.toml", "--out", folder / name)
        against = ("--set", f"similarity.against={folder / 'documents'}")
        ended = commands.run(*argv, *(against if name == "queries" else ()), cwd=ROOT)
        assert ended.code == 0, ended
        out[name] = output(folder / name)
    return out


def vectors(table):
    column = table["embedding"].combine_chunks()
    return column.values.to_numpy().reshape(len(table), -1)


def same_topic(table, language):
    """The share of rows whose nearest other row in the same language has the same topic."""
    chosen = table.filter(pc.equal(table["language"], language))
    scores = vectors(chosen) @ vectors(chosen).T
    np.fill_diagonal(scores, -2)
    topics = np.array(chosen["topic"].to_pylist())
    return float((topics[scores.argmax(axis=1)] == topics).mean())


def ranks(found, language):
    """The rank of the known answer among all articles, for each question in a language."""
    queries, documents = found["queries"], found["documents"]
    scores = vectors(queries) @ vectors(documents).T
    ids = documents["id"].to_pylist()
    told = zip(queries["answer"].to_pylist(), queries["language"].to_pylist(), scores, strict=True)
    return np.array(
        [
            1 + int((row > row[ids.index(answer)]).sum())
            for answer, of, row in told
            if of == language
        ]
    )


def test_near_english_articles_have_the_same_topic(found):
    """Measured: 87.0 % of 300."""
    assert same_topic(found["documents"], "en") >= 0.85


def test_german_articles_are_not_what_the_model_is_for(found):
    """Measured: 20.8 % of 120, by names and shared words; chance is 8.3 %."""
    assert same_topic(found["documents"], "de") >= 1.5 * CHANCE


def test_english_questions_find_their_answers(found):
    """Measured: 48 of 48 at rank 1."""
    found_at = ranks(found, "en")
    assert len(found_at) == 48
    assert (found_at == 1).sum() >= 46
    assert (found_at <= 5).all()


def test_german_questions_find_most_of_their_answers(found):
    """Measured: 9 of 12 at rank 1, 11 of 12 among the first five."""
    found_at = ranks(found, "de")
    assert len(found_at) == 12
    assert (found_at == 1).sum() >= 7
    assert (found_at <= 5).sum() >= 10


def test_vectors_that_mean_nothing_would_fail(found):
    """Planted: with the vectors dealt out anew at random, topics agree no more than by chance."""
    table = found["documents"]
    order = np.random.default_rng(3).permutation(len(table))
    dealt = table.set_column(
        table.column_names.index("embedding"), "embedding", table["embedding"].take(order)
    )
    assert same_topic(dealt, "en") < 2 * CHANCE


def test_both_files_of_articles_hold_the_same_rows():
    """articles.csv and articles.parquet are one corpus."""
    folder = ROOT / "sample_data"
    parquet = pq.read_table(folder / "articles.parquet")
    types = {name: parquet.schema.field(name).type for name in parquet.column_names}
    options = pyarrow.csv.ConvertOptions(column_types=types)
    delimited = pyarrow.csv.read_csv(folder / "articles.csv", convert_options=options)
    assert delimited.to_pylist() == parquet.to_pylist()
    assert len(parquet) == 420


def test_every_question_has_its_answer():
    """Each question names an article that is there, in its own language, and no other names it."""
    articles = pq.read_table(ROOT / "sample_data" / "articles.parquet").to_pylist()
    language = {row["id"]: row["language"] for row in articles}
    queries = pyarrow.csv.read_csv(ROOT / "sample_data" / "queries.csv").to_pylist()
    assert len({row["answer"] for row in queries}) == len(queries) == 60
    assert all(language[row["answer"]] == row["language"] for row in queries)
