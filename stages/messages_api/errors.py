"""The errors of the Messages API. A stage raises one; `proxy/endpoint.py` renders it.

ApiError
├── InvalidRequestError      400 invalid_request_error
│   ├── UnsupportedError       400
│   ├── PromptTooLongError     400
│   ├── OutputLimitError       400
│   ├── MethodNotAllowedError  405
│   ├── RequestTimeoutError    408
│   ├── UnsupportedMediaTypeError  415
│   └── HeadTooLargeError      431
├── AuthenticationError      401 authentication_error
├── BillingError             402 billing_error
├── PermissionDeniedError    403 permission_error
├── NotFoundError            404 not_found_error
├── ConflictError            409 conflict_error
├── RequestTooLargeError     413 request_too_large
├── RateLimitError           429 rate_limit_error
├── InternalError            500 api_error
├── GatewayTimeoutError      504 timeout_error
└── OverloadedError          529 overloaded_error
    └── QueueFullError         529

Source: the Messages API's table of errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar


class ApiError(Exception):
    """An error for the client. `headers` are those of the response; `details` are in its body.

    The message contains no secrets and no traceback. `quoted` are the parts of the message that
    the client or the backend wrote. They may contain the client's prompt: `log_message` omits them.
    """

    status: ClassVar[int]
    type: ClassVar[str]

    def __init__(
        self,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        details: Mapping[str, Any] | None = None,
        quoted: Iterable[str] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.headers = dict(headers or {})
        self.details = dict(details or {})
        self.quoted = tuple(filter(None, quoted))

    @property
    def log_message(self) -> str:
        """The message without its quoted parts."""
        text = self.message
        for part in self.quoted:
            text = text.replace(part, "…", 1)
        return text

    def body(self, request_id: str) -> dict[str, Any]:
        """The JSON body, which is also the data of an SSE `error` event."""
        error: dict[str, Any] = {"type": self.type, "message": self.message}
        if self.details:
            error["details"] = self.details
        return {"type": "error", "error": error, "request_id": request_id}


class InvalidRequestError(ApiError):
    """The request is not valid."""

    status = 400
    type = "invalid_request_error"


class AuthenticationError(ApiError):
    """The client's key is missing or wrong."""

    status = 401
    type = "authentication_error"


class BillingError(ApiError):
    """The account at the backend has no credit."""

    status = 402
    type = "billing_error"


class PermissionDeniedError(ApiError):
    """The client's key may not do this."""

    status = 403
    type = "permission_error"


class NotFoundError(ApiError):
    """There is no such model or path."""

    status = 404
    type = "not_found_error"


class ConflictError(ApiError):
    """The request conflicts with another."""

    status = 409
    type = "conflict_error"


class RequestTooLargeError(ApiError):
    """The body is over the limit."""

    status = 413
    type = "request_too_large"


class RateLimitError(ApiError):
    """Too many requests; `retry-after` is the time until the next attempt, in seconds."""

    status = 429
    type = "rate_limit_error"


class InternalError(ApiError):
    """The proxy or the backend failed."""

    status = 500
    type = "api_error"


class GatewayTimeoutError(ApiError):
    """The backend sent nothing for too long."""

    status = 504
    type = "timeout_error"


class OverloadedError(ApiError):
    """The backend cannot be reached, or the backend or the proxy accepts no more requests now."""

    status = 529
    type = "overloaded_error"


class UnsupportedError(InvalidRequestError):
    """The profile of this backend rejects the request; another backend may accept it."""


class PromptTooLongError(InvalidRequestError):
    """The prompt does not fit into the backend's window.

    `maximum`: the window, in tokens, if the backend named the window but not the prompt's length.
    """

    def __init__(
        self, message: str, *, maximum: int | None = None, quoted: Iterable[str] = ()
    ) -> None:
        super().__init__(message, quoted=quoted)
        self.maximum = maximum


class OutputLimitError(InvalidRequestError):
    """`max_tokens` is too high for the backend; the prompt alone is not too long.

    `limit`: the highest limit that fits, in tokens. `excess`: by how many tokens the limit is too
    high. None: the backend did not name a number. If both are None, the backend accepts the
    request without a limit. `by_window`: the window is too small, and not the model's output limit.
    The message has the wording of the Messages API, which clients parse.
    """

    def __init__(
        self,
        message: str,
        limit: int | None = None,
        by_window: bool = True,
        excess: int | None = None,
    ) -> None:
        super().__init__(message)
        self.limit = limit
        self.by_window = by_window
        self.excess = excess


class QueueFullError(OverloadedError):
    """The proxy's own queue for a backend is full: the backend is busy, but not at fault."""


class MethodNotAllowedError(InvalidRequestError):
    """The path does not support the method."""

    status = 405


class RequestTimeoutError(InvalidRequestError):
    """The client did not send its request in time."""

    status = 408


class UnsupportedMediaTypeError(InvalidRequestError):
    """The body has a content type that is not supported."""

    status = 415


class HeadTooLargeError(InvalidRequestError):
    """The request line and the headers are over the limit."""

    status = 431


def drop_traceback(error: BaseException) -> None:
    """Drop the tracebacks of a handled error and of its causes.

    A traceback references frames, and frames reference the request and other errors. Without this
    function, failed requests stay in memory until the garbage collector runs.
    """
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is None or current.__traceback__ is None:  # visited: errors may form a cycle
            continue
        current.__traceback__ = None
        pending += [current.__cause__, current.__context__]
        if isinstance(current, BaseExceptionGroup):
            pending += current.exceptions
