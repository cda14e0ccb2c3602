"""The events that a stage's own receiver gets."""

from __future__ import annotations

import pytest
from attrs import frozen

from pipeline import Send, Stage
from pipeline.chain import Chain
from tests.pipeline.support import End, Finish, Middle, Start


@frozen
class Both(Stage[Start, Middle | End]):
    """Forwards an event that the next stage accepts, and one that it does not accept."""

    async def handle(self, event: Start, forward: Send[Middle | End]) -> None:
        await forward(Middle("a"))
        await forward(End("b"))
        await forward(Middle("c"))


@frozen
class Numbered(Stage[Middle, Middle]):
    """Counts the events of one request."""

    def receiver(self, forward: Send[Middle]) -> Send[Middle]:
        seen: list[Middle] = []

        async def receive(event: Middle) -> None:
            seen.append(event)
            await forward(Middle(f"{event.text}{len(seen)}"))

        return receive


@pytest.mark.parametrize("way", ["open", "run"])
async def test_a_receiver_gets_the_accepted_events_of_one_request(way: str) -> None:
    chain = Chain.of((Both(), Numbered(), Finish()), Start)
    for _ in range(2):
        arrived: list[object] = []

        async def sink(event: object, arrived: list[object] = arrived) -> None:
            arrived.append(event)

        if way == "open":
            async with chain.open(sink) as send:
                await send(Start())
        else:
            await chain.run(Start(), sink)

        assert arrived == [End("a1"), End("b"), End("c2")]
