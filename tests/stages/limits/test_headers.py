"""The headers `anthropic-ratelimit-*`, and what a refusal says."""

from __future__ import annotations

import pytest

from stages.limits.config import Limits
from stages.limits.limit_set import Account, LimitSet
from stages.limits.refusal import refusal
from stages.limits.store import Level, Refused
from stages.limits.use import Use
from stages.messages_api.errors import RateLimitError

#: 2025-08-21T12:40:00Z
NOW = 1755780000.0
PREFIX = "anthropic-ratelimit-"


def account(limits: Limits, title: str = "key `alice`") -> Account:
    return Account("key:alice", title, "limits.keys", limits)


def headers(limits: Limits, *levels: Level, more: Limits | None = None) -> dict[str, str]:
    each = LimitSet.of([account(limits), account(more or Limits())])
    lines = each.headers.make(levels, NOW).decode().splitlines()
    return dict(line.removeprefix(PREFIX).split(": ") for line in lines)


def refused(
    limits: Limits, level: Level, retry_after: float, used_up: bool = False, **use: int
) -> RateLimitError:
    each = LimitSet.of([account(limits)])
    return refusal(
        each, each.amounts(Use(**use), 0.75), Refused(0, retry_after, used_up, (level,)), NOW
    )


def test_they_have_the_form_of_the_recorded_response() -> None:
    limits = Limits(input_tokens_per_minute=80000, output_tokens_per_minute=16000)

    assert headers(limits, Level(80000, 0), Level(15999.5, 58.2)) == {
        "input-tokens-limit": "80000",
        "input-tokens-remaining": "80000",
        "input-tokens-reset": "2025-08-21T12:40:00Z",
        "output-tokens-limit": "16000",
        "output-tokens-remaining": "15999",
        "output-tokens-reset": "2025-08-21T12:40:59Z",
        "tokens-limit": "96000",
        "tokens-remaining": "95999",
        "tokens-reset": "2025-08-21T12:40:59Z",
    }


@pytest.mark.parametrize("years", [1e4, 1e9])
def test_a_debt_of_ages_has_the_last_time_there_is(years: float) -> None:
    limits, seconds = Limits(tokens_per_day=1), years * 366 * 86400
    shown = headers(limits, Level(-1e9, seconds))
    error = refused(limits, Level(-1e9, seconds), seconds)

    assert shown["tokens-reset"] == "9999-12-31T23:59:59Z"
    assert "at 9999-12-31T23:59:59Z" in str(error)
    assert error.headers["x-should-retry"] == "false"


def test_of_several_limits_the_one_with_least_left_is_shown() -> None:
    limits = Limits(requests_per_minute=10, requests_per_day=1000)
    shown = headers(
        limits, Level(5, 30), Level(3, 86000), Level(4, 1), more=Limits(requests_per_hour=4)
    )

    assert (shown["requests-limit"], shown["requests-remaining"]) == ("1000", "3")


def test_a_debt_is_shown_as_zero() -> None:
    shown = headers(Limits(tokens_per_minute=10), Level(-5, 90))

    assert (shown["tokens-remaining"], shown["tokens-reset"]) == ("0", "2025-08-21T12:41:30Z")


def test_limits_without_a_header_have_none() -> None:
    limits = Limits(cost_per_day=5, concurrent_requests=3)

    assert headers(limits, Level(1, 1), Level(1, 0)) == {}


def test_a_refusal_names_limit_amount_time_and_option() -> None:
    error = refused(Limits(requests_per_minute=100), Level(0.4, 60), 2.3)

    assert error.message == (
        "key `alice` has a limit of 100 requests per minute, and 0 are left; try again in 3 s, at "
        "2025-08-21T12:40:03Z. The option `limits.keys.requests_per_minute` of the proxy's config "
        "sets this limit"
    )
    assert error.headers == {"retry-after": "3"}


def test_a_refusal_for_tokens_has_the_estimate() -> None:
    limits = Limits(input_tokens_per_minute=1_000_000)
    error = refused(limits, Level(1200, 60), 2, input_tokens=20000, output_tokens=5)

    assert error.message.startswith(
        "key `alice` has a limit of 1000000 input tokens per minute: 1200 are left, "
        "and this request needs about 20000; try again in 2 s"
    )


def test_a_used_up_budget_is_not_to_be_retried() -> None:
    error = refused(Limits(cost_per_day=5), Level(0.123456, 0), 40000.5, used_up=True)

    assert error.message.startswith(
        "key `alice` has a budget of 5 per day (UTC): 0.1235 is left, "
        "and this request may cost 0.75; try again in 40001 s, at 2025-08-21T23:46:41Z"
    )
    assert error.headers == {"retry-after": "40001", "x-should-retry": "false"}


def test_a_reserved_budget_may_be_retried() -> None:
    error = refused(Limits(cost_per_day=5), Level(0.1, 0), 5)

    assert "is left until requests in flight end" in error.message
    assert error.headers == {"retry-after": "5"}


@pytest.mark.parametrize(("seconds", "retry"), [(60, True), (61, False)])
def test_clients_do_not_sleep_for_long(seconds: int, retry: bool) -> None:
    error = refused(Limits(requests_per_day=100), Level(0, 0), seconds)

    assert ("x-should-retry" not in error.headers) == retry


def test_a_refusal_for_concurrency_says_so() -> None:
    error = refused(Limits(concurrent_requests=2), Level(0, 0), 5)

    assert error.message.startswith(
        "key `alice` has a limit of 2 requests in flight, and has that many; try again in 5 s"
    )
