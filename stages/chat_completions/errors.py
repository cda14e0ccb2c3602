"""A backend's failure as the error the client of the Messages API gets.

What a backend says is kept in the message, for the client alone, whose prompt it may repeat; keys
are not kept. Failures of the proxy's own credentials are `api_error`: with a 401 a client would
doubt its own key. They are logged for the operator, who alone can repair them.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

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
)
from stages.translation.field_policies import UnsupportedError
from stages.wire import json_codec

log = logging.getLogger("llm_proxy")

_MAX_MESSAGE = 2000
#: Of a message, before keys are taken out.
_READ = 4 * _MAX_MESSAGE
#: Clients sleep as long as they are told, some for hours; above a minute they give up anyway.
_MAX_RETRY_AFTER = 60

_BY_STATUS: dict[int, type[ApiError]] = {
    400: InvalidRequestError,
    402: BillingError,
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

# A value behind `bearer` or `key:` has a digit in it, or it is a word: `unknown key: top_logprobs`.
_SECRET = re.compile(
    r"""(\b(sk-|dapi)|(\bbearer\s+|key[\\"']*\s*[=:]\s*[\\"']*)(?=[\w.+/~-]*\d))[\w.+/=~-]{8,}""",
    re.IGNORECASE,
)

#: The first data of a stream of events. No line of JSON begins so.
_EVENT = re.compile(rb"^data:(.*)", re.MULTILINE)
_PAGE = re.compile(rb"<[!?a-z]", re.IGNORECASE)


def error_from_status(
    backend: str, status: int, headers: Mapping[str, str], body: bytes
) -> ApiError:
    """The error for an HTTP answer that is not 200."""
    return _api_error(backend, status, read_error_body(_document(body)), headers)


def _document(body: bytes) -> Any:
    """What an error body holds: JSON, an event of a stream (DashScope), or a text.

    A page of HTML says nothing.
    """
    said = body.strip()
    if found := _EVENT.search(said):
        said = found[1]
    try:
        return json_codec.decode_answer(said)
    except ValueError:
        page = _PAGE.match(said)
        return "" if page else said[:_MAX_MESSAGE].decode("utf-8", "replace")


def error_in(backend: str, said: Any) -> ApiError | None:
    """The error in a JSON document of an answer that began with 200; None where there is none.

    It may be a chunk or a whole answer, of any shape; see reason.py.
    """
    if isinstance(said, list):
        said = said[0] if said else None
    if not isinstance(said, dict):
        return None
    if (error := said.get("error")) or said.get("object") == "error":
        return error_from_object(backend, error or said)
    base = said.get("base_resp")
    if isinstance(base, dict) and (code := base.get("status_code")):
        return _api_error(backend, _MINIMAX.get(code, 500), read_error_body(base), {})
    choices = said.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and (error := choice.get("error")):
            return error_from_object(backend, error)
    return None


def error_from_object(backend: str, said: Any) -> ApiError:
    """The error for an `error` object inside an answer that began with 200."""
    why = read_error_body({"error": said})
    return _api_error(backend, why.status or 500, why, {})


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
    message = _SECRET.sub("…", why.text[:_READ])
    quoted = [message[:_MAX_MESSAGE]]
    shown = quoted[0] or "no reason was given"
    words, codes = split_labels(message), {code.lower() for code in why.codes}
    if status == 401 or (
        status in _INVALID_KEY_STATUSES and _is_about(words, codes, INVALID_KEY, INVALID_KEY_CODES)
    ):
        log.error("backend `%s` refuses its key: set backends.%s.api_key", backend, backend)
        text = f"backend `{backend}` refuses the proxy's credentials, see its `api_key`: {shown}"
        return InternalError(text, headers=_NO_RETRY, quoted=quoted)
    text = f"backend `{backend}` answered {status}: {shown}"
    if status == 402 or _is_about(words, codes, QUOTA_EXHAUSTED, QUOTA_EXHAUSTED_CODES):
        return BillingError(text, headers=_NO_RETRY, quoted=quoted)
    if status in _OVERFLOW_STATUSES and (found := overflow_error(message, codes)):
        return found
    if matches_any(UNSUPPORTED_INPUT, words):
        return UnsupportedError(text, quoted=quoted)
    kind = _BY_STATUS.get(status, InternalError)
    return kind(
        text, headers=_retry_after(headers) if kind in _WITH_RETRY_AFTER else None, quoted=quoted
    )


def _is_about(
    words: LabelledMessage,
    codes: Collection[str],
    wordings: tuple[ErrorPattern, ...],
    known: frozenset[str],
) -> bool:
    return not known.isdisjoint(codes) or matches_any(wordings, words)


_INVALID_KEY_STATUSES = (400, 403)
_OVERFLOW_STATUSES = (400, 413, 422, 500)
_WITH_RETRY_AFTER = (RateLimitError, OverloadedError)
_NO_RETRY = {"x-should-retry": "false"}  # waiting does not help


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
