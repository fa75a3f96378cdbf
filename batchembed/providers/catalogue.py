"""Which providers there are, what each can do, and the name nearest to one that is unknown."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from batchembed.errors import JobError

STATIC_MODEL = "batchembed-static-en-1"
STATIC_DIMENSIONS = 256
ALEPH_ALPHA_URL = "https://api.aleph-alpha.com"
OPENAI_URL = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True)
class ProviderInfo:
    """What `batchembed providers` tells of one provider.

    `key_variable` is the environment variable of its key; `roles` and `limits` are words for
    people; `controls` says whether attention controls work. `dimensions` is the length of the
    default model's vectors, None where only the server knows. The key is sent to no host but
    the provider's own when `own_host_only`, unless the job names it.
    """

    name: str
    title: str
    model: str
    key_variable: str | None
    base_url: str | None
    own_host_only: bool
    roles: str
    controls: bool
    dimensions: int | None
    limits: str
    note: str


_KNOWN = (
    ProviderInfo(
        name="local",
        title="the embedded model, on this machine",
        model=STATIC_MODEL,
        key_variable=None,
        base_url=None,
        own_host_only=False,
        roles="one space: document and query give the same vector as symmetric",
        controls=True,
        dimensions=256,
        limits="none",
        note="English; no key, no network; another name loads it with sentence-transformers",
    ),
    ProviderInfo(
        name="aleph-alpha",
        title="Aleph Alpha, for texts, images and token ids",
        model="luminous-base",
        key_variable="AA_TOKEN",
        base_url=ALEPH_ALPHA_URL,
        own_host_only=False,
        roles="symmetric, document, query",
        controls=True,
        dimensions=None,
        limits="100 texts a request; 2,048 tokens a text",
        note="128 dimensions or the model's own; layers, instructions; base_url for own hosts",
    ),
    ProviderInfo(
        name="openai",
        title="OpenAI, and servers that speak its API",
        model="text-embedding-3-small",
        key_variable="OPENAI_API_KEY",
        base_url=OPENAI_URL,
        own_host_only=True,
        roles="none of its own: set a prefix for each role",
        controls=False,
        dimensions=None,
        limits="2,048 texts and 300,000 tokens a request; 8,192 tokens a text",
        note="base_url for vLLM, TEI, Infinity, Ollama, …: 64 texts a request, the key optional",
    ),
)


def known() -> tuple[ProviderInfo, ...]:
    """Return every provider, the one that needs nothing first."""
    return _KNOWN


def info(name: str) -> ProviderInfo:
    """Return what is known of one provider; raises JobError that names the nearest."""
    for provider in _KNOWN:
        if provider.name == name:
            return provider
    names = [provider.name for provider in _KNOWN]
    near = difflib.get_close_matches(name.lower().replace("_", "-"), names, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`?" if near else "known are: " + ", ".join(names)
    raise JobError(f"provider `{name}` is not known", hint=hint)
