"""The stage contract: everything that an author of a stage needs.

The config makes one object per stage. All requests share it, so it is an attrs-frozen object. A
receiver is the function through which a stage gets the events of one request. A receiver may keep
the state of the request. The method `Stage.receiver` returns the receiver. If a stage overrides
`Stage.open`, the context manager of `open` gives the receiver.
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

#: Takes one event, and returns when every later stage is done with the event. A stage's receiver is
#: a `Send` for the events that the stage receives. `forward` is a `Send` to the next stage.
Send = Callable[[T], Awaitable[None]]


class StopForwarding(Exception):
    """Raised by a stage that wants no more events. The request ends without an error.

    Catch this exception only in a stage that opens a stream, such as a network response, and
    forwards the parts of the stream. The stage then closes the stream and returns.
    """


@frozen
class Stage(Generic[In, Out]):
    """One step of a pipeline: accepts events of type `In`, forwards events of type `Out`.

    If a stage does not accept an event, the chain passes the event to the next stage. A
    `Stage[T, T]`, where T is a type variable without a bound, accepts every event, so it fits
    anywhere in a chain. With a bound, it accepts only events of that type.

    `await forward(event)` returns when all later stages are done with the event. So a `try`, a
    timer or a cancel scope around it covers them too. Only one task at a time may call `forward`.

    An exception ends the request, unless an earlier stage catches it. That stage may then forward
    its event again. So a later stage may get the events of another attempt in the same request. Its
    receiver must reset its state at the first event of that attempt.
    """

    def handle(self, event: In, forward: Send[Out]) -> Awaitable[None]:
        """Handle one event. Most stages override only this. It is usually an `async def`.

        An override that awaits only one `forward`, as its last step, may be a plain `def` that ends
        with `return forward(event)`. This saves one coroutine frame per event. A `try` or `with`
        around that `return` does not cover the later stages.
        """
        raise TypeError(f"{type(self).__name__} overrides none of handle, receiver and open")

    def open(self, forward: Send[Out]) -> AbstractAsyncContextManager[Send[In]]:
        """Return a context manager that gives the receiver for one request.

        Override it to run code at the end of a request.

        The last stage opens first and exits last. So while a stage exits, the later stages are
        still open, and it may forward. It may also raise StopForwarding then, which is not an
        error. If an exception was already propagating, StopForwarding does not replace it.
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
        problem = "does not say what it accepts and emits: inherit from Stage[In, Out]"
        raise TypeError(f"{stage.__name__} {problem}")
    accepts, emits = arguments
    if not isinstance(accepts, TypeVar):
        return Signature(_types(accepts), _types(emits))
    accepted = accepts.__constraints__ or _types(accepts.__bound__ or object)
    if accepts is emits:
        return Signature(accepted, accepted, transparent=True)
    return Signature(accepted, _types(emits))


def _arguments(cls: Any) -> tuple[Any, ...]:
    """Return the types for In and Out, or nothing if there are none.

    `cls` has the base `Stage[In, Out]`, or inherits the types from another stage class. If that
    class is generic, `cls` gives values for its type variables.
    """
    for base in cls.__dict__.get("__orig_bases__", cls.__bases__):
        origin = get_origin(base) or base
        if origin is Stage:
            return get_args(base)
        if isinstance(origin, type) and issubclass(origin, Stage):
            given = dict(zip(getattr(origin, "__parameters__", ()), get_args(base), strict=False))
            return tuple(given.get(argument, argument) for argument in _arguments(origin))
    return ()


def types_after(types: Iterable[type], stage: Signature) -> frozenset[type] | None:
    """Return the event types after a stage, if `types` are those before it.

    None: the stage accepts none of them. If the stage accepts only a subclass of one of `types`,
    the base class stays in the result: other events of the base class go past this stage.
    """
    before = frozenset(types)
    accepted = [event_type for event_type in before if issubclass(event_type, stage.accepts)]
    partly = any(issubclass(event_type, tuple(before)) for event_type in stage.accepts)
    if not accepted and not partly:
        return None
    if stage.transparent:
        return before
    return before.difference(accepted).union(stage.emits)


def _types(annotation: Any) -> tuple[type, ...]:
    if get_origin(annotation) in (Union, UnionType):
        members = map(_types, get_args(annotation))
        return tuple(event_type for types in members for event_type in types)
    if not isinstance(annotation, type):
        raise TypeError(f"an event type must be a class, not {annotation!r}")
    return (annotation,)
