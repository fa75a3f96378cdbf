"""Corpora to measure with: short texts recombined from the sample articles, as Parquet."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measuring import Scope, child, module

ARTICLES = Path(__file__).parent.parent / "sample_data" / "articles.parquet"
SHORT = 54
ROWS_AT_ONCE = 50_000
ABOUT = (
    "The texts are recombined from the English articles in `sample_data/`: about 54 characters, "
    "5,500 different words. That is the fastest case of the encoder, which remembers words, and "
    "so the hardest one for what is around it."
)


def short(scope: Scope, rows: int) -> Path:
    """Return a corpus of `rows` short texts, or of the texts of one's own, as many as there are."""
    path = scope.folder / f"short-{rows}.parquet"
    if scope.texts is not None and not path.exists():
        own = list(dict.fromkeys(scope.texts.read_text().splitlines()))[:rows]
        ids = [f"row-{at:08d}" for at in range(len(own))]
        pq.write_table(pa.table({"id": ids, "text": own}), path, row_group_size=ROWS_AT_ONCE)
    return make(path, rows)


def make(path: Path, rows: int, *, characters: int = SHORT) -> Path:
    """Return a Parquet corpus of `rows` rows, columns `id` and `text`, made if it is not there.

    A text is two runs of words from two English articles, `characters` long on average. No text
    is there twice; the words are few, which is the best case of an encoder that remembers words.
    It is made by a process of its own: what a child's `ru_maxrss` tells begins with the memory of
    the process that started it, so that has to stay small.
    """
    if not path.exists():
        temporary = path.with_suffix(".making")
        child(module("corpora", str(temporary), str(rows), str(characters)))
        temporary.rename(path)
    return path


def write(path: str, rows: int, characters: int) -> None:
    """Write a corpus, the same one for the same sizes."""
    schema = pa.schema([("id", pa.string()), ("text", pa.string())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        upcoming = texts(characters, seed=1)
        for first in range(0, rows, ROWS_AT_ONCE):
            count = min(ROWS_AT_ONCE, rows - first)
            made = [next(upcoming) for _ in range(count)]
            ids = [f"row-{first + at:08d}" for at in range(count)]
            writer.write_table(pa.table({"id": ids, "text": made}, schema=schema))


def texts(characters: int, seed: int) -> Iterator[str]:
    """Yield different texts without end, the same ones for the same seed."""
    english = pl.read_parquet(ARTICLES).filter(pl.col("language") == "en")
    articles = [text.split() for text in english["text"].to_list()]
    draw = random.Random(seed)
    half = characters / 2 / (sum(map(len, map(" ".join, articles))) / sum(map(len, articles)))
    seen: set[int] = set()
    while True:
        text = f"{_run(draw, articles, half)} {_run(draw, articles, half)}"
        if (known := hash(text)) not in seen:
            seen.add(known)
            yield text


def _run(draw: random.Random, articles: list[list[str]], words: float) -> str:
    """Return `words` words on average that follow each other in some article, or a few less."""
    article = articles[int(draw.random() * len(articles))]
    count = max(1, round(words * (0.5 + draw.random())))
    start = int(draw.random() * max(1, len(article) - count))
    return " ".join(article[start : start + count])


if __name__ == "__main__":
    write(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
