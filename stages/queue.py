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
from stages.backends.slots import Warmth
from stages.events import ChatRequest, ChatWaiting
from stages.exchange import Exchange
from stages.messages_api.errors import QueueFullError
from stages.off_loop import LARGE_BODY, off_loop
from stages.routing.traits import prefix_key

#: Characters of each name of a client in the name of a conversation, its model included.
_MAX_NAME = 200


@frozen
class Queue(Stage[ChatRequest, ChatRequest | ChatWaiting]):
    """Limit the calls of a backend to its `max_concurrent_calls`; the other calls wait.

    Client keys take turns, and so do the sessions of a key. Short calls go before long calls, but
    at most three in a row. A conversation may have several turns in a row, because the backend has
    its prompt in its prefix cache. No call waits longer than twice the time that turns in strict
    order take.
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
    warm_turns: int = option(
        16,
        help="calls of a conversation in a row, while others wait; 1: strict order",
        validator=validators.ge(1),
    )
    warm_seconds: float = option(
        120.0,
        help="seconds for which a conversation may have turns in a row, after the first of them",
        validator=validators.ge(0),
    )
    hold_seconds: float = option(
        0.25,
        help="seconds for which a slot waits for the results of the tools that its response calls, "
        "while others wait; 0: not at all",
        validator=validators.ge(0),
    )

    def handle(
        self, event: ChatRequest, forward: Send[ChatRequest | ChatWaiting]
    ) -> Awaitable[None]:
        backend = self.backends[event.resolved.target.backend]
        queue = backend.queue
        return forward(event) if queue is None else self._in_slot(event, forward, backend, queue)

    async def _in_slot(
        self,
        event: ChatRequest,
        forward: Send[ChatRequest | ChatWaiting],
        backend: Backend,
        queue: CallQueue,
    ) -> None:
        exchange = event.exchange
        warmth = await self._warmth(event, backend)
        call = QueuedCall((exchange.client, exchange.session), self._is_short(event), warmth)
        seconds = None
        queued = time.monotonic()
        try:
            if full := await queue.enter(call, self.max_queued):
                await forward(ChatWaiting(event))  # for pings: an earlier stage may wait and retry
                raise _busy(event, full.retry_after, f"{full.waiting} calls are waiting")
            exchange.queued = queued
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
            exchange.accepted = time.monotonic()
            await forward(event)
            seconds = anyio.current_time() - started
            if exchange.stop_reason == "tool_use":
                call.hold = self.hold_seconds
        finally:
            await queue.leave(call, seconds)

    async def _warmth(self, event: ChatRequest, backend: Backend) -> Warmth:
        resolved = event.resolved
        model = resolved.target.model[:_MAX_NAME]
        loaded = model if backend.profile.swaps_models else ""
        if self.warm_turns == 1:
            return Warmth(model=loaded, seconds=self.warm_seconds)
        name = conversation_name(event.exchange)
        if not name:
            small = resolved.new_bytes < LARGE_BODY
            request = resolved.request
            prefix = prefix_key(request) if small else await off_loop(prefix_key, request)
            name = prefix.hex()
        return Warmth(f"{model} {name}", loaded, self.warm_turns, self.warm_seconds)

    def _is_short(self, event: ChatRequest) -> bool:
        return event.estimate + (event.resolved.request.max_tokens or 0) <= self.short_call_tokens


def conversation_name(exchange: Exchange) -> str:
    """The name of the conversation, from the client's ids; empty without them.

    A sub-agent has a conversation of its own.
    """
    if not exchange.session:
        return ""
    names = exchange.client, exchange.session, exchange.agent
    return " ".join(name[:_MAX_NAME] for name in names)


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
