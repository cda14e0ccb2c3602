"""A backend's failure as the error the client of the Messages API gets.

What a backend says is kept in the message; keys are not. Failures of the proxy's own
credentials are `api_error`: with a 401 a client would doubt its own key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

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

# The prompt was too long, in each backend's words; groups: tokens, maximum.
_OVERFLOW = [
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        r"request \((?P<tokens>\d+) tokens\) exceeds the available context size \((?P<maximum>\d+)",
        (
            r"maximum context length is (?P<maximum>\d+) tokens.*?"
            r"(?:prompt contains at least|resulted in) (?P<tokens>\d+)"
        ),
        r"maximum context length is (?P<maximum>\d+) tokens",
        (
            r"input length \((?P<tokens>\d+)\) exceeds model's maximum context length "
            r"\((?P<maximum>\d+)\)"
        ),
        (
            r"input \((?P<tokens>\d+) tokens\) is longer than the model's context length "
            r"\((?P<maximum>\d+)"
        ),
        r"prompt has (?P<tokens>\d+) tokens, but the configured context size is (?P<maximum>\d+)",
        r"context_length_exceeded|exceed_context_size_error|model_max_prompt_tokens_exceeded",
        r"prompt (is )?too long|input is too long|context size has been exceeded",
        r"exceeds the context window|maximum prompt length|exceeded model token limit",
        r"reduce the length of the messages|requested token count exceeds",
        r"ContextWindowExceededError",
    )
]
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


def error_from_exception(backend: str, error: httpx2.RequestError) -> ApiError:
    """The error for an answer that did not arrive, or not whole."""
    if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout)):
        reason = "in time" if isinstance(error, httpx2.ConnectTimeout) else f"({error})"
        return OverloadedError(f"backend `{backend}` cannot be reached {reason}")
    if isinstance(error, httpx2.TimeoutException):
        return GatewayTimeoutError(f"backend `{backend}` was silent for too long")
    if isinstance(error, (httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError)):
        return OverloadedError(f"backend `{backend}` broke the connection ({error})")
    return InternalError(f"backend `{backend}` could not be asked: {type(error).__name__}")


def _error(
    backend: str, status: int, searched: str, message: str, headers: Mapping[str, str]
) -> ApiError:
    message = _SECRET.sub("…", message)[:_MAX_MESSAGE] or "no reason was given"
    if status in (401, 403):
        return InternalError(f"backend `{backend}` refuses the proxy's credentials: {message}")
    if status in (400, 413, 422, 500) and (overflow := _overflow(_SECRET.sub("…", searched))):
        return overflow
    text = f"backend `{backend}` answered {status}: {message}"
    kind = _BY_STATUS.get(status, InternalError)
    if _QUOTA in searched:  # waiting does not help
        return kind(text, headers={"x-should-retry": "false"})
    return kind(text, headers=_retry_after(headers) if kind in _RETRIED else None)


_RETRIED = (RateLimitError, OverloadedError)
_QUOTA = "insufficient_quota"


def _overflow(text: str) -> ApiError | None:
    """Clients know an overflow by these words, and then shorten the conversation."""
    for pattern in _OVERFLOW:
        if match := pattern.search(text):
            found = match.groupdict()
            if found.get("tokens"):
                numbers = f": {found['tokens']} tokens > {found['maximum']} maximum"
                return InvalidRequestError(f"prompt is too long{numbers}")
            return InvalidRequestError(f"prompt is too long ({text[:300]})")
    return None


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
