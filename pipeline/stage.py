"""The stage contract: everything that an author of a stage needs.

YAML configures each stage once, and all requests share it. So a stage is an attrs-frozen object.
The state of one request is in `receiver` or in `open`.
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

#: Sends an event to the next stage. It returns when every later stage is done with the event.
Send = Callable[[T], Awaitable[None]]


class StopForwarding(Exception):
    """Raised by a stage that wants no more events. The request ends without an error.

    A stage that forwards many events for one event, as those of a stream, catches it around its
    `forward`, closes its source, and returns. Stages between the two let it pass.
    """


@frozen
class Stage(Generic[In, Out]):
    """One step of a pipeline: accepts events of type `In`, forwards events of type `Out`.

    Events that a stage does not accept pass it by. `Stage[T, T]` (a type variable, perhaps bound)
    fits anywhere. `await forward(event)` covers the later stages, and so does a `try`, a timer or a
    cancel scope around it. Only one task at a time may call `forward`. An exception of a stage ends
    the request, unless an earlier stage catches it. That stage may send the event again: state in
    `receiver` must start from scratch when a new response starts. `StopForwarding` ends the request
    without an error.
    """

    def handle(self, event: In, forward: Send[Out]) -> Awaitable[None]:
        """Handle one event. Most stages override only this, with an `async def`.

        If it awaits nothing else, it may be a `def` that ends with `return forward(event)`. This
        saves one coroutine frame per event of the response. Beware: a `try` or `with` around that
        `return` covers the call only, not the later stages.
        """
        raise TypeError(f"{type(self).__name__} overrides neither handle nor open")

    def open(self, forward: Send[Out]) -> AbstractAsyncContextManager[Send[In]]:
        """Give the receiver for one request. Override it to do something at the end of a request.

        The last stage opens first, and the first stage exits first. So a stage may still forward
        while it exits. If a later stage raises StopForwarding during exit, an exception that is
        already propagating is not replaced by it.
        """
        return nullcontext(self.receiver(forward))

    def receiver(self, forward: Send[Out]) -> Send[In]:
        """Give the receiver for one request. Override it to keep state for the request.

        The default binds `handle` to `forward`. It adds no coroutine per event.
        """
        handle = self.handle
        return lambda event: handle(event, forward)


@frozen
class Signature:
    """The event types of a stage class. A `transparent` stage forwards what it accepts."""

    accepts: tuple[type, ...]
    emits: tuple[type, ...]
    transparent: bool = False


def signature(stage: type[Stage[Any, Any]]) -> Signature:
    """Give the event types of `Stage[In, Out]`. Raises TypeError if the class has none."""
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
    """Give the arguments of `cls` for In and Out, also through a generic stage in between."""
    for base in cls.__dict__.get("__orig_bases__", cls.__bases__):
        origin = get_origin(base) or base
        if origin is Stage:
            return get_args(base)
        if isinstance(origin, type) and issubclass(origin, Stage):
            arguments = dict(
                zip(getattr(origin, "__parameters__", ()), get_args(base), strict=False)
            )
            return tuple(arguments.get(name, name) for name in _arguments(origin))
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
        return tuple(event for member in get_args(annotation) for event in _types(member))
    if not isinstance(annotation, type):
        raise TypeError(f"events are classes, {annotation!r} is not")
    return (annotation,)
