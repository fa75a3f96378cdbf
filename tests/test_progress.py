"""Where a run stands, as bar, line, JSON and `status` tell it: the same truth in any width."""

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import struct
import termios
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest
from fakes.time import HandClock
from hypothesis import given
from hypothesis import strategies as st
from tqdm.utils import disp_len

from batchembed.errors import ActionNeededError
from batchembed.monitor import Bar, Monitor, Progress, Standing, Summary, telling
from batchembed.monitor.progress import RECENT_SECONDS, Used

DOCS = Path(__file__).parent.parent / "docs" / "operations.md"
OPEN = Standing(
    "circuit_open",
    "circuit open, next probe in 12 s: 503 Service Unavailable: overloaded",
    "503 Service Unavailable: overloaded",
    12.0,
)
BUSY = Progress(
    phase="embedding",
    unit="texts",
    done=4210,
    total=10_000,
    per_second=163.2,
    seconds_left=35.5,
    used=Used("requests_per_minute", 600.0, 0.981),
    summary=Summary(cost=0.0123, currency="EUR"),
)


def waiting(progress=BUSY, standing=OPEN):
    values = {one.name: getattr(progress, one.name) for one in fields(progress)}
    return Progress(**values | {"standing": standing, "per_second": 0.0, "seconds_left": None})


class Terminal(io.StringIO):
    """A stream that people sit in front of."""

    encoding = "utf-8"

    def isatty(self):
        return True


def drawn(progress, columns, monkeypatch):
    """What a terminal of so many columns shows in its last line."""
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = Terminal()
    bar = Bar(stream)
    bar.show(progress)
    shown = stream.getvalue()
    bar.close()
    return re.sub(r"\x1b\[\w*m", "", shown.rpartition("\r")[2]).rstrip()


def test_at_120_columns_all_is_told(monkeypatch):
    """Rows, rate, use of the limit, cost so far and what is left, beside a bar."""
    found = drawn(BUSY, 120, monkeypatch)
    words = "4,210/10,000 texts  163/s  98 % of 600 requests/min  0.0123 EUR  36 s left"
    assert found.endswith(words)
    assert re.match(r"embedding  42 % [█▏▎▍▌▋▊▉]+ ", found)


def test_at_80_columns_the_same_is_told_more_briefly(monkeypatch):
    """Nothing of it is left out."""
    found = drawn(BUSY, 80, monkeypatch)
    assert found.endswith("4,210/10,000  163/s  98% of limit  0.0123 EUR  36 s left")
    assert "█" in found


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (120, "4,210/10,000 texts  0.0123 EUR  circuit open, next probe in 12 s: 503 Service "),
        (80, "4,210/10k  circuit open, next probe in 12 s: 503 Servic"),
    ],
)
def test_why_it_waits_takes_the_place_of_the_rate(columns, words, monkeypatch):
    """The reason comes first, then rows and cost: what is cut is the end of the reason."""
    found = drawn(waiting(), columns, monkeypatch)
    assert words in found
    assert "/s" not in found


@given(
    counts=st.tuples(st.integers(0, 10**10), st.integers(0, 10**10)),
    rate=st.floats(0, 1e6),
    cost=st.none() | st.floats(0, 1e6),
    reason=st.text(st.characters(codec="ascii", min_codepoint=32), max_size=300),
    columns=st.integers(20, 250),
)
def test_it_never_takes_more_than_the_line(counts, rate, cost, reason, columns):
    """A line that is one letter too long makes a terminal scroll with every look."""
    done, more = counts
    standing = Standing("throttled", f"over the limit: {reason}", reason) if reason else Standing()
    progress = Progress(
        phase="embedding", done=done, total=done + more, per_second=rate, standing=standing,
        seconds_left=more / rate if rate > 1 else None, summary=Summary(cost=cost, currency="USD"),
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert disp_len(drawn(progress, columns, monkeypatch)) <= columns


def test_a_phase_without_a_total_has_no_bar(monkeypatch):
    """What is counted is told all the same."""
    progress = Progress(phase="reading", done=12_345, per_second=2300.0)
    assert drawn(progress, 80, monkeypatch) == "reading  12,345 rows  2,300/s"


def test_a_wait_is_yellow_unless_no_colour_is_wanted(monkeypatch):
    """NO_COLOR holds for the bar as well."""
    monkeypatch.setenv("COLUMNS", "80")
    for wish, coloured in ((None, True), ("1", False)):
        monkeypatch.delenv("NO_COLOR", raising=False)
        if wish is not None:
            monkeypatch.setenv("NO_COLOR", wish)
        stream = Terminal()
        bar = Bar(stream)
        bar.show(waiting())
        assert ("\x1b[33m" in stream.getvalue()) == coloured
        bar.close()


def test_words_stand_above_a_bar_that_goes_on(monkeypatch):
    """A warning in the middle does not end the bar."""
    monkeypatch.setenv("COLUMNS", "80")
    stream = Terminal()
    bar = Bar(stream)
    bar.show(BUSY)
    bar.say("warning: a word")
    after = stream.getvalue().partition("warning: a word\n")[2]
    assert "4,210/10,000" in after
    bar.close()


def test_all_bars_of_a_run_are_one():
    """Phases follow each other in the same line."""
    stream = Terminal()
    monitor = Monitor("bar", stream=stream, clock=HandClock())
    monitor.phase("reading", 10)
    first = monitor.voice._bar._bar
    monitor.phase("embedding", 10, "texts")
    assert monitor.voice._bar._bar is first
    monitor.close("complete", 0)


def test_a_bar_as_wide_as_the_terminal_of_its_stream():
    """Also where stdout is a file: the width is that of stderr's terminal."""
    master, slave = pty.openpty()
    with os.fdopen(slave, "w", encoding="utf-8") as stream:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
        bar = Bar(stream)
        bar.show(BUSY)
        bar.close()
    shown = b""
    with contextlib.suppress(OSError):  # the end, once all was read
        while some := os.read(master, 4096):
            shown += some
    os.close(master)
    assert "98 % of 600 requests/min" in shown.decode()


def test_the_line_of_a_log():
    """All at once, why it waits at the end."""
    assert telling.line(BUSY) == (
        "embedding 4,210/10,000 texts (42 %), 163/s, 36 s left, 98 % of 600 requests/min, "
        "0.0123 EUR paid"
    )
    told = telling.line(waiting())
    assert told.endswith("0.0123 EUR paid; " + OPEN.words)
    assert "left" not in told


def test_a_rate_is_of_the_last_half_minute():
    """Not of the whole night; and a hold is no part of it."""
    clock = HandClock()
    monitor = Monitor("quiet", clock=clock)
    held = [Standing()]
    monitor.standings = (lambda: held[0],)
    monitor.phase("embedding", 100_000, "texts")
    for _ in range(100):
        clock.seconds += 1
        monitor.answered(10, 30)
    assert monitor.progress().per_second == 10.0
    for _ in range(int(RECENT_SECONDS) + 1):
        clock.seconds += 1
        monitor.answered(50, 30)
    assert monitor.progress().per_second == 50.0
    held[0] = OPEN
    for _ in range(60):
        clock.seconds += 1
        monitor.tick()
    assert not monitor.progress().per_second
    held[0] = Standing()
    for _ in range(4):
        clock.seconds += 1
        monitor.answered(50, 30)
    assert monitor.progress().per_second == 50.0


def test_the_limit_that_binds_is_told():
    """Of requests, tokens and texts the one that is used most."""
    clock = HandClock()
    monitor = Monitor("quiet", clock=clock)
    uses = {
        "requests_per_minute": {"limit": 600.0, "told_by": "job", "used": 0.1},
        "tokens_per_minute": {"limit": 10_000.0, "told_by": "server", "used": 0.1},
    }
    figures = SimpleNamespace(told=lambda: {"limits": uses})
    monitor.pacing = SimpleNamespace(waits={}, figures=lambda: figures)
    monitor.phase("embedding", 1000, "texts")
    for _ in range(20):
        clock.seconds += 1
        monitor.answered(1, 150)
    used = monitor.progress().used
    assert (used.name, used.limit) == ("tokens_per_minute", 10_000.0)
    assert used.share == pytest.approx(0.9)


def test_the_first_seconds_say_nothing_of_a_limit_of_a_minute():
    """Three requests in a tenth of a second are no 1,800 a minute."""
    clock = HandClock()
    monitor = Monitor("quiet", clock=clock)
    uses = {"limits": {"requests_per_minute": {"limit": 600.0, "told_by": "job", "used": 0.1}}}
    figures = SimpleNamespace(told=lambda: uses)
    monitor.pacing = SimpleNamespace(waits={}, figures=lambda: figures)
    monitor.phase("embedding", 1000, "texts")
    clock.seconds += 0.1
    monitor.answered(3, 3)
    assert monitor.progress().used is None


def test_what_is_kept_can_be_read_again():
    """`status --watch` shows from the file what the run itself shows."""
    for progress in (BUSY, waiting(), Progress()):
        assert Progress.read(orjson.loads(orjson.dumps(progress.told()))) == progress


def test_what_another_version_kept_is_read_as_far_as_it_is_known():
    """Nothing of it, or more than is known."""
    assert Progress.read({}) == Progress()
    assert Progress.read({"phase": "x", "colour": 1, "standing": None}).phase == "x"


def keys_in_the_docs():
    table = re.search(r"(?ms)^\| key \|.*?\n\n", DOCS.read_text("utf-8"))[0]
    cells = re.findall(r"(?m)^\| (`.+?) \|", table)
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


def json_events(monitor):
    return [json.loads(line) for line in monitor.stream.getvalue().splitlines()]


def test_json_lines_have_all_the_keys_that_are_told_and_no_others():
    """Each event one line, each with every key, so that a log can be made a table."""
    clock, stream = HandClock(), io.StringIO()
    monitor = Monitor("json", stream=stream, clock=clock)
    monitor.phase("embedding", 100, "texts")
    monitor.say("warning: one\ntwo")
    for _ in range(31):
        clock.seconds += 1
        monitor.answered(1, 3)
    monitor.close("complete", 3)
    monitor.voice.error(ActionNeededError("no money", hint="pay"), monitor.progress())
    found = json_events(monitor)
    assert [one["event"] for one in found] == ["phase", "note", "progress", "end", "error"]
    assert all(list(one) == keys_in_the_docs() for one in found)
    phase, note, progress, end, error = found
    assert (note["level"], note["message"]) == ("warning", "warning: one\ntwo")
    assert (progress["done"], progress["total"], progress["tokens"]) == (30, 100, 90)
    assert (end["message"], end["exit_code"]) == ("complete", 3)
    assert (error["level"], error["hint"], error["exit_code"]) == ("error", "pay", 4)
    assert phase["exit_code"] is None


def test_json_tells_why_it_waits():
    """As kind, reason and seconds, for alerts."""
    told = json.loads(telling.json_line("progress", "", waiting()))
    assert told["waiting"] == "circuit_open"
    assert told["waiting_reason"] == OPEN.reason
    assert told["waiting_seconds"] == 12.0


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0"), (999, "999"), (9_999, "9,999"), (12_345, "12.3k"), (1_234_567, "1.23M")],
)
def test_numbers_in_few_letters(number, words):
    """For lines that are narrow."""
    assert telling.brief(number) == words


@pytest.mark.parametrize(
    ("per_second", "words"), [(0.25, "15.0/min"), (1.26, "1.3/s"), (163.2, "163/s"), (0, "0/s")]
)
def test_rates(per_second, words):
    """What is slow is told by the minute."""
    assert telling.rate(per_second) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(35.5, "36 s"), (119, "119 s"), (600, "10 min"), (5100, "1 h 25 min"), (200_000, "2 d 7 h")],
)
def test_spans(seconds, words):
    """As people say them."""
    assert telling.span(seconds) == words


def test_not_quite_all_is_not_100_percent():
    """Rounded down."""
    assert telling.percent(Progress(done=9999, total=10_000)) == "99 %"
    assert telling.percent(Progress(done=10_000, total=10_000)) == "100 %"
