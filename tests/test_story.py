"""The whole story, from a corpus with troubles to a table with vectors, told through a run."""

import math

import pytest
from fakes import faults, running, vector
from fakes.runs import HARMLESS, manifest, output, rejects, strays, texts

GIVEN = texts(96)
HOW = {"limits__texts_per_request": 8, "limits__concurrency": 3, "limits__max_rejects": 10}
PROVIDERS = ("openai", "aleph-alpha")


def test_the_story(place):
    """Plan, run, look, verify, search, grow, run again: as the README tells it."""
    given = [*GIVEN, *GIVEN[:12], "", None, "a POISON text"]
    with running(key="a-key") as server:
        job = place(given, server=server, access__key_env="OPENAI_API_KEY", **HOW)

        planned = job.run("plan", job.job, "--json").json
        assert (planned["rows"], planned["to_send"]) == (111, 97)
        assert server.bill.requests == 0

        summary = job.run("run", job.job, "--json", code=3).json
        assert (summary["rows"], summary["distinct"], summary["sent"]) == (111, 97, 96)
        assert (summary["state"], summary["rejected"], summary["exit_code"]) == ("complete", 3, 3)
        assert job.wrong(unembedded=lambda text: "POISON" in text) == []
        told = [(r["row"], r["id"], r["reason"]) for r in rejects(job.out)]
        assert told == [
            (108, "id-000108", "empty_text"),
            (109, "id-000109", "null_text"),
            (110, "id-000110", "refused"),
        ]
        assert strays(job.out) == []
        assert manifest(job.out)["bill"]["tokens"] == server.bill.tokens

        assert job.run("status", "run", "--json").json["state"] == "complete"
        assert job.run("verify", "run", "--json").json["problems"] == []
        near = job.run("search", "run", GIVEN[7], "--json").json
        assert near[0]["columns"]["text"] == GIVEN[7]

        paid, new = len(job.sent()), texts(1, seed=9)
        job.fill([*new, *given])
        job.run(code=3)
        assert job.sent()[paid:] == new
        assert job.wrong(unembedded=lambda text: "POISON" in text) == []
        assert set(server.bill.paid_twice) <= {GIVEN[7]}  # by the search, on purpose


TROUBLES = {
    "shuffled": faults.shuffled(),
    "short": faults.dropped(),
    "an index twice": faults.duplicated(),
    "ragged": faults.ragged(),
    "NaN": faults.spoiled(math.nan),
    "infinity": faults.spoiled(math.inf),
    "zeros": faults.zeroed(),
    "html": faults.html(),
    "empty": faults.empty(),
    "reset": faults.reset(),
    "truncated": faults.truncate(),
    "500": faults.status(500),
    "503 with a time": faults.status(503, retry_after="0.05"),
    "throttled": faults.throttled(0.05),
    "too early": faults.status(425),
}
ONLY_WITH_INDEX = {"shuffled", "an index twice"}


def first_time(fault_of):
    """Spoil the first answer to a batch of eight texts with the fault that its number has."""
    spoiled = set()

    def script(seen):
        batch = int(seen.texts[0].split()[0].split("/")[1]) // 8
        if batch in spoiled:
            return None
        spoiled.add(batch)
        return fault_of(batch)

    return script


def wanted(provider):
    """The troubles that answers of a provider can have."""
    return [t for t in TROUBLES if provider == "openai" or t not in ONLY_WITH_INDEX]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_troubles_that_pass(place, provider):
    """Whatever happens to answers, every row gets its own vector, and the reader hears of it."""
    names = wanted(provider)
    given = texts(8 + 8 * len(names))
    script = first_time(lambda batch: TROUBLES[names[batch - 1]] if batch else None)
    with running(script=script) as server:
        job = place(given, server=server, provider=provider, **HOW)
        summary = job.run("run", job.job, "--json").json
        assert job.wrong() == []
        assert summary["sent"] == len(given)
        assert summary["failures"].keys() == {"malformed", "doubtful", "unavailable", "throttled"}
        assert max(server.bill.texts.values()) <= 2
        unpaid = [at for at, n in enumerate(names, 1) if TROUBLES[n].status or n == "shuffled"]
        for batch in (0, *unpaid):
            some = given[8 * batch : 8 * batch + 8]
            assert [server.bill.texts[text] for text in some] == [1] * 8, names[batch - 1]


@pytest.mark.slow
@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_each_trouble_by_itself(place, provider, trouble):
    """Every third answer has the same trouble, and every row gets its own vector."""
    if trouble not in wanted(provider):
        pytest.skip("answers of Aleph Alpha have no index to spoil")
    fault = TROUBLES[trouble]
    with running(script=first_time(lambda batch: fault if batch % 3 == 1 else None)) as server:
        job = place(GIVEN, server=server, provider=provider, **HOW)
        job.run()
        assert job.wrong() == []
        assert len(server.bill.paid_twice) <= 32


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("trouble", ["NaN", "zeros", "short", "ragged"])
def test_a_text_whose_answer_is_always_spoiled_is_a_reject(place, provider, trouble):
    """What never proves itself is rejected alone, with its reason; it is never guessed."""
    bad = GIVEN[37]

    def script(seen):
        if bad not in seen.texts:
            return None
        return faults.edited(lambda right: spoil(right, seen.texts.index(bad)))

    def spoil(right, at):
        vectors = [v.copy() for v in right.vectors]
        vectors[at][:] = {"NaN": math.nan, "zeros": 0}.get(trouble, 1)
        if trouble == "ragged":
            vectors[at] = vectors[at][:-1] if len(vectors) > 1 else vectors[at][:0]
        lost = trouble == "short"
        return faults.Reply(
            vectors[: len(vectors) - lost],
            right.indices[: len(vectors) - lost],
            right.model,
            right.tokens,
        )

    with running(script=script) as server:
        job = place(GIVEN, server=server, provider=provider, **HOW)
        if trouble == "short" and provider == "aleph-alpha":
            job.set(**HOW, model__endpoint="batch_semantic_embed")
        job.run(code=3)
        assert job.wrong(unembedded=lambda text: text == bad) == []
        (reject,) = rejects(job.out)
        assert (reject["row"], reject["id"]) == (37, "id-000037")
        assert reject["reason"] in ("bad_vector", "malformed_answer")
        assert reject["message"]
        if trouble in ("zeros", "NaN"):
            assert server.bill.paid_twice == {bad: 2}, "neighbours are paid for once"
        else:  # an answer that cannot be read at all: its texts are asked for alone
            assert server.bill.paid_twice.keys() == set(GIVEN[32:40])


@pytest.mark.slow
def test_a_text_that_always_breaks_the_server_is_a_reject(place):
    """A text that the server dies of is found even when no other request is left."""
    bad = GIVEN[37]
    script = lambda seen: faults.status(500) if bad in seen.texts else None
    with running(script=script) as server:
        job = place(GIVEN, server=server, **HOW, limits__patience="1h")
        job.run(code=3, twists=[["time_flies", 100]])  # the waits between its tries are minutes


@pytest.mark.parametrize("provider", PROVIDERS)
def test_poison_costs_its_own_row_only(place, provider):
    """Texts that are refused are found by halving; their neighbours are paid for once."""
    given = [f"{text} POISON" if n in (5, 50, 51) else text for n, text in enumerate(GIVEN)]
    with running() as server:
        job = place(given, server=server, provider=provider, **HOW)
        job.run(code=3)
        assert job.wrong(unembedded=lambda text: "POISON" in text) == []
        told = [(r["row"], r["reason"], r["status"]) for r in rejects(job.out)]
        assert told == [(row, "refused", 400) for row in (5, 50, 51)]
        assert all("not acceptable" in r["message"] for r in rejects(job.out))
        assert server.bill.paid_twice.keys() <= {HARMLESS}
        assert server.bill.requests <= 12 + 3 * 2 * 3 + 1


def test_vectors_of_another_size_end_the_run(place):
    """Vectors of two sizes never mix: the run ends, keeps what it has, and goes on when mended."""
    with running(script=lambda seen: faults.dimension(16) if seen.number == 5 else None) as server:
        job = place(GIVEN, server=server, **HOW)
        ended = job.run(code=4)
        assert "`16`" in ended.err
        assert "`32`" in ended.err
        job.run()
        assert job.wrong() == []
        assert {v.shape for v in map(vector, GIVEN)} == {(32,)}
        assert output(job.out)["embedding"].type.list_size == 32


def test_a_limit_that_the_server_names_is_learnt(place):
    """A server that takes fewer texts at once is obeyed after one request."""
    with running(texts_per_request=3) as server:
        job = place(GIVEN, server=server, **HOW)
        job.run()
        assert job.wrong() == []
        assert server.bill.paid_twice == {}
        assert server.bill.statuses[400] <= 3, "one for each request in flight"
        assert max(server.bill.sizes[3:]) == 3


def test_a_server_that_throttles_is_not_stormed(place):
    """A limit that the run does not know is met by waiting, and no row suffers."""
    with running(requests_per_minute=600, window=0.5) as server:
        job = place(GIVEN, server=server, **HOW | {"limits__concurrency": 8})
        job.run()
        assert job.wrong() == []
        assert server.bill.paid_twice == {}
        assert server.bill.statuses[429] <= server.bill.statuses[200]


def test_roles_and_controls_go_with_their_rows(place, server):
    """Each row has its own role; a pattern controls where it stands; the vectors are those."""
    job = place(GIVEN, server=server, provider="aleph-alpha", model__representation="document")
    job.run()
    assert job.wrong(role="document") == []
    told = {"model__controls": [{"match": "salt", "factor": 3.0}], "model__representation": "query"}
    job.set(**told)
    job.run("run", job.job, "--out", "amplified")
    found = output(job.folder / "amplified")
    for text, row in zip(GIVEN, found["embedding"].to_pylist(), strict=True):
        places, at = [], text.find("salt")
        while at >= 0:
            places.append((at, 4, 3.0))
            at = text.find("salt", at + 1)
        assert row == vector(text, role="query", controls=places).tolist()


def test_this_suite_would_see_a_vector_on_the_wrong_row(place, server):
    """The check of rows is itself checked: two vectors that changed places are two wrong rows."""
    job = place(GIVEN, server=server)
    job.run()
    job.table = job.table.take([1, 0, *range(2, len(GIVEN))])
    wrong = job.wrong()
    assert any(line.startswith("row 0 has another vector") for line in wrong)
    assert any(line.startswith("row 1 has another vector") for line in wrong)
