"""Proof against the vendors' own clients: what they send is what we send, and both read the same.

`tests/vendors/recorded.json` is what the clients sent to a server of ours; a slow test records it
again. aleph-alpha-client and openai are asked directly, in test_providers_clients.
"""

import asyncio
import base64
import json
import os
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import numpy as np
import orjson
import pytest
from fakes.commands import ROOT, environment

from batchembed.exchange import Request, Response
from batchembed.prompts import Image, Text
from batchembed.providers import Access, defaults, info, known
from batchembed.providers.http import HttpProvider
from batchembed.spec import Spec

HERE = Path(__file__).parent / "vendors"
RECORDED = json.loads((HERE / "recorded.json").read_text("utf-8"))
# Where we differ from a client on purpose: the fields, and why.
DIFFERENT = {
    "azure": {"headers.authorization", "headers.api-key"},  # both are documented for this route
    "mistral": {"body.encoding_format"},  # documented; the client leaves it out and cannot read it
    "infinity": {"body.dimensions", "body.modality"},  # the client sends the server's defaults
    "ollama": {"headers.authorization"},  # the client has no key; a server behind a proxy may
}
# No client of the vendor's own is on the package index, or the vendor has none.
READ_ONLY = {"jina"}
# On this machine; in test_providers_clients; in test_described.
ELSEWHERE = {"local", "aleph-alpha", "http"}


def ids(recorded):
    asked = recorded["asked"]
    return f"{asked['provider']}-{asked['name']}-{asked['role']}-{asked.get('dimensions')}"


def opened(asked, image=None):
    """Return our spec, our dialect, and the request for what a client was asked for."""
    provider = info(asked["provider"])
    spec = defaults(
        Spec(
            provider.name,
            asked["name"],
            base_url=None if provider.base_url else "https://host.example",
            dimensions=asked.get("dimensions"),
            normalize=asked.get("normalize", True),
            prompts=tuple(sorted(asked.get("prompts", {}).items())),
        )
    )
    texts = tuple(asked["texts"])
    prompts = None
    if image is not None:  # the three rows of the recorder
        prompts = ((Text("a caption"), image), (image,), (Text("text alone"),))
    request = Request(np.zeros((len(texts), 16), np.uint8), texts, asked["role"], prompts=prompts)
    return spec, provider.dialect(provider, spec, Access()), request


def image_of(recorded):
    """Return the image that a client sent, None where it sent none."""
    if not recorded["asked"].get("images"):
        return None
    found = re.search(r"data:image/\w+;base64,([\w+/=]+)", json.dumps(recorded["request"]["body"]))
    return Image(base64.b64decode(found[1]))


def ours(asked, image=None):
    """Return what we send, in the form of the recordings."""
    spec, dialect, request = opened(asked, image)
    call = dialect.build(request)
    provider = info(spec.provider)
    scheme = "Bearer " if provider.key_header == "Authorization" else ""
    return {
        "method": call.method,
        "path": re.sub(r"^https?://[^/]+", "", spec.base_url) + "/" + call.path,
        "query": dict(call.query),
        "headers": {
            provider.key_header.lower(): scheme + "a-key-of-nobody",
            "content-type": "application/json",
        },
        "body": json.loads(call.body),
    }


def flat(sent):
    """Return a request as one level of fields; what is null is as good as left out."""
    found = {name: sent[name] for name in ("method", "path", "query")}
    for part in ("headers", "body"):
        found |= {f"{part}.{k}": v for k, v in sent[part].items() if v is not None}
    return found


@pytest.mark.parametrize("recorded", RECORDED, ids=ids)
def test_what_we_send_is_what_the_client_sends(recorded):
    """Method, path, query, the key's header, and every field of the body."""
    mine, theirs = flat(ours(recorded["asked"], image_of(recorded))), flat(recorded["request"])
    differing = {name for name in mine | theirs if mine.get(name) != theirs.get(name)}
    assert differing == DIFFERENT.get(recorded["asked"]["provider"], set())


@pytest.mark.parametrize("recorded", RECORDED, ids=ids)
def test_what_we_read_is_what_the_client_reads(recorded):
    """The same answer gives the same vectors, bit for bit, and the tokens that it tells."""
    _, dialect, request = opened(recorded["asked"] | {"dimensions": None})
    body = orjson.dumps(recorded["answer"])
    headers = {"x-compute-tokens": "7"} if recorded["asked"]["provider"] == "tei" else {}
    found = dialect.parse(request, status=200, headers=headers, body=body)
    assert isinstance(found, Response), found
    assert found.vectors.tolist() == np.float32(recorded["vectors"]).tolist()
    assert found.tokens == (None if recorded["asked"]["provider"] == "gemini" else 7)


def test_every_provider_is_proven_or_said_not_to_be():
    """A provider that is added comes under the tests above, or is named as read only."""
    proven = {recorded["asked"]["provider"] for recorded in RECORDED}
    assert {p.name for p in known()} == proven | READ_ONLY | ELSEWHERE
    assert proven.isdisjoint(READ_ONLY | ELSEWHERE)


def test_a_difference_would_be_seen():
    """Control: another role, another size, another model are other requests."""
    one = next(r for r in RECORDED if r["asked"]["provider"] == "voyage")
    for change in ({"role": "query"}, {"dimensions": 512}, {"name": "voyage-4-lite"}):
        assert flat(ours(one["asked"] | change)) != flat(ours(one["asked"]))


def test_the_key_goes_into_the_header_of_its_provider():
    """HttpProvider writes what the recordings have."""

    async def headers(name):
        provider = info(name)
        _, dialect, _ = opened({"provider": name, "name": "m", "role": "query", "texts": ["a"]})
        http = HttpProvider(
            dialect, "https://h.example", key="K", access=Access(), key_header=provider.key_header
        )
        await http.close()
        return http._authorization

    assert asyncio.run(headers("azure")) == {"api-key": "K"}
    assert asyncio.run(headers("gemini")) == {"x-goog-api-key": "K"}
    assert asyncio.run(headers("mistral")) == {"Authorization": "Bearer K"}


def test_the_docs_name_the_versions_that_were_recorded():
    """The table of docs/providers.md says for each provider what it was proven against."""
    page = (ROOT / "docs" / "providers.md").read_text("utf-8")
    table = page.partition("\n## ")[0]
    rows = dict(re.findall(r"(?m)^\| `([\w-]+)` \|.*\| ([^|]+) \|$", table))
    for recorded in RECORDED:
        assert recorded["client"] in rows[recorded["asked"]["provider"]]
    for name in READ_ONLY:
        assert "reading alone" in rows[name]
    assert {p.name for p in known()} <= rows.keys()


def clients_python():
    """Return the python that has the vendors' clients; skip where there is none."""
    named = os.environ.get("BATCHEMBED_VENDORS_PYTHON")
    python = Path(named or ROOT / ".venv-vendors" / "bin" / "python")
    if not python.exists():
        pytest.skip(f"NOT TESTED: no clients at {python}; `make vendors` installs them")
    return python


def test_the_readme_names_every_provider_and_what_it_was_proven_against():
    """With the versions of the recordings, and of the clients that are asked directly."""
    readme = (ROOT / "README.md").read_text("utf-8")
    table = readme.partition("| `provider` | proven against |\n")[2].partition("\n\n")[0]
    rows = {}
    for line in table.splitlines()[1:]:
        _, names, against, _ = line.split("|")
        rows |= dict.fromkeys(re.findall("`([\\w-]+)`", names), against)
    assert rows.keys() == {p.name for p in known()}
    for recorded in RECORDED:
        assert recorded["client"] in rows[recorded["asked"]["provider"]]
    assert f"aleph-alpha-client {version('aleph-alpha-client')}" in rows["aleph-alpha"]
    for name in READ_ONLY:
        assert "reading alone" in rows[name]


@pytest.mark.slow
def test_the_clients_send_today_what_was_recorded():
    """In a venv of their own: `make vendors` makes it, or BATCHEMBED_VENDORS_PYTHON names one."""
    python = clients_python()
    done = subprocess.run(
        [python, HERE / "record.py"], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    today = json.loads(done.stdout)
    assert [t["asked"] for t in today] == [r["asked"] for r in RECORDED]
    for now, then in zip(today, RECORDED, strict=True):
        where = f"{now['client']}, recorded with {then['client']}: {ids(now)}"
        assert now["request"] == then["request"], where
        assert now["vectors"] == then["vectors"], where
