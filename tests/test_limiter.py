"""A limit that runs share: turns, leases, messages that are bounded, a way that comes back."""

import asyncio
import random
from dataclasses import replace

import numpy as np
import orjson
import pytest
from fakes.sharing import NAME, Run, hello, net_of
from fakes.time import Clock, now, run
from fakes.wires import wire
from hypothesis import given
from hypothesis import strategies as st

from batchembed.exchange import Refused, Response, Throttled, Told, Unavailable
from batchembed.job.allowed import MOST_AT_ONCE
from batchembed.limiter import Limiter, Link, messages, taking_part
from batchembed.limiter.account import LEASE, MOST_WAITING, Account, Worker
from batchembed.limiter.messages import (
    LEAST,
    MOST_COUNT,
    End,
    Hello,
    Here,
    Look,
    MessageError,
    No,
    Seen,
    Stands,
    Start,
    Want,
    end_of,
    from_limiter,
    from_run,
    line,
    outcome_of,
)
from batchembed.limiter.places import MOST_BYTES
from batchembed.pacing import Pacer, Rates, Shared, shared
from batchembed.pacing.state import INF
from batchembed.pacing.step import AIM
from benchmarks.pacing.servers import Bucket, Server, always

VECTORS = np.zeros((0, 1), np.float32)
HELLO_60 = hello(Rates(60.0))


def account(*rates, at=0.0):
    """An account and its workers; what each was told is in `worker.heard`."""
    made = Account(random.Random(1), at)
    workers = []
    for one in rates:
        heard = []
        worker = Worker(one, heard.append, at)
        made.join(worker, at)
        workers.append((worker, heard))
    return made, workers


def starts(heard):
    return [one.number for one in heard if isinstance(one, Start)]


# -- turns -----------------------------------------------------------------------------------------


def test_starts_are_granted_as_the_pacer_lets_them():
    """Ten a second: one now, the next a tenth later; who waited is told what for."""
    made, [(worker, heard)] = account(Rates(600 / AIM))
    made.state = made.state._replace(most_open=INF)
    for number in (1, 2, 3):
        made.want(worker, Want(number, 10, 1), 0.0)
    assert made.turn(0.0) == pytest.approx(0.1)
    assert starts(heard) == [1]
    assert made.turn(0.1) == pytest.approx(0.2)
    assert heard[-1] == Start(2, 10, probe=False, why="requests")
    assert made.turn(0.2) == INF
    assert starts(heard) == [1, 2, 3]
    assert set(worker.lease) == {1, 2, 3}


def test_the_lowest_limits_that_anyone_stated_hold_for_all():
    """And no longer than whoever stated them takes part."""
    made, [(_, _), (low, _)] = account(Rates(600, None, 50), Rates(300, 1000))
    assert made.rates == Rates(300, 1000, 50)
    assert made.state.request_rate == pytest.approx(AIM * 5)
    made.leave(low, 1.0)
    assert made.rates == Rates(600, None, 50)
    assert made.state.request_rate == pytest.approx(AIM * 10)
    assert made.state.token_rate == INF


@pytest.mark.parametrize(
    ("high", "low", "tokens"),
    [
        (Rates(None, 1e6), Rates(None, 1e4), 300_000),  # a start cost 1,836 s of it
        (Rates(600), Rates(1e-9), 10),
        (Rates(600), Rates(600, 1e-9, 1e-9), 10),
    ],
)
def test_a_limit_that_left_is_waited_for_no_longer(high, low, tokens):
    """What was started under a low limit costs what it costs of the limit that holds now."""
    made, [(one, heard), (low_one, _)] = account(high, low)
    made.want(one, Want(1, tokens, 1), 0.0)
    made.turn(0.0)
    made.end(one, End(1, "answered", tokens), 1.0)
    made.want(one, Want(2, 1, 1), 1.0)
    assert made.turn(1.0) > 1800, "the control: the low limit holds"
    made.leave(low_one, 1.0)
    made.turn(1.0)
    made.turn(20.0)  # 300,000 tokens at a million a minute are 18 s
    assert starts(heard) == [1, 2]


def test_who_started_under_a_low_limit_that_left_is_not_passed_over():
    """It has its turn as soon as one that came later, and not 3,000 starts behind it."""
    made, [(one, heard), (low, _)] = account(Rates(None, 1e6), Rates(None, 1e4))
    made.want(one, Want(1, 300_000, 500), 0.0)
    made.turn(0.0)
    made.end(one, End(1, "answered", 300_000), 1.0)
    made.leave(low, 1.0)
    late = []
    made.join(Worker(Rates(None, 1e6), late.append, 2.0), 2.0)
    made.state = made.state._replace(most_open=INF)
    for number in range(2, 102):
        made.want(one, Want(number, 10_000, 20), 2.0)
        made.want(made.workers[-1], Want(number, 10_000, 20), 2.0)
    at = 2.0
    while len(starts(late)) < 20:
        at = max(at, made.turn(at))
    assert 19 <= len(starts(heard)) - 1 <= 21


def test_a_bill_beyond_belief_does_not_stop_the_account():
    """Of one that is a thousand million times its estimate, twenty times is believed."""
    made, [(one, heard), (other, _)] = account(Rates(None, 6e4), Rates(None, 6e4))
    made.want(other, Want(1, 100, 1), 0.0)
    made.turn(0.0)
    made.end(other, End(1, "answered", 2**53), 0.1)
    assert made.state.billed <= 2
    made.want(one, Want(1, 100, 1), 0.2)
    assert made.turn(0.2) <= 2.5
    made.turn(2.5)
    assert starts(heard) == [1]


@pytest.mark.parametrize(
    ("rates", "together"),
    [
        (Rates(600, 5, 7, 256, unpaced=64), Rates(600, 5, 7, 512, unpaced=128)),
        (
            Rates(concurrency=4, unpaced=4, fixed=True),
            Rates(None, None, None, 8, unpaced=8, fixed=True),
        ),
        (Rates(), Rates()),
    ],
)
def test_each_run_brings_as_many_open_requests_as_it_may_have(rates, together):
    """Limits a minute are the provider's, and not added up; what may be open is each run's own."""
    told = from_run(line(messages.hello(NAME, rates)))
    assert messages.rates_of(told) == rates
    made, _ = account(rates, rates)
    assert made.rates == together
    if rates.fixed:
        made.join(Worker(Rates(concurrency=8), print, 0.0), 0.0)
        assert (made.rates.fixed, made.rates.concurrency, made.rates.unpaced) == (False, 16, None)


@pytest.mark.parametrize(
    ("own", "standing", "part"),
    [
        (Rates(600, 6000, 60), None, Rates(600, 6000, 60)),
        (Rates(600, 6000, 60), Shared(3, stated=(600, 6000, 60)), Rates(200, 2000, 20, parts=3)),
        (Rates(600), Shared(2, stated=(100, 6000, None)), Rates(50, 3000, parts=2)),
        (Rates(600).part(4), Shared(2, stated=(600, None, None)), Rates(150, parts=4)),
        (Rates(600).part(4), Shared(8, stated=(600, None, None)), Rates(75, parts=8)),
        (Rates(), Shared(8), Rates(parts=8)),
    ],
)
def test_the_part_of_one_whose_limiter_is_gone(own, standing, part):
    """Of what all stated, the lowest; a shard has its part as before, or less."""
    assert shared.part(own, standing) == part
    told = shared.alone(part, standing and replace(standing, told=(None, 800, None)), 0, 1.0).told
    assert told == (INF, 800 / part.parts if standing else INF, INF)


def test_a_run_opens_as_many_requests_as_all_may():
    """Its crew grows with the limit of all: which of them are its own, the limiter says."""

    async def main():
        net = net_of()
        rates = Rates(6000, concurrency=256, unpaced=64)
        run = Run(net, Server(Bucket(always(100.0), 1.0)), rates, number=1, at_once=64)
        run.start()
        await asyncio.sleep(60)
        found = run.pacer.state.most_open, next(iter(net.limiter.accounts.values())).state.most_open
        await run.end()
        await net.kill()
        return found

    known, right = run(main)
    assert known == pytest.approx(right, rel=0.2)  # it was told a while ago, and latency wavers
    assert known > 10


def test_what_the_server_told_of_one_run_s_limits_holds_for_all():
    """Headers only ever tighten, whoever heard them, and a run that joins does not undo it."""
    made, [(one, _)] = account(Rates(600))
    made.want(one, Want(1, 1, 1), 0.0)
    made.turn(0.0)
    made.end(one, end_of(1, Response(VECTORS, 1, told=Told(requests_per_minute=300))), 0.1)
    assert made.state.request_rate == pytest.approx(AIM * 5)
    made.join(Worker(Rates(600), lambda _: None, 0.2), 0.2)
    assert made.state.request_rate == pytest.approx(AIM * 5)


@given(
    st.lists(st.integers(1, 2000), min_size=2, max_size=5),
    st.sampled_from(["requests", "tokens", "texts"]),
)
def test_whoever_waits_gets_as_much_of_what_binds(sizes, binds):
    """Runs whose requests differ in size get the same tokens, texts or requests, whichever bind."""
    rates = {
        "requests": Rates(600),
        "tokens": Rates(None, 60_000),
        "texts": Rates(None, None, 60_000),
    }[binds]
    made, workers = account(*[rates] * len(sizes))
    made.state = made.state._replace(most_open=INF)
    given_out = [0.0] * len(sizes)
    number, time = 0, 0.0
    for _ in range(300):
        for (worker, _), size in zip(workers, sizes, strict=True):
            if not worker.waiting:
                number += 1
                made.want(worker, Want(number, size, size), time)
        before = [len(worker.lease) for worker, _ in workers]
        time = min(made.turn(time), time + 1e6)
        for at, (worker, _) in enumerate(workers):
            cost = 1 if binds == "requests" else sizes[at]
            given_out[at] += cost * (len(worker.lease) - before[at])
    most = 1 if binds == "requests" else max(sizes)
    assert max(given_out) - min(given_out) <= 2 * most + 1e-6


def test_a_run_that_waited_for_nothing_has_saved_nothing_up():
    """Who was idle gets its turn, and not all that it might have had."""
    made, [(busy, heard), (idle, other)] = account(Rates(6000), Rates(6000))
    made.state = made.state._replace(most_open=INF)
    time = 0.0
    for number in range(1, 101):
        made.want(busy, Want(number, 1, 1), time)
        time = max(time, made.state.request_due)
        made.turn(time)
    heard.clear()
    for number in range(200, 220):
        made.want(busy, Want(number, 1, 1), time)
        made.want(idle, Want(number, 1, 1), time)
    for _ in range(20):
        time = made.turn(time)
    assert abs(len(starts(heard)) - len(starts(other))) <= 1


# -- leases ----------------------------------------------------------------------------------------


def test_what_a_run_held_comes_back():
    """Its open attempts count as lost, and make room for those of others."""
    made, [(gone, _), (stays, heard)] = account(Rates(), Rates())
    made.want(gone, Want(1, 1, 1), 0.0)
    made.want(stays, Want(1, 1, 1), 0.0)
    assert made.turn(0.0) == INF
    assert (made.state.open, starts(heard)) == (1, [])
    made.leave(gone, 1.0)
    made.turn(1.0)
    assert (made.state.open, starts(heard)) == (1, [1])


def test_a_start_that_is_not_wanted_any_more():
    """It is forgotten while it waits, and given back once it was granted."""
    made, [(worker, heard)] = account(Rates())
    made.want(worker, Want(1, 1, 1), 0.0)
    made.want(worker, Want(2, 1, 1), 0.0)
    made.turn(0.0)
    made.end(worker, End(2, "lost"), 0.1)
    made.end(worker, End(1, "lost"), 0.1)
    made.turn(0.1)
    assert (starts(heard), made.state.open, len(worker.waiting)) == ([1], 0, 0)


@pytest.mark.parametrize("kind", ["answered", "throttled", "unavailable", "lost"])
def test_the_end_of_a_start_that_nobody_has_changes_nothing(kind):
    """A run tells of an attempt that began before the limiter died."""
    made, [(worker, _)] = account(Rates(600))
    before = made.state
    made.end(worker, End(77, kind), 1.0)
    assert made.state == before


def test_a_429_is_told_to_all_at_once():
    """Not with the next beat: whoever looks at its status sees why nothing starts."""
    made, [(one, _), (_, heard)] = account(Rates(600), Rates(600))
    made.want(one, Want(1, 1, 1), 0.0)
    made.turn(0.0)
    heard.clear()
    made.end(one, end_of(1, Throttled("429 slow down", 3.0)), 0.5)
    made.turn(0.5)
    standing = heard[0].standing
    assert (standing.shut, standing.troubled, standing.reason) == (True, True, "429")
    assert standing.held == pytest.approx(3.0, abs=0.2)


def test_who_is_silent_is_let_go():
    """After the lease, and not before."""
    made, [(one, _)] = account(Rates())
    assert made.expired(LEASE) == []
    assert made.expired(LEASE + 0.1) == [one]


# -- messages --------------------------------------------------------------------------------------

numbers = st.integers(1, 2**53)
amounts = st.floats(0, 1e15)
maybe = st.none() | amounts
words = st.text(max_size=200)
outcomes = st.one_of(
    st.none(),
    st.builds(Throttled, st.text(max_size=1000), st.none() | st.floats(allow_nan=True)),
    st.builds(Unavailable, st.text(max_size=1000), st.none() | st.floats(allow_nan=True)),
    st.builds(
        Response,
        st.just(VECTORS),
        st.none() | st.integers(0, 2**53),
        told=st.none() | st.builds(Told, *[st.none() | st.floats(allow_nan=True)] * 6),
    ),
    st.just(Refused("no", 400)),
)


@given(numbers, outcomes)
def test_any_outcome_can_be_told(number, outcome):
    """Whatever a server said: a line within the bound, that is read as it was meant."""
    told = line(end_of(number, outcome))
    assert len(told) <= MOST_BYTES
    assert told.count(b"\n") == 1
    end = from_run(told)
    assert end == end_of(number, outcome)
    assert ":" not in end.reason
    found = outcome_of(end)
    kind = Response if isinstance(outcome, Refused) else type(outcome)
    assert isinstance(found, kind)


rates = st.none() | st.floats(LEAST, 1e15)


@given(st.builds(Shared, st.integers(1, 1000), rates, *[st.tuples(*[rates] * 3)] * 2, reason=words))
def test_any_standing_can_be_told(standing):
    """Within the bound too."""
    told = line(Stands(standing))
    assert len(told) <= MOST_BYTES
    assert from_limiter(told) == Stands(standing)


@pytest.mark.parametrize(
    "wrong",
    [
        {"workers": 0},
        {"rate": 0.0},
        {"rate": -1.0},
        {"found": 5e-324},
        {"most_open": 0.0},
        {"stated": (0.0, None, None)},
        {"told": (None, -1.0, None)},
        {"done": (-1.0, 0.0, 0.0)},
        {"held": -1.0},
        {"held": 1e300},
        {"failing": -1.0},
    ],
)
def test_a_limiter_is_not_followed_where_no_limit_can_stand(wrong):
    """A rate of nothing would be divided by; less than nothing, and starts would come at once."""
    told = line(Stands(Shared(**{"workers": 1} | wrong)))
    with pytest.raises(MessageError):
        from_limiter(told)


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("429", "429"),
        ("429 Too Many Requests [tenant_ACME_over]: slow down", "429"),
        ("503 Service Unavailable", "503"),
        ("no connection to `api.example.com`", "no answer"),
        ("4290 tenants", "no answer"),
        ("", "no answer"),
    ],
)
def test_of_a_reason_the_status_alone_is_told(told, kept):
    """Codes and hosts are for whoever sent the request."""
    assert end_of(1, Throttled(told, 1.0)).reason == kept
    assert end_of(1, Unavailable(told, 1.0)).reason == kept


@pytest.mark.parametrize("billed", [2**53 + 1, 2**80, -1])
def test_an_impossible_bill_is_bounded(billed):
    """It comes from a server, and must not end the run's part in the limit."""
    told = from_run(line(end_of(1, Response(VECTORS, billed))))
    assert told.tokens == (0 if billed < 0 else MOST_COUNT)


@pytest.mark.parametrize("least", [0.0, 5e-324, 1e-12])
def test_a_limit_of_nothing_that_a_server_told_is_none(least):
    """It would be divided by."""
    told = Told(requests_per_minute=least, tokens_per_minute=600.0, requests_left=0.0)
    heard = outcome_of(from_run(line(end_of(1, Response(VECTORS, 1, told=told)))))
    assert heard.told == Told(tokens_per_minute=600.0, requests_left=0.0)


@pytest.mark.parametrize(
    "message",
    [
        Hello(NAME, 600, None, 1e6, 256, 64, fixed=True, rate=2.5),
        Want(1, 2.5, 3),
        End(1, "throttled", None, 2.0, "429", (1.0, None, 2.0, None, 3.0, None)),
        Here(),
        Look(),
    ],
)
def test_what_a_run_says_is_read_as_it_was_said(message):
    """Each kind."""
    assert from_run(line(message)) == message


@pytest.mark.parametrize(
    "message",
    [Start(1, 2.0, probe=True, why="tokens"), No("too many"), Seen(NAME[:8], Shared(2), 7, 3)],
)
def test_what_a_limiter_says_is_read_as_it_was_said(message):
    """Each kind."""
    assert from_limiter(line(message)) == message


@pytest.mark.parametrize(
    "told",
    [
        b"",
        b"hello\n",
        b"[]\n",
        b"{}\n",
        b'{"say":"hello"}\n',
        b'{"say":"hello","name":"../etc","requests":1,"tokens":1,"texts":1}\n',
        b'{"say":"hello","name":"' + b"0" * 32 + b'","requests":-1,"tokens":1,"texts":1}\n',
        b'{"say":"hello","name":"' + b"0" * 32 + b'","requests":1e-99,"tokens":1,"texts":1}\n',
        b'{"say":"want","number":0,"tokens":1,"texts":1}\n',
        b'{"say":"want","number":1,"tokens":-1,"texts":1}\n',
        b'{"say":"want","number":1,"tokens":1e99,"texts":1}\n',
        b'{"say":"want","number":"1","tokens":1,"texts":1}\n',
        b'{"say":"want","number":1,"tokens":NaN,"texts":1}\n',
        b'{"say":"want","number":1,"tokens":1,"texts":1,"key":"sk-1"}\n',
        b'{"say":"end","number":1,"kind":"won"}\n',
        b'{"say":"end","number":1,"kind":"lost","told":[1,2]}\n',
        b'{"say":"end","number":1,"kind":"lost","reason":"' + b"x" * 201 + b'"}\n',
        b'{"say":"start","number":1,"cost":1}\n',
    ],
)
def test_what_is_no_message_is_refused(told):
    """Nothing is guessed from it."""
    with pytest.raises(MessageError):
        from_run(told)


# -- the loop that serves --------------------------------------------------------------------------


def conversation(*told, wait=0.5):
    """What a limiter answers to raw lines."""

    async def main():
        limiter = Limiter(Clock(), rng=random.Random(1))
        ours, theirs = wire(0.001)
        serving = asyncio.create_task(limiter.serve(theirs.reader, theirs))
        for one in told:
            ours.write(one)
        await asyncio.sleep(wait)
        workers = limiter.workers
        ours.close()
        await asyncio.sleep(1)
        answers = (await ours.reader.read()).splitlines(keepends=True)
        assert serving.done()
        assert limiter.workers == 0
        return [from_limiter(answer) for answer in answers], workers

    return run(main)


HELLO = line(hello(Rates(600)))


def test_a_run_is_greeted_with_how_the_limit_stands():
    """And has its start."""
    answers, workers = conversation(HELLO, line(Want(1, 5, 1)))
    standing = Shared(1, stated=(600, None, None), rate=AIM * 10, most_open=1)
    assert answers == [Stands(standing), Start(1, 5)]
    assert workers == 1


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ([line(Want(1, 1, 1))], "says hello first"),
        ([b"GET / HTTP/1.1\n"], "JSON"),
        ([b"x" * (MOST_BYTES * 2) + b"\n"], "limit"),
        (
            [line(Hello(NAME, None, None, None, version=2))],
            "version 1, and you 2: install the same",
        ),
        ([b'{"say":"greet","version":2,"who":"new"}\n'], "version 1, and you 2: install the same"),
        ([HELLO, b"nonsense\n"], "JSON"),
        ([HELLO, b"x" * (MOST_BYTES * 2) + b"\n"], "limit"),
        ([HELLO, *(line(Want(n, 1, 1)) for n in range(1, MOST_WAITING + 3))], "too many starts"),
        ([HELLO, line(Want(2, 1, 1)), line(Want(2, 1, 1))], "or one twice"),
        ([HELLO, line(Want(2, 1, 1)), line(Want(1, 1, 1))], "or one twice"),
    ],
)
def test_who_does_not_keep_to_the_form_is_let_go(told, says):
    """With a word why, and nothing is kept of it."""
    answers, workers = conversation(*told)
    assert isinstance(answers[-1], No)
    assert says in answers[-1].reason
    assert workers == 0


def test_who_says_nothing_is_let_go():
    """A connection without a word does not stay open for ever."""
    answers, workers = conversation(wait=LEASE + 1)
    assert (answers, workers) == ([], 0)


def test_a_look_shows_every_limit_and_takes_no_part():
    """What `batchembed limiter --status` shows."""

    async def main():
        net = net_of()
        one = Run(net, Server(Bucket(always(10.0), 1.0)), Rates(600), number=1)
        one.start()
        await asyncio.sleep(10)
        reader, writer = await net.connect()
        writer.write(line(Look()))
        seen = from_limiter(await reader.readline())
        assert await reader.readline() == b""
        await one.end()
        await net.kill()
        return seen

    seen = run(main)
    assert (seen.name, seen.standing.workers) == (NAME[:8], 1)
    assert 90 <= seen.started <= 100
    assert seen.open <= 12


# -- the run's side --------------------------------------------------------------------------------


def test_a_refused_run_says_so_and_does_not_try_again():
    """Another version, say."""

    async def main():
        net, said = net_of(), []
        told = Hello(NAME, None, None, None, version=99)
        link = Link(net.connect, told, clock=Clock(), rng=random.Random(1), say=said.append)
        await link.keep()
        await net.kill()
        return said, net.reached

    said, reached = run(main)
    assert len(said) == 1
    assert "does not take this run: it speaks version 1" in said[0]
    assert reached == 1


def flapping(seconds, last):
    """What a run does, and says, beside a limiter that says `last` and closes, again and again."""

    async def main():
        reached, said, starts = [], [], []

        async def connect():
            reached.append(now())
            ours, theirs = wire(0.0005)
            theirs.write(line(Stands(Shared(1, stated=(60.0, None, None), rate=1.0))))
            theirs.write(line(last))
            theirs.close()
            return ours.reader, ours

        link = Link(connect, HELLO_60, clock=Clock(), rng=random.Random(1), say=said.append)
        pacer = Pacer(Rates(60.0), Clock(), rng=random.Random(2), link=link)

        async def ask():
            while (permit := await pacer.permit(1)) is not None:
                starts.append(now())
                await asyncio.sleep(0.1)
                pacer.settle(permit, Response(VECTORS, 1))

        async with taking_part(link, pacer):
            asking = asyncio.create_task(ask())
            await asyncio.sleep(seconds)
            pacer.stop()
            await asking
        return reached, said, starts

    return run(main)


def test_a_limiter_that_comes_and_goes_is_asked_ever_more_rarely():
    """And the log is not full of it."""
    reached, said, _ = flapping(600.0, Here())
    assert len(reached) <= 25
    assert len(said) <= 2 * len(reached)


def test_a_run_that_was_refused_for_now_asks_again_after_a_minute():
    """Too many runs, say: later there may be room. It says so once."""
    reached, said, _ = flapping(600.0, No("too many runs take part already"))
    assert 9 <= len(reached) <= 21
    assert len([one for one in said if "does not take this run" in one]) <= len(reached)


def test_a_run_may_have_as_many_starts_waiting_as_requests_open():
    """`limits.concurrency` goes up to that."""
    assert MOST_WAITING >= MOST_AT_ONCE


def test_whoever_waits_is_let_go_when_the_run_stops():
    """By a signal, say: nobody waits for a start that would not be used."""

    async def main():
        net = net_of()
        one = Run(net, Server(Bucket(always(1.0), 1.0)), Rates(6), number=1, at_once=20)
        one.start()
        await asyncio.sleep(5)
        began = now()
        await one.end()
        took = now() - began
        await asyncio.sleep(0.01)  # the way to the limiter
        return took, net.limiter.workers

    took, workers = run(main)
    assert took < 2
    assert workers == 0


def test_a_start_that_comes_for_a_run_that_was_abandoned_goes_back():
    """Cancelled while it waited: the start is the next one's."""

    async def main():
        net = net_of()
        link = Link(net.connect, hello(), clock=Clock(), rng=random.Random(1), say=print)
        pacer = Pacer(Rates(), Clock(), rng=random.Random(1), link=link)
        link.hear = pacer.hear
        keeping = asyncio.create_task(link.keep())
        await link.joined()
        first = await pacer.permit(1)
        waiting = asyncio.create_task(pacer.permit(1))
        await asyncio.sleep(1)
        pacer.settle(first, Response(VECTORS, 1))
        waiting.cancel()
        await asyncio.sleep(1)
        opened = next(iter(net.limiter.accounts.values())).state.open
        given_then = await pacer.permit(1)
        keeping.cancel()
        await asyncio.gather(keeping, waiting, return_exceptions=True)
        await net.kill()
        return opened, given_then

    opened, given_then = run(main)
    assert opened == 0
    assert given_then.lease > 0


def test_patience_looks_at_all_that_share():
    """While others are answered, nothing has been failing; and all fail when all do."""

    async def main():
        net = net_of()
        down = Server(Bucket(always(10.0), 1.0), errors=lambda now: 1.0 if now > 20 else 0.0)
        runs = [Run(net, down, Rates(600), number=n) for n in range(2)]
        for one in runs:
            one.start()
        await asyncio.sleep(20)
        before = [one.pacer.failing_for() for one in runs]
        await asyncio.sleep(60)
        after = [one.pacer.failing_for() for one in runs]
        words = [one.pacer.standing().words for one in runs]
        for one in runs:
            await one.end()
        await net.kill()
        return before, after, words, runs

    before, after, said, runs = run(main)
    assert max(before) < 1
    assert min(after) > 50
    assert all(words.startswith("circuit open") and "503" in words for words in said)
    assert sum(one.count("failed", 30, 80) for one in runs) <= 12  # probes of both together


def test_nothing_that_is_said_holds_a_key_or_a_text(monkeypatch):
    """Every byte of a conversation, looked through."""
    told = []
    whole = messages.line
    monkeypatch.setattr(messages, "line", lambda message: told.append(whole(message)) or told[-1])

    async def main():
        net = net_of()
        one = Run(net, Server(Bucket(always(10.0), 1.0)), Rates(600), number=1)
        one.start()
        await asyncio.sleep(2)
        await one.end()
        await net.kill()

    run(main)
    assert len(told) > 20
    fields = {name for one in told for name in orjson.loads(one)}
    assert fields == {
        *("say", "name", "requests", "tokens", "texts", "rate", "version"),
        *("open", "unpaced", "fixed"),
        *("number", "kind", "wait", "reason", "told"),
        *("cost", "probe", "why", "standing"),
    }
