"""The stand-in's batch lane: files and batches as OpenAI documents them, with an honest bill."""

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


@dataclass
class BatchDesk:
    """What was stored and submitted. Every batch that is created is worked off and billed.

    `looks`: how many looks each state lasts. `expires(text)`: that line is not answered in time.
    `fail`: why the next batches are not taken, used up one by one. `lose`: how many answers to a
    submission get lost on their way. `empty_list`: how often the list does not have it yet.
    """

    looks: int = 1
    expires: Callable[[str], bool] = lambda _text: False
    fail: list[str] = field(default_factory=list)
    lose: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict] = field(default_factory=dict)
    identities: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    def serve(self, server, request: web.Request, body: bytes) -> web.StreamResponse:
        path = request.path.removeprefix("/v1/")
        self.calls.append(f"{request.method} {re.sub('[0-9]+', 'N', path)}")
        if request.method == "POST" and path == "files":
            return self._store(body)
        if request.method == "POST" and path == "batches":
            return self._submit(server, orjson.loads(body))
        if path == "batches":
            listed = list(reversed(self.batches.values()))
            names = [one["id"] for one in listed]
            start = names.index(request.query["after"]) + 1 if "after" in request.query else 0
            page = listed[start : start + int(request.query["limit"])]
            return _json({"data": page, "has_more": start + len(page) < len(listed)})
        if match := re.fullmatch(r"batches/(\w+)", path):
            return self._look(match[1])
        if match := re.fullmatch(r"files/(\w+)/content", path):
            return web.Response(body=self.files[match[1]])
        return _json({"error": {"message": "no such path"}}, 404)

    def _store(self, body: bytes) -> web.Response:
        assert b'name="purpose"\r\n\r\nbatch\r\n' in body
        start = body.index(b"application/jsonl\r\n\r\n") + len(b"application/jsonl\r\n\r\n")
        name = f"file{len(self.files)}"
        self.files[name] = body[start : body.rindex(b"\r\n--")]
        return _json({"id": name, "object": "file", "purpose": "batch"})

    def _submit(self, server, told: dict) -> web.StreamResponse:
        name = f"batch{len(self.batches)}"
        batch = {
            "id": name, "object": "batch", "status": "validating", "errors": None,
            "output_file_id": None, "error_file_id": None, "metadata": told["metadata"], "looks": 0,
        }  # fmt: skip
        self.batches[name] = batch
        if self.fail:
            code = self.fail.pop(0)
            errors = {"object": "list", "data": [{"code": code, "message": "not taken"}]}
            batch |= {"status": "failed", "errors": errors}
            return _json(batch)
        self.identities.append(told["metadata"]["batchembed"])
        good, bad = [], []
        lines = self.files[told["input_file_id"]].splitlines()
        assert sum(len(orjson.loads(line)["body"]["input"]) for line in lines) <= 50_000
        for line in lines:
            self._work(server, orjson.loads(line), good, bad)
        random.Random(1).shuffle(good)
        for lines, kind in ((good, "output_file_id"), (bad, "error_file_id")):
            if lines:
                batch[kind] = f"file{len(self.files)}"
                self.files[batch[kind]] = b"\n".join(lines)
        batch["expired"] = any(b"batch_expired" in line for line in bad)
        if self.lose:
            self.lose -= 1
            return web.Response(status=502, body=b"<html>bad gateway</html>")
        return _json(batch)

    def _work(self, server, line: dict, good: list[bytes], bad: list[bytes]) -> None:
        asked = wire.read(line["url"], orjson.dumps(line["body"]))
        assert asked is not None
        told = {"id": f"req{line['custom_id']}", "custom_id": line["custom_id"], "error": None}
        if any(map(self.expires, asked.texts)):
            error = {"code": "batch_expired", "message": "not done in time"}
            bad.append(orjson.dumps(told | {"response": None, "error": error}))
            return
        if any("POISON" in text for text in asked.texts):
            error = {"error": {"message": "a text is not acceptable", "type": "x", "code": None}}
            bad.append(orjson.dumps(told | {"response": {"status_code": 400, "body": error}}))
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
            ends = "expired" if batch["expired"] else "completed"
            batch["status"] = ends if state == "completed" else state
        hidden = {} if batch["status"] in {"completed", "expired"} else {
            "output_file_id": None, "error_file_id": None
        }  # fmt: skip
        return _json(batch | hidden)


def _json(told: dict, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(told), status=status, content_type="application/json")
