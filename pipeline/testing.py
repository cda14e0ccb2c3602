"""Tools to test a stage alone, for its author.

async def test_it_redacts():
    out = await run_stage(Redact(words=["secret"]), [request])
    assert out == [redacted_request]
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from contextlib import suppress
from typing import Any

from pipeline.chain import Chain
from pipeline.stage import Stage, StopForwarding, signature


class _Refused(Exception):
    """Raised by `check_stage` in place of the next stage."""


async def run_stage(stage: Stage[Any, Any], events: Iterable[Any]) -> list[Any]:
    """Open `stage` for one request, send it `events`, close it, and give the forwarded events.

    Events that it does not accept pass it by, as in a pipeline. After StopForwarding it gets no
    more events. Raises AssertionError if a plain `def` returns nothing awaitable.
    """
    forwarded: list[Any] = []

    async def keep(event: Any) -> None:
        forwarded.append(event)

    # No stage accepts all of `object`, so the chain filters events.
    async with Chain.of((stage,), object).open(keep) as receive:
        for event in events:
            done: object = receive(event)
            assert isinstance(done, Awaitable), (
                f"{type(stage).__name__} returned {done!r}: make it an `async def`, "
                "or end it with `return forward(event)`"
            )
            await done
    return forwarded


async def check_stage(stage: Stage[Any, Any], events: Iterable[Any]) -> None:
    """Check the rules for every stage. Raises AssertionError with the broken rule.

    `events` are those of one request that the stage handles without an error.

    1. It forwards only events of the types in its `Stage[In, Out]`.
    2. It keeps nothing of a request: a second request gets the same types of events.
    3. It can serve two requests at a time.
    4. An exception of a later stage comes out of it, unchanged.
    5. Events that it does not accept pass it by.
    """
    events = list(events)
    name = type(stage).__name__
    types = signature(type(stage))
    first = await run_stage(stage, events)
    for event in first:
        assert isinstance(event, types.emits), (
            f"{name} forwarded {event!r}, which is not in its `Stage[In, Out]`"
        )
    kinds = [type(event) for event in first]
    again = [type(event) for event in await run_stage(stage, events)]
    assert kinds == again, f"{name} keeps state between requests: {kinds}, then {again}"
    assert await _interleaved(stage, events) == [kinds, kinds], (
        f"{name} mixes up two requests that are open at a time"
    )
    if kinds:
        assert await _lets_errors_out(stage, events), (
            f"{name} swallows or changes errors of later stages"
        )
    if types.transparent or types.accepts != (object,):
        other_event = object()
        assert other_event in await run_stage(stage, [other_event]), (
            f"{name} does not let other events pass"
        )


async def _interleaved(stage: Stage[Any, Any], events: list[Any]) -> list[list[type]]:
    kinds: list[list[type]] = [[], []]

    async def first(event: Any) -> None:
        kinds[0].append(type(event))

    async def second(event: Any) -> None:
        kinds[1].append(type(event))

    chain = Chain.of((stage,), object)
    async with chain.open(first) as one, chain.open(second) as two:
        waiting = [one, two]
        for event in events:
            for receive in tuple(waiting):
                try:
                    await receive(event)
                except StopForwarding:
                    waiting.remove(receive)
    return kinds


async def _lets_errors_out(stage: Stage[Any, Any], events: list[Any]) -> bool:
    async def refuse(event: Any) -> None:
        raise _Refused

    with suppress(Exception):
        try:
            async with Chain.of((stage,), object).open(refuse) as receive:
                for event in events:
                    await receive(event)
        except _Refused:
            return True
    return False
