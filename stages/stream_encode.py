"""The stage `stream-encode`."""

from __future__ import annotations

from collections.abc import Awaitable

from attrs import Factory, define, frozen

from pipeline import Send, Stage
from stages.events import HttpResponse, ResponseBody, ResponseStart, json_response
from stages.exchange import Degradation
from stages.messages_api.accumulate import MessageBuilder
from stages.messages_api.stream_events import (
    BlockDelta,
    MessageDelta,
    MessageStart,
    MessageStop,
    StreamEvent,
)
from stages.wire.json_codec import encode

_STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


@frozen
class StreamEncode(Stage[StreamEvent, HttpResponse]):
    """Encode the response as server-sent events or as one JSON message, as the client asked.

    The header `x-llm-proxy-degraded` lists the parts of the request that were dropped or changed.
    If the response is no stream, `x-llm-proxy-cached-tokens` is the number of tokens of the prompt
    that the backend had in its cache. In a stream, `usage` in the events has that number.
    Estimated usage is marked: by `x-llm-proxy-usage: estimated`, or by a comment in the stream.
    """

    def receiver(self, forward: Send[HttpResponse]) -> Send[StreamEvent]:
        """Make a builder for a response that is not a stream."""
        return _Response(forward).receive


@define(eq=False)
class _Response:
    """The response to one request. `builder` is None if the response is a stream."""

    forward: Send[HttpResponse]
    builder: MessageBuilder | None = None
    headers: dict[str, str] = Factory(dict)

    def receive(self, event: StreamEvent) -> Awaitable[None]:
        if type(event) is BlockDelta and self.builder is None:  # most events: without a coroutine
            return self.forward(ResponseBody(event.encoded(), more=True))
        return self._receive(event)

    async def _receive(self, event: StreamEvent) -> None:
        if isinstance(event, MessageStart):
            self.headers = _degraded(event.exchange.degradations)
            if event.exchange.stream:
                await self.forward(ResponseStart(200, {**_STREAM_HEADERS, **self.headers}))
            else:
                self.builder = MessageBuilder()
        if self.builder is not None:
            await self._add(event, self.builder)
            return
        data = event.encoded()
        if isinstance(event, MessageDelta) and event.usage.estimated:
            data = b": usage estimated\n" + data  # a comment, which clients skip
        await self.forward(ResponseBody(data, more=not isinstance(event, MessageStop)))

    async def _add(self, event: StreamEvent, builder: MessageBuilder) -> None:
        builder.add(event)
        if isinstance(event, MessageDelta):
            cached = event.usage.cache_read_input_tokens
            if cached:
                self.headers["x-llm-proxy-cached-tokens"] = str(cached)
            if event.usage.estimated:
                self.headers["x-llm-proxy-usage"] = "estimated"
        elif isinstance(event, MessageStop):
            for part in json_response(encode(builder.message), self.headers):
                await self.forward(part)


def _degraded(degradations: tuple[Degradation, ...]) -> dict[str, str]:
    if not degradations:
        return {}
    listed = ", ".join(map(str, degradations))[:1000]
    # Names come from the client, and a header holds no line breaks.
    shown = "".join(letter if " " <= letter <= "~" else "?" for letter in listed)
    return {"x-llm-proxy-degraded": shown}
