"""What each column is read for: text, template, id, keep, role and controls."""

import datetime as dt
import decimal
import json
import math

import numpy as np
import pyarrow as pa
import pytest
from corpora import EXTENSIONS, arrow, corpus, kept, parquet, read, refused, texts, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchembed.corpus import CorpusSettings, ids, scan
from batchembed.corpus.columns import parse_template
from batchembed.exchange import Control

SLOW = [HealthCheck.function_scoped_fixture]


@pytest.fixture
def put(tmp_path):
    """Write columns as a Parquet file (or in the format that `name` says) and give its path."""

    def put_columns(name="c.parquet", **columns):
        return write(tmp_path / name, pa.table(columns))

    return put_columns


# --- text and template ---------------------------------------------------------------------


def test_either_text_or_template(put):
    """Both or neither is an error."""
    path = put(text=["a"])
    with refused("`corpus.text`", "`corpus.template`", "neither is set"):
        corpus(path, text=None)
    with refused("`corpus.text`", "`corpus.template`", "both are set"):
        scan(CorpusSettings((str(path),), text="text", template="{text}"))


@pytest.mark.parametrize(
    ("template", "parts"),
    [
        ("{a}", (("", "a"),)),
        ("{a}\n\n{b c}!", (("", "a"), ("\n\n", None), ("", "b c"), ("!", None))),
        ("{{{a}}}", (("{", None), ("", "a"), ("}", None))),
        ("{a.b:c!r}", (("", "a.b:c!r"),)),
    ],
)
def test_templates_are_literals_and_columns(template, parts):
    """A column's name is all that stands between the braces; doubled braces are braces."""
    assert parse_template(template) == parts


@pytest.mark.parametrize("template", ["{", "}", "{a", "a}", "{}", "{a}{", "{{a}"])
def test_single_braces_are_refused(template):
    """A brace that opens nothing or closes nothing is told with its place."""
    with refused("corpus.template", "single"):
        parse_template(template)


@pytest.mark.parametrize("template", ["", "text", "{{text}}"])
def test_a_template_without_a_column_is_refused(template):
    """Every row would have the same text."""
    with refused("names no column", template):
        parse_template(template)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_templates_work_in_every_format(tmp_path, extension):
    """Two columns and literals, quotes and braces come out as one text."""
    table = pa.table({"a b": ["x", "ü"], "text": ['"y"', "z\n"]})
    path = write(tmp_path / f"c.{extension}", table)
    assert texts(corpus(path, template="{{{a b}}}: {text}{text}")) == ['{x}: "y""y"', "{ü}: z\nz\n"]


def test_a_null_in_a_template_is_empty_unless_all_are(put):
    """A row in which no column of the template has a value has no text."""
    path = put(a=["x", None, None, ""], b=[None, 1, None, None])
    assert texts(corpus(path, template="<{a}|{b}>")) == ["<x|>", "<|1>", None, "<|>"]


def test_empty_values_of_csv_are_empty_texts_in_a_template(tmp_path):
    """CSV knows no missing text."""
    (tmp_path / "c.csv").write_text('a,b\n,\nx,\n"",y\n')
    assert texts(corpus(tmp_path / "c.csv", template="{a}-{b}")) == ["-", "x-", "-y"]


def test_how_a_template_writes_values(put):
    """Spelled out, because these texts make the keys: they may never change."""
    path = put(
        "c.arrow",
        n=pa.array([-7], pa.int8()),
        u=pa.array([2**64 - 1], pa.uint64()),
        f=[0.1],
        g=[1e22],
        w=[3.0],
        h=pa.array(np.array([1.5], np.float16)),
        b=[True],
        d=[dt.date(2020, 1, 2)],
        m=[decimal.Decimal("1.10")],
        v=pa.array(["view"], pa.string_view()),
        c=pa.array(["red"]).dictionary_encode(),
    )
    template = "{n} {u} {f} {g} {w} {h} {b} {d} {m} {v} {c}"
    assert texts(corpus(path, template=template)) == [
        "-7 18446744073709551615 0.1 1e+22 3.0 1.5 true 2020-01-02 1.10 view red"
    ]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([[1]]),
        pa.array([{"a": 1}]),
        pa.array([b"x"]),
        pa.array([0], pa.timestamp("us")),
        pa.array([0], pa.duration("us")),
    ],
)
def test_types_that_a_template_cannot_write_are_told(put, values):
    """Times, bytes and nested values have no one form."""
    path = put("c.arrow", text=["a"], v=values)
    with refused("column `v`", str(values.type), "cannot write"):
        corpus(path, template="{text} {v}")


def test_a_date_that_no_calendar_has_is_told(put):
    """Arrow has dates beyond the year 9999."""
    path = put(v=pa.array([10**7], pa.int32()).cast(pa.date32()))
    with refused("column `v`", "year 9999"):
        texts(corpus(path, template="{v}"))


@pytest.mark.parametrize(
    ("values", "mend"),
    [
        (pa.array([1]), 'template = "{text}"'),
        (pa.array([1]).dictionary_encode(), 'template = "{text}"'),
        (pa.array([b"x"]), "write this one as text"),
        (pa.array([["x"]]), "write this one as text"),
    ],
)
def test_a_text_column_must_be_text(put, values, mend):
    """Its type is told, and the template that would make a text of it, if one would."""
    with refused("column `text`", str(values.type), mend):
        corpus(put("c.arrow", text=values))


def test_empty_and_blank_texts_pass(put):
    """They are the run's to reject."""
    values = ["", " ", None, "\n", "\0"]
    assert texts(corpus(put(text=values))) == values


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("text", "txt"),
        ("template", "{txt}"),
        ("id", "txt"),
        ("role", "TEXT"),
        ("controls", " text"),
        ("keep", ("txt",)),
    ],
)
def test_a_missing_column_is_told_with_the_nearest(put, setting, value):
    """The message names the setting, the column and the file."""
    path = put(text=["a"], other=["b"])
    name = value[0] if setting == "keep" else value.strip("{}") if setting == "template" else value
    with refused(f"no column `{name}`", f"`corpus.{setting}`", "did you mean `text`", str(path)):
        corpus(path, **{setting: value})


def test_many_columns_are_not_all_listed(put):
    """A missing column without a near name lists the first twelve."""
    path = put(**{f"c{number}": ["x"] for number in range(20)})
    with refused("`c0`, `c1`", "`c11` and 8 more"):
        corpus(path, text="zzz")


def test_keep_decides_what_is_carried_over(put):
    """All columns, or the listed ones in their order; the id is always there, first."""
    path = put(text=["a"], id=[1], x=[2], y=[3])
    for keep, names in (
        (None, ["text", "id", "x", "y"]),
        (("y", "x"), ["id", "y", "x"]),
        (("y", "id"), ["y", "id"]),
        ((), ["id"]),
    ):
        found = corpus(path, id="id", keep=keep)
        assert found.kept_schema.names == names
        assert list(kept(found)[1][0]) == names
    with refused("`corpus.keep` lists `x` twice"):
        corpus(path, keep=("x", "y", "x"))


@pytest.mark.parametrize("name", ["embedding", "embedding_key"])
def test_names_of_the_output_are_refused_among_the_kept(put, name):
    """A corpus with such a column can be read without it."""
    path = put(**{"text": ["a"], name: [1.0]})
    with refused(f"a column `{name}`", "`keep`"):
        corpus(path)
    assert corpus(path, keep=("text",)).kept_schema.names == ["text"]


def test_two_columns_of_one_name_are_refused(tmp_path):
    """Parquet and Arrow allow it; nobody could tell them apart."""
    table = pa.Table.from_arrays([pa.array(["a"])] * 3, names=["text", "x", "x"])
    (tmp_path / "c.arrow").write_bytes(arrow(table))
    with refused("two columns named `x`"):
        corpus(tmp_path / "c.arrow")


def test_columns_with_dots_and_odd_names(put):
    """A dot in a name is part of the name; a struct beside it is not mistaken for it."""
    path = put(**{"a.b": ["x"], "a": [{"b": 1}], " ": ["blank"], "": ["empty"]})
    found = corpus(path, text="a.b")
    assert texts(found) == ["x"]
    assert kept(found)[1] == [{"a.b": "x", "a": {"b": 1}, " ": "blank", "": "empty"}]


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"text": ["a"]}, ("1.parquet", "column `n`", "2.parquet", "has not")),
        ({"text": ["a"], "n": [1], "m": [1]}, ("column `m`", "1.parquet", "has not")),
        ({"text": ["a"], "n": pa.array([1], pa.int32())}, ("int64 in", "int32 in", "2.parquet")),
        ({"text": pa.array(["a"], pa.large_string()), "n": [1]}, ("string", "large_string")),
    ],
)
def test_files_must_have_the_same_columns(put, tmp_path, second, words):
    """Names and types; the message says which file and column differs."""
    put("1.parquet", text=["a"], n=[1])
    put("2.parquet", **second)
    with refused(*words):
        corpus(tmp_path)


def test_columns_that_are_not_read_may_differ(put, tmp_path):
    """With `keep` only the columns in use must agree; their order does not matter."""
    put("1.parquet", text=["a"], n=[1])
    put("2.parquet", m=["x"], n=["y"], text=["b"])
    assert read(tmp_path, keep=("text",))[0] == ["a", "b"]
    with refused("column `n`", "2.parquet"):
        corpus(tmp_path, keep=("text", "n"))


# --- ids -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        pa.array(["a", "b", "a"]),
        pa.array([7, 8, 7]),
        pa.array([0, 2**64 - 1, 0], pa.uint64()),
        pa.array([b"\xff", b"\x00", b"\xff"]),
        pa.array([b"ab", b"cd", b"ab"], pa.binary(2)),
        pa.array(["a", "b", "a"], pa.large_string()),
        pa.array(["a", "b", "a"]).dictionary_encode(),
        pa.array([decimal.Decimal("1.1"), decimal.Decimal("1.2"), decimal.Decimal("1.1")]),
        pa.array(["a", "", "a"], pa.string_view()),
    ],
)
def test_an_id_that_two_rows_have_is_refused(put, tmp_path, values):
    """Both rows are named, in one file or in two; different ids pass."""
    put("1.arrow", text=["x", "y"], id=values.slice(0, 2))
    assert read(tmp_path, id="id")[1] == values.slice(0, 2).to_pylist()
    put("2.arrow", text=["z"], id=values.slice(2))
    found = corpus(tmp_path, id="id")
    with refused("the id `", "1.arrow`, row 1 and in", "2.arrow`, row 1", "row number"):
        texts(found)


def test_the_first_repeated_id_is_named(put):
    """Among many, the earliest second one."""
    path = put(text=["t"] * 9, id=[1, 2, 3, 4, 3, 2, 1, 1, 1])
    with refused("the id `3`", "row 3 and in", "row 5"):
        texts(corpus(path, id="id"))


def test_equal_hashes_of_different_ids_are_no_error(put, monkeypatch):
    """A hash only makes suspects; the ids themselves decide."""

    class Same(ids.IdCheck):
        def suspects(self):
            return [(0, 1), (1, 2)]

    monkeypatch.setattr(ids, "IdCheck", Same)
    assert read(put(text=["a", "b", "c"], id=[1, 2, 3]), id="id")[1] == [1, 2, 3]


def test_ids_beyond_the_memory_go_to_scratch_files(put, tmp_path, monkeypatch):
    """Many ids are compared in bounded memory, and the scratch folder is left empty."""
    monkeypatch.setattr(ids, "_IN_MEMORY", 100)
    values = list(range(30_000))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert len(texts(corpus(put(text=["t"] * 30_000, id=values), id="id"))) == 30_000
    path = put(text=["t"] * 30_000, id=[*values[:-1], 12_345])
    found = corpus(path, id="id")
    found._scratch = scratch
    with refused("`12345`", "row 12,346", "row 30,000"):
        for rows in found.texts():
            assert rows.first < 20_000 or any(scratch.iterdir())
    assert not any(scratch.iterdir())


@pytest.mark.parametrize("extension", ["parquet", "csv", "jsonl", "arrow"])
def test_a_null_id_is_refused(tmp_path, extension):
    """The row is named."""
    path = write(tmp_path / f"c.{extension}", pa.table({"text": ["a", "b"], "id": ["x", None]}))
    with refused("row 2", "has no id in column `id`"):
        texts(corpus(path, id="id"))


@pytest.mark.parametrize("values", [pa.array([1.0]), pa.array([["a"]]), pa.array([True])])
def test_ids_of_other_types_are_refused(put, values):
    """Fractions and nested values do not tell rows apart."""
    with refused("column `id`", str(values.type), "cannot be an id"):
        corpus(put("c.arrow", text=["a"], id=values), id="id")


def test_the_id_column_may_be_the_text(put):
    """One column may serve for everything that fits."""
    assert read(put(text=["a", "b"]), id="text", template="{text}!") == (
        ["a!", "b!"],
        ["a", "b"],
        [{"text": "a"}, {"text": "b"}],
    )


# --- roles -----------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_roles_come_with_their_rows(tmp_path, extension):
    """Each row says for itself what it is."""
    table = pa.table({"text": ["a", "b", "c"], "as": ["query", "document", "symmetric"]})
    path = write(tmp_path / f"c.{extension}", table)
    assert [rows.roles for rows in corpus(path, role="as").texts()] == [
        ["query", "document", "symmetric"]
    ]
    assert [rows.roles for rows in corpus(path).texts()] == [None]


@pytest.mark.parametrize("value", ["Query", "", None, "q"])
def test_an_unknown_role_is_refused(put, value):
    """The value, the row and the known roles are told."""
    path = put(text=["a"] * 3, role=["query", "document", value])
    said = f"`{value}`" if value is not None else "no role"
    with refused(f"`{path}`, row 3", said, "column `role`", "symmetric, document, query"):
        texts(corpus(path, role="role"))


def test_a_role_column_must_be_text(put):
    """Numbers are no roles."""
    with refused("column `role`", "int64"):
        corpus(put(text=["a"], role=[1]), role="role")


# --- controls --------------------------------------------------------------------------------

CONTROLS = [
    [{"start": 0, "length": 1, "factor": 2.0}, {"start": 2, "length": 3, "factor": 0.0}],
    [],
    None,
    [{"start": 4, "length": 1, "factor": 0.5}],
]
MEANT = [
    (Control(0, 1, 2.0), Control(2, 3, 0.0)),
    (),
    (),
    (Control(4, 1, 0.5),),
]
SPAN = pa.struct([("start", pa.int32()), ("length", pa.uint8()), ("factor", pa.float32())])
TURNED = pa.struct([("factor", pa.float64()), ("length", pa.int64()), ("start", pa.int64())])


@pytest.mark.parametrize(
    "values",
    [
        pa.array(CONTROLS),
        pa.array(CONTROLS, pa.list_(SPAN)),
        pa.array(CONTROLS, pa.large_list(TURNED)),
        pa.array([json.dumps(spans) for spans in CONTROLS]),
        pa.array(["" if not spans else json.dumps(spans) for spans in CONTROLS]),
    ],
)
def test_controls_come_with_their_rows(tmp_path, values):
    """As lists of structs of any integer and float types, or as JSON text."""
    table = pa.table({"text": ["a b🙂de"] * 4, "c": values})
    for data, name in ((parquet(table), "c.parquet"), (arrow(table), "c.arrow")):
        (tmp_path / name).write_bytes(data)
        (rows,) = corpus(tmp_path / name, controls="c").texts()
        assert rows.controls == MEANT
        (rows,) = corpus(tmp_path / name).texts()
        assert rows.controls is None


@pytest.mark.parametrize("extension", ["csv", "tsv", "jsonl"])
def test_controls_in_text_formats(tmp_path, extension):
    """CSV has them as JSON text, JSON Lines either way."""
    spans = [json.dumps(spans) if spans else None for spans in CONTROLS]
    path = write(tmp_path / f"c.{extension}", pa.table({"text": ["a b🙂de"] * 4, "c": spans}))
    assert [rows.controls for rows in corpus(path, controls="c").texts()] == [MEANT]
    if extension == "jsonl":
        write(path, pa.table({"text": ["a b🙂de"] * 4, "c": CONTROLS}))
        assert [rows.controls for rows in corpus(path, controls="c").texts()] == [MEANT]
        write(path, pa.table({"text": ["a"] * 2, "c": [[], None]}))
        assert [rows.controls for rows in corpus(path, controls="c").texts()] == [[(), ()]]


def span(start=0, length=1, factor=2.0):
    """One control as a struct."""
    return {"start": start, "length": length, "factor": factor}


@pytest.mark.parametrize(
    ("spans", "words"),
    [
        ([span(start=-1)], ("start -1",)),
        ([span(length=0)], ("length 0",)),
        ([span(length=-1)], ("length -1",)),
        ([span(start=3)], ("start 3", "3 characters")),
        ([span(length=4)], ("length 4", "3 characters")),
        ([span(start=2**63 - 1)], ("3 characters",)),
        ([span(), span(factor=math.nan)], ("factor is `nan`",)),
        ([span(factor=math.inf)], ("factor is `inf`",)),
        ([span(factor=-0.5)], ("factor is `-0.5`",)),
        ([span(start=None)], ("start is `None`",)),
        ([span(factor=None)], ("factor is `None`",)),
        ([None], ("has not just start, length and factor",)),
    ],
)
def test_controls_that_cannot_be_are_refused(put, spans, words):
    """The row is named before anything is sent; characters are counted, not bytes."""
    good = [{"start": 0, "length": 3, "factor": 1.0}]
    path = put(text=["äöü", "äöü", "äöü"], c=[good, None, spans])
    with refused(f"`{path}`, row 3", "controls that cannot be used", *words):
        texts(corpus(path, controls="c"))


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("{", ("cannot be used",)),
        ('{"start": 0}', ("is not a list",)),
        ("[1]", ("has not just",)),
        ('[{"start": 0, "length": 1}]', ("has not just",)),
        ('[{"start": 0, "length": 1, "factor": 1, "more": 1}]', ("has not just",)),
        ('[{"start": "0", "length": 1, "factor": 1}]', ("start is `0`",)),
        ('[{"start": 0, "length": true, "factor": 1}]', ("length is `True`",)),
        ('[{"start": 0.0, "length": 1, "factor": 1}]', ("start is `0.0`",)),
        ('[{"start": 0, "length": 1, "factor": "2"}]', ("factor is `2`",)),
        ('[{"start": 0, "length": 1, "factor": NaN}]', ("cannot be used",)),
        ('[{"start": 0, "length": 99, "factor": 1}]', ("length 99",)),
    ],
)
def test_controls_as_text_must_be_what_they_are(put, told, words):
    """JSON text of the same list, and nothing else."""
    path = put("c.csv", text=["a", "text"], c=["[]", told])
    with refused("row 2 (line 3)", *words):
        texts(corpus(path, controls="c"))


def test_controls_count_in_the_text_that_is_sent(put):
    """With a template the characters are those of the filled template; no text has no span."""
    path = put(text=["abc"], c=[[span(start=4, length=2)]])
    assert next(corpus(path, template="{text}-{text}", controls="c").texts()).controls
    with refused("start 4"):
        texts(corpus(path, controls="c"))
    with refused("0 characters"):
        texts(corpus(put(text=pa.array([None], pa.string()), c=[[span()]]), controls="c"))


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1]),
        pa.array([[1]]),
        pa.array([[{"start": 0, "length": 1}]]),
        pa.array([[{"start": 0, "length": 1, "factor": 1.0, "unit": "x"}]]),
        pa.array([{"start": 0, "length": 1, "factor": 1.0}]),
    ],
)
def test_a_controls_column_must_hold_controls(put, values):
    """The type is refused at once, with the one that is meant."""
    with refused("column `c`", "holds no controls", "list<struct<"):
        corpus(put(text=["a"], c=values), controls="c")


@given(st.text(max_size=6), st.integers(-2, 8), st.integers(-2, 8), st.floats(width=32))
@settings(max_examples=150, deadline=None, suppress_health_check=SLOW)
def test_controls_pass_exactly_if_they_lie_within_the_text(put, text, start, length, factor):
    """The oracle: a span of at least one character of the text, and a finite factor from 0."""
    path = put("c.arrow", text=[text], c=[[span(start, length, factor)]])
    chosen = text[start : start + length] if start >= 0 and length > 0 else ""
    if len(chosen) == length > 0 and math.isfinite(factor) and factor >= 0:
        (rows,) = corpus(path, controls="c").texts()
        assert rows.controls == [(Control(start, length, factor),)]
    else:
        with refused("row 1"):
            texts(corpus(path, controls="c"))
