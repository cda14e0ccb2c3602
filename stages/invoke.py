"""The stage `invoke`."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress

import anyio
from attrs import define, frozen, validators

from pipeline import Send, Stage, StopForwarding, option, section
from stages.backends.backend import ChatBackend
from stages.events import ChatEnd, ChatEvent, ChatRequest, ChatStart, ChatWaiting
from stages.exchange import Attempt
from stages.messages_api.errors import ApiError, GatewayTimeoutError
from stages.routing.error_kinds import error_kind


@frozen
class Invoke(Stage[ChatRequest, ChatEvent]):
    """Asks the backend, and forwards its answer chunk by chunk."""

    backends: Mapping[str, ChatBackend] = section("backends")
    idle_timeout: float = option(
        300.0,
        help="longest silence of the backend, in seconds; an SSE comment ends a silence too",
        validator=validators.gt(0),
    )
    first_byte_timeout: float | None = option(
        None,
        help="seconds until the first byte of a response body; default: `idle_timeout`",
        validator=validators.optional(validators.gt(0)),
    )
    total_timeout: float | None = option(
        None,
        help="seconds until the response is complete, not counting the client's time to read",
        validator=validators.optional(validators.gt(0)),
    )

    async def handle(self, event: ChatRequest, forward: Send[ChatEvent]) -> None:
        target, exchange = event.resolved.target, event.exchange
        await forward(ChatWaiting(event))
        attempt = Attempt(target, sent=time.monotonic())
        exchange.attempts.append(attempt)
        backend = self.backends[target.backend]
        response = backend.answer(event, self.idle_timeout, self.first_byte_timeout)
        limit = self.total_timeout
        parts = response if limit is None else _InTime(target.backend, response, limit)
        try:
            with suppress(StopForwarding):  # a later stage has enough: the call is cancelled
                async with aclosing(response):
                    async for part in parts:
                        if attempt.first_byte is None:
                            attempt.first_byte = time.monotonic()
                            if isinstance(part, ChatStart):  # the backend refused an option first
                                exchange.degradations = part.request.degradations
                            else:  # only now: an error before it can still be retried
                                await forward(ChatStart(event))
                        await forward(part)
        except ApiError as error:
            attempt.error = error_kind(error)
            raise
        finally:
            attempt.ended = time.monotonic()


@define(eq=False)
class _InTime:
    """The parts of an answer, as long as they are waited for no longer than `limit` in all.

    The time that they take to be forwarded does not count: that a client reads slowly is no fault
    of the backend, and clients who do not read at all are disconnected by the server.
    """

    backend: str
    parts: AsyncGenerator[ChatEvent, None]
    limit: float
    waited: float = 0

    def __aiter__(self) -> _InTime:
        return self

    async def __anext__(self) -> ChatEvent:
        began = anyio.current_time()
        with anyio.move_on_after(self.limit - self.waited) as scope:
            part = await anext(self.parts)
        if scope.cancelled_caught:
            raise GatewayTimeoutError(
                f"backend `{self.backend}` has not ended its answer within {self.limit:g} s: "
                "ask for a shorter one"
            )
        self.waited += anyio.current_time() - began
        if isinstance(part, ChatEnd):
            self.limit = math.inf  # the rest is only to leave the backend
        return part
