"""The stage `queue`. Who is next is in `stages.backends.fair_queue`."""

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
    """A call in the queue; `turn` is set when it may begin after waiting."""

    turn: anyio.Event = field(factory=anyio.Event)


@frozen
class Queue(Stage[ChatRequest, ChatRequest | ChatWaiting]):
    """Lets through as many calls at a time as their backend's `max_concurrent_calls`; others wait.

    Keys take turns, and of a key its sessions; short calls go before long ones, within bounds.
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
        turns = self.backends[event.resolved.target.backend].queue
        return forward(event) if turns is None else self._in_slot(event, forward, turns)

    async def _in_slot(
        self,
        event: ChatRequest,
        forward: Send[ChatRequest | ChatWaiting],
        turns: FairQueue[QueuedCall],
    ) -> None:
        if not turns.free and turns.waiting >= self.max_queued:
            await forward(ChatWaiting(event))  # for an earlier stage that tries again, later
            raise _busy(event, turns, f"{turns.waiting} waiting for it already")
        call, came = QueuedCall(), anyio.current_time()
        event.exchange.queued = time.monotonic()
        at_once = turns.enter(call, _names(event), self._is_short(event))
        try:
            if not at_once:
                await forward(ChatWaiting(event))
                with anyio.move_on_after(self.queue_timeout):
                    await call.turn.wait()
                if not call.turn.is_set():
                    raise _busy(event, turns, f"its turn did not come in {self.queue_timeout:g} s")
            began = anyio.current_time()
            turns.record_wait(began - came)
            event.exchange.accepted = time.monotonic()
            await forward(event)
            turns.record_duration(anyio.current_time() - began)
        finally:
            for following in turns.leave(call):
                following.turn.set()

    def _is_short(self, event: ChatRequest) -> bool:
        return event.estimate + (event.resolved.request.max_tokens or 0) <= self.short_call_tokens


def apply_concurrency_limit(backend: Backend) -> None:
    """Let calls begin by the `max_concurrent_calls` of now, which a reload may have changed."""
    if backend.queue is not None and backend.profile.max_concurrent_calls is not None:
        for following in backend.queue.resize(backend.profile.max_concurrent_calls):
            following.turn.set()


def _names(event: ChatRequest) -> tuple[str, str]:
    return event.exchange.client, event.exchange.session


def _busy(event: ChatRequest, turns: FairQueue[QueuedCall], why: str) -> QueueFullError:
    seconds = turns.retry_after()
    name = event.resolved.target.backend
    return QueueFullError(
        f"backend `{name}` is busy: {why}; try again in {seconds} s",
        headers={"retry-after": str(seconds)},
    )
