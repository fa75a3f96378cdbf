"""A job from a TOML file or a dict: overridden, checked as a whole, and frozen."""

from __future__ import annotations

import copy
import datetime as dt
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from batchembed import providers
from batchembed.errors import JobError
from batchembed.exchange import ROLES
from batchembed.job import agreement, mistakes, quantities, secrets, writing
from batchembed.job.allowed import RoleColumn
from batchembed.job.job import Job
from batchembed.spec import Spec


def load(path: str | Path, *, overrides: Sequence[str] = (), out: str | None = None) -> Job:
    """Return the job of a TOML file. The environment is not looked at.

    `overrides` are `table.key=value`, the value written as in TOML; a bare word is a text.
    `out` takes the place of `output.path`. Raises JobError that lists every mistake.
    """
    settings = _parsed(Path(path))
    for override in overrides:
        _override(settings, override)
    if out is not None:
        _put(settings, ["output", "path"], out)
    return from_dict(settings, where=str(path))


def from_dict(settings: Mapping[str, Any], *, where: str, overrides: Sequence[str] = ()) -> Job:
    """Return the job of tables of settings, as a TOML file would hold them.

    `where` says in error messages where they come from; `overrides` are as for `load`. Raises
    JobError that lists every mistake.
    """
    if not isinstance(settings, Mapping):
        raise JobError(f"{where}: a job is a table of tables, not a {type(settings).__name__}")
    if overrides:
        changed = copy.deepcopy(dict(settings))
        for override in overrides:
            _override(changed, override)
        settings = changed
    errors: list[ErrorDetails] = []
    try:
        secrets.refuse_keys(settings, where=where)
        job = _adapter().validate_python(dict(settings))
    except ValidationError as found:
        errors = found.errors(include_url=False)
    except RecursionError:
        raise mistakes.refusal(["tables or lists are nested too deeply"], where=where) from None
    if lines := mistakes.lines(errors, agreement.disagreements(settings)):
        raise mistakes.refusal(lines, where=where)
    return _settled(job, where)


def job_of(corpus: Sequence[str], out: str, told: Mapping[str, Any]) -> Job:
    """Return the job that the options of a command describe; those that are None are not given."""
    tables: dict[str, dict[str, Any]] = {
        "corpus": {"path": list(corpus)} | {name: told[name] for name in ("text", "template")},
        "model": {name: told[name] for name in ("provider", "dimensions", "base_url")},
        "output": {"path": out},
    }
    tables["corpus"]["id"] = told["id_"]
    tables["model"] |= {"name": told["model"], "representation": told["representation"]}
    given = {
        name: {key: value for key, value in table.items() if value is not None}
        for name, table in tables.items()
    }
    return from_dict(given, where="the command", overrides=told["overrides"])


@cache
def _adapter() -> TypeAdapter[Job]:
    return TypeAdapter(Job)


def schema() -> dict[str, Any]:
    """Return the JSON schema of a job file, by which editors complete and check it."""
    found = _adapter().json_schema(mode="validation")
    for table in found["$defs"].values():
        for name, told in table.get("properties", {}).items():
            if name in writing.DURATIONS and told["default"] is not None:
                told["default"] = quantities.duration(told["default"])
    return found


def _settled(job: Job, where: str) -> Job:
    """Return the job with the model's name, and what changes no vector moved to [access].

    Raises JobError for what the provider cannot do.
    """
    model, access, controlled = job.model, job.access, job.patterns or job.table.controls
    try:
        spec = job.spec()
        asked = ROLES if isinstance(job.role, RoleColumn) else (job.role,)
        roles = [role for role in asked if role not in model.prefixes]  # "" says that none is due
        overlaps = any(pattern.overlap for pattern in job.patterns)
        providers.check(
            spec,
            roles=roles,
            controls=bool(controlled),
            pieces=job.pieces,
            overlaps=overlaps,
        )
        _check_lane(job, spec)
    except JobError as error:
        raise JobError(f"{where}: [model] {error.message}", hint=error.hint) from None
    nice, hosting = bool(model.nice) or access.nice, model.hosting or access.hosting
    return replace(
        job,
        model=replace(model, name=spec.name, nice=None, hosting=None),
        access=replace(access, nice=nice, hosting=hosting),
    )


def _check_lane(job: Job, spec: Spec) -> None:
    """Raise JobError where the provider has a batch lane, and not for this."""
    if job.access.lane != "batch":
        return
    online = 'leave `access.lane` at "online"'
    if not providers.info(spec.provider).model_of(spec.name).lane:
        raise JobError(f"`{spec.name}` has no batch lane", hint=online)
    if job.pieces:
        raise JobError(f"the batch lane takes texts, no `corpus.{job.pieces[0]}`", hint=online)


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        near = mistakes.nearest(path.name, (p.name for p in path.parent.glob("*.toml")))
        hint = f"did you mean {path.parent / near}?" if near else "give the path of a job file"
        raise JobError(f"there is no job file `{path}`", hint=hint) from None
    except UnicodeDecodeError:
        raise JobError(f"`{path}` is not UTF-8", hint="save it as UTF-8 text") from None
    except OSError as error:
        raise JobError(f"`{path}` cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else error
        raise JobError(
            f"`{path}` is not TOML: {why}", hint='texts stand in quotes: text = "body"'
        ) from None


def _override(settings: dict[str, Any], override: str) -> None:
    """Put one `table.key=value` into `settings`."""
    name, equals, text = override.partition("=")
    path = [step.strip() for step in name.split(".")]
    said = "…" if secrets.looks_like_key(override) else mistakes.dotted(path)
    if not equals or len(path) < 2 or not all(path):  # noqa: PLR2004 (a table and a key)
        raise JobError(
            f"`--set {said}` is not an override",
            hint="--set table.key=value, such as --set limits.max_cost=5",
        )
    _put(settings, path, _read(said, text.strip()))


def _read(name: str, text: str) -> Any:
    """Return a value as TOML reads it, or a bare word as the text it is."""
    try:
        found = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        found = {}
        if text[:1] in ('"', "'", "[", "{"):
            raise JobError(
                f"`--set {name}` has a value that TOML cannot read",
                hint=f"quotes and brackets need their other half: --set '{name}=\"…\"'",
            ) from None
    value = found.get("value", text)
    bare = found.keys() != {"value"} or isinstance(value, dt.date | dt.time)
    return text if bare else value


def _put(settings: dict[str, Any], path: Sequence[str], value: Any) -> None:
    table = settings
    for depth, step in enumerate(path[:-1], 1):
        inner = table.setdefault(step, {})
        if not isinstance(inner, dict):
            raise JobError(
                f"`{mistakes.dotted(path[:depth])}` is not a table: nothing can be set in it"
            )
        table = inner
    table[path[-1]] = value
