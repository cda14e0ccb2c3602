"""Rows from an Exchange: which attempt has which outcome and which tokens."""

from __future__ import annotations

import time

import pytest
from attrs import evolve

from stages.messages_api.usage import Usage
from stages.usage.rows import Sums, rows
from tests.stages.usage.support import BIG, SMALL, attempt, exchange

USAGE = Usage(10, 20, 5, 2)


def test_a_complete_exchange_is_one_row() -> None:
    [row] = rows(exchange(attempt(usage=USAGE), queued=1.0, accepted=1.5))

    assert (row.request, row.number, row.outcome, row.error, row.status) == (
        "req_1",
        1,
        "complete",
        "",
        200,
    )
    assert (row.key, row.session, row.agent, row.pipeline) == ("key-1", "s-1", "a-1", "messages")
    assert (row.backend, row.asked_model, row.model) == ("gpu", "claude-x", "big")
    assert (row.queue_ms, row.first_byte_ms, row.total_ms) == (500, 1000, 2000)
    assert (row.input_tokens, row.cache_read_tokens, row.cache_write_tokens) == (10, 5, 2)
    assert (row.output_tokens, row.estimated) == (20, False)
    assert abs(row.time / 1000 - (time.time() - 2)) < 1


def test_each_attempt_has_its_own_row() -> None:
    first, second, third = rows(
        exchange(
            attempt(BIG, "overloaded"),
            attempt(BIG, "api", usage=evolve(USAGE, estimated=True)),
            attempt(SMALL, usage=USAGE),
        )
    )

    assert (first.outcome, first.error, first.backend) == ("retry", "overloaded", "gpu")
    assert (first.input_tokens, first.output_tokens, first.status) == (0, 0, 0)
    assert (second.outcome, second.output_tokens, second.estimated) == ("fallback", 20, True)
    assert (third.outcome, third.number, third.backend) == ("complete", 3, "cpu")


@pytest.mark.parametrize("outcome", ["client_disconnected", "client_stalled", "aborted", "error"])
def test_the_last_attempt_has_the_outcome_of_the_exchange(outcome: str) -> None:
    [row] = rows(exchange(attempt(usage=USAGE), outcome=outcome, error="api_error"))

    assert (row.outcome, row.error, row.output_tokens) == (outcome, "api_error", 20)


def test_the_usage_of_an_own_stage_counts_for_the_last_attempt() -> None:
    [row] = rows(exchange(attempt(), usage=USAGE))

    assert row.output_tokens == 20


def test_names_of_clients_have_a_limit() -> None:
    [row] = rows(exchange(attempt(), session="s" * 5000, agent="a" * 5000, model="m" * 5000))

    assert {len(row.session), len(row.agent), len(row.asked_model)} == {200}


def test_sums_add_up() -> None:
    assert Sums(1, 2, output_tokens=3).plus(Sums(1, 0, 4)) == Sums(2, 2, 4, output_tokens=3)
