"""The header `retry-after` of errors of a backend."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tests.cases import for_each
from tests.stages.chat_completions.support import openai, refused

# Retry-after


@for_each(
    ("value", "passed"),
    [
        ("5", "5"),
        ("0", "0"),
        ("0.5", "0.5"),
        ("60", "60"),
        ("61", "60"),
        ("86400", "60"),
        ("1e9", "60"),
        ("inf", "60"),
        ("-3", "0"),
        ("nan", None),
        ("soon", None),
        ("", None),
    ],
)
@for_each("status", [429, 502, 503, 529])
def test_pitfall_38_retry_after_is_passed_on_up_to_a_minute(
    status: int, value: str, passed: str | None
) -> None:
    assert refused(status, openai("wait"), retry_after=value).headers.get("retry-after") == passed


@for_each(
    ("date", "passed"),
    [
        ("Wed, 21 Oct 9999 07:28:00 GMT", "60"),
        ("Friday, 31-Dec-99 23:59:59 GMT", "0"),
        ("Wed, 21 Oct 2015 07:28:00 GMT", "0"),
        ("Wed, 21 Oct 2015 07:28:00", "0"),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
        ("Wed, 21 Oct 99999999999999999999 07:28:00 GMT", None),
        ("31 Dec 9999 23:59:59 -2359", "60"),
        ("tomorrow", None),
    ],
)
def test_pitfall_38_a_retry_after_date_becomes_seconds(date: str, passed: str | None) -> None:
    assert refused(429, openai("wait"), retry_after=date).headers.get("retry-after") == passed


def test_pitfall_38_a_near_date_becomes_seconds() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    seconds = refused(503, openai("wait"), retry_after=date).headers["retry-after"]
    assert 25 <= int(seconds) <= 30


def test_a_quota_that_is_used_up_is_not_retried() -> None:
    error = refused(429, openai("no", code="insufficient_quota"), retry_after="5")
    assert (error.status, error.type) == (402, "billing_error")
    assert error.headers == {"x-should-retry": "false"}


def test_pitfall_38_without_a_retry_after_none_is_made_up() -> None:
    assert refused(429, openai("wait")).headers == {}


@pytest.mark.parametrize("status", [400, 404, 500, 504])
def test_a_retry_after_is_passed_on_only_where_a_retry_helps(status: int) -> None:
    assert refused(status, openai("no"), retry_after="5").headers == {}


def test_no_other_header_is_passed_on() -> None:
    error = refused(429, openai("no"), retry_after="5", set_cookie="a=b", x_ratelimit_limit="9")
    assert error.headers == {"retry-after": "5"}
