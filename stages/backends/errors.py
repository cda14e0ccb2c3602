"""Map the HTTP client's exceptions to errors of the Messages API."""

from __future__ import annotations

import os
import ssl

import aiohttp

from stages.messages_api.errors import (
    ApiError,
    GatewayTimeoutError,
    InternalError,
    OverloadedError,
)


def error_from_exception(backend: str, error: Exception) -> ApiError:
    """The error for a response that did not arrive, or only in part."""
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
    return InternalError(f"backend `{backend}` could not be called: {type(error).__name__}")


_REACH = "check that it runs, and its `base_url`"
_UNREACHED = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ServerFingerprintMismatch,
)
_BROKEN = (
    aiohttp.ClientConnectionError,
    aiohttp.ClientPayloadError,
    aiohttp.ClientResponseError,  # not HTTP
    OSError,
)


def _mistrust(error: aiohttp.ClientConnectorCertificateError) -> str:
    """The fault of the certificate, and the remedy. A retry would not help."""
    fault = error.certificate_error
    code, message = getattr(fault, "verify_code", 0), getattr(fault, "verify_message", "")
    hint = _HINTS.get(code, "set SSL_CERT_FILE to a file with the certificate of its authority")
    return f"{message.rstrip('.') or 'its certificate does not verify'}; {hint}"


# OpenSSL's x509_vfy.h: not yet valid, has expired; another host, another address.
_TIME = "renew its certificate, and check the clocks"
_NAME = "use a name from its certificate in its `base_url`"
_HINTS = {9: _TIME, 10: _TIME, 62: _NAME, 64: _NAME}


def _reason(error: Exception) -> str:
    """The operating system's message. The HTTP client's own would quote URLs and bytes."""
    cause = error.__cause__ or error
    if not isinstance(cause, OSError):
        return type(cause).__name__
    if isinstance(cause, ssl.SSLError):  # its `errno` is OpenSSL's
        return str(cause)
    if cause.errno and cause.errno > 0:  # asyncio's own text lists the attempts for all addresses
        return os.strerror(cause.errno)
    return cause.strerror or str(cause) or type(cause).__name__
