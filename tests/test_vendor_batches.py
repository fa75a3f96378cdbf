"""Batch lanes against the vendors' own clients: the same calls, and the same read from answers.

voyageai has no batch calls; Voyage tells its users to take OpenAI's client, and that is recorded.
"""

import json
import subprocess

import numpy as np
import pytest
from fakes.commands import environment
from test_vendors import HERE, clients_python
from vendors.record_batches import IDENTITY, KEY, LINES, SHARED, form

from batchembed.exchange import Request
from batchembed.handed import ENDED
from batchembed.providers import Access, batch_dialect, defaults, info, known
from batchembed.spec import Spec

RECORDED = json.loads((HERE / "recorded_batches.json").read_text("utf-8"))
EVERY = pytest.mark.parametrize("recorded", RECORDED, ids=lambda one: one["provider"])
# What Mistral's client says besides, which is what the API takes for granted.
GRANTED = {"form.visibility": "workspace", "query.created_by_me": "false"}


def batches(name):
    return batch_dialect(defaults(Spec(name, "")))


def shown(call):
    """Return a call of ours in the form of the recordings."""
    told = {"method": call.method, "path": "/v1/" + call.path, "query": dict(call.query)}
    told["authorization"] = f"Bearer {KEY}"
    kind = call.headers.get("Content-Type", "")
    if kind.startswith("multipart/"):
        return told | {"form": form(call.body, kind)}
    return told | {"body": json.loads(call.body) if call.body else None}


def flat(call):
    """Return a call as one level of fields, without what the API takes for granted."""
    found = {name: call[name] for name in ("method", "path", "authorization")}
    for part in ("query", "form", "body"):
        found |= {f"{part}.{name}": value for name, value in (call.get(part) or {}).items()}
    return {name: value for name, value in found.items() if GRANTED.get(name) != value}


def calls(recorded):
    """Return what we send for what the client was asked for, in its order."""
    lane, looks = batches(recorded["provider"]), len(recorded["states"])
    mistral = recorded["provider"] == "mistral"
    shared = {"voyage": SHARED, "mistral": {"model": "mistral-embed"}}.get(recorded["provider"])
    return [
        lane.upload(LINES, "x.jsonl"),
        lane.jobs.create("file-1", IDENTITY["batchembed"], json.dumps(shared) if shared else ""),
        *[lane.jobs.look("job-1" if mistral else "batch_1")] * looks,
        lane.jobs.recent(0, None),
        lane.download("file-2"),
    ]


@EVERY
def test_the_calls_are_those_of_the_client(recorded):
    """Upload, submit, look, list and fetch: path, query, key and every field."""
    ours = [flat(shown(call)) for call in calls(recorded)]
    assert ours == [flat(call) for call in recorded["calls"]]


@EVERY
def test_each_state_is_read_as_the_client_reads_it(recorded):
    """The name, the identity, files and errors; and whether it goes on is told by its state."""
    told = [batches(recorded["provider"]).jobs.told(state) for state in recorded["states"]]
    for mine, theirs in zip(told, recorded["read"], strict=False):
        assert (mine.id, mine.identity) == (theirs["id"], theirs["identity"])
        assert list(mine.files) == theirs["files"]
        assert bool(mine.errors) == bool(theirs["errors"])
        assert all(error in mine.errors for error in theirs["errors"])
        ended = {"completed", "expired", "cancelled", "failed"}
        ended |= {"SUCCESS", "TIMEOUT_EXCEEDED", "CANCELLED", "FAILED"}
        assert mine.ended == (mine.state in ENDED) == (theirs["state"] in ended)
    assert sum(one.ended for one in told) == 4


@EVERY
def test_lines_and_what_stands_beside_them_make_the_request(recorded):
    """Together they are what is asked online, field by field; the texts stand in the line."""
    name = recorded["provider"]
    lane, spec = batches(name), defaults(Spec(name, ""))
    request = Request(np.zeros((2, 16), np.uint8), ("a text", "another"), "symmetric")
    online = json.loads(info(name).dialect(info(name), spec, Access()).build(request).body)
    body = lane.body(request)
    line = lane.jobs.line("7", body)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    told, shared = json.loads(line), json.loads(lane.jobs.shared(body) or "{}")
    assert told["custom_id"] == "7"
    assert told["body"] | shared == online
    assert told["body"].keys().isdisjoint(shared)
    assert lane.request(line, request.keys).texts == request.texts


@EVERY
def test_lists_are_read_to_their_end(recorded):
    """A page that is not the last one says so, in each API's own way."""
    jobs = batches(recorded["provider"]).jobs
    first = {"total": 101, "has_more": True}
    assert jobs.more(0, first)
    assert not jobs.more(1, {"total": 101, "has_more": False})
    after = jobs.recent(1, "batch_9").query
    assert after.get("after") == "batch_9" or after.get("page") == "1"


def test_every_lane_is_proven_and_a_difference_would_be_seen():
    """A lane that is added comes under the tests above; another identity is another call."""
    assert {one["provider"] for one in RECORDED} == {p.name for p in known() if p.jobs}
    for recorded in RECORDED:
        other = batches(recorded["provider"]).jobs.create("file-1", "another", '{"model":"m"}')
        assert flat(shown(other)) != flat(recorded["calls"][1])


@pytest.mark.slow
def test_the_clients_speak_today_as_was_recorded():
    """In a venv of their own: `make vendors` makes it."""
    python = clients_python()
    done = subprocess.run(
        [python, HERE / "record_batches.py"],
        capture_output=True, text=True, env=environment(), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    today = json.loads(done.stdout)
    for now, then in zip(today, RECORDED, strict=True):
        assert now["calls"] == then["calls"], now["client"]
        assert now["read"] == then["read"], now["client"]
        assert now["file"] == then["file"] == LINES.decode()
