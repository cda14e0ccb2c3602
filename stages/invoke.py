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
from stages.messages_api.usage import Usage
from stages.routing.error_kinds import error_kind


@frozen
class Invoke(Stage[ChatRequest, ChatEvent]):
    """Call the backend, and forward its response chunk by chunk."""

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
        for function in exchange.on_attempt:
            function(attempt)
        backend = self.backends[target.backend]
        response = backend.answer(event, self.idle_timeout, self.first_byte_timeout)
        limit = self.total_timeout
        parts = response if limit is None else _TimedParts(target.backend, response, limit)
        try:
            with suppress(StopForwarding):  # a later stage needs no more events
                async with aclosing(response):
                    async for part in parts:
                        if attempt.first_byte is None:
                            attempt.first_byte = time.monotonic()
                            if isinstance(part, ChatStart):  # the call was repeated
                                exchange.degradations = part.request.degradations
                            else:  # not earlier: an error before the first part may be retried
                                await forward(ChatStart(event))
                        await forward(part)
        except ApiError as error:
            attempt.error = error_kind(error)
            raise
        finally:
            attempt.ended = time.monotonic()
            attempt.usage = exchange.usage or _usage_without_response(event, attempt)


def _usage_without_response(event: ChatRequest, attempt: Attempt) -> Usage | None:
    """Return the estimated prompt if the client or a timeout ended the call; otherwise None.

    In the first case the backend was reading the prompt. After other errors there is no usage: the
    backend refused the call.
    """
    if attempt.error in ("", "timeout"):
        return Usage(input_tokens=event.estimate, estimated=True)
    return None


@define(eq=False)
class _TimedParts:
    """The parts of a response. The waits for all of them together take at most `limit` seconds.

    The time to forward them does not count: a slow client is not the backend's fault, and the
    server disconnects a client that does not read at all.
    """

    backend: str
    parts: AsyncGenerator[ChatEvent, None]
    limit: float
    waited: float = 0

    def __aiter__(self) -> _TimedParts:
        return self

    async def __anext__(self) -> ChatEvent:
        started = anyio.current_time()
        with anyio.move_on_after(self.limit - self.waited) as scope:
            part = await anext(self.parts)
        if scope.cancelled_caught:
            raise GatewayTimeoutError(
                f"backend `{self.backend}` did not complete its response within {self.limit:g} s: "
                "ask for a shorter response"
            )
        self.waited += anyio.current_time() - started
        if isinstance(part, ChatEnd):
            self.limit = math.inf  # complete; the next call only closes the connection
        return part
