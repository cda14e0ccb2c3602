"""The stage `translate-out`."""

from __future__ import annotations

import logging
import re
from contextlib import AbstractAsyncContextManager

from attrs import Factory, define, frozen, validators

from pipeline import Send, Stage, StopForwarding, option, section
from stages.counters import Counters
from stages.events import ChatChunk, ChatEnd, ChatEvent, ChatStart, ChatWaiting, Resolved
from stages.keep_alive import KeepAlive
from stages.messages_api.errors import ApiError
from stages.messages_api.stream_events import MessageDelta, StreamEvent
from stages.translation.response import ResponseTranslator

log = logging.getLogger("llm_proxy")

_WORD = re.compile(r"[\w-]{1,40}")


@frozen
class TranslateOut(Stage[ChatEvent, StreamEvent]):
    """Translates a Chat Completions answer into stream events of the Messages API.

    A stream that is silent is pinged, before its first event too. Behind a stop sequence that is
    looked for here, no more of the answer is wanted.
    """

    ping_interval: float | None = option(
        15.0,
        help="seconds of silence after which a stream is pinged; null: never",
        validator=validators.optional(validators.gt(0)),
    )
    counts: Counters = section("metrics", Factory(Counters))

    def open(self, forward: Send[StreamEvent]) -> AbstractAsyncContextManager[Send[ChatEvent]]:
        """With a translator for each attempt at an answer, and pings until the end."""
        return _Answer(forward, self.ping_interval, self.counts)


@define(eq=False)
class _Answer:
    """What becomes of one request's answer."""

    forward: Send[StreamEvent]
    ping_interval: float | None
    counts: Counters
    pings: KeepAlive = Factory(KeepAlive)
    translator: ResponseTranslator | None = None

    async def __aenter__(self) -> Send[ChatEvent]:
        return self._receive

    async def __aexit__(self, *raised: object) -> None:
        await self.pings.end()

    async def _receive(self, event: ChatEvent) -> None:
        translator = self.translator
        if translator is None or not isinstance(event, (ChatChunk, ChatEnd)):
            self._begin(event)
            return
        try:
            if isinstance(event, ChatChunk):
                events = translator.chunk(event.data, event.more_buffered)
            else:
                events = self._ended(event, translator)
        except ApiError:  # what came with it is told before it
            events = translator.flush()
            if events or translator.request.resolved.progress.begun:
                await self._tell(translator, events, last=True)
            raise  # else it may be tried again, and the client waits on
        stopped = translator.stopped
        if events:
            last = stopped or isinstance(event, ChatEnd)
            if last:
                self._count(translator.request.resolved, events)
            await self._tell(translator, events, last)
        if stopped:
            raise StopForwarding

    async def _tell(
        self, translator: ResponseTranslator, events: list[StreamEvent], last: bool
    ) -> None:
        pings, progress = self.pings, translator.request.resolved.progress
        if events and not progress.begun:
            progress.begins()
        while pings.on_its_way:
            await pings.on_its_way.wait()
        pings.silent_since = None
        for each in events:
            await self.forward(each)
        if not last:
            pings.silent_since = pings.now()

    def _ended(self, event: ChatEnd, translator: ResponseTranslator) -> list[StreamEvent]:
        """The end; what of the answer is lost, and a finish reason not understood, is logged."""
        events = translator.end(event.done, event.limit_lowered)
        backend = translator.request.resolved.target.backend
        if reason := translator.unknown_finish:
            shown = reason if _WORD.fullmatch(reason) else "…"  # it may be anything, a prompt, too
            log.warning("backend `%s` ended with the unknown finish_reason %s", backend, shown)
        for name in sorted(translator.left_out):
            self.counts.degraded[backend, f"answer.{name}", "dropped"] += 1
            log.warning("backend `%s` answered with %s, which clients cannot get", backend, name)
        return events

    def _count(self, request: Resolved, events: list[StreamEvent]) -> None:
        """Count the tokens of a whole answer, and log them; `prompt` has the `cached` ones, too."""
        used = next(each.usage for each in events if isinstance(each, MessageDelta))
        backend, tokens = request.target.backend, self.counts.tokens
        tokens[backend, "input"] += used.input_tokens
        tokens[backend, "cache_read"] += used.cache_read_input_tokens
        tokens[backend, "cache_creation"] += used.cache_creation_input_tokens
        tokens[backend, "output"] += used.output_tokens
        request.http.remarks.append(
            f"backend={backend} prompt={used.prompt_tokens} cached={used.cache_read_input_tokens} "
            f"output={used.output_tokens}{' (estimated)' if used.estimated else ''}"
        )

    def _begin(self, event: ChatEvent) -> None:
        """Begin to translate, for each attempt anew, what is one answer to the client."""
        if not isinstance(event, (ChatWaiting, ChatStart)):
            raise TypeError(f"{type(event).__name__} before ChatStart")
        old = self.translator
        if isinstance(event, ChatStart) and old and old.request is event.request:
            return
        self.translator = ResponseTranslator(event.request, announced=bool(old and old.announced))
        if event.request.resolved.request.stream and self.ping_interval is not None:
            self.pings.begin(self.ping_interval, self._ping)

    async def _ping(self) -> None:
        if self.translator:
            for each in self.translator.ping():
                await self.forward(each)
