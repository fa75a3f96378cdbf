"""Turn English texts into vectors with the model inside the package: no network, no key, no torch.

Theory of operation. A vector is the sum of the rows of the text's tokens, at length 1. Rows are
kept as whole numbers of at most 16 bits and a sign, and sums of whole numbers do not depend on the
order of adding: so a text has the same vector, bit for bit, in any batch, place and thread, and a
long text may be added up piece by piece. Texts are cut at whitespace, and the tokens of words seen
before are remembered, because looking a word up is many times faster than tokenising it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from batchembed.errors import DamagedError

EMBEDDED: Final = Path(__file__).parent / "default_model"

_LARGEST_ROW: Final = 2**16  # the largest number in a row
_TOKENS_A_SUM: Final = 2**14  # with this many tokens a sum stays within 2**30: it fits an int32
_TOKENS_A_BLOCK: Final = 512  # rows gathered at a time: half a megabyte, which a core's cache holds
_TEXTS_A_BATCH: Final = 2048
_CHARACTERS_A_BATCH: Final = 2**20
_CHARACTERS_A_PIECE: Final = 2**16  # longer texts are cut, at whitespace if there is any
_SEARCHED: Final = 1024  # characters searched for that whitespace
_WORDS_A_LIST: Final = 256
_REMEMBERED: Final = 2**25  # bytes, about
_WORD_COST: Final = 200  # bytes of a remembered word beside its characters

_SPACE: Final = re.compile(r"\s")
_WORD: Final = re.compile(r"\S+")

Span = tuple[int, int, float]
"""A control on a part of a text: start and length in characters, factor."""


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
        self._words = _Words(tokenizer)

    @classmethod
    def load(cls, folder: Path | None = None, *, dimensions: int | None = None) -> StaticModel:
        """Read the model in `folder`, or the embedded one, and check it against its checksums.

        `dimensions` keeps that many leading numbers of each vector; None keeps all.
        Raises DamagedError if a file is missing or altered, ValueError if `dimensions` is not
        between 1 and the model's own.
        """
        folder = EMBEDDED if folder is None else folder
        about = _read_about(folder)
        own = int(about["dimensions"])
        wanted = own if dimensions is None else dimensions
        if not 1 <= wanted <= own:
            raise ValueError(f"`{about['name']}` has 1 to {own} dimensions, not `{dimensions}`")
        rows = np.load(folder / "rows.npy")[:, :wanted]
        scales = np.load(folder / "scales.npy")
        grid = scales * np.float32(_LARGEST_ROW / (127 * float(scales.max())))
        table = np.rint(rows * grid[:, None]).astype(np.int32)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        return cls(about["name"], about["version"], table=table, tokenizer=tokenizer)

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
        negative or not finite, or if there are not as many lists of controls as texts.
        """
        if controls is not None and len(controls) != len(texts):
            raise ValueError(f"`{len(texts)}` texts, but controls for `{len(controls)}`")
        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        tokens = np.zeros(len(texts), np.int32)
        alone = [
            row
            for row, text in enumerate(texts)
            if len(text) > _CHARACTERS_A_PIECE or (controls is not None and len(controls[row]))
        ]
        for rows in _batches(texts, without=set(alone)):
            sums, tokens[rows] = self._sum_batch([texts[row] for row in rows])
            vectors[rows] = _unit(sums)
        for row in alone:
            spans = () if controls is None else _checked(controls[row], row)
            total, tokens[row] = self._sum_alone(texts[row], spans)
            vectors[row] = _unit(total[None, :])[0]
        tokens[~vectors.any(axis=1)] = 0
        return vectors, tokens

    def _sum_batch(self, texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the sums of the rows of short texts, (n, d), and their tokens, (n,)."""
        found = self._words.tokens(texts)
        tokens = np.fromiter(map(len, found), np.int64, len(found)) // 2
        ids = np.frombuffer(b"".join(found), np.uint16)
        starts = np.cumsum(tokens) - tokens
        sums = np.zeros((len(texts), self.dimensions), np.int64)
        order = np.argsort(tokens, kind="stable")
        ends = np.flatnonzero(np.diff(tokens[order], append=-1)) + 1
        begin = 0
        for end in ends.tolist():
            length = int(tokens[order[begin]])
            step = max(1, _TOKENS_A_BLOCK // max(1, length))
            for low in range(begin, end if length else begin, step):
                rows = order[low : min(low + step, end)]
                sums[rows] = self._sum_equal(ids, starts[rows], length)
            begin = end
        return sums, tokens

    def _sum_equal(
        self, ids: NDArray[np.uint16], starts: NDArray[np.int64], length: int
    ) -> NDArray[np.int64]:
        """Return the sums (n, d) of `length` tokens of `ids` from each of `starts`."""
        total = np.zeros((len(starts), self.dimensions), np.int64)
        for begin in range(0, length, _TOKENS_A_SUM):
            places = starts[:, None] + np.arange(begin, min(begin + _TOKENS_A_SUM, length))
            total += np.take(self._table, ids[places], axis=0).sum(axis=1, dtype=np.int32)
        return total

    def _sum_alone(
        self, text: str, spans: Sequence[Span]
    ) -> tuple[NDArray[np.float64], int]:
        """Return the weighted sum (d,) of the rows of one text of any length, and its tokens."""
        total, tokens = np.zeros(self.dimensions), 0
        for start, piece in _pieces(text):
            near = [(s - start, n, f) for s, n, f in spans if s - start < len(piece) and s + n > start]
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


class _Words:
    """The tokens of words; those of words met lately are remembered."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._unknown = tokenizer.token_to_id("[UNK]")
        self._remembered: dict[str, bytes] = {}
        self._bytes = 0

    def tokens(self, texts: list[str]) -> list[bytes]:
        """Return the ids of the known tokens of each text, as the bytes of a row of uint16."""
        remembered = self._remembered
        words = [text.split() for text in texts]
        unseen = set(chain.from_iterable(words)).difference(remembered)
        if unseen:
            if self._bytes > _REMEMBERED:  # others may still read the old one
                remembered = self._remembered = {}
                self._bytes = 0
                unseen = set(chain.from_iterable(words))
            remembered.update(self._tokenise(list(unseen)))
            self._bytes += sum(map(len, unseen)) + _WORD_COST * len(unseen)
        find = remembered.__getitem__
        return [b"".join(map(find, row)) for row in words]

    def _tokenise(self, words: list[str]) -> Iterator[tuple[str, bytes]]:
        """Yield each word with the bytes of the ids of its known tokens."""
        lists = [words[i : i + _WORDS_A_LIST] for i in range(0, len(words), _WORDS_A_LIST)]
        encodings = self._tokenizer.encode_batch_fast(
            lists, is_pretokenized=True, add_special_tokens=False
        )
        for some, encoding in zip(lists, encodings, strict=True):
            ids = np.array(encoding.ids, np.uint16)
            known = ids != self._unknown
            owners = np.array(encoding.word_ids, np.int64)[known]
            ends = np.searchsorted(owners, np.arange(len(some)), side="right") * 2
            joined, begin = ids[known].tobytes(), 0
            for word, end in zip(some, ends.tolist(), strict=True):
                yield word, joined[begin:end]
                begin = end

    def weighted_tokens(
        self, text: str, spans: Sequence[Span]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the ids of the known tokens of weight above 0, (n,), and their weights, (n,)."""
        found = list(_WORD.finditer(text))
        if not found:
            return np.zeros(0, np.int64), np.zeros(0)
        encoding = self._tokenizer.encode_batch(
            [[match.group() for match in found]], is_pretokenized=True, add_special_tokens=False
        )[0]
        ids = np.array(encoding.ids, np.int64)
        places = np.array([match.start() for match in found], np.int64)
        owners = np.array(encoding.word_ids, np.int64)
        reach = np.array(encoding.offsets, np.int64).reshape(-1, 2) + places[owners][:, None]
        weights = _weights(reach[:, 0], reach[:, 1], spans)
        keep = (ids != self._unknown) & (weights > 0)
        return ids[keep], weights[keep]


def _weights(
    starts: NDArray[np.int64], ends: NDArray[np.int64], spans: Sequence[Span]
) -> NDArray[np.float64]:
    """Return the weights of the tokens that lie in characters `starts` to `ends`, both (n,)."""
    weights = np.ones(len(starts))
    for start, length, factor in spans:
        covered = np.minimum(ends, start + length) - np.maximum(starts, start)
        share = np.maximum(covered, 0) / np.maximum(ends - starts, 1)
        weights *= np.where(share == 1, factor, 1 + (factor - 1) * share)
    return weights


def _unit(sums: NDArray[Any]) -> NDArray[np.float32]:
    """Return the rows of `sums` (n, d) at length 1; rows of zeros stay zeros."""
    exact = sums.astype(np.float64)
    lengths = np.sqrt(np.square(exact).sum(axis=1, keepdims=True))
    lengths[lengths == 0] = 1
    return (exact / lengths).astype(np.float32)


def _batches(texts: Sequence[str], *, without: set[int]) -> Iterator[list[int]]:
    """Yield the rows of `texts`, but for `without`, in batches of bounded size."""
    rows: list[int] = []
    room = _CHARACTERS_A_BATCH
    for row, text in enumerate(texts):
        if row in without:
            continue
        rows.append(row)
        room -= len(text)
        if room <= 0 or len(rows) == _TEXTS_A_BATCH:
            yield rows
            rows, room = [], _CHARACTERS_A_BATCH
    if rows:
        yield rows


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """Yield (start, piece): the whole of `text` in pieces of bounded length, cut between words."""
    start = 0
    while len(text) - start > _CHARACTERS_A_PIECE:
        end = start + _CHARACTERS_A_PIECE
        space = _SPACE.search(text, end, end + _SEARCHED)
        end = space.start() if space else end
        yield start, text[start:end]
        start = end
    yield start, text[start:]


def _checked(spans: Sequence[Span], row: int) -> Sequence[Span]:
    """Return `spans` if each is possible, else raise ValueError."""
    for start, length, factor in spans:
        if start < 0 or length < 0 or factor < 0 or not math.isfinite(factor):
            raise ValueError(f"text `{row}` has an impossible control: `{(start, length, factor)}`")
    return spans


def _read_about(folder: Path) -> dict[str, Any]:
    """Return what model.json says, once the files beside it are as it says."""
    try:
        about: dict[str, Any] = json.loads((folder / "model.json").read_bytes())
        for name, wanted in about["sha256"].items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != wanted:
                raise DamagedError(f"`{folder / name}` is not as it was made", hint="reinstall batchembed")
    except OSError as error:
        raise DamagedError(f"a file of the model is missing: {error}", hint="reinstall batchembed") from error
    return about
