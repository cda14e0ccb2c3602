"""The stage `invoke`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing, suppress

from attrs import frozen, validators

from pipeline import Send, Stage, StopForwarding, option, section
from stages.backends.backend import ChatBackend
from stages.events import ChatAnswer, ChatRequest, ChatStart, ChatWaiting


@frozen
class Invoke(Stage[ChatRequest, ChatAnswer]):
    """Asks the backend, and forwards its answer chunk by chunk."""

    backends: Mapping[str, ChatBackend] = section("backends")
    idle_timeout: float = option(
        300.0, help="seconds of silence from the backend, at most", validator=validators.gt(0)
    )

    async def handle(self, event: ChatRequest, forward: Send[ChatAnswer]) -> None:
        backend = self.backends[event.resolved.target.backend]
        await forward(ChatWaiting(event))
        answer = backend.answer(event, self.idle_timeout)
        started = False
        with suppress(StopForwarding):  # a later stage has enough: the backend is left
            async with aclosing(answer):
                async for part in answer:
                    if not started:  # only now: until then a refusal can be one, or be retried
                        started = True
                        await forward(ChatStart(event))
                    await forward(part)
