"""The grammar of a Messages stream as a check, and a reader of SSE that is not the proxy's own."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tests.sdk_types import check_sent

_DELTAS = {
    "text": {"text_delta": "text"},
    "thinking": {"thinking_delta": "thinking", "signature_delta": "signature"},
    "tool_use": {"input_json_delta": "partial_json"},
    "redacted_thinking": {},  # it comes whole
}


def check_grammar(payloads: Iterable[dict[str, Any]], *, whole: bool = True) -> None:
    """Raise AssertionError where a stream's payloads break a rule.

    1. `message_start` is first and comes once; its message is empty and has an input estimate.
    2. Indexes are dense from 0; one block is open at a time; a block starts empty.
    3. Deltas are of the open block, of a kind and with a text member that fit it; a signature
       comes once, last.
    4. Each payload is of the official SDK's type, with all members and no others.
    5. `message_delta` with a stop reason and usage, then `message_stop`, then nothing.

    With `whole` False the stream may break off anywhere, and may end with `error`.
    """
    opened: str | None = None
    signed = False
    blocks = 0
    state = "before"
    for payload in payloads:
        check_sent(payload)
        kind = payload["type"]
        assert state not in ("stopped", "failed"), f"{kind} after the end"
        if kind == "ping":
            continue
        if kind == "error":
            assert not whole, "error in a whole stream"
            assert payload["error"]["message"]
            state = "failed"
        elif kind == "message_start":
            assert state == "before", "a second message_start"
            _check_start(payload["message"])
            state = "open"
        elif kind == "content_block_start":
            assert state == "open", f"a block starts when the message is {state}"
            assert opened is None, "a block starts within a block"
            assert payload["index"] == blocks, f"index {payload['index']} is not {blocks}"
            opened = _check_block(payload["content_block"])
            signed = False
        elif kind == "content_block_delta":
            assert opened is not None, "a delta outside of a block"
            assert payload["index"] == blocks, "a delta of another block"
            _check_delta(payload["delta"], opened)
            assert not signed, "a delta after the signature"
            signed = payload["delta"]["type"] == "signature_delta"
        elif kind == "content_block_stop":
            assert opened is not None, "a stop outside of a block"
            assert payload["index"] == blocks, "a stop of another block"
            assert signed or opened != "thinking", "thinking without a signature"
            opened = None
            blocks += 1
        elif kind == "message_delta":
            assert opened is None, "message_delta within a block"
            assert state in ("open", "ending"), f"message_delta when the message is {state}"
            assert payload["delta"]["stop_reason"]
            assert payload["usage"]["output_tokens"] >= 1
            state = "ending"
        elif kind == "message_stop":
            assert state == "ending", "message_stop without message_delta"
            state = "stopped"
        else:
            raise AssertionError(f"an event of the unknown type {kind!r}")
    assert state == "stopped" or not whole, f"the stream ends when the message is {state}"


def _check_start(message: dict[str, Any]) -> None:
    assert message["content"] == []
    assert message["role"] == "assistant"
    assert message["stop_reason"] is None
    assert message["usage"]["input_tokens"] > 0
    assert message["usage"]["output_tokens"] >= 1


def _check_block(block: dict[str, Any]) -> str:
    kind: str = block["type"]
    assert kind in _DELTAS, f"a block of the unknown type {kind!r}"
    if kind == "tool_use":
        assert block["name"]
        assert block["id"]
        assert block["input"] == {}
    elif kind == "redacted_thinking":
        assert block["data"]
    else:
        assert block[kind] == "", f"a {kind} block that starts with something"
    return kind


def _check_delta(delta: dict[str, Any], opened: str) -> None:
    fitting = _DELTAS[opened]
    assert delta["type"] in fitting, f"{delta['type']} in a {opened} block"
    text = delta[fitting[delta["type"]]]
    assert isinstance(text, str)
    assert text, f"an empty {delta['type']}"


def parse_sse(body: bytes) -> list[dict[str, Any]]:
    """The payloads of a stream as the proxy writes it; AssertionError where it is not so."""
    assert body.endswith(b"\n\n"), "the last event is not complete"
    payloads = []
    for event in body.split(b"\n\n")[:-1]:
        lines = [line for line in event.split(b"\n") if not line.startswith(b":")]
        name, data = lines[0], b"\n".join(lines[1:])
        assert name.startswith(b"event: ")
        assert data.startswith(b"data: ")
        assert b"\n" not in data
        payload = json.loads(data[6:])
        assert payload["type"] == name[7:].decode()
        payloads.append(payload)
    return payloads
