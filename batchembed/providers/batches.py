"""OpenAI's Batch API: what goes into its files, its calls, and what its answers mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from batchembed.exchange import Call, Dialect, Request
from batchembed.handed import Handed

MOST_INPUTS = 50_000  # over all lines of a file, as OpenAI counts for embeddings
MOST_BYTES = 64 << 20  # of a file; OpenAI takes 200 MB
ANSWER_BYTES = 192 << 20  # of a file of answers, which is read as a whole
A_NUMBER = 6  # bytes of a number in base64, and room
UNKNOWN_DIMENSIONS = 3072
TEXTS_A_LINE = 100  # a text at fault costs its line, whose texts are asked online then
PAGE = 100
ENDPOINT = "/v1/embeddings"
IDENTITY = "batchembed"  # the metadata by which a submission is found again
_BOUNDARY = "batchembed-7d3f9a2c5b1e4860"


@dataclass(frozen=True, slots=True)
class Batches:
    """The dialect of the Batch API around that of single requests. Pure."""

    dialect: Dialect
    dimensions: int | None = None

    @property
    def most_inputs(self) -> int:
        """How many texts one file may hold, so that its answers fit in memory."""
        size = (self.dimensions or UNKNOWN_DIMENSIONS) * A_NUMBER
        return min(MOST_INPUTS, ANSWER_BYTES // size)

    def line(self, name: str, request: Request) -> bytes:
        """Return the line of a file that asks for `request` under a name."""
        body = orjson.Fragment(self.dialect.build(request).body)
        told = {"custom_id": name, "method": "POST", "url": ENDPOINT, "body": body}
        return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)

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

    def create(self, file: str, identity: str) -> Call:
        """Return the call that submits a stored file."""
        told = {
            "input_file_id": file,
            "endpoint": ENDPOINT,
            "completion_window": "24h",
            "metadata": {IDENTITY: identity},
        }
        return Call("batches", orjson.dumps(told))

    def look(self, batch: str) -> Call:
        """Return the call that asks how far a batch is."""
        return Call(f"batches/{batch}", b"", "GET")

    def recent(self, after: str | None) -> Call:
        """Return the call for a page of the account's batches, the newest first."""
        query = {"limit": str(PAGE)} | ({"after": after} if after else {})
        return Call("batches", b"", "GET", query=query)

    def download(self, file: str) -> Call:
        """Return the call for what a file holds."""
        return Call(f"files/{file}/content", b"", "GET")

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

    def answers(self, file: bytes) -> Iterator[tuple[str, int, bytes]]:
        """Yield (name of the line, status, body) of a file of answers, in whatever order it has.

        An error that is no answer, such as `batch_expired`, has status 0.
        """
        for raw in file.splitlines():
            if not raw.strip():
                continue
            line = orjson.loads(raw)
            answer = line.get("response") or {}
            body = answer.get("body") or {"error": line.get("error")}
            yield str(line["custom_id"]), int(answer.get("status_code") or 0), orjson.dumps(body)
