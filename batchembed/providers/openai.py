"""The embeddings API of OpenAI and of the many hosts that speak it, each with its differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson

from batchembed.exchange import About, Call, Inquiry, Limits, Outcome, Request
from batchembed.providers import parsing, reports
from batchembed.providers.answers import Answer, Reading, judged, prefixed
from batchembed.providers.entries import Form, Model
from batchembed.spec import Spec

PLAIN = Form()
ANY_MODEL = Model()


@dataclass(frozen=True, slots=True)
class OpenAI:
    """The dialect of `/embeddings`: base64 is asked for where it is known, numbers are taken too.

    Where the host knows roles, `model` has its words for them and `form` the field they go into.
    Else the spec's prefix for the request's role goes before each text.
    """

    spec: Spec
    limits: Limits
    model: Model = ANY_MODEL
    form: Form = PLAIN

    def build(self, request: Request) -> Call:
        """Return the call for `request`."""
        spec, form = self.spec, self.form
        body: dict[str, Any] = {"input": prefixed(spec, request), "model": spec.name}
        if spec.dimensions is not None:
            body[form.dimensions] = spec.dimensions
        role = self.model.roles.get(request.role) if self.model.roles else None
        if form.role and role is not None:
            body[form.role] = role
        if form.normalize:
            body[form.normalize] = spec.normalize
        path = form.path.replace("{model}", quote(spec.name, safe=""))
        return Call(path=path, body=orjson.dumps({**body, **form.sends}), query=form.query)

    def parse(
        self, request: Request, *, status: int, headers: Mapping[str, str], body: bytes
    ) -> Outcome:
        """Return what the answer means; `index` is the order of the texts."""
        answer = Answer(request, status, headers, body)
        return judged(answer, self._read, dimensions=self.spec.dimensions)

    def inquiries(self) -> Sequence[Inquiry]:
        """Return what this host can be asked about itself."""
        return reports.inquiries(self.form.report, self.spec)

    def learn(
        self,
        known: About,
        inquiry: Inquiry,
        *,
        status: int,
        headers: Mapping[str, str],  # noqa: ARG002 - as every Inquirer
        body: bytes,
    ) -> About:
        """Return what is known with this answer."""
        return reports.learn(self.form.report, self.spec, known, inquiry, status=status, body=body)

    def _read(self, found: Any, answer: Answer) -> Reading:
        vectors = parsing.indexed(found.get("data"), len(answer.request), answer.body)
        return vectors, parsing.usage(found), parsing.text(found, "model")
