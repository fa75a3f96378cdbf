"""Which outcome each failing answer is, by a table."""

import json

import numpy as np
import pytest

from batchembed.exchange import Fatal, Malformed, Refused, Request, Throttled, TooLarge, Unavailable
from batchembed.pacing import Permit, Rates
from batchembed.pacing.state import State
from batchembed.pacing.step import learn
from batchembed.providers import limits, sayings, status
from batchembed.providers.openai import OpenAI
from batchembed.spec import Spec


def request(n=2, text="a text that is long enough"):
    texts = tuple(f"{text} {i}" for i in range(n))
    return Request(keys=np.zeros((n, 16), np.uint8), texts=texts)


def sort(code, body=b"", headers=None, n=2):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return status.sort(request(n), status=code, headers=headers or {}, body=raw)


def error(message="m", code=None, kind="invalid_request_error", param=None):
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        *((c, Fatal) for c in (301, 302, 304, 307, 308, 401, 402, 403, 404, 405, 407, 410)),
        *((c, Unavailable) for c in (201, 204, 408, 409, 421, 424, 425, 499)),
        *((c, Unavailable) for c in (500, 501, 502, 503, 504, 520, 529, 599)),
        *((c, Refused) for c in (400, 406, 415, 418, 422, 451)),
        (413, TooLarge),
        (429, Throttled),
    ],
)
def test_every_status_has_its_outcome(code, kind):
    """Without a word from the server, the status alone decides."""
    assert type(sort(code)) is kind


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "0"}, None),
        ({"retry-after": "1000000000"}, 1e9),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "junk", "retry-after": "9"}, 9.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1_000"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "٣"}, None),
        ({}, None),
        (
            {
                "retry-after": "Wed, 04 Nov 2026 10:00:30 GMT",
                "date": "Wed, 04 Nov 2026 10:00:00 GMT",
            },
            30.0,
        ),
        (
            {
                "retry-after": "Wed, 04 Nov 2026 09:00:00 GMT",
                "date": "Wed, 04 Nov 2026 10:00:00 GMT",
            },
            None,
        ),
        ({"retry-after": "Wed, 04 Nov 2026 10:00:30 GMT"}, None),
        (
            {"retry-after": "Wed, 04 Nov 2026 10:00:30 GMT", "date": "Wed, 04 Nov 2026 10:00:00"},
            None,
        ),
    ],
)
def test_how_long_to_wait(headers, wait):
    """Seconds, milliseconds and dates are obeyed; what makes no sense is ignored."""
    assert sayings.wait(headers) == wait
    assert sort(429, headers=headers).wait == wait
    assert sort(503, headers=headers).wait == wait


RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"


@pytest.mark.parametrize(
    ("delay", "wait"),
    [
        ("58s", 58.0),
        ("39.837274622s", 39.837274622),
        ("0.5s", 0.5),
        ("0s", None),
        ("-1s", None),
        ("58", None),
        ("1m", None),
        (58, None),
        (None, None),
    ],
)
def test_a_retry_info_in_the_body_is_obeyed_as_a_retry_after_is(delay, wait):
    """As Gemini sends it, beside what quota is used up; the pacer is silent for that long."""
    quota = {"quotaId": "EmbedContentRequestsPerMinutePerUserPerProjectPerModel-FreeTier"}
    details = [
        {"@type": "type.googleapis.com/google.rpc.Help", "links": [{"url": "https://ai.google"}]},
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [quota]},
        {"@type": RETRY_INFO, "retryDelay": delay},
    ]
    body = {
        "error": {
            "code": 429,
            "message": "You exceeded your current quota, please check your plan.",
            "status": "RESOURCE_EXHAUSTED",
            "details": details,
        }
    }
    outcome = sort(429, body)
    assert isinstance(outcome, Throttled)
    assert outcome.wait == wait
    header = sort(429, body, {"retry-after": "7"})
    assert header.wait == 7.0, "a header goes before the body"
    found = learn(
        State(open=1), Rates(), Permit(1, 1, 99.0), outcome, now=100.0, draw=0.5
    ).held_until
    assert found == pytest.approx(100.0 + wait + 0.07 if wait else 100.5)


@pytest.mark.parametrize(
    ("message", "texts"),
    [
        ("Invalid 'input': array too long. Expected an array with maximum length 2048", 2048),
        ("batch size 4000 > maximum allowed batch size 32", 32),
        ("input batch size 136 > maximum allowed batch size 64", 64),
        ("batch size is invalid, it should not be larger than 10.: input.contents", 10),
        ("Too many inputs. The max number of inputs is 16.", 16),
        ("invalid request: total number of texts must be at most 96 - received 97", 96),
        ("List should have at most 2048 items after validation, not 3000", 2048),
        ("* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch", 100),
        ("The batch size limit is 1000. Your batch size is 3000.", 1000),
        ("Requested 346134 tokens, max 300000 tokens per request", None),
        ("Too many tokens in batch. Max is 16384 got 17555", None),
        ("The max allowed tokens per submitted batch is 120000. Yours has 121138", None),
        ("Too many inputs in request, split into more batches.", None),
        ("Too many tokens overall, split into more batches.", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("code", [400, 413, 422])
def test_a_request_that_is_too_large_as_a_whole(message, texts, code):
    """What servers say of too many texts or tokens is told from a text at fault, with its cap."""
    found = sort(code, error(message), n=3000)
    assert isinstance(found, TooLarge)
    assert found.texts_per_request == texts


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 8192 tokens, however you requested 9000 tokens",
        "the input length exceeds the context length",
        "text must be at most 8192 characters",
        "input must be at most 8192 tokens",
        "input is too large to process. increase the physical batch size",
        "Invalid 'input[0]': maximum input length is 8192 tokens.",
        "the request (9000 tokens) exceeds the available context size (8192 tokens)",
        "'$.input' is invalid",
        "",
    ],
)
def test_a_text_at_fault_is_not_taken_for_a_large_request(message):
    """What is wrong with one text leads to the search for that text."""
    assert type(sort(400, error(message), n=8)) is Refused


@pytest.mark.parametrize(
    "message",
    [
        "`inputs` must have less than 512 tokens. Given: 60000",
        "Single text cannot exceed 8192 tokens. 9000 tokens given.",
        "Input id 0 has 9000 tokens, exceeding max 8192 tokens",
    ],
)
def test_a_413_that_names_one_text_says_nothing_of_the_size_of_requests(message):
    """TEI's status for a text that is too long: its numbers are of that text, not of them all."""
    assert type(sort(413, error(message), n=8)) is Refused


@pytest.mark.parametrize("body", [b"", error("too many tokens"), error("request too big")])
def test_a_413_of_many_texts_is_of_their_size_else(body):
    """A proxy's limit on bytes is learnt."""
    assert type(sort(413, body, n=8)) is TooLarge


@pytest.mark.parametrize("code", [400, 413, 422])
@pytest.mark.parametrize(
    ("message", "share"),
    [
        ("Requested 9 tokens, max 5 tokens per request", 5 / 9),
        (
            "maximum context length is 8192 tokens, however you requested 9000 tokens (9000",
            8192 / 9000,
        ),
        ("maximum context length is 512 tokens. However, you requested 600 tokens", 512 / 600),
        ("`inputs` must have less than 512 tokens. Given: 600", 512 / 600),
        ("Input id 0 has 9000 tokens, exceeding max 8192 tokens", 8192 / 9000),
        ("Invalid 'input': maximum context length is 8192 tokens.", None),
        ("Invalid 'input[0]': maximum input length is 8192 tokens.", None),
        (
            "The decoder prompt (length 9000) is longer than the maximum model length of 8192.",
            8192 / 9000,
        ),
        ("Single text cannot exceed 8192 tokens. 9000 tokens given.", 8192 / 9000),
        (
            "too many tokens: total number of tokens in it cannot exceed 512 - received 600",
            512 / 600,
        ),
        (
            "the request (9000 tokens) exceeds the available context size (8192 tokens)",
            8192 / 9000,
        ),
        ("the input length exceeds the context length", None),
    ],
)
def test_one_text_alone_is_too_long(code, message, share):
    """There is nothing to halve; how much of it would have passed is read where it is said."""
    found = sort(code, error(message), n=1)
    assert isinstance(found, TooLarge)
    assert found.share == (None if share is None else pytest.approx(share))


@pytest.mark.parametrize("code", [400, 413, 422])
def test_one_long_text_among_many_says_nothing_of_requests(code):
    """It is looked for by halving; its numbers are no cap on what a request may hold."""
    for message in (
        "`inputs` must have less than 512 tokens. Given: 60000",
        "maximum context length is 8192 tokens, however you requested 9000 tokens",
        "Input id 3 has 9000 tokens, exceeding max 8192 tokens",
    ):
        assert type(sort(code, error(message), n=64)) is Refused


def test_no_text_is_cut_for_a_rate_or_by_other_words():
    """Of one text alone: a minute's tokens, another setting's length, a server that is down."""
    never = error("Request too large for m on tokens per min (TPM): Limit 1000, Requested 7000.")
    assert type(sort(429, never, n=1)) is Refused
    assert isinstance(sort(429, never, n=2), TooLarge)
    other = error("input_type must be at most 20 characters")
    assert type(sort(400, other, n=1)) is Refused
    assert type(sort(400, error("user: string is too long"), n=1)) is Refused
    memory = error("CUDA out of memory: context length 512")
    assert type(sort(500, memory, n=1)) is Unavailable
    assert isinstance(sort(400, error("input[0]: string is too long"), n=1), TooLarge)
    busy = error("context window exhausted, retry later")
    assert type(sort(503, busy, n=1)) is Unavailable
    assert isinstance(sort(500, error("input is too large to process"), n=1), TooLarge)


def test_a_413_without_words_is_of_one_text_as_well():
    """A proxy that lets no more bytes through says nothing else."""
    assert isinstance(sort(413, b"", n=1), TooLarge)
    assert isinstance(sort(400, b"", n=1), Refused)


def test_max_tokens_per_request_is_known_by_its_code():
    """The code counts where the prose has changed."""
    found = sort(400, error("words that changed", code="max_tokens_per_request"))
    assert type(found) is TooLarge


@pytest.mark.parametrize("param", ["dimensions", "model", "encoding_format"])
def test_a_setting_that_is_refused_ends_the_run(param):
    """No text is at fault when the server names a setting."""
    found = sort(400, error("not supported", param=param))
    assert isinstance(found, Fatal)
    assert param in found.hint


@pytest.mark.parametrize("code", [400, 404, 422])
def test_a_model_that_is_not_there_ends_the_run(code):
    """The model's name is a matter for a person."""
    assert type(sort(code, error("no such model", code="model_not_found"))) is Fatal


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": "MISSING", "code": "MISSING_CAPABILITY"}, "MISSING"),
        ({"error": {"message": "wrong", "code": 3}}, "wrong"),
        ({"message": "flat", "type": "Validation", "code": 422}, "flat"),
        ({"error": "tei", "error_type": "Validation"}, "tei"),
        ({"object": "error", "message": "vllm", "code": 400}, "vllm"),
        ({"detail": "fastapi"}, "fastapi"),
        ({"detail": [{"loc": ["body", "input", 0], "msg": "too long", "input": "SECRET"}]},
         "body.input.0: too long"),
        (b"plain words\nin lines", "plain words\nin lines"),
        (b"<html><head><title>502 Bad Gateway</title>", "502 Bad Gateway"),
        (b"<html>nothing", ""),
        (b"", ""),
        ([1, 2], ""),
        (7, ""),
        ({"error": None}, ""),
        ({"error": {"message": {"a": 1}}}, ""),
        ({"detail": [1, {"loc": 3, "msg": None}]}, ""),
        (b"[" * 100_000, "["),
    ],
)  # fmt: skip
def test_what_servers_say_is_found_in_every_shape(body, said):
    """The message of each vendor's error form is read, and nothing else of it."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert sayings.said(raw).message[:400].startswith(said)
    assert "SECRET" not in sayings.said(raw).message


def test_the_texts_of_a_corpus_do_not_get_into_reasons():
    """A server that echoes what it refuses does not leak the corpus into a log."""
    sent = request()
    found = sort(400, error(f"cannot embed: {sent.texts[1]!r}"))
    assert sent.texts[1] not in found.reason
    assert "cannot embed" in found.reason


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://other.example/path?key=SECRET", "`other.example`"),
        ("https://user:SECRET@other.example/", "`other.example`"),
        ("/elsewhere?SECRET", "elsewhere"),
        ("https://[SECRET", "elsewhere"),
        ("", "elsewhere"),
    ],
)
def test_a_redirect_shows_the_new_host_only(location, shown):
    """A key never follows a redirect, and the address may hold secrets itself."""
    found = sort(307, headers={"location": location})
    assert isinstance(found, Fatal)
    assert shown in found.reason
    assert "SECRET" not in found.reason + found.hint


def test_the_request_id_is_taken_along():
    """Vendors ask for it."""
    assert sort(400, headers={"x-request-id": "r-1"}).request_id == "r-1"
    assert len(sort(400, headers={"request-id": "r" * 999}).request_id) == 128


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"error":{"message":"boom"}}', Malformed),
        (b'{"error":{"message":"m","type":"insufficient_quota"}}', Fatal),
        (b'{"error":{"message":"m","code":"model_not_found"}}', Fatal),
        (b'{"error":{"message":"m","code":"rate_limit_exceeded"}}', Throttled),
    ],
)
def test_an_error_with_status_200_is_known_by_its_code(body, kind):
    """Prose alone proves nothing: it is asked again."""
    spec = Spec("openai", "m")
    found = OpenAI(spec, limits(spec)).parse(request(), status=200, headers={}, body=body)
    assert type(found) is kind
