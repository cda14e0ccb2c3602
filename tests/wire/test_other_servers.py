"""The app under another ASGI server: hypercorn, over sockets."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from asyncio.base_events import Server
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypercorn.asyncio import serve
from hypercorn.config import Config

from proxy.app import make_app
from proxy.serve import bind
from tests.support import body
from tests.wire.backend import LIMIT, Act, ScriptedBackend
from tests.wire.chat import completion, delta, head, sse, streamed, whole
from tests.wire.client import Client, raw
from tests.wire.proxy import config_text


@contextlib.contextmanager
def hypercorn(config_file: Path) -> Iterator[str]:
    """hypercorn with the app in a thread; its root URL. Its end waits for no request."""
    listener = bind("127.0.0.1", 0)
    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.graceful_timeout = 0.01
    app: Any = make_app(str(config_file))
    loop = asyncio.new_event_loop()
    ended = asyncio.Event()
    serving = serve(app, config, shutdown_trigger=ended.wait)
    thread = threading.Thread(target=loop.run_until_complete, args=(serving,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(LIMIT)
        listener.detach()  # hypercorn has closed it
        assert not thread.is_alive(), "hypercorn does not end"
        loop.close()


def write(folder: Path, backend: ScriptedBackend) -> Path:
    file = folder / "pipelines.yaml"
    file.write_text(config_text(backend.url))
    return file


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ScriptedBackend]]:
    backend = ScriptedBackend()
    with hypercorn(write(tmp_path_factory.mktemp("hypercorn"), backend)) as url:
        yield url, backend
    backend.close()


@pytest.fixture
def backend(shared: tuple[str, ScriptedBackend]) -> Iterator[ScriptedBackend]:
    yield shared[1]
    shared[1].forget()


@pytest.fixture
def client(shared: tuple[str, ScriptedBackend], backend: ScriptedBackend) -> Iterator[Client]:
    client = Client(shared[0])
    yield client
    client.close()


def test_a_whole_response(client: Client, backend: ScriptedBackend) -> None:
    backend.says(whole(200, completion()))
    response = client.post(body())

    assert response.status == 200
    assert response.json["content"] == [{"type": "text", "text": "Hello there"}]


def test_a_streamed_response_and_the_next_request(client: Client, backend: ScriptedBackend) -> None:
    backend.says(streamed("Hello", " there"))
    backend.says(whole(200, completion()))

    assert client.post(body(stream=True)).events[-1]["type"] == "message_stop"
    assert client.post(body()).status == 200


def test_a_body_in_many_messages_arrives_complete(client: Client, backend: ScriptedBackend) -> None:
    backend.says(whole(200, completion()))
    system = "x" * 900_000

    assert client.post(body(system=system)).status == 200
    assert backend.request().body["messages"][0]["content"] == system


def test_a_body_over_the_limit_is_refused(client: Client) -> None:
    refused = client.post(body(system="x" * 1_000_000))

    assert refused.error == (413, "request_too_large")


def test_an_error_before_the_body_is_read(client: Client) -> None:
    assert client.post(body(), x_api_key="wrong").error == (401, "authentication_error")


def test_liveness(client: Client) -> None:
    assert client.get("/health").body == b'{"status":"ok"}'


def test_a_disconnect_in_a_stream_cancels_the_backend_call(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(head(), sse(delta(content="Hello")), Act.UNTIL_CLOSED)
    client.send(raw(body(stream=True)))
    assert client.event()["type"] == "message_start"
    client.close()

    assert backend.is_closed(within=LIMIT)


def test_a_disconnect_before_the_response_cancels_the_backend_call(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(Act.UNTIL_CLOSED)
    client.socket.sendall(raw(body()))
    backend.request()
    client.close()

    assert backend.is_closed(within=LIMIT)


async def waits_for_none(_: Server) -> None:
    """`Server.wait_closed` as it was before Python 3.12.1: it does not wait for connections."""


def test_shutdown_closes_the_backends_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # hypercorn calls it before its `graceful_timeout`, which has no effect then (hypercorn#308).
    monkeypatch.setattr(Server, "wait_closed", waits_for_none)
    backend = ScriptedBackend()
    backend.says(head(), sse(delta(content="Hello")), Act.UNTIL_CLOSED)
    with hypercorn(write(tmp_path, backend)) as url:
        client = Client(url)
        client.send(raw(body(stream=True)))
        assert client.event()["type"] == "message_start"

    assert backend.is_closed(within=LIMIT)
    client.close()
    backend.close()
