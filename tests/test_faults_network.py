"""Rows 32 to 44 of the catalogue of faults: what the way to a server can do to a run."""

import base64
import random
import socket

import pytest
from fakes import raw, running
from fakes.commands import as_users_do
from fakes.raw import raw as raw_server
from fakes.rows import CANARY, FASTER, GIVEN, HOW, Row, assert_absent, check, shapes
from fakes.runs import HARMLESS, until
from fakes.tls import certificate, context


def once(way, number=2):
    """The fault happens to one request alone."""
    return lambda n, _texts: way if n == number else None


def always(way):
    return lambda _n, _texts: way


SOON = {"access__timeout": "50s"}


def loss(_n, texts, rng=random.Random(40)):  # noqa: B008 - one generator for the whole row
    return rng.choice([None, None, None, raw.reset_at_once, raw.reset_in_the_answer])


ROWS = {
    "34 reset in the middle of an answer": Row(once(raw.reset_in_the_answer), requests=7, twice=1),
    "34 reset before the answer": Row(once(raw.reset_at_once), requests=7),
    "34 reset for ever": Row(
        always(raw.reset_at_once), 75, ("the connection broke", "run the same command"), 12
    ),
    "35 the server closes idle connections": Row(always(raw.idle_closed), requests=12),
    "36 cut before its Content-Length": Row(once(raw.cut_by_length), requests=7, twice=1),
    "36 cut between chunks": Row(once(raw.cut_in_chunks), requests=7, twice=1),
    "37 cut at the close": Row(once(raw.cut_at_the_close), requests=7, twice=1),
    "38 slow loris": Row(once(raw.slow_loris), requests=20, twice=6, more=SOON),
    "38 slow loris for ever": Row(always(raw.slow_loris), 75, ("no answer in time",), 8, more=SOON),
    "39 black hole": Row(once(raw.black_hole), requests=20, twice=6, more=SOON),
    "39 black hole for ever": Row(always(raw.black_hole), 75, ("no answer in time",), 8, more=SOON),
    "40 one connection in four is lost": Row(loss, requests=40, twice=20),
    "44 a proxy in the environment": Row(
        always(None),
        env={
            name: "http://127.0.0.1:9"
            for upper in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
            for name in (upper, upper.lower())
        },
    ),
    "68 an answer without an end": Row(once(raw.endless), 4, ("larger than",), 6, twice=1),
    "68 no gzip": Row(once(raw.no_gzip), requests=7, twice=1),
    "60 no HTTP": Row(once(raw.no_http), requests=7),
    "69 an answer that comes too late": Row(once(raw.late), requests=20, twice=6, more=SOON),
}


@pytest.mark.parametrize("row", ROWS)
def test_a_fault_of_the_network(place, row):
    """It ends with the exit code, the words and the bill that the catalogue has for it."""
    with raw_server() as server:
        check(place, server, ROWS[row])


def test_32_nobody_listens(place):
    """Connections are refused: waited for, no text at fault, 75; once somebody does, it goes on."""
    with raw_server() as server:
        server.call(server.close())
        job = place(GIVEN, server=server, **{**HOW, "limits__patience": "30s"})
        env = {"THE_KEY": CANARY}
        ended = job.run(code=75, env=env, twists=[["time_flies", FASTER]])
        assert "no connection to `127.0.0.1`" in ended.err
        assert server.bill.requests == 0
        server.call(server.open())
        job.run(env=env)
        assert job.wrong() == []
        assert server.bill.paid_twice == {}
        assert_absent(job.folder.rglob("*"), ended.err.encode())


def test_33_the_host_is_not_found(place, tmp_path):
    """Names are looked up anew with each probe, and nothing else is spent."""
    told = tmp_path / "lookups"
    with raw_server() as server:
        server.host = "localhost"
        twist = ("no_such_host", str(told))
        check(
            place, server, Row(always(None), 75, ("`localhost` is not found",), 0, twists=(twist,))
        )
    assert int(told.read_text()) >= 4


def test_42_the_link_is_down_for_two_hours(place):
    """At most 130 probes an hour, no row is lost, and within minutes of its return all is sent."""
    faster = 3600
    with raw_server() as server:
        server.down = True
        job = place(
            GIVEN, server=server, **{**HOW, "limits__patience": "6h", "access__timeout": "5h"}
        )
        command = job.start(env={"THE_KEY": CANARY}, twists=[["time_flies", faster]])
        until(lambda: server.knocks)
        assert not command.ends_within(2.0)
        knocks, server.down = server.knocks, False
        assert command.wait().code == 0
    assert 20 <= knocks <= 2 * 130
    assert job.wrong() == []
    assert server.bill.paid_twice == {}
    # Besides the corpus, a few harmless sentences that tell an outage from a text at fault.
    assert server.bill.requests <= 6 + 3


@pytest.mark.parametrize("how", ["an unknown authority", "another host", "expired"])
def test_43_a_certificate_that_proves_nothing(place, tmp_path, how):
    """Nothing is sent, and nothing is ever believed unverified: a person must look."""
    files = certificate(
        tmp_path,
        name="other.test" if how == "another host" else "localhost",
        expired=how == "expired",
    )
    env = {"THE_KEY": CANARY}
    if how != "an unknown authority":
        env["SSL_CERT_FILE"] = str(files[0])
    with running(tls=context(files)) as server:
        job = place(GIVEN, server=server, **HOW)
        ended = as_users_do(
            "run", job.job, cwd=job.folder, env=env
        )  # aiohttp reads it at the start
        assert ended.code == 4
        assert "identity cannot be proven" in ended.err
        word = {"an unknown authority": "self-signed", "another host": "mismatch"}.get(how, how)
        assert word in ended.err.replace("self signed", "self-signed")
        assert server.bill.requests == 0
        assert_absent(job.folder.rglob("*"), ended.err.encode())


def only_small(_n, texts):
    """Answers of more than two texts never come."""
    return raw.black_hole if len(texts) > 2 else None


@pytest.mark.slow
def test_41_the_size_that_came_in_time_is_remembered(place):
    """Once both halves did: no later request is larger, and no text is paid for twice."""
    more = {"access__timeout": "50s", "limits__concurrency": 1}
    row = Row(only_small, says=("learnt", "at most 2 texts,"), requests=34, harmless=6, more=more)
    with raw_server() as server:
        check(place, server, row)
        first = server.bill.sizes.index(2)
        assert server.bill.sizes[:first].count(4) <= 7
        assert max(server.bill.sizes[first:]) == 2
        assert server.bill.paid_twice.keys() <= {HARMLESS}


@pytest.mark.slow
def test_41_a_narrow_line(place):
    """What never comes in time as a whole comes in halves: slowly, but nothing is given up."""

    async def drip(x):
        x.charge()
        x.head()
        for at in range(0, len(x.body), 100):
            x.say(x.body[at : at + 100])
            await x.pause(0.005)

    with raw_server(always(drip)) as server:
        more = {"access__timeout": "100s", "limits__texts_per_request": 48}
        job = place(GIVEN * 2, server=server, **{**HOW, "limits__patience": "6h", **more})
        job.fill([f"{text} {n}" for n, text in enumerate(GIVEN * 2)])
        job.run(env={"THE_KEY": CANARY}, twists=[["time_flies", 400]])
        assert job.wrong() == []


def test_a_port_scan_of_this_suite_finds_it():
    """Control: the stand-in speaks by the byte, and what is torn is torn."""
    with raw_server(always(raw.reset_at_once)) as server, socket.socket() as plug:
        plug.connect(("127.0.0.1", server.port))
        body = b'{"input":["a"],"model":"m"}'
        plug.sendall(
            b"POST /v1/embeddings HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        with pytest.raises(ConnectionResetError):
            plug.recv(10)
        assert server.bill.requests == 1
        assert server.bill.answers == []


def test_these_rows_would_see_a_key_in_a_file(place, server):
    """Control: the search for the canary finds it in any of its forms."""
    for shape in shapes(CANARY):
        with pytest.raises(AssertionError, match="the key was found"):
            assert_absent([], b"... " + shape + b" ...")
    for shift in range(3):
        with pytest.raises(AssertionError, match="the key was found"):
            assert_absent([], base64.b64encode(b"x" * shift + CANARY.encode() + b"tail"))
