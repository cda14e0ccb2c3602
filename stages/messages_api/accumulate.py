"""Stream events put together to the one message a client gets that asked for no stream."""

from __future__ import annotations

from typing import Any

from attrs import Factory, define

from stages.messages_api import stream_events as e
from stages.wire import json_codec


@define
class MessageBuilder:
    """Collects the events of one answer; `message` is whole after `message_stop`."""

    message: dict[str, Any] = Factory(dict)
    _texts: list[str] = Factory(list)

    def add(self, event: e.StreamEvent) -> None:
        """Take in the next event."""
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
        elif block["type"] != "redacted_thinking":  # which comes whole
            block[block["type"]] = text


def tool_input(arguments: str) -> dict[str, Any]:
    """The arguments of a tool call as the object clients need.

    What breaks off is closed where it does, as the official SDKs do with a stream; what is no
    object at all is kept as text under `_raw`, so that nothing is lost and the tool can complain.
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
