"""CSV and TSV: values are text exactly as written, and what breaks the form is told by row."""

import csv
import io

import pyarrow as pa
import pytest
from corpora import corpus, kept, packed, read, refused, texts
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from batchembed.corpus import lines, quotes
from batchembed.corpus.quotes import Dialect

SLOW = (HealthCheck.function_scoped_fixture,)


@pytest.fixture
def put(tmp_path):
    """Write bytes as a file and give its path."""

    def write(data, name="c.csv"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def test_values_are_exactly_as_written(put):
    """Leading zeros, spaces, dates, `NA`, `null` and numbers stay the strings they are."""
    odd = ["007", " x ", "2020-01-02", "NA", "null", "NaN", "1e5", "True", "#N/A", "-0", "'q'"]
    path = put(b"text,v\n" + b"".join(f"a,{value}\n".encode() for value in odd))
    found = corpus(path)
    assert set(found.kept_schema.types) == {pa.string()}
    assert [row["v"] for row in kept(found)[1]] == odd


def test_an_empty_value_is_null_and_a_quoted_one_is_empty(put):
    """In kept columns; as a text both are the empty text."""
    path = put(b'text,v\n,\n"",""\nx,y\n')
    found, _, rows = read(path)
    assert found == ["", "", "x"]
    assert [row["v"] for row in rows] == [None, "", "y"]
    assert [row["text"] for row in rows] == [None, "", "x"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_line_ends_and_the_byte_order_mark_do_not_matter(put, end, last, mark):
    r"""\n, \r\n and \r end rows, a last one may lack it, and UTF-8 may begin with its mark."""
    data = mark + end.join([b"text,v", "ä,1".encode(), b'"b ""q"", c",2']) + (end if last else b"")
    found, _, rows = read(put(data))
    assert found == ["ä", 'b "q", c']
    assert rows == [{"text": "ä", "v": "1"}, {"text": 'b "q", c', "v": "2"}]


def test_quoted_values_may_hold_line_ends(put):
    """Line ends within quotes stay, each as it is."""
    path = put(b'text,v\n"l1\nl2\r\nl3\r",1\nx,2\n')
    found = corpus(path)
    assert texts(found) == ["l1\nl2\r\nl3\r", "x"]
    assert found.where(0) == f"`{path}`, row 1 (line 2)"
    assert found.where(1) == f"`{path}`, row 2 (line 6)"


def test_blank_lines_are_no_rows(put):
    """Blank lines count as lines, not as rows, before the header as well."""
    path = put(b"\n\ntext,v\n\na,1\n\n\nb,2\n\n")
    found = corpus(path)
    assert texts(found) == ["a", "b"]
    assert found.where(0).endswith("row 1 (line 5)")
    assert found.where(1).endswith("row 2 (line 8)")


def test_where_matches_the_line_in_an_editor(put, monkeypatch):
    """Rows and lines are right in any piece of a file, and after the byte order mark."""
    monkeypatch.setattr(lines, "PIECE", 64)
    rows = [f'"row {number}\n' + "x\n" * (number % 3) + '",v\n' for number in range(200)]
    data = "\ufefftext,v\n" + "".join(rows)
    path = put(data.encode())
    found = corpus(path)
    assert len(texts(found)) == 200
    starts = [1 + (data[: data.index(f'"row {number}\n')]).count("\n") for number in range(200)]
    assert [found.where(n) for n in range(200)] == [
        f"`{path}`, row {n + 1} (line {start})" for n, start in enumerate(starts)
    ]


def test_nul_characters_stay(put):
    """A NUL is a character like any other."""
    assert read(put(b"text,v\na\0b,1\n"))[0] == ["a\0b"]


def test_tsv_and_other_delimiters(put):
    """.tsv has tabs, and `delimiter` says otherwise for any file."""
    assert read(put(b"text\tv\na,b\t1\n", "c.tsv"))[0] == ["a,b"]
    assert read(put(b"text;v\na,b;1\n"), delimiter=";")[0] == ["a,b"]
    assert read(put(b"text,v\na\tb,1\n", "d.tsv"), delimiter=",")[0] == ["a\tb"]


def test_without_quoting_quotes_are_characters(put):
    """With `quote` empty every line is a row, whatever quotes it holds."""
    path = put(b'text\tv\n"open\t1\nit"s\t""\n', "c.tsv")
    found, _, rows = read(path, quote="")
    assert found == ['"open', 'it"s']
    assert [row["v"] for row in rows] == ["1", '""']
    assert read(put(b"text,v\n'a,b',1\n"), quote="'")[0] == ["a,b"]


def test_a_quote_within_an_unquoted_value_is_a_character(put):
    """As every CSV reader has it: only a quote that begins a value opens one."""
    assert read(put(b'text,v\n5" disk,1\n6"" "tape",2\n'))[0] == ['5" disk', '6"" "tape"']


@pytest.mark.parametrize(
    ("setting", "value"),
    [("delimiter", "ab"), ("delimiter", "x"), ("delimiter", "\n"), ("quote", "ä"), ("quote", "''")],
)
def test_impossible_delimiters_and_quotes_are_told(put, setting, value):
    """Both must be one ASCII character that is no letter, digit or line end."""
    with refused(f"corpus.{setting}", value, "one ASCII character"):
        corpus(put(b"text,v\na,1\n"), **{setting: value})


def test_delimiter_and_quote_must_differ(put):
    """The same character cannot be both."""
    with refused("are both `;`"):
        corpus(put(b"text;v\na;1\n"), delimiter=";", quote=";")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"text,v\na,1\nb\nc,3\n", ("row 2 (line 3)", "has 1 values", "2 columns")),
        (b'text,v\n"a\n\n",1\nb,2,3\n', ("row 2 (line 5)", "has 3 values", "2 columns")),
        (b"text,v\n\n\na,1\nb,2,,\n", ("row 2 (line 5)", "has 4 values")),
        (b'text,v\na,1\n"b,2\nc,3\n', ("line 3", "opens a quote that is never closed", "quote")),
        (b'text,v\na,1\nb,"x"y\n', ("line 3", "text after a closing quote")),
        (b'text,v\na,1\n"b" ,2\n', ("line 3", "text after a closing quote")),
        (b"text,v\na,1\nb\xff,2\n", ("row 2 (line 3)", "0xff", "not UTF-8", "latin-1")),
        (b"text,v\na,1\nb\xc3\n", ("row 2 (line 3)", "not UTF-8")),
        (b"t\xe4xt,v\na,1\n", ("column names", "0xe4", "not UTF-8")),
        (b"\xff\xfet\0e\0", ("byte order mark of utf-16", 'encoding = "utf-16"')),
        (b"\xfe\xff\0t\0e", ("byte order mark of utf-16",)),
        (b"", ("is empty", "no row of column names")),
        (b"\n\n", ("is empty",)),
        (b"\xef\xbb\xbf", ("is empty",)),
        (b"text,v,text\n", ("two columns named `text`",)),
        (b"text,,\n", ("two columns named ``",)),
        (b"a,b\n1,2\n", ("no column `text`", "`a`, `b`")),
        (b"Text ,b\n1,2\n", ("no column `text`", "did you mean `Text `?")),
    ],
)
def test_a_broken_file_is_told_by_row_and_line(put, data, words):
    """The message names the file, the place, and what would mend it."""
    with refused("c.csv", *words):
        texts(corpus(put(data)))


def test_bad_bytes_in_a_column_that_is_not_read_do_not_matter(put):
    """With `keep` a column that nobody asked for may hold anything."""
    path = put(b"text,v\na,\xff\n")
    assert texts(corpus(path, keep=("text",))) == ["a"]
    with refused("not UTF-8"):
        texts(corpus(path))


def test_broken_rows_are_found_in_any_piece(put, monkeypatch):
    """Row and line numbers go on from piece to piece."""
    monkeypatch.setattr(lines, "PIECE", 128)
    good = [f'"text\n{number}",{number}' for number in range(100)]
    data = "\r\n".join(["text,v", *good, "short", *good]).encode()
    with refused("row 101 (line 202)", "has 1 values"):
        texts(corpus(put(data)))
    data = "\r\n".join(["text,v", *good, 'x,"y"z', *good]).encode()
    with refused("line 202", "text after a closing quote"):
        texts(corpus(put(data)))


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("utf-16", "ä€🙂"),
        ("utf-16-be", "ä€"),
        ("latin-1", "äÿ"),
        ("cp1252", "ä€"),
        ("utf-32", "🙂"),
    ],
)
def test_other_encodings_by_setting(put, encoding, words, monkeypatch):
    """The file is read as the encoding that the job names, in pieces of any size."""
    monkeypatch.setattr(lines, "PIECE", 7)
    data = f'text,v\r\n"{words}\r\n",1\r\n{words},2\r\n'.encode(encoding)
    found = corpus(put(data), encoding=encoding)
    assert texts(found) == [words + "\r\n", words]
    assert kept(found)[1][1] == {"text": words, "v": "2"}
    assert found.where(1).endswith("row 2 (line 4)")


@pytest.mark.parametrize("name", ["UTF-8", "utf_8", "utf8", "utf-8-sig"])
def test_utf_8_by_all_its_names(put, name):
    """UTF-8 may be written in many ways."""
    assert read(put("\ufefftext\nä\n".encode()), encoding=name)[0] == ["ä"]


def test_bytes_of_no_such_encoding_are_told(put):
    """The message names the encoding and a line near the place."""
    with refused("not `ascii`", "0xe4", "after line 1", "encoding"):
        texts(corpus(put("text\nä\n".encode("latin-1")), encoding="ascii"))
    with refused("not `utf-16`"):
        texts(corpus(put("text\nab".encode("utf-16") + b"\0"), encoding="utf-16"))


@pytest.mark.parametrize("encoding", ["klingon", "hex", "rot13"])
def test_unknown_encodings_are_told(put, encoding):
    """An encoding that Python does not know, or that is none of text."""
    with refused(f"`corpus.encoding` is `{encoding}`"):
        corpus(put(b"text\na\n"), encoding=encoding)


@pytest.mark.parametrize("quoted", [True, False])
def test_a_cell_of_50_mb_is_read(put, quoted):
    """A value far longer than a piece is read whole, and its neighbours are where they were."""
    big = "x" * 50_000_000
    cell = f'"{big}"' if quoted else big
    found = corpus(put(f"text,v\na,1\n{cell},2\nb,3\n".encode()))
    seen = [rows.texts for rows in found.texts()]
    assert [[len(text) for text in some] for some in seen] == [[1], [50_000_000], [1]]


def test_a_row_without_an_end_is_refused_before_it_fills_the_memory(put, monkeypatch):
    """An open quote may not eat the rest of a large file."""
    monkeypatch.setattr(lines, "LONGEST_ROW", 4 << 20)
    path = put(b'text,v\na,1\n"open,2\n' + b"line,3\n" * 2_000_000)
    with refused("row that begins in line 3 is longer than 4 MB", "quote"):
        texts(corpus(path))


ANY = st.text(st.sampled_from('ab ,;\t"\r\n\0ä🙂'), max_size=8)


@given(
    st.lists(st.tuples(ANY, ANY), max_size=30),
    st.tuples(
        st.sampled_from([",", "\t", ";"]),
        st.sampled_from(["\n", "\r\n"]),
        st.sampled_from([16, 50, 1 << 20]),
        st.sampled_from(["", "gz", "zst"]),
    ),
)
@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@example([('a"', "\n"), ("", "\r")], (",", "\n", 16, ""))
def test_what_python_writes_is_what_we_read(tmp_path, rows, form):
    """Any values, written by Python's csv module, come back, whatever the size of the pieces."""
    delimiter, end, piece, packing = form
    sink = io.StringIO()
    writer = csv.writer(sink, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("text", "v"), *rows])
    path = tmp_path / f"any.csv{'.' + packing if packing else ''}"
    path.write_bytes(packed(sink.getvalue().encode(), packing))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "PIECE", piece)
        found, _, seen = read(path, delimiter=delimiter)
    assert found == [text for text, _ in rows]
    assert [(row["text"], row["v"]) for row in seen] == rows


def spelled(text, delimiter, quote):
    """The oracle: a CSV text, character by character -> (row ends, delimiters, open, junk)."""
    ends, commas, junk = [], [], None
    state, opened = "begin", None
    at = 0
    while at < len(text):
        char = text[at]
        if state == "quoted":
            if char == quote:
                if text[at + 1 : at + 2] == quote:
                    at += 1
                else:
                    state = "closed"
        elif char in "\r\n":
            ends.append(at)
            state = "begin"
        elif char == delimiter:
            commas.append(at)
            state = "begin"
        elif state == "begin" and char == quote:
            state, opened = "quoted", at
        else:
            if state == "closed" and junk is None:
                junk = at - 1
            state = "bare" if state != "closed" else "junk"
        at += 1
    return ends, commas, opened if state == "quoted" else None, junk


@given(st.text(st.sampled_from('ab,"\n\r'), max_size=30))
@settings(max_examples=600, deadline=None)
@example('"a""b\n",c\n')
@example('""a\n"b\n')
@example('a"b,"c\n""\n')
@example('"""\n""",\n')
def test_quotes_are_understood_character_by_character(text):
    """Where rows end, values part and quotes stay open is as a slow and plain reader says."""
    data, dialect = text.encode(), Dialect(b",", b'"')
    ends, commas, open_at, junk = spelled(text, ",", '"')
    found = quotes.quoted(data, dialect)
    assert (found.junk_at is None) == (junk is None)
    if junk is not None:
        assert found.junk_at == junk
        return
    assert found.open_at == open_at
    if open_at is None:
        assert quotes.row_ends(data, dialect, found).tolist() == ends
        starts, counts = quotes.fields(data, dialect, found)
        spans = zip([0, *[end + 1 for end in ends]], [*ends, len(text)], strict=True)
        rows = [(start, stop) for start, stop in spans if stop > start]
        assert starts.tolist() == [start for start, _ in rows]
        assert counts.tolist() == [sum(a <= c < b for c in commas) + 1 for a, b in rows]


def test_the_plain_reader_would_notice_a_wrong_one(monkeypatch):
    """Control: without the look at each value, lone quotes are misunderstood."""
    monkeypatch.setattr(
        quotes, "_one_by_one", lambda *_: quotes.Quoted(quotes._none(), quotes._none())
    )
    data, dialect = b'a"b,"c\nd"\n', Dialect(b",", b'"')
    wrong = quotes.row_ends(data, dialect, quotes.quoted(data, dialect)).tolist()
    assert wrong != spelled(data.decode(), ",", '"')[0]
