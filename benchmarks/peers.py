"""Our comparisons beside the libraries that people would reach for: `python -m benchmarks.peers`.

Each number is a process of its own, which also measures the plain float32 product of the same
vectors, so that every ratio is of one run. What was measured is kept in a file; the same command
goes on with what is missing and prints the tables. A number whose product took over `BUSY` times
the least that the same product took is of a busy minute: it is not shown, and measured again.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SIZES, DIMENSIONS, KINDS = (10_000, 50_000, 100_000), (128, 384, 1024), ("random", "clustered")
K, PART, TILE = 10, 2048, 1024
PAIRS_A_ROW = 10
BUSY = 1.45
BLAS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
TOP: tuple[str, ...] = (
    *("ours, float32", "ours, bfloat16", "faiss", "faiss, right BLAS"),
    *("scikit-learn", "sentence-transformers", "sparse_dot_topn"),
)
PAIRS = tuple(name for name in TOP if name != "scikit-learn")
CONTENDERS = {"top_k": TOP, "min_score": PAIRS}


def vectors_of(kind: str, rows: int, dimensions: int) -> Floats:
    """Return unit vectors: random ones, or around 1,000 centers."""
    rng = np.random.default_rng(1)
    found = rng.standard_normal((rows, dimensions), np.float32)
    if kind == "clustered":
        centers = rng.standard_normal((1000, dimensions), np.float32)
        found = centers[rng.integers(1000, size=rows)] + np.float32(0.7) * found
    unit: Floats = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit


def threshold(vectors: Floats) -> float:
    """Return the score that about ten pairs a row reach, from a part of the rows."""
    some = vectors[:: max(1, len(vectors) // 500)]
    scores = np.sort((some @ vectors.T).ravel())[::-1]
    return float(scores[len(some) * (1 + 2 * PAIRS_A_ROW)])


def gemm(vectors: Floats) -> float:
    """Return the seconds of the whole float32 product: of a part of the rows, scaled up."""
    rows = min(4096, len(vectors))
    room, best = np.empty((TILE, len(vectors)), np.float32), np.inf
    for _ in range(3):
        began = time.perf_counter()
        for start in range(0, rows, TILE):
            some = vectors[start : min(start + TILE, rows)]
            np.matmul(some, vectors.T, out=room[: len(some)])
        best = min(best, time.perf_counter() - began)
    return best * len(vectors) / rows


def ours(product: str) -> Callable[..., float]:
    """Return how to time our own comparison, whole, with the file that it writes."""

    def run(vectors: Floats, mode: str, least: float) -> float:
        from batchembed.similarity import Grid, SimilaritySettings, compare
        from batchembed.similarity.bfloat16 import Bfloat16
        from batchembed.similarity.products import Float32
        from benchmarks.similarity import InMemory

        way = Float32() if product == "float32" else Bfloat16()
        asked = (
            SimilaritySettings(top_k=K) if mode == "top_k" else SimilaritySettings(min_score=least)
        )
        began = time.perf_counter()
        compare(InMemory(vectors), None, asked, write=io.BytesIO(), grid=Grid(product=way))
        return time.perf_counter() - began

    return run


def faiss_exact(vectors: Floats, mode: str, least: float) -> float:
    """Time faiss's exact search."""
    import faiss

    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    some = vectors[:PART]
    began = time.perf_counter()
    if mode == "top_k":
        flat.search(some, K + 1)
    else:
        flat.range_search(some, least)
    return (time.perf_counter() - began) * len(vectors) / len(some)


def scikit_learn(vectors: Floats, mode: str, least: float) -> float:  # noqa: ARG001 - one form
    """Time scikit-learn's brute force, by cosine."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=K + 1, metric="cosine", algorithm="brute").fit(vectors)
    some = vectors[:PART]
    began = time.perf_counter()
    search.kneighbors(some)
    return (time.perf_counter() - began) * len(vectors) / len(some)


def sentence_transformers(vectors: Floats, mode: str, least: float) -> float:  # noqa: ARG001
    """Time semantic_search, or paraphrase_mining_embeddings of all rows."""
    import torch
    from sentence_transformers import util

    given = torch.from_numpy(vectors)
    some = given[:PART] if mode == "top_k" else given
    began = time.perf_counter()
    if mode == "top_k":
        util.semantic_search(some, given, top_k=K + 1)
    else:
        most = len(vectors) * PAIRS_A_ROW
        util.paraphrase_mining_embeddings(given, max_pairs=most, top_k=100)
    return (time.perf_counter() - began) * len(vectors) / len(some)


def sparse_dot(vectors: Floats, mode: str, least: float) -> float:
    """Time sparse_dot_topn, which is made for sparse vectors."""
    from scipy.sparse import csr_matrix
    from sparse_dot_topn import sp_matmul_topn

    right, some = csr_matrix(vectors.T), csr_matrix(vectors[:128])
    began = time.perf_counter()
    most = {"top_n": K + 1} if mode == "top_k" else {"top_n": len(vectors), "threshold": least}
    sp_matmul_topn(some, right, n_threads=2, **most)
    return (time.perf_counter() - began) * len(vectors) / 128


WAYS: dict[str, Callable[..., float]] = {
    "ours, float32": ours("float32"),
    "ours, bfloat16": ours("bfloat16"),
    "faiss": faiss_exact,
    "faiss, right BLAS": faiss_exact,
    "scikit-learn": scikit_learn,
    "sentence-transformers": sentence_transformers,
    "sparse_dot_topn": sparse_dot,
}


def cell(name: str, mode: str, kind: str, rows: int, dimensions: int) -> dict[str, float]:
    """Measure one contender in this process."""
    vectors = vectors_of(kind, rows, dimensions)
    least = threshold(vectors) if mode == "min_score" else 0.0
    before = gemm(vectors)
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = WAYS[name](vectors, mode, least)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    product = (before + gemm(vectors)) / 2
    return {"seconds": seconds, "gemm": product, "mb": peak / 1024, "before_mb": held / 1024}


def environment(name: str) -> dict[str, str]:
    """Return the variables of a contender: its BLAS as shipped, or told what the processor is."""
    plain = {key: value for key, value in os.environ.items() if key not in BLAS}
    if name == "faiss, right BLAS":
        plain["OPENBLAS_CORETYPE"] = "SkylakeX"
    return plain | {"PYTHONPATH": str(Path(__file__).parent.parent)}


def measure(told: argparse.Namespace, known: dict[str, Any], until: float) -> None:
    """Measure what is missing, one process after the other, until it is time to stop."""
    for mode in told.modes:
        for kind in told.kinds:
            for rows in told.rows:
                for dimensions in told.dimensions:
                    for name in (one for one in CONTENDERS[mode] if one in told.contenders):
                        words = [name, mode, kind, str(rows), str(dimensions)]
                        if "/".join(words) in quiet(known) or time.monotonic() > until:
                            continue
                        command = [sys.executable, "-m", "benchmarks.peers", "--cell", *words]
                        done = subprocess.run(
                            command,
                            env=environment(name),
                            capture_output=True,
                            text=True,
                            check=False,
                        )
                        if done.returncode:
                            print(f"{words}: {done.stderr[-300:]}", file=sys.stderr)
                            continue
                        found = json.loads(done.stdout)
                        known["/".join(words)] = found
                        with told.results.open("a") as file:
                            file.write(json.dumps({"cell": "/".join(words)} | found) + "\n")


def quiet(known: dict[str, Any]) -> dict[str, Any]:
    """Return what was measured while the machine did little else."""
    least: dict[str, float] = {}
    for name, found in known.items():
        size = "/".join(name.split("/")[-2:])
        least[size] = min(found["gemm"], least.get(size, np.inf))
    return {
        name: found
        for name, found in known.items()
        if found["gemm"] <= BUSY * least["/".join(name.split("/")[-2:])]
    }


def tables(known: dict[str, Any]) -> str:
    """Return what is known as Markdown: seconds, times the product, megabytes on top."""
    known, lines = quiet(known), []
    for mode, names in CONTENDERS.items():
        title = f"the exact {K} nearest" if mode == "top_k" else f"pairs, about {PAIRS_A_ROW} a row"
        lines += ["", f"### {title}", "", "| vectors | product | " + " | ".join(names) + " |"]
        lines.append("|" + "---|" * (len(names) + 2))
        for kind in KINDS:
            for rows in SIZES:
                for dimensions in DIMENSIONS:
                    keys = ["/".join((n, mode, kind, str(rows), str(dimensions))) for n in names]
                    found = [known.get(key) for key in keys]
                    there = [one for one in found if one]
                    if there:
                        product = float(np.median([one["gemm"] for one in there]))
                        shown = [_shown(one) for one in found]
                        what = f"{kind}, {rows:,} x {dimensions}"
                        lines.append(f"| {what} | {product:.2f} s | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def _shown(found: dict[str, float] | None) -> str:
    if found is None:
        return ""
    more = max(0.0, found["mb"] - found["before_mb"])
    return f"{found['seconds'] / found['gemm']:.2f} ({found['seconds']:.1f} s, {more:.0f} MB)"


def main() -> None:
    """Measure for as long as was said, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--cell", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--modes", nargs="*", default=list(CONTENDERS))
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--rows", nargs="*", type=int, default=list(SIZES))
    parser.add_argument("--dimensions", nargs="*", type=int, default=list(DIMENSIONS))
    parser.add_argument("--contenders", nargs="*", default=list(TOP), help="of the columns")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop then, and go on later")
    parser.add_argument("--results", type=Path, default=Path("peers.jsonl"))
    told = parser.parse_args()
    if told.cell:
        name, mode, kind, rows, dimensions = told.cell
        print(json.dumps(cell(name, mode, kind, int(rows), int(dimensions))))
        return
    known = {}
    if told.results.exists():
        for line in told.results.read_text().splitlines():
            found = json.loads(line)
            known[found.pop("cell")] = found
    measure(told, known, time.monotonic() + told.minutes * 60)
    print(tables(known))


if __name__ == "__main__":
    main()
