"""Named keys over sockets: the installed command, and `llm-proxy keys` next to it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from proxy.cli import main
from tests.support import body
from tests.waiting import until
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import streamed
from tests.wire.client import Client, raw
from tests.wire.command import Command, command
from tests.wire.life import Clients, config, paused_stream, texts
from tests.wire.life import clients as clients
from tests.wire.proxy import METRICS

#: Seconds until a change is served. It is one second; a busy machine takes longer.
SOON = 10.0


def keys(folder: Path, *arguments: str) -> str:
    """What `llm-proxy keys` prints to stdout."""
    options = ["keys", arguments[0], "--config", str(folder / "pipelines.yaml"), *arguments[1:]]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


@pytest.fixture(scope="module")
def lasting() -> Iterator[ScriptedBackend]:
    temporary = ScriptedBackend()
    yield temporary
    temporary.close()


@pytest.fixture
def backend(lasting: ScriptedBackend) -> Iterator[ScriptedBackend]:
    yield lasting
    lasting.forget()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, lasting: ScriptedBackend) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    text = config(lasting) + METRICS
    text = text.replace("api_key: backend-key", 'api_key: "${file:backend-key}"')
    (folder / "pipelines.yaml").write_text(text)
    (folder / "backend-key").write_text("from-a-file\n")
    keys(folder, "new", "first", "--file", "keys.yaml")
    return folder


@pytest.fixture(scope="module")
def proxy(folder: Path) -> Iterator[Command]:
    with command(folder / "pipelines.yaml") as running:
        yield running


def status(url: str, key: str) -> int:
    client = Client(url)
    try:
        return client.get("/v1/models", **{"x-api-key": key}).status
    finally:
        client.close()


def ready(client: Client, key: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(client.get("/health/ready", **{"x-api-key": key}).body)
    return report


def test_keys_come_and_go_while_requests_in_flight_end(
    folder: Path, proxy: Command, backend: ScriptedBackend, clients: Clients
) -> None:
    hold = threading.Event()
    backend.says(*paused_stream(hold))
    key = keys(folder, "new", "alice")
    until(lambda: status(proxy.url, key) == 200, "the new key is refused", SOON)
    client = clients.new(proxy.url)
    client.send(raw(body(stream=True), x_api_key=key))
    assert client.event()["type"] == "message_start"
    assert backend.request(0).headers["authorization"] == "Bearer from-a-file"

    keys(folder, "revoke", "alice")
    until(lambda: status(proxy.url, key) == 401, "the revoked key is accepted", SOON)
    hold.set()
    assert texts(client) == ["Hello", " you"]
    assert "client=alice" in proxy.says("POST /v1/messages 200")

    refused = clients.new(proxy.url).get("/v1/models", **{"x-api-key": key})
    assert refused.error == (401, "authentication_error")
    assert refused.json["error"]["message"] == "invalid x-api-key: this key is disabled"
    assert status(proxy.url, "client-key") == 200, "`authenticate: {keys: …}` still works"

    keys(folder, "revoke", "alice", "--delete")
    (folder / "backend-key").write_text("rotated")
    proxy.says("reloaded; backends new or changed: scripted")
    assert "".join(texts(clients.started(proxy.url))) == "Hello you"
    assert backend.request(1).headers["authorization"] == "Bearer rotated"


def test_a_key_sees_and_uses_its_models_alone(
    folder: Path, proxy: Command, backend: ScriptedBackend, clients: Clients
) -> None:
    key = keys(folder, "new", "bob", "--models", "open-*,claude-test")
    until(lambda: status(proxy.url, key) == 200, "the new key is refused", SOON)
    backend.says(streamed("Hello"))
    client = clients.new(proxy.url)
    listed = client.get("/v1/models", **{"x-api-key": key}).json
    assert [model["id"] for model in listed["data"]] == ["claude-test"]
    for model, expected in (("open-x", 200), ("maker/model one", 404), ("unknown", 404)):
        one = client.get(f"/v1/models/{model.replace(' ', '%20')}", **{"x-api-key": key})
        assert one.status == expected
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        for model in ("maker/model one", "unknown"):
            request = body(model=model)
            if path.endswith("count_tokens"):
                del request["max_tokens"]
            refused = client.post(request, path, x_api_key=key)
            assert refused.error == (404, "not_found_error")
            assert refused.json["error"]["message"] == (
                f"model: {model} is not available; this API key may use: open-*, claude-test"
            )
    assert client.post(body(model="open-x", stream=True), x_api_key=key).status == 200


def test_the_digest_of_the_config_is_shown_to_clients_with_a_key(
    folder: Path, proxy: Command, clients: Clients
) -> None:
    client = clients.new(proxy.url)
    digest = ready(client, "client-key")["digest"]
    assert ready(client, "wrong").keys() == {"status"}
    metric = f'llm_proxy_config_info{{digest="{digest}"}} 1.0'
    assert metric in client.get("/metrics").body.decode()

    keys(folder, "new", "carl")
    until(lambda: ready(client, "client-key")["digest"] != digest, within=SOON)
    lines = client.get("/metrics").body.decode().splitlines()
    infos = [line for line in lines if line.startswith("llm_proxy_config_info{")]
    assert len(infos) == 1
    assert digest not in infos[0]
