"""The stage `queue`. `stages.backends.fair_queue` decides which call is next.

`stages.backends.call_queue` has the contract of the queue, which several processes may share.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Mapping

import anyio
from attrs import frozen, validators

from pipeline import Send, Stage, option, section
from stages.backends.backend import Backend
from stages.backends.call_queue import CallQueue, QueuedCall
from stages.events import ChatRequest, ChatWaiting
from stages.messages_api.errors import QueueFullError


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
        self, event: ChatRequest, forward: Send[ChatRequest | ChatWaiting], queue: CallQueue
    ) -> None:
        call = QueuedCall((event.exchange.client, event.exchange.session), self._is_short(event))
        seconds = None
        queued = time.monotonic()
        try:
            if full := await queue.enter(call, self.max_queued):
                await forward(ChatWaiting(event))  # for pings: an earlier stage may wait and retry
                raise _busy(event, full.retry_after, f"{full.waiting} calls are waiting")
            event.exchange.queued = queued
            if not call.may_start.is_set():
                await forward(ChatWaiting(event))
                with anyio.move_on_after(self.queue_timeout):
                    await call.may_start.wait()
                if not call.may_start.is_set():
                    reason = f"no slot was free within {self.queue_timeout:g} s"
                    raise _busy(event, queue.retry_after(), reason)
            if call.store_is_lost:
                reason = "its free slots are not known now"
                raise _busy(event, queue.retry_after(), reason)
            started = anyio.current_time()
            event.exchange.accepted = time.monotonic()
            await forward(event)
            seconds = anyio.current_time() - started
        finally:
            await queue.leave(call, seconds)

    def _is_short(self, event: ChatRequest) -> bool:
        return event.estimate + (event.resolved.request.max_tokens or 0) <= self.short_call_tokens


def apply_concurrency_limit(backend: Backend) -> None:
    """Start waiting calls by the `max_concurrent_calls`, which a reload may change."""
    if backend.queue is not None and backend.profile.max_concurrent_calls is not None:
        backend.queue.resize(backend.profile.max_concurrent_calls)


def _busy(event: ChatRequest, seconds: int, reason: str) -> QueueFullError:
    name = event.resolved.target.backend
    return QueueFullError(
        f"backend `{name}` is busy: {reason}; try again in {seconds} s",
        headers={"retry-after": str(seconds)},
    )
