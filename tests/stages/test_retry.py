"""The stage `retry`."""

from __future__ import annotations

import logging
import weakref
from typing import Any

import anyio
import pytest
from attrs import evolve
from trio.testing import MockClock

from pipeline.chain import Chain
from pipeline.testing import check_stage
from stages.events import Resolved
from stages.exchange import Repeat, Target
from stages.messages_api.errors import (
    ApiError,
    GatewayTimeoutError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    RateLimitError,
    drop_traceback,
)
from stages.retry import Retry
from stages.routing.error_kinds import ErrorKind
from tests.cases import for_each
from tests.stages.attempts import Attempts, attempts
from tests.support import resolved

BUSY = OverloadedError("busy")
SOON = 0.001  # seconds
STAGE = Retry(attempts=3, max_wait=SOON)

timed = pytest.mark.parametrize(
    "anyio_backend", [("trio", {"clock": MockClock(autojump_threshold=0)})], ids=["clock"]
)


def after(seconds: str) -> RateLimitError:
    return RateLimitError("slow down", headers={"retry-after": seconds})


async def test_it_keeps_to_the_contract() -> None:
    await check_stage(STAGE, [resolved()])


@for_each("failures", [0, 1, 2])
async def test_a_request_is_tried_again_until_it_is_answered(failures: int) -> None:
    asked = await attempts(STAGE, resolved(), *[BUSY] * failures, None)
    assert len(asked) == failures + 1


async def test_the_last_error_is_reported_as_it_is() -> None:
    last = OverloadedError("still busy")
    remaining = Attempts([BUSY, BUSY, last])
    with pytest.raises(OverloadedError) as raised:
        await Chain.of((STAGE,), Resolved).run(resolved(), remaining)
    assert raised.value is last
    assert remaining.ends == []


@for_each(
    "error",
    [
        (BUSY,),
        InvalidRequestError("no such field"),
        InternalError("oops"),
        NotFoundError("no such model"),
        RateLimitError("no quota", headers={"x-should-retry": "false"}),
        after("0.002"),
        ValueError("a bug"),
    ],
    ids=["begun", "rejected", "broken", "absent", "quota", "too long to wait", "bug"],
)
async def test_a_permanent_error_or_a_begun_response_is_not_retried(error: Any) -> None:
    reported = error[0] if isinstance(error, tuple) else error
    with pytest.raises(type(reported), match=str(reported)):
        await attempts(STAGE, resolved(), error)
    with pytest.raises(type(reported), match=str(reported)):
        await attempts(STAGE, resolved(), BUSY, error)


@for_each("error", [BUSY, after("0"), GatewayTimeoutError("silent")], ids=repr)
async def test_a_transient_error_is_retried(error: ApiError) -> None:
    assert len(await attempts(STAGE, resolved(), error, None)) == 2


async def test_only_errors_that_are_named_are_tried_again() -> None:
    on: tuple[ErrorKind, ...] = ("api",)
    stage = Retry(on=on, max_wait=SOON)
    assert len(await attempts(stage, resolved(), InternalError("oops"), None)) == 2
    with pytest.raises(OverloadedError):
        await attempts(stage, resolved(), BUSY)


async def test_one_attempt_means_no_retry() -> None:
    with pytest.raises(OverloadedError):
        await attempts(Retry(attempts=1), resolved(), BUSY)


@timed
async def test_it_waits_for_retry_after_and_a_little_longer() -> None:
    for reported in (0, 7):
        start = anyio.current_time()
        await attempts(Retry(), resolved(), after(str(reported)), None)
        assert reported < anyio.current_time() - start <= reported + 1


@timed
async def test_waits_grow_with_each_attempt_up_to_the_limit() -> None:
    start = anyio.current_time()
    await attempts(Retry(attempts=5, max_wait=3), resolved(), *[BUSY] * 4, None)
    assert 0 < anyio.current_time() - start <= 1 + 2 + 3 + 3
    start = anyio.current_time()
    await attempts(Retry(attempts=2, max_wait=3), resolved(), after("3"), None)
    assert anyio.current_time() - start == pytest.approx(3)


async def test_a_cancelled_client_ends_the_wait() -> None:
    remaining = Attempts([BUSY, None])
    with anyio.move_on_after(SOON) as scope:
        error = after("9")
        remaining.ends[0] = error
        await Chain.of((Retry(),), Resolved).run(resolved(), remaining)
    assert scope.cancelled_caught
    assert remaining.asked == ["fake"]


async def test_a_client_cancelled_during_a_retry_ends_it() -> None:
    async def rest(event: Resolved) -> None:
        asked.append(event)
        if len(asked) == 1:
            raise BUSY
        scope.cancel()
        await anyio.sleep(9)

    asked: list[Resolved] = []
    with anyio.CancelScope() as scope:
        await Chain.of((STAGE,), Resolved).run(resolved(), rest)
    assert scope.cancelled_caught
    assert len(asked) == 2


async def test_it_is_counted() -> None:
    event = resolved()
    await attempts(Retry(3, SOON), event, BUSY, after("0"), None)
    assert event.exchange.repeats == [
        Repeat("retry", event.target, "overloaded"),
        Repeat("retry", event.target, "rate_limit"),
    ]


async def test_where_there_are_several_targets_it_names_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "llm_proxy")
    event = evolve(resolved(), alternatives=(Target("other", "m"),))
    await attempts(Retry(3, SOON), event, BUSY, None)
    await attempts(Retry(3, SOON), resolved(), BUSY, None)
    assert event.exchange.repeats == [Repeat("retry", None, "overloaded")]
    reported = [message.partition(" ")[2] for message in caplog.messages]
    assert [item.partition(" in ")[0] for item in reported] == [
        "retry of all targets",
        "retry of fake",
    ]


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"max_wait": 0}], ids=str)
def test_limits_are_positive(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Retry(**wrong)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # on Python 3.13 trio keeps it itself
async def test_a_request_that_keeps_failing_is_not_kept_in_memory() -> None:
    async def fail(event: Resolved) -> None:
        raise OverloadedError("busy")

    value = resolved()
    kept = weakref.ref(value)
    try:
        await Retry(attempts=2, max_wait=0.001).handle(value, fail)
    except OverloadedError as error:
        drop_traceback(error)  # as the edge does
    del value
    assert kept() is None, "until the garbage collector runs"
