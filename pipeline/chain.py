"""Runs events through a checked chain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
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
    """A stage of a chain.

    `filter`: the types that it accepts; None: every event that can come. `overrides_open`: whether
    its receiver comes from a context manager.
    """

    stage: AnyStage
    filter: tuple[type, ...] | None
    overrides_open: bool


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
            overrides_open = type(stage).open is not Stage.open
            links.append(Link(stage, None if accepts_all else types.accepts, overrides_open))
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
        forward = sink if observer is None else observer.watch(len(self.links), sink)
        async with AsyncExitStack() as exits:
            for number, link in reversed(tuple(enumerate(self.links))):
                receive = await exits.enter_async_context(_Opened(link.stage.open(forward)))
                forward = self._arrow(number, receive, forward, observer)
            with suppress(StopForwarding):
                yield forward

    def run(self, event: Any, sink: Send[Any], observer: Observer | None = None) -> Awaitable[None]:
        """Send one event through the chain. Raises the exceptions of stages, except StopForwarding.

        It does as `open` does, without a generator and an exit stack for each request.
        """
        count = len(self.links)
        forward = sink if observer is None else observer.watch(count, sink)
        return self._run(event, count, forward, observer)

    async def _run(
        self, event: Any, count: int, forward: Send[Any], observer: Observer | None
    ) -> None:
        """Open the first `count` stages, and send the event to the first one."""
        for number in range(count - 1, -1, -1):
            link = self.links[number]
            if link.overrides_open:
                async with _Opened(link.stage.open(forward)) as receive:
                    forward = self._arrow(number, receive, forward, observer)
                    await self._run(event, number, forward, observer)
                return
            forward = self._arrow(number, link.stage.receiver(forward), forward, observer)
        with suppress(StopForwarding):
            await forward(event)

    def _arrow(
        self, number: int, receive: Send[Any], forward: Send[Any], observer: Observer | None
    ) -> Send[Any]:
        """Return what sends events on the arrow to a stage. Its receiver is `receive`."""
        accepts = self.links[number].filter
        send = receive if accepts is None else _filtered(accepts, receive, forward)
        return send if observer is None else observer.watch(number, send)


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
