"""Turn English texts into vectors with the model inside the package: no network, no key, no torch.

Theory of operation. A vector is the sum of the rows of the text's tokens, at length 1. Rows are
kept as whole numbers, and sums of whole numbers do not depend on the order of adding: so a text has
the same vector, bit for bit, in any batch, place and thread, and a long text may be added up piece
by piece. Texts are cut at whitespace, and `Words` remembers the tokens of words met before.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from batchembed.providers.static_files import EMBEDDED, checked, identity
from batchembed.providers.static_words import Span, Words

_LARGEST_ROW: Final = 2**17  # the largest number in a row; 2**14 of them fit an int32
_CHARACTERS_A_PIECE: Final = 3 * 2**10  # longer texts are cut, at a space or a mark if one is near
_SEARCHED: Final = 2**10  # characters searched for it; a character has at most 3 tokens, so 2**14
_TOKENS_A_BLOCK: Final = 512  # rows gathered at a time: half a megabyte, which a core's cache holds
_TEXTS_A_BATCH: Final = 256
_ROWS_A_STEP: Final = 1024

_SPACE: Final = re.compile(r"\s")
_MARK: Final = re.compile(r"[!-/:-@\[-`{-~]")  # a token by itself: nothing is lost by a cut there


class StaticModel:
    """A vector for each token, and how to find the tokens of a text.

    Safe to use from several threads at once. Made by `StaticModel.load`.
    """

    def __init__(
        self, name: str, version: str, *, table: NDArray[np.int32], tokenizer: Tokenizer
    ) -> None:
        self.name = name
        self.version = version
        self.dimensions = table.shape[1]
        self._table = table
        self._words = Words(tokenizer)

    @classmethod
    def load(cls, folder: Path | None = None, *, dimensions: int | None = None) -> StaticModel:
        """Read the model in `folder`, or the embedded one, and check it against its checksums.

        `dimensions` keeps that many leading numbers of each vector; None keeps all.
        Raises DamagedError if a file is missing or altered, ValueError if `dimensions` is not
        between 1 and the model's own.
        """
        folder = EMBEDDED if folder is None else folder
        checked(folder)
        name, version, wanted = identity(folder, dimensions)
        rows = np.load(folder / "rows.npy")[:, :wanted]
        scales = np.load(folder / "scales.npy")
        grid = scales * np.float32(_LARGEST_ROW / (127 * float(scales.max())))
        table = np.empty(rows.shape, np.int32)
        for begin in range(0, len(rows), _ROWS_A_STEP):  # the whole at once would take 90 MB
            step = slice(begin, begin + _ROWS_A_STEP)
            table[step] = np.rint(rows[step] * grid[step, None])
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        return cls(name, version, table=table, tokenizer=tokenizer)

    def encode(
        self,
        texts: Sequence[str],
        controls: Sequence[Sequence[Span]] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return the vectors of `texts`, (n, dimensions) at length 1, and their tokens, (n,).

        A text without a known token has no vector: its row is zeros and its tokens are 0. Texts
        are never cut short, whatever their length.

        `controls` has, for each text, spans (start, length, factor) in characters: the weight of a
        token is multiplied by the factor of each span that covers it; where a span covers a share
        of the token's characters, by 1 + (factor - 1) * share. Tokens of weight 0 do not count.

        Raises ValueError if a text holds a lone surrogate (it has no UTF-8 form), if a control is
        negative, not finite or too large, or if there are not as many lists of controls as texts.
        """
        if controls is not None and len(controls) != len(texts):
            raise ValueError(f"`{len(texts)}` texts, but controls for `{len(controls)}`")
        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        tokens = np.zeros(len(texts), np.int32)
        long = {row for row, text in enumerate(texts) if len(text) > _CHARACTERS_A_PIECE}
        steered = {row for row, spans in enumerate(controls or ()) if len(spans)}
        together = [row for row in range(len(texts)) if row not in long and row not in steered]
        for begin in range(0, len(together), _TEXTS_A_BATCH):
            rows = together[begin : begin + _TEXTS_A_BATCH]
            sums, tokens[rows] = self._sum_batch([texts[row] for row in rows])
            vectors[rows] = _unit(sums)
        for row in sorted(long | steered):
            spans = _checked(controls[row], row) if controls else ()
            total, tokens[row] = self._sum_alone(texts[row], spans)
            vectors[row] = _unit(_scaled(total, row)[None, :])[0]
        return vectors, tokens

    def _sum_batch(self, texts: list[str]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the sums of the rows of short texts, (n, d), and their tokens, (n,)."""
        found = self._words.tokens(texts)
        tokens = np.fromiter(map(len, found), np.int64, len(found)) // 2
        ids = np.frombuffer(b"".join(found), np.uint16)
        starts = np.cumsum(tokens) - tokens
        sums = np.zeros((len(texts), self.dimensions))
        order = np.argsort(tokens, kind="stable")
        ends = np.flatnonzero(np.diff(tokens[order], append=-1)) + 1
        begin = 0
        for end in ends.tolist():
            length = int(tokens[order[begin]])
            step = max(1, _TOKENS_A_BLOCK // max(1, length))
            for low in range(begin, end if length else begin, step):
                rows = order[low : min(low + step, end)]
                places = starts[rows, None] + np.arange(length)
                gathered = np.take(self._table, ids[places], axis=0)
                sums[rows] = gathered.sum(axis=1, dtype=np.int32)
            begin = end
        return sums, tokens

    def _sum_alone(self, text: str, spans: Sequence[Span]) -> tuple[NDArray[np.float64], int]:
        """Return the weighted sum (d,) of the rows of one text of any length, and its tokens."""
        total, tokens = np.zeros(self.dimensions), 0
        for start, piece in _pieces(text):
            near = [
                (first - start, min(length, len(text)), factor)
                for first, length, factor in spans
                if first - start < len(piece) and first + length > start
            ]
            if not near:
                sums, found = self._sum_batch([piece])
                total += sums[0]
                tokens += int(found[0])
                continue
            ids, weights = self._words.weighted_tokens(piece, near)
            tokens += len(ids)
            for begin in range(0, len(ids), _TOKENS_A_BLOCK):
                block = slice(begin, begin + _TOKENS_A_BLOCK)
                total += (self._table[ids[block]] * weights[block, None]).sum(axis=0)
        return total, tokens


def _unit(sums: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the rows of `sums` (n, d) at length 1; rows of zeros stay zeros."""
    lengths = np.sqrt(np.square(sums).sum(axis=1, keepdims=True))
    lengths[lengths == 0] = 1
    vectors: NDArray[np.float32] = (sums / lengths).astype(np.float32)
    return vectors


def _scaled(total: NDArray[np.float64], row: int) -> NDArray[np.float64]:
    """Return `total` times the power of two that brings it near 1, which changes no digit."""
    largest = np.abs(total).max()
    if not math.isfinite(largest):
        raise ValueError(f"text `{row}` has controls whose factors are too large together")
    scaled: NDArray[np.float64] = np.ldexp(total, -np.frexp(largest)[1])
    return scaled


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """Yield (start, piece): the whole of `text` in pieces of bounded length, cut between tokens."""
    start = 0
    while len(text) - start > _CHARACTERS_A_PIECE:
        end = start + _CHARACTERS_A_PIECE
        reach = end + _SEARCHED
        gap = _SPACE.search(text, end, reach) or _MARK.search(text, end, reach)
        end = gap.start() if gap else end
        yield start, text[start:end]
        start = end
    yield start, text[start:]


def _checked(spans: Sequence[Span], row: int) -> Sequence[Span]:
    """Return `spans` if each is possible, else raise ValueError."""
    for start, length, factor in spans:
        if start < 0 or length < 0 or factor < 0 or not math.isfinite(factor):
            raise ValueError(f"text `{row}` has an impossible control: `{(start, length, factor)}`")
    return spans
