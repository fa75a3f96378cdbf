"""The stand-in server is honest: its vectors, its bill, its limits, its faults."""

import asyncio
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from fakes import Seen, Server, faults, read_bill, running, tokens, vector, vectors

ROOT = Path(__file__).parent.parent


def post(url, body, **headers):
    asked = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return answer.status, json.loads(answer.read()), dict(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), dict(error.headers)


def openai_body(*texts, **more):
    return {"input": list(texts), "model": "m", **more}


def test_vectors_depend_on_everything_that_changes_one():
    """Text, role, controls, model and size, and on nothing else."""
    base = vector("a")
    others = [
        vector("b"),
        vector("a", role="query"),
        vector("a", controls=[(0, 1, 2)]),
        vector("a", model="other"),
        vector("a", unit=False),
    ]
    assert vector("a").tobytes() == base.tobytes()
    assert vector("a", controls=[(0, 1, 2)]).tobytes() == others[2].tobytes()
    assert len({base.tobytes(), *(v.tobytes() for v in others)}) == 6
    assert np.linalg.norm(base) == pytest.approx(1, abs=1e-6)
    assert vector("a", dimensions=7).shape == (7,)
    assert vectors(["a", "b"]).shape == (2, 32)


def test_the_three_endpoints_give_the_same_function():
    """Over plain urllib, so that no code of ours is between."""
    with running(dimensions=8) as server:
        _, told, _ = post(server.openai_url + "/embeddings", openai_body("a", "b"))
        item = {"type": "text", "data": "a", "controls": [{"start": 0, "length": 1, "factor": 7}]}
        rest = {"representation": "query", "compress_to_size": 16, "normalize": False, "model": "m"}
        _, single, _ = post(server.url + "/semantic_embed", {"prompt": [item], **rest})
        _, batch, _ = post(server.url + "/batch_semantic_embed", {"prompts": [[item]] * 2, **rest})
    expected = vectors(["a", "b"], model="m", dimensions=8)
    assert np.float32([e["embedding"] for e in told["data"]]).tobytes() == expected.tobytes()
    right = vector("a", role="query", controls=[(0, 1, 7)], model="m", dimensions=16, unit=False)
    assert np.float32(single["embedding"]).tobytes() == right.tobytes()
    assert np.float32(batch["embeddings"]).tobytes() == right.tobytes() * 2
    assert server.bill.texts == {"a": 4, "b": 1}
    assert server.bill.paid_twice == {"a": 4}
    assert server.bill.tokens == 5 * tokens("a")


def test_limits_are_kept_and_cost_nothing():
    """A refused request is not charged."""
    now = [0.0]
    settings = {"requests_per_minute": 60, "window": 2.0, "clock": lambda: now[0]}
    with running(**settings, texts_per_request=2, tokens_per_request=5) as server:
        url = server.openai_url + "/embeddings"
        assert [post(url, openai_body("a"))[0] for _ in range(3)] == [200, 200, 429]
        now[0] = 1.5
        status, _, headers = post(url, openai_body("a"))
        assert (status, headers["Retry-After"]) == (429, "0.500")
        now[0] = 2.0
        assert post(url, openai_body("a", "b", "c"))[0] == 400
        assert "max 5 tokens per request" in post(url, openai_body("a" * 21))[1]
        assert server.bill.statuses == {200: 2, 429: 2, 400: 2}
        assert server.bill.answered == 2


def test_poison_and_keys_are_refused():
    """As a real server would, with the key echoed as some do."""
    with running(key="K") as server:
        url = server.openai_url + "/embeddings"
        good = {"Authorization": "Bearer K"}
        assert post(url, openai_body("POISON"), **good)[0] == 400
        assert post(url, openai_body("NANPOISON"), **good)[0] == 200
        status, words, _ = post(url, openai_body("a"), Authorization="Bearer wrong")
        assert (status, "wrong" in words) == (401, True)
        assert post(server.url + "/nowhere", {}, **good)[0] == 404
    with running(refuse_all=True) as server:
        assert post(server.openai_url + "/embeddings", openai_body("a"))[0] == 400


def test_faults_compose_and_a_script_decides():
    """`|` does both; a function sees what was asked."""
    both = faults.shuffled() | faults.version("v2") | faults.delay(1)
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    def script(seen):
        assert isinstance(seen, Seen)
        return both if "now" in seen.texts else None

    with running(script=script, sleep=sleep) as server:
        url = server.openai_url + "/embeddings"
        _, plain, _ = post(url, openai_body("a", "b", "c", "d"))
        _, spoiled, _ = post(url, openai_body("a", "b", "c", "now"))
    assert plain["model"] == "fake-1"
    assert spoiled["model"] == "v2"
    assert [e["index"] for e in plain["data"]] == [0, 1, 2, 3]
    assert sorted(e["index"] for e in spoiled["data"]) == [0, 1, 2, 3]
    assert [e["index"] for e in spoiled["data"]] != [0, 1, 2, 3]
    assert slept == [1.0]


def test_the_bill_is_written_before_the_answer(tmp_path):
    """Even when the answer never arrives, the file knows that it was paid for."""
    path = tmp_path / "bill.jsonl"

    async def go():
        server = Server(bill=path, script=[faults.reset(), None])
        async with server, aiohttp.ClientSession() as session:
            url = server.openai_url + "/embeddings"
            with pytest.raises(aiohttp.ClientError):
                await session.post(url, json=openai_body("a"))
            lost = read_bill(path)
            async with session.post(url, json=openai_body("b")) as answer:
                await answer.content.readany()
                return lost, read_bill(path)

    lost, kept = asyncio.run(go())
    assert lost.texts == {"a": 1}
    assert kept.texts == {"a": 1, "b": 1}
    assert kept.requests == 2
    assert read_bill(tmp_path / "none").requests == 0


def test_a_process_of_its_own(tmp_path):
    """`python -m tests.fakes.server` prints its address, keeps a bill and takes faults."""
    path = tmp_path / "bill.jsonl"
    command = [sys.executable, "-W", "error", "-m", "tests.fakes.server", "--seconds", "30"]
    command += ["--bill", str(path), "--dimensions", "4", "--fault", "status=503@1"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().strip() + "/v1/embeddings"
            first = post(url, openai_body("a"))
            second = post(url, openai_body("b"))
        finally:
            process.kill()
    right = vector("a", model="m", dimensions=4)
    assert np.float32(first[1]["data"][0]["embedding"]).tobytes() == right.tobytes()
    assert second[0] == 503
    assert read_bill(path).texts == {"a": 1}
    assert read_bill(path).statuses == {200: 1, 503: 1}
