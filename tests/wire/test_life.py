"""The command over its life: reloads, its end, readiness, workers. Real processes, real sockets."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import pty
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import Factory, define

from tests import secrets
from tests.grammar import parse_sse
from tests.support import body
from tests.wire import proxy as wire
from tests.wire.backend import Act, ScriptedBackend
from tests.wire.chat import DONE, END, delta, head, sse, streamed, whole
from tests.wire.client import Client, connect, error_in, raw
from tests.wire.command import CLEAN, COMMAND, LIMIT, NO_BACKENDS, Reloadable, command, measured
from tests.wire.impatient import rest as read_all
from tests.wire.proxy import declaration

#: Half of those in one test: each takes a tenth of a second.
RELOADS = 10


@pytest.fixture
def backend() -> Iterator[ScriptedBackend]:
    made = ScriptedBackend()
    yield made
    made.close()


def config(backend: ScriptedBackend, options: str = "") -> str:
    """A config with these options of its backend."""
    return declaration(backend.url).replace("{base_url:", f"{{{options}base_url:", 1)


def write(folder: Path, backend: ScriptedBackend, server: str = "", options: str = "") -> Path:
    """A file with `config`, and these options of the server."""
    file = folder / "pipelines.yaml"
    made = folder / "new"
    made.write_text(f"server: {{{server}}}\n{config(backend, options)}")
    made.replace(file)  # as editors do
    return file


@define
class Clients:
    """Makes clients, and closes their connections."""

    made: list[Client] = Factory(list)

    def new(self, url: str) -> Client:
        """A client with a connection."""
        self.made.append(Client(url))
        return self.made[-1]

    def started(self, url: str) -> Client:
        """A client whose stream has begun."""
        client = self.new(url)
        client.send(raw(body(stream=True)))
        assert client.event()["type"] == "message_start"
        return client


@pytest.fixture
def clients() -> Iterator[Clients]:
    made = Clients()
    yield made
    for client in made.made:
        client.leave()


def texts(client: Client) -> list[str]:
    """The texts of the client's stream, which has to end well."""
    events = parse_sse(client.answer.read())
    assert events[-1]["type"] == "message_stop"
    return [e["delta"]["text"] for e in events if e["type"] == "content_block_delta"]


def held(hold: threading.Event) -> tuple[Any, ...]:
    """A stream that says Hello, waits, and says the rest."""
    return head(), sse(delta(content="Hello")), hold, sse(delta("stop", content=" you")), DONE, END


def until(
    condition: Callable[[], bool], failure: str = "it is not in the log", within: float = LIMIT
) -> None:
    """Wait for a condition, at most `within` seconds. `failure` is the message without it."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, failure
        threading.Event().wait(0.02)


class TestReload:
    def test_a_change_is_served_and_a_broken_file_is_told_as_check_tells_it(
        self, tmp_path: Path, backend: ScriptedBackend, clients: Clients
    ) -> None:
        """A change of the file, and of the `.env` next to it."""
        backend.says(whole(500, {}))
        (tmp_path / ".env").write_text("KEY=one\n")
        file = write(tmp_path, backend)
        file.write_text(file.read_text().replace("[client-key]", "[client-key, '${KEY}']"))
        with command(file) as proxy:
            before = clients.new(proxy.url)
            assert before.get("/v1/models").status == 200
            assert before.get("/v1/models", **{"x-api-key": "two"}).status == 401
            (tmp_path / ".env").write_text("KEY=two\n")
            proxy.says(" reloaded")
            assert before.get("/v1/models", **{"x-api-key": "two"}).status == 200

            good = file.read_text()
            file.write_text(good.replace("list-models", "list-model"))
            proxy.says("not reloaded, the running config stays:")
            proxy.says("unknown-stage")
            assert proxy.says("hint:").endswith("did you mean `list-models`?")
            proxy.says("problem")
            assert before.get("/v1/models").status == 200
            file.write_text(good.replace("client-key", "another-key"))
            proxy.says(" reloaded; backends new or changed: none; removed or changed: none")
            assert before.get("/v1/models").status == 401  # on a connection of before, too
            assert before.get("/v1/models", **{"x-api-key": "another-key"}).status == 200

    def test_requests_finish_on_the_backend_they_began_with_which_is_closed_then(
        self, reloadable: Reloadable, backend: ScriptedBackend, clients: Clients
    ) -> None:
        hold = threading.Event()
        backend.says(*held(hold))
        backend.says(streamed("New"))
        reloadable.load(config(backend))
        client = clients.started(reloadable.url)
        line = reloadable.load(config(backend, "headers: {x-new: 'yes'}, "))
        assert "new or changed: scripted; removed or changed: scripted" in line
        later = clients.started(reloadable.url)
        assert texts(later) == ["New"]
        assert backend.request(1).headers["x-new"] == "yes"
        reloadable.load(config(backend, "headers: {x-new: 'again'}, "))
        assert backend.is_gone(1, within=5)  # nobody needs it any more
        assert not backend.is_gone(0, within=0)
        hold.set()
        assert texts(client) == ["Hello", " you"]
        assert "x-new" not in backend.request(0).headers
        assert backend.is_gone(0, within=5)

    def test_a_backend_that_did_not_change_keeps_its_connection(
        self, reloadable: Reloadable, backend: ScriptedBackend, clients: Clients
    ) -> None:
        backend.says(streamed("Hello"))
        text = config(backend)
        reloadable.load(text)
        assert texts(clients.started(reloadable.url)) == ["Hello"]
        reloadable.load(text.replace("claude-absent", "claude-missing"))
        assert texts(clients.started(reloadable.url)) == ["Hello"]
        assert backend.connections == 1

    def test_what_the_server_has_at_its_start_only_is_told_and_nobody_is_let_in(
        self, reloadable: Reloadable, backend: ScriptedBackend
    ) -> None:
        proxy, text = reloadable.proxy, config(backend)
        reloadable.write(text, server="port: 1")
        proxy.tell(signal.SIGHUP)
        proxy.says("`server.port` has changed: restart the proxy")
        proxy.says(" reloaded")
        reloadable.write(text.replace("{keys: [client-key]}", "{}"))
        proxy.tell(signal.SIGHUP)
        proxy.says("not reloaded, the running config stays:")
        proxy.says("error[open-door]")

    def test_no_stream_is_broken_by_many_reloads_of_which_half_are_of_broken_files(
        self, reloadable: Reloadable, backend: ScriptedBackend, clients: Clients
    ) -> None:
        words = [f"word {n} " for n in range(20)]
        parts = [part for word in words for part in (sse(delta(content=word)), 0.005)]
        lasts = threading.Event()
        backend.says(*held(lasts))
        backend.says(head(), *parts, sse(delta("stop")), DONE, END)
        enough = threading.Event()
        found: list[list[str]] = []
        failures: list[BaseException] = []

        def ask(url: str) -> None:
            try:
                while not enough.is_set():
                    client = clients.started(url)
                    found.append(texts(client))
            except (AssertionError, OSError, http.client.HTTPException) as error:
                failures.append(error)

        proxy, file = reloadable.proxy, reloadable.file
        reloadable.load(config(backend))
        logged = len(proxy.log)
        lasting = clients.started(proxy.url)
        threads = [threading.Thread(target=ask, args=(proxy.url,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for n in range(RELOADS):
            line = reloadable.load(config(backend, f"headers: {{x-reload: '{n}'}}, "))
            assert " reloaded; backends new or changed: scripted" in line
            file.write_text("pipelines: {" if n % 2 else file.read_text() + "more: 1\n")
            proxy.tell(signal.SIGHUP)
            proxy.says("not reloaded, the running config stays:")
        enough.set()
        for thread in threads:
            thread.join(10)
        lasts.set()
        assert texts(lasting) == ["Hello", " you"]
        said = proxy.log[logged:]
        assert not [line for line in said if "Traceback" in line or "outcome=aborted" in line]
        assert not failures
        assert len(found) >= RELOADS
        assert all("".join(each) == "".join(words) for each in found)


class TestEnd:
    def test_on_a_signal_requests_finish_within_the_limit_while_nobody_new_is_let_in(
        self, tmp_path: Path, backend: ScriptedBackend, clients: Clients
    ) -> None:
        hold = threading.Event()
        backend.says(*held(hold))
        backend.says(head(), sse(delta(content="Hello")), Act.UNTIL_GONE)
        backend.says(Act.UNTIL_GONE)
        with command(write(tmp_path, backend, "drain_timeout: 2")) as proxy:
            client, endless = clients.started(proxy.url), clients.started(proxy.url)
            idle, other = clients.new(proxy.url), clients.new(proxy.url)
            idle.get("/health")
            other.socket.sendall(raw(body()))
            backend.request(2)
            proxy.tell(signal.SIGTERM)
            assert idle.socket.recv(1) == b""  # kept connections are closed
            until_refused(proxy.url)
            hold.set()
            assert texts(client) == ["Hello", " you"]
            *_, last = parse_sse(endless.answer.read())
            assert error_in(last)[0] == "overloaded_error"
            other.send(b"")
            told = json.loads(other.answer.read())
            assert other.answer.status == 529
            assert error_in(told) == (
                "overloaded_error",
                "the proxy is shutting down; try again in a moment",
            )
            assert proxy.ends() == -signal.SIGTERM
            assert not [each for each in proxy.log if "Traceback" in each or "Aborted" in each]

    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_a_second_signal_ends_it_at_once(
        self, workers: str, tmp_path: Path, backend: ScriptedBackend, clients: Clients
    ) -> None:
        backend.says(head(), sse(delta(content="Hello")), Act.UNTIL_GONE)
        with command(write(tmp_path, backend), "--workers", workers) as proxy:
            clients.started(proxy.url)
            proxy.tell(signal.SIGTERM)
            until_refused(proxy.url)
            proxy.tell(signal.SIGTERM)
            proxy.ends()
            assert backend.is_gone(within=5)


def until_refused(url: str) -> None:
    """Wait until it listens no more."""
    with contextlib.suppress(ConnectionError):
        while True:
            connect(url).close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_ends_with_the_terminal_it_was_started_in(workers: str, tmp_path: Path) -> None:
    ours, its = pty.openpty()
    file = tmp_path / "pipelines.yaml"
    file.write_text(NO_BACKENDS)
    at = ["--config", str(file), "--port", "0", "--workers", workers]
    with subprocess.Popen(
        [*COMMAND, *at],
        env=measured(),
        stdin=its,
        stdout=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        text=True,
    ) as process:
        os.close(its)
        assert process.stdout
        url = process.stdout.readline().split()[-1]
        client = Client(url)
        assert client.get("/health").status == 200
        client.leave()
        os.close(ours)
        try:
            assert process.wait(LIMIT) in (0, -signal.SIGTERM)
        finally:
            process.kill()


class TestReadiness:
    def test_it_is_not_ready_before_a_backend_that_is_asked_answers(
        self, tmp_path: Path, backend: ScriptedBackend, caplog: pytest.LogCaptureFixture
    ) -> None:
        backend.says(whole(503, {}))
        with wire.proxy(tmp_path, config(backend, "health: /health, ")) as url:
            client = Client(url)
            until(
                lambda: "backend `scripted` answered a health check with status 503" in caplog.text,
                "it is not in the log",
            )
            not_ready = client.get("/health/ready")
            assert not_ready.status == 503
            told = json.loads(not_ready.body)
            assert told["status"] == "not ready"
            assert told["backends"]["scripted"] == {"state": "it does not respond"}
            assert client.get("/health/live").status == 200
            backend.answers = [(whole(401, {}),)]
            until(lambda: "backend `scripted` responds again" in caplog.text)
            assert client.get("/health/ready").status == 200
            assert backend.request().path == "/health"
            client.leave()


class TestWorkers:
    def test_workers_serve_and_are_replaced_and_end_together(
        self, tmp_path: Path, clients: Clients
    ) -> None:
        file = tmp_path / "pipelines.yaml"
        file.write_text(WORKERS)
        (tmp_path / "stages_of_test.py").write_text(STAGES)
        pids = tmp_path / "pids"
        pids.mkdir()

        def served(url: str) -> set[int]:
            """Send requests until two workers have responded. Return their process ids."""

            def both() -> bool:
                assert clients.new(url).get("/mark").status == 200
                return len(list(pids.iterdir())) == 2

            until(both, "only one worker responds", within=2 * LIMIT)
            return {int(file.name) for file in pids.iterdir()}

        options = {"at_most": 4 * LIMIT, "until": "", **measured()}
        with command(file, "--workers", "2", **options) as proxy:
            first = served(proxy.url)
            assert len(first - {proxy.process.pid}) == 2
            dead = min(first)
            os.kill(dead, signal.SIGKILL)
            # The supervisor asks the workers in turn; the other one may still be importing.
            proxy.says(f"Child process [{dead}] died", within=2 * LIMIT)
            (pids / str(dead)).unlink()
            now = served(proxy.url)
            assert len(now - {proxy.process.pid}) == 2
            assert dead not in now

            slow = clients.new(proxy.url)
            slow.socket.sendall(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
            assert slow.socket.recv(15) == b"HTTP/1.1 200 OK"
            proxy.tell(signal.SIGHUP)
            proxy.says(" reloaded")
            proxy.says(" reloaded")
            proxy.tell(signal.SIGTERM)
            until_refused(proxy.url)
            (tmp_path / "go").touch()
            assert read_all(slow.socket).endswith(b"end\r\n0\r\n\r\n")
            assert proxy.ends() == 0
            for pid in now:
                with pytest.raises(ProcessLookupError):
                    os.kill(pid, 0)

    def test_row_a8_a_hangup_while_they_start_does_not_kill_them_but_they_end_with_their_supervisor(
        self, tmp_path: Path, backend: ScriptedBackend, clients: Clients
    ) -> None:
        """When it is killed they end as on SIGTERM."""
        hold = threading.Event()
        backend.says(*held(hold))
        at = ["--config", str(write(tmp_path, backend)), "--port", "0", "--workers", "2"]
        log = tmp_path / "log"
        with (
            log.open("w") as errors,
            subprocess.Popen(
                [*COMMAND, *at], env=CLEAN, stdout=subprocess.PIPE, stderr=errors, text=True
            ) as process,
        ):
            assert process.stdout
            url = process.stdout.readline().split()[-1]
            try:
                workers = started_children(process.pid)
                for pid in workers:
                    os.kill(pid, signal.SIGHUP)
                until(lambda: "is ready after" in log.read_text(), "no worker serves")
                client = clients.started(url)
                assert children(process.pid) == workers
            finally:
                process.kill()
            until_refused(url)
            hold.set()
            assert texts(client) == ["Hello", " you"]
            until_gone(workers)
        with pytest.raises(ConnectionError):
            connect(url)
        secrets.printed(log.read_text())
        assert "Traceback" not in log.read_text()


def children(pid: int) -> list[int]:
    """The workers of a supervisor."""
    found = subprocess.run(["pgrep", "-P", str(pid), "-f", "fork"], stdout=subprocess.PIPE)
    return [int(each) for each in found.stdout.split()]


def started_children(pid: int) -> list[int]:
    """The same, as soon as there are two."""
    until(lambda: len(children(pid)) >= 2, "there are no workers")
    return children(pid)


def until_gone(pids: list[int]) -> None:
    """Wait until no process has one of these ids."""
    assert len(pids) == 2
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "workers live on")


WORKERS = """
server: {allowed_hosts: [x]}
models: {}
pipelines:
  mark: {route: GET /mark, stages: [stages_of_test:Mark]}
  slow: {route: GET /slow, stages: [stages_of_test:Slow]}
"""
#: `Mark` touches a file with the id of its process. `Slow` ends when there is a file `go`.
STAGES = """
import os
from pathlib import Path

import anyio
from attrs import frozen

from pipeline import Send, Stage
from stages.events import HttpRequest, HttpResponse, ResponseBody, ResponseStart

FOLDER = Path(__file__).parent


@frozen
class Mark(Stage[HttpRequest, HttpResponse]):
    async def handle(self, event: HttpRequest, forward: Send[HttpResponse]) -> None:
        (FOLDER / "pids" / str(os.getpid())).touch()
        await forward(ResponseStart(200, {}))
        await forward(ResponseBody(b"marked"))


@frozen
class Slow(Stage[HttpRequest, HttpResponse]):
    async def handle(self, event: HttpRequest, forward: Send[HttpResponse]) -> None:
        await forward(ResponseStart(200, {}))
        await forward(ResponseBody(b"begin", more=True))
        while not (FOLDER / "go").exists():
            await anyio.sleep(0.01)
        await forward(ResponseBody(b"end"))
"""
