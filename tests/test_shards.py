"""Shards: parts of one run, beside each other, killed and run again; together the bytes of one."""

import json
import random
import signal
from collections import Counter
from decimal import Decimal

import numpy as np
import pytest
from fakes import running
from fakes.faults import Fault, hang
from fakes.places import Place
from fakes.runs import HARMLESS, digests, manifest, paid_texts, rejects, strays, texts, until
from hypothesis import given
from hypothesis import strategies as st

from batchembed import shard as sharded
from batchembed.errors import UsageError
from batchembed.gathering import together
from batchembed.ledger import holds_anything
from batchembed.pacing import Figures
from batchembed.store import Store

SEED = random.randrange(10**6)
GIVEN = texts(120)
SMALL = {"limits__texts_per_request": 4, "limits__concurrency": 2}


def corpus(count, rng):
    """Texts of which some stand there twice, one that the server refuses, and one that is blank."""
    distinct = texts(count)
    distinct[count // 2] += " POISON"
    many = [*distinct, *rng.choices(distinct, k=count // 4), "", "  "]
    rng.shuffle(many)
    return many


def command(job, number, of, *more):
    """What starts a shard."""
    return ("run", job.job, "--shard", f"{number}/{of}", *more)


def paid(server, since=0):
    """How often each text was paid for, but the sentence by which a server is tried.

    `since`: by the answers from that one on.
    """
    until(lambda: server.bill.now_open == 0)
    lines = server.bill.answers[since:]
    return Counter(text for line in lines for text in line if text != HARMLESS)


def whole(commands, folder, given, server, **more):
    """The digests of one run over `given`, and how many answers the server has given by then."""
    job = Place(commands, folder / "whole", given, server=server, **more)
    job.run(code=None)
    until(lambda: server.bill.now_open == 0)
    return digests(job.out), len(server.bill.answers)


HOW = SMALL | {"limits__max_rejects": 9, "similarity": {"top_k": 3}}


# -- which texts are a shard's own -----------------------------------------------------------------


@given(st.integers(1, 50), st.integers(1, 60), st.randoms(use_true_random=False))
def test_each_key_is_of_one_shard(count, of, rng):
    """Whatever the keys, each is one shard's own and nobody else's, and zeros are nobody's."""
    keys = np.frombuffer(rng.randbytes(16 * count), np.uint8).reshape(-1, 16)
    shares = [sharded.Shard(number, of).own(keys) for number in range(of)]
    assert np.array_equal(np.sum(shares, axis=0, dtype=np.uint8), keys)
    assert sum(share.any(axis=1).sum() for share in shares) == keys.any(axis=1).sum()


def test_shards_are_of_a_size():
    """Keys are hashes: of 20,000 texts each of 20 shards has about a thousand."""
    keys = np.frombuffer(random.Random(3).randbytes(16 * 20_000), np.uint8).reshape(-1, 16)
    counts = np.bincount(sharded.owners(keys, 20), minlength=20)
    assert counts.sum() == 20_000
    assert 850 < counts.min() <= counts.max() < 1150


@pytest.mark.parametrize("told", ["0/1", " 3/20 ", "9999/10000"])
def test_a_shard_is_read(told):
    """As a number from 0, and how many there are."""
    assert str(sharded.parse(told)) == told.strip()


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("20/20", "counted from 0"),
        ("3", "is no shard"),
        ("-1/4", "is no shard"),
        ("a/b", "is no shard"),
        ("1/0", "1 to 10,000"),
        ("1/10001", "1 to 10,000"),
        ("٣/٤", "is no shard"),
        ("", "is no shard"),
    ],
)
def test_what_is_no_shard_is_refused(told, words):
    """With the value, and what to give instead."""
    with pytest.raises(UsageError, match=words) as why:
        sharded.parse(told)
    assert f"`{told}`" in why.value.message
    assert why.value.hint


# -- together the bytes of one ---------------------------------------------------------------------


def test_twenty_racing_shards_end_with_the_bytes_of_one_run(commands, tmp_path):
    """Started at once and merged: the same files, and each text is paid for once."""
    many = corpus(300, random.Random(SEED))
    with running() as server:
        right, since = whole(commands, tmp_path, many, server, **HOW)
        before = server.bill.tokens, server.bill.requests
        job = Place(commands, tmp_path / "shards", many, server=server, **HOW)
        ended = [c.wait() for c in [job.start(*command(job, n, 20)) for n in range(20)]]
        assert sorted(e.code for e in ended) == [0] * 19 + [3], ended
        requests = server.bill.requests
        job.run("merge", job.job, code=3)
        assert server.bill.requests == requests, "a merge sends nothing"
        assert digests(job.out) == right
        times = paid(server, since)
        assert set(times.values()) == {1}
        assert set(times) == {t for t in many if t.strip() and "POISON" not in t}
    assert strays(job.out) == []
    assert [row["reason"] for row in rejects(job.out)].count("refused") == many.count(
        next(text for text in many if "POISON" in text)
    )
    told = manifest(job.out)
    assert told["bill"]["texts"] == 299
    assert told["bill"]["tokens"] == server.bill.tokens - before[0]
    assert told["pace"]["attempts"] == requests - before[1]
    history = json.loads((job.out / "checkpoint/history.json").read_text())
    assert sum(sum(p[2] for p in one["points"]) for one in history["executions"]) == 299


def race(commands, folder, seed, *, count, of, kills):
    """Race shards, kill some at random, run them again until all are done, merge, compare.

    Shards are killed once one that runs has something to lose. Gives the texts that were paid for
    twice (their answers were in flight), and how many were kept by shards when those were killed.
    """
    print("seed", seed)
    rng = random.Random(seed)
    many = corpus(count, rng)
    with running(delay=0.05) as server:
        right, first = whole(commands, folder, many, server, **HOW)
        since = first
        job = Place(commands, folder / "shards", many, server=server, **HOW)
        kept, safe = set(), 0
        left = dict.fromkeys(range(of), 0)
        while left:
            start = {n: job.start(*command(job, n, of)) for n in left}
            if kills:
                victims = worth_killing(job, start, rng)
                for number in victims:
                    start[number].send(signal.SIGKILL)
                kills -= 1
            codes = {n: one.wait().code for n, one in start.items()}
            assert set(codes.values()) <= {0, 3, -9}, codes
            left = {n: code for n, code in codes.items() if code == -9}
            safe += sum(len(texts_of(part_of(job, n), many)) for n in left)
            again = [text for text in paid(server, since) if text in kept]
            assert again == [], "what was kept is paid for again"
            kept, since = parts_texts(job, many), len(server.bill.answers)
        job.run("merge", job.job, code=3)
        assert digests(job.out) == right
        assert strays(job.out) == []
        times = paid(server, first)
        return sum(times.values()) - len(times), safe


def worth_killing(job, start, rng):
    """Wait until a shard that runs keeps something, or none runs; give it and up to three more."""
    found = []

    def ready():
        runs = [number for number, one in start.items() if not one.ends_within(0)]
        holds = [n for n in runs if holds_anything(part_of(job, n))]
        found[:] = [*holds[:1], *rng.sample(runs, min(len(runs), rng.randint(0, 3)))]
        return holds or not runs

    until(ready)
    return set(found)


def part_of(job, number):
    """The part of the checkpoint of a shard."""
    return sharded.Shard(number, number + 1).store(Store(job.out))


def texts_of(part, every):
    """The texts that a shard holds."""
    return paid_texts(part.root, {text for text in every if text.strip()})


def parts_texts(job, every):
    """The texts that all shards hold."""
    return set().union(*(texts_of(part, every) for _, part in sharded.begun(Store(job.out))))


def raced(commands, folder, seed, **how):
    """Race until some shard that was killed had something to lose; mostly the first draw does."""
    for draw in range(5):
        lost, safe = race(commands, folder / str(draw), f"{seed}/{draw}", **how)
        if safe:
            return lost
    raise AssertionError("no shard was ever killed that had something to lose")


def test_killed_shards_are_run_again_and_nothing_is_paid_twice(commands, tmp_path):
    """`kill -9` of some of six, and again: the bytes of one run, and no kept text is sent again."""
    lost = raced(commands, tmp_path, SEED, count=150, of=6, kills=2)
    assert lost <= 8 * SMALL["limits__concurrency"] * SMALL["limits__texts_per_request"]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(12))
def test_twenty_shards_killed_at_random(commands, tmp_path, number):
    """The same of twenty, in many draws."""
    raced(commands, tmp_path, f"{SEED}/{number}", count=800, of=20, kills=5)


def test_shards_that_all_send_everything_are_seen(commands, tmp_path):
    """Planted: every shard takes all texts for its own. The bill shows it."""
    with running() as server:
        job = Place(commands, tmp_path / "shards", GIVEN, server=server, **SMALL)
        for number in range(2):
            job.run(*command(job, number, 2), twists=[["greedy_shards"]])
        assert max(paid(server).values()) == 2


def test_a_merge_that_reads_one_part_is_seen(place, server):
    """Planted: the run of the whole does not know of the shards. It finds texts missing."""
    job = place(GIVEN, server=server, **SMALL)
    for number in range(2):
        job.run(*command(job, number, 2))
    ended = job.run("merge", job.job, code=75, twists=[["lonely_ledger"]])
    assert "120 texts are missing" in ended.err


def test_a_plain_run_merges_too(place, server):
    """Without --shard, the same command: nothing is missing, nothing is sent."""
    job = place(GIVEN, server=server, **SMALL)
    for number in range(3):
        job.run(*command(job, number, 3))
    requests = server.bill.requests
    told = job.run("run", job.job, "--json").json
    assert (told["sent"], told["reused"], server.bill.requests) == (0, 120, requests)
    assert job.wrong() == []


def test_the_next_night_sends_what_is_new(place, server):
    """Over what is published, shards of another number send the new texts alone."""
    job = place(GIVEN[:80], server=server, **SMALL)
    for number in range(3):
        job.run(*command(job, number, 3))
    job.run("merge", job.job)
    job.fill(GIVEN)
    ended = [job.run(*command(job, n, 5), "--json").json for n in range(5)]
    assert sum(one["sent"] for one in ended) == 40
    assert sum(one["reused"] for one in ended) == 80
    job.run("merge", job.job)
    assert job.wrong() == []
    assert sorted(job.sent()) == sorted(GIVEN)
    assert manifest(job.out)["bill"]["texts"] == 120


def test_a_shard_of_a_finished_run_sends_nothing_and_leaves_nothing(place, server):
    """It is complete for this corpus: a retry that comes late is harmless."""
    job = place(GIVEN, server=server, **SMALL)
    job.run()
    before = {path: path.read_bytes() for path in job.out.rglob("*") if path.is_file()}
    ended = job.run(*command(job, 1, 3))
    assert "nothing was sent" in ended.out
    assert {path: path.read_bytes() for path in job.out.rglob("*") if path.is_file()} == before
    assert server.bill.texts == Counter(GIVEN)


def test_an_unfinished_run_goes_on_in_shards(place):
    """What a run of the whole paid for before it was killed is no shard's to pay again."""
    script = {"hangs": True}
    hangs = lambda seen: hang() if seen.number > 10 and script["hangs"] else None
    with running(script=hangs) as server:
        job = place(GIVEN, server=server, **SMALL)
        first = job.start()
        until(lambda: server.bill.answered >= 36)
        first.kill()
        script["hangs"] = False
        kept, since = paid_texts(job.out, GIVEN), len(server.bill.answers)
        assert len(kept) >= 24
        for number in range(2):
            job.run(*command(job, number, 2))
        job.run("merge", job.job)
        sent = Counter(text for line in server.bill.answers[since:] for text in line)
        assert sent == Counter(set(GIVEN) - kept)
        assert job.wrong() == []


# -- who may write ---------------------------------------------------------------------------------


@pytest.fixture
def held(place):
    """A job whose shard 1 of 3 waits for an answer that does not come."""
    with running(script=[None, hang()]) as server:
        job = place(GIVEN, server=server, **SMALL | {"limits__concurrency": 1})
        one = job.start(*command(job, 1, 3))
        until(lambda: server.bill.requests == 2)
        yield job, one
        one.kill()


@pytest.mark.parametrize("words", [("run",), ("merge",), ("run", "--shard", "1/3")])
def test_while_a_shard_runs_others_are_refused(held, words):
    """A run of the whole, a merge, and the same shard: 75, the shard's name, nothing sent."""
    job, one = held
    ended = job.run(words[0], job.job, *words[1:], code=75)
    for told in ("another run holds", "shard 1/3", f"process {one.pid}", "hint:"):
        assert told in ended.err, ended.err
    assert job.server.bill.requests == 2
    assert not one.ends_within(0.01)


def test_while_a_shard_runs_the_others_do_too(held):
    """Each has its own lock."""
    job, _ = held
    job.run(*command(job, 0, 3))
    job.run(*command(job, 2, 3))


def test_while_a_run_of_the_whole_goes_on_shards_are_refused(place):
    """75 at once, and who holds the directory."""
    with running(script=[None, hang()]) as server:
        job = place(GIVEN, server=server, **SMALL | {"limits__concurrency": 1})
        run = job.start()
        until(lambda: server.bill.requests == 2)
        ended = job.run(*command(job, 0, 3), code=75)
        assert f"process {run.pid}" in ended.err
        assert "shard" not in ended.err.replace("shards", "")
        assert server.bill.requests == 2
        run.kill()
    assert not (job.out / "checkpoint/shards").exists()


@pytest.mark.parametrize("lock", [".lock", "checkpoint/shards/00001/.lock"])
def test_a_shard_whose_lock_was_taken_away_ends(place, lock):
    """That of the whole, or its own: another process may write there by now."""
    with running(delay=0.02) as server:
        job = place(GIVEN, server=server, **SMALL | {"limits__texts_per_request": 1})
        one = job.start(*command(job, 1, 2))
        until(lambda: server.bill.requests > 2)
        (job.out / lock).unlink()
        ended = one.wait()
        assert ended.code == 75
        assert "taken away" in ended.err
        assert server.bill.requests < 60


def test_status_tells_of_all_shards(held):
    """How many are done, run, stopped, and the progress of all together."""
    job, one = held
    before = sum(map(len, job.server.bill.answers))
    job.run(*command(job, 0, 3))
    own = sum(map(len, job.server.bill.answers)) - before
    told = job.run("status", "run", "--json").json
    assert told["state"] == "running"
    assert told["shards"] == {"of": 3, "done": [0], "running": [1], "stopped": []}
    assert told["progress"]["sent"] >= own > 10
    one.kill()
    job.run(*command(job, 2, 3))
    words = job.run("status", "run").out
    assert "2 of 3 are done, 1 stopped (1)" in words
    assert "run the shards that are not done again" in words
    job.run(*command(job, 1, 3))
    told = job.run("status", "run", "--json").json
    assert told["progress"]["distinct"] == 120
    assert (told["progress"]["sent"] + told["progress"]["reused"]) == 120
    words = job.run("status", "run").out
    assert "run: to be merged" in words
    assert "batchembed merge" in words
    job.run("merge", job.job)
    assert job.run("status", "run", "--json").json["state"] == "complete"


# -- how many there are ----------------------------------------------------------------------------


def test_another_number_of_shards_is_refused(place, server):
    """Exit code 2, both numbers, the mend; after the merge any number will do."""
    job = place(GIVEN, server=server, **SMALL)
    job.run(*command(job, 0, 3))
    sent = server.bill.requests
    ended = job.run(*command(job, 1, 4), code=2)
    assert "`1/4`" in ended.err
    assert "begun with `3` shards" in ended.err
    assert "--shard 0/3 to 2/3" in ended.err
    assert server.bill.requests == sent
    job.run()
    assert sorted(job.sent()) == sorted(GIVEN)
    job.fill([*GIVEN, "one more"])
    job.run(*command(job, 1, 4))


def test_another_job_in_a_shard_is_refused(place, server):
    """All shards make vectors of one spec."""
    job = place(GIVEN, server=server, **SMALL)
    job.run(*command(job, 0, 3))
    ended = job.run(*command(job, 1, 3, "--set", "model.dimensions=8"), code=2)
    assert "another spec" in ended.err
    assert "dimensions" in ended.err


def test_another_job_that_is_refused_leaves_no_trace(place):
    """Also while nothing is kept yet, the directory stays that of the shards which run."""
    waits = {"for ever": True}
    with running(script=lambda _: hang() if waits["for ever"] else None) as server:
        job = place(GIVEN, server=server, **SMALL)
        one = job.start(*command(job, 0, 2))
        until(lambda: server.bill.requests > 0)
        ended = job.run(*command(job, 1, 2, "--set", "model.dimensions=8"), code=2)
        assert "another spec" in ended.err
        waits["for ever"] = False
        one.kill()
        for number in range(2):
            job.run(*command(job, number, 2))
        job.run("merge", job.job)
        assert job.wrong() == []


def test_while_nothing_is_kept_the_number_may_change(place):
    """A first try that failed at once binds nobody."""
    with running(script=lambda _: Fault(status=401)) as server:
        job = place(GIVEN, server=server, **SMALL)
        job.run(*command(job, 0, 3), code=4)
        job.run(*command(job, 0, 4), code=4)
        assert json.loads((job.out / "checkpoint/shards/shards.json").read_text())["shards"] == 4


def test_a_merge_before_its_time_names_the_shards(place, server):
    """75: what is missing, of which shards; run them again, then merge."""
    job = place(GIVEN, server=server, **SMALL)
    job.run(*command(job, 0, 4))
    ended = job.run("merge", job.job, code=75)
    assert "shards 1, 2 and 3 of 4 are not done" in ended.err
    job.run(*command(job, 1, 4))
    job.run(*command(job, 3, 4))
    assert "shard 2 of 4 is not done" in job.run("merge", job.job, code=75).err
    sent = server.bill.requests
    ended = job.run()
    assert "shard 2 of 4 is not done" in ended.err
    assert "sent from here" in ended.err
    assert server.bill.requests > sent
    assert sorted(job.sent()) == sorted(GIVEN)


def test_a_damaged_agreement_says_what_to_do(place, server):
    """It names the file; deleted, the shards go on and nothing is paid again."""
    job = place(GIVEN, server=server, **SMALL)
    job.run(*command(job, 0, 2))
    agreed = job.out / "checkpoint/shards/shards.json"
    content = bytearray(agreed.read_bytes())
    content[len(content) // 2] ^= 1
    agreed.write_bytes(content)
    for words in (command(job, 1, 2), ("run", job.job)):
        assert "shards.json` is damaged" in job.run(*words, code=1).err
    agreed.unlink()
    job.run(*command(job, 1, 2))
    job.run("merge", job.job)
    assert sorted(job.sent()) == sorted(GIVEN)


def test_what_sends_nothing_needs_no_key(place, server):
    """A shard that is done, and the merge; one that is not done ends with 4."""
    job = place(GIVEN, server=server, **SMALL, access__key_env="A_KEY")
    job.run(*command(job, 0, 2), env={"A_KEY": "k"})
    job.run(*command(job, 0, 2))
    job.run(*command(job, 1, 2), code=4)
    job.run(*command(job, 1, 2), env={"A_KEY": "k"})
    job.run("merge", job.job)


def test_a_shard_that_never_began_leaves_nothing(place, server):
    """A mistake in the job makes no run directory."""
    job = place(GIVEN, server=server, corpus__text="nowhere")
    job.run(*command(job, 0, 3), code=2)
    assert not job.out.exists()


# -- what all shards share -------------------------------------------------------------------------

PRICE = {"price__per_million_tokens": 20.0, "price__currency": "EUR"}


def test_max_cost_holds_for_all_shards_together(place, server):
    """Each has an equal share; what they may cost together is never passed, to the token."""
    job = place(texts(400), server=server, **SMALL, **PRICE)
    tokens = 6000
    bound = ("--set", f"limits.max_cost={20 * tokens / 1e6}")
    codes = [job.run(*command(job, n, 5, *bound), code=None).code for n in range(5)]
    assert set(codes) == {4}
    assert server.bill.tokens <= tokens
    assert server.bill.tokens > 0.7 * tokens
    ended = job.run(*command(job, 0, 5, *bound), code=4)
    assert "this shard's share of `limits.max_cost`, 1/5 of 0.12 EUR, is used up" in ended.err
    assert server.bill.tokens <= tokens
    for _ in range(5):  # what is still needed is an estimate
        asked = ended.err.rpartition("limits.max_cost=")[2].strip()
        ended = job.run(*command(job, 0, 5, "--set", f"limits.max_cost={asked}"), code=None)
        if ended.code == 0:
            break
    assert ended.code == 0
    assert job.run("run", job.job, *bound, code=4).code == 4
    job.run()
    told = manifest(job.out)["bill"]
    assert Decimal(str(told["cost"])) == Decimal(20) * server.bill.tokens / 1_000_000


def test_max_cost_holds_whoever_spends_first(place, server):
    """Runs of the whole in between: they spend from what is left, and each shard knows of it."""
    job = place(texts(400), server=server, **SMALL, **PRICE)
    tokens, rng = 6000, random.Random(SEED)
    bound = ("--set", f"limits.max_cost={20 * tokens / 1e6}")
    order = [command(job, n, 3, *bound) for n in range(3)] * 2
    order += [("run", job.job, *bound)] * 2
    rng.shuffle(order)
    print("seed", SEED)
    for words in order:
        job.run(*words, code=4)
        assert server.bill.tokens <= tokens, words
    job.run("run", job.job, *bound, code=4)
    assert server.bill.tokens > 0.9 * tokens, "a run of the whole spends what no shard did"


def test_how_well_limits_were_used_is_added_up():
    """Limits were shares, so they add up; shares of attempts are weighed by attempts."""
    use = lambda limit, used: {"limit": limit, "told_by": "job", "used": used}
    pace = {"attempts": 30, "throttled": 0.1, "failed": 0.0, "binds": "requests_per_minute",
            "limits": {"requests_per_minute": use(100.0, 1.0)}, "seconds_to_90": 10.0,
            "waited": {"requests_per_minute": 5.0}}  # fmt: skip
    other = pace | {
        "attempts": 10,
        "throttled": 0.5,
        "limits": {"requests_per_minute": use(300.0, 0.5)},
        "waited": {"throttled": 9.0},
        "seconds_to_90": 40.0,
    }
    told = together([pace, {}, other])
    assert (told["attempts"], told["throttled"], told["failed"]) == (40, 0.2, 0.0)
    assert told["limits"]["requests_per_minute"] == use(400.0, 0.625)
    assert (told["binds"], told["seconds_to_90"]) == ("throttled", 40.0)
    assert told["waited"] == {"requests_per_minute": 5.0, "throttled": 9.0}
    assert told.keys() == Figures().told().keys()
    assert together([pace, pace | {"seconds_to_90": None}])["seconds_to_90"] is None


def test_how_well_a_limit_was_used_that_a_limiter_shared_out():
    """One had it alone at first, two more shared it: it is one limit, and not the sum of three."""
    use = lambda used: {"requests_per_minute": {"limit": 600.0, "told_by": "job", "used": used}}
    pace = {"throttled": 0.0, "failed": 0.0, "seconds_to_90": None, "waited": {}}
    alone = pace | {"attempts": 100, "limits": use(0.9), "shared_by": 1}
    half = pace | {"attempts": 50, "limits": use(0.48), "shared_by": 2}
    told = together([alone, half, half])
    assert told["shared_by"] == 2
    assert told["limits"] == use(pytest.approx((0.9 + 0.96) / 2))
    whole = use(0.24)["requests_per_minute"] | {"used_by_all": 0.97}
    known = pace | {"attempts": 50, "limits": {"requests_per_minute": whole}, "shared_by": 4}
    assert together([known, known])["limits"] == use(pytest.approx(0.97))
    fell_back = pace | {"attempts": 100, "limits": {}, "shared_by": 0}
    fell_back["limits"] = {
        "requests_per_minute": use(0.98)["requests_per_minute"] | {"limit": 200.0}
    }
    assert together([alone, fell_back])["limits"] == use(pytest.approx(0.94))
    assert together([{}, {}]) == {}


@pytest.mark.parametrize(("at_once", "limit"), [(None, 2000), (2, 3000), (9, 2000)])
def test_a_shard_has_its_part_of_the_limits(place, server, at_once, limit):
    """Those of the job, which are of the whole; of fewer at once each has more."""
    more = {} if at_once is None else {"limits__shards_at_once": at_once}
    job = place(GIVEN, server=server, **SMALL, limits__requests_per_minute=6000, **more)
    told = job.run(*command(job, 0, 3), "--json").json
    assert told["pace"]["limits"]["requests_per_minute"]["limit"] == limit


def test_different_models_of_first_answers_are_seen_by_the_merge(place):
    """No shard knows what model the others were answered by; the run of the whole does."""
    with running(model_version="one") as server:
        job = place(GIVEN, server=server, **SMALL)
        job.run(*command(job, 0, 2))
        server.model_version = "two"
        job.run(*command(job, 1, 2))
        ended = job.run("merge", job.job, code=4)
        assert "`one`: shard 0, `two`: shard 1" in ended.err
        job.run("merge", job.job, "--set", "limits.on_model_change=go_on")
        assert manifest(job.out)["model_versions"] == ["one", "two"]


def test_rejects_of_all_shards_count_at_the_merge(place, server):
    """Each shard alone is within the tolerance, all together are not: 4, and nothing is lost."""
    many = [text + " POISON" * (n % 10 == 0) for n, text in enumerate(GIVEN)]
    job = place(many, server=server, **SMALL, limits__max_rejects=8)
    codes = {job.run(*command(job, number, 4), code=None).code for number in range(4)}
    assert codes <= {0, 3}
    assert "12" in job.run("merge", job.job, code=4).err
    job.run("merge", job.job, "--set", "limits.max_rejects=12", code=3)
    assert len(rejects(job.out)) == 12
    assert paid(server) == Counter(text for text in many if "POISON" not in text)


def test_from_python(place, server, monkeypatch):
    """`run(job, shard=…)` and `merge(job)` are the same."""
    import batchembed

    job = place(GIVEN, server=server, **SMALL)
    monkeypatch.chdir(job.folder)
    monkeypatch.setenv("OPENAI_API_KEY", "a-key")
    loaded = batchembed.load(job.job)
    told = [batchembed.run(loaded, shard=f"{n}/2") for n in range(2)]
    assert [one.state for one in told] == ["shard done"] * 2
    assert sum(one.sent for one in told) == 120
    assert batchembed.merge(loaded).state == "complete"
    assert job.wrong() == []


# -- crashes in between ----------------------------------------------------------------------------


def test_a_shard_finishes_a_publication_that_a_crash_left(place, server):
    """It begins where a run of the whole was killed while it published."""
    job = place(GIVEN, server=server, **SMALL)
    for number in range(2):
        job.run(*command(job, number, 2))
    told = job.folder / "steps"
    trial = place(GIVEN, server=server, name="trial", **SMALL)
    for number in range(2):
        trial.run(*command(trial, number, 2))
    trial.run("merge", trial.job, twists=[["count_steps", str(trial.out), str(told)]])
    steps = int(told.read_text())
    job.run("merge", job.job, code=-9, twists=[["die_at_step", str(job.out), steps - 12, False]])
    job.run(*command(job, 0, 2))
    job.run("merge", job.job)
    assert digests(job.out) == digests(trial.out)
    assert set(paid(server).values()) == {2}, "once by each of the two jobs"
    assert strays(job.out) == []


@pytest.mark.slow
def test_a_merge_killed_at_every_step(place, server):
    """Before each change of the disk: the next one ends with the same bytes and sends nothing."""
    trial = place(GIVEN, server=server, name="trial", **SMALL)
    for number in range(2):
        trial.run(*command(trial, number, 2))
    told = trial.folder / "steps"
    trial.run("merge", trial.job, twists=[["count_steps", str(trial.out), str(told)]])
    steps, right = int(told.read_text()), digests(trial.out)
    for step in range(1, steps + 1):
        job = place(GIVEN, server=server, name=f"at-{step}", **SMALL)
        for number in range(2):
            job.run(*command(job, number, 2))
        requests = server.bill.requests
        died = [["die_at_step", str(job.out), step, False]]
        assert job.run("merge", job.job, code=None, twists=died).code in (-9, 0)
        job.run(*command(job, 1, 2))
        job.run("merge", job.job)
        assert server.bill.requests == requests, step
        assert digests(job.out) == right, step
        assert strays(job.out) == [], step
