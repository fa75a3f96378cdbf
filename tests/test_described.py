"""An API that a job describes: APIs that are known, described, are asked and read as they are."""

import asyncio
import contextlib
import json
import re
import tomllib
from dataclasses import replace

import numpy as np
import orjson
import pytest
from fakes import vector
from fakes.commands import ROOT
from fakes.replay import Replay, Said, replaying
from fakes.runs import output, texts
from hypothesis import given
from hypothesis import strategies as st
from test_vendors import RECORDED, flat, ids

import batchembed
from batchembed.described import steps
from batchembed.errors import JobError
from batchembed.exchange import Malformed, Refused, Request, Response
from batchembed.job import from_dict
from batchembed.providers import Access, defaults, info, open_provider
from batchembed.spec import Spec

PAGE = (ROOT / "docs" / "adding-a-provider.md").read_text("utf-8")
SHOWN = [
    block for block in re.findall(r"(?ms)^```toml\n(.*?)^```$", PAGE) if "[model.http]" in block
]
OPENAI = {
    "path": "embeddings",
    "body": {"model": "{model}", "input": "{texts}", "encoding_format": "base64"},
    "vectors": "data[*].embedding",
    "index": "data[*].index",
    "tokens": "usage.total_tokens",
    "version": "model",
    "error": "error.message",
}
# What a job would say of the APIs that batchembed knows by itself.
KNOWN = {
    "openai": OPENAI | {"body": OPENAI["body"] | {"dimensions": "{dimensions}"}},
    "voyage": OPENAI
    | {
        "body": OPENAI["body"]
        | {"truncation": False, "input_type": "{role}", "output_dimension": "{dimensions}"},
        "roles": {"symmetric": "", "document": "document", "query": "query"},
    },
    "cohere": {
        "path": "v2/embed",
        "body": {
            "model": "{model}",
            "texts": "{texts}",
            "input_type": "{role}",
            "embedding_types": ["base64"],
            "output_dimension": "{dimensions}",
            "truncate": "NONE",
        },
        "roles": {
            "symmetric": "clustering",
            "document": "search_document",
            "query": "search_query",
        },
        "vectors": "embeddings.base64[*]",
        "tokens": "meta['billed_units'].input_tokens",
    },
    "gemini": {
        "path": "v1/models/{model}:batchEmbedContents",
        "body": {
            "requests": [
                {
                    "model": "models/gemini-embedding-001",
                    "content": {"parts": [{"text": "{text}"}], "role": "user"},
                    "taskType": "{role}",
                }
            ]
        },
        "roles": {
            "symmetric": "SEMANTIC_SIMILARITY",
            "document": "RETRIEVAL_DOCUMENT",
            "query": "RETRIEVAL_QUERY",
        },
        "vectors": "$.embeddings[*].values",
        "key_header": "x-goog-api-key",
    },
    "ollama": {
        "path": "api/embed",
        "body": {
            "model": "{model}",
            "input": "{texts}",
            "truncate": False,
            "dimensions": "{dimensions}",
        },
        "vectors": "embeddings[*]",
        "tokens": "prompt_eval_count",
    },
    "tei": {
        "path": "embed",
        "body": {"inputs": "{texts}", "truncate": False, "normalize": True},
        "vectors": "[*]",
    },
}
CASES = [
    recorded
    for recorded in RECORDED
    if recorded["asked"]["provider"] in KNOWN
    and recorded["asked"]["name"] != "gemini-embedding-2"  # the same form, with prefixes
    and not recorded["asked"].get("prompts")
    and not recorded["asked"].get("images")  # a description is of texts
]


def settings(http, **model):
    """Tables of a job with this description."""
    told = {"provider": "http", "name": "m", "base_url": "http://localhost:9", "http": http}
    tables = {"corpus": {"path": "x.csv", "text": "text"}, "output": {"path": "runs/x"}}
    return tables | {"model": told | model}


def spec_of(http, **model):
    """The spec of such a job."""
    return from_dict(settings(http, **model), where="here").spec()


def dialect(spec):
    return info("http").dialect(info("http"), spec, Access())


def request(given=("one text", "another text", "a third text"), role="symmetric"):
    return Request(np.zeros((len(given), 16), np.uint8), tuple(given), role, tokens=len(given))


# -- against the vendors' own clients --------------------------------------------------------------


@pytest.mark.parametrize("recorded", CASES, ids=ids)
def test_a_known_api_that_is_described_is_asked_as_its_client_asks(recorded):
    """Path, the key's header and every field of the body are those of the vendor's client."""
    asked, theirs = recorded["asked"], recorded["request"]
    http = KNOWN[asked["provider"]]
    root = theirs["path"].removesuffix(http["path"].replace("{model}", asked["name"]))
    spec = spec_of(
        http,
        name=asked["name"],
        base_url="https://h.example" + root.rstrip("/"),
        **{"dimensions": asked["dimensions"]} if asked.get("dimensions") else {},
    )
    call = dialect(spec).build(request(asked["texts"], asked["role"]))
    header = http.get("key_header", "Authorization")
    scheme = "Bearer " if header == "Authorization" else ""
    mine = {
        "method": call.method,
        "path": re.sub(r"^https?://[^/]+", "", spec.base_url) + "/" + call.path,
        "query": dict(call.query),
        "headers": {header: scheme + "a-key-of-nobody", "content-type": "application/json"},
        "body": json.loads(call.body),
    }
    mine["headers"] = {name.lower(): value for name, value in mine["headers"].items()}
    differing = {n for n in flat(mine) | flat(theirs) if flat(mine).get(n) != flat(theirs).get(n)}
    # Ollama's client has no key; a server behind a proxy may.
    assert differing == ({"headers.authorization"} if "api/embed" in theirs["path"] else set())


@pytest.mark.parametrize("recorded", CASES, ids=ids)
def test_a_known_api_that_is_described_is_read_as_its_client_reads(recorded):
    """The same vectors, bit for bit, and the tokens where the body tells them."""
    asked = recorded["asked"]
    spec = spec_of(KNOWN[asked["provider"]], name=asked["name"], normalize=False)
    body = orjson.dumps(recorded["answer"])
    found = dialect(spec).parse(request(asked["texts"]), status=200, headers={}, body=body)
    assert isinstance(found, Response), found
    assert found.vectors.tolist() == np.float32(recorded["vectors"]).tolist()
    assert found.tokens == (None if asked["provider"] in {"gemini", "tei"} else 7)


def test_every_form_that_is_described_above_is_compared():
    """Control: no description stands there for nothing, and one that is wrong is seen."""
    assert {recorded["asked"]["provider"] for recorded in CASES} == KNOWN.keys()
    spec = spec_of(KNOWN["cohere"] | {"vectors": "embeddings.float[*]"})
    (one, *_) = (r for r in CASES if r["asked"]["provider"] == "cohere")
    body = orjson.dumps(one["answer"])
    found = dialect(spec).parse(request(), status=200, headers={}, body=body)
    assert isinstance(found, Malformed)
    assert "nothing at `embeddings.float`" in found.reason


# -- the page --------------------------------------------------------------------------------------


def acme(asked):
    """The API of the page: one entry a text, in any order, with an index."""
    told = asked.json
    if asked.path != "/v2/vectors" or asked.headers["x-acme-key"] != "a-key":
        return Said(404)
    if any("POISON" in row["content"] for row in told["rows"]):
        return Said(422, {"problem": {"words": "a row is not acceptable"}})
    if told["engine"] != "acme-large" or told["cut"] is not False or len(told["rows"]) > 50:
        return Said(400, {"problem": {"words": "that is not how we are asked"}})
    found = [
        {"row": at, "values": vector(row["content"], role=told["kind"]).astype(float).tolist()}
        for at, row in enumerate(told["rows"])
    ]
    return Said(body={"vectors": found[::-1], "bill": {"tokens": 7}, "engine": "acme-large-3"})


def test_the_description_of_the_page_runs_a_job(tmp_path):
    """Rows that come in any order are joined by their index, and a bad one costs itself alone."""
    (shown,) = SHOWN
    rows = [*texts(120), "a POISON text"]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))
    with replaying(acme) as server:
        told = tomllib.loads(shown)
        told["model"] |= {"base_url": server.url + "/v2"}
        told |= {"corpus": {"path": str(corpus), "text": "text"}, "limits": {"max_rejects": 1}}
        job = from_dict(told | {"output": {"path": str(tmp_path / "run")}}, where="the page")
        summary = batchembed.run(job, environ={"ACME_KEY": "a-key"})
        first = len(server.seen[0].json["rows"])
        again = batchembed.load(tmp_path / "run" / "job.toml")
        seen = len(server.seen)
        assert batchembed.run(again, environ={"ACME_KEY": "a-key"}).sent == 0
        assert len(server.seen) == seen, "the job as it was kept is the same job"
    assert (summary.rejected, summary.exit_code, first) == (1, 3, 50)
    right = [vector(text, role="stored").tolist() for text in rows[:-1]]
    assert output(tmp_path / "run")["embedding"].to_pylist() == [*right, None]
    rejects = (tmp_path / "run" / "rejects.arrow").read_bytes()
    assert b"a row is not acceptable" in rejects


# -- what is wrong with a description --------------------------------------------------------------

WRONG = {
    "a path that is none": ({"vectors": "data[embedding"}, "cannot be read from `[embedding` on"),
    "a filter": ({"vectors": "data[?(@.x)]"}, "must be a path of names"),
    "a path of nothing": ({"vectors": "$"}, "must be a path of names"),
    "two lists": ({"vectors": "a[*].b[*]"}, "it must have one `[*]`"),
    "no list": ({"vectors": "data.embedding"}, "`vectors` is `data.embedding`: it must have one"),
    "an index elsewhere": ({"index": "rows[*].n"}, "`index` is `rows[*].n`: it must lead to"),
    "an index of the whole": ({"index": "n"}, "`index` is `n`: it must lead to"),
    "tokens of each": ({"tokens": "data[*].n"}, "`tokens` is `data[*].n`, and can have no `[*]`"),
    "tokens of a list": (
        {"vectors": "[*]", "index": None, "version": None, "tokens": "n"},
        "needs an answer that is an object",
    ),
    "no texts": ({"body": {"x": 1}}, 'its body must have "{texts}" once'),
    "texts twice": ({"body": {"x": "{texts}", "y": "{texts}"}}, 'must have "{texts}" once'),
    "another word": ({"body": {"x": "{texts}", "y": "{txt}"}}, 'its body has "{txt}"'),
    "a list of more": ({"body": {"x": [{"y": "{text}"}, 1]}}, "it can have no other"),
    "one text": (
        {"body": {"x": "{text}"}, "texts_per_request": 8, "vectors": "v", "index": None},
        "stands in no list",
    ),
    "a role without words": ({"body": {"x": "{texts}", "r": "{role}"}}, "need each other"),
    "words without a role": ({"roles": {"query": "q"}}, "need each other"),
    "a path with a word": ({"path": "x/{role}"}, "`{role}`, and known is {model}"),
    "a header of ours": ({"key_header": "Content-Type"}, "`Content-Type`, which cannot carry"),
    "a header of two lines": ({"key_header": "X\r\nY"}, "which cannot carry a key"),
    "no vectors": ({"vectors": None}, "`model.http.vectors` is missing"),
    "another name": ({"vector": "x"}, "did you mean `model.http.vectors`?"),
    "a number of texts": ({"texts_per_request": 0}, "must be 1 or more"),
    "no JSON": ({"body": {"x": "{texts}", "at": {1, 2}}}, "must hold what JSON can hold"),
    "a key": ({"query": {"api_key": "abcdef123456"}}, "holds something like a key"),
}


@pytest.mark.parametrize(("change", "words"), WRONG.values(), ids=WRONG)
def test_a_description_that_cannot_work_is_refused_at_once(change, words):
    """The line names the value and what it must be; nothing is sent."""
    http = {name: value for name, value in (OPENAI | change).items() if value is not None}
    with pytest.raises(JobError) as caught:
        from_dict(settings(http), where="here")
    assert words in caught.value.message
    assert from_dict(settings(OPENAI), where="here").model.http.vectors == "data[*].embedding"


def test_what_it_cannot_be_asked_for_is_refused():
    """A length, a role, controls, and a description for an API that is known."""
    roles = OPENAI | {"body": OPENAI["body"] | {"r": "{role}"}, "roles": {"document": "d"}}
    for told, words in (
        (settings(OPENAI, dimensions=8), "the body under [model.http] has no field for it"),
        (settings(OPENAI, representation="query"), "no representation `query`"),
        (settings(roles, representation="query"), "no representation `query`"),
        (settings(roles), "no representation `symmetric`"),
        (settings(OPENAI, controls=[{"match": "a", "factor": 2}]), "attention controls cannot"),
        (settings(OPENAI, provider="openai"), "http `…` cannot be had from `openai`"),
        (settings(None), "needs to know the API"),
    ):
        told["model"] = {k: v for k, v in told["model"].items() if v is not None}
        with pytest.raises(JobError, match=re.escape(words)):
            from_dict(told, where="here")
    assert from_dict(settings(roles, representation="document"), where="here")


# -- what is sent and read -------------------------------------------------------------------------


def test_one_text_a_request_where_the_api_takes_no_more():
    """The text stands where the description has it, and the vector alone in the answer."""
    http = {"body": {"prompt": [{"kind": "text"}, {"data": "{text}"}]}, "vectors": "embedding"}
    spec = spec_of(http | {"texts_per_request": 1})
    made = dialect(spec)
    assert made.limits.texts_per_request == 1
    sent = json.loads(made.build(request(["alone"])).body)
    assert sent == {"prompt": [{"kind": "text"}, {"data": "alone"}]}
    found = made.parse(request(["alone"]), status=200, headers={}, body=b'{"embedding":[0.6,-0.8]}')
    assert found.vectors.tolist() == [np.float32([0.6, -0.8]).tolist()]
    packed = b'{"embedding":"mpkZP83MTL8="}'
    found = made.parse(request(["alone"]), status=200, headers={}, body=packed)
    assert found.vectors.tolist() == [np.float32([0.6, -0.8]).tolist()]


def test_prefixes_go_before_texts_and_a_role_without_a_word_is_left_out():
    """As for every provider."""
    body = {"t": "{texts}", "r": "{role}", "d": "{dimensions}"}
    http = {"body": body, "vectors": "[*]", "roles": {"symmetric": "", "query": "q"}}
    spec = spec_of(http, prefixes={"query": "find: "})
    sent = [json.loads(dialect(spec).build(request(["a"], r)).body) for r in ("symmetric", "query")]
    assert sent == [{"t": ["a"]}, {"t": ["find: a"], "r": "q"}]


BAD_ROWS = {
    "an index twice": [{"index": 0}, {"index": 0}],
    "an index too high": [{"index": 0}, {"index": 2}],
    "no index": [{}, {}],
    "no objects": [1, 2],
}


@pytest.mark.parametrize("rows", BAD_ROWS.values(), ids=BAD_ROWS)
def test_an_index_that_proves_nothing_is_no_answer(rows):
    """Every claim of the answer is checked, as in OpenAI's form."""
    rows = [row | {"embedding": [0.6, 0.8]} if isinstance(row, dict) else row for row in rows]
    body = orjson.dumps({"data": rows})
    made = dialect(spec_of(OPENAI))
    assert isinstance(made.parse(request(["a", "b"]), status=200, headers={}, body=body), Malformed)


def test_an_error_is_read_where_the_description_says():
    """Its words reach rejects, without the text; other shapes are found where they usually are."""
    made = dialect(spec_of(OPENAI | {"error": "problems[0].words"}))
    for body, words in (
        ({"problems": [{"words": "bad: one text, twelve"}]}, "400 Bad Request: bad: …"),
        ({"problems": []}, "400 Bad Request"),
        ({"error": {"message": "as ever"}}, "400 Bad Request: as ever"),
        (["no object"], "400 Bad Request"),
    ):
        sent = request(["one text, twelve"])
        found = made.parse(sent, status=400, headers={}, body=orjson.dumps(body))
        assert isinstance(found, Refused)
        assert found.reason == words


def test_the_key_goes_into_the_header_that_is_named():
    """`Bearer` stands before it in Authorization alone."""

    async def headers(**told):
        api = replace(from_dict(settings(OPENAI), where="here").spec().http, **told)
        async with Replay(lambda _: Said(404)) as server:
            spec = Spec("http", "m", base_url=server.url, http=api)
            provider = open_provider(defaults(spec), Access(), key="K")
            await provider.attempt(request())
            await provider.close()
            return server.seen[0].headers

    assert asyncio.run(headers())["authorization"] == "Bearer K"
    found = asyncio.run(headers(key_header="X-Key"))
    assert found["x-key"] == "K"
    assert "authorization" not in found


def test_what_changes_no_vector_changes_no_key():
    """Limits, headers, and where tokens and messages are may be mended without paying again."""
    one = spec_of(OPENAI)
    same = {"tokens": "n", "error": "e", "version": "v", "key_header": "X", "texts_per_request": 9}
    assert spec_of(OPENAI | same).fingerprint() == one.fingerprint()
    for change in ({"path": "v"}, {"query": {"a": "b"}}, {"vectors": "data[*].v"}):
        assert spec_of(OPENAI | change).fingerprint() != one.fingerprint()
    other = OPENAI["body"] | {"encoding_format": "float"}
    assert spec_of(OPENAI | {"body": other}).fingerprint() != one.fingerprint()


def test_a_careful_number_may_be_raised_and_a_limit_may_not():
    """64 texts where nobody says more; the job knows better than a guess, not than the API."""

    def most(told, asked):
        from batchembed.engines.local import limits

        job = from_dict(told | {"limits": {"texts_per_request": asked}}, where="here")
        return limits(job, job.spec()).texts_per_request

    assert most(settings(OPENAI), 200) == 200
    assert most(settings(OPENAI | {"texts_per_request": 50}), 200) == 50
    assert most(settings(None) | {"model": {"provider": "infinity", "name": "m"}}, 2048) == 2048
    elsewhere = {"provider": "openai", "name": "m", "base_url": "https://h.example/v1"}
    assert most(settings(None) | {"model": elsewhere}, 2048) == 2048
    assert most(settings(None) | {"model": {"provider": "cohere"}}, 2048) == 96


# -- paths -----------------------------------------------------------------------------------------

NAMES = st.text(st.characters(exclude_characters="'\"", exclude_categories=["Cs"]), min_size=1)


@given(st.lists(st.one_of(NAMES, st.integers(0, 999_999), st.none()), min_size=1, max_size=6))
def test_a_path_that_is_written_down_is_read_back(path):
    """In quotes any name will do."""
    parts = (f"['{s}']" if isinstance(s, str) else "[*]" if s is None else f"[{s}]" for s in path)
    assert list(steps("$" + "".join(parts))) == path


@given(st.text(max_size=12))
def test_no_text_breaks_the_reader_of_paths(text):
    """It is a path, or a ValueError."""
    with contextlib.suppress(ValueError):
        assert steps(text)


def test_paths_as_people_write_them():
    """With or without the root."""
    assert steps("data[*].embedding") == steps("$.data[*].embedding") == ("data", None, "embedding")
    assert steps("a.b-c_d[0]['x.y']") == ("a", "b-c_d", 0, "x.y")
    for wrong in (".a", "$a", "a..b", "a.", "a b", "a[", "a[-1]", "a[1:2]", "a.*", "..a", ""):
        with pytest.raises(ValueError, match="must be a path"):
            steps(wrong)
