"""The stage `stream-encode`."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from pipeline import Send, Stage
from stages.events import HttpResponse, ResponseBody, ResponseStart, json_response
from stages.exchange import Degradation
from stages.messages_api.accumulate import MessageBuilder
from stages.messages_api.stream_events import MessageDelta, MessageStart, MessageStop, StreamEvent
from stages.wire.json_codec import encode
from stages.wire.sse import encode_event

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
        builder: MessageBuilder | None = None
        headers: dict[str, str] = {}

        async def receive(event: StreamEvent) -> None:
            nonlocal builder, headers
            if isinstance(event, MessageStart):
                headers = _degraded(event.exchange.degradations)
                if event.exchange.stream:
                    await forward(ResponseStart(200, {**_STREAM_HEADERS, **headers}))
                else:
                    builder = MessageBuilder()
            if builder is None:
                last = isinstance(event, MessageStop)
                data = encode_event(event.type, event.encoded())
                if isinstance(event, MessageDelta) and event.usage.estimated:
                    data = b": usage estimated\n" + data  # a comment, which clients skip
                await forward(ResponseBody(data, more=not last))
                return
            if isinstance(event, MessageDelta):
                cached = event.usage.cache_read_input_tokens
                if cached:
                    headers["x-llm-proxy-cached-tokens"] = str(cached)
                if event.usage.estimated:
                    headers["x-llm-proxy-usage"] = "estimated"
            builder.add(event)
            if isinstance(event, MessageStop):
                await _send(forward, builder.message, headers)

        return receive


async def _send(
    forward: Send[HttpResponse], message: dict[str, Any], headers: dict[str, str]
) -> None:
    for part in json_response(encode(message), headers):
        await forward(part)


def _degraded(degradations: tuple[Degradation, ...]) -> dict[str, str]:
    if not degradations:
        return {}
    listed = ", ".join(map(str, degradations))[:1000]
    # Names come from the client, and a header holds no line breaks.
    shown = "".join(letter if " " <= letter <= "~" else "?" for letter in listed)
    return {"x-llm-proxy-degraded": shown}
