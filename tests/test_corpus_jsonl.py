"""JSON Lines: types are found in the whole file, never guessed, and what contradicts is told."""

import json
import math

import pyarrow as pa
import pytest
from corpora import corpus, kept, read, refused, texts
from corpora import lines as as_lines
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from batchembed.corpus import jsontypes, lines
from batchembed.errors import CorpusError
from batchembed.spec import unsendable


@pytest.fixture
def put(tmp_path):
    """Write rows (or bytes) as a file and give its path."""

    def write(rows, name="c.jsonl"):
        path = tmp_path / name
        path.write_bytes(rows if isinstance(rows, bytes) else as_lines(rows))
        return path

    return write


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", None], pa.string()),
        ([1, -(2**63), 2**63 - 1], pa.int64()),
        ([1.5, None], pa.float64()),
        ([1, 2.5], pa.float64()),
        ([True, False], pa.bool_()),
        ([None, None], pa.null()),
        (["2020-01-01", "2020-01-02T00:00:00Z"], pa.string()),
        ([[1], [], None, [2.5]], pa.list_(pa.float64())),
        ([[], []], pa.list_(pa.null())),
        ([{"a": 1}, {"b": "x"}, {}], pa.struct([("a", pa.int64()), ("b", pa.string())])),
        (
            [{"a": [{"b": None}]}, {"a": [{"b": 1.5, "c": True}]}],
            pa.struct(
                [("a", pa.list_(pa.struct([("b", pa.float64()), ("c", pa.bool_())])))],
            ),
        ),
    ],
)
@pytest.mark.parametrize("piece", [1, 1 << 20])
def test_types_hold_every_value(put, monkeypatch, values, kind, piece):
    """The type is that of all values, wherever in the file they stand; strings stay strings."""
    monkeypatch.setattr(lines, "PIECE", piece)
    found = corpus(put([{"text": "t", "v": value} for value in values]))
    assert found.kept_schema.field("v").type == kind
    expected = pa.array(values, kind).to_pylist()
    assert [row["v"] for row in (texts(found), kept(found))[1][1]] == expected


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["a", 1], ("a whole number after a string",)),
        ([1, "a"], ("a string after a whole number",)),
        ([True, 1], ("a whole number after true or false",)),
        ([1.5, False], ("true or false", "a number")),
        ([{"a": [1.5]}, {"a": [True]}], ("true or false", "a number")),
        ([{"a": 1}, [1]], ("a list of a whole number after an object",)),
        ([{"a": 1}, {"a": "x"}], ("a string after a whole number",)),
        ([[1], ["x"]], ("a string after a whole number",)),
        ([None, [1, "x"]], ()),
    ],
)
@pytest.mark.parametrize("piece", [1, 1 << 20])
def test_values_that_contradict_are_told_by_row(put, monkeypatch, values, words, piece):
    """The row of the first value that does not go with those before it is named."""
    monkeypatch.setattr(lines, "PIECE", piece)
    path = put([{"text": "t", "v": value} for value in [*values[:1] * 3, *values[1:]]])
    with refused(f"`{path}`, row 4 (line 4)", "column `v`", "`keep`", *words):
        corpus(path)
    assert texts(corpus(path, keep=("text",))) == ["t"] * 4


def test_files_of_a_corpus_are_typed_together(put, tmp_path):
    """A column that is whole in one file and broken in another is a number in both."""
    put([{"text": "a", "v": 1}], "1.jsonl")
    put([{"text": "b", "v": 2.5, "w": "x"}], "2.jsonl")
    put(b"", "3.jsonl")
    found = corpus(tmp_path)
    assert texts(found) == ["a", "b"]
    assert kept(found)[1] == [
        {"text": "a", "v": 1.0, "w": None},
        {"text": "b", "v": 2.5, "w": "x"},
    ]
    put([{"text": "c", "v": "x"}], "4.jsonl")
    with refused("column `v`", "4.jsonl", "a string after a number"):
        corpus(tmp_path)


def test_a_missing_name_is_null(put):
    """Names are columns in the order of their first sight."""
    found, _, rows = read(put([{"b": 1}, {"text": "x", "a": None}, {}]))
    assert found == [None, "x", None]
    assert rows == [
        {"b": 1, "text": None, "a": None},
        {"b": None, "text": "x", "a": None},
        {"b": None, "text": None, "a": None},
    ]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_blank_lines_and_line_ends_do_not_matter(put, end):
    """Blank lines are no rows but are lines; the last line may lack its end."""
    rows = [b'\xef\xbb\xbf{"text": "a"}', b"", b"  ", b' {"text": "b"} ', b'{"text": "c"}']
    path = put(end.join(rows))
    found = corpus(path)
    assert texts(found) == ["a", "b", "c"]
    assert [found.where(row) for row in range(3)] == [
        f"`{path}`, row {row + 1} (line {line})" for row, line in enumerate((1, 4, 5))
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"text": "x"', ("is not JSON",)),
        (b'{"text": "x"} {"text": "y"}', ("is not JSON",)),
        (b"[1, 2]", ("is not a JSON object",)),
        (b'"x"', ("is not a JSON object",)),
        (b"null", ("is not a JSON object",)),
        (b'{"text": NaN}', ("is not JSON",)),
        (b'{"text": "\\ud800", "v": NaN}', ("is not JSON",)),
        (b'{"text": "\\ud800"', ("is not JSON",)),
        (b'["\\ud800"]', ("is not JSON",)),
        (b'{"text": "\xff"}', ("0xff", "not UTF-8")),
        (b'{"text": "a", "text": "b"}', ("has the name `text` twice",)),
        (b'{"text": "a", "v": {"k": 1, "k": 2}}', ("has the name `k` twice",)),
        (b'{"text": "a", "v": 9223372036854775808}', ("the number 9223372036854775808", "64 bits")),
        (b'{"text": "a", "v": -9223372036854775809}', ("the number -9223372036854775809",)),
        (b'{"text": "a", "v": [1' + b"0" * 5000 + b"]}", ("number is infinity",)),
        (b'{"text": "a", "v": 1e999}', ("is not JSON",)),
        (b'{"v": ' + b"[" * 2000 + b"]" * 2000 + b"}", ("is not JSON",)),
    ],
)
def test_a_broken_line_is_told(put, line, words):
    """The message names file, row and line."""
    path = put(b'{"text": "first"}\n\n' + line + b'\n{"text": "last"}\n')
    with refused(f"`{path}`, row 2 (line 3)", *words):
        texts(corpus(path))


def test_names_and_quotes_within_texts_are_no_trouble(put):
    """Texts that look like JSON, and long digits in strings, are read like any other."""
    rows = [{"text": '{"text": "a", "text": "b"}', "v": "12345678901234567890"}] * 3
    assert read(put(rows))[2] == rows
    assert read(put(b'{"text" : "a",\t"v"  :1.00000000000000000001}\n'))[2][0]["v"] == 1.0


def test_a_utf_16_file_is_told(put):
    """JSON is UTF-8."""
    with refused("byte order mark of utf-16", "save the file as UTF-8"):
        corpus(put('{"text": "a"}'.encode("utf-16")))


def test_a_lone_surrogate_costs_one_row(put):
    """The text arrives as written, so that the run rejects it; kept columns have U+FFFD."""
    path = put(
        b'{"text": "a"}\n{"text": "x\\ud800y", "v": {"\\uDFFF": ["\\udc00"]}}\n{"text": "b"}\n'
    )
    found = corpus(path)
    seen = texts(found)
    assert seen == ["a", "x\ud800y", "b"]
    assert unsendable(seen[1]) == "lone_surrogate"
    assert kept(found)[1][1] == {"text": "x\ufffdy", "v": {"\ufffd": ["\ufffd"]}}


def test_pairs_of_surrogates_are_characters(put):
    """A whole pair is one character, lone ones beside it or not."""
    found, _, rows = read(put(b'{"text": "\\ud83d\\ude42"}\n{"text": "\\ud83d\\ude42\\ud83d"}\n'))
    assert found == ["🙂", "🙂\ud83d"]
    assert rows[1]["text"] == "🙂\ufffd"


def test_lone_surrogates_come_through_a_template(put):
    """The template is filled with what was written."""
    path = put(b'{"a": "x", "b": 1}\n{"a": "\\ud800", "b": 2.5}\n{"b": null, "c": "\\ud800"}\n')
    assert texts(corpus(path, template="{a}/{b}")) == ["x/1.0", "\ud800/2.5", None]


def test_lone_surrogates_in_any_batch(put):
    """The odd row is found at its own place when batches are cut."""
    rows = [b'{"text": "%d"}' % n for n in range(20_000)]
    rows[9_000] = b'{"text": "\\ud800"}'
    assert [n for n, t in enumerate(texts(corpus(put(b"\n".join(rows))))) if t == "\ud800"] == [
        9000
    ]


@pytest.mark.parametrize("nested", [True, False])
def test_a_growing_number_of_names_is_refused(put, nested):
    """Objects used as maps would make a column of each key."""
    rows = [{"text": "t", "v": {f"k{n}": 1}} if nested else {f"k{n}": 1} for n in range(1100)]
    with refused("more than 1,000 different names"):
        corpus(put(rows))


def test_a_whole_number_too_large_for_a_fraction_is_told(put):
    """2^53 + 1 in a column of numbers would be rounded: an error, not a guess."""
    path = put([{"text": "a", "v": 0.5}, {"text": "b", "v": 2**53 + 1}])
    with refused("row 2 (line 2)", "column `v`"):
        texts(corpus(path))


def test_the_text_must_be_text(put):
    """Numbers are no texts, unless a template makes them so."""
    path = put([{"text": 1}, {"text": 2}])
    with refused("column `text`", "int64", "template"):
        corpus(path)
    assert texts(corpus(path, template="no {text}")) == ["no 1", "no 2"]


def test_a_text_that_is_always_null_is_no_error(put):
    """Each such row is the run's to reject."""
    assert texts(corpus(put([{"text": None}] * 2))) == [None, None]


def test_a_cell_of_50_mb_is_read(put):
    """A line far longer than a piece is read whole."""
    rows = [{"text": "a"}, {"text": "x" * 50_000_000}, {"text": "b"}]
    assert list(map(len, texts(corpus(put(rows))))) == [1, 50_000_000, 1]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


def filled(value, kind):
    """The oracle: a JSON value as a column of `kind` gives it back."""
    if value is None:
        return None
    if pa.types.is_floating(kind):
        return float(value)
    if pa.types.is_list(kind):
        return [filled(part, kind.value_type) for part in value]
    if pa.types.is_struct(kind):
        return {field.name: filled(value.get(field.name), field.type) for field in kind}
    return value


@given(st.lists(JSON, max_size=8), st.sampled_from([1, 1 << 20]), st.booleans())
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)
def test_any_values_are_refused_or_come_back(put, values, piece, ascii_only):
    """Whatever JSON a column holds: it is an error, or every value comes back equal."""
    rows = [{"text": "t", "v": value} for value in values]
    data = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows)
    path = put(data.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "PIECE", piece)
        try:
            found = corpus(path)
            texts(found)
        except CorpusError:
            assume(False)
        kind = found.kept_schema.field("v").type if values else pa.null()
        assert [row["v"] for row in kept(found)[1]] == [filled(value, kind) for value in values]


KINDS = st.recursive(
    st.sampled_from([pa.null(), pa.int64(), pa.float64(), pa.bool_(), pa.string()]),
    lambda inner: (
        inner.map(pa.list_)
        | st.dictionaries(st.sampled_from("abc"), inner).map(lambda d: pa.struct(list(d.items())))
    ),
    max_leaves=5,
)


def plain(kind):
    """A type without the order of its names."""
    if pa.types.is_struct(kind):
        return frozenset((field.name, plain(field.type)) for field in kind)
    return ("list", plain(kind.value_type)) if pa.types.is_list(kind) else str(kind)


@given(KINDS, KINDS)
def test_types_merge_the_same_both_ways(one, other):
    """Which file comes first decides the order of names and nothing else."""

    def merged(first, second):
        try:
            return plain(jsontypes.merge(first, second))
        except jsontypes.ContradictionError:
            return None

    assert merged(one, other) == merged(other, one)
    assert merged(one, one) == plain(one)
    assert merged(one, pa.null()) == plain(one)


def test_numbers_are_not_rounded(put):
    """Fractions are the nearest 64-bit ones, as everywhere."""
    values = [0.1, 1e308, 5e-324, -0.0]
    rows = read(put([{"text": "t", "v": value} for value in values]))[2]
    assert [row["v"] for row in rows] == values
    assert math.copysign(1, rows[3]["v"]) == -1
