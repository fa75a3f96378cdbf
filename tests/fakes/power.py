"""A disk that keeps, when the power goes, what was made durable: fsynced files, in fsynced folders.

`watch` notes it while a process runs; `cut` makes of a folder what the power would have left.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path


class _Shadow:
    """What is durable: the bytes of files and the names in folders, each as of its last fsync."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root, self._folder = root.resolve(), folder
        self._held: dict[int, int] = {}  # an open file keeps its inode from being used again
        folder.mkdir(parents=True, exist_ok=True)
        for path in [root, *root.rglob("*")] if root.exists() else []:
            self.note(path)

    def note(self, path: Path) -> None:
        """Take a file or a folder as it is now for durable."""
        about = path.stat()
        if path.is_dir():
            entries = list(os.scandir(path))
            for entry in entries:
                self._hold(Path(entry.path), entry.inode())
            names = {entry.name: entry.inode() for entry in entries}
            self._keep(f"names-{about.st_ino}", json.dumps(names).encode())
        else:
            self._keep(f"bytes-{about.st_ino}", path.read_bytes())
        self._hold(path, about.st_ino)

    def _hold(self, path: Path, inode: int) -> None:
        if inode not in self._held:
            self._held[inode] = os.open(path, os.O_RDONLY)

    def heard(self, file: int) -> None:
        """Note what an fsync of an open file makes durable, if it is one of ours."""
        path = Path(f"/proc/self/fd/{file}").readlink()
        if path.is_relative_to(self._root) or path == self._root.parent:
            if path == self._root.parent:
                (self._folder / "root").touch()
            else:
                self.note(path)

    def _keep(self, name: str, raw: bytes) -> None:
        """Keep it whole or not at all: a kill may come in the middle of it, from another thread."""
        new = self._folder / f".{name}"
        new.write_bytes(raw)
        new.replace(self._folder / name)


def watch(root: Path, folder: Path) -> None:
    """Note in `folder`, outside of `root`, what of `root` is durable from now on."""
    shadow = _Shadow(root, folder)

    def after(real: Callable[[int], None]) -> Callable[[int], None]:
        def synced(file: int) -> None:
            real(file)
            shadow.heard(file)

        return synced

    os.fsync, os.fdatasync = after(os.fsync), after(os.fdatasync)
    from batchembed import store

    store.SYNC_DATA = os.fdatasync


def cut(root: Path, folder: Path, how: str, rng: random.Random) -> None:
    """Let `root` be what a power cut leaves.

    `dropped`: nothing that was not synced. `named`: all names are there, and of what was not
    synced no byte, as file systems do that write names first. `torn`: some of those bytes are.
    """
    left = root.with_name(root.name + ".left")
    if root.exists():
        if how == "dropped":
            _drop(root, folder, left)
        else:
            _tear(root, folder, left, rng if how == "torn" else None)
        shutil.rmtree(root)
    if left.exists():
        left.rename(root)


def _drop(root: Path, folder: Path, left: Path) -> None:
    by_inode = {path.stat().st_ino: path for path in [root, *root.rglob("*")] if path.is_dir()}

    def build(inode: int, into: Path) -> None:
        into.mkdir()
        names = folder / f"names-{inode}"
        for name, number in (json.loads(names.read_text()) if names.exists() else {}).items():
            durable = folder / f"bytes-{number}"
            if durable.exists():
                (into / name).write_bytes(durable.read_bytes())
            elif number in by_inode or (folder / f"names-{number}").exists():
                build(number, into / name)
            else:
                (into / name).write_bytes(b"")  # a name that is durable, of bytes that are not

    if (folder / "root").exists() or (folder / f"names-{root.stat().st_ino}").exists():
        build(root.stat().st_ino, left)


def _tear(root: Path, folder: Path, left: Path, rng: random.Random | None) -> None:
    for path in [root, *sorted(root.rglob("*"))]:
        there = left / path.relative_to(root)
        if path.is_dir():
            there.mkdir(exist_ok=True)
            continue
        durable = folder / f"bytes-{path.stat().st_ino}"
        kept = durable.read_bytes() if durable.exists() else b""
        whole = path.read_bytes()
        if rng is not None and whole.startswith(kept):
            kept = whole[: rng.randint(len(kept), len(whole))]
        there.write_bytes(kept)
