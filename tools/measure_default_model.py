"""Measure the embedded default model: likeness scores, speed, start-up and size.

Run `python tools/measure_default_model.py FILE [FILE ...]` with files of scored sentence pairs:
STS-B dev (tab-separated with the score in the fifth column, or a csv with a header) or the
tab-separated STS sets (score, sentence, sentence). Pairs without a score are left out. For speed on
one core put `TOKENIZERS_PARALLELISM=false taskset -c 0` before it. Speed is in texts a second of
CPU time, as other programs may share the core: for the sentences in the files, then for texts of
1,000 characters joined from them, and beside it that of the `tokenizers` library alone, which a
static model without a memory for words has to run on every text.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from batchembed.providers.static_files import EMBEDDED
from batchembed.providers.static_model import StaticModel

FloatArray = npt.NDArray[np.float64]
Pair = tuple[float, str, str]

SIZES = (256, 128)
LONG = 1000  # characters
STSB_COLUMNS = 7  # genre, file, year, place, score, sentence, sentence
ROUNDS = 5
FIRST_VECTOR = """
import time
begun = time.perf_counter()
from batchembed.providers.static_model import StaticModel
StaticModel.load().encode(["a first text"])
print(time.perf_counter() - begun)
"""


def read_pairs(path: Path) -> list[Pair]:
    """Return (score, sentence, sentence) for every pair in `path` that has a score."""
    if path.suffix == ".csv" and "\t" not in path.read_text(encoding="utf-8").partition("\n")[0]:
        with path.open(encoding="utf-8", newline="") as stream:
            table = list(csv.DictReader(stream))
        rows = [[row["score"], row["sentence1"], row["sentence2"]] for row in table]
    else:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [line.split("\t") for line in lines if line]
        rows = [row[4:7] if len(row) >= STSB_COLUMNS else row for row in rows]
    return [(float(row[0]), row[1], row[2]) for row in rows if row[0].strip()]


def ranks(values: FloatArray) -> FloatArray:
    """Return the ranks of `values`, equal values sharing the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    shared: FloatArray = (ends - (counts - 1) / 2)[places]
    return shared


def spearman(model: StaticModel, pairs: list[Pair]) -> float:
    """Return 100 times the rank correlation of the model's cosines with the pairs' scores."""
    left, _ = model.encode([pair[1] for pair in pairs])
    right, _ = model.encode([pair[2] for pair in pairs])
    cosines = (left.astype(np.float64) * right).sum(axis=1)
    scores = np.array([pair[0] for pair in pairs])
    return 100 * float(np.corrcoef(ranks(cosines), ranks(scores))[0, 1])


def speeds(texts: list[str], *, dimensions: int) -> tuple[float, float]:
    """Return texts/s with every word new to the model, and the median with words it has met."""
    model = StaticModel.load(dimensions=dimensions)
    rates = []
    for _ in range(1 + ROUNDS):
        begun = time.process_time()
        model.encode(texts)
        rates.append(len(texts) / (time.process_time() - begun))
    return rates[0], statistics.median(rates[1:])


def tokenizer_speed(texts: list[str]) -> float:
    """Return texts/s of tokenising alone, the median of several rounds."""
    tokenizer = Tokenizer.from_file(str(EMBEDDED / "tokenizer.json"))
    rates = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        assert all(encoding.ids is not None for encoding in encodings)
        rates.append(len(texts) / (time.process_time() - begun))
    return statistics.median(rates)


def first_vector() -> tuple[float, float]:
    """Return seconds, the median of fresh processes: the whole process, and import to vector."""
    whole, inside = [], []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", FIRST_VECTOR], check=True, capture_output=True, text=True
        )
        whole.append(time.perf_counter() - begun)
        inside.append(float(done.stdout))
    return statistics.median(whole), statistics.median(inside)


def print_scores(paths: list[Path]) -> list[str]:
    """Print a table of scores, and return the distinct sentences of all files."""
    print("| Spearman x 100 | pairs |" + "".join(f" {size} dimensions |" for size in SIZES))
    print("|---|---|" + "---|" * len(SIZES))
    models = [StaticModel.load(dimensions=size) for size in SIZES]
    sentences: dict[str, None] = {}
    for path in paths:
        pairs = read_pairs(path)
        sentences.update(dict.fromkeys(text for pair in pairs for text in pair[1:]))
        scores = "".join(f" {spearman(model, pairs):.1f} |" for model in models)
        print(f"| {path.stem} | {len(pairs)} |{scores}")
    return list(sentences)


def print_speeds(sentences: list[str]) -> None:
    """Print a table of the texts a second, for the sentences and for long texts made of them."""
    joined = " ".join(sentences)
    long = [joined[i : i + LONG] for i in range(0, len(joined), LONG)]
    print("\n| texts | dimensions | texts/s, new words | texts/s, words met |\n|---|---|---|---|")
    for texts in (sentences, long):
        length = sum(map(len, texts)) / len(texts)
        what = f"{len(texts):,} of {length:.0f} characters"
        print(f"| {what} | tokens only | {tokenizer_speed(texts):,.0f} | |")
        for size in SIZES:
            new, met = speeds(texts, dimensions=size)
            print(f"| {what} | {size} | {new:,.0f} | {met:,.0f} |")


def main() -> None:
    """Print the tables of the model card."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", type=Path, nargs="+", help="scored sentence pairs")
    sentences = print_scores(parser.parse_args().files)
    print_speeds(sentences)
    whole, inside = first_vector()
    size = sum(path.stat().st_size for path in EMBEDDED.iterdir()) / 1e6
    print(
        f"\nfirst vector in a fresh process: {whole:.2f} s, imports and model {inside:.2f} s of it"
    )
    print(f"size: {size:.1f} MB")


if __name__ == "__main__":
    main()
