"""Providers on the net: their addresses, models, limits, and how their form differs.

Figures are of November 2026 from the vendors' own pages and clients; where a vendor says nothing,
a careful number stands for it. Over-long texts are refused wherever the API has a switch for it.
"""

from __future__ import annotations

from batchembed.exchange import Limits
from batchembed.providers.entries import Form, Model, ProviderInfo, Roles
from batchembed.providers.presets import opening
from batchembed.providers.presets.voyage import (
    IMAGES,
    MOST_BYTES,
    ROLES_OF_ITS_OWN,
    VOYAGE,
)

CAREFUL = Limits(texts_per_request=64, careful=True)
"""For a server that is not known: more texts gain nothing and may be refused."""
_PREFIXES = frozenset({"dimensions", "normalize", "base_url", "prefixes"})

OPENAI = ProviderInfo(
    name="openai",
    title="OpenAI, and servers that speak its API",
    dialect=opening.openai,
    model="text-embedding-3-small",
    models=(
        Model(name="text-embedding-3-small", dimensions=1536, sizes=range(1, 1537)),
        Model(name="text-embedding-3-large", dimensions=3072, sizes=range(1, 3073)),
        Model(name="text-embedding-ada-002", dimensions=1536, sizes=()),
        Model(),
    ),
    base_url="https://api.openai.com/v1",
    takes=_PREFIXES,
    limits=Limits(texts_per_request=2048, tokens_per_request=300_000, tokens_per_text=8192),
    elsewhere=CAREFUL,
    lane="24 h, half price",
    jobs=opening.openai_jobs,
    key_variable="OPENAI_API_KEY",
    note="base_url for any compatible server: 64 texts a request, the key optional",
)

AZURE = ProviderInfo(
    name="azure",
    title="Azure OpenAI, route v1; `name` is the deployment",
    dialect=opening.openai,
    takes=_PREFIXES,
    limits=Limits(texts_per_request=2048, tokens_per_request=300_000, tokens_per_text=8192),
    key_variable="AZURE_OPENAI_API_KEY",
    key_header="api-key",
    own_host_only=False,
    form=Form(path="openai/v1/embeddings"),
    note="base_url = https://RESOURCE.openai.azure.com",
)

AZURE_CLASSIC = ProviderInfo(
    name="azure-classic",
    title="Azure OpenAI, route by deployment; `name` is the deployment",
    dialect=opening.openai,
    takes=_PREFIXES,
    limits=AZURE.limits,
    key_variable="AZURE_OPENAI_API_KEY",
    key_header="api-key",
    own_host_only=False,
    form=Form(
        path="openai/deployments/{model}/embeddings",
        query={"api-version": "2024-10-21"},
    ),
    note="base_url = https://RESOURCE.openai.azure.com",
)

COHERE = ProviderInfo(
    name="cohere",
    title="Cohere, embed version 2",
    dialect=opening.cohere,
    model="embed-v4.0",
    models=(
        Model(
            name="embed-v4.0",
            dimensions=1536,
            sizes=(256, 512, 1024, 1536),
            tokens_per_text=128_000,
            pieces=IMAGES,
        ),
        Model(name="embed-english-v3.0", dimensions=1024, sizes=(), tokens_per_text=512),
        Model(name="embed-multilingual-v3.0", dimensions=1024, sizes=(), tokens_per_text=512),
        Model(name="embed-english-light-v3.0", dimensions=384, sizes=(), tokens_per_text=512),
        Model(name="embed-multilingual-light-v3.0", dimensions=384, sizes=(), tokens_per_text=512),
        Model(),
    ),
    base_url="https://api.cohere.com",
    takes=ROLES_OF_ITS_OWN,
    roles={"symmetric": "clustering", "document": "search_document", "query": "search_query"},
    images=True,
    limits=Limits(texts_per_request=96, bytes_per_request=MOST_BYTES),
    key_variable="CO_API_KEY",
    form=Form(path="v2/embed"),
    note="2,000 texts a minute; symmetric is its `clustering`, the closest it has",
)

GEMINI = ProviderInfo(
    name="gemini",
    title="Google Gemini API",
    cuts=True,
    dialect=opening.gemini,
    model="gemini-embedding-001",
    models=(
        Model(
            name="gemini-embedding-001",
            dimensions=3072,
            sizes=range(128, 3073),
            tokens_per_text=2048,
            takes=ROLES_OF_ITS_OWN,
        ),
        Model(
            name="gemini-embedding-2",
            dimensions=3072,
            sizes=range(128, 3073),
            tokens_per_text=8192,
            prefixes={
                "symmetric": "task: sentence similarity | query: ",
                "document": "title: none | text: ",
                "query": "task: search result | query: ",
            },
            roles={},
        ),
        Model(roles={}),
    ),
    base_url="https://generativelanguage.googleapis.com",
    takes=_PREFIXES,
    roles={
        "symmetric": "SEMANTIC_SIMILARITY",
        "document": "RETRIEVAL_DOCUMENT",
        "query": "RETRIEVAL_QUERY",
    },
    limits=Limits(texts_per_request=100, bytes_per_request=3_000_000),
    key_variable="GEMINI_API_KEY",
    key_header="x-goog-api-key",
    form=Form(path="v1/models"),
    note="has no switch against cutting long texts: keep them under the model's tokens",
)

MISTRAL = ProviderInfo(
    name="mistral",
    title="Mistral AI",
    dialect=opening.openai,
    model="mistral-embed",
    models=(
        Model(name="mistral-embed", dimensions=1024, sizes=()),
        Model(name="codestral-embed", dimensions=1536, sizes=range(1, 3073)),
        Model(),
    ),
    base_url="https://api.mistral.ai/v1",
    takes=_PREFIXES,
    limits=Limits(texts_per_request=512, tokens_per_request=16_384, tokens_per_text=8192),
    lane="24 h, half price",
    jobs=opening.mistral_jobs,
    key_variable="MISTRAL_API_KEY",
    form=Form(dimensions="output_dimension"),
)

_JINA_CODE: Roles = {"document": "nl2code.passage", "query": "nl2code.query"}

JINA = ProviderInfo(
    name="jina",
    title="Jina AI",
    dialect=opening.openai,
    model="jina-embeddings-v5-text-small",
    models=(
        Model(
            name="jina-embeddings-v5-text-small",
            dimensions=1024,
            sizes=range(32, 1025),
            tokens_per_text=32_768,
        ),
        Model(
            name="jina-embeddings-v5-text-nano",
            dimensions=768,
            sizes=range(32, 769),
            tokens_per_text=8192,
        ),
        Model(name="jina-embeddings-v4", dimensions=2048, tokens_per_text=32_768),
        Model(name="jina-embeddings-v3", dimensions=1024, tokens_per_text=8192),
        Model(name="jina-embeddings-v2", tokens_per_text=8192, sizes=(), roles={}, takes=_PREFIXES),
        Model(name="jina-code-embeddings", tokens_per_text=32_768, roles=_JINA_CODE),
        Model(),
    ),
    base_url="https://api.jina.ai/v1",
    takes=ROLES_OF_ITS_OWN,
    roles={
        "symmetric": "text-matching",
        "document": "retrieval.passage",
        "query": "retrieval.query",
    },
    limits=Limits(texts_per_request=512),
    key_variable="JINA_API_KEY",
    form=Form(
        role="task",
        normalize="normalized",
        sends={"truncate": False, "embedding_type": "float"},
    ),
)


def _compatible(
    name: str, title: str, base_url: str, key_variable: str, **sends: str
) -> ProviderInfo:
    """Return a host that speaks OpenAI's form, and answers in numbers."""
    return ProviderInfo(
        name=name,
        title=title,
        dialect=opening.openai,
        base_url=base_url,
        takes=_PREFIXES,
        limits=CAREFUL,
        key_variable=key_variable,
        form=Form(sends=sends),
        note="its limits are not known here: set limits.texts_per_request if it takes more",
    )


PROVIDERS = (
    OPENAI,
    AZURE,
    AZURE_CLASSIC,
    COHERE,
    VOYAGE,
    GEMINI,
    MISTRAL,
    JINA,
    _compatible("together", "Together AI", "https://api.together.ai/v1", "TOGETHER_API_KEY"),
    *(
        _compatible(name, title, base_url, key_variable, encoding_format="float")
        for name, title, base_url, key_variable in (
            (
                "deepinfra",
                "DeepInfra",
                "https://api.deepinfra.com/v1/openai",
                "DEEPINFRA_API_KEY",
            ),
            (
                "fireworks",
                "Fireworks AI",
                "https://api.fireworks.ai/inference/v1",
                "FIREWORKS_API_KEY",
            ),
            ("openrouter", "OpenRouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
        )
    ),
)
