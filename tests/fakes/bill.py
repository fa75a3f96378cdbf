"""What the stand-in server was asked for and what it would charge: the truth of every test."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Bill:
    """Counts, and one JSON line per request in `path`, written before the answer is."""

    path: Path | None = None
    requests: int = 0
    tokens: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    texts: Counter[str] = field(default_factory=Counter)  # text -> how often it was paid for
    answers: list[list[str]] = field(default_factory=list)  # the texts of each one paid for
    sizes: list[int] = field(default_factory=list)  # texts of each request
    seconds: list[float] = field(default_factory=list)  # when each request came
    now_open: int = 0
    most_open: int = 0
    _file: int | None = None

    @property
    def answered(self) -> int:
        """How many vectors were paid for."""
        return sum(self.texts.values())

    @property
    def paid_twice(self) -> dict[str, int]:
        """The texts that were paid for more than once."""
        return {text: n for text, n in self.texts.items() if n > 1}

    def enter(self, when: float, size: int) -> None:
        """Count a request that came in."""
        self.requests += 1
        self.seconds.append(when)
        self.sizes.append(size)
        self.now_open += 1
        self.most_open = max(self.most_open, self.now_open)

    def write(self, *, path: str, status: int, texts: list[str], tokens: int) -> None:
        """Count an answer that is about to go out; `texts` are those that are charged."""
        self.statuses[status] += 1
        self.texts.update(texts)
        if texts:
            self.answers.append(texts)
        self.tokens += tokens
        if self.path is not None:
            if self._file is None:
                self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            line = {"path": path, "status": status, "texts": texts, "tokens": tokens}
            os.write(self._file, json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def read_bill(path: Path | str) -> Bill:
    """Return the bill that a server of another process wrote to `path`, as far as it is whole."""
    bill = Bill()
    file = Path(path)
    if not file.exists():
        return bill
    for line in file.read_text().splitlines():
        told = json.loads(line)
        bill.requests += 1
        bill.sizes.append(len(told["texts"]))
        bill.write(**told)
    return bill
