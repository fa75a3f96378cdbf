"""Verdicts and what the hot loop makes of them, where a step could be left out unseen."""

import asyncio
import hashlib
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from fakes.scripted import (
    KEYER,
    Heard,
    MemoryLedger,
    Scripted,
    Texts,
    loop_of,
    request,
    right,
)
from fakes.time import BEGAN, Clock, now, run
from fakes.vectors import vectors

from batchembed.embed import Budget, Purse, Watch, Watching
from batchembed.embed.canaries import EVERY, TEXTS, TRIES, Baseline, asking, compared, texts_hash
from batchembed.embed.caps import Caps
from batchembed.embed.purse import A_TEXT, bound_of
from batchembed.embed.settle import Facts, Part, harmless, judge
from batchembed.embed.verdicts import Cut, size_of
from batchembed.errors import ActionNeededError, NotFinishedError
from batchembed.exchange import (
    Fatal,
    Limits,
    Malformed,
    Refused,
    Request,
    Response,
    Throttled,
    TooLarge,
    Unavailable,
)
from batchembed.packing import Batch, Packer
from batchembed.prices import Price
from batchembed.prompts import IMAGE_TOKENS, Image, Text, Tokens

D = 32
FACTS = Facts(answers=5, dimensions=D, normalize=False)
ZEROS = Response(np.zeros((4, D), np.float32), 4)
PICTURE = Image(b"0123456789")  # 16 bytes in base64


def part(count=4, **more):
    return Part(request(*(f"text {n}" for n in range(count))), **more)


# -- verdicts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "outcome", "failure"),
    [
        (part(), Throttled("slow down", 1.0), ("throttled", "slow down")),
        (part(), Unavailable("down"), ("unavailable", "down")),
        (part(), TooLarge("too many"), ("too_large", "too many")),
        (part(1), TooLarge("too many"), ("too_large", "too many")),
        (part(), Refused("no", 400), ("refused", "no")),
        (part(1), Refused("no", 400), ("refused", "no")),
        (part(), Malformed("odd"), ("malformed", "odd")),
        (part(), Malformed("odd", torn=True), ("malformed", "odd")),
        (part(1, alone=True), Malformed("odd"), ("malformed", "odd")),
        (part(), Fatal("no money"), ("fatal", "no money")),
        (
            part(),
            Response(vectors(["a"] * 4) * 0, 4),
            ("doubtful", "an answer did not prove itself"),
        ),
        (part(), right(part().request), None),
    ],
    ids=str,
)
def test_every_failure_is_told_by_its_kind_and_reason(given, outcome, failure):
    """They are counted by kind, and the reason is shown."""
    assert judge(given, outcome, FACTS).failure == failure


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        ("malformed", Malformed("odd")),
        ("refused", Refused("no", 400)),
        ("too_large", TooLarge("no")),
    ],
    ids=str,
)
def test_a_text_of_a_job_in_doubt_is_a_failure_too(kind, outcome):
    """While nothing passes it is asked again, after a harmless text; what was said is counted."""
    begins = replace(FACTS, answers=0)
    found = judge(given := part(1, alone=True), outcome, begins)
    assert (found.again, found.try_harmless) == ((given,), True)
    assert found.failure == (kind, outcome.reason)


def test_a_row_of_several_vectors_is_looked_at_vector_by_vector():
    """A row of length 1 is not two vectors of length 1: each is brought to it."""
    one = Response(vectors(["text 0"]), 1)
    facts = replace(FACTS, normalize=True, joined=2, dimensions=one.vectors.shape[1])
    found = judge(part(1, alone=True), one, facts).keep.vectors.reshape(2, -1)
    assert np.allclose(np.linalg.norm(found, axis=1), 1)
    whole = judge(part(1, alone=True), one, replace(facts, joined=1)).keep.vectors
    assert np.array_equal(whole, one.vectors)


def test_rejects_say_why():
    """A person mends the text by it."""
    shape = Response(np.ones((2, D), np.float32), 1, request_id="id-1")
    (reject,) = judge(part(1, alone=True), shape, FACTS).rejects
    assert (reject.reason, reject.request_id) == ("malformed_answer", "id-1")
    assert reject.message == f"asked for 1 vectors, got an array of shape (2, {D})"
    zero = Response(np.zeros((1, D), np.float32), 1, request_id="id-2")
    (reject,) = judge(part(1, alone=True), zero, FACTS).rejects
    assert (reject.reason, reject.request_id) == ("bad_vector", "id-2")
    assert reject.message == "the vector has NaN, infinity or nothing but zeros"


def test_what_has_no_vector_is_rejected_though_all_look_sound():
    """A provider that says so of a text is believed, whatever stands in its place."""
    given = part(3)
    answer = Response(vectors(given.request.texts), 3, unusable={1: "no_known_words"})
    verdict = judge(given, answer, FACTS)
    assert [reject.key for reject in verdict.rejects] == [given.request.keys[1].tobytes()]
    assert verdict.keep.keys.tobytes() == given.request.keys[[0, 2]].tobytes()


def test_rows_joined_of_several_vectors_are_not_of_unit_length():
    """Each of their vectors is: the row is kept as it is, and cut by its outputs."""
    given = part(2)
    two = np.hstack([vectors(["a", "b"]), vectors(["c", "d"])])
    facts = replace(FACTS, dimensions=2 * D, normalize=True, joined=2, outputs=("l1", "l2"))
    verdict = judge(given, Response(two, 2, outputs=("l1", "l2")), facts)
    assert verdict.keep.vectors.tobytes() == two.tobytes()
    assert verdict.keep.outputs == ("l1", "l2")
    two[1, D:] = 0
    verdict = judge(given, Response(two, 2, outputs=("l1", "l2")), facts)
    assert verdict.keep.keys.tobytes() == given.request.keys[:1].tobytes()
    assert [one.request.texts for one in verdict.again] == [("text 1",)]


def test_rows_are_kept_with_what_was_asked_for():
    """Where their places are noted; also of a part of an answer."""
    rows = np.array([7, 3, 9])
    given = Request(KEYER.keys(("a", "b", "c"), "query"), ("a", "b", "c"), "query", rows=rows)
    assert judge(Part(given), right(given), FACTS).keep.rows.tolist() == [7, 3, 9]
    spoiled = vectors(("a", "b", "c"))
    spoiled[1] = np.nan
    verdict = judge(Part(given), Response(spoiled, 3), FACTS)
    assert verdict.keep.rows.tolist() == [7, 9]
    assert verdict.again[0].request.rows.tolist() == [3]


def test_the_harmless_sentence_is_asked_in_the_role_of_the_text_that_was_refused():
    """A model may take queries and refuse documents."""
    scripted = Scripted(lambda n, _asked: None if n else Refused("no", 400))

    async def main():
        await loop_of(scripted).run(Texts(["a", "b"], 1, role="query"))

    run(main)
    assert {asked.role for _, asked in scripted.calls} == {"query"}
    assert scripted.calls[1][1].texts == harmless("query").texts


def test_the_harmless_sentence_is_of_no_row():
    """Its key is zeros, so nothing would ever be found under it."""
    for role in ("query", "document"):
        asked = harmless(role)
        assert asked.keys.dtype == np.uint8
        assert asked.keys.tolist() == [[0] * 16]
        assert (asked.role, asked.tokens) == (role, 10)
        assert asked.texts == ("The quick brown fox jumps over the lazy dog.",)


def test_images_count_in_what_a_request_takes():
    """In base64 as they are sent, and as tokens twice: it depends on the model."""
    prompts = ((Text("ab"), PICTURE), (PICTURE, PICTURE, Tokens((1, 2, 3))))
    asked = Request(KEYER.keys(("ab", ""), "query"), ("ab", ""), "query", prompts=prompts)
    assert size_of(asked) == 2 + 3 * 16
    expected = 2 + 3 * 16 + 2 * A_TEXT + 2 * (3 * IMAGE_TOKENS + 3)
    assert bound_of(asked, None) == expected


# -- packing --------------------------------------------------------------------------------------


def test_prompts_wait_with_their_texts():
    """Over several batches, in order; images count in bytes and tokens, an empty text in none."""
    texts = ["abcde", "", "xy", "", "q"]
    prompts = [(Text(t), *[PICTURE] * n) for n, t in enumerate(texts)]
    packer, found = Packer(Limits(texts_per_request=3)), []
    for at, one in enumerate(texts):
        keys = KEYER.keys((f"{at}",), "query")
        batch = Batch(keys, np.array([at]), [one], ["query"], None, [prompts[at]])
        found += packer.add(batch)
    found += packer.flush()
    assert [asked.texts for asked in found] == [("abcde", "", "xy"), ("", "q")]
    assert [asked.prompts for asked in found] == [tuple(prompts[:3]), tuple(prompts[3:])]
    tokens = [2, IMAGE_TOKENS, 1 + 2 * IMAGE_TOKENS, 3 * IMAGE_TOKENS, 1 + 4 * IMAGE_TOKENS]
    assert [asked.tokens for asked in found] == [sum(tokens[:3]), sum(tokens[3:])]
    assert [asked.rows.tolist() for asked in found] == [[0, 1, 2], [3, 4]]
    packer = Packer(Limits(texts_per_request=100, bytes_per_request=40))
    keys = KEYER.keys(tuple("01234"), "query")
    cut = [*packer.add(Batch(keys, np.arange(5), texts, "query", None, prompts)), *packer.flush()]
    assert [asked.texts for asked in cut] == [("abcde", ""), ("xy",), ("",), ("q",)]


# -- caps -----------------------------------------------------------------------------------------


class Fed:
    """Remembers how it was tightened."""

    def __init__(self):
        self.told = []

    def tighten(self, texts=None, size=None):
        self.told.append((texts, size))


@pytest.mark.parametrize(("by", "learnt"), [("texts", (5, None)), ("size", (None, 70))])
def test_a_cap_is_learnt_with_the_second_half(by, learnt):
    """By what was too much; a third piece teaches nothing more."""
    caps, feed, cut = Caps(), Fed(), Cut(by, 5, 70)
    caps.passed(cut, feed)
    assert feed.told == []
    caps.passed(cut, feed)
    caps.passed(cut, feed)
    assert feed.told == [learnt]
    assert (caps.texts, caps.bytes) == learnt


def test_a_cap_is_never_loosened():
    """The feed hears each; what is told is the least of them."""
    caps, feed = Caps(), Fed()
    assert caps.told() == {}
    for texts, size in ((8, None), (20, None), (None, 900), (3, 1000)):
        caps.tighten(feed, texts=texts, size=size)
    assert feed.told == [(8, None), (20, None), (None, 900), (3, 1000)]
    assert caps.told() == {"texts_per_request": 3, "bytes_per_request": 900}


@pytest.mark.parametrize(
    ("texts", "size", "pieces"),
    [
        (None, None, [6]),
        (6, None, [6]),
        (4, None, [4, 2]),
        (None, 60, [6]),
        (None, 59, [5, 1]),
        (None, 30, [3, 3]),
        (None, 1, [1] * 6),
        (2, 30, [2, 2, 2]),
        (4, 30, [3, 3]),
    ],
)
def test_what_was_packed_before_is_cut_to_what_is_known(texts, size, pieces):
    """In order: six texts of ten bytes."""
    caps = Caps()
    caps.texts, caps.bytes = texts, size
    asked = request(*(f"text {n:05d}" for n in range(6)))
    cut = caps.pieces(asked)
    assert [len(one) for one in cut] == pieces
    assert sum((one.texts for one in cut), ()) == asked.texts


# -- canaries -------------------------------------------------------------------------------------


def watching(baseline=None, **more):
    kept, said = [], []
    how = Watching("query", baseline, kept.append, said.append, Clock(), **more)
    return how, kept, said


def looked(script, size=16):
    """Look once; gives (loop, provider, kept baselines)."""
    how, kept, _ = watching()

    async def main():
        provider = Scripted(script)
        made = loop_of(provider)
        await Watch(made, how, texts_per_request=size).look()
        return made, provider

    return (*run(main), kept)


@pytest.mark.parametrize("size", [1, 5, 16, 100])
def test_canaries_are_asked_in_requests_of_the_providers_size(size):
    """All of them in order, under keys of zeros; their vectors stand as the baseline."""
    made, provider, kept = looked(None, size)
    asked = [one for _, one in provider.calls]
    assert [len(one) for one in asked] == [min(size, 16 - at) for at in range(0, 16, size)]
    assert sum((one.texts for one in asked), ()) == TEXTS
    assert {one.role for one in asked} == {"query"}
    assert not any(one.keys.any() for one in asked)
    assert kept[0].vectors.tobytes() == vectors(TEXTS).tobytes()
    assert made.ending is None


@pytest.mark.parametrize(
    ("outcome", "calls"),
    [
        (Refused("no", 400), 1),
        (Malformed("odd"), 1),
        (TooLarge("big"), 1),
        (Response(np.ones((3, D), np.float32), 1), 1),
        (Unavailable("down"), TRIES),
        (Throttled("slow", 0.5), TRIES),
    ],
)
def test_canaries_that_cannot_be_had_are_let_be(outcome, calls):
    """An outage is tried some times; no baseline is made of what is no answer."""
    made, provider, kept = looked(lambda _n, _asked: outcome)
    assert (len(provider.calls), kept, made.ending) == (calls, [], None)


def test_canaries_of_two_sizes_prove_nothing():
    """Half of them with other dimensions: none of them is a baseline."""
    _, _, kept = looked(
        lambda n, asked: Response(np.ones((len(asked), 4 + n), np.float32), 1), size=8
    )
    assert kept == []


def test_a_fatal_answer_to_canaries_ends_the_run():
    """With the provider's reason and hint."""
    made, provider, kept = looked(lambda _n, _asked: Fatal("no money", hint="pay"))
    assert type(made.ending) is ActionNeededError
    assert (made.ending.message, made.ending.hint) == ("no money", "pay")
    assert (len(provider.calls), kept) == (1, [])


@pytest.mark.parametrize(
    ("ago", "always", "due"),
    [(EVERY - 1, False, False), (EVERY, False, True), (0, True, True), (None, False, True)],
)
def test_canaries_are_due_an_hour_after_they_were_asked(ago, always, due):
    """Or always, or when they never were."""
    how, *_ = watching(always=always)

    async def main():
        await asyncio.sleep(ago or 0)
        return how.due(None if ago is None else Baseline(vectors(TEXTS), BEGAN))

    assert run(main) is due


@pytest.mark.parametrize(
    ("after", "stands"),
    [
        (lambda v: v, True),
        (lambda v: v * 7, True),  # of another length, and the same direction
        (lambda v: v.astype(np.float16).astype(np.float32), True),
        (lambda v: v[:, :-1], False),
        (lambda v: v * 0, False),
        (lambda v: v * np.nan, False),
        (lambda v: np.vstack([v[:-1], -v[-1:]]), False),
    ],
)
def test_what_counts_is_the_canary_that_moved_most(after, stands):
    """One of sixteen is enough; what cannot be compared has moved as far as may be."""
    how, kept, said = watching(stop=False)
    before = Baseline(vectors(TEXTS), BEGAN)

    async def main():
        return compared(how, before, after(vectors(TEXTS)))

    found = run(main)
    assert kept == [found]
    assert (found.vectors is before.vectors) == stands == (said == [])
    assert stands or ": a canary text has a cosine of `" in said[0]
    if not stands and after(np.ones((1, 2))).shape == (1, 1):
        assert "`-1.0000`" in said[0]


def test_the_request_for_canaries_is_estimated_and_named():
    """Their hash is that of the lines; another text gives another."""
    assert texts_hash() == hashlib.sha256("\n".join(TEXTS).encode()).hexdigest()
    asked = asking("document")
    assert asked.tokens == sum(1 + len(text.encode()) // 4 for text in TEXTS)
    assert (asked.keys.shape, asked.keys.dtype, asked.role) == ((16, 16), np.uint8, "document")


# -- the loop -------------------------------------------------------------------------------------


def test_a_full_disk_while_a_bill_is_noted_ends_the_run():
    """What was billed and brought nothing is to be on the bill as well."""
    ledger = MemoryLedger()

    def charge(_tokens, _unsure=0):
        raise OSError(28, "No space left on device")

    ledger.charge = charge

    async def main():
        made = loop_of(Scripted(lambda _n, _asked: Malformed("odd")), ledger)
        await made.run(Texts(["text 1", "text 2"]))
        return made

    made = run(main)
    assert type(made.ending) is NotFinishedError
    assert made.ending.message == "the run directory cannot be written: No space left on device"


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Unavailable("down"), "nothing was answered for `"),
        (Throttled("slow down", 7200.0), "nothing may be sent for another `7200` s: slow down"),
    ],
)
def test_patience_says_whether_it_waited_or_would_have_to(outcome, words):
    """For so long nothing came, or nothing may be sent for so long: never the one for the other."""

    async def main():
        made = loop_of(Scripted(lambda _n, _asked: outcome), patience=60.0)
        await made.run(Texts(["text 1"]))
        return made, now()

    made, ended = run(main)
    assert made.ending.message.startswith(words)
    assert "`0` s" not in made.ending.message
    assert ended < 130


def test_what_the_loop_tells_is_what_happened():
    """Texts that were answered, and each failure with its kind and reason."""

    async def main():
        script = lambda n, _asked: Refused("no", 400) if n == 1 else None
        made = loop_of(Scripted(script), concurrency=1)
        await made.run(Texts([f"text {n}" for n in range(8)], 4))
        return made.listener, made.ledger

    told, ledger = run(main)
    assert isinstance(told, Heard)
    assert (told.texts, len(ledger.kept)) == (8, 8)
    assert [failure[:2] for failure in told.failures] == [("refused", "no")]


# -- the bound on cost ----------------------------------------------------------------------------


def test_who_waits_for_the_bound_is_told_and_then_not_any_more():
    """Near the bound a request waits for the bill of another, and goes on."""
    cent = Price(Decimal(10000))

    async def main():
        purse = Purse(Budget(cent, cent.of(250)), MemoryLedger(), lambda: 2)
        first, second = request("a" * 100), request("b" * 30)
        assert await purse.admit(Part(first)) is None
        assert purse.standing().kind == ""
        task = asyncio.create_task(purse.admit(Part(second)))
        await asyncio.sleep(1)
        assert purse.standing().kind == "budget"
        waits = purse.standing().words
        purse.settle(first, Response(vectors(["a"]), 25), sent=True)
        assert await task is None
        assert purse.standing().kind == ""
        return waits

    assert run(main) == "near `limits.max_cost`: waiting for the bills of what is out"


def test_without_a_bound_nothing_is_unsure_that_was_not_lost():
    """What was lost before is said by the ledger."""
    purse = Purse(None, MemoryLedger(), lambda: 1)
    assert purse._unsure == 0
    assert purse.settle(request("abc"), None, sent=True) == 3 + A_TEXT
    assert purse.settle(request("abc"), None, sent=False) == 0
    assert purse._unsure == 3 + A_TEXT
