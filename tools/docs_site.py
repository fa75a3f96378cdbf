"""Hooks of mkdocs: folders in the nav, and what pages link to outside of docs/, as it is.

The pages are read on the site and in the repository alike; a link to ../jobs/crontab holds in both.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = "files"  # where such files stand in the site
LINK = re.compile(r"\]\(((?:\.\./)+[^)#\s]+)(#[^)\s]*)?\)")


def outside(page: str, target: str) -> str | None:
    """Return the place in the repository of what a page links to, None for what is in docs/."""
    place = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    return None if place.startswith("docs/") else place


def on_config(config: Any) -> Any:
    """Put every page of a folder where the nav names the folder."""
    config.nav = [_filled(entry) for entry in config.nav]
    return config


def _filled(entry: Any) -> Any:
    if isinstance(entry, list):
        return [_filled(one) for one in entry]
    if isinstance(entry, dict):
        return {name: _filled(inner) for name, inner in entry.items()}
    if not entry.endswith("/"):
        return entry
    first = f"{entry}README.md"
    pages = sorted(f"{entry}{path.name}" for path in (ROOT / "docs" / entry).glob("*.md"))
    return [first, *(page for page in pages if page != first)]


def on_files(files: Any, config: Any) -> Any:
    """Add every file outside of docs/ that some page links to."""
    from mkdocs.structure.files import File  # in a venv of its own

    wanted = set()
    for page in files.documentation_pages():
        for target, _ in LINK.findall(page.content_string):
            if place := outside(page.src_uri, target):
                wanted.add(place)
    for place in sorted(wanted):
        if not (ROOT / place).is_file():
            raise FileNotFoundError(f"a page links to {place}, which is no file")
        files.append(File.generated(config, _named(place), abs_src_path=str(ROOT / place)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:  # noqa: ARG001 - mkdocs names them
    """Let links to such files lead to where they stand in the site."""

    def led(found: re.Match[str]) -> str:
        place = outside(page.file.src_uri, found[1])
        if place is None:
            return found[0]
        up = "../" * page.file.src_uri.count("/")
        return f"]({up}{_named(place)})"

    return LINK.sub(led, markdown)


def _named(place: str) -> str:
    """Return the name of a file in the site; a page of Markdown is shown as text."""
    return f"{FOLDER}/{place}" + (".txt" if place.endswith((".md", ".py")) else "")
