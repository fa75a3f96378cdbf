"""Distil the teacher into one vector a token, and cut its tokenizer down to what we run."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from model2vec.distill import distill
from tokenizers import Tokenizer

from default_model.teacher import DIMENSIONS, FloatArray, teacher_folder

UNKNOWN = "[UNK]"
MARKERS = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")
SYMBOLS = {
    "type": "Split",
    "pattern": {"Regex": r"\p{So}|\p{Sk}"},
    "behavior": "Isolated",
    "invert": False,
}


@dataclass(frozen=True)
class TokenLists:
    """The known tokens of many texts, end to end: text i has ids[starts[i]:starts[i + 1]]."""

    ids: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]

    def lengths(self) -> npt.NDArray[np.int64]:
        """Return the number of known tokens of each text."""
        return np.diff(self.starts)


def distilled_vectors() -> tuple[FloatArray, Tokenizer]:
    """Return a vector for every token, (tokens, 384), and the tokenizer that numbers them.

    The vectors carry model2vec's default weights (SIF over the rank of the token). The tokenizer
    knows no special tokens, so that a text that says `[SEP]` is a text that says `[SEP]`. Unlike
    the teacher's it sets emoji and other symbols apart, so that they do not hide the word they
    stand at.
    """
    static = distill(str(teacher_folder()), pca_dims=DIMENSIONS, quantize_to="float32")
    vectors = np.asarray(static.embedding, np.float32)
    made = json.loads(static.tokenizer.to_str())
    old = {token: row for token, row in made["model"]["vocab"].items() if token not in MARKERS}
    tokens = sorted(old, key=lambda token: old[token])
    made["model"] |= {"vocab": {token: i for i, token in enumerate(tokens)}, "unk_token": UNKNOWN}
    made |= {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    made["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [made["pre_tokenizer"], SYMBOLS]}
    vectors = vectors[[old[token] for token in tokens]]
    vectors[tokens.index(UNKNOWN)] = 0
    return vectors, Tokenizer.from_str(json.dumps(made))


def token_lists(texts: list[str], tokenizer: Tokenizer) -> TokenLists:
    """Tokenise `texts` without markers, leaving out what the vocabulary does not know."""
    unknown = tokenizer.token_to_id(UNKNOWN)
    starts = np.zeros(len(texts) + 1, np.int64)
    rows: list[npt.NDArray[np.int64]] = []
    for i, encoding in enumerate(tokenizer.encode_batch_fast(texts, add_special_tokens=False)):
        ids = np.array(encoding.ids, np.int64)
        rows.append(ids[ids != unknown])
        starts[i + 1] = starts[i] + len(rows[-1])
    return TokenLists(ids=np.concatenate(rows), starts=starts)
