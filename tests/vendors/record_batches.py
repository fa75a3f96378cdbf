"""Records how the vendors' own clients speak their batch APIs, and what they read from the answers.

Run by a python that has the clients (`make vendors`), it prints JSON: for each API the calls as
they reached a server on 127.0.0.1, and what the client took from answers in the documented form.
voyageai has no batch calls; Voyage tells its users to take OpenAI's client, with `request_params`
as a field of their own.

    .venv-vendors/bin/python tests/vendors/record_batches.py > tests/vendors/recorded_batches.json
"""

from __future__ import annotations

import io
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from urllib.parse import parse_qsl, urlsplit

KEY = "a-key-of-nobody"
IDENTITY = {"batchembed": "0123456789abcdef"}
LINES = b'{"custom_id":"0","body":{"input":["a text"]}}\n'
SHARED = {"model": "voyage-4", "input_type": "query", "truncation": False}
TIMES = dict.fromkeys(("created_at", "in_progress_at", "completed_at"), 1_700_000_000)


def openai_batch(state, files=(None, None), **more):
    """A batch as OpenAI and Voyage show it."""
    named = dict(zip(("output_file_id", "error_file_id"), files, strict=True))
    told = {"id": "batch_1", "object": "batch", "endpoint": "/v1/embeddings", "errors": None}
    window = {"input_file_id": "file-1", "completion_window": "24h", "metadata": IDENTITY}
    return told | window | named | TIMES | {"status": state} | more


def mistral_job(state, files=(None, None), **more):
    """A job as Mistral shows it."""
    named = dict(zip(("output_file", "error_file"), files, strict=True))
    told = {"id": "job-1", "object": "batch", "input_files": ["file-1"], "errors": []}
    counts = ("total_requests", "completed_requests", "succeeded_requests", "failed_requests")
    about = {"endpoint": "/v1/embeddings", "model": "mistral-embed", "metadata": IDENTITY}
    times = {"created_at": 1_700_000_000, "started_at": None, "completed_at": None}
    return told | about | times | dict.fromkeys(counts, 1) | named | {"status": state} | more


FAILURE = {"object": "list", "data": [{"code": "a_code", "message": "why", "line": 1}]}
OPENAI_STATES = (
    *(openai_batch(state) for state in ("validating", "in_progress", "finalizing", "cancelling")),
    openai_batch("completed", ("file-2", "file-3")),
    openai_batch("expired", ("file-2", "file-3")),
    openai_batch("cancelled", ("file-2", None)),
    openai_batch("failed", errors=FAILURE),
)
MISTRAL_STATES = (
    *(mistral_job(state) for state in ("QUEUED", "RUNNING", "CANCELLATION_REQUESTED")),
    mistral_job("SUCCESS", ("file-2", "file-3")),
    mistral_job("TIMEOUT_EXCEEDED", ("file-2", "file-3")),
    mistral_job("CANCELLED", ("file-2", None)),
    mistral_job("FAILED", errors=[{"message": "why", "count": 1}]),
)
FILE = {
    "id": "file-1",
    "object": "file",
    "bytes": len(LINES),
    "created_at": 1_700_000_000,
    "filename": "x.jsonl",
    "purpose": "batch",
    "status": "processed",
    "sample_type": "batch_request",
    "source": "upload",
}


class Recorder:
    """A server that keeps what it was asked, and shows the states of a batch in turn."""

    def __init__(self, states, listed):
        recorder, self.calls, left = self, [], list(states)

        class Answering(BaseHTTPRequestHandler):
            def do_POST(self):
                recorder.calls.append(self._asked())
                self._say(FILE if self.path.endswith("/files") else states[0])

            def do_GET(self):
                recorder.calls.append(self._asked())
                if self.path.endswith("/content"):
                    self._say(LINES, "application/octet-stream")
                elif re.search(r"[_-]1$", urlsplit(self.path).path):
                    self._say(left.pop(0))
                else:
                    self._say(listed(states))

            def _asked(self):
                parts = urlsplit(self.path)
                raw = self.rfile.read(int(self.headers["Content-Length"] or 0))
                kind = self.headers["Content-Type"] or ""
                told = {"method": self.command, "path": parts.path}
                told["query"] = dict(parse_qsl(parts.query))
                told["authorization"] = self.headers["Authorization"]
                if kind.startswith("multipart/"):
                    return told | {"form": form(raw, kind)}
                return told | {"body": json.loads(raw) if raw else None}

            def _say(self, told, kind="application/json"):
                sent = told if isinstance(told, bytes) else json.dumps(told).encode()
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


def form(raw, kind):
    """Return the fields of a multipart body by name: the value, or file name and contents."""
    boundary = re.search(r'boundary="?([^";]+)', kind)[1].encode()
    found = {}
    for part in raw.split(b"--" + boundary)[1:-1]:
        head, _, body = part.partition(b"\r\n\r\n")
        name = re.search(rb'name="([^"]+)"', head)[1].decode()
        file = re.search(rb'filename="([^"]+)"', head)
        value = body.removesuffix(b"\r\n").decode()
        found[name] = {"filename": file[1].decode(), "contents": value} if file else value
    return found


def by_openai(window, more):
    def call(url, looks):
        import openai

        with openai.OpenAI(api_key=KEY, base_url=url + "/v1", max_retries=0) as client:
            stored = client.files.create(file=("x.jsonl", io.BytesIO(LINES)), purpose="batch")
            client.batches.create(
                input_file_id=stored.id,
                endpoint="/v1/embeddings",
                completion_window=window,
                metadata=IDENTITY,
                extra_body=more or None,
            )
            found = [client.batches.retrieve("batch_1") for _ in range(looks)]
            listed = next(iter(client.batches.list(limit=100)))
            file = client.files.content("file-2").content.decode()
        read = [
            {
                "id": one.id,
                "state": one.status,
                "identity": one.metadata["batchembed"],
                "files": [name for name in (one.output_file_id, one.error_file_id) if name],
                "errors": [e.message for e in one.errors.data] if one.errors else [],
            }
            for one in (*found, listed)
        ]
        return read, file

    return call


def by_mistral(url, looks):
    from mistralai.client import Mistral

    with Mistral(api_key=KEY, server_url=url) as client:
        stored = client.files.upload(
            file={"file_name": "x.jsonl", "content": io.BytesIO(LINES)}, purpose="batch"
        )
        client.batch.jobs.create(
            input_files=[stored.id],
            model="mistral-embed",
            endpoint="/v1/embeddings",
            metadata=IDENTITY,
        )
        found = [client.batch.jobs.get(job_id="job-1") for _ in range(looks)]
        listed = client.batch.jobs.list().data[0]
        file = client.files.download(file_id="file-2").read().decode()
    read = [
        {
            "id": one.id,
            "state": str(one.status),
            "identity": one.metadata["batchembed"],
            "files": [name for name in (one.output_file, one.error_file) if name],
            "errors": [e.message for e in one.errors],
        }
        for one in (*found, listed)
    ]
    return read, file


CASES = (
    ("openai", "openai", by_openai("24h", {}), OPENAI_STATES),
    ("voyage", "openai", by_openai("12h", {"request_params": SHARED}), OPENAI_STATES),
    ("mistral", "mistralai", by_mistral, MISTRAL_STATES),
)


def main():
    found = []
    for provider, client, call, states in CASES:
        kept = {"object": "list", "total": 1} if provider == "mistral" else {"has_more": False}
        recorder = Recorder(states, lambda all_, kept=kept: {"data": [all_[0]], **kept})
        read, file = call(recorder.url, len(states))
        recorder.server.shutdown()
        recorder.server.server_close()
        found.append(
            {
                "provider": provider,
                "client": f"{client} {version(client)}",
                "calls": recorder.calls,
                "states": states,
                "read": read,
                "file": file,
            }
        )
    json.dump(found, sys.stdout, indent=1, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()
