"""What an exception of the network means for a request."""

from __future__ import annotations

import ssl

import aiohttp

from batchembed.errors import ActionNeededError
from batchembed.exchange import Fatal, Outcome, Unavailable
from batchembed.providers.http.resolving import ForbiddenAddressError

_TLS_SETUP = ("WRONG_VERSION", "HTTP_REQUEST", "UNSUPPORTED_PROTOCOL", "PROTOCOL_VERSION")


class OversizeError(Exception):
    """A body larger than any right answer could be."""


def failure(error: Exception) -> Outcome:
    """Return what an exception of the network, or of reading the answer, means."""
    if isinstance(error, OversizeError):
        return Fatal(str(error), hint="look at what answers at the base URL", billed=True)
    if isinstance(error, ActionNeededError):  # of a key that was read anew
        return Fatal(f"401, and no other key can be had: {error.message}", hint=error.hint)
    if trouble := _certificate_trouble(error):
        return Fatal(
            f"the server's identity cannot be proven: {trouble}",
            hint="mend the certificate or the base URL; SSL_CERT_FILE can name another authority",
        )
    if isinstance(error, aiohttp.InvalidURL | ForbiddenAddressError):
        return _no_address(error)
    if isinstance(error, aiohttp.ClientError | OSError | EOFError):
        sent = _was_sent(error)
        late = sent and isinstance(error, TimeoutError)
        return Unavailable(_breakage(error), billed=sent, late=late)
    return Fatal(
        f"unexpected {type(error).__name__} while reading an answer: {error}",
        hint="this is a mistake in batchembed: please report it",
        billed=True,
    )


def _no_address(error: aiohttp.InvalidURL | ForbiddenAddressError) -> Outcome:
    if isinstance(error, ForbiddenAddressError):
        return Fatal(str(error), hint="no provider lives there: see who answers for that name")
    return Fatal("the base URL cannot be used", hint="correct `base_url`")


def _breakage(error: Exception) -> str:
    """Return in what way the connection failed; TimeoutError is an OSError too."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"the host `{error.host}` is not found"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"no connection to `{error.host}`: {_cause(error)}"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the answer was cut short"
    return f"the connection broke: {_cause(error)}"


def _certificate_trouble(error: BaseException) -> str | None:
    """Return what is wrong with a certificate or the TLS set-up, or None for other failures."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_message or "certificate verify failed"
    if isinstance(cause, ssl.CertificateError):
        return str(cause)
    reason = str(getattr(cause, "reason", None) or "")
    if isinstance(cause, ssl.SSLError) and any(words in reason for words in _TLS_SETUP):
        return f"TLS failed: {reason}"
    return None


def _cause(error: BaseException) -> str:
    cause = getattr(error, "os_error", None) or error
    words = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return str(words)


def _was_sent(error: Exception) -> bool:
    """Return whether the request may have reached the server before the connection failed."""
    never = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)
    return not isinstance(error, never)
