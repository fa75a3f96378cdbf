"""What a run remembers of itself: bounded in size, added up rightly, there after a restart."""

import orjson
import pytest
from fakes import faults, runs
from fakes.runs import texts
from fakes.time import HandClock
from hypothesis import given, settings
from hypothesis import strategies as st

from batchembed import history
from batchembed.history import Execution, History, Point, Wait, from_json, overlaid, to_json
from batchembed.monitor import Monitor

SUMS = ("texts", "tokens", "requests", "attempts")


def written(kept):
    """The executions of the bytes that were kept last."""
    return from_json(kept[-1])


def totals(execution):
    return {name: sum(getattr(p, name) for p in execution.points) for name in SUMS}


def lived(seconds, *, per_second=2, every=1.0):
    """A history of an execution of so many seconds, and what it kept."""
    kept = []
    made, now = History(keep=kept.append), 0.0
    made.begin(now, "2026-01-01T00:00:00+00:00", 10)
    while now < seconds:
        now += every
        for _ in range(per_second):
            made.answered(3, 30)
            made.attempted(0.25)
        made.tick(now)
    made.end(now)
    return made, kept


def test_points_are_a_second_long_and_add_up():
    """What was told in a second is one point."""
    _, kept = lived(10)
    [one] = written(kept)
    assert [p.at for p in one.points[:10]] == [float(n) for n in range(10)]
    assert one.points[0] == Point(0.0, 1.0, 6, 60, 2, 2, 0.5, 0.25)
    assert totals(one) == {"texts": 60, "tokens": 600, "requests": 20, "attempts": 20}


@pytest.mark.parametrize("seconds", [599, 600, 601, 5_000, 10_000])
def test_a_long_run_is_thinned_out_and_loses_nothing(seconds):
    """The file stays small, the points join without a gap, and their sums are the run's."""
    _, kept = lived(seconds, per_second=1)
    [one] = written(kept)
    assert len(one.points) <= history.MOST_POINTS
    assert len(one.points) > history.MOST_POINTS / 2 - 2
    assert totals(one)["texts"] == 3 * seconds
    ends = [p.at + p.seconds for p in one.points]
    assert ends[:-1] == [p.at for p in one.points[1:]]
    assert ends[-1] == seconds
    assert len(kept[-1]) < 60_000


def test_it_is_written_every_five_seconds_not_with_every_answer():
    """A thousand answers a second cost no more writes than one."""
    few, many = lived(100, per_second=1)[1], lived(100, per_second=1000)[1]
    assert len(few) == len(many) == 100 / history.KEEP_SECONDS + 1


def test_a_restart_goes_on_and_keeps_what_was():
    """A later execution is added; nothing is written until something is sent."""
    _, kept = lived(20)
    later = History(written(kept), keep=kept.append)
    before = len(kept)
    later.tick(3.0)
    later.end(4.0)
    assert len(kept) == before
    later.begin(5.0, "2026-01-02T00:00:00+00:00", 7)
    later.answered(1, 1)
    later.end(6.0)
    first, second = written(kept)
    assert first == written(kept[:before])[0]
    assert (second.began, second.to_send, second.points[0].texts) == (
        "2026-01-02T00:00:00+00:00",
        7,
        1,
    )


def test_many_executions_stay_small():
    """A run that is started again every minute for a week: the latest are kept, and thinned."""
    kept = []
    for number in range(history.MOST_EXECUTIONS + 10):
        made = History(from_json(kept[-1]) if kept else (), keep=kept.append)
        made.begin(0.0, f"execution {number}", 1)
        for second in range(1, 400):
            made.answered(1, 1)
            if second % 20 == 0:
                made.tick(float(second))
        made.end(400.0)
    found = written(kept)
    assert len(found) == history.MOST_EXECUTIONS
    assert found[-1].began == f"execution {history.MOST_EXECUTIONS + 9}"
    assert sum(len(one.points) for one in found) <= 2 * history.MOST_POINTS
    assert all(totals(one)["texts"] == 399 for one in found)
    assert len(kept[-1]) < 120_000


def test_waits_that_overlap_are_one():
    """A hold that is made longer is one wait, with the first reason; the rest stay apart."""
    one = Execution("", 1)
    for at, seconds in ((1.0, 2.0), (2.0, 4.0), (2.5, 0.1), (9.0, 1.0)):
        one.wait(Wait(at, seconds, "throttled", f"at {at}"))
    assert one.waits == [
        Wait(1.0, 5.0, "throttled", "at 1.0"),
        Wait(9.0, 1.0, "throttled", "at 9.0"),
    ]


@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(0.01, 60)), max_size=400))
@settings(max_examples=50)
def test_waits_are_bounded_and_never_overlap(given_waits):
    """Whatever comes, in order of time."""
    one = Execution("", 1)
    for at, seconds in sorted(given_waits):
        one.wait(Wait(at, seconds, "throttled", ""))
    assert len(one.waits) <= history.MOST_WAITS
    for first, second in zip(one.waits, one.waits[1:], strict=False):
        assert first.at + first.seconds <= second.at + 0.002


def test_of_too_many_waits_the_shortest_go():
    """The long ones are what one looks for."""
    one = Execution("", 1)
    for number in range(1000):
        one.wait(Wait(number * 10.0, 9.0 if number % 10 == 0 else 0.5, "throttled", ""))
    assert len(one.waits) == history.MOST_WAITS
    assert sum(wait.seconds == 9.0 for wait in one.waits) == 100


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b'{"columns":{}}', to_json([Execution("", 1)])[:-9]]
)
def test_a_history_that_cannot_be_read_is_none(raw):
    """It is only looked at: no reason for a run to fail."""
    assert from_json(raw) == []


def test_a_column_of_a_newer_version_is_passed_over():
    """New columns may come."""
    told = orjson.loads(to_json([Execution("then", 1, [Point(0.0, 1.0, 2)])]))
    told["columns"]["points"].append("mood")
    told["executions"][0]["points"][0].append("good")
    assert from_json(orjson.dumps(told)) == [Execution("then", 1, [Point(0.0, 1.0, 2)])]


def test_the_monitor_tells_it_what_happens():
    """Answers, failures with their holds, and the end of the embedding."""
    clock, kept = HandClock(100.0), []
    made = Monitor("quiet", clock=clock)
    made.history.keep = kept.append
    made.history.limits = lambda: (600.0, None)
    made.phase("reading")
    assert not kept
    made.summary.to_send = 50
    made.phase("embedding", 50)
    clock.seconds += 1
    made.answered(5, 50)
    made.failed("throttled", "slow down", 3.0)
    made.failed("refused", "no", 0.0)
    clock.seconds += 4
    made.phase("publishing")
    clock.seconds += 100
    made.close("complete", 0)
    [one] = written(kept)
    assert (one.to_send, totals(one)["texts"]) == (50, 5)
    assert one.points[-1].requests_per_minute == 600.0
    assert one.points[-1].at + one.points[-1].seconds == 5.0
    assert one.waits == [Wait(1.0, 3.0, "throttled", "slow down")]


def test_a_run_leaves_its_history(place, server):
    """Every text and every attempt is in it, throttled ones too; the second run changes nothing."""
    server.script = lambda seen: faults.throttled(0.2) if seen.number == 2 else None
    job = place(texts(60), server=server, limits__texts_per_request=10, limits__concurrency=2)
    job.run()
    file = job.out / "checkpoint" / "history.json"
    [one] = from_json(file.read_bytes())
    assert one.to_send == totals(one)["texts"] == 60
    assert totals(one)["attempts"] == server.bill.requests
    assert totals(one)["tokens"] == runs.manifest(job.out)["bill"]["tokens"]
    assert [(w.kind, w.seconds > 0.1) for w in one.waits] == [("throttled", True)]
    before = file.read_bytes()
    job.run()
    assert file.read_bytes() == before


# -- shards ----------------------------------------------------------------------------------------


def at_once(began, seconds, *, limit=100.0, step=1.0, waits=()):
    """An execution that began so many seconds after noon."""
    points = [
        Point(n * step, step, 2, 20, 1, 1, 0.1, 0.1 + n, limit, None)
        for n in range(round(seconds / step))
    ]
    noon = f"2026-01-01T12:{began // 60:02d}:{began % 60:02d}+00:00"
    return Execution(noon, 9, points, list(waits))


def test_what_went_on_at_once_is_one_execution():
    """Sums are those of all, in the order of time; limits are shares and add up."""
    wait = Wait(1.0, 2.0, "throttled", "429")
    whole = overlaid([at_once(3, 4, waits=[wait]), at_once(0, 5, waits=[wait]), at_once(100, 2)])
    assert [one.began[-14:-6] for one in whole] == ["12:00:00", "12:01:40"]
    first, alone = whole
    assert alone == at_once(100, 2)
    assert first.to_send == 18
    assert [(p.at, p.texts) for p in first.points] == [
        (0.0, 2), (1.0, 2), (2.0, 2), (3.0, 4), (4.0, 4), (5.0, 2), (6.0, 2)
    ]  # fmt: skip
    assert [p.requests_per_minute for p in first.points] == [100.0] * 3 + [200.0] * 2 + [100.0] * 2
    assert {p.tokens_per_minute for p in first.points} == {None}
    assert totals(first) == {"texts": 18, "tokens": 180, "requests": 9, "attempts": 9}
    assert max(p.slowest for p in first.points) == pytest.approx(4.1)
    assert [(w.at, w.seconds) for w in first.waits] == [(1.0, 2.0), (4.0, 2.0)]


@given(
    st.lists(
        st.tuples(st.integers(0, 900), st.integers(1, 600), st.sampled_from([1.0, 2.0, 8.0])),
        max_size=6,
    )
)
def test_nothing_is_lost_or_told_twice_of_executions_laid_over_each_other(told):
    """Whatever they are, the sums are the same, in order, and there are not too many points."""
    several = [at_once(*one, step=step) for *one, step in told]
    whole = overlaid(several)
    for name in SUMS:
        assert sum(totals(one)[name] for one in whole) == sum(totals(o)[name] for o in several)
    for one in whole:
        assert len(one.points) <= history.MOST_POINTS
        assert [p.at for p in one.points] == sorted(p.at for p in one.points)
    assert sum(one.to_send for one in whole) == 9 * sum(1 for one in several if one.points)
    assert [one.began for one in whole] == sorted(one.began for one in whole)
