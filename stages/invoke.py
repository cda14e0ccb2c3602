"""The stage `invoke`."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import contextmanager, suppress

import anyio
from attrs import frozen, validators

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
        timeouts = self.idle_timeout, self.first_byte_timeout

        def receive(part: ChatEvent) -> Awaitable[None]:
            started = attempt.first_byte is not None
            return forward(part) if started else _start(event, attempt, part, forward)

        try:
            with suppress(StopForwarding):  # a later stage needs no more events
                if self.total_timeout is None:
                    await backend.answer(event, receive, *timeouts)
                else:
                    with _limit_waits(self.total_timeout, target.backend, receive) as timed:
                        await backend.answer(event, timed, *timeouts)
        except ApiError as error:
            attempt.error = error_kind(error)
            raise
        finally:
            attempt.ended = time.monotonic()
            attempt.usage = exchange.usage or _usage_without_response(event, attempt)


async def _start(
    request: ChatRequest, attempt: Attempt, part: ChatEvent, forward: Send[ChatEvent]
) -> None:
    """Forward the first part of a response, with a ChatStart."""
    attempt.first_byte = time.monotonic()
    if isinstance(part, ChatStart):  # the call was repeated
        request.exchange.degradations = part.request.degradations
    else:  # not earlier: an error before the first part may be retried
        await forward(ChatStart(request))
    await forward(part)


def _usage_without_response(event: ChatRequest, attempt: Attempt) -> Usage | None:
    """Return the estimated prompt if the client or a timeout ended the call; otherwise None.

    In the first case the backend was reading the prompt. After other errors there is no usage: the
    backend refused the call.
    """
    if attempt.error in ("", "timeout"):
        return Usage(input_tokens=event.estimate, estimated=True)
    return None


@contextmanager
def _limit_waits(limit: float, backend: str, forward: Send[ChatEvent]) -> Iterator[Send[ChatEvent]]:
    """Limit the time of the block, without that in `forward`, to `limit` seconds.

    The time to forward does not count: a slow client is not the backend's fault, and the server
    disconnects a client that does not read at all. After ChatEnd, nothing counts.
    """

    async def timed(part: ChatEvent) -> None:
        remaining = scope.deadline - anyio.current_time()
        scope.deadline = math.inf
        await forward(part)
        if not isinstance(part, ChatEnd):
            scope.deadline = anyio.current_time() + remaining

    with anyio.move_on_after(limit) as scope:
        yield timed
    if scope.cancelled_caught:
        raise GatewayTimeoutError(
            f"backend `{backend}` did not complete its response within {limit:g} s: "
            "ask for a shorter response"
        )
