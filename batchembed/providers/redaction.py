"""Nothing that a server or an exception says leaves this package with a secret in it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import quote, quote_plus

from batchembed.exchange import About, Malformed, Outcome, Refused, Response

LONGEST = 300
_HIDDEN = "***"
_SHAPES = (
    (re.compile(r"\b(bearer|basic)\s+[^\s\"',;]+", re.IGNORECASE), rf"\1 {_HIDDEN}"),
    (re.compile(r"\bsk-[\w\-*.]+"), _HIDDEN),
    (re.compile(r"(://)[^/\s@]*@"), rf"\1{_HIDDEN}@"),
    (re.compile(r"(://[^\s?\"'<>]*)\?[^\s\"'<>]*"), rf"\1?{_HIDDEN}"),
)


class Redactor:
    """Hides known secrets, in plain, base64 and URL form, and whatever looks like one."""

    __slots__ = ("_secrets",)

    def __init__(self, secrets: Iterable[str | None]) -> None:
        forms = {form for secret in secrets if secret for form in _forms(secret)}
        self._secrets = tuple(sorted(forms, key=len, reverse=True))

    def __repr__(self) -> str:
        return "Redactor()"

    def text(self, words: str) -> str:
        """Return `words` as one line without secrets, at most 300 characters long."""
        for secret in self._secrets:
            words = words.replace(secret, _HIDDEN)
        for shape, instead in _SHAPES:
            words = shape.sub(instead, words)
        line = " ".join("".join(c if c.isprintable() else " " for c in words).split())
        return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"

    def outcome(self, found: Outcome) -> Outcome:
        """Return the outcome with everything in it that a server wrote made safe to show."""
        if isinstance(found, Response):
            told = found.model_version + found.request_id
            if told.isprintable() and not any(secret in told for secret in self._secrets):
                return found
            return replace(
                found,
                model_version=self.text(found.model_version),
                request_id=self.text(found.request_id),
            )
        reason = self.text(found.reason)
        if isinstance(found, Refused | Malformed):
            return replace(found, reason=reason, request_id=self.text(found.request_id))
        return replace(found, reason=reason)

    def about(self, found: About) -> About:
        """Return what a server said of itself, made safe to show."""
        end = found.end and replace(
            found.end, reason=self.text(found.end.reason), hint=self.text(found.end.hint or "")
        )
        return replace(
            found,
            model=self.text(found.model),
            version=self.text(found.version),
            notes=tuple(map(self.text, found.notes)),
            end=end,
        )


def _forms(secret: str) -> set[str]:
    raw = secret.encode(errors="surrogatepass")
    encoded = {base64.b64encode(raw), base64.urlsafe_b64encode(raw)}
    return {
        secret,
        quote(secret, safe="", errors="surrogatepass"),
        quote_plus(secret, errors="surrogatepass"),
        *(form.decode().rstrip("=") for form in encoded),
    }
