"""One line of a recording: a JSON object.

    member     value
    --------   -----------------------------------------------------------------------------------
    version    of this format: 1
    exchange   the record of the exchange, without prompt and response; see `Exchange.as_json`
    headers    the client's `anthropic-beta`, which changes what `validate` accepts; no other header
    request    the body of the request
    response   the message, as a response without a stream has it. If the exchange broke off: the
               part that the client got. Null, if there was no response

A file in which a person wrote `request`, and perhaps `headers`, is an exchange, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import Factory, define, frozen

from stages.messages_api.accumulate import MessageBuilder
from stages.messages_api.stream_events import BlockStart, BlockStop, StreamEvent
from stages.recording.redaction import redacted
from stages.wire import json_codec

VERSION = 1
#: The only headers that are recorded. They have no secrets.
HEADERS = ("anthropic-beta",)

Json = dict[str, Any]


class LineError(ValueError):
    """A line that is no exchange. The message says why."""


@frozen
class Recorded:
    """A recorded exchange. Without `response` and `exchange` it was written by a person."""

    request: Json
    headers: Mapping[str, str] = Factory(dict)
    response: Json | None = None
    exchange: Json = Factory(dict)


def parse(line: bytes) -> Recorded:
    """Parse a line. Raises LineError."""
    try:
        value = json_codec.decode(line, duplicate_keys=True)
    except ValueError as error:
        raise LineError(f"not valid JSON: {error}") from error
    if not isinstance(value, dict) or not isinstance(value.get("request"), dict):
        raise LineError("not an exchange: it is no JSON object with `request`")
    version = value.get("version", VERSION)
    if version != VERSION:
        raise LineError(f"its format is {str(version)[:20]}; this version reads {VERSION}")
    headers, exchange, response = (value.get(n) for n in ("headers", "exchange", "response"))
    return Recorded(
        value["request"],
        {str(name).lower(): str(text) for name, text in _object(headers).items()},
        response if isinstance(response, dict) else None,
        _object(exchange),
    )


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


@define(eq=False)
class ResponseCollector:
    """Collects the stream events of a response. Add it to `Exchange.on_stream_event`."""

    _builder: MessageBuilder = Factory(MessageBuilder)
    _open_block: int | None = None

    def add(self, event: StreamEvent) -> None:
        """Add the next event."""
        self._builder.add(event)
        if isinstance(event, BlockStart):
            self._open_block = event.index
        elif isinstance(event, BlockStop):
            self._open_block = None

    def message(self) -> Json | None:
        """The message so far, also in the middle of a block. No event may be added after it."""
        if self._open_block is not None:
            self.add(BlockStop(self._open_block))
        return self._builder.message or None


@frozen
class Line:
    """An exchange that waits to be written. `body` is the client's, in bytes."""

    exchange: Json
    headers: Json
    body: bytes
    response: Json | None

    def encoded(self, redact: bool) -> bytes:
        """The line with its line break. Takes 50 ms for each MB: do not call it on the event loop.

        Raises ValueError if the body is not valid JSON.
        """
        value = {
            "version": VERSION,
            "exchange": self.exchange,
            "headers": self.headers,
            "request": json_codec.decode(self.body, duplicate_keys=True),
            "response": self.response,
        }
        return json_codec.encode(redacted(value) if redact else value) + b"\n"
