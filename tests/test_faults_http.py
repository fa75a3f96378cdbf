"""Rows 45 to 60 of the catalogue of faults: what a server's status can mean for a run."""

import json

import pytest
from fakes import faults, running
from fakes.faults import Fault
from fakes.rows import CANARY, FASTER, GIVEN, Row, check
from fakes.runs import texts

PROVIDERS = ("openai", "aleph-alpha")
BATCH = {"model__endpoint": "batch_semantic_embed"}


def once(fault, number=2):
    """The fault happens to one request alone."""
    return lambda seen: fault if seen.number == number else None


def first(count, fault):
    return lambda seen: fault if seen.number < count else None


def since(number, fault):
    return lambda seen: fault if seen.number >= number else None


def if_any(fault, *texts):
    """The fault happens to every request that holds one of these texts."""
    return lambda seen: fault if set(texts) & set(seen.texts) else None


def said(message, code=None, status=400):
    return faults.status(status, json.dumps({"error": {"message": message, "code": code}}))


BAD = GIVEN[9]
ECHO = f"Incorrect API key provided: {CANARY}"
VALIDATION = '{"detail":[{"loc":["body","input",1],"msg":"no","input":"x"}]}'
BOOM = faults.Fault(body=b'{"error":{"message":"boom"}}')
WAITS = {
    "seconds": ({"retry_after": "2"}, 2),
    "a fraction": ({"retry_after": "2.5"}, 2.5),
    "milliseconds": ({"retry_after_ms": "1500"}, 1.5),
    "zero": ({"retry_after": "0"}, 0),
    "below zero": ({"retry_after": "-5"}, 0),
    "junk": ({"retry_after": "soon; 5"}, 0),
    "a date": (
        {"date": "Wed, 04 Nov 2026 10:00:00 GMT", "retry_after": "Wed, 04 Nov 2026 10:00:03 GMT"},
        3,
    ),
}


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("wait", WAITS)
def test_45_a_429_with_a_wait(place, wait, provider):
    """It is obeyed, whatever its form; what makes no sense is passed over. Nothing is lost."""
    headers, seconds = WAITS[wait]
    script = once(faults.status(429, **headers))
    with running(script=script) as server:
        check(place, server, Row(script, requests=8, more=BATCH if provider != "openai" else {}),
              provider)  # fmt: skip
        came = server.bill.seconds
        gaps = [(after - came[2]) * FASTER for after in came[4:]]  # [3] may have been in flight
        assert min(gaps) >= 0.9 * seconds
        assert server.bill.paid_twice == {}


ROWS = {
    "45 a wait of thirty years": Row(
        once(faults.throttled(1e9)), 75, ("nothing may be sent for another", "1000000000"), 4
    ),
    "46 429 without a wait": Row(first(3, faults.throttled()), requests=9),
    "46 429 for ever": Row(
        since(2, faults.throttled()), 75, ("429", "run the same command"), 30
    ),
    "47 the quota is used up": Row(since(2, faults.out_of_money()), 4, ("insufficient_quota",), 4),
    "47 402": Row(since(2, faults.status(402)), 4, ("402",), 4),
    "48 401 at once": Row(since(0, said(ECHO, status=401)), 4, ("401", "check the key"), 1),
    "48 401 in the middle": Row(since(2, said(ECHO, status=401)), 4, ("401", "***"), 4),
    "49 403": Row(since(2, said(ECHO, status=403)), 4, ("403",), 4),
    "50 404": Row(since(2, faults.status(404)), 4, ("404", "model's name"), 4),
    "50 410": Row(since(2, faults.status(410)), 4, ("410",), 4),
    "50 410 with a Sunset": Row(
        since(2, faults.status(410, sunset="Sun, 01 Nov 2026 00:00:00 GMT")),
        4, ("warning: the server says that", "is to be turned off on 2026-11-01"), 4,
    ),
    "50 the model is gone": Row(
        since(0, said("no such model", "model_not_found")), 4, ("model_not_found",), 1
    ),
    "51 400 for one text": Row(
        if_any(said(f"not acceptable: {BAD}"), BAD), 3, ("1 rejected",), 12, rejected=(BAD,), then=3
    ),
    "52 400 for everything": Row(since(0, said("bad field")), 4, ("bad field", "[model]"), 2),
    "52 400 for everything, in the middle": Row(
        since(3, said("bad field")), 4, ("bad field", "[model]"), 9
    ),
    "53 413": Row(
        lambda seen: faults.status(413) if len(seen.texts) > 2 else None,
        requests=18,
    ),
    "53 too many tokens in one request": Row(
        lambda seen: (
            said("max tokens per request exceeded", "max_tokens_per_request")
            if len(seen.texts) > 2
            else None
        ),
        requests=18,
    ),
    "53 too many texts, and how many may be": Row(
        lambda seen: (
            said("batch size 4 > maximum allowed batch size 3") if len(seen.texts) > 3 else None
        ),
        requests=13,
    ),
    "54 one text over the limit of tokens": Row(
        if_any(said("This model's maximum context length is 8192 tokens"), BAD),
        3,
        ("1 rejected",),
        12,
        rejected=(BAD,),
        then=3,
    ),
    "54 one text too large alone": Row(
        if_any(faults.status(413), BAD), 3, ("1 too_long",), 12, rejected=(BAD,), then=3
    ),
    "55 422": Row(
        if_any(faults.status(422, VALIDATION), BAD),
        3,
        ("1 refused",),
        12,
        rejected=(BAD,),
        then=3,
    ),
    "56 500 for one batch again and again": Row(
        if_any(faults.status(500), BAD), 3, ("1 refused",), 60, rejected=(BAD,), then=3,
        harmless=20,
    ),
    **{
        f"57 {code} for a while": Row(first(3, faults.status(code)), requests=10)
        for code in (500, 502, 503, 504, 520, 529)
    },
    "57 503 for ever": Row(since(2, faults.status(503)), 75, ("503", "run the same command"), 30),
    **{f"58 {code}": Row(once(faults.status(code)), requests=7) for code in (408, 409, 425)},
    "60 a web page": Row(once(faults.html()), requests=7, twice=1),
    "60 a web page for ever": Row(
        since(2, faults.html()), 75, ("no JSON",), 30, twice=30, harmless=30
    ),
    "60 nothing": Row(once(faults.empty()), requests=7, twice=1),
    "60 204": Row(once(faults.status(204)), requests=7),
    "60 an error that says 200": Row(
        once(BOOM), requests=11, twice=1
    ),
    "60 an error that says 200, for ever": Row(
        since(0, BOOM), 4, ("proves itself",), 2, twice=1
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_a_status(place, row):
    """It ends with the exit code, the words and the bill that the catalogue has for it."""
    provider = PROVIDERS[list(ROWS).index(row) % 2]
    told = ROWS[row]
    if provider != "openai":
        told = Row(**{**vars_of(told), "more": {**told.more, **BATCH}})
    with running() as server:
        check(place, server, told, provider)


def vars_of(row):
    return {name: getattr(row, name) for name in row.__dataclass_fields__}


@pytest.mark.parametrize("code", [301, 302, 307, 308])
@pytest.mark.parametrize("after", [0, 2])
def test_59_a_redirect_is_never_followed(place, code, after):
    """Neither key nor text goes to another host; the message names it, without its query."""
    with running() as other, running() as server:
        to = faults.status(code, location=f"{other.openai_url}/embeddings?key={CANARY}")
        row = Row(since(after, to), 4, (str(code), "127.0.0.1", "not followed"), after + 2)
        check(place, server, row)
        assert other.bill.requests == 0


def test_48_a_key_that_was_renewed_is_read_again(place, tmp_path):
    """A key file may hold another key by now: then the run goes on, at no cost."""
    renewed = f"{CANARY}-2"
    file = tmp_path / "key"
    file.write_text(CANARY)
    file.chmod(0o600)

    def script(seen):
        if seen.number == 2:
            file.write_text(renewed)
            server.key = renewed

    with running(key=CANARY, script=script) as server:
        more = {"access__key_file": str(file), "access__key_env": None}
        check(place, server, Row(script, requests=9, more=more))
        assert server.last["headers"]["Authorization"] == f"Bearer {renewed}"
        assert 1 <= server.bill.statuses[401] <= 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("two\nlines", "it has spaces, line breaks or accents"),
        ("schlüssel", "it has spaces, line breaks or accents"),
        ("", "empty key"),
        (b"\xff\xfe", "is not text"),
        ("rubout\x7f", "no other key can be had"),
        (None, "cannot be read"),
    ],
)
def test_48_a_renewed_key_that_is_none_says_so(place, tmp_path, content, words):
    """The run ends with what is wrong with the file, and shows nothing of what it holds."""
    file = tmp_path / "key"
    file.write_text(CANARY)
    file.chmod(0o600)

    def script(seen):
        if seen.number == 2 and content is None:
            file.unlink()
        elif seen.number == 2:
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return Fault(status=401) if seen.number == 2 else None

    with running(script=script) as server:
        more = {"access__key_file": str(file), "limits__concurrency": 1}
        job = place(texts(40), server=server, limits__texts_per_request=8, **more)
        ended = job.run(code=4)
        assert "401, and no other key can be had" in ended.err
        assert words in ended.err
        assert "mistake in batchembed" not in ended.err
        assert not content or str(content) not in ended.err
