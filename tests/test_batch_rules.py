"""The batch lane's rules, in virtual time and without a server: what is asked, when, and kept."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from fakes.scripted import KEYER, Heard, MemoryLedger, right
from fakes.time import BEGAN, Clock, now, run
from fakes.vectors import vectors

from batchembed.embed import BatchLane, Desk, Facts, Versions, Watching
from batchembed.embed.batch import CANARIES, FIRST_WAIT, FULL, LONGEST_WAIT
from batchembed.embed.canaries import TEXTS, Baseline
from batchembed.errors import ActionNeededError, NotFinishedError
from batchembed.exchange import (
    Fatal,
    Malformed,
    Refused,
    Request,
    Response,
    Throttled,
    TooLarge,
    Unavailable,
)
from batchembed.handed import Handed
from batchembed.ledger import has_submissions
from batchembed.store import BATCHES, Store

FACTS = Facts(answers=1, dimensions=None, normalize=False)
FIRST = [["a", "b"], ["c"]]


def file_of(lines, *, without=(), **other):
    """The answers to some lines; `other` are bodies that are not `right`, by the line's name."""
    named = [(str(at), 200, other.get(f"at{at}", "right")) for at in range(len(lines))]
    named += [(CANARIES, 200, other["canaries"])] if "canaries" in other else []
    return json.dumps([one for one in named if one[0] not in without]).encode()


class Counter:
    """The provider's side, by a script: each list is used up from its front, its last one stays."""

    def __init__(self, **script):
        self.calls = []
        self.outcomes = {}
        self.script = {
            "hand_in": [
                lambda identity: Handed(f"batch-{identity[:4]}", "validating", identity, ())
            ],
            "find": [None],
            "look": [Handed("batch", "completed", "", ("answers",))],
            "answers": [file_of(FIRST)],
            **script,
        }

    def _next(self, name, *told):
        self.calls.append((name, *told, now()))
        left = self.script[name]
        return left.pop(0) if len(left) > 1 else left[0]

    async def hand_in(self, file, identity, shared):
        made = self._next("hand_in", file, shared)
        return made(identity) if callable(made) else made

    async def find(self, identity):
        return self._next("find", identity)

    async def look(self, batch):
        return self._next("look", batch)

    async def answers(self, file):
        return self._next("answers", file)

    def split(self, file):
        return [(name, code, body.encode()) for name, code, body in json.loads(file)]

    def request(self, line, keys):
        texts = tuple(json.loads(line))
        assert keys.tobytes() == KEYER.keys(texts, "symmetric").tobytes()
        return Request(keys, texts, "symmetric", tokens=len(texts))

    def outcome(self, asked, code, body):
        told = self.outcomes.get(body.decode(), right(asked) if body == b"right" else None)
        return told(asked) if callable(told) else told or Malformed("odd")

    def named(self, name):
        """The calls of one kind."""
        return [call for call in self.calls if call[0] == name]


class Told(Heard):
    """What the lane told, tokens too."""

    def __init__(self):
        super().__init__()
        self.answers = []

    def answered(self, texts, tokens, mended=0):
        self.answers.append((texts, tokens))


@pytest.fixture
def desk(tmp_path):
    """A desk in a directory that exists."""
    return Desk(Store(tmp_path))


def write(desk, lines, **more):
    """Write a submission of lines of texts."""
    said = [json.dumps(texts).encode() + b"\n" for texts in lines]
    keys = [KEYER.keys(tuple(texts), "symmetric") for texts in lines]
    return desk.write(said, keys, 99, **more)


def ran(desk, counter, ledger=None, **more):
    """Run the lane to its end; gives (lane, what was told, seconds)."""
    told = {"poll": 30.0, "patience": 100.0, "facts": FACTS, **more}
    lane = BatchLane(counter, desk, ledger or MemoryLedger(), Told(), **told)

    async def main():
        await lane.run()
        return now()

    seconds = run(main)
    return lane, lane.listener, seconds


def kept(ledger):
    """Which of some texts are kept, each with its own vector."""
    found = {}
    for text in "abcdefg":
        if (vector := ledger.kept.get(KEYER.key(text, "symmetric"))) is not None:
            assert np.array_equal(vector, vectors([text])[0])
            found[text] = vector
    return "".join(found)


# -- what is written down --------------------------------------------------------------------------


def test_a_submission_is_three_files_and_read_again_as_it_was(desk, tmp_path):
    """Named by the hash of lines and keys; how far it is, is known to whoever comes next."""
    one = write(desk, FIRST, shared='{"input_type": "query"}', canaries=True)
    other = write(desk, [["d"]])
    assert one.identity != other.identity != ""
    assert (one.sizes, one.texts, one.bound) == ((2, 1), 3, 99)
    names = {path.name for path in (tmp_path / BATCHES).iterdir()}
    endings = ("json", "jsonl", "keys")
    assert names == {f"{x.identity}.{end}" for x in (one, other) for end in endings}
    again = Desk(Store(tmp_path))
    again.load()
    assert sorted(again.open, key=lambda x: x.texts) == [other, one]
    assert has_submissions(Store(tmp_path))
    assert again.file(one) == b'["a", "b"]\n["c"]\n'
    lines = [(json.loads(line), keys.tobytes()) for line, keys in again.lines(one)]
    assert lines == [(texts, KEYER.keys(tuple(texts), "symmetric").tobytes()) for texts in FIRST]
    assert not desk.open[0].tried


def test_the_same_lines_with_other_keys_are_another_submission(desk):
    """So texts that are asked for under another spec are not taken for these."""
    keys = [KEYER.keys(("a",), role) for role in ("query", "document")]
    made = [desk.write([b'["a"]\n'], [some], 9).identity for some in keys]
    assert len(set(made)) == 2
    assert all(len(identity) == 32 for identity in made)


def test_how_far_it_is_is_kept_and_forgotten(desk, tmp_path):
    """Each word takes the place of the one before, also in a file."""

    def read():
        again = Desk(Store(tmp_path))
        again.load()
        return again.open

    one, other = write(desk, FIRST), write(desk, [["d"]])
    tried = desk.tried(one)
    assert (tried.tried, tried.batch) == (True, "")
    assert desk.open == [other, tried]
    assert tried in read()
    named = desk.submitted(one, "batch-7")
    assert (named.tried, named.batch) == (True, "batch-7")
    assert desk.open == [other, named]
    assert sorted(read(), key=lambda x: x.texts) == [other, named]
    desk.forget(named)
    assert desk.open == read() == [other]
    assert {p.stem for p in (tmp_path / BATCHES).iterdir()} == {other.identity}
    desk.forget(other)
    assert not has_submissions(Store(tmp_path))
    assert list((tmp_path / BATCHES).iterdir()) == []


@pytest.mark.parametrize("gone", ["json", "no word at all"])
def test_what_no_word_vouches_for_is_swept(desk, tmp_path, gone):
    """It was never handed in: the word comes last, and goes first."""
    whole, torn = write(desk, FIRST), write(desk, [["d"]])
    (tmp_path / BATCHES / f"{torn.identity}.json").unlink()
    if gone != "json":
        (tmp_path / BATCHES / f"{torn.identity}.keys").unlink()
    again = Desk(Store(tmp_path))
    again.open = [torn]
    again.load()
    assert again.open == [whole]
    assert {p.stem for p in (tmp_path / BATCHES).iterdir()} == {whole.identity}


# -- handing in and looking ------------------------------------------------------------------------


def test_one_is_handed_in_once_looked_at_and_kept(desk):
    """Nobody is asked whether they have what was never tried; nothing is waited for."""
    one = write(desk, FIRST, shared="told beside it")
    counter, ledger = Counter(), MemoryLedger()
    lane, told, seconds = ran(desk, counter, ledger)
    assert [call[0] for call in counter.calls] == ["hand_in", "look", "answers"]
    assert counter.calls[0][1:3] == (desk.file(one), "told beside it")
    assert counter.calls[1][1] == f"batch-{one.identity[:4]}"
    assert counter.calls[2][1] == "answers"
    assert (lane.ending, lane.stopped(), seconds) == (None, False, 0.0)
    assert kept(ledger) == "abc"
    assert (ledger.appends, ledger.tokens, ledger.charged) == (2, 3, 0)
    assert told.answers == [(2, 2), (1, 1)]
    assert told.failures == []
    assert [x.identity for x in lane.landed] == [one.identity]
    assert desk.open == []
    assert lane.dimensions == vectors(["a"]).shape[1]
    assert has_submissions(desk.store), "what has landed is deleted by who publishes"


def test_it_is_looked_at_again_after_each_poll(desk):
    """A batch that is under way is left alone meanwhile."""
    write(desk, FIRST)
    under_way = Handed("batch", "in_progress", "", ())
    counter = Counter(look=[under_way, under_way, Handed("batch", "completed", "", ("answers",))])
    lane, _, seconds = ran(desk, counter, poll=30.0)
    assert [call[-1] for call in counter.named("look")] == [0.0, 30.0, 60.0]
    assert (seconds, lane.ending, len(lane.landed)) == (60.0, None, 1)


def test_all_files_of_answers_are_read(desk):
    """Answers in one, errors in another; a line that nobody asked for is passed over."""
    write(desk, FIRST)
    answers = [file_of(FIRST, without="1"), json.dumps([("1", 200, "right"), ("7", 200, "right")])]
    counter = Counter(
        look=[Handed("batch", "expired", "", ("one", "two"))], answers=[*answers, b"[]"]
    )
    ledger = MemoryLedger()
    ran(desk, counter, ledger)
    assert [call[1] for call in counter.named("answers")] == ["one", "two"]
    assert kept(ledger) == "abc"


def test_one_that_was_tried_is_looked_for_before_it_is_handed_in(desk):
    """Found, it is not handed in again; not found, it is, once."""
    one = desk.tried(write(desk, FIRST))
    counter = Counter(find=[Handed("batch-9", "in_progress", one.identity, ())])
    lane, *_ = ran(desk, counter)
    assert [call[:2] for call in counter.calls[:2]] == [("find", one.identity), ("look", "batch-9")]
    assert counter.named("hand_in") == []
    assert lane.landed[0].batch == "batch-9"
    desk.tried(write(desk, [["d"]]))
    counter = Counter(answers=[file_of([["d"]])])
    ran(desk, counter)
    assert [call[0] for call in counter.calls] == ["find", "hand_in", "look", "answers"]


@pytest.mark.parametrize("trouble", [Unavailable("lost"), Throttled("slow down", 5.0)])
def test_an_answer_to_handing_in_that_is_lost_is_looked_for_a_turn_later(desk, trouble):
    """It may have arrived: `tried` is on the disk before it is sent. None is tried beside it."""
    one, other = write(desk, FIRST), write(desk, [["d"]])
    seen = []

    def hand_in(identity):
        seen.append(json.loads(desk.store.read(f"{BATCHES}/{identity}.json"))["tried"])
        return trouble if len(seen) == 1 else Handed("batch-2", "validating", identity, ())

    found = [Handed("batch-1", "validating", one.identity, ())]
    answers = [file_of(FIRST), file_of([["d"]])]
    counter = Counter(hand_in=[hand_in], find=found, answers=answers)
    lane, told, seconds = ran(desk, counter, poll=30.0)
    assert seen == [True, True]
    tries = [(name, at) for name, *_, at in counter.calls if name in ("hand_in", "find")]
    assert tries == [("hand_in", 0.0), ("hand_in", 30.0), ("find", 30.0)]
    assert told.failures == [("unavailable", trouble.reason, 0.0)]
    assert {x.identity for x in lane.landed} == {one.identity, other.identity}
    assert (lane.ending, seconds) == (None, 30.0)


@pytest.mark.parametrize(
    "why", [Fatal("no money", hint="pay"), Refused("no", 400), Malformed("odd"), TooLarge("big")]
)
@pytest.mark.parametrize("call", ["hand_in", "find", "look", "answers"])
def test_what_only_a_person_can_mend_ends_the_run(desk, why, call):
    """Whatever was asked; the reason and the hint are the provider's, and nothing more is asked."""
    one = write(desk, FIRST)
    if call == "find":
        desk.tried(one)
    counter, ledger = Counter(**{call: [why]}), MemoryLedger()
    lane, *_ = ran(desk, counter, ledger)
    assert type(lane.ending) is ActionNeededError
    assert lane.ending.message == why.reason
    assert lane.ending.hint == getattr(why, "hint", None)
    assert counter.calls[-1][0] == call
    assert len(counter.named(call)) == 1
    assert (kept(ledger), lane.landed, len(desk.open)) == ("", [], 1)


def test_two_that_cannot_be_handed_in_are_not_both_tried(desk):
    """What ended the run with the first is not asked again with the second."""
    write(desk, FIRST)
    write(desk, [["d"]])
    counter = Counter(hand_in=[Fatal("no money", hint="pay")])
    ran(desk, counter)
    assert [call[0] for call in counter.calls] == ["hand_in"]


@pytest.mark.parametrize("call", ["find", "look", "answers"])
def test_an_outage_is_waited_out_with_longer_and_longer_pauses(desk, call):
    """Or as long as the server says; each is told, and none is more than a minute."""
    one = write(desk, FIRST)
    if call == "find":
        desk.tried(one)
    down = [Unavailable("down")] * 7
    last = {"find": [None], "look": Counter().script["look"], "answers": [file_of(FIRST)]}[call]
    counter, ledger = Counter(**{call: [*down, Throttled("slow down", 7.5), *last]}), MemoryLedger()
    lane, told, _ = ran(desk, counter, ledger, patience=1000.0)
    pauses = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0]
    assert told.failures == [("unavailable", "down", pause) for pause in pauses] + [
        ("unavailable", "slow down", 7.5)
    ]
    times = [at for *_, at in counter.named(call)]
    assert np.diff(times).tolist() == [*pauses, 7.5]
    assert pauses[0] == FIRST_WAIT
    assert pauses[-1] == LONGEST_WAIT
    assert (kept(ledger), lane.ending) == ("abc", None)


@pytest.mark.parametrize("wait", [None, 0.0])
def test_an_outage_beyond_the_patience_ends_the_run(desk, wait):
    """What was handed in stays there, and the same command looks for it again."""
    write(desk, FIRST)
    counter = Counter(
        look=[Unavailable("down", wait=wait) if wait is None else Throttled("s", wait)]
    )
    lane, told, seconds = ran(desk, counter, patience=10.0)
    assert type(lane.ending) is NotFinishedError
    waited, reason = (15, "down") if wait is None else (10, "s")
    assert lane.ending.message == f"nothing was answered for `{waited}` s: {reason}"
    assert lane.ending.hint == "what was handed in stays there; run the same command again later"
    assert seconds == (15.0 if wait is None else 0.0)
    assert len(told.failures) == (4 if wait is None else 10)
    assert len(desk.open) == 1


def test_a_signal_ends_the_waiting_at_once(desk):
    """The first reason is the one that is told; abandoning does nothing more."""
    write(desk, FIRST)
    counter = Counter(look=[Handed("batch", "in_progress", "", ())])
    lane = BatchLane(counter, desk, MemoryLedger(), Told(), FACTS, poll=30.0, patience=100.0)

    async def main():
        task = asyncio.create_task(lane.run())
        await asyncio.sleep(40)
        why = NotFinishedError("stopped")
        lane.drain(why)
        lane.drain(NotFinishedError("another"))
        lane.abandon()
        await task
        assert lane.ending is why
        return now()

    assert run(main) == 40.0
    assert lane.stopped()
    assert len(counter.named("look")) == 2


# -- batches that were not taken -------------------------------------------------------------------


def test_a_batch_that_was_not_taken_ends_the_run_and_is_forgotten(desk):
    """It was not billed; what to do about it is told."""
    lines = [[f"text {n}" for n in range(1200)]]
    write(desk, lines)
    counter = Counter(look=[Handed("batch", "failed", "", (), "billing_hard_limit_reached")])
    lane, *_ = ran(desk, counter)
    assert type(lane.ending) is ActionNeededError
    assert lane.ending.message == (
        "the provider did not take a batch of 1,200 texts: billing_hard_limit_reached"
    )
    assert lane.ending.hint == (
        'mend it and run again, or send them online: --set access.lane="online"'
    )
    assert desk.open == []
    assert not has_submissions(desk.store)


def test_a_failed_batch_with_answers_lands(desk):
    """What was answered before it failed was billed."""
    write(desk, FIRST)
    counter, ledger = Counter(look=[Handed("batch", "failed", "", ("x",), FULL)]), MemoryLedger()
    lane, *_ = ran(desk, counter, ledger)
    assert (kept(ledger), lane.ending, len(lane.landed)) == ("abc", None, 1)


def test_for_want_of_room_it_is_handed_in_again_while_others_are_under_way(desk):
    """Without looking for it: it is known that it was not taken. Alone, it ends the run."""
    one, other = write(desk, FIRST), write(desk, [["d"]])
    full, under_way = (
        Handed("batch", "failed", "", (), FULL),
        Handed("batch", "in_progress", "", ()),
    )
    done = Handed("batch", "completed", "", ("answers",))
    counter = Counter(
        look=[full, under_way, done, done], answers=[file_of([["d"]]), file_of(FIRST)]
    )
    lane, _, seconds = ran(desk, counter, poll=30.0)
    assert counter.named("find") == []
    assert [call[-1] for call in counter.named("hand_in")] == [0.0, 0.0, 30.0]
    assert counter.named("hand_in")[-1][1] == desk.file(one)
    assert [x.identity for x in lane.landed] == [other.identity, one.identity]
    assert (lane.ending, seconds) == (None, 30.0)
    write(desk, [["e"]])
    lane, *_ = ran(desk, Counter(look=[full]))
    assert FULL in lane.ending.message


# -- what is kept ----------------------------------------------------------------------------------


def test_what_has_no_good_answer_is_not_kept_and_told(desk):
    """It is missing when the batch has landed; its neighbours are kept."""
    write(desk, FIRST)
    counter, ledger = Counter(answers=[file_of(FIRST, at0="refused")]), MemoryLedger()
    counter.outcomes["refused"] = Refused("bad input", 400)
    lane, told, _ = ran(desk, counter, ledger)
    assert kept(ledger) == "c"
    assert told.failures == [("unanswered in the batch", "bad input", 0.0)]
    assert (len(lane.landed), ledger.rejects, ledger.charged) == (1, {}, 0)


def test_an_answer_without_a_good_vector_is_on_the_bill(desk):
    """It was paid for, whatever it is worth."""
    write(desk, FIRST)
    counter, ledger = Counter(answers=[file_of(FIRST, at0="zeros", at1="nothing")]), MemoryLedger()
    counter.outcomes["zeros"] = Response(np.zeros((2, 32), np.float32), 7)
    counter.outcomes["nothing"] = Response(np.zeros((1, 32), np.float32), 0)
    ran(desk, counter, ledger)
    assert (kept(ledger), ledger.charged, ledger.tokens) == ("", 7, 0)


def test_what_is_known_already_is_not_kept_again(desk):
    """A crash after some of a file was kept: the rest is, and the bill is right."""
    write(desk, FIRST)
    ledger = MemoryLedger()
    known = {KEYER.key("a", "symmetric"), KEYER.key("b", "symmetric")}
    lane, *_ = ran(desk, Counter(), ledger, known=known)
    assert (kept(ledger), ledger.tokens) == ("c", 1)
    assert KEYER.key("c", "symmetric") in lane.known


def test_vectors_of_another_dimension_end_the_run_and_the_file_is_taken(desk):
    """Nothing of them is kept; those that follow are judged by what was kept first."""
    write(desk, FIRST)
    counter, ledger = Counter(answers=[file_of(FIRST, at1="longer")]), MemoryLedger()
    counter.outcomes["longer"] = Response(np.ones((1, 33), np.float32), 1)
    lane, *_ = ran(desk, counter, ledger)
    assert kept(ledger) == "ab"
    assert "vectors of `33` dimensions, not `32`" in lane.ending.message


def test_another_model_ends_the_run_and_its_answers_stay_there(desk):
    """Nothing behind it is kept either: it is read again with leave."""
    write(desk, FIRST)
    counter, ledger = Counter(answers=[file_of(FIRST, at0="other")]), MemoryLedger()
    counter.outcomes["other"] = lambda asked: replace(right(asked), model_version="v2")
    lane, *_ = ran(desk, counter, ledger, versions=Versions(["v1"]))
    assert "`v2`" in lane.ending.message
    assert (kept(ledger), lane.landed, len(desk.open)) == ("", [], 1)


def test_a_full_disk_ends_the_run_and_the_batch_stays(desk):
    """The same command reads its answers again."""
    write(desk, FIRST)
    lane, *_ = ran(desk, Counter(), MemoryLedger(full=OSError(28, "No space left on device")))
    assert lane.ending.message == "the run directory cannot be written: No space left on device"
    assert (lane.landed, len(desk.open)) == ([], 1)


# -- canaries --------------------------------------------------------------------------------------


def watching(**more):
    """What is done about a change, and what was told of it."""
    kept, said = [], []
    before = Baseline(vectors(TEXTS), BEGAN - timedelta(days=1))
    told = {"baseline": before, "stop": True, **more}
    return Watching("query", keep=kept.append, say=said.append, clock=Clock(), **told), kept, said


def canary(desk, answer, ledger=None, **more):
    """Run a file with a canary line that is answered so."""
    write(desk, FIRST, canaries=True)
    counter = Counter(answers=[file_of(FIRST, canaries="canary")])
    asked = []

    def outcome(request):
        asked.append((request.texts, request.role))
        return answer(request) if callable(answer) else answer

    counter.outcomes["canary"] = outcome
    lane, told, _ = ran(desk, counter, ledger, **more)
    return lane, told, asked


def test_canaries_that_stand_still_are_billed_and_renew_the_baseline(desk):
    """They keep the vectors they had first: a drift by small steps is one."""
    how, kept_baselines, said = watching()
    ledger = MemoryLedger()
    lane, told, asked = canary(desk, lambda r: right(r, 50), ledger, watching=how)
    assert asked == [(TEXTS, "query")]
    assert (ledger.charged, kept(ledger), said) == (50, "abc", [])
    assert told.answers == [(0, 50), (2, 2), (1, 1)]
    (found,) = kept_baselines
    assert found.asked == BEGAN
    assert found.vectors is how.baseline.vectors
    assert lane.watching.baseline is found


@pytest.mark.parametrize("stop", [True, False])
def test_canaries_that_moved_end_the_run_or_are_told(desk, stop):
    """Before a row is kept; with leave, the new vectors are the baseline."""
    how, baselines, said = watching(stop=stop)
    ledger = MemoryLedger()
    lane, *_ = canary(
        desk, lambda r: replace(right(r, 9), vectors=-vectors(r.texts)), ledger, watching=how
    )
    if stop:
        assert "the provider's model is another by now" in lane.ending.message
        assert (kept(ledger), ledger.charged, lane.landed, baselines) == ("", 0, [], [])
    else:
        assert said[0].startswith("warning: the provider's model is another by now")
        assert (kept(ledger), ledger.charged, lane.ending) == ("abc", 9, None)
        assert baselines[0].vectors.tobytes() == (-vectors(TEXTS)).tobytes()


@pytest.mark.parametrize("answer", [Refused("no", 400), Malformed("odd"), Unavailable("down")])
def test_canaries_that_cannot_be_had_say_nothing(desk, answer):
    """Their file lands all the same, and nothing is billed for them."""
    how, baselines, _ = watching()
    ledger = MemoryLedger()
    lane, *_ = canary(desk, answer, ledger, watching=how)
    assert (kept(ledger), ledger.charged, baselines, lane.ending) == ("abc", 0, [], None)


def test_canaries_of_a_file_that_was_read_before_are_not_billed_again(desk):
    """Any text of it that is known says that it was."""
    ledger = MemoryLedger()
    known = {KEYER.key("c", "symmetric")}
    _, told, asked = canary(desk, lambda r: right(r, 50), ledger, known=known)
    assert asked == [(TEXTS, "symmetric")]
    assert (ledger.charged, kept(ledger)) == (0, "ab")
    assert told.answers == [(2, 2)]


def test_canaries_of_another_version_end_the_run_without_a_baseline_too(desk):
    """The name is looked at first."""
    ledger = MemoryLedger()
    lane, *_ = canary(desk, lambda r: right(r, 5), ledger, versions=Versions(["v1"]))
    assert "`fake-1`" in lane.ending.message
    assert (kept(ledger), ledger.charged, lane.landed) == ("", 0, [])


def test_canaries_that_a_server_does_not_bill_cost_nothing(desk):
    """It says no tokens: none are made up."""
    ledger = MemoryLedger()
    _, told, _ = canary(desk, lambda r: replace(right(r), tokens=None), ledger)
    assert ledger.charged == 0
    assert told.answers[0] == (0, 0)
