"""Stream events of the Messages API.

The grammar (Messages API, "Streaming"):

    stream := message_start block* message_delta+ message_stop    (ping anywhere)
    block  := content_block_start content_block_delta* content_block_stop

Indexes are dense from 0, and one block is open at a time. A stream that fails ends with an
`error` event instead of `message_stop`.

The members are those of recorded responses of the real API (tests/recorded.py). A member without
a value is omitted; null is written only where the real API writes it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import field

from pipeline.event import event
from stages.exchange import Exchange
from stages.messages_api.request import MessagesRequest
from stages.messages_api.usage import Usage
from stages.wire.json_codec import encode
from stages.wire.sse import encode_event


@event
class StreamEvent:
    """One event of a response."""

    type: ClassVar[str]

    def payload(self) -> dict[str, Any]:
        """The event's JSON."""
        return {"type": self.type}

    def encoded(self) -> bytes:
        """The server-sent event."""
        return encode_event(self.type, encode(self.payload()))


@event
class MessageStart(StreamEvent):
    """The response starts. It carries the client's request, and the record of the exchange."""

    type = "message_start"
    id: str
    model: str
    usage: Usage
    request: MessagesRequest = field(repr=False, eq=False)
    exchange: Exchange = field(factory=Exchange, repr=False, eq=False)

    def message(self) -> dict[str, Any]:
        """The message without content."""
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
            "usage": self.usage.start(),
        }

    def payload(self) -> dict[str, Any]:
        return {"type": self.type, "message": self.message()}


@event
class BlockStart(StreamEvent):
    """A content block opens; `block` is the JSON of the block, still empty."""

    type = "content_block_start"
    index: int
    block: dict[str, Any]

    def payload(self) -> dict[str, Any]:
        return {"type": self.type, "index": self.index, "content_block": self.block}


@event
class BlockDelta(StreamEvent):
    """More of the open block. `text` is in the field FIELDS[kind] of the delta.

    There is one of these for each token.
    """

    type = "content_block_delta"
    index: int
    kind: str
    text: str

    FIELDS: ClassVar[dict[str, str]] = {
        "text_delta": "text",
        "thinking_delta": "thinking",
        "signature_delta": "signature",
        "input_json_delta": "partial_json",
    }

    def payload(self) -> dict[str, Any]:
        delta = {"type": self.kind, self.FIELDS[self.kind]: self.text}
        return {"type": self.type, "index": self.index, "delta": delta}

    def encoded(self) -> bytes:
        """The server-sent event, without the cost of a dict."""
        return _DELTA % (self.index, _HEADS[self.kind], encode(self.text))


_DELTA = encode_event(BlockDelta.type, b'{"type":"content_block_delta","index":%d,"delta":{%b:%b}}')
_HEADS = {
    kind: b'"type":"%b","%b"' % (kind.encode(), field.encode())
    for kind, field in BlockDelta.FIELDS.items()
}


@event
class BlockStop(StreamEvent):
    """The open block is complete."""

    type = "content_block_stop"
    index: int

    def payload(self) -> dict[str, Any]:
        return {"type": self.type, "index": self.index}


@event
class MessageDelta(StreamEvent):
    """The stop reason of the response, and its usage, which replaces that of `message_start`."""

    type = "message_delta"
    stop_reason: str
    usage: Usage
    stop_sequence: str | None = None
    stop_details: dict[str, Any] | None = None

    def delta(self) -> dict[str, Any]:
        """The members of the message that this event sets."""
        return {
            "stop_reason": self.stop_reason,
            "stop_sequence": self.stop_sequence,
            "stop_details": self.stop_details,
        }

    def payload(self) -> dict[str, Any]:
        return {"type": self.type, "delta": self.delta(), "usage": self.usage.delta()}


@event
class MessageStop(StreamEvent):
    """The response is complete."""

    type = "message_stop"


@event
class Ping(StreamEvent):
    """Keeps the connection open while there is nothing to send."""

    type = "ping"
