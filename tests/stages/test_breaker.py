"""Circuit breakers: the table of states, on a clock that is a number."""

from __future__ import annotations

import pytest

from stages.breaker import Breaker, Breakers

LIMITS = Breakers(failures=3, window=10, cooldown=30)


def failing(*times: float) -> Breaker:
    """A breaker after failures at these times."""
    breaker = Breaker(LIMITS)
    for time in times:
        breaker.failed(time)
    return breaker


def test_it_is_closed_until_so_many_have_failed() -> None:
    assert failing().state(0) == "closed"
    assert failing(1, 2).state(2) == "closed"
    assert failing(1, 2).admits(2)
    assert failing(1, 2, 3).state(3) == "open"
    assert not failing(1, 2, 3).admits(3)


def test_failures_count_that_lie_within_the_window() -> None:
    assert failing(0, 5, 10).state(10) == "closed"
    assert failing(0.1, 5, 10).state(10) == "open"


def test_a_success_in_between_forgets_them() -> None:
    breaker = failing(1, 2)
    breaker.succeeded(3)
    breaker.failed(4)
    breaker.failed(5)
    assert breaker.state(5) == "closed"


def test_after_the_cooldown_one_request_probes() -> None:
    breaker = failing(1, 2, 3)
    assert not breaker.admits(32.9)
    assert breaker.state(33) == "half-open"
    assert [breaker.admits(33) for _ in range(3)] == [True, False, False]


def test_a_probe_that_succeeds_closes_it() -> None:
    breaker = failing(1, 2, 3)
    assert breaker.admits(33)
    breaker.succeeded(34)
    assert breaker.state(34) == "closed"
    assert [breaker.admits(34) for _ in range(2)] == [True, True]
    breaker.failed(35)
    assert breaker.state(35) == "closed", "the failures before are forgotten"


def test_a_probe_that_begins_closes_it_and_answers_that_break_off_count() -> None:
    breaker = failing(1, 2, 3)
    assert breaker.admits(33)
    breaker.begun(34)
    assert breaker.state(34) == "closed"
    for time in (35, 36, 37):
        assert breaker.state(time) == "closed"
        breaker.begun(time)
        breaker.failed(time)
    assert breaker.state(37) == "open"


def test_a_probe_that_fails_opens_it_anew() -> None:
    breaker = failing(1, 2, 3)
    assert breaker.admits(33)
    breaker.failed(40)
    assert breaker.state(69) == "open"
    assert breaker.state(70) == "half-open"
    assert breaker.admits(70)


def test_a_probe_that_says_nothing_makes_room_for_another() -> None:
    breaker = failing(1, 2, 3)
    assert breaker.admits(33)
    breaker.left()
    assert [breaker.admits(34) for _ in range(2)] == [True, False]


@pytest.mark.parametrize("late", [Breaker.failed, Breaker.begun, Breaker.succeeded])
def test_what_began_before_it_opened_changes_nothing(late: object) -> None:
    breaker = failing(1, 2, 3)
    for _ in range(LIMITS.failures):
        late(breaker, 20)  # type: ignore[operator]
    assert breaker.state(32.9) == "open"
    assert breaker.state(33) == "half-open"


def test_each_target_has_its_own() -> None:
    breakers = Breakers(failures=1)
    breakers.of("one").failed(5)
    assert breakers.of("two").admits(6)
    assert breakers.states(6) == {"one": "open", "two": "closed"}


@pytest.mark.parametrize("wrong", [{"failures": 0}, {"window": 0}, {"cooldown": -1}], ids=str)
def test_limits_are_positive(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Breakers(**wrong)  # type: ignore[arg-type]
