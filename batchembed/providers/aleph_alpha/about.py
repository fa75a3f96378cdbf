"""What Aleph Alpha's servers say of their models before a run, and the tokenizer of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import orjson

from batchembed.exchange import About, Call, Fatal, Inquiry
from batchembed.providers.aleph_alpha.endpoints import EMBED, INSTRUCTABLE, endpoint
from batchembed.spec import Spec

SETTINGS = Inquiry(Call("model-settings", b"", method="GET"))
MOST_TOKENIZER = 64 << 20
_SHOWN = 8


def tokenizer(spec: Spec) -> Inquiry:
    """Return the question for the tokenizer of the model, a file of the tokenizers library."""
    path = f"models/{quote(spec.name, safe='')}/tokenizer"
    return Inquiry(Call(path, b"", method="GET"), MOST_TOKENIZER)


def learn(known: About, inquiry: Inquiry, spec: Spec, *, status: int, body: bytes) -> About:
    """Return what is known with an answer; `known` itself where it says nothing of use.

    Raises ValueError for an answer that is no JSON.
    """
    if status != HTTPStatus.OK:
        return known
    if inquiry != SETTINGS:
        return replace(known, tokenizer=body)
    told = orjson.loads(body)
    models = [each for each in told if isinstance(each, dict)] if isinstance(told, list) else []
    mine = next((each for each in models if each.get("name") == spec.name), None)
    if mine is None:
        return _noted(known, f"the server lists no model `{spec.name}`") if models else known
    return _learnt(known, spec, mine, models)


def _learnt(known: About, spec: Spec, mine: Mapping[str, Any], models: list[Any]) -> About:
    context, images = mine.get("max_context_size"), mine.get("multimodal")
    if type(context) is int and context > 0:
        known = replace(known, limits=replace(known.limits, tokens_per_text=context))
    if isinstance(images, bool):
        known = replace(known, images=images)
    if mine.get("status") == "unavailable":
        known = _noted(known, f"the server says that `{spec.name}` is not available now")
    if _embeds(mine, spec) is False:
        others = [str(m.get("name")) for m in models if _embeds(m, spec)][:_SHOWN]
        hint = f"those that do: {', '.join(others)}" if others else "name another model"
        own = endpoint(spec).name
        reason = f"the server says that `{spec.name}` makes no vectors at `{own}`"
        known = replace(known, end=Fatal(reason, hint=hint))
    return known


def _embeds(model: Mapping[str, Any], spec: Spec) -> bool | None:
    """Return whether a model embeds as `spec` wants it; None where the server does not say.

    A kind of embedding that is not the one asked for is no proof: `embedding_type` names one, and
    models may have several.
    """
    kind, semantic = model.get("embedding_type"), model.get("semantic_embedding")
    if kind == "none":
        return False
    if endpoint(spec) in (EMBED, INSTRUCTABLE):
        return True if isinstance(kind, str) else None
    if isinstance(semantic, bool):
        return semantic or kind == "semantic"
    return True if isinstance(kind, str) else None


def _noted(known: About, note: str) -> About:
    return replace(known, notes=(*known.notes, note))
