"""What uvicorn's HTTP has to be kept from doing."""

from __future__ import annotations

from tests.support import body
from tests.wire.support import (
    DONE,
    END,
    Answer,
    Client,
    ScriptedBackend,
    delta,
    head,
    raw,
    sse,
)


def test_an_offer_of_http_2_does_not_cost_the_body(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(head(), sse(delta("stop", content="Hello")), DONE, END)
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    answer = Answer.of(client.send(raw(body(stream=True)).replace(b"\r\n", b"\r\n" + offer, 1)))
    assert answer.events[-1]["type"] == "message_stop"


def test_bytes_that_are_no_http_get_the_apis_error(client: Client) -> None:
    answer = Answer.of(client.send(b"\x16\x03\x01 no http\r\n\r\n"))
    assert answer.error == (400, "invalid_request_error")
