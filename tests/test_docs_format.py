"""docs/format.md is enough to re-implement keys and to read a run directory."""

import inspect
import json
import re
import struct
from dataclasses import MISSING, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchembed import prompts, run, segments, spec, survey
from batchembed import shard as sharding
from batchembed.embed import settle
from batchembed.exchange import Control
from batchembed.job import from_dict
from batchembed.parts import Manifest
from batchembed.providers.local import NO_KNOWN_TOKEN

PAGE = (Path(__file__).parent.parent / "docs" / "format.md").read_text("utf-8")
BLOCKS = re.findall(r"(?ms)^```(\w+)\n(.*?)^```$", PAGE)


def section(title):
    """One section of the page, from its heading to the next."""
    return re.search(rf"(?ms)^## {re.escape(title)}.*?\n(.*?)(?=^## |\Z)", PAGE)[1]


def table(text, head):
    """The rows of the table that begins with `head`, as lists of cells without code marks."""
    lines = text[text.index(head) :].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in line.strip("|").split(" | ")])
    return rows


# -- fingerprint and keys --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def told():
    """The functions that the page shows."""
    scope = {}
    exec(next(content for language, content in BLOCKS if language == "python"), scope)
    return scope


def golden_specs():
    rows = table(PAGE, "| spec | fingerprint |")
    return {name: (json.loads(text.strip("`")), mark) for (name, text), mark in _split(rows)}


def _split(rows):
    return [(cells[0].split(": `", 1), cells[1]) for cells in rows]


def golden_keys():
    rows = table(PAGE, "| spec | role | text | controls | key |")
    for name, role, text, controls, key in rows:
        numbers = [] if controls == "none" else controls.split(", ")
        spans = [(int(numbers[0]), int(numbers[1]), float(numbers[2]))] if numbers else []
        yield name, role, text, spans, key


def ours(given_spec):
    """A Spec of the fields that a page or a test gives as JSON."""
    prefixes = tuple(tuple(pair) for pair in given_spec.get("prefixes", ()))
    return spec.Spec(**given_spec | ({"prefixes": prefixes} if prefixes else {}))


def test_the_golden_values_are_those_of_the_program():
    """Fingerprints and keys of the page are what the program computes, so they never change."""
    specs = golden_specs()
    assert {"A", "B"} == specs.keys()
    for given_spec, mark in specs.values():
        assert ours(given_spec).fingerprint() == mark
    keys = list(golden_keys())
    assert len(keys) == 5
    for name, role, text, spans, key in keys:
        found = spec.Keyer(ours(specs[name][0])).key(text, role, [Control(*s) for s in spans])
        assert found.hex() == key


def test_the_golden_values_are_those_of_the_page_itself(told):
    """The program on the page gives the values on the page."""
    specs = golden_specs()
    for given_spec, mark in specs.values():
        assert told["fingerprint"](given_spec) == mark
    for name, role, text, spans, key in golden_keys():
        assert told["key"](specs[name][0], role, text, spans).hex() == key


@given(
    st.fixed_dictionaries(
        {"provider": st.text(min_size=1), "name": st.text(min_size=1)},
        optional={
            "base_url": st.text(min_size=1),
            "dimensions": st.integers(1, 10_000),
            "normalize": st.just(False),  # a field at its default is left out
            "instruction": st.text(min_size=1),
        },
    ),
    st.sampled_from(["symmetric", "document", "query"]),
    st.text(),
    st.lists(st.tuples(st.integers(0, 2**40), st.integers(1, 2**40), st.floats(0, 1e300))),
)
def test_whoever_follows_the_page_gets_our_keys(told, given_spec, role, text, spans):
    """The program on the page and ours agree on any spec, role, text and controls."""
    found = spec.Keyer(ours(given_spec)).key(text, role, [Control(*span) for span in spans])
    assert told["key"](given_spec, role, text, spans) == found


PIECES = (
    ("text", "Grüße", None, ((0, 2, 2.0), (1, 1, 0.5, "complete"))),
    ("image", b"\x89PNG", (1, 2, 3), ((0.0, 0.25, 0.5, 0.75, 2.0, "partial"),)),
    ("image", b"", None, ()),
    ("tokens", (5, 17), None, ((1, 3.0),)),
)


def test_whoever_follows_the_page_gets_our_keys_of_prompts(told):
    """Each kind of piece, alone and together; a text alone has the key of a text."""
    made = {
        "text": lambda v, _, c: prompts.Text(v, tuple(Control(*each) for each in c)),
        "image": lambda v, x, c: prompts.Image(v, x, tuple(prompts.ImageControl(*e) for e in c)),
        "tokens": lambda v, _, c: prompts.Tokens(v, tuple(prompts.TokenControl(*e) for e in c)),
    }
    given_spec = golden_specs()["A"][0]
    keyer = spec.Keyer(ours(given_spec))
    for some in (PIECES, PIECES[1:2], PIECES[3:], PIECES[::-1]):
        mine = tuple(made[kind](*rest) for kind, *rest in some)
        assert keyer.prompt_key(mine, "query") == told["prompt_key"](given_spec, "query", some)
    kind, text, _, spans = PIECES[0]
    alone = keyer.prompt_key((made[kind](text, None, spans),), "query")
    assert alone == told["key"](given_spec, "query", text, spans)


def test_a_change_of_the_derivation_would_be_seen(monkeypatch):
    """With another number of the format, no golden value holds."""
    monkeypatch.setattr(spec, "FORMAT", 2)
    given_spec, mark = golden_specs()["A"]
    assert ours(given_spec).fingerprint() != mark


def test_every_field_of_a_spec_is_told_with_its_default():
    """A field that is added to the spec is added to the page."""
    rows = table(PAGE, "| field of the spec | default | |")
    page = {n.strip("` "): row[1] for row in rows for n in row[0].split(", ")}
    real = {field.name: field.default for field in fields(spec.Spec)}
    assert page.keys() == real.keys()
    for name, words in page.items():
        if words == "none":
            assert real[name] is MISSING
        else:
            default = list(real[name]) if isinstance(real[name], tuple) else real[name]
            assert json.loads(words) == default


# -- segments --------------------------------------------------------------------------------------


def framed():
    """The frame of the page, as bytes."""
    text = next(c for language, c in BLOCKS if language == "text" and c.startswith("62 45 31 0a"))
    return bytes.fromhex(text)


def test_the_frame_is_that_of_the_program():
    """The bytes on the page are the bytes that the program writes."""
    key = next(key for *_, text, spans, key in golden_keys() if text == "Hello" and not spans)
    keys = np.frombuffer(bytes.fromhex(key), np.uint8).reshape(1, 16)
    note = {"tokens": 1, "model_version": "m"}
    made = segments.vectors_frame(keys, np.array([[0.6, 0.8]], np.float32), note)
    assert b"".join(map(bytes, made)) == framed()


def test_the_frame_reads_as_its_tables_say():
    """Field by field, with the sizes of the two tables, the frame comes apart as described."""
    frame = framed()
    magic, length, crc = struct.unpack_from("<4sII", frame)
    payload = frame[12:]
    kind, noted, count, width = struct.unpack_from("<BIII", payload)
    assert (magic, length, crc) == (b"bE1\n", len(payload), crc32c(payload))
    assert (kind, count, width) == (1, 1, 8)
    assert json.loads(payload[13 : 13 + noted]) == {"tokens": 1, "model_version": "m"}
    assert payload[13 + noted : 29 + noted].hex() == next(iter(golden_keys()))[-1]
    assert np.frombuffer(payload[29 + noted :], "<f4").tolist() == pytest.approx([0.6, 0.8])


def crc32c(data):
    """The Castagnoli CRC bit by bit: an oracle that shares nothing with the library."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


# -- files -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A small complete run that has everything: rejects, controls, a comparison."""
    folder = tmp_path_factory.mktemp("format")
    texts = ["a red kettle", "a blue kettle", "a green door", ""]
    lines = [json.dumps({"n": number, "t": text}) + "\n" for number, text in enumerate(texts)]
    (folder / "t.jsonl").write_text("".join(lines))
    job = from_dict(
        {
            "corpus": {"path": str(folder / "t.jsonl"), "text": "t", "id": "n"},
            "model": {"provider": "local", "controls": [{"match": "red", "factor": 2}]},
            "limits": {"max_rejects": 1},
            "output": {"path": str(folder / "run")},
            "similarity": {"top_k": 2},
        },
        where="the test",
    )
    assert run(job).exit_code == 3
    return folder / "run"


def test_the_manifest_has_the_fields_that_are_told(done):
    """The table, the example and a manifest have the same names, in the same order."""
    real = json.loads((done / "manifest.json").read_bytes())
    example = json.loads(next(content for language, content in BLOCKS if language == "json"))
    rows = table(section("`manifest.json`"), "| name | |")
    page = [name.strip("` ") for row in rows for name in row[0].split(", ")]
    names = [*(field.name for field in fields(Manifest)), "check"]
    assert page == list(real) == list(example) == names
    for name in ("identity", "corpus", "counts", "bill", "compared"):
        assert real[name].keys() == example[name].keys(), name
        told_of = next(row[1] for row in rows if name in row[0])
        words = set(re.findall(r"\w+", told_of))
        assert name == "compared" or real[name].keys() <= words, name
    assert real["parts"][0].keys() == example["parts"][0].keys() == real["rejects"].keys()
    assert real["format"] == int(re.search(r"Format version: \*\*(\d+)\*\*", PAGE)[1])


def test_the_schema_metadata_of_parts_is_told(done):
    """Each name in it is in the table, in order."""
    schema = pa.ipc.open_file(done / "embeddings" / "part-00000.arrow").schema
    rows = table(section("Parts"), "| name | |")
    page = [name.strip("` ") for row in rows for name in row[0].split(", ")]
    assert schema.metadata.keys() == {b"batchembed"}
    assert page == list(json.loads(schema.metadata[b"batchembed"]))
    assert schema.names == ["n", "t", "embedding", "embedding_key"]
    assert schema.field("embedding").type == pa.list_(pa.float32(), 256)
    assert schema.field("embedding_key").type == pa.binary(16)


def test_the_columns_of_rejects_are_told(done):
    """Names and types are those of the table; id has the type of the id column."""
    schema = pa.ipc.open_file(done / "rejects.arrow").schema
    rows = table(section("Rejects"), "| column | type | |")
    assert [row[0] for row in rows] == schema.names
    for name, kind, _ in rows:
        if name != "id":
            told_type = kind.strip("`").replace("FixedSizeBinary", "fixed_size_binary")
            assert told_type == str(schema.field(name).type)
    assert schema.field("id").type == pa.int64()


def test_every_reason_of_a_reject_is_told():
    """The reasons are those of the survey, of the rules of trying again, and of local models."""
    rows = table(section("Rejects"), "| reason | |")
    page = {name.strip("` ") for row in rows for name in row[0].split(", ")}
    source = inspect.getsource(settle)
    found = set(re.findall(r'_rejects\(\s*[\w.]+,\s*"(\w+)"', source)) | {settle.TOO_LONG}
    assert found >= {"too_long", "refused", "bad_vector", "malformed_answer"}
    assert page == found | set(survey.REASONS[1:]) | {NO_KNOWN_TOKEN}


def test_the_files_of_a_comparison_are_told(done):
    """The table names the files and the columns of the one that was made."""
    rows = {row[0]: row[1] for row in table(section("Comparisons"), "| file | columns |")}
    assert rows.keys() == {"top_k.arrow", "min_score.arrow", "dense.arrow"}
    schema = pa.ipc.open_file(done / "similarity" / "top_k.arrow").schema
    assert all(f"`{name}`" in f"`{rows['top_k.arrow']}`" for name in schema.names)
    about = json.loads(schema.metadata[b"batchembed"])
    assert all(f"`{name}`" in section("Comparisons") for name in about)


def test_run_json_is_told(done):
    """It holds its own names and those of the manifest's identity."""
    real = json.loads((done / "checkpoint" / "run.json").read_bytes())
    manifest = json.loads((done / "manifest.json").read_bytes())
    own = ["format", "batchembed", "made"]
    assert list(real) == [*own, *manifest["identity"], "check"]
    assert all(f"`{name}`" in section("`checkpoint/run.json`") for name in own)


def test_the_shard_of_a_key_is_told():
    """The function of the page, its golden values and the program say the same."""
    scope = {}
    exec(next(content for _, content in BLOCKS if content.startswith("def shard(")), scope)
    rows = table(section("`checkpoint/shards/`"), "| key | shards | shard |")
    assert len(rows) == 2
    for key, of, number in rows:
        raw = bytes.fromhex(key)
        ours = sharding.owners(np.frombuffer(raw, np.uint8).reshape(1, 16), int(of))
        assert int(number) == scope["shard"](raw, int(of)) == ours[0]


def test_shards_json_and_the_part_of_a_shard_are_told(tmp_path):
    """Every name in them stands in the section."""
    (tmp_path / "t.csv").write_text("t\none\ntwo\nthree\n")
    tables = {
        "corpus": {"path": str(tmp_path / "t.csv"), "text": "t"},
        "model": {"provider": "local"},
        "output": {"path": str(tmp_path / "run")},
    }
    run(from_dict(tables, where="the test"), shard="1/2")
    words = section("`checkpoint/shards/`")
    folder = tmp_path / "run/checkpoint/shards"
    told = json.loads((folder / "shards.json").read_bytes())
    identity = {"spec", "fingerprint", "role", "controls", "dtype"}
    assert told.keys() - identity == set(re.findall(r"`(\w+)`", words)) & told.keys()
    names = {path.name for path in (folder / "00001").rglob("*") if path.is_file()}
    assert names == {
        *(".lock", "shards.json", "000001.segment", "progress.json", "history.json"),
    }
    assert all(name in words for name in names)


def test_progress_json_is_told(done):
    """It holds the names that the page tells beside the counts."""
    real = json.loads((done / "checkpoint" / "progress.json").read_bytes())
    named = re.findall(r"`(\w+)`", section("`checkpoint/progress.json`"))
    assert set(named) - {"batchembed"} <= real.keys()


def test_the_drawing_has_what_is_there(done):
    """Every file of a run is in the drawing of a run directory."""
    drawing = next(content for language, content in BLOCKS if content.startswith("RUN/"))
    files = [path.relative_to(done) for path in done.rglob("*") if path.is_file()]
    assert len(files) == 10
    assert [str(f) for f in files if f.name not in drawing] == []
