"""What uvicorn's HTTP has to be kept from doing."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from proxy.http.limits import ConnectionLimits
from proxy.http.protocol import HttpProtocol
from tests.bench.counting import Calls
from tests.support import body
from tests.waiting import until
from tests.wire.backend import Act, ScriptedBackend
from tests.wire.chat import DONE, END, delta, head, sse
from tests.wire.client import Client, Response, raw


def test_an_offer_of_http_2_does_not_cost_the_body(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(head(), sse(delta("stop", content="Hello")), DONE, END)
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    answer = Response.of(client.send(raw(body(stream=True)).replace(b"\r\n", b"\r\n" + offer, 1)))
    assert answer.events[-1]["type"] == "message_stop"


def test_bytes_that_are_not_http_get_an_api_error(client: Client) -> None:
    answer = Response.of(client.send(b"\x16\x03\x01 no http\r\n\r\n"))
    assert answer.error == (400, "invalid_request_error")


def test_a_body_after_its_refusal_keeps_the_connection_usable(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(head(), sse(delta("stop", content="Hello")), DONE, END)
    top, end, late = raw(b"a\r\nUpgrade: h2c\r\n\r\nb", x_api_key="wrong").partition(b"\r\n\r\n")
    assert Response.of(client.send(top + end)).status == 401
    assert Response.of(client.send(late + raw(body(stream=True)))).status == 200


@pytest.fixture
def without_collector() -> Iterator[None]:
    """What is freed is freed because nothing refers to it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def only_protocol() -> weakref.ref[HttpProtocol] | None:
    """Return the protocol of the only connection, or None if there are several."""
    protocols = [each for each in gc.get_objects() if type(each) is HttpProtocol]
    return weakref.ref(protocols[0]) if len(protocols) == 1 else None


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("by", ["a reset", "its last response", "a disconnect with many requests"])
def test_nothing_of_a_closed_connection_is_kept(
    by: str, client: Client, backend: ScriptedBackend
) -> None:
    assert Response.of(client.send(raw(body(), x_api_key="wrong"))).status == 401
    protocol = until(only_protocol, "the connection of an earlier test is open")
    assert protocol
    if by == "a reset":
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif by == "its last response":
        assert client.get("/health", connection="close").status == 200
    else:
        backend.says(Act.UNTIL_CLOSED)
        client.socket.sendall(raw(body()) * 3)
        backend.request()
    client.close()
    until(lambda: protocol() is None, "something refers to the connection's objects")


class _Bodies:
    """An application that keeps the parts in which bodies arrive."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            self.parts.append(message["body"])
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    admission = __call__


class _Transport(asyncio.Transport):
    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def is_closing(self) -> bool:
        return False

    def write(self, data: Any) -> None: ...

    def close(self) -> None: ...


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    "packets",
    [
        [b"1\r\na\r\n" * 1000 + b"0\r\n\r\n"],
        [b"1\r\na\r\n" * 500, b"1\r\na\r\n" * 500, b"0\r\n\r\n"],
        [b"1;x=y\r\na\r\n" * 1000, b"0\r\n\r\n"],
    ],
    ids=["whole", "two-packets", "extensions"],
)
async def test_row_a7_the_chunks_of_a_packet_are_one_message(
    packets: list[bytes],
) -> None:
    app, server = _Bodies(), ServerState()
    config = Config(app, proxy_headers=False, lifespan="off")
    connection = HttpProtocol(
        limits=ConnectionLimits(), config=config, server_state=server, app_state={}
    )
    connection.connection_made(_Transport())
    head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    connection.data_received(head)
    with Calls() as cost:
        for packet in packets:
            connection.data_received(packet)
    assert cost.by_name["HttpToolsProtocol.on_body"] <= len(packets)
    await asyncio.gather(*server.tasks)
    assert b"".join(app.parts) == b"a" * 1000
    connection.connection_lost(None)
