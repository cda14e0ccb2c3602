"""The messages of a request as attributes of its span, if the operator wants them there.

Names and shapes are those of OpenTelemetry's GenAI conventions
(https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/, "Capturing instructions, inputs,
and outputs"). Pure.

    block of the Messages API                part
    --------------------------------------   ---------------------------------------------
    text                                     text
    thinking                                 reasoning
    tool_use                                 tool_call
    tool_result                              tool_call_response
    image, document                          blob without its content, uri, or file
    any other                                its type alone

An attribute has at most about MAX_BYTES: of a long conversation the latest messages, and of a long
text its beginning.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from attrs import Factory, define

from stages.messages_api import request as m
from stages.messages_api.accumulate import MessageBuilder
from stages.messages_api.stream_events import BlockStart, BlockStop, MessageStart, StreamEvent
from stages.wire.json_codec import encode

log = logging.getLogger("llm_proxy")

VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
MAX_BYTES = 64 * 1024
_MAX_TEXT = 8 * 1024
_ON = ("true", "span_only", "span_and_event")
_OFF = ("", "false", "no_content")
_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_call",
    "refusal": "content_filter",
}

Part = dict[str, Any]


def captures_content(environ: Mapping[str, str]) -> bool:
    """Whether spans have the messages. Log a value that has no effect."""
    value = environ.get(VARIABLE, "")
    if value.lower() not in (*_ON, *_OFF):
        log.warning("%s=%s has no effect: set `true` or `SPAN_ONLY`", VARIABLE, value[:40])
    return value.lower() in _ON


@define(eq=False)
class CapturedContent:
    """The request of one exchange, and its response if that has started.

    Add `set_request` to `Exchange.on_request`, and `add` to `Exchange.on_stream_event`.
    """

    _request: m.MessagesRequest | None = None
    _builder: MessageBuilder = Factory(MessageBuilder)
    _open_block: int | None = None

    def set_request(self, request: m.MessagesRequest) -> None:
        """Keep the request."""
        self._request = request

    def add(self, event: StreamEvent) -> None:
        """Add the next event of the response."""
        self._builder.add(event)
        if isinstance(event, MessageStart):
            self._request = event.request
        elif isinstance(event, BlockStart):
            self._open_block = event.index
        elif isinstance(event, BlockStop):
            self._open_block = None

    def attributes(self) -> Iterator[tuple[str, Any]]:
        """Yield the attributes, as JSON. Call it once, when the response has ended."""
        if self._request is None:
            return
        if self._open_block is not None:  # the response broke off
            self._builder.add(BlockStop(self._open_block))
        if self._request.system:
            parts = map(_part, self._request.system)
            yield "gen_ai.system_instructions", _json(_at_most(parts))
        latest = _at_most(map(_input_message, reversed(self._request.messages)))[::-1]
        yield "gen_ai.input.messages", _json(latest)
        if omitted := len(self._request.messages) - len(latest):
            yield "llm_proxy.omitted_messages", omitted
        if self._builder.message:
            yield "gen_ai.output.messages", _json([_output_message(self._builder.message)])


def _at_most(parts: Iterable[Part]) -> list[Part]:
    """The first parts, of MAX_BYTES together, and at least one."""
    kept: list[Part] = []
    size = 0
    for part in parts:
        size += len(encode(part))
        if kept and size > MAX_BYTES:
            break
        kept.append(part)
    return kept


def _json(value: list[Part]) -> str:
    return encode(value).decode()


def _input_message(message: m.Message) -> Part:
    parts = [_part(block) for block in message.content]
    results = parts and all(part["type"] == "tool_call_response" for part in parts)
    return {"role": "tool" if results else message.role, "parts": _at_most(parts)}


def _output_message(message: dict[str, Any]) -> Part:
    reason = message["stop_reason"] or "error"
    parts = _at_most(map(_output_part, message["content"]))
    reason = _FINISH_REASONS.get(reason, reason)
    return {"role": "assistant", "parts": parts, "finish_reason": reason}


def _part(block: Any) -> Part:
    if isinstance(block, m.TextBlock):
        return _text_part(block.text)
    if isinstance(block, m.ThinkingBlock):
        return {"type": "reasoning", "content": _cut(block.thinking)}
    if isinstance(block, m.ToolUseBlock):
        return _tool_call(block.id, block.name, block.input)
    if isinstance(block, m.ToolResultBlock):
        response = _at_most(map(_part, block.content))
        return {"type": "tool_call_response", "id": block.tool_use_id, "response": response}
    if isinstance(block, (m.ImageBlock, m.DocumentBlock)):
        return _file_part(block.source, "image" if block.type == "image" else "document")
    return {"type": block.type}


def _output_part(block: dict[str, Any]) -> Part:
    if block["type"] == "text":
        return _text_part(block["text"])
    if block["type"] == "thinking":
        return {"type": "reasoning", "content": _cut(block["thinking"])}
    if block["type"] == "tool_use":
        return _tool_call(block["id"], block["name"], block["input"])
    return {"type": block["type"]}


def _text_part(text: str) -> Part:
    return {"type": "text", "content": _cut(text)}


def _tool_call(id: str, name: str, arguments: dict[str, Any]) -> Part:
    data = encode(arguments)
    given: Any = arguments if len(data) <= _MAX_TEXT else _cut(data.decode())
    return {"type": "tool_call", "id": id, "name": name, "arguments": given}


def _file_part(source: Any, modality: str) -> Part:
    if isinstance(source, m.TextSource):
        return _text_part(source.data)
    if isinstance(source, m.UrlSource):
        return {"type": "uri", "modality": modality, "uri": _cut(source.url)}
    if isinstance(source, m.FileSource):
        return {"type": "file", "modality": modality, "file_id": source.file_id}
    mime_type = getattr(source, "media_type", None)
    return {"type": "blob", "modality": modality, "mime_type": mime_type, "content": ""}


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"
