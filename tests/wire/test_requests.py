"""Keys, sizes, paths, methods, and responses that need no backend."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.secrets import PROMPT
from tests.support import body
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import completion, streamed, whole
from tests.wire.client import Client, Response, raw


def heads(path: str = "/v1/messages", **headers: str) -> bytes:
    """A POST without its body."""
    return raw(b"", path, **headers)


def test_the_backend_gets_its_own_key_and_model(client: Client, backend: ScriptedBackend) -> None:
    backend.says(whole(200, completion("Hello there")))
    answer = client.post(body(temperature=0.5))
    assert answer.status == 200
    assert answer.json["content"] == [{"type": "text", "text": "Hello there"}]
    assert answer.json["model"] == "claude-test"
    assert answer.headers["request-id"].startswith("req_")
    asked = backend.request()
    assert (asked.method, asked.path) == ("POST", "/v1/chat/completions")
    assert asked.headers["authorization"] == "Bearer backend-key"
    assert asked.headers["content-type"] == "application/json"
    assert "client-key" not in str(asked)
    assert asked.body == {
        "model": "some-model",
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": 100,
        "temperature": 0.5,
        "stream": False,
    }


def test_a_query_does_not_hide_the_path(client: Client, backend: ScriptedBackend) -> None:
    backend.says(whole(200, completion()))
    assert client.post(body(), "/v1/messages?beta=true").status == 200


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"x_api_key": "wrong"}, "invalid x-api-key"),
        ({"x_api_key": "wrong", "authorization": "Bearer wrong-too"}, "invalid x-api-key"),
        ({"x_api_key": "", "authorization": "Basic client-key"}, "no API key was given"),
        ({"x_api_key": ""}, "no API key was given"),
    ],
    ids=["wrong", "wrong-twice", "basic", "none"],
)
def test_a_wrong_key_is_refused_before_the_body_is_read(
    headers: dict[str, str], says: str, path: str, client: Client, backend: ScriptedBackend
) -> None:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = Response.of(client.send(heads(path, **{"content-length": "500000", **given})))
    assert answer.error == (401, "authentication_error")
    assert says in answer.json["error"]["message"]
    assert not backend.requests


@pytest.mark.parametrize("other", ["", "another-servers-key"])
def test_row_c2_a_key_may_come_as_a_bearer_token(
    other: str, client: Client, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, completion()))
    assert client.post(body(), x_api_key=other, authorization="bearer client-key").status == 200


def test_a_content_length_over_the_limit_is_refused_before_the_body(client: Client) -> None:
    answer = Response.of(client.send(heads(content_length="1000001")))
    assert answer.error == (413, "request_too_large")
    assert "1000000 bytes" in answer.json["error"]["message"]


def test_an_oversized_body_keeps_the_connection_usable(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, completion()))
    assert client.post(b"x" * 1_500_000).error == (413, "request_too_large")
    assert client.post(body()).status == 200


def test_a_body_without_a_length_is_refused_at_the_limit(client: Client) -> None:
    given = {"transfer-encoding": "chunked", "x-api-key": "client-key", "host": "x"}
    lines = ["POST /v1/messages HTTP/1.1", *(f"{k}: {v}" for k, v in given.items())]
    part = b"10000\r\n%b\r\n" % (b"x" * 0x10000)
    answer = Response.of(client.send("\r\n".join([*lines, "", ""]).encode() + part * 16))
    assert answer.error == (413, "request_too_large")


def test_a_chunked_body_is_joined(client: Client, backend: ScriptedBackend) -> None:
    backend.says(whole(200, completion()))
    data = raw(body()).partition(b"\r\n\r\n")[2]
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in data) + b"0\r\n\r\n"
    request = raw(b"", transfer_encoding="chunked").replace(b"content-length: 0\r\n", b"")
    assert Response.of(client.send(request + chunks)).status == 200


def test_100_continue_is_sent(client: Client, backend: ScriptedBackend) -> None:
    backend.says(whole(200, completion()))
    data = raw(body(), expect="100-continue")
    head, _, rest = data.partition(b"\r\n\r\n")
    client.socket.sendall(head + b"\r\n\r\n")
    assert client.socket.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert Response.of(client.send(rest)).status == 200


def test_pipelined_requests_are_served_in_order(client: Client, backend: ScriptedBackend) -> None:
    backend.says(whole(200, completion("first")))
    backend.says(whole(200, completion("second")))
    client.socket.sendall(raw(body()) + raw(body()))
    text = b""
    while text.count(b"end_turn") < 2:
        part = client.socket.recv(0x10000)
        assert part
        text += part
    assert text.count(b"HTTP/1.1 200 OK") == 2
    assert text.index(b"first") < text.index(b"second")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(
    ("name", "reported"),
    [
        ("a\nset-cookie: x", "a?set-cookie: x:dropped"),
        ("a\r\n\r\nb", "a????b:dropped"),
        ("\x00\x7f", "??:dropped"),
        ("größe", "gr??e:dropped"),
        ("漢\u2028", "??:dropped"),
    ],
    ids=["new-line", "end-of-head", "control", "latin-1", "beyond"],
)
def test_no_name_in_a_request_breaks_the_degraded_header(
    name: str, reported: str, stream: bool, client: Client, backend: ScriptedBackend
) -> None:
    backend.says(streamed("Hello") if stream else whole(200, completion()))
    answer = client.post(body(stream=stream, **{name: 1}))
    assert answer.status == 200
    assert answer.headers["x-llm-proxy-degraded"] == reported
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("path", "method", "status", "kind", "allow"),
    [
        ("/v1/messages", "GET", 405, "invalid_request_error", "POST"),
        ("/v1/messages", "PUT", 405, "invalid_request_error", "POST"),
        ("/v1/models", "DELETE", 405, "invalid_request_error", "GET, HEAD"),
        ("/v1/messages", "HEAD", 405, None, "POST"),
        ("/health", "POST", 405, "invalid_request_error", "GET, HEAD"),
        ("/", "DELETE", 405, "invalid_request_error", "GET, HEAD"),
        ("/v1", "GET", 404, "not_found_error", ""),
        ("/v1/messages/", "POST", 404, "not_found_error", ""),
        ("/v1//messages", "POST", 404, "not_found_error", ""),
        ("/V1/messages", "POST", 404, "not_found_error", ""),
        ("/%ff%00%0a", "GET", 404, "not_found_error", ""),
        ("/" + "a" * 5000, "GET", 404, "not_found_error", ""),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_an_unknown_path_or_method_has_its_own_error(
    path: str, method: str, status: int, kind: str | None, allow: str, client: Client
) -> None:
    answer = client.get(path, method)
    if kind is None:
        assert (answer.status, answer.body) == (status, b"")
    else:
        assert answer.error == (status, kind)
    assert sorted(answer.headers.get("allow", "").split(", ")) == allow.split(", ")
    assert len(answer.body) < 1000


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions", "/v1/responses"])
def test_a_client_of_openai_s_api_gets_the_right_path(path: str, client: Client) -> None:
    answer = client.get(path, "POST")
    assert answer.error == (404, "not_found_error")
    assert "send it to /v1/messages" in answer.json["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/claude-test"])
def test_head_is_served_wherever_get_is(path: str, client: Client) -> None:
    whole, head = client.get(path), client.get(path, "HEAD")
    assert (whole.status, head.status) == (200, 200)
    assert whole.body
    assert head.body == b""
    assert head.headers["content-type"] == whole.headers["content-type"]


@pytest.mark.parametrize("host", ["[", "a:b", "x/y", ""], ids=["[", "a:b", "x/y", "empty"])
def test_a_strange_host_is_accepted(host: str, client: Client) -> None:
    assert client.get("/nowhere", host=host).error == (404, "not_found_error")


@pytest.mark.parametrize("path", ["/", "/health", "/api/hello"])
def test_row_c12_a_probe_needs_no_key_and_no_body(path: str, client: Client) -> None:
    text = client.get(path, **{"x-api-key": ""})
    probed = client.get(path, "HEAD", **{"x-api-key": ""})
    assert (text.status, probed.status) == (200, 200)
    assert json.loads(text.body)
    assert probed.body == b""
    assert probed.headers["content-length"] == str(len(text.body))
    assert probed.headers["request-id"] != text.headers["request-id"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/event_logging/batch",
        "/api/event_logging/v2/batch",
        "/api/event_logging/v9/a/b",
        "/api/claude_code/metrics",
    ],
)
def test_row_c12_telemetry_is_accepted_and_dropped(
    path: str, client: Client, backend: ScriptedBackend
) -> None:
    answer = client.post({"events": [1, 2]}, path)
    assert (answer.status, answer.body) == (204, b"")
    assert client.get("/health").status == 200
    assert not backend.requests


@pytest.mark.parametrize("path", ["/api/event_loggings/batch", "/api/claude_code/settings"])
def test_row_c12_another_path_of_claude_code_is_not_found(path: str, client: Client) -> None:
    assert client.get(path).error == (404, "not_found_error")


def test_http_1_0_gets_a_response_and_the_connection_closes(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(streamed("Hello"))
    answer = Response.of(client.send(raw(body(stream=True)).replace(b"HTTP/1.1", b"HTTP/1.0")))
    assert answer.events[-1]["type"] == "message_stop"
    assert client.socket.recv(1) == b""


def models(client: Client, query: str = "") -> Any:
    """The page of models that a query leads to."""
    return client.get(f"/v1/models{query}").json


NAMES = ["claude-test", "claude-absent", "maker/model one"]


@pytest.mark.parametrize(
    ("query", "names", "more"),
    [
        ("", NAMES, False),
        ("?limit=1000", NAMES, False),
        ("?limit=2", NAMES[:2], True),
        ("?limit=2&after_id=claude-absent", NAMES[2:], False),
        ("?limit=1&after_id=claude-test", NAMES[1:2], True),
        ("?after_id=maker/model%20one", [], False),
        ("?limit=1&before_id=maker%2Fmodel+one", NAMES[1:2], True),
        ("?before_id=claude-test", [], False),
        ("?beta=true&&limit=3", NAMES, False),
    ],
)
def test_models_are_listed_in_pages(
    query: str, names: list[str], more: bool, client: Client
) -> None:
    page = models(client, query)
    assert [each["id"] for each in page["data"]] == names
    assert page["has_more"] is more
    ends = (names[0], names[-1]) if names else (None, None)
    assert (page["first_id"], page["last_id"]) == ends


def test_following_the_pages_shows_every_model_once(client: Client) -> None:
    seen, cursor = [], ""
    while True:
        page = models(client, f"?limit=1{cursor}")
        seen += [each["id"] for each in page["data"]]
        if not page["has_more"]:
            break
        cursor = f"&after_id={page['last_id'].replace(' ', '%20')}"
    assert seen == NAMES


@pytest.mark.parametrize(
    "query",
    [
        "?limit=0",
        "?limit=1001",
        "?limit=-1",
        "?limit=%C2%B2",
        "?limit=1e2",
        "?limit=99999",
        "?after_id=nope",
        "?before_id=open-*",
        "?after_id=claude-test&before_id=claude-absent",
    ],
)
def test_an_invalid_page_is_refused(query: str, client: Client) -> None:
    assert client.get(f"/v1/models{query}").error == (400, "invalid_request_error")


@pytest.mark.parametrize(
    "path", ["maker/model%20one", "maker%2Fmodel%20one", "maker%2fmodel%20one?beta=true"]
)
def test_a_model_with_a_slash_in_its_name_is_found(path: str, client: Client) -> None:
    assert client.get(f"/v1/models/{path}").json["id"] == "maker/model one"


@pytest.mark.parametrize("path", ["open-anything", "open-anything%5B1m%5D"])
def test_row_c10_a_model_that_a_pattern_serves_is_found(path: str, client: Client) -> None:
    assert client.get(f"/v1/models/{path}").json["id"] == "open-anything"


@pytest.mark.parametrize("path", ["", "nope", "nope[1m]", "claude-test/"])
def test_a_model_that_is_not_served_is_not_found(path: str, client: Client) -> None:
    assert client.get(f"/v1/models/{path}").error == (404, "not_found_error")


def test_models_need_the_key(client: Client) -> None:
    wrong = {"x-api-key": "wrong"}
    assert client.get("/v1/models", **wrong).error == (401, "authentication_error")
    assert client.get("/v1/models/claude-test", **wrong).error == (401, "authentication_error")


def test_tokens_are_estimated_where_the_backend_cannot_count(
    client: Client, backend: ScriptedBackend
) -> None:
    answer = client.post(body(max_tokens=None), "/v1/messages/count_tokens?beta=true")
    assert answer.status == 200
    assert answer.json["input_tokens"] > 0
    assert answer.headers["x-llm-proxy-token-count"] == "estimated"
    assert not backend.requests


def test_a_large_prompt_arrives_complete(client: Client, backend: ScriptedBackend) -> None:
    backend.says(whole(200, completion()))
    prompt = "Größe 漢字 🙂\n" * 12_000
    assert client.post(body(messages=[{"role": "user", "content": prompt}])).status == 200
    assert backend.request().body["messages"] == [{"role": "user", "content": prompt}]
