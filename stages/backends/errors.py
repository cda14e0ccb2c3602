"""Map the HTTP client's exceptions to errors of the Messages API."""

from __future__ import annotations

import aiohttp

from stages.messages_api.errors import (
    ApiError,
    GatewayTimeoutError,
    InternalError,
    OverloadedError,
)


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
