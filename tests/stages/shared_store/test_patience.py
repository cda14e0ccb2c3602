"""When a call gives up, and when the store is lost, by a clock of the test."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stages.shared_store.patience import Decision, Patience

TIMEOUT = 0.05


def decide(
    late: Callable[[int], float] = lambda _: 0.0,
    answers: Callable[[float], float] = lambda _: 0.0,
) -> tuple[Decision, float]:
    """The decision about a send that gets no response, and its time.

    `late`: how late the n-th timer is. `answers`: the time of the latest response to another send,
    by the time now.
    """
    now, patience = 0.0, Patience(TIMEOUT, 0.0, 0.0)
    for n in range(10_000):
        now += patience.wait + late(n)
        decision = patience.check(now, answers(now))
        if decision != "wait":
            return decision, now
    raise AssertionError("the call waits for ever")


def test_a_dead_store_is_lost_after_one_timeout() -> None:
    decision, seconds = decide()

    assert decision == "lost"
    assert seconds == pytest.approx(TIMEOUT)


@pytest.mark.parametrize("late", [0.01, 0.03, 0.2])
def test_a_starved_process_with_responses_in_each_round_loses_nothing(late: float) -> None:
    decision, seconds = decide(lambda _: late, lambda now: now)

    assert decision == "late"
    assert seconds <= 10 * TIMEOUT + late + TIMEOUT


def test_one_long_pause_of_the_process_is_no_loss() -> None:
    patience = Patience(TIMEOUT, 0.0, 0.0)

    assert patience.check(0.45, 0.0) == "wait"
    assert patience.check(0.455, 0.455) == "wait"


def test_a_process_that_is_always_late_finds_a_dead_store() -> None:
    decision, seconds = decide(lambda _: 0.02)

    assert decision == "lost"
    assert seconds <= 11 * TIMEOUT


def test_a_store_that_takes_40_ms_is_up() -> None:
    decision, seconds = decide(answers=lambda now: now // 0.04 * 0.04)

    assert decision == "late"
    assert seconds == pytest.approx(2 * TIMEOUT)


def test_a_stuck_send_ends_alone_while_others_get_responses() -> None:
    decision, seconds = decide(answers=lambda now: now)

    assert decision == "late"
    assert seconds == pytest.approx(2 * TIMEOUT)


def test_a_store_that_dies_during_a_burst_is_lost_within_two_timeouts() -> None:
    decision, seconds = decide(answers=lambda now: min(now, 0.03))

    assert decision == "lost"
    assert seconds <= 0.03 + TIMEOUT + TIMEOUT / 10 + 1e-9


def test_a_store_that_comes_back_starts_with_a_full_timeout() -> None:
    dead = Patience(TIMEOUT, 0.0, 0.0)
    decisions = [dead.check(n * dead.wait, 0.0) for n in range(1, 11)]
    back = Patience(TIMEOUT, 2.0, 0.0)

    assert decisions == ["wait"] * 9 + ["lost"]
    assert [back.check(2 + n * back.wait, 2.001) for n in range(1, 11)] == ["wait"] * 10
