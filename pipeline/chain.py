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
    its receiver comes from a context manager. `overrides_receiver`: whether it makes a receiver of
    its own for each request.
    """

    stage: AnyStage
    filter: tuple[type, ...] | None
    overrides_open: bool
    overrides_receiver: bool

    def receiver(self, forward: Send[Any]) -> Send[Any]:
        """Return the stage's receiver, before which other events go past the stage.

        Of a stage that only handles events, both are one function: it saves a call per event.
        """
        if self.overrides_receiver:
            return self.filtered(self.stage.receiver(forward), forward)
        handle, accepts = self.stage.handle, self.filter
        if accepts is None:
            return lambda event: handle(event, forward)
        return lambda event: (
            handle(event, forward) if isinstance(event, accepts) else forward(event)
        )

    def filtered(self, receive: Send[Any], forward: Send[Any]) -> Send[Any]:
        """Return `receive`, before which other events go past the stage."""
        accepts = self.filter
        if accepts is None:
            return receive
        return lambda event: (receive if isinstance(event, accepts) else forward)(event)


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
            overrides_receiver = type(stage).receiver is not Stage.receiver
            accepts = None if accepts_all else types.accepts
            links.append(Link(stage, accepts, overrides_open, overrides_receiver))
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
        forward = _watched(observer, len(self.links), sink)
        async with AsyncExitStack() as exits:
            for number, link in reversed(tuple(enumerate(self.links))):
                receive = await exits.enter_async_context(_Opened(link.stage.open(forward)))
                forward = _watched(observer, number, link.filtered(receive, forward))
            with suppress(StopForwarding):
                yield forward

    def run(self, event: Any, sink: Send[Any], observer: Observer | None = None) -> Awaitable[None]:
        """Send one event through the chain. Raises the exceptions of stages, except StopForwarding.

        It does as `open` does, without a generator and an exit stack for each request.
        """
        count = len(self.links)
        return self._run(event, count, _watched(observer, count, sink), observer)

    async def _run(
        self, event: Any, count: int, forward: Send[Any], observer: Observer | None
    ) -> None:
        """Open the first `count` stages, and send the event to the first one."""
        for number in range(count - 1, -1, -1):
            link = self.links[number]
            if link.overrides_open:
                async with _Opened(link.stage.open(forward)) as receive:
                    forward = _watched(observer, number, link.filtered(receive, forward))
                    await self._run(event, number, forward, observer)
                return
            forward = link.receiver(forward)
            if observer is not None:  # here, as a call for each stage would cost
                forward = observer.watch(number, forward)
        with suppress(StopForwarding):
            await forward(event)


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


def _watched(observer: Observer | None, arrow: int, send: Send[Any]) -> Send[Any]:
    return send if observer is None else observer.watch(arrow, send)
