"""A proxy on a real socket, a scripted backend behind it, and what tests say to both.

The backend is scripted in steps: bytes are sent as they are, an Event is waited for, a number
is so many seconds of silence, and the members of Act do what they are called. Whatever waits
here waits for an event, with a limit.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import http.client
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread
import uvicorn
from attrs import define, evolve, field, frozen

from pipeline.declaration import Declaration
from proxy.app import App
from proxy.declaration import read
from proxy.limits import Limits
from proxy.protocol import HttpProtocol
from proxy.serve import bind, uvicorn_config
from tests import secrets
from tests.grammar import check_grammar, parse_sse
from tests.sdk_types import check_sent

#: Nothing in these tests takes so long, in seconds, unless it hangs.
LIMIT = 10.0


METRICS = "text/plain; version=0.0.4; charset=utf-8"


class Act(enum.Enum):
    """What a scripted backend can do besides sending and waiting."""

    CLOSE = "close the connection"
    RESET = "break the connection off, as a crashed process does"
    UNTIL_GONE = "wait until the peer closes the connection"


Step = bytes | threading.Event | float | Act


@frozen
class Received:
    """A request as the backend got it. `connection` counts connections from 0."""

    connection: int
    method: str
    path: str
    headers: dict[str, str]
    body: Any


async def gone(backend: ScriptedBackend, connection: int = 0) -> bool:
    """Whether the peer closes a connection within a second, while the event loop goes on."""
    return await anyio.to_thread.run_sync(backend.is_gone, connection, 1.0)


@define(eq=False)
class ScriptedBackend:
    """A server of Chat Completions that does what `answers` say, one by one; the last repeats.

    With `tls` it speaks that.
    """

    tls: ssl.SSLContext | None = None
    answers: list[Sequence[Step]] = field(factory=list, init=False)
    requests: list[Received] = field(factory=list)
    failures: list[BaseException] = field(factory=list)
    #: When each connection was closed by its peer.
    gone: dict[int, float] = field(factory=dict)
    _connections: list[socket.socket] = field(factory=list)
    _threads: list[threading.Thread] = field(factory=list)
    _news: threading.Condition = field(factory=threading.Condition)
    _listener: socket.socket = field(factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _acceptor: threading.Thread = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def url(self) -> str:
        """Its root, without a path."""
        scheme = "https" if self.tls else "http"
        return f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def connections(self) -> int:
        """How many connections were ever made."""
        return len(self._connections)

    def says(self, *steps: Step) -> None:
        """Answer the next request, and those after it, with `steps`."""
        self.answers = [*self.answers, steps]

    def request(self, number: int = 0) -> Received:
        """A request, counted from 0; waits for it."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.requests) > number, LIMIT), "no request"
            return self.requests[number]

    def is_gone(self, connection: int = 0, within: float = 1.0) -> bool:
        """Whether the peer closes a connection in so many seconds from now."""
        with self._news:
            return self._news.wait_for(lambda: connection in self.gone, within)

    def hang_up(self) -> None:
        """Close all connections, and raise what failed in them."""
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(LIMIT)
        for failure in self.failures:
            raise failure

    def forget(self) -> None:
        """Be as new, at the same address."""
        self.hang_up()
        for each in (self.answers, self.requests, self.gone, self._connections, self._threads):
            each.clear()

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join(LIMIT)
        self.hang_up()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections.append(connection)
            number = len(self._connections) - 1
            thread = threading.Thread(target=self._serve, args=(number, connection), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, number: int, connection: socket.socket) -> None:
        try:
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
                self._connections[number] = connection
            with connection, connection.makefile("rb") as source:
                while request := _received(number, source):
                    for step in self._next(request):
                        if not self._do(step, connection):
                            return
        except (ConnectionError, ValueError, ssl.SSLError):
            pass  # the peer broke off
        except AssertionError as error:
            self.failures.append(error)
        finally:
            with self._news:
                self.gone[number] = time.monotonic()
                self._news.notify_all()

    def _next(self, request: Received) -> Sequence[Step]:
        with self._news:
            self.requests.append(request)
            self._news.notify_all()
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def _do(self, step: Step, connection: socket.socket) -> bool:
        """Do one step; whether there may be another."""
        if isinstance(step, bytes):
            connection.sendall(step)
        elif isinstance(step, threading.Event):
            assert step.wait(LIMIT), "the test never let the backend go on"
        elif isinstance(step, float):
            threading.Event().wait(step)
        elif step is Act.UNTIL_GONE:
            connection.settimeout(LIMIT)
            while connection.recv(1024):
                pass
            return False
        else:
            if step is Act.RESET:
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return False
        return True


def _received(number: int, source: Any) -> Received | None:
    line = source.readline().decode()
    if not line.endswith("\r\n"):
        return None
    method, path, _ = line.split(" ")
    headers = http.client.parse_headers(source)
    body = source.read(int(headers["content-length"] or 0))
    names = {name.lower(): value for name, value in headers.items()}
    return Received(number, method, path, names, json.loads(body or b"null"))


# ---- what a backend says ----


def head(status: int = 200, content_type: str = "text/event-stream", **headers: str) -> bytes:
    """A status line and headers, for a body in chunks. A name's `_` stands for `-`."""
    lines = [f"HTTP/1.1 {status} Whatever", "transfer-encoding: chunked"]
    if content_type:
        lines.append(f"content-type: {content_type}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def piece(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


END = b"0\r\n\r\n"


def whole(status: int, body: Any, content_type: str = "application/json", **headers: str) -> bytes:
    """A whole answer; a body that is no bytes is JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return head(status, content_type, **headers) + (piece(data) if data else b"") + END


def sse(*events: Any) -> bytes:
    """Chat Completions chunks as server-sent events, in one piece of a chunked body."""
    return piece(b"".join(b"data: %b\n\n" % json.dumps(each).encode() for each in events))


DONE = piece(b"data: [DONE]\n\n")


def delta(finish: str | None = None, **members: Any) -> dict[str, Any]:
    """A Chat Completions chunk."""
    return {"choices": [{"index": 0, "delta": members, "finish_reason": finish}]}


def completion(text: str = "Hello there") -> dict[str, Any]:
    """A Chat Completions answer that is no stream."""
    message = {"role": "assistant", "content": text}
    return {
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 3},
    }


def streamed(*texts: str) -> bytes:
    """A whole stream of these texts."""
    deltas = [delta(content=text) for text in texts]
    return head() + sse(*deltas, delta("stop")) + DONE + END


# ---- the proxy ----


def proxy(
    folder: Path, declaration: str, limits: Limits | None = None
) -> contextlib.AbstractContextManager[str]:
    """A proxy that serves this text of a declaration; its root URL."""
    file = folder / "pipelines.yaml"
    file.write_text(declaration)
    return serving(read(str(file), environ={}), limits)


@contextlib.contextmanager
def serving(
    declaration: Declaration,
    limits: Limits | None = None,
    drain_timeout: float = 0.5,
) -> Iterator[str]:
    """A proxy that serves a declaration as `llm-proxy` would; its root URL."""
    bound = bind("127.0.0.1", 0)  # it listens from here on, so a client's first call waits
    server = evolve(declaration.sections["server"], drain_timeout=drain_timeout)
    config = uvicorn_config(lambda: App(declaration), server)
    if limits:
        config.http = functools.partial(HttpProtocol, limits=limits)  # type: ignore[assignment]
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, args=([bound],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        running.should_exit = True
        thread.join(LIMIT)
        assert not thread.is_alive(), "the proxy does not end"


def declaration(url: str, invoke: str = "invoke", stages: Sequence[str] = ()) -> str:
    """The usual pipelines in front of the backend at `url`.

    `stages` go in front of `stream-encode`. Nothing listens where `claude-absent` leads.
    """
    more = "".join(f"      - {stage}\n" for stage in stages)
    return f"""
backends:
  scripted: {{base_url: "{url}/v1", api_key: backend-key}}
  absent: {{base_url: "http://127.0.0.1:1/v1"}}
models:
  claude-test: {{backend: scripted, model: some-model}}
  claude-absent: {{backend: absent}}
  "maker/model one": {{backend: scripted}}
  "open-*": {{backend: scripted}}
pipelines:
  messages:
    route: POST /v1/messages
    stages:
      - authenticate: &keys {{keys: [client-key]}}
      - validate: &size {{max_body_bytes: 1000000}}
      - resolve
      - translate-in
      - {invoke}
      - translate-out
{more}      - stream-encode
  count-tokens:
    route: POST /v1/messages/count_tokens
    stages:
      - authenticate: *keys
      - validate: {{body: count-tokens}}
      - resolve
      - translate-in
      - count-tokens
  models:
    route: [GET /v1/models, "GET /v1/models/{{id:path}}"]
    stages:
      - authenticate: *keys
      - list-models
"""


# ---- the client ----


def address(url: str) -> tuple[str, int]:
    """Where the proxy listens."""
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)


def connect(url: str) -> socket.socket:
    """A connection to the proxy."""
    return socket.create_connection(address(url), timeout=LIMIT)


def raw(body: Any, path: str = "/v1/messages", **headers: str) -> bytes:
    """A POST as bytes; a body that is no bytes is JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"x-api-key": "client-key", "content-length": str(len(data)), "host": "x"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    return "\r\n".join([*lines, "", ""]).encode() + data


@define
class Client:
    """One keep-alive connection to the proxy."""

    url: str
    socket: socket.socket = field(init=False)
    answer: http.client.HTTPResponse = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.socket = connect(self.url)

    def send(self, data: bytes, method: str = "POST") -> http.client.HTTPResponse:
        """Send bytes; the answer's head is read, its body is not."""
        self.socket.sendall(data)
        self.answer = http.client.HTTPResponse(self.socket, method=method)
        self.answer.begin()
        return self.answer

    def post(self, body: Any, path: str = "/v1/messages", **headers: str) -> Answer:
        """Send a request and read the whole answer."""
        return Answer.of(self.send(raw(body, path, **headers)))

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """The same for methods without a body."""
        given = {"x-api-key": "client-key", "host": "x", **headers}
        lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in given.items())]
        return Answer.of(self.send("\r\n".join([*lines, "", ""]).encode(), method))

    def event(self) -> dict[str, Any]:
        """The next event of a stream, as soon as it is there."""
        name = self.answer.readline()
        while name.startswith(b":"):  # a comment
            name = self.answer.readline()
        data, empty = self.answer.readline(), self.answer.readline()
        secrets.told(data.decode())
        assert empty == b"\n"
        (event,) = parse_sse(name + data + empty)
        return event

    def leave(self) -> None:
        """Close the connection as a client that is stopped."""
        if hasattr(self, "answer"):
            self.answer.close()
        self.socket.close()


@frozen
class Answer:
    """A whole answer of the proxy."""

    status: int
    headers: dict[str, str]
    body: bytes

    @classmethod
    def of(cls, answer: http.client.HTTPResponse) -> Answer:
        """Read an answer to its end."""
        body = answer.read()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        look = secrets.printed if headers.get("content-type") == METRICS else secrets.told
        look(body.decode(errors="replace") + repr(headers))
        return cls(answer.status, headers, body)

    @property
    def json(self) -> Any:
        """The body of an answer that is JSON, of a type the official SDK knows."""
        assert self.headers["content-type"] == "application/json"
        value = json.loads(self.body)
        check_sent(value)
        return value

    @property
    def error(self) -> tuple[int, str]:
        """Status and type of an answer that is a well-formed error."""
        assert self.json["request_id"] == self.headers["request-id"]
        error_in(self.json)
        return self.status, str(self.json["error"]["type"])

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events of an answer that is a stream."""
        assert self.status == 200
        assert self.headers["content-type"] == "text/event-stream; charset=utf-8"
        found = parse_sse(self.body)
        check_grammar(found, whole=False)
        return found


def error_in(payload: dict[str, Any]) -> tuple[str, str]:
    """Type and message of the JSON of an error, which has to be well-formed."""
    assert payload.keys() == {"type", "error", "request_id"}
    assert payload["type"] == "error"
    assert payload["error"].keys() - {"details"} == {"type", "message"}
    assert payload["error"]["message"]
    assert payload["request_id"].startswith("req_")
    return str(payload["error"]["type"]), str(payload["error"]["message"])
