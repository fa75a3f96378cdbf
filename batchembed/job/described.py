"""The settings by which a job describes an HTTP API that batchembed does not know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, TypeAlias

import orjson
from pydantic import AfterValidator, ConfigDict, Field, Strict

from batchembed.described import Described, steps
from batchembed.exchange import Role


def _path(path: str) -> str:
    steps(path)
    return path


def _body(body: dict[str, Any]) -> dict[str, Any]:
    try:
        orjson.dumps(body)
    except TypeError as error:
        raise ValueError(
            "must hold what JSON can hold: texts, numbers, flags, lists, tables"
        ) from error
    return body


Place: TypeAlias = Annotated[str, Strict(), AfterValidator(_path)]
Count: TypeAlias = Annotated[int, Strict(), Field(ge=1, le=2**53)]
Text: TypeAlias = Annotated[str, Strict()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """An HTTP API, described by JSON paths."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", use_attribute_docstrings=True
    )

    body: Annotated[dict[str, Any], AfterValidator(_body)]
    """The JSON to send, with "{texts}" (or "{text}"), "{model}", "{role}", "{dimensions}"."""
    vectors: Place
    """Where the vectors are in the answer: "data[*].embedding"; numbers, or base64 of float32."""
    path: Text = ""
    """What follows `base_url`; "{model}" stands for the model's name."""
    query: dict[str, Text] = field(default_factory=dict)
    """What follows the path behind a question mark."""
    roles: dict[Role, Text] = field(default_factory=dict)
    """The API's words for roles, for "{role}"; "" leaves the field out."""
    index: Place | None = None
    """Where each vector says its text's number; without it, the position does: "data[*].index"."""
    tokens: Place | None = None
    """Where the billed tokens are: "usage.total_tokens"."""
    version: Place | None = None
    """Where the version of the model is: "model"."""
    error: Place | None = None
    """Where the message of an error is: "error.message"; without it, the usual places."""
    key_header: Text = "Authorization"
    """The header that carries the key; "Authorization" with `Bearer` before it, others bare."""
    texts_per_request: Count | None = None
    """The most texts in one request; 1 for an API of one text a request; without it, 64."""
    tokens_per_request: Count | None = None
    """The most tokens in one request."""
    tokens_per_text: Count | None = None
    """The most tokens that the model reads of one text."""

    @property
    def described(self) -> Described:
        """The description as the dialect takes it."""
        return Described(
            body=orjson.dumps(self.body, option=orjson.OPT_SORT_KEYS).decode(),
            vectors=self.vectors,
            path=self.path.strip("/"),
            query=tuple(sorted(self.query.items())),
            roles=tuple(sorted(self.roles.items())),
            index=self.index or "",
            tokens=self.tokens or "",
            version=self.version or "",
            error=self.error or "",
            key_header=self.key_header,
            texts_per_request=self.texts_per_request,
            tokens_per_request=self.tokens_per_request,
            tokens_per_text=self.tokens_per_text,
        )


def usable(http: Http) -> Http:
    """Return the description. Raises ValueError for one by which no API can be asked."""
    if why := http.described.mistake():
        raise ValueError(why)
    return http
