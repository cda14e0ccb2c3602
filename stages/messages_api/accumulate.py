"""Accumulate stream events into one message, for clients that do not stream."""

from __future__ import annotations

from typing import Any

from attrs import Factory, define

from stages.messages_api import stream_events as e
from stages.wire import json_codec


@define
class MessageBuilder:
    """Accumulates the events of one response; `message` is complete after `message_stop`."""

    message: dict[str, Any] = Factory(dict)
    _texts: list[str] = Factory(list)

    def add(self, event: e.StreamEvent) -> None:
        """Add the next event."""
        if isinstance(event, e.MessageStart):
            self.message = event.message()
        elif isinstance(event, e.BlockStart):
            self.message["content"].append(dict(event.block))
            self._texts.clear()
        elif isinstance(event, e.BlockDelta):
            if event.kind == "signature_delta":
                self.message["content"][-1]["signature"] = event.text
            else:
                self._texts.append(event.text)
        elif isinstance(event, e.BlockStop):
            self._complete(self.message["content"][-1], "".join(self._texts))
        elif isinstance(event, e.MessageDelta):
            self.message.update(event.delta())
            self.message["usage"] = event.usage.message()

    def _complete(self, block: dict[str, Any], text: str) -> None:
        if block["type"] == "tool_use":
            block["input"] = tool_input(text)
        elif block["type"] != "redacted_thinking":  # complete in its BlockStart
            block[block["type"]] = text


def tool_input(arguments: str) -> dict[str, Any]:
    """Parse the arguments of a tool call, a JSON text, into the object that clients need.

    Truncated JSON is closed where it ends, as the official SDKs do with a stream. Text that is not
    an object is kept under `_raw`: nothing is lost, and the tool can report the mistake.
    """
    if not arguments.strip():
        return {}
    try:
        value = json_codec.decode(arguments.encode())
    except ValueError:
        try:
            value = json_codec.decode_prefix(arguments)
        except ValueError:
            value = None
    return value if isinstance(value, dict) else {"_raw": arguments}
