"""The texts of an exchange for the page: cut, then redacted.

Redaction takes up to 0.3 s for each MiB, on the event loop. So texts are cut first: to TEXT
characters each, and to TOTAL characters of an exchange. A cut removes the word that it would halve:
no half of a secret stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from attrs import Factory, define, frozen

from stages.messages_api import request as m
from stages.messages_api.accumulate import tool_input
from stages.messages_api.stream_events import BlockDelta, BlockStart, MessageStart, StreamEvent
from stages.recording.redaction import redacted, redacted_text
from stages.wire import json_codec

#: Most characters of a text, and of all texts of a request or a response.
TEXT, TOTAL = 4_000, 16_000
#: Most blocks of a request or a response, and members of a JSON value.
_BLOCKS = 50
_BREAK = re.compile(r"[\s\u3000-\uffef](?=[^\s\u3000-\uffef]*\Z)")


@frozen
class Text:
    """A block of a request or a response. `title` has its role and kind."""

    title: str
    text: str


@frozen
class Texts:
    """The texts of one exchange, redacted. `omitted`: older blocks of the request, not kept.

    `error`: the message that the client got; it may quote the request or the backend.
    """

    request: tuple[Text, ...]
    response: tuple[Text, ...]
    omitted: int
    error: str = ""

    def encoded(self) -> bytes:
        """Return them as one line of JSON."""
        parts = (
            [[each.title, each.text] for each in part] for part in (self.request, self.response)
        )
        return json_codec.encode([*parts, self.omitted, self.error])

    @classmethod
    def decoded(cls, data: bytes) -> Texts:
        """Return the texts of `encoded`."""
        request, response, omitted, error = json_codec.decode(data)
        return cls(
            tuple(Text(*each) for each in request),
            tuple(Text(*each) for each in response),
            omitted,
            error,
        )


@define(eq=False)
class TextCollector:
    """Collects the request and the stream events of an exchange.

    Add `set_request` to `Exchange.on_request`, and `add` to `Exchange.on_stream_event`. It refers
    to the request, and keeps at most 2 * TEXT characters of each block of the response.
    """

    _request: m.MessagesRequest | None = None
    _blocks: list[tuple[dict[str, Any], list[str]]] = Factory(list)
    """The blocks of the response, each with the parts of its text."""
    _open: list[str] = Factory(list)
    _size: int = 0
    """Characters of the open block so far."""
    _count: int = 0
    """Blocks so far."""

    def set_request(self, request: m.MessagesRequest) -> None:
        """Keep the request, so that the texts of a failed one can be shown too."""
        self._request = request

    def add(self, event: StreamEvent) -> None:
        """Add the next event."""
        if isinstance(event, BlockDelta):
            if self._size < 2 * TEXT and event.kind != "signature_delta":
                self._open.append(event.text[: 2 * TEXT - self._size])
                self._size += len(event.text)
        elif isinstance(event, BlockStart):
            self._open, self._size = [], 0
            self._count += 1
            if len(self._blocks) < _BLOCKS:
                self._blocks.append((event.block, self._open))
        elif isinstance(event, MessageStart):
            self._request = event.request

    def texts(self, error: str = "") -> Texts | None:
        """Return the texts, cut and redacted; None if there are none."""
        error = redacted_text(cut(error))
        if self._request is None:
            return Texts((), (), 0, error) if error else None
        system = (_text("system", block) for block in self._request.system)
        names = ", ".join(tool.name or str(tool.type) for tool in self._request.tools[:_BLOCKS])
        tools = [Text("tools", redacted_text(cut(names)))] if names else []
        before = _at_most(chain(tools, system), TOTAL // 4)
        blocks = [(each.role, block) for each in self._request.messages for block in each.content]
        latest = (_text(*block) for block in reversed(blocks[-_BLOCKS:]))
        messages = _at_most(latest, TOTAL - TOTAL // 4)[::-1]
        response = _at_most((_response_text(*block) for block in self._blocks), TOTAL)
        if later := self._count - len(response):
            response.append(Text(f"{later:,} later blocks are not kept", ""))
        omitted = len(blocks) - len(messages)
        return Texts((*before, *messages), tuple(response), omitted, error)


def _at_most(texts: Iterable[Text], limit: int) -> list[Text]:
    """Return the first texts, of `limit` characters together, and at least one."""
    kept: list[Text] = []
    for text in texts:
        limit -= len(text.text) + len(text.title)
        if kept and limit < 0:
            break
        kept.append(text)
    return kept


def cut(text: str) -> str:
    """Return at most TEXT characters of a text, without half words, and say that it is cut."""
    if len(text) <= TEXT:
        return text
    match = _BREAK.search(text[:TEXT])
    start = text[: match.start()] if match else ""
    return f"{start}\n[cut after {len(start):,} characters]"


def _text(role: str, block: m.Block) -> Text:
    """Return a block of the request, redacted."""
    if isinstance(block, m.TextBlock):
        return Text(f"{role}: text", redacted_text(cut(block.text)))
    if isinstance(block, m.ThinkingBlock):
        return Text(f"{role}: thinking", redacted_text(cut(block.thinking)))
    if isinstance(block, m.ToolUseBlock):
        return Text(_title(f"{role}: tool_use", block.name), _json(block.input))
    if isinstance(block, m.ToolResultBlock):
        parts = (_text(role, each) for each in block.content[:_BLOCKS])
        results = _at_most((_result(part) for part in parts), TEXT)
        return Text(f"{role}: tool_result", "\n".join(each.text for each in results))
    if isinstance(block, (m.ImageBlock, m.DocumentBlock)):
        return Text(f"{role}: {block.type}", _file(block))
    return Text(f"{role}: {block.type}", "")


def _result(part: Text) -> Text:
    return part if part.text else Text("", part.title)


def _title(kind: str, name: str) -> str:
    return f"{kind} {redacted_text(name[:200])}"


def _file(block: m.ImageBlock | m.DocumentBlock) -> str:
    source = block.source
    if isinstance(source, m.TextSource):
        return redacted_text(cut(source.data))
    if isinstance(source, m.Base64Source):
        kilobytes = -(-len(source.data) * 3 // 4 // 1000)
        return f"{block.type}, {kilobytes:,} KB"
    if isinstance(source, m.UrlSource):
        return f"{block.type}, {redacted_text(cut(source.url))}"
    return block.type


def _response_text(block: dict[str, Any], parts: list[str]) -> Text:
    """Return a block of the response, redacted."""
    text, kind = "".join(parts), block["type"]
    if kind == "tool_use":
        return Text(_title("tool_use", block["name"]), _json(tool_input(text, cut=True)))
    return Text(kind, redacted_text(cut(text)))


def _json(value: Any) -> str:
    """Return JSON as lines, its texts cut and redacted."""
    return cut(json.dumps(redacted(_Shortened().of(value)), indent=1, ensure_ascii=False))


@define
class _Shortened:
    """Shortens one JSON value to TEXT characters, and to _BLOCKS members."""

    characters: int = TEXT
    members: int = _BLOCKS

    def of(self, value: Any) -> Any:
        """Return the value with at most the remaining characters and members."""
        if isinstance(value, str):
            self.characters -= len(value)
            return cut(value) if self.characters > -TEXT else "[cut]"
        if isinstance(value, dict):
            return {cut(name): self.of(item) for name, item in self._some(value.items())}
        if isinstance(value, (list, tuple)):
            return [self.of(item) for item in self._some(value)]
        return value

    def _some(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self.members -= 1
            if self.members < 0:
                return
            yield item
