"""The command over its life: reloads, its end, readiness, workers. Real processes, real sockets."""

from __future__ import annotations

import http.client
import json
import signal
import threading
from pathlib import Path

import pytest

from tests.grammar import parse_sse
from tests.support import body
from tests.waiting import logged
from tests.wire import proxy as wire
from tests.wire.backend import Act, ScriptedBackend
from tests.wire.chat import DONE, END, delta, head, sse, streamed, whole
from tests.wire.client import Client, error_in, raw
from tests.wire.command import Reloadable, command
from tests.wire.life import Clients, config, paused_stream, texts, until_refused, write
from tests.wire.life import backend as backend
from tests.wire.life import clients as clients

#: Half of those in one test: each takes a tenth of a second.
RELOADS = 10


class TestReload:
    def test_a_change_is_served_and_a_broken_file_is_reported(
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

    def test_requests_finish_on_their_backend_before_it_is_closed(
        self, reloadable: Reloadable, backend: ScriptedBackend, clients: Clients
    ) -> None:
        hold = threading.Event()
        backend.says(*paused_stream(hold))
        backend.says(streamed("New"))
        reloadable.load(config(backend))
        client = clients.started(reloadable.url)
        line = reloadable.load(config(backend, "headers: {x-new: 'yes'}, "))
        assert "new or changed: scripted; removed or changed: scripted" in line
        later = clients.started(reloadable.url)
        assert texts(later) == ["New"]
        assert backend.request(1).headers["x-new"] == "yes"
        reloadable.load(config(backend, "headers: {x-new: 'again'}, "))
        assert backend.is_closed(1)  # nobody needs it any more
        assert not backend.is_closed(0, within=0)
        hold.set()
        assert texts(client) == ["Hello", " you"]
        assert "x-new" not in backend.request(0).headers
        assert backend.is_closed(0)

    def test_an_unchanged_backend_keeps_its_connection(
        self, reloadable: Reloadable, backend: ScriptedBackend, clients: Clients
    ) -> None:
        backend.says(streamed("Hello"))
        text = config(backend)
        reloadable.load(text)
        assert texts(clients.started(reloadable.url)) == ["Hello"]
        reloadable.load(text.replace("claude-absent", "claude-missing"))
        assert texts(clients.started(reloadable.url)) == ["Hello"]
        assert backend.connections == 1

    def test_changes_that_need_a_restart_and_open_configs_are_reported(
        self, reloadable: Reloadable, backend: ScriptedBackend
    ) -> None:
        proxy, text = reloadable.proxy, config(backend)
        reloadable.write(text, server="port: 1")
        proxy.send_signal(signal.SIGHUP)
        proxy.says("`server.port` has changed: restart the proxy")
        proxy.says(" reloaded")
        reloadable.write(text.replace("{keys: [client-key]}", "{}"))
        proxy.send_signal(signal.SIGHUP)
        proxy.says("not reloaded, the running config stays:")
        proxy.says("error[open-door]")

    def test_no_stream_is_broken_by_many_reloads(
        self, reloadable: Reloadable, backend: ScriptedBackend, clients: Clients
    ) -> None:
        words = [f"word {n} " for n in range(20)]
        parts = [part for word in words for part in (sse(delta(content=word)), 0.005)]
        lasts = threading.Event()
        backend.says(*paused_stream(lasts))
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
        shared_proxy = clients.started(proxy.url)
        threads = [threading.Thread(target=ask, args=(proxy.url,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for n in range(RELOADS):
            line = reloadable.load(config(backend, f"headers: {{x-reload: '{n}'}}, "))
            assert " reloaded; backends new or changed: scripted" in line
            file.write_text("pipelines: {" if n % 2 else file.read_text() + "more: 1\n")
            proxy.send_signal(signal.SIGHUP)
            proxy.says("not reloaded, the running config stays:")
        enough.set()
        for thread in threads:
            thread.join(10)
        lasts.set()
        assert texts(shared_proxy) == ["Hello", " you"]
        reloadable.load(config(backend))  # its line comes after those of all streams
        text = proxy.log[logged:]
        assert not [line for line in text if "Traceback" in line or "outcome=aborted" in line]
        assert not failures
        assert len(found) >= len(threads)
        assert all("".join(each) == "".join(words) for each in found)


class TestEnd:
    def test_on_a_signal_requests_finish_within_the_drain_timeout(
        self, tmp_path: Path, backend: ScriptedBackend, clients: Clients
    ) -> None:
        hold = threading.Event()
        backend.says(*paused_stream(hold))
        backend.says(head(), sse(delta(content="Hello")), Act.UNTIL_CLOSED)
        backend.says(Act.UNTIL_CLOSED)
        with command(write(tmp_path, backend, "drain_timeout: 2")) as proxy:
            client, endless = clients.started(proxy.url), clients.started(proxy.url)
            idle, other = clients.new(proxy.url), clients.new(proxy.url)
            idle.get("/health")
            other.socket.sendall(raw(body()))
            backend.request(2)
            proxy.send_signal(signal.SIGTERM)
            assert idle.socket.recv(1) == b""  # kept connections are closed
            until_refused(proxy.url)
            hold.set()
            assert texts(client) == ["Hello", " you"]
            *_, last = parse_sse(endless.response.read())
            assert error_in(last)[0] == "overloaded_error"
            other.send(b"")
            reported = json.loads(other.response.read())
            assert other.response.status == 529
            assert error_in(reported) == (
                "overloaded_error",
                "the proxy is shutting down; try again in a moment",
            )
            assert proxy.ends() == -signal.SIGTERM
            proxy.says("(the end)")
            assert not [each for each in proxy.log if "Traceback" in each or "Aborted" in each]


class TestReadiness:
    def test_it_is_not_ready_before_a_health_check_succeeds(
        self, tmp_path: Path, backend: ScriptedBackend, caplog: pytest.LogCaptureFixture
    ) -> None:
        backend.says(whole(503, {}))
        with wire.proxy(tmp_path, config(backend, "health: /health, ")) as url:
            client = Client(url)
            logged(caplog, "backend `scripted` answered a health check with status 503")
            not_ready = client.get("/health/ready")
            assert not_ready.status == 503
            reported = json.loads(not_ready.body)
            assert reported["status"] == "not ready"
            assert reported["backends"]["scripted"] == {"state": "it does not respond"}
            assert client.get("/health/live").status == 200
            backend.responses = [(whole(401, {}),)]
            logged(caplog, "backend `scripted` responds again")
            assert client.get("/health/ready").status == 200
            assert backend.request().path == "/health"
            client.close()
