"""From the paths of a job file to the files of a corpus, in order."""

from __future__ import annotations

import difflib
import glob
import os
import re
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.fs as pafs

from batchembed.corpus.files import KINDS, CorpusFile, facts, kind_of, said
from batchembed.errors import CorpusError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_KNOWN = "known extensions: " + " ".join(KINDS) + "; all but parquet also with .gz or .zst"
_HIDDEN = (".", "_")


def find(paths: Sequence[str]) -> tuple[CorpusFile, ...]:
    """Return the files that `paths` name, all of one kind, each once.

    Raises CorpusError for a path that names nothing, a file of unknown or of another kind, and
    a file named twice.
    """
    if not paths:
        raise CorpusError("`corpus.path` is empty", hint="name a file, a folder or a glob in it")
    files = [file for path in paths for file in _resolve(path)]
    _check_once(files)
    for file in files:
        if file.kind != files[0].kind:
            raise CorpusError(
                f"the corpus mixes formats: `{files[0].path}` and `{file.path}`",
                hint='name the files of one format, with a glob such as "data/*.parquet"',
            )
    return tuple(files)


def natural(path: str) -> tuple[list[object], ...]:
    """Return a key that sorts `p2` before `p10`, folder by folder."""
    return tuple(
        [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", name)]
        for name in path.split("/")
    )


def _resolve(path: str) -> list[CorpusFile]:
    if not path:
        raise CorpusError("a path in `corpus.path` is empty", hint="name a file or a folder")
    if _SCHEME.match(path):
        return _resolve_uri(path)
    place = os.path.expanduser(path)  # noqa: PTH111 - a trailing slash must stay
    if os.path.isdir(place):  # noqa: PTH112
        return _chosen(path, _walk(place))
    if os.path.exists(place):  # noqa: PTH110
        return [_local(place)]
    if glob.has_magic(place):
        first = os.path.basename(place)[:1]  # noqa: PTH119
        matches = [
            match
            for match in glob.glob(place, recursive=True)  # noqa: PTH207 - keeps the path's form
            if os.path.isfile(match)  # noqa: PTH113
            and (first in _HIDDEN or not os.path.basename(match).startswith(_HIDDEN))  # noqa: PTH119
        ]
        return _chosen(path, matches)
    raise CorpusError(f"`{path}` does not exist", hint=_nearest(place))


def _walk(folder: str) -> Iterable[str]:
    def fail(error: OSError) -> None:
        raise CorpusError(
            f"`{error.filename}` cannot be listed: {said(error)}",
            hint="let the user that runs the job read the folder, or name its files one by one",
        ) from error

    for parent, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(_HIDDEN)]
        for name in names:
            if not name.startswith(_HIDDEN):
                yield os.path.join(parent, name)  # noqa: PTH118


def _chosen(path: str, names: Iterable[str]) -> list[CorpusFile]:
    """Return the files of known kinds among `names`, in natural order."""
    found = sorted(names, key=lambda name: (natural(name), name))
    known = [name for name in found if kind_of(name)]
    if not known:
        others = f" with a known extension (there is `{found[0]}`)" if found else ""
        raise CorpusError(f"`{path}` matches no file{others}", hint=_KNOWN)
    return [_local(name) for name in known]


def _local(place: str) -> CorpusFile:
    try:
        size, mtime = facts(place, None)
    except OSError as error:
        raise CorpusError(
            f"`{place}` cannot be read: {said(error)}", hint="name a file that can be read"
        ) from error
    return _file(place, os.path.abspath(place), (size, mtime), None)  # noqa: PTH100


def _file(
    path: str, place: str, found: tuple[int, int], filesystem: pafs.FileSystem | None
) -> CorpusFile:
    kind = kind_of(path)
    if kind is None:
        json = path.lower().endswith(".json")
        raise CorpusError(
            f"`{path}` has no extension that says how to read it",
            hint="one JSON object a line is .jsonl" if json else _KNOWN,
        )
    if kind[1] and kind[0] == "parquet":
        raise CorpusError(
            f"`{path}` is a packed Parquet file", hint="unpack it: Parquet packs its own pages"
        )
    return CorpusFile(path, *found, *kind, place, filesystem)


def _nearest(place: str) -> str:
    parent, name = os.path.split(place)
    try:
        names = os.listdir(parent or ".")  # noqa: PTH208
    except OSError:
        return f"the folder `{parent}` does not exist either, or cannot be read"
    near = difflib.get_close_matches(name, names, 1)
    if near:
        return f"did you mean `{os.path.join(parent, near[0])}`?"  # noqa: PTH118
    return "paths are relative to the folder in which the command runs"


def _resolve_uri(uri: str) -> list[CorpusFile]:
    bare, mark, query = uri.partition("?")
    folder = bare.split("*", 1)[0].rpartition("/")[0] + "/" if "*" in bare else bare
    try:
        filesystem, base = pafs.FileSystem.from_uri(folder + mark + query)
        if isinstance(filesystem, pafs.LocalFileSystem):
            return _resolve(base.rstrip("/") + bare[len(folder) - 1 :] if "*" in bare else base)
        info = filesystem.get_file_info(base)
        if info.is_file:
            infos = [info]
        else:
            infos = filesystem.get_file_info(pafs.FileSelector(base, recursive=True))
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(
            f"`{uri}` cannot be read: {said(error)}",
            hint="known: s3:// gs:// abfs:// hdfs:// file://; credentials come from the "
            "environment or the machine, as for every client of that storage",
        ) from error
    if "*" in bare:
        pattern = _pattern(base.rstrip("/") + "/" + bare[len(folder) :])
        infos = [info for info in infos if pattern.fullmatch(info.path)]
    return _chosen_remote(uri, infos, (filesystem, base))


def _chosen_remote(
    uri: str, infos: Iterable[pafs.FileInfo], where: tuple[pafs.FileSystem, str]
) -> list[CorpusFile]:
    filesystem, base = where
    prefix = uri.split("://", 1)[0] + "://"
    found = [
        info
        for info in infos
        if info.is_file
        and (info.path == base or kind_of(info.path))
        and not any(part.startswith(_HIDDEN) for part in info.path[len(base) :].split("/"))
    ]
    if not found:
        raise CorpusError(f"`{uri}` matches no file", hint=_KNOWN)
    found.sort(key=lambda info: (natural(info.path), info.path))
    return [
        _file(prefix + info.path, info.path, (info.size or 0, info.mtime_ns or 0), filesystem)
        for info in found
    ]


def _pattern(path: str) -> re.Pattern[str]:
    """Return the regular expression of a glob with `*` and `**`."""
    parts = re.split(r"(\*\*/|\*+)", path)
    words = {"**/": "(?:.*/)?", "*": "[^/]*"}
    return re.compile("".join(words.get(part, re.escape(part)) for part in parts))


def _check_once(files: Sequence[CorpusFile]) -> None:
    seen: dict[str, str] = {}
    for file in files:
        real = file.path if file.filesystem else os.path.realpath(file.place)
        if real in seen:
            raise CorpusError(
                f"`{file.path}` is in the corpus twice (also as `{seen[real]}`)",
                hint="every row would be counted twice: take one of them out of `corpus.path`",
            )
        seen[real] = file.path
