"""The stage `account`."""

from __future__ import annotations

from collections.abc import Awaitable

from attrs import Factory, frozen

from pipeline import Send, Stage, section
from stages.events import Authenticated
from stages.usage.record import UsageRecord


@frozen
class Account(Stage[Authenticated, Authenticated]):
    """Record each attempt at a backend in the usage record, however it ends.

    A row has the client's key, session and agent, the models, the times and the tokens: no prompt
    and no response. The section `usage` has the file and its limits; `llm-proxy usage` prints sums.
    """

    usage: UsageRecord = section("usage", Factory(UsageRecord))

    def handle(self, event: Authenticated, forward: Send[Authenticated]) -> Awaitable[None]:
        event.exchange.on_end.append(self.usage.add)
        return forward(event)
