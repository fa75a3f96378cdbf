"""Find the tokens of texts, word by word, remembering the words met before.

Looking a word up is many times faster than tokenising it. A word that is new is first taken apart
here: when it is plain ASCII and each of its runs of letters and digits, and each of its other
characters, is a whole token, then these are its tokens. All other words go to the tokenizer.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

Span = tuple[int, int, float]
"""A control on a part of a text: start and length in characters, factor."""

_UNKNOWN: Final = "[UNK]"
_ID_SIZE: Final = 2  # bytes: ids are uint16
_WORDS_A_LIST: Final = 256
_REMEMBERED: Final = 2**25  # bytes, about
_WORD_COST: Final = 200  # bytes of a remembered word beside its characters
_WORD: Final = re.compile(r"\S+")
_PARTS: Final = re.compile(r"[a-z0-9]+|.").findall


class Words:
    """The tokens of words; those of words met lately are remembered.

    Safe to use from several threads at once.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._unknown = tokenizer.token_to_id(_UNKNOWN)
        self._whole = {
            token: number.to_bytes(_ID_SIZE, sys.byteorder)
            for token, number in tokenizer.get_vocab(with_added_tokens=False).items()
        }
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
            remembered.update(self._learn(unseen))
            self._bytes += sum(map(len, unseen)) + _WORD_COST * len(unseen)
        find = remembered.__getitem__
        return [b"".join(map(find, row)) for row in words]

    def _learn(self, words: set[str]) -> Iterator[tuple[str, bytes]]:
        """Yield each word with the bytes of the ids of its known tokens."""
        hard = []
        for word in words:
            if word.isascii() and word.isprintable():
                try:
                    yield word, b"".join([self._whole[part] for part in _PARTS(word.lower())])
                except KeyError:
                    hard.append(word)
            else:
                hard.append(word)
        yield from self._tokenise(hard)

    def _tokenise(self, words: list[str]) -> Iterator[tuple[str, bytes]]:
        """Yield each word with the bytes of the ids of its known tokens."""
        lists = [words[i : i + _WORDS_A_LIST] for i in range(0, len(words), _WORDS_A_LIST)]
        for some, encoding in zip(lists, self._encode(lists), strict=True):
            ids = np.array(encoding.ids, np.uint16)
            known = ids != self._unknown
            owners = np.array(encoding.word_ids, np.int64)[known]
            ends = np.searchsorted(owners, np.arange(len(some)), side="right") * _ID_SIZE
            joined, begin = ids[known].tobytes(), 0
            for word, end in zip(some, ends.tolist(), strict=True):
                yield word, joined[begin:end]
                begin = end

    def _encode(self, lists: list[list[str]]) -> list[Any]:
        """Return the tokenizer's encoding of each list of words; this lets go of the GIL."""
        try:
            encodings: list[Any] = self._tokenizer.encode_batch(
                lists, is_pretokenized=True, add_special_tokens=False
            )
        except (TypeError, ValueError):
            _refuse_surrogates(chain.from_iterable(lists))
            raise
        return encodings

    def weighted_tokens(
        self, text: str, spans: Sequence[Span]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the ids of the known tokens of weight above 0, (n,), and their weights, (n,)."""
        found = list(_WORD.finditer(text))
        if not found:
            return np.zeros(0, np.int64), np.zeros(0)
        encoding = self._encode([[match.group() for match in found]])[0]
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


def _refuse_surrogates(words: Iterable[str]) -> None:
    """Raise ValueError if one of `words` has no UTF-8 form."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            code = ord(word[error.start])
            raise ValueError(f"a text holds the lone surrogate `U+{code:04X}`") from error
