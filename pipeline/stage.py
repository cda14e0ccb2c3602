"""The stage contract: what an author of a stage writes, and nothing else.

Each stage is configured once, from YAML, and shared by all requests, so it is an
attrs-frozen object. What belongs to one request lives in `open`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from types import UnionType
from typing import Any, Generic, TypeVar, Union, get_args, get_origin

from attrs import frozen

T = TypeVar("T")
In = TypeVar("In")
Out = TypeVar("Out")

#: The way to the next stage. Awaiting it returns when every later stage is done with the event.
Send = Callable[[T], Awaitable[None]]


class StopForwarding(Exception):
    """Raised by a stage that has forwarded all it will, and wants no more events.

    A stage that forwards many events for one, as those of a stream, catches it around its
    `forward`, closes what it reads from, and returns. Stages between the two let it pass.
    """


@frozen
class Stage(Generic[In, Out]):
    """One step of a pipeline: accepts events of type `In`, forwards events of type `Out`.

    Events a stage does not accept pass it by. `Stage[T, T]` (a type variable, perhaps
    bound) marks a stage that may stand anywhere. `await forward(event)` covers the rest
    of the chain, so a `try`, a timer or a cancel scope around it does too. Only one task
    at a time may call `forward`. Whatever a stage raises ends the request, unless an earlier
    stage catches it, and perhaps sends the event once more: state in `receiver` starts anew
    where an answer does. Only with `StopForwarding` it has ended well (see there).
    """

    def handle(self, event: In, forward: Send[Out]) -> Awaitable[None]:
        """Deal with one event. Most stages override only this, with an `async def`.

        One that awaits nothing else may be a `def` that ends with `return forward(event)`. Then it
        has no frame between the answer and its backend, which each piece of it would pass; but a
        `try` or `with` around that `return` would cover only the call, not the rest of the chain.
        """
        raise TypeError(f"{type(self).__name__} overrides neither handle nor open")

    def open(self, forward: Send[Out]) -> AbstractAsyncContextManager[Send[In]]:
        """Give the receiver for one request. Override it to have something to do at its end.

        Stages are entered last first and left first first, so on leaving a stage may
        still forward. Where a later stage then has enough, an error that is under way goes on,
        also one that was to be dealt with by forwarding.
        """
        return nullcontext(self.receiver(forward))

    def receiver(self, forward: Send[Out]) -> Send[In]:
        """Give the receiver for one request. Override it to keep state for the request.

        As it is, it is `handle` bound to `forward`: no coroutine of its own, which each event
        would pass.
        """
        handle = self.handle
        return lambda event: handle(event, forward)


@frozen
class Signature:
    """What a stage class declares. `transparent` stages forward what they accept."""

    accepts: tuple[type, ...]
    emits: tuple[type, ...]
    transparent: bool = False


def signature(stage: type[Stage[Any, Any]]) -> Signature:
    """Read `Stage[In, Out]` off the class. Raises TypeError when it says nothing of the kind."""
    arguments = _arguments(stage)
    if not arguments:
        raise TypeError(f"{stage.__name__} does not say what it accepts and emits: Stage[In, Out]")
    accepts, emits = arguments
    if not isinstance(accepts, TypeVar):
        return Signature(_types(accepts), _types(emits))
    accepted = accepts.__constraints__ or _types(accepts.__bound__ or object)
    if accepts is emits:
        return Signature(accepted, accepted, transparent=True)
    return Signature(accepted, _types(emits))


def _arguments(cls: Any) -> tuple[Any, ...]:
    """What `cls` fills in for In and Out, perhaps by way of a generic stage in between."""
    for base in cls.__dict__.get("__orig_bases__", cls.__bases__):
        origin = get_origin(base) or base
        if origin is Stage:
            return get_args(base)
        if isinstance(origin, type) and issubclass(origin, Stage):
            filled = dict(zip(getattr(origin, "__parameters__", ()), get_args(base), strict=False))
            return tuple(filled.get(each, each) for each in _arguments(origin))
    return ()


def types_after(types: Iterable[type], signature: Signature) -> frozenset[type] | None:
    """Give the event types after a stage, from `types` before it; None if it accepts none of them.

    If the stage accepts only a subclass of one of `types`, its other events pass the stage by.
    """
    before = frozenset(types)
    accepted = [event for event in before if issubclass(event, signature.accepts)]
    partly = any(issubclass(event, tuple(before)) for event in signature.accepts)
    if not accepted and not partly:
        return None
    if signature.transparent:
        return before
    return before.difference(accepted).union(signature.emits)


def _types(annotation: Any) -> tuple[type, ...]:
    if get_origin(annotation) in (Union, UnionType):
        return tuple(each for part in get_args(annotation) for each in _types(part))
    if not isinstance(annotation, type):
        raise TypeError(f"events are classes, {annotation!r} is not")
    return (annotation,)
