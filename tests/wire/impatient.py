"""A proxy with short timeouts, for tests of clients that mean harm."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from proxy.http.limits import ConnectionLimits
from tests.wire.client import raw
from tests.wire.proxy import SharedProxy, config_text, proxy_with_backend

#: 6 kB of a body have to come in its time.
IMPATIENT = ConnectionLimits(client_timeout=0.3, min_body_bytes_per_second=20_000, send_timeout=0.8)


@pytest.fixture(scope="module")
def shared_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedProxy]:
    with proxy_with_backend(tmp_path_factory.mktemp("impatient"), config_text, IMPATIENT) as shared:
        yield shared


def rest(connection: socket.socket) -> bytes:
    """All that comes until the proxy closes."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def chunked(data: bytes = b"", **headers: str) -> bytes:
    """A POST whose body comes in chunks, of which `data` is what is sent."""
    top, end, _ = raw(b"", **headers).partition(b"\r\n\r\n")
    return top.replace(b"content-length: 0", b"transfer-encoding: chunked") + end + data
