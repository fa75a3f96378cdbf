"""A model that changes under a run: seen by its name, or by sentences whose vectors move."""

import asyncio
import json
import math
import signal
from dataclasses import replace

import numpy as np
import pytest
from fakes import faults, running
from fakes.faults import Reply
from fakes.runs import manifest, texts, until
from fakes.scripted import Scripted, Texts, loop_of
from fakes.time import Clock, now, run
from fakes.vectors import vector, vectors

from batchembed.embed import Watch, Watching
from batchembed.embed.canaries import TEXTS
from batchembed.errors import ActionNeededError
from batchembed.exchange import Fatal, Response
from batchembed.pacing import Rates

GIVEN = texts(40)
HOW = {"limits__texts_per_request": 4, "limits__concurrency": 1, "limits__canaries": "always"}
GO_ON = ("--set", "limits.on_model_change=go_on")


def other_model(right):
    """Another model that calls itself the same."""
    rng = np.random.default_rng(1)
    moved = [v + 0.05 * rng.standard_normal(len(v)).astype(np.float32) for v in right.vectors]
    return replace(right, vectors=[v / np.linalg.norm(v) for v in moved])


def asked(server):
    """How often the canary texts were asked for."""
    assert len({server.bill.texts[text] for text in TEXTS}) == 1
    return server.bill.texts[TEXTS[0]]


def test_canaries_are_asked_at_the_start_and_the_end(place, server):
    """They are no rows, and the baseline of a directory is kept for the next run."""
    job = place(GIVEN, server=server, **HOW)
    job.run()
    assert asked(server) == 2
    assert job.wrong() == []
    kept = json.loads((job.out / "checkpoint" / "canaries.json").read_text())
    assert kept["role"] == "symmetric"
    job.fill([*GIVEN, "one more text"])
    job.run()
    assert asked(server) == 4


@pytest.mark.parametrize("canaries", ["auto", "never"])
def test_short_runs_ask_for_none(place, server, canaries):
    """A look costs sixteen texts: a run of forty need not pay for it, unless it is told to."""
    job = place(GIVEN, server=server, **{**HOW, "limits__canaries": canaries})
    job.run()
    assert asked(server) == 0
    assert not (job.out / "checkpoint" / "canaries.json").exists()


def watched(*, stop=True, changes_at=None, count=400):
    """Run for hours in virtual time, a minute a request; return the loop and when it looked."""
    kept, told, seen = [], [], []

    def script(_number, asked):
        if asked.texts[0] == TEXTS[0]:
            seen.append(now())
        if changes_at is None or now() < changes_at:
            return None
        reply = other_model(Reply(list(vectors(asked.texts)), [], "fake-1", 1))
        return Response(np.stack(reply.vectors), 1, "fake-1")

    async def main():
        made = loop_of(Scripted(script, delay=60), concurrency=1)
        how = Watching("symmetric", None, kept.append, told.append, Clock(), stop=stop)
        watch = Watch(made, how, texts_per_request=16)
        await watch.begin()
        task = asyncio.create_task(watch.go_on())
        await made.run(Texts([f"text {n}" for n in range(count)]))
        task.cancel()
        await watch.end()
        return made

    return run(main), seen, told


def test_each_hour_they_are_asked_again():
    """A run of nearly seven hours looks seven times, and not once more at its end."""
    made, seen, _ = watched()
    assert made.ending is None
    assert [round(when / 3600) for when in seen] == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("stop", [True, False])
def test_a_change_is_found_within_the_hour(stop):
    """It ends the run; or is told, and is the new baseline."""
    made, seen, told = watched(stop=stop, changes_at=2.5 * 3600)
    if stop:
        assert isinstance(made.ending, ActionNeededError)
        assert "another by now" in made.ending.message
        assert seen[-1] < 3.1 * 3600
        assert told == []
    else:
        assert made.ending is None
        assert len(told) == 1


@pytest.mark.parametrize("refused", [False, True])
def test_the_first_is_asked_alone_and_the_others_together(refused):
    """Sixteen requests take two waits, not sixteen; where the first is refused, it was one."""
    seen = []

    def script(_number, asked):
        seen.append((now(), asked.texts[0]))
        return Fatal("no such key", hint="set another") if refused else None

    async def main():
        made = loop_of(Scripted(script, delay=60), rates=Rates(60 * 50), concurrency=16)
        how = Watching("symmetric", None, lambda _: None, pytest.fail, Clock())
        await Watch(made, how, texts_per_request=1).begin()
        return made

    made = run(main)
    whens = [when for when, _ in seen]
    assert sorted(text for _, text in seen) == sorted(TEXTS[: 1 if refused else 16])
    assert max(whens) - whens[0] < (1 if refused else 62)
    assert (made.ending is not None) == refused


@pytest.mark.parametrize("when", ["under way", "between two runs"])
def test_a_model_that_calls_itself_the_same_is_found_by_its_vectors(place, when):
    """The end, or the next run's start, stops with 4; what to do about it is told."""
    script = {"other": False}

    def answers(seen):
        late = seen.number >= 6 if when == "under way" else script["other"]
        return faults.edited(other_model) if late else None

    with running(script=answers) as server:
        job = place(GIVEN, server=server, **HOW)
        if when == "between two runs":
            job.run()
            script["other"] = True
            job.fill([*GIVEN, "one more text"])
        ended = job.run(code=4)
        for words in ("the provider's model is another by now", "a cosine of", "hint:"):
            assert words in ended.err
        requests = server.bill.requests
        ended = job.run("run", job.job, *GO_ON)
        if when == "between two runs":
            assert "warning: the provider's model is another" in ended.err
        else:
            assert server.bill.requests == requests, "all was paid for"


@pytest.mark.parametrize("again", [False, True])
def test_another_version_in_an_answer_stops_the_run_at_once(place, again):
    """Nothing of the other version is kept; with leave, both stand in the manifest."""
    script = {"from": 3}

    def answers(seen):
        return faults.version("fake-2") if seen.number >= script["from"] else None

    with running(script=answers) as server:
        job = place(GIVEN, server=server, **{**HOW, "limits__canaries": "never"})
        ended = job.run(code=4)
        assert "`fake-2`" in ended.err
        assert "`fake-1`" in ended.err
        assert server.bill.requests == 4
        if again:
            script["from"] = 0
            job.run("run", job.job, *GO_ON)
            assert manifest(job.out)["model_versions"] == ["fake-1", "fake-2"]
            assert sum(n - 1 for n in server.bill.texts.values()) == 4, "the one answer not kept"
            return
        script["from"] = 999
        job.run()
        assert manifest(job.out)["model_versions"] == ["fake-1"]
        assert job.wrong() == []


def test_a_baseline_that_is_damaged_is_made_anew(place, server):
    """It is no reason to stop, and no proof of anything."""
    job = place(GIVEN, server=server, **HOW)
    job.run()
    file = job.out / "checkpoint" / "canaries.json"
    for spoilt in (
        b"",
        b"{",
        b"[]",
        file.read_bytes().replace(b'"vectors": "', b'"vectors": "AAAA'),
    ):
        file.write_bytes(spoilt)
        job.fill([*GIVEN, f"more {spoilt[:9]}"])
        job.run()
        assert json.loads(file.read_bytes())["format"] == 1


def test_the_texts_are_sixteen_and_different():
    """The oracle gives each another vector, so one that moved is seen."""
    assert len(set(TEXTS)) == 16
    assert len({vector(text).tobytes() for text in TEXTS}) == 16


def test_what_cannot_be_had_proves_nothing(place):
    """A server that refuses the canaries, and takes the corpus, ends no run."""
    script = lambda seen: faults.status(400) if TEXTS[0] in seen.texts else None
    with running(script=script) as server:
        job = place(GIVEN, server=server, **HOW)
        job.run()
        assert job.wrong() == []


def test_without_the_comparison_a_changed_model_goes_unseen(place, monkeypatch):
    """Planted: cosines are not looked at."""
    answers = lambda seen: faults.edited(other_model) if seen.number >= 6 else None
    with running(script=answers) as server:
        job = place(GIVEN, server=server, **HOW)
        job.run(twists=[["blind_canaries"]])


def test_sigterm_while_canaries_are_asked_ends_the_run(place):
    """They are let go of as requests of the corpus are: nobody waits for a silent server."""
    with running(script=lambda _: faults.Fault(delay=math.inf)) as server:
        job = place(GIVEN, server=server, **HOW, access__timeout="5h")
        command = job.start(twists=[["time_flies", 20]])
        until(lambda: server.bill.requests)
        command.send(signal.SIGTERM)
        assert command.wait(20).code == 143
