"""Two proxies after a real nginx with deploy/nginx.conf, over sockets."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from attrs import frozen

from proxy.config import read
from tests.deployment import DEPLOY, write_config
from tests.support import body
from tests.wire.backend import LIMIT, Act, ScriptedBackend
from tests.wire.chat import DONE, END, completion, delta, head, sse, whole
from tests.wire.client import Client, Response, connect, raw
from tests.wire.command import Command, command
from tests.wire.proxy import serving

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
# pip cannot install nginx. Without it, a contributor can still run all other tests.
pytestmark = pytest.mark.skipif(not NGINX, reason="needs nginx (Debian: apt install nginx)")

PROXIES = "server proxy:8080 resolve max_fails=0;"
#: The keys that the proxies send to the backend.
KEYS = ("one", "two")
ANSWER = whole(200, completion())


def adapted(folder: Path, port: int, proxies: Sequence[str]) -> Path:
    """Write the config of nginx for this machine: its folder, its port, and the proxies.

    The names of proxies are not resolved again: Debian's nginx is too old for that.
    """
    text = (DEPLOY / "nginx.conf").read_text()
    assert text.count(PROXIES) == 1
    text = text.replace(PROXIES, " ".join(f"server {proxy} max_fails=0;" for proxy in proxies))
    text = text.replace("/tmp/", f"{folder}/").replace("listen 8080;", f"listen 127.0.0.1:{port};")
    file = folder / "nginx.conf"
    file.write_text(text)
    return file


@contextlib.contextmanager
def nginx(folder: Path, proxies: Sequence[str]) -> Iterator[str]:
    """Run nginx with these proxies. Yield its root URL."""
    assert NGINX
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    file = adapted(folder, port, proxies)
    errors = (folder / "nginx.log").open("w")
    process = subprocess.Popen([NGINX, "-c", str(file), "-g", "daemon off;"], stderr=errors)
    url, soon = f"http://127.0.0.1:{port}", time.monotonic() + LIMIT
    try:
        while True:
            assert process.poll() is None, (folder / "nginx.log").read_text()
            with contextlib.suppress(ConnectionRefusedError):
                connect(url).close()
                break
            assert time.monotonic() < soon, "nginx does not listen"
            threading.Event().wait(0.02)
        yield url
    finally:
        process.terminate()
        process.wait(LIMIT)
        errors.close()


@frozen
class Site:
    """nginx at `url`, and the backend of its proxies."""

    url: str
    backend: ScriptedBackend

    def stream(self, session: str) -> Client:
        """Start a stream, and read its first event."""
        client = Client(self.url)
        client.send(raw(body(model="claude-x", stream=True), x_claude_code_session_id=session))
        assert client.event()["type"] == "message_start"
        return client

    def ask(self, session: str = "") -> Response:
        """Ask for a response that is not a stream."""
        client = Client(self.url)
        headers = {"x_claude_code_session_id": session} if session else {}
        try:
            return client.post(body(model="claude-x"), **headers)
        finally:
            client.close()

    def proxy_of(self, request: int) -> str:
        """The key of the proxy that sent a request to the backend, counted from 0."""
        return self.backend.request(request).headers["authorization"].removeprefix("Bearer ")

    def session_at(self, key: str) -> str:
        """Find a session whose requests go to the proxy with this key."""
        self.backend.says(ANSWER)
        for number in range(64):
            self.ask(f"s{number}")
            if self.proxy_of(number) == key:
                self.backend.forget()
                return f"s{number}"
        raise AssertionError("unreachable")


Start = Callable[[Path], contextlib.AbstractContextManager[str]]


def serve(file: Path) -> contextlib.AbstractContextManager[str]:
    """Serve a config in this process."""
    return serving(read(str(file), {}))


@contextlib.contextmanager
def site_of(folder: Path, start: Start) -> Iterator[Site]:
    """Start two proxies, each with the config in its folder, and nginx. Yield them when ready."""
    backend = ScriptedBackend()
    with contextlib.ExitStack() as running:
        running.callback(backend.close)
        addresses = []
        for key in KEYS:
            (folder / key).mkdir()
            url = running.enter_context(start(write_config(folder / key, backend.url, key)))
            addresses.append(url.removeprefix("http://"))
        yield Site(running.enter_context(nginx(folder, addresses)), backend)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_of(tmp_path_factory.mktemp("site"), serve) as site:
        yield site


@pytest.fixture
def site(lasting: Site) -> Iterator[Site]:
    yield lasting
    lasting.backend.forget()


def test_each_chunk_of_a_stream_arrives_before_the_next_one_is_sent(site: Site) -> None:
    arrived = [threading.Event() for _ in range(100)]
    steps = [step for event in arrived for step in (sse(delta(content="word ")), event)]
    site.backend.says(head(), *steps, sse(delta("stop")), DONE, END)

    client = site.stream("s")
    for event in arrived:
        while client.event()["type"] != "content_block_delta":
            pass
        event.set()

    assert b"message_stop" in client.response.read()
    client.close()


def test_a_body_of_20_mb_passes(site: Site) -> None:
    site.backend.says(ANSWER)
    text = "x" * 20_000_000
    client = Client(site.url)

    response = client.post(body(model="claude-x", messages=[{"role": "user", "content": text}]))

    assert response.status == 200
    assert text in json.dumps(site.backend.request().body)
    client.close()


def test_a_body_that_is_too_large_gets_the_error_of_the_proxy(site: Site) -> None:
    client = Client(site.url)

    response = client.post(b" " * 33_600_000)

    assert response.error == (413, "request_too_large")
    client.close()


def test_a_wrong_key_is_refused_before_the_body_is_sent(site: Site) -> None:
    client = Client(site.url)
    request = raw(b"x" * 100_000, x_api_key="wrong")

    response = Response.of(client.send(request[:-99_000]))

    assert response.error == (401, "authentication_error")
    client.close()


def test_a_client_that_disconnects_ends_the_call_of_the_backend(site: Site) -> None:
    site.backend.says(head(), sse(delta(content="Hello")), Act.UNTIL_CLOSED)

    site.stream("s").close()

    assert site.backend.is_closed(within=LIMIT)


def test_a_session_stays_at_one_proxy_and_other_requests_reach_both(site: Site) -> None:
    site.backend.says(ANSWER)

    statuses = [site.ask("s").status for _ in range(8)] + [site.ask().status for _ in range(32)]

    assert statuses == [200] * 40
    assert len({site.proxy_of(request) for request in range(8)}) == 1
    assert {site.proxy_of(request) for request in range(8, 40)} == {"one", "two"}


def test_metrics_are_those_of_a_proxy_not_of_nginx(site: Site) -> None:
    client = Client(site.url)

    assert client.get("/metrics").status == 404
    assert client.get("/health/ready").status == 200
    client.close()


def test_without_a_proxy_clients_get_an_error_of_the_api(tmp_path: Path) -> None:
    with nginx(tmp_path, ["127.0.0.1:1", "127.0.0.1:2"]) as url:
        client = Client(url)
        response = client.post(body(model="claude-x"))
        client.close()

    assert response.status == 529
    assert response.headers["content-type"] == "application/json"
    assert json.loads(response.body)["error"]["type"] == "overloaded_error"


def test_a_proxy_that_gets_sigterm_loses_nothing(tmp_path: Path) -> None:
    """Its stream ends complete, and other requests go to the other proxy."""
    commands: list[Command] = []

    @contextlib.contextmanager
    def start(file: Path) -> Iterator[str]:
        if file.parent.name == "two":
            with serve(file) as url:
                yield url
        else:
            with command(file) as running:
                commands.append(running)
                yield running.url

    hold = threading.Event()
    with site_of(tmp_path, start) as site:
        session = site.session_at("one")
        site.backend.says(head(), sse(delta(content="Hello")), hold, sse(delta("stop")), DONE, END)
        site.backend.says(ANSWER)
        stream = site.stream(session)
        (stopped,) = commands

        stopped.send_signal(signal.SIGTERM)
        with contextlib.suppress(ConnectionError):
            while True:  # until it listens no more
                connect(stopped.url).close()
        responses = [site.ask() for _ in range(32)] + [site.ask(session)]
        hold.set()

        assert b"message_stop" in stream.response.read()
        stream.close()
        log = (tmp_path / "nginx.log").read_text()
        assert [each.body for each in responses if each.status != 200] == [], log
        assert [site.proxy_of(request) for request in range(34)] == ["one"] + ["two"] * 33
        assert stopped.ends() in (0, -signal.SIGTERM)
