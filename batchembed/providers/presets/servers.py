"""Servers of one's own: where they listen unless told otherwise, and how their form differs.

What they take at once is asked of them before a run where they say it (`form.report`).
"""

from __future__ import annotations

from batchembed.errors import JobError
from batchembed.exchange import Limits
from batchembed.providers.entries import Form, ProviderInfo
from batchembed.providers.presets import opening
from batchembed.providers.presets.hosted import CAREFUL
from batchembed.spec import Spec

_TAKES = frozenset({"dimensions", "normalize", "base_url", "prefixes"})
_TEI_LIMITS = Limits(texts_per_request=32, bytes_per_request=1_000_000, most_open=16)


def _described_limits(spec: Spec) -> Limits:
    """Return what one request may hold; where the job does not say it, a careful number."""
    api = spec.http
    if api is None:
        return CAREFUL
    return Limits(
        texts_per_request=api.texts_per_request or CAREFUL.texts_per_request if api.many else 1,
        tokens_per_request=api.tokens_per_request,
        tokens_per_text=api.tokens_per_text,
        careful=api.many and api.texts_per_request is None,
    )


def _check_described(spec: Spec) -> None:
    """Raise JobError for an API that is not described, or a length it cannot be asked for."""
    if spec.http is None:
        raise JobError(
            "`http` needs to know the API", hint="describe it in [model.http]: docs/job-file.md"
        )
    if spec.dimensions is not None and '"{dimensions}"' not in spec.http.body:
        raise JobError(
            f"dimensions `{spec.dimensions}` cannot be had: the body under [model.http] has no "
            "field for it",
            hint='give the field the value "{dimensions}", or leave `dimensions` out',
        )


VLLM = ProviderInfo(
    name="vllm",
    title="vLLM",
    dialect=opening.openai,
    base_url="http://localhost:8000/v1",
    takes=_TAKES,
    limits=Limits(texts_per_request=128, careful=True),
    key_variable="VLLM_API_KEY",
    key_needed=False,
    own_host_only=False,
    form=Form(report="models"),
    note="dimensions only for models trained for it; too long texts are refused",
)

TEI = ProviderInfo(
    name="tei",
    title="text-embeddings-inference, native route",
    dialect=opening.tei,
    base_url="http://localhost:3000",
    takes=_TAKES | {"prompts"},
    limits=_TEI_LIMITS,
    key_variable="TEI_API_KEY",
    key_needed=False,
    own_host_only=False,
    form=Form(path="embed", report="tei"),
    note="says its limits itself; too long texts are refused, whatever it was started with",
)

TEI_OPENAI = ProviderInfo(
    name="tei-openai",
    title="text-embeddings-inference, OpenAI route",
    cuts=True,
    dialect=opening.openai,
    base_url="http://localhost:3000",
    takes=_TAKES,
    limits=_TEI_LIMITS,
    key_variable="TEI_API_KEY",
    key_needed=False,
    own_host_only=False,
    form=Form(path="v1/embeddings", report="tei-openai"),
    note="this route cuts long texts where the server was started so; `tei` does not",
)

INFINITY = ProviderInfo(
    name="infinity",
    title="Infinity",
    cuts=True,
    dialect=opening.openai,
    base_url="http://localhost:7997",
    takes=_TAKES,
    limits=Limits(texts_per_request=256, careful=True),
    key_variable="INFINITY_API_KEY",
    key_needed=False,
    own_host_only=False,
    form=Form(report="models"),
    note="no /v1 unless started with --url-prefix; strips texts, cuts long ones, bills characters",
)

OLLAMA = ProviderInfo(
    name="ollama",
    title="Ollama, native route",
    dialect=opening.ollama,
    base_url="http://localhost:11434",
    takes=_TAKES,
    limits=Limits(texts_per_request=32, concurrency=4, careful=True),
    key_variable="OLLAMA_API_KEY",
    key_needed=False,
    own_host_only=False,
    form=Form(path="api/embed", report="ollama"),
    note="too long texts are refused; vectors have length 1",
)

OLLAMA_OPENAI = ProviderInfo(
    name="ollama-openai",
    title="Ollama, OpenAI route",
    cuts=True,
    dialect=opening.openai,
    base_url="http://localhost:11434",
    takes=_TAKES,
    limits=OLLAMA.limits,
    key_variable="OLLAMA_API_KEY",
    key_needed=False,
    own_host_only=False,
    form=Form(path="v1/embeddings", report="ollama"),
    note="this route cuts long texts without a word; `ollama` does not",
)

LM_STUDIO = ProviderInfo(
    name="lm-studio",
    title="LM Studio",
    cuts=True,
    dialect=opening.openai,
    base_url="http://localhost:1234/v1",
    takes=_TAKES - {"dimensions"},
    limits=Limits(texts_per_request=32, concurrency=4, careful=True),
    key_variable=None,
    key_needed=False,
    own_host_only=False,
    form=Form(sends={"encoding_format": "float"}, report="models"),
    note="has no switch against cutting long texts",
)

HTTP = ProviderInfo(
    name="http",
    title="any HTTP API that a job describes by JSON paths",
    dialect=opening.described,
    takes=_TAKES | {"http"},
    bounds=_described_limits,
    check=_check_described,
    key_variable=None,
    key_needed=False,
    own_host_only=False,
    form=Form(path=""),
    note="describe it in [model.http]; name its key's variable in access.key_env",
)

PROVIDERS = (VLLM, TEI, TEI_OPENAI, INFINITY, OLLAMA, OLLAMA_OPENAI, LM_STUDIO, HTTP)
