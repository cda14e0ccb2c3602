"""An exchange as compact bytes, and back. Pure.

The bytes are JSON lists without names of fields: a tenth of the time of `Exchange.as_json`. They
have what `as_json` has: no secret, no part of a prompt and no part of a response.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any

import orjson
from attrs import fields

from stages.exchange import (
    NOT_IN_JSON,
    Attempt,
    Degradation,
    Exchange,
    LimitRefusal,
    Repeat,
    StageRun,
    Target,
)
from stages.messages_api.usage import Usage

#: Times of a stream that are kept.
MAX_TIMES = 400

#: Bytes of an exchange whose texts and lists are not cut. Most have 2,000.
_LARGE = 30_000
#: Characters of a text that is cut, and items of a list: the page shows no more of most.
_MAX_TEXT, _MAX_ITEMS = 200, 100
#: Bytes of a row that is not cut. Most have 600.
_LARGE_ROW = 4_000

_OBJECTS = ("usage", "refused_by", "attempts", "repeats", "stages", "degradations")
_NAMES = tuple(
    each.name
    for each in fields(Exchange)
    if each.name not in (*NOT_IN_JSON, *_OBJECTS, "stream_times")
)
_exchange = attrgetter(*_NAMES, *_OBJECTS)
_RECEIVED, _ENDED, _STAGES = map((*_NAMES, *_OBJECTS).index, ("received", "ended", "stages"))
_PARTS: dict[type, attrgetter[Any]] = {
    cls: attrgetter(*(each.name for each in fields(cls) if each.name != "overrides"))
    for cls in (Attempt, Degradation, LimitRefusal, Repeat, StageRun, Target, Usage)
}


def pack(exchange: Exchange, with_times: bool = True) -> bytes:
    """Return the bytes of an exchange, with the times of its stream."""
    times = exchange.stream_times if with_times else None
    if times is not None and len(times) > MAX_TIMES:
        times = thinned(times, MAX_TIMES)
    data = orjson.dumps((_exchange(exchange), times), default=_values)
    return data if len(data) <= _LARGE else _cut(data, _MAX_ITEMS)


def _cut(data: bytes, items: int) -> bytes:
    """Cut the texts and lists of an exchange: a client can choose long names, and many."""
    values, times = orjson.loads(data)
    return orjson.dumps(([_shortened(value, items) for value in values], times))


def _shortened(value: Any, items: int) -> Any:
    if isinstance(value, str) and len(value) > _MAX_TEXT:
        return f"{value[:_MAX_TEXT]}\u2026"
    if isinstance(value, list):
        return [_shortened(item, items) for item in value[:items]]
    return value


@lru_cache(maxsize=256)
def pack_row(data: bytes) -> tuple[float, bytes]:
    """Return the end and the smaller bytes of a packed exchange, for a list.

    They have no stages and no times of the stream. The texts and lists of a large one are cut.
    """
    values, _ = orjson.loads(data)
    values[_STAGES] = []
    row = orjson.dumps((values, None))
    if len(row) > _LARGE_ROW:
        row = _cut(row, 10)
    return values[_ENDED] or values[_RECEIVED], row


#: The simple fields that `sample` keeps.
_SAMPLED = ("pipeline", "error", "received", "first_token", "ended")


def sample(exchange: Exchange) -> Exchange:
    """Return a copy with what rates and latencies need: no functions, which may hold texts."""
    copy = Exchange(**{name: getattr(exchange, name) for name in _SAMPLED})
    copy.usage, copy.stages, copy.attempts = exchange.usage, exchange.stages, exchange.attempts
    return copy


def _values(part: Any) -> Any:
    return _PARTS[type(part)](part)


def unpack(data: bytes) -> Exchange:
    """Return the exchange of `pack`."""
    values, times = orjson.loads(data)
    *simple, usage, refused_by, attempts, repeats, stages, degradations = values
    exchange = Exchange(**dict(zip(_NAMES, simple, strict=True)))
    exchange.usage = usage and Usage(*usage)
    exchange.refused_by = refused_by and LimitRefusal(*refused_by)
    exchange.attempts = [_attempt(*attempt) for attempt in attempts]
    exchange.repeats = [Repeat(stage, _target(target), error) for stage, target, error in repeats]
    exchange.stages = [StageRun(*stage) for stage in stages]
    exchange.degradations = tuple(Degradation(*degradation) for degradation in degradations)
    exchange.stream_times = times
    return exchange


def _target(values: Sequence[str] | None) -> Any:
    if values is None:
        return None
    backend, model, label = values
    return Target(backend, model, label=label)


def _attempt(
    target: Any,
    sent: float,
    first_byte: float | None,
    ended: float | None,
    error: str,
    usage: Any,
) -> Attempt:
    return Attempt(_target(target), sent, first_byte, ended, error, usage and Usage(*usage))


def thinned(times: Sequence[float], limit: int) -> list[float]:
    """Return at most `limit` of these times, in order: the ends, and the longest gaps in full."""
    last = len(times) - 1
    gaps = heapq.nlargest(limit // 4, range(1, len(times)), key=lambda n: times[n] - times[n - 1])
    kept = {0, last, *gaps, *(n - 1 for n in gaps)}
    others = max(limit - len(kept), 1)
    kept.update(range(0, len(times), -(-len(times) // others)))
    return [times[n] for n in sorted(kept)]
