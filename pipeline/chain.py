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
from typing import Any, Protocol

from attrs import frozen

from pipeline.stage import Send, Stage, StopForwarding, signature, types_after

AnyStage = Stage[Any, Any]


class Observer(Protocol):
    """Sees the events of one request on each arrow of a chain.

    Arrow 0 leads to the first stage (stage 0), arrow n from stage n - 1 to stage n, and the last
    arrow to the sink. An event that a stage does not accept is on the arrows before and after it.
    """

    def watch(self, arrow: int, send: Send[Any]) -> Send[Any]:
        """Return a function that replaces `send` on this arrow. It passes each event to `send`."""


@frozen
class Link:
    """A stage of a chain. `filter`: the types that it accepts; None: every event that can come."""

    stage: AnyStage
    filter: tuple[type, ...] | None


@frozen
class Chain:
    """Stages whose event types fit together. All requests share them."""

    links: tuple[Link, ...]

    @classmethod
    def of(cls, stages: tuple[AnyStage, ...], start: type) -> Chain:
        """Link `stages`. Their types must fit. The first stage receives events of type `start`."""
        links = []
        arriving = frozenset({start})
        for stage in stages:
            types = signature(type(stage))
            accepts_all = all(issubclass(event, types.accepts) for event in arriving)
            links.append(Link(stage, None if accepts_all else types.accepts))
            arriving = types_after(arriving, types) or arriving
        return cls(tuple(links))

    @asynccontextmanager
    async def open(
        self, sink: Send[Any], observer: Observer | None = None
    ) -> AsyncIterator[Send[Any]]:
        """Open every stage for one request, the last stage first. The first stage closes first.

        Yield the receiver of the first stage. The last stage forwards to `sink`. StopForwarding
        ends the chain normally.
        """
        async with AsyncExitStack() as exits:
            receive = await self._open_links(sink, exits, observer)
            with suppress(StopForwarding):
                yield receive

    async def run(self, event: Any, sink: Send[Any], observer: Observer | None = None) -> None:
        """Send one event through the chain. Raises the exceptions of stages, except StopForwarding.

        It does not use `open`, which would cost a generator per request.
        """
        async with AsyncExitStack() as exits:
            receive = await self._open_links(sink, exits, observer)
            with suppress(StopForwarding):
                await receive(event)

    async def _open_links(
        self, forward: Send[Any], exits: AsyncExitStack, observer: Observer | None
    ) -> Send[Any]:
        if observer is not None:
            return await self._open_watched(forward, exits, observer)
        for link in reversed(self.links):
            forward = await _enter(link, forward, exits)
        return forward

    async def _open_watched(
        self, forward: Send[Any], exits: AsyncExitStack, observer: Observer
    ) -> Send[Any]:
        forward = observer.watch(len(self.links), forward)
        for arrow, link in reversed(tuple(enumerate(self.links))):
            forward = observer.watch(arrow, await _enter(link, forward, exits))
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
    """A stage's context manager. If it raises StopForwarding while it exits, that is no error."""

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
            return error is None  # False: the exception continues to propagate


def _filtered(accepts: tuple[type, ...], receive: Send[Any], forward: Send[Any]) -> Send[Any]:
    return lambda event: (receive if isinstance(event, accepts) else forward)(event)
