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

import aiohttp

from stages.chat_completions.account_wordings import (
    KEY_CODES,
    KEYS,
    QUOTA_CODES,
    QUOTAS,
    UNSUPPORTED,
)
from stages.chat_completions.error_body import ErrorBody, read_error_body
from stages.chat_completions.overflow import overflow
from stages.chat_completions.wording import Wording, WordingMatch, is_one_of, match_wording
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
    return _error(backend, status, read_error_body(_document(body)), headers)


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
        return error_in_answer(backend, error or said)
    base = said.get("base_resp")
    if isinstance(base, dict) and (code := base.get("status_code")):
        return _error(backend, _MINIMAX.get(code, 500), read_error_body(base), {})
    choices = said.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and (error := choice.get("error")):
            return error_in_answer(backend, error)
    return None


def error_in_answer(backend: str, said: Any) -> ApiError:
    """The error for an `error` object inside an answer that began with 200."""
    why = read_error_body({"error": said})
    return _error(backend, why.status or 500, why, {})


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


def _error(backend: str, status: int, why: ErrorBody, headers: Mapping[str, str]) -> ApiError:
    message = _SECRET.sub("…", why.text[:_READ])
    quoted = [message[:_MAX_MESSAGE]]
    shown = quoted[0] or "no reason was given"
    words, codes = match_wording(message), {code.lower() for code in why.codes}
    if status == 401 or (status in _OF_KEYS and _is_told(words, codes, KEYS, KEY_CODES)):
        log.error("backend `%s` refuses its key: set backends.%s.api_key", backend, backend)
        text = f"backend `{backend}` refuses the proxy's credentials, see its `api_key`: {shown}"
        return InternalError(text, headers=_NO_RETRY, quoted=quoted)
    text = f"backend `{backend}` answered {status}: {shown}"
    if status == 402 or _is_told(words, codes, QUOTAS, QUOTA_CODES):
        return BillingError(text, headers=_NO_RETRY, quoted=quoted)
    if status in _OF_LENGTH and (found := overflow(message, codes)):
        return found
    if is_one_of(UNSUPPORTED, words):
        return UnsupportedError(text, quoted=quoted)
    kind = _BY_STATUS.get(status, InternalError)
    return kind(text, headers=_retry_after(headers) if kind in _RETRIED else None, quoted=quoted)


def _is_told(
    words: WordingMatch,
    codes: Collection[str],
    wordings: tuple[Wording, ...],
    known: frozenset[str],
) -> bool:
    return not known.isdisjoint(codes) or is_one_of(wordings, words)


_OF_KEYS = (400, 403)
_OF_LENGTH = (400, 413, 422, 500)
_RETRIED = (RateLimitError, OverloadedError)
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
