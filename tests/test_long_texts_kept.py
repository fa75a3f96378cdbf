"""Jobs that cut or average long texts: killed, in shards, with a bound, in the batch lane."""

import contextlib
import random

import pytest
from fakes import faults, running, runs
from fakes.batches import BatchDesk
from fakes.vectors import vector
from test_long_texts import GIVEN, LONG, MOST, SHORT, by_text, prose

from batchembed.segments import REJECTS, read_frames

SEED = random.randrange(10**6)
HOW = pytest.mark.parametrize("how", ["truncate", "mean"])
SMALL = [SHORT[0], LONG[0], SHORT[1], LONG[1], SHORT[2], *SHORT[3:], LONG[2]]


def settings(how, **more):
    """Two at a time, of two texts each."""
    few = {"limits__concurrency": 2, "limits__texts_per_request": 2}
    return {"model__on_long_text": how} | few | more


def kept(run, paid):
    """The texts of `paid` whose vectors are in segments or parts; means are of none of them."""
    if (run / "manifest.json").exists():
        return set(paid)
    by_bytes, found = {vector(text).tobytes(): text for text in paid}, set()
    for segment in (run / "checkpoint").rglob("*.segment"):
        raw = segment.read_bytes()
        for frame in (one for one in read_frames(segment) if one.kind != REJECTS):
            for at in range(
                frame.offset, frame.offset + frame.width * len(frame.keys), frame.width
            ):
                found.add(by_bytes.get(raw[at : at + frame.width]))
    return found - {None}


def pays_once(job, server, right, *twists):
    """Kill a run, finish it; nothing that was kept is paid again, and the bytes are right."""
    before = len(server.bill.answers)
    ended = job.start(twists=twists).wait()
    assert ended.code in (-9, 0), ended
    runs.until(lambda: server.bill.now_open == 0)
    first = server.bill.answers[before:]
    there = {t for line in first for t in line} if ended.code == 0 else kept(job.out, right[1])
    lost = [line for line in first if not there.issuperset(line) and line != [runs.HARMLESS]]
    assert len(lost) <= 2, "more answers are lost than were in flight"
    before = len(server.bill.answers)
    job.run()
    again = {text for line in server.bill.answers[before:] for text in line} - {runs.HARMLESS}
    assert again.isdisjoint(there), "what was kept is paid again"
    assert runs.digests(job.out) == right[0]
    assert runs.strays(job.out) == []


@pytest.fixture
def whole(place):
    """Run a job that nothing disturbs: its digests, what it paid for, its steps on the disk."""

    def run(server, how):
        job = place(SMALL, server=server, name="whole", **settings(how))
        told = job.folder / "steps"
        twists = [["count_steps", str(job.out), str(told)], ["stage_at_once"]]
        job.run(twists=twists)
        paid = {t for t in server.bill.texts if t != runs.HARMLESS}
        assert set(server.bill.paid_twice) <= {runs.HARMLESS}
        return (runs.digests(job.out), paid), int(told.read_text())

    return run


@pytest.fixture
def strict():
    """A stand-in that refuses what is too long."""
    with running(tokens_per_text=MOST, tells_lengths=True) as server:
        yield server


@HOW
@pytest.mark.parametrize("count", [3, pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize("torn", [False, True], ids=["before", "torn"])
def test_killed_before_steps_on_the_disk(place, whole, how, count, torn):
    """A few of them, or each, whole or half done: the sections that were answered stay paid."""
    print("seed", SEED)
    with running(tokens_per_text=MOST) as server:
        right, steps = whole(server, how)
        chosen = range(1, steps + 1)
        for number in chosen if count is None else random.Random(SEED).sample(chosen, count):
            job = place(SMALL, server=server, name=f"{number}", **settings(how))
            twist = ["die_at_step", str(job.out), number, torn]
            pays_once(job, server, right, twist, ["stage_at_once"])
    print(f"{steps} steps")


def test_sections_that_are_forgotten_are_seen(place, strict):
    """The planted bug: a ledger that does not know its sections pays them again."""
    job = place([LONG[2], *SHORT], server=strict, **settings("mean"))
    strict.script = lambda _: faults.status(401) if len(strict.bill.answers) >= 4 else None
    job.run(code=4)
    there = kept(job.out, strict.bill.texts)
    assert there - set(SHORT) - {runs.HARMLESS}
    strict.script = ()
    before = len(strict.bill.answers)
    job.run(twists=[["forget_sections"]])
    assert there & {text for line in strict.bill.answers[before:] for text in line}


def overpaid(place, sizes, *twists):
    """Kill a run between sections, go on with another estimate: the characters paid for again.

    What is kept of the first run and what the second pays for is the corpus, once; other cuts
    would be other texts, so characters are counted and no texts compared.
    """
    given = ["".join(f"{n}{at:07}" for at in range(128)) for n in range(4)]
    with running(tokens_per_text=MOST, delay=0.01) as server:
        job = place(given, server=server, **settings("mean"))
        command = job.start(twists=[["model_reads", sizes[0]]])
        runs.until(lambda: len(server.bill.answers) >= 9)
        command.kill()
        command.wait()
        runs.until(lambda: server.bill.now_open == 0)
        there = kept(job.out, server.bill.texts) - {runs.HARMLESS}
        assert len(there) >= 6, "all but the harmless text and what was in flight"
        before = len(server.bill.answers)
        job.run(twists=[["model_reads", sizes[1]], *twists])
        later = [text for line in server.bill.answers[before:] for text in line]
        paid = [*there, *(text for text in later if text != runs.HARMLESS)]
        return len("".join(paid)) - len("".join(given))


SIZES = pytest.mark.parametrize("sizes", [(MOST, None), (None, MOST)], ids=str)


@SIZES
def test_killed_and_gone_on_with_another_estimate(place, sizes):
    """What the model reads is known before the kill and not after it, or the other way round."""
    assert overpaid(place, sizes) == 0


@SIZES
def test_cuts_that_are_forgotten_are_seen(place, sizes):
    """The planted bug: another estimate cuts elsewhere, and pays again."""
    assert overpaid(place, sizes, ["forget_cuts"]) > 0


@HOW
def test_shards_and_their_merge_give_the_bytes_of_one_run(place, strict, how):
    """Each text is cut or averaged by the shard that owns it; nothing is paid for twice."""
    one = place(GIVEN, server=strict, name="one", model__on_long_text=how)
    one.run()
    paid = dict(strict.bill.texts)
    strict.bill.texts.clear()
    job = place(GIVEN, server=strict, model__on_long_text=how)
    for number in range(3):
        job.run("run", job.job, "--shard", f"{number}/3")
    job.run("merge", job.job)
    assert runs.digests(job.out) == runs.digests(one.out)
    assert dict(strict.bill.texts) | {runs.HARMLESS: 0} == paid | {runs.HARMLESS: 0}
    assert set(strict.bill.paid_twice) <= {runs.HARMLESS}


def test_a_rejected_long_text_is_taken_up_again(place, strict):
    """`--retry-rejects` asks for its sections anew; its neighbours are not paid again."""
    bad = prose(5) + "Copper odd. " + prose(9, "more ")
    strict.script = lambda seen: faults.status(400) if "odd" in "".join(seen.texts) else None
    job = place([*SHORT[:3], bad], server=strict, **settings("mean", limits__max_rejects="50%"))
    job.run(code=3)
    strict.script = ()
    job.run("run", job.job, "--retry-rejects")
    extent = by_text(job.out)[bad][1]
    assert extent["characters"] == extent["kept"] == len(bad)
    assert extent["sections"] > 1
    assert all(strict.bill.texts[text] == 1 for text in SHORT[:3])
    assert runs.rejects(job.out) == []


@HOW
def test_max_cost_is_kept(place, strict, how):
    """It ends with 4 below the bound, and with more it goes on where it was."""
    more = {"price__per_million_tokens": 1000.0, "limits__max_cost": 0.25}
    job = place(GIVEN, server=strict, **settings(how, **more))
    ended = job.run(code=4)
    assert "limits.max_cost" in ended.err
    assert 0 < strict.bill.tokens * 1e-3 <= 0.25
    job.run("run", job.job, "--set", "limits.max_cost=50")
    assert set(strict.bill.paid_twice) <= {runs.HARMLESS}
    assert runs.manifest(job.out)["bill"]["tokens"] == strict.bill.tokens


@HOW
def test_the_batch_lane_leaves_long_texts_to_the_online_lane(place, how):
    """Each line with one has no answer there; all its texts come online, paid once."""
    with running(batches=BatchDesk(), tokens_per_text=MOST) as server:
        online = place(GIVEN, server=server, name="online", model__on_long_text=how)
        online.run()
        server.bill.texts.clear()
        lane = {"access__lane": "batch", "access__poll_every": "10ms"}
        job = place(GIVEN, server=server, model__on_long_text=how, **lane)
        ended = job.run()
        assert "have no answer from the batch lane; they are sent online" in ended.err
        assert set(server.bill.paid_twice) <= {runs.HARMLESS}
        assert runs.digests(job.out) == runs.digests(online.out)


@pytest.mark.parametrize(
    ("how", "told"),
    [("truncate", "by its beginning"), ("mean", "mean of its sections"), ("reject", None)],
)
def test_a_plan_says_what_becomes_of_them(place, strict, how, told):
    """Before anything is sent."""
    job = place(GIVEN, server=strict, model__on_long_text=how)
    words = job.run("plan", job.job).out
    assert (told or "too long for the model") in words or told is None
    assert strict.bill.requests == 0


@HOW
def test_every_flipped_bit_of_such_a_run_is_found(place, strict, how):
    """The column of extents is under the same checksum as the vectors."""
    from batchembed import BatchembedError, verify

    job = place(GIVEN, server=strict, model__on_long_text=how)
    job.run()
    part, rng = job.out / "embeddings/part-00000.arrow", random.Random(SEED)
    whole = part.read_bytes()
    for _ in range(20):
        raw = bytearray(whole)
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        part.write_bytes(raw)
        with contextlib.suppress(BatchembedError):
            assert verify(job.out).problems
    right = part.write_bytes(whole) and by_text(job.out)
    part.write_bytes(whole[:-9])
    job.run()
    assert part.read_bytes() == whole
    told = by_text(job.out)
    assert {text: extent for text, (_, extent) in told.items()} == {
        text: extent for text, (_, extent) in right.items()
    }
