"""The page: one HTML file that asks nobody for anything, with a policy that says so."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from string import Template

from batchembed.report import sections
from batchembed.report.embedded import data
from batchembed.report.figures import Figures
from batchembed.report.told import Told
from batchembed.report.words import escape

MOST_BYTES = 980_000
LEAST_TEXT = 100_000
SCRIPTS = ("tools.js", "charts.js", "map.js", "heat.js", "start.js")


def page(told: Told, figures: Figures) -> bytes:
    """Return the whole file; the same bytes for the same run and seed."""
    style = _file("page.css")
    script = "\n".join(_file(name) for name in SCRIPTS)
    template = Template(_file("page.html"))
    slots = sections.all_of(told, figures) | {
        "title": escape(f"{told.name} · batchembed"),
        "policy": _policy(style, script),
        "style": style,
        "script": script,
    }
    room = MOST_BYTES - len(template.substitute(slots, data="").encode())
    drawn = data(figures, list(told.history), room=max(LEAST_TEXT, room))
    return template.substitute(slots, data=drawn.decode()).encode()


def _policy(style: str, script: str) -> str:
    """Return what the page may do: run this script, use this style, and nothing else."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _file(name: str) -> str:
    return resources.files("batchembed.report").joinpath(name).read_text("utf-8")
