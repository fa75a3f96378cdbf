"""The stand-in's batch lanes: files and batches as each vendor documents them, an honest bill."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson
from aiohttp import web

from . import wire
from .vectors import tokens

STATES = ("validating", "in_progress", "finalizing", "completed")
MISTRAL = {
    "validating": "QUEUED",
    "in_progress": "RUNNING",
    "finalizing": "RUNNING",
    "completed": "SUCCESS",
    "expired": "TIMEOUT_EXCEEDED",
    "failed": "FAILED",
}
MOST = {"openai": 50_000, "voyage": 100_000, "mistral": 100_000}


@dataclass
class BatchDesk:
    """What was stored and submitted. Every batch that is created is worked off and billed.

    `form`: whose API it speaks. `looks`: how many looks each state lasts. `expires(text)`: that
    line is not answered in time. `fail`: why the next batches are not taken, used up one by one.
    `lose`: how many answers to a submission get lost on their way. `room`: how many batches may
    be under way; more are told 429.
    """

    looks: int = 1
    expires: Callable[[str], bool] = lambda _text: False
    fail: list[str] = field(default_factory=list)
    lose: int = 0
    form: str = "openai"
    room: int = 100
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict] = field(default_factory=dict)
    identities: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    @property
    def jobs(self) -> str:
        return "batch/jobs" if self.form == "mistral" else "batches"

    def serve(self, server, request: web.Request, body: bytes) -> web.StreamResponse:
        path = request.path.removeprefix("/v1/")
        self.calls.append(f"{request.method} {re.sub('[0-9]+', 'N', path)}")
        if request.method == "POST" and path == "files":
            return self._store(body)
        if request.method == "POST" and path == self.jobs:
            return self._submit(server, orjson.loads(body))
        if path == self.jobs:
            return self._list(request.query)
        if match := re.fullmatch(self.jobs + r"/(\w+)", path):
            return self._look(match[1])
        if match := re.fullmatch(r"files/(\w+)/content", path):
            return web.Response(body=self.files[match[1]])
        return _json({"error": {"message": "no such path"}}, 404)

    def _list(self, query) -> web.Response:
        listed = [self._shown(one) for one in reversed(self.batches.values())]
        if self.form == "mistral":
            assert query["order_by"] == "-created"
            size = int(query["page_size"])
            page = listed[int(query["page"]) * size :][:size]
            return _json({"object": "list", "data": page, "total": len(listed)})
        names = [one["id"] for one in listed]
        start = names.index(query["after"]) + 1 if "after" in query else 0
        page = listed[start : start + int(query["limit"])]
        return _json({"data": page, "has_more": start + len(page) < len(listed)})

    def _store(self, body: bytes) -> web.Response:
        assert b'name="purpose"\r\n\r\nbatch\r\n' in body
        start = body.index(b"application/jsonl\r\n\r\n") + len(b"application/jsonl\r\n\r\n")
        name = f"file{len(self.files)}"
        self.files[name] = body[start : body.rindex(b"\r\n--")]
        return _json({"id": name, "object": "file", "purpose": "batch"})

    def _submit(self, server, told: dict) -> web.StreamResponse:
        asked = _told(self.form, told)
        under_way = [b for b in self.batches.values() if b["status"] in STATES[:-1]]
        if len(under_way) >= self.room:
            return _json({"detail": "too many batches"}, 429)
        name = f"batch{len(self.batches)}"
        batch = {
            "id": name, "object": "batch", "status": "validating", "errors": None, "output": None,
            "error": None, "metadata": told["metadata"], "looks": 0,
        }  # fmt: skip
        self.batches[name] = batch
        if self.fail:
            batch |= {"status": "failed", "errors": self.fail.pop(0)}
            return _json(self._shown(batch))
        self.identities.append(told["metadata"]["batchembed"])
        good, bad = [], []
        lines = [orjson.loads(line) for line in self.files[asked["file"]].splitlines()]
        assert sum(len(line["body"]["input"]) for line in lines) <= MOST[self.form]
        assert len({line["custom_id"] for line in lines}) == len(lines)
        for line in lines:
            self._work(server, name, _whole(self.form, line, asked), good, bad)
        random.Random(1).shuffle(good)
        for lines, kind in ((good, "output"), (bad, "error")):
            if lines:
                batch[kind] = f"file{len(self.files)}"
                self.files[batch[kind]] = b"\n".join(lines)
        batch["expired"] = any(b"batch_expired" in line for line in bad)
        if self.lose:
            self.lose -= 1
            return web.Response(status=502, body=b"<html>bad gateway</html>")
        return _json(self._shown(batch))

    def _work(self, server, batch: str, line: dict, good: list[bytes], bad: list[bytes]) -> None:
        asked = wire.read("/v1/embeddings", orjson.dumps(line["body"]))
        assert asked is not None
        told = {"id": f"req{line['custom_id']}", "custom_id": line["custom_id"], "error": None}
        if self.form == "voyage":
            told = {"batch_id": batch, "custom_id": line["custom_id"], "error": None}
        if any(map(self.expires, asked.texts)):
            error = {"code": "batch_expired", "message": "not done in time"}
            bad.append(orjson.dumps(told | {"response": None, "error": error}))
            return
        most = server.tokens_per_text
        too_long = most is not None and max(map(tokens, asked.texts)) > most
        if too_long or any("POISON" in text for text in asked.texts):
            answer = {"status_code": 400, "message": "a text is not acceptable"}
            if self.form != "voyage":
                error = {"message": "a text is not acceptable", "type": "x", "code": None}
                answer = {"status_code": 400, "body": {"error": error}}
            bad.append(orjson.dumps(told | {"response": answer}))
            return
        total = sum(map(tokens, asked.texts))
        body = wire.write(asked, server._right(asked, total), None)
        server.bill.write(path="batch", status=200, texts=asked.texts, tokens=total)
        answer = {"status_code": 200, "request_id": "r", "body": json.loads(body)}
        good.append(orjson.dumps(told | {"response": answer}))

    def _look(self, name: str) -> web.Response:
        batch = self.batches[name]
        if batch["status"] != "failed":
            batch["looks"] += 1
            state = STATES[min(batch["looks"] // self.looks, len(STATES) - 1)]
            # Voyage has no such state: what expired stands in the file of errors.
            late = batch["expired"] and self.form != "voyage"
            ends = "expired" if late else "completed"
            batch["status"] = ends if state == "completed" else state
        return _json(self._shown(batch))

    def _shown(self, batch: dict) -> dict:
        """Return a batch as its API shows it: files once it has ended, errors in their form."""
        done = batch["status"] in {"completed", "expired"}
        files = (batch["output"], batch["error"]) if done else (None, None)
        told = {name: batch[name] for name in ("id", "object", "metadata")}
        why = batch["errors"]
        if self.form == "mistral":
            errors = [{"message": f"{why}: not taken", "count": 1}] if why else []
            named = dict(zip(("output_file", "error_file"), files, strict=True))
            return told | named | {"status": MISTRAL[batch["status"]], "errors": errors}
        errors = {"object": "list", "data": [{"code": why, "message": "not taken"}]}
        named = dict(zip(("output_file_id", "error_file_id"), files, strict=True))
        return told | named | {"status": batch["status"], "errors": errors if why else None}


def _told(form: str, told: dict) -> dict:
    """Return file and shared fields of a submission that has just what is documented."""
    if form == "mistral":
        assert told.keys() == {"input_files", "model", "endpoint", "metadata", "timeout_hours"}
        (file,) = told["input_files"]
        shared = {"model": told["model"]}
    else:
        given = {"input_file_id", "endpoint", "completion_window", "metadata"}
        assert told.keys() == given | ({"request_params"} if form == "voyage" else set())
        assert told["completion_window"] == ("12h" if form == "voyage" else "24h")
        file, shared = told["input_file_id"], told.get("request_params", {})
    assert told["endpoint"] == "/v1/embeddings"
    return {"file": file, "shared": shared}


def _whole(form: str, line: dict, asked: dict) -> dict:
    """Return a line with all that it asks for, where it has just what is documented."""
    if form == "openai":
        assert line.keys() == {"custom_id", "method", "url", "body"}
        assert (line["method"], line["url"]) == ("POST", "/v1/embeddings")
    else:
        assert line.keys() == {"custom_id", "body"}
        assert "model" not in line["body"]
    if form == "voyage":
        assert line["body"].keys() == {"input"}
        assert asked["shared"]["truncation"] is False
    return line | {"body": line["body"] | asked["shared"]}


def _json(told: dict, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(told), status=status, content_type="application/json")
