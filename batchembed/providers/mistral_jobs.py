"""Mistral's batch jobs: the model stands beside the file, and states have names of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from batchembed.exchange import Call
from batchembed.handed import Handed
from batchembed.providers.batches import ENDPOINT, IDENTITY, PAGE

HOURS = 24
_STATES = {
    "QUEUED": "validating",
    "RUNNING": "in_progress",
    "SUCCESS": "completed",
    "FAILED": "failed",
    "TIMEOUT_EXCEEDED": "expired",
    "CANCELLATION_REQUESTED": "cancelling",
    "CANCELLED": "cancelled",
}


@dataclass(frozen=True, slots=True)
class MistralJobs:
    """Jobs as Mistral takes them: at most 100,000 lines by one of its pages, a million by another.

    A file here has far fewer.
    """

    most_inputs: int = 100_000

    def line(self, name: str, body: bytes) -> bytes:
        """Return the line of a file that asks for what a body asks for, under a name."""
        told = orjson.loads(body)
        told.pop("model")
        line = {"custom_id": name, "body": told}
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)

    def shared(self, body: bytes) -> str:
        """Return what is told once for all lines of a file, as JSON."""
        return orjson.dumps({"model": orjson.loads(body)["model"]}).decode()

    def create(self, file: str, identity: str, shared: str) -> Call:
        """Return the call that submits a stored file."""
        told = {
            "endpoint": ENDPOINT,
            "input_files": [file],
            **orjson.loads(shared),
            "metadata": {IDENTITY: identity},
            "timeout_hours": HOURS,
        }
        return Call("batch/jobs", orjson.dumps(told))

    def look(self, batch: str) -> Call:
        """Return the call that asks how far a batch is."""
        return Call(f"batch/jobs/{batch}", b"", "GET")

    def recent(self, page: int, after: str | None) -> Call:  # noqa: ARG002 - as every Jobs
        """Return the call for a page of the account's jobs, the newest first."""
        query = {"page": str(page), "page_size": str(PAGE), "order_by": "-created"}
        return Call("batch/jobs", b"", "GET", query=query)

    def more(self, page: int, told: Mapping[str, Any]) -> bool:
        """Return whether there is another page."""
        return bool((page + 1) * PAGE < int(told.get("total") or 0))

    def told(self, found: Mapping[str, Any]) -> Handed:
        """Return what the object of a job says. Raises KeyError for what is none."""
        files = (found.get("output_file"), found.get("error_file"))
        state = str(found["status"])
        return Handed(
            id=str(found["id"]),
            state=_STATES.get(state, state),
            identity=str((found.get("metadata") or {}).get(IDENTITY, "")),
            files=tuple(str(name) for name in files if name),
            errors="; ".join(str(e.get("message")) for e in (found.get("errors") or [])[:3]),
        )
