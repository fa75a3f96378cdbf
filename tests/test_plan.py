"""Plans: what would be sent and taken, with a probe or without, and the rows to look at."""

import json

import numpy as np
import pytest
from fakes import faults, running
from fakes.runs import digests, texts

from batchembed.exchange import Limits
from batchembed.ledger.join import Missing
from batchembed.plan import Oddities, Plan, Probe, calibrate, comparison, time_under

GIVEN = texts(300, seed=3)


def bits(*rows, total=1000):
    mask = np.zeros(total, np.bool_)
    mask[list(rows)] = True
    return np.packbits(mask, bitorder="little")


# -- a few rows of what is missing -----------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 50, 333, 334, 1000])
def test_a_few_rows_are_spread_over_those_that_are_missing(count):
    """The first and the last among them, none that is not missing, and as many as asked for."""
    rows = range(0, 1000, 3)
    missing = Missing(bits(*rows), 1000, 1000, 1000, 1000 - len(rows))
    few = missing.few(count)
    found = np.flatnonzero(few.mask(0, 1000)).tolist()
    assert len(found) == few.to_send == min(count, len(rows))
    assert set(found) <= set(rows)
    assert found[0] == 0
    assert count == 1 or found[-1] == rows[-1]
    gaps = np.diff(found)
    assert count < 3 or max(gaps) - min(gaps) <= 3


def test_a_few_of_none_are_none():
    """A complete run has nothing to probe with."""
    missing = Missing(bits(), 1000, 1000, 1000, 1000)
    assert missing.few(5).to_send == 0


# -- calibration and time --------------------------------------------------------------------------


def test_a_probe_corrects_the_tokens_and_narrows_their_range():
    """By what was billed for what was estimated; the more rows, the narrower."""
    plan = Plan(tokens=(750, 1000, 1600))
    calibrate(plan, None)
    assert (plan.tokens, plan.tokens_by) == ((750, 1000, 1600), "estimated from bytes")
    calibrate(plan, Probe(4, 1, 100, 130, 8, 0.5))
    assert plan.tokens == (1040, 1300, 1625)
    assert plan.tokens_by == "calibrated with 4 rows"
    wide = Plan(tokens=(750, 1000, 1600))
    calibrate(wide, Probe(100, 1, 100, 130, 8, 0.5))
    assert wide.tokens == (1238, 1300, 1365)
    silent = Plan(tokens=(750, 1000, 1600))
    calibrate(silent, Probe(4, 1, 100, 0, 8, 0.5))
    assert silent.tokens == (750, 1000, 1600)


def test_the_time_is_that_of_what_binds():
    """Each known bound has its time; with a probe also the answers that are waited for."""
    plan = Plan(requests=600, tokens=(1, 98_000, 3))
    limits = Limits(requests_per_minute=60, tokens_per_minute=1000, concurrency=4)
    time_under(plan, limits)
    assert plan.times == {
        "requests_per_minute": pytest.approx(612.24, rel=1e-3),
        "tokens_per_minute": pytest.approx(6000),
    }
    assert plan.bound_by == "tokens_per_minute"
    plan = Plan(requests=601, tokens=(1, 2, 3), probe=Probe(1, 1, 1, 1, 8, 2.0))
    time_under(plan, Limits(concurrency=4))
    assert (plan.seconds, plan.bound_by) == (302.0, "concurrency")
    plan = Plan(requests=601, tokens=(1, 2, 3), probe=Probe(1, 1, 1, 1, 8, 2.0))
    time_under(plan, Limits(requests_per_minute=6000, concurrency=4))
    assert plan.times["concurrency"] == 6.0, "as many as the rate needs: 256 at most"
    plan = Plan(requests=601)
    time_under(plan, Limits())
    assert (plan.seconds, plan.bound_by, plan.times) == (None, "", {})


# -- rows to look at -------------------------------------------------------------------------------


def looked(rows, context=None, step=7):
    """The oddities of rows, looked at a few at a time; rows are named by their number."""
    made = Oddities(context)
    for first in range(0, len(rows), step):
        made.look(first, rows[first : first + step])
    return made.odd(str), made.scripts()


PLAIN = [f"An ordinary English sentence, number {n}, with café and naïve in it." for n in range(99)]


def test_ordinary_rows_are_not_odd():
    """Accents, tabs, line ends, digits, emoji and a foreign word in passing are ordinary."""
    rows = [*PLAIN, "a\tb\r\nc", "12345", "Fine 👍", "The word слово means word, in Russian it is."]
    odd, scripts = looked(rows, context=100)
    assert odd == {}
    assert scripts == {"Latin": 102}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("no_text", None),
        ("no_text", ""),
        ("no_text", " \n\t"),
        ("control_characters", "a\x00b"),
        ("control_characters", "bell \x07"),
        ("control_characters", "escape \x1b[31m"),
        ("control_characters", "C1 \x85 control"),
        ("control_characters", "turned \u202e round"),
        ("replacement_characters", "caf\ufffd"),
        ("too_long", "word " * 81),
        ("mixed_scripts", "This one is half English и наполовину по-русски"),
        ("mixed_scripts", "Half Greek μισό Ελληνικά and the other half English words"),
        ("in Cyrillic letters", "Обычное предложение на другом языке"),
        ("in Han and Kana letters", "これは日本語の文です"),
        ("in Arabic letters", "هذه جملة باللغة العربية"),
        ("in Hangul letters", "이것은 한국어 문장입니다"),
    ],
)
def test_an_odd_row_is_found_with_its_number_and_its_text(name, text):
    """Among a hundred ordinary ones."""
    odd, _ = looked([*PLAIN[:50], text, *PLAIN[50:]], context=100)
    assert list(odd) == [name]
    assert odd[name].count == 1
    assert odd[name].examples[0].where == "50"
    assert odd[name].examples[0].text == (text or "")[:60]


def test_half_a_surrogate_is_borne():
    """A run will name that row; a plan does not end for it."""
    odd, _ = looked([*PLAIN, "half \ud800 of a pair"])
    assert odd == {}


def test_the_first_rows_are_the_examples_and_all_are_counted():
    """Over as many looks as there are."""
    odd, _ = looked(["bad \x01"] * 50 + PLAIN)
    assert odd["control_characters"].count == 50
    assert [x.where for x in odd["control_characters"].examples] == ["0", "1", "2"]


def test_a_corpus_in_two_scripts_is_not_odd():
    """Only few rows in other letters than the rest are; how many there are of each is told."""
    rows = ["Обычное предложение на другом языке"] * 50 + PLAIN[:50]
    odd, scripts = looked(rows)
    assert odd == {}
    assert scripts == {"Cyrillic": 50, "Latin": 50}


# -- the comparison --------------------------------------------------------------------------------


class Clock:
    """Each look at it takes a second."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


@pytest.mark.parametrize(
    ("sides", "how", "told"),
    [
        ((1000, None), {"top_k": 10, "dense": False}, ("top_k", 10**6, 120_000)),
        ((1000, 5), {"top_k": 10, "dense": False}, ("top_k", 5000, 60_000)),
        ((1000, None), {"top_k": None, "dense": True}, ("dense", 10**6, 4 * 10**6)),
        ((1000, 50), {"top_k": None, "dense": False}, ("min_score", 50_000, None)),
    ],
)
def test_a_comparison_is_told_by_scores_bytes_and_seconds(sides, how, told):
    """The seconds grow with the scores."""
    found = comparison(sides, 256, bytes_a_score=4, clock=Clock(), **how)
    assert (found.kind, found.scores, found.bytes) == told
    per_score = comparison((1, None), 256, bytes_a_score=4, clock=Clock(), **how).seconds
    assert found.seconds == pytest.approx(per_score * found.scores)


def test_the_calibration_is_of_here_and_now():
    """A few milliseconds for a figure that is no fantasy."""
    found = comparison((10_000, None), 128, top_k=5, dense=False, bytes_a_score=4)
    assert 0 < found.seconds < 600


# -- as a command ----------------------------------------------------------------------------------


def test_a_probe_sends_so_many_rows_and_keeps_them(place, server):
    """The run then pays for the others alone, and gives the bytes of one without a probe."""
    job = place(GIVEN, server=server, price__per_million_tokens=20.0)
    told = job.run("plan", job.job, "--probe", "5", "--json").json
    assert sum(server.bill.texts.values()) == 5
    assert told["probe"]["rows"] == 5
    assert told["probe"]["billed"] == server.bill.tokens
    assert told["probe"]["dimensions"] == 32
    assert told["probe"]["seconds"] > 0
    assert (told["paid"], told["to_send"]) == (5, 295)
    assert told["paid_cost"] == pytest.approx(server.bill.tokens * 2e-5)
    assert "concurrency" in told["times"]
    assert not (job.out / "manifest.json").exists()
    job.run()
    assert server.bill.paid_twice == {}
    assert job.wrong() == []
    fresh = place(GIVEN, server=server, name="fresh")
    fresh.run()
    assert digests(job.out) == digests(fresh.out)


def test_a_probe_says_so_and_nothing_is_left_to_probe_in_the_end(place, server):
    """In words; and a complete run sends nothing for one."""
    job = place(GIVEN, server=server)
    words = job.run("plan", job.job, "--probe", "3").out
    assert "3 rows were sent to probe, and kept" in words.splitlines()[0]
    assert "calibrated with 3 rows" in words
    job.run()
    requests = server.bill.requests
    told = job.run("plan", job.job, "--probe", "3", "--json").json
    assert told["probe"] is None
    assert server.bill.requests == requests


def test_a_probe_is_the_preflight_for_key_and_model(place):
    """It ends as the run would, in the words of the run."""
    with running(key="another") as server:
        job = place(GIVEN, server=server)
        ended = job.run("plan", job.job, "--probe", "1", code=4)
        assert "check the key" in ended.err
        assert server.bill.requests == 1
    with running(script=lambda _: faults.dimension(16)) as server:
        job = place(GIVEN, server=server, name="odd", model__dimensions=32)
        assert "dimensions" in job.run("plan", job.job, "--probe", "1", code=4).err


def test_the_calibrated_tokens_hold_what_the_run_is_billed(place):
    """A server that bills twice what bytes tell is found out with a few rows."""
    twice = faults.edited(lambda right: faults.replace(right, tokens=2 * right.tokens))
    with running(script=lambda _: twice) as server:
        job = place(GIVEN, server=server)
        low, _, high = job.run("plan", job.job, "--probe", "20", "--json").json["tokens"]
        probed = server.bill.tokens
        told = job.run("run", job.job, "--json").json
        assert low <= told["tokens"] <= high
        assert told["tokens"] == 2 * (server.bill.tokens - probed)


def test_a_plan_names_odd_rows_by_file_and_row(place, server):
    """With the reason and how the text begins; the terminal sees no control character."""
    given = [*GIVEN[:100], "odd \x1b[31m one", *GIVEN[100:], None, "Обычное предложение на языке"]
    job = place(given, server=server)
    words = job.run("plan", job.job).out
    assert f"`{job.corpus}`, row 101: odd [31m one" in words
    assert "\x1b" not in words
    assert f"`{job.corpus}`, row 302" in words
    told = job.run("plan", job.job, "--json").json
    assert set(told["odd"]) == {"no_text", "control_characters", "in Cyrillic letters"}
    assert told["scripts"] == {"Latin": 301, "Cyrillic": 1}


def test_a_plan_tells_what_the_comparison_takes(place):
    """Scores, bytes and seconds, with the dimensions of the model."""
    job = place(GIVEN, similarity__top_k=5)
    told = job.run("plan", job.job, "--json").json["similarity"]
    assert (told["scores"], told["bytes"], told["kind"]) == (90_000, 18_000, "top_k")
    assert "90,000 scores for top_k, 18.0 KB, about 0 s" in job.run("plan", job.job).out
    assert json.dumps(told)
