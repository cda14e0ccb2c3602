"""The stage `invoke`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing, suppress

import anyio
from attrs import frozen, validators

from pipeline import Send, Stage, StopForwarding, option, section
from stages.backends.backend import ChatBackend
from stages.events import ChatAnswer, ChatRequest, ChatStart, ChatWaiting
from stages.wire.errors import GatewayTimeoutError


@frozen
class Invoke(Stage[ChatRequest, ChatAnswer]):
    """Asks the backend, and forwards its answer chunk by chunk."""

    backends: Mapping[str, ChatBackend] = section("backends")
    idle_timeout: float = option(
        300.0,
        help="seconds of silence from the backend, at most; a comment, too, ends it",
        validator=validators.gt(0),
    )
    first_byte_timeout: float | None = option(
        None,
        help="seconds until the first byte of an answer's body; else as `idle_timeout`",
        validator=validators.optional(validators.gt(0)),
    )
    total_timeout: float | None = option(
        None,
        help="seconds for a whole answer",
        validator=validators.optional(validators.gt(0)),
    )

    async def handle(self, event: ChatRequest, forward: Send[ChatAnswer]) -> None:
        if self.total_timeout is None:
            await self._ask(event, forward)
            return
        with anyio.move_on_after(self.total_timeout) as scope:
            await self._ask(event, forward)
        if scope.cancelled_caught:
            backend = event.resolved.target.backend
            raise GatewayTimeoutError(
                f"backend `{backend}` has not ended its answer within {self.total_timeout:g} s: "
                "ask for a shorter one"
            )

    async def _ask(self, event: ChatRequest, forward: Send[ChatAnswer]) -> None:
        backend = self.backends[event.resolved.target.backend]
        await forward(ChatWaiting(event))
        answer = backend.answer(event, self.idle_timeout, self.first_byte_timeout)
        started = False
        with suppress(StopForwarding):  # a later stage has enough: the backend is left
            async with aclosing(answer):
                async for part in answer:
                    if not started:  # only now: until then a refusal can be one, or be retried
                        started = True
                        await forward(ChatStart(event))
                    await forward(part)
