"""Kinds of errors, for the option `on` of `retry` and `fallback`.

They are the Messages API's error types without `_error`, and two more. `overflow`: the request is
too long for this backend and may fit into another. `unsupported`: the profile of this backend
rejects the request, and that of another may accept it.
"""

from __future__ import annotations

from typing import Literal

from stages.messages_api.errors import (
    ApiError,
    OutputLimitError,
    PromptTooLongError,
    QueueFullError,
    RequestTooLargeError,
    UnsupportedError,
)

ErrorKind = Literal[
    "overloaded",
    "rate_limit",
    "timeout",
    "api",
    "billing",
    "permission",
    "not_found",
    "overflow",
    "unsupported",
    "invalid_request",
]

#: The same request may succeed a little later.
TRANSIENT: tuple[ErrorKind, ...] = ("overloaded", "rate_limit", "timeout")

#: Errors that the request causes. A 403 for another reason than the proxy's key is about the text
#: of the request or its model.
_OF_REQUEST = ("overflow", "unsupported", "invalid_request", "permission")
_TOO_LONG = (PromptTooLongError, OutputLimitError, RequestTooLargeError)


def error_kind(error: ApiError) -> str:
    """The kind of an error: an ErrorKind, or another error type of the API."""
    if isinstance(error, _TOO_LONG):
        return "overflow"
    if isinstance(error, UnsupportedError):
        return "unsupported"
    return error.type.removesuffix("_error")


def blames_target(error: ApiError) -> bool:
    """Whether the target is at fault, and not the request or the proxy's own queue."""
    return not isinstance(error, QueueFullError) and error_kind(error) not in _OF_REQUEST


def is_transient(error: ApiError) -> bool:
    """Whether a retry may help. It does not if a quota is used up: `x-should-retry` is false."""
    return error_kind(error) in TRANSIENT and error.headers.get("x-should-retry") != "false"
