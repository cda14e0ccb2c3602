"""The stages after `retry` and `fallback` in their tests."""

from __future__ import annotations

from typing import Any

from attrs import define, field

from pipeline.chain import AnyStage, Chain
from stages.events import Resolved


@define
class Attempts:
    """The rest of the chain: each attempt ends as scripted, with an error or well.

    A tuple is an error that comes after the response has begun.
    """

    ends: list[Any]
    asked: list[str] = field(factory=list)

    async def __call__(self, event: Resolved) -> None:
        self.asked.append(event.target.backend)
        end = self.ends.pop(0)
        if isinstance(end, tuple) or end is None:
            event.exchange.start_response()
        error = end[0] if isinstance(end, tuple) else end
        if error is not None:
            raise error


async def attempts(stage: AnyStage, event: Resolved, *ends: Any) -> list[str]:
    """The backends that were asked in turn; raises what the stage does."""
    remaining = Attempts(list(ends))
    await Chain.of((stage,), Resolved).run(event, remaining)
    assert not remaining.ends, "it has given up early"
    return remaining.asked
