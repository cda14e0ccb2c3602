"""The stage contract: everything that an author of a stage needs.

The config makes one object per stage. All requests share it, so it is an attrs-frozen object. The
receiver that `receiver` or `open` returns keeps the state of one request.
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

    A stage that forwards a stream of events catches it around its `forward`, closes the source of
    the stream, and returns. Other stages do not catch it.
    """


@frozen
class Stage(Generic[In, Out]):
    """One step of a pipeline: accepts events of type `In`, forwards events of type `Out`.

    The chain passes an event that a stage does not accept to the next stage. `Stage[T, T]`, with a
    type variable T, fits anywhere in a chain; a bound of T limits the events that it accepts.

    `await forward(event)` returns when all later stages are done with the event. So a `try`, a
    timer or a cancel scope around it covers them too. Only one task at a time may call `forward`.

    An exception ends the request, unless an earlier stage catches it. The earlier stage may forward
    the event again. A receiver must therefore reset its state when a new response starts.
    """

    def handle(self, event: In, forward: Send[Out]) -> Awaitable[None]:
        """Handle one event. Most stages override only this, with an `async def`.

        An override that awaits only one `forward`, as its last step, may be a plain `def` that ends
        with `return forward(event)`. This saves one coroutine frame per event. A `try` or `with`
        around that `return` does not cover the later stages.
        """
        raise TypeError(f"{type(self).__name__} overrides neither handle nor open")

    def open(self, forward: Send[Out]) -> AbstractAsyncContextManager[Send[In]]:
        """Return the receiver for one request. Override it to run code at the end of a request.

        The last stage opens first, and the first stage exits first. So a stage may still forward
        while it exits. StopForwarding that a later stage raises then does not replace an exception
        that is already propagating.
        """
        return nullcontext(self.receiver(forward))

    def receiver(self, forward: Send[Out]) -> Send[In]:
        """Return the receiver for one request. Override it to keep state for the request.

        The default receiver calls `handle` with `forward`. It adds no coroutine per event.
        """
        handle = self.handle
        return lambda event: handle(event, forward)


@frozen
class Signature:
    """The event types of a stage class. A `transparent` stage emits the types that it receives."""

    accepts: tuple[type, ...]
    emits: tuple[type, ...]
    transparent: bool = False


def signature(stage: type[Stage[Any, Any]]) -> Signature:
    """Return the event types of `Stage[In, Out]`. Raises TypeError if the class has none."""
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
    """Return the types of `cls` for In and Out. A generic base class may pass them on to Stage."""
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
    """Return the event types after a stage, if `types` are those before it.

    None: the stage accepts none of them. A stage may accept only a subclass of one of `types`. Then
    the type itself is also among those after the stage.
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
