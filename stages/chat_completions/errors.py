"""Turn a backend's error response into an error of the Messages API.

The message keeps the backend's text, without keys. The text is for the client only, not for the
log: it may quote the client's prompt. A failure of the proxy's own credentials becomes `api_error`:
after a 401 a client would doubt its own key. What only the operator can repair is logged without
the text.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from stages.chat_completions.account_patterns import (
    INVALID_KEY,
    INVALID_KEY_CODES,
    QUOTA_EXHAUSTED,
    QUOTA_EXHAUSTED_CODES,
    UNSUPPORTED_INPUT,
)
from stages.chat_completions.error_body import ErrorBody, read_error_body
from stages.chat_completions.error_patterns import (
    ErrorPattern,
    LabelledMessage,
    matches_any,
    split_labels,
)
from stages.chat_completions.overflow import overflow_error
from stages.messages_api.errors import (
    ApiError,
    BillingError,
    ConflictError,
    GatewayTimeoutError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
    RequestTooLargeError,
    UnsupportedError,
)
from stages.wire import json_codec

log = logging.getLogger("llm_proxy")

_MAX_MESSAGE = 2000
#: Characters of a message that are read, before keys are removed.
_MAX_READ = 4 * _MAX_MESSAGE
#: Seconds. Clients obey `retry-after`, some for hours; above a minute they give up anyway.
_MAX_RETRY_AFTER = 60

_BY_STATUS: dict[int, type[ApiError]] = {
    400: InvalidRequestError,
    403: PermissionDeniedError,
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

# A secret after `bearer` or `key:` contains a digit; without one it is a word, as in
# `unknown key: top_logprobs`.
_SECRET = re.compile(
    r"""(\b(sk-|dapi)|(\bbearer\s+|key[\\"']*\s*[=:]\s*[\\"']*)(?=[\w.+/~-]*\d))[\w.+/=~-]{8,}""",
    re.IGNORECASE,
)

#: The first data of an event stream. No line of JSON has this beginning.
_EVENT = re.compile(rb"^data:(.*)", re.MULTILINE)
_PAGE = re.compile(rb"<[!?a-z]", re.IGNORECASE)


def error_from_status(
    backend: str, status: int, headers: Mapping[str, str], body: bytes
) -> ApiError:
    """The error for an HTTP response whose status is not 200."""
    if 300 <= status < 400 and (error := _redirect_error(backend, headers.get("location", ""))):
        return error
    return _api_error(backend, status, read_error_body(_document(body)), headers)


def _redirect_error(backend: str, location: str) -> ApiError | None:
    """The error for a redirect, without credentials, keys and query; None if it names no target.

    The HTTP client decodes bytes that are not UTF-8 to surrogates, which JSON cannot have.
    """
    try:
        url = urlsplit(location[:_MAX_READ].encode("utf-8", "backslashreplace").decode())
    except ValueError:
        return None
    host = url.netloc.rpartition("@")[2]
    place = urlunsplit((url.scheme, host, url.path, "", ""))
    if not place or "@" in place:
        return None
    log.error(
        "backend `%s` redirects to %s: correct backends.%s.base_url",
        backend,
        _SECRET.sub("…", host)[:_MAX_MESSAGE] or "another path",
        backend,
    )
    place = _SECRET.sub("…", place)[:_MAX_MESSAGE]
    text = f"backend `{backend}` redirects to {place}: correct its `base_url`"
    return InternalError(text, headers=_NO_RETRY, quoted=[place])


def _document(body: bytes) -> Any:
    """The content of an error body: JSON, an event of a stream (DashScope), or a text.

    A page of HTML counts as empty.
    """
    body = body.strip()
    if event := _EVENT.search(body):
        body = event[1]
    try:
        return json_codec.decode_lenient(body)
    except ValueError:
        page = _PAGE.match(body)
        return "" if page else body[:_MAX_MESSAGE].decode("utf-8", "replace")


def error_in_document(backend: str, body: Any) -> ApiError | None:
    """The error in a JSON document of a response of status 200; None if there is none.

    The document may be a chunk or a completion. For the shapes see error_body.py.
    """
    if isinstance(body, list):
        body = body[0] if body else None
    if not isinstance(body, dict):
        return None
    if (error := body.get("error")) or body.get("object") == "error":
        return error_from_object(backend, error or body)
    base = body.get("base_resp")
    if isinstance(base, dict) and (code := base.get("status_code")):
        return _api_error(backend, _MINIMAX.get(code, 500), read_error_body(base), {})
    choices = body.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and (error := choice.get("error")):
            return error_from_object(backend, error)
    return None


def error_from_object(backend: str, body: Any) -> ApiError:
    """The error for an `error` object inside a response of status 200."""
    why = read_error_body({"error": body})
    by_type = next((_BY_TYPE[code] for code in why.codes if code in _BY_TYPE), 500)
    return _api_error(backend, why.status or by_type, why, {})


#: By the Messages API's type, which gateways to Anthropic pass on.
_BY_TYPE = {kind.type: kind.status for kind in _BY_STATUS.values()} | {
    "authentication_error": 401,
    "billing_error": 402,
}


# platform.minimax.io/docs/api-reference/errorcode; 2056: the limit of a plan, 2049: a wrong key.
_MINIMAX = {
    1001: 504,
    1002: 429,
    1004: 401,
    1008: 402,
    1026: 403,
    1027: 403,
    1039: 429,
    1041: 429,
    1042: 400,
    2013: 400,
    2049: 401,
    2056: 429,
}


def _api_error(backend: str, status: int, why: ErrorBody, headers: Mapping[str, str]) -> ApiError:
    message = _SECRET.sub("…", why.text[:_MAX_READ])
    quoted = [message[:_MAX_MESSAGE]]
    reason = quoted[0] or "no reason was given"
    words, codes = split_labels(message), {code.lower() for code in why.codes}
    if status == 401 or (
        status in _INVALID_KEY_STATUSES and _is_about(words, codes, INVALID_KEY, INVALID_KEY_CODES)
    ):
        log.error("backend `%s` refuses its key: set backends.%s.api_key", backend, backend)
        text = f"backend `{backend}` refuses the proxy's credentials, check its `api_key`: {reason}"
        return InternalError(text, headers=_NO_RETRY, quoted=quoted)
    text = f"backend `{backend}` answered {status}: {reason}"
    if status == 402 or _is_about(words, codes, QUOTA_EXHAUSTED, QUOTA_EXHAUSTED_CODES):
        return BillingError(text, headers=_NO_RETRY, quoted=quoted)
    if status in _OVERFLOW_STATUSES and (error := overflow_error(message, codes)):
        return error
    if matches_any(UNSUPPORTED_INPUT, words):
        return UnsupportedError(text, quoted=quoted)
    kind = _BY_STATUS.get(status, InternalError)
    return kind(
        text, headers=_retry_after(headers) if kind in _WITH_RETRY_AFTER else None, quoted=quoted
    )


def _is_about(
    words: LabelledMessage,
    codes: Collection[str],
    patterns: tuple[ErrorPattern, ...],
    known_codes: frozenset[str],
) -> bool:
    return not known_codes.isdisjoint(codes) or matches_any(patterns, words)


_INVALID_KEY_STATUSES = (400, 403)
_OVERFLOW_STATUSES = (400, 413, 422, 500)
_WITH_RETRY_AFTER = (RateLimitError, OverloadedError)
_NO_RETRY = {"x-should-retry": "false"}  # waiting does not help


def _retry_after(headers: Mapping[str, str]) -> dict[str, str]:
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        seconds = _seconds_until(value)
    if math.isnan(seconds):
        return {}
    return {"retry-after": f"{min(max(seconds, 0), _MAX_RETRY_AFTER):g}"}


def _seconds_until(date: str) -> float:
    """Seconds from now to an HTTP date; NaN if `date` is not one."""
    try:
        then = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return math.nan
    # An HTTP date is in GMT, even if it does not say so.
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return math.ceil((then - datetime.now(UTC)).total_seconds())
