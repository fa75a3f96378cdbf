"""Texts that are too long: cut or averaged as the job says, told by row, each section paid once."""

import copy
import itertools
from unicodedata import combining

import numpy as np
import pytest
from fakes import faults, running, runs
from fakes.scripted import KEYER, MemoryLedger, Scripted, Texts, loop_of, request
from fakes.time import run as in_virtual_time
from fakes.vectors import tokens, vector
from hypothesis import given, settings
from hypothesis import strategies as st

from batchembed.embed import long
from batchembed.embed.settle import judge
from batchembed.embed.verdicts import Facts, Part, Section
from batchembed.exchange import Control, Fatal, Response, TooLarge
from batchembed.ledger.sections import Sections
from batchembed.prompts import Text

MOST = 50  # tokens: 200 bytes of the stand-in
SHORT = [text[:150] for text in runs.texts(6, seed=3)]
SENTENCE = "Salt and copper came down the river in winter. "


def prose(count, name=""):
    """So many sentences, each of its own."""
    return "".join(f"{name}{n} salt and copper came down the river. " for n in range(count))


LONG = [prose(n, f"{n}/") for n in (6, 11, 23)]
LONG += ["".join(map(chr, range(0x4E00, 0x4E00 + 333))), " ".join(map(str, range(300)))]
GIVEN = [SHORT[0], LONG[0], *SHORT[1:4], LONG[1], LONG[0], *SHORT[4:], *LONG[2:]]


def mean(sections):
    """The mean by its definition, in float64: weighted by tokens, of length 1."""
    weights = np.array([tokens(text) for text in sections], np.float64)
    rows = np.stack([vector(text) for text in sections]).astype(np.float64)
    whole = weights @ rows / weights.sum()
    return whole / np.sqrt(whole @ whole)


def sections_of(text, bill):
    """The paid texts that make up `text`, in order: found by reading on from its start."""
    found, at = [], 0
    paid = sorted(bill.texts, key=len, reverse=True)
    while at < len(text):
        part = next(t for t in paid if text.startswith(t, at) and t in bill.texts and len(t) < 260)
        found.append(part)
        at += len(part)
    return found


def by_text(out):
    """(vector, extent) of every text in the output."""
    found = runs.output(out)
    rows = found["embedding"].combine_chunks().values.to_numpy().reshape(len(found), -1)
    extents = found["embedding_extent"].to_pylist()
    return {t: (row, e) for t, row, e in zip(found["text"].to_pylist(), rows, extents, strict=True)}


@pytest.fixture(params=[False, True], ids=["says that it is", "says how much"])
def strict(request):
    """A stand-in that refuses what is too long, with or without numbers."""
    with running(tokens_per_text=MOST, tells_lengths=request.param) as server:
        yield server


def test_a_mean_is_that_of_the_sections_in_float64(place, strict):
    """Weighted by tokens, of length 1; every section is paid once, and nothing else is."""
    job = place(GIVEN, server=strict, model__on_long_text="mean")
    ended = job.run()
    bill = strict.bill
    assert bill.paid_twice == {}
    for text, (found, extent) in by_text(job.out).items():
        if text not in LONG:
            assert (found.tobytes(), extent) == (vector(text).tobytes(), None)
            continue
        parts = sections_of(text, bill)
        assert len(parts) > 1
        assert extent == {"characters": len(text), "kept": len(text), "sections": len(parts)}
        assert np.allclose(found, mean(parts), atol=1e-7)
        assert abs(float(found @ found) - 1) < 1e-6
    told = runs.manifest(job.out)
    distinct = len(set(GIVEN))
    assert told["bill"]["tokens"] == bill.tokens
    assert told["bill"]["texts"] == distinct == told["counts"]["embedded"]
    assert told["bill"]["requests"] == len(bill.answers)
    assert told["counts"]["long"] == 6
    assert "6 rows too long for the model, each embedded as the mean of its sections" in ended.out


def test_a_text_is_cut_and_how_much_is_kept_is_told(place, strict):
    """What was kept is its beginning, whose vector it has; nothing else of it is paid."""
    job = place(GIVEN, server=strict, model__on_long_text="truncate")
    ended = job.run()
    assert strict.bill.paid_twice == {}
    paid = set(strict.bill.texts)
    for text, (found, extent) in by_text(job.out).items():
        kept = extent["kept"] if extent else len(text)
        assert found.tobytes() == vector(text[:kept]).tobytes()
        paid.discard(text[:kept])
        if text in LONG:
            assert extent == {"characters": len(text), "kept": kept, "sections": 1}
            assert MOST * 0.55 < tokens(text[:kept]) <= MOST
        else:
            assert extent is None
    assert paid <= {runs.HARMLESS}
    assert runs.manifest(job.out)["bill"]["tokens"] == strict.bill.tokens
    assert "6 rows too long for the model, each embedded by its beginning" in ended.out


@pytest.mark.parametrize("how", ["truncate", "mean"])
def test_a_run_that_stops_between_sections_pays_each_of_them_once(place, strict, how):
    """The same bytes as of a run that nothing stopped, wherever it was stopped."""
    whole = place(GIVEN, server=strict, name="whole", model__on_long_text=how)
    whole.run()
    refused = strict.bill.statuses[400]
    strict.bill.texts.clear()
    more = {"model__on_long_text": how, "limits__concurrency": 1, "limits__texts_per_request": 2}
    job = place(GIVEN, server=strict, **more)
    stops = 0
    while True:
        most = len(strict.bill.answers) + 2  # of a run, then the key is refused
        strict.script = lambda _, n=most: (
            faults.status(401) if len(strict.bill.answers) >= n else None
        )
        if job.run(code=None).code == 0:
            break
        stops += 1
    assert stops > 5
    assert set(strict.bill.paid_twice) <= {runs.HARMLESS}
    assert runs.digests(job.out) == runs.digests(whole.out)
    assert refused > 0


def test_a_run_killed_between_sections_pays_each_of_them_once(place):
    """By SIGKILL, with several texts under way."""
    given = [prose(60, f"{n}/") for n in range(4)]
    with running(tokens_per_text=MOST, delay=0.01) as server:
        job = place(given, server=server, model__on_long_text="mean", limits__concurrency=2)
        for target in (7, 20, 33):
            command = job.start()
            runs.until(lambda most=target: len(server.bill.answers) >= most)
            command.kill()
            command.wait()
        job.run()
        again = [text for text, n in server.bill.texts.items() if n > 1]
        assert len(again) <= 3 * 2  # those in flight
        assert job.out.joinpath("manifest.json").exists()


def test_a_corpus_that_grew_keeps_what_was_told_of_its_long_texts(place, strict):
    """Their extents come from the parts that are there; nothing of them is paid again."""
    job = place(GIVEN, server=strict, model__on_long_text="mean")
    job.run()
    before, paid = by_text(job.out), strict.bill.tokens
    job.fill([*GIVEN, "something new", *LONG])
    job.run()
    after = by_text(job.out)
    assert strict.bill.tokens == paid + tokens("something new")
    assert {t: e for t, (_, e) in after.items() if t in before} == {
        t: e for t, (_, e) in before.items()
    }
    assert job.run().out  # a finished run tells the same
    assert "rows too long" in job.run().out


def test_a_text_is_rejected_where_one_of_its_sections_is(place, strict):
    """It says which characters; the rest of the text is not bought any more."""
    bad = prose(5) + "POISON here. " + prose(40, "more ")
    more = {"model__on_long_text": "mean", "limits__max_rejects": "50%"}
    job = place([*SHORT[:3], bad], server=strict, **more)
    job.run(code=3)
    (reject,) = runs.rejects(job.out)
    assert (reject["row"], reject["reason"]) == (3, "refused")
    assert reject["message"].startswith("characters ")
    assert sum(map(len, (t for t in strict.bill.texts if t in bad))) < len(bad) / 4


def test_verify_embeds_long_texts_again(place, strict):
    """By the same sections, so by the same vectors."""
    job = place(GIVEN, server=strict, model__on_long_text="mean")
    job.run()
    job.run("verify", job.out, "--sample", len(GIVEN))


def test_what_is_long_by_a_known_limit_goes_alone():
    """A neighbour is not refused with it; passages that fit share their requests as before."""
    facts = Facts(
        answers=1, dimensions=None, normalize=True, on_long_text="mean", tokens_per_text=10
    )
    sizes = [5, 99, 5, 40, 60, 61, 5]
    asked = request(*("x" * n for n in sizes))
    assert [[len(t) for t in one.texts] for one in long.apart([asked], facts)] == [
        *([5], [99], [5, 40, 60], [61], [5])
    ]
    assert long.apart([asked], Facts(answers=1, dimensions=None, normalize=True)) == [asked]


def test_passages_that_fit_cost_no_request_more(place):
    """Where the limit is known, a job for long texts packs ordinary ones as any other does."""
    given = [text[:190] for text in runs.texts(64, seed=5)]
    sent = {}
    for how in ("reject", "mean"):
        with running(tokens_per_text=MOST) as server:
            place(given, server=server, name=how, model__on_long_text=how).run()
            sent[how] = len(server.bill.answers)
    assert sent["mean"] == sent["reject"]


def test_sections_are_no_texts_that_the_corpus_lost(place, strict):
    """Those of a run that stopped: no note of dropped texts, no refusal of a renamed corpus."""
    job = place(GIVEN, server=strict, model__on_long_text="mean", limits__concurrency=1)
    strict.script = lambda _: faults.status(401) if len(strict.bill.answers) >= 14 else None
    job.run(code=4)
    strict.script = ()
    renamed = job.corpus.rename(job.corpus.with_name("renamed.parquet"))
    ended = job.run("run", job.job, "--set", f"corpus.path={renamed}")
    assert "dropped" not in ended.err
    assert set(strict.bill.paid_twice) <= {runs.HARMLESS}


@pytest.mark.parametrize(("how", "code"), [("reject", 0), ("mean", 2)])
def test_the_name_of_the_column_is_taken_only_where_it_is_used(place, how, code):
    """A corpus may have a column of that name, unless the job makes one."""
    corpus = runs.table(SHORT).append_column("embedding_extent", [list(range(len(SHORT)))])
    job = place(SHORT, model__on_long_text=how)
    runs.write(job.corpus, corpus)
    ended = job.run(code=code)
    if code:
        assert "`embedding_extent`, which is the name of a column of the output" in ended.err
        return
    runs.write(job.corpus, corpus.slice(1))
    job.run()
    assert runs.output(job.out)["embedding_extent"].to_pylist() == list(range(1, len(SHORT)))


WORDS = st.text(st.sampled_from("ab é\n.。́‍️😀"), min_size=1, max_size=300)


@given(WORDS, st.integers(8, 120), st.booleans())
@settings(max_examples=200)
def test_sections_are_the_text(text, most, share):
    """In order, without a gap, none too long, and no sign is torn from its accent."""
    facts = Facts(
        answers=1,
        dimensions=None,
        normalize=True,
        on_long_text="mean",
        tokens_per_text=most // 4 or None,
    )
    part = Part(request(text))
    parts = long.shortened(part, facts, most / len(text) if share and most < len(text) else None)
    if not parts:
        return
    cuts = [(one.section.start, one.section.stop) for one in reversed(parts)]
    gaps = [text[b:c] for (_, b), (c, _) in itertools.pairwise([(0, 0), *cuts, (len(text), 0)])]
    assert all(not gap or gap.isspace() for gap in gaps)
    for start, stop in cuts:
        assert text[start:stop] == next(
            one.request.texts[0] for one in parts if one.section.start == start
        )
        assert 0 < stop - start < len(text)
    for (_, stop), (start, _) in itertools.pairwise(cuts):
        if stop == start and stop - cuts[0][0] > 8 and text[stop - 8 : stop].isalnum():
            assert not combining(text[stop])


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("one two. three\n\nfour five six seven", "one two. three\n\n"),
        ("one two. three four\nfive six. seven", "one two. three four\n"),
        ("one two three. four five six seven", "one two three. "),
        ("one two three four five six seven", "one two three four "),
        ("onetwothreefourfivesixseven", "onetwothreefourfives"),
        ("onetwothreefourfive" + "e\u0301" * 9, "onetwothreefourfive"),
        ("一二三四五六七八九十一二三。四五六七八九十", "一二三四五六七八九十一二三。"),
    ],
)
def test_a_text_is_cut_where_a_reader_would_pause(text, ends):
    """At the end of a paragraph, a line, a sentence, a word; else no sign is torn."""
    assert text[: long._pause(text, 0, 20, least=10)] == ends


def test_controls_go_with_their_section():
    """They count from its start, and end with it; what lies elsewhere is left out."""
    text = "ab " * 100
    spans = (Control(0, 4, 2.0), Control(28, 10, 3.0), Control(290, 10, 0.5, "partial"))
    whole = request(text, controls=(spans,))
    facts = Facts(answers=1, dimensions=None, normalize=True, on_long_text="mean")
    for one in long.shortened(Part(whole), facts, 0.1):
        for control in one.request.controls[0] if one.request.controls else ():
            at = one.section.start + control.start
            assert any(
                c.start <= at and at + control.length <= c.start + c.length
                for c in spans
                if (c.factor, c.overlap) == (control.factor, control.overlap)
            )
    lengths = sum(
        control.length
        for one in long.shortened(Part(whole), facts, 0.1)
        for control in (one.request.controls or ((),))[0]
    )
    assert lengths == sum(span.length for span in spans)


def test_what_cannot_be_cut_is_rejected():
    """Prompts, what is refused at a few characters, and where the job wants rejects."""
    mean = Facts(answers=1, dimensions=None, normalize=True, on_long_text="mean")
    assert (
        long.shortened(Part(request("x" * 99)), Facts(answers=1, dimensions=None, normalize=True))
        == ()
    )
    assert long.shortened(Part(request("x" * 99, prompts=((Text("x"),),))), mean) == ()
    assert long.shortened(Part(request("x" * 15)), mean) == ()
    assert long.shortened(Part(request(" " * 99)), mean) == ()
    truncate = Facts(answers=1, dimensions=None, normalize=True, on_long_text="truncate")
    assert long.shortened(Part(request(" " * 99 + "x")), truncate) == ()


def looped(given, script, **rules):
    """Run the hot loop over texts; what was kept."""
    ledger = MemoryLedger()

    async def main():
        provider = Scripted(script)
        await loop_of(provider, ledger, on_long_text="mean", normalize=True, **rules).run(
            Texts(given, 3)
        )
        return provider

    return ledger, in_virtual_time(main)


def only(most):
    """A provider that takes so many characters."""

    def script(_number, asked):
        if len(asked.texts) > 1 and any(len(t) > most for t in asked.texts):
            return TooLarge("too much")
        return TooLarge("too long") if len(asked.texts[0]) > most else None

    return script


def test_known_sections_are_not_asked_for():
    """Those of an earlier run; the mean is the same to the last bit."""
    text = SENTENCE * 9
    first, _ = looped([text], only(100))
    again = MemoryLedger()
    again.sections = copy.deepcopy(first.sections)

    async def main():
        provider = Scripted(only(100))
        await loop_of(provider, again, on_long_text="mean", normalize=True).run(Texts([text]))
        return provider

    provider = in_virtual_time(main)
    assert set(provider.paid) <= {runs.HARMLESS}
    key = KEYER.key(text, "symmetric")
    assert again.kept[key].tobytes() == first.kept[key].tobytes()
    assert again.extents == first.extents


@pytest.mark.parametrize("known", [(22, None), (None, 22), (22, 15)], ids=str)
@pytest.mark.parametrize("kept", [1, 3])
def test_sections_are_paid_once_whatever_is_known_of_the_model_by_then(known, kept):
    """The first cut is kept with them: another estimate, made later, is not asked for.

    The text has nowhere to pause, so any other estimate would cut it elsewhere.
    """
    text = "".join(f"{n:06}" for n in range(90))
    paid, asked_for, ledgers = [], set(), (MemoryLedger(), MemoryLedger())

    async def main(ledger, tokens_per_text, most):
        answers = only(100)
        provider = Scripted(
            lambda n, asked: (
                Fatal("no", hint="pay")
                if len(provider.paid.keys() - {runs.HARMLESS}) >= most
                else answers(n, asked)
            )
        )
        made = loop_of(
            *(provider, ledger),
            on_long_text="mean",
            normalize=True,
            tokens_per_text=tokens_per_text,
        )
        await made.run(Texts([text]))
        paid.extend(provider.paid.elements())
        asked_for.update(t for _, asked in provider.calls for t in asked.texts)

    in_virtual_time(lambda: main(ledgers[0], known[0], 99))
    whole = sorted(t for t in paid if t != runs.HARMLESS)
    paid.clear()
    in_virtual_time(lambda: main(ledgers[1], known[0], kept))
    asked_for.clear()
    in_virtual_time(lambda: main(ledgers[1], known[1], 99))
    assert text not in asked_for  # it was too long before
    assert sorted(t for t in paid if t != runs.HARMLESS) == whole
    key = KEYER.key(text, "symmetric")
    assert ledgers[1].kept[key].tobytes() == ledgers[0].kept[key].tobytes()


def test_sections_weighted_alike_are_seen(monkeypatch):
    """The planted bug: the oracle of this suite tells it from the mean by tokens."""
    text = SENTENCE * 9 + "end"
    right, _ = looped([text], only(100))
    key = KEYER.key(text, "symmetric")
    sizes = iter(range(1, 99))
    monkeypatch.setattr(long, "_weight", lambda _: next(sizes))
    wrong, _ = looped([text], only(100))
    assert not np.allclose(right.kept[key], wrong.kept[key], atol=1e-3)


@pytest.mark.parametrize(
    "unit",
    [
        "कि",
        "நி",
        "ที่",
        "น้ำ",
        "e\u0301",
        "👍🏽",
        "\u1100\u1161\u11a8",
        "\u1100\u1160\u11ff",
        "👩\u200d🔬",
        "\r\n",
    ],
)
def test_no_sign_is_torn(unit):
    """A letter keeps its vowel sign, a hand its colour, a syllable its letters."""
    text = "x" + unit * 30
    for most in range(8, 40):
        end = long._pause(text, 0, most, least=most // 2)
        assert (end - 1) % len(unit) == 0


def test_nearly_opposite_sections_have_no_mean():
    """What is left over of them is rounding."""
    facts = Facts(answers=1, dimensions=None, normalize=True, on_long_text="mean")
    last = None
    for part, sign in zip(
        reversed(long.shortened(Part(request("one two. " * 9)), facts, 0.6)), (1, -1), strict=True
    ):
        found = sign * vector("any")[None]
        found[0, 0] += np.float32(1e-6)
        last = long.followed(part, judge(part, Response(found, 5), facts), facts)
    assert [reject.reason for reject in last.rejects] == ["bad_vector"]


def test_opposite_sections_have_no_mean():
    """A mean without direction is a reject, not a vector of noise."""
    facts = Facts(answers=1, dimensions=None, normalize=True, on_long_text="mean")
    parts = long.shortened(Part(request("one two. " * 9)), facts, 0.6)
    assert len(parts) == 2
    last = None
    for part, sign in zip(reversed(parts), (1, -1), strict=True):
        assert long.known(part, facts, Sections()) is None
        answer = Response(sign * vector("any")[None], 5)
        last = long.followed(part, judge(part, answer, facts), facts)
    (reject,) = last.rejects
    assert (reject.key, reject.reason) == (bytes(request("one two. " * 9).keys[0]), "bad_vector")


def test_a_section_has_a_key_that_no_text_has():
    """And another for every stretch of every text."""
    one, other = (Part(request("x" * 99)), Part(request("y" * 99)))
    facts = Facts(answers=1, dimensions=None, normalize=True, on_long_text="mean")
    keys = {
        bytes(made.request.keys[0])
        for part in (one, other)
        for made in long.shortened(part, facts, 0.3)
    }
    count = sum(len(long.shortened(part, facts, 0.3)) for part in (one, other))
    assert len(keys | {bytes(p.request.keys[0]) for p in (one, other)}) == count + 2
    assert isinstance(long.shortened(one, facts)[0].section, Section)


@pytest.mark.parametrize("provider", ["gemini", "tei-openai", "ollama-openai", "lm-studio"])
def test_where_the_server_cuts_itself_it_cannot_be_had(place, provider):
    """Nobody would know which texts it cut; the mend is named."""
    job = place(SHORT, model__on_long_text="mean", model__provider=provider, model__name="m")
    ended = job.run(code=2)
    assert f"on_long_text `mean` cannot be had from `{provider}`" in ended.err
    assert "hint:" in ended.err


def test_the_embedded_model_reads_any_length(place):
    """So nothing is cut, and the column says so."""
    job = place([SENTENCE * 500, "short"], model__on_long_text="truncate")
    job.run()
    assert runs.output(job.out)["embedding_extent"].to_pylist() == [None, None]
