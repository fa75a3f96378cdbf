"""What a provider cannot do is said before the first request."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from batchembed.errors import JobError
from batchembed.exchange import ROLES, Role
from batchembed.providers.catalogue import info
from batchembed.providers.entries import Model, ProviderInfo
from batchembed.spec import Spec

# What to do about a setting that a provider does not take; all others are best left out.
_HINTS = {
    "http": 'leave it out, or set provider = "http"',
    "base_url": 'for a server of your own name its kind, such as provider = "vllm"',
    "prefixes": "leave them out: set `representation`, which it knows itself",
    "prompts": "give the words themselves as `prefixes`",
    "normalize": "leave it out: its vectors have length 1",
}
_REFUSING = {"tei-openai": "tei", "ollama-openai": "ollama"}  # the same server, another route
_NAMES = {"instructions": "instruction"}  # as the job file has it


def defaults(spec: Spec) -> Spec:
    """Return `spec` with the provider's own name, address and prefixes where it has none, checked.

    Raises JobError for a setting that the provider cannot honour.
    """
    provider = info(spec.provider)
    address = spec.base_url.rstrip("/") if spec.base_url else provider.base_url
    filled = replace(spec, name=spec.name or provider.model, base_url=address)
    model = provider.model_of(filled.name)
    for setting, value in filled.told().items():
        if setting not in (model.takes or ()) and not _is_given(setting, value, provider):
            raise JobError(
                f"{_NAMES.get(setting, setting)} `{_shown(value)}` cannot be had from "
                f"{_who(filled, model)}",
                hint=_HINTS.get(setting, "leave it out"),
            )
    _check_long_texts(filled, provider)
    _check_address(filled, provider)
    _check_dimensions(filled, model)
    for setting in ("prefixes", "prompts"):
        _check_roles_of(setting, getattr(filled, setting))
    if provider.check is not None:
        provider.check(filled)
    return replace(filled, prefixes=_prefixes(filled, model))


def check(
    spec: Spec,
    *,
    roles: Iterable[Role] = (),
    controls: bool = False,
    pieces: Iterable[str] = (),
    overlaps: bool = False,
) -> None:
    """Raise JobError if the provider cannot tell `roles` apart, or knows no `controls`.

    `pieces` are the settings under [corpus] by which more than texts are embedded; `overlaps`:
    a control says `token_overlap`.
    """
    provider = info(spec.provider)
    if provider.wishes is not None:
        provider.wishes(spec, roles, controls, pieces)
        return
    if overlaps:
        raise JobError(
            f"`token_overlap` cannot be had from `{spec.provider}`",
            hint="leave it out of the controls, or use provider `aleph-alpha`",
        )
    model = provider.model_of(spec.name or provider.model)
    for setting in sorted(set(pieces) - model.pieces):
        able = [one.name for one in provider.models if setting in one.pieces]
        other = f", or name the model `{able[0]}`" if able else ""
        raise JobError(
            f"`corpus.{setting}` cannot be had from {_who(spec, model)}"
            + ("" if model.pieces else ", which embeds texts"),
            hint=f"leave it out{other}, or use provider `aleph-alpha`",
        )
    own: set[str] = set(dict(spec.http.roles) if spec.http else model.roles or ())
    if controls and not model.controls:
        raise JobError(
            f"attention controls cannot be had from `{spec.provider}` with `{spec.name}`",
            hint="they work with provider `aleph-alpha`, and with the embedded model of `local`",
        )
    own = own or {"symmetric"}
    given = own | set(model.prefixes) | {role for role, _ in (*spec.prefixes, *spec.prompts)}
    for role in sorted(set(roles) - given):
        raise JobError(
            f"{_who(spec, model)} has no representation `{role}` of its own",
            hint=f'set the prefix that the model wants, "" if none: prefixes = {{{role} = "…"}}'
            if "prefixes" in (model.takes or ())
            else "it has: " + ", ".join(role for role in ROLES if role in own),
        )


def _prefixes(spec: Spec, model: Model) -> tuple[tuple[str, str], ...]:
    """Return the prefixes that hold: the model's own, and before them those of the spec.

    An empty one is no prefix, and said only where it takes the place of the model's own.
    """
    own: dict[str, str] = dict(model.prefixes.items())
    merged = own | dict(spec.prefixes)
    return tuple(sorted((r, text) for r, text in merged.items() if text or r in own))


def _is_given(setting: str, value: object, provider: ProviderInfo) -> bool:
    """Return whether a setting says who is asked, or what the provider is anyway."""
    ours = ("provider", "name", "on_long_text")
    return setting in ours or (setting, value) == ("base_url", provider.base_url)


def _check_long_texts(spec: Spec, provider: ProviderInfo) -> None:
    """Raise JobError where texts could be cut by the server, and nobody would know which."""
    if provider.cuts and spec.on_long_text != "reject":
        raise JobError(
            f"on_long_text `{spec.on_long_text}` cannot be had from `{spec.provider}`: it may cut "
            "long texts itself, without a word",
            hint="keep texts within what the model reads"
            + (f", or use provider `{other}`" if (other := _REFUSING.get(spec.provider)) else ""),
        )


def _check_address(spec: Spec, provider: ProviderInfo) -> None:
    if provider.dialect is None:
        return
    if not spec.base_url:
        raise JobError(
            f"`{spec.provider}` needs to know its address", hint=provider.note or "set `base_url`"
        )
    if not spec.name:
        raise JobError(
            f"`{spec.provider}` needs to know the model",
            hint="set `name` under [model] to what the provider calls it",
        )
    route = provider.form.path.replace("/{model}", "")
    for added in (route, route.rpartition("/")[0]):
        if added not in ("", "embed") and spec.base_url.endswith(f"/{added}"):
            raise JobError(
                f"base_url `{spec.base_url}` ends in `/{added}`, which is added anyway",
                hint=f'base_url = "{spec.base_url.removesuffix(added)[:-1]}"',
            )


def _check_dimensions(spec: Spec, model: Model) -> None:
    wanted = spec.dimensions
    if wanted is None:
        return
    if wanted < 1:
        raise JobError(f"dimensions `{wanted}` must be 1 or more", hint="leave it out")
    if model.sizes is not None and wanted not in model.sizes:
        own = "leave it out for the model's own"
        some = _sizes(model.sizes)
        raise JobError(
            f"dimensions `{wanted}` cannot be had from {_who(spec, model)}",
            hint=f"set {some}, or {own}" if some else own,
        )


def _check_roles_of(setting: str, pairs: Iterable[tuple[str, str]]) -> None:
    for role, _ in pairs:
        if role not in ROLES:
            raise JobError(
                f"{setting} for `{role}`: there is no such representation",
                hint="known are: " + ", ".join(ROLES),
            )


def _sizes(sizes: Collection[int]) -> str:
    if isinstance(sizes, range):
        return f"{sizes.start} to {sizes.stop - 1}"
    return ", ".join(map(str, sizes))


def _shown(value: Any) -> object:
    if isinstance(value, dict):
        return "…"
    pairs = isinstance(value, tuple) and all(isinstance(one, tuple) for one in value)
    return dict(value) if pairs else value


def _who(spec: Spec, model: Model) -> str:
    return f"`{spec.provider}`" + (f" with `{spec.name}`" if model.name else "")
