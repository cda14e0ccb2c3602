"""Each timeout has an error of its own, which says what was waited for."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import body
from tests.wire.backend import Act, ScriptedBackend, Step
from tests.wire.chat import delta, head, sse
from tests.wire.client import MODES, Client, error_in, raw
from tests.wire.proxy import config_text, proxy

HALF: list[Step] = [head(content_type="application/json"), b"5\r\n{"]
SIGNS: list[Step] = [b" ", 0.1] * 4
#: A timeout; the steps of the backend until then; the message to the client.
WAITS: dict[str, tuple[str, list[Step], str]] = {
    "first byte": (
        "first_byte_timeout: 0.3",
        [Act.UNTIL_CLOSED],
        "did not begin to answer within 0.3 s: try again later",
    ),
    "idle": (
        "idle_timeout: 0.3",
        [*HALF, Act.UNTIL_CLOSED],
        "was silent for too long: try again later",
    ),
    "total": (
        "idle_timeout: 2, total_timeout: 0.5",
        [*HALF, *SIGNS, Act.UNTIL_CLOSED],
        "did not complete its response within 0.5 s: ask for a shorter response",
    ),
}


@contextlib.contextmanager
def full() -> Iterator[str]:
    """The URL of a server that takes no more connections, as one whose machine hangs."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@MODES
def test_a_connect_timeout_is_overloaded(stream: bool, tmp_path: Path) -> None:
    with full() as place:
        text = config_text(place).replace("api_key:", "connect_timeout: 0.3, api_key:", 1)
        with proxy(tmp_path, text) as url:
            client = Client(url)
            answer = client.post(body(stream=stream))
            client.close()
    assert answer.error == (529, "overloaded_error")
    assert error_in(answer.json)[1] == (
        "backend `scripted` cannot be reached in time: check that it runs, and its `base_url`"
    )


@MODES
@pytest.mark.parametrize(("option", "steps", "said"), WAITS.values(), ids=WAITS)
def test_each_other_timeout_has_its_own_message(
    option: str, steps: list[Step], said: str, stream: bool, tmp_path: Path
) -> None:
    backend = ScriptedBackend()
    backend.says(*steps)
    with proxy(tmp_path, config_text(backend.url, f"invoke: {{{option}}}")) as url:
        client = Client(url)
        answer = client.post(body(stream=stream))
        client.close()
        assert backend.is_closed()
    assert answer.error == (504, "timeout_error")
    assert error_in(answer.json)[1] == f"backend `scripted` {said}"
    backend.close()


def test_after_the_first_event_a_timeout_is_an_event(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    backend.says(head(), sse(delta(content="Hello")), Act.UNTIL_CLOSED)
    with proxy(tmp_path, config_text(backend.url, "invoke: {total_timeout: 0.3}")) as url:
        client = Client(url)
        client.send(raw(body(stream=True)))
        kinds = []
        while (event := client.event())["type"] != "error":
            kinds.append(event["type"])
        client.close()
    assert kinds == ["message_start", "content_block_start", "content_block_delta"]
    assert error_in(event)[0] == "timeout_error"
    backend.close()
