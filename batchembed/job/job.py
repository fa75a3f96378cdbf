"""A job: all settings of a run, checked and frozen, and what the rest of the program asks of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import ConfigDict, Field

from batchembed import providers
from batchembed.controls import Pattern
from batchembed.exchange import Role
from batchembed.job import writing
from batchembed.job.allowed import RoleColumn
from batchembed.job.settings import (
    Access,
    Corpus,
    Limits,
    Metrics,
    Model,
    Output,
    Price,
    Similarity,
)
from batchembed.spec import Spec

if TYPE_CHECKING:
    from batchembed.corpus import CorpusSettings  # polars is slow to import: not before it is used


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to embed, with what, within which limits, and where to.

    The fields are the tables of a job file; only [corpus] has another name here, `table`,
    because `corpus` is what it means to the reader of the corpus.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    table: Annotated[Corpus, Field(alias="corpus")]
    model: Model
    output: Output
    limits: Limits = field(default_factory=Limits)
    similarity: Similarity | None = None
    price: Price = field(default_factory=Price)
    access: Access = field(default_factory=Access)
    metrics: Metrics = field(default_factory=Metrics)

    @property
    def corpus(self) -> CorpusSettings:
        """What the corpus reader needs to know."""
        from batchembed.corpus import CorpusSettings

        table, role = self.table, self.role
        return CorpusSettings(
            path=table.path,
            text=table.text,
            template=table.template,
            id=table.id,
            keep=None if table.keep == "all" else table.keep,
            controls=table.controls,
            role=role.column if isinstance(role, RoleColumn) else None,
            encoding=table.encoding,
            delimiter=table.delimiter,
            quote=table.quote,
            image=table.image,
            tokens=table.tokens,
            prompt=table.prompt,
        )

    @property
    def role(self) -> Role | RoleColumn:
        """The role of every text, or the column that says it row by row."""
        return self.model.representation

    @property
    def patterns(self) -> tuple[Pattern, ...]:
        """The attention controls by pattern."""
        return tuple(control.pattern for control in self.model.controls)

    @property
    def pieces(self) -> tuple[str, ...]:
        """The settings by which more than texts are embedded."""
        return tuple(n for n in ("image", "tokens", "prompt") if getattr(self.table, n) is not None)

    def spec(self) -> Spec:
        """Return everything that changes a vector, besides its text, role and controls.

        Name and address are the provider's own where the job has none. Raises JobError for a
        setting that the provider cannot honour.
        """
        model = self.model
        spec = Spec(
            provider=model.provider,
            name=model.name or "",
            base_url=model.base_url,
            dimensions=model.dimensions,
            normalize=model.normalize,
            on_long_text=model.on_long_text,
            endpoint=model.endpoint,
            instruction=None if isinstance(model.instruction, dict) else model.instruction,
            layers=model.layers,
            pooling=model.pooling,
            contextual_control_threshold=model.contextual_control_threshold,
            control_log_additive=model.control_log_additive,
            prefixes=tuple(sorted(model.prefixes.items())),
            prompts=tuple(sorted(model.prompts.items())),
            http=model.http.described if model.http is not None else None,
            instructions=tuple(sorted(model.instruction.items()))
            if isinstance(model.instruction, dict)
            else (),
        )
        return providers.defaults(spec)

    def to_toml(self) -> str:
        """Return the job file that gives this job again: every setting, no key of any kind."""
        return writing.toml(
            {
                "corpus": self.table,
                "model": self.model,
                "limits": self.limits,
                "output": self.output,
                "similarity": self.similarity,
                "price": self.price,
                "access": self.access,
                "metrics": self.metrics,
            }
        )
