"""Batch APIs: what goes into their files, their calls, and what their answers mean.

OpenAI's is that of Voyage as well, but that what all lines share is told once, beside the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import orjson

from batchembed.exchange import Call, Dialect, Request
from batchembed.handed import Handed

MOST_BYTES = 64 << 20  # of a file; OpenAI takes 200 MB, Mistral 512
ANSWER_BYTES = 192 << 20  # of a file of answers, which is read as a whole
A_NUMBER = 6  # bytes of a number in base64, and room
UNKNOWN_DIMENSIONS = 3072
TEXTS_A_LINE = 100  # a text at fault costs its line, whose texts are asked online then
PAGE = 100
ENDPOINT = "/v1/embeddings"
IDENTITY = "batchembed"  # the metadata by which a submission is found again
_BOUNDARY = "batchembed-7d3f9a2c5b1e4860"


class Jobs(Protocol):
    """How one API takes files of lines as jobs. Pure."""

    @property
    def most_inputs(self) -> int:
        """How many texts one file may hold over all its lines."""

    def line(self, name: str, body: bytes) -> bytes:
        """Return the line of a file that asks for what a body asks for, under a name."""

    def shared(self, body: bytes) -> str:
        """Return what is told once for all lines of a file, as JSON; "" for nothing."""

    def create(self, file: str, identity: str, shared: str) -> Call:
        """Return the call that submits a stored file."""

    def look(self, batch: str) -> Call:
        """Return the call that asks how far a batch is."""

    def recent(self, page: int, after: str | None) -> Call:
        """Return the call for a page of the account's batches, the newest first."""

    def more(self, page: int, told: Mapping[str, Any]) -> bool:
        """Return whether there is another page."""

    def told(self, found: Mapping[str, Any]) -> Handed:
        """Return what the object of a batch says. Raises KeyError for what is none."""


@dataclass(frozen=True, slots=True)
class Batches:
    """The dialect of a Batch API around that of single requests. Pure."""

    dialect: Dialect
    jobs: Jobs
    dimensions: int | None = None

    @property
    def most_inputs(self) -> int:
        """How many texts one file may hold, so that its answers fit in memory."""
        size = (self.dimensions or UNKNOWN_DIMENSIONS) * A_NUMBER
        return min(self.jobs.most_inputs, ANSWER_BYTES // size)

    def body(self, request: Request) -> bytes:
        """Return what asks for `request`, of which `jobs` make a line and what stands beside it."""
        return self.dialect.build(request).body

    def request(self, line: bytes, keys: Any) -> Request:
        """Return the request that a line asked for, under its keys, shape (n, 16)."""
        return Request(np.asarray(keys), tuple(orjson.loads(line)["body"]["input"]))

    def upload(self, file: bytes, name: str) -> Call:
        """Return the call that stores a file of lines."""
        fields = (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/jsonl\r\n\r\n"
        )
        body = fields.encode() + file + f"\r\n--{_BOUNDARY}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
        return Call("files", body, headers=headers)

    def download(self, file: str) -> Call:
        """Return the call for what a file holds."""
        return Call(f"files/{file}/content", b"", "GET")

    def answers(self, file: bytes) -> Iterator[tuple[str, int, bytes]]:
        """Yield (name of the line, status, body) of a file of answers, in whatever order it has.

        An error that is no answer, such as `batch_expired`, has status 0.
        """
        for raw in file.splitlines():
            if not raw.strip():
                continue
            line = orjson.loads(raw)
            answer = line.get("response") or {}
            error = {"error": {"message": answer["message"]}} if "message" in answer else None
            body = answer.get("body") or error or {"error": line.get("error")}
            yield str(line["custom_id"]), int(answer.get("status_code") or 0), orjson.dumps(body)


@dataclass(frozen=True, slots=True)
class OpenAIJobs:
    """Jobs as OpenAI takes them. `inputs_alone`: a line has its texts, all else goes beside."""

    most_inputs: int = 50_000
    window: str = "24h"
    inputs_alone: bool = False

    def line(self, name: str, body: bytes) -> bytes:
        """Return the line of a file that asks for what a body asks for, under a name."""
        told: dict[str, Any] = {"custom_id": name}
        if self.inputs_alone:
            told["body"] = {"input": orjson.loads(body)["input"]}
        else:
            told |= {"method": "POST", "url": ENDPOINT, "body": orjson.Fragment(body)}
        return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)

    def shared(self, body: bytes) -> str:
        """Return what is told once for all lines of a file, as JSON; "" for nothing."""
        if not self.inputs_alone:
            return ""
        told = {name: value for name, value in orjson.loads(body).items() if name != "input"}
        return orjson.dumps(told).decode()

    def create(self, file: str, identity: str, shared: str) -> Call:
        """Return the call that submits a stored file."""
        told: dict[str, Any] = {
            "input_file_id": file,
            "endpoint": ENDPOINT,
            "completion_window": self.window,
            "metadata": {IDENTITY: identity},
        }
        if shared:
            told["request_params"] = orjson.Fragment(shared)
        return Call("batches", orjson.dumps(told))

    def look(self, batch: str) -> Call:
        """Return the call that asks how far a batch is."""
        return Call(f"batches/{batch}", b"", "GET")

    def recent(self, page: int, after: str | None) -> Call:  # noqa: ARG002 - as every Jobs
        """Return the call for a page of the account's batches, the newest first."""
        query = {"limit": str(PAGE)} | ({"after": after} if after else {})
        return Call("batches", b"", "GET", query=query)

    def more(self, page: int, told: Mapping[str, Any]) -> bool:  # noqa: ARG002 - as every Jobs
        """Return whether there is another page."""
        return bool(told.get("has_more"))

    def told(self, found: Mapping[str, Any]) -> Handed:
        """Return what the object of a batch says. Raises KeyError for what is none."""
        files = (found.get("output_file_id"), found.get("error_file_id"))
        errors = (found.get("errors") or {}).get("data") or []
        return Handed(
            id=str(found["id"]),
            state=str(found["status"]),
            identity=str((found.get("metadata") or {}).get(IDENTITY, "")),
            files=tuple(str(name) for name in files if name),
            errors="; ".join(f"{e.get('code')}: {e.get('message')}" for e in errors[:3]),
        )


OPENAI = OpenAIJobs()
VOYAGE = OpenAIJobs(most_inputs=100_000, window="12h", inputs_alone=True)
