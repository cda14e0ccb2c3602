"""Each exception of the HTTP client as the error the client gets."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import client_exceptions

from stages.backends.errors import error_from_exception
from stages.messages_api.errors import (
    ApiError,
    GatewayTimeoutError,
    InternalError,
    OverloadedError,
)
from tests.cases import for_each

CANNOT, SILENT, BROKE, OTHER = "cannot be reached", "was silent", "broke the connection", "called"


def _connector(cls: type[aiohttp.ClientConnectorError]) -> aiohttp.ClientConnectorError:
    key: Any = SimpleNamespace(host="h", port=1, is_ssl=False, ssl=True)
    return cls(key, OSError(111, "Connection refused"))


def _response(cls: type[aiohttp.ClientResponseError]) -> aiohttp.ClientResponseError:
    info: Any = SimpleNamespace(real_url="http://h")
    return cls(info, ())


EXCEPTIONS: dict[type[aiohttp.ClientError], tuple[type[ApiError], str]] = {
    aiohttp.ClientError: (InternalError, OTHER),
    aiohttp.ClientResponseError: (OverloadedError, BROKE),
    aiohttp.ContentTypeError: (OverloadedError, BROKE),
    aiohttp.WSServerHandshakeError: (OverloadedError, BROKE),
    aiohttp.ClientHttpProxyError: (OverloadedError, CANNOT),
    aiohttp.TooManyRedirects: (OverloadedError, BROKE),
    aiohttp.ClientConnectionError: (OverloadedError, BROKE),
    aiohttp.ClientConnectionResetError: (OverloadedError, BROKE),
    aiohttp.ClientOSError: (OverloadedError, BROKE),
    aiohttp.ClientConnectorError: (OverloadedError, CANNOT),
    aiohttp.ClientConnectorDNSError: (OverloadedError, CANNOT),
    aiohttp.ClientProxyConnectionError: (OverloadedError, CANNOT),
    client_exceptions.UnixClientConnectorError: (OverloadedError, CANNOT),
    aiohttp.ClientSSLError: (OverloadedError, CANNOT),
    aiohttp.ClientConnectorSSLError: (OverloadedError, CANNOT),
    aiohttp.ClientConnectorCertificateError: (InternalError, "cannot be trusted"),
    aiohttp.ServerConnectionError: (OverloadedError, BROKE),
    aiohttp.ServerDisconnectedError: (OverloadedError, BROKE),
    aiohttp.ServerTimeoutError: (GatewayTimeoutError, SILENT),
    aiohttp.ConnectionTimeoutError: (OverloadedError, CANNOT),
    aiohttp.SocketTimeoutError: (GatewayTimeoutError, SILENT),
    aiohttp.ServerFingerprintMismatch: (OverloadedError, CANNOT),
    aiohttp.ClientPayloadError: (OverloadedError, BROKE),
    client_exceptions.UploadAbortedError: (InternalError, OTHER),
    aiohttp.InvalidURL: (InternalError, OTHER),
    aiohttp.InvalidUrlClientError: (InternalError, OTHER),
    aiohttp.RedirectClientError: (InternalError, OTHER),
    aiohttp.NonHttpUrlClientError: (InternalError, OTHER),
    aiohttp.InvalidUrlRedirectClientError: (InternalError, OTHER),
    aiohttp.NonHttpUrlRedirectClientError: (InternalError, OTHER),
}


def new_error(cls: type[aiohttp.ClientError]) -> aiohttp.ClientError:
    """An exception of this class, with what its constructor wants."""
    if issubclass(cls, client_exceptions.UnixClientConnectorError):
        key: Any = SimpleNamespace(host="h", port=1, is_ssl=False, ssl=True)
        return cls("/socket", key, OSError(111, "Connection refused"))
    if issubclass(cls, aiohttp.ServerFingerprintMismatch):
        return cls(b"expected", b"got", "h", 1)
    if issubclass(cls, aiohttp.ClientConnectorError):
        return _connector(cls)
    return _response(cls) if issubclass(cls, aiohttp.ClientResponseError) else cls("all went wrong")


def descendants(cls: type[aiohttp.ClientError]) -> Iterator[type[aiohttp.ClientError]]:
    yield cls
    for item in cls.__subclasses__():
        yield from descendants(item)


def test_the_table_has_every_exception_of_the_client() -> None:
    theirs = {
        cls for cls in descendants(aiohttp.ClientError) if cls.__module__.startswith("aiohttp")
    }
    assert theirs == set(EXCEPTIONS)


@for_each("cls", EXCEPTIONS, ids=lambda cls: cls.__name__)
def test_every_exception_of_the_client_is_mapped(cls: type[aiohttp.ClientError]) -> None:
    expected, words = EXCEPTIONS[cls]
    error = error_from_exception("local", new_error(cls))
    assert type(error) is expected
    assert error.message.startswith("backend `local` ")
    assert words in error.message


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError(104, "reset by peer")])
def test_a_socket_s_own_exceptions_are_mapped_too(error: OSError) -> None:
    words = SILENT if isinstance(error, TimeoutError) else BROKE
    assert words in error_from_exception("local", error).message


def test_an_exception_that_is_unknown_is_named_but_not_quoted() -> None:
    error = error_from_exception("local", aiohttp.InvalidURL("http://user:sk-123@host"))
    assert error.message == "backend `local` could not be called: InvalidURL"


def test_the_system_s_reason_is_reported_and_the_url_is_not() -> None:
    cause = OSError(111, "Multiple exceptions: [Errno 111] Connect call failed ('::1', 1, 0, 0)")
    error = _connector(aiohttp.ClientConnectorError)
    error.__cause__ = cause
    reported = error_from_exception("local", error).message
    assert reported == (
        "backend `local` cannot be reached (Connection refused): "
        "check that it runs, and its `base_url`"
    )
