"""What passes between the steps of a run and a provider: requests there, outcomes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from batchembed.prompts import Control as Control  # noqa: PLC0414 - it passes on from here
from batchembed.prompts import Prompt

Role: TypeAlias = Literal["symmetric", "document", "query"]
ROLES: tuple[Role, ...] = ("symmetric", "document", "query")

Keys: TypeAlias = NDArray[np.uint8]
"""Content hashes, shape (n, 16)."""

Vectors: TypeAlias = NDArray[np.float32]
"""Embeddings, shape (n, dimensions)."""

RowNumbers: TypeAlias = NDArray[np.int64]
"""Numbers of rows of a corpus, from 0, shape (n,)."""


@dataclass(frozen=True, slots=True)
class Request:
    """The texts of one API call, all of one role.

    `keys` has shape (n, 16), one row per text. `controls` is None when no text has any.
    `tokens` is an estimate of what the call will be billed. `prompts` takes the place of texts
    and controls where the corpus has more than texts; `texts` are then the words in them. `rows`
    says which rows of the corpus they are, shape (n,); None: of none.
    """

    keys: Keys
    texts: tuple[str, ...]
    role: Role = "symmetric"
    controls: tuple[tuple[Control, ...], ...] | None = None
    tokens: int = 0
    prompts: tuple[Prompt, ...] | None = None
    rows: RowNumbers | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def part(self, start: int, stop: int) -> Request:
        """Return a request of the texts in [start, stop); tokens are shared out by length.

        Those of prompts evenly, as the length of their texts says nothing of images.
        """
        texts = self.texts[start:stop]
        whole = sum(map(len, self.texts)) if self.prompts is None else 0
        share = sum(map(len, texts)) / whole if whole else len(texts) / len(self.texts)
        return Request(
            keys=self.keys[start:stop],
            texts=texts,
            role=self.role,
            controls=self.controls[start:stop] if self.controls is not None else None,
            tokens=max(1, round(self.tokens * share)),
            prompts=self.prompts[start:stop] if self.prompts is not None else None,
            rows=None if self.rows is None else self.rows[start:stop],
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """What a provider accepts in one request, and how fast; None means no known limit.

    `concurrency`: requests open at once; `most_open`: where more are needed. `unlimited`: computed
    here. `careful`: nobody says how many texts it takes, so a job may raise `texts_per_request`.
    """

    texts_per_request: int = 1
    tokens_per_request: int | None = None
    bytes_per_request: int | None = None
    tokens_per_text: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    texts_per_minute: float | None = None
    concurrency: int = 16
    most_open: int = 256
    unlimited: bool = False
    careful: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP call as a dialect wants it sent; the key is added by the transport.

    `path` is appended to the base URL. `body` is what goes out, byte for byte.
    """

    path: str
    body: bytes
    method: str = "POST"
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What a server is asked about itself before a run; `most` bounds the answer, in bytes."""

    call: Call
    most: int = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Told:
    """What a server says of its limits in an answer; None: nothing. Limits are per minute.

    `requests_left` and `tokens_left` may still start now; all of the limit is there again after
    `requests_reset`, `tokens_reset` seconds.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    requests_left: float | None = None
    tokens_left: float | None = None
    requests_reset: float | None = None
    tokens_reset: float | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """The server answered: one vector per text, in the order of the request.

    `vectors` has shape (n, dimensions), float32; `tokens` is what the server billed (None: it
    did not say). `unusable` names positions that have no vector and never will, with the reason.
    `outputs` are the names of the vectors that each row is joined of, where it is of several.
    `proven` says that no answer was mixed up on the way, since there was none: computed here.
    """

    vectors: Vectors
    tokens: int | None = None
    model_version: str = ""
    request_id: str = ""
    unusable: Mapping[int, str] = field(default_factory=dict)
    proven: bool = False
    outputs: tuple[str, ...] = ()
    told: Told | None = None


@dataclass(frozen=True, slots=True)
class Throttled:
    """The server asks for a lower rate (429 and kin); `wait` seconds if it said so."""

    reason: str
    wait: float | None = None
    told: Told | None = None


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The server or the way to it is down: no fault of any text. A `wait` of 0: a mishap.

    `billed`: it was sent, and its answer did not come whole. `late`: it did not come in time.
    """

    reason: str
    wait: float | None = None
    billed: bool = False
    late: bool = False


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The request as a whole is too large; `texts_per_request` is the cap the server named.

    `by`: too many texts, or bytes or tokens; `share`: how much of it would have passed, if told.
    """

    reason: str
    texts_per_request: int | None = None
    by: Literal["texts", "size"] = "size"
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The server refuses something in the request: some text of it is at fault.

    `sent`: false where it could not even be sent, so that no server was heard.
    """

    reason: str
    status: int = 0
    request_id: str = ""
    sent: bool = True


@dataclass(frozen=True, slots=True)
class Malformed:
    """The answer does not prove what it must: count, order, dimension, numbers.

    `torn`: it breaks off, or is garbled, so the way to it may be at fault.
    """

    reason: str
    request_id: str = ""
    torn: bool = False


@dataclass(frozen=True, slots=True)
class Fatal:
    """Nothing more can be had until a person acts: key, money, model, address.

    `billed`: an answer came that is not read to its end, so it may have been billed.
    """

    reason: str
    hint: str | None = None
    billed: bool = False


@dataclass(frozen=True, slots=True)
class About:
    """What a server said of itself, on top of what was known: `limits`, also larger ones.

    `model` and `version` are "" where it did not say; `notes` are lines for people; `end` is why
    a run could not have what the job asks for. `images`: whether it takes such (None: it did not
    say); `tokenizer` is the file of the model's own one, where it was asked for.
    """

    limits: Limits
    model: str = ""
    version: str = ""
    notes: tuple[str, ...] = ()
    end: Fatal | None = None
    images: bool | None = None
    tokenizer: bytes = b""


Outcome: TypeAlias = Response | Throttled | Unavailable | TooLarge | Refused | Malformed | Fatal


class Provider(Protocol):
    """Where vectors come from. One `attempt` is one call: it never retries and never raises."""

    @property
    def limits(self) -> Limits:
        """What one request may hold."""

    async def attempt(self, request: Request) -> Outcome:
        """Send the request once and say what came of it."""

    async def about(self) -> About:
        """Ask the server about itself, if it can be asked; what is not answered stays as it was."""

    async def close(self) -> None:
        """Release connections; the provider is not used afterwards."""


class Dialect(Protocol):
    """One API's wire form. Pure: no network, clock, log or environment."""

    @property
    def limits(self) -> Limits:
        """What one request may hold."""

    def build(self, request: Request) -> Call:
        """Return the call that asks for the vectors of `request`."""

    def parse(
        self, request: Request, *, status: int, headers: Mapping[str, str], body: bytes
    ) -> Outcome:
        """Return what the answer means. `headers` has lower-case names. Never raises."""


@runtime_checkable
class Inquirer(Protocol):
    """What a dialect may have besides: questions to the server about itself. Pure as well."""

    def inquiries(self) -> Sequence[Inquiry]:
        """Return what to ask before a run; each is sent once and tried again by nobody."""

    def learn(
        self,
        known: About,
        inquiry: Inquiry,
        *,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
    ) -> About:
        """Return what is known with this answer; `known` itself where it says nothing of use."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A text that has no vector, and why. `key` has 16 bytes."""

    key: bytes
    reason: str
    message: str = ""
    status: int = 0
    request_id: str = ""
