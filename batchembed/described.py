"""An HTTP API as a job describes it: the body of a request, and where things are in the answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import orjson

Step: TypeAlias = str | int | None
"""One step of a path: a name, a number of an entry, or None for each entry."""

WORDS: Final = ("texts", "text", "model", "role", "dimensions")
"""What may stand in braces in a body, as a whole value."""
_STEP = re.compile(
    r"""\.?(?P<name>[^\s.\[\]'"$*()?@,:]+)|\[(?P<number>\d{1,6})\]|\[(?P<each>\*)\]"""
    r"""|\[(?P<quote>['"])(?P<quoted>[^'"]+)(?P=quote)\]"""
)
_WORD = re.compile(r"\{(\w+)\}")
_HEADER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_NOT_FOR_KEYS = {
    *("host", "connection", "content-length", "content-type", "content-encoding"),
    *("transfer-encoding", "accept", "accept-encoding", "user-agent", "cookie", "expect"),
}
_ABSENT: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """How an API is asked, and where its answer has what. `body` is JSON.

    `vectors`, `index`, `tokens`, `version` and `error` are paths into the answer, "" for none;
    `roles` are the API's words for roles, "" for one that is told by no word.
    """

    body: str
    vectors: str
    path: str = ""
    query: tuple[tuple[str, str], ...] = ()
    roles: tuple[tuple[str, str], ...] = ()
    index: str = ""
    tokens: str = ""
    version: str = ""
    error: str = ""
    key_header: str = "Authorization"
    texts_per_request: int | None = None
    tokens_per_request: int | None = None
    tokens_per_text: int | None = None

    def told(self) -> dict[str, Any]:
        """Return what changes a vector, as plain JSON values."""
        told = {"path": self.path, "body": orjson.loads(self.body), "vectors": self.vectors}
        return told | {"query": dict(self.query), "roles": dict(self.roles)}

    @property
    def many(self) -> bool:
        """Whether one request may hold several texts."""
        found = dict(_placeholders(orjson.loads(self.body)))
        return self.texts_per_request != 1 and ("texts" in found or bool(found.get("text")))

    def filled(self, texts: Sequence[str], words: Mapping[str, object]) -> bytes:
        """Return the body for `texts`; a field whose word is not in `words` is left out."""
        known = {**words, "texts": texts} | ({} if self.many else {"text": texts[0]})
        return orjson.dumps(_filled(orjson.loads(self.body), known))

    def mistake(self) -> str | None:
        """Return why the API cannot be asked so, or None when it can."""
        return next(filter(None, (*self._of_the_body(), *self._of_the_answer())), None)

    def _of_the_body(self) -> Iterator[str | None]:
        given = list(_placeholders(orjson.loads(self.body)))
        names = [name for name, _ in given]
        for name in names:
            if name not in WORDS:
                known = ", ".join(f"{{{word}}}" for word in WORDS)
                yield f'its body has "{{{name}}}", and known are {known}'
        if names.count("texts") + names.count("text") != 1:
            yield 'its body must have "{texts}" once, or "{text}" in the place of one text'
        yield _repeated(orjson.loads(self.body)) if self.many else None
        if "texts" not in names and not self.many and (self.texts_per_request or 1) > 1:
            yield '"{text}" stands in no list of the body, so `texts_per_request` can only be 1'
        if ("role" in names) != bool(self.roles):
            yield '"{role}" in the body and the words in `roles` need each other'
        for name in _WORD.findall(self.path):
            if name != "model":
                yield f"its path has `{{{name}}}`, and known is {{model}}"

    def _of_the_answer(self) -> Iterator[str | None]:
        vectors = steps(self.vectors)
        each = vectors.count(None)
        if each > 1 or (self.many and not each):
            yield (
                f"`vectors` is `{self.vectors}`: it must have one `[*]`, where one entry is of "
                "one text; for an API of one text a request say texts_per_request = 1"
            )
        if self.index:
            index = steps(self.index)
            if not each or index.count(None) != 1 or _before(index) != _before(vectors):
                yield (
                    f"`index` is `{self.index}`: it must lead to the entries of `{self.vectors}`, "
                    "the same up to one `[*]`"
                )
        for name in ("tokens", "version", "error"):
            path: str = getattr(self, name)
            if path and None in steps(path):
                yield f"`{name}` is `{path}`, and can have no `[*]`: it is of the whole answer"
            if path and name != "error" and not isinstance(vectors[0], str):
                yield (
                    f"`{name}` is `{path}`, which needs an answer that is an object; by `vectors` "
                    f"(`{self.vectors}`) it is a list"
                )
        if not _HEADER.fullmatch(self.key_header) or self.key_header.lower() in _NOT_FOR_KEYS:
            yield f"`key_header` is `{self.key_header}`, which cannot carry a key"


def steps(path: str) -> tuple[Step, ...]:
    """Return the steps of a JSON path. Raises ValueError that says where it cannot be read."""
    at = 1 if path.startswith("$") else 0
    found: list[Step] = []
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None or (step["name"] and (path[at] == ".") != bool(at)):
            raise ValueError(
                "must be a path of names, such as `data[*].embedding`; "
                f"it cannot be read from `{path[at:][:20]}` on"
            )
        number, name = step["number"], step["name"] or step["quoted"]
        found.append(int(number) if number else name)
        at = step.end()
    if not found:
        raise ValueError("must be a path of names, such as `data[*].embedding`")
    return tuple(found)


def split(path: Sequence[Step]) -> tuple[Sequence[Step], Sequence[Step] | None]:
    """Return the steps before and after the one that stands for each entry; None: there is none."""
    if None not in path:
        return path, None
    at = path.index(None)
    return path[:at], path[at + 1 :]


def _before(path: Sequence[Step]) -> Sequence[Step]:
    return split(path)[0]


def _placeholders(body: Any, lists: int = 0) -> Iterator[tuple[str, int]]:
    """Yield each word in braces, and in how many lists it stands."""
    if isinstance(body, Mapping):
        for value in body.values():
            yield from _placeholders(value, lists)
    elif isinstance(body, list):
        for value in body:
            yield from _placeholders(value, lists + 1)
    elif isinstance(body, str) and (word := _WORD.fullmatch(body)):
        yield word[1], lists


def _repeated(body: Any) -> str | None:
    """Return why the list around "{text}" cannot be repeated, None where it can or is not there."""
    inner = list(body.values()) if isinstance(body, Mapping) else []
    if isinstance(body, list) and any(name == "text" for name, _ in _placeholders(body)):
        if len(body) > 1:
            return (
                'the list around "{text}" is made of one entry for each text, so it can have no '
                "other; for an API of one text a request say texts_per_request = 1"
            )
        return None
    return next(filter(None, map(_repeated, inner)), None)


def _filled(body: Any, words: Mapping[str, object]) -> Any:
    if isinstance(body, Mapping):
        fields = {name: _filled(value, words) for name, value in body.items()}
        return {name: value for name, value in fields.items() if value is not _ABSENT}
    if isinstance(body, list):
        if "text" not in words and any(name == "text" for name, _ in _placeholders(body)):
            texts: Any = words["texts"]
            return [_filled(body[0], {**words, "text": text}) for text in texts]
        found = [_filled(value, words) for value in body]
        return [value for value in found if value is not _ABSENT]
    word = _WORD.fullmatch(body) if isinstance(body, str) else None
    return words.get(word[1], _ABSENT) if word else body
