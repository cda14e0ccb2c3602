"""The messages between a worker and the coordinator: JSON arrays, one a line, on a Unix socket.

    worker                        coordinator                 effect
    ---------------------------   -------------------------   ------------------------------------
    Hello                         Welcome, BreakerChange…     the worker is joined
    Admit                         AdmitResult                 LimitStore.admit; may take `wait`
    Settle, Renew                                             the calls of LimitStore
    Enter                         EnterResult, later Start    CallQueue.enter
    Resume                                                    the call runs already
    Leave                         (Start for others)          CallQueue.leave
    Resize                        (Start for others)          CallQueue.resize
    BreakerChange                 to the other workers        Breakers.apply
    HealthCheck                   to the other workers        BackendMonitor.record
    PageQuery                     PageWorkers, and the query  each of the others sends a PagePart,
                                  to the other workers        until `deadline`
    PagePart                      to the worker `to`          the page shows it
    Ping                          Pong                        the coordinator responds

`n` identifies a request among those of its connection, and `call` a call among those of its
worker. The messages of a connection take effect in their order, but a message of the page is
dropped if the receiver reads slowly. Names of clients and sessions are in the messages. Prompts
and responses are only in a PagePart, of workers with `ui: {bodies: true}`, cut and redacted.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from stages.backends.call_queue import Full
from stages.backends.slots import COLD, Warmth
from stages.limits.store import PERIODS, Level, Want
from stages.routing.breaker import Change

_Amount = Annotated[float, msgspec.Meta(ge=0)]
_Count = Annotated[int, msgspec.Meta(ge=0)]
_Slots = Annotated[int, msgspec.Meta(ge=1)]


class _Message(msgspec.Struct, array_like=True, tag=True):
    """One line."""


class Hello(_Message):
    """The first message of a worker."""

    pid: int


class Welcome(_Message):
    """The coordinator has accepted the worker."""


class Admit(_Message):
    """See LimitStore.admit."""

    n: int
    hold: str
    wants: tuple[Want, ...]
    amounts: tuple[_Amount, ...]
    wait: float

    def __post_init__(self) -> None:
        """Check what the types do not say. A count that cannot be would fail for all workers."""
        if len(self.wants) != len(self.amounts):
            raise ValueError("an amount is missing")
        for want in self.wants:
            if want.maximum <= 0 or want.period not in PERIODS[want.kind]:
                raise ValueError("a limit cannot be")


class AdmitResult(_Message):
    """Admitted; or Refused, then `refused_by` is the index of its Want."""

    n: int
    levels: tuple[Level, ...]
    refused_by: int | None = None
    retry_after: float = 0.0
    used_up: bool = False


class Settle(_Message):
    """See LimitStore.settle."""

    hold: str
    used: tuple[_Amount, ...]


class Renew(_Message):
    """See LimitStore.renew. A worker sends it when it has joined again."""

    hold: str


class Enter(_Message):
    """See CallQueue.enter. `slots` are those of the worker's config."""

    n: int
    queue: str
    slots: _Slots
    call: int
    names: tuple[str, str]
    short: bool
    max_queued: _Count
    warmth: Warmth = COLD


class EnterResult(_Message):
    """The call runs, or waits, or was not added."""

    n: int
    started: bool
    full: Full | None
    retry_after: int


class Resume(_Message):
    """The call runs already, also if no slot is free. A worker sends it after Welcome."""

    queue: str
    slots: _Slots
    call: int


class Start(_Message):
    """A waiting call has got its slot."""

    call: int


class Leave(_Message):
    """See CallQueue.leave. `hold`: see QueuedCall."""

    call: int
    seconds: float | None = None
    hold: float = 0.0


class Resize(_Message):
    """See CallQueue.resize."""

    queue: str
    slots: _Slots


class BreakerChange(_Message):
    """A circuit breaker of another worker has changed. `age`: seconds since then."""

    target: str
    change: Change
    age: float = 0.0


class HealthCheck(_Message):
    """The result of another worker's health check. `error` is empty if the backend is healthy."""

    backend: str
    error: str


class PageQuery(_Message):
    """A request for the parts of the other workers: see SharedPage and stages/page/parts.py.

    `pid` is the worker that asks. `deadline` is a time of `time.monotonic`, which all processes of
    a machine share.
    """

    n: int
    pid: int
    deadline: float
    exchange: str | None
    before: float | None


class PageWorkers(_Message):
    """The process ids of the workers that get the query."""

    n: int
    pids: tuple[int, ...]


class PagePart(_Message):
    """The part of the worker `pid`, for the query `n` of the worker `to`."""

    n: int
    pid: int
    to: int
    data: msgspec.Raw


class Ping(_Message):
    """A request for a Pong."""

    n: int


class Pong(_Message):
    """The response to a Ping."""

    n: int


FromWorker: TypeAlias = (
    Hello
    | Admit
    | Settle
    | Renew
    | Enter
    | Resume
    | Leave
    | Resize
    | BreakerChange
    | HealthCheck
    | PageQuery
    | PagePart
    | Ping
)
FromCoordinator: TypeAlias = (
    Welcome
    | AdmitResult
    | EnterResult
    | Start
    | BreakerChange
    | HealthCheck
    | PageQuery
    | PageWorkers
    | PagePart
    | Pong
)
FROM_WORKER: msgspec.json.Decoder[FromWorker] = msgspec.json.Decoder(FromWorker)
FROM_COORDINATOR: msgspec.json.Decoder[FromCoordinator] = msgspec.json.Decoder(FromCoordinator)
