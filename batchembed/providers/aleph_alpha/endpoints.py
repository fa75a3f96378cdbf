"""Aleph Alpha's endpoints: what each of them can, and which one a spec is for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from batchembed.errors import JobError
from batchembed.exchange import Role
from batchembed.spec import Spec

MOST_TEXTS = 100
COMPRESSED = 128
_SEMANTIC = "`batch_semantic_embed` or `semantic_embed`"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What one endpoint takes: `texts` a request, roles, attention controls, `dimensions`.

    `items` says whether a prompt may be of several items, and hold images.
    """

    name: str
    texts: int
    roles: bool = False
    controls: bool = True
    items: bool = True
    dimensions: str = ""


SINGLE = Endpoint("semantic_embed", 1, roles=True, dimensions="128")
BATCH = Endpoint("batch_semantic_embed", MOST_TEXTS, roles=True, dimensions="128")
EMBED = Endpoint("embed", 1)
INSTRUCTABLE = Endpoint("instructable_embed", 1)
COMPATIBLE = Endpoint("embeddings", MOST_TEXTS, controls=False, items=False, dimensions="any")
ENDPOINTS = {each.name: each for each in (BATCH, SINGLE, EMBED, INSTRUCTABLE, COMPATIBLE)}
# Which endpoint each of these settings is for.
_OWNERS = {
    "layers": EMBED,
    "pooling": EMBED,
    "instruction": INSTRUCTABLE,
    "instructions": INSTRUCTABLE,
}


def endpoint(spec: Spec) -> Endpoint:
    """Return the endpoint that `spec` names; for `auto`, the one that its settings are for."""
    if spec.endpoint != "auto":
        return ENDPOINTS[spec.endpoint]
    return next((owner for name, owner in _OWNERS.items() if name in spec.told()), BATCH)


def check(spec: Spec) -> None:
    """Raise JobError for a setting that the endpoint cannot honour, or one that it needs."""
    if spec.endpoint not in {"auto", *ENDPOINTS}:
        raise JobError(
            f"endpoint `{spec.endpoint}` is not known",
            hint="known are: " + ", ".join(("auto", *sorted(ENDPOINTS))),
        )
    own = endpoint(spec)
    _check_owned(spec, own)
    _check_needed(spec, own)
    _check_dimensions(spec, own)
    if not own.controls:
        for setting in ("contextual_control_threshold", "control_log_additive"):
            if setting in spec.told():
                raise _meaningless(spec, setting, own, "it has no attention controls: leave it out")


def check_wishes(
    spec: Spec, *, roles: Iterable[Role] = (), controls: bool = False, pieces: Iterable[str] = ()
) -> None:
    """Raise JobError if the endpoint has no such roles, controls, or pieces of prompts."""
    own = endpoint(spec)
    for role in sorted(set(roles)):
        _check_role(spec, role, own)
    if controls and not own.controls:
        raise JobError(
            f"endpoint `{own.name}` has no attention controls",
            hint=f"leave them out, or use {_SEMANTIC}",
        )
    foreign = sorted(set(pieces) - {"tokens"})
    if foreign and not own.items:
        raise JobError(
            f"endpoint `{own.name}` takes texts or token ids, no `corpus.{foreign[0]}`",
            hint=f"use {_SEMANTIC}, which take texts, images and token ids",
        )


def _check_role(spec: Spec, role: Role, own: Endpoint) -> None:
    if own.roles:
        return
    if own is INSTRUCTABLE and spec.instructions:
        if role in dict(spec.instructions):
            return
        raise JobError(
            f"there is no instruction for representation `{role}`",
            hint=f'say what these texts are for: instruction = {{ {role} = "…" }}',
        )
    if role != "symmetric":
        instead = f"use {_SEMANTIC}"
        if own is INSTRUCTABLE:
            instead = f'give each role its instruction: instruction = {{ {role} = "…" }}'
        raise JobError(f"endpoint `{own.name}` has no representation `{role}`", hint=instead)


def _check_owned(spec: Spec, own: Endpoint) -> None:
    for setting, owner in _OWNERS.items():
        if setting in spec.told() and owner is not own:
            raise _meaningless(
                spec, setting, own, f'set endpoint = "{owner.name}", or leave it out'
            )


def _check_needed(spec: Spec, own: Endpoint) -> None:
    if own is INSTRUCTABLE and spec.instruction is None and not spec.instructions:
        raise JobError(
            "endpoint `instructable_embed` needs an `instruction`",
            hint='say what the vectors are for: instruction = "…"; it may be empty',
        )
    if own is not EMBED:
        return
    for setting, such_as in (("layers", "[-1]"), ("pooling", '["mean"]')):
        found = getattr(spec, setting)
        if not found:
            raise JobError(
                f"endpoint `embed` needs `{setting}`", hint=f"such as {setting} = {such_as}"
            )
        twice = [each for each in found if found.count(each) > 1]
        if twice:
            raise JobError(f"{setting} lists `{twice[0]}` twice", hint="list each one once")


def _check_dimensions(spec: Spec, own: Endpoint) -> None:
    if spec.dimensions is None or own.dimensions == "any":
        return
    if not own.dimensions:
        raise _meaningless(
            spec, "dimensions", own, f"leave it out, or have vectors compressed by {_SEMANTIC}"
        )
    if spec.dimensions != COMPRESSED:
        raise JobError(
            f"dimensions `{spec.dimensions}` cannot be had from Aleph Alpha",
            hint="set 128 to have vectors compressed, or leave it out for the model's own size",
        )


def _meaningless(spec: Spec, setting: str, own: Endpoint, mend: str) -> JobError:
    told = getattr(spec, setting)
    shown = list(told) if isinstance(told, tuple) else told
    name = "instruction" if setting == "instructions" else setting
    return JobError(f"{name} `{shown}` has no meaning at `{own.name}`", hint=mend)
