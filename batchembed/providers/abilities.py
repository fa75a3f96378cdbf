"""What a provider cannot do is said before the first request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from batchembed.errors import JobError
from batchembed.exchange import ROLES, Role
from batchembed.providers.aleph_alpha import endpoints
from batchembed.providers.catalogue import STATIC_DIMENSIONS, STATIC_MODEL, info
from batchembed.spec import Spec

_ALEPH_ALPHA_ONLY = (
    "endpoint",
    "instruction",
    "instructions",
    "layers",
    "pooling",
    "contextual_control_threshold",
    "control_log_additive",
)


def defaults(spec: Spec) -> Spec:
    """Return `spec` with the provider's own name and address where it has none, and checked.

    Raises JobError for a setting that the provider cannot honour.
    """
    provider = info(spec.provider)
    address = spec.base_url.rstrip("/") if spec.base_url else provider.base_url
    filled = replace(spec, name=spec.name or provider.model, base_url=address)
    if filled.dimensions is not None and filled.dimensions < 1:
        raise JobError(f"dimensions `{filled.dimensions}` must be 1 or more", hint="leave it out")
    _check_prefixes(filled)
    if spec.provider == "aleph-alpha":
        endpoints.check(filled)
    else:
        _check_foreign(filled)
    if spec.provider == "local":
        _check_local(filled)
    _check_long_text(filled)
    return filled


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
    if spec.provider == "aleph-alpha":
        endpoints.check_wishes(spec, roles=roles, controls=controls, pieces=pieces)
        return
    if overlaps:
        raise JobError(
            f"`token_overlap` cannot be had from `{spec.provider}`",
            hint="leave it out of the controls, or use provider `aleph-alpha`",
        )
    for setting in pieces:
        raise JobError(
            f"`corpus.{setting}` cannot be had from `{spec.provider}`, which embeds texts",
            hint="leave it out, or use provider `aleph-alpha`",
        )
    if controls and (not provider.controls or not _is_embedded(spec)):
        raise JobError(
            f"attention controls cannot be had from `{spec.provider}` with `{spec.name}`",
            hint="they work with provider `aleph-alpha`, and with the embedded model of `local`",
        )
    if spec.provider == "openai":
        given = {role for role, _ in spec.prefixes}
        for role in sorted(set(roles) - given - {"symmetric"}):
            raise JobError(
                f"`openai` has no representation `{role}` of its own",
                hint=f'set the prefix that the model wants: prefixes = {{{role} = "…"}}',
            )


def _is_embedded(spec: Spec) -> bool:
    return spec.provider != "local" or spec.name in ("", STATIC_MODEL)


def _check_foreign(spec: Spec) -> None:
    told = spec.told()
    for setting in _ALEPH_ALPHA_ONLY:
        if setting in told:
            raise JobError(
                f"{setting} `{told[setting]}` is for `aleph-alpha`, not `{spec.provider}`",
                hint="leave it out",
            )


def _check_local(spec: Spec) -> None:
    if spec.base_url:
        raise JobError(
            f"base_url `{spec.base_url}` has no meaning for `local`",
            hint='for a server on this machine use provider = "openai"',
        )
    if not _is_embedded(spec):
        return
    if spec.dimensions is not None and spec.dimensions > STATIC_DIMENSIONS:
        raise JobError(
            f"dimensions `{spec.dimensions}` cannot be had from the embedded model",
            hint=f"set 1 to {STATIC_DIMENSIONS}, or leave it out",
        )
    if spec.prefixes:
        raise JobError("the embedded model has one space and no prefixes", hint="leave them out")
    if not spec.normalize:
        raise JobError(
            "normalize `false` cannot be had: the embedded model gives vectors of length 1",
            hint="leave it out",
        )


def _check_long_text(spec: Spec) -> None:
    if spec.on_long_text != "reject" and not (spec.provider == "local" and _is_embedded(spec)):
        raise JobError(
            f"on_long_text `{spec.on_long_text}` is not supported yet",
            hint="leave it at `reject`: texts that are too long are named in rejects.arrow",
        )


def _check_prefixes(spec: Spec) -> None:
    for role, _ in spec.prefixes:
        if role not in ROLES:
            raise JobError(
                f"prefix for `{role}`: there is no such representation",
                hint="known are: " + ", ".join(ROLES),
            )
