"""The stage `fallback`."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import anyio
import pytest
from attrs import evolve
from trio.testing import MockClock

from pipeline.chain import Chain
from pipeline.task_groups import task_group
from pipeline.testing import check_stage
from stages.events import Resolved
from stages.exchange import Target
from stages.fallback import Fallback
from stages.messages_api.errors import (
    BillingError,
    GatewayTimeoutError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    OutputLimitError,
    OverloadedError,
    PromptTooLongError,
    QueueFullError,
    RateLimitError,
    RequestTooLargeError,
    UnsupportedError,
)
from stages.retry import Retry
from stages.routing.breaker import Breakers
from stages.routing.error_kinds import ErrorKind
from tests.cases import for_each
from tests.stages.attempts import Attempts, attempts
from tests.support import resolved

BUSY = OverloadedError("busy")
OVERFLOW = PromptTooLongError("prompt is too long")
UNSUPPORTED = UnsupportedError("no images")
A, B, C = (Target(name, "m", label=f"{name}/m") for name in "abc")

timed = pytest.mark.parametrize(
    "anyio_backend", [("trio", {"clock": MockClock(autojump_threshold=0)})], ids=["clock"]
)


def event() -> Resolved:
    """A new request that may go to a, b and c."""
    return evolve(resolved(), target=A, alternatives=(B, C))


async def test_it_keeps_to_the_contract() -> None:
    await check_stage(Fallback(), [event()])


async def test_the_first_target_that_succeeds_is_the_only_one() -> None:
    assert await attempts(Fallback(), event(), None) == ["a"]


@for_each(
    "error",
    [
        BUSY,
        RateLimitError("slow down"),
        RateLimitError("no quota", headers={"x-should-retry": "false"}),
        GatewayTimeoutError("silent"),
        InternalError("oops"),
        BillingError("pay"),
        NotFoundError("no such model"),
        OVERFLOW,
        OutputLimitError("too much", 5),
        RequestTooLargeError("too large"),
        UNSUPPORTED,
    ],
    ids=repr,
)
async def test_the_next_one_is_asked_when_one_fails(error: Exception) -> None:
    assert await attempts(Fallback(), event(), error, error, None) == ["a", "b", "c"]


async def test_each_target_gets_the_same_request() -> None:
    value, seen = event(), []

    async def rest(item: Resolved) -> None:
        seen.append(item)
        if len(seen) < 2:
            raise BUSY

    await Chain.of((Fallback(),), Resolved).run(value, rest)
    assert seen == [evolve(value, alternatives=()), evolve(value, target=B, alternatives=())]
    assert all(item.exchange is value.exchange for item in seen)


@for_each("error", [InvalidRequestError("no such field"), (BUSY,), ValueError("a bug")], ids=repr)
async def test_a_final_error_or_a_begun_response_ends_the_attempts(error: Any) -> None:
    reported = error[0] if isinstance(error, tuple) else error
    with pytest.raises(type(reported), match=str(reported)):
        await attempts(Fallback(), event(), error)


async def test_a_request_with_one_target_passes() -> None:
    stage = Fallback()
    with pytest.raises(OverloadedError):
        await attempts(stage, resolved(), BUSY)
    assert stage.breakers.states(0) == {}


@for_each(
    ("errors", "message"),
    [
        ([OverloadedError("one"), OverloadedError("two"), OverloadedError("three")], "one"),
        ([NotFoundError("one"), InternalError("two"), NotFoundError("three")], "three"),
        ([InternalError("one"), RateLimitError("two"), NotFoundError("three")], "two"),
        ([BUSY, PromptTooLongError("small"), InternalError("three")], "busy"),
        ([BUSY, InvalidRequestError("no images")], "busy"),
        ([OVERFLOW, InvalidRequestError("no images")], "no images"),
        ([UNSUPPORTED, UNSUPPORTED, InternalError("three")], "three"),
        ([BUSY, UNSUPPORTED, UNSUPPORTED], "busy"),
        ([UNSUPPORTED, InternalError("two"), UNSUPPORTED], "two"),
        ([OVERFLOW, UNSUPPORTED, UNSUPPORTED], "too long"),
        ([UNSUPPORTED, UNSUPPORTED, UNSUPPORTED], "no images"),
    ],
    ids=str,
)
async def test_the_client_gets_the_transient_error_or_the_last(
    errors: list[Exception], message: str
) -> None:
    with pytest.raises(Exception, match=message):
        await attempts(Fallback(), event(), *errors)


async def test_only_errors_that_are_named_lead_on() -> None:
    with pytest.raises(OverloadedError):
        await attempts(Fallback(on=("timeout",)), event(), BUSY)


async def test_it_is_counted() -> None:
    value = event()
    await attempts(Fallback(), value, BUSY, OVERFLOW, None)
    assert [(repeat.stage, repeat.target, repeat.error) for repeat in value.exchange.repeats] == [
        ("fallback", A, "overloaded"),
        ("fallback", B, "overflow"),
    ]
    assert value.exchange.on_response_start == []


# The circuit breaker


async def test_a_full_queue_of_ours_says_nothing_of_the_target() -> None:
    stage = Fallback(breakers=Breakers(failures=2))
    for _ in range(3):
        assert await attempts(stage, event(), QueueFullError("busy"), None) == ["a", "b"]
    assert stage.breakers.states(anyio.current_time())["a/m"] == "closed"


@timed
async def test_a_failing_target_is_skipped_until_it_has_cooled_down() -> None:
    stage = Fallback(breakers=Breakers(failures=2, cooldown=30))
    for _ in range(2):
        assert await attempts(stage, event(), BUSY, None) == ["a", "b"]
    assert await attempts(stage, event(), None) == ["b"]
    assert stage.breakers.states(anyio.current_time()) == {"a/m": "open", "b/m": "closed"}
    await anyio.sleep(30)
    assert await attempts(stage, event(), BUSY, None) == ["a", "b"], "the probe"
    assert await attempts(stage, event(), None) == ["b"]
    await anyio.sleep(30)
    assert await attempts(stage, event(), None) == ["a"]
    assert stage.breakers.states(anyio.current_time()) == {"a/m": "closed", "b/m": "closed"}


async def test_a_response_between_two_failures_forgets_the_first() -> None:
    stage = Fallback(breakers=Breakers(failures=2))
    for _ in range(3):
        assert await attempts(stage, event(), BUSY, None) == ["a", "b"]
        assert await attempts(stage, event(), None) == ["a"]


async def test_work_without_a_response_counts_for_no_target() -> None:
    async def count(asked: Resolved) -> None:
        """As `count-tokens` does, which takes an estimate where the target fails."""

    stage = Fallback(breakers=Breakers(failures=2))
    for _ in range(2):
        assert await attempts(stage, event(), BUSY, None) == ["a", "b"]
        await Chain.of((stage,), Resolved).run(event(), count)
    assert await attempts(stage, event(), None) == ["b"]


@timed
async def test_while_one_request_probes_others_go_elsewhere() -> None:
    stage = Fallback(breakers=Breakers(failures=1, cooldown=1))
    await attempts(stage, event(), BUSY, None)
    await anyio.sleep(1)

    async def probing(asked: Resolved) -> None:
        assert asked.target is A
        assert await attempts(stage, event(), None) == ["b"]
        asked.exchange.start_response()  # the target is well, long before its end
        assert await attempts(stage, event(), None) == ["a"]

    await Chain.of((stage,), Resolved).run(event(), probing)


@timed
async def test_a_request_from_before_it_opened_does_not_end_the_probe() -> None:
    stage = Fallback(breakers=Breakers(failures=1, cooldown=1))

    async def old(asked: Resolved) -> None:
        await anyio.sleep(2)
        raise InvalidRequestError("no")

    async def probing(asked: Resolved) -> None:
        if asked.target is A:
            await anyio.sleep(2)
        asked.exchange.start_response()

    async def run(remaining: Any) -> None:
        with suppress(InvalidRequestError):
            await Chain.of((stage,), Resolved).run(event(), remaining)

    async with task_group() as group:
        group.start_soon(run, old)
        await anyio.sleep(0.5)
        await attempts(stage, event(), BUSY, None)
        await anyio.sleep(1)
        group.start_soon(run, probing)
        await anyio.sleep(1)  # `old` has ended, the probe has not
        assert stage.breakers.states(anyio.current_time())["a/m"] == "half-open"
        assert await attempts(stage, event(), None) == ["b"]
    assert stage.breakers.states(anyio.current_time())["a/m"] == "closed"


@timed
async def test_a_cancelled_half_open_attempt_allows_another() -> None:
    stage = Fallback(breakers=Breakers(failures=1, cooldown=1))
    await attempts(stage, event(), BUSY, None)
    await anyio.sleep(1)

    async def never(asked: Resolved) -> None:
        scope.cancel()
        await anyio.sleep_forever()

    with anyio.CancelScope() as scope:
        await Chain.of((stage,), Resolved).run(event(), never)
    assert stage.breakers.states(anyio.current_time())["a/m"] == "half-open"
    assert await attempts(stage, event(), None) == ["a"]


async def test_when_all_are_left_alone_all_are_asked() -> None:
    stage = Fallback(breakers=Breakers(failures=1))
    with pytest.raises(OverloadedError):
        await attempts(stage, event(), BUSY, BUSY, BUSY)
    assert await attempts(stage, event(), BUSY, None) == ["a", "b"]


async def test_a_skipped_target_is_tried_after_all_others_failed() -> None:
    stage = Fallback(breakers=Breakers(failures=1))
    assert await attempts(stage, event(), BUSY, None) == ["a", "b"]
    assert await attempts(stage, event(), OVERFLOW, OVERFLOW, None) == ["b", "c", "a"]
    with pytest.raises(OverloadedError):  # not: too long for all
        await attempts(stage, event(), OVERFLOW, OVERFLOW, BUSY)


@for_each("error", [OVERFLOW, UNSUPPORTED, InvalidRequestError("no")], ids=repr)
async def test_a_request_at_fault_says_nothing_of_the_target(error: Exception) -> None:
    on: tuple[ErrorKind, ...] = ("overflow", "unsupported", "invalid_request")
    stage = Fallback(on=on, breakers=Breakers(failures=1))
    await attempts(stage, event(), error, None)
    assert await attempts(stage, event(), None) == ["a"]


async def test_a_response_that_breaks_off_counts_as_a_failure() -> None:
    stage = Fallback(breakers=Breakers(failures=2))
    for _ in range(2):
        with pytest.raises(OverloadedError):
            await attempts(stage, event(), (BUSY,))
    assert await attempts(stage, event(), None) == ["b"]


async def test_retry_before_or_after_fallback_repeats_all_or_each() -> None:
    for stages, asked in (
        ((Retry(2, 0.001), Fallback()), "abcabc"),
        ((Fallback(), Retry(2, 0.001)), "aabbcc"),
    ):
        remaining = Attempts([BUSY] * 6)
        with pytest.raises(OverloadedError):
            await Chain.of(stages, Resolved).run(event(), remaining)
        assert "".join(remaining.asked) == asked
