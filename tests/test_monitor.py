"""What a run says: no more often than a person or a log can bear, and why it waits."""

import io
import itertools
from types import SimpleNamespace

import orjson
import pytest
from fakes.time import HandClock

from batchembed.exchange import Reject
from batchembed.monitor import LINE_SECONDS, PROGRESS_SECONDS, Monitor, telling


class Terminal(io.StringIO):
    """A stream that people sit in front of."""

    def isatty(self):
        return True


class Gone(io.StringIO):
    """A stream that nobody reads any more."""

    def write(self, words):
        raise BrokenPipeError(32, "Broken pipe")


def monitor(mode="lines", stream=None, keep=None):
    clock = HandClock(1000.0)
    return Monitor(mode, stream=stream or io.StringIO(), clock=clock, keep=keep), clock


def embed(made, clock, seconds, *, per_second=1, texts=10):
    """Answer some requests a second."""
    for _ in range(seconds * per_second):
        clock.seconds += 1 / per_second
        made.answered(texts, texts * 3)


def test_auto_is_a_bar_for_people_and_lines_for_logs():
    """Decided by the stream."""
    assert monitor("auto", Terminal())[0].voice.mode == "bar"
    assert monitor("auto", io.StringIO())[0].voice.mode == "lines"
    assert monitor("quiet", Terminal())[0].voice.mode == "quiet"


def test_lines_come_every_thirty_seconds():
    """However many answers there are: a night's log stays readable."""
    made, clock = monitor()
    made.summary.to_send = 100_000
    made.phase("embedding", 100_000, "texts")
    embed(made, clock, 3600, per_second=4)
    lines = made.stream.getvalue().splitlines()
    assert len(lines) == 3600 / LINE_SECONDS == 120
    assert lines[0] == "embedding 1,200/100,000 texts (1 %), 40/s, 41 min left"


def test_time_passes_without_answers_too():
    """A heartbeat is enough for a line."""
    made, clock = monitor()
    made.summary.to_send = 10
    made.phase("embedding", 10)
    for _ in range(61):
        clock.seconds += 1
        made.tick()
    assert made.stream.getvalue().splitlines() == ["embedding 0/10 rows (0 %), no rate yet"] * 2


def test_quiet_says_nothing():
    """Neither lines nor a bar nor words."""
    made, clock = monitor("quiet")
    made.phase("embedding", 10)
    embed(made, clock, 100)
    made.say("warning")
    made.close("complete", 0)
    assert made.stream.getvalue() == ""


def test_a_bar_names_the_phase_and_goes_when_it_is_over():
    """And leaves room for words in between."""
    made, clock = monitor("bar", Terminal())
    made.phase("reading", 100)
    made.advance(50)
    made.phase("embedding", 40, "texts")
    embed(made, clock, 2)
    made.say("warning: a word")
    made.advance(5)
    made.phase("comparing", None, "blocks")
    made.reach(3, 7)
    clock.seconds += 1
    made.reach(4, 7)
    made.close("complete", 0)
    shown = made.stream.getvalue()
    for words in ("reading", "embedding", "texts", "comparing", "blocks", "\nwarning: a word\n"):
        assert words.strip("\n") in shown
    assert made.voice._bar._bar is None
    assert shown.endswith("\r")  # the last bar was wiped


def test_lines_are_no_bar():
    """Logs get no carriage returns."""
    made, clock = monitor("lines")
    made.phase("embedding", 100)
    embed(made, clock, 100)
    assert "\r" not in made.stream.getvalue()


@pytest.mark.parametrize("mode", ["lines", "bar", "quiet"])
def test_why_it_waits_is_said(mode):
    """In the line, on the bar, and in the progress that others read; until it goes on."""
    kept = []
    made, clock = monitor(mode, Terminal(), keep=kept.append)
    made.summary.to_send = 100
    made.phase("embedding", 100)
    clock.seconds += LINE_SECONDS
    made.failed("throttled", "429: slow down", 42.4)
    assert telling.line(made.progress()).endswith(", 1 throttled; waiting 42 s: 429: slow down")
    assert kept[-1]["waiting"] == "waiting 42 s: 429: slow down"
    if mode != "quiet":
        assert "waiting 42 s: 429: slow down" in made.stream.getvalue()
    embed(made, clock, 1)
    assert "waiting" not in telling.line(made.progress())
    assert kept[-1]["waiting"] == ""
    assert "1 throttled" in telling.line(made.progress())


def test_a_short_wait_is_not_worth_a_word():
    """Counted, not told."""
    made, _ = monitor()
    made.failed("unavailable", "down", 0.4)
    made.failed("unavailable", "down", 0.4)
    assert telling.line(made.progress()) == "starting, 2 unavailable"


def test_progress_is_kept_once_a_second():
    """Whatever happens in it; every phase and the end at once."""
    kept = []
    made, clock = monitor("quiet", keep=kept.append)
    made.summary.to_send = 1000
    made.phase("embedding", 1000)
    assert [told["phase"] for told in kept] == ["embedding"]
    embed(made, clock, 10, per_second=16)
    assert len(kept) == 1 + 10 / PROGRESS_SECONDS
    made.phase("publishing", 10)
    made.close("complete", 3)
    assert [told["state"] for told in kept[-2:]] == ["started", "complete"]
    assert kept[-1]["exit_code"] == 3
    for one, after in itertools.pairwise(kept):
        assert one["sent"] <= after["sent"]
    assert kept[5]["at"] == "2026-01-01T00:16:45+00:00"
    assert orjson.loads(orjson.dumps(kept[-1])) == kept[-1]


def test_the_price_is_worked_out_when_it_is_told_not_for_every_answer():
    """Each line and each progress has the cost of that moment, and so has the summary."""
    clock, kept, asked = HandClock(), [], []

    def paid():
        asked.append(made.summary.tokens)
        return SimpleNamespace(amount=made.summary.tokens / 8, currency="EUR")

    made = Monitor("quiet", clock=clock, keep=kept.append)
    made.paid = paid
    made.phase("embedding", 2000, "texts")
    for _ in range(2000):
        clock.seconds += 0.005
        made.answered(1, 4)
    assert len(asked) <= 30
    assert all(told["cost"] == told["tokens"] / 8 for told in kept)
    assert kept[-1]["cost"] > kept[1]["cost"]
    assert made.close("done", 0).cost == 1000.0


def test_the_summary_counts_what_was_told():
    """Texts, requests, tokens, failures and rejects by their reasons, seconds."""
    made, clock = monitor("quiet")
    made.summary.reasons = {"null_text": 2}
    embed(made, clock, 5)
    made.failed("refused", "no", 0.0)
    made.rejected([Reject(b"k" * 16, "refused"), Reject(b"l" * 16, "too_long")])
    made.rejected([Reject(b"m" * 16, "refused")])
    clock.seconds += 5
    found = made.close("complete", 0)
    assert (found.sent, found.requests, found.tokens) == (50, 5, 150)
    assert found.reasons == {"null_text": 2, "refused": 2, "too_long": 1}
    assert found.failures == {"refused": 1}
    assert found.seconds == 10.0
    assert (found.state, found.exit_code) == ("complete", 0)
    assert found.to_dict()["sent"] == 50


def test_a_run_goes_on_when_nobody_reads_what_it_says():
    """A closed pipe is no reason to lose what is in flight."""
    made, clock = monitor("lines", Gone())
    made.phase("embedding", 10)
    clock.seconds += 100
    made.answered(1, 1)
    made.failed("throttled", "slow", 9.0)
    made.say("warning")
    assert made.close("complete", 0).sent == 1


def test_a_stream_that_fails_does_fail():
    """The control: the stream of the test above does raise."""
    with pytest.raises(BrokenPipeError):
        print("x", file=Gone())
