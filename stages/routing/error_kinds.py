"""Kinds of errors, as `retry` and `fallback` name them in their option `on`.

They are the Messages API's types of errors without `_error`, and two more: `overflow`, what is
too long for one backend and may fit into another; and `unsupported`, what the profile of one
rejects and that of another may not.
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

#: The same request may get an answer a little later.
TRANSIENT: tuple[ErrorKind, ...] = ("overloaded", "rate_limit", "timeout")

#: A 403 that is not about the proxy's key is about what the request says, or which model it wants.
_OF_REQUEST = ("overflow", "unsupported", "invalid_request", "permission")
_TOO_LONG = (PromptTooLongError, OutputLimitError, RequestTooLargeError)


def error_kind(error: ApiError) -> str:
    """The kind of an error: one of Kind, or another type of the API."""
    if isinstance(error, _TOO_LONG):
        return "overflow"
    if isinstance(error, UnsupportedError):
        return "unsupported"
    return error.type.removesuffix("_error")


def blames_target(error: ApiError) -> bool:
    """Whether an error says that its target is not well: not the request, nor our own queue."""
    ours = isinstance(error, QueueFullError)
    return not ours and error_kind(error) not in _OF_REQUEST


def is_transient(error: ApiError) -> bool:
    """Whether it is worth while to come again; a used-up quota says that it is not."""
    return error_kind(error) in TRANSIENT and error.headers.get("x-should-retry") != "false"
