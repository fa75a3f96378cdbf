"""What servers of one's own say of themselves: how each is asked, and what its answer means."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from batchembed.exchange import About, Call, Fatal, Inquiry
from batchembed.spec import Spec

CUTS = "the server cuts long texts without a word on this route; provider `tei` has it refuse them"


def inquiries(kind: str, spec: Spec) -> Sequence[Inquiry]:
    """Return what a server is asked, by the kind of its report; nothing where it is ""."""
    if kind == "models":
        return [Inquiry(Call("models", b"", "GET"))]
    if kind in ("tei", "tei-openai"):
        return [Inquiry(Call("info", b"", "GET"))]
    if kind == "ollama":
        asked = json.dumps({"model": spec.name}).encode()
        return [Inquiry(Call("api/show", asked), most=64 * 1024 * 1024)]
    return []


def learn(
    kind: str, spec: Spec, known: About, inquiry: Inquiry, *, status: int, body: bytes
) -> About:
    """Return what is known with this answer; `known` where it says nothing of use."""
    if kind == "ollama" and status == HTTPStatus.NOT_FOUND and inquiry.call.method == "POST":
        hint = f"ollama pull {spec.name}"
        return replace(known, end=Fatal(f"the server has no model `{spec.name}`", hint=hint))
    if status != HTTPStatus.OK:
        return known
    told = json.loads(body)
    if not isinstance(told, dict):
        return known
    return _READERS[kind](told, spec, known)


def _models(told: dict[str, Any], spec: Spec, known: About) -> About:
    """Read a list of models, as vLLM, Infinity and LM Studio give it."""
    served = {str(one["id"]): one for one in told["data"] if isinstance(one, dict)}
    if not served:
        return known
    if spec.name not in served:
        return replace(known, end=_other_model(spec, served))
    one = served[spec.name]
    able = one.get("capabilities")
    if isinstance(able, list) and able and "embed" not in able:
        why = f"the server does not embed with `{spec.name}`: it can {', '.join(map(str, able))}"
        return replace(known, end=Fatal(why, hint="name a model that makes embeddings"))
    most = _count(one.get("max_model_len"))
    limits = replace(known.limits, tokens_per_text=most or known.limits.tokens_per_text)
    return replace(known, model=spec.name, limits=limits)


def _tei(told: dict[str, Any], spec: Spec, known: About) -> About:
    """Read what text-embeddings-inference says at /info; it takes one permit for each text."""
    names = [str(told[name]) for name in ("served_model_name", "model_id") if told.get(name)]
    if names and spec.name not in {
        *names,
        *(name.rstrip("/").rpartition("/")[2] for name in names),
    }:
        return replace(known, end=_other_model(spec, names))
    kind = told.get("model_type")
    if isinstance(kind, dict) and kind and "embedding" not in kind:
        why = f"the server does not embed: its model is for {', '.join(kind)}"
        return replace(known, end=Fatal(why, hint="start one with an embedding model"))
    limits = known.limits
    texts = _count(told.get("max_client_batch_size")) or limits.texts_per_request
    permits = _count(told.get("max_concurrent_requests"))
    most_open = max(1, permits // texts) if permits else limits.most_open
    limits = replace(
        limits,
        texts_per_request=texts,
        tokens_per_text=_count(told.get("max_input_length")) or limits.tokens_per_text,
        concurrency=min(limits.concurrency, most_open),
        most_open=most_open,
    )
    version = f"text-embeddings-inference {told.get('version') or ''}".strip()
    return replace(known, limits=limits, model=names[0] if names else "", version=version)


def _tei_openai(told: dict[str, Any], spec: Spec, known: About) -> About:
    """Read the same for the route on which no request can say that nothing is to be cut."""
    found = _tei(told, spec, known)
    return replace(found, notes=(CUTS,)) if told.get("auto_truncate") is True else found


def _ollama(told: dict[str, Any], spec: Spec, known: About) -> About:
    """Read what Ollama shows of a model: its context, and whether it embeds at all."""
    able = told.get("capabilities")
    if isinstance(able, list) and able and "embedding" not in able:
        why = f"Ollama does not embed with `{spec.name}`: it can {', '.join(map(str, able))}"
        return replace(known, end=Fatal(why, hint="ollama pull nomic-embed-text, say"))
    about = told.get("model_info")
    found = about.items() if isinstance(about, Mapping) else ()
    most = next((_count(n) for name, n in found if str(name).endswith(".context_length")), None)
    limits = replace(known.limits, tokens_per_text=most or known.limits.tokens_per_text)
    return replace(known, model=spec.name, limits=limits)


def _other_model(spec: Spec, served: Sequence[str] | Mapping[str, Any]) -> Fatal:
    some = ", ".join(f"`{name}`" for name in list(served)[:5])
    return Fatal(
        f"the server does not have the model `{spec.name}`; it serves {some}",
        hint="set `name` under [model] to what the server calls its model",
    )


def _count(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None


_READERS = {"models": _models, "tei": _tei, "tei-openai": _tei_openai, "ollama": _ollama}
