"""A backend's failure as the error the client of the Messages API gets.

What a backend says is kept in the message, for the client alone, whose prompt it may repeat; keys
are not kept. Failures of the proxy's own credentials are `api_error`: with a 401 a client would
doubt its own key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from stages.backends.overflow import overflow
from stages.wire import json
from stages.wire.errors import (
    ApiError,
    BillingError,
    ConflictError,
    GatewayTimeoutError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    RateLimitError,
    RequestTooLargeError,
)

_MAX_MESSAGE = 2000
#: Clients sleep as long as they are told, some for hours; above a minute they give up anyway.
_MAX_RETRY_AFTER = 60

_BY_STATUS: dict[int, type[ApiError]] = {
    400: InvalidRequestError,
    402: BillingError,
    404: NotFoundError,
    408: GatewayTimeoutError,
    409: ConflictError,
    413: RequestTooLargeError,
    422: InvalidRequestError,
    429: RateLimitError,
    502: OverloadedError,
    503: OverloadedError,
    504: GatewayTimeoutError,
    524: GatewayTimeoutError,
    529: OverloadedError,
}

# A value behind `bearer` or `key:` has a digit in it, or it is a word: `unknown key: top_logprobs`.
_SECRET = re.compile(
    r"""(\b(sk-|dapi)|(\bbearer\s+|key[\\"']*\s*[=:]\s*[\\"']*)(?=[\w.+/~-]*\d))[\w.+/=~-]{8,}""",
    re.IGNORECASE,
)


def error_from_status(
    backend: str, status: int, headers: Mapping[str, str], body: bytes
) -> ApiError:
    """The error for an HTTP answer that is not 200."""
    try:
        said: Any = json.decode(body)
    except ValueError:
        said = None
    message, code = _message(said)
    if said is None and b"<" not in body[:200]:
        message = body[:_MAX_MESSAGE].decode("utf-8", "replace").strip()
    return _error(backend, status, f"{message} {code}".strip(), message, headers)


def error_in_answer(backend: str, said: Any) -> ApiError:
    """The error for an `error` object inside an answer that began with 200."""
    message, code = _message({"error": said})
    number = said.get("code") if isinstance(said, dict) else None
    status = number if type(number) is int and 400 <= number < 600 else 500
    return _error(backend, status, f"{message} {code}".strip(), message, {})


def error_from_exception(backend: str, error: Exception) -> ApiError:
    """The error for an answer that did not arrive, or not whole."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return OverloadedError(f"backend `{backend}` cannot be reached in time: {_REACH}")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return InternalError(f"backend `{backend}` cannot be trusted: {_mistrust(error)}")
    if isinstance(error, _UNREACHED):
        return OverloadedError(
            f"backend `{backend}` cannot be reached ({_reason(error)}): {_REACH}"
        )
    if isinstance(error, TimeoutError):
        return GatewayTimeoutError(f"backend `{backend}` was silent for too long: try again later")
    if isinstance(error, _BROKEN):
        return OverloadedError(
            f"backend `{backend}` broke the connection ({_reason(error)}): try again; "
            "its own log may say why"
        )
    return InternalError(f"backend `{backend}` could not be asked: {type(error).__name__}")


_REACH = "see that it runs, and that its `base_url` is right"
_UNREACHED = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ServerFingerprintMismatch,
)
_BROKEN = (
    aiohttp.ClientConnectionError,
    aiohttp.ClientPayloadError,
    aiohttp.ClientResponseError,  # bytes that are no HTTP
    OSError,
)


def _mistrust(error: aiohttp.ClientConnectorCertificateError) -> str:
    """What is wrong with its certificate, and what to do. It passes no more than a wrong key."""
    found = error.certificate_error
    code, said = getattr(found, "verify_code", 0), getattr(found, "verify_message", "")
    hint = _BY_CODE.get(code, "let SSL_CERT_FILE name a file with the certificate of its authority")
    return f"{said.rstrip('.') or 'its certificate does not verify'}; {hint}"


# OpenSSL's x509_vfy.h: not yet valid, has expired; another host, another address.
_TIME = "renew its certificate, and see that the clocks are right"
_NAME = "write its `base_url` with a name that is in its certificate"
_BY_CODE = {9: _TIME, 10: _TIME, 62: _NAME, 64: _NAME}


def _reason(error: Exception) -> str:
    """What the system said; not what the client says, which quotes URLs and bytes."""
    cause = error.__cause__ or error
    said = str(cause) if isinstance(cause, OSError) else ""
    return said or type(cause).__name__


def _error(
    backend: str, status: int, searched: str, message: str, headers: Mapping[str, str]
) -> ApiError:
    quoted = [_SECRET.sub("…", message)[:_MAX_MESSAGE]]
    message = quoted[0] or "no reason was given"
    if status in (401, 403):
        text = f"backend `{backend}` refuses the proxy's credentials, see its `api_key`: {message}"
        return InternalError(text, quoted=quoted)
    if status in (400, 413, 422, 500) and (found := overflow(_SECRET.sub("…", searched))):
        return found
    text = f"backend `{backend}` answered {status}: {message}"
    kind = _BY_STATUS.get(status, InternalError)
    if _QUOTA in searched:  # waiting does not help
        return kind(text, headers={"x-should-retry": "false"}, quoted=quoted)
    told = _retry_after(headers) if kind in _RETRIED else None
    return kind(text, headers=told, quoted=quoted)


_RETRIED = (RateLimitError, OverloadedError)
_QUOTA = "insufficient_quota"


def _retry_after(headers: Mapping[str, str]) -> dict[str, str]:
    told = headers.get("retry-after", "")
    try:
        seconds = float(told)
    except ValueError:
        seconds = _seconds_until(told)
    if math.isnan(seconds):
        return {}
    return {"retry-after": f"{min(max(seconds, 0), _MAX_RETRY_AFTER):g}"}


def _seconds_until(date: str) -> float:
    """From now to an HTTP date; NaN when it is none."""
    try:
        then = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return math.nan
    # An HTTP date is in GMT, also where it does not say so.
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return math.ceil((then - datetime.now(UTC)).total_seconds())


def _message(said: Any) -> tuple[str, str]:
    """The text and the code of an error body, in any of the shapes there are."""
    if not isinstance(said, dict):
        return (said if isinstance(said, str) else ""), ""
    inner = said.get("error")
    if not isinstance(inner, dict):
        inner = {**said, "message": inner} if isinstance(inner, str) else said
    metadata = inner.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    for text in (raw, inner.get("message"), inner.get("detail")):
        if isinstance(text, (dict, list)) and text:  # as FastAPI tells what is wrong in a request
            text = json.encode(text).decode()
        if isinstance(text, str) and text:
            kind = inner.get("code") or inner.get("type") or inner.get("error_code") or ""
            return text, f"{kind} {inner.get('type') or ''}"
    return "", str(inner.get("code") or inner.get("type") or "")
