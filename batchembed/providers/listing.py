"""What `batchembed providers` tells of each provider: plain data, and never a key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from batchembed.exchange import ROLES, Limits
from batchembed.providers.catalogue import info, known
from batchembed.providers.entries import Model, ProviderInfo
from batchembed.spec import Spec


@dataclass(frozen=True, slots=True)
class ListedModel:
    """One model, or "" for all others: the length of its vectors, and those to be asked for.

    `sizes` has every length, or the least and the most of a range as "32 to 1024".
    """

    name: str
    dimensions: int | None
    sizes: list[int] | str | None
    tokens_per_text: int | None
    roles: list[str]


@dataclass(frozen=True, slots=True)
class Listed:
    """One provider. `lane` is its batch API, "" if none; `key_set`: the variable has something."""

    name: str
    title: str
    model: str
    models: list[ListedModel]
    base_url: str | None
    roles: str
    controls: bool
    images: bool
    lane: str
    limits: Limits
    key_variable: str | None
    key_needed: bool
    key_set: bool
    note: str


def listed(environ: Mapping[str, str], name: str | None = None) -> list[Listed]:
    """Return every provider, or the one of this name; raises JobError that names the nearest."""
    return [_listed(one, environ) for one in ([info(name)] if name else known())]


def _listed(found: ProviderInfo, environ: Mapping[str, str]) -> Listed:
    usual = found.model_of(found.model)
    spec = Spec(found.name, found.model, base_url=found.base_url)
    return Listed(
        name=found.name,
        title=found.title,
        model=found.model,
        models=[_model(found.model_of(one.name)) for one in found.models],
        base_url=found.base_url,
        roles=_roles(usual),
        controls=bool(usual.controls),
        images=found.images,
        lane=found.lane,
        limits=found.limits_of(spec),
        key_variable=found.key_variable,
        key_needed=found.key_needed,
        key_set=bool(environ.get(found.key_variable or "", "").strip()),
        note=found.note,
    )


def _model(model: Model) -> ListedModel:
    sizes = model.sizes
    told: list[int] | str | None = None if sizes is None else list(sizes)
    if isinstance(sizes, range):
        told = f"{sizes.start} to {sizes.stop - 1}"
    roles: list[str] = [
        role for role in ROLES if role in (model.roles or {}) or role in model.prefixes
    ]
    return ListedModel(model.name, model.dimensions, told, model.tokens_per_text, roles)


def _roles(model: Model) -> str:
    """Return in words how the roles of a job reach the model."""
    if model.roles and not any(model.roles.values()):
        return "one space for all"
    if model.roles:
        return ", ".join(role for role in ROLES if role in model.roles)
    if model.prefixes:
        return "by prefixes that are set"
    return "by your `prefixes`"
