"""The servers that pacing is measured with on a real clock, and what is made of the figures."""

import asyncio
import base64
import json
import urllib.error
import urllib.request

import numpy as np
import pytest

from benchmarks import serving
from benchmarks.pacing import encoder, knee, loopback, real
from benchmarks.pacing.knee import Measured
from benchmarks.pacing.loopback import Door, limited
from benchmarks.pacing.servers import Bucket, SlidingWindow, always


class Line:
    """What a connection would send."""

    def __init__(self):
        self.sent = []

    def send(self, status, body):
        self.sent.append((status, json.loads(body)))


def asked(text="a"):
    body = json.dumps({"model": "m", "input": [text]}).encode()
    return b"POST /embeddings HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def test_a_limit_over_loopback():
    """A bucket of one second is full at first; what comes then is refused, and told at /seen."""
    with loopback.running("5", "0", "0") as url:
        statuses = []
        for _ in range(8):
            call = urllib.request.Request(f"{url}/embeddings", b'{"input": ["a"]}')
            try:
                with urllib.request.urlopen(call, timeout=10) as answer:
                    statuses.append(answer.status)
                    row = json.loads(answer.read())["data"][0]
            except urllib.error.HTTPError as error:
                statuses.append(error.code)
        assert statuses[:5] == [200] * 5
        assert set(statuses) <= {200, 429}
        assert isinstance(row["embedding"], str)
        seen = loopback.seen(url)
        assert len(seen["taken"]) == statuses.count(200)
        assert len(seen["refused"]) == statuses.count(429)
        assert seen["taken"] == sorted(seen["taken"])


def test_the_door_counts_as_the_simulator_does():
    """Ten in any two seconds."""
    door = Door(SlidingWindow(always(5.0), 2.0), 0.3)
    assert [door.enter(0.1 * n) for n in range(30)] == [True] * 10 + [False] * 10 + [True] * 10
    assert (len(door.taken), len(door.refused)) == (20, 10)


def test_a_request_in_pieces_is_answered_once():
    """Whatever the pieces that the network makes of it."""
    got = []
    line = serving.Connection(lambda _line, request: got.append(request))
    whole = asked("one") + asked("two")
    for at in range(len(whole)):
        line.data_received(whole[at : at + 1])
    assert got == [asked("one"), asked("two")]


def test_refusals_come_as_openai_says_them():
    """With the words of a rate limit, so that none is taken for an empty purse."""

    async def main():
        line, door = Line(), Door(Bucket(always(1.0), 1.0), 0.0)
        answer = limited(door)
        answer(line, asked())
        answer(line, asked())
        await asyncio.sleep(0.01)
        return line.sent

    (good, _), (bad, told) = asyncio.run(main())
    assert (good, bad) == ("200 OK", "429 Too Many Requests")
    assert told["error"]["code"] == "rate_limit_exceeded"


def test_use_is_counted_from_the_first_request():
    """Ninety-eight of a hundred a second; a slow start counts, unless it is left out."""
    steady = [n / 98.0 for n in range(1000)]
    assert real.use(steady, 100.0, 0.0) == pytest.approx(0.98)
    slow = [0.0, *(when + 5.0 for when in steady)]
    assert real.use(slow, 100.0, 0.0) == pytest.approx(1000 / (999 / 98.0 + 5.0) / 100)
    assert real.use(slow, 100.0, 5.0) == pytest.approx(0.98)


def test_a_server_that_computes_takes_what_waits_at_once(monkeypatch):
    """One goes alone, as nothing else is there; then as many as have come, four at most."""
    monkeypatch.setattr(encoder, "BATCH", 4)

    class Counted:
        def __init__(self):
            self.sizes = []

        def vectors(self, texts):
            self.sizes.append(len(texts))
            return np.array([[float(text)] * 3 for text in texts], np.float32)

    async def main():
        network, lines = Counted(), [Line() for _ in range(8)]
        queue = encoder.Queue(network)
        for number, line in enumerate(lines[:1]):
            queue.answer(line, asked(str(number)))
        await asyncio.sleep(0)
        for number, line in enumerate(lines[1:], 1):
            queue.answer(line, asked(str(number)))
        while not lines[-1].sent:  # noqa: ASYNC110 - a queue tells nobody
            await asyncio.sleep(0.001)
        told = Line()
        queue.answer(told, b"GET /seen HTTP/1.1\r\n\r\n")
        return network.sizes, [line.sent for line in lines], told.sent[0][1]

    sizes, sent, seen = asyncio.run(main())
    assert sizes == [1, 4, 3]
    assert [size for size, _ in seen["batches"]] == sizes
    assert len(seen["came"]) == len(seen["done"]) == 8
    for number, ((status, told),) in enumerate(sent):
        vector = np.frombuffer(base64.b64decode(told["data"][0]["embedding"]), "f4")
        assert status == "200 OK"
        assert vector.tolist() == [number] * 3


def test_the_network_is_the_same_however_texts_are_batched(monkeypatch):
    """And no two texts have one vector, so that a run takes its answers."""
    for name, value in {"WIDTH": 32, "HIDDEN": 64, "LAYERS": 2, "DIMENSIONS": 16}.items():
        monkeypatch.setattr(encoder, name, value)
    network, texts = encoder.Network(), [f"text {n}" for n in range(20)]
    rows = network.vectors(texts)
    assert rows.shape == (20, 16)
    assert len(np.unique(rows, axis=0)) == 20
    for text, row in zip(texts, rows, strict=True):
        assert np.allclose(encoder.Network().vectors([text])[0], row, rtol=1e-4, atol=1e-5)


def test_the_best_is_the_fewest_that_bring_the_most():
    """Within the noise of a measurement; and batches have the median of their seconds."""
    fixed = {
        4: Measured(50.0, 0.08, [(4, 0.2), (4, 0.1)]),
        8: Measured(99.0, 0.08, [(4, 0.3), (8, 0.5)]),
        64: Measured(100.0, 0.64),
    }
    assert knee.best(fixed) == (8, fixed[8])
    assert knee.curve([*fixed.values()]) == ([4, 8], [0.2, 0.5])
