"""What settings of a job must agree on with each other, checked on the settings as they came."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from batchembed import providers
from batchembed.errors import JobError
from batchembed.providers.access import checked


def disagreements(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the path of what is missing or in conflict, and one line about it.

    A setting that is wrong by itself is not looked at here: it has its own line.
    """
    tables = {
        name: {key: value for key, value in table.items() if value is not None}
        for name, table in settings.items()
        if isinstance(table, Mapping)
    }
    yield from _corpus(tables)
    yield from _model(tables)
    yield from _similarity(tables)
    if tables.get("price", {}).keys() >= {"per_million_tokens", "file"}:
        yield "price", "[price] takes `per_million_tokens` or `file`, not both"
    access = tables.get("access", {})
    if len(access.keys() & {"key_env", "key_file", "key_command"}) > 1:
        yield "access", "[access] takes only one of `key_env`, `key_file` and `key_command`"


def _corpus(tables: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    sources = {"text", "template", "image", "tokens", "prompt"}
    if "corpus" in tables and not tables["corpus"].keys() & sources:
        yield "corpus.text", "`corpus.text` is missing: the column to embed, or `corpus.template`"
    given = sources & tables.get("corpus", {}).keys()
    for alone in ("prompt", "tokens"):
        if alone in given and len(given) > 1:
            other = min(given - {alone})
            yield f"corpus.{alone}", f"[corpus] takes `{alone}` or `{other}`, not both"
            break
    if tables.get("corpus", {}).keys() >= {"text", "template"}:
        yield "corpus", "[corpus] takes `text` or `template`, not both"


def _model(tables: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    model, access = tables.get("model", {}), tables.get("access", {})
    provider, url = model.get("provider"), model.get("base_url")
    known: providers.ProviderInfo | None = None
    try:
        if isinstance(provider, str) and provider:
            known = providers.info(provider)
    except JobError as error:
        yield "model.provider", f"[model] {error.message}; {error.hint}"
    try:
        if isinstance(url, str) and url:
            checked(url, allow_insecure_http=access.get("allow_insecure_http") is True)
    except JobError as error:
        yield "model.base_url", f"[model] {error.message}; {error.hint}"
    if access.get("lane") == "batch" and known is not None and known.jobs is None:
        has = ", ".join(one.name for one in providers.known() if one.jobs is not None)
        yield (
            "access.lane",
            f"`access.lane`: `{provider}` has no batch lane; these have: {has}",
        )
    ours, theirs = model.get("hosting"), access.get("hosting")
    if ours and theirs and ours != theirs:
        yield "model.hosting", "`model.hosting` and `access.hosting` differ; one of them is enough"


def _similarity(tables: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    table = tables.get("similarity")
    if table is None:
        return
    ways = table.keys() & {"top_k", "min_score"} | ({"dense"} if table.get("dense") else set())
    if len(ways) != 1:
        yield (
            "similarity.top_k",
            "[similarity] takes one of `top_k`, `min_score` and `dense = true`",
        )
    score = table.get("min_score")
    cosine = table.get("metric", "cosine") == "cosine"
    if cosine and isinstance(score, int | float) and abs(score) > 1:
        why = "a cosine lies between -1 and 1"
        yield "similarity.min_score", f"`similarity.min_score` is `{score:g}`: {why}"
