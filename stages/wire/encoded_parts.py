"""Encodes a body of which some parts were encoded before."""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_
from typing import Any

import orjson
from attrs import frozen

from stages.wire.json_codec import encode


@frozen(eq=False)
class EncodedParts:
    """The JSON of the first messages of a body, and of its tools.

    It is used only for a body that has these objects: equal ones may differ, as 1 and True.
    """

    messages: Sequence[dict[str, Any]] = ()
    chunks: tuple[bytes, ...] = ()
    """The JSON of `messages`, joined by commas. A chunk has one message or more."""
    size: int = 0
    """The size of `messages` for the estimate of tokens; see `estimated_size`."""
    memory: int = 0
    """The bytes of memory of `messages` and `chunks`, estimated."""
    tools: Any = None
    tools_json: bytes = b""

    def has_messages_of(self, messages: Sequence[dict[str, Any]]) -> bool:
        """Whether `messages` begin with these."""
        begin = self.messages
        return 0 < len(begin) <= len(messages) and all(map(is_, begin, messages))

    def with_tools(self, tools: Any, tools_json: bytes) -> EncodedParts:
        """Return these messages with tools."""
        return EncodedParts(self.messages, self.chunks, self.size, self.memory, tools, tools_json)

    def has_tools(self, tools: Any) -> bool:
        """Whether it has the JSON of `tools`."""
        return bool(self.tools_json) and tools is self.tools


NOT_ENCODED = EncodedParts()


def encode_body(body: dict[str, Any], encoded: EncodedParts = NOT_ENCODED) -> bytes:
    """Compact JSON of a body. It is the same with and without `encoded`."""
    if encoded is NOT_ENCODED:
        return encode(body)
    parts = dict(body)
    messages: list[dict[str, Any]] = body.get("messages", [])
    if encoded.has_messages_of(messages):
        new = messages[len(encoded.messages) :]
        parts["messages"] = [*map(orjson.Fragment, encoded.chunks), *new]
    if encoded.has_tools(body.get("tools")):
        parts["tools"] = orjson.Fragment(encoded.tools_json)
    try:
        return orjson.dumps(parts)
    except TypeError:  # see `encode`
        return encode(body)
