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
    _calls: list[tuple[dict[str, Any], str]] = Factory(list)
    """The block of each tool call, and its arguments."""

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
            if event.stop_reason != "tool_use":
                for block, arguments in self._calls:
                    block["input"] = tool_input(arguments, cut=True)
            self.message["usage"] = event.usage.message()

    def _complete(self, block: dict[str, Any], text: str) -> None:
        if block["type"] == "tool_use":
            block["input"] = tool_input(text)
            self._calls.append((block, text))
        elif block["type"] != "redacted_thinking":  # complete in its BlockStart
            block[block["type"]] = text


def tool_input(arguments: str, cut: bool = False) -> dict[str, Any]:
    """Parse the arguments of a tool call, a JSON text, into the object that clients need.

    `cut`: the message does not end with `tool_use`, so its last call may be incomplete. The input
    then has the members that are complete, as the official SDKs build it from a stream. In a
    message that ends with `tool_use`, clients run the call: incomplete arguments are not valid
    JSON there. The input keeps arguments that are no object, not valid JSON, or too deep for the
    client's next request as text in `_raw`: nothing is lost, and the tool can report it.
    """
    if not arguments.strip():
        return {}
    value = _decoded(arguments, cut)
    return value if isinstance(value, dict) and _fits(value) else {"_raw": arguments}


def _decoded(arguments: str, cut: bool) -> Any:
    """The value; None where the arguments are not valid JSON."""
    try:
        return json_codec.decode(arguments.encode(), duplicate_keys=True)
    except json_codec.TruncatedError:
        if not cut:
            return None
    except ValueError:
        pass
    try:
        return json_codec.decode_prefix(arguments)
    except ValueError:
        return None


def _fits(value: Any) -> bool:
    """Whether a request can carry the value: body, messages, message, content and block wrap it."""
    level = [value]
    for _ in range(json_codec.MAX_DEPTH - 5):
        level = [inner for outer in level for inner in _containers(outer)]
        if not level:
            return True
    return False


def _containers(outer: dict[str, Any] | list[Any]) -> list[Any]:
    members = outer.values() if isinstance(outer, dict) else outer
    return [inner for inner in members if isinstance(inner, (dict, list))]
