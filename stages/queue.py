"""The stage `queue`. `stages.backends.fair_queue` decides which call is next."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Mapping

import anyio
from attrs import define, field, frozen, validators

from pipeline import Send, Stage, option, section
from stages.backends.backend import Backend
from stages.backends.fair_queue import FairQueue
from stages.events import ChatRequest, ChatWaiting
from stages.messages_api.errors import QueueFullError


@define(eq=False)
class QueuedCall:
    """A call in the queue. `may_start` is set when the call gets a slot after a wait."""

    may_start: anyio.Event = field(factory=anyio.Event)


@frozen
class Queue(Stage[ChatRequest, ChatRequest | ChatWaiting]):
    """Limit the calls of a backend to its `max_concurrent_calls`; the other calls wait.

    Client keys take turns, and so do the sessions of a key. Short calls go before long calls, but
    at most three in a row.
    """

    backends: Mapping[str, Backend] = section("backends")
    max_queued: int = option(
        100,
        renamed_from="max_waiting",
        help="calls that may wait for a backend; further calls get a 529",
        validator=validators.ge(0),
    )
    queue_timeout: float = option(
        300.0,
        renamed_from="max_wait",
        help="seconds that a call may wait",
        validator=validators.gt(0),
    )
    short_call_tokens: int = option(
        4000,
        renamed_from="short_tokens",
        help="calls whose prompt plus `max_tokens` is at most this many tokens are short",
    )

    def handle(
        self, event: ChatRequest, forward: Send[ChatRequest | ChatWaiting]
    ) -> Awaitable[None]:
        queue = self.backends[event.resolved.target.backend].queue
        return forward(event) if queue is None else self._in_slot(event, forward, queue)

    async def _in_slot(
        self,
        event: ChatRequest,
        forward: Send[ChatRequest | ChatWaiting],
        queue: FairQueue[QueuedCall],
    ) -> None:
        if not queue.has_free_slot and queue.waiting >= self.max_queued:
            await forward(ChatWaiting(event))  # for pings: an earlier stage may wait and retry
            raise _busy(event, queue, f"{queue.waiting} calls are waiting")
        call = QueuedCall()
        event.exchange.queued = time.monotonic()
        at_once = queue.enter(call, _names(event), self._is_short(event))
        try:
            if not at_once:
                await forward(ChatWaiting(event))
                with anyio.move_on_after(self.queue_timeout):
                    await call.may_start.wait()
                if not call.may_start.is_set():
                    raise _busy(event, queue, f"no slot was free within {self.queue_timeout:g} s")
            started = anyio.current_time()
            event.exchange.accepted = time.monotonic()
            await forward(event)
            queue.record_duration(anyio.current_time() - started)
        finally:
            for next_call in queue.leave(call):
                next_call.may_start.set()

    def _is_short(self, event: ChatRequest) -> bool:
        return event.estimate + (event.resolved.request.max_tokens or 0) <= self.short_call_tokens


def apply_concurrency_limit(backend: Backend) -> None:
    """Start waiting calls by the `max_concurrent_calls`, which a reload may change."""
    if backend.queue is not None and backend.profile.max_concurrent_calls is not None:
        for next_call in backend.queue.resize(backend.profile.max_concurrent_calls):
            next_call.may_start.set()


def _names(event: ChatRequest) -> tuple[str, str]:
    return event.exchange.client, event.exchange.session


def _busy(event: ChatRequest, queue: FairQueue[QueuedCall], why: str) -> QueueFullError:
    seconds = queue.retry_after()
    name = event.resolved.target.backend
    return QueueFullError(
        f"backend `{name}` is busy: {why}; try again in {seconds} s",
        headers={"retry-after": str(seconds)},
    )
