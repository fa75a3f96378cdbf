"""The hot loop in virtual time: what it sends, what it keeps, and how it ends."""

import asyncio
import errno
import random
import threading

import numpy as np
import pytest
from fakes.scripted import (
    KEYER,
    MemoryLedger,
    Scripted,
    Texts,
    loop_of,
    open_texts,
    request,
    right,
    wrong,
)
from fakes.time import NothingWillHappenError, now, run
from fakes.vectors import vectors

from batchembed.embed.crew import Crew
from batchembed.embed.loop import DRAIN_SECONDS, FOLDS_PROVEN
from batchembed.embed.settle import harmless
from batchembed.embed.upcoming import AHEAD, Upcoming
from batchembed.errors import (
    ActionNeededError,
    CorpusError,
    InterruptedRunError,
    NotFinishedError,
)
from batchembed.exchange import (
    Fatal,
    Malformed,
    Refused,
    Response,
    Throttled,
    TooLarge,
    Unavailable,
)
from batchembed.pacing import Rates
from batchembed.pacing.step import AIM

HARMLESS = harmless("symmetric").texts[0]


def texts(count):
    return [f"text {n}" for n in range(count)]


def story(script=None, *, count=50, per_request=4, delay=0.1, ledger=None, during=None, **rules):
    """Run the loop over `count` texts; gives (loop, provider, ledger) and when it ended."""
    ledger = ledger or MemoryLedger()

    async def main():
        provider = Scripted(script, delay=delay)
        made = loop_of(provider, ledger, **rules)
        feed = Texts(texts(count), per_request)
        doing = [asyncio.create_task(during(made, provider))] if during else []
        await made.run(feed)
        for task in doing:
            task.cancel()
        return made, provider, now()

    made, provider, ended = run(main)
    assert provider.flying == 0
    return made, provider, ledger, ended


def sent(provider):
    return [text for _, asked in provider.calls for text in asked.texts]


# -- a run without trouble -------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 4, 64])
@pytest.mark.parametrize("count", [0, 1, 7, 500])
def test_every_text_is_sent_once_and_kept_under_its_key(count, concurrency):
    """Whatever the number of workers; the listener hears of all."""
    made, provider, ledger, _ = story(count=count, concurrency=concurrency)
    assert made.ending is None
    assert sorted(sent(provider)) == sorted(texts(count))
    assert len(ledger.kept) == made.listener.texts == count
    assert wrong(ledger, texts(count)) == []
    assert ledger.twice == 0


def test_the_pilot_goes_alone_until_something_was_answered():
    """A wrong key costs one call and not one for every worker; each answer then allows one more."""
    _, provider, _, _ = story(count=80, concurrency=8, delay=1.0)
    starts = [when for when, _ in provider.calls]
    assert [sum(when == second for when in starts) for second in range(5)] == [1, 2, 4, 8, 5]


def test_concurrency_is_used_and_never_passed():
    """All workers fly, and no more."""
    most = []
    story(lambda _n, _asked: most.append(0), count=400, concurrency=7)

    async def main():
        provider = Scripted(lambda _n, _asked: most.append(provider.flying + 1))
        await loop_of(provider, concurrency=7).run(Texts(texts(100)))

    most.clear()
    run(main)
    assert max(most) == 7


@pytest.mark.parametrize(("most", "flown"), [(None, 4), (16, 16), (1000, 42)])
def test_more_work_where_the_pacer_lets_more_be_open(most, flown):
    """Twenty a second that take two seconds each are forty; the job's own bound is never passed."""
    at_once = []

    async def main():
        provider = Scripted(lambda _n, _asked: at_once.append(provider.flying + 1), delay=2.0)
        rates = Rates(60 * 20 / AIM, concurrency=most and 1000)
        made = loop_of(provider, rates=rates, concurrency=4, most_open=most)
        await made.run(Texts(texts(1500), per_request=1))
        assert len(made.crew) == 0
        assert len(made.ledger.kept) == 1500

    run(main)
    assert flown * 0.9 <= max(at_once) <= flown


def test_whoever_joined_later_is_let_go_too():
    """What was in flight at the end of patience lands, and is not waited for longer than that."""

    class Slower(Scripted):
        async def attempt(self, asked):
            self._delay = 2.0 if len(self.calls) < 400 else 3600.0
            return await super().attempt(asked)

    async def main():
        provider = Slower()
        made = loop_of(provider, rates=Rates(60 * 20), concurrency=2, most_open=64)
        feeding = asyncio.create_task(made.run(Texts(texts(1000), per_request=1)))
        await asyncio.sleep(30.0)
        assert len(made.crew) > 30
        made.drain(InterruptedRunError(15))
        await feeding
        return provider, now()

    provider, ended = run(main)
    assert ended < 40
    assert provider.flying == 0


def test_the_first_error_of_a_crew_ends_it_and_is_raised_itself():
    """Not as a group of errors; the others are cancelled."""
    seen = []

    async def fails():
        await asyncio.sleep(1.0)
        raise LookupError("one")

    async def waits():
        try:
            await asyncio.sleep(100.0)
        except asyncio.CancelledError:
            seen.append(now())
            raise

    async def main():
        crew = Crew()
        with pytest.raises(LookupError, match="one"):
            await crew.work([waits(), fails()])
        assert len(crew) == 0

    run(main)
    assert seen == [1.0]


# -- how a run ends before its time ----------------------------------------------------------------


def test_a_fatal_answer_stops_the_feed_and_lets_what_flies_land():
    """No text is at fault, nothing new is sent, and what was paid for is kept."""
    made, provider, ledger, ended = story(
        lambda n, _asked: Fatal("no money", hint="pay") if n == 20 else None,
        count=100_000,
        per_request=1,
        concurrency=8,
    )
    assert isinstance(made.ending, ActionNeededError)
    assert made.ending.message == "no money"
    assert len(provider.calls) <= 20 + 2 * 8
    assert len(ledger.kept) == provider.paid.total() == len(provider.calls) - 1
    assert ledger.rejects == {}
    assert ended < 1


def test_a_wrong_key_costs_one_call():
    """The pilot meets it; nobody else starts."""
    made, provider, _, _ = story(lambda _n, _asked: Fatal("401"), count=1000, concurrency=16)
    assert made.ending.exit_code == 4
    assert len(provider.calls) == 1


def test_with_a_feeder_that_does_not_say_the_end_the_run_would_hang(monkeypatch):
    """The control: workers that wait for requests which never come are found out."""

    monkeypatch.setattr(Upcoming, "_dismiss", lambda _: None)
    with pytest.raises(NothingWillHappenError):
        story(count=10)


def test_no_more_is_read_before_most_of_what_was_read_is_sent():
    """However large the corpus: what waits in memory is bounded."""
    waiting = []

    class Counted(Texts):
        def upcoming(self):
            for number, some in enumerate(super().upcoming()):
                waiting.append(100 * number - len(provider.calls))
                yield some

    provider = Scripted()

    async def main():
        feed = Counted(texts(1000), per_request=1)
        await loop_of(provider, concurrency=4).run(feed)

    run(main)
    assert len(waiting) == 1000 / 100 + 1
    assert max(waiting) <= AHEAD * 4 + 4


@pytest.mark.parametrize("answer", [Refused("no such model", 400), Refused("bad", 422)])
@pytest.mark.parametrize("per_request", [1, 64])
def test_a_job_that_the_provider_always_refuses_ends_within_three_calls(answer, per_request):
    """A harmless sentence is refused as well, so no text is at fault and none is rejected."""
    made, provider, ledger, _ = story(
        lambda _n, _asked: answer, count=1000, per_request=per_request, concurrency=16
    )
    assert isinstance(made.ending, ActionNeededError)
    assert answer.reason in made.ending.message
    assert len(provider.calls) <= 3
    assert provider.calls[-1][1].texts == (HARMLESS,)
    assert ledger.rejects == {}


def test_a_bad_text_at_the_very_beginning_is_found_all_the_same():
    """The harmless sentence passes, so the text is at fault; its neighbours are kept."""
    poison = "text 1"
    made, provider, ledger, _ = story(
        lambda _n, asked: Refused("bad", 400) if poison in asked.texts else None,
        count=64,
        per_request=16,
    )
    assert made.ending is None
    assert list(ledger.rejects) == [KEYER.key(poison, "symmetric")]
    assert len(ledger.kept) == 63
    assert sent(provider).count(HARMLESS) == 1
    assert provider.paid.most_common(1)[0][1] == 1


@pytest.mark.parametrize("trouble", [Throttled("slow", 5.0), Unavailable("down"), Malformed("odd")])
def test_trouble_while_asking_the_harmless_sentence_is_no_verdict_on_the_texts(trouble):
    """It is asked again, or it ends the run, but nothing is rejected for it."""
    made, _, ledger, _ = story(
        lambda n, _asked: [Refused("bad", 400), trouble, Refused("bad", 400)][n] if n < 3 else None,
        count=20,
    )
    assert ledger.rejects == {}
    assert made.ending is None or isinstance(trouble, Malformed)
    assert not open_texts(ledger, texts(20)) or made.ending


class Unsendable(Scripted):
    """Texts of the corpus cannot be sent, which is told at once, without waiting for anything."""

    async def attempt(self, asked):
        if HARMLESS in asked.texts:
            return await super().attempt(asked)
        self.calls.append((now(), asked))
        assert len(self.calls) < 5000, "it goes on for ever"
        return Refused("cannot be sent", sent=False)


def unsendable(script, **rules):
    ledger = MemoryLedger()

    async def main():
        made = loop_of(Unsendable(script), ledger, **rules)
        await made.run(Texts(texts(20), 4))
        return made

    return run(main), ledger


def test_what_cannot_be_sent_waits_for_a_server_that_is_down_and_patience_ends_it():
    """No text is at fault while nothing answers at all: no reject, and no loop without a pause."""
    made, ledger = unsendable(lambda _n, _asked: Unavailable("down"), patience=60.0)
    assert isinstance(made.ending, NotFinishedError)
    assert ledger.rejects == {}


def test_what_cannot_be_sent_is_rejected_once_the_server_answers():
    """A minute later the harmless sentence passes: then every text is named, and the run ends."""
    made, ledger = unsendable(
        lambda _n, _asked: Unavailable("down") if now() < 60.0 else None, patience=600.0
    )
    assert made.ending is None
    assert open_texts(ledger, texts(20)) == []
    assert {reject.message for reject in ledger.rejects.values()} == {"cannot be sent"}


@pytest.mark.parametrize(
    ("count", "per_request", "bad"), [(1, 1, 0), (64, 64, 3), (512, 64, 511), (512, 64, 5)]
)
def test_a_text_that_breaks_the_server_is_a_reject_within_two_minutes(count, per_request, bad):
    """Alone or among others, first or last; nobody else's attempts are spent, nor paid twice."""
    poison = f"text {bad}"
    made, provider, ledger, ended = story(
        lambda _n, asked: Unavailable("500") if poison in asked.texts else None,
        count=count,
        per_request=per_request,
    )
    assert made.ending is None
    assert list(ledger.rejects) == [KEYER.key(poison, "symmetric")]
    assert len(ledger.kept) == count - 1
    assert [text for text, n in provider.paid.items() if n > 1 and text != HARMLESS] == []
    assert ended < 120.0
    assert len(provider.calls) < 150


def test_an_outage_that_begins_while_a_text_is_in_doubt_spends_nothing():
    """Of the attempts of any text: all of them are answered when it is over, an hour later."""
    down = lambda _n, _asked: Unavailable("503") if 5.0 < now() < 3600.0 else None
    made, _, ledger, ended = story(down, count=3000, per_request=4, delay=0.1, patience=7200.0)
    assert made.ending is None
    assert ledger.rejects == {}
    assert ended < 3600.0 + 200.0


def test_a_server_that_fails_every_second_time_costs_no_row():
    """By chance, for each request anew, over thousands of them."""
    rng = random.Random(5)
    flaky = lambda _n, _asked: Unavailable("500") if rng.random() < 0.5 else None
    made, _, ledger, _ = story(flaky, count=3000, per_request=1, concurrency=16)
    assert made.ending is None
    assert ledger.rejects == {}


def stop_at(second, why):
    async def during(made, provider):
        await asyncio.sleep(second)
        made.drain(why)

    return during


def test_a_signal_lets_what_flies_land():
    """Nothing new starts, every answer in flight is kept, and the run ends at once after it."""
    made, provider, ledger, ended = story(
        count=10_000, delay=3.0, concurrency=8, during=stop_at(10.0, InterruptedRunError(15))
    )
    assert made.ending.exit_code == 143
    assert ended == pytest.approx(12.0)
    assert max(when for when, _ in provider.calls) < 10.0
    assert provider.paid.total() == len(ledger.kept) == 4 * len(provider.calls)


def test_what_does_not_land_in_time_is_let_go():
    """A server that hangs does not keep a run from ending within ten seconds."""
    made, provider, ledger, ended = story(
        lambda _n, _asked: None,
        count=10_000,
        delay=100.0,
        concurrency=8,
        during=stop_at(350.0, InterruptedRunError(2)),
    )
    assert made.ending.exit_code == 130
    assert ended == pytest.approx(350 + DRAIN_SECONDS)
    assert DRAIN_SECONDS < 10
    assert len(ledger.kept) == 4 * (1 + 2 + 4)
    assert len(provider.calls) == 1 + 2 + 4 + 8


def test_a_second_signal_lets_go_at_once():
    """Somebody is in a hurry."""

    async def during(made, provider):
        await asyncio.sleep(150.0)
        made.drain(InterruptedRunError(2))
        await asyncio.sleep(1.0)
        made.abandon()

    made, _, _, ended = story(count=10_000, delay=100.0, during=during)
    assert ended == pytest.approx(151.0)
    assert made.ending.exit_code == 130


def test_a_signal_wakes_those_who_wait_for_the_pacer():
    """An hour's hold is no reason to go on for an hour."""
    made, _, _, ended = story(
        lambda n, _asked: Throttled("slow", 3600.0) if n == 5 else None,
        count=1000,
        during=stop_at(10.0, InterruptedRunError(15)),
    )
    assert ended == pytest.approx(10.0)
    assert made.ending.exit_code == 143


def test_the_first_reason_to_stop_is_the_one_that_is_told():
    """A deadline during the drain of a signal changes nothing."""

    async def main():
        made = loop_of(Scripted())
        made.stop(InterruptedRunError(15))
        made.stop(NotFinishedError("deadline"))
        await made.run(Texts(texts(100)))
        return made.ending.exit_code, len(made.provider.calls)

    assert run(main) == (143, 0)


class Walk:
    """A feed of one request and then of a long walk over what is paid for already."""

    def __init__(self, step):
        self.walked, self.step = 0, step

    def upcoming(self):
        yield [request("text 0")]
        for _ in range(1000):
            self.walked += 1
            self.step()
            yield []


def test_a_stop_ends_the_walk_over_what_is_paid_for():
    """While answers land, nothing more of the corpus is read."""

    async def main():
        made = loop_of(Scripted(delay=5.0))
        walk = Walk(lambda: walk.walked == 7 and made.stop(InterruptedRunError(2)))
        await made.run(walk)
        return walk.walked, len(made.ledger.kept)

    assert run(main) == (7, 0)


@pytest.mark.parametrize("end", ["stop", "abandon"])
def test_a_stop_waits_for_no_more_than_one_batch_of_the_corpus(end):
    """Workers that wait for a request are woken, though the feeder is in the midst of a batch."""
    gate, reading, free = threading.Event(), threading.Event(), []

    def step():
        reading.set()
        free.append(gate.wait(20))

    async def main():
        made = loop_of(Scripted(delay=0.0))
        running = asyncio.create_task(made.run(Walk(step)))
        while not (reading.is_set() and made.answers):  # noqa: ASYNC110 - set by a thread
            await asyncio.sleep(0)
        made.stop(InterruptedRunError(2))
        if end == "abandon":
            made.abandon()
        await running
        gate.set()
        return len(made.ledger.kept)

    assert asyncio.run(main()) == 1
    assert free == [True]


def test_cancelling_the_run_from_outside_cancels_it():
    """A caller's own loop may give up; no task is left behind."""

    async def main():
        provider = Scripted(delay=100.0)
        running = asyncio.create_task(loop_of(provider).run(Texts(texts(1000))))
        await asyncio.sleep(150.0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return provider.flying, len(asyncio.all_tasks())

    assert run(main) == (0, 1)


# -- outages ---------------------------------------------------------------------------------------


def test_an_outage_is_waited_out_and_costs_no_text():
    """An hour of 503: few calls, no reject, then everything is kept."""

    def script(number, asked):
        return Unavailable("503") if 5.0 <= now() < 3605.0 else None

    made, provider, ledger, ended = story(script, count=800, per_request=1, concurrency=8)
    assert made.ending is None
    assert ledger.rejects == {}
    assert len(ledger.kept) == 800
    assert len(provider.calls) <= 800 + 130
    assert 3605 < ended < 3605 + 60 + 30


def test_an_outage_beyond_the_patience_ends_the_run():
    """Nothing is lost, and the same command goes on later."""
    made, provider, ledger, ended = story(
        lambda n, _asked: Unavailable("no route") if n > 10 else None, count=1000, patience=600.0
    )
    assert isinstance(made.ending, NotFinishedError)
    assert "no route" in made.ending.message
    assert 600 < ended < 600 + 62
    assert ledger.rejects == {}
    assert len(ledger.kept) == provider.paid.total()


def test_a_wait_beyond_the_patience_is_not_waited_for():
    """A server that says `come back tomorrow` is taken at its word."""
    made, _, _, ended = story(
        lambda n, _asked: Throttled("quota", 86_400.0) if n > 10 else None,
        count=1000,
        patience=3600.0,
    )
    assert isinstance(made.ending, NotFinishedError)
    assert "`86400` s" in made.ending.message
    assert ended < 10


def test_a_wait_within_the_patience_is_waited_for():
    """Five minutes are not an hour."""
    made, _, ledger, ended = story(
        lambda n, _asked: Throttled("quota", 300.0) if n == 10 else None,
        count=1000,
        patience=3600.0,
    )
    assert made.ending is None
    assert len(ledger.kept) == 1000
    assert 300 < ended < 340


def test_answers_in_between_end_the_row_of_failures():
    """A server that answers one request a minute is slow, not out."""
    last = [0.0]

    def script(number, asked):
        if now() - last[0] < 60:
            return Unavailable("busy")
        last[0] = now()
        return None

    made, _, ledger, ended = story(script, count=10, per_request=1, patience=200.0, concurrency=2)
    assert made.ending is None
    assert len(ledger.kept) + len(ledger.rejects) == 10
    assert ended > 600


def test_why_nothing_happens_is_told():
    """The listener hears the kind, the reason and how long nothing will start."""
    made, _, _, _ = story(lambda n, _asked: Throttled("slow down", 9.0) if n == 3 else None)
    ((kind, reason, wait),) = made.listener.failures
    assert (kind, reason) == ("throttled", "slow down")
    assert wait == pytest.approx(9.0, abs=0.2)


# -- rejects ---------------------------------------------------------------------------------------


def test_bad_texts_are_rejected_and_their_neighbours_paid_once():
    """Each with its reason; the listener hears of them."""
    poison = {f"text {n}" for n in (3, 77, 78, 150)}
    made, provider, ledger, _ = story(
        lambda _n, asked: Refused("bad", 400) if poison & set(asked.texts) else None,
        count=200,
        per_request=32,
        concurrency=8,
    )
    assert set(ledger.rejects) == {KEYER.key(text, "symmetric") for text in poison}
    assert len(ledger.kept) == 196
    assert len(made.listener.rejects) == made.rejects == 4
    assert {n for text, n in provider.paid.items() if text != HARMLESS} == {1}


@pytest.mark.parametrize("most", [0, 1, 5])
def test_more_rejects_than_the_job_allows_end_the_run(most):
    """The one too many is kept as well, so that the next run does not ask it again."""
    made, _, ledger, _ = story(
        lambda n, asked: Refused("bad", 400) if n > 10 and asked.texts != (HARMLESS,) else None,
        count=1000,
        per_request=1,
        concurrency=1,
        most_rejects=most,
    )
    assert isinstance(made.ending, ActionNeededError)
    assert f"`{most + 1}`" in made.ending.message
    assert "bad" in made.ending.message
    assert len(ledger.rejects) == most + 1


def test_as_many_rejects_as_the_job_allows_are_fine():
    """The bound itself may be reached."""
    poison = {"text 5", "text 6"}
    made, _, ledger, _ = story(
        lambda _n, asked: Refused("bad") if poison & set(asked.texts) else None, most_rejects=2
    )
    assert made.ending is None
    assert len(ledger.rejects) == 2


# -- the ledger and the feed fail ------------------------------------------------------------------


def test_a_full_disk_ends_the_run_and_nothing_more_is_sent():
    """What cannot be kept must not be paid for."""
    ledger = MemoryLedger(full=OSError(errno.ENOSPC, "No space left on device"), full_at=10)
    made, provider, _, _ = story(count=10_000, per_request=1, concurrency=8, ledger=ledger)
    assert isinstance(made.ending, NotFinishedError)
    assert "No space left" in made.ending.message
    assert len(ledger.kept) == 10
    assert len(provider.calls) <= 10 + 8


def test_an_error_of_the_feed_is_raised_after_what_was_read_has_landed():
    """A corpus that turns out damaged half-way is told, and loses nothing paid."""

    async def main():
        provider, ledger = Scripted(), MemoryLedger()
        made = loop_of(provider, ledger)
        with pytest.raises(CorpusError, match="torn"):
            await made.run(Texts(texts(250), error=CorpusError("torn")))
        return len(ledger.kept), provider.paid.total(), made.ending

    assert run(main) == (250, 250, None)


def test_a_feed_that_fails_at_once_ends_the_run():
    """Before the pilot had anything to send."""

    class Broken:
        def upcoming(self):
            raise CorpusError("gone")
            yield []

    async def main():
        provider = Scripted()
        with pytest.raises(CorpusError, match="gone"):
            await loop_of(provider).run(Broken())
        return len(provider.calls)

    assert run(main) == 0


def test_an_error_of_a_provider_is_raised_and_leaves_no_task():
    """A provider never raises; if one does, that is a bug to see."""

    async def main():
        provider = Scripted(lambda n, _asked: ZeroDivisionError("bug") if n == 9 else None)
        with pytest.raises(ZeroDivisionError, match="bug"):
            await loop_of(provider).run(Texts(texts(1000)))
        return provider.flying, len(asyncio.all_tasks())

    assert run(main) == (0, 1)


def test_a_request_that_is_too_large_teaches_the_feed():
    """Further requests keep to the cap; every text is kept once."""
    feeds = []

    async def main():
        provider = Scripted(lambda _n, asked: TooLarge("too many", 10) if len(asked) > 10 else None)
        ledger, feed = MemoryLedger(), Texts(texts(1000), 64)
        made = loop_of(provider, ledger)
        await made.run(feed)
        feeds.append(feed.packer.limits.texts_per_request)
        return provider, ledger

    provider, ledger = run(main)
    assert feeds == [10]
    assert len(ledger.kept) == 1000
    refused = sum(len(asked) > 10 for _, asked in provider.calls)
    assert refused <= 4 + 2 * 4  # those that were packed before the cap was known
    assert set(provider.paid.values()) == {1}


def test_one_long_text_does_not_take_batching_from_the_others():
    """It is halved down to and rejected; what follows is sent in whole requests."""
    long = "text 5"
    _, provider, ledger, _ = story(
        lambda _n, asked: TooLarge("too many tokens") if long in asked.texts else None,
        count=640,
        per_request=32,
    )
    assert [reject.reason for reject in ledger.rejects.values()] == ["too_long"]
    assert len(ledger.kept) == 639
    assert len(provider.calls) <= 20 + 2 * 5
    assert set(provider.paid.values()) == {1}


@pytest.mark.parametrize("by", ["texts", "size"])
def test_a_cap_that_was_not_named_is_learnt_when_both_halves_pass(by):
    """Then its size was the reason, and what is packed from now on keeps to what passed."""
    most = 20 if by == "texts" else 200  # bytes: some 25 texts

    def script(_n, asked):
        size = len(asked) if by == "texts" else sum(map(len, asked.texts))
        return TooLarge("too much", by=by) if size > most else None

    _, provider, ledger, _ = story(script, count=6400, per_request=64)
    assert len(ledger.kept) == 6400
    assert set(provider.paid.values()) == {1}
    refused = [n for n, (_, asked) in enumerate(provider.calls) if script(n, asked) is not None]
    assert len(refused) <= 3 * (4 + 2 * 4)
    assert refused[-1] < 100, "what was learnt holds for the rest of the run"


@pytest.mark.parametrize("late", [True, False])
def test_the_size_that_comes_in_time_is_learnt(late):
    """What is packed from now on keeps to it; where nothing was late, no size is to blame."""

    def script(_n, asked):
        return Unavailable("no answer", billed=True, late=late) if len(asked) > 20 else None

    made, provider, ledger, _ = story(script, count=6400, per_request=64, patience=None)
    assert len(ledger.kept) == 6400
    assert {n for text, n in provider.paid.items() if text != HARMLESS} == {1}
    assert ledger.rejects == {}
    failed = [n for n, (_, asked) in enumerate(provider.calls) if script(n, asked) is not None]
    assert (made.caps.texts == 16) == late
    if late:
        assert failed[-1] < 200, "what was learnt holds for the rest of the run"
        assert 8 < max(len(asked) for _, asked in provider.calls[200:]) <= 16
    else:
        assert len(failed) > 400, "control: each request finds it out anew"


def test_one_text_that_is_never_answered_in_time_teaches_no_size():
    """It is a reject in the end, and requests stay as large as they were."""

    def script(_n, asked):
        return Unavailable("no answer", late=True) if "text 700" in asked.texts else None

    made, _, ledger, _ = story(script, count=6400, per_request=64, patience=None)
    assert len(ledger.kept) == 6399
    assert len(ledger.rejects) == 1
    assert made.caps.told() == {}


@pytest.mark.parametrize("answer", [Refused("moved on", 400), Malformed("odd")])
@pytest.mark.parametrize(("per_request", "concurrency"), [(1, 1), (64, 1), (1, 16)])
def test_a_provider_that_comes_to_refuse_all_is_not_asked_text_by_text(
    answer, per_request, concurrency
):
    """After three calls a harmless sentence is tried; refused as well, it ends the run."""
    made, provider, ledger, _ = story(
        lambda n, _asked: answer if n >= 32 else None,
        count=6400,
        per_request=per_request,
        concurrency=concurrency,
    )
    assert isinstance(made.ending, ActionNeededError)
    assert answer.reason in made.ending.message
    assert len(provider.calls) <= 32 + 4 + 2 * concurrency
    assert sent(provider).count(HARMLESS) == 1
    # None of them is at fault; but what flew may still land after the first refusal.
    assert len(ledger.rejects) < concurrency


@pytest.mark.parametrize("where", [0, 1, 77, 128, 255])
def test_one_bad_text_of_256_costs_at_most_17_refused_calls(where):
    """2 log2 n + 1, wherever it stands, also in the very first request; its neighbours one each."""
    poison = f"text {where}"
    made, provider, ledger, _ = story(
        lambda _n, asked: Refused("bad", 400) if poison in asked.texts else None,
        count=256,
        per_request=256,
        concurrency=1,
    )
    assert made.ending is None
    refused = sum(poison in asked.texts for _, asked in provider.calls)
    assert refused <= 2 * 8 + 1
    assert len(provider.calls) <= 2 * 8 + 1 + sent(provider).count(HARMLESS)
    assert len(ledger.kept) == 255
    assert {n for text, n in provider.paid.items() if text != HARMLESS} == {1}


def folded_story(answer, count=400):
    """Run over pairs of texts that differ in case alone, against a server that answers so."""

    async def main():
        provider = Scripted(lambda _n, asked: Response(answer(asked), len(asked), "fake-1"))
        ledger = MemoryLedger()
        made = loop_of(provider, ledger)
        given = [f"{word} {n}" for n in range(count // 2) for word in ("Text", "text")]
        await made.run(Texts(given, 20))
        return made, provider, ledger, given

    return run(main)


def test_a_server_that_folds_case_is_found_out_and_then_believed():
    """Some texts are paid for twice, and not all; each has the vector that it has alone."""
    made, provider, ledger, given = folded_story(
        lambda asked: vectors([text.lower() for text in asked.texts])
    )
    assert made.ending is None
    assert open_texts(ledger, given) == []
    for text in given:
        kept = ledger.kept[KEYER.key(text, "symmetric")]
        assert np.array_equal(kept, vectors([text.lower()])[0])
    assert ledger.twice == 0
    assert sum(provider.paid.values()) <= len(given) + FOLDS_PROVEN + 4
    assert made.folds >= FOLDS_PROVEN


def test_a_server_that_mixes_up_such_texts_is_never_believed():
    """One of each pair would have the vector of the other."""

    def mixed(asked):
        found = vectors(asked.texts)
        if len(found) > 1:
            found[::2] = found[1::2]
        return found

    made, _, ledger, given = folded_story(mixed)
    assert made.folds == -1
    assert wrong(ledger, given) == []
    assert open_texts(ledger, given) == []


def test_the_pacer_holds_the_limit_through_the_loop():
    """Permits are asked for every attempt, also of halves."""
    _, provider, _, ended = story(count=300, per_request=1, delay=0.01, rates=Rates(60.0))
    starts = np.array([when for when, _ in provider.calls])
    assert (np.diff(starts) >= 1.0).all()
    assert 297 < ended < 310


@pytest.mark.parametrize("seed", range(6))
def test_any_mixture_of_trouble_ends_with_the_right_vectors(seed):
    """Random trouble at random moments: nothing wrong, nothing paid twice, nothing forgotten."""
    rng = random.Random(seed)
    poison = set(rng.sample(texts(300), 3))

    def script(number, asked):
        if poison & set(asked.texts):
            return Refused("bad", 400)
        draw = rng.random()
        if draw < 0.05:
            return Throttled("slow", rng.choice([None, 2.0]))
        if draw < 0.10:
            return Unavailable("down")
        if draw < 0.13 and len(asked) > 1:
            return Response(right(asked).vectors[:-1], 1)
        return TooLarge("large") if draw < 0.15 and len(asked) > 1 else None

    made, _, ledger, _ = story(script, count=300, per_request=16, concurrency=8)
    assert made.ending is None
    assert wrong(ledger, texts(300)) == []
    assert open_texts(ledger, texts(300)) == []
    assert set(ledger.rejects) == {KEYER.key(text, "symmetric") for text in poison}
    assert ledger.twice == 0


def test_a_request_of_the_suite_is_what_the_suite_says():
    """The control of the fakes: a vector under another key is reported."""
    ledger = MemoryLedger()
    asked = request("a", "b")
    ledger.append(asked.keys[::-1], right(asked).vectors, tokens=2, model_version="")
    assert sorted(wrong(ledger, ["a", "b"])) == ["a", "b"]
    assert open_texts(ledger, ["a", "c"]) == ["c"]
