"""Finds backends of this machine whose server does not run, a frequent mistake at a first start."""

from __future__ import annotations

import socket

from yarl import URL

from pipeline.config.schema import Config
from proxy.config import referenced_backends
from stages.backends.session import strip_credentials

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
#: Seconds. The kernel responds for these addresses, in much less than a millisecond.
_TIMEOUT = 0.5


def absent_servers(config: Config) -> list[str]:
    """Return a note for each backend that models refer to, and whose port refuses connections.

    Only loopback addresses are tried: other machines may take seconds to respond.
    """
    return [
        f"nothing listens at {strip_credentials(url)}, the `base_url` of backend `{name}`: "
        "start its server, or correct the URL"
        for name, backend in referenced_backends(config).items()
        if not backend.profile.embedded and _refuses(url := backend.profile.base_url)
    ]


def _refuses(url: str) -> bool:
    parts = URL(url)
    if parts.host not in _LOOPBACK or not parts.port:
        return False
    try:
        socket.create_connection((parts.host, parts.port), _TIMEOUT).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False
