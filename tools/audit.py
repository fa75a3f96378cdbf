"""Ask an advisory source about every pin of requirements.lock: `python tools/audit.py`.

An audit that asked nobody proves nothing. So one pin that is known to be bad is asked about as
well; unless the source reports it, this ends with 2 and says that nothing is known. 0: asked, and
nothing found; 1: something found.
"""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

SOURCE = "https://api.osv.dev/v1/querybatch"
PLANTED = ("pyarrow", "14.0.0")
"""CVE-2023-47248: reading a file runs code."""
LOCK = Path(__file__).resolve().parent.parent / "requirements.lock"

Pin: TypeAlias = tuple[str, str]


def pins(lock: str) -> list[Pin]:
    """Return (name, version) of every pin in the text of a lock file."""
    return re.findall(r"(?m)^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", lock)


def ask(asked: Sequence[Pin]) -> list[list[str]]:
    """Return the advisories of each pin. Raises OSError or ValueError when there is no answer."""
    queries = [{"package": {"name": n, "ecosystem": "PyPI"}, "version": v} for n, v in asked]
    body = json.dumps({"queries": queries}).encode()
    call = urllib.request.Request(SOURCE, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(call, timeout=30) as answer:  # noqa: S310 - the address is ours
        told: dict[str, Any] = json.load(answer)
    found = [[one["id"] for one in result.get("vulns", [])] for result in told["results"]]
    if len(found) != len(asked):
        raise ValueError(f"asked about {len(asked)} pins, heard of {len(found)}")
    return found


def audit(lock: str, ask: Callable[[Sequence[Pin]], list[list[str]]]) -> tuple[int, str]:
    """Return the exit code and the words of an audit."""
    asked = [*pins(lock), PLANTED]
    try:
        *found, planted = ask(asked)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return 2, f"NOT AUDITED: no advisory source answered: {error}"
    if not planted:
        bad = "==".join(PLANTED)
        return 2, f"NOT AUDITED: the source does not know {bad} to be bad, so it proves nothing"
    lines = [
        f"{name}=={version}: {', '.join(ids)}"
        for (name, version), ids in zip(asked, found, strict=False)
        if ids
    ]
    if lines:
        return 1, "\n".join(lines)
    return 0, f"{len(found)} pins, no advisory is known; the planted one was reported"


if __name__ == "__main__":
    code, words = audit(LOCK.read_text("utf-8"), ask)
    print(words)
    sys.exit(code)
