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
    "The texts are recombined from the English articles in `sample_data/`, about 54 characters "
    "each. *Varied*: with as many different words as English texts of that length have (Heaps' "
    "law, fitted to 2.1 million words of glosses, questions and documentation; the new words are "
    "parts of others, hyphenated, or with marks). *Few words*: the 5,500 of the articles and no "
    "others. That is the fastest case of the encoder, which remembers words, so the hardest one "
    "for what is around it, and no corpus of that size is like it."
)
# Heaps' law: of n words of running text, K * n**B are different. The part of them that are new
# words of their own kind: hyphenated, with a mark, else made of two halves.
HEAPS_K, HEAPS_B = 17.4, 0.617
HYPHENATED, MARKED = 0.15, 0.35
MARKS = (",", ".", ";", ")", "'s", ":")


def short(scope: Scope, rows: int, *, varied: bool = False) -> Path:
    """Return a corpus of `rows` short texts, or of the texts of one's own, as many as there are."""
    path = scope.folder / f"{'varied' if varied else 'short'}-{rows}.parquet"
    if scope.texts is not None and not path.exists():
        own = list(dict.fromkeys(scope.texts.read_text().splitlines()))[:rows]
        ids = [f"row-{at:08d}" for at in range(len(own))]
        pq.write_table(pa.table({"id": ids, "text": own}), path, row_group_size=ROWS_AT_ONCE)
    return make(path, rows, varied=varied)


def make(path: Path, rows: int, *, characters: int = SHORT, varied: bool = False) -> Path:
    """Return a Parquet corpus of `rows` rows, columns `id` and `text`, made if it is not there.

    A text is two runs of words from two English articles, `characters` long on average. No text
    is there twice. The words are few, or `varied`: see `ABOUT`.
    It is made by a process of its own: what a child's `ru_maxrss` tells begins with the memory of
    the process that started it, so that has to stay small.
    """
    if not path.exists():
        temporary = path.with_suffix(".making")
        child(module("corpora", str(temporary), str(rows), str(characters), str(int(varied))))
        temporary.rename(path)
    return path


def write(path: str, rows: int, characters: int, *, varied: bool) -> None:
    """Write a corpus, the same one for the same sizes."""
    schema = pa.schema([("id", pa.string()), ("text", pa.string())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        upcoming = texts(characters, seed=1)
        if varied:
            upcoming = with_new_words(upcoming, seed=2)
        for first in range(0, rows, ROWS_AT_ONCE):
            count = min(ROWS_AT_ONCE, rows - first)
            made = [next(upcoming) for _ in range(count)]
            ids = [f"row-{first + at:08d}" for at in range(count)]
            writer.write_table(pa.table({"id": ids, "text": made}, schema=schema))


def texts(characters: int, seed: int) -> Iterator[str]:
    """Yield different texts without end, the same ones for the same seed."""
    articles = _articles()
    draw = random.Random(seed)
    half = characters / 2 / (sum(map(len, map(" ".join, articles))) / sum(map(len, articles)))
    seen: set[int] = set()
    while True:
        text = f"{_run(draw, articles, half)} {_run(draw, articles, half)}"
        if (known := hash(text)) not in seen:
            seen.add(known)
            yield text


def with_new_words(texts: Iterator[str], seed: int) -> Iterator[str]:
    """Yield the texts with new words in the place of some, as many as Heaps' law wants."""
    draw, running = random.Random(seed), 0
    known = sorted({word for article in _articles() for word in article})
    for text in texts:
        words = text.split()
        for at in range(len(words)):
            running += 1
            if draw.random() < HEAPS_B * HEAPS_K * running ** (HEAPS_B - 1):
                words[at] = _new_word(draw, draw.choice(known), draw.choice(known))
        yield " ".join(words)


def _new_word(draw: random.Random, one: str, other: str) -> str:
    kind = draw.random()
    if kind < HYPHENATED:
        return f"{one}-{other}"
    if kind < HYPHENATED + MARKED:
        return one.strip(".,;:") + draw.choice(MARKS)
    return one[: (len(one) + 1) // 2] + other[len(other) // 2 :]


def _articles() -> list[list[str]]:
    english = pl.read_parquet(ARTICLES).filter(pl.col("language") == "en")
    return [text.split() for text in english["text"].to_list()]


def _run(draw: random.Random, articles: list[list[str]], words: float) -> str:
    """Return `words` words on average that follow each other in some article, or a few less."""
    article = articles[int(draw.random() * len(articles))]
    count = max(1, round(words * (0.5 + draw.random())))
    start = int(draw.random() * max(1, len(article) - count))
    return " ".join(article[start : start + count])


if __name__ == "__main__":
    write(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), varied=bool(int(sys.argv[4])))
