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
    """Raised by `check_stage` in the place of the next stage."""


async def run_stage(stage: Stage[Any, Any], events: Iterable[Any]) -> list[Any]:
    """Open `stage` for one request, send it `events`, close it; give what it forwarded.

    Events it does not accept pass it by, as they do in a pipeline. Once it raises
    `StopForwarding` it is sent no more. Raises AssertionError where a plain `def` returns nothing
    that can be awaited.
    """
    forwarded: list[Any] = []

    async def keep(event: Any) -> None:
        forwarded.append(event)

    # Chain.of with a start type nothing accepts as a whole, so that the filter is on.
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
    """Check what every stage has to keep to; raises AssertionError with the broken rule.

    `events` are those of one request that the stage answers without an error.

    1. It forwards only events of the types it declares.
    2. It keeps nothing of a request: a second one gets the same kinds of events.
    3. It can serve two requests at a time.
    4. What a later stage raises comes out of it, unchanged.
    5. Events it does not accept pass it by.
    """
    events = list(events)
    name = type(stage).__name__
    declared = signature(type(stage))
    first = await run_stage(stage, events)
    for event in first:
        assert isinstance(event, declared.emits), (
            f"{name} forwarded {event!r}, which it does not declare"
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
    if declared.transparent or declared.accepts != (object,):
        stranger = object()
        assert stranger in await run_stage(stage, [stranger]), f"{name} keeps foreign events"


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
