"""The page shows the exchanges of all workers, whichever of them responds. Real processes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from attrs import define, field

from tests.waiting import until
from tests.wire.client import Client, raw
from tests.wire.command import LIMIT, Command, command

WORKERS = 2
JSON = "application/json"
#: A stage in place of a backend, so that no worker imports LangChain, which takes seconds.
STAGE = """
import os

import anyio
from attrs import frozen

from pipeline import Send, Stage
from stages.events import HttpRequest, HttpResponse, ResponseBody, ResponseStart


@frozen
class Reply(Stage[HttpRequest, HttpResponse]):
    async def handle(self, event: HttpRequest, forward: Send[HttpResponse]) -> None:
        await event.read_body(1000)
        pid = str(os.getpid()).encode()
        await forward(ResponseStart(200, {"content-length": str(len(pid) + 1)}))
        await forward(ResponseBody(pid, more=True))
        await anyio.sleep(float(event.headers.get("seconds", "0")))
        await forward(ResponseBody(b"."))
"""
CONFIG = """
server: {reload: false, allowed_hosts: ["*"]}
ui: {max_bytes: MAX_BYTES}
models: {}
pipelines:
  messages:
    route: POST /v1/messages
    stages: ["reply_of_test:Reply"]
  ui:
    route: [GET /ui, "GET /ui/{path:path}"]
    stages: [authenticate, ui]
"""


@define
class Scene:
    """A proxy with several workers, and a connection to each of them by its process id."""

    proxy: Command
    file: Path
    connections: dict[int, Client] = field(factory=dict)

    def connect(self) -> None:
        """Connect to each worker; the connections stay open, so each has its own worker."""
        self.close()

        def connected() -> bool:
            client = Client(self.proxy.url)
            client.socket.settimeout(LIMIT)
            if self.connections.setdefault(post(client)[0], client) is not client:
                client.close()
            return len(self.connections) == WORKERS

        until(connected, "not all workers have got a connection", within=4 * LIMIT)
        page_of_all(self.any)

    def close(self) -> None:
        """Close all connections."""
        for client in self.connections.values():
            client.close()
        self.connections.clear()

    @property
    def any(self) -> Client:
        """A connection to one of the workers."""
        return next(iter(self.connections.values()))


def post(client: Client) -> tuple[int, str]:
    """Send a request. Return the process id of its worker, and its own id."""
    response = client.post(b"{}", content_type=JSON)
    return int(response.body[:-1]), response.headers["request-id"]


def page(client: Client, path: str = "") -> str:
    """A part of the page, without tags that emphasise."""
    text = client.get(f"/ui{path}").body.decode()
    return " ".join(re.sub("</?b>", "", text).split())


def page_of_all(client: Client, path: str = "") -> str:
    """The same. On a busy machine a worker may not respond in time: then it is read again."""

    def read() -> str:
        text = page(client, path)
        return "" if "responded" in text else text

    return until(read, "not all workers respond")


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("page")
    file = folder / "pipelines.yaml"
    file.write_text(CONFIG.replace("MAX_BYTES", "1_000_000"))
    (folder / "reply_of_test.py").write_text(STAGE)
    with command(file, "--workers", str(WORKERS), at_most=8 * LIMIT, until="") as proxy:
        yield Scene(proxy, file)


@pytest.fixture
def scene(shared: Scene) -> Iterator[Scene]:
    shared.connect()
    yield shared
    shared.close()


def test_each_worker_shows_the_exchanges_of_all_and_opens_them(scene: Scene) -> None:
    ids = [post(client)[1] for client in scene.connections.values() for _ in range(3)]

    def complete(client: Client) -> bool:
        # An exchange is recorded after its response, so an earlier one may come after these.
        return {*ids} <= {*re.findall(r'id="e-(req_\w+)"', page(client))}

    for client in scene.connections.values():
        until(partial(complete, client), "the page has not all exchanges")
        for id in ids:
            assert "reply_of_test:Reply</th>" in page_of_all(client, f"/exchanges/{id}")
        assert client.get("/ui/exchanges/req_0").status == 404
        page_of_all(client, "/exchanges/req_0")


def test_an_exchange_in_flight_in_another_worker_is_on_the_page(scene: Scene) -> None:
    (busy, one), (_, other) = scene.connections.items()
    response = one.send(raw(b"{}", content_type=JSON, seconds="9"))

    assert response.read(len(str(busy))) == str(busy).encode()
    id = response.headers["request-id"]
    text = page_of_all(other)
    row = text.partition(f'id="e-{id}"')[2].partition("</tr>")[0]
    assert 'class="tag run"' in row
    assert "1 in flight" in text
    assert "hx-trigger" in page_of_all(other, f"/exchanges/{id}")


def test_a_stopped_worker_is_named_and_the_others_are_shown(scene: Scene) -> None:
    (pid, _), (_, other) = scene.connections.items()
    id = post(other)[1]
    words = f"1 of 2 workers responded. No readable response in time: process {pid}."
    with stopped(pid):
        until(lambda: words in page(other), "the worker still responds")
        assert id in page(other)
    page_of_all(other)


def test_a_stopped_supervisor_leaves_the_exchanges_of_the_worker(scene: Scene) -> None:
    (_, one), (_, other) = scene.connections.items()
    own, foreign = post(one)[1], post(other)[1]
    words = "1 of 2 workers responded. 1 of them is not connected to the supervisor, or it does"
    with stopped(scene.proxy.process.pid):
        until(lambda: words in page(one), "the supervisor still responds")
        text, missing = page(one), page(one, f"/exchanges/{foreign}")
    assert own in text
    assert foreign not in text
    assert words in missing


def test_a_worker_that_is_killed_is_missing_until_there_is_another(scene: Scene) -> None:
    (pid, _), (_, other) = scene.connections.items()
    os.kill(pid, signal.SIGKILL)

    id = post(other)[1]
    until(lambda: id in page(other), "the other worker does not show its exchange")
    scene.connect()
    assert pid not in scene.connections


def test_a_reload_with_a_smaller_limit_keeps_the_page_of_all(scene: Scene) -> None:
    scene.file.write_text(CONFIG.replace("MAX_BYTES", "5_000"))
    scene.proxy.send_signal(signal.SIGHUP)
    for _ in range(WORKERS):
        scene.proxy.says(" reloaded")
    ids = [post(client)[1] for client in scene.connections.values() for _ in range(15)]

    def shown() -> str:
        text = page_of_all(scene.any)
        return text if "10 KB" in text and ids[-1] in text else ""

    text = until(shown, "the page does not have the new limit")
    assert len(re.findall(r'id="e-(req_\w+)"', text)) <= 30
    pages = []
    while link := re.search(r'href="ui(\?before=[\d.]+)"', text):
        pages.append(text)
        text = page_of_all(scene.any, link[1])
    seen = re.findall(r'id="e-(req_\w+)"', "".join([*pages, text]))
    in_memory = re.search(r"(\d+) in memory", text)
    assert in_memory
    assert 0 < len(seen) == len(set(seen)) == int(in_memory[1]) < len(ids)
