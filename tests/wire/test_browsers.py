"""Web pages: what they send to a proxy without a key, and CORS for those that are allowed.

chromium.txt has requests as Chromium 156 sent them to a proxy on loopback, from a page at
http://evil.example:8000 (in those of the official SDK, 1.14.0: http://app.example:8000). In two the
name evil.example was made to lead to the proxy. User-Agent, sec-ch-ua and the like are left out.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.task_groups import task_group
from proxy.app import App
from proxy.config import read
from tests.proxy.support import Server
from tests.support import body
from tests.waiting import logged
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import completion, streamed, whole
from tests.wire.client import Client, Response, address, connect, error_in
from tests.wire.proxy import METRICS, SharedProxy, config_text, proxy_with_backend

RECORDED = dict(
    re.findall(
        r"^# (\S+)\n(.*?)\n(?=\n|\Z)",
        (Path(__file__).parent / "chromium.txt").read_text(),
        re.DOTALL | re.MULTILINE,
    )
)
OWN = ("same-origin", "address-bar")
SDK = ("sdk-preflight", "sdk-stream")
FOREIGN = [name for name in RECORDED if name not in (*OWN, *SDK)]
APP = "http://app.example:8000"
JSON = {"content_type": "application/json"}
REBOUND = {"host": "evil.example:8080"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def without_keys(url: str, **server: Any) -> str:
    """The usual pipelines, open to everybody."""
    text = config_text(url).replace("[client-key]", "[]") + METRICS
    return text + f"\nserver: {json.dumps(server)}\n"


@pytest.fixture(scope="module")
def shared_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedProxy]:
    with proxy_with_backend(tmp_path_factory.mktemp("open"), without_keys) as shared:
        yield shared


@pytest.fixture(scope="module")
def allowing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedProxy]:
    """A proxy that asks for a key and lets the pages of `APP` in."""

    def config_for(url: str) -> str:
        return config_text(url) + f"\nserver: {{allowed_origins: ['{APP}']}}\n"

    with proxy_with_backend(tmp_path_factory.mktemp("allowing"), config_for) as shared:
        yield shared


@pytest.fixture
def page(allowing: SharedProxy) -> Iterator[Client]:
    """A client of that proxy."""
    shared = Client(allowing.url)
    yield shared
    shared.close()
    allowing.backend.forget()


def browse(client: Client, name: str, **changes: Any) -> Response:
    """Send a recorded request. Return the response."""
    head = RECORDED[name].replace("PORT", str(address(client.url)[1]))
    method = head.partition(" ")[0]
    data = json.dumps(body(**changes)).encode() if method == "POST" else b""
    sent = head.replace("LENGTH", str(len(data))).replace("\n", "\r\n").encode()
    return Response.of(client.send(sent + b"\r\n\r\n" + data, method))


def refused(answer: Response, option: str) -> None:
    assert answer.error == (403, "permission_error")
    assert f"`{option}`" in error_in(answer.json)[1]
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("name", FOREIGN)
def test_row_a1_requests_of_foreign_pages_do_not_reach_the_backend(
    name: str, client: Client, backend: ScriptedBackend
) -> None:
    refused(browse(client, name), "allowed_hosts" if "rebound" in name else "allowed_origins")
    assert not backend.requests


@pytest.mark.parametrize("name", OWN)
def test_row_a1_a_person_in_chromium_is_served(
    name: str, client: Client, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, completion()))
    assert browse(client, name).status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/claude-test"),
        ("GET", "/metrics"),
        ("GET", "/health/ready"),
        ("HEAD", "/health/ready"),
        ("GET", "/nothing"),
        ("OPTIONS", "/v1/messages"),
        ("POST", "/api/event_logging/batch"),
        ("POST", "/v1/messages/count_tokens"),
    ],
)
@pytest.mark.parametrize(
    "headers",
    [
        REBOUND,
        {"host": "localhost", "origin": "https://evil.example"},
        {"host": "localhost", "origin": "http://localhost:3000"},
        {"host": "localhost", "origin": "vscode-webview://1ab2"},
        {"host": "localhost", "sec-fetch-site": "same-site"},
    ],
    ids=str,
)
def test_row_a1_each_path_refuses_foreign_pages(
    method: str, path: str, headers: dict[str, str], client: Client
) -> None:
    assert client.get(path, method, **headers).status == 403


@pytest.mark.parametrize("path", ["/health", "/health/live"])
def test_row_a1_liveness_is_public(path: str, client: Client) -> None:
    assert client.get(path, **REBOUND, origin="https://evil.example").status == 200


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""],
)
def test_row_a1_a_body_that_is_not_json_is_a_415(
    content_type: str, client: Client, backend: ScriptedBackend
) -> None:
    answer = client.post(body(), host="127.0.0.1", content_type=content_type)
    assert answer.error == (415, "invalid_request_error")
    assert "`content-type: application/json`" in error_in(answer.json)[1]
    assert not backend.requests


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
@pytest.mark.parametrize("host", ["localhost:8080", "host.docker.internal:8080", "[::1]:1"])
def test_row_a1_clients_other_than_browsers_are_served(
    host: str, content_type: str, client: Client, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, completion()))
    assert client.post(body(), host=host, content_type=content_type).status == 200


def test_row_a1_http_1_0_needs_no_host(url: str) -> None:
    with connect(url) as plain:
        plain.sendall(b"GET /v1/models HTTP/1.0\r\n\r\n")
        answer = http.client.HTTPResponse(plain)
        answer.begin()
        assert answer.status == 200


def test_row_a1_the_log_says_why_a_page_was_refused(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "llm_proxy")
    answer = browse(client, "no-cors")
    line = logged(caplog, answer.headers["request-id"])
    assert " 403 " in line
    page = r"web pages of the origin \"http://evil.example:8000\""
    assert f'error=permission_error message="{page}' in line


# ---- other configs, without a socket ----


async def status(folder: Path, text: str, *headers: tuple[str, str], path: str = "/") -> int:
    """The status of a GET at a proxy with this config."""
    file = folder / "pipelines.yaml"
    file.write_text(text)
    server = Server()
    scope = server.scope(headers, method="GET", path=path)
    await App(read(str(file), {})).route(scope, server.receive, server.send)
    return server.status


HOST = ("host", "evil.example")
ORIGIN = ("origin", "http://evil.example")
URL = "http://backend.invalid"


async def test_row_a1_with_keys_a_page_gets_a_401(tmp_path: Path) -> None:
    assert await status(tmp_path, config_text(URL), HOST, ORIGIN) == 200
    assert await status(tmp_path, config_text(URL), HOST, ORIGIN, path="/v1/models") == 401


async def test_row_a1_one_pipeline_without_keys_refuses_pages(tmp_path: Path) -> None:
    mixed = config_text(URL) + METRICS.replace(": *keys", "")
    assert await status(tmp_path, mixed, HOST) == 403
    assert await status(tmp_path, mixed, ORIGIN, path="/v1/models") == 403


async def test_row_a1_an_open_address_refuses_pages_and_configured_hosts(
    tmp_path: Path,
) -> None:
    opened = without_keys(URL, host="0.0.0.0")
    assert await status(tmp_path, opened, HOST) == 200
    assert await status(tmp_path, opened, ORIGIN, HOST) == 403  # nobody knows whose name it is
    named = without_keys(URL, host="0.0.0.0", allowed_hosts=["llm.example"])
    assert await status(tmp_path, named, HOST) == 403
    llm = ("host", "llm.example"), ("origin", "http://llm.example")
    assert await status(tmp_path, named, *llm) == 200


async def test_row_a1_configured_hosts_count_with_keys_too(tmp_path: Path) -> None:
    keyed = config_text(URL) + "\nserver: {allowed_hosts: ['*.llm.example']}\n"
    assert await status(tmp_path, keyed, HOST) == 403
    assert await status(tmp_path, keyed, ("host", "a.llm.example")) == 200


async def test_row_a1_all_hosts_and_all_origins_may_be_allowed(tmp_path: Path) -> None:
    anyone = without_keys(URL, allowed_hosts=["*"], allowed_origins=["*"])
    assert await status(tmp_path, anyone, HOST, ORIGIN) == 200
    assert await status(tmp_path, anyone, ("sec-fetch-site", "cross-site")) == 200


NO_MODELS = """
models: {}
pipelines: {models: {route: GET /v1/models, stages: [authenticate: {keys: [KEY]}, list-models]}}
"""


async def test_row_a1_a_reload_changes_what_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pipelines.yaml"
    file.write_text(NO_MODELS)
    app = App(read(str(file), {}))
    opened = NO_MODELS.replace("KEY", "")
    statuses = []
    async with task_group() as group:
        for text in (opened, f"{opened}server: {{allowed_hosts: [evil.example]}}"):
            file.write_text(text)
            app.serve(group, read(str(file), {}))
            server = Server()
            await app.route(
                server.scope([HOST], method="GET", path="/"), server.receive, server.send
            )
            statuses.append(server.status)
    assert statuses == [403, 200]


# ---- CORS ----


def test_row_c8_the_preflight_of_the_sdk_needs_no_key(
    page: Client,
) -> None:
    answer = browse(page, "sdk-preflight")
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == APP
    assert "Origin" in answer.headers["vary"]
    assert "POST" in answer.headers["access-control-allow-methods"]
    asked = re.search(r"Request-Headers: (.*)", RECORDED["sdk-preflight"])
    assert asked
    assert answer.headers["access-control-allow-headers"] == asked[1]
    assert int(answer.headers["access-control-max-age"]) > 0


def test_row_c8_a_page_may_ask_for_the_private_network(page: Client) -> None:
    asked = {"origin": APP, "access-control-request-method": "POST"}
    private = {**asked, "access-control-request-private-network": "true"}
    answer = page.get("/v1/messages", "OPTIONS", **private)
    assert answer.status == 200
    assert answer.headers["access-control-allow-private-network"] == "true"


def readable(answer: Response) -> None:
    """Check that a page of `APP` can read the response and all of its headers."""
    assert answer.headers["access-control-allow-origin"] == APP
    assert answer.headers["access-control-expose-headers"] == "*"
    assert "Origin" in answer.headers["vary"]


def test_row_c8_a_stream_is_readable(page: Client, allowing: SharedProxy) -> None:
    allowing.backend.says(streamed("Hello", " you"))
    key = {"authorization": "Bearer client-key", "origin": APP}
    answer = page.post(body(stream=True), x_api_key="", **key, **JSON)
    readable(answer)
    assert answer.events[-1]["type"] == "message_stop"


@pytest.mark.parametrize(
    ("status", "changes", "headers"),
    [
        (400, {"messages": []}, {}),
        (401, {}, {"x_api_key": "wrong"}),
        (413, {"messages": [{"role": "user", "content": "x" * 1_000_000}]}, {}),
        (529, {"model": "claude-absent"}, {}),
    ],
)
def test_row_c8_errors_are_readable(
    status: int, changes: dict[str, Any], headers: dict[str, str], page: Client
) -> None:
    answer = page.post(body(**changes), origin=APP, **JSON, **headers)
    assert answer.error[0] == status
    readable(answer)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/messages", 405),
        ("OPTIONS", "/v1/messages", 405),
        ("GET", "/nothing", 404),
        ("GET", "/health/live", 200),
        ("GET", "/v1/models", 200),
    ],
)
def test_row_c8_responses_without_a_pipeline_are_readable(
    method: str, path: str, status: int, page: Client
) -> None:
    answer = page.get(path, method, origin=APP)
    assert answer.status == status
    readable(answer)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", APP + "1"])
def test_row_c8_other_origins_get_no_cors_headers(origin: str, page: Client) -> None:
    for method in ("GET", "OPTIONS"):
        asked = {"origin": origin, "access-control-request-method": "POST"}
        answer = page.get("/v1/models", method, **asked)
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_row_c8_without_keys_only_allowed_pages_are_served(tmp_path: Path) -> None:
    def config_for(url: str) -> str:
        return without_keys(url, allowed_origins=[APP])

    with proxy_with_backend(tmp_path, config_for) as shared:
        shared.backend.says(streamed("Hello"))
        client = Client(shared.url)
        assert browse(client, "sdk-stream", stream=True).events
        refused(browse(client, "fetch"), "allowed_origins")
        wrong_name = client.get("/v1/models", host="evil.example", origin=APP)
        client.close()
    assert wrong_name.status == 403
    readable(wrong_name)
    assert len(shared.backend.requests) == 1
