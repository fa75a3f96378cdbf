"""Which files a path names, in which order, and what is said when it names none."""

import os

import pyarrow as pa
import pyarrow.fs as pafs
import pytest
from corpora import corpus, kept, refused, texts, write
from hypothesis import given
from hypothesis import strategies as st

from batchembed.corpus import finding
from batchembed.corpus.files import kind_of
from batchembed.corpus.finding import find, natural


def put(folder, *names):
    """Write a file whose one text is its name, for each name."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write(folder / name, pa.table({"text": [name]}))
    return folder


def test_files_come_in_natural_order(tmp_path):
    """p2 comes before p10, in a folder and in a glob."""
    put(tmp_path, "p10.csv", "p1.csv", "p2.csv", "P3.csv")
    assert texts(corpus(tmp_path)) == ["P3.csv", "p1.csv", "p2.csv", "p10.csv"]
    assert texts(corpus(tmp_path / "p*.csv")) == ["p1.csv", "p2.csv", "p10.csv"]


def test_a_list_of_paths_keeps_its_order(tmp_path):
    """Paths are resolved in the order given, and sorted only within one path."""
    put(tmp_path, "b.csv", "a/2.csv", "a/1.csv", "c.csv")
    paths = tuple(str(tmp_path / name) for name in ("c.csv", "a", "b.csv"))
    assert texts(corpus(paths)) == ["c.csv", "a/1.csv", "a/2.csv", "b.csv"]


def test_a_folder_is_searched_to_its_depth(tmp_path):
    """Folders within the folder are read too; hidden ones and unknown extensions are not."""
    put(tmp_path, "a/b/1.csv", "2.csv", ".hidden.csv", "_temporary/3.csv", ".git/4.csv")
    (tmp_path / "README.md").write_text("no corpus")
    (tmp_path / "_SUCCESS").write_text("")
    assert texts(corpus(tmp_path)) == ["2.csv", "a/b/1.csv"]


def test_globs_skip_hidden_files_unless_asked(tmp_path):
    """`*` does not match a name that begins with a dot or underscore; `_*` does."""
    put(tmp_path, "1.csv", "_2.csv", ".3.csv", "deep/er/4.csv")
    assert texts(corpus(tmp_path / "*.csv")) == ["1.csv"]
    assert texts(corpus(tmp_path / "_*.csv")) == ["_2.csv"]
    assert texts(corpus(tmp_path / "**" / "*.csv")) == ["1.csv", "deep/er/4.csv"]
    assert texts(corpus(tmp_path / "*")) == ["1.csv"]


def test_a_name_with_glob_characters_can_be_a_file(tmp_path):
    """A file that is there is taken by its name."""
    put(tmp_path, "a[1].csv", "a1.csv")
    assert texts(corpus(tmp_path / "a[1].csv")) == ["a[1].csv"]


def test_the_home_folder_and_relative_paths_are_known(tmp_path, monkeypatch):
    """`~` is the home folder; other paths are relative to where the command runs."""
    put(tmp_path, "1.csv")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert texts(corpus("~/1.csv")) == ["1.csv"]
    monkeypatch.chdir(tmp_path)
    assert corpus("1.csv").files[0].path == "1.csv"
    assert corpus("1.csv").fingerprint() == corpus("1.csv").fingerprint()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("articels.csv", ("does not exist", "did you mean", "articles.csv")),
        ("nothing/here.csv", ("does not exist", "the folder")),
        ("zzzzz", ("does not exist", "relative to the folder")),
        ("*.parquet", ("*.parquet", "matches no file", "known extensions")),
        ("*.md", ("matches no file with a known extension", "README.md")),
        ("README.md", ("README.md", "no extension that says how to read it")),
        ("rows.json", ("rows.json", ".jsonl")),
        ("empty", ("empty", "matches no file")),
        ("p.parquet.gz", ("packed Parquet", "unpack it")),
        ("", ("is empty",)),
    ],
)
def test_a_path_that_names_no_corpus_is_told(tmp_path, monkeypatch, path, words):
    """The path is named, with what would mend it."""
    monkeypatch.chdir(put(tmp_path, "articles.csv"))
    (tmp_path / "empty").mkdir()
    for name in ("README.md", "rows.json", "p.parquet.gz"):
        (tmp_path / name).write_text("x")
    with refused(*words):
        corpus((path,))


def test_no_path_at_all_is_told():
    """An empty list of paths is an error."""
    with refused("`corpus.path` is empty"):
        corpus(())


@pytest.mark.parametrize("second", ["b.parquet", "b.tsv", "b.jsonl.gz"])
def test_mixed_formats_are_refused(tmp_path, second):
    """A folder with two formats is an error that names one file of each."""
    put(tmp_path, "a.csv", second)
    with refused("mixes formats", "a.csv", second):
        corpus(tmp_path)


def test_one_format_may_be_packed_differently(tmp_path):
    """The same format with and without packing is one format."""
    put(tmp_path, "a.csv", "b.csv.gz", "c.csv.zst")
    assert texts(corpus(tmp_path)) == ["a.csv", "b.csv.gz", "c.csv.zst"]


def test_a_file_named_twice_is_refused(tmp_path):
    """Overlapping paths would count rows twice; links to the same file too."""
    put(tmp_path, "a.csv")
    with refused("in the corpus twice", "a.csv"):
        corpus((str(tmp_path / "a.csv"), str(tmp_path)))
    (tmp_path / "b.csv").symlink_to(tmp_path / "a.csv")
    with refused("in the corpus twice", "b.csv"):
        corpus(tmp_path)


def test_what_is_no_regular_file_is_refused(tmp_path):
    """A named pipe cannot be read three times over."""
    os.mkfifo(tmp_path / "p.csv")
    with refused("p.csv", "not a regular file"):
        corpus(tmp_path / "p.csv")


def test_a_folder_that_cannot_be_listed_is_told(tmp_path, monkeypatch):
    """A folder without permission is an error, not an empty folder."""
    (tmp_path / "a").mkdir()

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", denied)
    with refused("cannot be listed", "Permission denied"):
        corpus(tmp_path)


def test_a_file_uri_is_a_local_file(tmp_path):
    """file:// names a file, a folder or a glob."""
    put(tmp_path, "1.csv", "2.csv", "d/3.csv")
    assert texts(corpus(f"file://{tmp_path}/1.csv")) == ["1.csv"]
    assert texts(corpus(f"file://{tmp_path}")) == ["1.csv", "2.csv", "d/3.csv"]
    assert texts(corpus(f"file://{tmp_path}/*.csv")) == ["1.csv", "2.csv"]


@pytest.mark.parametrize("uri", ["zz://a/b.csv", "file:///no such"])
def test_an_unknown_scheme_is_told(uri):
    """A URI that no file system knows is an error that lists the known ones."""
    with refused(uri, "s3://"):
        corpus(uri)


class Remote:
    """Stands in for pyarrow.fs: one storage, one scheme."""

    def __init__(self, folder):
        self._storage = pafs.SubTreeFileSystem(str(folder), pafs.LocalFileSystem())
        self.FileSystem = self
        self.LocalFileSystem = pafs.LocalFileSystem
        self.FileSelector = pafs.FileSelector

    def from_uri(self, uri):
        return self._storage, uri.removeprefix("mem://").split("?")[0].rstrip("/")


@pytest.mark.parametrize("extension", ["parquet", "arrow", "arrows", "csv.gz", "jsonl"])
def test_object_storage_is_read_through_pyarrow(tmp_path, monkeypatch, extension):
    """A folder, a glob and a file of another file system are read like local ones."""
    put(tmp_path, f"b/p2.{extension}", f"b/p10.{extension}", f"b/d/3.{extension}", "b/_x.csv")
    monkeypatch.setattr(finding, "pafs", Remote(tmp_path))
    names = [f"b/p2.{extension}", f"b/p10.{extension}"]
    assert texts(corpus(f"mem://b/p*.{extension}")) == names
    assert texts(corpus("mem://b?region=x")) == [f"b/d/3.{extension}", *names]
    assert texts(corpus(f"mem://b/**/*.{extension}")) == [f"b/d/3.{extension}", *names]
    found = corpus(f"mem://b/p2.{extension}")
    assert kept(found) == ([0], [{"text": names[0]}])
    assert found.files[0].path == f"mem://{names[0]}"
    assert found.fingerprint() != corpus(tmp_path / "b" / f"p2.{extension}").fingerprint()
    with refused("mem://b/x*.csv", "matches no file"):
        corpus("mem://b/x*.csv")


def test_a_remote_file_that_changes_is_noticed(tmp_path, monkeypatch):
    """Size and time are asked of the file system."""
    put(tmp_path, "b/1.csv")
    monkeypatch.setattr(finding, "pafs", Remote(tmp_path))
    found = corpus("mem://b/1.csv")
    (tmp_path / "b/1.csv").write_text("text\nlonger than before")
    with refused("mem://b/1.csv", "changed"):
        found.unchanged()
    (tmp_path / "b/1.csv").unlink()
    with refused("mem://b/1.csv", "not there any more"):
        found.unchanged()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.PARQUET", ("parquet", "")),
        ("a.b.Csv.GZ", ("csv", "gzip")),
        ("a.arrows.zst", ("arrow", "zstd")),
        ("a.gz", None),
        ("csv", None),
        (".csv", None),
        ("a.txt", None),
    ],
)
def test_extensions_say_how_a_file_is_read(name, kind):
    """Upper and lower case are the same; the packing comes last."""
    assert kind_of(name) == kind


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "A"]), st.integers(0, 10**6)), max_size=20))
def test_natural_order_is_by_letters_and_numbers(pairs):
    """Names of a letter and a number sort as the pairs of both do."""
    names = [f"{letter}{number}.csv" for letter, number in pairs]
    assert sorted(names, key=natural) == [f"{a}{n}.csv" for a, n in sorted(pairs)]


@given(st.lists(st.text("a1/.-", max_size=8), max_size=10))
def test_any_names_can_be_sorted(names):
    """No mix of letters, digits and folders is beyond comparison."""
    assert sorted(sorted(names, key=natural)) == sorted(names)


def test_find_gives_absolute_places(tmp_path, monkeypatch):
    """A file is found again even if the process changes its folder."""
    monkeypatch.chdir(put(tmp_path, "a.csv"))
    (file,) = find(["a.csv"])
    monkeypatch.chdir("/")
    file.check_unchanged()
    assert file.name() == ("local", str(tmp_path / "a.csv"))
