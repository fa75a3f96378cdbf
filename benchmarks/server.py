"""The stand-in server: prepared answers over loopback, in C where there is a compiler.

Run as `python -m benchmarks.server NAME=FILE ...` it is the fallback in Python.
"""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from benchmarks.measuring import ROOT, pinned
from benchmarks.serving import Connection, serve

SOURCE = Path(__file__).with_name("stand_in.c")
SERVER_CORE = 1


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers POST `url`/NAME/…; `language` says which of the two it is."""

    url: str
    language: str
    process: int

    def cpu(self) -> float:
        """Return the CPU seconds that it has taken so far."""
        stat = Path(f"/proc/{self.process}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(bodies: Mapping[str, bytes], folder: Path) -> Iterator[Running]:
    """Serve each body under its name from the second core, until the block ends."""
    told = []
    for name, body in bodies.items():
        (folder / name).write_bytes(body)
        told.append(f"{name}={folder / name}")
    command, language = _command(folder)
    with (
        pinned(SERVER_CORE),
        subprocess.Popen(
            [*command, *told],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ) as process,
    ):
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield Running(f"http://127.0.0.1:{port}", language, process.pid)


def _command(folder: Path) -> tuple[list[str], str]:
    """Return how to start the server, and its language."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler:
        program = folder / "stand_in"
        made = subprocess.run(
            [compiler, "-O2", "-o", str(program), str(SOURCE)], check=False, capture_output=True
        )
        if made.returncode == 0:
            return [str(program)], "C"
    return [sys.executable, "-m", "benchmarks.server"], "Python"


# -- the answers ------------------------------------------------------------------------------


def aleph_alpha(texts: int | None, dimensions: int) -> bytes:
    """Return an answer of Aleph Alpha: of one text (None), or of a batch."""
    rows = _rows(texts or 1, dimensions)
    name, value = ("embedding", rows[0]) if texts is None else ("embeddings", rows)
    told = {"model_version": "stand-in", name: value, "num_tokens_prompt_total": 90}
    return orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY)


def openai(texts: int, dimensions: int, *, as_base64: bool) -> bytes:
    """Return an answer of the OpenAI API, its vectors as JSON numbers or as base64."""
    rows = _rows(texts, dimensions)
    shown = [base64.b64encode(row.tobytes()).decode() for row in rows] if as_base64 else rows
    data = [{"object": "embedding", "index": at, "embedding": row} for at, row in enumerate(shown)]
    usage = {"prompt_tokens": 90 * texts, "total_tokens": 90 * texts}
    told = {"object": "list", "data": data, "model": "stand-in", "usage": usage}
    return orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY)


def _rows(texts: int, dimensions: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    rows = np.random.default_rng(1).normal(size=(texts, dimensions)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


# -- the fallback -----------------------------------------------------------------------------


def _prepared(told: list[str]) -> Callable[[Connection, bytes], None]:
    """Return how to answer with the files named by NAME=FILE, each for the paths below its name."""
    named = (word.split("=", 1) for word in told)
    answers = {name: Path(path).read_bytes() for name, path in named}

    def answer(line: Connection, request: bytes) -> None:
        name = request.split(b" ", 2)[1].split(b"/")[1].decode()
        line.send("200 OK", answers[name])

    return answer


if __name__ == "__main__":
    asyncio.run(serve(_prepared(sys.argv[1:])))
