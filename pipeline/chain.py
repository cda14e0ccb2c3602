"""Runs events through a checked chain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from types import TracebackType
from typing import Any

from attrs import frozen

from pipeline.stage import Send, Stage, StopForwarding, signature, types_after

AnyStage = Stage[Any, Any]


@frozen
class Link:
    """A stage in its place. `filter` is None where it accepts all that can arrive there."""

    stage: AnyStage
    filter: tuple[type, ...] | None


@frozen
class Chain:
    """Stages that fit together; shared by all requests."""

    links: tuple[Link, ...]

    @classmethod
    def of(cls, stages: tuple[AnyStage, ...], start: type) -> Chain:
        """Link `stages`, the first of which receives `start`. They are known to fit."""
        links = []
        carries = frozenset({start})
        for stage in stages:
            declared = signature(type(stage))
            everything = all(issubclass(each, declared.accepts) for each in carries)
            links.append(Link(stage, None if everything else declared.accepts))
            carries = types_after(carries, declared) or carries
        return cls(tuple(links))

    @asynccontextmanager
    async def open(self, sink: Send[Any]) -> AsyncIterator[Send[Any]]:
        """Open every stage for one request, the last one first; they close first one first.

        Gives the way into the first stage; what the last one forwards goes to `sink`. With
        `StopForwarding` all ends well.
        """
        async with AsyncExitStack() as exits:
            receive = await self._entered(sink, exits)
            with suppress(StopForwarding):
                yield receive

    async def run(self, event: Any, sink: Send[Any]) -> None:
        """Send one event through. Raises whatever else a stage raises.

        It could use `open`; but that is a generator, one more for each request.
        """
        async with AsyncExitStack() as exits:
            receive = await self._entered(sink, exits)
            with suppress(StopForwarding):
                await receive(event)

    async def _entered(self, forward: Send[Any], exits: AsyncExitStack) -> Send[Any]:
        for link in reversed(self.links):
            forward = await _enter(link, forward, exits)
        return forward


async def _enter(link: Link, forward: Send[Any], exits: AsyncExitStack) -> Send[Any]:
    stage = link.stage
    if type(stage).open is Stage.open:  # nothing to do at the end
        receive = stage.receiver(forward)
    else:
        receive = await exits.enter_async_context(_Opened(stage.open(forward)))
    return receive if link.filter is None else _filtered(link.filter, receive, forward)


@frozen
class _Opened:
    """What a stage opens. At its end, too, a later stage may have enough; then others end well."""

    opened: AbstractAsyncContextManager[Send[Any]]

    async def __aenter__(self) -> Send[Any]:
        return await self.opened.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        try:
            return await self.opened.__aexit__(kind, error, trace)
        except StopForwarding:
            return error is None  # one that is under way goes on


def _filtered(accepts: tuple[type, ...], receive: Send[Any], forward: Send[Any]) -> Send[Any]:
    return lambda event: (receive if isinstance(event, accepts) else forward)(event)
