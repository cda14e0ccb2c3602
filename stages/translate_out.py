"""The stage `translate-out`.

An attempt that fails before the client has got a part of its response may be repeated:

    client        event               forwarded                     after an error
    -----------   -----------------   ---------------------------   --------------------------
    any           a chunk without     nothing                       another attempt may follow
                  content
    streams       message_start       with the first ping or the    another attempt may follow
                                      first content
    streams       content             at once; the response starts  the error ends the request
    does not      any before the end  at the end; the response      another attempt may follow
    stream                            starts
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager

from attrs import Factory, define, frozen, validators

from pipeline import Send, Stage, StopForwarding, option
from stages.events import ChatChunk, ChatEnd, ChatEvent, ChatRequest, ChatStart, ChatWaiting
from stages.exchange import Degradation, Exchange
from stages.keep_alive import KeepAlive
from stages.messages_api.errors import ApiError
from stages.messages_api.stream_events import MessageDelta, MessageStart, StreamEvent
from stages.translation.response import ResponseTranslator

log = logging.getLogger("llm_proxy")

_WORD = re.compile(r"[\w-]{1,40}")


@frozen
class TranslateOut(Stage[ChatEvent, StreamEvent]):
    """Translate a Chat Completions response into stream events of the Messages API.

    While a stream is silent, it sends `ping` events, even before the first event. If it finds a
    stop sequence in the text, it ends the call.
    """

    ping_interval: float | None = option(
        15.0,
        help="seconds of silence after which a stream gets a `ping` event; null: never",
        validator=validators.optional(validators.gt(0)),
    )

    def open(self, forward: Send[StreamEvent]) -> AbstractAsyncContextManager[Send[ChatEvent]]:
        """Open a translator for each attempt, and the keep-alive of the stream."""
        return _Response(forward, self.ping_interval)


@define(eq=False)
class _Response:
    """The response to one request."""

    forward: Send[StreamEvent]
    ping_interval: float | None
    keep_alive: KeepAlive = Factory(KeepAlive)
    translator: ResponseTranslator | None = None
    exchange: Exchange = Factory(Exchange)
    last_forwarded: float | None = None
    waiting: ChatRequest | None = None
    """The request of the last event, if that was ChatWaiting. Its translator is new."""
    buffered: list[StreamEvent] = Factory(list)
    """The events before the response starts. Another attempt replaces them."""
    message_started: bool = False
    """Whether message_start was forwarded."""

    async def __aenter__(self) -> Send[ChatEvent]:
        return self._receive

    async def __aexit__(self, *raised: object) -> None:
        exchange = self.exchange
        exchange.usage = exchange.usage  # save it: `read_usage` refers to the translator
        exchange.read_usage = None
        await self.keep_alive.end()

    def _receive(self, event: ChatEvent) -> Awaitable[None]:
        translator = self.translator
        if (
            translator is not None
            and type(event) is ChatChunk
            and not event.more_buffered
            and (events := translator.continue_text(event.data)) is not None
        ):
            return self._forward(events, last=False)
        return self._translate(event, translator)

    async def _translate(self, event: ChatEvent, translator: ResponseTranslator | None) -> None:
        if translator is None or not isinstance(event, (ChatChunk, ChatEnd)):
            self._begin(event)
            return
        try:
            if isinstance(event, ChatChunk):
                events = translator.translate(event.data, event.more_buffered)
            else:
                events = self._ended(event, translator)
        except ApiError:
            events = translator.flush()  # those before the error; the usage counts them
            if self.exchange.response_started is not None:
                await self._forward(events, last=True)
            raise  # otherwise `retry` or `fallback` may send the request again: pings go on
        stopped = translator.stopped
        if events:
            await self._forward(events, stopped or isinstance(event, ChatEnd))
        if stopped:
            raise StopForwarding

    async def _forward(self, events: list[StreamEvent], last: bool) -> None:
        if not (events or last):
            return
        keep_alive, exchange = self.keep_alive, self.exchange
        if exchange.first_token is None and not (events := self._start(events, last)):
            return
        if last:
            _record_end(exchange, events)
        while keep_alive.ping_in_flight:
            await keep_alive.ping_in_flight.wait()
        keep_alive.silent_since = None
        for event in events:
            for function in exchange.on_stream_event:
                function(event)
            await self.forward(event)
        now = keep_alive.now()
        last_forwarded = self.last_forwarded
        if last_forwarded is not None and now - last_forwarded > exchange.longest_gap:
            exchange.longest_gap = now - last_forwarded
        self.last_forwarded = now
        if exchange.stream_times is not None:
            exchange.stream_times.append(now)
        if not last:
            keep_alive.silent_since = now

    def _start(self, events: list[StreamEvent], last: bool) -> list[StreamEvent]:
        """Start the response, and return its events so far; or buffer `events`, and return none."""
        self.buffered += events
        if not last and (not self.exchange.stream or isinstance(self.buffered[-1], MessageStart)):
            return []
        events, self.buffered, self.message_started = self.buffered, [], True
        if self.exchange.response_started is None:
            self.exchange.start_response()
        self.exchange.first_token = time.monotonic()
        return events

    def _ended(self, event: ChatEnd, translator: ResponseTranslator) -> list[StreamEvent]:
        """Return the last events. Log an unknown finish reason, and members that were dropped."""
        events = translator.end(event.done, event.limit_lowered)
        backend = translator.request.resolved.target.backend
        if reason := translator.unknown_finish:
            shown = reason if _WORD.fullmatch(reason) else "…"  # it may contain a prompt
            log.warning("backend `%s` ended with the unknown finish_reason %s", backend, shown)
        for name in sorted(translator.dropped_members):
            field = f"answer.{name}"
            self.exchange.degradations += (Degradation(field, "dropped", field),)
            log.warning("backend `%s` answered with %s, which clients cannot get", backend, name)
        return events

    def _begin(self, event: ChatEvent) -> None:
        """Make a translator if `event` starts a new attempt."""
        if not isinstance(event, (ChatWaiting, ChatStart)):
            raise TypeError(f"{type(event).__name__} before ChatStart")
        waiting = self.waiting
        self.waiting = event.request if isinstance(event, ChatWaiting) else None
        if waiting is event.request:
            return
        self.exchange = event.exchange
        self.buffered = []
        self.translator = ResponseTranslator(event.request, self.message_started)
        self.exchange.read_usage = self.translator.usage_so_far
        if self.exchange.stream and self.ping_interval is not None:
            self.keep_alive.begin(self.ping_interval, self._ping)

    async def _ping(self) -> None:
        if self.translator:
            self.translator.message_started = self.message_started
            self.buffered, self.message_started = [], True
            for event in self.translator.ping():
                for function in self.exchange.on_stream_event:
                    function(event)
                await self.forward(event)


def _record_end(exchange: Exchange, events: list[StreamEvent]) -> None:
    if len(events) > 1 and isinstance(event := events[-2], MessageDelta):  # before message_stop
        exchange.usage, exchange.stop_reason = event.usage, event.stop_reason
