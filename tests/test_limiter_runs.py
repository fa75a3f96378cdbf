"""Real runs that share one limit by a real limiter; the bill of the stand-in is the truth."""

import os
import signal
import socket
import struct
import threading
from collections import Counter

import pytest
from fakes import faults, running
from fakes.runs import texts, until

A_SECOND = 100  # requests
LIMIT = 60 * A_SECOND
WINDOW = 2.0  # seconds: any two of them have at most twice that
KEY = "sk-canary-0123456789abcdef"
ONE = {
    "limits__texts_per_request": 1,
    "limits__requests_per_minute": LIMIT,
    "limits__concurrency": 8,
}
KEYED = {"access__key_env": "OPENAI_API_KEY"}
# The server allows a little more than the jobs are told: processes of a busy machine are late.
SPARE = 1.05


@pytest.fixture
def limited():
    """The stand-in with a limit of its own, on sliding windows."""
    with running(requests_per_minute=SPARE * LIMIT, window=WINDOW) as server:
        yield server


@pytest.fixture
def many(place, limited, folder):
    """Make so many jobs of so many texts each, told the whole limit and the limiter."""

    def make(count, each, **more):
        told = {**ONE, "limits__share": f"unix:{folder}/s", **more}
        return [
            place(texts(each, seed=n), server=limited, name=f"job{n}", **told) for n in range(count)
        ]

    return make


def whose(answer):
    """Which job a request was of: its texts begin with its number."""
    return int(answer[0].partition("/")[0])


def together(server, count):
    """Whose the requests were, in order, while all of so many runs had some to send."""
    order = [whose(answer) for answer in server.bill.answers]
    first = max(order.index(n) for n in range(count))
    last = min(len(order) - order[::-1].index(n) for n in range(count))
    return order[first:last]


def standing(commands, folder):
    """How the one limit stands that the limiter knows."""
    told = ("limiter", "--status", "--json", "--listen", f"unix:{folder}/s")
    [seen] = commands.run(*told, cwd=folder).json
    return seen


def open_at(jobs):
    return [job.start("run", job.job, "--json") for job in jobs]


def test_four_runs_told_the_whole_limit(limiter, many, limited):
    """They are not refused, have a quarter each, and use it; each knows how many share it."""
    limiter()
    jobs = many(4, 75)
    ended = [one.wait() for one in open_at(jobs)]
    assert [one.code for one in ended] == [0] * 4, ended
    assert limited.bill.statuses[429] == 0
    assert limited.bill.answered == 300
    assert limited.bill.paid_twice == {}
    order = together(limited, 4)
    assert len(order) > 60
    shares = [n / len(order) for n in Counter(order).values()]
    assert all(0.225 <= share <= 0.275 for share in shares), shares
    assert [one.json["pace"]["shared_by"] for one in ended] == [4] * 4
    assert all(job.wrong() == [] for job in jobs)
    assert (
        "% of 6,000 requests_per_minute (job), shared by 4 runs" in jobs[0].run("status", "run").out
    )


@pytest.mark.slow
def test_without_a_limiter_the_same_runs_go_over_it(many, limited):
    """The control: it is the limiter that keeps them from being refused."""
    jobs = many(4, 150, limits__share="off")
    ended = [one.wait() for one in open_at(jobs)]
    assert [one.code for one in ended] == [0] * 4
    assert limited.bill.statuses[429] > 2
    assert all(job.wrong() == [] for job in jobs)


def test_a_killed_run_leaves_its_share_to_the_other(limiter, many, limited, commands, folder):
    """`kill -9`: what it held is free at once; it is continued, and pays nothing twice."""
    limiter()
    jobs = many(2, 150)
    gone, stays = open_at(jobs)
    until(lambda: len(limited.bill.answers) >= 60)
    gone.kill()
    until(lambda: standing(commands, folder)["standing"]["workers"] == 1)
    assert standing(commands, folder)["open"] <= 8  # those of the one that stays
    assert stays.wait().code == 0
    assert {whose(a) for a in limited.bill.answers[-40:]} == {1}
    jobs[0].run()
    assert limited.bill.statuses[429] == 0
    assert len(limited.bill.paid_twice) <= 8  # requests that were open at its end
    assert all(job.wrong() == [] for job in jobs)


def test_a_limiter_that_is_killed(limiter, many, limited):
    """Each run says so once, and goes on by itself."""
    one = limiter()
    jobs = many(2, 60)
    begun = open_at(jobs)
    until(lambda: len(limited.bill.answers) >= 40)
    one.kill()
    for job, run in zip(jobs, begun, strict=True):
        ended = run.wait()
        assert ended.code == 0
        assert ended.err.count("is gone; this run paces itself until it is back") == 1
        assert job.wrong() == []
    assert limited.bill.paid_twice == {}


@pytest.mark.slow
def test_a_limiter_that_is_killed_and_comes_back(limiter, many, limited):
    """Runs say so and go on by themselves; once it is there again they say that, and share."""
    one = limiter()
    jobs = many(2, 400)
    begun = open_at(jobs)
    until(lambda: len(limited.bill.answers) >= 60)
    one.kill()
    until(lambda: all("the limiter at unix:" in run.said() for run in begun))
    until(lambda: len(limited.bill.answers) >= 100)
    limiter()
    ended = [run.wait() for run in begun]
    assert [run.code for run in ended] == [0, 0]
    for run in ended:
        assert "is gone; this run paces itself until it is back" in run.err
        assert "is back; it grants the starts again" in run.err
        assert "Traceback" not in run.err
    assert limited.bill.paid_twice == {}
    assert all(job.wrong() == [] for job in jobs)


def test_a_limiter_that_was_never_there(place, server, folder):
    """On another machine that is down, say: the run says so once, and goes on at its own pace."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{nobody.getsockname()[1]}"
        job = place(texts(20), server=server, limits__texts_per_request=1)
        ended = job.run(env={"BATCHEMBED_LIMITER": address})
    [told] = [line for line in ended.err.splitlines() if "limiter" in line]
    assert f"warning: the limiter at {address} cannot be reached (Connection refused)" in told
    assert "this run paces itself until it is back" in told
    assert job.wrong() == []


def test_runs_of_other_keys_and_models_do_not_share(limiter, many, limited, place, folder):
    """Each account has a pace of its own."""
    limiter()
    more = {"limits__share": f"unix:{folder}/s"}
    one, other, third = (
        place(texts(30, seed=n), server=limited, name=f"job{n}", **ONE, **KEYED, **more, **model)
        for n, model in enumerate(({}, {}, {"model__name": "another-model"}))
    )
    begun = [one.start("run", one.job, "--json"), third.start("run", third.job, "--json")]
    begun.append(other.start("run", other.job, "--json", env={"OPENAI_API_KEY": "another-key"}))
    told = [run.wait().json for run in begun]
    assert [run["pace"]["shared_by"] for run in told] == [1, 1, 1]


@pytest.mark.slow
def test_a_key_command_stands_for_the_keys_that_it_gives(limiter, many, limited, folder):
    """They may last an hour only: runs that ask the same command share all the same."""
    limiter()
    keys = folder / "keys"
    (folder / "key").write_text(
        f"#!/bin/sh\necho >> {keys}\nwc -l < {keys} | tr -d ' ' | sed s/^/k/\n"
    )
    (folder / "key").chmod(0o700)
    jobs = many(2, 120, access__key_command=[str(folder / "key")])
    told = [one.wait().json for one in open_at(jobs)]
    assert [run["pace"]["shared_by"] for run in told] == [2, 2]
    assert len(keys.read_text()) >= 2


def test_shards_share_it_instead_of_having_a_part_each(limiter, many, limited):
    """One that runs alone has the whole limit; two at once share it; the merge adds up."""
    limiter()
    [job] = many(1, 300)
    shard = lambda n: ("run", job.job, "--shard", f"{n}/3", "--json")
    alone = job.run(*shard(0)).json["pace"]
    assert alone["shared_by"] == 1
    assert alone["limits"]["requests_per_minute"]["limit"] == LIMIT
    begun = [job.start(*shard(n)) for n in (1, 2)]
    told = [one.wait().json["pace"] for one in begun]
    assert [pace["shared_by"] for pace in told] == [2, 2]
    assert limited.bill.statuses[429] == 0
    merged = job.run("merge", job.job, "--json").json["pace"]
    assert merged["shared_by"] == 2
    use = merged["limits"]["requests_per_minute"]
    assert use["limit"] == LIMIT
    assert 0 < use["used"] < 1.5  # of half a second, in which the ends weigh
    assert limited.bill.paid_twice == {}
    assert job.wrong() == []


# -- started by the first run ----------------------------------------------------------------------


def listener(path):
    """The process that listens at a socket, as the system knows it."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(path))
        told = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return struct.unpack("3i", told)[0]


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="only Linux tells who listens")
def test_the_first_of_many_runs_starts_one_for_all(many, limited, folder):
    """They begin at once, and one limiter serves them; it outlasts them."""
    jobs = many(3, 80, limits__share="start")
    named = {"BATCHEMBED_LIMITER": f"unix:{folder}/s"}
    begun = [job.start("run", job.job, "--json", env=named) for job in jobs]
    try:
        until((folder / "s").is_socket)
        ended = [one.wait() for one in begun]
        assert [one.code for one in ended] == [0] * 3, ended
        assert [one.err for one in ended] == [""] * 3
        assert {one.json["pace"]["shared_by"] for one in ended} == {3}
        assert limited.bill.statuses[429] == 0
    finally:
        os.kill(listener(folder / "s"), signal.SIGTERM)
    until(lambda: not (folder / "s").exists())


# -- what is said ----------------------------------------------------------------------------------


class Tap:
    """Listens at one socket for another, and keeps every byte that passes, both ways."""

    def __init__(self, path, onward):
        self.heard = bytearray()
        self._onward = str(onward)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._threads = [threading.Thread(target=self._one)]
        self._threads[0].start()

    def _one(self):
        here, _ = self._listening.accept()
        with here, socket.socket(socket.AF_UNIX) as there:
            there.connect(self._onward)
            back = threading.Thread(target=self._pass, args=(there, here))
            back.start()
            self._pass(here, there)
            back.join(10)

    def _pass(self, one, other):
        while told := one.recv(1 << 16):
            self.heard += told
            other.sendall(told)
        other.shutdown(socket.SHUT_WR)

    def end(self):
        self._threads[0].join(10)
        self._listening.close()
        return bytes(self.heard)


def test_no_key_and_no_text_goes_to_the_limiter(limiter, place, folder):
    """Not even where the server says them back in a 429; the listener's name has none either."""
    limiter()
    given = texts(20)

    def script(seen):
        if seen.number not in (3, 4, 9):
            return None
        echo = f'{{"error":{{"message":"Rate limit for {KEY} reached: {seen.texts[0][9:]}"}}}}'
        return faults.status(429, echo, **{"retry-after": "0.05"})

    with running(script=script) as server:
        tap = Tap(folder / "t", folder / "s")
        told = (
            ONE | KEYED | {"limits__share": f"unix:{folder}/t", "limits__requests_per_minute": 6000}
        )
        job = place(given, server=server, **told)
        job.run(env={"OPENAI_API_KEY": KEY})
        assert KEY in server.last["headers"]["Authorization"]
        heard = tap.end()
        assert server.bill.statuses[429] == 3
    assert heard.count(b'"say":"want"') >= 20
    assert b'"kind":"throttled"' in heard
    assert KEY.encode() not in heard
    assert KEY[3:].encode() not in heard
    for text in given:
        assert text.encode() not in heard
        assert text.partition(" ")[2].encode()[:40] not in heard
    names = [str(path) for path in folder.rglob("*")]
    assert all(KEY[3:] not in name for name in names)
