"""Lanes: many processes give the bits that one gives, whichever of them die, and none is left."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchembed.exchange import Control, Fatal, Refused, Request
from batchembed.providers import Access, lanes, local, open_provider
from batchembed.providers.lanes import Lanes, Worker
from batchembed.providers.static_model import StaticModel
from batchembed.spec import Spec

TEXTS = ("A wolf hunts.", "", "😀 smile", "Stocks fell.", "𓀀", "naïve café", "a\x00b", "x " * 9000)
PATIENCE = 20


@pytest.fixture(scope="module")
def model():
    return StaticModel.load()


@pytest.fixture(scope="module")
def worker(model):
    found = Worker(model.dimensions)
    assert found.identity() == (model.name, model.version, model.dimensions)
    yield found
    found.close()


@pytest.fixture
def opened():
    """A maker of lanes that are closed in the end."""
    made = []

    def make(model, workers, **more):
        made.append(Lanes(model, workers, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def until(true):
    """Wait for something that another process does."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it never came"
        os.sched_yield()


def same(found, wanted):
    return all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(found, wanted, strict=True)
    )


def crowd(found, workers):
    """Let requests wait until so many workers have been started."""
    with ThreadPoolExecutor(12) as pool:
        while found._starts < workers:
            list(pool.map(found.encode, [("a wolf",) * 50] * 24))
    return found


def grown(found, workers):
    """Let requests wait until so many workers have joined."""
    crowd(found, workers)
    until(lambda: len(found._joined) == workers)
    return found


def is_alive(pid):
    """Whether a process runs; one that ended and was not reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_worker_gives_the_bits_of_the_model(model, worker):
    """All kinds of texts, none, and texts with controls."""
    controls = [[] for _ in TEXTS]
    controls[0], controls[7] = [(2, 4, 7.0), (0, 1, 0.1)], [(100, 9000, 0.5)]
    for texts, spans in (TEXTS, None), ((), None), ((), []), (("𓀀",), None), (TEXTS, controls):
        assert same(worker.encode(texts, spans), model.encode(texts, spans))
    plain, steered = worker.encode(TEXTS), worker.encode(TEXTS, controls)
    assert not same(plain, steered)


TEXT = st.text(st.characters() | st.sampled_from("aeinrst \ud800\udc00😀"), max_size=60)


@settings(max_examples=80, deadline=None)
@given(texts=st.lists(TEXT, max_size=6).map(tuple), data=st.data())
def test_a_worker_answers_as_the_model_does(model, worker, texts, data):
    """Whatever the texts and controls: the same bits, or a refusal in the same words."""
    span = st.tuples(st.integers(-1, 20), st.integers(-1, 20), st.floats(width=64))
    controls = data.draw(
        st.none() | st.lists(st.lists(span, max_size=2), min_size=len(texts), max_size=len(texts))
    )

    def said(encoder):
        try:
            return [array.tobytes() for array in encoder.encode(texts, controls)]
        except ValueError as error:
            return str(error)

    with np.errstate(all="ignore"):
        assert said(worker) == said(model)


def test_every_lane_gives_the_same_bits(model, opened):
    """Requests from many threads each get their own answer, wherever it was made."""
    found = grown(opened(model, 2), 2)
    words = ["the", "wolf", "river", "of", "interest", "rate", "😀", "hunts", "xyzzy", "money's"]
    rng = random.Random(5)
    requests = [
        tuple(" ".join(rng.choices(words, k=rng.randrange(9))) for _ in range(rng.randrange(300)))
        for _ in range(120)
    ]
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(found.encode, requests))
    assert all(same(a, model.encode(r)) for a, r in zip(answers, requests, strict=True))


def test_few_texts_start_no_process(model, opened):
    """Requests that never wait for each other are encoded here."""
    found = opened(model, 2)
    for _ in range(40):
        found.encode(("a",))
    assert found._starts == 0


def test_with_many_workers_this_process_encodes_no_more(model, opened, monkeypatch):
    """It has enough to do with feeding them; when they die it encodes again."""
    here = []
    monkeypatch.setattr(model, "encode", spied(model.encode, here))
    found = grown(opened(model, 2), 2)
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(found.encode, [("one",)] * 50))
        here.clear()
        list(pool.map(found.encode, [("two",)] * 200))
        assert here == []
        for one in list(found._joined):
            one.kill()
        answers = list(pool.map(found.encode, [("three",)] * 50))
    assert len(here) == 50
    assert found._free.qsize() == 1
    assert all(same(answer, model.encode(("three",))) for answer in answers)
    assert found._joined == set()


def spied(encode, seen):
    def spy(texts, controls=None):
        seen.append(texts)
        return encode(texts, controls)

    return spy


def test_a_worker_that_dies_with_requests_costs_nothing(model, opened):
    """What it had is encoded here, and what comes later goes to those that live."""
    found = grown(opened(model, 2), 2)
    victim = next(iter(found._joined))
    long = ("the wolf hunts at night " * 20,) * 700
    wanted = model.encode(long)
    with ThreadPoolExecutor(5) as pool:
        waiting = [pool.submit(found.encode, long) for _ in range(12)]
        until(victim._sending.locked)
        os.kill(victim._process.pid, signal.SIGKILL)
        assert all(same(one.result(PATIENCE), wanted) for one in waiting)
    until(lambda: found._joined.isdisjoint({victim}))
    assert victim._process.returncode == -signal.SIGKILL


OTHER_MODEL = """
import marshal, struct, sys
message = marshal.dumps(("other", "0", 256))
sys.stdout.buffer.write(struct.pack("=q", len(message)) + message)
sys.stdout.flush()
sys.stdin.buffer.read()
"""


@pytest.mark.parametrize(
    "code",
    [
        "raise SystemExit(3)",
        OTHER_MODEL,
        "import sys; sys.stdout.buffer.write(bytes([9, 0, 0, 0, 0, 0, 0, 0, 40]))",
        "print('Welcome to this machine!', flush=True); import time; time.sleep(99)",
    ],
    ids=["dies at start", "has another model", "stops in the middle of a word", "a greeting"],
)
def test_a_worker_that_cannot_serve_is_started_once(model, opened, monkeypatch, code):
    """It never joins, is reaped, and the run goes on without it."""
    monkeypatch.setattr(lanes, "_CODE", code)
    found = crowd(opened(model, 2), 2)
    until(lambda: [one._process.returncode is not None for one in found._started] == [True] * 2)
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(found.encode, [("a wolf",) * 50] * 200))
    assert all(same(answer, answers[0]) for answer in answers)
    assert (found._starts, found._joined) == (2, set())


def test_a_machine_without_room_for_processes_still_embeds(model, opened, monkeypatch):
    """A process that cannot be started is as one that died."""

    def no_room(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(lanes.subprocess, "Popen", no_room)
    found = crowd(opened(model, 1), 1)
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(found.encode, [("a wolf",) * 50] * 60))
    assert (len(answers), found._starts) == (60, 1)


def test_an_error_of_the_model_here_is_not_taken_for_a_death(opened):
    """Only a worker can be gone; what is raised here goes to the caller."""

    class Broken:
        name, version, dimensions = "broken", "1", 2

        def encode(self, texts, controls=None, /):
            raise OSError("no such file")

    with pytest.raises(OSError, match="no such file"):
        opened(Broken(), 0).encode(("a",))


def test_closing_ends_the_workers_at_once_also_those_at_work(model):
    """No process, zombie or open pipe is left, and who waited for a lane hears of it."""
    found = grown(Lanes(model, 2), 2)
    workers = list(found._joined)
    long = ("the wolf hunts at night " * 400,) * 200
    with ThreadPoolExecutor(9) as pool:
        waiting = [pool.submit(found.encode, long) for _ in range(9)]
        until(lambda: all(one._sending.locked() for one in workers))
        began = time.monotonic()
        found.close()
        assert time.monotonic() - began < 2
        ends = [one.exception(PATIENCE) for one in waiting]
    assert any(isinstance(end, RuntimeError) and "closed" in str(end) for end in ends)
    assert all(one._process.returncode is not None for one in workers)
    assert all(one._answers.closed and one._requests.closed for one in workers)
    found.close()


def test_closing_while_a_worker_starts_leaves_nothing(model, monkeypatch):
    """A worker that is not ready yet is ended as well."""
    monkeypatch.setattr(lanes, "_CODE", "import sys; sys.stdin.buffer.read()")
    found = crowd(Lanes(model, 1), 1)
    until(lambda: found._started)
    found.close()
    until(lambda: not [t for t in threading.enumerate() if t.name == "start a worker"])
    assert found._started[0]._process.returncode is not None
    assert found._joined == set()


def test_a_worker_outlives_signals_to_the_group_and_ends_with_its_stdin(model):
    """Ctrl-C is the parent's business; without a parent there is none."""
    one = Worker(model.dimensions)
    one.identity()
    for stopping in (signal.SIGINT, signal.SIGTERM):
        os.kill(one._process.pid, stopping)
    assert same(one.encode(("a wolf",)), model.encode(("a wolf",)))
    one._requests.close()
    assert one._process.wait(PATIENCE) == 0
    one.close()


PARENT = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from batchembed.providers.lanes import Lanes
from batchembed.providers.static_model import StaticModel
found, pool = Lanes(StaticModel.load(), 2), ThreadPoolExecutor(5)
while len(found._joined) < 2: list(pool.map(found.encode, [("a wolf",) * 50] * 12))
print(*[one._process.pid for one in found._joined], flush=True)
while True: list(pool.map(found.encode, [("a wolf",) * 900] * 12))
"""


def test_workers_end_when_their_parent_is_killed():
    """No process is left two seconds after a kill that nothing can answer."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(is_alive, pids))
        parent.kill()
    killed = time.monotonic()
    until(lambda: not any(map(is_alive, pids)))
    assert time.monotonic() - killed < 2


LOOKED_AT = """
import sys
from batchembed.providers import static_worker
from batchembed.providers.static_model import StaticModel
print(*sorted({"polars", "pyarrow", "aiohttp", "pydantic", "click", "asyncio"} & set(sys.modules)))
"""


def test_a_worker_loads_nothing_but_its_model(worker):
    """No table library, no network; three pipe ends and no other file of the parent."""
    told = subprocess.run(
        [sys.executable, "-c", LOOKED_AT], capture_output=True, check=True, text=True
    )
    assert told.stdout.split() == []
    folder = Path(f"/proc/{worker._process.pid}")
    assert sorted(int(path.name) for path in (folder / "fd").iterdir()) == [0, 1, 2]
    loaded = (folder / "maps").read_text()
    assert "numpy" in loaded
    assert not [name for name in ("polars", "pyarrow", "aiohttp") if name in loaded]


def test_files_beside_the_job_are_not_imported(model, tmp_path, monkeypatch):
    """A `numpy.py` in the folder that a run is started in is none of our business."""
    for name in ("numpy", "tokenizers", "struct", "batchembed", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong file')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    one = Worker(model.dimensions)
    assert one.identity() is not None
    one.close()


def request(*texts, **more):
    return Request(keys=np.zeros((len(texts), 16), np.uint8), texts=texts, **more)


def test_the_provider_uses_workers_and_answers_as_one(monkeypatch):
    """Vectors, unusable texts, controls and refusals come out of any lane alike."""
    monkeypatch.setattr(local, "_WORKERS", 1)
    plain, steered = request(*TEXTS), request("a wolf", controls=((Control(2, 4, 3.0),),))
    bad = request("fine", "bad \ud800")

    async def go():
        provider = open_provider(Spec("local", "", dimensions=64), Access(), key=None)
        here = [await provider.attempt(one) for one in (plain, steered, bad)]
        own = provider._close.__self__
        while not own._joined:
            await asyncio.gather(*(provider.attempt(plain) for _ in range(9)))
        many = await asyncio.gather(*(provider.attempt(r) for r in (plain, steered, bad) * 20))
        worker = next(iter(own._joined))
        late = asyncio.gather(*(provider.attempt(plain) for _ in range(20)))
        await asyncio.sleep(0)
        late.cancel()
        await provider.close()
        return here, many, worker._process.returncode, await provider.attempt(plain)

    here, many, ended, after = asyncio.run(go())
    assert isinstance(here[2], Refused)
    assert dict(here[0].unusable) == {1: "no_known_token", 4: "no_known_token"}
    for at, found in enumerate(many):
        wanted = here[at % 3]
        if isinstance(wanted, Refused):
            assert found == wanted
            continue
        assert found.vectors.tobytes() == wanted.vectors.tobytes()
        assert (found.tokens, found.unusable) == (wanted.tokens, wanted.unusable)
        assert found.model_version == wanted.model_version
    assert ended is not None
    assert isinstance(after, Fatal)


@pytest.mark.parametrize(("concurrency", "workers"), [(1, 0), (2, 1), (16, 3)])
def test_no_more_lanes_than_the_job_wants(monkeypatch, concurrency, workers):
    """A job of one request at a time has one lane; another as many as there are cores."""
    monkeypatch.setattr(local, "_WORKERS", 3)
    provider = local.open_static(Spec("local", "", dimensions=8), concurrency=concurrency)
    assert provider._close.__self__._most == workers
    asyncio.run(provider.close())


def test_an_answer_fits_into_a_pipe():
    """Else a worker would wait for its reader after each request."""
    answer = local.LIMITS.texts_per_request * (256 + 1) * 4
    assert answer + 64 <= lanes._PIPE_BYTES
    assert answer * 2 > lanes._PIPE_BYTES
