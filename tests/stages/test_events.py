"""The events between stages."""

from __future__ import annotations

from stages.events import ChatRequest, HttpRequest, ResponseBody, ResponseStart, json_response
from tests.support import chat_request, http, resolved


async def test_a_request_without_a_body_has_an_empty_one() -> None:
    assert await HttpRequest("GET", "/v1/models").read_body(10) == b""


def test_a_request_is_the_same_whoever_reads_its_body() -> None:
    assert http(b"a") == http(b"b")
    assert http() != http(path="/v1/models")


def test_no_text_shows_headers_or_the_body() -> None:
    output = repr(http(b"s3cret", headers={"x-api-key": "s3cret", "cookie": "s3cret"}))
    assert "s3cret" not in output
    assert "headers=<2>" in output


def test_a_chat_request_streams_as_the_client_does() -> None:
    for stream in (True, False):
        assert ChatRequest(resolved(stream=stream), [], {}).stream is stream
    assert not chat_request().stream


def test_a_response_of_json_says_how_long_it_is() -> None:
    assert json_response("é".encode(), {"x-a": "1"}) == [
        ResponseStart(200, {"content-type": "application/json", "content-length": "2", "x-a": "1"}),
        ResponseBody("é".encode(), more=False),
    ]
