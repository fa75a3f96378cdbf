"""What follows from an outcome: every text ends with its own vector or with a reason."""

import dataclasses
import math

import numpy as np
import pytest
from fakes.scripted import KEYER, request, right
from fakes.vectors import vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from batchembed.embed import settle
from batchembed.embed.answers import checked, twins
from batchembed.embed.settle import Facts, Part, judge
from batchembed.errors import ActionNeededError
from batchembed.exchange import (
    Control,
    Fatal,
    Malformed,
    Refused,
    Request,
    Response,
    Throttled,
    TooLarge,
    Unavailable,
)

D = 32
FACTS = Facts(answers=5, dimensions=D, normalize=False)
FRESH = dataclasses.replace(FACTS, answers=0, dimensions=None)


def part(count=4, **more):
    return Part(request(*(f"text {n}" for n in range(count))), **more)


def asked(verdict):
    """The texts that are asked again, in the order in which they will be."""
    return [one.request.texts for one in reversed(verdict.again)]


def names(*numbers):
    return tuple(f"text {n}" for n in numbers)


# -- what answers prove ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vector", "good"),
    [
        ([1.0, 0.0], True),
        ([1e-22, 0.0], True),  # its square is no float32
        ([3e38, 3e38], True),
        ([1e-45, 0.0], True),
        ([0.0, -0.0], False),
        ([math.nan, 1.0], False),
        ([math.inf, 1.0], False),
        ([-math.inf, 1.0], False),
    ],
)
@pytest.mark.parametrize("normalize", [False, True])
def test_a_vector_must_be_finite_and_not_zero(vector, good, normalize):
    """Also where squares of float32 would overflow or vanish."""
    given_in = np.array([vector, [0.6, 0.8]], np.float32)
    kept = given_in.copy()
    found, which = checked(given_in, normalize=normalize)
    assert which.tolist() == [good, True]
    assert np.array_equal(given_in, kept, equal_nan=True)  # what was given is not changed
    assert found[1].tolist() == kept[1].tolist()
    if good and normalize:
        assert np.linalg.norm(found[0].astype(np.float64)) == pytest.approx(1, abs=1e-6)
    elif good:
        assert found[0].tolist() == kept[0].tolist()


def test_a_vector_of_unit_length_keeps_its_bits():
    """Normalising what is normal would change bytes between runs for nothing."""
    unit = vectors([f"t{n}" for n in range(50)])
    assert checked(unit, normalize=True)[0] is unit
    off = unit * np.float32(1.01)
    found = checked(off, normalize=True)[0]
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-6


def test_twins_are_found():
    """Different texts with the same bits: one of them has the vector of another."""
    a, b, c = vectors(["a", "b", "c"])
    assert twins(np.stack([a, b, a, c, b])).tolist() == [True, True, True, False, True]
    assert twins(np.stack([a, b, c])).tolist() == [False] * 3
    assert twins(np.stack([a, b, c])[:, ::-1]).tolist() == [False] * 3


# -- the table -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("proven", [False, True])
def test_a_right_answer_is_kept_whole(count, alone, proven):
    """Keys, vectors, bill and version of all of its texts, and nothing is asked again."""
    given_in = part(count, alone=alone)
    answer = dataclasses.replace(right(given_in.request, tokens=77), proven=proven)
    verdict = judge(given_in, answer, FACTS)
    assert verdict == settle.Verdict(keep=verdict.keep)
    assert (verdict.keep.keys == given_in.request.keys).all()
    assert (verdict.keep.vectors == vectors(given_in.request.texts)).all()
    assert (verdict.keep.tokens, verdict.keep.model_version) == (77, "fake-1")


def test_a_server_that_does_not_bill_is_taken_at_the_estimate():
    """The bill stays near the truth."""
    given_in = part(4)
    answer = dataclasses.replace(right(given_in.request), tokens=None)
    assert judge(given_in, answer, FACTS).keep.tokens == given_in.request.tokens


def spoiled(asked_for, number, values):
    found = vectors(asked_for.texts)
    found[number] = values
    return Response(found, 1)


@pytest.mark.parametrize("values", [0.0, math.nan, math.inf])
def test_a_doubtful_vector_is_asked_again_alone_and_its_neighbours_are_kept(values):
    """One bad vector of four: three are paid once, one is asked by itself."""
    given_in = part(4)
    verdict = judge(given_in, spoiled(given_in.request, 2, values), FACTS)
    assert [k.tobytes() for k in verdict.keep.keys] == [
        KEYER.key(t, "symmetric") for t in names(0, 1, 3)
    ]
    assert (verdict.keep.vectors == vectors(names(0, 1, 3))).all()
    assert asked(verdict) == [names(2)]
    assert all(one.alone for one in verdict.again)
    assert verdict.failure[0] == "doubtful"
    assert verdict.rejects == ()


@pytest.mark.parametrize("values", [0.0, math.nan, math.inf])
def test_a_vector_that_is_bad_alone_too_is_rejected(values):
    """Never guessed, never asked for ever."""
    given_in = part(1, alone=True)
    verdict = judge(given_in, spoiled(given_in.request, 0, values), FACTS)
    assert verdict.keep is None
    assert verdict.again == ()
    assert [(r.key, r.reason) for r in verdict.rejects] == [
        (KEYER.key("text 0", "symmetric"), "bad_vector")
    ]


def test_twins_are_asked_again_unless_they_were_computed_here():
    """A server that mixes up its answers gives some vector twice."""
    given_in = part(4)
    answer = Response(vectors(names(0, 1, 0, 3)), 4)
    verdict = judge(given_in, answer, FACTS)
    assert asked(verdict) == [names(0), names(2)]
    assert (verdict.keep.vectors == vectors(names(1, 3))).all()
    proven = judge(given_in, dataclasses.replace(answer, proven=True), FACTS)
    assert len(proven.keep.keys) == 4
    alone = judge(part(1, alone=True), Response(vectors(names(0)), 1), FACTS)
    assert alone.keep is not None


FOLDED = ("Foo bar", "other", "foo  BAR", "f\u00f3o bar", "Other", "third")


def twice(asked_for):
    """The answer of a server that folds: texts that differ little have one vector."""
    plain = [" ".join(t.replace("\u00f3", "o").lower().split()) for t in asked_for.texts]
    return Response(vectors(plain), len(plain))


def test_twins_that_a_server_may_fold_are_held_and_stand_together():
    """Every text of a pair is asked alone, and what it was answered is remembered."""
    given_in = Part(request(*FOLDED))
    verdict = judge(given_in, twice(given_in.request), FACTS)
    assert verdict.keep.keys.tobytes() == KEYER.key("third", "symmetric")
    three, two = [FOLDED[at] for at in (0, 2, 3)], [FOLDED[at] for at in (1, 4)]
    assert [text for (text,) in asked(verdict)] in (three + two, two + three)
    for one in verdict.again:
        assert one.held.keys.tobytes() == KEYER.key(one.request.texts[0], "symmetric")
        assert judge(one, twice(one.request), FACTS).folds is True
        other = Response(vectors(["another"]), 1)
        assert judge(one, other, FACTS).folds is False
        assert judge(one, Response(vectors(["x"]) * 0, 1), FACTS).folds is None
        assert settle.unasked(one, FACTS) is None
        assert settle.unasked(one, KNOWN).keep is one.held


KNOWN = dataclasses.replace(FACTS, folds=True)


def test_twins_of_a_server_that_folds_are_believed():
    """No text is paid for twice; but only texts that differ in case, accents and whitespace."""
    given_in = Part(request(*FOLDED))
    verdict = judge(given_in, twice(given_in.request), KNOWN)
    assert len(verdict.keep.keys) == len(FOLDED)
    assert (verdict.again, verdict.failure) == ((), None)
    mixed = Response(vectors(names(0, 1, 0, 3)), 4)
    verdict = judge(part(4), mixed, KNOWN)
    assert asked(verdict) == [names(0), names(2)]
    assert all(one.held is None for one in verdict.again)


def test_zeros_are_no_proof_of_folding():
    """Two vectors of nothing are the same, and believed never."""
    given_in = Part(request("Foo", "foo"))
    verdict = judge(given_in, Response(np.zeros((2, D), np.float32), 2), KNOWN)
    assert verdict.keep is None
    assert [one.held for one in verdict.again] == [None, None]


def test_one_text_with_two_controls_is_not_taken_for_a_folded_one():
    """Its vectors should differ, whatever the server does with case."""
    controls = ((Control(0, 1, 2.0),), (Control(1, 1, 2.0),))
    asked_for = Request(KEYER.keys(["foo"] * 2, "query", controls), ("foo",) * 2, "query", controls)
    verdict = judge(Part(asked_for), twice(asked_for), KNOWN)
    assert [one.held for one in verdict.again] == [None, None]


def test_texts_that_have_no_vector_are_rejected_with_the_providers_reason():
    """A local model may know no word of a text."""
    given_in = part(3)
    answer = dataclasses.replace(
        spoiled(given_in.request, 1, 0.0), unusable={1: "no_known_words"}, request_id="id-9"
    )
    verdict = judge(given_in, answer, FACTS)
    assert [(r.key, r.reason, r.request_id) for r in verdict.rejects] == [
        (KEYER.key("text 1", "symmetric"), "no_known_words", "id-9")
    ]
    assert (verdict.keep.vectors == vectors(names(0, 2))).all()
    assert verdict.again == ()


SHAPES = {
    "too few": lambda n: np.ones((n - 1, D), np.float32),
    "too many": lambda n: np.ones((n + 1, D), np.float32),
    "flat": lambda n: np.ones(n, np.float32),
    "deep": lambda n: np.ones((n, 2, D), np.float32),
    "no numbers": lambda n: np.ones((n, 0), np.float32),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("facts", [FACTS, FRESH], ids=["later", "first"])
def test_an_answer_of_another_shape_is_malformed(shape, facts):
    """Nothing of it is kept: which vector is whose cannot be known."""
    verdict = judge(part(3), Response(shape(3), 3), facts)
    assert verdict.keep is None
    assert asked(verdict) == [names(0), names(1), names(2)]
    assert all(one.alone for one in verdict.again)
    assert verdict.failure[0] == "malformed"
    assert verdict.try_harmless == (facts is FRESH)
    alone = judge(part(1, alone=True), Response(shape(1), 1), FACTS)
    assert [r.reason for r in alone.rejects] == ["malformed_answer"]


def test_vectors_of_another_dimension_end_the_run():
    """They can never stand beside the others; no text is at fault."""
    verdict = judge(part(2), Response(np.ones((2, D + 1), np.float32), 2), FACTS)
    assert isinstance(verdict.end, ActionNeededError)
    assert f"`{D + 1}`" in verdict.end.message
    assert f"`{D}`" in verdict.end.message
    assert verdict.keep is None
    assert (verdict.rejects, verdict.again) == ((), ())
    first = judge(part(2), Response(vectors(["a", "b"])[:, :7], 2), FRESH)
    assert first.keep.vectors.shape == (2, 7)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("count", [1, 4])
def test_being_throttled_costs_no_text_anything(count, alone):
    """The same part again, as it was."""
    given_in = part(count, alone=alone, failures=2, answers=3)
    verdict = judge(given_in, Throttled("slow down", 3.0), FACTS)
    assert verdict == settle.Verdict(again=(given_in,), failure=("throttled", "slow down"))


@pytest.mark.parametrize("count", [1, 4])
def test_an_outage_costs_no_text_anything(count):
    """However often it fails: while nothing else is answered either, no text is at fault."""
    given_in, facts = part(count), FACTS
    for _ in range(200):
        verdict = judge(given_in, Unavailable("down"), facts)
        assert (verdict.rejects, verdict.cap, verdict.end) == ((), None, None)
        (given_in,) = verdict.again
    assert given_in.request.texts == part(count).request.texts


def failures_until(given_in, ends):
    """How often it is unavailable, with an answer to others each time, until `ends`."""
    for number in range(1, 100):
        verdict = judge(given_in, Unavailable("down"), dataclasses.replace(FACTS, answers=number))
        if ends(verdict):
            return number, verdict
        (given_in,) = verdict.again
    raise AssertionError


def test_texts_on_which_the_server_breaks_are_found_by_halving():
    """It fails again and again while others are answered: some text of it is at fault."""
    number, verdict = failures_until(part(4), lambda v: len(v.again) == 2)
    assert number == settle.BLAMELESS_TRIES + 1
    assert asked(verdict) == [names(0, 1), names(2, 3)]
    assert all(one.failures == 0 for one in verdict.again)


def test_one_text_is_rejected_only_after_many_failures():
    """A server that fails at random must not cost a row: sixteen in a row are no chance."""
    number, verdict = failures_until(part(1), lambda v: v.rejects)
    assert number == settle.BLAMELESS_TRIES_ALONE + 1 >= 16
    assert verdict.rejects[0].message == "down"


@pytest.mark.parametrize(
    ("count", "named", "cap", "sizes"),
    [
        (8, None, None, [4, 4]),
        (7, None, None, [4, 3]),
        (2, None, None, [1, 1]),
        (3, None, None, [2, 1]),
        (8, 3, 3, [3, 3, 2]),
        (8, 1, 1, [1] * 8),
        (8, 8, None, [4, 4]),
        (8, 100, None, [4, 4]),
        (8, 0, None, [4, 4]),
    ],
)
def test_a_request_that_is_too_large_is_cut(count, named, cap, sizes):
    """To the cap that the server named, which is learnt, else in halves, which teach nothing."""
    verdict = judge(part(count), TooLarge("too many", named), FACTS)
    assert [len(texts) for texts in asked(verdict)] == sizes
    assert [t for texts in asked(verdict) for t in texts] == list(names(*range(count)))
    assert verdict.cap == cap
    assert verdict.rejects == ()


def test_a_size_that_the_server_names_is_learnt_at_once():
    """It said how much of the request it would take: a little less of its bytes is kept to."""
    asked = part(10)
    verdict = judge(asked, TooLarge("Requested 200 tokens, max 100", share=0.5), FACTS)
    whole = sum(len(text.encode()) for text in asked.request.texts)
    assert whole * 0.4 < verdict.most_bytes < whole * 0.5
    assert [one.cut for one in verdict.again] == [None, None]
    assert sum((one.request.texts for one in reversed(verdict.again)), ()) == asked.request.texts
    assert judge(asked, TooLarge("too large"), FACTS).most_bytes is None


@pytest.mark.parametrize("alone", [False, True])
def test_a_text_that_is_too_large_alone_is_rejected(alone):
    """It is not cut: nothing is truncated silently."""
    verdict = judge(part(1, alone=alone), TooLarge("too many tokens"), FACTS)
    assert [(r.reason, r.message) for r in verdict.rejects] == [("too_long", "too many tokens")]
    assert (verdict.again, verdict.cap) == ((), None)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("count", [1, 4])
def test_the_first_refusal_of_a_run_asks_whether_anything_would_pass(count, alone):
    """A wrong model refuses everything: that is the job's fault and not that of the texts."""
    verdict = judge(part(count, alone=alone), Refused("no", 400), FRESH)
    assert verdict.try_harmless
    assert asked(verdict) == ([names(0)] if count == 1 else [names(0, 1), names(2, 3)])
    assert verdict.rejects == ()


@pytest.mark.parametrize("outcome", [Refused("no", 400), Malformed("odd")], ids=lambda o: o.reason)
def test_after_two_refusals_in_a_row_the_third_asks_whether_anything_would_pass(outcome):
    """A server that came to refuse all costs three calls, and no text a reject."""
    for refusals in range(2):
        facts = dataclasses.replace(FACTS, refusals=refusals)
        assert not judge(part(1, alone=True), outcome, facts).try_harmless
    verdict = judge(part(1, alone=True), outcome, dataclasses.replace(FACTS, refusals=2))
    assert verdict.try_harmless
    assert asked(verdict) == [names(0)]
    assert verdict.rejects == ()


@pytest.mark.parametrize("facts", [FACTS, dataclasses.replace(FRESH, answers=1)])
def test_a_refused_request_is_halved_down_to_the_text_at_fault(facts):
    """Left half first; one text alone is rejected with status and request id."""
    outcome = Refused("bad input", 422, "id-3")
    assert asked(judge(part(5), outcome, facts)) == [names(0, 1), names(2, 3, 4)]
    verdict = judge(part(1), outcome, facts)
    assert [dataclasses.astuple(r) for r in verdict.rejects] == [
        (KEYER.key("text 0", "symmetric"), "refused", "bad input", 422, "id-3")
    ]
    assert not verdict.try_harmless


def test_a_malformed_answer_is_asked_again_text_by_text():
    """In order; what is malformed alone is rejected."""
    verdict = judge(part(3), Malformed("index 2 twice", "id-4"), FACTS)
    assert asked(verdict) == [names(0), names(1), names(2)]
    assert all(one.alone for one in verdict.again)
    once = judge(part(1), Malformed("odd"), FACTS)
    assert asked(once) == [names(0)]
    twice = judge(once.again[0], Malformed("odd", "id-5"), FACTS)
    assert [(r.reason, r.request_id) for r in twice.rejects] == [("malformed_answer", "id-5")]
    assert twice.again == ()


@pytest.mark.parametrize("alone", [False, True])
def test_a_torn_answer_is_asked_again_as_it_was_once(alone):
    """The way to the server is likelier at fault than a text: one call more, not one a text."""
    torn = Malformed("JSON that cannot be read", torn=True)
    once = judge(part(3 - 2 * alone, alone=alone), torn, FACTS)
    assert asked(once) == [names(0) if alone else names(0, 1, 2)]
    assert once.rejects == ()
    twice = judge(once.again[0], torn, FACTS)
    assert [r.reason for r in twice.rejects] == ["malformed_answer"] * alone
    assert asked(twice) == ([] if alone else [names(0), names(1), names(2)])


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("count", [1, 4])
def test_what_only_a_person_can_mend_ends_the_run(count, alone):
    """The texts are left for the next run."""
    verdict = judge(part(count, alone=alone), Fatal("no money", hint="pay"), FACTS)
    assert isinstance(verdict.end, ActionNeededError)
    assert (verdict.end.message, verdict.end.hint) == ("no money", "pay")
    assert (verdict.keep, verdict.rejects, verdict.again) == (None, (), ())


def test_parts_keep_roles_and_controls():
    """A half of a request asks for the same vectors as the whole."""
    texts = tuple(f"text {n}" for n in range(4))
    controls = tuple((Control(n, 1, 2.0),) for n in range(4))
    keys = KEYER.keys(texts, "query", controls)
    whole = Part(Request(keys, texts, "query", controls, tokens=8))
    for one in judge(whole, Refused("no"), FACTS).again:
        number = texts.index(one.request.texts[0])
        assert one.request.role == "query"
        assert one.request.controls == controls[number : number + 2]
        assert (one.request.keys == keys[number : number + 2]).all()
        assert one.request.tokens == 4


# -- stories ---------------------------------------------------------------------------------------


class Story:
    """Settles a request against a server in memory; counts calls and what is kept."""

    def __init__(self, texts, answer):
        self.kept, self.rejected, self.calls, self.refused = {}, {}, 0, 0
        waiting = [Part(request(*texts))]
        while waiting:
            one = waiting.pop()
            self.calls += 1
            assert self.calls < 50 * len(texts) + 50, "it never ends"
            outcome = answer(one.request)
            self.refused += isinstance(outcome, Refused)
            verdict = judge(one, outcome, dataclasses.replace(FACTS, answers=self.calls))
            if verdict.keep is not None:
                for key, vector in zip(verdict.keep.keys, verdict.keep.vectors, strict=True):
                    assert key.tobytes() not in self.kept, "paid twice"
                    self.kept[key.tobytes()] = vector
            for reject in verdict.rejects:
                assert reject.key not in self.rejected
                self.rejected[reject.key] = reject
            waiting += verdict.again

    def wrong(self, texts):
        """The texts that ended with another vector than theirs, with two ends, or with none."""
        found = []
        for text in texts:
            key = KEYER.key(text, "symmetric")
            if (key in self.kept) == (key in self.rejected) or (
                key in self.kept and not np.array_equal(self.kept[key], vectors([text])[0])
            ):
                found.append(text)
        return found


@pytest.mark.parametrize("at", [0, 1, 100, 127, 128, 255])
def test_one_bad_text_of_256_costs_two_calls_a_halving(at):
    """2 log2(n) + 1 calls, half of them refused; its 255 neighbours are paid once."""
    texts = [f"text {n}" for n in range(256)]

    def answer(asked_for):
        return Refused("bad") if texts[at] in asked_for.texts else right(asked_for)

    story = Story(texts, answer)
    assert story.calls <= 2 * 8 + 1
    assert story.refused <= 8 + 1
    assert set(story.rejected) == {KEYER.key(texts[at], "symmetric")}
    assert story.wrong(texts) == []


def shuffled(asked_for, draw):
    """Vectors in a wrong order, one of them given twice in place of another."""
    found = vectors(asked_for.texts)
    if len(found) > 1:
        found[draw % len(found)] = found[(draw + 1) % len(found)]
    return Response(found, len(found))


FAULTS = {
    "short": lambda r, _draw: Response(vectors(r.texts)[:-1], 1),
    "long": lambda r, _draw: Response(vectors([*r.texts, "more"]), 1),
    "twins": shuffled,
    "nan": lambda r, draw: spoiled(r, draw % len(r), math.nan),
    "zero": lambda r, draw: spoiled(r, draw % len(r), 0.0),
    "malformed": lambda _r, _draw: Malformed("odd"),
    "throttled": lambda _r, _draw: Throttled("slow"),
    "unavailable": lambda _r, _draw: Unavailable("down"),
    "too large": lambda r, draw: TooLarge("large", draw % 5) if len(r) > 1 else None,
}


@given(
    count=st.integers(1, 40),
    bad=st.sets(st.integers(0, 39), max_size=6),
    faults=st.lists(st.sampled_from([None, *FAULTS]), max_size=40),
    draws=st.lists(st.integers(0, 99), min_size=40, max_size=40),
)
@settings(max_examples=200, deadline=None)
def test_whatever_goes_wrong_each_text_ends_with_its_own_vector_or_a_reason(
    count, bad, faults, draws
):
    """Bad texts among good ones, and answers that are wrong in every way, in any order."""
    texts = [f"text {n}" for n in range(count)]
    poison = {texts[n] for n in bad if n < count}
    scripted = list(zip(faults, draws, strict=False))

    def answer(asked_for):
        fault, draw = scripted.pop() if scripted else (None, 0)
        found = FAULTS[fault](asked_for, draw) if fault else None
        if found is None:
            found = Refused("bad") if poison & set(asked_for.texts) else right(asked_for)
        return found

    story = Story(texts, answer)
    assert story.wrong(texts) == []
    reasons = {reject.reason for reject in story.rejected.values()}
    assert reasons <= {"refused", "bad_vector", "malformed_answer", "too_long"}


def always_twins(asked_for):
    return shuffled(asked_for, 0)


def test_without_the_look_for_twins_wrong_vectors_are_kept(monkeypatch):
    """The control: the stories above see a vector under the key of another text."""
    texts = [f"text {n}" for n in range(8)]
    assert Story(texts, always_twins).wrong(texts) == []
    monkeypatch.setattr(settle, "twins", lambda found: np.zeros(len(found), bool))
    assert Story(texts, always_twins).wrong(texts) == ["text 0"]


# -- lengths ---------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([1.0, 1.0005, 1.01, 0.5, 3.0, 0.0, math.nan]), min_size=1))
@settings(max_examples=200, deadline=None)
def test_what_came_with_another_length_is_counted_once(scales):
    """Of what is kept alone: what proves nothing is asked again, and counted when it is kept."""
    given_in = Request(*(getattr(part(len(scales)).request, n) for n in ("keys", "texts")))
    came = vectors(given_in.texts) * np.array(scales, np.float32)[:, None]
    for normalize in (True, False):
        facts = dataclasses.replace(FACTS, normalize=normalize)
        found = judge(Part(given_in), Response(came.copy()), facts)
        off = sum(scale in {1.01, 0.5, 3.0} for scale in scales)
        assert found.mended == (off if normalize else 0)
