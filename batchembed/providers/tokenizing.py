"""Counting tokens with a model's own tokenizer."""

from __future__ import annotations

from batchembed.exchange import Request
from batchembed.prompts import sure_tokens


class TokenCounter:
    """Counts the tokens of requests by a file of the tokenizers library.

    Special tokens do not count: Aleph Alpha's API does not bill any. Raises ValueError for what is
    no such file.
    """

    def __init__(self, file: bytes) -> None:
        from tokenizers import Tokenizer  # slow to import: not before it is used

        try:
            self._tokenizer = Tokenizer.from_buffer(file)
        except Exception as error:  # the library raises a plain Exception
            raise ValueError(f"this is no tokenizer: {error}") from error
        self._tokenizer.no_truncation()

    def counts(self, request: Request) -> list[int]:
        """Return how many tokens each text or prompt of a request has."""
        found = self._tokenizer.encode_batch(list(request.texts), add_special_tokens=False)
        more = map(sure_tokens, request.prompts or [()] * len(request))
        return [len(one.ids) + extra for one, extra in zip(found, more, strict=True)]
