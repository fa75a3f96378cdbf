"""A row of the catalogue of faults as a whole run: exit code, words, bill, and the way on."""

from __future__ import annotations

import base64
import os
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from .places import Place
from .runs import HARMLESS, texts

GIVEN = texts(24, seed=4)
PER_REQUEST = 4
FASTER = 50
"""How many seconds pass for a run in one of ours. What must not come about on a busy machine has
ninety hours to do so, which are two of ours."""
HOW = {
    "limits__texts_per_request": PER_REQUEST,
    "limits__concurrency": 2,
    "limits__max_rejects": 2,
    "limits__patience": "90h",
    "access__timeout": "90h",
    "access__key_env": "THE_KEY",
}
CANARY = f"SECRET-{uuid.uuid4()}/+x"


def shapes(secret: str) -> list[bytes]:
    """Return the forms in which a secret could be found: plain, URL-encoded, base64."""
    plain = secret.encode()
    packed = [
        base64.b64encode(b" " * shift + plain)[2 + 2 * (shift > 0) : -4] for shift in range(3)
    ]
    return [plain, quote(secret, safe="").encode(), *packed]


@dataclass(frozen=True)
class Row:
    """One fault: how the run ends, what it says, and what it may cost.

    `requests` is the most that may be sent by the run that meets the fault, `twice` how many
    answers' texts may be paid for again: those whose answer was lost on its way. `rejected` are
    texts that have no vector in the end; `then` is the exit code once the fault is over;
    `harmless` how often a harmless sentence may be asked for besides.
    """

    script: object
    code: int = 0
    says: tuple[str, ...] = ()
    requests: int = 6
    twice: int = 0
    rejected: tuple[str, ...] = ()
    then: int = 0
    more: Mapping[str, object] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    twists: tuple[tuple, ...] = ()
    exact: bool = True
    harmless: int = 3


def check(place: Callable[..., Place], server: object, row: Row, provider: str = "openai") -> Place:
    """Run a job into the fault, then on once it is over; the output must be right in the end."""
    server.script = row.script
    patience = {"limits__patience": "30s"} if row.code == 75 else {}
    settings = {k: v for k, v in {**HOW, **patience, **row.more}.items() if v is not None}
    job = place(GIVEN, server=server, provider=provider, **settings)
    env = {"THE_KEY": CANARY, **row.env}
    twists = [["time_flies", FASTER], *map(list, row.twists)]
    ended = job.run(code=row.code, env=env, twists=twists)
    quiet(job, ended, ended.err + ended.out)
    for words in (*row.says, *(["hint:"] if row.code not in (0, 3) else [])):
        assert words in ended.err + ended.out, ended
    assert server.bill.requests <= row.requests, (server.bill.requests, ended)
    assert_bill(server, row)
    server.script = type(server).script if hasattr(type(server), "script") else ()
    after = job.run(code=row.then, env=env)
    quiet(job, after, after.err + after.out)
    if row.exact:
        assert job.wrong(unembedded=lambda text: text in row.rejected) == []
    assert_bill(server, row)
    assert job.run("verify", "run", "--json", env=env).json["problems"] == []
    return job


def assert_bill(server: object, row: Row) -> None:
    """Check that no more is paid for again than what was lost on its way."""
    again = {t: n - 1 for t, n in server.bill.texts.items() if n > 1 and t != HARMLESS}
    assert sum(again.values()) <= row.twice * PER_REQUEST, again
    assert server.bill.texts[HARMLESS] <= row.harmless


def quiet(job: Place, ended: object, said: str) -> None:
    """Check that neither the key nor a text of the corpus is where it should not be."""
    assert "Traceback" not in said, ended
    assert not any(text in said for text in GIVEN), "a text of the corpus was said"
    assert_absent(job.folder.rglob("*"), said.encode())


def assert_absent(paths: Iterable[os.PathLike], *more: bytes) -> None:
    """Check that the canary key is in no byte of any of these."""
    looked = re.compile(b"|".join(map(re.escape, shapes(CANARY))))
    for raw in (*more, *(path.read_bytes() for path in paths if path.is_file())):
        assert not looked.search(raw), "the key was found"
