"""The app as a plain ASGI app: under Starlette's TestClient, mounted, and under a bare server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from pipeline.config.problems import ConfigError
from proxy.app import App, make_app
from proxy.config import referenced_backends
from proxy.http.disconnect import HEADER_LINES, REQUEST_SIGNALS, with_signals
from tests.proxy.support import DISCONNECT, part
from tests.support import body
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import completion, streamed, whole
from tests.wire.proxy import config_text

KEY = {"x-api-key": "client-key"}


@pytest.fixture
def backend() -> Iterator[ScriptedBackend]:
    backend = ScriptedBackend()
    yield backend
    backend.close()


@pytest.fixture
def app(tmp_path: Path, backend: ScriptedBackend) -> App:
    return make_app(write(tmp_path, backend))


def write(folder: Path, backend: ScriptedBackend, server: str = "") -> str:
    file = folder / "pipelines.yaml"
    file.write_text(f"server: {{{server}}}\n{config_text(backend.url)}")
    return str(file)


@pytest.fixture
def client(app: App) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


class TestTestClient:
    def test_a_whole_response(self, client: TestClient, backend: ScriptedBackend) -> None:
        backend.says(whole(200, completion()))
        response = client.post("/v1/messages", json=body(), headers=KEY)

        assert response.status_code == 200
        assert response.json()["content"] == [{"type": "text", "text": "Hello there"}]

    def test_a_streamed_response(self, client: TestClient, backend: ScriptedBackend) -> None:
        backend.says(streamed("Hello", " there"))
        with client.stream("POST", "/v1/messages", json=body(stream=True), headers=KEY) as response:
            lines = [line for line in response.iter_lines() if line.startswith("event: ")]

        assert lines[0] == "event: message_start"
        assert lines[-1] == "event: message_stop"

    def test_an_error(self, client: TestClient) -> None:
        response = client.post("/v1/messages", json=body())

        assert response.status_code == 401
        assert response.json()["error"]["type"] == "authentication_error"
        assert response.json()["request_id"] == response.headers["request-id"]

    @pytest.mark.parametrize("path", ["/", "/health", "/health/live"])
    def test_health(self, path: str, client: TestClient) -> None:
        assert client.get(path).status_code == 200
        assert client.head(path).status_code == 200

    def test_a_websocket_is_refused(self, client: TestClient) -> None:
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/v1/messages"):
            pass


class TestMounting:
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"  # admission.py is on asyncio, as are the backends

    def test_paths_are_relative_to_the_mount(self, app: App, backend: ScriptedBackend) -> None:
        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            async with app.lifespan():
                yield

        backend.says(whole(200, completion()))
        parent = Starlette(routes=[Mount("/llm", app)], lifespan=lifespan)
        with TestClient(parent) as client:
            assert client.get("/llm/health").json() == {"status": "ok"}
            assert client.get("/llm/v1/models/claude-test", headers=KEY).status_code == 200
            posted = client.post("/llm/v1/messages", json=body(), headers=KEY)
            assert posted.status_code == 200

    @pytest.mark.parametrize(
        ("path", "root_path", "status"),
        [
            ("/llm/health", "/llm", 200),
            ("/health", "/llm", 200),  # as hypercorn: its root path is not in the path
            ("/llmhealth", "/llm", 404),
            ("/llm", "/llm", 200),
        ],
    )
    async def test_a_root_path_may_be_in_the_path(
        self, path: str, root_path: str, status: int, app: App
    ) -> None:
        assert (await get(app, path=path, root_path=root_path))[0]["status"] == status


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_without_the_lifespan_a_request_opens_its_backend(
    app: App, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, completion()))
    server = Pushing(part(json.dumps(body()).encode()))
    headers = [(b"x-api-key", b"client-key")]
    scope = {"type": "http", "method": "POST", "path": "/v1/messages", "query_string": b""}
    await app({**scope, "headers": headers}, server.receive, server.send)
    for opened in referenced_backends(app.current.config).values():
        await opened.aclose()

    assert server.sent[0]["status"] == 200


class TestMakeApp:
    def test_a_config_with_problems_is_refused(self, tmp_path: Path) -> None:
        file = tmp_path / "pipelines.yaml"
        file.write_text("models: {}\n")
        with pytest.raises(ConfigError):
            make_app(str(file))

    def test_an_open_config_on_a_public_address_is_refused(
        self, tmp_path: Path, backend: ScriptedBackend
    ) -> None:
        file = Path(write(tmp_path, backend, server="host: 0.0.0.0"))
        file.write_text(file.read_text().replace("[client-key]", "[]"))
        with pytest.raises(ConfigError):
            make_app(str(file))


async def get(app: App, **changes: Any) -> list[Message]:
    """Send a GET with the smallest scope that ASGI allows; return what the app sends."""
    sent: list[Message] = []

    async def receive() -> Message:
        await anyio.sleep_forever()
        raise AssertionError("unreachable")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
    await app({**scope, **changes}, receive, send)
    return sent


async def test_a_scope_without_client_and_state_is_enough(app: App) -> None:
    sent = await get(app)

    assert sent[0]["status"] == 200
    assert json.loads(sent[1]["body"])["name"] == "llm-proxy"


class Pushing:
    """A server that sends one message each time that it is asked, and then waits."""

    def __init__(self, *messages: Message) -> None:
        self.messages = list(messages)
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        if not self.messages:
            await anyio.sleep_forever()
        return self.messages.pop(0)

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def run(self, app: Any) -> None:
        scope: MutableMapping[str, Any] = {"type": "http", "state": {"theirs": 1}}
        with anyio.fail_after(30):
            await with_signals(app, scope, self.receive, self.send)


START = {"type": "http.response.start", "status": 200, "headers": []}


class TestSignals:
    async def test_header_lines_are_headers_of_any_server(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            lines = b"retry-after: 5\r\nx-note: a: b\r\n"
            await send({**START, "headers": [(b"one", b"1")], HEADER_LINES: lines})

        server = Pushing(part(b"Hello"))
        await server.run(app)

        [start] = server.sent
        assert start["headers"] == [(b"one", b"1"), (b"retry-after", b"5"), (b"x-note", b"a: b")]
        assert HEADER_LINES not in start

    async def test_a_disconnect_after_the_body_cancels_the_scope(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            assert scope["state"]["theirs"] == 1
            signals = scope["state"][REQUEST_SIGNALS]
            assert (await receive())["body"] == b"Hello"
            with anyio.CancelScope() as cancel_scope:
                signals.cancel_on_signal(cancel_scope)
                await anyio.sleep_forever()
            assert signals.disconnected
            assert [await receive(), await receive()] == [DISCONNECT, DISCONNECT]

        await Pushing(part(b"Hello"), DISCONNECT).run(app)

    async def test_nothing_is_read_before_the_app_asks(self) -> None:
        server = Pushing(part(b"Hello"), DISCONNECT)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await anyio.wait_all_tasks_blocked()
            assert len(server.messages) == 2

        await server.run(app)

    async def test_a_disconnect_is_noticed_if_the_body_is_not_read(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(START)
            with anyio.CancelScope() as cancel_scope:
                scope["state"][REQUEST_SIGNALS].cancel_on_signal(cancel_scope)
                await anyio.sleep_forever()

        await Pushing(part(b""), DISCONNECT).run(app)

    async def test_a_body_read_after_the_response_has_started_is_whole(self) -> None:
        server = Pushing(part(b"He", more=True), part(b"l", more=True), part(b"lo"))
        received: list[bytes] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(START)
            await anyio.wait_all_tasks_blocked()
            assert len(server.messages) == 2, "the unread body stays with the server"
            received.extend([(await receive())["body"] for _ in range(3)])

        await server.run(app)
        assert received == [b"He", b"l", b"lo"]

    async def test_a_disconnect_in_the_body_reaches_the_app(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            assert (await receive())["more_body"]
            assert await receive() == DISCONNECT
            assert scope["state"][REQUEST_SIGNALS].disconnected

        await Pushing(part(b"Hel", more=True), DISCONNECT).run(app)

    async def test_a_disconnect_after_the_response_sends_no_signal(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(START)
            await send({"type": "http.response.body", "body": b"Hello"})
            await anyio.wait_all_tasks_blocked()
            assert not scope["state"][REQUEST_SIGNALS].disconnected

        await Pushing(part(b""), DISCONNECT).run(app)
