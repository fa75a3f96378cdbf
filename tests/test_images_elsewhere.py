"""Images at Cohere and Voyage: each on its own row, and refused where they cannot be had."""

import base64
import re
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import vector
from fakes.replay import Said, replaying
from fakes.runs import HARMLESS, output, rejects

import batchembed
from batchembed.errors import JobError
from batchembed.job import from_dict

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"
WEBP = b"RIFF\x00\x00\x00\x00WEBP"
KINDS = {"image/png": PNG, "image/jpeg": JPEG, "image/gif": b"GIF89a", "image/webp": WEBP}
MODELS = {"cohere": "embed-v4.0", "voyage": "voyage-multimodal-3.5"}
EVERY = pytest.mark.parametrize("provider", MODELS)


def said(content):
    """How the stand-in writes a row down, of which its vector is a function."""
    words = []
    for piece in content:
        uri = piece.get("image_base64") or piece.get("image_url", {}).get("url")
        if uri is None:
            assert piece.keys() == {"type", "text"}
            words.append(piece["text"])
            continue
        kind, data = re.fullmatch(r"data:(image/\w+);base64,(.+)", uri).groups()
        raw = base64.b64decode(data)
        assert raw.startswith(KINDS[kind]) or kind == "image/gif"
        words.append(f"<{kind} {raw[-9:].hex()}>")
    return "|".join(words)


def written(data):
    kind = next(k for k, start in KINDS.items() if data.startswith(start[:4]))
    return f"<{kind} {data[-9:].hex()}>"


class StandIn:
    """Both APIs, with a bill of rows; Voyage answers backwards, Cohere has no index."""

    def __init__(self):
        self.bill = Counter()

    def __call__(self, asked):
        told = asked.json
        if "texts" in told:  # the harmless text by which a run finds out who is at fault
            rows = told["texts"]
        else:
            rows = [said(one["content"]) for one in told["inputs"]]
        if any("POISON" in row for row in rows):
            return Said(400, {"message": "no", "detail": "no"})
        self.bill.update(row for row in rows if row != HARMLESS)
        right = [vector(row, role=told["input_type"], model=told["model"]) for row in rows]
        packed = [base64.b64encode(v.astype("<f4").tobytes()).decode() for v in right]
        if asked.path == "/v2/embed":
            assert (told["truncate"], told["embedding_types"]) == ("NONE", ["base64"])
            units = {"input_tokens": 3.0, "image_tokens": 4.0, "images": 1.0}
            return Said(body={"embeddings": {"base64": packed}, "meta": {"billed_units": units}})
        assert asked.path == "/v1/multimodalembeddings"
        assert (told["truncation"], told["encoding_format"]) == (False, "base64")
        data = [{"index": n, "embedding": row} for n, row in enumerate(packed)]
        usage = {"text_tokens": 3, "image_pixels": 99, "total_tokens": 7}
        return Said(body={"data": data[::-1], "model": told["model"], "usage": usage})


@pytest.fixture
def api():
    stand_in = StandIn()
    with replaying(stand_in) as server:
        server.bill = stand_in.bill
        yield server


def job(tmp_path, provider, table, *, api=None, **more):
    """A job over a table whose column `image` has bytes."""
    pq.write_table(pa.table(table), tmp_path / "rows.parquet")
    path = "/v1" if provider == "voyage" else ""
    model = {"provider": provider, "name": MODELS.get(provider, "m"), "representation": "document"}
    tables = {
        "corpus": {"path": str(tmp_path / "rows.parquet"), "image": "image"},
        "model": model | ({"base_url": api.url + path} if api else {}),
        "output": {"path": str(tmp_path / "run")},
        "limits": {"max_rejects": 3, "patience": "200ms"},
    }
    for name, value in more.items():
        table, _, key = name.partition("__")
        tables.setdefault(table, {})[key] = value
    return from_dict(tables, where="here")


@EVERY
def test_images_alone_and_with_texts(tmp_path, api, provider):
    """A row is one vector of its image and its text, whatever the kind of image."""
    kinds = list(KINDS.values())
    images = [kinds[n % 4] + f"picture {n:4}".encode() for n in range(130)]
    texts = [f"caption {n}" if n % 3 else None for n in range(130)]
    given = job(tmp_path, provider, {"image": images, "text": texts}, api=api, corpus__text="text")
    summary = batchembed.run(given, environ={})
    assert (summary.exit_code, summary.rejected, summary.sent) == (0, 0, 130)
    assert summary.tokens == 7 * len(api.seen)
    role = {"cohere": "search_document", "voyage": "document"}[provider]
    rows = [
        written(image) + (f"|{text}" if text else "")
        for image, text in zip(images, texts, strict=True)
    ]
    right = [vector(row, role=role, model=MODELS[provider]).tolist() for row in rows]
    assert output(tmp_path / "run")["embedding"].to_pylist() == right
    assert set(api.bill.values()) == {1}
    assert batchembed.run(given, environ={}).sent == 0


@EVERY
def test_a_picture_of_no_known_kind_costs_its_own_row(tmp_path, api, provider):
    """It is never sent; what the server refuses is found by halving, neighbours are paid once."""
    images = [PNG + f"picture {n:4}".encode() for n in range(9)]
    images[4] = b"BM a bitmap"
    texts = ["POISON" if n == 6 else "fine" for n in range(9)]
    given = job(tmp_path, provider, {"image": images, "text": texts}, api=api, corpus__text="text")
    summary = batchembed.run(given, environ={})
    assert (summary.exit_code, summary.rejected) == (3, 2)
    told = {row["row"]: row["message"] for row in rejects(tmp_path / "run")}
    assert "no PNG, JPEG, GIF or WebP" in told[4]
    assert told.keys() == {4, 6}
    assert set(api.bill.values()) == {1}
    assert sum(api.bill.values()) == 7


@EVERY
def test_prompts_of_pieces(tmp_path, api, provider):
    """Several images and texts are one vector; token ids, crops and controls are refused alone."""
    one, two = (PNG + f"picture {n:4}".encode() for n in range(2))
    rows = [
        [{"text": "before "}, {"image": one}, {"text": " between "}, {"image": two}],
        [{"text": "ids"}, {"tokens": [1, 2]}],
        [{"image": one, "x": 0, "y": 0, "size": 4}],
    ]
    kind = pa.list_(
        pa.struct([("text", pa.string()), ("image", pa.binary()), ("tokens", pa.list_(pa.int64())),
                   ("x", pa.int64()), ("y", pa.int64()), ("size", pa.int64())])
    )  # fmt: skip
    table = {"prompt": pa.array(rows, kind)}
    given = job(tmp_path, provider, table, api=api, corpus__prompt="prompt", corpus__image=None)
    summary = batchembed.run(given, environ={})
    assert summary.rejected == 2
    (row,) = api.bill
    assert row == f"before |{written(one)}| between |{written(two)}"
    told = [row["message"] for row in rejects(tmp_path / "run")]
    assert any("without token ids" in message for message in told)
    assert any("as they are" in message for message in told)


REFUSED = {
    "another model": ({"model__name": "embed-english-v3.0"}, "name the model `embed-v4.0`"),
    "token ids": (
        {"corpus__image": None, "corpus__tokens": "image"},
        "`corpus.tokens` cannot be had from `cohere` with `embed-v4.0`",
    ),
    "a bound": (
        {"limits__max_cost": 1.0},
        "`cohere` does not say beforehand what an image costs",
    ),
}


@pytest.mark.parametrize(("change", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_had_is_refused_at_once(tmp_path, api, change, words):
    """Before anything is sent, with what could be done instead."""
    with pytest.raises(JobError) as caught:
        batchembed.run(job(tmp_path, "cohere", {"image": [PNG]}, api=api, **change), environ={})
    assert words in f"{caught.value.message} {caught.value.hint}"
    assert api.seen == []


def test_the_batch_lane_takes_no_images(tmp_path):
    """And no model that is asked at the route for images."""
    lane = {"access__lane": "batch"}
    with pytest.raises(JobError, match="has no batch lane"):
        job(tmp_path, "voyage", {"image": [PNG]}, **lane)
    with pytest.raises(JobError, match=r"`corpus.image` cannot be had from `voyage`"):
        job(tmp_path, "voyage", {"image": [PNG]}, **lane, model__name="voyage-4")


def test_a_plan_does_not_pretend_to_know_what_images_cost(tmp_path):
    """The price of texts is not that of images: unknown, and said to be."""
    table = {"image": [PNG + b"1"], "text": ["a"]}
    plan = batchembed.plan(job(tmp_path, "cohere", table))
    assert plan.cost is None
    assert any("tokens of an image are a guess" in note for note in plan.notes)
    texts = job(tmp_path, "cohere", table, corpus__image=None, corpus__text="text")
    assert batchembed.plan(texts).cost is not None


def test_a_vector_on_another_row_would_be_seen():
    """Control: each row of the stand-in has a vector of its own."""
    rows = [vector(written(PNG + f"picture {n:4}".encode())) for n in range(9)]
    assert len({row.tobytes() for row in rows}) == 9
    assert not np.array_equal(rows, rows[::-1])
