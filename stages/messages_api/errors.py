"""The errors of the Messages API. A stage raises one; the edge renders it, in one place.

ApiError
├── InvalidRequestError      400 invalid_request_error
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

Source: the Messages API's table of errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class ApiError(Exception):
    """What a client is told. `headers` go with the answer; `details` into the body.

    The message is for the client: no secrets, no traceback. `quoted` are the parts of it that
    somebody else said. They may hold the client's prompt, so they are not for the log.
    """

    status: ClassVar[int]
    type: ClassVar[str]

    def __init__(
        self,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        details: Mapping[str, Any] | None = None,
        quoted: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.headers = dict(headers or {})
        self.details = dict(details or {})
        self.quoted = tuple(filter(None, quoted))

    @property
    def log_message(self) -> str:
        """The message as it can stand in a log."""
        text = self.message
        for each in self.quoted:
            text = text.replace(each, "…", 1)
        return text

    def body(self, request_id: str) -> dict[str, Any]:
        """The JSON body, which is also the data of an SSE `error` event."""
        error: dict[str, Any] = {"type": self.type, "message": self.message}
        if self.details:
            error["details"] = self.details
        return {"type": "error", "error": error, "request_id": request_id}


class InvalidRequestError(ApiError):
    """The request is at fault."""

    status = 400
    type = "invalid_request_error"


class AuthenticationError(ApiError):
    """The client's key is missing or wrong."""

    status = 401
    type = "authentication_error"


class BillingError(ApiError):
    """The backend wants to be paid."""

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
    """Too many requests; `retry-after` says when to come back."""

    status = 429
    type = "rate_limit_error"


class InternalError(ApiError):
    """The proxy or the backend failed."""

    status = 500
    type = "api_error"


class GatewayTimeoutError(ApiError):
    """The backend was silent for too long."""

    status = 504
    type = "timeout_error"


class OverloadedError(ApiError):
    """The backend cannot be reached, or it or the proxy takes no more work now."""

    status = 529
    type = "overloaded_error"


class MethodNotAllowedError(InvalidRequestError):
    """The path is there, the method is not."""

    status = 405


class RequestTimeoutError(InvalidRequestError):
    """The client did not send its request in time."""

    status = 408


class UnsupportedMediaTypeError(InvalidRequestError):
    """The body is of a type that is not taken."""

    status = 415


class HeadTooLargeError(InvalidRequestError):
    """The request line and the headers are over the limit."""

    status = 431


def drop_traceback(error: BaseException) -> None:
    """Let an error that is dealt with hold no frames, nor those that it came from.

    Frames hold errors, too, and the request: until the garbage collector runs, memory would be
    full of requests that have failed.
    """
    found: list[BaseException | None] = [error]
    while found:
        each = found.pop()
        if each is None or each.__traceback__ is None:  # was seen: errors may stand in a circle
            continue
        each.__traceback__ = None
        found += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            found += each.exceptions
